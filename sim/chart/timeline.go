package chart

import "math"

const (
	laneHeight, laneGap = 18.0, 6.0
	lanesMax, spansMax  = 64, 2000
)

func (t Timeline) draw(w *writer, _ string) {
	w.raw(`<figure class="plot"><figcaption>`)
	w.text(t.Title)
	w.raw(`</figcaption>`)
	note(w, t.Note)
	lanes := t.Lanes[:min(len(t.Lanes), lanesMax)]
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range lanes {
		for _, s := range l.Spans {
			if finite(s.From) && finite(s.To) {
				low, high = min(low, s.From), max(high, s.To)
			}
		}
	}
	if !finite(low) && (t.X.From == t.X.To || len(lanes) == 0) {
		w.raw(`<p class="empty">`, tooFew, `</p></figure>`, "\n")
		return
	}
	const names = 150.0 // the lanes' names need more room than numbers
	s := newScale(t.X, low, high, names, plotRight)
	end := top + float64(len(lanes))*(laneHeight+laneGap)
	w.raw(`<svg viewBox="0 0 `)
	w.num(width)
	w.raw(` `)
	w.num(end + bottom)
	w.raw(`" role="img" aria-label="`)
	w.text(t.Title)
	w.raw(`">`)
	w.xAxis(s, t.X, end)
	w.line("axis", names, end, plotRight, end)
	var next colorer
	for i, l := range lanes {
		y := top + float64(i)*(laneHeight+laneGap)
		w.label("lane", names-10, y+laneHeight-5, cut(l.Name, 22))
		w.line("grid", names, y+laneHeight/2, plotRight, y+laneHeight/2)
		class := next.pick(l.Color).class()
		for _, span := range l.Spans[:min(len(l.Spans), spansMax)] {
			if finite(span.From) && finite(span.To) {
				drawSpan(w, s, l, span, class, y)
			}
		}
	}
	w.raw(`</svg></figure>`, "\n")
}

func drawSpan(w *writer, s scale, l Lane, span Span, class string, y float64) {
	from, to := s.at(min(span.From, span.To)), s.at(max(span.From, span.To))
	w.raw(`<rect class="bar `, class, `"`)
	w.box(from, y, max(to, from+2), y+laneHeight)
	w.raw(`><title>`)
	text := l.Name + ": " + Format(s.unit, span.From)
	if span.To != span.From {
		text += " to " + Format(s.unit, span.To)
	}
	if span.Note != "" {
		text += "\n" + span.Note
	}
	w.text(text)
	w.raw(`</title></rect>`)
}

// cut shortens a name to n characters.
func cut(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}
