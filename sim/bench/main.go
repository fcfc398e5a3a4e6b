package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A comparison measures one thing against its references.
type comparison struct {
	name string
	run  func(context.Context, *bench) ([]Row, error)
}

var comparisons = []comparison{
	{"authorize", authorize},
	{"decision", decision},
	{"authenticate", authenticate},
	{"append", appendDurably},
	{"replay", replay},
	{"start", start},
	{"memory", memory},
	{"storm", comeBack},
	{"simday", simDay},
	{"cache", cacheDecision},
	{"refresh", refresh},
}

func main() {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := beCloud(dir); err != nil {
			fmt.Fprintln(os.Stderr, "bench: emulated cloud:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "bench:", err)
			stop()
			os.Exit(1)
		}
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print one JSON object a row")
	only := flags.String("only", "", "measure this comparison alone: "+names())
	quick := flags.Bool("quick", false, "shorter and fewer rounds (about 75 s in all): for a look, not for the record")
	dir := flags.String("dir", "", "where the logs are written; on a disk, not in memory (default: the system's temporary directory)")
	profile := flags.String("profile", "", "write CPU profiles of our side to files of this name, and compare nothing; with -only")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	chosen := slices.DeleteFunc(slices.Clone(comparisons), func(c comparison) bool { return *only != "" && c.name != *only })
	if len(chosen) == 0 {
		return fmt.Errorf("-only %s: no such comparison, want one of %s", *only, names())
	}
	if *profile != "" && len(chosen) != 1 {
		return errors.New("-profile needs -only: one comparison at a time")
	}
	p := fullPlan
	if *quick {
		p = quickPlan
	}
	scratch, err := makeScratch(*dir)
	if err != nil {
		return err
	}
	b := &bench{plan: p, scratch: scratch, profile: *profile}
	return errors.Join(measureAll(ctx, b, chosen, printer(out, *asJSON)), os.RemoveAll(scratch))
}

// measureAll goes on after a comparison that failed: its error comes at the end.
func measureAll(ctx context.Context, b *bench, chosen []comparison, show func([]Row) error) error {
	var errs []error
	for _, c := range chosen {
		rows, err := c.run(ctx, b)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", c.name, err))
		}
		if err := show(rows); err != nil {
			return errors.Join(append(errs, err)...)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

func names() string {
	var all []string
	for _, c := range comparisons {
		all = append(all, c.name)
	}
	return strings.Join(all, ", ")
}

// printer returns what prints rows as soon as they are measured.
func printer(out io.Writer, asJSON bool) func([]Row) error {
	if asJSON {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		return func(rows []Row) error {
			for _, r := range rows {
				if err := e.Encode(r); err != nil {
					return err
				}
			}
			return nil
		}
	}
	headed := false
	return func(rows []Row) error {
		w := tabwriter.NewWriter(out, 22, 0, 2, ' ', 0)
		if !headed {
			fmt.Fprintln(w, "name\tours\treference\tratio\thold\taim\tverdict\tspread\tnote")
			headed = true
		}
		for _, r := range rows {
			fmt.Fprintln(w, r.line())
		}
		return w.Flush()
	}
}

// The plans: how many turns, and how long a round of each side lasts.
var (
	fullPlan = plan{
		rounds: 9, round: time.Second, warmup: 500 * time.Millisecond, records: 200_000, devices: 100_000, refreshRate: 250,
		fleets: []fleet{{"100k", 100_000, atMost(2), nil}, {"1m", 1_000_000, atMost(15), atMost(3)}},
		crowds: []fleet{{"2500", 2500, atMost(64), atMost(32)}, {"100k", 100_000, atMost(512), atMost(256)}, {"1m", 1_000_000, atMost(3072), atMost(1536)}},
		storms: []fleet{{"100k", 100_000, atMost(30), atMost(10)}},
		days:   []fleet{{"1m", 1_000_000, atMost(30), atMost(5)}},
		rest:   10 * time.Second,
	}
	quickPlan = plan{
		rounds: 5, round: 250 * time.Millisecond, warmup: 150 * time.Millisecond, records: 20_000, devices: 5_000, refreshRate: 250,
		fleets: []fleet{{"10k", 10_000, nil, nil}},
		crowds: []fleet{{"2500", 2500, atMost(64), atMost(32)}},
		storms: []fleet{{"10k", 10_000, nil, nil}},
		days:   []fleet{{"2500", 2500, nil, nil}},
		rest:   5 * time.Second,
	}
)
