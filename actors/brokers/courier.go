package brokers

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// Bounds of what brokers may ask of the authority.
const (
	// askShare is how often a broker is told to ask within its lease: several tries fit.
	askShare = 5
	// A broker's new subscriptions: so many at once, and then one in subscribeEvery. Each may
	// cost a certificate, which stays in the log for ever.
	subscribeAtOnce = 10
	subscribeEvery  = time.Minute
	// subscribeTime bounds the wait for the authority. The broker was told Busy before.
	subscribeTime = 30 * time.Second
	// recipientsMax bounds the brokers that are remembered.
	recipientsMax = 4096
)

// CourierConfig is what a courier needs to know. Issuer, Pusher and Log are required.
type CourierConfig struct {
	Issuer Issuer
	Pusher *Pusher
	Log    *slog.Logger
	// Permit says whether a broker may have certificates of a type; nil permits
	// authapi.CertificateServer alone (client-device-auth spec 7.3: default deny). It must not
	// block, nor call the courier; call Review when its answers change.
	Permit func(messages.BrokerID, authapi.CertificateType) bool
	// Lease is how long a broker stays a subscriber after it asked; default 10 minutes, at
	// least 5 seconds.
	Lease time.Duration
	Clock Clock // default SystemClock
	// Spawn runs f, which waits for the authority, on its own: for the simulator. Default: a
	// goroutine.
	Spawn func(f func())
}

// Courier brings brokers their certificates: it answers what they ask, pushes what is
// issued later, and tells the authority what they acknowledge. Who has not asked for a
// lease's time is no subscriber any more. Safe for concurrent use.
type Courier struct {
	cfg CourierConfig
	ctx context.Context // ends with Close
	end context.CancelFunc

	mu     sync.Mutex // guards what follows, with all recipients, leases and holdings; never held while waiting
	to     map[messages.BrokerID]*recipient
	closed bool
	work   sync.WaitGroup // subscribing and acknowledging; grows under mu, while not closed

	counts courierCounters
}

// recipient is one broker.
type recipient struct {
	broker messages.BrokerID
	leases map[authapi.CertificateType]*lease
	paid   time.Time // when its subscriptions will have been earned, at one in subscribeEvery
	gone   bool      // it was removed: what is under way for it comes to nothing
}

// lease is a broker's subscription for one type.
type lease struct {
	of     *recipient
	usage  authapi.CertificateType
	until  time.Time
	asking bool     // the authority is being asked for another holding
	held   *holding // nil: it does not subscribe
}

// NewCourier returns a courier without subscribers. Close ends it.
func NewCourier(cfg CourierConfig) (*Courier, error) {
	if cfg.Issuer == nil || cfg.Pusher == nil || cfg.Log == nil {
		return nil, errors.New("courier: Issuer, Pusher and Log are required")
	}
	if cfg.Permit == nil {
		cfg.Permit = func(_ messages.BrokerID, t authapi.CertificateType) bool { return t == authapi.CertificateServer }
	}
	if cfg.Lease <= 0 {
		cfg.Lease = 10 * time.Minute
	}
	cfg.Lease = max(cfg.Lease, askShare*time.Second)
	if cfg.Clock == nil {
		cfg.Clock = SystemClock{}
	}
	if cfg.Spawn == nil {
		cfg.Spawn = func(f func()) { go f() }
	}
	c := &Courier{cfg: cfg, to: map[messages.BrokerID]*recipient{}}
	c.ctx, c.end = context.WithCancel(context.Background())
	return c, nil
}

// Ask answers a certificates request: from memory, if the broker is a subscriber with that
// key, else when the authority has answered. It calls reply exactly once, on any goroutine,
// possibly before it returns, and does not wait.
func (c *Courier) Ask(from Caller, q authapi.CertificatesRequest, reply func(authapi.CertificatesReply, error)) {
	usage := q.CertificateOptions.CertificateType
	if !c.cfg.Permit(from.Broker, usage) {
		reply(authapi.CertificatesReply{}, notPermitted(from.Broker, usage))
		return
	}
	want, err := c.wanted(from.Broker, q)
	if err != nil {
		reply(authapi.CertificatesReply{}, messages.Refuse(messages.RefusedInvalidArguments, "%v", err))
		return
	}
	l, held, err := c.find(from.Broker, usage, want)
	switch {
	case err != nil:
		reply(authapi.CertificatesReply{}, err)
	case held != nil:
		c.acknowledge(held, q.Held)
		reply(c.answer(l, held))
	default:
		c.cfg.Spawn(func() {
			defer c.work.Done() // find counted it
			reply(c.subscribe(l, want, q.Held))
		})
	}
}

