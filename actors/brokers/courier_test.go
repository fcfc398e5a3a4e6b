package brokers_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// TestCertificatesBySigningRequest: the whole life: first, the same again, rotation, new
// addresses, a new authority, each pushed, acknowledged by asking, and verified as a device does.
func TestCertificatesBySigningRequest(t *testing.T) {
	p := newPost(t, "a")
	a, key := p.broker("a"), newKey(t)
	first := a.ask(key, "")
	if first.AskAgainSeconds == 0 || first.AskAgainSeconds > 150 {
		t.Errorf("ask again after %d s, in a lease of 600", first.AskAgainSeconds)
	}
	a.silent()
	if p.kinds(messages.KindCertificateDelivered) != 0 {
		t.Error("delivered, though the broker has not said so")
	}
	if again := a.ask(key, first.SerialNumber); again.SerialNumber != first.SerialNumber {
		t.Error("the same request got another certificate")
	}
	p.delivered(first.SerialNumber)
	held := first.SerialNumber
	for name, change := range map[string]func() error{
		"rotation": func() error { return p.authority.Rotate(t.Context(), "test") },
		"addresses": func() error {
			return p.authority.Hosts(t.Context(), "configuration", []string{"gate.example", "10.1.2.3"})
		},
	} {
		must(t, change())
		push := a.push()
		p.verify(push.CertificateUpdate, "a", key.Public())
		if push.SerialNumber == held || push.Epoch != "run1" {
			t.Errorf("%s: pushed %+v", name, push)
		}
		held = a.ask(key, push.SerialNumber).SerialNumber
		p.delivered(held)
	}

	must(t, p.authority.Replace(t.Context(), "test"))
	both := a.push() // the same certificate, and a second authority to trust
	if both.SerialNumber != held || len(both.TrustBundle) != 2 || len(both.CACertificates) != 1 {
		t.Errorf("a new authority: pushed %+v", both)
	}
	must(t, p.authority.Announced(t.Context(), "test"))
	for range 5 { // a lease is ten minutes, and so is the least time before it issues
		p.clock.Advance(150 * time.Second)
		a.ask(key, held)
	}
	next := a.push()
	p.verify(next.CertificateUpdate, "a", key.Public())
	if next.SerialNumber == held || next.CACertificates[0] != both.TrustBundle[1] || len(next.TrustBundle) != 2 {
		t.Errorf("by the new authority: pushed %+v", next)
	}
	if got, want := p.courier.Counts().Issued, uint64(p.kinds(messages.KindCertificateIssued)); got != want {
		t.Errorf("counted %d issued, the log has %d", got, want)
	}
}

// TestLostPushHeals: who missed a push gets the certificate when it asks; until it says that
// it has it, it is pushed again each minute.
func TestLostPushHeals(t *testing.T) {
	p := newPost(t, "a")
	a, key := p.broker("a"), newKey(t)
	held := a.ask(key, "").SerialNumber
	a.ask(key, held)
	p.delivered(held)
	must(t, p.authority.Rotate(t.Context(), "test"))
	lost := a.push()
	if got := a.ask(key, held); got.SerialNumber != lost.SerialNumber {
		t.Errorf("asked with the former one, got %s, want %s", got.SerialNumber, lost.SerialNumber)
	}
	p.clock.Advance(61 * time.Second)
	if again := a.push(); again.SerialNumber != lost.SerialNumber || again.Seq <= lost.Seq {
		t.Errorf("pushed again: %+v", again)
	}
	a.ask(key, lost.SerialNumber)
	p.delivered(lost.SerialNumber)
	p.clock.Advance(3 * time.Minute)
	a.silent()
	if c := p.courier.Counts(); c.Subscribed != 1 || c.Issued != 2 || c.Pushed != 2 || c.Acknowledged != 2 {
		t.Errorf("counts %+v", c)
	}
}

