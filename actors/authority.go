package actors

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// AuthorityConfig is what an Authority is made of; all but Logger is required.
type AuthorityConfig struct {
	System *System
	Log    Log
	Keys   keys.Keys
	Clock  Clock
	Type   string    // of a new authority's key: ca.TypeRSA2048 or ca.TypeECDSAP256
	Hosts  []ca.Host // what devices dial; localhost is added
	Name   string    // the subscriber: the embedded broker
	// Validity is the life of a server certificate, asked at each issue; Rotate says
	// whether certificates are renewed at all.
	Validity func() time.Duration
	Rotate   func() bool
	Logger   *slog.Logger
}

// Authority is the managed CA as far as the embedded broker needs it: it makes itself
// once, issues the broker's certificate, and renews it live. Each step is in the log
// before the next one: a certificate's bytes leave only after CertificateIssued is
// durable (reliability spec 3, C-I2).
type Authority struct {
	cfg     AuthorityConfig
	current keys.Current
	issuer  *ca.Authority
	signer  crypto.Signer

	mu     sync.Mutex
	due    time.Time   // when the certificate is renewed; guarded by mu, as all below
	stop   func() bool // the next look at the clock
	closed bool
	work   sync.WaitGroup // renewals under way
}

// rotationRetry is how long a failed rotation waits (client-device-auth spec 6.3).
const rotationRetry = 30 * time.Second

// lookEvery bounds the wait for a look at the clock: trust time jumps when the wall clock
// is set right, and a timer stands still while the machine is suspended. A certificate
// must not end meanwhile.
const lookEvery = time.Minute

// StartAuthority takes up the authority that the log knows, or makes the first one, and
// issues the broker's certificate. An authority whose key is lost or locked refuses the
// start: a new one would be trusted by no device (C-I4).
func StartAuthority(ctx context.Context, cfg AuthorityConfig) (*Authority, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authority{cfg: cfg}
	known, err := a.known(ctx)
	if err != nil {
		return nil, fmt.Errorf("read authorities: %w", err)
	}
	if len(known) > 0 {
		err = a.resume(known[len(known)-1])
	} else {
		err = a.create(ctx)
	}
	if err != nil {
		return nil, err
	}
	if err := a.rotate(ctx, "start"); err != nil {
		return nil, fmt.Errorf("issue the broker's certificate: %w", err)
	}
	cfg.System.issuer.Store(a)
	return a, nil
}

// known lists the authorities of the log that are not retired, oldest first.
func (a *Authority) known(ctx context.Context) ([]*ca.Authority, error) {
	var list []*ca.Authority
	for rec, err := range a.cfg.Log.Read(ctx, messages.StreamCA, 1) {
		if err != nil {
			return nil, err
		}
		e, err := messages.FoldEvent(&rec)
		if err != nil {
			return nil, err
		}
		switch e := e.(type) {
		case *messages.AuthorityCreated:
			one, err := ca.ParseAuthority(e.Der)
			if err != nil {
				return nil, fmt.Errorf("record %d: %w", rec.Seq, err)
			}
			list = append(list, one)
		case *messages.AuthorityRetired:
			for i, one := range list {
				if string(one.ID()) == e.AuthorityId {
					list = append(list[:i], list[i+1:]...)
					break
				}
			}
		}
	}
	return list, nil
}

func (a *Authority) resume(issuer *ca.Authority) error {
	signer, err := a.cfg.Keys.AuthorityKey(issuer.Certificate())
	if err != nil {
		return err
	}
	if err := issuer.ValidAt(a.now()); err != nil {
		return fmt.Errorf("the authority in the log: %w", err)
	}
	if issuer.Type() != a.cfg.Type {
		a.cfg.Logger.Warn("the authority keeps its type of key", "ca_type", issuer.Type(), "configured", a.cfg.Type,
			"hint", "a change of caType needs a planned replacement")
	}
	a.issuer, a.signer = issuer, signer
	return nil
}

