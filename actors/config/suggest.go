package config

import "strings"

// nearest returns the candidate closest to word, or "" if none is close enough to be
// what the writer meant: a third of its letters may differ, two at least; or one is
// the other's beginning ("warning" for warn).
func nearest(word string, candidates []string) string {
	best, bestDistance := "", max(2, len(word)/3)+1
	for _, candidate := range candidates {
		a, b := strings.ToLower(word), strings.ToLower(candidate)
		d := distance(a, b)
		if min(len(a), len(b)) > 2 && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
			d = min(d, 1)
		}
		if d < bestDistance {
			best, bestDistance = candidate, d
		}
	}
	return best
}

// distance counts the insertions, deletions, replacements and swaps of neighbours
// that turn a into b (optimal string alignment). Long words are not compared: no key
// is that long.
func distance(a, b string) int {
	const lettersMax = 64
	if len(a) > lettersMax || len(b) > lettersMax {
		return len(a) + len(b)
	}
	var rows [3][lettersMax + 1]int // the row before the last, the last, the current
	before, last, current := &rows[0], &rows[1], &rows[2]
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(last[j]+1, current[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, last, current = last, current, before
	}
	return last[len(b)]
}
