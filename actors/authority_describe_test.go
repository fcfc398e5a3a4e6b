package actors_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestDescribe: people see what is in force, in overlap, and what comes; and of a stopped
// daemon's log the same but for what only a running one knows.
func TestDescribe(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	b := c.mustStart(t)
	silent := newSubscriber(t)
	silent.silent = true
	if _, err := b.authority.Subscribe(t.Context(), silent.want("b1", ca.Server)); err != nil {
		t.Fatal(err)
	}
	if err := b.authority.Replace(t.Context(), ca.ReasonOperator+"the key may be known"); err != nil {
		t.Fatal(err)
	}
	s := b.authority.Describe()
	if len(s.Authorities) != 2 || len(s.Certificates) != 2 || len(s.Failing) != 0 {
		t.Fatalf("%+v", s)
	}
	first, second := s.Authorities[0], s.Authorities[1]
	if first.Key != "EC P-256" || first.Reason != ca.ReasonFirst || !first.Issues || !first.Published || len(first.Serial) != 40 {
		t.Errorf("the first: %+v", first)
	}
	if second.Issues || !second.Published || second.Announced || second.Reason != "operator: the key may be known" {
		t.Errorf("the second: %+v", second)
	}
	week := noonUTC.Add(7 * 24 * time.Hour)
	if n := s.Coming[0]; n.What != ca.TurnIssues || n.Authority != second.ID || !n.At.Equal(week) {
		t.Errorf("next %+v", n)
	}
	for _, one := range s.Certificates {
		if one.Delivered != (one.Subscriber == "gatehouse-mqtt") || !one.Subscribed || !one.IssuedAt.Equal(noonUTC) || one.Next != ca.ReasonRotation || !one.Rotation.Equal(ca.RenewAt(one.NotBefore, one.NotAfter)) {
			t.Errorf("%+v", one)
		}
	}
	if s.Issued[ca.ReasonFirst] != 2 || s.Issued["operator"] != 0 {
		t.Errorf("issued %v", s.Issued)
	}

	stored, err := actors.StoredAuthorities(c.log.Read(t.Context(), messages.StreamCA, 1), c.settings, c.clock.Wall(), b.PEM())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(stored.PEM(), b.PEM()) {
		t.Error("the bundle of the log is another")
	}
	live, err := b.authority.View().Issuing()
	issuing, wrong := stored.Issuing()
	if err != nil || wrong != nil || !bytes.Equal(live, issuing) || !bytes.HasPrefix(b.PEM(), issuing) {
		t.Errorf("issuing %v, %v:\n%s\n%s", err, wrong, live, issuing)
	}
	r := stored.Describe()
	if len(r.Authorities) != 2 || r.Authorities[0] != first || r.Authorities[1] != second || r.Coming[0] != s.Coming[0] {
		t.Errorf("stored %+v", r)
	}
	if one := r.Certificates[1]; one.Subscribed || !one.Rotation.IsZero() || one.Serial != s.Certificates[1].Serial {
		t.Errorf("stored %+v", one)
	}
}

// TestDescribeWaitsForNothing: a token that does not answer holds up the plan, and nobody
// who looks.
func TestDescribeWaitsForNothing(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	hanging := &hangs{asked: make(chan struct{}), answer: make(chan struct{})}
	c.config.Custom = hanging
	b := c.mustStart(t)
	c.settings.Custom = keys.URIs{Certificate: "pkcs11:a", PrivateKey: "pkcs11:b"}
	b.authority.Wake()
	<-hanging.asked
	if s := b.authority.Describe(); len(s.Authorities) != 1 || !s.Authorities[0].Issues {
		t.Errorf("%+v", s)
	}
	close(hanging.answer)
	eventually(t, "why it is refused is shown", func() bool { return strings.Contains(b.authority.Describe().Refused, "token does not answer") })
	if s := b.authority.Describe(); !s.Authorities[0].Issues || s.Authorities[0].KeyMissing {
		t.Errorf("what was in force is not: %+v", s)
	}
}

// hangs is a token that answers when it is told to.
type hangs struct{ asked, answer chan struct{} }

func (h *hangs) Open(context.Context, keys.URIs) (*keys.Opened, error) {
	select {
	case h.asked <- struct{}{}:
	default:
	}
	<-h.answer
	return nil, errors.New("the token does not answer")
}

