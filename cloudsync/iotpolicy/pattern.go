package iotpolicy

import (
	"strings"
	"unicode/utf8"
)

// pattern is a text with '*' for any run of characters, '?' for any one of them, and
// variables ${name}. ${*}, ${?} and ${$} stand for the characters themselves.
type pattern struct {
	parts []part
}

type part struct {
	kind partKind
	text string // literal: the text; variable: as it was written, with ${}
	key  string // variable: its name
}

type partKind uint8

const (
	literal partKind = iota
	anyRun
	anyOne
	variable
)

func newPattern(text string) *pattern {
	p := &pattern{}
	for text != "" {
		i := strings.IndexAny(text, "*?$")
		if i != 0 {
			if i < 0 {
				i = len(text)
			}
			p.literal(text[:i])
			text = text[i:]
			continue
		}
		switch end := strings.IndexByte(text, '}'); {
		case text[0] == '*':
			p.parts = append(p.parts, part{kind: anyRun})
			text = text[1:]
		case text[0] == '?':
			p.parts = append(p.parts, part{kind: anyOne})
			text = text[1:]
		case !strings.HasPrefix(text, "${") || end < 0:
			p.literal("$")
			text = text[1:]
		default:
			if key := text[2:end]; key == "*" || key == "?" || key == "$" {
				p.literal(key)
			} else {
				p.parts = append(p.parts, part{kind: variable, text: text[:end+1], key: key})
			}
			text = text[end+1:]
		}
	}
	return p
}

// newLiteral is a pattern whose '*' and '?' stand for themselves.
func newLiteral(text string) *pattern {
	p := newPattern(text)
	for i := range p.parts {
		switch p.parts[i].kind {
		case anyRun:
			p.parts[i] = part{text: "*"}
		case anyOne:
			p.parts[i] = part{text: "?"}
		}
	}
	return p
}

func (p *pattern) literal(text string) { p.parts = append(p.parts, part{text: text}) }

// expand puts the context's values in place of the variables, as literal text: what is in
// them is never a wildcard. A variable without a value stays the text that it is (8.2),
// and is told to without.
func (p *pattern) expand(v *view) *expanded {
	e := &expanded{pieces: make([]piece, 1)}
	for _, part := range p.parts {
		last := &e.pieces[len(e.pieces)-1]
		switch part.kind {
		case anyRun:
			e.pieces = append(e.pieces, piece{})
		case anyOne:
			last.elements = append(last.elements, element{any: true})
		case variable:
			value, ok := v.variable(part.key)
			if !ok {
				value, e.open = part.text, true
			}
			last.add(value)
		default:
			last.add(part.text)
		}
	}
	return e
}

// expanded is a pattern without variables: what stands between its '*'.
type expanded struct {
	pieces []piece // at least one; the first is at the text's beginning, the last at its end
	open   bool    // a variable had no value
}

// piece is text with '?' in it: its elements in turn.
type piece struct {
	elements []element
}

type element struct {
	any  bool
	text string // unless any
}

func (p *piece) add(text string) {
	if n := len(p.elements); n > 0 && !p.elements[n-1].any {
		p.elements[n-1].text += text
	} else if text != "" {
		p.elements = append(p.elements, element{text: text})
	}
}

// matches says whether the whole text fits. Each piece takes the first place that it fits
// at; whatever a later one would leave to the rest, the first leaves too. So the text is
// gone through once.
func (e *expanded) matches(text string) bool {
	rest, ok := e.pieces[0].cutPrefix(text)
	if !ok || len(e.pieces) == 1 {
		return ok && rest == ""
	}
	last := len(e.pieces) - 1
	for i := 1; i < last; i++ {
		if rest, ok = e.pieces[i].cutFirst(rest); !ok {
			return false
		}
	}
	return e.pieces[last].isSuffix(rest)
}

// literal returns the text that alone matches; '?' and '*' are themselves again.
func (e *expanded) String() string {
	var b strings.Builder
	for i, p := range e.pieces {
		if i > 0 {
			b.WriteByte('*')
		}
		for _, element := range p.elements {
			if element.any {
				b.WriteByte('?')
			}
			b.WriteString(element.text)
		}
	}
	return b.String()
}

func (p *piece) cutPrefix(s string) (rest string, ok bool) {
	for _, e := range p.elements {
		if e.any {
			if s == "" {
				return "", false
			}
			_, n := utf8.DecodeRuneInString(s)
			s = s[n:]
		} else if s, ok = strings.CutPrefix(s, e.text); !ok {
			return "", false
		}
	}
	return s, true
}

// cutFirst returns what follows the first place where the piece fits.
func (p *piece) cutFirst(s string) (rest string, ok bool) {
	for {
		if len(p.elements) > 0 && !p.elements[0].any { // straight to the next candidate
			i := strings.Index(s, p.elements[0].text)
			if i < 0 {
				return "", false
			}
			s = s[i:]
		}
		if rest, ok = p.cutPrefix(s); ok || s == "" {
			return rest, ok
		}
		_, n := utf8.DecodeRuneInString(s)
		s = s[n:]
	}
}

func (p *piece) isSuffix(s string) (ok bool) {
	for i := len(p.elements) - 1; i >= 0; i-- {
		if e := p.elements[i]; e.any {
			if s == "" {
				return false
			}
			_, n := utf8.DecodeLastRuneInString(s)
			s = s[:len(s)-n]
		} else if s, ok = strings.CutSuffix(s, e.text); !ok {
			return false
		}
	}
	return true
}
