package actors

import (
	"crypto/x509"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// TestUnknownDeviceIsRegistered: a certificate that the cloud does not know, signed by an
// authority of ours, is registered once, and its device waits until the cloud knows it.
func TestUnknownDeviceIsRegistered(t *testing.T) {
	f := newFleet(t)
	hold := make(chan struct{})
	f.office.set(func(o *office) { o.held = hold })
	c := f.ca.issue(t, string(pump))
	for range 3 {
		f.expectConnect(pump, c, "Pending")
	}
	if got := verifyOnly(f, c); got != "Pending" {
		t.Errorf("verify: %s", got)
	}
	close(hold)
	f.idle()
	if n := f.office.asked(); n != 1 {
		t.Fatalf("the registrar was asked %d times", n)
	}
	token := f.expectConnect(pump, c, "ok")
	if got := f.may(token); got != "a b" { // both groups: this is a device like others
		t.Errorf("it may publish to %q", got)
	}
	want := []messages.Kind{messages.KindDeviceRegistered, messages.KindAttachmentVerified, messages.KindSessionOpened}
	if got := f.kinds(messages.DeviceStream(pump)); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("on record: %v", got)
	}
	o := f.office.calls[0]
	if o.Authority != messages.CertificateIDOf(f.ca.cert.Raw) || string(o.AuthorityDER) != string(f.ca.cert.Raw) || string(o.DER) != string(c.der) || o.Thing != pump {
		t.Errorf("asked about %+v", o)
	}
}

func verifyOnly(f *fleet, c identity) string {
	f.t.Helper()
	answers := make(chan string, 1)
	f.access.Verify(f.t.Context(), messages.Cause{Broker: broker}, c.der, func(v messages.Verified, err error) {
		if err != nil {
			answers <- code(err)
			return
		}
		answers <- code(v)
	})
	select {
	case got := <-answers:
		return got
	case <-time.After(patience):
		f.t.Fatal("no answer")
		return ""
	}
}

// TestDenialStands: who is denied is denied without asking again, for an hour.
func TestDenialStands(t *testing.T) {
	f := newFleet(t)
	f.office.set(func(o *office) { o.denies = "it is revoked" })
	c := f.ca.issue(t, string(pump))
	f.expectConnect(pump, c, "Pending")
	f.idle()
	for range 3 {
		f.expectConnect(pump, c, "InvalidCredential")
	}
	if got := verifyOnly(f, c); got != "invalid" {
		t.Errorf("verify: %s", got)
	}
	if n := f.office.asked(); n != 1 {
		t.Errorf("the registrar was asked %d times", n)
	}
	if f.enroller.Retry(f.ca.issue(t, "another").id) || !f.enroller.Retry(c.id) {
		t.Error("not the one that is remembered is to be tried again")
	}
	f.expectConnect(pump, c, "Pending")
	f.idle()
	f.expectConnect(pump, c, "InvalidCredential")
	if n := f.office.asked(); n != 2 {
		t.Errorf("when an operator wanted it, the registrar was asked %d times", n)
	}
	f.cloudAway(true) // nor is it admitted as pending, also after a restart
	f.expectConnect(pump, c, "InvalidCredential")
	f.again(true)
	f.expectConnect(pump, c, "InvalidCredential")
	f.cloudAway(false)
	f.clock.Advance(time.Hour)
	f.expectConnect(pump, c, "Pending")
	f.idle()
	if got := f.kinds(messages.DeviceStream(pump)); countKind(got, messages.KindDeviceRegistered) != 1 {
		t.Errorf("on record: %v", got)
	}
}

func countKind(list []messages.Kind, k messages.Kind) (n int) {
	for _, one := range list {
		if one == k {
			n++
		}
	}
	return n
}

// TestRegistrarCannotTell: no answer is no denial; it is tried again, later and later.
func TestRegistrarCannotTell(t *testing.T) {
	f := newFleet(t)
	f.office.set(func(o *office) { o.fails = errors.New("ThrottlingException") })
	c := f.ca.issue(t, string(pump))
	f.expectConnect(pump, c, "Pending")
	f.idle()
	f.expectConnect(pump, c, "Pending")
	if n := f.office.asked(); n != 1 {
		t.Errorf("asked %d times at once", n)
	}
	for range 10 {
		f.clock.Advance(tryAgainMax)
		f.expectConnect(pump, c, "Pending")
		f.idle()
	}
	if n := f.office.asked(); n != 11 {
		t.Errorf("asked %d times", n)
	}
	f.office.set(func(o *office) { o.fails = nil })
	f.clock.Advance(tryAgainMax)
	f.expectConnect(pump, c, "Pending")
	f.idle()
	f.expectConnect(pump, c, "ok")
}

