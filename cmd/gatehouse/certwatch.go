package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

const (
	// watchedMaxBytes bounds each file that is read.
	watchedMaxBytes = 64 << 10
	// reloadTimeout bounds the command that has a broker read its files again.
	reloadTimeout = 30 * time.Second
	reloadShown   = 500 // bytes of what it printed
)

// watched is what `cert watch` is told.
type watched struct {
	url, ca, credentials, broker string
	certificate, key, trust      string
	command                      []string
}

func (a *app) certWatchCommand() *cobra.Command {
	var w watched
	var command bool
	c := &cobra.Command{
		Use:   "watch --credentials FILE --certificate FILE --key FILE [--trust FILE] [--exec COMMAND [ARG...]]",
		Short: "Keep the certificate files of a broker such as mosquitto current",
		Long: `Keep the certificate by which a broker serves in files, for brokers that read them: get
it, write it, have the broker read it, and tell Gatehouse that it did; again whenever the
certificate is renewed, or the addresses or the authority change. Runs until it is stopped.

The key is made here once and stays (remove its file, and start again, for another). So each
renewal replaces the certificate alone, in one step: no reader sees a key and a certificate
that do not match. Only certificates of the same kind are replaced, a server's or authorities',
and no key ever. The certificate's file holds the authorities above it, too; --trust is
what devices must trust, and is written before the certificate.

--exec comes last: all that follows is the command, which is run, without a shell, when the
files are in place, and at the start. Until it succeeds it is tried again, and the certificate
counts as not delivered. Run this as the user that the broker runs as: the key's mode is 0600.`,
		DisableFlagsInUseLine: true,
		Example: example("gatehouse cert watch --credentials mosquitto.creds --certificate server.pem --key server.key \\",
			"    --trust ca.pem --exec systemctl reload-or-restart mosquitto"),
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case w.credentials == "" || w.certificate == "" || w.key == "":
				return errors.New("--credentials, --certificate and --key are needed")
			case command != (len(args) > 0):
				return errors.New("the command comes behind --exec, which comes last")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			w.command = args
			return a.certWatch(c.Context(), w)
		},
	}
	f := c.Flags()
	f.SetInterspersed(false) // flags of the command are the command's
	f.StringVar(&w.credentials, "credentials", "", "`FILE` that gatehouse broker add wrote")
	f.StringVar(&w.broker, "broker", "", "`NAME` of the broker (default: as the credentials say)")
	f.StringVar(&w.url, "url", "nats://127.0.0.1:4222", "where NATS is; tls:// with TLS")
	f.StringVar(&w.ca, "url-ca", "", "`FILE` with the authorities to verify NATS by (default: the system's)")
	f.StringVar(&w.certificate, "certificate", "", "`FILE` for the certificate and the authorities above it, PEM")
	f.StringVar(&w.key, "key", "", "`FILE` of the private key, PEM; made if it is not there")
	f.StringVar(&w.trust, "trust", "", "`FILE` for all authorities that devices must trust, PEM")
	f.BoolVar(&command, "exec", false, "run the command that follows when the files have changed")
	return c
}

func (a *app) certWatch(ctx context.Context, w watched) error {
	if err := w.check(); err != nil {
		return err
	}
	key, fresh, err := w.readKey()
	if err != nil {
		return err
	}
	cfg, err := w.client(a.logger())
	if err != nil {
		return err
	}
	if fresh != nil {
		if err := w.keepKey(fresh); err != nil {
			return err
		}
	}
	c, err := client.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	files := &installer{watched: w, told: func(next *client.Certificate) {
		_ = a.show(map[string]string{"serial": next.Serial, "notAfter": next.Leaf.NotAfter.UTC().Format(time.RFC3339), "certificate": w.certificate}, func(out io.Writer) error {
			_, err := fmt.Fprintf(out, "certificate %s, until %s, in %s\n", next.Serial, next.Leaf.NotAfter.UTC().Format(time.RFC3339), w.certificate)
			return err
		})
	}}
	if _, err := c.Certificates(client.CertificatesConfig{Key: key, Install: files.install}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case <-c.HungUp():
		return fmt.Errorf("NATS at %s refuses the credentials in %s: was the broker removed? `gatehouse broker add` makes new ones", client.RedactURLs(w.url), w.credentials)
	}
}

func (w *watched) client(logger *slog.Logger) (client.Config, error) {
	text, err := readWatched(w.credentials)
	if err != nil {
		return client.Config{}, fmt.Errorf("--credentials: %w", err)
	}
	credentials, err := brokers.ParseCredentials(text)
	if err != nil {
		return client.Config{}, fmt.Errorf("--credentials %s: %w", w.credentials, err)
	}
	name := w.broker
	if name == "" {
		name = credentials.Name
	}
	broker, err := authapi.ParseBroker(name)
	if err != nil {
		return client.Config{}, fmt.Errorf("which broker? %s does not say; set --broker: %w", w.credentials, err)
	}
	cfg := client.Config{Broker: broker, URL: w.url, Credentials: text, RetryOnFailedConnect: true, Logger: logger}
	if w.ca != "" {
		roots, err := readWatched(w.ca)
		if err != nil {
			return client.Config{}, fmt.Errorf("--url-ca: %w", err)
		}
		cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool()}
		if !cfg.TLS.RootCAs.AppendCertsFromPEM(roots) {
			return client.Config{}, fmt.Errorf("--url-ca %s: no certificate in it", w.ca)
		}
	}
	return cfg, nil
}

// installer puts certificates into files and has the broker read them.
type installer struct {
	watched
	told func(*client.Certificate)
}

// install writes trust and certificate, in this order, each whole, and runs the command. The certificate's file is the last: until it is replaced the former still fits the key,
// and who checks the new one finds its authority in trust.
func (i *installer) install(ctx context.Context, next *client.Certificate) error {
	if i.trust != "" {
		if err := replace(i.trust, next.TrustPEM, true); err != nil {
			return err
		}
	}
	if err := replace(i.certificate, next.CertificatePEM, false); err != nil {
		return err
	}
	if err := i.reload(ctx); err != nil {
		return err
	}
	i.told(next)
	return nil
}

func (i *installer) reload(ctx context.Context) error {
	if len(i.command) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reloadTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, i.command[0], i.command[1:]...)
	cmd.WaitDelay = time.Second // what it started may hold its output open
	out, err := cmd.CombinedOutput()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) {
		return nil
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w after %s", ctx.Err(), reloadTimeout)
	}
	return fmt.Errorf("the files are in place, but %s: %w; %.*s", strings.Join(i.command, " "), err, reloadShown, bytes.TrimSpace(out))
}
