package actors_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"os"
	"path/filepath"
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
	"github.com/gatehouse-edge/gatehouse/projections"
)

// core is a running system on a log that outlives it.
type core struct {
	clock    *actorstest.Clock
	trust    *actors.TrustClock
	log      *actorstest.Log
	views    *projections.Views
	sys      *actors.System
	settings actors.AuthoritySettings // changed by the test between two passes, or by change
	config   actors.AuthorityConfig

	mu sync.Mutex // held by change, and while a pass reads settings
}

// change changes the settings while a pass may be under way, as one is after an upload.
func (c *core) change(change func(*actors.AuthoritySettings)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.settings)
}

var noonUTC = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func newCore(t *testing.T, memory *eventlog.Memory, store keys.Keys, caType string) *core {
	t.Helper()
	return newCoreAt(t, actorstest.NewClock(noonUTC), memory, store, caType)
}

func newCoreAt(t *testing.T, clock *actorstest.Clock, memory *eventlog.Memory, store keys.Keys, caType string) *core {
	t.Helper()
	c := &core{clock: clock, log: actorstest.WrapLog(memory), views: projections.New(nil)}
	c.trust = actors.NewTrustClock(c.clock, actors.Anchor{})
	sys, err := actors.New(actors.Config{
		Log: c.log, Views: c.views, Cloud: actorstest.NewCloud(), Clock: c.trust,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.log.Release()
		if err := sys.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	c.sys = sys
	c.settings = actors.AuthoritySettings{Type: caType, ServerValidity: 7 * 24 * time.Hour, ClientValidity: 24 * time.Hour}
	c.config = actors.AuthorityConfig{
		System: sys, Keys: store, Clock: c.clock, Settings: func() actors.AuthoritySettings {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.settings
		},
	}
	return c
}

func (c *core) start(t *testing.T) (*actors.Authority, error) {
	a, err := actors.StartAuthority(t.Context(), c.config)
	if err == nil {
		t.Cleanup(a.Close)
	}
	return a, err
}

// broker is the embedded broker's certificate with the authority that issues it.
type brokerHeld struct {
	*actors.Held
	authority *actors.Authority
}

func (b brokerHeld) PEM() []byte { return b.authority.PEM() }

func (c *core) mustStart(t *testing.T) brokerHeld {
	t.Helper()
	a, err := c.start(t)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Hosts(t.Context(), "configuration", []string{"gate.example", "192.0.2.7"}); err != nil {
		t.Fatal(err)
	}
	h, err := a.Hold(t.Context(), "gatehouse-mqtt", ca.Server)
	if err != nil {
		t.Fatal(err)
	}
	return brokerHeld{h, a}
}

func (c *core) kinds(t *testing.T) string {
	t.Helper()
	var kinds []string
	for rec, err := range c.log.Read(t.Context(), messages.StreamCA, 1) {
		if err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, rec.Kind.String())
	}
	return strings.Join(kinds, " ")
}

func keyStore(t *testing.T) (*keys.Store, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	store, err := keys.Open(dir, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store, dir
}

// TestAuthorityIssuesAndRotates: the certificate verifies against the published
// authority by every name, before and after a rotation; each step is in the log first.
func TestAuthorityIssuesAndRotates(t *testing.T) {
	for caType, isKey := range map[string]func(any) bool{
		ca.TypeECDSAP256: func(k any) bool { _, ok := k.(*ecdsa.PublicKey); return ok },
		ca.TypeRSA2048:   func(k any) bool { _, ok := k.(*rsa.PublicKey); return ok },
	} {
		t.Run(caType, func(t *testing.T) {
			memory := eventlog.NewMemory(actorstest.Options(nil))
			store, _ := keyStore(t)
			c := newCore(t, memory, store, caType)
			a := c.mustStart(t)
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(a.PEM()) {
				t.Fatal("no authority is published")
			}
			verify := func() {
				t.Helper()
				for _, name := range []string{"gate.example", "192.0.2.7", "localhost"} {
					if _, err := a.Leaf().Verify(x509.VerifyOptions{DNSName: name, Roots: pool, CurrentTime: c.clock.Wall()}); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
			verify()
			authority, err := ca.ParseAuthorityPEM(a.PEM())
			if err != nil || !isKey(authority.Certificate().PublicKey) {
				t.Errorf("authority %v: %v", authority, err)
			}
			first := a.Leaf()
			c.clock.Advance(6*24*time.Hour + time.Minute)
			verify()
			if a.Leaf().SerialNumber.Cmp(first.SerialNumber) == 0 {
				t.Error("the serial number is the same")
			}
			const issue = " CertificateOrdered CertificateIssued CertificateDelivered"
			if got, want := c.kinds(t), "AuthorityCreated HostAddressesChanged"+issue+issue; got != want {
				t.Errorf("log: %s\nwant %s", got, want)
			}
		})
	}
}

// TestAuthorityRenewsByItself: 24 hours before the end of seven days.
func TestAuthorityRenewsByItself(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	store, _ := keyStore(t)
	c := newCore(t, memory, store, ca.TypeECDSAP256)
	a := c.mustStart(t)
	first := a.Leaf()
	c.clock.Advance(6*24*time.Hour - time.Hour)
	if a.Leaf() != first {
		t.Error("renewed too early")
	}
	renewed := make(chan struct{})
	c.config.System.Submit(t.Context(), messages.MarkClock{Mark: &messages.ClockMarked{}}, messages.Cause{}, func(messages.Reply) { close(renewed) })
	<-renewed
	c.clock.Advance(2 * time.Hour)
	deadline := time.After(10 * time.Second)
	for a.Leaf() == first {
		select {
		case <-deadline:
			t.Fatal("not renewed")
		case <-time.After(time.Millisecond): // the renewal runs on the clock's goroutine
		}
	}
	if left := a.Leaf().NotAfter.Sub(c.clock.Wall()); left < 6*24*time.Hour {
		t.Errorf("the new certificate lives %v", left)
	}
}

// TestAuthorityFollowsTheClock: the machine was off for days and started with its clock
// behind; the certificate is dated by that clock. Set right, it renews within a minute,
// and goes on with one timer, also after a renewal that failed.
func TestAuthorityFollowsTheClock(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	store, _ := keyStore(t)
	c := newCore(t, memory, store, ca.TypeECDSAP256)
	a := c.mustStart(t)
	first := a.Leaf()
	c.clock.SetWall(c.clock.Wall().Add(6*24*time.Hour + time.Hour))
	c.clock.SetSynced(true)
	c.trust.Step()
	c.log.Refuse(eventlog.ErrFull)
	c.clock.Advance(lookWithin)
	if a.Leaf() != first {
		t.Fatal("a certificate that the log did not take is in use")
	}
	c.log.Refuse(nil)
	c.clock.Advance(lookWithin)
	if a.Leaf() == first {
		t.Error("not renewed")
	}
	if n := c.clock.Timers(); n != 1 {
		t.Errorf("%d timers, want 1", n)
	}
}

// lookWithin is how soon a renewal that is due must come.
const lookWithin = time.Minute

// TestAuthoritySurvivesRestart: the same authority issues, and a lost or exchanged key
// refuses the start instead of making a new authority (reliability spec, C-I4).
func TestAuthoritySurvivesRestart(t *testing.T) {
	memory := eventlog.NewMemory(actorstest.Options(nil))
	store, dir := keyStore(t)
	before := newCore(t, memory, store, ca.TypeECDSAP256).mustStart(t)
	again := newCore(t, memory, store, ca.TypeECDSAP256).mustStart(t)
	if string(before.PEM()) != string(again.PEM()) {
		t.Error("another authority after the restart")
	}
	files, err := filepath.Glob(filepath.Join(dir, "ca-*.key"))
	if err != nil || len(files) != 1 {
		t.Fatalf("key files %v: %v", files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := newCore(t, memory, store, ca.TypeECDSAP256).start(t); !errors.Is(err, keys.ErrMissing) {
		t.Errorf("start without the key: %v, want ErrMissing", err)
	}
}

// customTemplate is what an operator's tools make of an authority.
func customTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: noonUTC.Add(-24 * time.Hour), NotAfter: noonUTC.AddDate(2, 0, 0),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign, SubjectKeyId: []byte(name),
	}
}

func selfSigned(t testing.TB, template *x509.Certificate) *keys.Opened {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &keys.Opened{Issuing: der, Signer: key}
}

// Sign does not.
func (m mute) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("CKR_USER_NOT_LOGGED_IN")
}

// TestKeyStoreRefusesTheStart: one that does not open is never replaced by a new authority
// (reliability spec C-I4). Nothing is put on record, and nothing in the store changes.
func TestKeyStoreRefusesTheStart(t *testing.T) {
	open := func(t *testing.T, dir, passphrase string) *keys.Store {
		t.Helper()
		store, err := keys.Open(dir, keys.Options{Passphrase: []byte(passphrase)})
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	other := filepath.Join(t.TempDir(), "keys")
	foreign, err := open(t, other, "").NewAuthorityKey(ca.TypeECDSAP256)
	if err != nil || foreign == nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, passphrase string
		damage           func(file string) error
		want             error
	}{
		{"a wrong passphrase", "wrong", nil, keys.ErrLocked},
		{"no passphrase", "", nil, keys.ErrLocked},
		{"the key is gone", "right", os.Remove, keys.ErrMissing},
		{"another key in its file", "right", func(file string) error {
			files, err := filepath.Glob(filepath.Join(other, "ca-*.key"))
			if err != nil {
				return err
			}
			text, err := os.ReadFile(files[0])
			return errors.Join(err, os.Chmod(file, 0o600), os.WriteFile(file, text, 0o600), os.Chmod(file, 0o400))
		}, keys.ErrMismatch},
		{"half of it", "right", func(file string) error {
			return errors.Join(os.Chmod(file, 0o600), os.Truncate(file, 60), os.Chmod(file, 0o400))
		}, keys.ErrDamaged},
	} {
		t.Run(c.name, func(t *testing.T) {
			memory := eventlog.NewMemory(actorstest.Options(nil))
			dir := filepath.Join(t.TempDir(), "keys")
			first := newCore(t, memory, open(t, dir, "right"), ca.TypeECDSAP256)
			first.mustStart(t)
			files, err := filepath.Glob(filepath.Join(dir, "ca-*.key"))
			if err != nil || len(files) != 1 {
				t.Fatalf("key files %v: %v", files, err)
			}
			if c.damage != nil {
				if err := c.damage(files[0]); err != nil {
					t.Fatal(err)
				}
			}
			before := first.kinds(t)
			second := newCore(t, memory, open(t, dir, c.passphrase), ca.TypeECDSAP256)
			if _, err := second.start(t); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			if got := second.kinds(t); got != before {
				t.Errorf("log: %s", strings.TrimPrefix(got, before))
			}
			if after, err := filepath.Glob(filepath.Join(dir, "ca-*.key")); err != nil || len(after) > 1 {
				t.Errorf("key files %v: %v", after, err)
			}
		})
	}
}

// TestStartsBeforeItsCertificate: where only the clock or a full disk is in the way of the
// first certificate, the start goes on, and the certificate comes when neither is.
func TestStartsBeforeItsCertificate(t *testing.T) {
	for name, c := range map[string]struct{ wrong, right func(*testing.T, *core) }{
		"nobody knows the time, which seems to be before the authority": {
			func(t *testing.T, c *core) {
				early := noonUTC.AddDate(0, 0, -100)
				c.clock.SetWall(early)
				c.clock.SetSynced(false)
				c.trust = actors.NewTrustClock(c.clock, actors.Anchor{
					TrustMs: early.UnixMilli(), WallMs: early.UnixMilli(), MarkTrustMs: early.UnixMilli(), MarkWallMs: early.UnixMilli(), BootID: "another boot",
				})
				sys, err := actors.New(actors.Config{Log: c.log, Views: c.views, Cloud: actorstest.NewCloud(), Clock: c.trust})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = sys.Close(context.WithoutCancel(t.Context())) })
				c.config.System = sys
			},
			func(_ *testing.T, c *core) { c.clock.SetWall(noonUTC); c.clock.SetSynced(true); c.trust.Step() },
		},
		"the disk is full": {
			func(_ *testing.T, c *core) { c.log.Refuse(eventlog.ErrFull) },
			func(_ *testing.T, c *core) { c.log.Refuse(nil) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			memory, store := eventlog.NewMemory(actorstest.Options(nil)), keys.NewSeeded([32]byte{1})
			newCore(t, memory, store, ca.TypeECDSAP256).mustStart(t).authority.Close()
			again := newCore(t, memory, store, ca.TypeECDSAP256)
			c.wrong(t, again)
			a, err := again.start(t)
			if err != nil {
				t.Fatal(err)
			}
			h, err := a.Hold(t.Context(), "gatehouse-mqtt", ca.Server)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(h.Close)
			if h.Leaf() != nil || h.Describe() != nil {
				t.Fatal("there is a certificate")
			}
			if _, err := h.GetCertificate(nil); !errors.Is(err, keys.ErrNoCertificate) {
				t.Errorf("shown: %v", err)
			}
			if _, err := a.Subscribe(t.Context(), newSubscriber(t).want("bridge", ca.Client)); err == nil || strings.Contains(err.Error(), "%!") {
				t.Errorf("who does not wait for it: %v", err)
			}
			c.right(t, again)
			again.clock.Advance(lookWithin)
			if h.Leaf() == nil {
				t.Error("no certificate came")
			}
		})
	}
}
