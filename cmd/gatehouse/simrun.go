package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/sim/campaign"
	"github.com/gatehouse-edge/gatehouse/sim/dst"
)

// simRun is what the flags of `sim run` say.
type simRun struct {
	config    dst.Config
	seeds     int
	days      int
	faults    string
	mode      string
	plan      string
	report    string
	keep      string
	jobs      int
	lines     int
	shrink    bool
	shrinkFor time.Duration
	goOn      bool
}

// simulator is what plays plans: dst, or what a test brings.
type simulator struct {
	play       campaign.Play
	planOf     func(dst.Config) *dst.Plan
	invariants []campaign.Invariant
}

// simulated is the simulator that there is.
func simulated() simulator {
	s := simulator{play: playAnySize, planOf: dst.PlanOf}
	for _, i := range dst.Invariants() {
		s.invariants = append(s.invariants, campaign.Invariant{Name: i.Name, Says: i.Sentence})
	}
	return s
}

// demoWorld is what is simulated if nothing is said: a day of a fleet that goes about its
// work, with some of what happens in a bad year.
var demoWorld = dst.Config{
	Seed: 8, Devices: 2500, Brokers: 3, Duration: 24 * time.Hour, FaultsChosen: true,
	Faults: dst.CloudDown | dst.NetPartition | dst.Crash | dst.PowerCut | dst.BrokerCrash,
}

func (a *app) simRunCommand(sim simulator) *cobra.Command {
	var r simRun
	c := &cobra.Command{
		Use: "run", Short: "Break a whole Gatehouse under a seed, and check all that it promises", Args: cobra.NoArgs,
		Long: `Simulate whole worlds: a core with brokers, a fleet of devices, operators and the cloud, in
virtual time, while disk, network, cloud, clocks, processes and power fail. The core and the
brokers' part of it are the program's own code; what surrounds them is simulated. An observer
outside holds each answer against what was promised (nobody is let in who was revoked, nothing
on record is lost ...), after every step; in the end all faults stop, and all must get well.

All chance comes from the seed: the same seed gives the same run, on any machine. What the
flags leave open (devices, brokers, time, which faults) each seed chooses for itself: mostly
small worlds in which much goes wrong at once, where bugs are found. More than 2,000 devices go
about their work as a fleet does. Without flags a day of such a fleet is simulated:

    ` + campaign.Command(demoWorld) + `

If something is broken, the plan of that run is made as small as it can be, told in plain
words, and written to a file that replays it. Exit code 0: all held; 1: something was broken,
the simulator failed, or the run was interrupted; 2: wrong call.

Faults (--faults takes a list; "net" is all of net-...; "all", "none"):
` + faultList(),
		Example: example("gatehouse sim run", "gatehouse sim run --seeds 10 --report sim.html", "gatehouse sim run --seed 7 --faults crash,cloud --for 6h"),
		RunE: func(c *cobra.Command, _ []string) error {
			o, err := r.options(c.Flags().Changed, sim)
			if err != nil {
				return err
			}
			return a.simulate(c.Context(), &r, o)
		},
	}
	f := c.Flags()
	f.Uint64Var(&r.config.Seed, "seed", 1, "the seed, or the first of --seeds")
	f.IntVar(&r.seeds, "seeds", 1, "how many seeds, from --seed on")
	f.IntVar(&r.config.Devices, "devices", 0, "how many devices (default: the seed chooses)")
	f.IntVar(&r.config.Brokers, "brokers", 0, "how many brokers (default: the seed chooses)")
	f.IntVar(&r.days, "days", 0, "how many days of virtual time (default: the seed chooses, up to one)")
	f.DurationVar(&r.config.Duration, "for", 0, "how much virtual time, such as 6h")
	f.StringVar(&r.faults, "faults", "", "which faults may happen (default: the seed chooses)")
	f.StringVar(&r.mode, "mode", "both", "safety: faults to the end; liveness: none that last, and progress is demanded; both: one after the other")
	f.StringVar(&r.plan, "plan", "", "replay the plan in this file")
	f.IntVar(&r.jobs, "jobs", 0, "how many runs at a time (default: as many as there are cores)")
	f.StringVar(&r.report, "report", "", "write a page with plots to this file")
	f.BoolVar(&r.shrink, "shrink", true, "make a plan that broke something small (of --plan: if asked for)")
	f.DurationVar(&r.shrinkFor, "shrink-for", time.Minute, "for so long at most")
	f.BoolVar(&r.goOn, "go-on", false, "simulate all seeds, also after one broke something")
	f.StringVar(&r.keep, "keep", ".", "write the plans of what was broken to this folder")
	f.IntVar(&r.lines, "lines", 0, "how many of the last steps to show of what was broken (default 40)")
	return c
}

