package chart

import (
	"math"
	"slices"
	"strconv"
)

// box writes a rectangle's attributes.
func (w *writer) box(x0, y0, x1, y1 float64) {
	w.attr("x", x0)
	w.attr("y", y0)
	w.attr("width", max(0, x1-x0))
	w.attr("height", max(0, y1-y0))
}

func (w *writer) line(class string, x0, y0, x1, y1 float64) {
	w.raw(`<line class="`, class, `"`)
	w.attr("x1", x0)
	w.attr("y1", y0)
	w.attr("x2", x1)
	w.attr("y2", y1)
	w.raw(`/>`)
}

func (w *writer) label(class string, x, y float64, text string) {
	w.raw(`<text class="`, class, `"`)
	w.attr("x", x)
	w.attr("y", y)
	w.raw(`>`)
	w.text(text)
	w.raw(`</text>`)
}

// axes draws grid, ticks and titles.
func (d *drawing) axes() {
	for _, t := range d.y.ticks(yTicksAbout) {
		d.line("grid", left, t.at, plotRight, t.at)
		d.label("tick y", left-8, t.at+4, t.name)
	}
	d.xAxis(d.x, d.p.X, plotBottom)
	d.line("axis", left, plotBottom, plotRight, plotBottom)
	d.raw(`<text class="title y" transform="translate(14 `)
	d.num((top + plotBottom) / 2)
	d.raw(`) rotate(-90)">`)
	d.text(axisTitle(d.p.Y))
	d.raw(`</text>`)
}

// xAxis draws the axis below a plot or timeline whose lower edge is at y.
func (w *writer) xAxis(s scale, a Axis, y float64) {
	for _, t := range s.ticks(xTicksAbout) {
		w.line("grid", t.at, top, t.at, y)
		w.line("axis", t.at, y, t.at, y+4)
		anchor := "tick x"
		if t.at > plotRight-20 {
			anchor = "tick x end"
		}
		w.label(anchor, t.at, y+17, t.name)
	}
	w.label("title x", (left+plotRight)/2, y+38, axisTitle(a))
}

// legend names series, bands and marks, if there is more than one thing to tell apart.
func (d *drawing) legend() {
	bands := d.bandNames()
	if len(d.series)+len(bands)+len(d.p.Marks) < 2 {
		return
	}
	d.raw(`<ul class="legend">`)
	for i, s := range d.series {
		kind := "line"
		if s.Kind >= Area {
			kind = "fill"
		}
		d.raw(`<li><span class="swatch `, kind, ` `, d.colors[i].class(), dash(i, s.Kind), `"></span>`)
		d.text(s.Name)
		d.raw(`</li>`)
	}
	for _, name := range bands {
		i := slices.IndexFunc(d.bands, func(b Band) bool { return b.Name == name })
		d.raw(`<li><span class="swatch band `, d.bands[i].Color.class(), `"></span>`)
		d.text(name)
		d.raw(`</li>`)
	}
	for _, m := range d.p.Marks {
		d.raw(`<li><span class="swatch mark"></span>`)
		d.text(m.Name)
		d.raw(`</li>`)
	}
	d.raw(`</ul>`)
}

// dash tells lines apart for who does not see their colors.
func dash(i int, k Kind) string {
	if k >= Area || i%4 == 0 {
		return ""
	}
	return " dash" + strconv.Itoa(i%4)
}

func (d *drawing) drawBands() {
	for _, b := range d.bands {
		if b.To < d.x.from || b.From > d.x.to {
			continue
		}
		from, to := d.x.at(b.From), d.x.at(b.To)
		d.raw(`<rect class="band `, b.Color.class(), `"`)
		d.box(from, top, max(to, from+1.5), plotBottom)
		d.raw(`/>`)
	}
}

func (d *drawing) drawSeries(i int) {
	s, class := d.series[i], d.colors[i].class()
	switch s.Kind {
	case Bars:
		for j, p := range s.Points {
			if finite(p.Y) && p.Y != 0 {
				d.raw(`<rect class="bar `, class, `"`)
				zero := d.y.at(0)
				y := d.y.at(p.Y)
				d.box(d.x.at(p.X)+0.5, min(y, zero), d.x.at(p.X+barWidth(s.Points, j))-0.5, max(y, zero))
				d.raw(`/>`)
			}
		}
	case Area, Stack:
		base := d.bases[i]
		points := s.Points
		if s.Kind == Area {
			points = d.thin(points)
		}
		d.fill(points, base, class)
		d.path(points, `class="edge `+class+`"`, false)
	default:
		d.path(d.thin(s.Points), `class="series `+class+dash(i, s.Kind)+`"`, s.Kind == Step)
	}
}

// runs are the stretches of points without a gap.
func runs(points []Point) [][2]int {
	var all [][2]int
	for i := 0; i < len(points); {
		if !finite(points[i].Y) {
			i++
			continue
		}
		j := i
		for j < len(points) && finite(points[j].Y) {
			j++
		}
		all = append(all, [2]int{i, j})
		i = j
	}
	return all
}

