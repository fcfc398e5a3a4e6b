package actors_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
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

// subscriber is a broker somewhere else, which keeps what it is given.
type subscriber struct {
	key    *ecdsa.PrivateKey // its own; nil: it is given one
	silent bool              // it does not acknowledge
	got    []actors.Delivery
}

func newSubscriber(t testing.TB) *subscriber {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &subscriber{key: key}
}

func (s *subscriber) want(name string, usage ca.Usage) actors.Subscribe {
	w := actors.Subscribe{Subscriber: name, Usage: usage, Deliver: func(d actors.Delivery) {
		s.got = append(s.got, d)
		if !s.silent {
			d.Acknowledge()
		}
	}}
	if s.key != nil {
		w.PublicKey = s.key.Public()
	}
	return w
}

func (s *subscriber) last(t testing.TB) (actors.Delivery, *x509.Certificate) {
	t.Helper()
	if len(s.got) == 0 {
		t.Fatal("nothing was delivered")
	}
	d := s.got[len(s.got)-1]
	leaf, err := x509.ParseCertificate(d.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	return d, leaf
}

// verify checks the certificate as a client that trusts bundle does.
func verify(leaf *x509.Certificate, bundle []byte, at time.Time, usage x509.ExtKeyUsage, name string) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: at, DNSName: name, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

// issued lists serial numbers in the order of CertificateIssued, after checking that each
// was ordered before and none twice (reliability spec C-I2).
func issued(t *testing.T, memory *eventlog.Memory) []string {
	t.Helper()
	ordered, seen := map[string]bool{}, map[string]bool{}
	var serials []string
	for rec, err := range memory.Read(t.Context(), messages.StreamCA, 1) {
		if err != nil {
			t.Fatal(err)
		}
		e, err := messages.DecodeEvent(&rec)
		if err != nil {
			t.Fatal(err)
		}
		switch e := e.(type) {
		case *messages.CertificateOrdered:
			ordered[e.Serial] = true
		case *messages.CertificateIssued:
			if !ordered[e.Serial] || seen[e.Serial] {
				t.Errorf("serial %s: ordered %t, issued before %t", e.Serial, ordered[e.Serial], seen[e.Serial])
			}
			seen[e.Serial] = true
			serials = append(serials, e.Serial)
		}
	}
	return serials
}

// TestAuthorityOfflineForAYear: nothing needs the cloud. Certificates rotate, the
// authority, which is nearly five years old, renews itself, the former one goes; at every
// moment what is held chains to what is published, and was published when it was handed over.
func TestAuthorityOfflineForAYear(t *testing.T) {
	days := 365
	if testing.Short() {
		days = 40
	}
	t.Run("no cloud", func(t *testing.T) { offline(t, nil, days) })
	t.Run("a cloud that never answers", func(t *testing.T) { offline(t, make(patient, 100), 40) }) // the change of authorities is in them
}

func offline(t *testing.T, cloud actors.Uploader, days int) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	clock := actorstest.NewClock(noonUTC)
	store := keys.NewSeeded([32]byte{1})
	young := newCoreAt(t, clock, memory, store, ca.TypeECDSAP256)
	a, err := young.start(t)
	if err != nil {
		t.Fatal(err)
	}
	first := a.PEM()
	a.Close()
	clock.Advance((5*365 - 100) * 24 * time.Hour) // the machine was used without this

	c := newCoreAt(t, clock, memory, store, ca.TypeECDSAP256)
	c.sys.SetNetwork(false)
	c.config.Uploader = cloud
	var published []byte
	c.config.Publish = func(bundle []byte) error { published = bundle; return nil }
	if a, err = c.start(t); err != nil {
		t.Fatal(err)
	}
	if err := a.Hosts(t.Context(), "file", []string{"gate.example"}); err != nil {
		t.Fatal(err)
	}
	h, err := a.Hold(t.Context(), "gatehouse-mqtt", ca.Server)
	if err != nil {
		t.Fatal(err)
	}
	bridge := newSubscriber(t)
	if _, err := a.Subscribe(t.Context(), bridge.want("aws.Bridge", ca.Client)); err != nil {
		t.Fatal(err)
	}
	bundles := map[string]bool{string(published): true}
	for hour := 0; hour < days*24; hour += 3 {
		clock.Advance(3 * time.Hour)
		bundles[string(published)] = true
		now := clock.Wall()
		_, client := bridge.last(t)
		if err := verify(h.Leaf(), published, now, x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
			t.Fatalf("hour %d: server: %v", hour, err)
		}
		if err := verify(client, published, now, x509.ExtKeyUsageClientAuth, ""); err != nil {
			t.Fatalf("hour %d: client: %v", hour, err)
		}
		// Reliability spec L5: a rotation ends before a tenth of the life is left.
		if life := h.Leaf().NotAfter.Sub(h.Leaf().NotBefore); h.Leaf().NotAfter.Sub(now) < life/10 {
			t.Fatalf("hour %d: only %v are left of %v", hour, h.Leaf().NotAfter.Sub(now), life)
		}
	}
	if bytes.Contains(published, first) || len(bundles) != 3 {
		t.Errorf("%d bundles, want the old one, both, the new one", len(bundles))
	}
	kinds := c.kinds(t)
	if created, retired := strings.Count(kinds, "AuthorityCreated"), strings.Count(kinds, "AuthorityRetired"); created != 2 || retired != 1 {
		t.Errorf("%d authorities made, %d retired, want 2 and 1", created, retired)
	}
	// A week's certificate every six days, a day's twice a day.
	if n, want := len(issued(t, memory)), days/6+2*days; n < want-5 || n > want+10 {
		t.Errorf("%d certificates, want about %d", n, want)
	}
}

