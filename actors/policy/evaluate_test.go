package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// onePolicy is a document whose only group, "g", holds every thing.
func onePolicy(statements string) string {
	return "definitions: {g: {selectionRule: 'thingName: *', policyName: p}}\npolicies:\n  p:\n    " + strings.ReplaceAll(strings.TrimSpace(statements), "\n", "\n    ")
}

type ask struct {
	thing, operation, resource string
	want                       Reason
}

func checkAll(t *testing.T, c *Compiled, asks []ask) {
	t.Helper()
	for _, a := range asks {
		d := c.For(messages.ThingName(a.thing)).Evaluate(a.operation, a.resource)
		if d.Reason != a.want || d.Allowed != (a.want == ReasonAllowed) {
			t.Errorf("%s: %s %q: %s (allowed %t), want %s", a.thing, a.operation, a.resource, d.Reason, d.Allowed, a.want)
		}
		if (d.Err != nil) != (a.want == ReasonServiceMismatch) || (d.Malformed != nil) != (a.want == ReasonMalformed) {
			t.Errorf("%s: %s %q: errors %v, %v with %s", a.thing, a.operation, a.resource, d.Err, d.Malformed, d.Reason)
		}
	}
}

// client-device-auth spec 3, rule 1: the operation is service:action.
func TestRule1OperationForm(t *testing.T) {
	checkAll(t, compileText(t, allowAllText), []ask{
		{"a", "mqtt:publish", "mqtt:topic:x", ReasonAllowed},
		{"a", "é:é", "é:topic:x", ReasonAllowed},
		{"a", "mqtt", "mqtt:topic:x", ReasonMalformed},
		{"a", "mqtt:*", "mqtt:topic:x", ReasonMalformed},
		{"a", "mqtt:a:b", "mqtt:topic:x", ReasonMalformed},
		{"a", "*", "mqtt:topic:x", ReasonMalformed},
	})
}

// Rule 2: the resource is service:type:name.
func TestRule2ResourceForm(t *testing.T) {
	checkAll(t, compileText(t, allowAllText), []ask{
		{"a", "mqtt:publish", "mqtt:topic::x", ReasonAllowed},
		{"a", "mqtt:publish", "mqtt:topic:x:", ReasonAllowed},
		{"a", "mqtt:publish", "mqtt:topic:", ReasonMalformed},
		{"a", "mqtt:publish", "mqtt::x", ReasonMalformed},
		{"a", "mqtt:publish", "*", ReasonMalformed},
		{"a", "mqtt:publish", "mqtt:topic:a\x00", ReasonMalformed},
		{"a", "mqtt:publish", "mqtt:topic:a\xff", ReasonMalformed},
	})
}

// Rule 3: what is malformed is denied, not failed, and says why.
func TestRule3MalformedIsDenied(t *testing.T) {
	d := compileText(t, allowAllText).For("a").Evaluate("mqtt:", "mqtt:topic:x")
	if d.Allowed || d.Err != nil || !errors.Is(d.Malformed, permission.ErrMalformed) {
		t.Errorf("%+v, want a deny with its cause", d)
	}
}

// Rule 4: different services are a failure, whatever the policy says, even for a thing in
// no group.
func TestRule4ServiceMismatchIsAFailure(t *testing.T) {
	for _, text := range []string{allowAllText, "{}"} {
		d := compileText(t, text).For("a").Evaluate("http:get", "mqtt:topic:x")
		if d.Allowed || !errors.Is(d.Err, permission.ErrServiceMismatch) || d.Malformed != nil {
			t.Errorf("%s: %+v, want ErrServiceMismatch", text, d)
		}
	}
}

// Rule 5: no group, no permission; so too for a session without a thing, and for a name
// that is no thing's.
func TestRule5NoGroupIsDenied(t *testing.T) {
	none := compileText(t, "definitions: {g: {selectionRule: 'thingName: b', policyName: p}}\npolicies: {p: {s: {operations: ['*'], resources: ['*']}}}")
	checkAll(t, none, []ask{
		{"a", "mqtt:publish", "mqtt:topic:x", ReasonNoGroup},
		{"b", "mqtt:publish", "mqtt:topic:x", ReasonAllowed},
	})
	all := compileText(t, allowAllText)
	for _, thing := range []string{"", "*", "#", "+", "a/b", "$SYS", "a b", "a\n", "a\x00", "${iot:Connection.Thing.ThingName}", strings.Repeat("a", 129)} {
		checkAll(t, all, []ask{{thing, "mqtt:publish", "mqtt:topic:x", ReasonNoGroup}})
		if p := all.Permissions(messages.ThingName(thing)); p != nil {
			t.Errorf("thing %q: permissions %v, want none", thing, p)
		}
	}
	checkAll(t, compileText(t, "{}"), []ask{{"a", "mqtt:publish", "mqtt:topic:x", ReasonNoGroup}})
}

