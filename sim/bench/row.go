package main

import (
	"fmt"
	"strings"
	"time"
)

// A Bound is what a ratio is held against.
type Bound struct {
	AtLeast bool // else at most
	Value   float64
}

func atLeast(v float64) *Bound { return &Bound{true, v} }
func atMost(v float64) *Bound  { return &Bound{false, v} }

func (b *Bound) met(v float64) bool {
	if b.AtLeast {
		return v >= b.Value
	}
	return v <= b.Value
}

// String spells the bound; none is a dash.
func (b *Bound) String() string {
	switch {
	case b == nil:
		return "-"
	case b.AtLeast:
		return fmt.Sprintf(">= %.4g", b.Value)
	default:
		return fmt.Sprintf("<= %.4g", b.Value)
	}
}

// MarshalText writes the bound as it is printed.
func (b *Bound) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// A Row is one line of the result: one measure of ours beside the reference's, and the
// bounds of design.md, section 13.
type Row struct {
	Name      string     `json:"name"`
	Unit      string     `json:"unit"`      // of Ours and Reference
	Ours      float64    `json:"ours"`      // median over the rounds
	Reference float64    `json:"reference"` // median over the rounds; 0: there is none
	Ratio     float64    `json:"ratio"`     // median of the rounds' ratios; without reference, Ours
	Spread    [2]float64 `json:"spread"`    // the smallest and the largest ratio of a round
	Hold      *Bound     `json:"hold,omitempty"`
	Aim       *Bound     `json:"aim,omitempty"`
	Verdict   string     `json:"verdict"` // aim, holds, misses; info without bounds
	Note      string     `json:"note,omitempty"`
}

// judged fills in the verdict.
func (r Row) judged() Row {
	switch {
	case r.Hold == nil && r.Aim == nil:
		r.Verdict = "info"
	case r.Aim != nil && r.Aim.met(r.Ratio):
		r.Verdict = "aim"
	case r.Hold != nil && r.Hold.met(r.Ratio):
		r.Verdict = "holds"
	default:
		r.Verdict = "misses"
	}
	return r
}

func (r Row) line() string {
	reference := "-"
	if r.Reference != 0 {
		reference = short(r.Reference) + r.Unit
	}
	return strings.Join([]string{
		r.Name, short(r.Ours) + r.Unit, reference, short(r.Ratio), r.Hold.String(), r.Aim.String(), r.Verdict,
		short(r.Spread[0]) + ".." + short(r.Spread[1]), r.Note,
	}, "\t")
}

// short prints a number with three digits that count.
func short(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

// throughput compares rates: the ratio is ours to the reference's.
func throughput(name string, ours, reference []sample, hold, aim *Bound) Row {
	r := paired(name, "/s", ours, reference, sample.rate, func(o, r float64) float64 { return o / r }, hold, aim)
	r.Note = fmt.Sprintf("processor time: %s us ours, %s us reference", short(median(each(ours, sample.work))), short(median(each(reference, sample.work))))
	return r
}

// speedup compares times of one operation: the ratio says how many times faster ours is.
func speedup(name string, ours, reference []sample, hold, aim *Bound) Row {
	return paired(name, "ns", ours, reference, sample.each, func(o, r float64) float64 { return r / o }, hold, aim)
}

// latency compares the 99th percentiles: the ratio is ours to the reference's.
func latency(name string, ours, reference []sample, hold, aim *Bound) Row {
	return paired(name, "us", ours, reference, sample.p99, func(o, r float64) float64 { return o / r }, hold, aim)
}

// alone holds a measure of ours against a number.
func alone(name, unit string, ours []sample, of func(sample) float64, hold, aim *Bound) Row {
	r := paired(name, unit, ours, ours, of, func(o, _ float64) float64 { return o }, hold, aim)
	r.Reference = 0
	return r
}

func paired(name, unit string, ours, reference []sample, of func(sample) float64, ratio func(o, r float64) float64, hold, aim *Bound) Row {
	os, rs := each(ours, of), each(reference, of)
	var ratios []float64
	for i := range os {
		ratios = append(ratios, ratio(os[i], rs[i]))
	}
	row := Row{Name: name, Unit: unit, Ours: median(os), Reference: median(rs), Ratio: median(ratios), Hold: hold, Aim: aim}
	row.Spread = [2]float64{quantile(ratios, 0), quantile(ratios, 1)}
	return row.judged()
}

func each(samples []sample, of func(sample) float64) []float64 {
	all := make([]float64, len(samples))
	for i, s := range samples {
		all[i] = of(s)
	}
	return all
}

// micros is d in microseconds.
func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