// TestAcknowledgementIsTriedAgain: one that could not be put on record is, with the next.
func TestAcknowledgementIsTriedAgain(t *testing.T) {
	p := newPost(t, "a")
	a, key := p.broker("a"), newKey(t)
	held := a.ask(key, "").SerialNumber
	p.log.Refuse(eventlog.ErrFull)
	a.ask(key, held)
	p.eventually("the acknowledgement was refused", func() bool {
		return strings.Contains(string(p.out.Bytes()), "delivery of a certificate is not recorded")
	})
	p.log.Refuse(nil)
	p.clock.Advance(61 * time.Second)
	if push := a.push(); push.SerialNumber != held {
		t.Errorf("pushed %+v", push)
	}
	a.ask(key, held)
	p.delivered(held)
}

func (p *post) eventually(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("never: %s", what)
		}
	}
}

// TestLease: who does not ask is no subscriber after ten minutes, and nothing is issued for
// it; asking prolongs, and begins again with the certificate it had.
func TestLease(t *testing.T) {
	p := newPost(t, "a")
	a, key := p.broker("a"), newKey(t)
	held := a.ask(key, "").SerialNumber
	a.ask(key, held)
	p.delivered(held)
	for range 4 {
		p.clock.Advance(9 * time.Minute)
		a.ask(key, held)
	}
	must(t, p.authority.Rotate(t.Context(), "test"))
	held = a.push().SerialNumber
	a.ask(key, held)
	p.delivered(held)
	p.clock.Advance(10 * time.Minute)
	must(t, p.authority.Rotate(t.Context(), "test"))
	a.silent()
	if n := p.kinds(messages.KindCertificateIssued); n != 2 {
		t.Errorf("%d certificates issued, want 2: nobody asks", n)
	}
	if got := a.ask(key, held); got.SerialNumber != held {
		t.Error("a new certificate though the one it has is good")
	}
	if c := p.courier.Counts(); c.Lapsed != 1 || c.Subscribed != 2 {
		t.Errorf("counts %+v", c)
	}
}

// TestDaemonRestart: after it a broker is a subscriber again with its next question, with the
// certificate it has; a key that was made here is gone, so that one is replaced.
func TestDaemonRestart(t *testing.T) {
	p := newPost(t, "a", "b")
	a, key := p.broker("a"), newKey(t)
	held := a.ask(key, "").SerialNumber
	a.ask(key, held)
	p.delivered(held)
	b, curve := p.broker("b"), newCurve(t)
	made := b.seal(curve, "")
	p.restart()
	must(t, p.authority.Rotate(t.Context(), "test"))
	a.silent()
	if got := a.ask(key, held); got.SerialNumber != held {
		t.Error("another certificate after a restart")
	}
	if got := b.seal(curve, made.SerialNumber); got.SerialNumber == made.SerialNumber {
		t.Error("the same certificate, whose key is gone")
	}
	must(t, p.authority.Rotate(t.Context(), "test"))
	if push := a.push(); push.Epoch != "run2" || push.SerialNumber == held {
		t.Errorf("pushed %+v", push)
	}
}

func newCurve(t testing.TB) nkeys.KeyPair {
	t.Helper()
	pair, err := nkeys.CreateCurveKeys()
	must(t, err)
	return pair
}

func public(t testing.TB, pair nkeys.KeyPair) string {
	t.Helper()
	text, err := pair.PublicKey()
	must(t, err)
	return text
}

// seal asks for a certificate with a key made by the daemon, and checks what it gets.
func (m *mail) seal(curve nkeys.KeyPair, held string) authapi.CertificatesReply {
	m.p.t.Helper()
	a, refusal := m.try(authapi.CertificatesRequest{
		CertificateOptions: authapi.CertificateOptions{CertificateType: authapi.CertificateServer}, SealTo: public(m.p.t, curve), Held: held,
	})
	if refusal != nil {
		m.p.t.Fatal(refusal)
	}
	m.p.verify(a.CertificateUpdate, string(m.name), m.p.open(a.CertificateUpdate, curve).Public())
	return a
}

