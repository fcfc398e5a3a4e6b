package actors_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestReadersBesideAcknowledgements: who looks at the authorities reads a state that nobody
// changes, while many holders acknowledge. It is the race detector's to judge.
func TestReadersBesideAcknowledgements(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	b := c.mustStart(t)
	var acknowledge []func()
	for i := range 40 {
		w := newSubscriber(t).want(fmt.Sprintf("b%d", i), ca.Server)
		w.Deliver = func(d actors.Delivery) { acknowledge = append(acknowledge, d.Acknowledge) }
		if _, err := b.authority.Subscribe(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		done := make(chan struct{})
		var writers, reader sync.WaitGroup
		reader.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					b.authority.PEM()
				}
			}
		})
		for _, a := range acknowledge {
			writers.Go(a)
		}
		writers.Wait()
		close(done)
		reader.Wait()
		acknowledge = nil
		if err := b.authority.Rotate(t.Context(), "again"); err != nil {
			t.Fatal(err)
		}
	}
	for _, info := range b.authority.Describe().Certificates[1:] { // the first is the embedded broker's
		if info.Delivered {
			t.Errorf("%s: the last is delivered, though nobody said so", info.Subscriber)
		}
	}
}

// TestViewWaitsForNoRead: a disk that does not answer holds up the plan, and nobody who
// looks.
func TestViewWaitsForNoRead(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	b := c.mustStart(t)
	reads, gate := make(chan struct{}, 1), make(chan struct{})
	c.log.OnRead(func(stream messages.StreamID) {
		if stream == messages.StreamCA {
			reads <- struct{}{}
			<-gate
		}
	})
	b.authority.Wake()
	<-reads
	seen := make(chan actors.AuthorityStatus, 1)
	go func() { seen <- b.authority.Describe() }()
	select {
	case s := <-seen:
		if len(s.Authorities) != 1 || !s.Authorities[0].Issues {
			t.Errorf("%+v", s)
		}
	case <-time.After(10 * time.Second):
		t.Error("it waits for the log")
	}
	c.log.OnRead(nil)
	close(gate)
}

// TestRootAfterIntermediate: an authority whose certificate has been in another's chain is
// as well published as any other, and issues.
func TestRootAfterIntermediate(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	root := newOperator(t).opened
	above, err := x509.ParseCertificate(root.Issuing)
	if err != nil {
		t.Fatal(err)
	}
	key := newSubscriber(t).key
	der, err := x509.CreateCertificate(nil, customTemplate("intermediate"), above, key.Public(), root.Signer)
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{t: t, opened: &keys.Opened{Issuing: der, Others: [][]byte{root.Issuing}, Signer: key}}
	c.config.Custom, c.settings.Custom = o, keys.URIs{Certificate: "file:///a", PrivateKey: "file:///b"}
	times := 0
	c.config.Publish = func([]byte) error { times++; return nil }
	b := c.mustStart(t)
	o.opened = root
	c.clock.Advance(30 * time.Minute)
	s := b.authority.Describe()
	if len(s.Authorities) != 2 || !s.Authorities[1].Published || !s.Authorities[1].Issues || len(s.Failing) != 0 {
		t.Errorf("authorities %+v, failing %v", s.Authorities, s.Failing)
	}
	if got := b.Leaf().Issuer.CommonName; got != above.Subject.CommonName {
		t.Errorf("issued by %s", got)
	}
	if times != 1 {
		t.Errorf("published %d times, and it never changed", times)
	}
}

