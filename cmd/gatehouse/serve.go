package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/eventlog"
)

func (a *app) serveCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "serve",
		Short:   "Run the daemon as gatehouse.yaml says",
		Example: example("gatehouse serve -c gatehouse.yaml"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.serve(c.Context(), file) },
	}
	c.Flags().StringVarP(&file, "config", "c", "gatehouse.yaml", "configuration file")
	return c
}

func (a *app) serve(ctx context.Context, file string) error {
	doc, err := readFile(file, config.DocumentBytesMax)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; name the configuration file with -c, or try `gatehouse dev`, which needs none", err)
	}
	if err != nil {
		return err
	}
	f, warnings, err := config.ParseFile(doc, nil)
	problems := inFile(file, policy.ErrorsOf(err))
	if err != nil && !config.InSection(problems) {
		return a.unusable(file, problems, err)
	}
	logger, err := a.loggerOf(f.Log)
	if err != nil {
		return err
	}
	for _, w := range inFile(file, warnings) {
		logger.Warn("configuration", "warning", w.Error())
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	cfg, err := serveConfig(f.Resolve(filepath.Dir(path)), logger)
	if err != nil {
		return err
	}
	cfg.File, cfg.Document, cfg.Settings = path, doc, f
	for _, e := range inFile(filepath.Base(file), problems) { // the last good section may be in the log
		cfg.Problems = append(cfg.Problems, e.Error())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := &failure{end: cancel}
	cfg.Fatal = failed.note
	d, err := daemon.Start(ctx, cfg)
	if err != nil {
		return failed.or(startError(err, "nats.listen, mqtt.listen, http.listen or tokenExchange.listen"))
	}
	logger.Info("ready", "nats", d.NATSURL(), "mqtt", d.MQTTAddr(), "dir", cfg.Dir)
	fmt.Fprintln(a.out, "ready")
	debug.FreeOSMemory() // the start needed twice what stays
	<-ctx.Done()
	d.Close()
	return failed.or(nil)
}

// unusable prints what is wrong with a configuration file.
func (a *app) unusable(file string, problems policy.Errors, err error) error {
	for _, e := range problems {
		fmt.Fprintln(a.err, e)
	}
	if len(problems) == 0 {
		fmt.Fprintln(a.err, err)
	}
	return fmt.Errorf("%s cannot be used; see `gatehouse config check %s`", file, file)
}

// startError says what to do when a daemon does not start. addresses are the settings that
// say where it listens.
func startError(err error, addresses string) error {
	if strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) { // the NATS server tells it as text alone
		return fmt.Errorf("%w; stop what uses that address, or choose another by %s", err, addresses)
	}
	for _, lost := range []error{keys.ErrMissing, keys.ErrMismatch, keys.ErrDamaged} {
		if errors.Is(err, lost) {
			return fmt.Errorf("%w; bring the folder keys of the directory back from a copy: nothing was replaced, since devices would not trust another authority", err)
		}
	}
	if errors.Is(err, keys.ErrLocked) {
		return fmt.Errorf("%w; the first line of the file that keys.passphraseFile names must be the passphrase the keys were written with; nothing was replaced", err)
	}
	return logError(err, "stop that first, or name another directory")
}

// failure is the first failure of the log, an append's or of what it holds: while the daemon
// starts, runs or ends. It is
// kept apart from the context, which a signal may have ended before.
type failure struct {
	first atomic.Pointer[exitError]
	end   context.CancelFunc // ends the program
}

func (f *failure) note(err error) {
	code := exitAppend
	if errors.Is(err, eventlog.ErrCorrupt) { // found while the daemon ran
		code = exitCorrupt
	}
	f.first.CompareAndSwap(nil, &exitError{code, err})
	f.end()
}

// or is the failure, else err: what else goes wrong follows from it.
func (f *failure) or(err error) error {
	if first := f.first.Load(); first != nil {
		return first
	}
	return err
}

// serveConfig makes a daemon's configuration of a file's.
func serveConfig(f config.File, logger *slog.Logger) (daemon.Config, error) {
	cfg := daemon.Config{
		Dir: f.Dir, Mode: "serve", Policy: f.PolicyFile,
		NATSListen: f.NATS.Listen, MQTTListen: f.MQTT.Listen, MQTTHosts: f.MQTT.HostAddresses, HTTPListen: f.HTTP.Listen,
		BudgetOffTime: f.Trust.UnknownOffTime == config.OffTimeBudget,
		Logger:        logger,
	}
	if f.MQTT.TLSMinVersion == "1.3" {
		cfg.MQTTMinTLS = tls.VersionTLS13
	}
	if err := natsConfig(f.NATS, &cfg); err != nil {
		return cfg, fmt.Errorf("nats: %w", err)
	}
	if file := f.Keys.PassphraseFile; file != "" {
		var err error
		if cfg.Passphrase, err = readPassphrase(file); err != nil {
			return cfg, fmt.Errorf("keys.passphraseFile: %w", err)
		}
	}
	cfg.PKCS11 = keys.PKCS11{
		Helper: helperPath(f.Keys.PKCS11.Helper), Module: f.Keys.PKCS11.Module, Token: f.Keys.PKCS11.Token, PINFile: f.Keys.PKCS11.PINFile,
	}
	cfg.CloudTime = &daemon.CloudTime{}
	var err error
	if cfg.TokenExchange, err = exchangeOf(f, cfg.CloudTime.Now); err != nil {
		return cfg, err
	}
	if !f.Cloud.Configured() {
		logger.Warn("no cloud is configured: only devices that are trusted already are let in", "hint", "set cloud.endpoint, or cloud.verifier to iot")
		return cfg, nil
	}
	var x *tokenexchange.Exchange
	if cfg.TokenExchange != nil {
		x = cfg.TokenExchange.Exchange
	}
	if cfg.Cloud, err = cloudConfig(f.Cloud, x, cfg.CloudTime.Now); err != nil {
		return cfg, err
	}
	cfg.Recheck = f.Cloud.Recheck
	if cfg.Associations, err = associationsOf(f.Cloud, x, cfg.CloudTime.Now); err != nil {
		return cfg, err
	}
	if cfg.Registration, err = registrationOf(f, x, cfg.CloudTime.Now); err != nil {
		return cfg, err
	}
	err = aboutTheCore(f.Cloud, cfg.CloudTime.Now, &cfg) // it writes to cfg, so not beside it in a return
	return cfg, err
}

