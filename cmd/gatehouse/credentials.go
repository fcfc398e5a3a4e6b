package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

func (a *app) credentialsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "credentials",
		Short: "Say who gets the role's AWS credentials, since and until when",
		Long: `Say who gets the AWS credentials of the core's role, since and until when, where programs
ask for them, and what is wrong if there are none. No secret is shown. A stopped daemon's
log says who got some last.`,
		Example: example("gatehouse credentials --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.credentials(c.Context()) },
	}
}

func (a *app) credentials(ctx context.Context) error {
	stopped := false
	r, err := query(ctx, a, daemon.OpCredentials, nil, func(s *daemon.Stored) (daemon.CredentialsReport, error) {
		stopped = true
		return daemon.StoredCredentials(ctx, s)
	})
	if err != nil {
		return err
	}
	if stopped && r.RoleAlias == "" {
		return a.show(r, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, "no daemon is running, and its log has nobody who got credentials")
			return err
		})
	}
	return a.show(r, func(w io.Writer) error { return printCredentials(w, r) })
}

func printCredentials(w io.Writer, r daemon.CredentialsReport) error {
	if r.RoleAlias == "" {
		fmt.Fprintln(w, "nobody gets credentials: name a role by cloud.roleAlias and cloud.credentialEndpoint in gatehouse.yaml")
		return nil
	}
	printCredentialsNow(w, &r.Credentials)
	if r.URI != "" {
		fmt.Fprintf(w, "programs ask at %s; their tokens are in %s\n", r.URI, r.Directory)
	}
	if len(r.Consumers) == 0 {
		fmt.Fprintln(w, "nobody gets them: see tokenExchange.consumers in gatehouse.yaml")
		return nil
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CONSUMER\tUSER\tACCESS KEY\tSINCE\tLAST\tUNTIL\tHAND-OUTS")
	for _, c := range r.Consumers {
		user := "-"
		if c.UID != nil {
			user = strconv.Itoa(*c.UID)
		}
		if c.AnyUser {
			user = "any"
		}
		if c.AccessKeyID == "" {
			fmt.Fprintf(t, "%s\t%s\tnone yet\t\t\t\t0\n", c.Consumer, user)
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%d\n", c.Consumer, user, c.AccessKeyID, when(c.Since), when(c.Last), when(c.Until), c.HandOuts)
	}
	return t.Flush()
}

// printCredentialsNow says in a line or two which credentials there are.
func printCredentialsNow(w io.Writer, c *daemon.Credentials) {
	from := ""
	if c.Endpoint != "" {
		from = ", from " + c.Endpoint
	}
	switch {
	case c.AccessKeyID != "":
		fmt.Fprintf(w, "credentials of role alias %s%s: %s, since %s, until %s", c.RoleAlias, from, c.AccessKeyID, when(c.Since), when(c.Until))
	case c.Endpoint == "":
		fmt.Fprintf(w, "credentials of role alias %s: no daemon is running; this is what its log says\n", c.RoleAlias)
		return
	default:
		fmt.Fprintf(w, "credentials of role alias %s%s: none", c.RoleAlias, from)
	}
	if c.NextAt != nil {
		fmt.Fprintf(w, "; the next are fetched at %s", when(c.NextAt))
	} else {
		fmt.Fprint(w, "; the next are being fetched")
	}
	fmt.Fprintln(w)
	if c.Problem != "" {
		fmt.Fprintf(w, "since %s: %s\n", when(c.ProblemSince), c.Problem)
	}
}
