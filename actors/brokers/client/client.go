package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// A Client is one broker's connection to Gatehouse. Its methods are safe for use by any
// number of goroutines.
type Client struct {
	cfg      Config
	subjects map[authapi.Op]string
	link     Link
	owned    *nats.Conn    // to be closed by us; nil: none is
	unlisten []func()      // what ends with listening
	inFlight chan struct{} // one place per request that waits
	feed     feed
	ready    chan struct{} // closed at the first push
	quit     chan struct{} // closed by Close
	hungUp   chan struct{} // closed when the connection is, for good; nil: it is not ours
	crew     *crew         // workers, callbacks, reports, rounds for certificates
	reports  atomic.Int64  // under way

	// generation counts the moments at which all cached permissions became void. What
	// was asked for in one generation is of no use in a later one.
	generation atomic.Uint64
	// silentUntil spares decisions the wait for a daemon that just did not answer, in
	// nanoseconds since feed.base. It counts only while the feed is not fresh.
	silentUntil atomic.Int64

	ctx       context.Context // of the workers' requests; ends with Close
	cancel    context.CancelFunc
	closeOnce sync.Once

	silent atomic.Bool // the last refresh or close got no answer

	mu           sync.Mutex
	closed       bool     // no new sessions; guarded by mu, as all below
	sessions     sessions // open ones
	floor        uint64   // the lowest policy revision that may be used
	endings      endings
	tasks        queue
	failed       []*Session // refreshes to try again
	certificates map[authapi.CertificateType]*Certificates
	unclosed     []messages.Token // closes to try again
	retrying     func() bool      // stops the timer of the next try; nil: none runs
	watching     func() bool      // stops the timer of the next look at the feed; nil: none runs
}

// Connect connects to NATS and starts to listen for pushes. It does not wait for
// Gatehouse: until the daemon is there every answer is Unavailable (see Ready).
func Connect(ctx context.Context, cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("connect to Gatehouse: %w", err)
	}
	c := &Client{
		cfg:          cfg,
		subjects:     make(map[authapi.Op]string),
		link:         cfg.Link,
		crew:         newCrew(cfg.Spawn),
		inFlight:     make(chan struct{}, cfg.MaxInFlight),
		feed:         feed{base: cfg.Now()},
		ready:        make(chan struct{}),
		quit:         make(chan struct{}),
		sessions:     newSessions(),
		certificates: make(map[authapi.CertificateType]*Certificates),
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.generation.Store(1)
	for _, op := range authapi.Ops() {
		c.subjects[op] = authapi.Subject(cfg.Broker, op)
	}
	switch {
	case c.link != nil:
	case cfg.Conn != nil:
		c.link = &natsLink{nc: cfg.Conn}
	default:
		c.hungUp = make(chan struct{})
		if c.owned, err = dial(ctx, cfg, c.hungUp); err != nil {
			c.cancel()
			return nil, fmt.Errorf("connect to Gatehouse: %w", err)
		}
		c.link = &natsLink{nc: c.owned}
		c.cfg.Credentials = nil // a secret has no business here any more
	}
	if err := c.listen(ctx); err != nil {
		c.abandon()
		c.cancel()
		c.hangUp()
		return nil, fmt.Errorf("connect to Gatehouse: %w", err)
	}
	return c, nil
}

// dial connects to NATS. nats.Connect takes no context, so a deadline of ctx becomes
// its time-out.
func dial(ctx context.Context, cfg Config, hungUp chan<- struct{}) (*nats.Conn, error) {
	options, err := Options(cfg.Broker, cfg.Credentials)
	if err != nil {
		return nil, err
	}
	if cfg.TLS != nil {
		options = append(options, nats.Secure(cfg.TLS))
	}
	if deadline, ok := ctx.Deadline(); ok {
		options = append(options, nats.Timeout(max(time.Millisecond, deadline.Sub(cfg.Now()))))
	}
	options = append(options, nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		cfg.Logger.Warn("NATS reports an error", "broker", cfg.Broker, "err", err)
	}))
	end := sync.OnceFunc(func() { close(hungUp) })
	options = append(options, nats.ClosedHandler(func(nc *nats.Conn) {
		defer end()
		if err := nc.LastError(); errors.Is(err, nats.ErrAuthorization) {
			cfg.Logger.Error("NATS refused the broker's credentials twice: start again once it knows them", "broker", cfg.Broker, "err", err)
		}
	}))
	options = append(options, cfg.Options...)
	if !cfg.RetryOnFailedConnect {
		return DialNATS(cfg.URL, options...)
	}
	nc, err := KeepDialingNATS(cfg.URL, options...)
	if err == nil && !nc.IsConnected() {
		cfg.Logger.Warn("NATS is not there yet: everybody is refused until it is", "broker", cfg.Broker, "url", RedactURLs(cfg.URL))
	}
	return nc, err
}