// TestAuthorityChanges: of the type of a managed authority, to a custom one, and back: the
// former is trusted as long as anything it signed.
func TestAuthorityChanges(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	store := keys.NewSeeded([32]byte{1})
	c := newCore(t, memory, store, ca.TypeECDSAP256)
	custom := newOperator(t)
	c.config.Custom = custom
	var published []byte
	c.config.Publish = func(bundle []byte) error { published = bundle; return nil }
	b := c.mustStart(t)
	look := func(d time.Duration) {
		t.Helper()
		for end := c.clock.Wall().Add(d); c.clock.Wall().Before(end); {
			c.clock.Advance(time.Hour)
			if err := verify(b.Leaf(), published, c.clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
				t.Fatalf("at %s: %v", c.clock.Wall(), err)
			}
		}
	}
	issuer := func() string {
		for _, info := range b.authority.Describe().Authorities {
			if info.Issues {
				return info.Type + info.CertificateURI
			}
		}
		return "none"
	}
	now := func() int { return len(b.authority.Describe().Authorities) }
	first := b.PEM()
	if issuer() != ca.TypeECDSAP256 {
		t.Fatalf("issues: %s", issuer())
	}

	c.settings.Type = ca.TypeRSA2048
	look(time.Hour)
	if issuer() != ca.TypeECDSAP256 || now() != 2 || !bytes.HasPrefix(published, first) {
		t.Errorf("the successor is published and does not issue at once: %s issues, %d authorities", issuer(), now())
	}
	look(7 * 24 * time.Hour)
	if issuer() != ca.TypeRSA2048 || now() != 2 {
		t.Errorf("a week later: %s issues, %d authorities", issuer(), now())
	}
	look(11 * 24 * time.Hour)
	if now() != 1 {
		t.Errorf("when all has ended that the former signed: %d authorities", now())
	}

	third := b.PEM()
	c.settings.Type = ca.TypeECDSAP256 // a change of mind, twice, before the other has issued
	c.clock.Advance(5 * time.Minute)
	c.settings.Type = ca.TypeRSA2048
	look(time.Hour)
	if issuer() != ca.TypeRSA2048 || now() != 1 || string(b.PEM()) != string(third) {
		t.Errorf("after a change of mind: %s issues, %d authorities", issuer(), now())
	}

	c.settings.Custom = keys.URIs{Certificate: "file:///custom.pem", PrivateKey: "file:///custom.key"}
	second := b.PEM()
	look(time.Hour)
	if issuer() != "file:///custom.pem" || now() != 2 || !bytes.HasPrefix(published, second) {
		t.Errorf("an operator's own: %s issues, %d authorities", issuer(), now())
	}
	if got := b.Leaf().Issuer.CommonName; got != "operator 1" {
		t.Errorf("the broker's certificate is by %s", got)
	}
	before := c.kinds(t)
	look(6 * time.Hour)
	if got := c.kinds(t); got != before {
		t.Errorf("something happens though nothing changed: %s", strings.TrimPrefix(got, before))
	}

	c.settings.Custom = keys.URIs{}
	look(time.Hour)
	if issuer() != ca.TypeRSA2048 || now() != 2 || !bytes.Contains(published, second) {
		t.Errorf("back to the managed one that devices know: %s issues, %d authorities", issuer(), now())
	}
	look(12 * 24 * time.Hour)
	if now() != 1 || string(b.PEM()) != string(second) {
		t.Errorf("at last the same as before the operator's: %d authorities", now())
	}
	c.settings.Custom = keys.URIs{Certificate: "file:///custom.pem", PrivateKey: "file:///custom.key"}
	look(30 * 24 * time.Hour)
	c.settings.Custom = keys.URIs{}
	look(30 * 24 * time.Hour)
	if now() != 1 || string(b.PEM()) != string(second) {
		t.Errorf("also when it was retired meanwhile: %d authorities", now())
	}
}

