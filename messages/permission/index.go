package permission

import "strings"

const (
	// indexMin is the number of tails at a node from which on an index pays.
	indexMin = 8
	// keyMaxBytes bounds an index's depth, and so the work at each byte of a request.
	keyMaxBytes = 16
	// triedMax is how many buckets of an index one search remembers.
	triedMax = 32
)

// An index finds the few tails that can match a text among many that share a beginning:
// it files each under a literal text that must occur in what the tail matches, and looks
// for all these texts in one pass.
type index struct {
	starts  [256]bool // the first bytes of all keys
	keys    *node     // a trie of the keys; exact is the bucket
	buckets [][]tail
	unkeyed []tail // those without a literal text
}

// newIndex files tails under the key that the fewest of them have: the constant parts
// of a family of patterns tell nothing apart.
func newIndex(tails []tail) *index {
	users := make(map[string]int)
	for i := range tails {
		for _, key := range tails[i].keys() {
			users[key]++
		}
	}
	x := &index{keys: newNode("")}
	for _, t := range tails {
		best := ""
		for _, key := range t.keys() {
			if best == "" || users[key] < users[best] || users[key] == users[best] && len(key) > len(best) {
				best = key
			}
		}
		if best == "" {
			x.unkeyed = append(x.unkeyed, t)
			continue
		}
		x.starts[best[0]] = true
		at := x.keys.descend(best)
		if at.exact == none {
			at.exact = int32(len(x.buckets))
			x.buckets = append(x.buckets, nil)
		}
		x.buckets[at.exact] = append(x.buckets[at.exact], t)
	}
	return x
}

// keys lists literal texts that occur in whatever the tail matches: both ends of each
// piece, cut to keyMaxBytes.
func (t *tail) keys() []string {
	var keys []string
	add := func(text string) {
		if len(text) > keyMaxBytes {
			keys = append(keys, text[len(text)-keyMaxBytes:])
			text = text[:keyMaxBytes]
		}
		if text != "" {
			keys = append(keys, text)
		}
	}
	for i := range t.segments {
		add(t.segments[i].text)
		for _, piece := range t.segments[i].pieces {
			add(piece)
		}
	}
	return keys
}

// find returns a permission whose tail matches s, or none.
func (x *index) find(s, value string) int32 {
	if rule := firstMatch(x.unkeyed, s, value); rule != none {
		return rule
	}
	var tried [triedMax]int32 // a bucket is looked into once, however often its key occurs
	count := 0
	for i := range len(s) {
		if !x.starts[s[i]] {
			continue
		}
		for n, rest := x.keys, s[i:]; ; {
			if n = n.step(&rest); n == nil {
				break
			}
			if n.exact == none || contains(tried[:count], n.exact) {
				continue
			}
			if count == triedMax {
				return x.findSlowly(s, value)
			}
			tried[count] = n.exact
			count++
			if rule := firstMatch(x.buckets[n.exact], s, value); rule != none {
				return rule
			}
		}
	}
	return none
}

// findSlowly tries everything, for the rare text that holds more keys than find can
// remember to have tried.
func (x *index) findSlowly(s, value string) int32 {
	for _, bucket := range x.buckets {
		if rule := firstMatch(bucket, s, value); rule != none {
			return rule
		}
	}
	return none
}

func firstMatch(tails []tail, s, value string) int32 {
	for i := range tails {
		if t := &tails[i]; t.matches(s, value) {
			return t.rule
		}
	}
	return none
}

func contains(list []int32, x int32) bool {
	for _, y := range list {
		if x == y {
			return true
		}
	}
	return false
}

// step follows the edge that s begins with, if there is one, and cuts its label off s.
func (n *node) step(s *string) *node {
	if *s == "" {
		return nil
	}
	i := strings.IndexByte(n.first, (*s)[0])
	if i < 0 {
		return nil
	}
	n = n.children[i]
	rest, ok := strings.CutPrefix(*s, n.label)
	if !ok {
		return nil
	}
	*s = rest
	return n
}

// seal builds the indexes of n and all below it, once everything is inserted.
func (n *node) seal() {
	if n == nil {
		return
	}
	if len(n.tails) >= indexMin {
		n.index, n.tails = newIndex(n.tails), nil
	}
	n.variable.seal()
	for _, child := range n.children {
		child.seal()
	}
}
