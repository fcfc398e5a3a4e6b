package shadow

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// vectors are the shared ones of the reference.
type vectors struct {
	Topics map[string]string
	Dedup  []struct {
		Name                     string
		LastProcessed, QueueTail *vectorNotice
		New                      vectorNotice
		Accepted                 bool
	}
	Scenarios    []scenario
	Connectivity []struct {
		Do     string
		Stored *[]string
		Result string
		All    []string
	}
}

type vectorNotice struct {
	ShadowVersion int64
	CisVersion    *string
}

func (v *vectorNotice) notice() *Notice {
	if v == nil {
		return nil
	}
	n := &Notice{ShadowVersion: v.ShadowVersion}
	if v.CisVersion != nil {
		n.Version = *v.CisVersion
	}
	return n
}

// readVectors reads the whole file: a part that no test knows would be a test that is
// missing.
func readVectors(t testing.TB) *vectors {
	t.Helper()
	text, err := os.ReadFile("testdata/cis-shadow.json")
	if err != nil {
		t.Fatal(err)
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(text, &sections); err != nil {
		t.Fatal(err)
	}
	for name := range sections {
		if !strings.Contains(" about topics dedup scenarios connectivity ", " "+name+" ") {
			t.Errorf("no test knows the section %q", name)
		}
	}
	v := &vectors{}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestTopicsOfVectors(t *testing.T) {
	got := TopicsOf("core-17")
	for name, topic := range map[string]string{"get": got.Get, "accepted": got.Accepted, "rejected": got.Rejected, "delta": got.Delta, "update": got.Update} {
		if want := strings.ReplaceAll(readVectors(t).Topics[name], "<core>", "core-17"); topic != want || want == "" {
			t.Errorf("%s: %s, want %s", name, topic, want)
		}
	}
}

func TestAcceptsAsInVectors(t *testing.T) {
	cases := readVectors(t).Dedup
	if len(cases) != 10 {
		t.Errorf("%d cases", len(cases))
	}
	for _, c := range cases {
		if got := Accepts(c.LastProcessed.notice(), c.QueueTail.notice(), *c.New.notice()); got != c.Accepted {
			t.Errorf("%s: %v, want %v", c.Name, got, c.Accepted)
		}
	}
}

func TestOnlyTheNewestWaits(t *testing.T) {
	b := newInbox()
	for i, c := range []struct {
		n    Notice
		want bool
	}{
		{Notice{ShadowVersion: 1, Version: "a"}, true}, {Notice{ShadowVersion: 1, Version: "a"}, false}, {Notice{ShadowVersion: 3, Version: "c"}, true},
		{Notice{ShadowVersion: 2, Version: "b"}, false}, {Notice{ShadowVersion: 4, Version: "c"}, false},
	} {
		if got := b.offer(c.n); got != c.want {
			t.Errorf("%d: %+v: %v, want %v", i, c.n, got, c.want)
		}
	}
	if n := b.take(); n == nil || n.ShadowVersion != 3 {
		t.Errorf("took %+v", n)
	}
	if b.offer(Notice{ShadowVersion: 3, Version: "c"}) || b.offer(Notice{ShadowVersion: 5, Version: "c"}) || b.take() != nil {
		t.Error("what was taken came again")
	}
	if !b.offer(Notice{ShadowVersion: 6, Version: "d"}) {
		t.Error("news was refused")
	}
}

func TestParseMessages(t *testing.T) {
	for text, want := range map[string]Notice{
		`{"state":{"desired":{"version":"a","x":1}},"metadata":{},"version":7,"timestamp":1}`: {7, `"a"`, json.RawMessage(`{"version":"a","x":1}`)},
		`{"state":{"desired":{ "version" : 5 }},"version":7}`:                                 {7, `5`, json.RawMessage(`{"version":5}`)},
		`{"state":{"desired":{"version":null}},"version":7}`:                                  {7, ``, json.RawMessage(`{"version":null}`)},
		`{"state":{"desired":{}},"version":7}`:                                                {7, ``, json.RawMessage(`{}`)},
		`{"state":{"reported":{"version":"a"}},"version":7}`:                                  {7, ``, nil},
		`{"state":{},"version":0}`:                                                            {0, ``, nil},
		`{"version":7}`:                                                                       {7, ``, nil},
	} {
		got, err := ParseAccepted([]byte(text))
		if err != nil || got.ShadowVersion != want.ShadowVersion || got.Version != want.Version || string(got.State) != string(want.State) {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	got, err := ParseDelta([]byte(`{"state":{"version":"b"},"version":8,"timestamp":1}`))
	if err != nil || got.ShadowVersion != 8 || got.Version != `"b"` || string(got.State) != `{"version":"b"}` {
		t.Errorf("delta: %+v, %v", got, err)
	}
	if got := string(report(got.State)); got != `{"state":{"reported":{"version":"b"}}}` {
		t.Errorf("report %s", got)
	}
	for _, text := range []string{
		``, `{`, `[]`, `7`, `{"state":{}}`, `{"state":{},"version":"7"}`, `{"state":{},"version":7.5}`, `{"state":{},"version":-1}`, `{"state":{},"version":null}`,
		`{"state":[],"version":7}`, `{"state":{"desired":[]},"version":7}`, `{"state":{},"version":99999999999999999999}`, `{"version":7,"x":"` + strings.Repeat("x", payloadBytesMax) + `"}`,
	} {
		if got, err := ParseAccepted([]byte(text)); err == nil {
			t.Errorf("%.60s: accepted as %+v", text, got)
		}
	}
	for text, temporary := range map[string]bool{
		`{"code":404,"message":"No shadow exists"}`: false, `{"code":429}`: true, `{"code":500}`: true, `{"code":403}`: false,
	} {
		if r, err := parseRejected([]byte(text)); err != nil || r.temporary() != temporary {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
	for _, text := range []string{``, `{}`, `{"code":"404"}`, `x`} {
		if r, err := parseRejected([]byte(text)); err == nil {
			t.Errorf("%s: taken as %+v", text, r)
		}
	}
}

// FuzzShadowMessage: what is read can be reported and compared, and nothing breaks.
func FuzzShadowMessage(f *testing.F) {
	f.Add([]byte(`{"state":{"desired":{"version":"a"}},"metadata":{},"version":7,"timestamp":1}`))
	f.Add([]byte(`{"state":{"version":{"a":[1, 2]}},"version":8}`))
	f.Add([]byte(`{"code":404,"message":"No shadow exists with name: 'core-1-gci'"}`))
	f.Add([]byte("{\"state\":{\"version\":\"\xff\"},\"version\":1}"))
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, parse := range []func([]byte) (Notice, error){ParseAccepted, ParseDelta} {
			n, err := parse(payload)
			if err != nil {
				continue
			}
			if n.ShadowVersion < 0 || n.State != nil && !json.Valid(report(n.State)) {
				t.Errorf("%q: %+v", payload, n)
			}
			if Accepts(&n, nil, n) || !Accepts(nil, nil, n) {
				t.Errorf("%q: %+v is news twice, or never", payload, n)
			}
		}
		_, _ = parseRejected(payload)
	})
}
