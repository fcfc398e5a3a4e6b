package core

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

const (
	goodPolicy = "formatVersion: \"2021-03-05\"\n" +
		"definitions:\n  sensors:\n    selectionRule: \"thingName: sensor-*\"\n    policyName: p\n" +
		"policies:\n  p:\n    s:\n      operations: [\"mqtt:publish\"]\n      resources: [\"mqtt:topic:a\"]\n"
	badPolicy = "definitions:\n  sensors:\n    selectionRule: \"thingName: a b\"\n    policyName: missing\npolicies: {}\n"
)

// submit decides and folds, as the host does.
func submit(t *testing.T, s *Document, stream messages.StreamID, c messages.Command) messages.Decision {
	t.Helper()
	before := *s
	d, err := DecideDocument(stream, *s, messages.Input{Command: c})
	if err != nil {
		t.Fatal(err)
	}
	again, err := DecideDocument(stream, *s, messages.Input{Command: c})
	if err != nil || spell(t, again) != spell(t, d) || *s != before {
		t.Errorf("%T is decided otherwise the second time: %v", c, err)
	}
	for _, e := range d.Events {
		*s = EvolveDocument(*s, e, messages.Instant{})
	}
	return d
}

func spell(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func kindsOf(d messages.Decision) string {
	var names []string
	for _, e := range d.Events {
		names = append(names, e.Kind().String())
	}
	return strings.Join(names, " ")
}

func TestPolicyIsReplaced(t *testing.T) {
	var s Document
	replace := messages.ReplacePolicy{Document: []byte(goodPolicy), Source: messages.Source_SOURCE_FILE, Origin: "policy.yaml"}
	d := submit(t, &s, messages.StreamPolicy, replace)
	r, ok := d.Reply.(messages.Replaced)
	if !ok || !r.Changed || r.Revision == "" || kindsOf(d) != "PolicyReplaced" {
		t.Fatalf("first: %s, %+v", kindsOf(d), d.Reply)
	}
	e := d.Events[0].(*messages.PolicyReplaced)
	if e.Revision != r.Revision || e.Revision != digest(e.Document) || e.Origin != "policy.yaml" || e.Source != messages.Source_SOURCE_FILE {
		t.Errorf("the event is %+v", e)
	}

	d = submit(t, &s, messages.StreamPolicy, replace)
	if r2, ok := d.Reply.(messages.Replaced); !ok || r2.Changed || r2.Revision != r.Revision || len(d.Events) != 0 {
		t.Errorf("same again: %s, %+v", kindsOf(d), d.Reply)
	}
	other := replace
	other.Document = []byte(strings.Replace(goodPolicy, "topic:a", "topic:b", 1))
	if d = submit(t, &s, messages.StreamPolicy, other); kindsOf(d) != "PolicyReplaced" || s.Revision == r.Revision {
		t.Errorf("another: %s, %+v", kindsOf(d), d.Reply)
	}
}

// TestTheEventCanBeReadBack: what the log holds is what is in force.
func TestTheEventCanBeReadBack(t *testing.T) {
	var s Document
	first := submit(t, &s, messages.StreamPolicy, messages.ReplacePolicy{Document: []byte(goodPolicy)})
	e := first.Events[0].(*messages.PolicyReplaced)
	if d := submit(t, &s, messages.StreamPolicy, messages.ReplacePolicy{Document: e.Document}); len(d.Events) != 0 {
		t.Errorf("the document of the event is another revision: %+v", d.Reply)
	}
}

func TestRejectionKeepsTheFormerAndIsRecordedOnce(t *testing.T) {
	for _, c := range []struct {
		stream    messages.StreamID
		section   string
		good, bad messages.Command
		mentions  []string // file, line, cause
	}{
		{messages.StreamPolicy, "deviceGroups",
			messages.ReplacePolicy{Document: []byte(goodPolicy)}, messages.ReplacePolicy{Document: []byte(badPolicy), Origin: "dir/policy.yaml"},
			[]string{"dir/policy.yaml", "3", "thingName"}},
		{messages.StreamConfig, "clientDeviceAuth",
			messages.ReplaceConfig{Document: []byte("{\"security\":{\"clientDeviceTrustDurationMinutes\":5}}")}, messages.ReplaceConfig{Document: []byte("{\"security\":"), Origin: "gatehouse.yaml"},
			[]string{"1"}},
		{messages.StreamConfig, "clientDeviceAuth",
			messages.ReplaceConfig{Document: []byte("{}")},
			messages.RejectConfig{Document: []byte("mqtt: 5\n"), Origin: "gatehouse.yaml", Errors: []string{"gatehouse.yaml:1:7: mqtt: no mapping"}},
			[]string{"gatehouse.yaml:1:7"}},
	} {
		t.Run(c.section, func(t *testing.T) {
			var s Document
			submit(t, &s, c.stream, c.good)
			inForce := s.Revision
			d := submit(t, &s, c.stream, c.bad)
			r, ok := d.Reply.(messages.Rejected)
			if !ok || len(r.Errors) == 0 || kindsOf(d) != "ConfigRejected" {
				t.Fatalf("decided %s, %+v", kindsOf(d), d.Reply)
			}
			e := d.Events[0].(*messages.ConfigRejected)
			if e.Section != c.section || e.Revision == "" || strings.Join(e.Errors, "\n") != strings.Join(r.Errors, "\n") {
				t.Errorf("the event is %+v", e)
			}
			for _, want := range c.mentions {
				if !strings.Contains(strings.Join(r.Errors, "\n"), want) {
					t.Errorf("the errors do not mention %q: %q", want, r.Errors)
				}
			}
			if d = submit(t, &s, c.stream, c.bad); len(d.Events) != 0 || fmt.Sprintf("%T", d.Reply) != "messages.Rejected" {
				t.Errorf("rejected again: %s, %+v", kindsOf(d), d.Reply)
			}
			if s.Revision != inForce {
				t.Errorf("revision %q is in force, want the former, %q", s.Revision, inForce)
			}
			if d = submit(t, &s, c.stream, c.good); len(d.Events) != 0 {
				t.Errorf("the former is in force, yet: %s", kindsOf(d))
			}
		})
	}
}

// TestRejectionIsBounded: what a wrong document says about itself must not fill the log.
func TestRejectionIsBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("definitions:\n")
	for i := range 100 {
		fmt.Fprintf(&b, "  g%d:\n    selectionRule: \"thingName: %s é\"\n    policyName: p\n", i, strings.Repeat("é", 900))
	}
	var s Document
	d := submit(t, &s, messages.StreamConfig, messages.RejectConfig{Errors: slices.Repeat([]string{strings.Repeat("é", 900)}, 100)})
	if e, ok := d.Events[0].(*messages.ConfigRejected); !ok || len(e.Errors) != errorsMax || len(e.Errors[0]) > errorMaxBytes {
		t.Errorf("a file's errors: %s", kindsOf(d))
	}
	d = submit(t, &s, messages.StreamPolicy, messages.ReplacePolicy{Document: []byte(b.String())})
	if kindsOf(d) != "ConfigRejected" {
		t.Fatalf("decided %s", kindsOf(d))
	}
	e := d.Events[0].(*messages.ConfigRejected)
	if len(e.Errors) > errorsMax {
		t.Errorf("%d errors, want at most %d", len(e.Errors), errorsMax)
	}
	for _, line := range e.Errors {
		if len(line) > errorMaxBytes {
			t.Errorf("a line of %d bytes", len(line))
		}
		if strings.ToValidUTF8(line, "?") != line {
			t.Errorf("a character was cut in two: %q", line)
		}
	}
}

