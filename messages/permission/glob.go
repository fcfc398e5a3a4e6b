package permission

import "strings"

// Matches says whether pattern, in which '*' stands for any run of characters, matches
// the whole text. A Set does the same for many patterns at once.
func Matches(pattern, text string) bool { return matches(pattern, text) }

// A segment is the text between two '*' of a resource. Most are plain; one that holds
// the variable is kept in pieces, with the variable's value between each two, so that
// one compiled form serves every thing.
type segment struct {
	text   string   // when pieces is nil
	pieces []string // two or more, or nil
}

// splitResource cuts a permission's resource at its '*'. Runs of '*' count as one
// (client-device-auth spec 3.1). One segment means that there is none. With template,
// each ThingNameVariable stands for a value that comes with the request.
func splitResource(resource string, template bool) []segment {
	var segments []segment
	for {
		text, rest, star := strings.Cut(resource, "*")
		seg := segment{text: text}
		if template && strings.Contains(text, ThingNameVariable) {
			seg = segment{pieces: strings.Split(text, ThingNameVariable)}
		}
		segments = append(segments, seg)
		if !star {
			return segments
		}
		resource = strings.TrimLeft(rest, "*")
	}
}

// isEmpty says that the segment matches the empty text and no other, as the last one of
// "a*" does.
func (g *segment) isEmpty() bool { return g.pieces == nil && g.text == "" }

// cutSuffix returns s without the segment at its end.
func (g *segment) cutSuffix(s, value string) (string, bool) {
	if g.pieces == nil {
		return strings.CutSuffix(s, g.text)
	}
	for i := len(g.pieces) - 1; ; i-- {
		var ok bool
		if s, ok = strings.CutSuffix(s, g.pieces[i]); !ok {
			return "", false
		}
		if i == 0 {
			return s, true
		}
		if s, ok = strings.CutSuffix(s, value); !ok {
			return "", false
		}
	}
}

// cutFirst returns what follows the segment's first occurrence in s.
func (g *segment) cutFirst(s, value string) (string, bool) {
	if g.pieces == nil {
		_, after, found := strings.Cut(s, g.text)
		return after, found
	}
	// The substituted text lives on the stack unless it is unusually long.
	var buf [256]byte
	text := append(buf[:0], g.pieces[0]...)
	for _, piece := range g.pieces[1:] {
		text = append(append(text, value...), piece...)
	}
	i := strings.Index(s, viewString(text))
	if i < 0 {
		return "", false
	}
	return s[i+len(text):], true
}

// A tail is what follows a pattern's first '*'.
type tail struct {
	segments []segment // at least one; the last is anchored to the end
	rule     int32
}

// matches says whether the tail can be laid over s. Taking the first occurrence of each
// middle segment is enough: whatever a later one would leave to the rest, the first
// leaves too. So s is read once, and never again after a failure.
func (t *tail) matches(s, value string) bool {
	last := len(t.segments) - 1
	s, ok := t.segments[last].cutSuffix(s, value)
	if !ok {
		return false
	}
	for i := range last {
		if s, ok = t.segments[i].cutFirst(s, value); !ok {
			return false
		}
	}
	return true
}
