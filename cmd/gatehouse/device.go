package main

import (
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

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

func (a *app) deviceCommand() *cobra.Command {
	c := &cobra.Command{Use: "device", Short: "Add, list, show, quarantine devices"}
	var out, reason string
	add := &cobra.Command{
		Use:   "add THING",
		Short: "Make a device: key, certificate, and its entry in the emulated cloud",
		Long: `Make a key and a certificate for a device and register it with the emulated cloud of
"gatehouse dev": the thing, the active certificate and their attachment. With AWS
itself, register devices there; Gatehouse learns of them when they first connect.`,
		Example: example("gatehouse device add sensor-4 --dir ./gh"),
		Args:    cobra.ExactArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return a.deviceAdd(c.Context(), args[0], out) },
	}
	add.Flags().StringVar(&out, "out", "", "folder for cert.pem and key.pem (default: DIR/devices/THING)")
	list := &cobra.Command{
		Use: "list", Short: "List the devices that are known here", Args: cobra.NoArgs,
		Example: example("gatehouse device list --dir ./gh"),
		RunE:    func(c *cobra.Command, _ []string) error { return a.deviceList(c.Context()) },
	}
	show := &cobra.Command{
		Use: "show THING", Short: "Show a device: certificates, trust, sessions", Args: cobra.ExactArgs(1),
		Example: example("gatehouse device show sensor-1 --dir ./gh"),
		RunE:    func(c *cobra.Command, args []string) error { return a.deviceShow(c.Context(), args[0]) },
	}
	c.AddCommand(add, list, show)
	for _, order := range []struct{ use, op, short, done string }{
		{"quarantine", daemon.OpQuarantine, "Refuse a device until it is released, and end its sessions", "quarantined"},
		{"release", daemon.OpRelease, "End a device's quarantine", "released"},
		{"forget", daemon.OpForget, "Remove what is stored about a device, and end its sessions", "forgotten"},
	} {
		one := &cobra.Command{
			Use: order.use + " THING", Short: order.short, Args: cobra.ExactArgs(1),
			Example: example("gatehouse device " + order.use + " sensor-1 --reason 'stolen' --dir ./gh"),
			RunE: func(c *cobra.Command, args []string) error {
				return a.deviceOrder(c.Context(), order.op, order.done, args[0], reason)
			},
		}
		one.Flags().StringVar(&reason, "reason", "", "why, for the log")
		c.AddCommand(one)
	}
	return c
}

func (a *app) deviceAdd(ctx context.Context, thing, out string) error {
	name, err := messages.ParseThingName(thing)
	if err != nil {
		return err
	}
	dir, err := a.needDir()
	if err != nil {
		return err
	}
	if out == "" {
		out = deviceDir(dir, thing)
	}
	authority, err := readAuthority(cloudAuthorityFiles(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no emulated cloud in %s: `device add` works with `gatehouse dev`; with AWS itself register the device there", dir)
	}
	if err != nil {
		return err
	}
	identity, err := authority.IssueDevice(thing, time.Now())
	if err != nil {
		return err
	}
	if err := writeIdentity(out, identity); err != nil {
		return err
	}
	if err := awsemu.NewControlClient(controlSocket(dir)).Enroll(ctx, name, identity.DER); err != nil {
		return errors.Join(fmt.Errorf("register %s: %w; is `gatehouse dev` running?", thing, err), removeIdentity(out))
	}
	return a.show(map[string]string{"thing": thing, "certificateId": string(identity.ID), "folder": out}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: certificate %.12s…, files in %s\n", thing, identity.ID, here(out))
		return err
	})
}

// writeIdentity writes cert.pem and key.pem; it overwrites neither.
func writeIdentity(dir string, identity *awsemu.Identity) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	files := []struct {
		name    string
		content []byte
		mode    fs.FileMode
	}{{"key.pem", identity.KeyPEM, 0o400}, {"cert.pem", identity.CertificatePEM, 0o444}}
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("%s: %w; a device's files are never overwritten: remove them, or name another folder with --out", path, fs.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, f := range files {
		if err := daemon.WriteFile(filepath.Join(dir, f.name), f.content, f.mode); err != nil {
			return err
		}
	}
	return nil
}

func removeIdentity(dir string) error {
	return errors.Join(os.Remove(filepath.Join(dir, "key.pem")), os.Remove(filepath.Join(dir, "cert.pem")))
}

