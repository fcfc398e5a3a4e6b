package campaign

import (
	"context"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// failing is the first plan of 300 actions that breaks something.
func failing(t *testing.T, play Play) *dst.Result {
	t.Helper()
	for seed := range uint64(50) {
		r, err := play(t.Context(), planOf(dst.Config{Seed: seed, Devices: 30, Brokers: 3, Duration: 24 * time.Hour}), dst.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if r.Violation != nil && len(r.Plan.Actions) == 300 && r.Violation.At > time.Hour {
			return r
		}
	}
	t.Fatal("the liar does not lie")
	return nil
}

// TestShrinkFindsTheFew: of 300 actions those are left that the planted bug needs: revoke,
// cut off, crash, connect; in a world no larger than they need. The way does not depend on
// the number of cores.
func TestShrinkFindsTheFew(t *testing.T) {
	failed := failing(t, liar{}.play)
	var first *Shrunk
	for _, jobs := range []int{1, 3} {
		told := 0
		s := Shrink(t.Context(), failed, ShrinkOptions{Play: liar{}.play, Jobs: jobs, Tried: func(tries, from, to int) { told++ }})
		if !s.Complete || s.From != 300 || s.To != 4 || told == 0 {
			t.Fatalf("%d jobs: complete %v, %d to %d actions in %d tries", jobs, s.Complete, s.From, s.To, s.Tries)
		}
		var kinds []dst.Kind
		for _, a := range s.Plan.Actions {
			kinds = append(kinds, a.Kind)
		}
		revokeFirst := []dst.Kind{dst.Deactivate, dst.FaultCut, dst.FaultCrash, dst.Connect}
		cutFirst := []dst.Kind{dst.FaultCut, dst.Deactivate, dst.FaultCrash, dst.Connect}
		if !reflect.DeepEqual(kinds, revokeFirst) && !reflect.DeepEqual(kinds, cutFirst) {
			t.Errorf("left: %v", kinds)
		}
		if p := s.Plan; p.Brokers != 1 || p.Faults != dst.Crash|dst.NetPartition || p.Setup.Certified || p.Setup.Newcomers != 0 || p.Duration >= failed.Plan.Duration {
			t.Errorf("the world around it: %d brokers, faults %v, %+v, %v", p.Brokers, p.Faults, p.Setup, p.Duration)
		}
		if err := s.Plan.Check(); err != nil {
			t.Error(err)
		}
		if r, err := (liar{}).play(t.Context(), s.Plan, dst.Options{}); err != nil || r.Violation == nil || r.Violation.Invariant != "S1" {
			t.Errorf("played again: %+v, %v", r, err)
		}
		if first == nil {
			first = s
		} else if a, b := mustJSON(t, first.Plan), mustJSON(t, s.Plan); a != b || first.Tries != s.Tries {
			t.Errorf("%d jobs: another way, %d and %d tries:\n%s\n%s", jobs, first.Tries, s.Tries, a, b)
		}
	}
	if len(failed.Plan.Actions) != 300 {
		t.Error("the plan that failed was changed")
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	doc, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(doc)
}

// TestShrinkEndsInTime: when its time is over, it has a plan that fails, says that it is not
// the smallest, and leaves no run behind.
func TestShrinkEndsInTime(t *testing.T) {
	failed := failing(t, liar{}.play)
	for _, after := range []int{0, 1, 5, 20} {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		s := Shrink(ctx, failed, ShrinkOptions{Jobs: 1, Play: func(ctx context.Context, p *dst.Plan, o dst.Options) (*dst.Result, error) {
			if n++; n > after {
				cancel()
			}
			return liar{}.play(ctx, p, o)
		}})
		cancel()
		if r, err := (liar{}).play(t.Context(), s.Plan, dst.Options{}); s.Complete || err != nil || r.Violation == nil || s.To != len(s.Plan.Actions) {
			t.Errorf("after %d: %+v, %v", after, s, err)
		}
	}
}

// TestShrinkKeepsTheInvariant: a smaller plan that breaks something else, or that the
// simulator cannot play, is no smaller plan.
func TestShrinkKeepsTheInvariant(t *testing.T) {
	failed := failing(t, liar{}.play)
	s := Shrink(t.Context(), failed, ShrinkOptions{Play: func(ctx context.Context, p *dst.Plan, o dst.Options) (*dst.Result, error) {
		r, err := liar{}.play(ctx, p, o)
		switch {
		case len(p.Actions) < 50 && len(p.Actions)%2 == 0:
			panic("cannot play this")
		case len(p.Actions) < 100 && r != nil && r.Violation != nil:
			r.Violation.Invariant = "T1"
		}
		return r, err
	}})
	if s.Result.Violation.Invariant != "S1" || s.To < 100 {
		t.Errorf("%s with %d actions", s.Result.Violation, s.To)
	}
}
