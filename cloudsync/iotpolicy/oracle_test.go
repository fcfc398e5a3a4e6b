package iotpolicy

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The oracle: the same rules, written for shortness instead of speed, over documents as
// encoding/json has them and patterns as regular expressions.

type statementJSON struct {
	Effect                                   Effect
	Action, NotAction, Resource, NotResource []string
	Condition                                map[string]map[string][]string
}

var special = regexp.MustCompile(`\$\{[^}]*\}|\*|\?`)

// regex is pattern as a regular expression, with the context's values in it.
func regex(pattern string, context map[string][]string, wild bool) (*regexp.Regexp, bool) {
	open, end := false, 0
	var b strings.Builder
	for _, at := range special.FindAllStringIndex(pattern, -1) {
		b.WriteString(regexp.QuoteMeta(pattern[end:at[0]]))
		end = at[1]
		switch sign := pattern[at[0]:at[1]]; {
		case sign == "*" && wild:
			b.WriteString(`.*`)
		case sign == "?" && wild:
			b.WriteString(`.`)
		case sign == "*", sign == "?":
			b.WriteString(regexp.QuoteMeta(sign))
		case sign == "${*}", sign == "${?}", sign == "${$}":
			b.WriteString(regexp.QuoteMeta(sign[2:3]))
		default:
			if values := context[sign[2:len(sign)-1]]; len(values) == 1 {
				sign = values[0]
			} else {
				open = true
			}
			b.WriteString(regexp.QuoteMeta(sign))
		}
	}
	b.WriteString(regexp.QuoteMeta(pattern[end:]))
	return regexp.MustCompile(`(?s)\A` + b.String() + `\z`), open
}

func anyFits(patterns []string, text string, context map[string][]string, wild bool) (fits, open bool) {
	for _, p := range patterns {
		r, without := regex(p, context, wild)
		fits, open = fits || r.MatchString(text), open || without
	}
	return fits, open
}

func oracleCondition(name string, want, given []string, context map[string][]string) (holds, open bool) {
	all, some := strings.HasPrefix(name, "ForAllValues:"), strings.HasPrefix(name, "ForAnyValue:")
	not := strings.Contains(name, "Not")
	if len(given) == 0 {
		return strings.HasSuffix(name, "IfExists") || all || not && !some, false
	}
	count := 0
	for _, value := range given {
		fits, without := anyFits(want, value, context, strings.Contains(name, "Like"))
		open = open || without
		if fits != not {
			count++
		}
	}
	if all || not && !some {
		return count == len(given), open && not
	}
	return count > 0, open && not
}

func oracle(documents []string, action, resource string, context map[string][]string) Decision {
	decision := ImplicitDeny
	for _, text := range documents {
		var d struct{ Statement []statementJSON }
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			panic(err)
		}
		for _, s := range d.Statement {
			act, _ := anyFits(append(s.Action, s.NotAction...), action, nil, true)
			res, open := anyFits(append(s.Resource, s.NotResource...), resource, context, true)
			if act == (s.NotAction != nil) || res == (s.NotResource != nil) {
				continue
			}
			doubt := open && s.NotResource != nil
			applies := true
			for name, keys := range s.Condition {
				for key, want := range keys {
					holds, without := oracleCondition(name, want, context[key], context)
					applies, doubt = applies && holds, doubt || without
				}
			}
			switch {
			case applies && s.Effect == Deny:
				return ExplicitDeny
			case applies && !doubt:
				decision = Allowed
			}
		}
	}
	return decision
}

func drawList(t *rapid.T, label string, one *rapid.Generator[string]) []string {
	return rapid.SliceOfN(one, 1, 3).Draw(t, label)
}

var (
	drawText    = rapid.StringMatching(`[ab+*?$\n]{0,4}`)
	drawPattern = rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "ab", "ü", "*", "?", "+", "$", "${v:a}", "${v:b}", "${v:c}", "${*}", "${?}", "${$}", "${"}), 0, 6).Draw(t, "signs"), "")
	})
	drawAction    = rapid.SampledFrom([]string{"*", "iot:*", "iot:a", "iot:b", "iot:?", "x:a"})
	drawOperator  = rapid.SampledFrom([]string{"StringLike", "StringNotLike", "StringEquals", "StringNotEquals"})
	drawQualifier = rapid.SampledFrom([]string{"", "ForAllValues:", "ForAnyValue:"})
)

