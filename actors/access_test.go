package actors

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// denied lists what the stream of a thing, or of strangers, says was refused.
func (r *rig) denied(stream messages.StreamID) []*messages.AccessDenied {
	r.t.Helper()
	r.atRest()
	var list []*messages.AccessDenied
	for rec, err := range r.log.Memory.Read(context.Background(), stream, 1) {
		if err != nil {
			r.t.Fatal(err)
		}
		if e, err := messages.DecodeEvent(&rec); err == nil && rec.Kind == messages.KindAccessDenied {
			list = append(list, e.(*messages.AccessDenied))
		}
	}
	return list
}

// verify asks as a broker does.
func (r *rig) verify(der []byte) (messages.Verified, error) {
	type answer struct {
		v   messages.Verified
		err error
	}
	answers := make(chan answer, 2)
	r.access.Verify(context.Background(), messages.Cause{Broker: broker}, der, func(v messages.Verified, err error) { answers <- answer{v, err} })
	select {
	case a := <-answers:
		return a.v, a.err
	case <-time.After(patience):
		r.t.Fatal("no answer")
		return messages.Verified{}, nil
	}
}

// open asks for a token as a broker does.
func (r *rig) open(clientID string, der []byte) (messages.Token, error) {
	type answer struct {
		s   messages.SessionReady
		err error
	}
	answers := make(chan answer, 2)
	r.access.Open(context.Background(), messages.Cause{Broker: broker}, clientID, der, func(s messages.SessionReady, err error) { answers <- answer{s, err} })
	select {
	case a := <-answers:
		return a.s.Token, a.err
	case <-time.After(patience):
		r.t.Fatal("no answer")
		return "", nil
	}
}

func refusalCode(err error) string {
	if r, ok := errors.AsType[*messages.Refusal](err); ok {
		return r.Code.String()
	}
	if err == nil {
		return "ok"
	}
	return err.Error()
}

// TestTheMainJob: verify, open, authorize, close; and what the log says of it.
func TestTheMainJob(t *testing.T) {
	r := newRig(t)
	r.policy()
	c := certificate(t, "pump-7")
	r.cloud.Register(c.id, pump)
	if v, err := r.verify(c.der); err != nil || !v.Valid || v.Source != messages.Source_SOURCE_CLOUD {
		t.Fatalf("verify: %+v, %v", v, err)
	}
	token, err := r.open(string(pump), c.der)
	if err != nil || !r.allowed(token) {
		t.Fatalf("open: %v", err)
	}
	closed := make(chan error, 1)
	r.access.Close(t.Context(), messages.Cause{Broker: broker}, pump, "", token.Digest(), func(err error) { closed <- err })
	if err := <-closed; err != nil || r.allowed(token) {
		t.Errorf("close: %v, allowed %v", err, r.allowed(token))
	}
	want := []messages.Kind{messages.KindAttachmentVerified, messages.KindSessionOpened, messages.KindSessionClosed}
	if got := r.kinds(messages.DeviceStream(pump)); !slices.Equal(got, want) {
		t.Errorf("the log holds %v, want %v", got, want)
	}
}

