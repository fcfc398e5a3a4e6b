package load

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ResultFormat is the version of a Result's JSON. Fields are only added within it.
const ResultFormat = 1

// A Result is what came of a run; its JSON's schema is ResultSchema. Times of requests count
// from the moment at which they were due.
type Result struct {
	Format   int       `json:"format" doc:"version of this format; fields are only added within it"`
	Mix      *Mix      `json:"mix" doc:"what was asked, as it was in force"`
	Target   string    `json:"target" doc:"who was asked"`
	Began    time.Time `json:"began" doc:"when measuring began"`
	Seconds  float64   `json:"seconds" doc:"how long was measured"`
	Prepared float64   `json:"preparedSeconds" doc:"how long the devices took to connect before"`
	Partial  bool      `json:"partial" doc:"it was interrupted"`

	Valid   bool     `json:"valid" doc:"the figures are of what was asked, not of who asked"`
	Invalid []string `json:"invalid" doc:"why they are not"`

	WrongAllows int64     `json:"wrongAllows" doc:"answers that were a yes where a no was due"`
	WrongDenies int64     `json:"wrongDenies" doc:"answers that were a no where a yes was due"`
	Examples    []Example `json:"examples" doc:"the first of these"`

	Offered    int64       `json:"offered" doc:"requests that were due"`
	OfferedPer float64     `json:"offeredPerSecond" doc:"a second"`
	Decided    int64       `json:"decided" doc:"requests that were answered with a decision"`
	DecidedPer float64     `json:"decidedPerSecond" doc:"a second"`
	Operations []Operation `json:"operations" doc:"by kind of request"`
	Storms     []Storm     `json:"storms" doc:"devices that came back all at once"`

	Lag          Latency          `json:"lag" doc:"how far behind the schedule requests were sent"`
	Skipped      int              `json:"skipped" doc:"requests that no device was free for"`
	InFlightMost int              `json:"inFlightMost" doc:"the most requests that waited for an answer at once"`
	Generator    Generator        `json:"generator" doc:"what the generator itself used"`
	Ended        map[string]int64 `json:"sessionsEnded" doc:"sessions that were ended by the other side, by its reason"`
	Warnings     []string         `json:"warnings" doc:"what else should be known"`

	IntervalMs int64    `json:"intervalMs" doc:"how long a sample is"`
	Series     []Sample `json:"series" doc:"the run over time; requests stand where they were due"`
}

// An Example is an answer that must not be.
type Example struct {
	Kind   string  `json:"kind" doc:"wrong allow, or wrong deny"`
	At     float64 `json:"atSeconds" doc:"when the request was due"`
	Op     string  `json:"operation" doc:"its kind"`
	Device string  `json:"device" doc:"as whom"`
	What   string  `json:"what" doc:"what was wrong"`
}

// An Operation is what came of the requests of one kind.
type Operation struct {
	Name       string           `json:"name" doc:"the kind"`
	About      string           `json:"about" doc:"what it is"`
	Offered    int64            `json:"offered" doc:"requests that were due"`
	OfferedPer float64          `json:"offeredPerSecond" doc:"a second"`
	Outcomes   map[string]int64 `json:"outcomes" doc:"how many were allowed, denied, closed, busy, unavailable, timeout, failed, unsent"`
	Latency    Latency          `json:"latency" doc:"of all but busy and unavailable, whose answers decide nothing; time-outs and what was unsent count as long as the time-out is"`
}

// Latency is a distribution of times, with three digits that count.
type Latency struct {
	Count  int64      `json:"count" doc:"how many times it is of"`
	MeanMs float64    `json:"meanMs" doc:"the mean"`
	P50Ms  float64    `json:"p50Ms" doc:"half were at most as long"`
	P90Ms  float64    `json:"p90Ms" doc:"90 % were"`
	P99Ms  float64    `json:"p99Ms" doc:"99 % were"`
	P999Ms float64    `json:"p999Ms" doc:"99.9 % were"`
	MaxMs  float64    `json:"maxMs" doc:"the longest"`
	Curve  []Quantile `json:"curve" doc:"more percentiles"`
}

// A Quantile is one point of a Latency's curve.
type Quantile struct {
	Percentile float64 `json:"percentile" doc:"so many per cent"`
	Ms         float64 `json:"ms" doc:"were at most so long"`
}