// open opens the sealed key.
func (p *post) open(u authapi.CertificateUpdate, curve nkeys.KeyPair) *ecdsa.PrivateKey {
	p.t.Helper()
	box, err := base64.StdEncoding.DecodeString(u.SealedPrivateKey)
	must(p.t, err)
	text, err := curve.Open(box, u.SealedBy)
	must(p.t, err)
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		p.t.Fatal("the sealed key is not PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	must(p.t, err)
	return key.(*ecdsa.PrivateKey)
}

// TestNoPrivateKeyOnTheWire: of keys made by brokers and of keys made here nobody who hears
// all of NATS, reads the core's log or its events, learns a byte.
func TestNoPrivateKeyOnTheWire(t *testing.T) {
	p := newPost(t, "a", "b")
	a, key := p.broker("a"), newKey(t)
	b, curve := p.broker("b"), newCurve(t)
	secret := []*ecdsa.PrivateKey{key}
	first := a.ask(key, "")
	reply := b.seal(curve, "")
	secret = append(secret, p.open(reply.CertificateUpdate, curve))
	must(t, p.authority.Rotate(t.Context(), "test"))
	a.push()
	push := b.push()
	if push.SealedBy == reply.SealedBy {
		t.Error("sealed twice by the same key")
	}
	secret = append(secret, p.open(push.CertificateUpdate, curve))
	other := newCurve(t) // the same certificate, sealed to another curve key
	if again := b.seal(other, push.SerialNumber); again.SerialNumber != push.SerialNumber {
		t.Error("another curve key cost a certificate")
	}
	p.stop()

	var all bytes.Buffer
	p.mu.Lock()
	for _, m := range p.heard {
		fmt.Fprintf(&all, "%s %s %v\n%s\n", m.Subject, m.Reply, m.Header, m.Data)
	}
	p.mu.Unlock()
	for _, needle := range []string{first.SerialNumber, push.SerialNumber, push.SealedBy} {
		if !bytes.Contains(all.Bytes(), []byte(needle)) {
			t.Fatalf("the tap did not hear %s", needle)
		}
	}
	all.Write(p.out.Bytes())
	for rec, err := range p.memory.Read(t.Context(), messages.StreamCA, 1) {
		must(t, err)
		all.Write(rec.Body)
	}
	seed, err := curve.Seed()
	must(t, err)
	if bytes.Contains(all.Bytes(), seed) {
		t.Error("the curve key's seed is on the wire")
	}
	decoded := undo64(all.Bytes())
	for i, key := range secret {
		for _, needle := range forms(t, key) {
			if bytes.Contains(all.Bytes(), needle) || bytes.Contains(decoded, needle) {
				t.Errorf("private key %d is on the wire", i)
			}
		}
	}
}

// forms are those in which a private key could show.
func forms(t testing.TB, key *ecdsa.PrivateKey) [][]byte {
	t.Helper()
	raw, err := key.Bytes()
	must(t, err)
	list := [][]byte{raw, []byte(hex.EncodeToString(raw)), []byte(new(big.Int).SetBytes(raw).String()), fmt.Append(nil, raw)}
	for cut := range 3 {
		list = append(list, []byte(base64.StdEncoding.EncodeToString(raw[cut:]))[:36])
	}
	return list
}

// undo64 decodes every run of base64 in text.
func undo64(text []byte) (out []byte) {
	for run := range strings.FieldsFuncSeq(strings.ReplaceAll(string(text), `\n`, ""), func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", r)
	}) {
		b, _ := base64.RawStdEncoding.DecodeString(run)
		out = append(out, b...)
	}
	return out
}

