package actors

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// AuthorityInfo describes an authority for people.
type AuthorityInfo struct {
	ID             messages.CertificateID `json:"id"` // SHA-256 of its certificate
	Subject        string                 `json:"subject"`
	Root           string                 `json:"root,omitempty"` // the subject on top of its chain, if that is another
	Serial         string                 `json:"serial"`
	Key            string                 `json:"key"`              // such as RSA 2048
	Type           string                 `json:"caType,omitempty"` // of a managed one
	Custom         bool                   `json:"custom"`
	CertificateURI string                 `json:"certificateUri,omitempty"` // of a custom one
	Reason         string                 `json:"reason,omitempty"`         // why a managed one was made
	NotBefore      time.Time              `json:"notBefore"`
	NotAfter       time.Time              `json:"notAfter"`
	Since          time.Time              `json:"since"`
	Issues         bool                   `json:"issues"`    // new certificates are its
	Published      bool                   `json:"published"` // it is in the bundle that devices trust
	Announced      bool                   `json:"announced"` // whoever must trust it has it, as far as is known here
	Uploaded       bool                   `json:"uploaded"`  // the cloud has it
	KeyMissing     bool                   `json:"keyMissing,omitempty"`
}

// CertificateInfo describes a certificate for people.
type CertificateInfo struct {
	Subscriber string    `json:"subscriber"`
	Usage      string    `json:"usage"`
	Names      []string  `json:"names,omitempty"`
	Serial     string    `json:"serial"`
	Reason     string    `json:"reason"` // why it was issued …
	IssuedAt   time.Time `json:"issuedAt,omitzero"`
	NotBefore  time.Time `json:"notBefore"`
	NotAfter   time.Time `json:"notAfter"`
	Rotation   time.Time `json:"rotation,omitzero"` // when the next is due; absent: nobody subscribes, or rotation is off …
	Next       string    `json:"next,omitempty"`    // … and why it will be issued
	Delivered  bool      `json:"delivered"`
	Subscribed bool      `json:"subscribed"` // now
	// Withdrawn: an operator took back that it makes its holder an internal component.
	Withdrawn bool                   `json:"withdrawn,omitempty"`
	Authority messages.CertificateID `json:"authority"`
}

// AuthorityStatus describes authorities and certificates for people.
type AuthorityStatus struct {
	Authorities  []AuthorityInfo   `json:"authorities"` // in use, oldest first
	Certificates []CertificateInfo `json:"certificates"`
	Coming       []ca.Coming       `json:"coming"` // to the authorities
	Addresses    []string          `json:"addresses"`
	LeftOut      []string          `json:"addressesLeftOut,omitempty"` // of certificates, and why
	Refused      string            `json:"refused,omitempty"`          // why the custom authority that is configured is not in use
	RotationOff  bool              `json:"rotationDisabled,omitempty"`
	// Failing says what did not work in the last pass over the plan, and since when passes
	// fail. It is tried again.
	Failing []string  `json:"failing,omitempty"`
	Since   time.Time `json:"failingSince,omitzero"`
	// Issued counts certificates since the start, by ca.ReasonClass.
	Issued map[string]uint64 `json:"issued,omitempty"`
}

// sight is what else than the log describes the authorities, as a pass left it last: who
// looks waits for no pass, which may wait for a token.
type sight struct {
	unusable  map[messages.CertificateID]bool // whose keys are not at hand
	published map[messages.CertificateID]bool
	refused   string
	failed    []string
	since     time.Time // of failing passes
}

// see takes a sight. turn is held.
func (a *Authority) see() {
	s := &sight{
		unusable: map[messages.CertificateID]bool{}, published: a.published, refused: a.refused, failed: a.failed, since: a.failing,
	}
	for _, entry := range a.book.Load().Authorities {
		if a.signers[entry.ID] == nil {
			s.unusable[entry.ID] = true
		}
	}
	a.seen.Store(s)
}

