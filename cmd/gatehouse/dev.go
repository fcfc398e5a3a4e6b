package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/associations"
	"github.com/gatehouse-edge/gatehouse/cloudsync/connectivity"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/credentials"
	"github.com/gatehouse-edge/gatehouse/cloudsync/shadow"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// devOptions are the flags of `dev`.
type devOptions struct {
	mqtt, nats, http string
	trust, recheck   time.Duration
	pending          bool
	sessions         int
}

func (a *app) devCommand() *cobra.Command {
	var o devOptions
	c := &cobra.Command{
		Use:   "dev",
		Short: "Run everything on this machine: broker, NATS, emulated cloud, three devices",
		Long: `Run everything on this machine, with nothing installed: Gatehouse itself, an MQTT broker
with TLS, a NATS server, an emulated AWS cloud and three devices in it. Prints "ready"
once all is up, and the next command to paste. Ctrl-C ends it.`,
		Example: example("gatehouse dev", "gatehouse dev --dir ./gh --mqtt 127.0.0.1:18883"),
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.dev(c.Context(), o) },
	}
	c.Flags().StringVar(&o.mqtt, "mqtt", "127.0.0.1:8883", "address of the MQTT broker")
	c.Flags().StringVar(&o.nats, "nats", "127.0.0.1:4222", "address of the NATS server")
	c.Flags().StringVar(&o.http, "http", "127.0.0.1:8480", "address of the status page")
	c.Flags().DurationVar(&o.trust, "trust", 0, "how long devices are trusted without the cloud (default: the configured minute)")
	c.Flags().DurationVar(&o.recheck, "recheck", 500*time.Millisecond, "how often the cloud is asked about connected devices")
	c.Flags().IntVar(&o.sessions, "sessions", 0, "how many sessions may be open at once, from now on (default: as before, 2500 at first)")
	c.Flags().BoolVar(&o.pending, "pending", false, "admit unknown devices of the demo fleet as pending while the cloud is off; a new policy.yaml gets their group")
	return c
}

// demoThings are the devices of `dev`, and coreThing the core.
var demoThings = []messages.ThingName{"sensor-1", "sensor-2", "sensor-3"}

const coreThing messages.ThingName = "gatehouse-dev-core"

// demoConsumer is whose programs get the core's AWS credentials.
const demoConsumer = "demo"

// demoPolicy lets each sensor publish and subscribe under its own name and nothing else.
const demoPolicy = `# The policy in force: edit it, and it is reloaded at once.
formatVersion: 2021-03-05
definitions:
  sensors:
    selectionRule: "thingName: sensor-*"
    policyName: own-topics
policies:
  own-topics:
    connect:
      statementDescription: Connect with the thing name as client id
      operations: ["mqtt:connect"]
      resources: ["mqtt:clientId:${iot:Connection.Thing.ThingName}"]
    publish:
      statementDescription: Publish under its own name
      operations: ["mqtt:publish"]
      resources: ["mqtt:topic:sensors/${iot:Connection.Thing.ThingName}/*"]
    subscribe:
      statementDescription: Subscribe under its own name
      operations: ["mqtt:subscribe"]
      resources: ["mqtt:topicfilter:sensors/${iot:Connection.Thing.ThingName}/*"]
`

// demoPending is what a pending device may: no more than it may later, since its group picks
// it then, too.
const (
	demoPendingGroup = `  pending: # of devices that nobody has registered, and they are in no other; see registration.offline
    selectionRule: "thingName: sensor-*"
    policyName: hello
`
	demoPendingPolicy = `  hello:
    hello:
      statementDescription: Connect, and say so
      operations: ["mqtt:connect", "mqtt:publish"]
      resources:
        - "mqtt:clientId:${iot:Connection.Thing.ThingName}"
        - "mqtt:topic:sensors/${iot:Connection.Thing.ThingName}/hello"
`
)

// policyOf is the demo's first policy.
func (o devOptions) policyOf() []byte {
	if !o.pending {
		return []byte(demoPolicy)
	}
	return []byte(strings.Replace(demoPolicy, "policies:\n", demoPendingGroup+"policies:\n", 1) + demoPendingPolicy)
}

// section is what the flags change of the configuration; nil: nothing.
func (o devOptions) section() *config.Section {
	if o.sessions == 0 {
		return nil
	}
	s := config.DefaultSection()
	s.Performance.MaxActiveAuthTokens = min(o.sessions, math.MaxInt32-1)
	return &s
}

