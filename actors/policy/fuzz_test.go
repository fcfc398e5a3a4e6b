package policy

import (
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// The oracle restates client-device-auth spec 3 over the plain JSON of a document, with
// expressions for the forms, text substitution and a recursive glob. It shares nothing
// with the engine but the selection rules, which FuzzRule holds to their own oracle.
type oracleDocument struct {
	Definitions map[string]struct{ SelectionRule, PolicyName string }          `json:"definitions"`
	Policies    map[string]map[string]struct{ Operations, Resources []string } `json:"policies"`
}

var (
	oracleOperation = regexp.MustCompile(`^(\p{L}+):[\p{L}\p{Nd}_-]+$`)
	oracleResource  = regexp.MustCompile(`^(\p{L}+):\p{L}+:[ -~\p{L}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}]+$`)
)

const oracleFailure = "failure"

func (o *oracleDocument) decide(thing, operation, resource string) string {
	if !utf8.ValidString(operation) || !utf8.ValidString(resource) || len(operation) > 256 {
		return "deny"
	}
	op, res := oracleOperation.FindStringSubmatch(operation), oracleResource.FindStringSubmatch(resource)
	switch {
	case op == nil || res == nil:
		return "deny"
	case op[1] != res[1]:
		return oracleFailure
	}
	if _, err := messages.ParseThingName(thing); err != nil {
		return "deny"
	}
	for _, g := range o.Definitions {
		rule, err := ParseRule(g.SelectionRule)
		if err != nil || !rule.Matches(thing) {
			continue
		}
		for _, s := range o.Policies[g.PolicyName] {
			for _, sop := range s.Operations {
				for _, sres := range s.Resources {
					if sop != "" && sres != "" && (sop == operation || sop == op[1]+":*" || sop == "*") &&
						oracleGlob(strings.ReplaceAll(sres, "${iot:Connection.Thing.ThingName}", thing), resource) {
						return "allow"
					}
				}
			}
		}
	}
	return "deny"
}

func oracleGlob(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		return oracleGlob(pattern[1:], s) || s != "" && oracleGlob(pattern, s[1:])
	}
	return s != "" && s[0] == pattern[0] && oracleGlob(pattern[1:], s[1:])
}

// checkAgainstOracle compares all ways to decide one request.
func checkAgainstOracle(t interface{ Fatalf(string, ...any) }, o *oracleDocument, c *Compiled, thing, operation, resource string) {
	want := o.decide(thing, operation, resource)
	name := messages.ThingName(thing)
	d := c.For(name).Evaluate(operation, resource)
	got := "deny"
	switch {
	case d.Err != nil:
		got = oracleFailure
	case d.Allowed:
		got = "allow"
	}
	if got != want {
		t.Fatalf("thing %q, %q on %q: %s (%s), the oracle says %s, of\n%s", thing, operation, resource, got, d.Reason, want, c.Document().Canonical())
	}
	e := c.Explain(name, operation, resource)
	if e.Allowed != d.Allowed || e.Reason != d.Reason || (len(e.Matches) > 0) != d.Allowed {
		t.Fatalf("thing %q, %q on %q: explained as %+v, decided as %+v", thing, operation, resource, e, d)
	}
	// A broker that holds the permissions decides the same.
	set, err := permission.Compile(c.Permissions(name))
	if err != nil {
		t.Fatalf("permissions of %q: %v", thing, err)
	}
	if at := set.Allows(operation, resource); at.Allowed != d.Allowed || !errors.Is(at.Err, d.Err) {
		t.Fatalf("thing %q, %q on %q: a broker decides %+v, the engine %+v", thing, operation, resource, at, d)
	}
}

