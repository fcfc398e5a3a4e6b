package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// cloudOptions are the flags of `sim cloud serve`.
type cloudOptions struct {
	seed, state, listen      string
	names                    []string
	control, data, mqtt      int
	credentials              int
	plain, refuseSubscribers bool
	connack                  bool
	policyDelay              time.Duration
	noQuotas                 bool
	requestsPerSecond        int
}

// policyDelayMax is longer than anybody waits.
const policyDelayMax = 24 * time.Hour

// stateMemory is what --state is for a cloud that forgets.
const stateMemory = "memory"

func (a *app) cloudServe() *cobra.Command {
	var o cloudOptions
	c := &cobra.Command{
		Use: "serve", Short: "Run the emulated cloud alone, for tests of IoT code", Args: cobra.NoArgs,
		Long: `Run the emulated cloud alone: AWS IoT Core (control plane, data plane, MQTT) and the
planes of Greengrass, for tests of code that talks to them. Prints "ready" once all is up.
What it serves, and how clients connect, is in sim/awsemu/README.md.

It keeps its authority, and the certificates that a seed has it make, in --dir. What is
created by requests is forgotten at the end, or kept in the file that --state names; a seed
is read only into a registry that is not there yet. The other commands of "sim cloud" steer
it. Ctrl-C ends it.`,
		Example: example("gatehouse sim cloud serve", "gatehouse sim cloud serve --dir ./cloud --seed seed.yaml",
			"gatehouse sim cloud serve --dir ./cloud --state ./cloud/state.json --mqtt-port 18883"),
		RunE: func(c *cobra.Command, _ []string) error { return a.serveCloud(c.Context(), o) },
	}
	flags := c.Flags()
	flags.StringVar(&o.seed, "seed", "", "put this `FILE` into an empty registry first: YAML or JSON, as \"sim cloud seed schema\" says")
	flags.StringVar(&o.state, "state", stateMemory, "keep the registry in this file")
	flags.StringVar(&o.listen, "listen", "127.0.0.1", "the IP address to listen at")
	flags.StringArrayVar(&o.names, "name", nil, "a DNS name or IP address by which clients call this machine, for the server's certificate (repeat it)")
	flags.IntVar(&o.control, "control-port", 4566, "port of the control planes and of iot-data for callers who sign; 0: any")
	flags.IntVar(&o.data, "data-port", 8443, "port of HTTPS, and by ALPN of MQTT, for callers with a certificate; 0: any")
	flags.IntVar(&o.credentials, "credential-port", 8444, "port of the credentials provider, for callers with a certificate; 0: any")
	flags.IntVar(&o.mqtt, "mqtt-port", 8883, "port of MQTT; 0: any")
	flags.BoolVar(&o.plain, "plain-http", false, "answer plain HTTP at the control port, too, on loopback")
	flags.BoolVar(&o.refuseSubscribers, "disconnect-unauthorized", false, "hang up on who subscribes to what it may not, in place of refusing the filter")
	flags.BoolVar(&o.connack, "connack-unauthorized", false, "answer a refused CONNECT with CONNACK 5 (MQTT 5: 0x87), in place of hanging up as AWS does")
	flags.DurationVar(&o.policyDelay, "policy-delay", 0, "how long changes of IoT policies take to count; AWS takes 6 to 8 minutes")
	flags.BoolVar(&o.noQuotas, "no-quotas", false, "do without AWS's quotas of an account, such as 10 policies of a certificate")
	flags.IntVar(&o.requestsPerSecond, "requests-per-second", 0, "throttle each operation of the control planes beyond this; 0: none")
	return c
}

func (a *app) serveCloud(ctx context.Context, o cloudOptions) (err error) {
	if err := o.check(); err != nil {
		return &exitError{exitUsage, err}
	}
	if a.dir == "" {
		if a.dir, err = os.MkdirTemp("", "gatehouse-cloud-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(a.dir) }() // a temporary directory: what is left is the system's to clean
	}
	if a.dir, err = filepath.Abs(a.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(cloudDir(a.dir), 0o700); err != nil {
		return err
	}
	unlock, err := lockCloud(a.dir)
	if err != nil {
		return err
	}
	defer unlock()
	s, err := o.start(a.dir, a.logger())
	if errors.Is(err, awsemu.ErrServed) {
		return &exitError{exitInUse, err}
	}
	if err != nil {
		return err
	}
	defer s.Close()
	if err := a.show(s.describe(), s.print); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

func (o *cloudOptions) check() error {
	if net.ParseIP(o.listen) == nil {
		return fmt.Errorf("--listen %.60q: an IP address is wanted, such as 127.0.0.1 or 0.0.0.0", o.listen)
	}
	if o.policyDelay < 0 || o.policyDelay > policyDelayMax {
		return fmt.Errorf("--policy-delay %v: want 0 to %v", o.policyDelay, policyDelayMax)
	}
	if o.requestsPerSecond < 0 {
		return fmt.Errorf("--requests-per-second %d: want 0 or more", o.requestsPerSecond)
	}
	for flag, port := range map[string]int{"control": o.control, "data": o.data, "credential": o.credentials, "mqtt": o.mqtt} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("--%s-port %d: want 0 to 65535", flag, port)
		}
	}
	if o.state == "" {
		return errors.New("--state: name a file, or memory")
	}
	return nil
}

// lockCloud keeps other processes from serving the emulated cloud of dir. The lock ends
// with the process, however that ends.
func lockCloud(dir string) (unlock func(), err error) {
	folder, err := os.Open(cloudDir(dir))
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(folder.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = folder.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &exitError{exitInUse, fmt.Errorf("%s: %w", dir, awsemu.ErrServed)}
		}
		return nil, fmt.Errorf("lock %s: %w", cloudDir(dir), err)
	}
	return func() { _ = folder.Close() }, nil
}

