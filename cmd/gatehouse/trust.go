package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

func (a *app) trustCommand() *cobra.Command {
	c := &cobra.Command{Use: "trust", Short: "Say whose stored trust lapses next, and how its refresh goes"}
	var within time.Duration
	var limit int
	due := &cobra.Command{
		Use:   "due",
		Short: "List the devices whose trust lapses next, soonest first",
		Long: `List the devices whose stored trust lapses next if the cloud stays away, soonest first,
and say how many lapse within an hour, a day and a week, and how old trust is.`,
		Example: example("gatehouse trust due --dir ./gh", "gatehouse trust due --within 24h --limit 1000 --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if limit < 1 || within < 0 {
				return &exitError{exitUsage, fmt.Errorf("--limit: at least 1; --within: not negative; see `%s --help`", c.CommandPath())}
			}
			return a.trustDue(c.Context(), daemon.TrustDueRequest{WithinMs: within.Milliseconds(), Limit: limit})
		},
	}
	due.Flags().DurationVar(&within, "within", 0, "only who lapses within this time, such as 24h (default: everyone)")
	due.Flags().IntVar(&limit, "limit", 50, "devices to list")
	var now bool
	refresh := &cobra.Command{
		Use:   "refresh",
		Short: "Say what the refresh of stored trust did last, and when it is due",
		Long: `Say what the daily refresh of all stored trust against the cloud did last, when the next
is due, and how far one under way is. With --now one begins at once, unless one is under way.`,
		Example: example("gatehouse trust refresh --dir ./gh", "gatehouse trust refresh --now --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.trustRefresh(c.Context(), now)
		},
	}
	refresh.Flags().BoolVar(&now, "now", false, "begin one, whether it is due or not")
	c.AddCommand(due, refresh)
	return c
}

func (a *app) trustDue(ctx context.Context, q daemon.TrustDueRequest) error {
	all, want := daemon.TrustDue{}, q.Limit
	for {
		q.Limit = want - len(all.Due)
		page, err := query(ctx, a, daemon.OpTrustDue, q, func(s *daemon.Stored) (daemon.TrustDue, error) {
			return daemon.ListTrustDue(s.Views, s.Trust, s.NowMs, q), nil
		})
		if err != nil {
			return err
		}
		page.Due = append(all.Due, page.Due...)
		all = page
		if !all.More || len(all.Due) >= want {
			break
		}
		last := all.Due[len(all.Due)-1]
		q.Until, q.After = last.Until, last.Thing
	}
	return a.show(all, func(w io.Writer) error { return printTrustDue(w, all) })
}

func printTrustDue(w io.Writer, all daemon.TrustDue) error {
	fmt.Fprintf(w, "%d of %d devices are trusted without the cloud, for %s since it confirmed them\n", all.Trusted, all.Things, all.TrustDuration)
	if all.Trusted > 0 {
		fmt.Fprintf(w, "lapse within 1h: %d, 24h: %d, 7d: %d; trust is up to %s old, half of it up to %s\n\n",
			all.Lapse.Hour, all.Lapse.Day, all.Lapse.Week, age(&all.OldestSeconds), age(&all.MedianSeconds))
	}
	if all.Pending > 0 {
		fmt.Fprintf(w, "%d more are pending: nobody registered them, and the cloud has not decided\n", all.Pending)
	}
	if len(all.Due) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "THING\tLAPSES\tIN\tTRUST AGE\tSESSIONS")
	for _, d := range all.Due {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d", d.Thing, when(&d.Until), age(&d.LeftSeconds), age(&d.AgeSeconds), d.Sessions)
		switch {
		case d.Quarantined:
			fmt.Fprint(t, "\tquarantined")
		case d.Pending:
			fmt.Fprint(t, "\tpending")
		}
		fmt.Fprintln(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if all.More {
		fmt.Fprintln(w, "… and more: see --limit")
	}
	return nil
}

func (a *app) trustRefresh(ctx context.Context, now bool) error {
	var r daemon.RefreshReport
	var err error
	if now {
		err = a.ask(ctx, daemon.OpRefresh, nil, &r)
	} else {
		r, err = query(ctx, a, daemon.OpRefreshing, nil, func(s *daemon.Stored) (daemon.RefreshReport, error) { return daemon.RefreshOf(s.Views), nil })
	}
	if err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) error {
		printRefresh(w, r)
		return nil
	})
}

// printRefresh says in a few lines what the refresh did and will do.
func printRefresh(w io.Writer, r daemon.RefreshReport) {
	switch l := r.Last; {
	case l == nil:
		fmt.Fprintln(w, "refresh: none has ended yet")
	case l.Reason != "":
		fmt.Fprintf(w, "refresh: the last failed at %s (record %d), nothing was removed: %s\n", when(&l.EndedAt), l.Record, l.Reason)
	default:
		fmt.Fprintf(w, "refresh: the last completed at %s (record %d): %d things listed, %d confirmations renewed, %d denied, %d unanswered, %d removed\n",
			when(&l.EndedAt), l.Record, l.Listed, l.Renewed, l.Denied, l.Unanswered, l.Removed)
	}
	switch p := r.Progress; {
	case p != nil && p.Phase != "idle":
		fmt.Fprintf(w, "refresh: under way since %s, %s: %d things listed, %d of %d questions settled\n", when(p.StartedAt), p.Phase, p.Listed, p.Done, p.Total)
	case r.Running != nil:
		fmt.Fprintf(w, "refresh: one began at %s and has not ended\n", when(r.Running))
	}
	switch {
	case r.DueAt == nil:
		fmt.Fprintln(w, "refresh: none is planned")
	case r.Why != "":
		fmt.Fprintf(w, "refresh: the next is due at %s: %s\n", when(r.DueAt), r.Why)
	default:
		fmt.Fprintf(w, "refresh: the next is due at %s\n", when(r.DueAt))
	}
}