func faultList() string {
	text := ""
	for i, name := range dst.FaultNames() {
		if i%5 == 0 {
			text += "\n   "
		}
		text += fmt.Sprintf(" %-15s", name)
	}
	return text[1:]
}

// options are the flags as a campaign takes them.
func (r *simRun) options(given func(flag string) bool, sim simulator) (campaign.Options, error) {
	wrong := func(format string, args ...any) (campaign.Options, error) {
		return campaign.Options{}, &exitError{exitUsage, fmt.Errorf(format, args...)}
	}
	world := []string{"seed", "seeds", "devices", "brokers", "days", "for", "faults", "mode"}
	said := false
	for _, flag := range world {
		if said = said || given(flag); given(flag) && r.plan != "" {
			return wrong("--plan says all of the world, so --%s has no place beside it", flag)
		}
	}
	if given("days") && given("for") {
		return wrong("--days and --for both say how long")
	}
	if given("days") {
		if r.days < 1 || r.days > int(dst.DurationMax/(24*time.Hour)) {
			return wrong("--days %d: want 1 to %d", r.days, dst.DurationMax/(24*time.Hour))
		}
		r.config.Duration = time.Duration(r.days) * 24 * time.Hour
	}
	var err error
	if r.config.Mode, err = dst.ParseMode(r.mode); err != nil {
		return wrong("--mode: %w", err)
	}
	if given("faults") {
		if r.config.Faults, err = dst.ParseFaults(r.faults); err != nil {
			return wrong("--faults: %w", err)
		}
		r.config.FaultsChosen = true
	}
	for _, n := range []struct {
		flag       string
		value, top int
	}{{"seeds", r.seeds, 1e9}, {"jobs", r.jobs, 1024}, {"lines", r.lines, 100_000}, {"devices", r.config.Devices, dst.DevicesMax}, {"brokers", r.config.Brokers, dst.BrokersMax}} {
		if given(n.flag) && (n.value < 1 || n.value > n.top) {
			return wrong("--%s %d: want 1 to %d", n.flag, n.value, n.top)
		}
	}
	if given("for") && r.config.Duration < time.Second {
		return wrong("--for %v: want a second or more", r.config.Duration)
	}
	if err := r.config.Check(); err != nil {
		return wrong("%w", err)
	}
	o := campaign.Options{
		Config: r.config, Seeds: r.seeds, Jobs: r.jobs, GoOn: r.goOn, Lines: r.lines,
		Play: sim.play, PlanOf: sim.planOf, Invariants: sim.invariants,
	}
	if !said && r.plan == "" {
		o.Config = demoWorld
	}
	if r.plan != "" {
		r.shrink = r.shrink && given("shrink")
		doc, err := readFile(r.plan, dst.PlanBytesMax)
		if err != nil {
			return o, err
		}
		if o.Plan, err = dst.ReadPlan(bytes.NewReader(doc)); err != nil {
			return o, fmt.Errorf("%s: %w", r.plan, err)
		}
		o.Config = o.Plan.Config
	}
	return o, nil
}

// A world of up to smallWorld devices takes a few megabytes and is over soon: it is collected
// less often, which saves a quarter of the processor time. In big ones memory is what is short.
const (
	smallWorld        = 2000
	smallWorldGarbage = 800 // per cent of what lives
)

