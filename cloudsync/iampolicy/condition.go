package iampolicy

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// condition is one key of a Condition element with its values.
type condition struct {
	operator operator
	key      string // lower case
	values   []string
}

// operator is a condition operator, taken apart.
type operator struct {
	kind     *kind
	test     func(given string, pattern []rune, plain string) bool
	negated  bool
	ifExists bool   // holds where the key is absent
	each     string // the set operator before it
}

// kind is what the values of an operator are.
type kind struct {
	name  string
	valid func(string) bool
}

var (
	anyText = &kind{"a text", func(string) bool { return true }} // the only kind whose values may hold variables
	aNumber = &kind{"a number", func(v string) bool { _, ok := parseNumber(v); return ok }}
	aDate   = &kind{"a date", func(v string) bool { _, ok := parseDate(v); return ok }}
	aTruth  = &kind{"true or false", func(v string) bool { return strings.EqualFold(v, "true") || strings.EqualFold(v, "false") }}
	aNull   = &kind{"true or false", func(v string) bool { return v == "true" || v == "false" }}
	aBinary = &kind{"base64", func(v string) bool { _, err := base64.StdEncoding.DecodeString(v); return err == nil }}
	aPlace  = &kind{"an address or a network", func(v string) bool {
		_, err := netip.ParsePrefix(v)
		return err == nil || address(v, nil, v)
	}}
)

// The set operators, for keys of several values.
const (
	forAll = "ForAllValues:"
	forAny = "ForAnyValue:"
)

// operators are those that are not the negation of another, and what each is called if it
// has one.
var operators = func() map[string]operator {
	all := map[string]operator{}
	for _, o := range []struct {
		name, not string
		kind      *kind
		test      func(given string, pattern []rune, plain string) bool
	}{
		{"StringEquals", "StringNotEquals", anyText, equal},
		{"StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", anyText, equalFold},
		{"StringLike", "StringNotLike", anyText, like},
		{"ArnEquals", "ArnNotEquals", anyText, arnLike}, // they are the same
		{"ArnLike", "ArnNotLike", anyText, arnLike},
		{"NumericEquals", "NumericNotEquals", aNumber, numeric(func(c int) bool { return c == 0 })},
		{"NumericLessThan", "", aNumber, numeric(func(c int) bool { return c < 0 })},
		{"NumericLessThanEquals", "", aNumber, numeric(func(c int) bool { return c <= 0 })},
		{"NumericGreaterThan", "", aNumber, numeric(func(c int) bool { return c > 0 })},
		{"NumericGreaterThanEquals", "", aNumber, numeric(func(c int) bool { return c >= 0 })},
		{"DateEquals", "DateNotEquals", aDate, date(func(c int) bool { return c == 0 })},
		{"DateLessThan", "", aDate, date(func(c int) bool { return c < 0 })},
		{"DateLessThanEquals", "", aDate, date(func(c int) bool { return c <= 0 })},
		{"DateGreaterThan", "", aDate, date(func(c int) bool { return c > 0 })},
		{"DateGreaterThanEquals", "", aDate, date(func(c int) bool { return c >= 0 })},
		{"Bool", "", aTruth, func(given string, _ []rune, value string) bool { return strings.EqualFold(given, value) }},
		{"BinaryEquals", "", aBinary, binary},
		{"IpAddress", "NotIpAddress", aPlace, address},
		{"Null", "", aNull, nil},
	} {
		all[o.name] = operator{kind: o.kind, test: o.test}
		if o.not != "" {
			all[o.not] = operator{kind: o.kind, test: o.test, negated: true}
		}
	}
	return all
}()

func readOperator(name string) (operator, bool) {
	base, ifExists := strings.CutSuffix(name, "IfExists")
	each := ""
	for _, prefix := range []string{forAll, forAny} {
		if rest, ok := strings.CutPrefix(base, prefix); ok {
			base, each = rest, prefix
		}
	}
	o, ok := operators[base]
	o.ifExists, o.each = ifExists, each
	return o, ok && !(o.kind == aNull && (ifExists || each != ""))
}

func readConditions(value any) (all []condition, err error) {
	members, ok := value.(object)
	if !ok {
		return nil, malformed("Condition is not an object")
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		o, ok := readOperator(name)
		keys, isObject := members[name].(object)
		switch {
		case !ok:
			return nil, malformed("unknown condition operator %.60q", name)
		case !isObject:
			return nil, malformed("condition %s is not an object of keys", name)
		}
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			c := condition{operator: o, key: strings.ToLower(key)}
			if !strings.Contains(key, ":") {
				return nil, malformed("condition key %.60q wants its service's prefix, such as aws:", key)
			}
			if c.values, ok = texts(keys[key]); !ok {
				return nil, malformed("condition %s %.60q wants a text, a number, a boolean or a list of them", name, key)
			}
			for _, v := range c.values { // one that never matches would be a Deny that never comes
				if !o.kind.valid(v) {
					return nil, malformed("condition %s %.60q: %.60q is not %s", name, key, v, o.kind.name)
				}
			}
			all = append(all, c)
		}
	}
	return all, nil
}

