package awsemu_test

import (
	"context"
	"encoding/pem"
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

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{registry: awsemu.NewRegistry()}
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
	w.emulator = must[*awsemu.Emulator](t)(awsemu.Start(awsemu.Config{Certificate: pair, Registry: w.registry, Authority: w.servers, Now: atNoon}))
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