// A Storm is what came of devices that lost their connections at once.
type Storm struct {
	At      float64  `json:"atSeconds" doc:"when it began"`
	Devices int      `json:"devices" doc:"how many it had"`
	In      int      `json:"in" doc:"how many were in again at the end"`
	AllIn   *float64 `json:"allInSeconds" doc:"after how long all were; null: they were not"`
	Tries   int64    `json:"tries" doc:"how often they tried"`
	Busy    int64    `json:"busy" doc:"tries that were answered with busy"`
	Lost    int64    `json:"lost" doc:"tries without an answer, or with none that decides"`
	Denied  int      `json:"denied" doc:"devices that were denied"`
}

// Generator is what the generator used.
type Generator struct {
	CPUSeconds float64 `json:"cpuSeconds" doc:"processor time; 0: not known"`
	Cores      int     `json:"cores" doc:"of this machine, that it could use"`
}

// A Sample is one interval of a run.
type Sample struct {
	At        float64            `json:"atSeconds" doc:"its beginning"`
	Offered   int64              `json:"offered" doc:"requests that were due"`
	Outcomes  map[string]int64   `json:"outcomes" doc:"what became of them"`
	P50Ms     map[string]float64 `json:"p50Ms" doc:"by kind of request"`
	P99Ms     map[string]float64 `json:"p99Ms" doc:"by kind of request"`
	MaxMs     map[string]float64 `json:"maxMs" doc:"by kind of request"`
	Connected int                `json:"connected" doc:"devices that were connected"`
	InFlight  int                `json:"inFlight" doc:"requests that waited for an answer"`
	LagMs     float64            `json:"lagMaxMs" doc:"how far behind the schedule a request was sent, at most"`
}

// Wrong is how many answers must not have been.
func (r *Result) Wrong() int64 { return r.WrongAllows + r.WrongDenies }

// use is the processor time of a stretch.
type use struct{ begun, used time.Duration }

func startUse() *use { return &use{begun: cpuTime()} }
func (u *use) stop() { u.used = cpuTime() - u.begun }

// result sums a run up.
func (r *runner) result(partial bool, prepared time.Duration, u *use) *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unfinished()
	took := min(r.measured, r.m.Total()).Seconds()
	out := &Result{
		Format: ResultFormat, Mix: r.m, Target: r.o.Target, Began: r.start.UTC().Truncate(time.Millisecond), Seconds: took, Prepared: prepared.Seconds(), Partial: partial,
		WrongAllows: r.rec.wrongs[WrongAllow], WrongDenies: r.rec.wrongs[WrongDeny], Examples: append([]Example{}, r.rec.examples...),
		Lag: latencyOf(r.rec.lag), Skipped: r.skipped, InFlightMost: r.inFlightMost,
		Generator: Generator{u.used.Seconds(), runtime.GOMAXPROCS(0)}, Ended: r.reasons, IntervalMs: r.rec.interval.Milliseconds(),
		Invalid: []string{}, Warnings: append([]string{}, r.o.Warnings...), Storms: []Storm{}, Operations: []Operation{}, Series: []Sample{},
	}
	for op, t := range r.rec.ops {
		if t == nil {
			continue
		}
		out.Operations = append(out.Operations, Operation{
			Name: Op(op).String(), About: opDocs[op], Offered: t.offered, OfferedPer: per(t.offered, took), Outcomes: outcomes(t.outcomes), Latency: latencyOf(t.latency),
		})
		if Op(op).asks() {
			out.Offered += t.offered
			out.Decided += t.outcomes[Allowed] + t.outcomes[Denied] + t.outcomes[Closed]
		}
	}
	out.OfferedPer, out.DecidedPer = per(out.Offered, took), per(out.Decided, took)
	for _, s := range r.storms {
		one := Storm{At: s.begun.Seconds(), Devices: s.devices, In: s.in, Tries: s.tries, Busy: s.busy, Lost: s.lost, Denied: s.denied}
		if s.in == s.devices {
			one.AllIn = new((s.lastIn - s.begun).Seconds())
		}
		out.Storms = append(out.Storms, one)
	}
	r.samples(out)
	r.doubts(out)
	return out
}

func per(n int64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(n) / seconds
}

func outcomes(all [outcomeCount]int64) map[string]int64 {
	m := map[string]int64{}
	for o, n := range all {
		if n > 0 {
			m[Outcome(o).String()] = n
		}
	}
	return m
}