const arnHead = "arn:aws:iot:::"

func drawDocument(t *rapid.T) string {
	type object = map[string]any
	var statements []object
	for range rapid.IntRange(1, 3).Draw(t, "statements") {
		s := object{"Effect": rapid.SampledFrom([]Effect{Allow, Allow, Deny}).Draw(t, "effect")}
		resources := drawList(t, "resources", drawPattern)
		for i := range resources {
			resources[i] = arnHead + resources[i]
		}
		s[rapid.SampledFrom([]string{"Action", "Action", "NotAction"}).Draw(t, "A")] = drawList(t, "actions", drawAction)
		s[rapid.SampledFrom([]string{"Resource", "Resource", "NotResource"}).Draw(t, "R")] = resources
		if rapid.Bool().Draw(t, "conditional") {
			name := drawQualifier.Draw(t, "set") + drawOperator.Draw(t, "operator") + rapid.SampledFrom([]string{"", "IfExists"}).Draw(t, "if")
			s["Condition"] = object{name: object{
				"v:a": drawList(t, "values", drawPattern), rapid.SampledFrom([]string{"v:b", "v:c"}).Draw(t, "key"): drawList(t, "others", drawPattern),
			}}
		}
		statements = append(statements, s)
	}
	text, err := json.Marshal(object{"Version": version, "Statement": statements})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestEvaluateAgreesWithTheOracle(t *testing.T) {
	decisions := map[Decision]int{}
	rapid.Check(t, func(t *rapid.T) {
		documents := []string{drawDocument(t), drawDocument(t)}
		var policies []Policy
		for _, text := range documents {
			d, err := Parse(text)
			if err != nil {
				t.Fatalf("%v in %s", err, text)
			}
			policies = append(policies, Policy{"p", d})
		}
		for range 20 {
			values := map[string][]string{}
			context := &Context{}
			for _, key := range []string{"v:a", "v:b"} { // v:c is never known
				values[key] = rapid.SliceOfN(drawText, 0, 2).Draw(t, key)
				context.Set(key, values[key]...)
			}
			action := rapid.SampledFrom([]string{"iot:a", "iot:b", "x:a"}).Draw(t, "action")
			resource := arnHead + rapid.OneOf(drawText, drawPattern, rapid.StringMatching(`[ab]{0,8}`)).Draw(t, "resource")
			got, want := Evaluate(policies, Request{action, resource, context}), oracle(documents, action, resource, values)
			if got.Decision != want {
				t.Fatalf("got %s, want %s of %s for %s on %q with %q", got.Decision, want, documents, action, resource, values)
			}
			decisions[got.Decision]++
		}
	})
	for _, d := range []Decision{Allowed, ExplicitDeny, ImplicitDeny} {
		if decisions[d] == 0 {
			t.Errorf("%s never came up: the property says little", d)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(document(open), "iot:Publish", arn+"topic/a")
	f.Add(document(deny("iot:*", arn+"topic/${iot:ClientId}/?*")+`,"Condition":{"ForAnyValue:StringLikeIfExists":{"a:b":["x*"]},"NumericLessThan":{"c:d":1e3},"Null":{"e:f":true}}`), "iot:Publish", arn+"topic/c/x")
	f.Add(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"x:y","NotResource":"arn:aws:iot:::${*}"}}`, "x:z", "*")
	f.Fuzz(func(t *testing.T, text, action, resource string) {
		d, err := Parse(text)
		if err != nil {
			if d != nil {
				t.Error("a document beside an error")
			}
			return
		}
		policies := []Policy{{"p", d}}
		got := Evaluate(policies, Request{action, resource, contextOf("iot:ClientId=c", "a:b=x|y", "c:d=1")})
		if got.Decision == Allowed && len(got.Allowing) == 0 || got.Decision == ExplicitDeny && len(got.Denying) == 0 {
			t.Errorf("%s without a reason", got.Decision)
		}
		if nothing := parse(t, document(deny("*", "*"))); Evaluate(append(policies, Policy{"q", nothing}), Request{action, resource, nil}).Decision == Allowed {
			t.Error("allowed in spite of a deny of everything")
		}
		if again := parse(t, d.String()); len(again.Statements()) != len(d.Statements()) {
			t.Error("reads differently a second time")
		}
	})
}
