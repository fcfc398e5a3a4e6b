package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

func (a *app) caCommand() *cobra.Command {
	c := &cobra.Command{Use: "ca", Short: "Show, export, rotate and replace the certificate authority"}
	c.AddCommand(&cobra.Command{
		Use:   "show",
		Short: "Show the authorities in use, what comes to them, and what is wrong",
		Long: `Show the authorities that devices must trust, the one that issues and those that wait for
it or whose certificates still live: whose they are, how long they last, whether devices
and the cloud have them, what happens next, and what is wrong. Works on a stopped daemon's
directory, too.`,
		Example: example("gatehouse ca show --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.caShow(c.Context()) },
	}, a.caExportCommand(), a.caRotateCommand(), a.caReplaceCommand(), a.caAnnouncedCommand(), a.caRegisterCommand())
	return c
}

func (a *app) caExportCommand() *cobra.Command {
	var out string
	var issuing bool
	c := &cobra.Command{
		Use:   "export",
		Short: "Print in PEM what devices must trust",
		Long: `Print in PEM the certificates that devices must trust: all authorities in use with their
chains, for those that do not learn of them from the cloud. Give devices all of it: while
one authority follows another, brokers show certificates of either.`,
		Example: example("gatehouse ca export --out ca-bundle.pem --dir ./gh", "gatehouse ca export --issuing --dir ./gh > issuing.pem"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.caExport(c.Context(), out, issuing) },
	}
	c.Flags().StringVar(&out, "out", "", "write to this file (default: standard output)")
	c.Flags().BoolVar(&issuing, "issuing", false, "only the certificate by which new ones are signed now")
	return c
}

func (a *app) caRotateCommand() *cobra.Command {
	var reason string
	c := &cobra.Command{
		Use:   "rotate [NAME...]",
		Short: "Issue the certificates of subscribers anew, now",
		Long: `Issue a new certificate to each named subscriber, or to all, now, also where rotation is
disabled. The authority stays. Brokers swap certificates while they run: nobody is
disconnected. The reason goes on record, and ` + "`gatehouse explain certificate`" + ` tells it.`,
		Example: example("gatehouse ca rotate --reason 'the key was on a lost disk' --dir ./gh", "gatehouse ca rotate gatehouse-mqtt --dir ./gh"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.caRotate(c.Context(), daemon.RotateRequest{Names: args, Reason: reason})
		},
		ValidArgsFunction: func(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			return a.subscribers(c.Context()), cobra.ShellCompDirectiveNoFileComp
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the log")
	return c
}

func (a *app) caReplaceCommand() *cobra.Command {
	var reason string
	var yes bool
	c := &cobra.Command{
		Use:   "replace",
		Short: "Make a new managed authority, which follows the one in use",
		Long: `Make a new managed authority in place of the one in use, such as when its key may be known
to others. It is published at once beside the former, in ca.pem and to the cloud, and
issues ten minutes later, but not before the cloud has it or an operator says that devices
do (` + "`gatehouse ca announced`" + `), or else after a week. The former stays trusted until the last
certificate that it signed has ended. Devices that have not learnt of the new one by the
time it issues cannot connect. While a new one waits to issue, no other is made.`,
		Example: example("gatehouse ca replace --reason 'the key may be known' --yes --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !yes {
				if err := a.confirm(c, "make a new authority, which every device must learn to trust"); err != nil {
					return err
				}
			}
			return a.caOrder(c.Context(), daemon.OpReplace, daemon.ReplaceRequest{Reason: reason})
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the log")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

func (a *app) caAnnouncedCommand() *cobra.Command {
	var by string
	var yes bool
	c := &cobra.Command{
		Use:   "announced",
		Short: "Say that devices have the newest authority, so that it may issue",
		Long: `Say that whoever must trust the newest authority has been given it, so that it issues ten
minutes after it was made and not a week. Devices that do not have it cannot connect then.`,
		Example: example("gatehouse ca announced --by 'fleet update 17' --yes --dir ./gh"),
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !yes {
				if err := a.confirm(c, "have the newest authority issue; devices that do not have it cannot connect"); err != nil {
					return err
				}
			}
			return a.caOrder(c.Context(), daemon.OpAnnounced, daemon.AnnouncedRequest{By: by})
		},
	}
	c.Flags().StringVar(&by, "by", "", "on whose word, for the log")
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// confirm asks a person at a terminal; a script must say --yes.
func (a *app) confirm(c *cobra.Command, what string) error {
	in := c.InOrStdin()
	if f, ok := in.(*os.File); ok && !term.IsTerminal(int(f.Fd())) {
		return &exitError{exitUsage, fmt.Errorf("this would %s: say --yes if that is meant", what)}
	}
	fmt.Fprintf(a.err, "This will %s. Go on? [y/N] ", what)
	line, err := bufio.NewReader(io.LimitReader(in, 64)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if word := strings.ToLower(strings.TrimSpace(line)); word != "y" && word != "yes" {
		return errors.New("nothing was changed")
	}
	return nil
}

// storedAuthority reads what a stopped daemon's directory says of it.
func storedAuthority[A any](ctx context.Context, a *app, read func(daemon.StoredAuthority) (A, error)) func(*daemon.Stored) (A, error) {
	return func(s *daemon.Stored) (A, error) {
		stored, err := daemon.StoredAuthorityOf(ctx, s, a.dir)
		if err != nil {
			var none A
			return none, err
		}
		return read(stored)
	}
}

func (a *app) caShow(ctx context.Context) error {
	r, err := query(ctx, a, daemon.OpAuthority, nil, storedAuthority(ctx, a, func(s daemon.StoredAuthority) (daemon.AuthorityReport, error) {
		return s.Report(), nil
	}))
	if err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) error { return printAuthority(w, r) })
}

// caOrder gives an order that answers with the state of the authority.
func (a *app) caOrder(ctx context.Context, op string, request any) error {
	var r daemon.AuthorityReport
	if err := a.order(ctx, op, request, &r); err != nil {
		return err
	}
	return a.show(r, func(w io.Writer) error { return printAuthority(w, r) })
}

// order asks for what changes something. Where no answer comes in time, it may be carried
// out all the same.
func (a *app) order(ctx context.Context, op string, request, reply any) error {
	err := a.ask(ctx, op, request, reply)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: the daemon may still carry it out; see `gatehouse ca show` and `gatehouse cert list`", err)
	}
	return err
}

func printAuthority(w io.Writer, r daemon.AuthorityReport) error {
	if len(r.Authorities) == 0 {
		fmt.Fprintln(w, "there is no authority yet: the first start makes it")
	}
	for _, one := range r.Authorities {
		printOneAuthority(w, one, r.Upload != nil)
	}
	for i, c := range r.Coming {
		fmt.Fprintf(w, "%-11s %s  %s\n", map[bool]string{true: "coming"}[i == 0], when(&c.At), comingText(c))
	}
	if len(r.Coming) == 0 && len(r.Authorities) > 0 {
		fmt.Fprintln(w, "coming      nothing")
	}
	printWarnings(w, r.Warnings)
	return nil
}

func printOneAuthority(w io.Writer, one actors.AuthorityInfo, told bool) {
	role := "does not issue"
	if one.Issues {
		role = "issues"
	}
	kind := "managed, " + one.Key
	if one.Reason != "" {
		kind += ", made: " + one.Reason
	}
	if one.Custom {
		kind = "custom, " + one.Key + ", " + one.CertificateURI
	}
	fmt.Fprintf(w, "authority   %.12s…  %s\n  subject   %s\n", one.ID, role, one.Subject)
	if one.Root != "" {
		fmt.Fprintf(w, "  root      %s\n", one.Root)
	}
	published := "do not trust it: it is not in ca.pem"
	if one.Published {
		published = "trust it if they have ca.pem"
	}
	cloud := "is not told of it"
	switch {
	case one.Uploaded:
		cloud = "has it"
	case told:
		cloud = "does not have it yet"
	}
	fmt.Fprintf(w, "  kind      %s\n  serial    %s\n  SHA-256   %s\n  valid     %s to %s, here since %s\n  devices   %s\n  cloud     %s\n",
		kind, one.Serial, one.ID, when(&one.NotBefore), when(&one.NotAfter), when(&one.Since), published, cloud)
}

// comingText says what comes.
func comingText(c ca.Coming) string {
	return map[ca.Turn]string{
		ca.TurnSuccessor: "another authority is made",
		ca.TurnIssues:    fmt.Sprintf("%.12s… issues", c.Authority),
		ca.TurnRetires:   fmt.Sprintf("%.12s… retires", c.Authority),
		ca.TurnEnds:      fmt.Sprintf("%.12s… ends, and nothing can be issued", c.Authority),
	}[c.What] + ": " + c.Reason
}

func printWarnings(w io.Writer, list []string) {
	for _, text := range list {
		fmt.Fprintf(w, "warning: %s\n", text)
	}
}

// exported is what `ca export --json` prints.
type exported struct {
	Issuing bool   `json:"issuing"`
	PEM     string `json:"pem"`
	File    string `json:"file,omitempty"`
}

// caExport puts the pages of the bundle together; if it changes meanwhile, it begins anew.
func (a *app) caExport(ctx context.Context, file string, issuing bool) error {
	q := daemon.BundleRequest{Issuing: issuing}
	var text, edition string
	for {
		page, err := query(ctx, a, daemon.OpBundle, q, storedAuthority(ctx, a, func(s daemon.StoredAuthority) (daemon.Bundle, error) { return s.Bundle(q) }))
		if err != nil {
			return err
		}
		if q.After > 0 && page.Edition != edition {
			text, q.After = "", 0
			continue
		}
		edition = page.Edition
		text += page.PEM
		if q.After = page.Next; q.After == 0 {
			break
		}
	}
	if text == "" {
		return errors.New("there is no authority yet: the first start of the daemon makes it")
	}
	if file != "" {
		if err := writeCertificates(file, text); err != nil {
			return err
		}
	}
	return a.show(exported{issuing, text, file}, func(w io.Writer) error {
		if file == "" {
			_, err := io.WriteString(w, text)
			return err
		}
		_, err := fmt.Fprintf(w, "%d certificates in %s\n", strings.Count(text, "-----BEGIN"), here(file))
		return err
	})
}

// writeCertificates writes a file of certificates as a whole.
func writeCertificates(file, text string) error {
	if err := mayWrite(file); err != nil {
		return err
	}
	return daemon.WriteFile(file, []byte(text), 0o644)
}

// mayWrite says whether certificates may be written there: in place of certificates, never
// in place of a key. "" is standard output.
func mayWrite(file string) error {
	_, err := former(file)
	return err
}

// former is the first certificate that stands in a file where certificates may be written,
// in DER; nil: it is empty, or not there.
func former(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		_, err := os.Stat(filepath.Dir(file))
		return nil, err
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a file: name one", file)
	case info.Size() == 0:
		return nil, nil
	}
	text, err := readFile(file, certificateMaxBytes)
	block, _ := pem.Decode(text)
	if err != nil || block == nil || block.Type != "CERTIFICATE" || bytes.Contains(text, []byte("PRIVATE KEY")) {
		return nil, fmt.Errorf("%s holds something else than certificates, and is not overwritten: name another file", file)
	}
	return block.Bytes, nil
}

func (a *app) caRotate(ctx context.Context, q daemon.RotateRequest) error {
	var r daemon.Rotated
	if err := a.order(ctx, daemon.OpRotate, q, &r); err != nil {
		return err
	}
	shown := a.show(r, func(w io.Writer) error {
		for _, c := range r.Certificates {
			fmt.Fprintf(w, "%s (%s): %.16s…, valid until %s, %s\n", c.Subscriber, c.Usage, c.Serial, when(&c.NotAfter), deliveredText(c))
		}
		_, err := fmt.Fprintf(w, "%d certificates issued\n", r.Count)
		return err
	})
	if shown == nil && len(r.Pending) > 0 {
		return fmt.Errorf("not issued yet, and tried again: %s: %s", strings.Join(r.Pending, ", "), r.Problem)
	}
	return shown
}