func (a *Authority) create(ctx context.Context) error {
	signer, err := a.cfg.Keys.NewAuthorityKey(a.cfg.Type)
	if err != nil {
		return fmt.Errorf("make the authority's key: %w", err)
	}
	// keyUsage is absent from the reference's authority; strict verifiers ask for it.
	profile, err := ca.NewProfile(ca.ProfileConfig{Usage: ca.Issuing, KeyUsage: true})
	if err != nil {
		return err
	}
	prepared, err := ca.Prepare(profile, ca.Request{PublicKey: signer.Public(), Serial: serial(), Now: a.now()})
	if err != nil {
		return err
	}
	der, err := ca.Issue(prepared, signer)
	if err != nil {
		return err
	}
	if err := a.note(ctx, &messages.AuthorityCreated{Der: der, CaType: a.cfg.Type}); err != nil {
		return err
	}
	a.signer = signer
	a.issuer, err = ca.ParseAuthority(der)
	return err
}

// rotate issues the broker's certificate and puts it in place, and plans the next.
func (a *Authority) rotate(ctx context.Context, reason string) error {
	key, err := a.cfg.Keys.NewServerKey()
	if err != nil {
		return err
	}
	profile, err := ca.NewProfile(ca.ProfileConfig{Usage: ca.Server, Validity: a.cfg.Validity(), KeyUsage: true})
	if err != nil {
		return err
	}
	prepared, der, err := a.issue(ctx, profile, ca.Request{Subscriber: a.cfg.Name, Hosts: a.cfg.Hosts, PublicKey: key.Public()}, reason)
	if err != nil {
		return err
	}
	if err := a.current.Set(append([][]byte{der}, a.issuer.Chain()...), key); err != nil {
		return err
	}
	a.plan(ca.RenewAt(prepared.NotBefore(), prepared.NotAfter()))
	return a.note(ctx, &messages.CertificateDelivered{Subscriber: a.cfg.Name, Serial: prepared.Serial()})
}

// issue makes the certificate that r asks for, each step on record before the next.
func (a *Authority) issue(ctx context.Context, profile ca.Profile, r ca.Request, reason string) (prepared ca.Prepared, der []byte, err error) {
	r.Issuer, r.Serial, r.Now = a.issuer, serial(), a.now()
	if prepared, err = ca.Prepare(profile, r); err != nil {
		return prepared, nil, err
	}
	names := make([]string, len(r.Hosts))
	for i, h := range r.Hosts {
		names[i] = h.String()
	}
	if err := a.note(ctx, &messages.CertificateOrdered{
		Subscriber: r.Subscriber, Serial: prepared.Serial(), Reason: reason, Names: names,
		NotBeforeMs: prepared.NotBefore().UnixMilli(), NotAfterMs: prepared.NotAfter().UnixMilli(), AuthorityId: string(a.issuer.ID()),
	}); err != nil {
		return prepared, nil, err
	}
	if der, err = ca.Issue(prepared, a.signer); err != nil {
		return prepared, nil, err
	}
	return prepared, der, a.note(ctx, &messages.CertificateIssued{
		Subscriber: r.Subscriber, Serial: prepared.Serial(), Der: der, AuthorityId: string(a.issuer.ID()),
	})
}

// IssueComponent makes a client certificate for public, the key of an internal component,
// valid for validity. Who holds it may do everything (client-device-auth spec 4.1).
func (a *Authority) IssueComponent(ctx context.Context, name messages.ComponentName, public crypto.PublicKey, validity time.Duration) (der []byte, err error) {
	profile, err := ca.NewProfile(ca.ProfileConfig{Usage: ca.Client, Validity: validity, KeyUsage: true})
	if err != nil {
		return nil, err
	}
	prepared, der, err := a.issue(ctx, profile, ca.Request{Subscriber: string(name), PublicKey: public}, "first")
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for component %s: %w", name, err)
	}
	return der, a.note(ctx, &messages.CertificateDelivered{Subscriber: string(name), Serial: prepared.Serial()})
}

