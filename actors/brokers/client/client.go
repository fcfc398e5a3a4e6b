package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	nc       *nats.Conn
	owned    bool // nc is ours to close
	sub      *nats.Subscription
	status   chan nats.Status
	inFlight chan struct{} // one place per request that waits
	feed     feed
	ready    chan struct{} // closed at the first push
	quit     chan struct{} // closed by Close
	hungUp   chan struct{} // closed when the connection is, for good; nil: it is not ours
	loops    sync.WaitGroup

	// generation counts the moments at which all cached permissions became void. What
	// was asked for in one generation is of no use in a later one.
	generation atomic.Uint64
	// silentUntil spares decisions the wait for a daemon that just did not answer, in
	// nanoseconds since feed.base. It counts only while the feed is not fresh.
	silentUntil atomic.Int64

	ctx       context.Context // of the workers' requests; ends with Close
	cancel    context.CancelFunc
	closeOnce sync.Once
	callbacks sync.WaitGroup // of sessions

	mu           sync.Mutex
	closed       bool // no new sessions
	sessions     map[messages.TokenDigest]*Session
	floor        uint64 // the lowest policy revision that may be used
	endings      endings
	tasks        queue
	failed       map[*Session]struct{} // refreshes to try again
	certificates map[authapi.CertificateType]*Certificates
	unclosed     []messages.Token // closes to try again
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
		nc:           cfg.Conn,
		inFlight:     make(chan struct{}, cfg.MaxInFlight),
		feed:         feed{base: cfg.Now()},
		ready:        make(chan struct{}),
		quit:         make(chan struct{}),
		sessions:     make(map[messages.TokenDigest]*Session),
		failed:       make(map[*Session]struct{}),
		certificates: make(map[authapi.CertificateType]*Certificates),
	}
	c.ctx, c.cancel = context.WithCancel(context.WithoutCancel(ctx))
	c.generation.Store(1)
	c.tasks.wake.L = &c.mu
	for _, op := range authapi.Ops() {
		c.subjects[op] = authapi.Subject(cfg.Broker, op)
	}
	if c.nc == nil {
		c.hungUp = make(chan struct{})
		if c.nc, err = dial(ctx, cfg, c.hungUp); err != nil {
			c.cancel()
			return nil, fmt.Errorf("connect to Gatehouse: %w", err)
		}
		c.owned = true
		c.cfg.Credentials = nil // a secret has no business here any more
	}
	if err := c.listen(ctx); err != nil {
		c.cancel()
		c.hangUp()
		return nil, fmt.Errorf("connect to Gatehouse: %w", err)
	}
	c.loops.Go(c.watchStatus)
	c.loops.Go(c.tend)
	for range cfg.Refreshers {
		c.loops.Go(c.work)
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
	c.status = c.nc.StatusChanged(nats.CONNECTED)
	subject := authapi.PushSubjects(c.cfg.Broker)
	sub, err := c.nc.Subscribe(subject, c.pushed)
	if err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	c.sub = sub
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	if !c.nc.IsConnected() {
		return nil
	}
	if err := c.nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("subscribe to %s: %w", subject, err)
	}
	// The server's refusal of a subscription comes before its answer to the flush.
	if err := c.nc.LastError(); errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), subject) {
		return fmt.Errorf("the credentials are not those of broker %q, or NATS does not know it: %w", c.cfg.Broker, err)
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
}

// Status returns the client's present state.
func (c *Client) Status() Status {
	now := c.cfg.Now()
	s := Status{
		Connected:  c.nc.IsConnected(),
		Fresh:      c.feed.fresh(now, c.cfg.MaxStale),
		Generation: c.generation.Load(),
	}
	if c.feed.heard.Load() {
		s.PushAge = c.feed.age(now)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.Sessions, s.Refreshing = len(c.sessions), c.tasks.len()+len(c.failed)
	return s
}

// Close ends all sessions, tells Gatehouse as far as that takes no longer than the
// time-out of one request, and disconnects. It returns when all callbacks have, so a
// callback must not call it.
func (c *Client) Close() error {
	c.closeOnce.Do(func() {
		c.mu.Lock()
		c.closed = true
		open := slices.Collect(maps.Values(c.sessions))
		c.mu.Unlock()
		for _, s := range open {
			s.finish(Ending{Cause: ByBroker, Reason: "the broker stopped"})
		}
		c.drain()
		close(c.quit)
		c.cancel()
		c.hangUp()
		c.loops.Wait()
		c.callbacks.Wait()
	})
	return nil
}

// drain waits until the workers have sent the closes that wait, then lets them go.
func (c *Client) drain() {
	stop := afterFunc(c.cfg.Timeout, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tasks.abandon()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.tasks.idle() && !c.tasks.abandoned {
		c.tasks.wake.Wait()
	}
	c.tasks.abandon()
}

func (c *Client) hangUp() {
	if c.sub != nil {
		_ = c.sub.Unsubscribe() // fails only if the connection is gone, and the subscription with it
	}
	c.nc.RemoveStatusListener(c.status)
	if c.owned {
		c.nc.Close()
	}
}
