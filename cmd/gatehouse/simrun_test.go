package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/campaign"
	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// planted is a simulator of a few lines with a bug: seed 5 and above let a device in that
// was revoked. A plan has 200 actions, of which two matter.
func planted() simulator {
	return simulator{
		invariants: []campaign.Invariant{{Name: "S1", Says: "nobody is allowed after a revocation"}},
		planOf: func(c dst.Config) *dst.Plan {
			c.Devices, c.Brokers, c.Duration, c.FaultsChosen = max(c.Devices, 1), max(c.Brokers, 1), max(c.Duration, time.Hour), true
			p := &dst.Plan{Config: c}
			for i := range 200 {
				a := dst.Action{ID: i, At: time.Duration(i) * time.Second, Kind: dst.Publish, Name: "t"}
				switch {
				case i == 60 && c.Seed >= 5:
					a = dst.Action{ID: i, At: a.At, Kind: dst.Deactivate}
				case i == 150:
					a = dst.Action{ID: i, At: a.At, Kind: dst.Connect}
				}
				p.Actions = append(p.Actions, a)
			}
			return p
		},
		play: func(ctx context.Context, p *dst.Plan, o dst.Options) (*dst.Result, error) {
			r := &dst.Result{Plan: p, Virtual: p.Duration, Counts: dst.Counts{Checks: map[string]uint64{"S1": 7}, Allowed: map[string]uint64{"connect": 3}}}
			revoked := false
			for _, a := range p.Actions {
				revoked = revoked || a.Kind == dst.Deactivate
				if a.Kind == dst.Connect && revoked {
					r.Violation = &dst.Violation{Invariant: "S1", At: a.At, What: "sensor-0 was let in", Last: []string{"the last step"}}
					break
				}
			}
			for i := range 3 {
				r.Series = append(r.Series, dst.Sample{At: time.Duration(i) * time.Hour, Up: true, Connected: 1})
			}
			return r, ctx.Err()
		},
	}
}

// simRunOf runs `sim run` with a simulator of the test's, as main does.
func simRunOf(t *testing.T, ctx context.Context, sim simulator, args ...string) (stdout string, code int) {
	t.Helper()
	var out, problems bytes.Buffer
	root := newRoot(&out, &problems)
	a := &app{out: &out, err: &problems}
	c := a.simRunCommand(sim)
	c.Use = "planted"
	c.Flags().BoolVar(&a.json, "json", false, "")
	strict(c)
	root.AddCommand(c)
	root.SetArgs(append([]string{"planted"}, args...))
	err := root.ExecuteContext(ctx)
	switch e, ok := errors.AsType[*exitError](err); {
	case err == nil:
	case ok:
		code = e.code
	default:
		code = exitFailed
	}
	if err != nil && !errors.Is(err, errQuiet) {
		fmt.Fprintln(&out, "gatehouse:", err)
	}
	return out.String(), code
}

