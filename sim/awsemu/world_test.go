package awsemu_test

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// noon is the emulated cloud's time in these tests.
var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func atNoon() time.Time { return noon }

// world is an emulated cloud with a core, two devices, and a client of the core's.
type world struct {
	servers, devices *awsemu.Authority
	registry         *awsemu.Registry
	emulator         *awsemu.Emulator
	core             *awsemu.Identity
	pump, valve      *awsemu.Identity // enrolled as pump-7 and valve-1
	stranger         *awsemu.Identity // unknown to the cloud
	now              func() time.Time
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func newWorld(t testing.TB) *world { return newWorldAt(t, atNoon) }

// newWorldAt goes by now; nil is the machine's clock, by which tools from outside go.
func newWorldAt(t testing.TB, now func() time.Time, change ...func(*awsemu.Config)) *world {
	t.Helper()
	if now == nil {
		now = time.Now
	}
	noon := now()
	w := &world{registry: awsemu.NewRegistry(), now: now}
	w.servers = must[*awsemu.Authority](t)(awsemu.NewAuthority("servers", noon))
	w.devices = must[*awsemu.Authority](t)(awsemu.NewAuthority("devices", noon))
	for name, into := range map[messages.ThingName]**awsemu.Identity{"core-1": &w.core, "pump-7": &w.pump, "valve-1": &w.valve} {
		*into = must[*awsemu.Identity](t)(w.devices.IssueDevice(string(name), noon))
		if err := w.registry.Enroll(name, *into, name == "core-1"); err != nil {
			t.Fatal(err)
		}
	}
	w.stranger = must[*awsemu.Identity](t)(w.devices.IssueDevice("stranger", noon))
	server := must[*awsemu.Identity](t)(w.servers.IssueServer(awsemu.ServerNames(), noon))
	pair, err := server.TLS()
	if err != nil {
		t.Fatal(err)
	}
	cfg := awsemu.Config{Certificate: pair, Registry: w.registry, Authority: w.servers, Now: now}
	for _, f := range change {
		f(&cfg)
	}
	w.emulator = must[*awsemu.Emulator](t)(awsemu.Start(cfg))
	t.Cleanup(w.emulator.Close)
	return w
}

// config is how caller reaches the emulated cloud.
func (w *world) config(t testing.TB, caller *awsemu.Identity) cloudsync.DataPlaneConfig {
	t.Helper()
	pair, err := caller.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return cloudsync.DataPlaneConfig{
		Endpoint:   w.emulator.URL(),
		ServerName: awsemu.ServerName,
		Identity:   pair,
		Roots:      w.servers.Pool(),
		Timeout:    5 * time.Second, // a loaded machine must not look like an outage
		Now:        atNoon,
	}
}

// tls is how caller connects.
func (w *world) tls(t testing.TB, caller *awsemu.Identity) *tls.Config {
	t.Helper()
	return &tls.Config{
		Certificates: []tls.Certificate{must[tls.Certificate](t)(caller.TLS())}, RootCAs: w.servers.Pool(), ServerName: awsemu.ServerName, Time: w.now,
	}
}

// files are what tools from outside take to connect as somebody.
type files struct{ ca, certificate, key string }

func (w *world) files(t testing.TB, dir, name string, caller *awsemu.Identity) files {
	t.Helper()
	f := files{filepath.Join(dir, "ca.pem"), filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")}
	for path, text := range map[string][]byte{f.ca: w.servers.PEM(), f.certificate: caller.CertificatePEM, f.key: caller.KeyPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// tool is the path of a program. Without it the test fails, or is skipped where nobody
// asked for end-to-end tests.
func tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatalf("%s is missing: %v", name, err)
		}
		t.Skipf("%s is missing; set GATEHOUSE_E2E=1 to make this a failure", name)
	}
	return path
}

// client asks as the core does, under the operations' names.
type client struct{ *cloudsync.DataPlane }

func (c client) VerifyClientDeviceIdentity(ctx context.Context, certificatePEM string) messages.CloudAnswer {
	block, _ := pem.Decode([]byte(certificatePEM))
	return c.Ask(ctx, messages.CloudQuestion{Certificate: messages.CertificateIDOf(block.Bytes), DER: block.Bytes})
}

func (c client) VerifyClientDeviceIoTCertificateAssociation(ctx context.Context, thing messages.ThingName, certificate messages.CertificateID) messages.CloudAnswer {
	return c.Ask(ctx, messages.CloudQuestion{Certificate: certificate, Thing: thing})
}

func (w *world) client(t testing.TB, caller *awsemu.Identity) client {
	t.Helper()
	c := client{must[*cloudsync.DataPlane](t)(cloudsync.NewDataPlane(w.config(t, caller)))}
	t.Cleanup(c.Close)
	return c
}

// wantVerdicts asks both questions about a device and compares.
func wantVerdicts(t *testing.T, c client, thing messages.ThingName, device *awsemu.Identity, identity, association messages.CloudVerdict) {
	t.Helper()
	if got := c.VerifyClientDeviceIdentity(context.Background(), string(device.CertificatePEM)); got.Verdict != identity {
		t.Errorf("identity of %s: got %s (%s), want %s", thing, got.Verdict, got.Detail, identity)
	}
	if got := c.VerifyClientDeviceIoTCertificateAssociation(context.Background(), thing, device.ID); got.Verdict != association {
		t.Errorf("association of %s: got %s (%s), want %s", thing, got.Verdict, got.Detail, association)
	}
}