// TestCertificatesAreTheBrokersAlone: no broker asks in another's name, hears its pushes, or
// gets its certificate by having the answer sent elsewhere.
func TestCertificatesAreTheBrokersAlone(t *testing.T) {
	p := newPost(t, "a", "b")
	a, b, key := p.broker("a"), p.broker("b"), newKey(t)
	refused := make(chan error, 8)
	b.nc.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	for _, subject := range []string{authapi.PushSubjects("a"), authapi.InboxPrefix("a") + ".>", authapi.Subject("a", authapi.OpCertificates)} {
		if _, err := b.nc.Subscribe(subject, func(m *nats.Msg) { t.Errorf("b heard %s", m.Subject) }); err != nil {
			t.Fatal(err)
		}
		if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("%s: %v", subject, err)
		}
	}
	body, err := json.Marshal(server1(t, newKey(t), ""))
	must(t, err)
	must(t, b.nc.PublishRequest(authapi.Subject("a", authapi.OpCertificates), "_INBOX_b.x", body))
	if err := <-refused; !errors.Is(err, nats.ErrPermissionViolation) {
		t.Errorf("b asks as a: %v", err)
	}
	must(t, b.nc.PublishRequest(authapi.Subject("b", authapi.OpCertificates), "_INBOX_a.x", body)) // dropped
	held := a.ask(key, "")
	must(t, p.authority.Rotate(t.Context(), "test"))
	a.push()
	b.silent()
	if n := p.kinds(messages.KindCertificateIssued); n != 2 {
		t.Errorf("%d certificates issued, want the two of a", n)
	}
	if got := b.ask(newKey(t), held.SerialNumber); got.SerialNumber == held.SerialNumber {
		t.Error("b got the certificate of a")
	}
	p.clock.Advance(time.Minute)
	if c := p.courier.Counts(); c.Acknowledged != 0 {
		t.Errorf("b acknowledged the certificate of a: %+v", c)
	}
}

// TestNewKeysAreRationed: a fresh signing request each second gets Busy with the time to wait,
// not a thousand certificates; other brokers feel nothing, and the one held goes on.
func TestNewKeysAreRationed(t *testing.T) {
	p := newPost(t, "a", "b")
	a, b := p.broker("a"), p.broker("b")
	var last authapi.CertificatesReply
	key := newKey(t)
	busy := 0
	for range 300 {
		fresh := newKey(t)
		got, refusal := a.try(server1(t, fresh, ""))
		switch {
		case refusal == nil:
			key, last = fresh, got
		case refusal.Code != messages.RefusedBusy || refusal.RetryAfter <= 0 || refusal.RetryAfter > time.Minute:
			t.Fatalf("got %v, retry after %s", refusal, refusal.RetryAfter)
		default:
			busy++
		}
		p.clock.Advance(time.Second)
	}
	if n := p.kinds(messages.KindCertificateIssued); n > 15 || n < 14 || busy != 300-n {
		t.Errorf("%d issued and %d Busy in five minutes, want ten and one a minute", n, busy)
	}
	if got := a.ask(key, last.SerialNumber); got.SerialNumber != last.SerialNumber {
		t.Error("the key that counts has another certificate")
	}
	b.ask(newKey(t), "")
	var refusal *messages.Refusal
	for range 3 { // at most one minute's worth is left
		if _, refusal = a.try(server1(t, newKey(t), "")); refusal != nil {
			break
		}
	}
	if refusal == nil {
		t.Fatal("never Busy")
	}
	p.clock.Advance(refusal.RetryAfter)
	a.ask(newKey(t), "")
}

