package load

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

func TestMixesOfTheProgram(t *testing.T) {
	if len(Names()) < 6 {
		t.Errorf("mixes: %q", Names())
	}
	schema := compiled(t, Schema())
	for _, name := range Names() {
		doc, _ := Named(name)
		m, err := Parse(name+".yaml", doc)
		if err != nil {
			t.Error(err)
			continue
		}
		if m.Name != name || m.About == "" || m.Total() > 3*time.Minute {
			t.Errorf("%s is called %q (%q) and takes %v", name, m.Name, m.About, m.Total())
		}
		if err := schema.Validate(value(t, doc)); err != nil {
			t.Errorf("%s by its schema: %v", name, err)
		}
	}
}

func compiled(t *testing.T, doc []byte) *jsonschema.Schema {
	t.Helper()
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(doc))
	must(t, err)
	c := jsonschema.NewCompiler()
	must(t, c.AddResource("s.json", parsed))
	s, err := c.Compile("s.json")
	must(t, err)
	return s
}

// value reads YAML as JSON's values.
func value(t testing.TB, doc []byte) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if v, err = jsonschema.UnmarshalJSON(bytes.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestWrongMixesAreToldWhereAndWhy(t *testing.T) {
	for doc, want := range map[string]string{
		"":                                                       `m.yaml:1:1: `,
		"name: x":                                                `m.yaml:1:1: "load" is missing`,
		"load: []":                                               `no phases`,
		"load: 5":                                                `m.yaml:1:7: load: "5", want a list`,
		"load: [{rate: 5}]":                                      `m.yaml:1:8: load[0]: "for" is missing: how long it lasts`,
		"load: [{for: 5}]":                                       `load[0].for: "5": want a duration, such as 250ms`,
		"load: [{for: 5s, rate: -1}]":                            `load[0].rate: "-1": want 0 to 1000000`,
		"load: [{for: 5s, rate: 2e6}]":                           `load[0].rate: "2e6": want 0 to 1000000`,
		"load: [{for: 5s, rate: .nan}]":                          `want a number`,
		"load: [{for: 48h}]":                                     `load[0].for: "48h": want 100ms to 24h0m0s`,
		"load: [{for: 24h}, {for: 24h}]":                         `the phases last 48h0m0s, want at most 24h0m0s`,
		"load: [{for: 5s, rte: 5}]":                              `m.yaml:1:18: load[0]: unknown key "rte"; known here: name, for, rate`,
		"load: [{for: 5s, for: 6s}]":                             `given twice`,
		"load: [{for: 5s, rate: 1, think: 1s}]":                  `rate and think are given`,
		"load: [{for: 5s, within: 1s}]":                          `within belongs to a storm`,
		"load: [{for: 1s, storm: 5%, within: 2s}]":               `within is longer than the phase`,
		"{devices: 0, load: [{for: 5s}]}":                        `devices: "0": want 1 to 1000000`,
		"{devices: 1.5, load: [{for: 5s}]}":                      `want a whole number`,
		"{devices: yes, load: [{for: 5s}]}":                      `want a number`,
		"{connected: 50, load: [{for: 5s}]}":                     `connected: "50": want a share`,
		"{connected: 101%, load: [{for: 5s}]}":                   `want a share, 0% to 100%`,
		"{arrivals: often, load: [{for: 5s}]}":                   `want poisson or constant`,
		"{operations: {publish: 1, sing: 2}, load: [{for: 5s}]}": `m.yaml:1:27: operations: unknown key "sing"`,
		"{operations: {}, load: [{for: 5s, rate: 1}]}":           `a rate, but no operations`,
		`{topics: {publish: ""}, load: [{for: 5s}]}`:             `want a topic of 1 to 512 bytes`,
		`{topics: {publish: "${env}"}, load: [{for: 5s}]}`:       `want no variables but ${thing} and ${n}`,
		"{name: \"a\\u001bb\", load: [{for: 5s}]}":               `printable`,
		"{tolerateDenials: 1, load: [{for: 5s}]}":                `want true or false`,
		"{devices: 1000000, load: [{for: 5s, think: 1ms}]}":      `1e+09 requests a second, want at most 1000000`,
		"load: &a [{for: 5s}]":                                   `m.yaml:`,
	} {
		_, err := Parse("m.yaml", []byte(doc))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "m.yaml") {
			t.Errorf("%s: %v, want %s", doc, err, want)
		}
		if policy.ErrorsOf(err) == nil {
			t.Errorf("%s: %T", doc, err)
		}
	}
	if _, err := Parse("m.yaml", []byte("load: ["+strings.Repeat("5,", 30)+"]")); len(policy.ErrorsOf(err)) != problemsMax {
		t.Errorf("of 30 problems %d are told", len(policy.ErrorsOf(err)))
	}
}

