package chart

import (
	"math"
	"strconv"
	"strings"
)

// A scale maps the values of an axis to pixels from lo to hi.
type scale struct {
	unit           Unit
	log            bool
	from, to       float64 // values, from < to
	pixFrom, pixTo float64
}

// The most an axis goes to: beyond it arithmetic would overflow.
const valueMax = 1e300

// percentileMax is where the axis of percentiles ends at the latest: a millionth of a
// millionth is more than anybody counts.
const percentileMax = 100 - 1e-10

func finite(v float64) bool { return !math.IsNaN(v) && math.Abs(v) <= valueMax }

// newScale fits a scale to the values between low and high.
func newScale(a Axis, low, high, pixFrom, pixTo float64) scale {
	if a.From != a.To && finite(a.From) && finite(a.To) {
		low, high = min(low, a.From, a.To), max(high, a.From, a.To)
	}
	s := scale{unit: a.Unit, log: a.Log && a.Unit != Percentile, from: low, to: high, pixFrom: pixFrom, pixTo: pixTo}
	switch {
	case !finite(low) || !finite(high) || low > high:
		s.from, s.to = 0, 1
		if s.log {
			s.from = 0.1
		}
	case s.unit == Percentile:
		s.from, s.to = max(0, min(low, percentileMax)), max(0, min(high, percentileMax))
	case s.log:
		s.to = max(high, 1e-30)
		s.from = min(max(low, s.to*1e-12), s.to)
		s.from = math.Pow(10, math.Floor(math.Log10(s.from)+1e-9))
	}
	if !(s.place(s.from) < s.place(s.to)) {
		s.to = s.from + max(1, math.Abs(s.from)/10)
		switch {
		case s.unit == Percentile:
			s.from, s.to = 0, 90
		case s.log:
			s.to = s.from * 10
		}
	}
	return s
}

// at is where a value stands, in pixels; outside of the axis it stands at its end.
func (s scale) at(v float64) float64 {
	v = min(max(v, s.from), s.to)
	a, b, x := s.place(s.from), s.place(s.to), s.place(v)
	return s.pixFrom + (x-a)/(b-a)*(s.pixTo-s.pixFrom)
}

func (s scale) place(v float64) float64 {
	switch {
	case s.unit == Percentile:
		return -math.Log10(1 - v/100)
	case s.log:
		return math.Log10(v)
	}
	return v
}

// A tick is a place of an axis with its name.
type tick struct {
	at   float64 // pixels
	name string
}

// ticks are about n places that people like to read.
func (s scale) ticks(n int) []tick {
	var values []float64
	switch {
	case s.unit == Percentile:
		for _, p := range []float64{0, 50, 90, 99, 99.9, 99.99, 99.999, 99.9999, 99.99999} {
			if p >= s.from && p <= s.to {
				values = append(values, p)
			}
		}
	case s.log:
		first, last := math.Ceil(math.Log10(s.from)-1e-9), math.Floor(math.Log10(s.to)+1e-9)
		every := max(1, math.Ceil((last-first+1)/float64(2*n)))
		for e := first; e <= last; e += every {
			values = append(values, math.Pow(10, e))
		}
	default:
		step := niceStep(s.unit, (s.to-s.from)/float64(n))
		for i := math.Ceil(s.from/step - 1e-9); i*step <= s.to+step*1e-9 && len(values) <= 4*n; i++ {
			values = append(values, i*step)
		}
	}
	ticks := make([]tick, len(values))
	for i, v := range values {
		ticks[i] = tick{s.at(v), Format(s.unit, v)}
	}
	return ticks
}

// niceStep is the smallest pleasant distance of at least least.
func niceStep(u Unit, least float64) float64 {
	if u == Elapsed && least > 1 {
		for _, step := range []float64{2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400} {
			if step >= least {
				return step
			}
		}
		return 86400 * niceStep(Count, least/86400)
	}
	base := 10.0
	if u == Bytes && least > 1 {
		return math.Pow(2, math.Ceil(math.Log2(least)-1e-9))
	}
	if u == Count || u == PerSecond {
		least = max(least, 1e-6)
	}
	decade := math.Pow(base, math.Floor(math.Log10(max(least, 1e-290))))
	for _, m := range []float64{1, 2, 5} {
		if m*decade >= least*(1-1e-9) {
			return m * decade
		}
	}
	return 10 * decade
}

// Format writes a value of a unit as people read it, with three digits that count.
func Format(u Unit, v float64) string {
	switch {
	case v == 0:
		v = 0 // not -0
	case math.IsNaN(v):
		return "–"
	case v < 0:
		return "−" + Format(u, -v)
	case math.IsInf(v, 1):
		return "∞"
	}
	switch u {
	case PerSecond:
		return prefixed(v, 1000, "", "k", "M", "G", "T") + "/s"
	case Seconds:
		return latency(v)
	case Elapsed:
		return elapsed(v)
	case Bytes:
		return prefixed(v, 1024, " B", " KiB", " MiB", " GiB", " TiB")
	case Percent, Percentile:
		return strconv.FormatFloat(v, 'f', -1, 32) + " %"
	}
	return prefixed(v, 1000, "", "k", "M", "G", "T")
}

func prefixed(v, base float64, names ...string) string {
	i := 0
	for i+1 < len(names) && rounded(v) >= base {
		v, i = v/base, i+1
	}
	return digits(v) + names[i]
}

// rounded is v with three digits that count, but no fewer than those before the point.
func rounded(v float64) float64 {
	if v >= 100 {
		return math.Round(v)
	}
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64)
	return r
}

func digits(v float64) string {
	r := rounded(v)
	if r != 0 && r < 1e-6 || r >= 1e15 {
		return strconv.FormatFloat(r, 'g', 3, 64)
	}
	return strconv.FormatFloat(r, 'f', -1, 64)
}

func latency(v float64) string {
	switch {
	case v == 0:
		return "0 s"
	case rounded(v*1e9) < 1000:
		return digits(v*1e9) + " ns"
	case rounded(v*1e6) < 1000:
		return digits(v*1e6) + " µs"
	case rounded(v*1e3) < 1000:
		return digits(v*1e3) + " ms"
	}
	return digits(v) + " s"
}

// elapsed writes a time by its two largest parts: 1 h 30 min.
func elapsed(v float64) string {
	if v < 60 || v > 1e15 {
		return latency(v)
	}
	parts := []struct {
		name    string
		seconds int64
	}{{"d", 86400}, {"h", 3600}, {"min", 60}, {"s", 1}}
	left := int64(math.Round(v))
	var words []string
	for _, p := range parts {
		n := left / p.seconds
		left %= p.seconds
		if n > 0 {
			words = append(words, strconv.FormatInt(n, 10)+" "+p.name)
		}
		if len(words) == 2 || len(words) == 1 && n == 0 {
			break
		}
	}
	return strings.Join(words, " ")
}