// TestWhoRegistersNothing: of all these the cloud hears nothing, with the link or without,
// and none is let in.
func TestWhoRegistersNothing(t *testing.T) {
	f := newFleet(t)
	rogue := newAuthority(t, "Fleet CA", noon.Add(10*365*24*time.Hour))
	leaf := f.ca.issue(t, "leaf-1")
	posing, err := x509.ParseCertificate(leaf.der)
	if err != nil {
		t.Fatal(err)
	}
	byLeaf := &authorityOf{posing, f.ca.key}
	revoked := f.ca.issue(t, "revoked-1")
	f.cloud.Register(revoked.id, "revoked-1")
	f.expectConnect("revoked-1", revoked, "ok")
	f.cloud.Revoke(revoked.id)
	held := f.ca.issue(t, "held-1")
	if got := code(f.do(messages.QuarantineDevice{Thing: "held-1", Reason: "stolen"})); got != "done" {
		t.Fatal(got)
	}
	for _, c := range []struct {
		name  string
		thing messages.ThingName
		cert  identity
	}{
		{"signed by itself", pump, certificate(t, string(pump))},
		{"a rogue authority of the same name", pump, rogue.issue(t, string(pump))},
		{"a leaf poses as an authority", pump, byLeaf.issue(t, string(pump))},
		{"an authority's own", pump, f.ca.issue(t, string(pump), func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true })},
		{"expired", pump, f.ca.issue(t, string(pump), func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Second) })},
		{"another's client id", valve, f.ca.issue(t, string(pump))},
		{"denied by a rule", "guest-1", f.ca.issue(t, "guest-1")},
		{"no thing name", pump, f.ca.issue(t, "no thing name")},
		{"the cloud took it back", "revoked-1", revoked},
		{"quarantined", "held-1", held},
	} {
		for _, away := range []bool{false, true} {
			f.cloudAway(away)
			if got, _ := f.connect(c.thing, c.cert); got != "InvalidCredential" {
				t.Errorf("%s, cloud away %t: %s", c.name, away, got)
			}
		}
		f.cloudAway(false)
	}
	f.idle()
	if n := f.office.asked(); n != 0 {
		t.Errorf("the registrar heard of %v", f.office.calls)
	}
	if held, _, _ := f.views.PendingCount(f.trust.NowMs(), nil); held != 0 {
		t.Errorf("%d are pending", held)
	}
}

// TestExpiredAuthority: what an authority that has ended signed is nobody's.
func TestExpiredAuthority(t *testing.T) {
	f := newFleet(t)
	old := newAuthority(t, "Old CA", noon.Add(time.Minute))
	authorities, err := registration.NewAuthorities([]*x509.Certificate{old.cert})
	if err != nil {
		t.Fatal(err)
	}
	f.cfg.Authorities = authorities
	f.enroll()
	c, d := old.issue(t, string(pump)), old.issue(t, string(valve))
	f.cloudAway(true)
	token := f.expectConnect(pump, c, "ok")
	f.enroller.Step() // the rules of this process have been asked
	f.clock.Advance(time.Minute + time.Millisecond)
	if got := f.may(token); got != "" {
		t.Errorf("after the end of its authority it may publish to %q", got)
	}
	f.expectConnect(valve, d, "InvalidCredential")
	f.expectConnect(pump, c, "InvalidCredential")
	f.enroller.Step()
	f.until("it is withdrawn", func() bool { return len(f.views.PendingDevices()) == 0 })
	f.cloudAway(false)
	f.expectConnect(valve, d, "InvalidCredential")
	f.idle()
	if n := f.office.asked(); n != 0 {
		t.Errorf("the registrar was asked %d times", n)
	}
}

// TestFloodOfCertificates: 10,000 certificates that an authority did sign cost what the
// quota says, of the cloud, of memory and of the log.
func TestFloodOfCertificates(t *testing.T) {
	n := 10_000
	if testing.Short() {
		n = 500
	}
	f := newFleet(t)
	f.office.set(func(o *office) { o.denies = "no" })
	certs := make([]identity, n)
	for i := range certs {
		certs[i] = f.ca.issue(t, fmt.Sprintf("flood-%d", i))
	}
	before := f.log.Head().Seq
	for _, away := range []bool{false, true} {
		f.cloudAway(away)
		for i, c := range certs {
			thing := messages.ThingName(fmt.Sprintf("flood-%d", i))
			if got, token := f.connect(thing, c); got == "ok" && f.may(token) != "b" || got != "ok" && got != "Pending" && got != "InvalidCredential" {
				t.Fatalf("%s connects: %s", thing, got)
			}
		}
	}
	f.cloudAway(false)
	f.idle()
	if asked := f.office.asked(); asked < 20 || asked > 20+10 {
		t.Errorf("the registrar was asked %d times: the quota is 20, and 10 may be pending", asked)
	}
	if held, _, _ := f.views.PendingCount(f.trust.NowMs(), nil); held > 10 {
		t.Errorf("%d are pending, 10 an hour may be", held)
	}
	f.enroller.mu.Lock()
	remembered := len(f.enroller.attempts)
	f.enroller.mu.Unlock()
	if remembered > 20 {
		t.Errorf("%d are remembered", remembered)
	}
	after := f.log.Head().Seq
	if grown := after - before; grown > 200 {
		t.Errorf("%d certificates left %d records", n, grown)
	}
}
