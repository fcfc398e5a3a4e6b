package actors

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Subscribe says who wants certificates.
type Subscribe struct {
	Subscriber string   // the common name: a broker's or a component's
	Usage      ca.Usage // ca.Server, ca.Client or ca.ClientAndServer
	// PublicKey is the holder's, whose private half never comes here. nil: a key is made
	// for each certificate and handed over with it, which ca.ClientAndServer does not allow.
	PublicKey crypto.PublicKey
	// Deliver hears of each certificate, one after the other. It must not block, nor call
	// the Authority, but for Delivery.Acknowledge.
	Deliver func(Delivery)
	// Later says that the first may come after Subscribe has returned, where only the clock
	// or a full disk is in the way.
	Later bool
}

// Delivery is a certificate on its way to its holder. It comes again, with the same serial
// number, when the chain or the bundle has changed, and every minute until it is
// acknowledged.
type Delivery struct {
	Serial      string // as the log holds it
	Certificate []byte // DER
	NotAfter    time.Time
	Chain       [][]byte      // DER of the authorities above it, the issuing one first
	Key         crypto.Signer // the private key; nil: it is the holder's own
	Bundle      []byte        // PEM of all authorities to trust
	// Acknowledge says that the holder has the certificate. It may be called later, from
	// anywhere, and more than once.
	Acknowledge func()
}

// subscription names a subscriber: a name may have one certificate for each usage.
type subscription struct {
	name  string
	usage ca.Usage
}

func (s subscription) compare(t subscription) int {
	return cmp.Or(cmp.Compare(s.name, t.name), cmp.Compare(s.usage, t.usage))
}

// subscriber is one that subscribes now.
type subscriber struct {
	of      subscription
	public  crypto.PublicKey
	deliver func(Delivery)
	current atomic.Pointer[holding] // what it holds
	demand  atomic.Pointer[string]  // an operator's reason to issue anew
}

// holding is a certificate in a subscriber's hands.
type holding struct {
	leaf         *x509.Certificate
	key          crypto.Signer
	authority    messages.CertificateID
	hosts        []ca.Host
	acknowledged atomic.Bool
	handed       time.Time // guarded by Authority.turn, as the next
	chain        [][]byte  // it was handed over with …
	bundle       []byte    // … and this
}

func (s *subscriber) hold(h *holding) {
	s.current.Store(h)
	s.demand.Store(nil)
}

// ErrSubscriber is wrapped by errors about who subscribes.
var ErrSubscriber = errors.New("cannot subscribe")

// Subscribe takes up a subscriber, in place of one with the same name and usage, and hands
// it a certificate before it returns: the one it held before, if that is good for its key,
// or a new one. Later ones come when they are due. cancel ends it.
func (a *Authority) Subscribe(ctx context.Context, want Subscribe) (cancel func(), err error) {
	of := subscription{want.Subscriber, want.Usage}
	switch {
	case want.Deliver == nil:
		return nil, fmt.Errorf("%w: nobody takes the certificates", ErrSubscriber)
	case want.Usage != ca.Server && want.Usage != ca.Client && want.Usage != ca.ClientAndServer:
		return nil, fmt.Errorf("%w: usage %s", ErrSubscriber, want.Usage)
	case want.Usage == ca.ClientAndServer && want.PublicKey == nil: // vectors server-cert, triggers
		return nil, fmt.Errorf("%w: a %s certificate is for a key of the subscriber's own: send a certificate signing request", ErrSubscriber, want.Usage)
	}
	s := &subscriber{of: of, public: want.PublicKey, deliver: want.Deliver}
	a.turn.Lock()
	defer a.turn.Unlock()
	if h := a.kept(s); h != nil {
		s.current.Store(h)
	}
	a.mu.Lock()
	if a.closed || len(a.subscribers) >= subscribersMax && a.subscribers[of] == nil {
		a.mu.Unlock()
		return nil, fmt.Errorf("%w: stopping, or there are %d subscribers, which is the most", ErrSubscriber, subscribersMax)
	}
	former := a.subscribers[of]
	a.subscribers[of] = s
	a.mu.Unlock()
	failed := append(a.pass(ctx), a.customError())
	switch why := errors.Join(failed...); {
	case s.current.Load() != nil:
	case want.Later && passing(failed):
		a.cfg.Logger.Error("no certificate yet; it comes when the clock is right, or there is space", "subscriber", want.Subscriber, "error", why)
	case why == nil:
		a.replace(s, former)
		return nil, fmt.Errorf("no certificate for %s: by the clock, %s, no authority is valid", want.Subscriber, a.now().Format(time.RFC3339))
	default:
		a.replace(s, former)
		return nil, fmt.Errorf("no certificate for %s: %w", want.Subscriber, why)
	}
	return func() { a.replace(s, nil) }, nil
}

