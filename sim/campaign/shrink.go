package campaign

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// Shrunk is a failing plan made small.
type Shrunk struct {
	Plan   *dst.Plan   `json:"-"`
	Result *dst.Result `json:"-"` // of Plan: it breaks the same invariant
	// From and To are how many actions there were and are.
	From int `json:"fromActions"`
	To   int `json:"toActions"`
	// Tries is how many plans were played.
	Tries int `json:"tries"`
	// Complete says that nothing more can be taken from it; else the time was over.
	Complete bool `json:"complete"`
}

// ShrinkOptions say how plans are played. The zero value but for Play is good.
type ShrinkOptions struct {
	Play  Play
	Jobs  int                       // plans at a time; default: as many as there are cores
	Lines int                       // of the trace that the violation shows
	Tried func(tries, from, to int) // called now and then, one call at a time; nil: not
}

// Shrink takes from a plan that broke an invariant what it does not need to break it:
// what comes afterwards, whole kinds of faults and deeds, whole devices, single actions,
// then brokers, devices and time that nothing uses. The less is left, the plainer is what
// matters. It goes on until nothing more can go, or ctx is done, and returns what it has: at
// the least the plan itself. Its way does not depend on the number of jobs.
func Shrink(ctx context.Context, failed *dst.Result, o ShrinkOptions) *Shrunk {
	if o.Jobs == 0 {
		o.Jobs = runtime.GOMAXPROCS(0)
	}
	s := &shrinker{ctx: ctx, o: o, want: failed.Violation.Invariant, best: failed, from: len(failed.Plan.Actions)}
	whole := false
	for !whole && ctx.Err() == nil {
		before := s.size()
		s.cut()
		for _, by := range groupings {
			s.groups(by)
		}
		whole = s.actions()
		s.world()
		whole = whole && s.size() == before
	}
	if s.best != failed { // once more, for its last steps
		again, err := o.Play(context.WithoutCancel(ctx), s.best.Plan, dst.Options{KeepTrace: o.Lines, Samples: -1})
		if err == nil && again.Violation != nil && again.Trace == s.best.Trace {
			s.best = again
		}
	}
	return &Shrunk{
		Plan: s.best.Plan, Result: s.best, From: s.from, To: len(s.best.Plan.Actions), Tries: int(s.tries.Load()),
		Complete: whole && ctx.Err() == nil,
	}
}

type shrinker struct {
	ctx   context.Context
	o     ShrinkOptions
	want  string // the invariant
	from  int
	best  *dst.Result // the smallest that breaks it
	tries atomic.Int64
	known sync.Map // digests of plans that do not break it
}

// size orders plans: what Shrink makes smaller.
func (s *shrinker) size() [5]int {
	p := s.best.Plan
	setup := 0
	for _, on := range []bool{p.Setup.Newcomers > 0, p.Setup.Offline, p.Setup.Certified, p.Setup.Budget, p.Setup.Battery} {
		if on {
			setup++
		}
	}
	return [5]int{len(p.Actions), p.Devices, p.Brokers, setup, int(p.Duration / time.Second)}
}

// play plays a plan, and returns its result if it breaks the invariant. It may be called by
// several at once.
func (s *shrinker) play(p *dst.Plan) (failed *dst.Result) {
	if s.ctx.Err() != nil || p.Check() != nil {
		return nil
	}
	digest := digestOf(p)
	if _, known := s.known.Load(digest); known {
		return nil
	}
	s.tries.Add(1)
	defer func() {
		if recover() != nil { // a smaller plan that the simulator cannot play is no smaller plan
			failed = nil
		}
	}()
	r, err := s.o.Play(s.ctx, p, dst.Options{KeepTrace: -1, Samples: -1})
	if err == nil && r != nil && r.Violation != nil && r.Violation.Invariant == s.want {
		return r
	}
	if s.ctx.Err() == nil {
		s.known.Store(digest, nil)
	}
	return nil
}

// digestOf tells plans apart. Those that differ in an action's fields were made of the same
// action in one way alone: at another broker.
func digestOf(p *dst.Plan) [sha256.Size]byte {
	h := fmt.Appendf(nil, "%d %d %d %d %d %v %v", p.Devices, p.Brokers, p.Duration, p.Faults, len(p.Setup.Policy), p.Setup.Newcomers, [...]bool{p.Setup.Offline, p.Setup.Certified, p.Setup.Budget, p.Setup.Battery})
	for i := range p.Actions {
		h = binary.AppendUvarint(h, uint64(p.Actions[i].ID))
		h = binary.AppendUvarint(h, uint64(p.Actions[i].Broker))
	}
	return sha256.Sum256(h)
}

// try takes p for the best if it breaks the invariant, too.
func (s *shrinker) try(p *dst.Plan) bool {
	r := s.play(p)
	if r != nil {
		s.best = r
		s.told()
	}
	return r != nil
}

func (s *shrinker) told() {
	if s.o.Tried != nil {
		s.o.Tried(int(s.tries.Load()), s.from, len(s.best.Plan.Actions))
	}
}

// with is the best plan with other actions. Faults that none of them is are not named.
func (s *shrinker) with(actions []dst.Action) *dst.Plan {
	p := *s.best.Plan
	p.Actions = actions
	return &p
}