// TestFailingPassesShow: since when, and no longer when they succeed.
func TestFailingPassesShow(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	var full error
	c.config.Publish = func([]byte) error { return full }
	b := c.mustStart(t)
	full = errors.New("no space left")
	if err := b.authority.Replace(t.Context(), "x"); err == nil {
		t.Error("replaced though it cannot be published")
	}
	c.clock.Advance(10 * time.Minute)
	s := b.authority.Describe()
	if len(s.Failing) == 0 || !strings.Contains(s.Failing[0], "no space left") || !s.Since.Equal(noonUTC) || s.Authorities[1].Published || !s.Authorities[0].Published {
		t.Errorf("%+v", s)
	}
	full = nil
	c.clock.Advance(time.Minute)
	if s = b.authority.Describe(); len(s.Failing) != 0 || !s.Since.IsZero() || !s.Authorities[1].Published {
		t.Errorf("%+v", s)
	}
}

// TestRotateByName: the named subscribers alone; a wrong name rotates nobody.
func TestRotateByName(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	b := c.mustStart(t)
	other := newSubscriber(t)
	if _, err := b.authority.Subscribe(t.Context(), other.want("b1", ca.Server)); err != nil {
		t.Fatal(err)
	}
	before := b.Leaf()
	if err := b.authority.Rotate(t.Context(), "operator: x", "b1", "nobody"); !errors.Is(err, actors.ErrUnknownSubscriber) || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("a wrong name: %v", err)
	}
	if len(other.got) != 1 || len(issued(t, memory)) != 2 {
		t.Error("somebody was rotated")
	}
	if err := b.authority.Rotate(t.Context(), "operator: x", "b1"); err != nil || len(other.got) != 2 || b.Leaf() != before {
		t.Errorf("%v, %d deliveries, the other rotated: %t", err, len(other.got), b.Leaf() != before)
	}
	if s := b.authority.Describe(); s.Issued["operator"] != 1 {
		t.Errorf("issued %v", s.Issued)
	}
}

// TestIssueComponentBesideASubscriber: who subscribes to client certificates gets them by
// itself; a second one would look like its own.
func TestIssueComponentBesideASubscriber(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	b := c.mustStart(t)
	own, free := newSubscriber(t), newSubscriber(t)
	if _, err := b.authority.Subscribe(t.Context(), own.want("aws.Bridge", ca.Client)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.authority.IssueComponent(t.Context(), "aws.Bridge", free.key.Public(), time.Hour, "x"); !errors.Is(err, actors.ErrSubscriber) {
		t.Errorf("beside a subscriber: %v", err)
	}
	one, err := b.authority.IssueComponent(t.Context(), "aws.Other", free.key.Public(), time.Hour, "operator: new bridge")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(one.Certificate)
	if err != nil || verify(leaf, b.PEM(), c.clock.Wall(), x509.ExtKeyUsageClientAuth, "") != nil || len(one.Chain) != 1 || !one.NotAfter.Equal(leaf.NotAfter) {
		t.Errorf("%v: %+v", err, one)
	}
	for _, info := range b.authority.Describe().Certificates {
		if info.Serial == one.Serial && (info.Reason != "operator: new bridge" || !info.Delivered || info.Subscribed) {
			t.Errorf("%+v", info)
		}
	}
}

// TestNoNewAuthorityWithoutATime: its life would begin nobody knows when. Nothing is made,
// and what is in force goes on.
func TestNoNewAuthorityWithoutATime(t *testing.T) {
	memory, store := eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1})
	first := newCore(t, memory, store, ca.TypeECDSAP256)
	first.mustStart(t).authority.Close()
	c := newCoreAt(t, first.clock, memory, store, ca.TypeECDSAP256)
	c.clock.SetSynced(false)
	ms := noonUTC.UnixMilli()
	c.trust = actors.NewTrustClock(c.clock, actors.Anchor{TrustMs: ms, WallMs: ms, MarkTrustMs: ms, MarkWallMs: ms, BootID: "another boot"})
	if c.trust.State() == actors.ClockCertain {
		t.Fatal("the time is known")
	}
	sys, err := actors.New(actors.Config{Log: c.log, Views: c.views, Cloud: actorstest.NewCloud(), Clock: c.trust})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sys.Close(context.WithoutCancel(t.Context())) })
	c.config.System = sys
	b := c.mustStart(t)
	before := c.kinds(t)
	if err := b.authority.Replace(t.Context(), "x"); !errors.Is(err, actors.ErrTimeUnknown) {
		t.Errorf("replaced: %v", err)
	}
	if after := c.kinds(t); after != before || !b.authority.Describe().Authorities[0].Issues {
		t.Errorf("the log had %s and has %s", before, after)
	}
}
