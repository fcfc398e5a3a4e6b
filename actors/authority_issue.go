package actors

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// create makes a managed authority, or takes up the one that a custom one replaced.
func (a *Authority) create(ctx context.Context, reason string) error {
	caType := a.cfg.Settings().Type
	if former, ok := a.book.Load().Reinstated(caType, a.now()); ok {
		if err := a.reinstate(ctx, former, reason); !errors.Is(err, keys.ErrMissing) {
			return err
		}
		a.cfg.Logger.Warn("the key of the former managed authority is gone: making another", "authority", former.ID)
	}
	signer, err := a.cfg.Keys.NewAuthorityKey(caType, a.book.Load().Managed()...)
	if err != nil {
		return fmt.Errorf("make its key: %w", err)
	}
	// keyUsage is absent from the reference's authority; strict verifiers ask for it.
	profile, err := ca.NewProfile(ca.ProfileConfig{Usage: ca.Issuing, KeyUsage: true})
	if err != nil {
		return err
	}
	prepared, err := ca.Prepare(profile, ca.Request{PublicKey: signer.Public(), Serial: a.serial(), Now: a.now()})
	if err != nil {
		return err
	}
	der, err := ca.Issue(prepared, signer)
	if err != nil {
		return err
	}
	if err := a.note(ctx, &messages.AuthorityCreated{Der: der, CaType: caType, Reason: clip(reason, reasonBytes)}); err != nil {
		return err
	}
	id := messages.CertificateIDOf(der)
	a.signers[id] = signer
	a.cfg.Logger.Info("authority made", "authority", id, "ca_type", caType, "reason", reason, "not_after", prepared.NotAfter())
	return nil
}

func (a *Authority) reinstate(ctx context.Context, former ca.Entry, reason string) error {
	authority, err := ca.ParseAuthority(former.Chain...)
	if err != nil {
		return err
	}
	signer, err := a.cfg.Keys.AuthorityKey(authority.Certificate())
	if err != nil {
		return err
	}
	if err := a.note(ctx, &messages.AuthorityCreated{Der: former.Chain[0], CaType: former.Type, Reason: clip(reason, reasonBytes)}); err != nil {
		return err
	}
	a.signers[former.ID] = signer
	a.cfg.Logger.Info("the former managed authority is taken up again", "authority", former.ID)
	return nil
}

// takeCustom opens the operator's authority, and imports it if it is another. What cannot
// be used is told once, and what was in force stays in force. turn is held.
func (a *Authority) takeCustom(ctx context.Context) error {
	uris := a.cfg.Settings().Custom
	if !a.cfg.Settings().custom() {
		a.opened, a.refused = nil, ""
		return nil
	}
	if a.cfg.Custom == nil {
		return errors.New("an authority of one's own cannot be opened here")
	}
	opened, err := a.cfg.Custom.Open(ctx, uris)
	if err == nil {
		if opened == a.opened && a.book.Load().Rejected == (ca.Rejection{}) {
			a.refused = ""
			return nil
		}
		err = a.useCustom(ctx, uris, opened)
	}
	if err != nil && ctx.Err() != nil { // nobody waited for the token's word
		return fmt.Errorf("open the custom authority: %w", ctx.Err())
	}
	if err != nil {
		a.refuse(ctx, uris, err)
		return nil // it is told, and asked again at each look
	}
	a.opened, a.refused = opened, ""
	return nil
}

func (a *Authority) useCustom(ctx context.Context, uris keys.URIs, opened *keys.Opened) error {
	authority, err := ca.Assemble(opened.Issuing, opened.Others)
	if err != nil {
		return err
	}
	if err := authority.ValidAt(a.now()); err != nil {
		return err
	}
	if authority.Certificate().NotAfter.Sub(a.now()) < ca.ValidityMin {
		return fmt.Errorf("%w: it ends at %s, too soon to issue anything", ca.ErrAuthority, authority.Certificate().NotAfter.Format(time.RFC3339))
	}
	if err := authority.Try(opened.Signer); err != nil {
		return err
	}
	redacted := uris.Redacted()
	if err := a.note(ctx, &messages.AuthorityImported{Chain: authority.Chain(), CertificateUri: redacted.Certificate, PrivateKeyUri: redacted.PrivateKey}); err != nil {
		return err
	}
	if !authority.Complete() {
		a.cfg.Logger.Warn("the chain of the custom authority does not end in a self-signed certificate: devices must get it by other means",
			"subject", authority.Top().Subject, "issuer", authority.Top().Issuer)
	}
	a.signers[authority.ID()] = opened.Signer
	delete(a.silent, authority.ID())
	a.cfg.Logger.Info("custom authority in use", "authority", authority.ID(), "subject", authority.Certificate().Subject, "not_after", authority.Certificate().NotAfter)
	return nil
}

