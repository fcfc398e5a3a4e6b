package ca

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Limits of what is remembered.
const (
	authoritiesMax = 8    // in use at the same time
	pastMax        = 32   // managed ones that were retired
	holdersMax     = 1024 // subscribers with a certificate
	componentsMax  = 4096 // certificates of components that have not ended …
	componentMax   = 8    // … and of them those of one name, the newest
	sourcesMax     = 16   // of addresses
	addressesMax   = 64   // of one source
)

// Book is the state of the CA entity: what stream core/ca says. It is a value: fold and
// decider never change one that was handed out.
type Book struct {
	Authorities []Entry     // not retired, oldest first
	Past        []Entry     // managed and retired, oldest first
	Holders     []Holder    // oldest first
	Components  []Component // certificates that make their holder internal, oldest first
	Sources     []Source    // of host addresses, in the order in which they were first heard
	Rejected    Rejection   // the custom authority that could not be used since the newest is in use
}

// Entry is an authority. Times are trust milliseconds.
type Entry struct {
	ID                               messages.CertificateID
	Chain                            [][]byte // DER, issuing certificate first
	Type                             string   // of a managed one; "" for a custom one
	Custom                           bool
	Reason                           string // why a managed one was made
	CertificateURI                   string // of a custom one, without PIN
	NotBeforeMs, NotAfterMs          int64
	SinceMs, UploadedMs, AnnouncedMs int64
	SignedUntilMs                    int64 // when the last certificate it has signed ends
	Returned                         bool  // taken up again after it was retired, and has signed nothing since
}

// Certificate is one that was ordered or issued.
type Certificate struct {
	Serial, Reason          string
	Authority               messages.CertificateID
	Names                   []string
	NotBeforeMs, NotAfterMs int64
	DER                     []byte // once it is issued …
	IssuedMs                int64  // … and when that was
}

// Holder is a subscriber with one usage, and its certificate.
type Holder struct {
	Subscriber string
	Usage      Usage
	Ordered    Certificate // an obligation that was not fulfilled yet; no Serial: none
	Last       Certificate // the last that was issued; no Serial: none
	Delivered  bool        // the holder said that it has Last
	Withdrawn  bool        // Last makes nobody an internal component any more: an operator took it back
}

// Component is a client certificate that was issued to a named component.
type Component struct {
	Certificate messages.CertificateID
	Authority   messages.CertificateID
	Name        string
	NotAfterMs  int64
}

// Source is where addresses of this core are known from, and what it said last.
type Source struct {
	Name      string
	Addresses []string
}

// Rejection is a custom authority that could not be used, and why.
type Rejection struct{ CertificateURI, PrivateKeyURI, Reason string }

// Evolve folds one event. It never fails: what is in the log happened.
func Evolve(b Book, e messages.Event, at messages.Instant) Book {
	switch e := e.(type) {
	case *messages.AuthorityCreated:
		return b.withAuthority(Entry{Chain: [][]byte{e.Der}, Type: e.CaType, Reason: e.Reason}, at)
	case *messages.AuthorityImported:
		return b.withAuthority(Entry{Chain: e.Chain, Custom: true, CertificateURI: e.CertificateUri}, at)
	case *messages.AuthorityUploaded:
		return b.changed(messages.CertificateID(e.AuthorityId), func(a *Entry) { a.UploadedMs = at.TrustMs })
	case *messages.AuthorityAnnounced:
		return b.changed(messages.CertificateID(e.AuthorityId), func(a *Entry) { a.AnnouncedMs = at.TrustMs })
	case *messages.AuthorityRetired:
		return b.without(messages.CertificateID(e.AuthorityId))
	case *messages.AuthorityRejected:
		b.Rejected = Rejection{e.CertificateUri, e.PrivateKeyUri, e.Reason}
	case *messages.CertificateOrdered:
		return b.ordered(e, at)
	case *messages.CertificateIssued:
		return b.issued(e, at)
	case *messages.CertificateDelivered:
		return b.delivered(e)
	case *messages.ComponentWithdrawn:
		return b.withoutComponent(e.Component)
	case *messages.HostAddressesChanged:
		return b.withAddresses(e)
	}
	return b
}