// Rule 6: any pair of one statement of any group allows; nothing else does.
func TestRule6PairsOfAStatement(t *testing.T) {
	c := compileText(t, onePolicy(`
s: {operations: ["mqtt:publish", "mqtt:sub*"], resources: ["mqtt:topic:a", "mqtt:topic:b/*"]}
t: {operations: ["mqtt:*"], resources: ["mqtt:clientId:c"]}
u: {operations: ["*"], resources: ["*:public:*"]}
v: {operations: ["http:get"], resources: ["mqtt:topic:never"]}`))
	checkAll(t, c, []ask{
		{"a", "mqtt:publish", "mqtt:topic:a", ReasonAllowed},
		{"a", "mqtt:publish", "mqtt:topic:b/1", ReasonAllowed},
		{"a", "mqtt:publish", "mqtt:topic:c", ReasonNoStatement},
		{"a", "mqtt:publish", "mqtt:topic:A", ReasonNoStatement},
		{"a", "mqtt:subscribe", "mqtt:topic:a", ReasonNoStatement}, // "mqtt:sub*" is no wildcard
		{"a", "mqtt:connect", "mqtt:clientId:c", ReasonAllowed},
		{"a", "http:connect", "http:clientId:c", ReasonNoStatement},
		{"a", "http:anything", "http:public:x", ReasonAllowed},
		{"a", "http:get", "http:topic:never", ReasonNoStatement},
	})
}

// 3.1: '*' is any run, also across '/' and ':'; MQTT's wildcards and '?' are plain, and
// so a '*' covers them in a request.
func TestWildcardsAreText(t *testing.T) {
	c := compileText(t, onePolicy(`s: {operations: ["mqtt:subscribe"], resources: ["mqtt:topicfilter:c/+/s", "mqtt:topicfilter:a/*", "mqtt:topicfilter:q?"]}`))
	checkAll(t, c, []ask{
		{"a", "mqtt:subscribe", "mqtt:topicfilter:c/+/s", ReasonAllowed},
		{"a", "mqtt:subscribe", "mqtt:topicfilter:c/1/s", ReasonNoStatement},
		{"a", "mqtt:subscribe", "mqtt:topicfilter:a/#", ReasonAllowed},
		{"a", "mqtt:subscribe", "mqtt:topicfilter:a/+/b:c", ReasonAllowed},
		{"a", "mqtt:subscribe", "mqtt:topicfilter:#", ReasonNoStatement},
		{"a", "mqtt:subscribe", "mqtt:topicfilter:+/b", ReasonNoStatement},
		{"a", "mqtt:subscribe", "mqtt:topicfilter:$share/g/a/b", ReasonNoStatement},
		{"a", "mqtt:subscribe", "mqtt:topicfilter:qx", ReasonNoStatement},
	})
}

// 3.2: the variable is the thing's name, wherever it stands, and never a request's.
func TestVariableIsTheThing(t *testing.T) {
	c := compileText(t, onePolicy(`s: {operations: ["*"], resources: ["mqtt:topic:${iot:Connection.Thing.ThingName}/*", "*:${iot:Connection.Thing.ThingName}:x"]}`))
	checkAll(t, c, []ask{
		{"pump", "mqtt:publish", "mqtt:topic:pump/1", ReasonAllowed},
		{"pump", "mqtt:publish", "mqtt:topic:pump2/1", ReasonNoStatement},
		{"pump2", "mqtt:publish", "mqtt:topic:pump2/1", ReasonAllowed},
		{"pump", "mqtt:publish", "mqtt:pump:x", ReasonAllowed},
		{"a:b", "mqtt:publish", "mqtt:topic:a:b/1", ReasonAllowed},
		{"pump", "mqtt:publish", "mqtt:topic:${iot:Connection.Thing.ThingName}/1", ReasonNoStatement},
	})
}

// 3.3: an internal component may do anything, before any parsing.
func TestComponentMayDoEverything(t *testing.T) {
	if d := Component().Evaluate("bad", "bad"); !d.Allowed || d.Reason != ReasonComponent || d.Err != nil {
		t.Errorf("%+v, want allowed", d)
	}
}

func TestNobodyMayDoNothing(t *testing.T) {
	var nobody *ThingPolicy
	for _, p := range []*ThingPolicy{nobody, {}} {
		if d := p.Evaluate("mqtt:publish", "mqtt:topic:a"); d.Allowed || d.Reason != ReasonNoGroup {
			t.Errorf("%+v, want a deny", d)
		}
	}
	if nobody.Thing() != "" || (Decision{}).Allowed {
		t.Error("a zero value is somebody")
	}
}

