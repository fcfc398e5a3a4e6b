package tokenexchange

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Source gives out credentials.
type Source interface {
	// Fetch asks once, and returns within a bound of its own or when ctx ends. A *Failure
	// says why there are none.
	Fetch(ctx context.Context) (Fetched, *Failure)
	// Close drops what is idle.
	Close()
}

// Clock is time that never leaps: neither does it go back, nor do settings of the wall clock
// move it. Suspends of the machine count.
type Clock interface {
	Boot() time.Duration
	// AfterFunc runs f once after d; stop keeps it from running if it has not started.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// CacheConfig shapes a Cache. Source, Clock and Chance are required.
type CacheConfig struct {
	Source Source
	Clock  Clock
	// Chance is of [0, 1): it spreads the cores of a fleet.
	Chance func() float64
	Rules  Rules
}

// Bounds of a Cache.
const (
	waitMax   = 30 * time.Second // of a caller (cloud spec 2)
	lookEvery = 30 * time.Second // timers stand still while the machine is suspended
)

// Cache holds the credentials of one role alias. At most one question is under way, whoever
// wants to know. Once it holds a set, nobody waits until that ends. Safe for concurrent use.
type Cache struct {
	source Source
	clock  Clock
	chance func() float64
	rules  Rules
	ctx    context.Context // of questions
	cancel context.CancelFunc
	asking sync.WaitGroup

	mu        sync.Mutex
	state     state       // guarded by mu, as all below
	flight    *flight     // nil: none is under way
	stopTimer func() bool // nil: no timer
	started   bool        // it fetches by itself
	closed    bool
	counts    FetchCounts
}

// flight is one question to the source.
type flight struct {
	done    chan struct{} // closed at the end; the two below are set before
	held    *holding
	failure *Failure
}

// FetchCounts counts what came of the questions to the cloud.
type FetchCounts struct {
	Granted, Refused, Failed uint64 // a set; an error that the service names; anything else
}

// NewCache returns a cache that knows nothing yet. Close it, and its source with it.
func NewCache(cfg CacheConfig) (*Cache, error) {
	if cfg.Source == nil || cfg.Clock == nil || cfg.Chance == nil {
		return nil, errors.New("token exchange: no source, clock or chance given")
	}
	c := &Cache{source: cfg.Source, clock: cfg.Clock, chance: cfg.Chance, rules: cfg.Rules.complete()}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

// Start fetches the first set, and from then on each before the last one ends, without
// anybody asking. It waits for nothing.
func (c *Cache) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.started = true
	c.tick()
}

// Wake tells that the cloud can be reached again: a failure is not waited out.
func (c *Cache) Wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.wake(c.clock.Boot())
	c.tick()
}

// Close breaks off what is under way and returns when it has ended.
func (c *Cache) Close() {
	c.mu.Lock()
	c.closed = true
	if c.stopTimer != nil {
		c.stopTimer()
	}
	c.mu.Unlock()
	c.cancel()
	c.asking.Wait()
	c.source.Close()
}

// Get returns credentials that are good now, and whether they were fetched for this caller,
// who waited for them. The error is a *Failure, ErrClosed, or ctx's.
func (c *Cache) Get(ctx context.Context) (credentials Credentials, fetched bool, err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return Credentials{}, false, ErrClosed
	}
	now := c.clock.Boot()
	held, failure := c.state.look(now)
	if held != nil || failure != nil {
		if c.started && now >= c.state.next {
			c.fetch() // the timer is late
		}
		c.mu.Unlock()
		if failure != nil {
			return Credentials{}, false, failure
		}
		return held.Credentials, false, nil
	}
	flight := c.fetch()
	c.mu.Unlock()
	return c.await(ctx, flight)
}

func (c *Cache) await(ctx context.Context, f *flight) (Credentials, bool, error) {
	late := make(chan struct{})
	stop := c.clock.AfterFunc(waitMax, func() { close(late) })
	defer stop()
	select {
	case <-f.done:
	case <-ctx.Done():
		return Credentials{}, false, ctx.Err()
	case <-late:
		return Credentials{}, false, &Failure{Code: CodeTimeout, Message: "the IoT credentials provider has not answered for " + waitMax.String() + "; it is still being asked"}
	}
	if f.failure != nil {
		return Credentials{}, false, f.failure
	}
	if f.held == nil {
		return Credentials{}, false, ErrClosed
	}
	return f.held.Credentials, true, nil
}

// fetch asks the source unless it is being asked. mu is held.
func (c *Cache) fetch() *flight {
	if c.flight != nil {
		return c.flight
	}
	f := &flight{done: make(chan struct{})}
	if c.closed {
		close(f.done)
		return f
	}
	c.flight = f
	c.asking.Go(func() {
		defer close(f.done)
		asked := c.clock.Boot()
		got, failure := c.source.Fetch(c.ctx)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.flight = nil
		if c.closed {
			return
		}
		f.held, f.failure = c.state.take(c.rules, asked, c.clock.Boot(), got, failure, c.chance())
		c.count(failure)
		c.tick()
	})
	return f
}

func (c *Cache) count(failure *Failure) {
	switch {
	case failure == nil:
		c.counts.Granted++
	case failure.Status >= 400:
		c.counts.Refused++
	default:
		c.counts.Failed++
	}
}

// tick fetches the next set if it is time, and else looks again when it will be. mu is held.
func (c *Cache) tick() {
	if c.closed || !c.started || c.flight != nil {
		return
	}
	if c.stopTimer != nil {
		c.stopTimer()
		c.stopTimer = nil
	}
	left := c.state.next - c.clock.Boot()
	if left <= 0 {
		c.fetch() // ticks at its end
		return
	}
	c.stopTimer = c.clock.AfterFunc(min(left, lookEvery), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tick()
	})
}

// CacheStatus describes a Cache, without a secret.
type CacheStatus struct {
	AccessKeyID string        // "": it holds no set that is good
	Expiration  time.Time     // of that set, by the cloud's clock
	Left        time.Duration // until then
	Age         time.Duration // since it was fetched
	NextIn      time.Duration // until the next is fetched; negative: it is due
	Asking      bool
	Failure     *Failure      // the last one; nil: the last answer was good
	FailedFor   time.Duration // since that
	Fetches     FetchCounts
}

// Status describes the cache now.
func (c *Cache) Status() CacheStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.clock.Boot()
	s := CacheStatus{NextIn: c.state.next - now, Asking: c.flight != nil, Failure: c.state.failed, Fetches: c.counts}
	if s.Failure != nil {
		s.FailedFor = now - c.state.failedAt
	}
	if h := c.state.held; h != nil && now < h.until {
		s.AccessKeyID, s.Expiration, s.Left, s.Age = h.AccessKeyID, h.Expiration, h.until-now, now-h.got
	}
	return s
}