// path draws a line through the points; alone between gaps, one is a dot.
func (d *drawing) path(points []Point, attributes string, step bool) {
	all := runs(points)
	if len(all) == 0 {
		return
	}
	d.raw(`<path `, attributes, ` d="`)
	for _, r := range all {
		for j, p := range points[r[0]:r[1]] {
			x, y := d.x.at(p.X), d.y.at(p.Y)
			switch {
			case j == 0:
				d.raw("M")
				d.xy(x, y)
				if r[1]-r[0] == 1 {
					d.raw("h0.1")
				}
			case step:
				d.raw("H")
				d.num(x)
				d.raw("V")
				d.num(y)
			default:
				d.raw("L")
				d.xy(x, y)
			}
		}
	}
	d.raw(`"/>`)
}

func (d *drawing) xy(x, y float64) {
	d.num(x)
	d.raw(" ")
	d.num(y)
}

// fill draws the surface between the points and their base, or the axis.
func (d *drawing) fill(points, base []Point, class string) {
	all := runs(points)
	if len(all) == 0 {
		return
	}
	d.raw(`<path class="fill `, class, `" d="`)
	for _, r := range all {
		for j, p := range points[r[0]:r[1]] {
			d.raw([]string{"L", "M"}[btoi(j == 0)])
			d.xy(d.x.at(p.X), d.y.at(p.Y))
		}
		for j := r[1] - 1; j >= r[0]; j-- {
			y := max(d.y.from, min(0, d.y.to))
			if base != nil {
				y = base[j].Y
			}
			d.raw("L")
			d.xy(d.x.at(points[j].X), d.y.at(y))
		}
		d.raw("Z")
	}
	d.raw(`"/>`)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (d *drawing) marks() {
	for _, m := range d.p.Marks {
		if finite(m.Y) {
			d.line("mark", left, d.y.at(m.Y), plotRight, d.y.at(m.Y))
		}
	}
}

// picks are the places whose values a pointer and the table are told.
func (d *drawing) picks() []float64 {
	var xs []float64
	for _, s := range d.series {
		for _, p := range s.Points {
			xs = append(xs, p.X)
		}
	}
	slices.Sort(xs)
	xs = slices.Compact(xs)
	if len(xs) <= tipsMax {
		return xs
	}
	// One for each stretch of the axis, so that dense and empty parts are served alike.
	var out []float64
	column := -1
	for _, x := range xs {
		if c := int((d.x.at(x) - left) / (plotRight - left) * tipsMax); c != column {
			out, column = append(out, x), c
		}
	}
	return out
}

// said are the values at x as people read them, in the order of the series.
func (d *drawing) said(x float64) []string {
	out := make([]string, len(d.series))
	for i, s := range d.series {
		v, ok := value(s, x)
		if !ok {
			out[i] = "–"
			continue
		}
		if d.bases[i] != nil {
			b, _ := value(Series{Points: d.bases[i]}, x)
			v -= b
		}
		out[i] = Format(d.y.unit, v)
	}
	return out
}

// tips are stretches of the plot that show a line and say the values there while a pointer
// rests on them.
func (d *drawing) tips(picks []float64) {
	d.raw(`<g class="tips">`)
	for i, x := range picks {
		at := d.x.at(x)
		from, to := left, plotRight
		if i > 0 {
			from = (d.x.at(picks[i-1]) + at) / 2
		}
		if i+1 < len(picks) {
			to = (d.x.at(picks[i+1]) + at) / 2
		}
		text := Format(d.x.unit, x)
		for j, v := range d.said(x) {
			text += "\n" + d.series[j].Name + ": " + v
		}
		text += d.bandsAt(from, to)
		d.raw(`<g class="tip"><rect`)
		d.box(math.Floor(from), top, math.Ceil(to), plotBottom)
		d.raw(`><title>`)
		d.text(text)
		d.raw(`</title></rect>`)
		d.line("guide", at, top, at, plotBottom)
		d.raw(`</g>`)
	}
	d.raw(`</g>`)
}

// bandsAt names the bands between two places of the picture.
func (d *drawing) bandsAt(from, to float64) string {
	const most = 8
	text, n := "", 0
	for _, b := range d.bands {
		if d.x.at(b.To) < from || d.x.at(b.From) > to || b.To < d.x.from || b.From > d.x.to {
			continue
		}
		if n++; n > most {
			return text + "\n…"
		}
		text += "\n" + b.Name + ", " + Format(d.x.unit, b.From) + " to " + Format(d.x.unit, b.To)
	}
	return text
}

// table is the same for who cannot see the picture or wants to copy numbers.
func (d *drawing) table(picks []float64) {
	d.raw(`<details><summary>the numbers</summary><div class="scroll"><table><thead><tr><th scope="col">`)
	d.text(axisTitle(d.p.X))
	d.raw(`</th>`)
	for _, s := range d.series {
		d.raw(`<th scope="col">`)
		d.text(s.Name)
		d.raw(`</th>`)
	}
	d.raw(`</tr></thead><tbody>`)
	for _, x := range picks {
		d.raw(`<tr><th scope="row">`)
		d.text(Format(d.x.unit, x))
		d.raw(`</th>`)
		for _, v := range d.said(x) {
			d.raw(`<td>`)
			d.text(v)
			d.raw(`</td>`)
		}
		d.raw(`</tr>`)
	}
	d.raw(`</tbody></table></div></details>`)
}