// component names the internal component that leaf was issued to: a client certificate of
// this authority, and nothing else besides (ca.Authority.Component takes one that serves,
// too). Without a known time its dates cannot be judged: then it is nobody's.
func (a *Authority) component(leaf *x509.Certificate) (messages.ComponentName, bool) {
	client := len(leaf.ExtKeyUsage) == 1 && leaf.ExtKeyUsage[0] == x509.ExtKeyUsageClientAuth && len(leaf.UnknownExtKeyUsage) == 0
	if !client || !a.cfg.System.clock.known() {
		return "", false
	}
	common, ok := a.issuer.Component(leaf, a.now())
	if !ok {
		return "", false
	}
	name, err := messages.ParseComponentName(common)
	return name, err == nil
}

// plan sets the time of the next renewal, in place of any other.
func (a *Authority) plan(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due = at
	a.wait()
}

// wait plans the next look at the clock; mu is held.
func (a *Authority) wait() {
	if a.closed {
		return
	}
	if a.stop != nil {
		a.stop()
	}
	a.stop = a.cfg.Clock.AfterFunc(min(max(a.due.Sub(a.now()), time.Second), lookEvery), a.look)
}

// look renews the certificate if it is time.
func (a *Authority) look() {
	a.mu.Lock()
	due := !a.closed && !a.now().Before(a.due)
	if due {
		a.work.Add(1)
	} else {
		a.wait()
	}
	a.mu.Unlock()
	if due {
		defer a.work.Done()
		a.renew()
	}
}

func (a *Authority) renew() {
	if !a.cfg.Rotate() {
		a.cfg.Logger.Warn("certificate not renewed: certificates.disableCertificateRotation is set", "not_after", a.current.Leaf().NotAfter)
		a.plan(a.now().Add(time.Hour))
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), rotationRetry)
	defer cancel()
	if err := a.rotate(ctx, "rotation"); err != nil {
		a.cfg.Logger.Error("certificate not renewed; trying again", "error", err, "wait_ms", rotationRetry.Milliseconds())
		a.plan(a.now().Add(rotationRetry))
	}
}

func (a *Authority) note(ctx context.Context, e messages.Event) error {
	if _, err := a.cfg.System.Do(ctx, messages.Note{Stream: messages.StreamCA, Event: e}, messages.Cause{Request: "authority"}); err != nil {
		return fmt.Errorf("record %s: %w", e.Kind(), err)
	}
	return nil
}

func (a *Authority) now() time.Time { return a.cfg.System.clock.Now().Trust() }

func serial() (b [ca.SerialBytes]byte) {
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead
	return b
}

// GetCertificate is for tls.Config.GetCertificate.
func (a *Authority) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return a.current.GetCertificate(hello)
}

// Leaf is the certificate in use.
func (a *Authority) Leaf() *x509.Certificate { return a.current.Leaf() }

// PEM is what devices must trust.
func (a *Authority) PEM() []byte { return a.issuer.PEM() }

// Describe is the certificate in use, for people.
func (a *Authority) Describe() map[string]string {
	leaf := a.current.Leaf()
	return map[string]string{
		"serial": fmt.Sprintf("%040x", leaf.SerialNumber), "notAfter": leaf.NotAfter.UTC().Format(time.RFC3339),
		"renewal": ca.RenewAt(leaf.NotBefore, leaf.NotAfter).UTC().Format(time.RFC3339),
	}
}

// Close ends the rotation and returns when none runs.
func (a *Authority) Close() {
	a.cfg.System.issuer.CompareAndSwap(a, nil)
	a.mu.Lock()
	a.closed = true
	if a.stop != nil {
		a.stop()
	}
	a.mu.Unlock()
	a.work.Wait()
}