func TestFlagsBendAMix(t *testing.T) {
	m := mixOf(t, "load: [{for: 10s, rate: 100, to: 500}, {for: 30s, think: 1s}]") // 200 devices
	m.Fit(4 * time.Second)
	m.Scale(50)
	if m.Total() != 4*time.Second || m.Load[0].Rate != 10 || *m.Load[0].To != 50 || m.Load[1].Rate != 20 || m.Load[1].Think != 0 {
		t.Errorf("%+v", m.Load)
	}
}

// FuzzParse: whatever a file says, it is refused with a place or it can be played; what is
// played fits the schema.
func FuzzParse(f *testing.F) {
	for _, name := range Names() {
		doc, _ := Named(name)
		f.Add(doc)
	}
	f.Add([]byte(`{"load":[{"for":"1s","rate":1e3,"to":0}]}`))
	f.Add([]byte("load: [{for: 100ms, storm: 1%}]"))
	schema := compiled(&testing.T{}, Schema())
	f.Fuzz(func(t *testing.T, doc []byte) {
		m, err := Parse("m", doc)
		if err != nil {
			if all := policy.ErrorsOf(err); len(all) == 0 || len(all) > problemsMax {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if err := schema.Validate(value(t, doc)); err != nil {
			if _, ok := errors.AsType[*jsonschema.ValidationError](err); ok {
				t.Fatalf("it is taken, and its schema refuses it: %v", err)
			}
		}
		s := newSchedule(m)
		last := time.Duration(0)
		for range 1000 {
			a, more := s.next()
			if !more {
				break
			}
			if a.at < last || a.at > m.Total() || a.op > opChurn {
				t.Fatalf("%v after %v in %v", a, last, m.Total())
			}
			last = a.at
		}
	})
}

func TestScheduleKeepsTheRates(t *testing.T) {
	for _, arrivals := range []string{"constant", "poisson"} {
		m := mixOf(t, "{arrivals: "+arrivals+`, operations: {publish: 3, connect: 1},
			load: [{for: 10s, rate: 100}, {for: 10s, rate: 100, to: 300}, {for: 5s}, {for: 10s, rate: 300, to: 0}, {for: 10s, rate: 50, operations: {revoke: 1}}]}`)
		counts := make([]float64, 9) // of each 5 s
		publishes, total := 0.0, 0.0
		s := newSchedule(m)
		for a, more := s.next(); more; a, more = s.next() {
			counts[int(a.at/(5*time.Second))]++
			if (a.op == Revoke) != (a.at >= 35*time.Second) {
				t.Fatalf("%s at %v", a.op, a.at)
			}
			if a.op != Revoke {
				total++
			}
			if a.op == Publish {
				publishes++
			}
		}
		for i, want := range []float64{500, 500, 750, 1250, 0, 1125, 375, 250, 250} {
			tolerance := 1.0
			if arrivals == "poisson" {
				tolerance = 5 * math.Sqrt(want)
			}
			if math.Abs(counts[i]-want) > tolerance {
				t.Errorf("%s: %v in the %d. 5 s, want %v", arrivals, counts[i], i+1, want)
			}
		}
		if share := publishes / total; math.Abs(share-0.75) > 0.03 {
			t.Errorf("%.3f are publishes, want 0.75", share)
		}
	}
}

func TestSameSeedSameSchedule(t *testing.T) {
	list := func(seed string) []arrival {
		s := newSchedule(mixOf(t, "{seed: "+seed+", load: [{for: 2s, rate: 500}]}"))
		var all []arrival
		for a, more := s.next(); more; a, more = s.next() {
			all = append(all, a)
		}
		return all
	}
	a, b, c := list("7"), list("7"), list("8")
	same := len(a) == len(b)
	for i := range min(len(a), len(b)) {
		same = same && a[i] == b[i]
	}
	if !same || len(a) == 0 || len(c) > 0 && a[0] == c[0] {
		t.Errorf("%d, %d and %d arrivals, the same: %v", len(a), len(b), len(c), same)
	}
}