func notPermitted(broker messages.BrokerID, usage authapi.CertificateType) error {
	return messages.Refuse(messages.RefusedUnauthorized, "broker %s may not have %s certificates; see `gatehouse broker add --help`", broker, usage)
}

func busyFor(d time.Duration, format string, args ...any) error {
	refusal := messages.Refuse(messages.RefusedBusy, format, args...)
	refusal.RetryAfter = d
	return refusal
}

// wanted is what q asks for. A request that the broker sent before is not judged again.
func (c *Courier) wanted(broker messages.BrokerID, q authapi.CertificatesRequest) (*holding, error) {
	want := &holding{request: q.CertificateSigningRequest, sealTo: q.SealTo}
	if q.SealTo != "" {
		return want, checkSealTo(q.SealTo)
	}
	c.mu.Lock()
	if r := c.to[broker]; r != nil {
		if l := r.leases[q.CertificateOptions.CertificateType]; l != nil && l.held != nil && l.held.request == want.request {
			want.public = l.held.public
		}
	}
	c.mu.Unlock()
	if want.public != nil {
		return want, nil
	}
	var err error
	want.public, err = c.cfg.Issuer.PublicKey([]byte(q.CertificateSigningRequest))
	return want, err
}

// find prolongs the broker's lease and returns what it holds, if that is for the key that
// want is for. Else held is nil, l marked as asking, and c.work counted up.
func (c *Courier) find(broker messages.BrokerID, usage authapi.CertificateType, want *holding) (l *lease, held *holding, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, messages.Refuse(messages.RefusedNotReady, "certificates: stopping")
	}
	now := c.cfg.Clock.Now()
	if l, err = c.lease(broker, usage, now); err != nil {
		return nil, nil, err
	}
	if l.held != nil && l.held.sameKey(want) {
		l.held.request, l.held.sealTo = want.request, want.sealTo
		l.until = now.Add(c.cfg.Lease)
		return l, l.held, nil
	}
	if l.asking {
		return nil, nil, busyFor(time.Second, "broker %s asks for a %s certificate already", broker, usage)
	}
	if wait := l.of.charge(now); wait > 0 {
		return nil, nil, busyFor(wait, "broker %s subscribed with new keys, or anew, %d times in short time", broker, subscribeAtOnce)
	}
	l.asking = true
	c.work.Add(1)
	return l, nil, nil
}

// lease finds or makes the broker's lease. c.mu is held.
func (c *Courier) lease(broker messages.BrokerID, usage authapi.CertificateType, now time.Time) (*lease, error) {
	r := c.to[broker]
	if r == nil {
		if len(c.to) >= recipientsMax {
			c.tidy(now)
		}
		if len(c.to) >= recipientsMax {
			return nil, busyFor(subscribeEvery, "%d brokers ask for certificates, which is the most", recipientsMax)
		}
		r = &recipient{broker: broker, leases: map[authapi.CertificateType]*lease{}}
		c.to[broker] = r
	}
	l := r.leases[usage]
	if l == nil {
		l = &lease{of: r, usage: usage}
		r.leases[usage] = l
	}
	return l, nil
}

// tidy forgets brokers that nothing has to be known of. c.mu is held.
func (c *Courier) tidy(now time.Time) {
	for broker, r := range c.to {
		idle := !r.paid.After(now)
		for _, l := range r.leases {
			idle = idle && !l.asking && l.held == nil
		}
		if idle {
			delete(c.to, broker)
		}
	}
}

// charge pays for a subscription, or says how long to wait until the broker can.
func (r *recipient) charge(now time.Time) (wait time.Duration) {
	paid := r.paid
	if paid.Before(now) {
		paid = now
	}
	if wait = paid.Sub(now) - (subscribeAtOnce-1)*subscribeEvery; wait > 0 {
		return wait
	}
	r.paid = paid.Add(subscribeEvery)
	return 0
}

