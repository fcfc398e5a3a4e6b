// Command hunter simulates the Gatehouse that it was built with until something breaks. It
// is a program of its own so that package planted can build it with a bug in it.
//
//	hunter [-own NAME] [-anew] [-seeds N] [-for D] FOLDER
//
// First it plays the plans in FOLDER that found bugs before, NAME before all others: the one
// that was kept of this bug. It prints one line of JSON: see Finding.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/campaign"
	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// Finding is what the hunter has found: nothing, if By is empty.
type Finding struct {
	By        string        `json:"by"`              // "regression" or "seed"
	Stale     bool          `json:"stale,omitempty"` // its own plan finds it no more
	Name      string        `json:"name"`
	Seed      uint64        `json:"seed"`
	Played    int           `json:"played"` // seeds
	Invariant string        `json:"invariant"`
	What      string        `json:"what"`
	After     time.Duration `json:"afterNs"`        // it was found, or given up
	Plan      *dst.Plan     `json:"plan,omitempty"` // made small
}

func main() {
	own := flag.String("own", "", "the plan that is to find this bug")
	anew := flag.Bool("anew", false, "if it does not, other plans come after the seeds, not before")
	seeds := flag.Int("seeds", 400, "how many seeds, at most; 0: plans alone")
	first := flag.Uint64("seed", 1, "the first")
	limit := flag.Duration("for", 3*time.Minute, "for so long, at most")
	small := flag.Duration("shrink-for", 20*time.Second, "how long to make small what was found")
	flag.Parse()
	h := hunt{folder: flag.Arg(0), first: *first, seeds: *seeds, limit: *limit, small: *small}
	err := h.all(*own, *anew)
	if h.By == "" {
		h.After = time.Since(h.began)
	}
	f := h.Finding
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(f)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hunter:", err)
		os.Exit(2)
	}
}

// hunt is a hunt under way.
type hunt struct {
	Finding
	folder       string
	first        uint64
	seeds        int
	limit, small time.Duration
	began        time.Time
}

// all looks everywhere, in turn.
func (h *hunt) all(own string, anew bool) error {
	h.began = time.Now()
	if own != "" {
		file := filepath.Join(h.folder, own)
		if _, err := os.Stat(file); err == nil {
			if err := h.replay(file); err != nil || h.By != "" {
				return err
			}
			h.Stale = true
		}
	}
	plans, err := filepath.Glob(filepath.Join(h.folder, "*.json"))
	if err != nil {
		return err
	}
	looks := []func() error{func() error { return h.replay(plans...) }, h.simulate}
	if anew {
		slices.Reverse(looks)
	}
	for _, look := range looks {
		if err := look(); err != nil || h.By != "" {
			return err
		}
	}
	return nil
}

// simulate plays seeds, and makes small what finds something.
func (h *hunt) simulate() error {
	if h.seeds == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.limit)
	defer cancel()
	out := campaign.New(campaign.Options{Config: dst.Config{Seed: h.first}, Seeds: h.seeds, Play: dst.Play, PlanOf: dst.PlanOf}).Run(ctx)
	h.Played = out.Done
	if len(out.Failures) == 0 {
		return nil
	}
	failure := out.Failures[0]
	h.By, h.Seed, h.What, h.After = "seed", failure.Seed, failure.Error, time.Since(h.began)
	if failure.Result == nil || failure.Result.Violation == nil {
		return nil // the product broke the simulator: a panic, or no rest
	}
	ctx, cancel = context.WithTimeout(context.Background(), h.small)
	defer cancel()
	shrunk := campaign.Shrink(ctx, failure.Result, campaign.ShrinkOptions{Play: dst.Play})
	v := shrunk.Result.Violation
	h.Invariant, h.What, h.Plan = v.Invariant, v.What, shrunk.Plan
	return nil
}

// replay plays plans that found bugs before.
func (h *hunt) replay(files ...string) error {
	for _, file := range files {
		doc, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		var c struct {
			Plan *dst.Plan `json:"plan"`
		}
		if err := json.Unmarshal(doc, &c); err != nil || c.Plan == nil {
			return errors.Join(fmt.Errorf("%s: no plan", file), err)
		}
		r, err := dst.Play(context.Background(), c.Plan, dst.Options{})
		switch {
		case err != nil:
			h.By, h.What = "regression", err.Error()
		case r.Violation != nil:
			h.By, h.Invariant, h.What = "regression", r.Violation.Invariant, r.Violation.What
		default:
			continue
		}
		h.Name, h.After = filepath.Base(file), time.Since(h.began)
		return nil
	}
	return nil
}
