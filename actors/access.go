package actors

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Access is how a broker's requests about its clients reach the entities: verify,
// open, close, in the order the reference has them (client-device-auth spec 5), with
// each refusal on record. Safe for concurrent use; replies are called once and must not
// block.
type Access struct {
	sys     *System
	denials *Denials
}

// NewAccess puts the way in before sys.
func NewAccess(sys *System, denials *Denials) *Access { return &Access{sys: sys, denials: denials} }

// Limits of what a client may present (reliability spec 1.3, "crypto parser DoS").
const (
	derMaxBytes  = 16 << 10
	rsaBitsMax   = 4096
	subjectBytes = 256
)

// ErrCertificate is wrapped when a certificate cannot be taken at all.
var ErrCertificate = errors.New("certificate cannot be read")

// readCertificate reads a certificate that a stranger sent. A parser that panics on it
// has refused it.
func readCertificate(der []byte) (cert *x509.Certificate, err error) {
	defer func() {
		if p := recover(); p != nil {
			cert, err = nil, fmt.Errorf("%w: its parser failed: %v", ErrCertificate, p)
		}
	}()
	if len(der) > derMaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrCertificate, len(der), derMaxBytes)
	}
	cert, err = x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() > rsaBitsMax {
			return nil, fmt.Errorf("%w: RSA key of %d bits, at most %d", ErrCertificate, key.N.BitLen(), rsaBitsMax)
		}
	case *ecdsa.PublicKey, ed25519.PublicKey:
	default:
		return nil, fmt.Errorf("%w: unknown type of key", ErrCertificate)
	}
	return cert, nil
}

// read reads what verification needs of a certificate in which trust is t. One that is
// trusted is not parsed, and leaf is nil: those bytes, named by their digest, were read
// before they were verified.
func (a *Access) read(id messages.CertificateID, t messages.CertificateTrust, der []byte) (c messages.VerifyCertificate, leaf *x509.Certificate, err error) {
	if t.Verified {
		return messages.VerifyCertificate{
			Certificate: id, DER: der, NotBefore: time.UnixMilli(t.NotBeforeMs), NotAfter: time.UnixMilli(t.NotAfterMs),
		}, nil, nil
	}
	if leaf, err = readCertificate(der); err != nil {
		return c, nil, err
	}
	return verification(leaf), leaf, nil
}

// verification is the order to verify a certificate that was read.
func verification(leaf *x509.Certificate) messages.VerifyCertificate {
	return messages.VerifyCertificate{
		Certificate: messages.CertificateIDOf(leaf.Raw), DER: leaf.Raw,
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Subject: clip(leaf.Subject.String(), subjectBytes),
	}
}

// component names the internal component that presents leaf. Nobody is one whose
// certificate the cloud vouches for, nor without an authority of our own.
func (a *Access) component(leaf *x509.Certificate) (messages.ComponentName, bool) {
	issuer := a.sys.issuer.Load()
	if issuer == nil || leaf == nil {
		return "", false
	}
	return issuer.component(leaf)
}

// trustedHere reports whether verify would say yes without asking anybody
// (client-device-auth spec 5.1, step 4): then its pass through a mailbox is spared.
func (a *Access) trustedHere(t messages.CertificateTrust) bool {
	return !a.sys.NetworkUp() && a.sys.Trust().Trusted(t, a.sys.clock.NowMs())
}

// Verify says whether der is a good certificate. A bad one is an answer, not an error.
func (a *Access) Verify(ctx context.Context, cause messages.Cause, der []byte, reply func(messages.Verified, error)) {
	id := messages.CertificateIDOf(der)
	c, leaf, err := a.read(id, a.sys.views.CertificateTrust(id), der)
	if err != nil {
		a.denials.Note(Denial{Certificate: id, Broker: cause.Broker, Operation: "verify", Reason: err.Error()}, cause)
		reply(messages.Verified{Source: messages.Source_SOURCE_LOCAL, Reason: err.Error()}, nil)
		return
	}
	if name, ok := a.component(leaf); ok { // spec 5.1, step 1
		reply(messages.Verified{
			Valid: true, Source: messages.Source_SOURCE_LOCAL, Component: name,
			Reason: "a client certificate that the local authority issued to component " + string(name),
		}, nil)
		return
	}
	a.sys.Submit(ctx, c, cause, func(r messages.Reply) {
		switch r := r.(type) {
		case messages.Verified:
			if r.Want == messages.WantRegistration { // who it is is not known here: a client id comes with the session
				if refusal := a.register(leaf, ""); refusal != nil && refusal.Code != messages.RefusedInvalidCredential {
					a.denials.Note(Denial{Certificate: c.Certificate, Broker: cause.Broker, Operation: "verify", Reason: refusal.Reason}, cause)
					reply(messages.Verified{}, refusal)
					return
				} else if refusal != nil {
					r.Reason = refusal.Reason
				}
			}
			if !r.Valid {
				a.denials.Note(Denial{Certificate: c.Certificate, Broker: cause.Broker, Operation: "verify", Reason: r.Reason}, cause)
			}
			reply(r, nil)
		default:
			reply(messages.Verified{}, refusalOf(r))
		}
	})
}