// subscribe asks the authority for want, and puts it in the place of what l held.
func (c *Courier) subscribe(l *lease, want *holding, held string) (authapi.CertificatesReply, error) {
	broker := l.of.broker
	ctx, end := context.WithCancelCause(c.ctx)
	defer end(nil)
	defer c.cfg.Clock.AfterFunc(subscribeTime, func() { end(context.DeadlineExceeded) })()
	cancel, err := c.cfg.Issuer.Subscribe(ctx, Subscription{
		Broker: broker, Type: l.usage, PublicKey: want.public, Deliver: func(d Delivery) { c.deliver(l, want, d) },
	})
	if err == nil {
		err = c.install(l, want, cancel, held)
	} else {
		c.mu.Lock()
		l.asking = false
		c.mu.Unlock()
	}
	if err != nil {
		return authapi.CertificatesReply{}, err
	}
	c.acknowledge(want, held)
	return c.answer(l, want)
}

// install makes want what l holds, unless the broker may not have it any more.
func (c *Courier) install(l *lease, want *holding, cancel func(), held string) error {
	c.mu.Lock()
	l.asking = false
	var err error
	switch {
	case c.closed:
		err = messages.Refuse(messages.RefusedNotReady, "certificates: stopping")
	case l.of.gone || !c.cfg.Permit(l.of.broker, l.usage):
		err = notPermitted(l.of.broker, l.usage)
	case want.current == nil:
		err = errors.New("the authority took a subscriber without a certificate for it")
	}
	if err != nil {
		c.mu.Unlock()
		cancel()
		return err
	}
	defer c.mu.Unlock()
	if l.usage == authapi.CertificateServer && l.held == nil {
		c.counts.subscribed.Add(1)
	}
	if want.current.Serial != held {
		c.counts.issued.Add(1)
	}
	want.cancel, l.held = cancel, want
	l.until = c.cfg.Clock.Now().Add(c.cfg.Lease)
	c.watch(l, want)
	return nil
}

// watch ends the subscription when the lease does. c.mu is held.
func (c *Courier) watch(l *lease, h *holding) {
	h.stop = c.cfg.Clock.AfterFunc(l.until.Sub(c.cfg.Clock.Now()), func() {
		c.mu.Lock()
		if l.held != h {
			c.mu.Unlock()
			return
		}
		if c.cfg.Clock.Now().Before(l.until) {
			c.watch(l, h)
			c.mu.Unlock()
			return
		}
		l.held = nil
		c.counts.lapsed.Add(1)
		c.mu.Unlock()
		h.cancel()
		c.cfg.Log.Info("broker is no subscriber of certificates any more: it does not ask", "broker", l.of.broker, "type", l.usage)
	})
}

// Forget ends what broker, which was removed, subscribes to; nothing more is issued for it.
func (c *Courier) Forget(broker messages.BrokerID) {
	c.mu.Lock()
	r := c.to[broker]
	delete(c.to, broker)
	var ended []*holding
	if r != nil {
		r.gone = true
		ended = r.drop(func(*lease) bool { return true })
	}
	c.mu.Unlock()
	endAll(ended)
}

// Review ends what Permit does not let broker have any more.
func (c *Courier) Review(broker messages.BrokerID) {
	c.mu.Lock()
	var ended []*holding
	if r := c.to[broker]; r != nil {
		ended = r.drop(func(l *lease) bool { return !c.cfg.Permit(broker, l.usage) })
	}
	c.mu.Unlock()
	endAll(ended)
}

// drop takes what the leases hold that fit.
func (r *recipient) drop(fits func(*lease) bool) (ended []*holding) {
	for _, usage := range slices.Sorted(maps.Keys(r.leases)) {
		if l := r.leases[usage]; l.held != nil && fits(l) {
			ended = append(ended, l.held)
			l.held = nil
		}
	}
	return ended
}

func endAll(ended []*holding) {
	for _, h := range ended {
		h.stop()
		h.cancel()
	}
}

// Close ends all subscriptions, and returns when nothing is under way.
func (c *Courier) Close() {
	c.mu.Lock()
	c.closed = true
	var ended []*holding
	for _, broker := range slices.Sorted(maps.Keys(c.to)) {
		ended = append(ended, c.to[broker].drop(func(*lease) bool { return true })...)
	}
	c.mu.Unlock()
	c.end()
	endAll(ended)
	c.work.Wait()
}
