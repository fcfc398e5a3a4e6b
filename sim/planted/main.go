package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var h hunting
	only := flag.String("only", "", "names, or beginnings of names, separated by commas; default: all")
	asJSON := flag.Bool("json", false, "print the table as JSON")
	flag.IntVar(&h.seeds, "seeds", 2000, "how many seeds to simulate for each, at most")
	flag.DurationVar(&h.simFor, "sim", 3*time.Minute, "for so long, at most; 0: tests alone")
	flag.DurationVar(&h.testFor, "test", 5*time.Minute, "for so long to run tests, at most")
	flag.BoolVar(&h.both, "both", false, "run the tests even if the simulator has found it")
	flag.BoolVar(&h.keep, "keep", false, "keep what the simulator finds as regression seeds")
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
	var all []result
	for i := range chosen {
		r, err := h.hunt(ctx, &chosen[i])
		if err != nil {
			return 1, err
		}
		fmt.Fprintln(diagnostics, line(&r))
		all = append(all, r)
	}
	if err := report(out, all, asJSON); err != nil {
		return 1, err
	}
	return verdict(all), nil
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
	switch f.By {
	case "":
		if f.Played == 0 {
			return "–"
		}
		return fmt.Sprintf("– (%d seeds, %v)", f.Played, after)
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
