package iampolicy

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drawn is a statement as the oracle sees it.
type drawn struct {
	Effect      string
	Action      []string            `json:",omitempty"`
	NotAction   []string            `json:",omitempty"`
	Resource    []string            `json:",omitempty"`
	NotResource []string            `json:",omitempty"`
	Principal   map[string][]string `json:",omitempty"`
	Condition   map[string]map[string][]string
}

var (
	actionWords   = []string{"*", "a:*", "a:B", "A:b?", "b:*", "?:b", "a:bb"}
	resourceWords = []string{"*", "arn:a:*", "arn:a:x", "arn:a:?", "arn:a:${k:v}", "arn:a:${k:v}*", "arn:a:${k:none, 'x'}", "arn:a:${k:none}", "arn:a:${*}"}
	valueWords    = []string{"x", "*", "X", "${k:v}", "x?"}
	operatorWords = []string{"StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase", "StringLikeIfExists", "StringNotLikeIfExists", "ForAllValues:StringLike", "ForAnyValue:StringEquals", "ForAnyValue:StringNotEquals"}
)

func some(t *rapid.T, label string, words []string) []string {
	return rapid.SliceOfN(rapid.SampledFrom(words), 1, 2).Draw(t, label)
}

func drawStatement(t *rapid.T, trust bool) drawn {
	s := drawn{Effect: rapid.SampledFrom([]string{"Allow", "Allow", "Deny"}).Draw(t, "effect"), Condition: map[string]map[string][]string{}}
	if rapid.Bool().Draw(t, "not action") {
		s.NotAction = some(t, "action", actionWords)
	} else {
		s.Action = some(t, "action", actionWords)
	}
	switch {
	case trust:
		s.Principal = map[string][]string{rapid.SampledFrom([]string{"AWS", "Service"}).Draw(t, "kind"): some(t, "principal", []string{"me", "root", "other"})}
	case rapid.Bool().Draw(t, "not resource"):
		s.NotResource = some(t, "resource", resourceWords)
	default:
		s.Resource = some(t, "resource", resourceWords)
	}
	for range rapid.IntRange(0, 2).Draw(t, "conditions") {
		key := rapid.SampledFrom([]string{"k:v", "k:none", "k:many"}).Draw(t, "key")
		s.Condition[rapid.SampledFrom(operatorWords).Draw(t, "operator")] = map[string][]string{key: some(t, "value", valueWords)}
	}
	return s
}

// fits is the oracle's matcher: a regular expression made from the text at once, in which
// a variable's value is quoted. ok is false where a variable has no single value.
func fits(pattern, text string, ctx Context, literal bool) (fit, ok bool) {
	var b strings.Builder
	for len(pattern) > 0 {
		if rest, found := strings.CutPrefix(pattern, "${"); found {
			name, after, _ := strings.Cut(rest, "}")
			key, fallback, given := strings.Cut(name, ", ")
			switch values := ctx[key]; {
			case name == "*":
				b.WriteString(`\*`)
			case len(values) == 1:
				b.WriteString(regexp.QuoteMeta(values[0]))
			case len(values) == 0 && given:
				b.WriteString(regexp.QuoteMeta(strings.Trim(fallback, "'")))
			default:
				return false, false
			}
			pattern = after
			continue
		}
		switch c := pattern[:1]; {
		case c == "*" && !literal:
			b.WriteString(`.*`)
		case c == "?" && !literal:
			b.WriteString(`.`)
		default:
			b.WriteString(regexp.QuoteMeta(c))
		}
		pattern = pattern[1:]
	}
	return regexp.MustCompile(`(?s)^` + b.String() + `$`).MatchString(text), true
}

func (s drawn) applies(r Request) bool {
	if s.Principal != nil && !slices.ContainsFunc(append(slices.Clone(r.Principal.Names), r.Principal.Account...), func(name string) bool { return slices.Contains(s.Principal[r.Principal.Kind], name) }) {
		return false
	}
	action := func(p string) bool {
		fit, _ := fits(strings.ToLower(p), strings.ToLower(r.Action), nil, false)
		return fit
	}
	if s.Action != nil && !slices.ContainsFunc(s.Action, action) || s.NotAction != nil && slices.ContainsFunc(s.NotAction, action) {
		return false
	}
	hit, unknown := false, false
	for _, p := range append(slices.Clone(s.Resource), s.NotResource...) {
		fit, ok := fits(p, r.Resource, r.Context, false)
		hit, unknown = hit || fit, unknown || !ok
	}
	if s.Resource != nil && !hit || s.NotResource != nil && (hit || unknown && s.Effect == "Allow") {
		return false
	}
	for operator, keys := range s.Condition {
		for key, wanted := range keys {
			if !holds(operator, r.Context[key], wanted, r.Context) {
				return false
			}
		}
	}
	return true
}

func holds(operator string, given, wanted []string, ctx Context) bool {
	base, ifExists := strings.CutSuffix(operator, "IfExists")
	if len(given) == 0 && ifExists {
		return true
	}
	base, all := strings.CutPrefix(base, "ForAllValues:")
	base, one := strings.CutPrefix(base, "ForAnyValue:")
	negated := strings.Contains(base, "Not")
	yes := 0
	for _, v := range given {
		hit := slices.ContainsFunc(wanted, func(w string) bool {
			if strings.HasSuffix(base, "IgnoreCase") {
				v, w = strings.ToLower(v), strings.ToLower(w)
			}
			fit, _ := fits(w, v, ctx, !strings.Contains(base, "Like"))
			return fit
		})
		if hit != negated {
			yes++
		}
	}
	if all || negated && !one {
		return yes == len(given)
	}
	return yes > 0
}

// Documents are judged as an oracle does that knows neither tokens nor short cuts.
func TestEvaluateAsAnOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		trusting := rapid.Bool().Draw(t, "trust")
		ctx := Context{"k:v": {rapid.SampledFrom([]string{"x", "*", "xy"}).Draw(t, "k:v")}, "k:many": {"x", "y"}}
		r := Request{
			Action:   rapid.SampledFrom([]string{"a:b", "a:bb", "b:b", "c:c"}).Draw(t, "of"),
			Resource: rapid.SampledFrom([]string{"*", "arn:a:x", "arn:a:*", "arn:a:xyz", "arn:b:x"}).Draw(t, "on"),
			Context:  ctx, Principal: Principal{KindAWS, []string{"me"}, []string{"root"}},
		}
		want, parse := ImplicitDeny, ParseIdentity
		if trusting {
			parse = ParseTrust
		}
		var documents []*Document
		for range rapid.IntRange(1, 3).Draw(t, "documents") {
			var statements []drawn
			for range rapid.IntRange(1, 3).Draw(t, "statements") {
				s := drawStatement(t, trusting)
				statements = append(statements, s)
				switch applies := s.applies(r); {
				case applies && s.Effect == "Deny":
					want = ExplicitDeny
				case applies && want == ImplicitDeny:
					want = Allowed
				}
			}
			text, err := json.Marshal(map[string]any{"Version": Version2012, "Statement": statements})
			if err != nil {
				t.Fatal(err)
			}
			d, err := parse(string(text))
			if err != nil {
				t.Fatalf("%v: %s", err, text)
			}
			documents = append(documents, d)
			t.Logf("%s", text)
		}
		if got, _ := Evaluate(r, documents...); got != want {
			t.Fatalf("%+v: %v, want %v", r, got, want)
		}
	})
}