// helperPath finds the program that reaches PKCS#11 tokens: the configured one, else the
// one beside this program, else the one on the path, else none.
func helperPath(configured string) string {
	const name = "gatehouse-pkcs11"
	if configured != "" {
		return configured
	}
	if self, err := os.Executable(); err == nil {
		if beside, err := exec.LookPath(filepath.Join(filepath.Dir(self), name)); err == nil {
			return beside
		}
	}
	if found, err := exec.LookPath(name); err == nil {
		return found
	}
	return ""
}

// readPassphrase reads a file's first line. A blank one is no passphrase: to the key
// store it would mean that the authority's key may lie there unencrypted.
func readPassphrase(file string) ([]byte, error) {
	text, err := readFile(file, 4<<10)
	if err != nil {
		return nil, err
	}
	line, _, _ := bytes.Cut(text, []byte("\n"))
	if len(bytes.TrimSpace(line)) == 0 {
		return nil, fmt.Errorf("%s: the first line is blank, so there is no passphrase; write one there, or remove the key keys.passphraseFile to keep the authority's key unencrypted", file)
	}
	return line, nil
}

// natsConfig says where brokers meet the daemon: the embedded server or an external one.
func natsConfig(n config.NATS, cfg *daemon.Config) error {
	var t *tls.Config
	if n.TLS != (config.TLS{}) {
		t = &tls.Config{MinVersion: tls.VersionTLS13}
		if n.TLS.Certificate != "" {
			certificate, err := tls.LoadX509KeyPair(n.TLS.Certificate, n.TLS.PrivateKey)
			if err != nil {
				return fmt.Errorf("tls.certificate, tls.privateKey: %w", err)
			}
			t.Certificates = []tls.Certificate{certificate}
		}
		if n.TLS.CA != "" {
			roots, err := rootsOf(n.TLS.CA)
			if err != nil {
				return fmt.Errorf("tls.ca: %w", err)
			}
			t.RootCAs, t.ClientCAs = roots, roots
		}
	}
	if n.URL == "" {
		cfg.NATSTLS = t
		return nil
	}
	credentials, err := readFile(n.Creds, 16<<10)
	if err != nil {
		return fmt.Errorf("creds: %w", err)
	}
	cfg.NATS = &daemon.ExternalNATS{URL: n.URL, Credentials: credentials, TLS: t}
	return nil
}

// dataPlane makes the cloud client's configuration of a file's.
func dataPlane(c config.Cloud, now func() time.Time) (cloudsync.DataPlaneConfig, error) {
	identity, err := tls.LoadX509KeyPair(c.Certificate, c.PrivateKey)
	if err != nil {
		return cloudsync.DataPlaneConfig{}, fmt.Errorf("cloud.certificate, cloud.privateKey: %w", err)
	}
	roots, err := rootsOf(c.CA)
	if err != nil {
		return cloudsync.DataPlaneConfig{}, fmt.Errorf("cloud.ca: %w", err)
	}
	return cloudsync.DataPlaneConfig{
		Endpoint: c.Endpoint, Identity: identity, Roots: roots, Routes: routesOf(c.Operations), Now: now,
		Timeout: min(c.RequestTimeout, deviceBudget), ConnectTimeout: c.ConnectTimeout,
	}, nil
}

// routesOf are the paths that a file sets.
func routesOf(o config.Operations) cloudsync.Routes {
	routes := cloudsync.Routes{}
	for op, path := range map[cloudsync.Operation]string{
		cloudsync.OpVerifyIdentity:    o.VerifyClientDeviceIdentity,
		cloudsync.OpVerifyAssociation: o.VerifyClientDeviceIoTCertificateAssociation,
	} {
		if path != "" {
			routes[op] = cloudsync.Route{Method: "POST", Path: path}
		}
	}
	if path := o.PutCertificateAuthorities; path != "" {
		routes[cloudsync.OpPutAuthorities] = cloudsync.Route{Method: "PUT", Path: path}
	}
	return routes
}

// deviceBudget is how long a connecting device waits for the cloud before what is stored
// decides (reliability spec 2.3, D1c).
const deviceBudget = 2 * time.Second

func rootsOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return x509.SystemCertPool()
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return pool, nil
}

// loggerOf makes the operator's log as the file says; --verbose says more.
func (a *app) loggerOf(l config.Log) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	if a.verbose {
		level = slog.LevelDebug
	}
	o := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(a.err, o)), nil
	}
	return slog.New(slog.NewTextHandler(a.err, o)), nil
}
