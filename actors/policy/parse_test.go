package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

const plantText = `# who may do what
formatVersion: 2021-03-05
definitions:
  sensors:
    selectionRule: "thingName: sensor-*"
    policyName: own-topics
policies:
  own-topics:
    connect:
      statementDescription: under its own name
      operations: ["mqtt:connect"]
      resources: ["mqtt:clientId:${iot:Connection.Thing.ThingName}"]
    talk:
      effect: ALLOW
      operations:
        - mqtt:publish
        - mqtt:subscribe
      resources:
        - mqtt:topic:sensors/${iot:Connection.Thing.ThingName}/*
        - mqtt:topicfilter:sensors/${iot:Connection.Thing.ThingName}/*
`

func TestParseReadsYAMLAndJSONAlike(t *testing.T) {
	doc := parseText(t, plantText)
	if len(doc.Groups) != 1 || doc.Groups[0].Name != "sensors" || doc.Groups[0].PolicyName != "own-topics" ||
		len(doc.Policies) != 1 || len(doc.Policies[0].Statements) != 2 || doc.Policies[0].Statements[1].Operations[1] != "mqtt:subscribe" {
		t.Fatalf("parsed %+v", doc)
	}
	if len(doc.Warnings) > 0 {
		t.Errorf("warnings: %v", doc.Warnings)
	}
	var tree any
	if err := yaml.Unmarshal([]byte(plantText), &tree); err != nil {
		t.Fatal(err)
	}
	tree.(map[string]any)["formatVersion"] = FormatVersion2021
	for name, indent := range map[string]string{"compact JSON": "", "JSON with tabs": "\t"} {
		text, err := json.MarshalIndent(tree, indent, indent)
		if err != nil {
			t.Fatal(err)
		}
		if got := parseText(t, string(text)); got.Revision() != doc.Revision() {
			t.Errorf("%s: revision %s, want %s", name, got.Revision(), doc.Revision())
		}
		wrapped := fmt.Sprintf(`{"certificates": {}, "DeviceGroups": %s}`, text)
		if got := parseText(t, wrapped); got.Revision() != doc.Revision() {
			t.Errorf("%s, wrapped: revision %s, want %s", name, got.Revision(), doc.Revision())
		}
	}
}

func TestCanonicalFormKeepsTheRevision(t *testing.T) {
	for _, text := range []string{plantText, allowAllText, "{}", `policies: {p: {s: , t: {resources: ["", ~, "a<b>"]}}}`} {
		doc := parseText(t, text)
		again := parseText(t, string(doc.Canonical()))
		if again.Revision() != doc.Revision() || string(again.Canonical()) != string(doc.Canonical()) {
			t.Errorf("canonical form\n%s\nbecomes\n%s", doc.Canonical(), again.Canonical())
		}
	}
	// The revision is about meaning: comments, order and what is dropped do not count.
	a := parseText(t, "definitions: {}\npolicies: {p: {}, q: {}}")
	b := parseText(t, "# again\npolicies: {q: {}, p: {}, _r: {}}\ncolor: red")
	if a.Revision() != b.Revision() {
		t.Errorf("two spellings of one document:\n%s\n%s", a.Canonical(), b.Canonical())
	}
	if c := parseText(t, "policies: {p: {}}"); c.Revision() == a.Revision() {
		t.Error("two documents share a revision")
	}
	if short := ShortRevision(a.Revision()); len(short) != 12 || !strings.HasPrefix(a.Revision(), short) {
		t.Errorf("short revision %q", short)
	}
}

// Golden: brokers and the log compare revisions across versions of the program.
func TestRevisionIsStable(t *testing.T) {
	const want = "ab5565607052b99ab81886cd89a7a834333773ac5583ebf33c9964a976ef4b3e"
	doc := parseText(t, plantText)
	if doc.Revision() != want {
		t.Errorf("revision %s, want %s, of\n%s", doc.Revision(), want, doc.Canonical())
	}
}

