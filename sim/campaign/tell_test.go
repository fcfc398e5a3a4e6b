package campaign

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

var promises = []Invariant{{"S1", "nobody is allowed after a revocation"}, {"T1", "trust ends"}, {"X9", "never looked at"}}

// clean is the outcome of 12 honest seeds.
func clean(t *testing.T) *Outcome {
	return New(Options{Config: dst.Config{Seed: 3}, Seeds: 12, Play: liar{honest: true}.play, PlanOf: planOf, Invariants: promises}).Run(t.Context())
}

// broken is the outcome of a seed that failed and was made small.
func broken(t *testing.T) *Outcome {
	t.Helper()
	o := New(Options{Config: dst.Config{Seed: 1, Devices: 40, Duration: 90 * time.Minute}, Seeds: 100, Play: liar{}.play, PlanOf: planOf, Invariants: promises}).Run(t.Context())
	if len(o.Failures) != 1 {
		t.Fatalf("%d failures", len(o.Failures))
	}
	o.Failures[0].Small = Shrink(t.Context(), o.Failures[0].Result, ShrinkOptions{Play: liar{}.play})
	o.Failures[0].File = "small.json"
	return o
}

func told(t *testing.T, o *Outcome) string {
	t.Helper()
	var b bytes.Buffer
	if err := o.Tell(&b, 3*time.Second); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func wants(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// TestTellClean: who reads it learns what was simulated, what went wrong in the world, what
// was checked how often and what was not, and that all held.
func TestTellClean(t *testing.T) {
	text := told(t, clean(t))
	wants(t, text, "12 seeds (3 to 14): ", " days in 3s\n", " faults\n", "power     core killed ", "network   broker cut off ", "cloud     away ",
		"3 invariants, 10,800 times", "S1            3,600  nobody is allowed after a revocation", "no occasion here for X9",
		"Nothing was allowed wrongly, nothing on record was lost")
	if strings.Contains(text, "VIOLATION") {
		t.Error(text)
	}
}

// TestTellBroken: what happened, what is left of the plan in plain words, the last steps,
// and the commands that replay it.
func TestTellBroken(t *testing.T) {
	o := broken(t)
	text := told(t, o)
	wants(t, text, "VIOLATION of S1 under seed ", "promised  nobody is allowed after a revocation", "was let in", "made small from 300 actions to 4 in ", "nothing more can be taken away",
		"what is done to ", "the cloud deactivates ", "'s certificate", "fault: partition both at b0, for 1m0s", "fault: crash, by 1s", " connects to b0", "the last steps:", "2s <b>let in</b>",
		"gatehouse sim run --plan small.json", "--devices 40 --for 1h30m0s")
	if strings.Contains(text, "Nothing was allowed wrongly") {
		t.Error(text)
	}
	wants(t, mustJSON(t, o), `"violation":{"invariant":"S1"`, `"fromActions":300,"toActions":4`, `"planFile":"small.json"`)
}

// TestTellTrouble: an interrupted campaign and a failing simulator are told as such.
func TestTellTrouble(t *testing.T) {
	o := clean(t)
	o.Interrupted, o.Done = true, 5
	wants(t, told(t, o), "5 of 12 seeds", "interrupted", "Until then nothing")
	o.Done = 0
	wants(t, told(t, o), "Nothing was simulated to its end")
	o.Failures = []Failure{{Seed: 8, Error: "panicked: boom", File: "e.json"}}
	wants(t, told(t, o), "THE SIMULATOR FAILED under seed 8: panicked: boom", "--seed 8", "--plan e.json")
	if err := o.Tell(failingWriter{}, 0); err == nil {
		t.Error("an error of the writer is lost")
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

// TestReport: the page has what the words have, with plots over time of one run.
func TestReport(t *testing.T) {
	for name, o := range map[string]*Outcome{"clean": clean(t), "broken": broken(t)} {
		if err := o.LookCloser(t.Context(), liar{honest: name == "clean"}.play); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := o.Report(&b, time.Minute, "made by a test"); err != nil {
			t.Fatal(err)
		}
		wants(t, b.String(), "A closer look at seed", "Devices by state", "Age of trust", "power: core killed", "nobody is allowed after a revocation", "no occasion", "made by a test")
		if name == "broken" {
			wants(t, b.String(), "S1 is broken under seed", "What is done to the world", "2s &lt;b&gt;let in&lt;/b&gt;", "gatehouse sim run --plan small.json")
		} else {
			wants(t, b.String(), "all invariants held")
		}
	}
	// A page without series, too: a run that was ended.
	o := clean(t)
	o.Interrupted, o.Closer = true, nil
	var b bytes.Buffer
	if err := o.Report(&b, time.Minute, ""); err != nil || strings.Contains(b.String(), "Age of trust") {
		t.Errorf("%v", err)
	}
	if err := o.Report(failingWriter{}, 0, ""); err == nil {
		t.Error("an error of the writer is lost")
	}
}

// TestLookCloserFindsChance: a run that goes another way when it is played again is an error.
func TestLookCloserFindsChance(t *testing.T) {
	o := clean(t)
	o.Closer.Series, o.Closer.Trace[0] = nil, o.Closer.Trace[0]+1
	if err := o.LookCloser(t.Context(), liar{honest: true}.play); err == nil || !strings.Contains(err.Error(), "not deterministic") {
		t.Error(err)
	}
}

// TestDescribe: each kind of action has words of its own, and what strangers chose is cut.
func TestDescribe(t *testing.T) {
	p := &dst.Plan{Config: dst.Config{Devices: 5, Brokers: 2}}
	seen := map[string]bool{}
	for k := dst.Kind(1); !strings.HasPrefix(k.String(), "Kind("); k++ {
		text := Describe(p, &dst.Action{Kind: k, Client: 1, Thing: 2, Broker: 1, Cert: dst.Cert{Of: 3, Gen: 1, Spoilt: "expired"}, Name: strings.Repeat("x", 300)})
		if text == "" || seen[text] || len(text) > 200 {
			t.Errorf("%s: %q", k, text)
		}
		seen[text] = true
	}
	for want, a := range map[string]dst.Action{
		"sensor-0 connects to b0": {Kind: dst.Connect},
		"pump-1 connects to b0 as sensor-0 with sensor-0's certificate":      {Kind: dst.Connect, Client: 1},
		"stranger 2 connects to b1 as gate-2 with a certificate of nobody's": {Kind: dst.Connect, Client: 6, Thing: 2, Broker: 1, Cert: dst.Cert{Of: -1}},
		"the cloud associates sensor-0 and 2 more":                           {Kind: dst.Associate, Count: 3},
	} {
		if got := Describe(p, &a); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestCommand: the command says all that the configuration says, and nothing else.
func TestCommand(t *testing.T) {
	for want, c := range map[string]dst.Config{
		"gatehouse sim run --seed 7": {Seed: 7},
		"gatehouse sim run --seed 7 --devices 3 --brokers 2 --days 2 --faults none --mode safety": {Seed: 7, Devices: 3, Brokers: 2, Duration: 48 * time.Hour, FaultsChosen: true, Mode: dst.Safety},
		"gatehouse sim run --seed 0 --for 1h30m0s --faults crash":                                 {Duration: 90 * time.Minute, Faults: dst.Crash, FaultsChosen: true},
	} {
		if got := Command(c); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestSpan: virtual time as people say it.
func TestSpan(t *testing.T) {
	for want, d := range map[string]time.Duration{"1m": time.Minute, "24h": 24 * time.Hour, "3.5 days": 84 * time.Hour, "1,000 days": 24000 * time.Hour, "1h30m": 90 * time.Minute, "5s": 5100 * time.Millisecond, "20ms": 20 * time.Millisecond} {
		if got := span(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

// TestLongTexts: what would fill screens is told in short.
func TestLongTexts(t *testing.T) {
	lines := []string{"a", "1s record 1", "2s record 2", "3s record 3", "4s record 44", "b", "1 c", "2 c"}
	if got, want := strings.Join(shortened(lines), "|"), "a|1s record 1|    … 2 such lines …|4s record 44|b|1 c|2 c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := clipped(strings.Repeat("ä", 1500)); !strings.HasSuffix(got, "ä… and 500 more characters (--json)") {
		t.Errorf("%.20q", got)
	}
	for want, s := range map[string]Shrunk{
		"made small from 9 actions to 2 in 1 try; nothing more can be taken away":                             {From: 9, To: 2, Tries: 1, Complete: true},
		"not made smaller than its 9 actions in 4 tries; the time was over, there may be less (--shrink-for)": {From: 9, To: 9, Tries: 4},
	} {
		if got := s.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
