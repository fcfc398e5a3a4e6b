package iampolicy

import "strings"

// In a pattern these stand for any run of characters, and for any one.
const (
	anyRun rune = -1 - iota
	anyOne
)

// wild is text as a pattern: each * and ? is a wildcard.
func wild(text string) []rune {
	pattern := []rune(text)
	for i, r := range pattern {
		switch r {
		case '*':
			pattern[i] = anyRun
		case '?':
			pattern[i] = anyOne
		}
	}
	return pattern
}

// expand is text as a pattern in which variables have their values, which are taken
// literally. ok is false if one has no value, or more than one: then nothing is matched.
func expand(text string, ctx Context, variables bool) (pattern []rune, ok bool) {
	if !variables {
		return wild(text), true
	}
	for {
		before, rest, found := strings.Cut(text, "${")
		pattern = append(pattern, wild(before)...)
		if !found {
			return pattern, true
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, false
		}
		value, ok := valueOf(name, ctx)
		if !ok {
			return nil, false
		}
		pattern = append(pattern, []rune(value)...)
		text = after
	}
}

// valueOf is a variable's value: a key's, its default 'in quotes', or a sign that would
// be a wildcard without.
func valueOf(name string, ctx Context) (string, bool) {
	switch name {
	case "*", "?", "$":
		return name, true
	}
	key, fallback, given := strings.Cut(name, ",")
	switch values := ctx[strings.ToLower(strings.TrimSpace(key))]; {
	case len(values) == 1:
		return values[0], true
	case len(values) > 1 || !given:
		return "", false
	}
	fallback = strings.TrimSpace(fallback)
	if len(fallback) < 2 || fallback[0] != '\'' || fallback[len(fallback)-1] != '\'' {
		return "", false
	}
	return fallback[1 : len(fallback)-1], true
}

// matches says whether all of text fits the pattern, in at most len(pattern)·len(text)
// steps.
func matches(pattern []rune, text string) bool {
	given := []rune(text)
	p, t := 0, 0
	star, resume := -1, 0 // the last run, and how far it has reached
	for t < len(given) {
		switch {
		case p < len(pattern) && pattern[p] == anyRun:
			star, resume = p, t
			p++
		case p < len(pattern) && (pattern[p] == anyOne || pattern[p] == given[t]):
			p++
			t++
		case star >= 0:
			resume++
			p, t = star+1, resume
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == anyRun {
		p++
	}
	return p == len(pattern)
}