func (a *app) dev(ctx context.Context, o devOptions) (err error) {
	if o.trust < 0 || o.recheck < 0 || o.sessions < 0 {
		return &exitError{exitUsage, errors.New("--trust and --recheck: a duration is not negative, nor are --sessions")}
	}
	logger := a.logger()
	if a.dir == "" {
		tmp, err := os.MkdirTemp("", "gatehouse-dev-")
		if err != nil {
			return err
		}
		a.dir = tmp
		defer func() { _ = os.RemoveAll(tmp) }() // a temporary directory: what is left is the system's to clean
	}
	if a.dir, err = filepath.Abs(a.dir); err != nil {
		return err
	}
	if err := os.MkdirAll(a.dir, 0o700); err != nil {
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
	cloud, err := startCloud(a.dir, logger)
	if errors.Is(err, awsemu.ErrServed) {
		return &exitError{exitInUse, err}
	}
	if err != nil {
		return err
	}
	defer cloud.Close()
	policyFile := filepath.Join(a.dir, "policy.yaml")
	if err := writeNew(policyFile, o.policyOf(), 0o600); err != nil {
		return err
	}
	registration, err := cloud.registration()
	if err != nil {
		return err
	}
	registration.Offline = actors.OfflineRegistration{Enabled: o.pending, PerHour: config.DefaultOfflinePerHour, Max: config.DefaultOfflineMax}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed := &failure{end: cancel}
	d, err := daemon.Start(ctx, daemon.Config{
		Dir: a.dir, Mode: "dev", Policy: policyFile, Section: o.section(),
		NATSListen: o.nats, MQTTListen: o.mqtt, MQTTHosts: []string{"localhost", "127.0.0.1"},
		HTTPListen: o.http, Brokers: []messages.BrokerID{"demo"},
		Cloud: &cloudsync.Config{DataPlane: cloud.client, Monitor: cloudsync.MonitorConfig{DownIntervalMax: time.Second}}, Trust: o.trust, Recheck: o.recheck,
		Associations: cloud.lister, Authorities: cloud.authorities, Addresses: &cloud.addresses, TokenExchange: cloud.exchange,
		Registration: registration,
		CAType:       ca.TypeECDSAP256, Logger: logger,
		Fatal: failed.note,
	})
	if err != nil {
		return failed.or(startError(err, "--nats, --mqtt or --http"))
	}
	a.printDev(d, cloud)
	<-ctx.Done()
	d.Close()
	return failed.or(nil)
}

func (a *app) printDev(d *daemon.Daemon, cloud *devCloud) {
	dir := here(a.dir)
	device := filepath.Join(dir, "devices", "sensor-1")
	_, port, err := net.SplitHostPort(d.MQTTAddr())
	if err != nil {
		port = "8883"
	}
	fmt.Fprintf(a.out, `ready

MQTT broker  %[1]s   (CA: %[2]s/ca.pem)
NATS server  %[3]s   (broker demo: %[2]s/brokers/demo.creds)
status page  %[4]s
emulated AWS %[8]s   (for aws and the SDKs: . %[2]s/aws.env)
             %[9]s   (credentials provider, for the core's certificate; alias %[10]s)
policy       %[2]s/policy.yaml   (edit it: it is reloaded at once)

Publish as a device, in another terminal:

  mosquitto_pub -V 5 --cafile %[2]s/ca.pem --cert %[5]s/cert.pem --key %[5]s/key.pem \
    -h localhost -p %[6]s -i sensor-1 -q 1 -t sensors/sensor-1/temperature -m 21

Then try another topic, and ask why it is refused:

  %[7]s explain --last --dir %[2]s

Run a program that gets the core's AWS credentials, and stores none:

  AWS_CA_BUNDLE=%[2]s/cloud/authority.pem %[7]s run --dir %[2]s -- \
    aws --endpoint-url %[8]s sts get-caller-identity
`, d.MQTTAddr(), dir, d.NATSURL(), d.HTTPURL(), device, port, program(), cloud.emulator.ControlURL(),
		cloud.emulator.CredentialURL(), awsemu.TokenExchangeAlias)
}

// program is how this program was called, for commands to paste: "go run" leaves its
// binary in a temporary folder that nobody can call again.
func program() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/gatehouse"
	}
	return os.Args[0]
}

