package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// faultFlags describe one fault, or name a file with a script of them.
type faultFlags struct {
	fault          awsemu.Fault
	seed           uint64
	redirect, file string
}

func (a *app) cloudFault() *cobra.Command {
	var f faultFlags
	c := &cobra.Command{
		Use: "fault", Short: "Make the cloud misbehave; without flags, end it", Args: cobra.NoArgs,
		Long: `Make the cloud misbehave, in place of what it did before; without flags, end it.

A fault strikes every request, or those that --operation, --skip, --every, --count and
--probability name. Its outcome is one of --status, --body, --redirect, --drop, --blackhole,
--truncate, --mangle, --page and --tls; --latency and --date-skew go with any but --tls.
A script of several faults is a file in YAML or JSON, as

    faults:
      - {operation: ListClientDevicesAssociatedWithCoreDevice, skip: 6, count: 1, page: missing}
      - {operation: data-plane, every: 3, status: 429, errorType: ThrottlingException, retryAfter: 2s}`,
		Example: example("gatehouse sim cloud fault --latency 3s --dir ./gh", "gatehouse sim cloud fault --status 503 --count 2 --dir ./gh",
			"gatehouse sim cloud fault --page repeat --skip 1 --dir ./gh", "gatehouse sim cloud fault --tls expired --dir ./gh",
			"gatehouse sim cloud fault --file faults.yaml --dir ./gh", "gatehouse sim cloud fault --dir ./gh"),
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := f.script(c)
			if err != nil {
				return err
			}
			return a.setFaults(c.Context(), s)
		},
	}
	f.bind(c)
	c.AddCommand(
		&cobra.Command{
			Use: "clear", Short: "End all faults", Args: cobra.NoArgs, Example: example("gatehouse sim cloud fault clear --dir ./gh"),
			RunE: func(c *cobra.Command, _ []string) error { return a.setFaults(c.Context(), fault.Script{}) },
		},
		&cobra.Command{
			Use: "show", Short: "Show the faults in force, and how often each has struck", Args: cobra.NoArgs,
			Example: example("gatehouse sim cloud fault show --dir ./gh"),
			RunE:    func(c *cobra.Command, _ []string) error { return a.showFaults(c.Context()) },
		})
	return c
}

func (f *faultFlags) bind(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.file, "file", "", "a script of faults, YAML or JSON; alone")
	flags.StringVar((*string)(&f.fault.Operation), "operation", "", "only this: an operation's name, probe, data-plane, control-plane, mqtt or credentials")
	flags.IntVar(&f.fault.Skip, "skip", 0, "let so many requests pass first")
	flags.IntVar(&f.fault.Every, "every", 0, "strike each so many-th request")
	flags.IntVar(&f.fault.Count, "count", 0, "strike so many requests, then no more")
	flags.Float64Var(&f.fault.Probability, "probability", 0, "strike by chance, 0 to 1")
	flags.Uint64Var(&f.seed, "seed", 0, "with --probability: decides the chance")
	flags.DurationVar(&f.fault.Latency, "latency", 0, "wait before answering")
	flags.DurationVar(&f.fault.DateSkew, "date-skew", 0, "add this to the answer's Date")
	flags.IntVar(&f.fault.Status, "status", 0, "answer this HTTP status")
	flags.StringVar(&f.fault.ErrorType, "error", "", "with --status: this AWS error type")
	flags.DurationVar(&f.fault.RetryAfter, "retry-after", 0, "with --status: this Retry-After")
	flags.StringVar(&f.fault.Body, "body", "", "answer this body")
	flags.StringVar(&f.fault.ContentType, "content-type", "", "with --body or --status: this Content-Type")
	flags.StringVar(&f.redirect, "redirect", "", "redirect to this URL")
	flags.BoolVar(&f.fault.Drop, "drop", false, "close the connection without an answer")
	flags.BoolVar(&f.fault.Blackhole, "blackhole", false, "never answer")
	flags.BoolVar(&f.fault.Truncate, "truncate", false, "break off in the middle of the answer")
	flags.StringVar((*string)(&f.fault.Mangle), "mangle", "", "spoil the body: garbage, html, gzip, not-gzip, gzip-bomb or oversized")
	flags.StringVar((*string)(&f.fault.Page), "page", "", "spoil a page of a listing: end, nothing, empty, missing, fewer, duplicate, repeat or loop")
	flags.StringVar((*string)(&f.fault.TLS), "tls", "", "spoil connections: expired, wrong-host, unknown-authority, old-version, captive-portal or hang")
}

// script is what the flags ask for. Flags that describe nothing that could be are a wrong
// call; without any it is the script that ends all faults.
func (f *faultFlags) script(c *cobra.Command) (fault.Script, error) {
	given := 0
	c.LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) {
		if flag.Changed {
			given++
		}
	})
	switch {
	case given == 0:
		return fault.Script{}, nil
	case f.file != "" && given > 1:
		return fault.Script{}, &exitError{exitUsage, errors.New("--file stands alone: write the fault into it")}
	case f.file != "":
		return readScript(f.file)
	}
	if f.redirect != "" {
		if f.fault.Status == 0 {
			f.fault.Status = 302
		}
		f.fault.Header = map[string]string{"Location": f.redirect}
	}
	s := fault.Script{Seed: f.seed, Faults: []awsemu.Fault{f.fault}}
	if err := s.Check(); err != nil {
		return s, &exitError{exitUsage, fmt.Errorf("%w; see `%s --help`", err, c.CommandPath())}
	}
	return s, nil
}

func readScript(file string) (fault.Script, error) {
	doc, err := readFile(file, fault.DocumentBytesMax)
	if err != nil {
		return fault.Script{}, err
	}
	s, err := fault.Parse(doc)
	if err != nil {
		return s, inFile(file, policy.ErrorsOf(err))
	}
	return s, nil
}

func (a *app) setFaults(ctx context.Context, s fault.Script) error {
	dir, err := a.needDir()
	if err != nil {
		return err
	}
	if err := awsemu.NewControlClient(controlSocket(dir)).SetFaults(ctx, s); err != nil {
		return fmt.Errorf("sim cloud fault: %w", err)
	}
	done := "the cloud misbehaves"
	if len(s.Faults) == 0 {
		done = "the cloud behaves"
	}
	return a.show(map[string]string{"done": done}, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, done)
		return err
	})
}

func (a *app) showFaults(ctx context.Context) error {
	dir, err := a.needDir()
	if err != nil {
		return err
	}
	info, err := awsemu.NewControlClient(controlSocket(dir)).Status(ctx)
	if err != nil {
		return err
	}
	states := append([]fault.State{}, info.Faults...)
	return a.show(states, func(w io.Writer) error {
		if len(states) == 0 {
			_, err := fmt.Fprintln(w, "the cloud behaves")
			return err
		}
		for _, s := range states {
			doc, err := s.Fault.MarshalJSON()
			if err != nil {
				return err
			}
			if _, err := fmt.Fprintf(w, "struck %d of %d: %s\n", s.Struck, s.Tried, doc); err != nil {
				return err
			}
		}
		return nil
	})
}
