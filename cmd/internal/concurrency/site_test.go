package concurrency

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// night says whether tests have the sizes of the specification.
func night() bool { return os.Getenv("GATEHOUSE_NIGHT") != "" }

// sized is the size for CI, or that for the night.
func sized[T any](ci, atNight T) T {
	if night() {
		return atNight
	}
	return ci
}

// share is a third of a size for CI where go test -short asks for less: under the race
// detector everything takes many times as long.
func share[T int | time.Duration](ci T) T {
	if testing.Short() {
		return ci / 3
	}
	return ci
}

// TestMain holds that whatever was started has ended.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// cloud is who the daemon asks: a registry that says yes until it is told otherwise.
type cloud struct {
	mu    sync.Mutex
	no    map[messages.CertificateID]bool // guarded by mu
	away  atomic.Bool
	asked atomic.Int64
}

// Ask implements cloudsync.Verifier.
func (c *cloud) Ask(_ context.Context, q messages.CloudQuestion) messages.CloudAnswer {
	c.asked.Add(1)
	if c.away.Load() {
		return messages.CloudAnswer{Failure: messages.FailureUnreachable, Detail: "the cloud is away"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.no[q.Certificate] {
		return messages.CloudAnswer{Verdict: messages.CloudDenied}
	}
	return messages.CloudAnswer{Verdict: messages.CloudConfirmed}
}

// Probe implements cloudsync.Verifier.
func (c *cloud) Probe(context.Context) (date time.Time, err error) {
	if c.away.Load() {
		return date, fmt.Errorf("the cloud is away")
	}
	return date, nil
}

// Close implements cloudsync.Verifier.
func (c *cloud) Close() {}

func (c *cloud) set(id messages.CertificateID, no bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.no[id] = no
}

// site is a daemon of this process, with its cloud and its brokers.
type site struct {
	t     *testing.T
	cfg   daemon.Config
	cloud *cloud
	d     *daemon.Daemon
	ops   *admin.Client
}

// policy lets every device that a test makes connect, and publish below its own name.
const policy = `formatVersion: 2021-03-05
definitions:
  all: {selectionRule: "thingName: unit-*", policyName: p}
policies:
  p:
    connect: {operations: ["mqtt:connect"], resources: ["mqtt:clientId:${iot:Connection.Thing.ThingName}"]}
    publish: {operations: ["mqtt:publish"], resources: ["mqtt:topic:units/${iot:Connection.Thing.ThingName}/*"]}
`

const section = `clientDeviceAuth:
  performance: {maxActiveAuthTokens: 1000000}
  security: {clientDeviceTrustDurationMinutes: 1440}
`

// open makes a site for brokers, and starts its daemon; change may alter its configuration.
func open(t *testing.T, brokers []messages.BrokerID, change func(*daemon.Config)) *site {
	t.Helper()
	s := &site{t: t, cloud: &cloud{no: map[messages.CertificateID]bool{}}}
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.yaml")
	must(t, os.WriteFile(file, []byte(policy), 0o600))
	settings, _, err := config.ParseFile([]byte(section), nil)
	must(t, err)
	s.cfg = daemon.Config{
		Dir: filepath.Join(dir, "data"), Mode: "test", Policy: file, Document: []byte(section), Settings: settings,
		NATSListen: "127.0.0.1:0", Brokers: brokers, CAType: "ECDSA_P256",
		Cloud:   &cloudsync.Config{Verifier: s.cloud, Monitor: cloudsync.MonitorConfig{UpInterval: time.Second}},
		Recheck: time.Second,
		Logger:  slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError})),
	}
	if change != nil {
		change(&s.cfg)
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

func (s *site) start() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	var err error
	s.d, err = daemon.Start(ctx, s.cfg)
	must(s.t, err)
	s.ops, err = admin.Dial(s.d.NATSURL(), authapi.OperatorAdmin, s.credentials(authapi.OperatorAdmin), nil)
	must(s.t, err)
}

func (s *site) stop() {
	if s.d != nil {
		s.ops.Close()
		s.d.Close()
		s.d = nil
	}
}

func (s *site) credentials(name string) []byte {
	s.t.Helper()
	creds, err := os.ReadFile(daemon.CredsFile(s.cfg.Dir, name))
	must(s.t, err)
	return creds
}

// dial connects as a broker that speaks by hand.
func (s *site) dial(name messages.BrokerID) *nats.Conn {
	s.t.Helper()
	options, err := client.Options(name, s.credentials(string(name)))
	must(s.t, err)
	nc, err := nats.Connect(s.d.NATSURL(), options...)
	must(s.t, err)
	s.t.Cleanup(nc.Close)
	return nc
}

// operator orders op for a thing, and returns when it is acknowledged.
func (s *site) operator(ctx context.Context, op string, thing messages.ThingName) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second) // a lost order is an error, not a wait
	defer cancel()
	return s.ops.Ask(ctx, op, daemon.DeviceRequest{Thing: thing, Reason: "test"}, nil)
}

// device is a client device. All share a key: whether a broker's client holds it is for the
// broker to see, which these tests are.
type device struct {
	thing messages.ThingName
	der   []byte
	id    messages.CertificateID
}

var (
	deviceKey = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	devices   atomic.Int64 // made so far
)

// newDevice makes a device of a name that no other has.
func newDevice(t testing.TB) device {
	n := devices.Add(1)
	thing := messages.ThingName(fmt.Sprintf("unit-%d", n))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: string(thing)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(nil, template, template, deviceKey.Public(), deviceKey)
	must(t, err)
	return device{thing, der, messages.CertificateIDOf(der)}
}

func sorted(list []time.Duration) []time.Duration {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}
