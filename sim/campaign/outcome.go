package campaign

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// Limits of what an outcome keeps.
const (
	failuresMax = 1000 // with GoOn; further ones are counted
	rowsMax     = 1000 // runs in JSON and on the page; further ones are in the totals alone
)

// Outcome is what came of a campaign: the same on any machine, unless it was interrupted, or
// ended by a violation: then seeds above that one were simulated or not.
type Outcome struct {
	Config      dst.Config  `json:"-"`
	First       uint64      `json:"firstSeed"`
	Seeds       int         `json:"seeds"`       // asked for
	Done        int         `json:"done"`        // simulated to their end, or to their violation
	Interrupted bool        `json:"interrupted"` // somebody ended it: what stands here is a part
	FromPlan    bool        `json:"fromPlan"`    // a plan was played, not seeds
	Trace       dst.Trace   `json:"trace"`       // over all runs' traces, by seed
	Total       Totals      `json:"total"`
	Invariants  []Invariant `json:"invariants"`
	Failures    []Failure   `json:"failures"`
	Rows        []Row       `json:"runs"`
	RowsLeftOut int         `json:"runsLeftOut"`
	// Closer is the run that is worth a closer look: what failed first, else the busiest.
	Closer *dst.Result `json:"-"`
}

// Clean says that all that was asked for was simulated, and nothing was wrong.
func (o *Outcome) Clean() bool { return !o.Interrupted && o.Total.Failures == 0 && o.Done == o.Seeds }

// Row is one run in short.
type Row struct {
	Seed      uint64        `json:"seed"`
	Devices   int           `json:"devices"`
	Brokers   int           `json:"brokers"`
	Virtual   time.Duration `json:"virtualNs"`
	Steps     uint64        `json:"steps"`
	Events    uint64        `json:"events"`
	Allowed   uint64        `json:"allowed"`
	Denied    uint64        `json:"denied"`
	Busy      uint64        `json:"busy"`
	Faults    uint64        `json:"faults"`
	Lives     uint64        `json:"lives"`
	Kinds     dst.Faults    `json:"faultKinds"`
	Violation string        `json:"violation,omitempty"` // the invariant
	Trace     dst.Trace     `json:"trace"`

	index int
}

func rowOf(i int, r *dst.Result) Row {
	row := Row{
		Virtual: r.Virtual, Steps: r.Steps, Events: r.Events, Trace: r.Trace, index: i,
		Allowed: sum(r.Counts.Allowed), Denied: sum(r.Counts.Denied), Busy: sum(r.Counts.Busy),
		Faults: sum(r.Counts.Faults), Lives: r.Counts.Lives,
	}
	if p := r.Plan; p != nil {
		row.Seed, row.Devices, row.Brokers, row.Kinds = p.Seed, p.Devices, p.Brokers, p.Faults
	}
	if r.Violation != nil {
		row.Violation = r.Violation.Invariant
	}
	return row
}

// better says whether the row's run is worth a closer look rather than that of than: what
// failed, then what decided most, then the lower seed.
func (r *Row) better(than *dst.Result, i, j int) bool {
	if (r.Violation != "") != (than.Violation != nil) {
		return r.Violation != ""
	}
	if r.Violation == "" {
		if c := cmp.Compare(r.Allowed+r.Denied, sum(than.Counts.Allowed)+sum(than.Counts.Denied)); c != 0 {
			return c > 0
		}
	}
	return i < j
}

// Totals are sums over all runs.
type Totals struct {
	Steps    uint64         `json:"steps"`
	Events   uint64         `json:"events"`
	Virtual  time.Duration  `json:"virtualNs"`
	Devices  uint64         `json:"devices"`
	Brokers  uint64         `json:"brokers"`
	Failures int            `json:"failures"`
	Counts   Counts         `json:"counts"`
	RunsWith map[string]int `json:"runsWithFault"` // in how many runs a kind of fault took effect
}

// Counts are dst.Counts, as JSON has them.
type Counts struct {
	Allowed   map[string]uint64 `json:"allowed"`
	Denied    map[string]uint64 `json:"denied"`
	Busy      map[string]uint64 `json:"busy"`
	Actions   map[string]uint64 `json:"actions"`
	Faults    map[string]uint64 `json:"faults"`
	Checks    map[string]uint64 `json:"checks"`
	Records   map[string]uint64 `json:"records"`
	Sessions  uint64            `json:"sessions"`
	Pushes    uint64            `json:"pushes"`
	Questions uint64            `json:"cloudQuestions"`
	Lives     uint64            `json:"lives"`
	Messages  uint64            `json:"messages"`
}

func newTotals() Totals {
	return Totals{RunsWith: map[string]int{}, Counts: Counts{
		Allowed: map[string]uint64{}, Denied: map[string]uint64{}, Busy: map[string]uint64{}, Actions: map[string]uint64{},
		Faults: map[string]uint64{}, Checks: map[string]uint64{}, Records: map[string]uint64{},
	}}
}