// refuse puts on record that the operator's authority cannot be used, once for each
// reason.
func (a *Authority) refuse(ctx context.Context, uris keys.URIs, err error) {
	reason := clip(err.Error(), reasonBytes)
	if reason == a.refused {
		return
	}
	a.refused = reason
	redacted := uris.Redacted()
	a.cfg.Logger.Error("custom authority cannot be used: what was in force stays in force", "error", err,
		"certificate_uri", redacted.Certificate, "private_key_uri", redacted.PrivateKey)
	if err := a.note(ctx, &messages.AuthorityRejected{
		CertificateUri: clip(redacted.Certificate, reasonBytes), PrivateKeyUri: clip(redacted.PrivateKey, reasonBytes), Reason: reason,
	}); err != nil {
		a.cfg.Logger.Error("not recorded", "error", err)
	}
}

const reasonBytes = ca.TextBytesMax

func (a *Authority) customError() error {
	if a.refused == "" {
		return nil
	}
	return fmt.Errorf("the custom authority: %s", a.refused)
}

// order says which certificate is wanted.
type order struct {
	issuer  messages.CertificateID
	profile ca.ProfileConfig
	to      subscription
	hosts   []ca.Host
	public  crypto.PublicKey
	reason  string
}

// issue makes a certificate, each step on record before the next. turn is held.
func (a *Authority) issue(ctx context.Context, o order) (*x509.Certificate, *ca.Authority, error) {
	entry, ok := a.book.Load().Entry(o.issuer)
	if !ok || !a.published[o.issuer] {
		return nil, nil, fmt.Errorf("authority %s is not published", o.issuer)
	}
	issuer, err := ca.ParseAuthority(entry.Chain...)
	if err != nil {
		return nil, nil, err
	}
	profile, err := ca.NewProfile(o.profile)
	if err != nil {
		return nil, nil, err
	}
	prepared, err := ca.Prepare(profile, ca.Request{
		Issuer: issuer, Subscriber: o.to.name, Hosts: o.hosts, PublicKey: o.public, Serial: a.serial(), Now: a.now(),
	})
	if err != nil {
		return nil, nil, err
	}
	if err := a.asked(issuer); err != nil {
		return nil, nil, err
	}
	names := make([]string, len(o.hosts))
	for i, h := range o.hosts {
		names[i] = h.String()
	}
	if err := a.note(ctx, &messages.CertificateOrdered{
		Subscriber: o.to.name, Usage: o.to.usage.String(), Serial: prepared.Serial(), Reason: o.reason, Names: names,
		NotBeforeMs: prepared.NotBefore().UnixMilli(), NotAfterMs: prepared.NotAfter().UnixMilli(), AuthorityId: string(o.issuer),
	}); err != nil {
		return nil, nil, err
	}
	der, err := ca.Issue(prepared, a.signers[o.issuer])
	if err != nil {
		return nil, nil, a.fell(o.issuer, err)
	}
	// It is signed, however long that took: without its record the order was for nothing.
	ctx, cancel := a.cfg.System.within(context.WithoutCancel(ctx), authorityRetry, context.DeadlineExceeded)
	defer cancel()
	if err := a.note(ctx, &messages.CertificateIssued{
		Subscriber: o.to.name, Serial: prepared.Serial(), Der: der, AuthorityId: string(o.issuer),
	}); err != nil {
		return nil, nil, err
	}
	a.count(o.reason)
	leaf, err := x509.ParseCertificate(der)
	return leaf, issuer, err
}

// silence is a key that did not sign. It rests before it is asked again.
type silence struct {
	since time.Time
	rest  time.Duration
	err   error
}

// restMax bounds the rest of a key that does not sign, which doubles. So does a tenth of
// the life of a certificate.
const restMax = 5 * time.Minute

// asked says why the issuer's key cannot be asked for a signature now. One that has failed
// signs something that is on no record first: a token that is away must not fill the log
// with orders. turn is held.
func (a *Authority) asked(issuer *ca.Authority) error {
	s, ok := a.silent[issuer.ID()]
	if !ok {
		return nil
	}
	if passed := a.now().Sub(s.since); passed >= 0 && passed < s.rest { // the clock may have been set back
		return fmt.Errorf("%w; it is asked again in %s", s.err, (s.rest - passed).Round(time.Second))
	}
	if err := issuer.Try(a.signers[issuer.ID()]); err != nil {
		return a.fell(issuer.ID(), fmt.Errorf("%w: %w", ca.ErrNotSigned, err))
	}
	delete(a.silent, issuer.ID())
	return nil
}

// fell notes that the issuer's key has fallen silent, if that is what err says.
func (a *Authority) fell(issuer messages.CertificateID, err error) error {
	if errors.Is(err, ca.ErrNotSigned) {
		rest := max(a.retry(), min(2*a.silent[issuer].rest, restMax, a.shortest()/10))
		a.silent[issuer] = silence{since: a.now(), rest: rest, err: err}
	}
	return err
}

// wake ends the rest of keys that do not sign: an operator says so. turn is held.
func (a *Authority) wake() {
	for id, s := range a.silent {
		a.silent[id] = silence{err: s.err}
	}
}

func (a *Authority) profile(usage ca.Usage) ca.ProfileConfig {
	s := a.cfg.Settings()
	validity := s.ServerValidity
	if !usage.Serves() {
		validity = s.ClientValidity
	}
	return ca.ProfileConfig{Usage: usage, Validity: validity, KeyUsage: true}
}