func TestConfigIsReplaced(t *testing.T) {
	var s Document
	replace := messages.ReplaceConfig{Document: []byte(`{"sessions":{"closeOnRevoke":false}}`), Origin: "gatehouse.yaml"}
	d := submit(t, &s, messages.StreamConfig, replace)
	if r, ok := d.Reply.(messages.Replaced); !ok || !r.Changed || kindsOf(d) != "ConfigReplaced" {
		t.Fatalf("decided %s, %+v", kindsOf(d), d.Reply)
	}
	if d = submit(t, &s, messages.StreamConfig, replace); len(d.Events) != 0 {
		t.Errorf("same again: %s", kindsOf(d))
	}
}

// TestDocumentsHoldTheirOwn: a stream takes its own document only; a policy on the
// configuration's stream would look like one in force.
func TestDocumentsHoldTheirOwn(t *testing.T) {
	for _, c := range []struct {
		stream  messages.StreamID
		command messages.Command
	}{
		{messages.StreamConfig, messages.ReplacePolicy{Document: []byte(goodPolicy)}},
		{messages.StreamPolicy, messages.ReplaceConfig{Document: []byte("{}")}},
		{messages.StreamPolicy, messages.RejectConfig{Errors: []string{"x"}}},
		{messages.StreamPolicy, messages.Note{Stream: messages.StreamPolicy, Event: &messages.Started{}}},
		{messages.StreamPolicy, messages.ForgetDevice{Thing: "a"}},
	} {
		if d, err := DecideDocument(c.stream, Document{}, messages.Input{Command: c.command}); err == nil {
			t.Errorf("%s took %T: %+v", c.stream, c.command, d)
		}
	}
}

