package main

import (
	"context"
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
	"syscall"
)

// nodeArgument as the first one makes this program a node: the process that is crashed.
const nodeArgument = "node"

func main() {
	if len(os.Args) == 3 && os.Args[1] == nodeArgument {
		os.Exit(runNode(os.Args[2]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// command is the program but for its process. It returns the exit code: 0 if all rows hold.
func command(ctx context.Context, args []string, out, diagnostics io.Writer) int {
	flags := flag.NewFlagSet("crash", flag.ContinueOnError)
	flags.SetOutput(diagnostics)
	night := flags.Bool("night", false, "the long size: hours, not minutes")
	only := flags.String("only", "", "rows to run, separated by commas, such as A1,A3; default: all")
	asJSON := flags.Bool("json", false, "print the table as JSON")
	markdown := flags.Bool("markdown", false, "print the table as Markdown")
	verbose := flags.Bool("v", false, "say what is done")
	seed := flags.Uint64("seed", 1, "of everything that is left to chance")
	dir := flags.String("dir", "", "where to work, on a real disk: 2 GiB; default: the system's temporary directory")
	wide := flags.Int("parallel", 4, "runs side by side")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 || *wide < 1 {
		return 2
	}
	chosen, err := choose(*only)
	if err == nil {
		err = possible(chosen)
	}
	if err != nil {
		fmt.Fprintln(diagnostics, "crash:", err)
		return 2
	}
	c, err := newCampaign(ctx, *dir)
	if err != nil {
		fmt.Fprintln(diagnostics, "crash:", err)
		return 1
	}
	defer func() { _ = os.RemoveAll(c.dir) }() // mounts are gone by then: carryOut saw to it
	c.night, c.seed, c.wide = *night, *seed, *wide
	if *verbose {
		c.say = func(format string, args ...any) { fmt.Fprintf(diagnostics, format+"\n", args...) }
	}
	var rows []*Row
	for _, t := range chosen {
		if ctx.Err() != nil {
			break
		}
		row := c.carryOut(t)
		rows = append(rows, row)
		fmt.Fprintln(diagnostics, progress(row))
	}
	if err := report(out, c, rows, *asJSON, *markdown); err != nil {
		fmt.Fprintln(diagnostics, "crash:", err)
		return 1
	}
	if ctx.Err() != nil || slices.ContainsFunc(rows, func(r *Row) bool { return !r.Passed() }) {
		return 1
	}
	return 0
}

func newCampaign(ctx context.Context, dir string) (*campaign, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	work, err := os.MkdirTemp(dir, "gatehouse-crash-")
	if err != nil {
		return nil, err
	}
	if work, err = filepath.Abs(work); err != nil {
		return nil, err
	}
	return &campaign{ctx: ctx, self: self, dir: work, seed: 1, wide: 4, say: func(string, ...any) {}, row: &Row{}}, nil
}

// choose finds the trials by their names.
func choose(only string) ([]trial, error) {
	if only == "" {
		return trials, nil
	}
	var chosen []trial
	for id := range strings.SplitSeq(only, ",") {
		i := slices.IndexFunc(trials, func(t trial) bool { return strings.EqualFold(t.id, strings.TrimSpace(id)) })
		if i < 0 {
			var ids []string
			for _, t := range trials {
				ids = append(ids, t.id)
			}
			return nil, fmt.Errorf("there is no row %q; there are: %s", id, strings.Join(ids, " "))
		}
		chosen = append(chosen, trials[i])
	}
	return chosen, nil
}

// needs says what of the machine a row uses, beside Linux.
var needs = map[string][]string{
	"A3": {"root", "mkfs.ext4"}, "A6": {"strace"}, "A7": {"root", "mkfs.ext4"}, "A8": {"strace", "go"}, "A2": {"go"}, "A12": {"go"},
}

// possible says whether this machine can run the trials.
func possible(chosen []trial) error {
	var errs []error
	for _, t := range chosen {
		for _, need := range needs[t.id] {
			if need == "root" {
				if os.Geteuid() != 0 {
					errs = append(errs, fmt.Errorf("%s mounts file systems: it needs root", t.id))
				}
			} else if _, err := exec.LookPath(need); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", t.id, err))
			}
		}
	}
	return errors.Join(errs...)
}