// TestRequestsThatCannotBeUsed are refused before anything is issued.
func TestRequestsThatCannotBeUsed(t *testing.T) {
	p := newPost(t, "a", "embedded")
	a := p.broker("a")
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	must(t, err)
	signed := csr(t, newKey(t))
	block, _ := pem.Decode([]byte(signed))
	block.Bytes[len(block.Bytes)-5] ^= 1
	broken := string(pem.EncodeToMemory(block))
	_, strange, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	with := func(request string) authapi.CertificatesRequest {
		q := server1(t, newKey(t), "")
		q.CertificateSigningRequest = request
		return q
	}
	sealed := func(to string) authapi.CertificatesRequest {
		q := with("")
		q.SealTo = to
		return q
	}
	curve := public(t, newCurve(t))
	for name, q := range map[string]authapi.CertificatesRequest{
		"wrong signature":   with(broken),
		"RSA 1024":          with(csr(t, weak)),
		"garbage":           with("hello"),
		"a certificate":     with(strings.ReplaceAll(signed, "CERTIFICATE REQUEST", "CERTIFICATE")),
		"two":               with(signed + signed),
		"cut":               with(signed[:len(signed)/2]),
		"long":              with(strings.Repeat("x", authapi.MaxCertificateBytes+1)),
		"a curve key's sum": sealed(curve[:50] + "AAAAAA"),
		"low order":         sealed(curveText(make([]byte, 32))),
		"both":              {CertificateOptions: authapi.CertificateOptions{CertificateType: authapi.CertificateServer}, CertificateSigningRequest: signed, SealTo: curve},
	} {
		if _, refusal := a.try(q); refusal == nil || refusal.Code != messages.RefusedInvalidArguments || refusal.Reason == "" {
			t.Errorf("%s: got %v", name, refusal)
		}
	}
	if _, refusal := p.broker("embedded").try(with(signed)); refusal == nil || refusal.Code != messages.RefusedUnauthorized {
		t.Errorf("the daemon's own name: %v", refusal)
	}
	if err := a.nc.PublishRequest(authapi.Subject("a", authapi.OpCertificates), "_INBOX_a.x", bytes.Repeat([]byte("x"), 1<<20)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("1 MiB: %v", err)
	}
	if n := p.kinds(messages.KindCertificateOrdered); n != 0 {
		t.Errorf("%d certificates ordered", n)
	}
	var other crypto.Signer = strange // Ed25519 is a key like others
	if _, refusal := a.try(with(csr(t, other))); refusal != nil {
		t.Error(refusal)
	}
}

// curveText writes raw as a public nkeys curve key.
func curveText(raw []byte) string {
	b := append([]byte{byte(nkeys.PrefixByteCurve)}, raw...)
	crc := uint16(0) // CRC-16/XMODEM, as nkeys has it
	for _, c := range b {
		crc ^= uint16(c) << 8
		for range 8 {
			top := crc & 0x8000
			crc <<= 1
			if top != 0 {
				crc ^= 0x1021
			}
		}
	}
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(binary.LittleEndian.AppendUint16(b, crc))
}

