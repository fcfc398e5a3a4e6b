package scenario

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// with makes a file of one scenario with these events.
func with(events ...string) string {
	return "scenarios: [{name: one, events: [" + strings.Join(events, ", ") + "]}]"
}

// Each error names the file, the place, the scenario and its event, and what to do.
func TestParseSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"nothing", "", `f.yaml:1:1: nothing, want an object; keys here: about, scenarios`},
		{"a list", "[]", "f.yaml:1:1: a list of 0, want an object"},
		{"no scenarios", "scenarios: []", "scenarios: no scenarios; add an object"},
		{"neither JSON nor YAML", `{"scenarios": [}`, "f.yaml:1:16: not JSON"},
		{"an anchor", "scenarios: &a []", "anchors"},
		{"two documents", "a: 1\n---\nb: 2", "second YAML document"},
		{"unknown key", "scenario: []", `f.yaml:1:1: unknown key "scenario"; known here: about, scenarios`},
		{"a name twice", "scenarios: [{name: one, events: []}, {name: one, events: []}]", "scenarios[1] (one): two scenarios have this name"},
		{"no events", "scenarios: [{name: one}]", `scenarios[0] (one): "events" is missing; add "events"`},
		{"trust of no time", "scenarios: [{name: one, trustMinutes: 0, events: []}]", "scenarios[0] (one).trustMinutes: 0 minutes, want 1 to 2147483647"},
		{"half a minute", "scenarios: [{name: one, trustMinutes: 0.5, events: []}]", "0.5, want a whole number"},
		{"no kind", with("{at: 1}"), `scenarios[0] (one).events[0]: an object without "do", the kind of event; kinds: cloudCert`},
		{"unknown kind", with("{do: conect}"), `scenarios[0] (one).events[0] (conect).do: no event "conect"; kinds: cloudCert`},
		{"an event that is none", with("5"), `scenarios[0] (one).events[0]: "5" without "do"`},
		{"a missing key", with("{do: verify, cert: A}"), `scenarios[0] (one).events[0] (verify): "expect" is missing; add "expect": whether it is good`},
		{"an unknown key", with("{do: wait, wall: 1}"), `events[0] (wait): unknown key "wall"; known here: do, at`},
		{"a key twice", with("{do: wait, at: 1, at: 2}"), `events[0] (wait).at: given twice; remove one of the two`},
		{"a number for text", with("{do: associate, thing: 5}"), `events[0] (associate).thing: "5", want text of at most 4096 bytes; put it in quotes`},
		{"text for a truth", with("{do: network, up: yes}"), `events[0] (network).up: "yes", want true or false`},
		{"text for a number", with("{do: wait, at: soon}"), `events[0] (wait).at: "soon", want a number`},
		{"no number", with("{do: wait, at: .nan}"), `want a number`},
		{"too late", with("{do: wait, at: 1e10}"), `1e10 seconds, want -3e+09 to 3e+09`},
		{"before the beginning", with("{do: wait, at: -1}"), `events[0] (wait): it happens at -1 s, after an event at 0 s; put the events in the order of time`},
		{"out of order", with("{do: wait, at: 5}", "{do: wait}", "{do: wait, at: 4}"), `events[2] (wait): it happens at 4 s, after an event at 5 s`},
		{"not a choice", with("{do: cloudCert, cert: A, status: active}"), `events[0] (cloudCert).status: "active", want ACTIVE, INACTIVE`},
		{"no name", with(`{do: cloudCert, cert: "", status: ACTIVE}`), "a certificate's name has 1 to 64 printable characters"},
		{"a component's name", with(`{do: componentCert, cert: K, name: a b}`), "component name: invalid identifier"},
		{"an end before its beginning", with("{do: certValidity, cert: A, notBefore: 5, notAfter: 4}"), "notAfter (4 s) is before notBefore (5 s)"},
		{"two validities", with("{do: certValidity, cert: A, notBefore: 5, notAfter: 6}", "{do: certValidity, cert: A, notBefore: 5, notAfter: 6}"), `events[1] (certValidity): the validity of "A" is given twice`},
		{"a state half said", with("{do: state, expect: {certs: {A: {status: ACTIVE}}}}"), `events[0] (state).expect.certs.A: "lastUpdatedAt" is missing`},
		{"things of no shape", with("{do: state, expect: {things: [A]}}"), `events[0] (state).expect.things: a list of 1, want an object`},
		{"an unknown kind of event in the log", with("{do: log, expect: {Foo: 1}}"), `events[0] (log).expect: "Foo", want AccessDenied`},
		{"a configuration that is none", with("{do: config, clientDeviceAuth: 5}"), `events[0] (config).clientDeviceAuth: "5", want an object`},
		{"a sleep backwards", with("{do: suspend, for: -5}"), "-5 s, want at least 0.001 s"},
		{"no sleep", with("{do: suspend, for: 0}"), "0 s, want at least 0.001 s"},
		{"off for no time", with("{do: reboot, off: 0}"), "0 s, want at least 0.001 s"},
		{"off for less", with("{do: reboot, off: -3e9}"), "-3e+09 s, want at least 0.001 s"},
		{"sleeps without end", with("{do: suspend, for: 3e9}", "{do: reboot, off: 3e9}", "{do: wait}"), "scenarios[0] (one).events[1] (reboot): it ends at 6000000000 s, want at most 3000000000 s"},
		{"a sleep at the end of time", with("{do: reboot, at: 3e9}"), "it ends at 3000000010 s, want at most 3000000000 s"},
		{"too large", strings.Repeat(" ", FileBytesMax+1), "the document has 4194305 bytes, 4194304 are allowed; split the file"},
		{"too many events", with(strings.Repeat("{do: wait},", eventsMax) + "{do: wait}"), "a list of 10001, want a list of at most 10000"},
		{"too deep", strings.Repeat("[", 50) + strings.Repeat("]", 50), "nested deeper"},
		{"a name that steers terminals", "scenarios: [{name: \"a\\e[31m\\nb\", events: [{do: no}]}]", "scenarios[0] (a.[31m.b).events[0] (no).do"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Parse("f.yaml", []byte(c.doc))
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(err.Error(), "f.yaml:") || !strings.Contains(err.Error(), c.want) || len(policy.ErrorsOf(err)) > problemsMax {
				t.Errorf("error\n%v\nwant\n%s", err, c.want)
			}
		})
	}
}

