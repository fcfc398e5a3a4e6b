package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// TestMain: the refresh's emulated cloud is this binary once more.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// tiny is a bench whose rounds are there to be right, not to be believed.
func tiny(t *testing.T) *bench {
	t.Helper()
	return &bench{plan: plan{rounds: 2, round: 20 * time.Millisecond, warmup: 5 * time.Millisecond, records: 500, devices: 40, refreshRate: 1000, fleets: []fleet{{"few", 40, nil, nil}}, crowds: []fleet{{"few", 40, atMost(64), atMost(32)}}, storms: []fleet{{"few", 200, atMost(30), atMost(10)}}, days: []fleet{{"few", 60, atMost(30), atMost(5)}}, rest: 200 * time.Millisecond}, scratch: t.TempDir()}
}

// Each comparison runs from end to end, checks its own answers, and says what section 13
// of design.md asks for.
func TestEveryComparisonGivesItsRows(t *testing.T) {
	want := map[string][]string{
		"authorize":    {"authorize >= 0.9 >= 0.98", "authorize/p99 <= 1.3 -"},
		"decision":     {"decision/cedar - -", "decision/casbin - -", "decision/opa - -", "decision/fastest-peer >= 5 >= 20", "decision/time <= 1000 <= 200", "decision/allocations <= 0 <= 0"},
		"authenticate": {"authenticate >= 0.3 >= 0.6", "authenticate/p99 - -"},
		"append":       {"append/raw-file >= 0.4 >= 0.9", "append/badger >= 8 -", "append/p99 - -"},
		"replay":       {"replay >= 0.4 >= 0.9", "replay/start - -"},
		"start":        {"start/few/from-log - -", "start/few - -", "start/few/killed - -"},
		"memory":       {"memory/few <= 64 <= 32"},
		"storm":        {"storm/few <= 30 <= 10", "storm/few/p99 <= 1000 -", "storm/few/order-p99 <= 100 -", "storm/few/memory <= 1024 -"},
		"simday":       {"simday/few <= 30 <= 5", "simday/few/memory <= 4096 -"},
		"cache":        {"cache - -", "cache/allocations - -"},
		"refresh":      {"refresh/authenticate-p99 <= 1.5 -", "refresh/rate - -"},
	}
	for _, c := range comparisons {
		t.Run(c.name, func(t *testing.T) {
			rows, err := c.run(t.Context(), tiny(t))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, r := range rows {
				got = append(got, r.Name+" "+r.Hold.String()+" "+r.Aim.String())
				if !strings.HasSuffix(r.Name, "/allocations") && (r.Ours <= 0 || r.Ratio <= 0 || r.Verdict == "") {
					t.Errorf("row %+v", r)
				}
			}
			if !slices.Equal(got, want[c.name]) {
				t.Errorf("rows %q, want %q", got, want[c.name])
			}
		})
	}
}

// An engine that answers one question otherwise is found before anything is measured.
func TestEnginesThatDisagreeAreNotCompared(t *testing.T) {
	list := statements(50)
	asked := questions(list, "pump-0007")
	denied := 0
	for _, q := range asked {
		if !q.allowed {
			denied++
		}
	}
	if denied != len(asked)/5 {
		t.Errorf("%d of %d questions are to be denied, want a fifth", denied, len(asked))
	}
	right, err := gatehouseEngine(list, "pump-0007", asked)
	if err != nil {
		t.Fatal(err)
	}
	if err := agree([]engine{right}, asked); err != nil {
		t.Fatal(err)
	}
	wrong := engine{"wrong", func(i int) (bool, error) {
		allowed, err := right.decide(i)
		return allowed != (i == 17), err
	}}
	if err := agree([]engine{right, wrong}, asked); err == nil || !strings.Contains(err.Error(), "wrong: ") {
		t.Errorf("error %v, want one about the engine that is wrong", err)
	}
}

