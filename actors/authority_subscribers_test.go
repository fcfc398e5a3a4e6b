package actors_test

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
)

// TestAddressesInCertificates: what serves follows them; they survive a restart without
// the cloud, and what cannot be put into a certificate does not keep the others out.
func TestAddressesInCertificates(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	store := keys.NewSeeded([32]byte{1})
	c := newCore(t, memory, store, ca.TypeECDSAP256)
	b := c.mustStart(t)
	client := newSubscriber(t)
	if _, err := b.authority.Subscribe(t.Context(), client.want("bridge", ca.Client)); err != nil {
		t.Fatal(err)
	}
	say := func(addresses ...string) {
		t.Helper()
		if err := b.authority.Hosts(t.Context(), "connectivity", addresses); err != nil {
			t.Fatal(err)
		}
	}
	first := b.Leaf()
	say("10.0.0.9", "not a name")
	second := b.Leaf()
	if second == first || verify(second, b.PEM(), c.clock.Wall(), x509.ExtKeyUsageServerAuth, "10.0.0.9") != nil || verify(second, b.PEM(), c.clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example") != nil {
		t.Errorf("names %v %v", second.DNSNames, second.IPAddresses)
	}
	say("10.0.0.9", "not a name")
	if b.Leaf() != second {
		t.Error("issued again though nothing changed")
	}
	if len(client.got) != 1 {
		t.Errorf("a client's certificate follows addresses: %d", len(client.got))
	}
	many := []string{"10.0.0.11"}
	for i := range 100 {
		many = append(many, strings.Repeat("x", 1024), fmt.Sprintf("h%d", i))
	}
	say(many...)
	if b.Leaf() == second || verify(b.Leaf(), b.PEM(), c.clock.Wall(), x509.ExtKeyUsageServerAuth, "10.0.0.11") != nil || len(b.authority.Describe().LeftOut) == 0 {
		t.Errorf("a list that is too long: names %v %v", b.Leaf().DNSNames, b.Leaf().IPAddresses)
	}
	second = b.Leaf()
	c.settings.RotationDisabled = true
	say("10.0.0.10")
	if b.Leaf() != second {
		t.Error("issued again though rotation is disabled")
	}
	again := newCore(t, memory, store, ca.TypeECDSAP256)
	a, err := again.start(t)
	if err != nil {
		t.Fatal(err)
	}
	h, err := a.Hold(t.Context(), "gatehouse-mqtt", ca.Server)
	if err != nil || verify(h.Leaf(), a.PEM(), noonUTC, x509.ExtKeyUsageServerAuth, "10.0.0.10") != nil {
		t.Errorf("after a restart: %v", err)
	}
}

