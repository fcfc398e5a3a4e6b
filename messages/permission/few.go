package permission

import "strings"

// few is one of a few permissions, as it was written. What a broker holds of each connected
// device is a handful: compiled they would take some two kilobytes, and be no faster.
type few struct {
	operation, resource string
	rule                int32
}

// fewMax is up to how many permissions are compared one by one.
const fewMax = 8

// matchFew is Match in a Set that is not compiled.
func (s *Set) matchFew(r Request) int {
	for i := range s.few {
		p := &s.few[i]
		if p.covers(r) && matches(p.resource, r.resource) {
			return int(p.rule)
		}
	}
	return -1
}

// covers says whether the permission's operation is that of the request: resourcesOf has
// the rule.
func (p *few) covers(r Request) bool {
	if p.operation == "*" || p.operation == r.operation {
		return true
	}
	service, ok := strings.CutSuffix(p.operation, ":*")
	return ok && service == r.service
}

// matches is Matches: whether pattern, in which each '*' stands for any run of characters, matches
// the whole text. It reads the text once.
func matches(pattern, text string) bool {
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, head)
	if !ok {
		return false
	}
	last := strings.LastIndexByte(rest, '*')
	if text, ok = strings.CutSuffix(text, rest[last+1:]); !ok {
		return false
	}
	for rest = rest[:max(last, 0)]; rest != ""; {
		var middle string
		middle, rest, _ = strings.Cut(rest, "*")
		if _, text, ok = strings.Cut(text, middle); !ok {
			return false
		}
	}
	return true
}