// cut takes away what comes after the violation, then the time after it.
func (s *shrinker) cut() {
	p, at := s.best.Plan, s.best.Violation.At
	if at < p.Duration {
		early := s.with(slices.Clone(before(p.Actions, at)))
		early.Duration = max(at.Truncate(time.Second)+time.Second, time.Second)
		if early.Duration < p.Duration && s.try(early) {
			return
		}
	}
	if early := before(p.Actions, at); len(early) < len(p.Actions) {
		s.try(s.with(slices.Clone(early)))
	}
}

// before is the actions until at, it included.
func before(actions []dst.Action, at time.Duration) []dst.Action {
	n, _ := slices.BinarySearchFunc(actions, at+1, func(a dst.Action, at time.Duration) int { return cmp.Compare(a.At, at) })
	return actions[:n]
}

// groupings put actions together that may go at once, the large groups first.
var groupings = []func(a *dst.Action) string{
	func(a *dst.Action) string {
		if f := a.Fault(); f != 0 {
			return f.String()
		}
		return a.Kind.String()
	},
	func(a *dst.Action) string { return fmt.Sprint("broker ", a.Broker) },
	func(a *dst.Action) string {
		switch a.Kind {
		case dst.Connect, dst.Disconnect, dst.Vanish, dst.Publish, dst.Subscribe:
			return fmt.Sprint("device ", a.Client)
		case dst.Activate, dst.Deactivate:
			return fmt.Sprint("device ", a.Cert.Of)
		}
		if a.Fault() != 0 {
			return "faults"
		}
		return fmt.Sprint("device ", a.Thing)
	},
}

// groups takes away whole groups of actions.
func (s *shrinker) groups(by func(*dst.Action) string) {
	actions := s.best.Plan.Actions
	number := map[string]int{}
	of := make([]int, len(actions))
	for i := range actions {
		name := by(&actions[i])
		n, ok := number[name]
		if !ok {
			n = len(number)
			number[name] = n
		}
		of[i] = n
	}
	if len(number) < 2 {
		return
	}
	s.subset(len(number), func(keep []int) []dst.Action {
		var left []dst.Action
		for i := range actions {
			if _, kept := slices.BinarySearch(keep, of[i]); kept {
				left = append(left, actions[i])
			}
		}
		return left
	})
}

// actions takes away single ones, and reports whether no further one can go.
func (s *shrinker) actions() bool {
	actions := s.best.Plan.Actions
	return s.subset(len(actions), func(keep []int) []dst.Action {
		left := make([]dst.Action, len(keep))
		for i, k := range keep {
			left[i] = actions[k]
		}
		return left
	})
}

// subset keeps the fewest of n parts with which the invariant is broken.
func (s *shrinker) subset(n int, actions func(keep []int) []dst.Action) bool {
	keep, whole := subset(n, s.o.Jobs, func(keep []int) bool { return s.play(s.with(actions(keep))) != nil },
		func() bool { s.told(); return s.ctx.Err() != nil })
	if len(keep) < n {
		s.try(s.with(actions(keep)))
	}
	return whole
}

// world takes away what the actions left do not use: devices, brokers, kinds of faults, what
// the world begins with, and time.
func (s *shrinker) world() {
	s.less(func(p *dst.Plan) {
		p.Devices, p.Brokers = 1, 1
		for i := range p.Actions {
			a := &p.Actions[i]
			p.Devices = max(p.Devices, a.Thing+max(a.Count, 1), a.Cert.Of+1)
			p.Brokers = max(p.Brokers, a.Broker+1)
		}
		p.Devices = min(p.Devices, s.best.Plan.Devices)
		p.Setup.Newcomers = max(0, p.Setup.Newcomers-(s.best.Plan.Devices-p.Devices))
	})
	s.less(func(p *dst.Plan) { // all at one broker
		for i := range p.Actions {
			p.Actions[i].Broker = 0
		}
		p.Brokers = 1
	})
	s.less(func(p *dst.Plan) {
		p.Faults = 0
		for i := range p.Actions {
			p.Faults |= p.Actions[i].Fault()
		}
	})
	for _, drop := range []func(*dst.Setup){
		func(w *dst.Setup) { w.Newcomers = 0 },
		func(w *dst.Setup) { w.Offline = false },
		func(w *dst.Setup) { w.Certified = false },
		func(w *dst.Setup) { w.Budget = false },
		func(w *dst.Setup) { w.Battery = false },
	} {
		s.less(func(p *dst.Plan) { drop(&p.Setup) })
	}
	// A herd has no list of actions; half of it may do.
	for s.best.Plan.Herd != nil && s.less(func(p *dst.Plan) { p.Devices = max(1, p.Devices/2) }) {
	}
	last := time.Second
	for i := range s.best.Plan.Actions {
		last = max(last, s.best.Plan.Actions[i].At+s.best.Plan.Actions[i].For+time.Second)
	}
	if !s.less(func(p *dst.Plan) { p.Duration = min(p.Duration, last) }) {
		for s.less(func(p *dst.Plan) { p.Duration = max(last, p.Duration/2) }) {
		}
	}
}

// less tries the best plan with a change, if it is one.
func (s *shrinker) less(change func(*dst.Plan)) bool {
	p := s.with(slices.Clone(s.best.Plan.Actions))
	if h := p.Herd; h != nil {
		clone := *h
		p.Herd = &clone
	}
	change(p)
	old := s.best.Plan
	if p.Devices == old.Devices && p.Brokers == old.Brokers && p.Faults == old.Faults && p.Setup == old.Setup && p.Duration == old.Duration {
		return false
	}
	return s.try(p)
}