func FuzzEvaluate(f *testing.F) {
	v := permission.ThingNameVariable
	f.Add("thingName: *", "mqtt:publish", "mqtt:topic:a/*", "mqtt:*", "mqtt:clientId:"+v, "pump", "mqtt:publish", "mqtt:topic:a/b")
	f.Add("thingName: p*", "*", "*", "a:b", v+":"+v+":*"+v+"*", "p:x", "p:b", "p:p:p")
	f.Add("thingName: a OR thingName: b", "mqtt:pub*", "mqtt:topic:\u00e9*", "mqtt:", "**", "a", "mqtt:publish", "mqtt:topic:\u00e9")
	f.Fuzz(func(t *testing.T, rule, op1, res1, op2, res2, thing, operation, resource string) {
		if strings.Count(res1, "*")+strings.Count(res2, "*") > 8 || len(resource) > 60 {
			return // the oracle's glob is exponential
		}
		text, err := json.Marshal(map[string]any{
			"definitions": map[string]any{"g": map[string]any{"selectionRule": rule, "policyName": "p"}},
			"policies": map[string]any{"p": map[string]any{
				"s": map[string]any{"operations": []string{op1}, "resources": []string{res1, res2}},
				"t": map[string]any{"operations": []string{op2, op1}, "resources": []string{res2}},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		doc, err := Parse(text, Options{})
		if err != nil {
			return
		}
		var o oracleDocument
		if err := json.Unmarshal(text, &o); err != nil {
			t.Fatal(err)
		}
		checkAgainstOracle(t, &o, Compile(doc), thing, operation, resource)
	})
}

// Generators over alphabets so small that rules, patterns and requests meet.
var (
	genThing     = rapid.SampledFrom([]string{"a", "b", "ab", "a:b", "ba"})
	genOperation = rapid.SampledFrom([]string{"m:x", "m:y", "h:x", "m", "m:*"})
	genResource  = rapid.Custom(func(t *rapid.T) string {
		return rapid.SampledFrom([]string{"m:t:", "m:f:", "h:t:", "m:"}).Draw(t, "head") + rapid.StringOfN(rapid.RuneFrom([]rune("ab/:+*")), 0, 6, -1).Draw(t, "name")
	})
	genRule = rapid.Custom(func(t *rapid.T) string {
		name := rapid.SampledFrom([]string{"a", "b", "a*", "*b", "*:*", "*", `a\:b`, "ab"})
		rule := "thingName: " + name.Draw(t, "name")
		for range rapid.IntRange(0, 2).Draw(t, "more") {
			rule += rapid.SampledFrom([]string{" AND", " OR"}).Draw(t, "join") + " thingName: " + name.Draw(t, "name")
		}
		return strings.ReplaceAll(rule, "*:*", `*\:*`)
	})
	genPattern = rapid.Custom(func(t *rapid.T) string {
		s := rapid.SampledFrom([]string{"", "m:t:", "m:f:", "*", "h:t:"}).Draw(t, "head") + rapid.StringOfN(rapid.RuneFrom([]rune("ab/:+**V")), 0, 5, -1).Draw(t, "tail")
		return strings.ReplaceAll(s, "V", permission.ThingNameVariable)
	})
)

type genStatement struct {
	Operations []string `json:"operations"`
	Resources  []string `json:"resources"`
}

type genGroup struct {
	SelectionRule string `json:"selectionRule"`
	PolicyName    string `json:"policyName"`
}

type genDocument struct {
	Definitions map[string]genGroup                `json:"definitions"`
	Policies    map[string]map[string]genStatement `json:"policies"`
}

func drawDocument(t *rapid.T) genDocument {
	d := genDocument{map[string]genGroup{}, map[string]map[string]genStatement{}}
	names := []string{"p", "q", "r"}
	for _, p := range names {
		d.Policies[p] = map[string]genStatement{}
		for _, s := range []string{"s", "t"}[:rapid.IntRange(0, 2).Draw(t, "statements")] {
			d.Policies[p][s] = genStatement{
				rapid.SliceOfN(rapid.SampledFrom([]string{"m:x", "m:y", "m:*", "*", "h:*", "m:x*", ""}), 0, 2).Draw(t, "operations"),
				rapid.SliceOfN(genPattern, 0, 10).Draw(t, "resources"),
			}
		}
	}
	for _, g := range []string{"g1", "g2", "g3"}[:rapid.IntRange(0, 3).Draw(t, "groups")] {
		d.Definitions[g] = genGroup{genRule.Draw(t, "rule"), rapid.SampledFrom(names).Draw(t, "policy")}
	}
	return d
}

func (d genDocument) compile(t *rapid.T) (*Compiled, *oracleDocument) {
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := Parse(text, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var o oracleDocument
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatal(err)
	}
	return Compile(doc), &o
}

func TestEngineAgreesWithOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, o := drawDocument(t).compile(t)
		for range 6 {
			checkAgainstOracle(t, o, c, genThing.Draw(t, "thing"), genOperation.Draw(t, "operation"), genResource.Draw(t, "resource"))
		}
	})
}

// S9 (reliability 3): a policy that says less allows no more.
func TestTighteningIsMonotone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawDocument(t)
		wide, _ := d.compile(t)
		tighten(t, d)
		tight, _ := d.compile(t)
		for range 10 {
			thing, operation, resource := messages.ThingName(genThing.Draw(t, "thing")), genOperation.Draw(t, "operation"), genResource.Draw(t, "resource")
			if tight.For(thing).Evaluate(operation, resource).Allowed && !wide.For(thing).Evaluate(operation, resource).Allowed {
				t.Fatalf("%s: %s on %s is allowed by\n%s\nbut not by the wider\n%s", thing, operation, resource, tight.Document().Canonical(), wide.Document().Canonical())
			}
		}
	})
}

// tighten takes something away from d, or narrows it.
func tighten(t *rapid.T, d genDocument) {
	for _, g := range []string{"g1", "g2", "g3"} {
		group, ok := d.Definitions[g]
		if !ok {
			continue
		}
		switch rapid.IntRange(0, 3).Draw(t, "group") {
		case 0:
			delete(d.Definitions, g)
		case 1: // AND binds to the last clause only, so each must be narrowed
			group.SelectionRule = strings.ReplaceAll(group.SelectionRule, " OR ", " AND thingName: a* OR ") + " AND thingName: a*"
			d.Definitions[g] = group
		}
	}
	for _, p := range []string{"p", "q", "r"} {
		for _, s := range []string{"s", "t"} {
			statement, ok := d.Policies[p][s]
			if !ok {
				continue
			}
			drop := func(list []string, label string) []string {
				return slices.DeleteFunc(slices.Clone(list), func(string) bool { return rapid.IntRange(0, 3).Draw(t, label) == 0 })
			}
			statement.Operations, statement.Resources = drop(statement.Operations, "operation"), drop(statement.Resources, "resource")
			if rapid.Bool().Draw(t, "narrow") {
				for i, r := range statement.Resources {
					statement.Resources[i] = strings.Replace(r, "*", "*a*", 1)
				}
			}
			d.Policies[p][s] = statement
		}
	}
}