func (a *app) deviceList(ctx context.Context) error {
	all := []daemon.DeviceLine{}
	var q daemon.DevicesRequest
	for {
		page, err := query(ctx, a, daemon.OpDevices, q, func(s *daemon.Stored) (daemon.Devices, error) {
			return daemon.ListDevices(s.Views, s.Trust, s.NowMs, q), nil
		})
		if err != nil {
			return err
		}
		all = append(all, page.Devices...)
		if !page.More {
			break
		}
		q.After = page.Devices[len(page.Devices)-1].Thing
	}
	return a.show(all, func(w io.Writer) error {
		if len(all) == 0 {
			fmt.Fprintln(w, "no device has connected yet")
			return nil
		}
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "THING\tGROUPS\tSESSIONS\tTRUST AGE\tTRUSTED UNTIL\tSTATE")
		for _, d := range all {
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\n", d.Thing, strings.Join(d.Groups, ","), d.Sessions, age(d.TrustAgeSeconds), when(d.TrustedUntil), stateOf(d))
		}
		return t.Flush()
	})
}

func stateOf(d daemon.DeviceLine) string {
	switch {
	case d.Quarantined != "":
		return "quarantined: " + d.Quarantined
	case d.Pending != nil && d.Pending.Accepted:
		return "pending, accepted"
	case d.Pending != nil && d.Pending.Until == nil:
		return "pending, needs the cloud"
	case d.Pending != nil:
		return "pending until " + when(d.Pending.Until)
	case d.Sessions > 0:
		return "connected"
	case d.TrustedUntil == nil:
		return "needs the cloud"
	default:
		return "trusted"
	}
}

// predicted says what would be decided.
func predicted(p daemon.Prediction) string {
	switch {
	case p.Until != nil:
		return "allowed until " + when(p.Until)
	case p.Allowed:
		return p.Reason
	}
	return "refused: " + p.Reason
}

// age prints seconds as people say them, in the two largest units.
func age(seconds *int64) string {
	if seconds == nil {
		return "-"
	}
	s := *seconds
	for _, u := range []struct {
		seconds, next int64
		unit, below   string
	}{{86400, 3600, "d", "h"}, {3600, 60, "h", "m"}, {60, 1, "m", "s"}} {
		if s >= u.seconds {
			return fmt.Sprintf("%d%s%d%s", s/u.seconds, u.unit, s%u.seconds/u.next, u.below)
		}
	}
	return fmt.Sprintf("%ds", s)
}

func when(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.Format("2006-01-02 15:04:05Z")
}

func (a *app) deviceShow(ctx context.Context, thing string) error {
	name, err := messages.ParseThingName(thing)
	if err != nil {
		return err
	}
	d, err := query(ctx, a, daemon.OpDevice, daemon.DeviceRequest{Thing: name}, func(s *daemon.Stored) (daemon.DeviceDetail, error) {
		return daemon.ShowDevice(s.Views, s.Trust, s.NowMs, name)
	})
	if err != nil {
		return err
	}
	return a.show(d, func(w io.Writer) error {
		fmt.Fprintf(w, "%s: %s\n  groups: %s\n", d.Thing, stateOf(d.DeviceLine), strings.Join(d.Groups, ", "))
		for _, at := range d.Attachments {
			fmt.Fprintf(w, "  certificate %.12s…, valid until %s\n    trust is %s old (confirmed %s), ", at.Certificate, when(at.NotAfter), age(&at.AgeSeconds), when(&at.ConfirmedAt))
			if at.TrustedNow {
				fmt.Fprintf(w, "and lapses %s\n", when(at.TrustedUntil))
			} else {
				fmt.Fprintln(w, "and does not count now")
			}
			fmt.Fprintf(w, "    next connect: online: %s; offline: %s\n", predicted(at.Next.Online), predicted(at.Next.Offline))
		}
		if p := d.Pending; p != nil {
			fmt.Fprintf(w, "  pending: authority %.12s… signed certificate %.12s… (%s), rule %q admitted it at %s (event %d)\n",
				p.Authority, p.Certificate, p.Subject, p.Rule, when(p.AdmittedAt), p.Record)
			fmt.Fprintf(w, "    it has the rights of group %q alone; next connect: online: %s; offline: %s\n", p.Group, predicted(p.Next.Online), predicted(p.Next.Offline))
		}
		if len(d.Attachments) == 0 && d.Pending == nil {
			fmt.Fprintln(w, "  next connect: online: the cloud decides; offline: refused: no certificate is known to belong to it")
		}
		for _, s := range d.Open {
			fmt.Fprintf(w, "  session %s through broker %s since %s (event %d)\n", s.Session, s.Broker, when(&s.OpenedAt), s.Event)
		}
		return nil
	})
}

func (a *app) deviceOrder(ctx context.Context, op, done, thing, reason string) error {
	name, err := messages.ParseThingName(thing)
	if err != nil {
		return err
	}
	var answer daemon.Done
	if err := a.ask(ctx, op, daemon.DeviceRequest{Thing: name, Reason: reason}, &answer); err != nil {
		return err
	}
	return a.show(answer, func(w io.Writer) error {
		if answer.Event == 0 {
			_, err := fmt.Fprintf(w, "%s: nothing to change\n", thing)
			return err
		}
		_, err := fmt.Fprintf(w, "%s: %s (event %d)\n", thing, done, answer.Event)
		return err
	})
}
