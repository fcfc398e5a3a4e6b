package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cloudsync/registrar"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
)

func (a *app) registrationCommand() *cobra.Command {
	c := &cobra.Command{Use: "registration", Short: "Show and steer the registration of devices that nobody registered"}
	c.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List devices that wait to be registered, and those that were given up",
		Long: `List the certificates of devices that wait to be registered in AWS IoT, how often that was
tried, why it has not succeeded and when it is tried next, and those that were given up:
what the service has refused five times waits for you. A device that came to the edge and was
denied after it was registered as INACTIVE is listed, too; it is tried again when it comes.`,
		Example: example("gatehouse registration list --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.registrationList(c.Context()) },
	}, &cobra.Command{
		Use:     "show CERTIFICATE",
		Short:   "Show one of them",
		Example: example("gatehouse registration show 5d41402a… --dir ./gh"),
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.registrationShow(c.Context(), args[0]) },
	}, a.registrationRetryCommand(), &cobra.Command{
		Use:   "dismiss CERTIFICATE",
		Short: "Stop looking into one of them",
		Long: `Stop trying to register a certificate, whatever it does, until "registration retry". It is
left in AWS IoT as it is.`,
		Example: example("gatehouse registration dismiss 5d41402a… --dir ./gh"),
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.registrationOrder(c.Context(), daemon.OpRegistrationDismiss, args, "dismissed")
		},
	})
	return c
}

func (a *app) registrationRetryCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:     "retry [CERTIFICATE]",
		Short:   "Try again now, whatever was decided",
		Example: example("gatehouse registration retry --all --dir ./gh"),
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if all == (len(args) == 1) {
				return &exitError{exitUsage, errors.New("name one certificate, or give --all")}
			}
			return a.registrationOrder(c.Context(), daemon.OpRegistrationRetry, args, "tried again")
		},
	}
	c.Flags().BoolVar(&all, "all", false, "all that were given up")
	return c
}

func (a *app) registrations(ctx context.Context) (daemon.Registrations, error) {
	var r daemon.Registrations
	err := a.ask(ctx, daemon.OpRegistrations, nil, &r)
	return r, err
}

func (a *app) registrationList(ctx context.Context) error {
	r, err := a.registrations(ctx)
	if err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) error { return printRegistrations(w, r) })
}

func printRegistrations(w io.Writer, r daemon.Registrations) error {
	if !r.Configured {
		_, err := fmt.Fprintln(w, "nobody is registered here: set registration.registrar in gatehouse.yaml")
		return err
	}
	fmt.Fprintf(w, "since the start %d registered, %d denied; in the last hour %d begun, of %d at most\n", r.Accepted, r.Denied, r.LastHour, r.PerHour)
	if !r.Connected && r.Problem != "" {
		fmt.Fprintln(w, "devices that register themselves in the cloud are listed now and then, not heard of:", r.Problem)
	}
	if len(r.List) == 0 {
		_, err := fmt.Fprintln(w, "nobody waits")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CERTIFICATE\tSTATE\tSINCE\tTRIES\tNEXT\tPROBLEM")
	for _, l := range r.List {
		fmt.Fprintf(t, "%.12s…\t%s\t%s\t%d\t%s\t%s\n", l.Certificate, l.State, when(&l.Since), l.Tries, when(l.Next), l.Problem)
	}
	return t.Flush()
}

// registrationLine finds the one line that a certificate's id begins.
func registrationLine(r daemon.Registrations, prefix string) (registrar.Line, error) {
	var found []registrar.Line
	for _, l := range r.List {
		if len(prefix) >= certificatePrefixMin && len(prefix) <= len(l.Certificate) && string(l.Certificate[:len(prefix)]) == prefix {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return registrar.Line{}, fmt.Errorf("%.64q: no such certificate waits, or was given up; give its id, or the first %d digits of it at least", prefix, certificatePrefixMin)
	}
	return registrar.Line{}, fmt.Errorf("%.64q: %d certificates begin so; give more digits", prefix, len(found))
}

const certificatePrefixMin = 6

func (a *app) registrationShow(ctx context.Context, prefix string) error {
	r, err := a.registrations(ctx)
	if err != nil {
		return err
	}
	l, err := registrationLine(r, prefix)
	if err != nil {
		return err
	}
	return a.show(l, func(w io.Writer) error {
		fmt.Fprintf(w, "certificate  %s\nauthority    %s\nstate        %s, since %s, %d tries\n", l.Certificate, l.Authority, l.State, when(&l.Since), l.Tries)
		if l.ClientID != "" {
			fmt.Fprintf(w, "client id    %s\n", l.ClientID)
		}
		if l.Next != nil {
			fmt.Fprintf(w, "next try     %s\n", when(l.Next))
		}
		if l.Problem != "" {
			fmt.Fprintf(w, "problem      %s\n", l.Problem)
		}
		return nil
	})
}

func (a *app) registrationOrder(ctx context.Context, op string, args []string, done string) error {
	q := daemon.RegistrationRequest{All: len(args) == 0}
	if len(args) == 1 {
		id, err := messages.ParseCertificateID(args[0])
		if err != nil { // a denied one is in no list, and takes its whole id
			r, err := a.registrations(ctx)
			if err != nil {
				return err
			}
			l, err := registrationLine(r, args[0])
			if err != nil {
				return err
			}
			id = l.Certificate
		}
		q.Certificate = id
	}
	var answer daemon.Done
	if err := a.ask(ctx, op, q, &answer); err != nil {
		return err
	}
	return a.show(q, func(w io.Writer) error {
		_, err := fmt.Fprintln(w, done)
		return err
	})
}
