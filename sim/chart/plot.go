package chart

import (
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// The picture's measures, in its own pixels; the page scales it.
const (
	width, height            = 880.0, 300.0
	left, right, top, bottom = 74.0, 14.0, 10.0, 44.0
	pointsMax                = 1200 // of a series that are drawn: more would not be seen
	stackPointsMax           = 600
	tipsMax                  = 96 // places that say their values to a pointer, and rows of the table
	seriesMax, bandsMax      = 64, 2000
	xTicksAbout, yTicksAbout = 8, 5
	plotRight, plotBottom    = width - right, height - bottom
	tooFew                   = "nothing to show"
)

// A drawing is a plot while it is drawn.
type drawing struct {
	*writer
	p      Plot
	x, y   scale
	series []Series // cleaned: finite points, stacked ones with their bases
	bases  [][]Point
	colors []Color
	bands  []Band
}

// draw writes a plot as a figure. id is unique on the page.
func (p Plot) draw(w *writer, id string) {
	d := &drawing{writer: w, p: p}
	d.prepare()
	w.raw(`<figure class="plot"><figcaption>`)
	w.text(p.Title)
	w.raw(`</figcaption>`)
	note(w, p.Note)
	if !d.any() {
		w.raw(`<p class="empty">`, tooFew, `</p></figure>`, "\n")
		return
	}
	d.legend()
	w.raw(`<svg viewBox="0 0 `)
	w.num(width)
	w.raw(` `)
	w.num(height)
	w.raw(`" role="img" aria-label="`)
	w.text(d.summary())
	w.raw(`">`)
	d.drawBands()
	d.axes()
	clip := id + "-clip"
	w.raw(`<clipPath id="`, clip, `"><rect`)
	d.box(left, top, plotRight, plotBottom)
	w.raw(`/></clipPath><g clip-path="url(#`, clip, `)">`)
	for i := range d.series {
		d.drawSeries(i)
	}
	d.marks()
	w.raw(`</g>`)
	picks := d.picks()
	d.tips(picks)
	w.raw(`</svg>`)
	d.table(picks)
	w.raw(`</figure>`, "\n")
}

func note(w *writer, text string) {
	if text != "" {
		w.raw(`<p class="note">`)
		w.text(text)
		w.raw(`</p>`)
	}
}

func (d *drawing) any() bool {
	return slices.ContainsFunc(d.series, func(s Series) bool {
		return slices.ContainsFunc(s.Points, func(p Point) bool { return finite(p.Y) })
	})
}

// prepare cleans the points, stacks what is to be stacked and finds the axes' ranges.
func (d *drawing) prepare() {
	var next colorer
	bandColors := map[string]Color{}
	for _, s := range d.p.Series[:min(len(d.p.Series), seriesMax)] {
		s.Points = clean(s.Points)
		d.series = append(d.series, s)
		d.colors = append(d.colors, next.pick(s.Color))
	}
	for _, b := range d.p.Bands[:min(len(d.p.Bands), bandsMax)] {
		if !finite(b.From) || !finite(b.To) || b.From > b.To {
			continue
		}
		if _, known := bandColors[b.Name]; !known {
			bandColors[b.Name] = next.pick(b.Color)
		}
		b.Color = bandColors[b.Name]
		d.bands = append(d.bands, b)
	}
	d.stack()
	loX, hiX, loY, hiY := math.Inf(1), math.Inf(-1), math.Inf(1), math.Inf(-1)
	for i, s := range d.series {
		for j, p := range s.Points {
			loX, hiX = min(loX, p.X), max(hiX, p.X)
			if !finite(p.Y) || d.p.Y.Log && p.Y <= 0 {
				continue
			}
			loY, hiY = min(loY, p.Y), max(hiY, p.Y)
			if s.Kind >= Area && !d.p.Y.Log { // filled from 0
				loY, hiY = min(loY, 0), max(hiY, 0)
			}
			if s.Kind == Bars {
				hiX = max(hiX, p.X+barWidth(d.series[i].Points, j))
			}
		}
	}
	for _, m := range d.p.Marks {
		if finite(m.Y) && (!d.p.Y.Log || m.Y > 0) {
			loY, hiY = min(loY, m.Y), max(hiY, m.Y)
		}
	}
	if !d.p.Y.Log && loY > 0 && loY < hiY*0.8 {
		loY = 0 // an axis that does not begin at 0 exaggerates
	}
	d.x = newScale(d.p.X, loX, hiX, left, plotRight)
	d.y = newScale(d.p.Y, loY, hiY, plotBottom, top)
	if !d.y.log && d.y.unit != Percentile {
		step := niceStep(d.y.unit, (d.y.to-d.y.from)/yTicksAbout)
		d.y.from, d.y.to = math.Floor(d.y.from/step+1e-9)*step, math.Ceil(d.y.to/step-1e-9)*step
		if !(d.y.from < d.y.to) {
			d.y.to = d.y.from + step
		}
	}
}

// clean leaves the points that can be placed, in the order of X.
func clean(points []Point) []Point {
	ok := make([]Point, 0, len(points))
	for _, p := range points {
		if !finite(p.X) {
			continue
		}
		if !finite(p.Y) {
			p.Y = math.NaN()
		}
		ok = append(ok, p)
	}
	slices.SortStableFunc(ok, func(a, b Point) int {
		switch {
		case a.X < b.X:
			return -1
		case a.X > b.X:
			return 1
		}
		return 0
	})
	return ok
}

// stack puts the series of kind Stack on top of each other, at the places where any of
// them has a point.
func (d *drawing) stack() {
	d.bases = make([][]Point, len(d.series))
	var xs []float64
	for _, s := range d.series {
		if s.Kind == Stack {
			for _, p := range s.Points {
				xs = append(xs, p.X)
			}
		}
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	xs = d.thinStack(xs)
	sum := make([]float64, len(xs))
	for i, s := range d.series {
		if s.Kind != Stack {
			continue
		}
		base, points := make([]Point, len(xs)), make([]Point, len(xs))
		for j, x := range xs {
			v, ok := value(s, x)
			if !ok {
				v = 0
			}
			base[j] = Point{x, sum[j]}
			sum[j] = min(sum[j]+v, valueMax)
			points[j] = Point{x, sum[j]}
		}
		d.series[i].Points, d.bases[i] = points, base
	}
}

// thinStack keeps of many places those where the stack is highest, so that no peak is lost.
func (d *drawing) thinStack(xs []float64) []float64 {
	if len(xs) <= stackPointsMax {
		return xs
	}
	thin := make([]float64, 0, stackPointsMax+2)
	for i := range stackPointsMax {
		part := xs[i*len(xs)/stackPointsMax : (i+1)*len(xs)/stackPointsMax]
		best, highest := part[0], math.Inf(-1)
		for _, x := range part {
			total := 0.0
			for _, s := range d.series {
				if v, ok := value(s, x); ok && s.Kind == Stack {
					total += v
				}
			}
			if total > highest {
				best, highest = x, total
			}
		}
		thin = append(thin, best)
	}
	return append(thin, xs[len(xs)-1])
}

// value is what a series has at x, between two points on the line between them.
func value(s Series, x float64) (float64, bool) {
	i := sort.Search(len(s.Points), func(i int) bool { return s.Points[i].X > x }) - 1
	if i < 0 {
		return 0, false
	}
	p := s.Points[i]
	switch {
	case p.X == x || (s.Kind == Step || s.Kind == Bars) && (i+1 < len(s.Points) || x <= p.X+barWidth(s.Points, i)):
		return p.Y, finite(p.Y)
	case i+1 == len(s.Points):
		return 0, false
	}
	q := s.Points[i+1]
	v := p.Y + (q.Y-p.Y)*((x-p.X)/(q.X-p.X))
	return v, finite(v)
}

func barWidth(points []Point, i int) float64 {
	switch {
	case i+1 < len(points):
		return points[i+1].X - points[i].X
	case i > 0:
		return points[i].X - points[i-1].X
	}
	return 1
}

// thin leaves of a long line, in each of the picture's columns, the first, lowest, highest
// and last point: what is left looks the same.
func (d *drawing) thin(points []Point) []Point {
	if len(points) <= pointsMax {
		return points
	}
	columns := pointsMax / 4
	var out []Point
	for c := range columns {
		part := points[c*len(points)/columns : (c+1)*len(points)/columns]
		keep := map[int]bool{0: true, len(part) - 1: true}
		low, high := 0, 0
		for i, p := range part {
			if !finite(p.Y) {
				keep[i] = len(keep) < 6 // a gap stays one
				continue
			}
			if !(part[low].Y <= p.Y) {
				low = i
			}
			if !(part[high].Y >= p.Y) {
				high = i
			}
		}
		keep[low], keep[high] = true, true
		for i, p := range part {
			if keep[i] {
				out = append(out, p)
			}
		}
	}
	return out
}

// summary says in words what a reader of the screen would see.
func (d *drawing) summary() string {
	var b strings.Builder
	b.WriteString(d.p.Title + ". " + axisTitle(d.p.Y) + " over " + axisTitle(d.p.X) + ".")
	for i, s := range d.series {
		low, high, last := math.Inf(1), math.Inf(-1), math.NaN()
		for j, p := range s.Points {
			v := p.Y
			if d.bases[i] != nil {
				v -= d.bases[i][j].Y
			}
			if finite(v) {
				low, high, last = min(low, v), max(high, v), v
			}
		}
		if finite(low) && finite(high) {
			b.WriteString(" " + s.Name + ": from " + Format(d.p.Y.Unit, low) + " to " + Format(d.p.Y.Unit, high) + ", at the end " + Format(d.p.Y.Unit, last) + ".")
		}
	}
	if len(d.bands) > 0 {
		b.WriteString(" " + strconv.Itoa(len(d.bands)) + " bands: " + strings.Join(d.bandNames(), ", ") + ".")
	}
	return b.String()
}

func axisTitle(a Axis) string {
	if a.Label == "" {
		return map[Unit]string{Count: "count", PerSecond: "rate", Seconds: "latency", Elapsed: "time", Bytes: "size", Percent: "share", Percentile: "percentile"}[a.Unit]
	}
	return a.Label
}

// bandNames are the kinds of bands, in the order in which they first come.
func (d *drawing) bandNames() []string {
	var names []string
	for _, b := range d.bands {
		if !slices.Contains(names, b.Name) {
			names = append(names, b.Name)
		}
	}
	return names
}