// simulate plays, and says what came of it.
func (a *app) simulate(ctx context.Context, r *simRun, o campaign.Options) error {
	if o.Config.Devices <= smallWorld {
		defer debug.SetGCPercent(debug.SetGCPercent(smallWorldGarbage))
	}
	c := campaign.New(o)
	began := time.Now()
	shown := a.watch(func(took time.Duration) string { return runLine(c.Status(), took) })
	out := c.Run(ctx)
	shown()
	took := time.Since(began)
	if err := a.keepFailures(ctx, r, o, out); err != nil {
		return err
	}
	if r.report != "" {
		if err := a.writeReport(ctx, r.report, o, out, took); err != nil {
			return err
		}
	}
	doc := struct {
		*campaign.Outcome
		WallMs int64  `json:"wallMs"`
		Report string `json:"report,omitempty"`
	}{out, took.Milliseconds(), r.report}
	err := a.show(doc, func(w io.Writer) error {
		if err := out.Tell(w, took); err != nil {
			return err
		}
		if r.report != "" {
			fmt.Fprintf(w, "\nThe page with plots: %s\n", here(r.report))
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(out.Failures) > 0:
		return &exitError{exitFailed, errQuiet}
	case out.Interrupted && out.Seeds == 1:
		return &exitError{exitFailed, errors.New("interrupted before its end")}
	case out.Interrupted:
		return &exitError{exitFailed, fmt.Errorf("interrupted: %d of %d runs came to their end", out.Done, out.Seeds)}
	}
	return nil
}

// keepFailures makes small what failed, one of each invariant, and writes plans that replay it.
func (a *app) keepFailures(ctx context.Context, r *simRun, o campaign.Options, out *campaign.Outcome) error {
	seen := map[string]bool{}
	for i := range out.Failures {
		f := &out.Failures[i]
		what, plan := "error", f.Plan
		if v := f.Violation(); v != nil {
			what = v.Invariant
			if r.shrink && !seen[what] {
				f.Small = a.shrink(ctx, r, o, f)
				plan = f.Small.Plan
			}
		}
		if seen[what] || o.Plan != nil && f.Small == nil { // one of each; what was replayed has its file
			continue
		}
		seen[what] = true
		doc, err := json.MarshalIndent(plan, "", " ")
		if err != nil {
			return err
		}
		name := filepath.Join(r.keep, fmt.Sprintf("gatehouse-%s-seed-%d.json", what, f.Seed))
		if err := os.WriteFile(name, append(doc, '\n'), 0o644); err != nil {
			return fmt.Errorf("seed %d broke %s, but its plan could not be written: %w", f.Seed, what, err)
		}
		f.File = here(name)
	}
	return nil
}

func (a *app) shrink(ctx context.Context, r *simRun, o campaign.Options, f *campaign.Failure) *campaign.Shrunk {
	ctx, cancel := context.WithTimeout(ctx, r.shrinkFor)
	defer cancel()
	var at line
	shown := a.watch(func(time.Duration) string { return at.get() })
	defer shown()
	return campaign.Shrink(ctx, f.Result, campaign.ShrinkOptions{Play: o.Play, Jobs: o.Jobs, Lines: o.Lines, Tried: func(tries, from, to int) {
		at.set(fmt.Sprintf("seed %d broke %s: making it small: %d of %d actions left after %d tries", f.Seed, f.Violation().Invariant, to, from, tries))
	}})
}

func (a *app) writeReport(ctx context.Context, name string, o campaign.Options, out *campaign.Outcome, took time.Duration) error {
	if err := out.LookCloser(ctx, o.Play); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	var page bytes.Buffer
	about := fmt.Sprintf("gatehouse %s, %s, %d cores, %s.", daemon.Version, runtime.Version(), runtime.GOMAXPROCS(0), time.Now().Format("2006-01-02"))
	if err := out.Report(&page, took, about); err != nil {
		return err
	}
	if err := os.WriteFile(name, page.Bytes(), 0o644); err != nil {
		return fmt.Errorf("the page with plots: %w", err)
	}
	return nil
}
