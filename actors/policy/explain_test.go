package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

const explainText = `
definitions:
  sensors: {selectionRule: "thingName: sensor-*", policyName: own}
  boss: {selectionRule: "thingName: boss", policyName: all}
policies:
  own:
    connect: {operations: ["mqtt:connect"], resources: ["mqtt:clientId:${iot:Connection.Thing.ThingName}"]}
    talk:
      operations: ["mqtt:publish", "mqtt:sub*"]
      resources: ["mqtt:topic:sensors/${iot:Connection.Thing.ThingName}/*", "mqtt:topic:alarms"]
    listen:
      operations: ["mqtt:subscribe"]
      resources: ["mqtt:topicfilter:client/+/status", "mqtt:topicfilter:sensors/x"]
    get: {operations: ["http:get"], resources: ["*"]}
  all:
    anything: {operations: ["*"], resources: ["*"]}
`

func TestExplainSaysWhy(t *testing.T) {
	c := compileText(t, explainText)
	tests := []struct {
		name, thing, operation, resource string
		reason                           Reason
		text                             string // in Text
		miss                             string // "statement operation resource: why", of the first near miss
	}{
		{"allowed", "sensor-1", "mqtt:publish", "mqtt:topic:sensors/sensor-1/t", ReasonAllowed,
			`allowed: group "sensors" gives policy "own", whose statement "talk" allows mqtt:publish on mqtt:topic:sensors/${iot:Connection.Thing.ThingName}/*`, ""},
		{"another thing's topic", "sensor-1", "mqtt:publish", "mqtt:topic:sensors/sensor-2/t", ReasonNoStatement,
			`denied: thing "sensor-1" is in 1 of 2 groups, and no statement there allows the request`, `group "boss" would allow it, but its selection rule "thingName: boss" does not pick thing "sensor-1"`},
		{"filter compared as text", "sensor-1", "mqtt:subscribe", "mqtt:topicfilter:client/c1/status", ReasonNoStatement,
			"nearest: ", `listen: "mqtt:topicfilter:client/+/status" would match as an MQTT filter`},
		{"filter too wide", "sensor-1", "mqtt:subscribe", "mqtt:topicfilter:sensors/#", ReasonNoStatement,
			"nearest: ", `listen: the filter asks for more than "mqtt:topicfilter:sensors/x"`},
		{"other operation", "sensor-1", "mqtt:connect", "mqtt:topic:alarms", ReasonNoStatement,
			"nearest: ", "talk: the resource matches, but the statement allows mqtt:publish and not mqtt:connect"},
		{"operation that is no wildcard", "sensor-1", "mqtt:subscribe", "mqtt:topic:alarms", ReasonNoStatement,
			"nearest: ", "talk: "},
		{"other type", "sensor-1", "mqtt:publish", "mqtt:topicfilter:alarms", ReasonNoStatement,
			"nearest: ", "talk: the statement is about mqtt:topic, the request about mqtt:topicfilter"},
		{"case of the resource", "sensor-1", "mqtt:publish", "mqtt:topic:Alarms", ReasonNoStatement,
			"nearest: ", `talk: the resource is written "mqtt:topic:alarms"; case counts`},
		{"case of the operation", "sensor-1", "mqtt:Publish", "mqtt:topic:alarms", ReasonNoStatement,
			"nearest: ", `talk: the operation is written "mqtt:publish"; case counts`},
		{"no group", "pump", "mqtt:publish", "mqtt:topic:a", ReasonNoGroup,
			`denied: no selection rule of the 2 groups picks thing "pump"`, `group "boss" would allow it`},
		{"no thing", "", "mqtt:publish", "mqtt:topic:a", ReasonNoGroup, "denied: the session has no thing", `group "boss"`},
		{"no thing's name", "*", "mqtt:publish", "mqtt:topic:a", ReasonNoGroup, "denied: thing name: invalid identifier", `group "boss"`},
		{"malformed", "sensor-1", "mqtt:publish", "mqtt:topic:\U0001f600", ReasonMalformed, "denied: malformed request: resource's name holds", ""},
		{"other service", "sensor-1", "mqtt:publish", "http:topic:a", ReasonServiceMismatch, "not decided: operation and resource name different services", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := c.Explain(messages.ThingName(tt.thing), tt.operation, tt.resource)
			if e.Reason != tt.reason || e.Allowed != (tt.reason == ReasonAllowed) || !strings.Contains(e.Text, tt.text) {
				t.Errorf("%s: %s, want %s: %s", e.Reason, e.Text, tt.reason, tt.text)
			}
			first := ""
			if len(e.NearMisses) > 0 {
				first = e.NearMisses[0].Statement + ": " + e.NearMisses[0].Why
			}
			if !strings.Contains(first, tt.miss) || tt.miss == "" && first != "" {
				t.Errorf("nearest miss %q, want %q", first, tt.miss)
			}
			if (len(e.Matches) > 0) != e.Allowed || e.GroupsTotal != 2 || len(e.Groups) != 2 || e.Revision != c.Revision() {
				t.Errorf("explanation %+v", e)
			}
		})
	}
}