// client-device-auth spec 1.3 and issue 2, "errors that name the place".
func TestParseErrors(t *testing.T) {
	group := "definitions:\n  g: {selectionRule: 'thingName: a', policyName: p}\n"
	tests := []struct{ name, text, want string }{
		{"empty", "", "f.yaml:1:1: deviceGroups: the document is empty; write {} if nobody may do anything"},
		{"comments only", "# nothing\n\n", "the document is empty"},
		{"null", "null", "the document is empty"},
		{"empty section", "deviceGroups:\n", "the document is empty"},
		{"a list", "- a\n- b\n", "f.yaml:1:1: deviceGroups: an object is expected, found a list"},
		{"a text", `"x"`, "an object is expected, found a text"},
		{"byte order mark", "\xef\xbb\xbf{}", "f.yaml:1:1: the document begins with a byte order mark; save it as UTF-8 without one"},
		{"UTF-16", "\xff\xfe{\x00}\x00", "f.yaml:1:1: byte 0xff is not UTF-8; save the file as UTF-8 (UTF-16 is not read)"},
		{"not UTF-8", "definitions: {}\nfoo: a\xffb", "f.yaml:2:7: byte 0xff is not UTF-8; save the file as UTF-8"},
		{"NUL", "a: b\x00", "f.yaml:1:5: a NUL byte; save the file as UTF-8 text"},
		{"two documents", "definitions: {}\n---\npolicies: {}\n", "a second YAML document begins here"},
		{"tab indentation", "definitions:\n\tg: {}\n", "f.yaml:2: not YAML: found character that cannot start any token"},
		{"half a JSON file", "{\n \"definitions\": {\n", "f.yaml:2:18: not JSON: unexpected end"},
		{"broken JSON", "{\n \"definitions\": ]", "f.yaml:2:17: not JSON: invalid character ']'"},
		{"anchor", "definitions: &a {}\n", "f.yaml:1:14: YAML anchors, aliases and merge keys are not supported; write the value out"},
		{"alias", "policies: {}\nx: *a\n", "not YAML: unknown anchor"}, // unknown anchor
		{"merge key", "definitions:\n  <<: {g: {}}\n", "f.yaml:2:3: YAML anchors"},
		{"tag", "formatVersion: !!binary MjAyMQ==\n", `f.yaml:1:16: the YAML tag "!!binary" is not supported`},
		{"object as name", "definitions: {? {a: b} : c}\n", "a name is expected before the ':'"},
		{"deep", strings.Repeat("{a: ", 40) + strings.Repeat("}", 40), "nested deeper than 32 levels"},
		{"deep JSON", strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), "nested deeper than 32 levels"},
		{"section in section", "deviceGroups:\n  deviceGroups: {}\n", "f.yaml:2:3: deviceGroups: deviceGroups stands inside deviceGroups"},
		{"two sections", "deviceGroups: {}\nDeviceGroups: {}\n", "f.yaml:2:1: deviceGroups: \"DeviceGroups\" is given twice"},
		{"wrapped and bare", "deviceGroups: {}\npolicies: {}\n", `f.yaml:2:1: deviceGroups: "policies" stands beside "deviceGroups"`},
		{"other version", "formatVersion: gatehouse/v1\n", `f.yaml:1:16: deviceGroups.formatVersion: format version "gatehouse/v1" is not known; this release reads 2021-03-05`},
		{"version is a list", "formatVersion: []\n", "deviceGroups.formatVersion: a text is expected, found a list"},
		{"definitions is a list", "definitions: []\n", "f.yaml:1:14: deviceGroups.definitions: an object is expected, found a list"},
		{"group is a text", "definitions: {g: x}\n", "deviceGroups.definitions.g: an object with selectionRule and policyName is expected, found a text"},
		{"group is nothing", "definitions:\n  g:\n", "deviceGroups.definitions.g: an object with selectionRule and policyName is expected, found nothing"},
		{"no rule", "definitions:\n  g:\n    policyName: p\npolicies: {p: {}}\n", "f.yaml:2:3: deviceGroups.definitions.g.selectionRule: selectionRule is missing; write, for example"},
		{"no policy name", "definitions:\n  g:\n    selectionRule: 'thingName: a'\n", "f.yaml:2:3: deviceGroups.definitions.g.policyName: policyName is missing"},
		{"null policy name", "definitions:\n  g:\n    selectionRule: 'thingName: a'\n    policyName:\n", "policyName is missing"},
		{"rule with dot", "definitions:\n  g:\n    policyName: p\n    selectionRule: 'thingName: a.b'\npolicies: {p: {}}\n",
			`f.yaml:4:20: deviceGroups.definitions.g.selectionRule: selection rule "thingName: a.b": character 13: '.' is not allowed`},
		{"dotted name", "definitions:\n  a.b: {policyName: p}\n", `deviceGroups.definitions."a.b".selectionRule`},
		{"missing policy", group + "policies: {q: {}}\n", `f.yaml:2:50: deviceGroups.definitions.g.policyName: there is no policy "p"`},
		{"policy in other case", group + "policies: {P: {}}\n", `there is no policy "p"; did you mean "P"?`},
		{"policy that is dropped", "definitions: {g: {selectionRule: 'thingName: a', policyName: _p}}\npolicies: {_p: {}}\n", `there is no policy "_p"`},
		{"policy is a list", "policies: {p: []}\n", "deviceGroups.policies.p: an object is expected, found a list"},
		{"statement is a text", "policies: {p: {s: x}}\n", "deviceGroups.policies.p.s: an object with operations and resources is expected"},
		{"description is a list", "policies: {p: {s: {statementDescription: []}}}\n", "p.s.statementDescription: a text is expected"},
		{"deny", "policies: {p: {s: {effect: DENY}}}\n", `deviceGroups.policies.p.s.effect: effect is "DENY", and this format has only ALLOW`},
		{"null effect", "policies: {p: {s: {effect: }}}\n", "effect has no value"},
		{"empty effect", "policies: {p: {s: {effect: ''}}}\n", `effect is ""`},
		{"operations is a text", "policies: {p: {s: {operations: '*'}}}\n", `deviceGroups.policies.p.s.operations: a list is expected, found a text; put it in brackets: ["..."]`},
		{"resource is an object", "policies: {p: {s: {resources: [a: b]}}}\n", "deviceGroups.policies.p.s.resources[0]: a text is expected, found an object"},
		{"duplicate group", "definitions:\n  g: {}\n  g: {}\n", `f.yaml:3:3: deviceGroups.definitions.g: "g" is given twice`},
		{"duplicate in JSON", "{\"policies\": {\"p\": {},\n  \"p\": {}}}", `f.yaml:2:3: deviceGroups.policies.p: "p" is given twice`},
		{"column in characters", `{"x": "é導", "policies": []}`, "f.yaml:1:25: deviceGroups.policies: an object"},
		{"duplicate but for case", "policies:\n  P: {}\n  p: {}\n", `"p" is given twice (case does not count; the first is "P")`},
		{"duplicate property", "policies: {p: {s: {operations: [], OPERATIONS: ['*']}}}", `"OPERATIONS" is given twice`},
		{"duplicate dropped", "_x: 1\n_X: 2\n", `"_X" is given twice`},
		{"unknown variable", group + "policies:\n  p:\n    s:\n      operations: [a:b]\n      resources: ['', 'a:b:${x}']\n",
			"f.yaml:7:23: deviceGroups.policies.p.s.resources[1]: the variable \"${x}\" is not known; the only one is ${iot:Connection.Thing.ThingName}"},
		{"variable in other case", group + "policies: {p: {s: {operations: [a:b], resources: ['a:b:${iot:connection.thing.thingname}']}}}\n", "is not known"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			doc, err := Parse([]byte(tt.text), Options{File: "f.yaml"})
			if err == nil || doc != nil {
				t.Fatalf("parsed to %+v, %v; want an error with %q", doc, err, tt.want)
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error\n%v\nwant\n%s", err, tt.want)
			}
			for _, e := range ErrorsOf(err) {
				if e.File != "f.yaml" || e.Kind == "" || e.Msg == "" || e.Line == 0 && e.Kind != KindLimit && e.Kind != KindSyntax {
					t.Errorf("incomplete error %+v", e)
				}
			}
		})
	}
}