// TestSimRunFindsAndReplays: a planted bug is found, made small, told with the command that
// replays it; that command finds it again, and the page shows it.
func TestSimRunFindsAndReplays(t *testing.T) {
	dir := t.TempDir()
	page := filepath.Join(dir, "sim.html")
	out, code := simRunOf(t, t.Context(), planted(), "--seeds", "50", "--keep", dir, "--report", page)
	file := filepath.Join(dir, "gatehouse-S1-seed-5.json")
	for _, want := range []string{"VIOLATION of S1 under seed 5", "made small from 200 actions to 2 ", "sensor-0 was let in", "the last step", "gatehouse sim run --plan " + file, "gatehouse sim run --seed 5\n", page} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if code != exitFailed {
		t.Errorf("exit %d", code)
	}
	if doc, err := os.ReadFile(page); err != nil || !strings.Contains(string(doc), "S1 is broken under seed 5") {
		t.Errorf("%v: %.300s", err, doc)
	}
	out, code = simRunOf(t, t.Context(), planted(), "--plan", file)
	if code != exitFailed || !strings.Contains(out, "VIOLATION of S1 under seed 5") || strings.Contains(out, "made small") {
		t.Errorf("replay: exit %d\n%s", code, out)
	}
	out, code = simRunOf(t, t.Context(), planted(), "--seed", "5", "--shrink=false", "--keep", dir, "--json")
	var doc struct {
		Failures []struct {
			Seed      uint64
			PlanFile  string
			Small     any
			Violation struct{ Invariant string }
		}
		WallMs *int64
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || code != exitFailed || len(doc.Failures) != 1 || doc.Failures[0].Violation.Invariant != "S1" || doc.Failures[0].Small != nil || doc.Failures[0].PlanFile == "" || doc.WallMs == nil {
		t.Errorf("as JSON: exit %d, %v\n%s", code, err, out)
	}
	out, code = simRunOf(t, t.Context(), planted(), "--seeds", "20", "--go-on", "--keep", dir)
	if code != exitFailed || !strings.Contains(out, "20 seeds") || !strings.Contains(out, "… and 11 further failures.") {
		t.Errorf("going on: exit %d\n%s", code, out)
	}
}

// TestSimRunClean: exit 0 and plain words; without flags it is the world of the help.
func TestSimRunClean(t *testing.T) {
	out, code := simRunOf(t, t.Context(), planted(), "--seeds", "4")
	if code != 0 || !strings.Contains(out, "4 seeds (1 to 4): ") || !strings.Contains(out, "Nothing was allowed wrongly") {
		t.Errorf("exit %d\n%s", code, out)
	}
	honest := planted()
	honest.planOf = func(c dst.Config) *dst.Plan { // the world of the help has a seed that the planted bug would strike
		p := planted().planOf(dst.Config{Seed: 1})
		p.Config = c
		return p
	}
	if out, code = simRunOf(t, t.Context(), honest); code != 0 || !strings.Contains(out, "seed 8: 2,500 devices at 3 brokers, 24h in ") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestSimRunEnds: an interrupt ends it in order, with what was simulated until then, and
// is no clean run.
func TestSimRunEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	sim, n := planted(), 0
	play := sim.play
	sim.play = func(ctx context.Context, p *dst.Plan, o dst.Options) (*dst.Result, error) {
		if n++; n == 3 {
			cancel()
		}
		return play(ctx, p, o)
	}
	out, code := simRunOf(t, ctx, sim, "--seeds", "1000", "--jobs", "1")
	if code != exitFailed || !strings.Contains(out, "2 of 1,000 seeds (from 1 on)") || !strings.Contains(out, "interrupted: 2 of 1000 runs came to their end") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestSimRunWrongCalls: what cannot be meant is said, with what can.
func TestSimRunWrongCalls(t *testing.T) {
	plan := filepath.Join(t.TempDir(), "plan.json")
	if err := os.WriteFile(plan, []byte(`{"seed": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"--seeds 0", "--seeds 0: want 1 to", exitUsage},
		{"--devices -1", "--devices -1: want 1 to", exitUsage},
		{"--devices 3000000", "want 1 to 2000000", exitUsage},
		{"--brokers 99", "want 1 to 16", exitUsage},
		{"--days 0", "--days 0: want 1 to 366", exitUsage},
		{"--days 400", "want 1 to 366", exitUsage},
		{"--days 1 --for 1h", "both say how long", exitUsage},
		{"--for 1ms", "want a second or more", exitUsage},
		{"--faults odd", "store-slow, store-error", exitUsage},
		{"--mode odd", "both, safety, liveness", exitUsage},
		{"--jobs 0", "--jobs 0", exitUsage},
		{"--plan x --seed 3", "--seed has no place", exitUsage},
		{"--plan " + plan, "devices, brokers and duration must be said", exitFailed},
		{"--plan /nonexistent/plan.json", "no such file", exitFailed},
		{"extra", "unknown command", exitUsage},
		{"--seeds x", "see `gatehouse planted --help`", exitUsage},
	} {
		if out, code := simRunOf(t, t.Context(), planted(), strings.Fields(c.args)...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit %d, want %d and %q in\n%s", c.args, code, c.code, c.want, out)
		}
	}
}

// TestRunLine: the line of progress says how far, how fast and how long still.
func TestRunLine(t *testing.T) {
	if got, want := runLine(campaign.Status{Seeds: 200, Done: 50, Virtual: 31.25, Decisions: 9, Faults: 2, Failures: 1, Broke: 12}, 10*time.Second), "50 of 200 seeds  5/s  31.2 days  9 answers  2 faults  1 BROKEN, last by seed 12  30s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	one := campaign.Status{Seeds: 1, Run: &dst.Progress{Virtual: 6 * time.Hour, Whole: 24 * time.Hour}}
	if got, want := runLine(one, time.Minute), " 25 %  6h0m0s of 24h0m0s  0 answers  0 faults  3m0s left"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := runLine(campaign.Status{Seeds: 1}, 0); got != "" {
		t.Errorf("got %q", got)
	}
}
