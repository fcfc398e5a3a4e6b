// Command hunter simulates the Gatehouse that it was built with until something breaks. It
// is a program of its own so that package planted can build it with a bug in it.
//
//	hunter [-seeds N] [-for D] [-devices N …] FOLDER
//
// First it plays the plans in FOLDER that found bugs before. It prints one line of JSON: see
// Finding.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/campaign"
	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// Finding is what the hunter has found: nothing, if By is empty.
type Finding struct {
	By        string        `json:"by"` // "regression" or "seed"
	Name      string        `json:"name"`
	Seed      uint64        `json:"seed"`
	Played    int           `json:"played"` // seeds
	Invariant string        `json:"invariant"`
	What      string        `json:"what"`
	After     time.Duration `json:"afterNs"`
	Plan      *dst.Plan     `json:"plan,omitempty"` // made small
}

func main() {
	seeds := flag.Int("seeds", 400, "how many seeds, at most")
	first := flag.Uint64("seed", 1, "the first")
	limit := flag.Duration("for", 3*time.Minute, "for so long, at most")
	small := flag.Duration("shrink-for", 20*time.Second, "how long to make small what was found")
	flag.Parse()
	f, err := hunt(flag.Arg(0), *first, *seeds, *limit, *small)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hunter:", err)
		os.Exit(2)
	}
}

func hunt(folder string, first uint64, seeds int, limit, small time.Duration) (Finding, error) {
	began := time.Now()
	f, err := replay(folder)
	if err != nil || f.By != "" {
		f.After = time.Since(began)
		return f, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	out := campaign.New(campaign.Options{Config: dst.Config{Seed: first}, Seeds: seeds, Play: dst.Play, PlanOf: dst.PlanOf}).Run(ctx)
	f.Played, f.After = out.Done, time.Since(began)
	if len(out.Failures) == 0 {
		return f, nil
	}
	failure := out.Failures[0]
	f.By, f.Seed, f.What = "seed", failure.Seed, failure.Error
	if failure.Result == nil || failure.Result.Violation == nil {
		return f, nil // the product broke the simulator: a panic, or no rest
	}
	ctx, cancel = context.WithTimeout(context.Background(), small)
	defer cancel()
	shrunk := campaign.Shrink(ctx, failure.Result, campaign.ShrinkOptions{Play: dst.Play})
	v := shrunk.Result.Violation
	f.Invariant, f.What, f.Plan = v.Invariant, v.What, shrunk.Plan
	return f, nil
}

// replay plays the plans that found bugs before.
func replay(folder string) (f Finding, err error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return f, err
	}
	for _, file := range files {
		doc, err := os.ReadFile(file)
		if err != nil {
			return f, err
		}
		var c struct {
			Plan *dst.Plan `json:"plan"`
		}
		if err := json.Unmarshal(doc, &c); err != nil || c.Plan == nil {
			return f, errors.Join(fmt.Errorf("%s: no plan", file), err)
		}
		r, err := dst.Play(context.Background(), c.Plan, dst.Options{})
		switch {
		case err != nil:
			return Finding{By: "regression", Name: filepath.Base(file), What: err.Error()}, nil
		case r.Violation != nil:
			return Finding{By: "regression", Name: filepath.Base(file), Invariant: r.Violation.Invariant, What: r.Violation.What}, nil
		}
	}
	return f, nil
}