// Open opens a session for the client that presented der, which must have been
// verified before (spec 5.2): the cloud is not asked about the certificate here. An
// internal component may call itself what it likes (spec 4).
func (a *Access) Open(ctx context.Context, cause messages.Cause, clientID string, der []byte, reply func(messages.SessionReady, error)) {
	id := messages.CertificateIDOf(der)
	if c, leaf, err := a.read(id, a.sys.views.CertificateTrust(id), der); err == nil {
		if name, ok := a.component(leaf); ok {
			a.openComponent(ctx, cause, name, c, leaf, reply)
			return
		}
	}
	thing, err := a.clientID(clientID)
	if err != nil {
		a.denied(cause, clientID, id, err)
		reply(messages.SessionReady{}, err)
		return
	}
	c := messages.OpenSession{Thing: thing, Certificate: id, Broker: cause.Broker}
	a.open(ctx, cause, c, reply, func() {
		reply(messages.SessionReady{}, messages.Refuse(messages.RefusedService, "open: connect was judged unasked"))
	})
}

func (a *Access) openComponent(ctx context.Context, cause messages.Cause, name messages.ComponentName, c messages.VerifyCertificate, leaf *x509.Certificate, reply func(messages.SessionReady, error)) {
	a.sys.Submit(ctx, messages.OpenComponent{
		Component: name, Certificate: c.Certificate, NotBefore: c.NotBefore, NotAfter: c.NotAfter, Broker: cause.Broker,
	}, cause, func(r messages.Reply) {
		s, ok := r.(messages.SessionReady)
		if !ok {
			reply(messages.SessionReady{}, refusalOf(r))
			return
		}
		if _, still := a.component(leaf); !still { // it was taken back meanwhile, when this session was not there to be ended
			a.sys.Submit(context.Background(), messages.CloseSession{
				Component: name, Session: s.Token.Digest(), Reason: messages.CloseReason_CLOSE_BY_OPERATOR, Detail: "the certificate counts no more",
			}, cause, func(messages.Reply) {})
			reply(messages.SessionReady{}, messages.Refuse(messages.RefusedInvalidCredential, "the certificate makes nobody component %s any more", name))
			return
		}
		reply(s, nil)
	})
}

// Authenticate is verify, the connect decision and a session in one, for devices: an
// internal component is none, and asks with Verify and Open. reply gets ok = false without
// an error when the device is who it says and the policy does not let it connect.
func (a *Access) Authenticate(ctx context.Context, cause messages.Cause, clientID string, der []byte, reply func(s messages.SessionReady, ok bool, err error)) {
	id := messages.CertificateIDOf(der)
	refuse := func(err error) {
		a.denied(cause, clientID, id, err)
		reply(messages.SessionReady{}, false, err)
	}
	if len(der) == 0 {
		id = "" // of nothing
		refuse(messages.Refuse(messages.RefusedInvalidCredential, "the client presented no certificate"))
		return
	}
	thing, err := a.clientID(clientID)
	if err != nil {
		refuse(err)
		return
	}
	trust := a.sys.views.CertificateTrust(id)
	c, leaf, err := a.read(id, trust, der)
	if err != nil {
		refuse(&messages.Refusal{Code: messages.RefusedInvalidCredential, Reason: err.Error()})
		return
	}
	open := func() {
		c := messages.OpenSession{Thing: thing, Certificate: id, Broker: cause.Broker, Connect: true}
		a.open(ctx, cause, c,
			func(s messages.SessionReady, err error) { reply(s, err == nil, err) },
			func() {
				_, revision := a.sys.views.ConnectAllowed(thing)
				a.connectDenied(cause, thing, id, revision, "no statement of the device's groups lets it connect")
				reply(messages.SessionReady{}, false, nil)
			})
	}
	if a.trustedHere(trust) { // the device entity judges the certificate by the same rule
		open()
		return
	}
	a.sys.Submit(ctx, c, cause, func(r messages.Reply) {
		v, answered := r.(messages.Verified)
		switch {
		case !answered:
			reply(messages.SessionReady{}, false, refusalOf(r))
		case !v.Valid:
			a.unknown(ctx, cause, thing, leaf, v, refuse, reply)
		default:
			open()
		}
	})
}

