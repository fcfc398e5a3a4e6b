package metrics

import (
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
)

// Aggregate emits the reference's metrics as the reference does (client-device-auth spec
// 8): the sums of a period, at the start and after each period; zeros are not emitted;
// what is emitted is not emitted again. While it is off nothing is emitted, and counting
// goes on.
type Aggregate struct {
	counts func() map[string]uint64 // since the start, by the reference's names
	now    func() time.Time
	after  func(time.Duration, func()) (stop func() bool)

	mu     sync.Mutex
	off    bool              // guarded by mu, as all below
	period time.Duration     // 0: not configured yet
	told   map[string]uint64 // what was emitted so far
	last   *Emission
	next   time.Time // of the next emission; zero: none is planned
	stop   func() bool
	closed bool
}

// Emission is what was emitted at one time.
type Emission struct {
	Namespace     string    `json:"namespace"`
	At            time.Time `json:"at"`
	PeriodSeconds int       `json:"periodSeconds"`
	Metrics       []Metric  `json:"metrics"` // in the order of brokers.ReferenceNames
}

// Metric is one sum, as the reference writes it to its telemetry.
type Metric struct {
	Name        string `json:"name"`
	Unit        string `json:"unit"`        // Count
	Aggregation string `json:"aggregation"` // Sum
	Value       uint64 `json:"value"`
}

// Report is what is known of the reference's metrics.
type Report struct {
	Disabled      bool       `json:"disabled"` // metrics.disableMetrics
	PeriodSeconds int        `json:"periodSeconds"`
	Emitted       *Emission  `json:"emitted,omitempty"` // last
	NextAt        *time.Time `json:"nextAt,omitempty"`
	// Total is what was counted since the daemon started, zeros included.
	Total map[string]uint64 `json:"total"`
	// Certificates is what the reference has no metrics of; absent while there is no authority.
	Certificates *Certificates `json:"certificates,omitempty"`
}

// NewAggregate makes an aggregation of counts, which only grow. after is time.AfterFunc,
// or a test's clock. It emits nothing until Configure; Close ends it.
func NewAggregate(counts func() map[string]uint64, now func() time.Time, after func(time.Duration, func()) (stop func() bool)) *Aggregate {
	return &Aggregate{counts: counts, now: now, after: after, told: map[string]uint64{}}
}

// Configure takes settings into force. If they differ from those before, it emits at once
// and begins a new period (spec 1.1).
func (a *Aggregate) Configure(off bool, period time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || off == a.off && period == a.period {
		return
	}
	a.off, a.period = off, period
	a.emit()
}

// emit emits and plans the next time; mu is held.
func (a *Aggregate) emit() {
	if a.stop != nil {
		a.stop()
	}
	if a.next = (time.Time{}); a.off {
		return
	}
	now := a.now().UTC()
	e := &Emission{Namespace: brokers.ReferenceNamespace, At: now, PeriodSeconds: int(a.period / time.Second), Metrics: []Metric{}}
	counts := a.counts()
	for _, name := range brokers.ReferenceNames() {
		if n := counts[name] - a.told[name]; n > 0 {
			e.Metrics = append(e.Metrics, Metric{Name: name, Unit: "Count", Aggregation: "Sum", Value: n})
		}
	}
	a.told, a.last, a.next = counts, e, now.Add(a.period)
	period := a.next
	a.stop = a.after(a.period, func() { a.over(period) })
}

// over hears that the period that ends at end is over.
func (a *Aggregate) over(end time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed && a.next.Equal(end) { // else another began meanwhile
		a.emit()
	}
}

// Report says what was emitted last, and what is counted so far.
func (a *Aggregate) Report() Report {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := Report{Disabled: a.off, PeriodSeconds: int(a.period / time.Second), Emitted: a.last, Total: map[string]uint64{}}
	if !a.next.IsZero() {
		next := a.next
		r.NextAt = &next
	}
	counts := a.counts()
	for _, name := range brokers.ReferenceNames() {
		r.Total[name] = counts[name]
	}
	return r
}

// Close ends the aggregation; what was not emitted is lost, as in the reference.
func (a *Aggregate) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.stop != nil {
		a.stop()
	}
}