// issueTo makes the subscriber's next certificate and hands it over. turn is held.
func (a *Authority) issueTo(ctx context.Context, to subscription, issuer messages.CertificateID, reason string) error {
	s := a.subscriber(to)
	if s == nil {
		return nil // it has gone meanwhile
	}
	o := order{issuer: issuer, profile: a.profile(to.usage), to: to, public: s.public, reason: clip(reason, reasonBytes)}
	if to.usage.Serves() {
		o.hosts = a.hosts()
	}
	var key crypto.Signer
	if o.public == nil {
		var err error
		if key, err = a.cfg.Keys.NewServerKey(); err != nil {
			return err
		}
		o.public = key.Public()
	}
	leaf, authority, err := a.issue(ctx, o)
	if err != nil {
		return err
	}
	s.hold(&holding{leaf: leaf, key: key, authority: authority.ID(), hosts: o.hosts})
	a.hand(s)
	return nil
}

// Issued is a certificate that was issued to an internal component.
type Issued struct {
	Certificate []byte   // DER
	Chain       [][]byte // DER of the authorities above it, the issuing one first
	Serial      string   // as the log holds it
	NotAfter    time.Time
}

// IssueComponent makes one client certificate for public, the key of an internal component,
// valid for validity, for a reason that goes on record. Who holds it may do everything
// (client-device-auth spec 4.1). A component that subscribes gets its own: it is refused here.
func (a *Authority) IssueComponent(ctx context.Context, name messages.ComponentName, public crypto.PublicKey, validity time.Duration, reason string) (Issued, error) {
	to := subscription{string(name), ca.Client}
	a.turn.Lock()
	defer a.turn.Unlock()
	if a.subscriber(to) != nil {
		return Issued{}, fmt.Errorf("%w: %s subscribes to its client certificates, and gets them by itself", ErrSubscriber, name)
	}
	issuer, ok := a.state().Issuer(a.now())
	if !ok {
		return Issued{}, fmt.Errorf("issue a certificate for component %s: no authority can issue now", name)
	}
	leaf, authority, err := a.issue(ctx, order{
		issuer: issuer.ID, profile: ca.ProfileConfig{Usage: ca.Client, Validity: validity, KeyUsage: true},
		to: to, public: public, reason: clip(reason, reasonBytes),
	})
	if err != nil {
		return Issued{}, fmt.Errorf("issue a certificate for component %s: %w", name, err)
	}
	issued := Issued{Certificate: leaf.Raw, Chain: authority.Chain(), Serial: ca.SerialText(leaf), NotAfter: leaf.NotAfter}
	return issued, a.note(ctx, &messages.CertificateDelivered{Subscriber: string(name), Serial: issued.Serial})
}

// ErrNoComponent is wrapped where a component has no certificate that counts.
var ErrNoComponent = errors.New("no such component")

// Withdraw takes back, for a reason that goes on record, that name is an internal component
// by any certificate that was issued to it so far, and returns how many counted. One that is
// issued later counts. Who subscribes to client certificates by that name has to be ended
// before.
func (a *Authority) Withdraw(ctx context.Context, name messages.ComponentName, reason string) (int, error) {
	n := a.book.Load().ComponentCertificates(string(name), a.now().UnixMilli())
	if err := a.note(ctx, &messages.ComponentWithdrawn{Component: string(name), Reason: clip(reason, reasonBytes)}); err != nil {
		return 0, err
	}
	if n == 0 { // one that was only ordered is not issued any more
		return 0, fmt.Errorf("%w: on record is no client certificate of %s that counts", ErrNoComponent, name)
	}
	a.cfg.Logger.Info("component withdrawn", "component", name, "certificates", n, "reason", reason)
	return n, nil
}

// component names the internal component that leaf was issued to: a client certificate of
// an authority in use, and nothing else besides (ca.Authority.Component takes one that
// serves, too), that the log knows. Without a known time its dates cannot be judged: then
// it is nobody's.
func (a *Authority) component(leaf *x509.Certificate) (messages.ComponentName, bool) {
	client := len(leaf.ExtKeyUsage) == 1 && leaf.ExtKeyUsage[0] == x509.ExtKeyUsageClientAuth && len(leaf.UnknownExtKeyUsage) == 0
	if !client || !a.cfg.System.clock.known() {
		return "", false
	}
	issuer, ok := a.book.Load().ComponentIssuer(messages.CertificateIDOf(leaf.Raw), leaf.Subject.CommonName)
	if !ok {
		return "", false
	}
	authority, err := ca.ParseAuthority(issuer.Chain...)
	if err != nil {
		return "", false
	}
	common, ok := authority.Component(leaf, a.now())
	if !ok {
		return "", false
	}
	if a.withdrawn(common, leaf.Raw) {
		return "", false
	}
	name, err := messages.ParseComponentName(common)
	return name, err == nil
}

// withdrawn reports whether an operator took back what the certificate der makes its holder.
func (a *Authority) withdrawn(name string, der []byte) bool {
	return a.cfg.Withdrawn != nil && a.cfg.Withdrawn(name, messages.CertificateIDOf(der))
}
