package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var h hunting
	only := flag.String("only", "", "names, or beginnings of names, separated by commas; default: all")
	asJSON := flag.Bool("json", false, "print the table as JSON")
	flag.IntVar(&h.seeds, "seeds", 2000, "how many seeds to simulate for each, at most; 0: play the plans that were kept alone")
	flag.DurationVar(&h.simFor, "sim", 3*time.Minute, "for so long, at most; 0: tests alone")
	flag.DurationVar(&h.testFor, "test", 5*time.Minute, "for so long to run tests, at most; 0: simulate alone")
	flag.IntVar(&h.jobs, "jobs", 1, "how many to hunt at a time")
	flag.BoolVar(&h.both, "both", false, "run the tests even if the simulator has found it")
	flag.BoolVar(&h.keep, "keep", false, "keep what the simulator finds as regression seeds, in place of those that find their bug no more")
	flag.Parse()
	code, err := command(ctx, &h, *only, *asJSON, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "planted:", err)
	}
	os.Exit(code)
}

func command(ctx context.Context, h *hunting, only string, asJSON bool, out, diagnostics io.Writer) (int, error) {
	mod, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return 1, fmt.Errorf("where is the module: %w", err)
	}
	h.top = filepath.Dir(strings.TrimSpace(string(mod)))
	chosen, err := choose(only)
	if err != nil {
		return 2, err
	}
	if h.dir, err = os.MkdirTemp("", "gatehouse-planted-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(h.dir)
	h.tests = map[string]string{}
	bad, err := h.build(ctx, mutations())
	if err != nil {
		return 1, err
	}
	all, wrong := h.each(ctx, chosen, bad, diagnostics)
	if err := errors.Join(report(out, all, asJSON), wrong); err != nil {
		return 1, err
	}
	return verdict(all), nil
}

// each hunts the bugs, some at a time.
func (h *hunting) each(ctx context.Context, chosen []mutation, bad map[string]string, diagnostics io.Writer) ([]result, error) {
	all, errs := make([]result, len(chosen)), make([]error, len(chosen))
	next := make(chan int)
	var wait sync.WaitGroup
	for range h.jobs {
		wait.Go(func() {
			for i := range next {
				if errs[i] = ctx.Err(); errs[i] != nil {
					continue
				}
				m := &chosen[i]
				all[i] = result{Name: m.name, Breaks: m.breaks, Security: m.security, Compiler: bad[m.name]}
				if all[i].Compiler == "" {
					all[i], errs[i] = h.hunt(ctx, m)
				}
				fmt.Fprintln(diagnostics, line(&all[i]))
			}
		})
	}
	for i := range chosen {
		next <- i
	}
	close(next)
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return all, err
	}
	return all, errors.Join(errs...)
}

func choose(only string) (chosen []mutation, err error) {
	if only == "" {
		return mutations(), nil
	}
	for name := range strings.SplitSeq(only, ",") {
		n := len(chosen)
		for _, m := range mutations() {
			if strings.HasPrefix(m.name, strings.TrimSpace(name)) {
				chosen = append(chosen, m)
			}
		}
		if len(chosen) == n {
			return nil, fmt.Errorf("there is no mutation %q", name)
		}
	}
	return chosen, nil
}

// verdict is the exit code: at least 95 % are found, and all that are marked security.
func verdict(all []result) int {
	missed := 0
	for i := range all {
		if r := &all[i]; !r.found() {
			if missed++; r.Security {
				return 1
			}
		}
	}
	if 20*missed > len(all) {
		return 1
	}
	return 0
}

func report(out io.Writer, all []result, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", " ")
		return e.Encode(all)
	}
	found := func(only func(*result) bool) (n, of int) {
		for i := range all {
			if r := &all[i]; only(r) {
				if of++; r.found() {
					n++
				}
			}
		}
		return n, of
	}
	fmt.Fprintln(out, "| bug | what it breaks | security | found by the simulator | found by tests |\n|---|---|---|---|---|")
	for i := range all {
		r := &all[i]
		security := ""
		if r.Security {
			security = "yes"
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", r.Name, r.Breaks, security, r.Sim.String(), r.byTests())
	}
	n, of := found(func(*result) bool { return true })
	fmt.Fprintf(out, "\n%d of %d found", n, of)
	n, of = found(func(r *result) bool { return r.Security })
	fmt.Fprintf(out, ", of those marked security %d of %d", n, of)
	n, of = found(func(r *result) bool { return r.Sim.By != "" })
	_, err := fmt.Fprintf(out, "; by the simulator %d.\n", min(n, of))
	return err
}

// String is the finding as a cell of the table.
func (f *finding) String() string {
	by := f.Invariant
	if by == "" {
		by = strings.ReplaceAll(f.What, "|", "/")
		by = by[:min(len(by), 60)]
	}
	after := f.After.Round(100 * time.Millisecond)
	if f.Stale {
		by = "its plan finds it no more; " + by
	}
	switch f.By {
	case "":
		if f.Played == 0 {
			return by + "–"
		}
		return fmt.Sprintf("%s– (%d seeds, %v)", by, f.Played, after)
	case "regression":
		return fmt.Sprintf("%s, %s, %v", by, f.Name, after)
	}
	return fmt.Sprintf("%s, seed %d, %v", by, f.Seed, after)
}

func (r *result) byTests() string {
	if r.Compiler != "" {
		return "does not compile"
	}
	if len(r.Tests) == 0 {
		if r.Took == 0 {
			return "" // not asked
		}
		return "–"
	}
	names := slices.DeleteFunc(slices.Clone(r.Tests), func(n string) bool { return strings.Contains(n, "gatehouse-edge/") })
	if len(names) == 0 {
		names = r.Tests
	}
	return fmt.Sprintf("%s, %v", names[len(names)-1], r.Took.Round(time.Second))
}

// line is the row while the hunt goes on.
func line(r *result) string {
	mark := "FOUND "
	if !r.found() {
		mark = "MISSED"
	}
	text := fmt.Sprintf("%s %-34s sim: %s; tests: %s", mark, r.Name, r.Sim.String(), r.byTests())
	if r.Compiler != "" {
		text += "\n" + r.Compiler[:min(len(r.Compiler), 2000)]
	}
	return text
}
