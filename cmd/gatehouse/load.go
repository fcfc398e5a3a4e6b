package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/sim/load"
)

// loadOptions are the flags of `sim load`.
type loadOptions struct {
	mix              string
	duration         time.Duration
	rate             float64
	devices, brokers int
	seed             int
	fleet, report    string
	target           loadTarget

	list         bool
	show, schema string
}

// defaultLoadMix is asked if none is named.
const defaultLoadMix = "steady"

func (a *app) loadCommand() *cobra.Command {
	var o loadOptions
	c := &cobra.Command{
		Use: "load", Short: "Ask a running Gatehouse as many brokers and devices would, and say how it held", Args: cobra.NoArgs,
		Long: `Ask a running Gatehouse as many brokers and devices would: over NATS as brokers ask, or with
--mqtt as devices connect, with TLS and their certificates. It says how long each kind of
request took, how many were answered and how, and whether any answer was wrong.

It is an open loop: a schedule says when each request is due, and its time counts from that
moment, whatever became of those before. A server that stands still makes everybody wait
who would have asked meanwhile, and that shows (coordinated omission is corrected).

Beside "gatehouse dev" it needs nothing: it makes brokers and a fleet of devices there. At
another Gatehouse it needs brokers' credentials and devices' certificates:

  gatehouse broker add load-{1..8} --dir DIR
  gatehouse sim load --dir DIR --fleet FOLDER
  gatehouse sim load --nats URL --credentials DIR/brokers/load-1.creds --fleet FOLDER
  gatehouse sim load --mqtt --address HOST:PORT --ca ca.pem --fleet FOLDER

FOLDER has a folder for each device, named after it, with cert.pem and, for MQTT, key.pem;
or it is a PEM file of certificates, each followed by its key. The cloud must know them,
and the policy must allow what the mix's topics say.

Ctrl-C ends it, with the result until then. The exit code is 1 if an answer was wrong, or
nothing was decided at all.

A mix is a file, YAML or JSON, or one that comes with the program (--list, --show):

` + load.Help(),
		Example: example("gatehouse sim load --for 2s --rate 100 --dir ./gh", "gatehouse sim load --mix revoke --for 2s --devices 20 --report load.html --dir ./gh",
			"gatehouse sim load --mqtt --for 2s --rate 50 --devices 20 --mix steady-mqtt --dir ./gh", "gatehouse sim load --show storm"),
		RunE: func(c *cobra.Command, _ []string) error { return a.simLoad(c.Context(), o) },
	}
	f := c.Flags()
	f.StringVar(&o.mix, "mix", defaultLoadMix, "a mix that comes with the program, or a `FILE`")
	f.DurationVar(&o.duration, "for", 0, "how long in all, instead of what the mix says")
	f.Float64Var(&o.rate, "rate", 0, "the highest rate, in requests a second, instead of the mix's; its other rates go with it")
	f.IntVar(&o.devices, "devices", 0, "how many devices, instead of what the mix says")
	f.IntVar(&o.brokers, "brokers", 0, "how many brokers, instead of what the mix says")
	f.IntVar(&o.seed, "seed", 0, "of chance, instead of the mix's")
	f.StringVar(&o.fleet, "fleet", "", "the devices: a folder with a folder for each, or a PEM bundle (default: DIR/load/fleet.pem, made in the emulated cloud of gatehouse dev)")
	f.StringVar(&o.report, "report", "", "write a page with plots to this `FILE.html`")
	f.StringVar(&o.target.nats, "nats", "", "the NATS server's `URL` (default: that of DIR)")
	f.StringArrayVar(&o.target.credentials, "credentials", nil, "a broker's credentials, or a folder of them (repeat it; default: load-1, load-2, … of DIR)")
	f.BoolVar(&o.target.mqtt, "mqtt", false, "over MQTT, as devices, instead of over NATS, as brokers")
	f.StringVar(&o.target.address, "address", "", "the MQTT broker's `HOST:PORT` (default: that of DIR)")
	f.StringVar(&o.target.ca, "ca", "", "who may have signed the server's certificate: a PEM `FILE` (default: with --mqtt DIR/ca.pem, else the system's)")
	f.BoolVar(&o.list, "list", false, "list the mixes that come with the program, and ask nothing")
	f.StringVar(&o.show, "show", "", "print one of them, to begin with for one of your own, and ask nothing")
	f.StringVar(&o.schema, "schema", "", "print a JSON Schema and ask nothing: mix or result")
	_ = c.RegisterFlagCompletionFunc("mix", cobra.FixedCompletions(load.Names(), cobra.ShellCompDirectiveDefault))
	_ = c.RegisterFlagCompletionFunc("show", cobra.FixedCompletions(load.Names(), cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("schema", cobra.FixedCompletions([]string{"mix", "result"}, cobra.ShellCompDirectiveNoFileComp))
	c.AddCommand(a.loadFleetCommand())
	return c
}

func (a *app) simLoad(ctx context.Context, o loadOptions) error {
	switch {
	case o.list:
		return a.listMixes()
	case o.show != "":
		doc, ok := load.Named(o.show)
		if !ok {
			return &exitError{exitUsage, fmt.Errorf("--show %.60q: want one of %s", o.show, strings.Join(load.Names(), ", "))}
		}
		return a.show(map[string]string{"mix": string(doc)}, func(w io.Writer) error { _, err := w.Write(doc); return err })
	case o.schema == "mix":
		_, err := a.out.Write(load.Schema())
		return err
	case o.schema == "result":
		_, err := a.out.Write(load.ResultSchema())
		return err
	case o.schema != "":
		return &exitError{exitUsage, fmt.Errorf("--schema %.40q: want mix or result", o.schema)}
	}
	mix, err := o.read()
	if err != nil {
		return err
	}
	return a.playLoad(ctx, o, mix)
}

func (a *app) listMixes() error {
	list := map[string]string{}
	for _, name := range load.Names() {
		doc, _ := load.Named(name)
		mix, err := load.Parse(name, doc)
		if err != nil {
			return err
		}
		list[name] = mix.About
	}
	return a.show(list, func(w io.Writer) error {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, name := range load.Names() {
			fmt.Fprintf(t, "%s\t%s\n", name, list[name])
		}
		return t.Flush()
	})
}

// read reads the mix and puts the flags into it.
func (o *loadOptions) read() (*load.Mix, error) {
	doc, ok := load.Named(o.mix)
	if !ok {
		var err error
		if doc, err = readFile(o.mix, load.MixBytesMax); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				err = fmt.Errorf("--mix %.120s: neither a file nor one of %s", o.mix, strings.Join(load.Names(), ", "))
			}
			return nil, &exitError{exitUsage, err}
		}
	}
	mix, err := load.Parse(o.mix, doc)
	if err != nil {
		return nil, err
	}
	if o.duration < 0 || o.rate < 0 || o.devices < 0 || o.brokers < 0 || o.seed < 0 || o.duration > 0 && o.duration < time.Second {
		return nil, &exitError{exitUsage, errors.New("--for is 1s or more; --rate, --devices, --brokers and --seed are not negative")}
	}
	if mix.Name == "" {
		mix.Name = filepath.Base(o.mix)
	}
	for flag, into := range map[*int]*int{&o.devices: &mix.Devices, &o.brokers: &mix.Brokers, &o.seed: &mix.Seed} {
		if *flag > 0 {
			*into = *flag
		}
	}
	if o.duration > 0 {
		mix.Fit(o.duration)
	}
	if o.rate > 0 {
		mix.Scale(o.rate)
	}
	if o.target.mqtt {
		mix.Brokers = 1
	}
	if err := mix.Check(); err != nil {
		return nil, &exitError{exitUsage, fmt.Errorf("%s, with the flags: %w", o.mix, err)}
	}
	return mix, nil
}