// TestTypesAreGranted: what makes an internal component is Unauthorized unless granted, and
// ends when that is taken back.
func TestTypesAreGranted(t *testing.T) {
	p := newPost(t, "a")
	a, key := p.broker("a"), newKey(t)
	ask := func(usage authapi.CertificateType) (authapi.CertificatesReply, *messages.Refusal) {
		q := server1(t, key, "")
		q.CertificateOptions.CertificateType = usage
		return a.try(q)
	}
	for _, usage := range []authapi.CertificateType{authapi.CertificateClient, authapi.CertificateClientAndServer} {
		if _, refusal := ask(usage); refusal == nil || refusal.Code != messages.RefusedUnauthorized {
			t.Errorf("%s: %v", usage, refusal)
		}
	}
	p.grant(authapi.CertificateClient, true)
	got, refusal := ask(authapi.CertificateClient)
	if refusal != nil {
		t.Fatal(refusal)
	}
	leaf := leafOf(t, got.Certificate)
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageClientAuth || leaf.Subject.CommonName != "a" || len(leaf.DNSNames) != 0 {
		t.Errorf("a client's certificate: %v %v %v", leaf.Subject, leaf.ExtKeyUsage, leaf.DNSNames)
	}
	a.ask(key, "") // both at once
	must(t, p.authority.Rotate(t.Context(), "test"))
	if x, y := a.push(), a.push(); x.CertificateType == y.CertificateType {
		t.Errorf("pushed %s and %s", x.CertificateType, y.CertificateType)
	}
	p.grant(authapi.CertificateClient, false)
	p.courier.Review("a")
	must(t, p.authority.Rotate(t.Context(), "test"))
	if push := a.push(); push.CertificateType != authapi.CertificateServer {
		t.Errorf("pushed %s after it was taken back", push.CertificateType)
	}
	a.silent()
	p.grant(authapi.CertificateClientAndServer, true)
	if got, refusal = ask(authapi.CertificateClientAndServer); refusal != nil || len(leafOf(t, got.Certificate).ExtKeyUsage) != 2 {
		t.Errorf("both: %v", refusal)
	}
	q := server1(t, key, "")
	q.CertificateOptions.CertificateType, q.CertificateSigningRequest, q.SealTo = authapi.CertificateClientAndServer, "", public(t, newCurve(t))
	if _, refusal = a.try(q); refusal == nil || refusal.Code != messages.RefusedInvalidArguments {
		t.Errorf("both with a key made here: %v", refusal)
	}
}

func (p *post) grant(usage authapi.CertificateType, yes bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.more[usage] = yes
}

// TestRemovedBroker: nothing is issued for it any more, also not what was under way.
func TestRemovedBroker(t *testing.T) {
	p := newPost(t, "a")
	a, key := p.broker("a"), newKey(t)
	a.ask(key, "")
	p.courier.Forget("a")
	must(t, p.authority.Rotate(t.Context(), "test"))
	a.silent()
	if n := p.kinds(messages.KindCertificateIssued); n != 1 {
		t.Errorf("%d issued", n)
	}

	p.log.Hold() // the next order waits for the disk
	done := make(chan *messages.Refusal)
	q := server1(t, newKey(t), "")
	go func() {
		_, refusal := a.try(q)
		done <- refusal
	}()
	p.eventually("a certificate is ordered", func() bool { return p.log.Holds(messages.KindCertificateOrdered) })
	p.courier.Forget("a")
	p.log.Release()
	if refusal := <-done; refusal == nil || refusal.Code != messages.RefusedUnauthorized {
		t.Errorf("under way: %v", refusal)
	}
	before := p.kinds(messages.KindCertificateIssued)
	must(t, p.authority.Rotate(t.Context(), "test"))
	if n := p.kinds(messages.KindCertificateIssued); n != before {
		t.Errorf("%d issued for a removed broker", n-before)
	}
}

// TestQuestionsAtOnce: many brokers, each with many questions, all at once: each gets one
// certificate, whatever else is Busy.
func TestQuestionsAtOnce(t *testing.T) {
	names := make([]messages.BrokerID, 12)
	for i := range names {
		names[i] = messages.BrokerID(fmt.Sprintf("b%d", i))
	}
	p := newPost(t, names...)
	done := make(chan error, len(names)*8)
	for _, name := range names {
		m := p.broker(name)
		q := server1(t, newKey(t), "")
		body, err := json.Marshal(q)
		must(t, err)
		for range 8 {
			go func() {
				for {
					msg, err := m.nc.Request(authapi.Subject(m.name, authapi.OpCertificates), body, patience)
					if err != nil {
						done <- err
						return
					}
					switch msg.Header.Get(authapi.HeaderError) {
					case "":
						done <- nil
						return
					case "Busy":
					default:
						done <- errors.New(msg.Header.Get(authapi.HeaderError))
						return
					}
				}
			}()
		}
	}
	for range len(names) * 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := p.kinds(messages.KindCertificateIssued); n != len(names) {
		t.Errorf("%d certificates for %d brokers", n, len(names))
	}
}
