package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What is recorded lies between a microsecond and latencyMax; three digits count, two in the
// series.
const (
	latencyMax      = 2 * time.Minute
	digits          = 3
	seriesDigits    = 2
	intervalsAbout  = 60
	intervalLeast   = 250 * time.Millisecond
	examplesMax     = 10
	exampleBytesMax = 400
)

// recorder counts what became of requests. The runner's lock guards it.
type recorder struct {
	interval time.Duration
	ops      [opCount]*tally
	lag      *hdrhistogram.Histogram // of sending behind the schedule
	series   []*sample
	examples []Example
	wrongs   [2]int64 // wrong allows, wrong denies
	notes    map[string]int64
}

// A tally is what became of the requests of one kind.
type tally struct {
	offered  int64
	outcomes [outcomeCount]int64
	latency  *hdrhistogram.Histogram // µs
}

// A sample is what an interval saw, by the moments at which its requests were due.
type sample struct {
	offered   int64
	outcomes  [outcomeCount]int64
	latency   [opCount]*hdrhistogram.Histogram
	lagMax    time.Duration
	connected int // at its end
	inFlight  int
	seen      bool
}

func newRecorder(total time.Duration) *recorder {
	r := &recorder{interval: max(intervalLeast, total/intervalsAbout).Round(time.Millisecond), lag: newHistogram(digits), notes: map[string]int64{}}
	r.series = make([]*sample, (total+r.interval-1)/r.interval)
	for i := range r.series {
		r.series[i] = &sample{}
	}
	return r
}

func newHistogram(digits int) *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(latencyMax/time.Microsecond), digits)
}

func observe(h *hdrhistogram.Histogram, d time.Duration) {
	// The value fits: it was cut to the histogram's range.
	_ = h.RecordValue(int64(min(max(d, time.Microsecond), latencyMax) / time.Microsecond))
}

// at is the interval in which a moment lies.
func (r *recorder) at(due time.Duration) *sample {
	return r.series[min(max(0, int(due/r.interval)), len(r.series)-1)]
}

func (r *recorder) tally(op Op) *tally {
	if r.ops[op] == nil {
		r.ops[op] = &tally{latency: newHistogram(digits)}
	}
	return r.ops[op]
}

// offer counts a request that was due.
func (r *recorder) offer(op Op, due time.Duration) {
	r.tally(op).offered++
	if op.asks() {
		r.at(due).offered++
	}
}

// sent notes how far behind the schedule a request was sent.
func (r *recorder) sent(due, now time.Duration) {
	lag := max(0, now-due)
	observe(r.lag, lag)
	s := r.at(due)
	s.lagMax = max(s.lagMax, lag)
}

// answered counts what became of a request that was due at due, took until now. A busy or
// unavailable answer comes at once and decides nothing, so its time is not counted: it would
// make an overloaded server look fast.
func (r *recorder) answered(op Op, outcome Outcome, due, now time.Duration) {
	t, s := r.tally(op), r.at(due)
	t.outcomes[outcome]++
	if op.asks() {
		s.outcomes[outcome]++
	}
	if outcome == Busy || outcome == Unavailable {
		return
	}
	observe(t.latency, now-due)
	if s.latency[op] == nil {
		s.latency[op] = newHistogram(seriesDigits)
	}
	observe(s.latency[op], now-due)
}

// gauge notes how things stand at the end of an interval.
func (r *recorder) gauge(now time.Duration, connected, inFlight int) {
	s := r.at(now)
	s.connected, s.inFlight, s.seen = connected, max(s.inFlight, inFlight), true
}

// wrong counts an answer that must not be, and keeps the first few.
func (r *recorder) wrong(kind WrongKind, due time.Duration, op Op, device, what string) {
	r.wrongs[kind]++
	if len(r.examples) < examplesMax {
		r.examples = append(r.examples, Example{kind.String(), due.Seconds(), op.String(), device, clip(what)})
	}
}

// note counts what is worth a line, by its text.
func (r *recorder) note(text string) {
	const most = 64
	if text = clip(text); r.notes[text] > 0 || len(r.notes) < most {
		r.notes[text]++
	}
}

func clip(s string) string {
	if len(s) > exampleBytesMax {
		return s[:exampleBytesMax] + "…"
	}
	return s
}

// A WrongKind says which way an answer was wrong.
type WrongKind uint8

// The ways.
const (
	WrongAllow WrongKind = iota // a yes where a no was due: a break-in
	WrongDeny                   // a no where a yes was due: a factory that stands still
)

// String names the way.
func (k WrongKind) String() string { return [...]string{"wrong allow", "wrong deny"}[k] }
