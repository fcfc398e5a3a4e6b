package fault

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

const list cloudsync.Operation = "ListClientDevicesAssociatedWithCoreDevice"

const full = `
seed: 7
faults:
  - {operation: control-plane, latency: 200ms, dateSkew: -1h, header: {X-Proxy: "yes"}}
  - operation: ListClientDevicesAssociatedWithCoreDevice
    skip: 6
    every: 2
    count: 1
    page: missing
  - {operation: data-plane, probability: 0.25, status: 429, errorType: ThrottlingException, retryAfter: 2s}
  - {body: "<html>", contentType: text/html, count: 1}
  - {status: 503, contentType: text/html, count: 1}
  - {operation: probe, drop: true}
  - {blackhole: true, count: 1}
  - {truncate: true, count: 1}
  - {mangle: gzip-bomb, count: 1}
  - {tls: expired}
`

func TestParseReadsEveryKey(t *testing.T) {
	s, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	want := Script{Seed: 7, Faults: []Fault{
		{Operation: ControlPlane, Latency: 200 * time.Millisecond, DateSkew: -time.Hour, Header: map[string]string{"X-Proxy": "yes"}},
		{Operation: list, Skip: 6, Every: 2, Count: 1, Page: PageMissing},
		{Operation: DataPlane, Probability: 0.25, Status: 429, ErrorType: "ThrottlingException", RetryAfter: 2 * time.Second},
		{Body: "<html>", ContentType: "text/html", Count: 1},
		{Status: 503, ContentType: "text/html", Count: 1},
		{Operation: Probe, Drop: true},
		{Blackhole: true, Count: 1},
		{Truncate: true, Count: 1},
		{Mangle: MangleGzipBomb, Count: 1},
		{TLS: TLSExpired},
	}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v, want %+v", s, want)
	}
	doc, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var again Script
	if err := json.Unmarshal(doc, &again); err != nil || !reflect.DeepEqual(again, want) {
		t.Errorf("through JSON: %v, %+v", err, again)
	}
	for key := range reflect.TypeFor[wire]().Fields() {
		name, _, _ := strings.Cut(key.Tag.Get("json"), ",")
		if !strings.Contains(full, name+":") {
			t.Errorf("the example lacks %s", name)
		}
	}
}

var bad = map[string]string{
	"":                                       "a mapping is wanted",
	"{}":                                     "faults: there are none",
	"[]":                                     "line 1, column 1: a mapping is wanted",
	"{":                                      "not JSON",
	"faults: 3":                              "faults: a list of faults",
	"fault: []":                              "line 1, column 1: fault: unknown key; known here: faults, seed",
	"faults: []\nfaults: []":                 "line 2, column 1: faults: this key was given before",
	`{"faults":[],"faults":[]}`:              "line 1, column 14: faults: this key was given before",
	"faults:\n  - {status: 99}":              "line 2, column 14: faults[0].status: status 99, want 200 to 599",
	"faults: [{status: abc}]":                "faults[0].status: a whole number",
	"faults: [{status: 0x1f4}]":              "faults[0].status: \"0x1f4\"",
	"faults: [{latency: 5}]":                 "a duration such as",
	"faults: [{latency: 5x}]":                "no duration",
	"faults: [{latency: 2h}]":                "faults[0].latency: 2h0m0s, want 0 to 1h",
	"faults: [{latency: -1s}]":               "faults[0].latency",
	"faults: [{operation: List}]":            "there is no operation \"List\"",
	"faults: [{}]":                           "this fault does nothing",
	"faults: [{operation: probe, count: 2}]": "faults[0]: this fault does nothing",
	"faults: [{count: -1, drop: true}]":      "faults[0].count: -1",
	"faults: [{probability: 2, drop: true}]": "faults[0].probability: 2, want 0 to 1",
	"faults: [{probability: .nan, drop: true}]":             "faults[0].probability",
	"faults: [{drop: false}]":                               "write true",
	"faults: [{drop: yes}]":                                 "faults[0].drop",
	"faults: [{drop: true, page: end}]":                     "faults[0].page: drop and page are two outcomes",
	"faults: [{errorType: X}]":                              "faults[0].errorType: an error type needs a status",
	"faults: [{contentType: text/html}]":                    "faults[0].contentType: a content type needs a body or a status",
	"faults: [{retryAfter: 2s}]":                            "faults[0].retryAfter: Retry-After needs a status",
	"faults: [{retryAfter: 1500ms, status: 429}]":           "whole seconds",
	"faults: [{page: last}]":                                "faults[0].page: \"last\", want one of",
	"faults: [{mangle: zip}]":                               "faults[0].mangle",
	"faults: [{tls: none}]":                                 "faults[0].tls",
	"faults: [{tls: expired, latency: 1s}]":                 "faults[0].tls: it strikes before there is a request",
	"faults: [{tls: expired, operation: ListThings}]":       "faults[0].tls: a connection is not made for one operation",
	"faults: [{page: end, operation: DescribeThing}]":       "faults[0].page: DescribeThing does not answer in pages",
	"faults: [{page: end, operation: data-plane}]":          "faults[0].page",
	`faults: [{header: {"a b": c}}]`:                        "faults[0].header: \"a b\" is not the name",
	`faults: [{header: {content-length: "3"}}]`:             "the connection's own",
	`faults: [{header: {A: "x\ny"}}]`:                       "control characters",
	`faults: [{header: {A: 3}}]`:                            "faults[0].header.A: text is wanted",
	"seed: -1\nfaults: []":                                  "line 1, column 7: seed",
	"faults: [&a {drop: true}]":                             "anchors",
	"faults: [" + strings.Repeat("{drop: true},", 65) + "]": "65 faults, at most 64",
}