// passing says whether what failed needs nobody to mend it but time: nothing did, or the log
// had no space.
func passing(failed []error) bool {
	for _, err := range failed {
		if r, ok := errors.AsType[*messages.Refusal](err); err != nil && (!ok || r.Code != messages.RefusedBusy) {
			return false
		}
	}
	return true
}

// subscribersMax bounds who subscribes at the same time: as many as the log remembers.
const subscribersMax = 1024

// replace takes s out, and puts former in its place, unless somebody else has it.
func (a *Authority) replace(s, former *subscriber) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.subscribers[s.of] != s {
		return
	}
	delete(a.subscribers, s.of)
	if former != nil {
		a.subscribers[s.of] = former
	}
}

func (a *Authority) subscriber(of subscription) *subscriber {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.subscribers[of]
}

// kept finds the certificate that s has already: of the subscription before it, or of
// before a restart, for the same key.
func (a *Authority) kept(s *subscriber) *holding {
	holder, ok := a.book.Load().Holder(s.of.name, s.of.usage)
	if holder.Withdrawn || s.of.usage == ca.Client && a.withdrawn(s.of.name, holder.Last.DER) { // it would count for nothing
		return nil
	}
	if former := a.subscriber(s.of); former != nil {
		if h := former.current.Load(); h != nil && sameKey(s.public, former.public) {
			return &holding{leaf: h.leaf, key: h.key, authority: h.authority, hosts: h.hosts}
		}
	}
	if !ok || holder.Last.Serial == "" || s.public == nil {
		return nil
	}
	if _, ok := a.book.Load().Entry(holder.Last.Authority); !ok {
		return nil
	}
	leaf, err := x509.ParseCertificate(holder.Last.DER)
	if err != nil || !sameKey(s.public, leaf.PublicKey) || !a.now().Before(leaf.NotAfter) {
		return nil
	}
	hosts, _ := ca.ParseHosts(holder.Last.Names)
	return &holding{leaf: leaf, authority: holder.Last.Authority, hosts: hosts}
}

// sameKey says whether two holders' keys are the same; two whose keys are made here are.
func sameKey(x, y crypto.PublicKey) bool {
	if x == nil || y == nil {
		return x == nil && y == nil
	}
	public, ok := x.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(y)
}

// subscriptions is the plan's view of the subscribers.
func (a *Authority) subscriptions() []ca.Subscription {
	var list []ca.Subscription
	for _, s := range a.all() {
		p := ca.Subscription{Subscriber: s.of.name, Usage: s.of.usage}
		if h := s.current.Load(); h != nil {
			p.Issued, p.Authority, p.NotBefore, p.NotAfter, p.Hosts = true, h.authority, h.leaf.NotBefore, h.leaf.NotAfter, h.hosts
		}
		list = append(list, p)
	}
	return list
}

// demanded are the steps an operator asked for and the plan does not have.
func (a *Authority) demanded(issuer messages.CertificateID, due []ca.Step) []ca.Step {
	var steps []ca.Step
	for _, s := range a.all() {
		reason := s.demand.Load()
		if reason == nil {
			continue
		}
		planned := slices.ContainsFunc(due, func(d ca.Step) bool {
			return d.Do == ca.IssueCertificate && d.Subscriber == s.of.name && d.Usage == s.of.usage
		})
		if !planned {
			steps = append(steps, ca.Step{Do: ca.IssueCertificate, Authority: issuer, Subscriber: s.of.name, Usage: s.of.usage, Reason: *reason})
		}
	}
	return steps
}

// hand gives s what it holds. turn is held.
func (a *Authority) hand(s *subscriber) {
	h := s.current.Load()
	entry, ok := a.book.Load().Entry(h.authority)
	if !ok {
		return // retired: the plan has another for it
	}
	h.handed, h.chain, h.bundle = a.now(), entry.Chain, a.bundle
	d := Delivery{
		Serial: ca.SerialText(h.leaf), Certificate: h.leaf.Raw, NotAfter: h.leaf.NotAfter, Chain: entry.Chain, Key: h.key, Bundle: a.bundle,
		Acknowledge: func() { a.acknowledge(s, h) },
	}
	s.deliver(d)
}

// redeliver hands certificates over again that were not acknowledged, or whose chain or
// bundle has changed. turn is held.
func (a *Authority) redeliver() {
	for _, s := range a.all() {
		h := s.current.Load()
		if h == nil {
			continue
		}
		entry, ok := a.book.Load().Entry(h.authority)
		changed := !slices.EqualFunc(h.chain, entry.Chain, bytes.Equal) || !bytes.Equal(h.bundle, a.bundle)
		if ok && (changed || !h.acknowledged.Load() && a.now().Sub(h.handed) >= lookEvery) {
			a.hand(s)
		}
	}
}