// files are the scenarios that are kept here.
func files(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("testdata/*.*")
	if err != nil || len(names) < 2 {
		t.Fatalf("files %v, %v", names, err)
	}
	return names
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	doc, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("scenarios.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("scenarios.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// instance reads doc as the schema's library wants it.
func instance(t *testing.T, doc []byte) any {
	t.Helper()
	n, err := policy.ReadDocument(doc, FileBytesMax, "")
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := n.Decode(&value); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	value, err = jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestSchemaAcceptsTheFiles(t *testing.T) {
	schema := compileSchema(t)
	for _, name := range files(t) {
		if err := schema.Validate(instance(t, read(t, name))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What the schema refuses, Parse refuses.
func TestSchemaRefusesWhatParseRefuses(t *testing.T) {
	schema := compileSchema(t)
	for _, doc := range []string{
		"scenarios: []", "scenario: []", "scenarios: [{name: one}]", "scenarios: [{name: one, events: 5}]",
		"scenarios: [{name: one, trustMinutes: 0, events: []}]", "scenarios: [{name: one, trustMinutes: 0.5, events: []}]",
		with("{at: 1}"), with("{do: conect}"), with("{do: verify, cert: A}"), with("{do: wait, wall: 1}"), with("{do: wait, at: soon}"), with("{do: wait, at: 1e10}"),
		with("{do: network, up: 'yes'}"), with("{do: cloudCert, cert: A, status: active}"), with("{do: cloudCert, cert: '', status: ACTIVE}"),
		with("{do: state, expect: {certs: {A: {status: ACTIVE}}}}"), with("{do: state, expect: {things: [A]}}"), with("{do: log, expect: {Foo: 1}}"),
		with("{do: config, clientDeviceAuth: 5}"), with("{do: suspend, for: -1}"), with("{do: suspend, for: 4e9}"), with("{do: reboot, off: 0}"),
	} {
		if err := schema.Validate(instance(t, []byte(doc))); err == nil {
			t.Errorf("the schema accepts %s", doc)
		}
		if _, err := Parse("f", []byte(doc)); err == nil {
			t.Errorf("Parse accepts %s", doc)
		}
	}
}

// Every kind of event has its line in the help and its place in the schema, and its keys
// say what they are.
func TestEveryKindIsDescribed(t *testing.T) {
	help, schema := Help(), string(Schema())
	names := kindNames()
	slices.Sort(names)
	if len(slices.Compact(slices.Clone(names))) != len(names) {
		t.Errorf("a kind twice: %v", names)
	}
	for _, k := range kinds {
		if !strings.Contains(help, "\n  "+k.name+"  "+k.doc+"\n") || !strings.Contains(schema, `"const": "`+k.name+`"`) {
			t.Errorf("%s is not described", k.name)
		}
	}
	var walk func(at string, schema map[string]any)
	walk = func(at string, schema map[string]any) {
		properties, _ := schema["properties"].(map[string]any)
		for name, p := range properties {
			p := p.(map[string]any)
			if doc, _ := p["description"].(string); len(doc) < 5 {
				t.Errorf("%s.%s: description %q", at, name, doc)
			}
			walk(at+"."+name, p)
		}
		if items, ok := schema["items"].(map[string]any); ok {
			walk(at+"[]", items)
		}
	}
	var root map[string]any
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	walk("file", root)
	for _, event := range root["$defs"].(map[string]any)["event"].(map[string]any)["oneOf"].([]any) {
		walk("event", event.(map[string]any))
	}
}

// TestASectionIsTheConfigurationsToRead: what it means there it means here.
func TestASectionIsTheConfigurationsToRead(t *testing.T) {
	for _, section := range []string{
		"{security: {clientDeviceTrustDurationMinutes: 90}}", `{"security": {"clientDeviceTrustDurationMinutes": "90"}}`,
		"{security: {clientDeviceTrustDurationMinutes: 90}, certificates: ~, metrics: }", "{}",
		"{security: {clientDeviceTrustDurationMinutes: 0x5a}}", "{sessions: {closeOnRevoke: False}}", "{security: [90]}",
	} {
		want, _, wantErr := config.Parse([]byte(section), nil)
		f, err := Parse("f", []byte(with("{do: config, clientDeviceAuth: "+section+"}")))
		if err != nil {
			t.Errorf("%s: %v", section, err)
			continue
		}
		got, _, err := config.Parse(f.Scenarios[0].Events[0].act.(*configure).ClientDeviceAuth, nil)
		if (err == nil) != (wantErr == nil) || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v, %v", section, got, err, want, wantErr)
		}
	}
}

// FuzzParse: whatever a file holds is read or refused with a place and a reason; what is
// read is within the limits.
func FuzzParse(f *testing.F) {
	f.Add([]byte(with("{do: wait, at: 1}")))
	f.Add([]byte(`{"scenarios":[{"name":"one","events":[{"do":"state","expect":{"things":{"a":{"b":1}},"pems":["a"]}}]}]}`))
	f.Add([]byte(with("{do: connect, thing: a, cert: A, expectVerify: true, expect: ok}", "{do: config, clientDeviceAuth: {a: [1, x, null]}}")))
	f.Add([]byte("scenarios:\n- name: one\n  events:\n  - do: config # a\n    clientDeviceAuth:\n      # b\n      security: ~\n      x: {a: 0x1f, b: True, c: 'true', d: \"\\0\", e: 1_000, f: , 1: 2 }\n      f: |-\n        g\n        #h\n\n      certificates:\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		file, err := Parse("f", doc)
		if err != nil {
			problems := policy.ErrorsOf(err)
			if file != nil || len(problems) == 0 || len(problems) > problemsMax {
				t.Fatalf("refused with %v", err)
			}
			for _, p := range problems {
				if p.File != "f" || p.Msg == "" {
					t.Errorf("problem %+v", p)
				}
			}
			return
		}
		var given []document
		for _, s := range file.Scenarios {
			for _, e := range s.Events {
				if e.act == nil || e.Line < 1 || kindOf(e.Do) == nil {
					t.Errorf("event %+v", e)
				}
				if c, ok := e.act.(*configure); ok {
					given = append(given, c.ClientDeviceAuth)
				}
			}
		}
		root, err := policy.ReadDocument(doc, FileBytesMax, "")
		if err != nil {
			t.Fatal(err)
		}
		written := sections(root)
		if len(written) != len(given) {
			t.Fatalf("%d sections, in the file are %d", len(given), len(written))
		}
		for i, section := range given {
			if got, err := policy.ReadDocument(section, 2*FileBytesMax, ""); err != nil || !same(got, written[i]) {
				t.Errorf("the section is now %q: %v", section, err)
			}
		}
	})
}

// sections finds the clientDeviceAuth of events.
func sections(n *yaml.Node) (found []*yaml.Node) {
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && n.Content[i-1].Value == "clientDeviceAuth" {
			found = append(found, child)
		} else {
			found = append(found, sections(child)...)
		}
	}
	return found
}

// same says whether two trees mean the same.
func same(a, b *yaml.Node) bool {
	if a.Kind != b.Kind || a.ShortTag() != b.ShortTag() || a.Value != b.Value && a.ShortTag() != "!!null" {
		return false
	}
	return slices.EqualFunc(a.Content, b.Content, same)
}