func TestParseRefusesWithThePlace(t *testing.T) {
	for doc, want := range bad {
		_, err := Parse([]byte(doc))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: got %v, want %q", doc, err, want)
		}
		if err != nil && len(policy.ErrorsOf(err)) == 0 {
			t.Errorf("%.80q: %T tells no places", doc, err)
		}
	}
	if _, err := Parse(bytes.Repeat([]byte(" "), DocumentBytesMax+1)); err == nil {
		t.Error("a document without end was read")
	}
	if s, err := Parse([]byte("faults: []")); err != nil || len(s.Faults) > 0 {
		t.Errorf("a script that ends all: %v, %v", s, err)
	}
}

var update = flag.Bool("update", false, "write the operations into fault.schema.json")

// writeOperations replaces the list of operations in the schema's text.
func writeOperations(t *testing.T, ops []string) {
	t.Helper()
	list, err := json.MarshalIndent(ops, "          ", "  ")
	if err != nil {
		t.Fatal(err)
	}
	pattern := regexp.MustCompile(`(?s)("description": "What it strikes[^"]*",\s*"enum": )\[.*?\]`)
	if err := os.WriteFile("fault.schema.json", pattern.ReplaceAll(Schema, []byte("${1}"+string(list))), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestSchemaAgreesWithParse(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	schemaDoc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource("fault.schema.json", schemaDoc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("fault.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Parse([]byte(full))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	if err != nil {
		t.Fatal(err)
	}
	if err := schema.Validate(value); err != nil {
		t.Error(err)
	}
	for _, text := range []string{
		`[]`, `{}`, `{"fault":[]}`, `{"faults":[{}]}`, `{"faults":[{"status":99}]}`, `{"faults":[{"latency":5}]}`, `{"faults":[{"latency":"5x"}]}`,
		`{"faults":[{"operation":"List"}]}`, `{"faults":[{"drop":false}]}`, `{"faults":[{"page":"last"}]}`, `{"faults":[{"mangle":"zip"}]}`, `{"faults":[{"tls":"none"}]}`,
		`{"faults":[{"errorType":"X"}]}`, `{"faults":[{"retryAfter":"2s"}]}`, `{"faults":[{"contentType":"text/html"}]}`,
		`{"faults":[{"count":-1,"drop":true}]}`, `{"faults":[{"probability":2,"drop":true}]}`, `{"faults":[{"header":{"A":3}}]}`, `{"seed":-1,"faults":[]}`,
	} {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if schema.Validate(value) == nil {
			t.Errorf("the schema accepts %s", text)
		}
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("Parse accepts %s", text)
		}
	}
	// The schema's words are those of the program.
	var described struct {
		Defs struct {
			Fault struct {
				Properties map[string]struct{ Enum []string }
			}
		} `json:"$defs"`
	}
	if err := json.Unmarshal(Schema, &described); err != nil {
		t.Fatal(err)
	}
	words := described.Defs.Fault.Properties
	if got := len(words); got != reflect.TypeFor[wire]().NumField() {
		t.Errorf("%d properties", got)
	}
	var ops []string
	for _, op := range slices.Concat(Operations(DataPlane), Operations(ControlPlane), Operations(MQTT), Operations(Credentials), []cloudsync.Operation{Probe, DataPlane, ControlPlane, MQTT, Credentials}) {
		if !slices.Contains(ops, string(op)) { // some are at both
			ops = append(ops, string(op))
		}
	}
	slices.Sort(ops)
	if *update {
		writeOperations(t, ops)
		return
	}
	for field, want := range map[string][]string{"operation": ops, "page": texts(pages), "mangle": texts(mangles), "tls": texts(tlses)} {
		if !slices.Equal(words[field].Enum, want) {
			t.Errorf("%s: schema %q, program %q", field, words[field].Enum, want)
		}
	}
}

func texts[T ~string](words []T) (all []string) {
	for _, w := range words {
		all = append(all, string(w))
	}
	return all
}

// strikes plays n requests for op and writes what becomes of each: the status, '.' if it
// is the truth.
func strikes(s Script, op cloudsync.Operation, n int) string {
	p := NewPlayer(s)
	var b strings.Builder
	for range n {
		e := p.Request(ControlPlane, op)
		switch {
		case e.Outcome == nil:
			b.WriteByte('.')
		case e.Outcome.Status > 0:
			b.WriteByte(byte('0' + e.Outcome.Status/100))
		default:
			b.WriteByte('x')
		}
	}
	return b.String()
}

func TestPlayerCounts(t *testing.T) {
	for name, c := range map[string]struct {
		faults []Fault
		want   string
	}{
		"all":                         {[]Fault{{Status: 500}}, "5555555555"},
		"the next two":                {[]Fault{{Status: 500, Count: 2}}, "55........"},
		"the seventh":                 {[]Fault{{Page: PageMissing, Skip: 6, Count: 1}}, "......x..."},
		"every third":                 {[]Fault{{Status: 500, Every: 3}}, "..5..5..5."},
		"every third, behind two":     {[]Fault{{Status: 500, Every: 3, Skip: 2}}, "....5..5.."},
		"one, when the other is over": {[]Fault{{Status: 500, Count: 2}, {Status: 400, Count: 1}}, "554......."},
		"the first wins":              {[]Fault{{Status: 400, Every: 2}, {Status: 500}}, "5454545454"},
		"delays pass on":              {[]Fault{{Latency: 1}, {Status: 500, Count: 1}}, "5........."},
		"another operation":           {[]Fault{{Status: 500, Operation: "ListThings"}}, ".........."},
		"another plane":               {[]Fault{{Status: 500, Operation: DataPlane}}, ".........."},
		"this plane":                  {[]Fault{{Status: 500, Operation: ControlPlane, Count: 1}}, "5........."},
		"connections":                 {[]Fault{{TLS: TLSExpired}}, ".........."},
		"none":                        {nil, ".........."},
	} {
		if got := strikes(Script{Faults: c.faults}, list, 10); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
	if got := strikes(Script{Faults: []Fault{{Page: PageEnd}}}, "DescribeThing", 3); got != "..." {
		t.Errorf("pages of what has none: %s", got)
	}
	if e := (*Player)(nil).Request(DataPlane, Probe); e.Outcome != nil || (*Player)(nil).Connection(DataPlane) != "" || (*Player)(nil).States() != nil {
		t.Error("nobody struck")
	}
}

func TestEffectsAddUp(t *testing.T) {
	p := NewPlayer(Script{Faults: []Fault{
		{Latency: time.Second, Header: map[string]string{"A": "1", "B": "1"}}, {Latency: time.Minute, DateSkew: time.Hour, Header: map[string]string{"B": "2"}},
		{Drop: true, Latency: time.Hour}, {DateSkew: time.Hour},
	}})
	e := p.Request(DataPlane, Probe)
	if e.Latency != time.Hour+time.Minute+time.Second || e.DateSkew != time.Hour || !reflect.DeepEqual(e.Header, map[string]string{"A": "1", "B": "2"}) || !e.Outcome.Drop {
		t.Errorf("got %+v", e)
	}
	if s := p.States(); s[2].Struck != 1 || s[3].Tried != 0 {
		t.Errorf("states %+v", s)
	}
}

func TestConnectionsAreCountedApart(t *testing.T) {
	p := NewPlayer(Script{Faults: []Fault{{TLS: TLSExpired, Operation: ControlPlane, Count: 1}, {TLS: TLSHang, Skip: 1}, {Status: 500}}})
	got := []TLS{p.Connection(DataPlane), p.Connection(ControlPlane), p.Connection(ControlPlane), p.Connection(DataPlane)}
	if !slices.Equal(got, []TLS{"", TLSExpired, TLSHang, TLSHang}) || !p.StrikesConnections() || p.States()[2].Tried != 0 {
		t.Errorf("got %q", got)
	}
}

// Chance is the seed's: the same again for the same, and about as often as asked.
func TestChanceIsTheSeeds(t *testing.T) {
	s := Script{Seed: 3, Faults: []Fault{{Status: 500, Probability: 0.25}}}
	once := strikes(s, list, 1000)
	if again := strikes(s, list, 1000); again != once {
		t.Error("the same seed strikes otherwise")
	}
	s.Seed++
	if other := strikes(s, list, 1000); other == once {
		t.Error("another seed strikes the same")
	}
	if n := strings.Count(once, "5"); n < 180 || n > 320 {
		t.Errorf("%d of 1000 struck, want about 250", n)
	}
}

func TestCheckRefusesWhatParseDoes(t *testing.T) {
	for _, f := range []Fault{{}, {Count: 2}, {Operation: Probe, Probability: 0.5}, {RetryAfter: time.Second}, {ContentType: "text/html"}, {Drop: true, Truncate: true}} {
		if err := (Script{Faults: []Fault{{Drop: true}, f}}).Check(); err == nil || !strings.HasPrefix(err.Error(), "fault 1") {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

// FuzzParse: what is read passes the check, and comes back the same from its own JSON.
func FuzzParse(f *testing.F) {
	f.Add([]byte(full))
	for doc := range bad {
		f.Add([]byte(doc))
	}
	f.Add([]byte(`{"seed":18446744073709551615,"faults":[{"probability":1e-300,"drop":true}]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := Parse(doc)
		if err != nil {
			return
		}
		if err := s.Check(); err != nil {
			t.Fatalf("read, and then %v", err)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > DocumentBytesMax {
			return
		}
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !reflect.DeepEqual(s, again) {
			t.Errorf("got %+v, want %+v", again, s)
		}
	})
}