// TestRefusals: who is refused, by which code, and where it is recorded.
func TestRefusals(t *testing.T) {
	self := certificateFor(t, "self-made", noon.Add(-time.Hour), noon.Add(time.Hour))
	expired := certificateFor(t, "expired", noon.Add(-2*time.Hour), noon.Add(-time.Hour))
	strangers, own := messages.StreamStrangers, messages.DeviceStream(pump)
	for _, c := range []struct {
		name     string
		clientID string
		der      func(mine identity) []byte
		want     string
		recorded messages.StreamID
		reason   string // a part of it
	}{
		{"self-made certificate", string(pump), func(identity) []byte { return self.der }, "InvalidCredential", own, "does not vouch"},
		{"expired certificate", string(pump), func(identity) []byte { return expired.der }, "InvalidCredential", own, "validity"},
		{"another thing's client id", string(valve), func(mine identity) []byte { return mine.der }, "InvalidCredential", messages.DeviceStream(valve), "does not belong"},
		{"a client id nobody has", "nobody", func(mine identity) []byte { return mine.der }, "InvalidCredential", strangers, "does not belong"},
		{"no certificate", string(pump), func(identity) []byte { return nil }, "InvalidCredential", own, "no certificate"},
		{"malformed certificate", string(pump), func(mine identity) []byte { return mine.der[:len(mine.der)-1] }, "InvalidCredential", own, "cannot be read"},
		{"bytes after the certificate", string(pump), func(mine identity) []byte { return append(slices.Clone(mine.der), 0) }, "InvalidCredential", own, "cannot be read"},
		{"oversized certificate", string(pump), func(mine identity) []byte { return append(slices.Clone(mine.der), make([]byte, derMaxBytes)...) }, "InvalidCredential", own, "at most"},
		{"client id too long", strings.Repeat("x", 129), func(mine identity) []byte { return mine.der }, "InvalidCredential", strangers, "129 bytes"},
		{"client id with other characters", "a/b#c", func(mine identity) []byte { return mine.der }, "Service", strangers, "want a letter"},
		{"empty client id", "", func(mine identity) []byte { return mine.der }, "Service", strangers, "0 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.policy()
			mine, token := r.join(pump)
			r.join(valve)
			n := r.log.Head().Seq
			got, _ := r.connect(messages.ThingName(c.clientID), identity{der: c.der(mine)})
			if got != c.want {
				t.Errorf("refused with %s, want %s", got, c.want)
			}
			list := r.denied(c.recorded)
			if len(list) != 1 || !strings.Contains(list[0].Reason, c.reason) || list[0].Thing != c.clientID || list[0].Broker != string(broker) {
				t.Errorf("recorded %+v, want one with %q", list, c.reason)
			}
			for rec, err := range r.log.Scan(t.Context(), n+1, 1<<62) {
				if err != nil || rec.Kind != messages.KindAccessDenied && rec.Kind != messages.KindCertificateVerified {
					t.Errorf("a refusal changed something: %s (%v)", rec.Kind, err)
				}
			}
			if !r.allowed(token) {
				t.Error("the true device's session ended")
			}
		})
	}
}

// TestConnectDenied: who is who it says and may not connect gets no session; it goes on
// record, and coming again and again does not fill the disk.
func TestConnectDenied(t *testing.T) {
	r := newRig(t)
	c := certificate(t, "pump-7")
	r.cloud.Register(c.id, pump)
	for range 50 {
		if got, _ := r.connect(pump, c); got != "connect denied" {
			t.Fatalf("connect: %s", got)
		}
	}
	list := r.denied(messages.DeviceStream(pump))
	if len(list) != 1 || list[0].Operation != "mqtt:connect" || list[0].Resource != "mqtt:clientId:pump-7" || list[0].PolicyRevision != r.views.Policy().Revision() {
		t.Errorf("recorded %+v", list)
	}
	if r.views.Counts().Sessions != 0 {
		t.Error("there is a session")
	}
}

// TestVerifyOfGarbageIsAnAnswer, not an error (vectors/api-sessions-metrics, BAD CERT).
func TestVerifyOfGarbageIsAnAnswer(t *testing.T) {
	r := newRig(t)
	for _, der := range [][]byte{nil, []byte("BAD CERT"), make([]byte, 1<<20)} {
		if v, err := r.verify(der); err != nil || v.Valid {
			t.Errorf("%d bytes: %+v, %v", len(der), v, err)
		}
	}
	if len(r.cloud.Asked()) != 0 || r.sys.Live() > 1 {
		t.Errorf("garbage made %d questions and %d entities", len(r.cloud.Asked()), r.sys.Live())
	}
}

// TestStrangersLeaveNoTrace (design.md, section 4): neither entities nor events, but
// bounded denials.
func TestStrangersLeaveNoTrace(t *testing.T) {
	r := newRig(t)
	for i := range 200 {
		c := certificate(t, fmt.Sprint("stranger-", i%20))
		if got, _ := r.connect(messages.ThingName(fmt.Sprint("claimed-", i)), c); got != "InvalidCredential" {
			t.Fatalf("a stranger: %s", got)
		}
	}
	n := len(r.denied(messages.StreamStrangers))
	if uint64(n) != r.log.Head().Seq || n != denialsOfStrangers {
		t.Errorf("%d denials, %d records, want %d of both", n, r.log.Head().Seq, denialsOfStrangers)
	}
	if r.views.Counts().Things+r.views.Counts().Certificates != 0 {
		t.Errorf("counts %+v", r.views.Counts())
	}
	r.clock.Advance(time.Minute)
	r.connect("claimed-again", certificate(t, "stranger-1"))
	list := r.denied(messages.StreamStrangers)
	if last := list[len(list)-1]; last.Repeats != 200-denialsOfStrangers {
		t.Errorf("the next minute's first says %d were only counted, want %d", last.Repeats, 200-denialsOfStrangers)
	}
	if r.denials.Total() != 201 {
		t.Errorf("%d counted in all, want 201", r.denials.Total())
	}
}

