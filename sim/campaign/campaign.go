package campaign

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"runtime/debug"
	"sync"

	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// Play plays a plan. dst.Play is the one there is; tests bring others. When ctx is done it
// returns ctx's error, and what came of the plan until then if it can.
type Play func(ctx context.Context, p *dst.Plan, o dst.Options) (*dst.Result, error)

// Options say what a campaign simulates.
type Options struct {
	// Config is what each seed simulates; its Seed is the first one's.
	Config dst.Config
	Seeds  int // from Config.Seed on; default: 1
	// Plan is played in place of seeds, once.
	Plan *dst.Plan
	Jobs int // runs at a time; default: as many as there are cores
	// GoOn plays all seeds whatever they show. Else no further ones are begun after a
	// violation, and what is reported is the lowest seed's.
	GoOn   bool
	Play   Play
	PlanOf func(dst.Config) *dst.Plan
	// Invariants are those that are checked; an outcome has their sentences.
	Invariants []Invariant
	Lines      int // of the trace that a violation shows; default: as dst.Options
}

// Campaign is many runs under way.
type Campaign struct {
	o Options

	mu       sync.Mutex // guards what follows
	next     int        // of the seeds, to be begun
	stopAt   int        // seeds from this one on are not needed
	rows     []Row
	failures []Failure
	ended    bool // the single run was
	total    Totals
	closer   *dst.Result // the run that is shown closer
	closerAt int
	running  map[int]*runner
}

// runner is a run under way.
type runner struct {
	cancel context.CancelFunc
	at     dst.Progress // Counts are a copy
}

// New prepares a campaign.
func New(o Options) *Campaign {
	if o.Seeds == 0 || o.Plan != nil {
		o.Seeds = 1
	}
	if o.Jobs == 0 {
		o.Jobs = runtime.GOMAXPROCS(0)
	}
	return &Campaign{o: o, stopAt: o.Seeds, running: map[int]*runner{}, total: newTotals()}
}

// Run plays all, until they are done, one failed, or ctx is done; what was simulated until
// then is the outcome in each case.
func (c *Campaign) Run(ctx context.Context) *Outcome {
	var wait sync.WaitGroup
	for range min(c.o.Jobs, c.o.Seeds) {
		wait.Go(func() {
			for c.one(ctx) {
			}
		})
	}
	wait.Wait()
	return c.outcome(ctx.Err() != nil)
}

// one plays the next seed and reports whether there may be another.
func (c *Campaign) one(ctx context.Context) bool {
	c.mu.Lock()
	i := c.next
	if i >= c.stopAt || ctx.Err() != nil {
		c.mu.Unlock()
		return false
	}
	c.next++
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &runner{cancel: cancel}
	c.running[i] = r
	c.mu.Unlock()

	p, res, err := c.play(ctx, i, r)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, i)
	if i >= c.stopAt {
		return false // a lower seed failed meanwhile
	}
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()):
		if c.o.Seeds == 1 { // one long run: what it showed until now counts
			c.partial(p, res, r)
		}
		return false
	case err != nil:
		c.fail(i, Failure{Seed: p.Seed, Plan: p, Error: err.Error()})
		return c.o.GoOn
	}
	c.took(i, res)
	if res.Violation != nil {
		c.fail(i, Failure{Seed: p.Seed, Plan: p, Result: res})
		return c.o.GoOn
	}
	return true
}

// play plays one seed. A panic is the simulator's failure, with its seed.
func (c *Campaign) play(ctx context.Context, i int, r *runner) (p *dst.Plan, res *dst.Result, err error) {
	config := c.o.Config
	config.Seed += uint64(i)
	defer func() {
		if v := recover(); v != nil {
			if p == nil {
				p = &dst.Plan{Config: config}
			}
			res, err = nil, fmt.Errorf("the simulator panicked: %v\n%s", v, debug.Stack())
		}
	}()
	if p = c.o.Plan; p == nil {
		p = c.o.PlanOf(config)
	}
	samples := 0
	if c.o.Seeds > 1 {
		samples = -1 // the one to be shown closer is played again
	}
	res, err = c.o.Play(ctx, p, dst.Options{KeepTrace: c.o.Lines, Samples: samples, Progress: func(at dst.Progress) {
		if at.Counts != nil {
			counts := cloneCounts(at.Counts)
			at.Counts = &counts
		}
		c.mu.Lock()
		r.at = at
		c.mu.Unlock()
	}})
	if err == nil && res == nil {
		err = errors.New("the simulator returned nothing")
	}
	return p, res, err
}

// fail keeps a failure. Unless all are wanted, what is above its seed is no longer.
// Called with mu held.
func (c *Campaign) fail(i int, f Failure) {
	f.index = i
	if c.o.GoOn {
		if len(c.failures) < failuresMax {
			c.failures = append(c.failures, f)
		}
		c.total.Failures++
		return
	}
	c.stopAt, c.failures, c.total.Failures = i+1, []Failure{f}, 1
	for at, r := range c.running {
		if at > i {
			r.cancel()
		}
	}
}

// took counts a finished run. Called with mu held.
func (c *Campaign) took(i int, res *dst.Result) {
	row := rowOf(i, res)
	c.rows = append(c.rows, row)
	c.total.add(&row, res)
	if c.closer == nil || row.better(c.closer, i, c.closerAt) {
		c.closer, c.closerAt = res, i
	}
}

// partial counts a single run that was ended. Called with mu held.
func (c *Campaign) partial(p *dst.Plan, res *dst.Result, r *runner) {
	if res == nil && r.at.Counts != nil {
		res = &dst.Result{Plan: p, Steps: r.at.Steps, Virtual: r.at.Virtual, Counts: *r.at.Counts}
	}
	if c.ended = true; res != nil {
		c.took(0, res)
	}
}

// Status is how far a campaign has come.
type Status struct {
	Seeds, Done int // asked for; finished
	Failures    int
	Broke       uint64 // the seed that broke something last, if one did
	Steps       uint64
	Virtual     float64 // days, of all finished runs and those under way
	Decisions   uint64
	Faults      uint64
	// Run is the single run, if there is but one.
	Run *dst.Progress
}

// Status may be called at any time.
func (c *Campaign) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Status{
		Seeds: c.o.Seeds, Done: len(c.rows), Failures: c.total.Failures, Steps: c.total.Steps, Virtual: days(c.total.Virtual),
		Decisions: c.total.Decisions(), Faults: sum(c.total.Counts.Faults),
	}
	if n := len(c.failures); n > 0 {
		s.Broke = c.failures[n-1].Seed
	}
	for _, r := range c.running {
		s.Steps += r.at.Steps
		s.Virtual += days(r.at.Virtual)
		if n := r.at.Counts; n != nil {
			s.Decisions += sum(n.Allowed) + sum(n.Denied) + sum(n.Busy)
			s.Faults += sum(n.Faults)
		}
		if c.o.Seeds == 1 {
			at := r.at
			s.Run = &at
		}
	}
	return s
}

func cloneCounts(n *dst.Counts) dst.Counts {
	c := *n
	for _, m := range []*map[string]uint64{&c.Allowed, &c.Denied, &c.Busy, &c.Actions, &c.Faults, &c.Checks, &c.Records} {
		*m = maps.Clone(*m)
	}
	return c
}