// withAuthority puts an authority at the end: it is the newest. One that was there before
// keeps what is known of it; what changed is its place, or the chain above it.
func (b Book) withAuthority(a Entry, at messages.Instant) Book {
	if len(a.Chain) == 0 {
		return b
	}
	a.ID, a.SinceMs = messages.CertificateIDOf(a.Chain[0]), at.TrustMs
	if c, err := x509.ParseCertificate(a.Chain[0]); err == nil { // the decider took no other
		a.NotBeforeMs, a.NotAfterMs = c.NotBefore.UnixMilli(), c.NotAfter.UnixMilli()
	}
	if i := b.find(a.ID); i >= 0 { // it has been published all the time
		former := b.Authorities[i]
		a.SinceMs, a.UploadedMs, a.AnnouncedMs = former.SinceMs, former.UploadedMs, former.AnnouncedMs
		a.SignedUntilMs, a.Returned = former.SignedUntilMs, former.Returned
		b.Authorities = slices.Delete(slices.Clone(b.Authorities), i, i+1)
	}
	if i := slices.IndexFunc(b.Past, func(p Entry) bool { return p.ID == a.ID }); i >= 0 {
		a.SignedUntilMs, a.Returned = b.Past[i].SignedUntilMs, true // who came since has never heard of it
		b.Past = slices.Delete(slices.Clone(b.Past), i, i+1)
	}
	b.Authorities = append(slices.Clip(b.Authorities), a)
	b.Rejected = Rejection{} // a custom one is in use now, or none is configured
	return b
}

func (b Book) find(id messages.CertificateID) int {
	return slices.IndexFunc(b.Authorities, func(a Entry) bool { return a.ID == id })
}

func (b Book) changed(id messages.CertificateID, change func(*Entry)) Book {
	if i := b.find(id); i >= 0 {
		b.Authorities = slices.Clone(b.Authorities)
		change(&b.Authorities[i])
	}
	return b
}

func (b Book) without(id messages.CertificateID) Book {
	i := b.find(id)
	if i < 0 {
		return b
	}
	if a := b.Authorities[i]; !a.Custom {
		a.UploadedMs = 0
		b.Past = append(slices.Clip(b.Past), a)
		b.Past = b.Past[max(0, len(b.Past)-pastMax):]
	}
	b.Authorities = slices.Delete(slices.Clone(b.Authorities), i, i+1)
	b.Components = slices.DeleteFunc(slices.Clone(b.Components), func(c Component) bool { return c.Authority == id })
	return b
}

// withoutComponent lets no client certificate count that was issued to name, or ordered.
func (b Book) withoutComponent(name string) Book {
	b.Components = slices.DeleteFunc(slices.Clone(b.Components), func(c Component) bool { return c.Name == name })
	b.Holders = slices.Clone(b.Holders)
	for i := range b.Holders {
		if h := &b.Holders[i]; h.Subscriber == name && h.Usage == Client {
			h.Ordered, h.Withdrawn = Certificate{}, h.Last.Serial != ""
		}
	}
	return b
}

// ordered notes an obligation, and forgets those whose certificates ended long ago.
func (b Book) ordered(e *messages.CertificateOrdered, at messages.Instant) Book {
	kept := slices.DeleteFunc(slices.Clone(b.Holders), func(h Holder) bool {
		return max(h.Last.NotAfterMs, h.Ordered.NotAfterMs)+ValidityMax.Milliseconds() < at.TrustMs
	})
	usage, _ := ParseUsage(e.Usage)
	order := Certificate{
		Serial: e.Serial, Reason: e.Reason, Authority: messages.CertificateID(e.AuthorityId), Names: e.Names,
		NotBeforeMs: e.NotBeforeMs, NotAfterMs: e.NotAfterMs,
	}
	i := slices.IndexFunc(kept, func(h Holder) bool { return h.Subscriber == e.Subscriber && h.Usage == usage })
	if i < 0 {
		kept = append(kept, Holder{Subscriber: e.Subscriber, Usage: usage})
		i = len(kept) - 1
	}
	kept[i].Ordered = order
	b.Holders = kept
	return b
}