// playLoad finds whom to ask, asks, and tells what came of it.
func (a *app) playLoad(ctx context.Context, o loadOptions, mix *load.Mix) error {
	fleet, err := a.loadFleet(ctx, o.fleet, mix.Devices)
	if err != nil {
		return err
	}
	run := load.Options{Mix: mix, Fleet: fleet, Progress: a.loadProgress()}
	if run.Driver, run.Target, err = a.reach(ctx, &o.target, mix); err != nil {
		return err
	}
	defer run.Driver.Close()
	operator, err := a.operator()
	if err != nil && a.dir != "" {
		run.Warnings = append(run.Warnings, "no operator's orders: "+err.Error())
	}
	if operator != nil {
		defer operator.client.Close()
		run.Operator = operator
	}
	result, err := load.Run(ctx, run)
	if err != nil {
		return err
	}
	if o.report != "" {
		var page bytes.Buffer
		if err := result.WriteHTML(&page); err != nil {
			return err
		}
		if err := daemon.WriteFile(o.report, page.Bytes(), 0o644); err != nil {
			return err
		}
	}
	err = a.show(result, func(w io.Writer) error {
		if err := result.WriteText(w); err != nil || o.report == "" {
			return err
		}
		_, err := fmt.Fprintf(w, "The page with plots: %s\n", here(o.report))
		return err
	})
	if err == nil && (result.Wrong() > 0 || result.Decided == 0) {
		err = &exitError{exitFailed, errQuiet}
	}
	return err
}

// loadProgress tells how far a run is: on a terminal in one line that changes, elsewhere in
// a line now and then.
func (a *app) loadProgress() func(load.Progress) {
	const seldom = 10 * time.Second
	f, ok := a.err.(*os.File)
	terminal := ok && term.IsTerminal(int(f.Fd()))
	last, stage := time.Time{}, ""
	return func(p load.Progress) {
		now := time.Now()
		switch {
		case terminal && now.Sub(last) >= 200*time.Millisecond:
			fmt.Fprintf(a.err, "\r\x1b[K%s", p.Text())
			if p.Stage == "finish" && p.InFlight == 0 {
				fmt.Fprint(a.err, "\r\x1b[K")
			}
		case !terminal && (now.Sub(last) >= seldom || p.Stage != stage):
			fmt.Fprintln(a.err, p.Text())
		default:
			return
		}
		last, stage = now, p.Stage
	}
}

// brokerNames are the virtual brokers': load-1 to load-n.
func brokerNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("load-%d", i+1)
	}
	return names
}