// TestDenialsAreBounded: ten per device and minute, each kind once, repeats counted.
func TestDenialsAreBounded(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.join(pump)
	r.join(valve)
	note := func(thing messages.ThingName, resource string) {
		r.denials.Note(Denial{Thing: string(thing), Operation: "mqtt:publish", Resource: resource, Reason: "r"}, messages.Cause{Broker: broker})
	}
	for range 30 {
		note(pump, "same")
	}
	if list := r.denied(messages.DeviceStream(pump)); len(list) != 1 || list[0].Repeats != 0 {
		t.Errorf("the same thirty times: %d records", len(list))
	}
	for i := range 30 {
		note(pump, fmt.Sprint(i))
	}
	note(valve, "a")
	if n := len(r.denied(messages.DeviceStream(pump))); n != denialsPerThing {
		t.Errorf("%d records in a minute, want %d", n, denialsPerThing)
	}
	if n := len(r.denied(messages.DeviceStream(valve))); n != 1 {
		t.Errorf("another device has %d records, want 1", n)
	}
	r.clock.Advance(time.Minute)
	note(pump, "same")
	list, repeats := r.denied(messages.DeviceStream(pump)), uint64(0)
	for _, e := range list {
		repeats += e.Repeats
	}
	if len(list) != denialsPerThing+1 || repeats != 29+21 {
		t.Errorf("%d records say that %d were only counted, want %d and 50", len(list), repeats, denialsPerThing+1)
	}
}

// TestClip: bounded, valid UTF-8, and no longer than asked for.
func TestClip(t *testing.T) {
	for _, s := range []string{"", "abc", strings.Repeat("é", 300), strings.Repeat("\xffa", 300), strings.Repeat("\xff", 300), "abc\xf0\x9f\x98"} {
		for _, n := range []int{0, 1, 2, 3, 255, 256} {
			got := clip(s, n)
			if len(got) > n || !utf8.ValidString(got) {
				t.Errorf("clip(%.10q, %d) has %d bytes, valid %v", s, n, len(got), utf8.ValidString(got))
			}
			if utf8.ValidString(s) && len(s) <= n && got != s {
				t.Errorf("clip(%.10q, %d) = %.10q", s, n, got)
			}
		}
	}
}

func TestReadCertificateRefusesKeys(t *testing.T) {
	long := rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), rsaBitsMax+1), E: 65537} // nobody has its other half
	long.N.Add(long.N, big.NewInt(1))
	_ = certificate(t, "any") // makes the key that signs
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: noon, NotAfter: noon.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &long, identities.key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readCertificate(der); !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), "bits") {
		t.Errorf("a key of %d bits: %v", long.N.BitLen(), err)
	}
}

// FuzzReadCertificate: whatever a stranger presents is read or refused; what is read is
// named by the digest of exactly those bytes (reliability spec, S8).
func FuzzReadCertificate(f *testing.F) {
	c := certificate(f, "pump-7")
	f.Add(c.der)
	f.Add(c.der[:40])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, der []byte) {
		leaf, err := readCertificate(der)
		if err != nil {
			if !errors.Is(err, ErrCertificate) {
				t.Errorf("error %v", err)
			}
			return
		}
		got := verification(leaf)
		if got.Certificate != messages.CertificateIDOf(der) || len(der) > derMaxBytes || len(got.Subject) > subjectBytes || !utf8.ValidString(got.Subject) {
			t.Errorf("read %+v", got)
		}
	})
}

func TestSetNetwork(t *testing.T) {
	r := newRig(t)
	for _, up := range []bool{true, false, false, true} { // up is how it begins
		r.sys.SetNetwork(up)
		r.atRest()
		if r.sys.NetworkUp() != up {
			t.Errorf("network up: %v", !up)
		}
	}
	if n := len(r.kinds(messages.StreamSync)); n != 2 {
		t.Errorf("%d changes are recorded, want 2", n)
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := New(Config{Cloud: actorstest.NewCloud()}); err == nil {
		t.Error("a system without a log")
	}
}