const manyGroupsText = `
definitions:
  c-contains: {selectionRule: "thingName: *7*", policyName: two}
  a-named: {selectionRule: "thingName: pump-7 OR thingName: pump-8 OR thingName: pump-7", policyName: one}
  b-both: {selectionRule: "thingName: pump* AND thingName: pump-7 OR thingName: *valve", policyName: one}
  d-never: {selectionRule: "thingName: pump-7 AND thingName: pump-8", policyName: two}
policies:
  one:
    s: {operations: ["mqtt:publish"], resources: ["mqtt:topic:one/${iot:Connection.Thing.ThingName}"]}
  two:
    s: {operations: ["mqtt:publish"], resources: ["mqtt:topic:two", "mqtt:topic:two"]}
    t: {operations: ["mqtt:pub*", "mqtt:publish"], resources: ["bad", "mqtt:topic:two"]}
`

// 2.5: permissions of all groups are united; the decision names what allowed.
func TestGroupsAreUnited(t *testing.T) {
	c := compileText(t, manyGroupsText)
	for thing, want := range map[messages.ThingName]string{
		"pump-7": "[a-named b-both c-contains]", "pump-8": "[a-named]", "valve": "[b-both]", "x7x": "[c-contains]", "other": "[]", "": "[]",
	} {
		if got := fmt.Sprint(c.Groups(thing)); got != want {
			t.Errorf("%s is in %s, want %s", thing, got, want)
		}
	}
	pump := c.For("pump-7")
	if pump.Thing() != "pump-7" || len(pump.groups) != 2 {
		t.Errorf("%+v, want two policies to ask", pump)
	}
	got := pump.EvaluateBytes([]byte("mqtt:publish"), []byte("mqtt:topic:one/pump-7"))
	want := Decision{Allowed: true, Reason: ReasonAllowed, Group: "a-named", Policy: "one", Statement: "s",
		Permission: permission.Permission{Operation: "mqtt:publish", Resource: "mqtt:topic:one/${iot:Connection.Thing.ThingName}"}}
	if got != want {
		t.Errorf("decision\n%+v, want\n%+v", got, want)
	}
	if d := pump.Evaluate("mqtt:publish", "mqtt:topic:two"); d.Group != "c-contains" || d.Policy != "two" {
		t.Errorf("decision %+v, want by c-contains", d)
	}
	permissions := c.Permissions("pump-7")
	if want := []permission.Permission{{Operation: "mqtt:publish", Resource: "mqtt:topic:one/pump-7"}, {Operation: "mqtt:publish", Resource: "mqtt:topic:two"}}; !slices.Equal(permissions, want) {
		t.Errorf("permissions %v, want %v", permissions, want)
	}
}

// Memory: things share what is compiled; one more thing costs one small value.
func TestThingsShareTheCompiledPolicy(t *testing.T) {
	c := compileText(t, plantText)
	a, b := c.For("sensor-1"), c.For("sensor-2")
	if &a.groups[0] != &b.groups[0] {
		t.Error("two things hold their own lists of groups")
	}
	c = compileText(t, manyGroupsText)
	if x, y := c.For("pump-8"), c.For("valve"); x.groups[0].policy != y.groups[0].policy {
		t.Error("two groups hold their own copies of one policy")
	}
}

func TestEvaluateDoesNotAllocate(t *testing.T) {
	things := []*ThingPolicy{compileText(t, manyGroupsText).For("pump-7"), compileText(t, plantText).For("sensor-1"), Component(), nil}
	op := []byte("mqtt:publish")
	for _, resource := range []string{"mqtt:topic:one/pump-7", "mqtt:topic:two", "mqtt:topic:sensors/sensor-1/x", "mqtt:topic:x", "bad", "http:topic:x"} {
		res := []byte(resource)
		for _, thing := range things {
			if n := testing.AllocsPerRun(50, func() { thing.EvaluateBytes(op, res) }); n != 0 {
				t.Errorf("%s for %q: %v allocations, want 0", resource, thing.Thing(), n)
			}
		}
	}
}

func TestReasonNames(t *testing.T) {
	for r := range reasons {
		text, err := r.MarshalText()
		var back Reason
		if err != nil || back.UnmarshalText(text) != nil || back != r || len(text) == 0 {
			t.Errorf("reason %d is written %q and read %d", r, text, back)
		}
	}
	if err := new(Reason).UnmarshalText([]byte("maybe")); err == nil || Reason(99).String() != "reason 99" {
		t.Error("an unknown reason is known")
	}
}