// servedCloud is the emulated cloud of `sim cloud serve`.
type servedCloud struct {
	emulator *awsemu.Emulator
	control  *awsemu.Control
	dir, env string
	kept     string // why the seed was not read; empty: it was, or there is none
}

// Close ends it.
func (s *servedCloud) Close() {
	if s.env != "" {
		_ = os.Remove(s.env) // its keys are good for this run
	}
	if s.control != nil {
		s.control.Close()
	}
	s.emulator.Close()
}

func (o *cloudOptions) start(dir string, logger *slog.Logger) (*servedCloud, error) {
	authority, err := openAuthority(cloudAuthorityFiles(dir))
	if err != nil {
		return nil, err
	}
	s := &servedCloud{dir: dir}
	registry, err := o.registry(s, authority)
	if err != nil {
		return nil, err
	}
	names := o.names
	if ip := net.ParseIP(o.listen); !ip.IsUnspecified() && !ip.IsLoopback() {
		names = append([]string{o.listen}, names...)
	}
	server, err := authority.IssueServer(slices.Concat(awsemu.ServerNames(), names), time.Now())
	if err != nil {
		return nil, err
	}
	certificate, err := server.TLS()
	if err != nil {
		return nil, err
	}
	at := func(port int) string { return net.JoinHostPort(o.listen, strconv.Itoa(port)) }
	if s.emulator, err = awsemu.Start(awsemu.Config{
		Addr: at(o.data), ControlAddr: at(o.control), CredentialAddr: at(o.credentials), MQTTAddr: at(o.mqtt), PlainControl: o.plain, Names: names,
		Certificate: certificate, Authority: authority, Registry: registry, Now: time.Now,
		DisconnectUnauthorized: o.refuseSubscribers, ConnackUnauthorized: o.connack, PolicyDelay: o.policyDelay,
		QuotasLifted: o.noQuotas, RequestsPerSecond: o.requestsPerSecond, Log: logger.With("part", "emulated cloud"),
	}); err != nil {
		return nil, portError(err)
	}
	if err := s.open(authority); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// portError says what to do about an address that is taken.
func portError(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another program has the port; choose others with --control-port, --data-port, --credential-port and --mqtt-port", err)
	}
	return err
}

// registry is what the cloud begins with.
func (o *cloudOptions) registry(s *servedCloud, authority *awsemu.Authority) (*awsemu.Registry, error) {
	registry, kept := awsemu.NewRegistry(), false
	if o.state != stateMemory {
		_, err := os.Stat(o.state)
		kept = err == nil
		if registry, err = awsemu.OpenRegistry(o.state); err != nil {
			return nil, err
		}
	}
	switch {
	case o.seed == "":
		return registry, nil
	case kept:
		s.kept = fmt.Sprintf("%s goes on; %s was not read: it is for a registry that is not there yet", here(o.state), here(o.seed))
		return registry, nil
	}
	doc, err := readFile(o.seed, awsemu.SeedBytesMax)
	if err != nil {
		return nil, err
	}
	if err := registry.Seed(doc, makers(s.dir, authority)); err != nil {
		return nil, seedError(o.seed, err)
	}
	return registry, nil
}

// open writes the files that clients need, and lets people steer it.
func (s *servedCloud) open(authority *awsemu.Authority) (err error) {
	if s.control, err = s.emulator.ServeControl(controlSocket(s.dir)); err != nil {
		return err
	}
	if err := daemon.WriteFile(s.rootCA(), authority.PEM(), 0o644); err != nil {
		return err
	}
	s.env = filepath.Join(s.dir, "aws.env")
	return daemon.WriteFile(s.env, awsEnv(s.emulator, s.rootCA()), 0o600)
}

func (s *servedCloud) rootCA() string { return filepath.Join(s.dir, "root-ca.pem") }

// cloudEndpoints is where clients of the emulated cloud connect to.
type cloudEndpoints struct {
	Ready   bool   `json:"ready"`
	Control string `json:"control"`
	Plain   string `json:"plainControl,omitempty"`
	Data    string `json:"data"`
	// Credentials is the credentials provider's base URL.
	Credentials string `json:"credentials"`
	MQTT        string `json:"mqtt"`
	RootCA      string `json:"rootCa"`
	Env         string `json:"awsEnv"`
	Region      string `json:"region"`
	Account     string `json:"account"`
	Note        string `json:"note,omitempty"`
}

func (s *servedCloud) describe() cloudEndpoints {
	return cloudEndpoints{
		Ready: true, Control: s.emulator.ControlURL(), Plain: s.emulator.PlainControlURL(), Data: s.emulator.URL(), MQTT: s.emulator.MQTTAddr(), Credentials: s.emulator.CredentialURL(),
		RootCA: s.rootCA(), Env: s.env, Region: awsemu.Region, Account: awsemu.AccountID, Note: s.kept,
	}
}

func (s *servedCloud) print(w io.Writer) error {
	at := s.describe()
	if at.Note != "" {
		at.Note = "\n" + at.Note + "\n"
	}
	if at.Plain != "" {
		at.Plain = "  and " + at.Plain
	}
	_, err := fmt.Fprintf(w, `ready

control  %s%s   (aws, boto3 and the SDKs: . %s)
data     %s   (HTTPS, or MQTT by ALPN, with a device's certificate)
keys     %s   (credentials provider, with a core's certificate)
MQTT     %s
root CA  %s
region   %s, account %s
%s`, at.Control, at.Plain, here(at.Env), at.Data, at.Credentials, at.MQTT, here(at.RootCA), at.Region, at.Account, at.Note)
	return err
}