func (t *Totals) add(row *Row, r *dst.Result) {
	t.Steps += r.Steps
	t.Events += r.Events
	t.Virtual += r.Virtual
	t.Devices += uint64(row.Devices)
	t.Brokers += uint64(row.Brokers)
	c, n := &t.Counts, &r.Counts
	for _, m := range []struct{ to, from map[string]uint64 }{
		{c.Allowed, n.Allowed}, {c.Denied, n.Denied}, {c.Busy, n.Busy}, {c.Actions, n.Actions},
		{c.Faults, n.Faults}, {c.Checks, n.Checks}, {c.Records, n.Records},
	} {
		for k, v := range m.from {
			m.to[k] += v
		}
	}
	c.Sessions += n.Sessions
	c.Pushes += n.Pushes
	c.Questions += n.Questions
	c.Lives += n.Lives
	c.Messages += n.Messages
	for kind, v := range n.Faults {
		if v > 0 {
			t.RunsWith[kind]++
		}
	}
}

// Decisions is how many answers there were, of any sort.
func (t *Totals) Decisions() uint64 {
	return sum(t.Counts.Allowed) + sum(t.Counts.Denied) + sum(t.Counts.Busy)
}

// Checked is how often invariants were held against something.
func (t *Totals) Checked() uint64 { return sum(t.Counts.Checks) }

// Failure is a run that did not end well.
type Failure struct {
	Seed   uint64      `json:"seed"`
	Error  string      `json:"error,omitempty"` // the simulator itself failed
	Plan   *dst.Plan   `json:"-"`
	Result *dst.Result `json:"-"` // with its Violation
	// Small is the plan made small; nil: it was not tried, or Error.
	Small *Shrunk `json:"small,omitempty"`
	// File has the plan that replays it; "" none.
	File string `json:"planFile,omitempty"`

	index int
}

// Violation is what was broken, by the smallest plan there is; nil: Error.
func (f *Failure) Violation() *dst.Violation {
	switch {
	case f.Small != nil:
		return f.Small.Result.Violation
	case f.Result != nil:
		return f.Result.Violation
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (f Failure) MarshalJSON() ([]byte, error) {
	type broken struct {
		Invariant string   `json:"invariant"`
		Step      uint64   `json:"step"`
		At        int64    `json:"atMs"`
		What      string   `json:"what"`
		Last      []string `json:"last"`
	}
	type plain Failure
	doc := struct {
		*plain
		Violation *broken `json:"violation,omitempty"`
	}{plain: (*plain)(&f)}
	if v := f.Violation(); v != nil {
		doc.Violation = &broken{v.Invariant, v.Step, v.At.Milliseconds(), v.What, v.Last}
	}
	return json.Marshal(doc)
}

// outcome is all that was found, in the order of seeds.
func (c *Campaign) outcome(interrupted bool) *Outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	rows := c.rows
	slices.SortFunc(rows, func(a, b Row) int { return a.index - b.index })
	slices.SortFunc(c.failures, func(a, b Failure) int { return a.index - b.index })
	o := &Outcome{
		Config: c.o.Config, First: c.o.Config.Seed, Seeds: c.o.Seeds, Done: len(rows), FromPlan: c.o.Plan != nil,
		Interrupted: interrupted && (len(rows) < c.o.Seeds || c.ended),
		Total:       c.total, Failures: c.failures, Closer: c.closer, Invariants: c.o.Invariants,
	}
	h := sha256.New()
	for _, r := range rows {
		var seed [8]byte
		binary.BigEndian.PutUint64(seed[:], r.Seed)
		h.Write(seed[:])
		h.Write(r.Trace[:])
	}
	h.Sum(o.Trace[:0])
	o.Rows, o.RowsLeftOut = rowsShown(rows)
	return o
}

// rowsShown are the runs worth a line: all while there are few, else those that failed and
// the first ones.
func rowsShown(rows []Row) ([]Row, int) {
	if len(rows) <= rowsMax {
		return rows, 0
	}
	shown := slices.Clone(rows[:rowsMax])
	for _, r := range rows[rowsMax:] {
		if r.Violation != "" && len(shown) < 2*rowsMax {
			shown = append(shown, r)
		}
	}
	return shown, len(rows) - len(shown)
}

func sum(m map[string]uint64) uint64 {
	n := uint64(0)
	for _, v := range m {
		n += v
	}
	return n
}

func days(d time.Duration) float64 { return d.Hours() / 24 }

// LookCloser plays the run worth a closer look once more, for what it shows over time. The
// single run of a campaign has shown it already.
func (o *Outcome) LookCloser(ctx context.Context, play Play) error {
	if len(o.Failures) > 0 && o.Failures[0].Result != nil {
		o.Closer = o.Failures[0].Result
	}
	if o.Closer == nil || o.Closer.Plan == nil || len(o.Closer.Series) > 0 || o.Interrupted {
		return nil
	}
	r, err := play(ctx, o.Closer.Plan, dst.Options{})
	if err != nil {
		return fmt.Errorf("play seed %d again: %w", o.Closer.Plan.Seed, err)
	}
	if r.Trace != o.Closer.Trace {
		return fmt.Errorf("play seed %d again: its trace was %s and is %s: the simulator is not deterministic", o.Closer.Plan.Seed, o.Closer.Trace, r.Trace)
	}
	o.Closer = r
	return nil
}