// TestJournalsTakeTheirKinds: each kind has exactly the journal it belongs to, or none.
func TestJournalsTakeTheirKinds(t *testing.T) {
	streams := []messages.StreamID{
		messages.StreamCA, messages.StreamSync, messages.StreamClock, messages.StreamCredentials,
		messages.StreamLifecycle, messages.StreamStrangers, messages.StreamPolicy, messages.StreamConfig,
	}
	belongs := map[messages.Kind]messages.StreamID{messages.KindAccessDenied: messages.StreamStrangers}
	for k := messages.KindClockMarked; k <= messages.KindTrustVoided; k++ {
		belongs[k] = messages.StreamClock
	}
	belongs[messages.KindCredentialsServed] = messages.StreamCredentials
	belongs[messages.KindStarted], belongs[messages.KindStopped] = messages.StreamLifecycle, messages.StreamLifecycle

	for _, kind := range messages.AllKinds() {
		event, err := messages.DecodeEvent(&messages.Record{Kind: kind, Schema: 1})
		if err != nil {
			t.Fatal(err)
		}
		for _, stream := range streams {
			d, err := DecideJournal(stream, Journal{}, messages.Input{Command: messages.Note{Stream: stream, Event: event}})
			if takes := err == nil && len(d.Events) == 1 && d.Events[0] == event; takes != (belongs[kind] == stream) {
				t.Errorf("%s takes %s: %v (%v)", stream, kind, takes, err)
			}
		}
	}
}

// TestReanchor: that trust time goes back, what becomes void by it and where the next
// start goes on from are recorded together, or nothing is.
func TestReanchor(t *testing.T) {
	mark := &messages.ClockMarked{BootMs: 1, BootId: "b"}
	for _, c := range []struct {
		name    string
		stream  messages.StreamID
		command messages.ReanchorClock
		kinds   string
		ok      bool
	}{
		{"back", messages.StreamClock, messages.ReanchorClock{FormerMs: 9, AuthenticatedMs: 5, VoidAfterMs: 4, LapsedMs: 3, Mark: mark}, "ClockReanchored TrustVoided ClockMarked", true},
		{"back, and nothing had lapsed", messages.StreamClock, messages.ReanchorClock{FormerMs: 9, AuthenticatedMs: 5, LapsedMs: -3, Mark: mark}, "ClockReanchored ClockMarked", true},
		{"nothing to set back any more", messages.StreamClock, messages.ReanchorClock{FormerMs: 5, AuthenticatedMs: 5, Mark: mark}, "", true},
		{"an order that was not completed", messages.StreamClock, messages.ReanchorClock{OffsetMs: 5}, "", true},
		{"what is confirmed from now on would be void", messages.StreamClock, messages.ReanchorClock{FormerMs: 9, AuthenticatedMs: 5, LapsedMs: 6, Mark: mark}, "", false},
		{"what is in the future would not be void", messages.StreamClock, messages.ReanchorClock{FormerMs: 9, AuthenticatedMs: 5, VoidAfterMs: 6, Mark: mark}, "", false},
		{"no mark", messages.StreamClock, messages.ReanchorClock{FormerMs: 9, AuthenticatedMs: 5}, "", false},
		{"another journal", messages.StreamLifecycle, messages.ReanchorClock{FormerMs: 9, AuthenticatedMs: 5, Mark: mark}, "", false},
	} {
		d, err := DecideJournal(c.stream, Journal{}, messages.Input{Command: c.command})
		if got := kindsOf(d); got != c.kinds || (err == nil) != c.ok {
			t.Errorf("%s: decided %q (%v), want %q", c.name, got, err, c.kinds)
		}
	}
	d, _ := DecideJournal(messages.StreamClock, Journal{}, messages.Input{Command: messages.ReanchorClock{FormerMs: 9, AuthenticatedMs: 5, VoidAfterMs: 4, LapsedMs: 3, Authority: "cloud", Mark: mark}})
	if got := spell(t, d.Events); got != `[{"former_trust_ms":9,"authenticated_ms":5,"authority":"cloud","void_after_ms":4},{"before_ms":3,"reason":"lapsed before the clock was set back"},{"boot_ms":1,"boot_id":"b"}]` {
		t.Errorf("recorded %s", got)
	}
}

func TestJournalCommands(t *testing.T) {
	mark, denial := &messages.ClockMarked{BootMs: 1}, &messages.AccessDenied{Thing: "x"}
	for _, c := range []struct {
		stream  messages.StreamID
		command messages.Command
		ok      bool
	}{
		{messages.StreamClock, messages.MarkClock{Mark: mark}, true},
		{messages.StreamStrangers, messages.RecordDenial{Denial: denial}, true},
		{messages.StreamClock, messages.RecordDenial{Denial: denial}, false},
		{messages.StreamSync, messages.MarkClock{Mark: mark}, false},
		{messages.StreamSync, messages.ForgetDevice{Thing: "a"}, false},
		{messages.StreamSync, messages.Note{Stream: messages.StreamSync}, false},
	} {
		d, err := DecideJournal(c.stream, Journal{}, messages.Input{Command: c.command})
		if ok := err == nil && len(d.Events) == 1; ok != c.ok {
			t.Errorf("%s took %T: %v (%v)", c.stream, c.command, ok, err)
		}
	}
}
