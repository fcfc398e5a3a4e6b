package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

func (a *app) certCommand() *cobra.Command {
	c := &cobra.Command{Use: "cert", Short: "List certificates, issue and revoke a component's, keep a broker's files current"}
	c.AddCommand(a.certListCommand(), a.certIssueCommand(), a.certRevokeCommand(), a.certWatchCommand())
	return c
}

func (a *app) certListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List certificates: whose, how long, the next, delivered, and why",
		Long: `List the certificate of each subscriber and component: what it is for, its names, its
serial number, its end, when the next is due, whether its holder has it, and why it was
issued. ` + "`gatehouse explain certificate`" + ` says more. Works on a stopped daemon's directory, too.`,
		Example: example("gatehouse cert list --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.certList(c.Context()) },
	}
}

func (a *app) certIssueCommand() *cobra.Command {
	var q daemon.IssueRequest
	var csr, out string
	var validity time.Duration
	c := &cobra.Command{
		Use:   "issue NAME",
		Short: "Issue a client certificate that makes an internal component of NAME",
		Long: `Issue a client certificate for the key of a certificate signing request. Its holder is the
internal component NAME, such as a bridge: brokers that ask with the operations verify,
token and authorize let it connect, publish and subscribe to everything, without the cloud
and whatever the policy says. The embedded MQTT broker serves devices alone, and refuses it.
` + "`gatehouse cert revoke`" + ` takes it back; one that is issued after that counts again.
Of the request only the key counts; the private key stays where it is. Make both with

    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
      -keyout bridge.key -subj /CN=bridge -out bridge.csr`,
		Example: example("gatehouse cert issue bridge --csr bridge.csr --out bridge.pem --validity 24h --dir ./gh"),
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.Name, q.ValidityMs = args[0], validity.Milliseconds()
			if csr == "" || c.Flags().Changed("validity") && (validity < ca.ValidityMin || validity > ca.ValidityMax) {
				return &exitError{exitUsage, fmt.Errorf("--csr: which file? (- is standard input); --validity: %s to %s; see `%s --help`", ca.ValidityMin, ca.ValidityMax, c.CommandPath())}
			}
			return a.certIssue(c.Context(), q, csr, out)
		},
	}
	c.Flags().StringVar(&csr, "csr", "", "certificate signing request, in PEM; - is standard input")
	c.Flags().StringVar(&out, "out", "", "write the certificate to this file (default: standard output)")
	c.Flags().DurationVar(&validity, "validity", 0, "its life, such as 24h (default: certificates.clientCertificateValiditySeconds)")
	c.Flags().StringVar(&q.Reason, "reason", "", "why, for the log")
	return c
}

func (a *app) certRevokeCommand() *cobra.Command {
	var q daemon.RevokeRequest
	c := &cobra.Command{
		Use:   "revoke NAME",
		Short: "Take back that NAME is an internal component",
		Long: `Take back that NAME is an internal component: no client certificate that was issued to it
so far counts any more, and its sessions end, at once. One that "gatehouse cert issue NAME"
issues afterwards counts; those from before never do again. A broker of that name loses the
right to client certificates, too: "broker add NAME --certificates client" gives it back first.
Who checks a certificate by itself, and asks no core, goes by its end.`,
		Example: example("gatehouse cert revoke bridge --reason 'its key leaked' --dir ./gh"),
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			q.Name = args[0]
			return a.certRevoke(c.Context(), q)
		},
	}
	c.Flags().StringVar(&q.Reason, "reason", "", "why, for the log")
	return c
}

func (a *app) certRevoke(ctx context.Context, q daemon.RevokeRequest) error {
	var r daemon.Revoked
	if err := a.order(ctx, daemon.OpRevoke, q, &r); err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "component %s: certificates taken back: %d; sessions ended: %d\n", r.Name, r.Certificates, r.Sessions)
		if r.Broker && err == nil {
			_, err = fmt.Fprintf(w, "Broker %[1]s may not ask for client certificates any more; \"gatehouse broker add %[1]s --certificates\" changes that.\n", r.Name)
		}
		return err
	})
}

// certificates asks for all pages.
func (a *app) certificates(ctx context.Context) (daemon.Certificates, error) {
	all := daemon.Certificates{Certificates: []actors.CertificateInfo{}}
	var q daemon.CertificatesRequest
	for {
		page, err := query(ctx, a, daemon.OpCertificateList, q, storedAuthority(ctx, a, func(s daemon.StoredAuthority) (daemon.Certificates, error) {
			return s.Certificates(q)
		}))
		if err != nil {
			return all, err
		}
		page.Certificates = append(all.Certificates, page.Certificates...)
		page.Warnings = append(all.Warnings, page.Warnings...)
		all = page
		if q.After = page.Next; q.After == 0 {
			return all, nil
		}
	}
}