func texts(value any) (all []string, ok bool) {
	for _, v := range listOf(value) {
		switch v := v.(type) {
		case string:
			all = append(all, v)
		case json.Number:
			all = append(all, v.String())
		case bool:
			all = append(all, strconv.FormatBool(v))
		default:
			return nil, false
		}
	}
	return all, len(all) > 0
}

// holds says whether the condition does, by AWS's rules for keys that are absent: a
// negated operator holds then, and so does any with IfExists or ForAllValues.
func (c condition) holds(ctx Context, variables bool) bool {
	given, o := ctx[c.key], c.operator
	switch {
	case o.kind == aNull:
		return slices.Contains(c.values, strconv.FormatBool(len(given) == 0))
	case len(given) == 0 && o.ifExists:
		return true
	}
	one := func(v string) bool { return c.matchesAny(v, ctx, variables) != o.negated }
	all := !slices.ContainsFunc(given, func(v string) bool { return !one(v) })
	if o.each == forAll || o.each == "" && o.negated {
		return all
	}
	return slices.ContainsFunc(given, one)
}

func (c condition) matchesAny(given string, ctx Context, variables bool) bool {
	return slices.ContainsFunc(c.values, func(value string) bool {
		if c.operator.kind != anyText {
			return c.operator.test(given, nil, value)
		}
		pattern, ok := expand(value, ctx, variables)
		return ok && c.operator.test(given, pattern, value)
	})
}

// literally is a pattern whose wildcards stand for themselves.
func literally(pattern []rune) string {
	text := slices.Clone(pattern)
	for i, r := range text {
		switch r {
		case anyRun:
			text[i] = '*'
		case anyOne:
			text[i] = '?'
		}
	}
	return string(text)
}

func equal(given string, pattern []rune, _ string) bool { return given == literally(pattern) }

func equalFold(given string, pattern []rune, _ string) bool {
	return strings.EqualFold(given, literally(pattern))
}

func like(given string, pattern []rune, _ string) bool { return matches(pattern, given) }

// arnLike compares the six parts of an ARN one by one, so that a wildcard does not cross
// a colon before the last.
func arnLike(given string, pattern []rune, _ string) bool {
	want, got := [][]rune{}, strings.SplitN(given, ":", 6)
	for len(want) < 5 {
		i := slices.Index(pattern, ':')
		if i < 0 {
			break
		}
		want, pattern = append(want, pattern[:i]), pattern[i+1:]
	}
	want = append(want, pattern)
	if len(want) != 6 || len(got) != 6 {
		return false
	}
	for i := range want {
		if !matches(want[i], got[i]) {
			return false
		}
	}
	return true
}

func parseNumber(text string) (float64, bool) {
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil && n == n
}

func numeric(is func(int) bool) func(string, []rune, string) bool {
	return func(given string, _ []rune, value string) bool {
		a, ok := parseNumber(given)
		b, fine := parseNumber(value)
		return ok && fine && is(cmp.Compare(a, b))
	}
}

// parseDate reads ISO 8601 in the forms that AWS documents, or seconds since 1970.
func parseDate(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04Z07:00", time.DateOnly, "2006-01", "2006"} {
		if at, err := time.Parse(layout, text); err == nil {
			return at, true
		}
	}
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		return time.Unix(seconds, 0), true
	}
	return time.Time{}, false
}

func date(is func(int) bool) func(string, []rune, string) bool {
	return func(given string, _ []rune, value string) bool {
		a, ok := parseDate(given)
		b, fine := parseDate(value)
		return ok && fine && is(a.Compare(b))
	}
}

func binary(given string, _ []rune, value string) bool {
	a, err := base64.StdEncoding.DecodeString(given)
	b, failed := base64.StdEncoding.DecodeString(value)
	return err == nil && failed == nil && bytes.Equal(a, b)
}

// address says whether an address is that of value, or in its network.
func address(given string, _ []rune, value string) bool {
	at, err := netip.ParseAddr(given)
	if err != nil {
		return false
	}
	at = at.Unmap()
	if network, err := netip.ParsePrefix(value); err == nil {
		return network.Contains(at)
	}
	one, err := netip.ParseAddr(value)
	return err == nil && one.Unmap() == at
}