// TestSubscriptions: vectors server-cert, triggers, with keys of one's own and keys made
// here.
func TestSubscriptions(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	a, err := c.start(t)
	if err != nil {
		t.Fatal(err)
	}
	own, made := newSubscriber(t), &subscriber{}
	var cancel func()
	for range 3 { // the same request three times: delivered three times, issued once
		if cancel, err = a.Subscribe(t.Context(), own.want("b1", ca.Server)); err != nil {
			t.Fatal(err)
		}
		if _, err := a.Subscribe(t.Context(), made.want("b2", ca.Server)); err != nil {
			t.Fatal(err)
		}
	}
	if len(own.got) != 3 || len(made.got) != 3 || len(issued(t, memory)) != 2 {
		t.Errorf("%d and %d deliveries, %d issued, want 3, 3 and 2", len(own.got), len(made.got), len(issued(t, memory)))
	}
	d, leaf := own.last(t)
	if d.Key != nil || !own.key.PublicKey.Equal(leaf.PublicKey) || len(d.Chain) != 1 || string(d.Bundle) != string(a.PEM()) {
		t.Errorf("a key of its own: %+v", d)
	}
	d, leaf = made.last(t)
	if d.Key == nil || !leaf.PublicKey.(*ecdsa.PublicKey).Equal(d.Key.Public()) {
		t.Error("a key made here does not come with its certificate")
	}
	other := newSubscriber(t)
	if _, err := a.Subscribe(t.Context(), other.want("b1", ca.Server)); err != nil || len(other.got) != 1 {
		t.Fatalf("the same name with another key: %v", err)
	}
	if _, leaf = other.last(t); !other.key.PublicKey.Equal(leaf.PublicKey) {
		t.Error("the certificate is for the key of before")
	}
	cancel() // of the subscription that was replaced: nothing ends
	if err := a.Rotate(t.Context(), "test"); err != nil || len(other.got) != 2 || len(own.got) != 3 || len(made.got) != 4 {
		t.Errorf("rotation: %v; deliveries %d, %d, %d", err, len(own.got), len(other.got), len(made.got))
	}
	both := newSubscriber(t)
	if _, err := a.Subscribe(t.Context(), both.want("b3", ca.ClientAndServer)); err != nil {
		t.Error(err)
	}
	both.key = nil
	for name, bad := range map[string]actors.Subscribe{
		"both usages without a key of its own": both.want("b4", ca.ClientAndServer),
		"an authority's":                       made.want("b4", ca.Issuing),
		"no usage":                             made.want("b4", 0),
		"nobody to deliver to":                 {Subscriber: "b4", Usage: ca.Server},
		"no name":                              made.want("", ca.Server),
		"the authority's name":                 made.want(ca.AuthorityName, ca.Server),
	} {
		if _, err := a.Subscribe(t.Context(), bad); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if n := len(a.Describe().Certificates); n != 3 {
		t.Errorf("%d certificates described, want 3", n)
	}
}

// TestUnacknowledgedIsDeliveredAgain: every minute, and on record only when the holder says
// so.
func TestUnacknowledgedIsDeliveredAgain(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	a, err := c.start(t)
	if err != nil {
		t.Fatal(err)
	}
	s := newSubscriber(t)
	s.silent = true
	if _, err := a.Subscribe(t.Context(), s.want("b1", ca.Server)); err != nil {
		t.Fatal(err)
	}
	c.clock.Advance(3 * time.Minute)
	if len(s.got) != 4 || s.got[3].Serial != s.got[0].Serial || strings.Contains(c.kinds(t), "Delivered") {
		t.Fatalf("%d deliveries; log: %s", len(s.got), c.kinds(t))
	}
	s.got[0].Acknowledge()
	s.got[1].Acknowledge()
	c.clock.Advance(3 * time.Minute)
	if len(s.got) != 4 || strings.Count(c.kinds(t), "Delivered") != 1 {
		t.Errorf("%d deliveries; log: %s", len(s.got), c.kinds(t))
	}
	if err := a.Rotate(t.Context(), "test"); err != nil {
		t.Fatal(err)
	}
	s.got[0].Acknowledge() // of the former one
	if list := a.Describe().Certificates; list[0].Delivered {
		t.Error("the word about a former certificate counts for the new one")
	}
}

// TestNoStormAtShortValidities: a minute's certificate is renewed at half of its life, and
// a failing log makes no storm, and no gap once it takes again.
func TestNoStormAtShortValidities(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	c.settings.ServerValidity = ca.ValidityMin
	b := c.mustStart(t)
	for range 600 {
		c.clock.Advance(time.Second)
		if err := verify(b.Leaf(), b.PEM(), c.clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(issued(t, memory)); n < 20 || n > 26 {
		t.Errorf("%d certificates in ten minutes, want about 20 to 25", n)
	}
	c.log.RefuseReads(errors.New("i/o error")) // the log cannot be read for a while
	c.clock.Advance(2 * time.Minute)
	c.log.RefuseReads(nil)
	c.clock.Advance(30 * time.Second)
	if err := verify(b.Leaf(), b.PEM(), c.clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
		t.Errorf("after the log could not be read: %v", err)
	}
	before := len(c.log.Batches())
	c.log.Refuse(eventlog.ErrFull)
	c.clock.Advance(time.Hour)
	if n := len(c.log.Batches()) - before; n > 3600/5 {
		t.Errorf("%d tries in an hour", n)
	}
	c.log.Refuse(nil)
	c.clock.Advance(30 * time.Second)
	if err := verify(b.Leaf(), b.PEM(), c.clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
		t.Error(err)
	}
}

// TestNothingIssuesUnpublished: a new authority whose publication fails does not issue; the
// one that is published goes on.
func TestNothingIssuesUnpublished(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	o := newOperator(t)
	c.config.Custom = o
	var published []byte
	fails := false
	c.config.Publish = func(bundle []byte) error {
		if fails {
			return errors.New("disk full")
		}
		published = bundle
		return nil
	}
	b := c.mustStart(t)
	fails = true
	c.settings.Custom = keys.URIs{Certificate: "file:///c", PrivateKey: "file:///k"}
	for range 3 * 24 {
		c.clock.Advance(time.Hour)
		if err := verify(b.Leaf(), published, c.clock.Wall(), x509.ExtKeyUsageServerAuth, "localhost"); err != nil {
			t.Fatal(err)
		}
	}
	fails = false
	c.clock.Advance(time.Hour)
	if b.Leaf().Issuer.CommonName != "operator 1" || verify(b.Leaf(), published, c.clock.Wall(), x509.ExtKeyUsageServerAuth, "localhost") != nil {
		t.Errorf("issued by %s", b.Leaf().Issuer)
	}
}
