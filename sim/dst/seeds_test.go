package dst

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// seedsDefault is how many seeds a test plays; GATEHOUSE_SEEDS says otherwise, as "100" or,
// from a first one on, "7000+100".
const seedsDefault = 30

func seedsOf(t *testing.T) (first, n uint64) {
	t.Helper()
	from, count, plus := strings.Cut(os.Getenv("GATEHOUSE_SEEDS"), "+")
	if !plus {
		from, count = "0", from
	}
	if count == "" {
		count = strconv.Itoa(seedsDefault)
	}
	first, err := strconv.ParseUint(from, 10, 64)
	if err == nil {
		n, err = strconv.ParseUint(count, 10, 64)
	}
	if err != nil {
		t.Fatalf("GATEHOUSE_SEEDS: %v", err)
	}
	return first, n
}

// report says what a violation was, with as much of the trace as GATEHOUSE_TRACE says.
func report(t *testing.T, r *Result) {
	t.Helper()
	t.Errorf("seed %d: %v\n%d devices, %v, faults %v, %d actions", r.Plan.Seed, r.Violation, r.Plan.Devices, r.Plan.Duration, r.Plan.Faults, len(r.Plan.Actions))
	if keep, _ := strconv.Atoi(os.Getenv("GATEHOUSE_TRACE")); keep > 0 {
		t.Log(strings.Join(r.Violation.Last, "\n"))
	}
}

func options() Options {
	keep, _ := strconv.Atoi(os.Getenv("GATEHOUSE_TRACE"))
	return Options{KeepTrace: keep}
}

// TestSeeds plays seeds: no invariant is broken by any.
func TestSeeds(t *testing.T) {
	first, n := seedsOf(t)
	checks := map[string]uint64{}
	for seed := first; seed < first+n; seed++ {
		r, err := Run(t.Context(), Config{Seed: seed}, options())
		if err != nil {
			t.Fatal(err)
		}
		for name, times := range r.Counts.Checks {
			checks[name] += times
		}
		if r.Violation != nil {
			report(t, r)
		}
	}
	t.Logf("checked: %v", checks)
}

// TestPlansRepeat: a plan repeats, invariants and all, whatever is kept of it and whatever else runs.
func TestPlansRepeat(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			a, err := Run(t.Context(), Config{Seed: seed}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			b, err := Run(t.Context(), Config{Seed: seed}, Options{KeepTrace: 1000, Samples: -1})
			if err != nil {
				t.Fatal(err)
			}
			if a.Trace != b.Trace || a.Steps != b.Steps || a.Events != b.Events {
				t.Errorf("two traces: %v after %d steps, %v after %d", a.Trace, a.Steps, b.Trace, b.Steps)
			}
		})
	}
}

// regression is a plan that found a bug.
type regression struct {
	Name      string `json:"name"`
	Bug       string `json:"bug"`       // what was wrong, and what mended it
	Invariant string `json:"invariant"` // that was broken
	Plan      *Plan  `json:"plan"`
}

// TestRegressionSeeds plays the plans that found bugs: all is well now.
func TestRegressionSeeds(t *testing.T) {
	files, err := filepath.Glob("testdata/regressions/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no plans are kept")
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var c regression
			if err := json.Unmarshal(data, &c); err != nil || c.Plan == nil {
				t.Fatalf("%v, plan %v", err, c.Plan)
			}
			r, err := Play(t.Context(), c.Plan, options())
			if err != nil {
				t.Fatal(err)
			}
			if r.Violation != nil {
				t.Errorf("%s is back: %v", c.Name, r.Violation)
			}
		})
	}
}