// outcome notes what failed in a pass that has ended. That its caller gave up says nothing
// of the authority. turn is held.
func (a *Authority) outcome(ctx context.Context, failed []error) {
	if gaveUp(ctx) {
		failed = slices.DeleteFunc(slices.Clone(failed), func(err error) bool { return errors.Is(err, ctx.Err()) })
		if len(failed) == 0 {
			a.see()
			return
		}
	}
	a.failed = nil
	for _, err := range failed {
		a.failed = append(a.failed, clip(err.Error(), reasonBytes))
	}
	switch {
	case len(failed) == 0:
		a.failing = time.Time{}
	case a.failing.IsZero():
		a.failing = a.now()
	}
	a.see()
}

// count counts a certificate that was issued.
func (a *Authority) count(reason string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued[ca.ReasonClass(reason)]++
}

// AuthorityView is what there is at one moment.
type AuthorityView struct {
	book   ca.Book
	state  ca.State
	now    time.Time
	sight  sight
	issued map[string]uint64
}

// View looks at what there is now. It waits for nothing.
func (a *Authority) View() AuthorityView {
	settings, book, seen := a.cfg.Settings(), a.book.Load(), a.seen.Load()
	a.mu.Lock()
	issued := maps.Clone(a.issued)
	a.mu.Unlock()
	return AuthorityView{
		book: *book, now: a.now(), sight: *seen, issued: issued,
		state: book.State(a.planSettings(settings, book), a.subscriptions(), func(id messages.CertificateID) bool { return seen.unusable[id] }),
	}
}

// StoredAuthorities looks at what the log of a stopped daemon says: records are those of
// stream core/ca. published is the bundle
// as devices find it, in PEM. A change of the managed authority's type waits for a start.
func StoredAuthorities(records iter.Seq2[messages.Record, error], settings AuthoritySettings, now time.Time, published []byte) (AuthorityView, error) {
	var book ca.Book
	for rec, err := range records {
		if err != nil {
			return AuthorityView{}, err
		}
		e, err := messages.FoldEvent(&rec)
		if err != nil {
			return AuthorityView{}, fmt.Errorf("record %d: %w", rec.Seq, err)
		}
		if e != nil {
			book = ca.Evolve(book, e, rec.At)
		}
	}
	if n := len(book.Authorities); n > 0 && !book.Authorities[n-1].Custom {
		settings.Type = book.Authorities[n-1].Type
	}
	v := AuthorityView{book: book, now: now, sight: sight{published: map[messages.CertificateID]bool{}}}
	cloud := false
	for _, entry := range book.Authorities {
		cloud = cloud || entry.UploadedMs != 0
	}
	for block, rest := pem.Decode(published); block != nil; block, rest = pem.Decode(rest) {
		v.sight.published[messages.CertificateIDOf(block.Bytes)] = true
	}
	if settings.custom() {
		v.sight.refused = book.Rejected.Reason
	}
	v.state = book.State(ca.Settings{
		Type: settings.Type, Custom: settings.custom(), RotationDisabled: settings.RotationDisabled, CloudConfigured: cloud,
	}, nil, func(messages.CertificateID) bool { return false })
	return v, nil
}

// Describe tells what there is.
func (a *Authority) Describe() AuthorityStatus { return a.View().Describe() }

// Describe tells it to people.
func (v AuthorityView) Describe() AuthorityStatus {
	issuer, _ := v.state.Issuer(v.now)
	_, leftOut := v.book.Hosts()
	status := AuthorityStatus{
		Authorities: []AuthorityInfo{}, Certificates: []CertificateInfo{}, Coming: ca.Outlook(v.state, v.now),
		Addresses: v.book.Addresses(), Refused: v.sight.refused, RotationOff: v.state.Settings.RotationDisabled,
		Failing: v.sight.failed, Since: v.sight.since, Issued: v.issued,
	}
	for _, err := range leftOut {
		status.LeftOut = append(status.LeftOut, err.Error())
	}
	for i, entry := range v.book.Authorities {
		info := AuthorityInfo{
			ID: entry.ID, Type: entry.Type, Custom: entry.Custom, CertificateURI: entry.CertificateURI, Reason: entry.Reason,
			NotBefore: instant(entry.NotBeforeMs), NotAfter: instant(entry.NotAfterMs), Since: instant(entry.SinceMs),
			Issues: entry.ID == issuer.ID, Published: v.sight.published[entry.ID],
			Announced: v.state.Authorities[i].Acknowledged, Uploaded: entry.UploadedMs != 0, KeyMissing: v.sight.unusable[entry.ID],
		}
		if c, err := x509.ParseCertificate(entry.Chain[0]); err == nil { // the decider took no other
			info.Subject, info.Serial, info.Key = c.Subject.String(), ca.SerialText(c), keyText(c.PublicKey)
		}
		if top, err := x509.ParseCertificate(entry.Chain[len(entry.Chain)-1]); err == nil && len(entry.Chain) > 1 {
			info.Root = top.Subject.String()
		}
		status.Authorities = append(status.Authorities, info)
	}
	subscribed := map[subscription]ca.Subscription{}
	for _, s := range v.state.Subscriptions {
		subscribed[subscription{s.Subscriber, s.Usage}] = s
	}
	for _, h := range v.book.Holders {
		if h.Last.Serial == "" {
			continue
		}
		s, ok := subscribed[subscription{h.Subscriber, h.Usage}]
		info := certificateInfo(h)
		if info.Subscribed = ok; ok && s.Issued {
			info.Rotation, info.Next = ca.Renewal(v.state, s, v.now)
		}
		status.Certificates = append(status.Certificates, info)
	}
	return status
}