// What was answered to a device is in the log that another process would find: a copy of
// the directory, taken while the log is open, holds every session.
func TestAuthenticateAnswersAreDurable(t *testing.T) {
	b := tiny(t)
	h, err := openHouse(t.Context(), b, 20, grantStatements, kindCloud{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}()
	if h.core.sys.NetworkUp() {
		t.Error("the cloud can be asked, want it away")
	}
	tokens, err := h.openAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sessions := sessionsIn(t, filepath.Join(b.scratch, "house-1", "log"))
	for i, token := range tokens {
		if digest := messages.DigestOf([]byte(token)); sessions[digest] != messages.DeviceStream(h.devices[i].thing) {
			t.Errorf("the session of %s is not in the log: it holds %q", h.devices[i].thing, sessions[digest])
		}
	}
}

// sessionsIn reads which sessions a copy of the log in dir says were opened, and whose.
func sessionsIn(t *testing.T, dir string) map[messages.TokenDigest]messages.StreamID {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	log, err := eventlog.Open(image, eventlog.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	sessions := map[messages.TokenDigest]messages.StreamID{}
	for rec, err := range log.Scan(t.Context(), 1, math.MaxUint64) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := messages.DecodeEvent(&rec)
		if err != nil {
			t.Fatal(err)
		}
		if opened, ok := e.(*messages.SessionOpened); ok {
			sessions[messages.TokenDigest(opened.Session)] = rec.Stream
		}
	}
	return sessions
}

// A wrong answer ends the run instead of being counted.
func TestWrongAnswersAreNotCounted(t *testing.T) {
	h, err := openHouse(t.Context(), tiny(t), 5, statementCount, kindCloud{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}()
	asked, err := h.authorizations(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	right := asked[3].answer
	if asked[3].answer = []byte(`{"isAuthorized":true,`); bytes.Equal(right, asked[3].answer) {
		asked[3].answer = []byte(`{"isAuthorized":false,`)
	}
	subject := authapi.Subject(brokerName, authapi.OpAuthorize)
	next := func(_, i int) (string, []byte) { return subject, asked[i%len(asked)].body }
	_, err = fly(t.Context(), h.core.broker, time.Minute, next, func(_, i int, body []byte) error { return asked[i%len(asked)].check(body) })
	if err == nil || !strings.Contains(err.Error(), "was answered with") {
		t.Errorf("error %v, want one that shows the answer", err)
	}
	_, err = fly(t.Context(), h.core.broker, time.Minute, func(int, int) (string, []byte) { return subject, []byte("{}") }, nil)
	if err == nil {
		t.Error("a refused request was counted")
	}
}

// The raw file holds what was appended, group after group, each at a sector.
func TestRawFileHoldsWhatWasAppended(t *testing.T) {
	dir := t.TempDir()
	r, err := openRaw(dir)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	for _, text := range []string{"first", "second"} {
		if err := r.append([]byte(text), done); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "raw"))
	if err != nil {
		t.Fatal(err)
	}
	if len(content) != rawFileBytes || !bytes.HasPrefix(content, []byte("first\x00")) || !bytes.HasPrefix(content[512:], []byte("second\x00")) {
		t.Errorf("%d bytes that begin with %q and %q", len(content), content[:8], content[512:520])
	}
}

func TestRowsSayWhetherTheyHold(t *testing.T) {
	for _, c := range []struct {
		ours, reference []sample
		hold, aim       *Bound
		ratio           float64
		verdict         string
	}{
		{rates(90, 50, 200), rates(100, 100, 100), atLeast(0.9), atLeast(0.98), 0.9, "holds"},
		{rates(89, 50, 200), rates(100, 100, 100), atLeast(0.9), atLeast(0.98), 0.89, "misses"},
		{rates(99, 99, 99), rates(100, 100, 100), atLeast(0.9), atLeast(0.98), 0.99, "aim"},
		{rates(30, 30, 30), rates(10, 20, 10), atMost(2), nil, 3, "misses"},
		{rates(30, 30, 30), rates(10, 10, 10), nil, nil, 3, "info"},
	} {
		r := throughput("x", c.ours, c.reference, c.hold, c.aim)
		if math.Abs(r.Ratio-c.ratio) > 1e-9 || r.Verdict != c.verdict {
			t.Errorf("ratio %v %s, want %v %s", r.Ratio, r.Verdict, c.ratio, c.verdict)
		}
	}
}

func rates(perSecond ...int) []sample {
	var all []sample
	for _, n := range perSecond {
		all = append(all, sample{ops: n, took: time.Second})
	}
	return all
}

// A comparison that cannot be measured is an error at the end; the others are measured.
func TestAFailedComparisonDoesNotHideTheOthers(t *testing.T) {
	broken := errors.New("no disk")
	good := throughput("good", rates(1), rates(2), atLeast(0.4), nil)
	chosen := []comparison{
		{"bad", func(context.Context, *bench) ([]Row, error) { return nil, broken }},
		{"good", func(context.Context, *bench) ([]Row, error) { return []Row{good}, nil }},
	}
	var out strings.Builder
	if err := measureAll(t.Context(), tiny(t), chosen, printer(&out, true)); !errors.Is(err, broken) {
		t.Errorf("error %v, want %v", err, broken)
	}
	var row struct{ Name, Verdict, Hold string }
	if err := json.Unmarshal([]byte(out.String()), &row); err != nil || row.Name != "good" || row.Verdict != "holds" || row.Hold != ">= 0.4" {
		t.Errorf("%s: row %+v, error %v", out.String(), row, err)
	}
}

func TestArgumentsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-only", "speed"}, {"-profile", "x"}, {"fast"}, {"-dir", filepath.Join(t.TempDir(), "none")}} {
		if err := run(t.Context(), args, &strings.Builder{}); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}