// operator is an authority of one's own, made by common means.
type operator struct {
	t      testing.TB
	n      int
	opened *keys.Opened
	err    error
}

func newOperator(t testing.TB) *operator {
	o := &operator{t: t}
	o.change(func(*x509.Certificate) {})
	return o
}

// change makes another authority.
func (o *operator) change(change func(*x509.Certificate)) *operator {
	o.t.Helper()
	o.n++
	template := customTemplate(fmt.Sprintf("operator %d", o.n))
	change(template)
	o.opened, o.err = selfSigned(o.t, template), nil
	return o
}

func (o *operator) Open(context.Context, keys.URIs) (*keys.Opened, error) { return o.opened, o.err }

// TestBadCustomAuthorityIsNotUsed: what was in force stays in force, once on record, and
// the good one that comes is taken.
func TestBadCustomAuthorityIsNotUsed(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	o := newOperator(t)
	c.config.Custom = o
	c.settings.Custom = keys.URIs{Certificate: "pkcs11:object=a?pin-value=1234", PrivateKey: "pkcs11:object=a?pin-value=1234"}
	b := c.mustStart(t)
	good := b.PEM()
	if b.Leaf().Issuer.CommonName != "operator 1" {
		t.Fatalf("issued by %s", b.Leaf().Issuer)
	}
	other := newOperator(t).opened.Signer
	for _, bad := range []struct {
		name string
		make func()
		want string
	}{
		{"no such file", func() { o.err = fmt.Errorf("%w: /a is not there", keys.ErrMissing) }, "is not there"},
		{"another's key", func() { o.change(func(*x509.Certificate) {}); o.opened.Signer = other }, "is not that of the issuing certificate"},
		{"no authority", func() { o.change(func(c *x509.Certificate) { c.IsCA = false }) }, "is no authority"},
		{"one that may not sign", func() { o.change(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }) }, "keyUsage"},
		{"one that has ended", func() { o.change(func(c *x509.Certificate) { c.NotAfter = noonUTC }) }, "has ended"},
		{"one that has not begun", func() { o.change(func(c *x509.Certificate) { c.NotBefore = c.NotAfter.Add(-time.Hour) }) }, "has not come"},
		{"a key that does not sign", func() { o.change(func(*x509.Certificate) {}); o.opened.Signer = mute{o.opened.Signer} }, "does not sign"},
	} {
		t.Run(bad.name, func(t *testing.T) {
			before := c.kinds(t)
			bad.make()
			c.clock.Advance(10 * time.Minute)
			if got := strings.TrimSpace(strings.TrimPrefix(c.kinds(t), before)); got != "AuthorityRejected" {
				t.Errorf("on record: %s", got)
			}
			if status := b.authority.Describe(); !strings.Contains(status.Refused, bad.want) {
				t.Errorf("refused: %q, want %q", status.Refused, bad.want)
			}
			if string(b.PEM()) != string(good) {
				t.Error("what was in force is not any more")
			}
			if err := b.authority.Rotate(t.Context(), "test"); err != nil {
				t.Errorf("the one in force does not go on: %v", err)
			}
		})
	}
	o.change(func(own *x509.Certificate) { own.NotAfter = c.clock.Wall().Add(90 * time.Second) })
	c.clock.Advance(time.Minute)
	if got := b.authority.Describe().Refused; !strings.Contains(got, "too soon") {
		t.Errorf("one that ends in a moment: %q", got)
	}
	o.change(func(*x509.Certificate) {})
	c.clock.Advance(30 * time.Minute)
	if got := b.Leaf().Issuer.CommonName; got != fmt.Sprintf("operator %d", o.n) || b.authority.Describe().Refused != "" {
		t.Errorf("the good one is not in use: issued by %s", got)
	}
	for rec, err := range memory.Read(t.Context(), messages.StreamCA, 1) {
		if err != nil || bytes.Contains(rec.Body, []byte("1234")) {
			t.Errorf("record %d holds the PIN (%v)", rec.Seq, err)
		}
	}
}