func certificateInfo(h ca.Holder) CertificateInfo {
	info := CertificateInfo{
		Subscriber: h.Subscriber, Usage: h.Usage.String(), Names: h.Last.Names, Serial: h.Last.Serial, Reason: h.Last.Reason,
		NotBefore: instant(h.Last.NotBeforeMs), NotAfter: instant(h.Last.NotAfterMs), Delivered: h.Delivered, Authority: h.Last.Authority,
		Withdrawn: h.Withdrawn,
	}
	if h.Last.IssuedMs != 0 { // not known of those that a version before has folded
		info.IssuedAt = instant(h.Last.IssuedMs)
	}
	return info
}

func keyText(public any) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "EC " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", public)
}

func instant(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

// PEM is what devices must trust: of each authority in use the chain.
func (a *Authority) PEM() []byte { return a.book.Load().Bundle() }

// PEM is what devices must trust: of each authority in use the chain.
func (v AuthorityView) PEM() []byte { return v.book.Bundle() }

// Issuing is the certificate, in PEM, by which new certificates are signed now.
func (v AuthorityView) Issuing() ([]byte, error) {
	issuer, ok := v.state.Issuer(v.now)
	entry, known := v.book.Entry(issuer.ID)
	if !ok || !known {
		return nil, errors.New("no authority can issue certificates now; see `gatehouse ca show`")
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: entry.Chain[0]}), nil
}

// Held is the certificate of a server or client in this process, exchanged while it runs:
// open connections stay.
type Held struct {
	current keys.Current
	cancel  func()
}

// Hold subscribes for this process, with keys made here. There may be no certificate yet,
// where only the clock or a full disk is in the way.
func (a *Authority) Hold(ctx context.Context, name string, usage ca.Usage) (*Held, error) {
	h := &Held{}
	var err error
	h.cancel, err = a.Subscribe(ctx, Subscribe{Subscriber: name, Usage: usage, Later: true, Deliver: func(d Delivery) {
		if err := h.current.Set(append([][]byte{d.Certificate}, d.Chain...), d.Key); err != nil {
			a.cfg.Logger.Error("a certificate cannot be used; the former one stays", "subscriber", name, "error", err)
			return
		}
		d.Acknowledge()
	}})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// GetCertificate is for tls.Config.GetCertificate.
func (h *Held) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return h.current.GetCertificate(hello)
}

// Leaf is the certificate in use, nil if there is none yet.
func (h *Held) Leaf() *x509.Certificate { return h.current.Leaf() }

// Describe is the certificate in use, for people; empty if there is none yet.
func (h *Held) Describe() map[string]string {
	leaf := h.current.Leaf()
	if leaf == nil {
		return nil
	}
	return map[string]string{
		"serial": ca.SerialText(leaf), "notAfter": leaf.NotAfter.UTC().Format(time.RFC3339),
		"renewal": ca.RenewAt(leaf.NotBefore, leaf.NotAfter).UTC().Format(time.RFC3339),
	}
}

// Close ends the subscription; the certificate stays.
func (h *Held) Close() { h.cancel() }