// samples fills in the series, as far as it was measured.
func (r *runner) samples(out *Result) {
	for i, s := range r.rec.series {
		at := time.Duration(i) * r.rec.interval
		if at.Seconds() >= out.Seconds {
			break
		}
		one := Sample{
			At: at.Seconds(), Offered: s.offered, Outcomes: outcomes(s.outcomes), Connected: s.connected, InFlight: s.inFlight, LagMs: ms(s.lagMax.Microseconds()),
			P50Ms: map[string]float64{}, P99Ms: map[string]float64{}, MaxMs: map[string]float64{},
		}
		for op, h := range s.latency {
			if h != nil {
				name := Op(op).String()
				one.P50Ms[name], one.P99Ms[name], one.MaxMs[name] = ms(h.ValueAtQuantile(50)), ms(h.ValueAtQuantile(99)), ms(h.Max())
			}
		}
		out.Series = append(out.Series, one)
	}
}

// doubts says what speaks against the figures, and what else was seen.
func (r *runner) doubts(out *Result) {
	limit := time.Duration(r.m.LagLimit)
	if out.Lag.P99Ms > ms(limit.Microseconds()) {
		out.Invalid = append(out.Invalid, fmt.Sprintf("one request in a hundred was sent %.1f ms or more behind the schedule (lagLimit is %v): the generator, or the machine it shares with what it asks, was the bottleneck; ask less, or from another machine", out.Lag.P99Ms, limit))
	}
	if due := out.Offered + int64(r.skipped); r.skipped > 0 && float64(r.skipped) > 0.02*float64(due) {
		out.Invalid = append(out.Invalid, fmt.Sprintf("for %d of %d requests no device was free: more devices are needed, or another mix", r.skipped, due))
	}
	if out.Decided == 0 {
		out.Invalid = append(out.Invalid, "no request was answered with a decision")
	}
	out.Valid = len(out.Invalid) == 0
	if n, ok := r.o.Driver.(interface{ PolicyChanges() uint64 }); ok && n.PolicyChanges() > 0 {
		out.Warnings = append(out.Warnings, "the policy was changed meanwhile: what is right was judged by the mix all the same")
	}
	for _, text := range slices.Sorted(maps.Keys(r.rec.notes)) {
		out.Warnings = append(out.Warnings, fmt.Sprintf("%s (%d times)", text, r.rec.notes[text]))
	}
}

func ms(us int64) float64 { return float64(us) / 1000 }

// curveAt are the percentiles of a curve, as far as there are enough values for them.
var curveAt = []float64{0, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99, 99.995, 99.999, 99.9999}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	n := h.TotalCount()
	l := Latency{Count: n, Curve: []Quantile{}}
	if n == 0 {
		return l
	}
	at := func(p float64) float64 { return ms(h.ValueAtQuantile(p)) }
	l.MeanMs, l.P50Ms, l.P90Ms, l.P99Ms, l.P999Ms, l.MaxMs = h.Mean()/1000, at(50), at(90), at(99), at(99.9), ms(h.Max())
	for _, p := range curveAt {
		if p > 90 && float64(n)*(100-p)/100 < 1 {
			break
		}
		l.Curve = append(l.Curve, Quantile{p, at(p)})
	}
	return l
}

// ResultSchema is the JSON Schema (2020-12) of a Result.
func ResultSchema() []byte {
	root := resultSchema(reflect.TypeFor[Result](), "")
	root["$schema"], root["$id"], root["title"] = "https://json-schema.org/draft/2020-12/schema", "urn:gatehouse:load-result", "load result"
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // of our own making
	}
	return append(text, '\n')
}

func resultSchema(t reflect.Type, doc string) map[string]any {
	s := map[string]any{}
	if doc != "" {
		s["description"] = doc
	}
	switch {
	case t == reflect.TypeFor[*Mix]():
		s["type"] = "object"
	case t == reflect.TypeFor[time.Time]():
		s["type"], s["format"] = "string", "date-time"
	case t.Kind() == reflect.Pointer:
		s = resultSchema(t.Elem(), doc)
		s["type"] = []any{s["type"], "null"}
	case t.Kind() == reflect.Slice:
		s["type"], s["items"] = "array", resultSchema(t.Elem(), "")
	case t.Kind() == reflect.Map:
		s["type"], s["additionalProperties"] = "object", resultSchema(t.Elem(), "")
	case t.Kind() == reflect.Struct:
		properties, required := map[string]any{}, []string{}
		for _, f := range reflect.VisibleFields(t) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			properties[name] = resultSchema(f.Type, f.Tag.Get("doc"))
			required = append(required, name)
		}
		s["type"], s["properties"], s["required"] = "object", properties, required
	case t.Kind() == reflect.String:
		s["type"] = "string"
	case t.Kind() == reflect.Bool:
		s["type"] = "boolean"
	case t.Kind() == reflect.Float64:
		s["type"] = "number"
	default:
		s["type"] = "integer"
	}
	return s
}