// unknown is the end of a connect with a certificate that nobody vouches for: the cloud is
// told of the device, or it is admitted as pending, if the rules of registration let it.
func (a *Access) unknown(ctx context.Context, cause messages.Cause, thing messages.ThingName, leaf *x509.Certificate, v messages.Verified,
	refuse func(error), reply func(messages.SessionReady, bool, error)) {
	refusal := &messages.Refusal{Code: messages.RefusedInvalidCredential, Reason: v.Reason}
	e := a.sys.enroller.Load()
	switch {
	case v.Want == messages.WantRegistration:
		if r := a.register(leaf, thing); r != nil {
			refusal = r
		}
	case v.Want == messages.WantCloud && e != nil && leaf != nil:
		order, done, r := e.admission(leaf, thing, cause.Broker)
		if order != nil {
			a.admit(ctx, cause, *order, done, refuse, reply)
			return
		}
		if r != nil {
			refusal = r
		}
	}
	refuse(refusal)
}

// register has the cloud told of a certificate that it does not know; nil: that is no matter
// of registration.
func (a *Access) register(leaf *x509.Certificate, thing messages.ThingName) *messages.Refusal {
	e := a.sys.enroller.Load()
	if e == nil || leaf == nil {
		return nil
	}
	return e.register(leaf, thing)
}

// admit asks the entity for a pending device's session.
func (a *Access) admit(ctx context.Context, cause messages.Cause, c messages.AdmitPending, done func(),
	refuse func(error), reply func(messages.SessionReady, bool, error)) {
	a.sys.Submit(ctx, c, cause, func(r messages.Reply) {
		done()
		switch r := r.(type) {
		case messages.SessionReady:
			reply(r, true, nil)
		case messages.ConnectDenied:
			_, revision := a.sys.views.PendingConnectAllowed(c.Thing)
			a.connectDenied(cause, c.Thing, c.Certificate, revision, "no statement of the group of pending devices lets it connect")
			reply(messages.SessionReady{}, false, nil)
		default:
			refuse(refusalOf(r))
		}
	})
}

func (a *Access) open(ctx context.Context, cause messages.Cause, c messages.OpenSession, reply func(messages.SessionReady, error), connectDenied func()) {
	a.sys.Submit(ctx, c, cause, func(r messages.Reply) {
		switch r := r.(type) {
		case messages.SessionReady:
			reply(r, nil)
		case messages.ConnectDenied:
			connectDenied()
		default:
			err := refusalOf(r)
			a.denied(cause, string(c.Thing), c.Certificate, err)
			reply(messages.SessionReady{}, err)
		}
	})
}

// clientID reads a client id as a thing name. Over 128 bytes it is a bad credential,
// with other characters the reference fails inside (spec 5.2, rules 1 and 3; the
// vectors pin the difference).
func (a *Access) clientID(s string) (messages.ThingName, error) {
	thing, err := messages.ParseThingName(s)
	switch {
	case err == nil:
		return thing, nil
	case len(s) > 128:
		return "", messages.Refuse(messages.RefusedInvalidCredential, "client id: %v", err)
	default:
		return "", messages.Refuse(messages.RefusedService, "client id: %v", err)
	}
}

// denied puts a refused authentication on record, if it is about the device.
func (a *Access) denied(cause messages.Cause, clientID string, id messages.CertificateID, err error) {
	r, ok := errors.AsType[*messages.Refusal](err)
	if !ok || r.Code != messages.RefusedInvalidCredential && r.Code != messages.RefusedService && r.Code != messages.RefusedPending {
		return
	}
	a.denials.Note(Denial{Thing: clientID, Certificate: id, Broker: cause.Broker, Operation: "authenticate", Reason: r.Reason}, cause)
}

// connectDenied puts on record that the policy does not let a device connect that is who
// it says.
func (a *Access) connectDenied(cause messages.Cause, thing messages.ThingName, id messages.CertificateID, revision, reason string) {
	a.denials.Note(Denial{
		Thing: string(thing), Certificate: id, Broker: cause.Broker,
		Operation: "mqtt:connect", Resource: "mqtt:clientId:" + string(thing), Revision: revision,
		Reason: reason,
	}, cause)
}

// Close ends a session of thing, or of component.
func (a *Access) Close(ctx context.Context, cause messages.Cause, thing messages.ThingName, component messages.ComponentName, session messages.TokenDigest, reply func(error)) {
	c := messages.CloseSession{
		Thing: thing, Component: component, Session: session,
		Reason: messages.CloseReason_CLOSE_BY_BROKER, Detail: "closed by broker " + string(cause.Broker),
	}
	a.sys.Submit(ctx, c, cause, func(r messages.Reply) {
		if _, ok := r.(messages.Done); ok {
			reply(nil)
			return
		}
		reply(refusalOf(r))
	})
}

// refusalOf makes an error of any reply that was not the one hoped for: an unknown one
// is a failure inside.
func refusalOf(r messages.Reply) error {
	if refusal, ok := r.(*messages.Refusal); ok {
		return refusal
	}
	return messages.Refuse(messages.RefusedService, "unexpected reply %T", r)
}