// TestRetiredAndTakenUpAgain: a managed authority that left the bundle waits to issue as
// any new one does: who fetched the bundle since does not trust it (reliability spec C-I1).
func TestRetiredAndTakenUpAgain(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	c.config.Custom = newOperator(t)
	var published []byte
	c.config.Publish = func(bundle []byte) error { published = bytes.Clone(bundle); return nil }
	b := c.mustStart(t)
	managed := bytes.Clone(published)
	hours := func(n int) {
		for range n {
			c.clock.Advance(time.Hour)
		}
	}
	c.settings.Custom = keys.URIs{Certificate: "file:///a", PrivateKey: "file:///b"}
	hours(60 * 24)
	known := published // to a device that learns of the authorities now
	if bytes.Contains(known, managed) {
		t.Fatal("the managed authority is not retired")
	}
	c.settings.Custom = keys.URIs{}
	hours(6 * 24)
	if !bytes.Contains(published, managed) {
		t.Fatal("it is not taken up again")
	}
	if err := verify(b.Leaf(), known, c.clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
		t.Errorf("a device that got the bundle before: %v", err)
	}
	if list := b.authority.Describe().Authorities; list[1].Announced || list[1].Issues {
		t.Errorf("authorities %+v", list)
	}
	if err := b.authority.Announced(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	hours(1)
	if list := b.authority.Describe().Authorities; !list[1].Announced || !list[1].Issues {
		t.Errorf("announced: %+v", list)
	}
	if err := verify(b.Leaf(), managed, c.clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
		t.Error(err)
	}
}

// flaky is a token that is away now and then.
type flaky struct {
	crypto.Signer
	away bool
	n    int // questions
}

func (f *flaky) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	f.n++
	if f.away {
		return nil, errors.New("the token is away")
	}
	return f.Signer.Sign(random, digest, o)
}

// TestTokenAway: a key that does not sign fills no log, is asked once for all subscribers,
// ever more rarely, and signs for all when it is back.
func TestTokenAway(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	o := newOperator(t)
	token := &flaky{Signer: o.opened.Signer}
	o.opened.Signer = token
	c.config.Custom, c.settings.Custom = o, keys.URIs{Certificate: "file:///a", PrivateKey: "file:///b"}
	b := c.mustStart(t)
	for i := range 9 {
		if _, err := b.authority.Subscribe(t.Context(), newSubscriber(t).want(fmt.Sprintf("b%d", i), ca.Server)); err != nil {
			t.Fatal(err)
		}
	}
	ordered := func() int { return strings.Count(c.kinds(t), "CertificateOrdered") }
	orders, before := ordered(), len(issued(t, memory))
	token.away, token.n = true, 0
	if err := b.authority.Rotate(t.Context(), "test"); err == nil || strings.Count(err.Error(), "the token is away") != 1 {
		t.Errorf("rotated: %v", err)
	}
	for range 60 {
		c.clock.Advance(time.Minute)
	}
	if n := ordered() - orders; n != 1 {
		t.Errorf("%d orders in an hour, want 1", n)
	}
	if token.n < 60/6 || token.n > 60/5+5 {
		t.Errorf("asked %d times in an hour", token.n)
	}
	if s := b.authority.Describe(); len(s.Failing) != 1 || !strings.Contains(s.Failing[0], "the token is away") {
		t.Errorf("failing %q", s.Failing)
	}
	asked := token.n
	_, err := b.authority.Subscribe(t.Context(), newSubscriber(t).want("late", ca.Server))
	if err == nil || !strings.Contains(err.Error(), "asked again in") || token.n != asked {
		t.Errorf("a new one: %v", err)
	}
	token.away = false
	c.clock.Advance(6 * time.Minute)
	if n, s := len(issued(t, memory))-before, b.authority.Describe(); n != 10 || len(s.Failing) != 0 {
		t.Errorf("when it is back: %d certificates, failing %q", n, s.Failing)
	}
	token.away = true
	_ = b.authority.Rotate(t.Context(), "test")
	token.away = false
	if err := b.authority.Rotate(t.Context(), "test"); err != nil {
		t.Errorf("an operator need not wait: %v", err)
	}
}