// listen subscribes to the pushes and waits until the server has taken that in, so that
// no push can be lost between here and the first request. While NATS is away nobody need
// wait: on connecting the subscription is made before anything else is sent.
func (c *Client) listen(ctx context.Context) error {
	// After each reconnect: pushes may have been lost meanwhile without a later one to show it yet.
	c.unlisten = append(c.unlisten, c.link.OnConnect(func() { c.invalidate("NATS was away") }))
	subject := authapi.PushSubjects(c.cfg.Broker)
	stop, err := c.link.Subscribe(subject, "", 0, c.pushed)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	c.unlisten = append(c.unlisten, func() { _ = stop() }) // fails only if the connection is gone, and the subscription with it
	switch err := c.link.Flush(ctx, c.cfg.Timeout); {
	case errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("the credentials are not those of broker %q, or NATS does not know it: %w", c.cfg.Broker, err)
	case err != nil:
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	return nil
}

// String names the client; it holds secrets that must not be printed.
func (c *Client) String() string { return "Gatehouse client of broker " + string(c.cfg.Broker) }

// Ready waits for the first push: from then on permissions are cached.
func (c *Client) Ready(ctx context.Context) error {
	select {
	case <-c.ready:
		return nil
	case <-c.quit:
		return fmt.Errorf("wait for Gatehouse: %w: the client is closed", ErrUnavailable)
	case <-ctx.Done():
		return fmt.Errorf("wait for Gatehouse: %w: no push on %s: %w", ErrUnavailable, authapi.PushSubjects(c.cfg.Broker), ctx.Err())
	}
}

// HungUp is closed when the connection that Connect made is closed for good: by Close, or
// because NATS has refused the credentials twice, which no waiting mends.
func (c *Client) HungUp() <-chan struct{} { return c.hungUp }

// Broker returns the name this client acts under.
func (c *Client) Broker() messages.BrokerID { return c.cfg.Broker }

// Status is what an operator may want to see of a Client.
type Status struct {
	Connected  bool          // to NATS
	Fresh      bool          // a push arrived within MaxStale
	PushAge    time.Duration // since the last push; 0 before the first
	Generation uint64        // how often all cached permissions became void, plus 1
	Sessions   int           // open ones
	Refreshing int           // sessions that wait for new permissions
	Beside     int           // things that run beside the callers: requests, callbacks
}

// Status returns the client's present state.
func (c *Client) Status() Status {
	now := c.cfg.Now()
	s := Status{
		Connected:  c.link.Connected(),
		Fresh:      c.feed.fresh(now, c.cfg.MaxStale),
		Generation: c.generation.Load(),
		Beside:     c.crew.underWay(),
	}
	if c.feed.heard.Load() {
		s.PushAge = c.feed.age(now)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Sessions, s.Refreshing = c.sessions.len(), c.tasks.len()+len(c.failed)
	return s
}

// Close ends all sessions, tells Gatehouse as far as that takes no longer than the
// time-out of one request, and disconnects. It returns when all callbacks have, so a
// callback must not call it.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		open := c.sessions.list()
		c.mu.Unlock()
		for _, s := range open {
			s.finish(Ending{Cause: ByBroker, Reason: "the broker stopped"})
		}
		c.drain()
		close(c.quit)
		c.cancel()
		c.hangUp()
		c.crew.dismiss()
	})
	return nil
}

// drain waits until the workers have sent the closes that wait, then lets them go.
func (c *Client) drain() {
	late := make(chan struct{})
	stop := c.cfg.AfterFunc(c.cfg.Timeout, func() { close(late) })
	defer stop()
	c.mu.Lock()
	idle := c.tasks.whenIdle()
	c.mu.Unlock()
	select {
	case <-idle:
	case <-late:
	}
	c.abandon()
}

// abandon ends what would go on by itself.
func (c *Client) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tasks.abandon()
	for _, stop := range []func() bool{c.retrying, c.watching} {
		if stop != nil {
			stop()
		}
	}
	for _, s := range c.certificates {
		s.shut()
	}
}

func (c *Client) hangUp() {
	for _, end := range c.unlisten {
		end()
	}
	if c.owned != nil {
		c.owned.Close()
	}
}