func TestParseAccepts(t *testing.T) {
	for name, text := range map[string]string{
		"empty object":             "{}",
		"null sections":            "definitions:\npolicies:\n",
		"date as version":          "formatVersion: 2021-03-05",
		"null policy":              "definitions: {g: {selectionRule: 'thingName: a', policyName: p}}\npolicies: {p: }",
		"numbers as names":         "definitions: {1: {selectionRule: 'thingName: 1', policyName: 007}}\npolicies: {007: {}}",
		"surrogates in JSON":       `{"policies": {"p": {"s": {"statementDescription": "\ud83d\ude00"}}}}`,
		"tabs in JSON":             "{\n\t\"policies\":\t{}\n}",
		"flow YAML":                "{definitions: {}, policies: {},}",
		"bad variable, not used":   "policies: {p: {s: {operations: ['*'], resources: ['${x}']}}}",
		"properties in other case": "FORMATVERSION: 2021-03-05\npolicies: {p: {s: {Effect: aLLow, RESOURCES: []}}}",
		"explicit document":        "---\npolicies: {}\n...\n",
	} {
		if _, err := Parse([]byte(text), Options{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestParseReportsAllProblemsInOrder(t *testing.T) {
	_, err := Parse([]byte("formatVersion: x\ndefinitions: {g: {}}\npolicies: {p: {s: {effect: DENY}}}\n"), Options{})
	var kinds []Kind
	for _, e := range ErrorsOf(err) {
		kinds = append(kinds, e.Kind)
		if !errors.Is(err, e) {
			t.Errorf("%v is not found in the error", e)
		}
	}
	if got, want := fmt.Sprint(kinds), "[formatVersion missing missing effect]"; got != want {
		t.Errorf("kinds %s, want %s", got, want)
	}
	many := "policies: {p: {s: {resources: [" + strings.Repeat("[],", 100) + "]}}}"
	if _, err := Parse([]byte(many), Options{}); len(ErrorsOf(err)) != problemsMax {
		t.Errorf("%d problems reported, want %d", len(ErrorsOf(err)), problemsMax)
	}
}

func TestParseWarnsOfWhatCannotBeMeant(t *testing.T) {
	doc := parseText(t, `definitons: {}
policies:
  unused:
    s:
      colour: red
      operations: ["mqtt:pub*", "mqtt:publish", "*", "mqtt:*", "publish"]
      resources: ["topic", "mqtt:topic:a", "no*", "mqtt:topic:\t"]
`)
	want := []string{
		`line 1, column 1: deviceGroups: the property "definitons" is not known and has no effect; did you mean "definitions"?`,
		"line 3, column 3: deviceGroups.policies.unused: no definition uses this policy",
		`line 5, column 7: deviceGroups.policies.unused.s: the property "colour" is not known`,
		`line 6, column 20: deviceGroups.policies.unused.s.operations[0]: no request can match the operation "mqtt:pub*"`,
		`deviceGroups.policies.unused.s.operations[4]: no request can match the operation "publish"`,
		`deviceGroups.policies.unused.s.resources[0]: no request can match the resource "topic"`,
		`deviceGroups.policies.unused.s.resources[3]: no request can match the resource "mqtt:topic:\t"`,
	}
	if len(doc.Warnings) != len(want) {
		t.Fatalf("%d warnings, want %d:\n%v", len(doc.Warnings), len(want), doc.Warnings)
	}
	for i, w := range want {
		if !strings.Contains(doc.Warnings[i].Error(), w) {
			t.Errorf("warning %d:\n%v\nwant\n%s", i, doc.Warnings[i], w)
		}
	}
}

func TestParseLimits(t *testing.T) {
	large := "# " + strings.Repeat("x", MaxDocumentBytes)
	pairs := "policies: {p: {s: {operations: [" + strings.Repeat("'*',", 1000) + "], resources: [" + strings.Repeat("'*',", 1000) + "]}}}"
	grows := "policies: {p: {s: {operations: [" + strings.Repeat("a,", MaxDocumentBytes/2-1000) + "]}}}"
	for name, text := range map[string]string{"large": large, "pairs": pairs, "grows in canonical form": grows} {
		_, err := Parse([]byte(text), Options{})
		if all := ErrorsOf(err); len(all) != 1 || all[0].Kind != KindLimit {
			t.Errorf("%s: %.200v, want one error of kind limit", name, err)
		}
	}
}

// Documents made to take long or to grow: each must be answered, and soon.
func TestParseIsNotBombed(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1, c-1, c-1)
	}
	n := MaxDocumentBytes
	for name, text := range map[string]string{
		"aliases":        bomb,
		"brackets":       strings.Repeat("[", n),
		"braces":         strings.Repeat("{", n),
		"JSON brackets":  strings.Repeat("[", n/2) + strings.Repeat("]", n/2),
		"dashes":         strings.Repeat("- ", n/2),
		"questions":      strings.Repeat("? ", n/2),
		"indentation":    strings.Repeat(" ", n-1) + "a",
		"long scalar":    strings.Repeat("a", n),
		"JSON on a line": `{"x": [` + strings.Repeat("1,", n/2-10) + `1], "x": 1}`,
		"many keys":      "{" + strings.Repeat("a: b, ", n/6-1) + "}",
		"quotes":         strings.Repeat(`"`, n),
		"comments":       strings.Repeat("#\n", n/2),
	} {
		start := time.Now()
		if doc, err := Parse([]byte(text), Options{}); err == nil {
			t.Errorf("%s: accepted as %+v", name, doc)
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("%s: took %v", name, took)
		}
	}
}

func TestParseNodeNamesPlacesInTheOuterFile(t *testing.T) {
	var file yaml.Node
	text := "clientDeviceAuth:\n  deviceGroups:\n    definitions: []\n"
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	section := file.Content[0].Content[1].Content[1]
	_, err := ParseNode(section, Options{File: "gatehouse.yaml", Path: "clientDeviceAuth.deviceGroups"})
	if want := "gatehouse.yaml:3:18: clientDeviceAuth.deviceGroups.definitions: an object is expected"; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	file.Content[0].Content[1].Content[1] = &yaml.Node{Kind: yaml.AliasNode}
	if _, err := ParseNode(file.Content[0], Options{}); err == nil {
		t.Error("an alias is accepted")
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{plantText, allowAllText, "{}", "a: &a [*a]", "\ufeff{}", `{"policies":{"p":{"s":{"operations":["*"],"resources":["${x"]}}}}`, "? a\n: b", "%YAML 1.1\n---\n", "<<: {}"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := Parse(text, Options{File: "f"})
		if err != nil {
			if len(ErrorsOf(err)) == 0 || doc != nil {
				t.Fatalf("error %T %v with document %v", err, err, doc)
			}
			return
		}
		again, err := Parse(doc.Canonical(), Options{})
		if err != nil || again.Revision() != doc.Revision() {
			t.Fatalf("the canonical form is read back as %v, %v:\n%s", again, err, doc.Canonical())
		}
		c := Compile(doc)
		c.For("thing").Evaluate("mqtt:publish", "mqtt:topic:a")
		c.Permissions("thing")
	})
}