// mute is a key in a token that does not let it be used.
type mute struct{ crypto.Signer }

// TestCustomAuthorityAtTheStart: one that cannot be used refuses the start with what to do,
// unless one that was in force before can go on.
func TestCustomAuthorityAtTheStart(t *testing.T) {
	uris := keys.URIs{Certificate: "file:///custom.pem", PrivateKey: "file:///custom.key"}
	store := keys.NewSeeded([32]byte{1})
	begin := func(memory *eventlog.Memory, o *operator, uris keys.URIs) (*actors.Authority, error) {
		c := newCore(t, memory, store, ca.TypeECDSAP256)
		c.config.Custom, c.settings.Custom = o, uris
		return c.start(t)
	}
	bad := newOperator(t)
	bad.err = fmt.Errorf("certificateUri: %w: /custom.pem is not there", keys.ErrMissing)

	fresh := eventlog.NewMemory(actorstest.Options(nil))
	if _, err := begin(fresh, bad, uris); err == nil || !strings.Contains(err.Error(), "/custom.pem is not there") {
		t.Errorf("nothing before: %v", err)
	}
	managed := eventlog.NewMemory(actorstest.Options(nil))
	a, err := begin(managed, bad, keys.URIs{})
	if err != nil {
		t.Fatal(err)
	}
	before := a.PEM()
	if a, err = begin(managed, bad, uris); err != nil || string(a.PEM()) != string(before) {
		t.Errorf("a managed one before: %v", err)
	}
	good := newOperator(t)
	own := eventlog.NewMemory(actorstest.Options(nil))
	if _, err = begin(own, good, uris); err != nil {
		t.Fatal(err)
	}
	if _, err = begin(own, bad, uris); err == nil || !strings.Contains(err.Error(), "/custom.pem is not there") {
		t.Errorf("its key is not there any more, and nothing else can sign: %v", err)
	}
	if a, err = begin(own, good, uris); err != nil || len(a.Describe().Authorities) != 1 {
		t.Errorf("it is there again: %v", err)
	}
	// Another custom one in its place: the former's key is gone, the new one issues at once.
	if a, err = begin(own, newOperator(t), uris); err != nil {
		t.Fatal(err)
	}
	if h, err := a.Hold(t.Context(), "b", ca.Server); err != nil || verify(h.Leaf(), a.PEM(), noonUTC, x509.ExtKeyUsageServerAuth, "localhost") != nil {
		t.Errorf("exchanged while it was stopped: %v", err)
	}
}

// uploader is the way to the cloud.
type uploader struct {
	mu    sync.Mutex
	err   error
	tries chan []byte
}

func (u *uploader) Upload(_ context.Context, text []byte, taken func([]byte) error) error {
	u.mu.Lock()
	err := u.err
	u.mu.Unlock()
	u.tries <- text
	for rest := text; err == nil && len(rest) > 0; {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		err = taken(block.Bytes)
	}
	return err
}

func (u *uploader) fail(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.err = err
}

