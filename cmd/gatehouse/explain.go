package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

func (a *app) explainCommand() *cobra.Command {
	var last bool
	var certificate string
	c := &cobra.Command{
		Use:   "explain [THING [OPERATION RESOURCE] | certificate SERIAL|SUBSCRIBER]",
		Short: "Say why something was refused or issued, or what would be decided now",
		Long: `Say why the last refusal was made (of anybody, of THING, or of a certificate), or what
would be decided now if THING did OPERATION on RESOURCE: the group and statement, the
trust in the device, the records of the log it rests on, and what to do about it.

With "certificate", say why a broker's or component's certificate was issued: the one whose
serial number begins so, or the latest of a subscriber.`,
		Example: example(
			"gatehouse explain --last --dir ./gh",
			"gatehouse explain sensor-1 --dir ./gh",
			"gatehouse explain sensor-1 mqtt:publish mqtt:topic:sensors/sensor-2/x --dir ./gh",
			"gatehouse explain certificate gatehouse-mqtt --dir ./gh"),
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 0 && args[0] == "": // perhaps a script's variable that is not set
				return &exitError{exitUsage, errors.New("explain: THING is empty; --last is the last refusal of anybody")}
			case len(args) == 2 && args[0] == "certificate" && certificate == "" && !last:
				return nil
			case len(args) == 1 || len(args) == 3 || len(args) == 0 && (last || certificate != ""):
				return nil
			}
			return &exitError{exitUsage, fmt.Errorf("explain takes THING, or THING OPERATION RESOURCE, or certificate SERIAL|SUBSCRIBER, or --last, or --certificate")}
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 2 {
				return a.explainCertificate(c.Context(), args[1])
			}
			q := daemon.ExplainRequest{Certificate: certificate}
			if len(args) > 0 {
				q.Thing = args[0]
			}
			if len(args) == 3 {
				q.Operation, q.Resource = args[1], args[2]
			}
			return a.explain(c.Context(), q)
		},
	}
	c.Flags().BoolVar(&last, "last", false, "the last refusal, or end of a session, of anybody")
	c.Flags().StringVar(&certificate, "certificate", "", "the last refusal of the certificate whose id begins so")
	return c
}

func (a *app) explain(ctx context.Context, q daemon.ExplainRequest) error {
	e, err := query(ctx, a, daemon.OpExplain, q, func(s *daemon.Stored) (projections.Explanation, error) {
		x := &projections.Explainer{
			Views: s.Views, Log: s.Log,
			Trust: func() messages.Trust { return s.Trust }, NowMs: func() int64 { return s.NowMs },
		}
		return daemon.Explain(ctx, x, q)
	})
	if err != nil {
		return err
	}
	return a.show(e, func(w io.Writer) error { return printExplanation(w, e) })
}

func printExplanation(w io.Writer, e projections.Explanation) error {
	fmt.Fprintln(w, e.Question)
	if e.When != nil {
		fmt.Fprintf(w, "  when      %s\n", when(e.When))
	}
	fmt.Fprintf(w, "  answer    %s\n", e.Answer)
	if e.Policy != nil {
		fmt.Fprintf(w, "  policy    %s\n", e.Policy.Text)
		for _, m := range e.Policy.Matches {
			fmt.Fprintf(w, "            allows: group %s, policy %s, statement %s: %s on %s\n", m.Group, m.Policy, m.Statement, m.Operation, m.Resource)
		}
		for _, m := range e.Policy.NearMisses {
			fmt.Fprintf(w, "            near: group %s, policy %s, statement %s: %s\n", m.Group, m.Policy, m.Statement, m.Why)
		}
	}
	for i, line := range e.Trust {
		fmt.Fprintf(w, "  %-9s %s\n", map[bool]string{true: "trust"}[i == 0], line)
	}
	printEvents(w, e.Events)
	if e.Advice != "" {
		fmt.Fprintf(w, "  to do     %s\n", e.Advice)
	}
	return nil
}

// printEvents names the records that an explanation rests on.
func printEvents(w io.Writer, list []projections.EventRef) {
	for i, ref := range list {
		fmt.Fprintf(w, "  %-9s #%d %s %s", map[bool]string{true: "events"}[i == 0], ref.Seq, when(&ref.Time), ref.Kind)
		if ref.Note != "" {
			fmt.Fprintf(w, " (%s)", ref.Note)
		}
		fmt.Fprintln(w)
	}
}