// A thing that is in one group alone is in no other, whatever that one's rule picks.
func TestExplainAloneNamesTheOneGroup(t *testing.T) {
	c := compileText(t, strings.Replace(explainText, "policies:\n", `  pending: {selectionRule: "thingName: sensor-*", policyName: few}
policies:
  few: {hello: {operations: ["mqtt:publish"], resources: ["mqtt:topic:hello"]}}
`, 1))
	for _, tt := range []struct{ thing, group, text, miss string }{
		{"sensor-1", "pending", `denied: thing "sensor-1" is in group "pending" alone`, `group "sensors" would allow it, but thing "sensor-1" is in group "pending" alone for now`},
		{"sensor-1", "waiting", `denied: thing "sensor-1" can be in group "waiting" alone`, `group "sensors" would allow it, but thing "sensor-1" is in group "waiting" alone for now`},
		{"boss", "sensors", `denied: thing "boss" can be in group "sensors" alone`, `group "sensors" would allow it, but its selection rule "thingName: sensor-*" does not pick thing "boss"`},
	} {
		e := c.ExplainAlone(messages.ThingName(tt.thing), tt.group, "mqtt:publish", "mqtt:topic:sensors/"+tt.thing+"/t")
		misses := ""
		for _, m := range e.NearMisses {
			misses += m.Why + "\n"
		}
		if e.Allowed || !strings.HasPrefix(e.Text, tt.text) || !strings.Contains(misses, tt.miss) || strings.Contains(misses, "pick thing") != strings.Contains(tt.miss, "pick thing") {
			t.Errorf("%s alone in %s: %s\nnear misses:\n%s", tt.thing, tt.group, e.Text, misses)
		}
	}
	if e := c.ExplainAlone("sensor-1", "pending", "mqtt:publish", "mqtt:topic:hello"); !e.Allowed {
		t.Error(e.Text)
	}
}

func TestExplainNamesStrayOperations(t *testing.T) {
	e := compileText(t, explainText).Explain("sensor-1", "mqtt:subscribe", "mqtt:topic:alarms")
	for _, m := range e.NearMisses {
		if m.Operation == "mqtt:sub*" && strings.Contains(m.Why, `the operation "mqtt:sub*" matches nothing`) {
			return
		}
	}
	t.Errorf("near misses %+v, want one about mqtt:sub*", e.NearMisses)
}

func TestExplanationInJSON(t *testing.T) {
	text, err := json.Marshal(compileText(t, explainText).Explain("sensor-1", "mqtt:connect", "mqtt:clientId:sensor-1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`"thing":"sensor-1"`, `"allowed":true`, `"reason":"allowed"`,
		`"groups":[{"name":"sensors","selectionRule":"thingName: sensor-*","policy":"own","member":true},{"name":"boss"`,
		`"matches":[{"group":"sensors","policy":"own","statement":"connect","operation":"mqtt:connect","resource":"mqtt:clientId:${iot:Connection.Thing.ThingName}"}]`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%s\ndoes not hold\n%s", text, want)
		}
	}
}

// Large policies: lists are cut, members come first.
func TestExplainIsBounded(t *testing.T) {
	var text strings.Builder
	text.WriteString("policies: {p: {s: {operations: ['mqtt:publish'], resources: [")
	for i := range 200 {
		fmt.Fprintf(&text, "'mqtt:topic:a/%d*', ", i)
	}
	text.WriteString("'mqtt:topic:*']}}}\ndefinitions:\n")
	for i := range 200 {
		fmt.Fprintf(&text, "  g%03d: {selectionRule: 'thingName: t%d', policyName: p}\n", i, i)
	}
	c := compileText(t, text.String())
	e := c.Explain("t150", "mqtt:publish", "mqtt:topic:a/7")
	if !e.Allowed || len(e.Matches) != 2 || len(e.Groups) != explainGroupsMax || !e.Groups[0].Member || e.Groups[0].Name != "g150" || e.GroupsTotal != 200 {
		t.Errorf("explanation %+v", e)
	}
	e = c.Explain("t150", "mqtt:subscribe", "mqtt:topic:a/7")
	if e.Allowed || len(e.NearMisses) != 2 {
		t.Errorf("near misses %+v, want the two whose resource matches", e.NearMisses)
	}
	e = c.Explain("t150", "mqtt:publish", "mqtt:topicfilter:a/7")
	if e.Allowed || len(e.NearMisses) != explainMissesMax {
		t.Errorf("%d near misses, want %d", len(e.NearMisses), explainMissesMax)
	}
}

func TestMQTTMatchesForHints(t *testing.T) {
	for _, tt := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/+/c", "a/b/c", true}, {"a/+/c", "a/b/d", false}, {"a/#", "a", true}, {"a/#", "a/b/c", true}, {"#", "a/b", true},
		{"#", "$SYS/a", false}, {"+/a", "$SYS/a", false}, {"$SYS/#", "$SYS/a", true}, {"a/b", "a/b", false}, {"+", "a/b", false},
		{"a/+", "a", false}, {"a/#/b", "a/x/b", false}, {"+/+", "/a", true}, {"a/+", "a/", true},
	} {
		if got := mqttMatches(tt.filter, tt.topic); got != tt.want {
			t.Errorf("mqttMatches(%q, %q) = %v, want %v", tt.filter, tt.topic, got, tt.want)
		}
	}
}
