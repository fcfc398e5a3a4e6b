package chart

import (
	"html"
	"strconv"
	"strings"
)

// writer collects markup. What it writes is HTML and well-formed XML at once, so that a
// test can read it strictly.
type writer struct{ strings.Builder }

// raw writes markup of our own.
func (w *writer) raw(parts ...string) {
	for _, p := range parts {
		w.WriteString(p)
	}
}

// text writes what comes from outside, as text or as an attribute's value.
func (w *writer) text(s string) { w.WriteString(escape(s)) }

// num writes a coordinate.
func (w *writer) num(v float64) {
	if v == 0 {
		v = 0 // not -0
	}
	s := strconv.FormatFloat(v, 'f', 1, 64)
	w.WriteString(strings.TrimSuffix(s, ".0"))
}

// attr writes a numeric attribute.
func (w *writer) attr(name string, v float64) {
	w.raw(" ", name, `="`)
	w.num(v)
	w.raw(`"`)
}

// textMax bounds one text on the page, in bytes.
const textMax = 64 << 10

// escape makes s safe within text and quoted attributes. What XML cannot carry (controls,
// broken UTF-8) is replaced, and so is what turns the direction of the text around it.
func escape(s string) string {
	if len(s) > textMax {
		s = s[:textMax] + "…"
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\t':
			return r
		case r < 0x20, r >= 0x7f && r < 0xa0, r == 0xfffe, r == 0xffff,
			r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
			return '\uFFFD'
		}
		return r
	}, s)
	return html.EscapeString(s)
}