func (a *app) certList(ctx context.Context) error {
	all, err := a.certificates(ctx)
	if err != nil {
		return err
	}
	return a.show(all, func(w io.Writer) error {
		if len(all.Certificates) == 0 {
			fmt.Fprintln(w, "no certificate was issued yet")
		} else if err := printCertificates(w, all); err != nil {
			return err
		}
		printWarnings(w, all.Warnings)
		return nil
	})
}

func printCertificates(w io.Writer, all daemon.Certificates) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUBSCRIBER\tUSAGE\tSERIAL\tNOT AFTER\tNEXT\tDELIVERED\tNAMES\tWHY")
	for _, c := range all.Certificates {
		names := slices.Clone(c.Names)
		if c.Usage != ca.Client.String() && !slices.Contains(names, "localhost") { // each has it
			names = append(names, "localhost")
		}
		fmt.Fprintf(t, "%s\t%s\t%.16s…\t%s\t%s\t%s\t%s\t%s\n", c.Subscriber, c.Usage, c.Serial, when(&c.NotAfter), nextText(c), deliveredText(c), orDash(strings.Join(names, ",")), c.Reason)
	}
	return t.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// nextText says when the next certificate comes.
func nextText(c actors.CertificateInfo) string {
	switch {
	case !c.Subscribed:
		return "nobody asks"
	case c.Rotation.IsZero():
		return "never"
	}
	return when(&c.Rotation)
}

func deliveredText(c actors.CertificateInfo) string {
	switch {
	case c.Withdrawn:
		return "taken back"
	case c.Delivered:
		return "delivered"
	}
	return "not delivered"
}

// subscribers lists the names that subscribe now, for completion: what cannot be asked has
// none.
func (a *app) subscribers(ctx context.Context) []string {
	all, err := a.certificates(ctx)
	if err != nil {
		return nil
	}
	var names []string
	for _, c := range all.Certificates {
		if c.Subscribed && !slices.Contains(names, c.Subscriber) {
			names = append(names, c.Subscriber)
		}
	}
	return names
}

func (a *app) certIssue(ctx context.Context, q daemon.IssueRequest, csr, file string) error {
	if _, err := messages.ParseComponentName(q.Name); err != nil {
		return err
	}
	text, err := readFile(csr, certificateMaxBytes)
	if err != nil {
		return err
	}
	if err := mayWrite(file); err != nil { // before there is a certificate that may do everything
		return err
	}
	q.CSR = string(text)
	var issued daemon.IssuedCertificate
	if err := a.order(ctx, daemon.OpIssue, q, &issued); err != nil {
		return fmt.Errorf("%s: %w", csr, err)
	}
	holders := issued.Certificate + intermediates(issued.Chain)
	if file != "" {
		if err := writeCertificates(file, holders); err != nil {
			return err
		}
	}
	return a.show(issued, func(w io.Writer) error {
		words := a.err // beside the certificate, for what reads standard output
		if file != "" {
			words = w
		} else if _, err := io.WriteString(w, holders); err != nil {
			return err
		}
		_, err := fmt.Fprintf(words, `component %s: certificate %.16s…, valid until %s%s
Whoever holds its key may connect, publish and subscribe to everything until then, without the
cloud and whatever the policy says, at brokers that ask with verify, token and authorize. Keep
the key where only %[1]s reads it; "gatehouse cert revoke %[1]s" takes the certificate back.
`, issued.Name, issued.Serial, when(&issued.NotAfter), inFileText(file))
		return err
	})
}

func inFileText(file string) string {
	if file == "" {
		return ""
	}
	return ", in " + here(file)
}

// intermediates are those of a chain that who verifies does not have already: the one on
// top is not sent.
func intermediates(chain string) string {
	var text strings.Builder
	for block, rest := pem.Decode([]byte(chain)); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err == nil && c.CheckSignatureFrom(c) != nil {
			_ = pem.Encode(&text, block) // a builder takes everything
		}
	}
	return text.String()
}

func (a *app) explainCertificate(ctx context.Context, which string) error {
	q := daemon.ExplainCertificateRequest{Which: which}
	x, err := query(ctx, a, daemon.OpExplainCertificate, q, func(s *daemon.Stored) (projections.CertificateExplanation, error) {
		return daemon.ExplainCertificate(ctx, s.Log, q)
	})
	if err != nil {
		return err
	}
	return a.show(x, func(w io.Writer) error {
		fmt.Fprintf(w, "%s\n  when      %s\n  answer    %s\n  asked by  %s\n", x.Question, when(&x.When), x.Answer, x.AskedBy)
		for i, line := range x.Facts {
			fmt.Fprintf(w, "  %-9s %s\n", map[bool]string{true: "facts"}[i == 0], line)
		}
		printEvents(w, x.Events)
		if x.Advice != "" {
			fmt.Fprintf(w, "  to do     %s\n", x.Advice)
		}
		return nil
	})
}
