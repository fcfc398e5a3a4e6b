package campaign

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// TestCleanCampaign: all seeds are played once, and what is counted is the same on any
// number of cores.
func TestCleanCampaign(t *testing.T) {
	var first string
	for _, jobs := range []int{1, 2, 5} {
		c := New(Options{Config: dst.Config{Seed: 7}, Seeds: 60, Jobs: jobs, Play: liar{honest: true}.play, PlanOf: planOf})
		o := c.Run(t.Context())
		if !o.Clean() || o.Done != 60 || o.First != 7 || len(o.Rows) != 60 || o.Rows[59].Seed != 66 || o.Total.Decisions() == 0 || o.Total.Checked() != 3*300*60 {
			t.Fatalf("%d jobs: %s", jobs, mustJSON(t, o))
		}
		if o.Closer == nil || o.Closer.Violation != nil {
			t.Errorf("a closer look at %+v", o.Closer)
		}
		if doc := mustJSON(t, o); first == "" {
			first = doc
		} else if doc != first {
			t.Errorf("%d jobs give another outcome:\n%s\n%s", jobs, first, doc)
		}
		if s := c.Status(); s.Done != 60 || s.Seeds != 60 || s.Decisions != o.Total.Decisions() || s.Run != nil {
			t.Errorf("status: %+v", s)
		}
	}
}

// TestLowestSeedFails: whichever run fails first by the clock, the lowest seed is reported.
func TestLowestSeedFails(t *testing.T) {
	want := uint64(0)
	for seed := uint64(1); want == 0; seed++ {
		if r, _ := (liar{}).play(t.Context(), planOf(dst.Config{Seed: seed, Devices: 40}), dst.Options{}); r.Violation != nil {
			want = seed
		}
	}
	for _, jobs := range []int{1, 3, 16} {
		o := New(Options{Config: dst.Config{Seed: 1, Devices: 40}, Seeds: 100, Jobs: jobs, Play: liar{}.play, PlanOf: planOf}).Run(t.Context())
		if len(o.Failures) != 1 || o.Failures[0].Seed != want || o.Failures[0].Violation() == nil || o.Clean() || o.Done == 100 {
			t.Errorf("%d jobs: want seed %d: %s", jobs, want, mustJSON(t, o.Failures))
		}
	}
	o := New(Options{Config: dst.Config{Seed: 1, Devices: 40}, Seeds: 100, GoOn: true, Play: liar{}.play, PlanOf: planOf}).Run(t.Context())
	if o.Done != 100 || len(o.Failures) < 2 || o.Failures[0].Seed != want || o.Total.Failures != len(o.Failures) || o.Closer.Plan.Seed != want {
		t.Errorf("going on: %d done, %d failures", o.Done, len(o.Failures))
	}
}

// TestSimulatorFails: an error or a panic of the simulator itself is reported with its seed,
// and is no violation.
func TestSimulatorFails(t *testing.T) {
	for what, play := range map[string]Play{
		"cannot": func(_ context.Context, p *dst.Plan, _ dst.Options) (*dst.Result, error) {
			return nil, errors.New("cannot play that")
		},
		"panicked: boom": func(context.Context, *dst.Plan, dst.Options) (*dst.Result, error) { panic("boom") },
		"nothing":        func(context.Context, *dst.Plan, dst.Options) (*dst.Result, error) { return nil, nil },
	} {
		o := New(Options{Config: dst.Config{Seed: 3}, Seeds: 4, Play: play, PlanOf: planOf}).Run(t.Context())
		if len(o.Failures) != 1 || o.Failures[0].Seed != 3 || !strings.Contains(o.Failures[0].Error, what) || o.Failures[0].Violation() != nil || o.Clean() {
			t.Errorf("%s: %s", what, mustJSON(t, o.Failures))
		}
	}
	o := New(Options{Seeds: 4, Play: liar{honest: true}.play, PlanOf: func(dst.Config) *dst.Plan { panic("no plan") }}).Run(t.Context())
	if len(o.Failures) != 1 || !strings.Contains(o.Failures[0].Error, "no plan") {
		t.Errorf("%s", mustJSON(t, o.Failures))
	}
}

// TestInterrupted: a campaign that is ended has what was simulated until then; a single run
// what it had counted.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var begun atomic.Int32
	o := New(Options{Seeds: 1000, Jobs: 2, PlanOf: planOf, Play: func(ctx context.Context, p *dst.Plan, opts dst.Options) (*dst.Result, error) {
		if begun.Add(1) == 20 {
			cancel()
		}
		return liar{honest: true}.play(ctx, p, opts)
	}}).Run(ctx)
	if !o.Interrupted || o.Clean() || o.Done < 18 || o.Done > 20 || len(o.Rows) != o.Done || o.Total.Failures != 0 {
		t.Errorf("%d done, interrupted %v", o.Done, o.Interrupted)
	}

	ctx, cancel = context.WithCancel(t.Context())
	single := New(Options{PlanOf: planOf, Play: func(ctx context.Context, p *dst.Plan, opts dst.Options) (*dst.Result, error) {
		report := opts.Progress
		opts.Progress = func(at dst.Progress) {
			if report(at); at.Steps == 100 {
				cancel()
			}
		}
		return liar{honest: true}.play(ctx, p, opts)
	}})
	if o := single.Run(ctx); !o.Interrupted || o.Clean() || o.Total.Steps != 100 || o.Total.Checked() != 300 {
		t.Errorf("a single run: %s", mustJSON(t, o))
	}
}