// acknowledge puts on record that the holder has its certificate, unless it has had a
// later one.
func (a *Authority) acknowledge(s *subscriber, h *holding) {
	if s.current.Load() != h || h.acknowledged.Load() {
		return
	}
	ctx, cancel := a.cfg.System.within(a.ctx, authorityRetry, context.DeadlineExceeded)
	defer cancel()
	if err := a.note(ctx, &messages.CertificateDelivered{Subscriber: s.of.name, Serial: ca.SerialText(h.leaf)}); err != nil {
		a.cfg.Logger.Warn("delivery of a certificate is not recorded; it is handed over again", "subscriber", s.of.name, "error", err)
		return
	}
	h.acknowledged.Store(true)
}

// Hosts says which names and addresses this core is dialled by, as source knows them; none
// forgets what it said before. They are remembered, but for those beyond what the log takes
// of one source, of which the log of the program tells. Certificates that serve follow.
func (a *Authority) Hosts(ctx context.Context, source string, addresses []string) error {
	a.turn.Lock()
	defer a.turn.Unlock()
	kept, left := ca.Storable(addresses)
	if err := a.note(ctx, &messages.HostAddressesChanged{Source: source, Addresses: kept}); err != nil {
		return err
	}
	_, rejected := a.book.Load().Hosts()
	for _, err := range append(left, rejected...) {
		a.cfg.Logger.Warn("a host address is left out of certificates", "source", source, "error", err)
	}
	a.pass(ctx)
	return nil
}

// hosts are those that a certificate holds.
func (a *Authority) hosts() []ca.Host {
	hosts, _ := a.book.Load().Hosts()
	return hosts
}

// Rotate issues new certificates now to the subscribers called names, to all if there are
// none, whatever the configuration says of rotation, for a reason that goes on record. A
// name that nobody subscribes by is refused, and then nothing is issued. What fails is tried
// again at the next looks.
func (a *Authority) Rotate(ctx context.Context, reason string, names ...string) error {
	list := a.all()
	for _, name := range names {
		if !slices.ContainsFunc(list, func(s *subscriber) bool { return s.of.name == name }) {
			return fmt.Errorf("%w: nobody subscribes by the name %.80q now", ErrUnknownSubscriber, name)
		}
	}
	for _, s := range list {
		if len(names) == 0 || slices.Contains(names, s.of.name) {
			s.demand.Store(&reason)
		}
	}
	a.turn.Lock()
	defer a.turn.Unlock()
	a.wake()
	return errors.Join(a.pass(ctx)...)
}

// ErrUnknownSubscriber is wrapped by an order for somebody who does not subscribe.
var ErrUnknownSubscriber = errors.New("no such subscriber")

// ErrCustom is wrapped by what only makes sense for a managed authority.
var ErrCustom = errors.New("the authority is the operator's own")

// ErrTimeUnknown is wrapped by what waits until the time is known.
var ErrTimeUnknown = errors.New("the time is not known")

// ErrWaiting is wrapped by an order for a successor where one waits to issue.
var ErrWaiting = errors.New("a new authority waits to issue")

// Replace makes a managed authority now, which follows the one in use by plan: published
// at once, it issues when devices have had time to hear of it. The reason goes on record.
// While one waits to issue there is no other: as many as there may be at the same time are
// soon made, and then none could be until the oldest has ended.
func (a *Authority) Replace(ctx context.Context, reason string) error {
	a.turn.Lock()
	defer a.turn.Unlock()
	switch {
	case a.cfg.Settings().custom():
		return fmt.Errorf("%w: it is replaced by changing what its URIs name", ErrCustom)
	case !a.cfg.System.clock.known(): // its dates would be nobody knows when
		return fmt.Errorf("%w: a new authority would begin and end nobody knows when", ErrTimeUnknown)
	}
	if waiting, from, ok := a.state().Waiting(a.now()); ok {
		return fmt.Errorf("%w: %s, from %s on, or sooner by `gatehouse ca announced`", ErrWaiting, waiting.ID, from.UTC().Format(time.RFC3339))
	}
	if err := a.create(ctx, reason); err != nil {
		return err
	}
	return errors.Join(a.pass(ctx)...)
}

// Announced says, on the word of by, that whoever must trust the newest authority has it:
// it need not wait for longer than ten minutes after it was made.
func (a *Authority) Announced(ctx context.Context, by string) error {
	a.turn.Lock()
	defer a.turn.Unlock()
	list := a.book.Load().Authorities
	if len(list) == 0 {
		return errors.New("there is no authority")
	}
	if err := a.note(ctx, &messages.AuthorityAnnounced{AuthorityId: string(list[len(list)-1].ID), By: by}); err != nil {
		return err
	}
	return errors.Join(a.pass(ctx)...)
}