// TestCallerGivesUp: nothing goes on record for who waits no more, and it is no failure of
// the authority's. What was asked for is done at the next look.
func TestCallerGivesUp(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	o := newOperator(t)
	c.config.Custom, c.settings.Custom = o, keys.URIs{Certificate: "file:///a", PrivateKey: "file:///b"}
	b := c.mustStart(t)
	for i := range 20 {
		if _, err := b.authority.Subscribe(t.Context(), newSubscriber(t).want(fmt.Sprintf("b%d", i), ca.Server)); err != nil {
			t.Fatal(err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	before, certificates := c.kinds(t), len(issued(t, memory))
	if _, err := b.authority.Subscribe(ended, newSubscriber(t).want("late", ca.Server)); !errors.Is(err, context.Canceled) {
		t.Errorf("subscribed: %v", err)
	}
	if err := b.authority.Rotate(ended, "test"); !errors.Is(err, context.Canceled) {
		t.Errorf("rotated: %v", err)
	}
	if got := c.kinds(t); got != before {
		t.Errorf("on record: %s", strings.TrimPrefix(got, before))
	}
	if s := b.authority.Describe(); len(s.Failing) != 0 || s.Refused != "" {
		t.Errorf("failing %q, refused %q", s.Failing, s.Refused)
	}
	c.clock.Advance(time.Minute)
	if n := len(issued(t, memory)) - certificates; n != 21 {
		t.Errorf("%d certificates at the next look, want 21", n)
	}
}

// TestReplaceOneByOne: while a successor waits to issue there is no other, so that orders in
// a row leave room for the one that must come.
func TestReplaceOneByOne(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	b := c.mustStart(t)
	if err := b.authority.Replace(t.Context(), "the key may be known"); err != nil {
		t.Fatal(err)
	}
	for range 9 {
		err := b.authority.Replace(t.Context(), "again")
		if !errors.Is(err, actors.ErrWaiting) || !strings.Contains(err.Error(), "gatehouse ca announced") {
			t.Fatalf("replaced though one waits: %v", err)
		}
	}
	c.settings.Type = ca.TypeRSA2048 // what must be made has room
	c.clock.Advance(time.Minute)
	if list := b.authority.Describe().Authorities; len(list) != 3 || list[2].Type != ca.TypeRSA2048 {
		t.Fatalf("authorities %+v", list)
	}
	if err := b.authority.Announced(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	c.clock.Advance(11 * time.Minute)
	if err := b.authority.Replace(t.Context(), "the next"); err != nil {
		t.Errorf("when it issues: %v", err)
	}
}

// TestRejectionEnds: what says on record that an authority cannot be used is followed by
// what says that it can, the same or another; the next rejection is on record again.
func TestRejectionEnds(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	o := newOperator(t)
	c.config.Custom, c.settings.Custom = o, keys.URIs{Certificate: "file:///a", PrivateKey: "file:///b"}
	b := c.mustStart(t)
	stored := func() string {
		t.Helper()
		v, err := actors.StoredAuthorities(memory.Read(t.Context(), messages.StreamCA, 1), c.settings, c.clock.Wall(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return v.Describe().Refused
	}
	good := o.opened
	for i, next := range []*keys.Opened{good, newOperator(t).opened} {
		o.err = errors.New("it is not there")
		c.clock.Advance(2 * time.Minute)
		if live := b.authority.Describe().Refused; live != "it is not there" || stored() != live {
			t.Errorf("refused %q, after a stop %q", live, stored())
		}
		o.err, o.opened = nil, next
		c.clock.Advance(2 * time.Minute)
		before := c.kinds(t)
		if live := b.authority.Describe().Refused; live != "" || stored() != "" {
			t.Errorf("when it is there: refused %q, after a stop %q", live, stored())
		}
		if n := strings.Count(before, "AuthorityRejected"); n != i+1 {
			t.Errorf("%d rejections on record, want %d", n, i+1)
		}
		if n := strings.Count(before, "AuthorityImported"); n != i+2 {
			t.Errorf("%d imports on record, want %d", n, i+2)
		}
		c.clock.Advance(5 * time.Minute)
		if got := c.kinds(t); strings.Count(got, "Authority") != strings.Count(before, "Authority") {
			t.Errorf("on record, though nothing changed: %s", strings.TrimPrefix(got, before))
		}
	}
}