func (b Book) issued(e *messages.CertificateIssued, at messages.Instant) Book {
	i := b.order(e.Subscriber, e.Serial)
	if i < 0 {
		return b
	}
	b.Holders = slices.Clone(b.Holders)
	h := &b.Holders[i]
	h.Last, h.Ordered, h.Delivered, h.Withdrawn = h.Ordered, Certificate{}, false, false
	h.Last.DER, h.Last.IssuedMs = e.Der, at.TrustMs
	last := h.Last
	if h.Usage == Client {
		b.Components = append(b.componentsBeside(h.Subscriber, at), Component{
			Certificate: messages.CertificateIDOf(e.Der), Authority: last.Authority, Name: h.Subscriber, NotAfterMs: last.NotAfterMs,
		})
	}
	return b.changed(last.Authority, func(a *Entry) {
		a.SignedUntilMs, a.Returned = max(a.SignedUntilMs, last.NotAfterMs), false
	})
}

// componentsBeside lists what stays when name gets another certificate: what has not ended,
// and of name's own the newest. What a component asks for displaces no other's.
func (b Book) componentsBeside(name string, at messages.Instant) []Component {
	list := slices.DeleteFunc(slices.Clone(b.Components), func(c Component) bool { return c.NotAfterMs < at.TrustMs })
	own := 0
	for i, c := range slices.Backward(list) {
		if c.Name != name {
			continue
		}
		if own++; own >= componentMax {
			list = slices.Delete(list, i, i+1)
		}
	}
	return list
}

func (b Book) order(subscriber, serial string) int {
	return slices.IndexFunc(b.Holders, func(h Holder) bool { return h.Subscriber == subscriber && h.Ordered.Serial == serial && serial != "" })
}

func (b Book) last(subscriber, serial string) int {
	return slices.IndexFunc(b.Holders, func(h Holder) bool { return h.Subscriber == subscriber && h.Last.Serial == serial && serial != "" })
}

func (b Book) delivered(e *messages.CertificateDelivered) Book {
	if i := b.last(e.Subscriber, e.Serial); i >= 0 {
		b.Holders = slices.Clone(b.Holders)
		b.Holders[i].Delivered = true
	}
	return b
}

func (b Book) withAddresses(e *messages.HostAddressesChanged) Book {
	b.Sources = slices.Clone(b.Sources)
	i := slices.IndexFunc(b.Sources, func(s Source) bool { return s.Name == e.Source })
	if i < 0 {
		b.Sources = append(b.Sources, Source{Name: e.Source})
		i = len(b.Sources) - 1
	}
	b.Sources[i].Addresses = e.Addresses
	return b
}

// Holder returns what subscriber holds for usage.
func (b Book) Holder(subscriber string, usage Usage) (Holder, bool) {
	i := slices.IndexFunc(b.Holders, func(h Holder) bool { return h.Subscriber == subscriber && h.Usage == usage })
	if i < 0 {
		return Holder{}, false
	}
	return b.Holders[i], true
}

// Entry returns the authority id, unless it is retired.
func (b Book) Entry(id messages.CertificateID) (Entry, bool) {
	if i := b.find(id); i >= 0 {
		return b.Authorities[i], true
	}
	return Entry{}, false
}

// Addresses returns the union of all sources.
func (b Book) Addresses() []string {
	var all []string
	for _, s := range b.Sources {
		for _, address := range s.Addresses {
			if !slices.Contains(all, address) {
				all = append(all, address)
			}
		}
	}
	return all
}

// Hosts returns the hosts that a server certificate holds, which are at most NamesMax with
// localhost, and what of Addresses is not in it and why.
func (b Book) Hosts() (hosts []Host, rejected []error) {
	hosts, rejected = ParseHosts(b.Addresses())
	all := withLocalhost(hosts)
	if len(all) <= NamesMax {
		return hosts, rejected
	}
	for _, over := range all[NamesMax-1 : len(all)-1] { // localhost is the last
		rejected = append(rejected, tooMany(over))
	}
	return all[:NamesMax-1], rejected
}

// ComponentIssuer returns the authority, not retired, that issued the certificate id to the
// component name.
func (b Book) ComponentIssuer(id messages.CertificateID, name string) (Entry, bool) {
	i := slices.IndexFunc(b.Components, func(c Component) bool { return c.Certificate == id && c.Name == name })
	if i < 0 {
		return Entry{}, false
	}
	return b.Entry(b.Components[i].Authority)
}