// devCloud is the emulated cloud of `dev`.
type devCloud struct {
	emulator    *awsemu.Emulator
	control     *awsemu.Control
	client      cloudsync.DataPlaneConfig
	lister      *associations.Lister
	authorities *cloudsync.Authorities
	addresses   shadow.Config
	exchange    *daemon.TokenExchange
	fleet       *x509.Certificate // of devices that nobody registered
	env         string            // the file with the access keys, which are good while it runs
}

// Close ends the emulated cloud.
func (c *devCloud) Close() {
	if c.env != "" {
		_ = os.Remove(c.env)
	}
	if c.control != nil {
		c.control.Close()
	}
	c.emulator.Close()
}

// startCloud starts the emulated cloud kept in dir, with the core and the demo devices
// in it.
func startCloud(dir string, logger *slog.Logger) (*devCloud, error) {
	if err := os.MkdirAll(cloudDir(dir), 0o700); err != nil {
		return nil, err
	}
	authority, err := openAuthority(cloudAuthorityFiles(dir))
	if err != nil {
		return nil, err
	}
	registry, err := awsemu.OpenRegistry(filepath.Join(cloudDir(dir), "registry.json"))
	if err != nil {
		return nil, err
	}
	core, err := enrollAll(dir, authority, registry)
	if err != nil {
		return nil, err
	}
	fleet, err := openFleet(dir, registry)
	if err != nil {
		return nil, err
	}
	server, err := authority.IssueServer(awsemu.ServerNames(), time.Now())
	if err != nil {
		return nil, err
	}
	certificate, err := server.TLS()
	if err != nil {
		return nil, err
	}
	emulator, err := awsemu.Start(awsemu.Config{
		Certificate: certificate, Authority: authority, Registry: registry, Now: time.Now, Log: logger.With("part", "emulated cloud"),
	})
	if err != nil {
		return nil, err
	}
	c := &devCloud{emulator: emulator, fleet: fleet, client: cloudsync.DataPlaneConfig{
		Endpoint: emulator.URL(), ServerName: awsemu.ServerName, Identity: core, Roots: authority.Pool(), Now: time.Now,
	}}
	if err := errors.Join(c.connect(), c.open(dir)); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// connect makes the clients that the core asks it with, beside those about devices.
func (c *devCloud) connect() (err error) {
	provider := strings.TrimPrefix(c.emulator.CredentialURL(), "https://")
	x, err := newExchange(tokenexchange.ProviderConfig{
		Endpoint: provider, RoleAlias: awsemu.TokenExchangeAlias, Thing: coreThing, ServerName: awsemu.ServerName,
		Identity: c.client.Identity, Roots: c.client.Roots, Now: time.Now,
	}, tokenexchange.Rules{})
	if err != nil {
		return err
	}
	c.exchange = &daemon.TokenExchange{
		Exchange: x, Endpoint: provider, Listen: config.DefaultTokenListen, Region: awsemu.Region,
		Consumers: []tokenexchange.Consumer{{Name: demoConsumer, UID: os.Geteuid()}},
	}
	if c.lister, err = associations.New(associations.Config{Core: coreThing, Control: control.Config{
		Region: awsemu.Region, Endpoint: c.emulator.ControlURL(), Credentials: credentials.Exchanged(x),
		Roots: c.client.Roots, Now: time.Now,
	}}); err != nil {
		return err
	}
	if c.authorities, err = cloudsync.NewAuthorities(c.client, coreThing); err != nil {
		return err
	}
	source, err := connectivity.New(c.client, coreThing)
	c.addresses = shadow.Config{
		Core: coreThing, Endpoint: strings.TrimPrefix(c.emulator.URL(), "https://"), ServerName: awsemu.ServerName,
		Identity: c.client.Identity, Roots: c.client.Roots, Source: source,
	}
	return err
}

// open lets people steer it, by a socket, and ask it, with access keys.
func (c *devCloud) open(dir string) (err error) {
	if c.control, err = c.emulator.ServeControl(controlSocket(dir)); err != nil {
		return err
	}
	c.env = filepath.Join(dir, "aws.env")
	return daemon.WriteFile(c.env, awsEnv(c.emulator, filepath.Join(cloudDir(dir), "authority.pem")), 0o600)
}

// writeNew writes a file, whole, unless it is there.
func writeNew(path string, content []byte, mode fs.FileMode) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return daemon.WriteFile(path, content, mode)
}