// TestAuthorityIsUploaded: at each start and at each change, in the background, until it
// succeeds; a successor issues ten minutes after the cloud has it.
func TestAuthorityIsUploaded(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	u := &uploader{tries: make(chan []byte, 100)}
	u.fail(errors.New("throttled"))
	c.config.Uploader = u
	next := func() []byte {
		t.Helper()
		select {
		case pem := <-u.tries:
			return pem
		case <-time.After(10 * time.Second):
			t.Fatal("no upload")
			return nil
		}
	}
	b := c.mustStart(t) // nothing waits for the cloud
	if pem := next(); string(pem) != string(b.PEM()) {
		t.Errorf("uploaded %s", pem)
	}
	u.fail(nil)
	eventually(t, "the upload is on record", func() bool {
		c.clock.Advance(time.Minute) // it is tried again at each look
		return b.authority.Describe().Authorities[0].Uploaded
	})
	for len(u.tries) > 0 {
		next()
	}
	c.clock.Advance(time.Hour)
	if len(u.tries) != 0 {
		t.Error("uploaded again though nothing changed")
	}
	c.change(func(s *actors.AuthoritySettings) { s.Type = ca.TypeRSA2048 })
	c.clock.Advance(time.Minute)
	if pem := next(); strings.Count(string(pem), "BEGIN") != 2 {
		t.Errorf("uploaded %s", pem)
	}
	eventually(t, "the successor's upload is on record", func() bool { return b.authority.Describe().Authorities[1].Uploaded })
	if b.authority.Describe().Authorities[1].Issues {
		t.Error("it issues at once")
	}
	c.clock.Advance(11 * time.Minute)
	if !b.authority.Describe().Authorities[1].Issues {
		t.Error("it does not issue")
	}
	if list := b.authority.Describe().Certificates; list[0].Reason != ca.ReasonAuthority {
		t.Errorf("certificates %+v", list)
	}
}

// patient is a way to a cloud that is away.
type patient chan []byte

func (p patient) Upload(ctx context.Context, pem []byte, _ func([]byte) error) error {
	p <- pem
	<-ctx.Done()
	return ctx.Err()
}

// TestUploadIsSuperseded: what waits for the cloud gives way to what is newer, and to the
// end.
func TestUploadIsSuperseded(t *testing.T) {
	c := newCore(t, eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	u := make(patient, 10)
	c.config.Uploader = u
	b := c.mustStart(t)
	if first := <-u; string(first) != string(b.PEM()) {
		t.Errorf("uploaded %s", first)
	}
	c.clock.Advance(time.Hour) // looks that find nothing new
	c.change(func(s *actors.AuthoritySettings) { s.Type = ca.TypeRSA2048 })
	c.clock.Advance(time.Minute)
	if second := <-u; string(second) != string(b.PEM()) || strings.Count(string(second), "BEGIN") != 2 {
		t.Errorf("uploaded %s", second)
	}
	b.authority.Close() // waits for its end
	if len(u) != 0 {
		t.Errorf("uploaded %s", <-u)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

// TestOperatorsOrders: replace by plan, sooner on an operator's word.
func TestOperatorsOrders(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	c := newCore(t, memory, keys.NewSeeded([32]byte{1}), ca.TypeECDSAP256)
	b := c.mustStart(t)
	if err := b.authority.Replace(t.Context(), "the key may be known"); err != nil {
		t.Fatal(err)
	}
	list := b.authority.Describe().Authorities
	if len(list) != 2 || list[1].Issues || list[1].Announced {
		t.Fatalf("authorities %+v", list)
	}
	if err := b.authority.Announced(t.Context(), "admin"); err != nil {
		t.Fatal(err)
	}
	c.clock.Advance(11 * time.Minute)
	if list = b.authority.Describe().Authorities; !list[1].Issues || string(b.Leaf().AuthorityKeyId) == "" {
		t.Errorf("authorities %+v", list)
	}
	if err := verify(b.Leaf(), b.PEM(), c.clock.Wall(), x509.ExtKeyUsageServerAuth, "gate.example"); err != nil {
		t.Error(err)
	}
	c.config.Custom, c.settings.Custom = newOperator(t), keys.URIs{Certificate: "file:///c", PrivateKey: "file:///k"}
	if err := b.authority.Replace(t.Context(), "x"); err == nil {
		t.Error("an operator's own is replaced by a managed one")
	}
}