// ComponentCertificates counts the certificates that make somebody the component name at
// nowMs.
func (b Book) ComponentCertificates(name string, nowMs int64) (n int) {
	for _, c := range b.Components {
		if c.Name == name && c.NotAfterMs >= nowMs {
			n++
		}
	}
	return n
}

// Bundle returns in PEM all certificates that must be trusted: of each authority that is
// not retired the chain.
func (b Book) Bundle() []byte {
	var list [][]byte
	for _, a := range b.Authorities {
		list = append(list, a.Chain...)
	}
	return encode(list)
}

// Tops returns in PEM the topmost certificate of each authority that is not retired: what
// the cloud is told (client-device-auth spec 6.6).
func (b Book) Tops() []byte {
	var list [][]byte
	for _, a := range b.Authorities {
		list = append(list, a.Chain[len(a.Chain)-1])
	}
	return encode(list)
}

// encode writes certificates, each once.
func encode(list [][]byte) []byte {
	var text bytes.Buffer
	for i, der := range list {
		if !slices.ContainsFunc(list[:i], func(before []byte) bool { return bytes.Equal(before, der) }) {
			_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: der}) // a buffer takes everything
		}
	}
	return text.Bytes()
}

// State is what the plan follows from. unusable are the authorities whose keys are not at
// hand; s.Hosts is filled in.
func (b Book) State(s Settings, subscriptions []Subscription, unusable func(messages.CertificateID) bool) State {
	s.Hosts, _ = b.Hosts()
	state := State{Settings: s, Subscriptions: subscriptions}
	for _, a := range b.Authorities {
		known, at := a.acknowledged(s.CloudConfigured)
		state.Authorities = append(state.Authorities, Standing{
			ID: a.ID, Type: a.Type, Custom: a.Custom, Unusable: unusable(a.ID),
			NotBefore: time.UnixMilli(a.NotBeforeMs), NotAfter: time.UnixMilli(a.NotAfterMs), Since: time.UnixMilli(a.SinceMs),
			Acknowledged: known, AcknowledgedAt: time.UnixMilli(at), SignedUntil: time.UnixMilli(a.SignedUntilMs),
		})
	}
	return state
}

// acknowledged says whether everybody who must trust a has it, and since when: the cloud,
// from which devices fetch it; or an operator says so; or it has signed since it is in use;
// or an operator brought it, and there is no cloud that would have to hear of it.
func (a Entry) acknowledged(cloud bool) (known bool, atMs int64) {
	if a.SignedUntilMs != 0 && !a.Returned || a.Custom && !cloud {
		return true, a.SinceMs
	}
	known = a.UploadedMs != 0 || a.AnnouncedMs != 0
	if atMs = a.AnnouncedMs; atMs == 0 || a.UploadedMs != 0 && a.UploadedMs < atMs {
		atMs = a.UploadedMs
	}
	return known, atMs
}

// Reinstated returns the managed authority of type caType that a custom one replaced, or one
// of another type: most devices know it, and its life is long enough. False: there is none.
func (b Book) Reinstated(caType string, now time.Time) (Entry, bool) {
	fits := func(a Entry) bool {
		return !a.Custom && a.Type == caType && now.UnixMilli() >= a.NotBeforeMs && now.Add(authorityRenewBefore).UnixMilli() < a.NotAfterMs
	}
	if n := len(b.Authorities); n == 0 || !b.Authorities[n-1].Custom && b.Authorities[n-1].Type == caType {
		return Entry{}, false // it has to be another
	}
	for _, list := range [][]Entry{b.Authorities, b.Past} {
		for _, a := range slices.Backward(list) {
			if fits(a) {
				return a, true
			}
		}
	}
	return Entry{}, false
}

// Managed lists the certificates of all managed authorities that are known, retired or
// not: their keys belong to nobody else.
func (b Book) Managed() []*x509.Certificate {
	byID := map[messages.CertificateID]*x509.Certificate{}
	for _, a := range slices.Concat(b.Past, b.Authorities) {
		if c, err := x509.ParseCertificate(a.Chain[0]); err == nil && !a.Custom {
			byID[a.ID] = c
		}
	}
	ids := slices.Sorted(maps.Keys(byID))
	list := make([]*x509.Certificate, len(ids))
	for i, id := range ids {
		list[i] = byID[id]
	}
	return list
}
