package daemon

import (
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// emulated is a cloud with a device, and how this core reaches it.
func emulated(t *testing.T) (*awsemu.Identity, *cloudsync.Config) {
	t.Helper()
	now := time.Now()
	fatal := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	authority, err := awsemu.NewAuthority("servers", now)
	fatal(err)
	core, err := authority.IssueDevice("core-1", now)
	fatal(err)
	device, err := authority.IssueDevice("pump-7", now)
	fatal(err)
	registry := awsemu.NewRegistry()
	fatal(registry.Enroll("core-1", core, true))
	fatal(registry.Enroll("pump-7", device, false))
	server, err := authority.IssueServer(awsemu.ServerNames(), now)
	fatal(err)
	serverPair, err := server.TLS()
	fatal(err)
	emulator, err := awsemu.Start(awsemu.Config{Certificate: serverPair, Registry: registry, Authority: authority, Now: time.Now})
	fatal(err)
	t.Cleanup(emulator.Close)
	corePair, err := core.TLS()
	fatal(err)
	return device, &cloudsync.Config{DataPlane: cloudsync.DataPlaneConfig{
		Endpoint: emulator.URL(), ServerName: awsemu.ServerName, Identity: corePair, Roots: authority.Pool(),
	}}
}

// TestTheCloudTellsTheTime: a daemon whose log says that it is an hour later than it is
// learns better from the first device that the cloud confirms, and the next start knows.
// The server's certificate, which is valid at both times, is judged by a time that the
// daemon gives.
func TestTheCloudTellsTheTime(t *testing.T) {
	dir := t.TempDir()
	d := startDaemon(t, dir, Config{})
	body, schema, err := messages.EncodeEvent(&messages.ClockMarked{BootMs: d.clock.Boot().Milliseconds(), BootId: d.clock.BootID()})
	if err != nil {
		t.Fatal(err)
	}
	version, err := d.log.Version(messages.StreamClock)
	if err != nil {
		t.Fatal(err)
	}
	wrong := time.Now().Add(time.Hour).UnixMilli()
	appended := make(chan error, 1)
	d.log.Append(eventlog.Batch{
		Stream: messages.StreamClock, Expected: version, At: messages.Instant{TrustMs: wrong, WallMs: wrong},
		Drafts: []eventlog.Draft{{ID: messages.DeriveEventID([32]byte{1}, 0), Kind: messages.KindClockMarked, Schema: schema, Body: body}},
	}, func(_ []messages.Record, err error) { appended <- err })
	if err := <-appended; err != nil {
		t.Fatal(err)
	}
	d.Close()

	device, cloud := emulated(t)
	d = startDaemon(t, dir, Config{Cloud: cloud})
	if off := time.Until(moment(d.trust.NowMs())); off < 50*time.Minute {
		t.Fatalf("the clock is ahead by %v", off)
	}
	reply, err := d.sys.Do(t.Context(), messages.VerifyCertificate{
		Certificate: messages.CertificateIDOf(device.DER), DER: device.DER, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}, messages.Cause{})
	if v, ok := reply.(messages.Verified); err != nil || !ok || !v.Valid || v.Source != messages.Source_SOURCE_CLOUD {
		t.Fatalf("verified %+v (%v)", reply, err)
	}
	right := func() {
		t.Helper()
		s, err := d.status(t.Context(), struct{}{})
		if err != nil {
			t.Fatal(err)
		}
		if off := time.Until(s.Clock.Time); off.Abs() > 15*time.Second || s.Clock.State != string(actors.ClockCertain) || s.Clock.AgreedAt == nil {
			t.Errorf("the clock is off by %v: %+v", off, s.Clock)
		}
		if certificate := d.views.CertificateTrust(messages.CertificateIDOf(device.DER)); !d.sys.Trust().Trusted(certificate, d.trust.NowMs()) {
			t.Errorf("what the cloud has confirmed does not count: %+v by %+v", certificate, d.sys.Trust())
		}
	}
	right()
	d.Close()
	d = startDaemon(t, dir, Config{})
	right()
}

// TestTLSTimeHasAFloor: no certificate is judged by a time before this program was made.
func TestTLSTimeHasAFloor(t *testing.T) {
	if at := builtAt(); at.Before(released) {
		t.Errorf("built at %v", at)
	}
	d := startDaemon(t, t.TempDir(), Config{})
	if at := d.tlsTime(); at.Before(builtAt()) || at.Before(time.Now().Add(-time.Minute)) {
		t.Errorf("the cloud would be judged by %v", at)
	}
}
