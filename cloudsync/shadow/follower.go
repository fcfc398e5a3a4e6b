package shadow

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotmqtt"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// SourceName is what the addresses are stored under, beside those of other sources.
const SourceName = "connectivity-information-service"

// Source knows the core's addresses.
type Source interface {
	// Addresses asks once. known is false if the cloud has none on record, which says nothing
	// about those that are stored; an empty list with known says that there are none. An
	// error may have a method RetryAfter() time.Duration.
	Addresses(ctx context.Context) (hosts []string, known bool, err error)
}

// Keeper stores the core's addresses and brings them into the servers' certificates.
type Keeper interface {
	// Hosts replaces the addresses of source, durably before it returns; none clears them. It
	// re-issues certificates only if the union of all sources has changed. It is called
	// again after an error, one call at a time.
	Hosts(ctx context.Context, source string, hosts []string) error
}

// Config shapes a Follower.
type Config struct {
	// Core is the core's thing name. Required.
	Core messages.ThingName
	// Endpoint is the account's IoT data endpoint: HOST or HOST:PORT. The port is 8883 by
	// default; at any other, such as 443, ALPN says that MQTT is spoken.
	Endpoint string
	// ServerName is the name the endpoint's certificate must carry, and the SNI that is
	// sent. Default: the endpoint's host.
	ServerName string
	// Identity is the core's certificate with its key, Roots who may vouch for the endpoint.
	// Required.
	Identity tls.Certificate
	Roots    *x509.CertPool
	// ClientID is the MQTT client id. Default: Core, so that a policy may use the variable
	// for the thing's name. AWS ends the older of two connections with one id: another
	// program on this core that uses the thing's name must not run at the same time.
	ClientID string
	// Source and Keeper are where addresses come from and go to. Required.
	Source Source
	Keeper Keeper
	// OnLink hears each change of State.Up, in order, one at a time, and must not block.
	// Default: nobody.
	OnLink func(up bool)
	// RetryMin and RetryMax bound the waits between tries of anything: 1 s and 30 s by
	// default. Timeout bounds connecting and one request: 10 s by default; an answer to a
	// get may take half as long again (client-device-auth spec 6.7).
	RetryMin, RetryMax, Timeout time.Duration
	// Now is the time by which the endpoint's certificate is judged; AfterFunc and Jitter are
	// as in cloudsync.MonitorConfig. Default: the real ones.
	Now       func() time.Time
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	Jitter    func() float64
	// Log hears what an operator can do something about. Default: nobody.
	Log *slog.Logger
}

const (
	retryMinDefault = time.Second
	retryMaxDefault = 30 * time.Second
	timeoutDefault  = 10 * time.Second
)

func (cfg *Config) complete() error {
	if _, err := messages.ParseThingName(string(cfg.Core)); err != nil {
		return fmt.Errorf("the core's thing name: %w", err)
	}
	if cfg.Source == nil || cfg.Keeper == nil {
		return errors.New("need a source and a keeper of addresses")
	}
	if cfg.ClientID == "" {
		cfg.ClientID = string(cfg.Core)
	}
	for value, fallback := range map[*time.Duration]time.Duration{&cfg.RetryMin: retryMinDefault, &cfg.RetryMax: retryMaxDefault, &cfg.Timeout: timeoutDefault} {
		if *value <= 0 {
			*value = fallback
		}
	}
	if cfg.OnLink == nil {
		cfg.OnLink = func(bool) {}
	}
	if cfg.Now == nil {
		cfg.Now = now
	}
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = afterFunc
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

func (cfg *Config) pace() iotmqtt.Pace {
	return iotmqtt.Pace{Min: cfg.RetryMin, Max: cfg.RetryMax, AfterFunc: cfg.AfterFunc, Jitter: cfg.Jitter}
}

// Follower follows the address shadow of a core, from New to Close.
type Follower struct {
	cfg    Config
	topics Topics
	link   *link
	inbox  *inbox
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	news  chan struct{} // closed and replaced when waiting longer makes no sense
	state State
}

// State is how far a Follower is.
type State struct {
	Up      bool   // AWS IoT is connected, and has taken the subscriptions
	LinkErr error  // why it was not, the last time; nil: it never failed
	Handled Notice // the last notice that was dealt with; zero: none yet
	Err     error  // why the one after it is not; nil: there is none, or it is under way
}

// New starts a follower. Nothing waits for the network. Close it.
func New(cfg Config) (*Follower, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("connectivity information: %w", err)
	}
	f := &Follower{cfg: cfg, topics: TopicsOf(cfg.Core), inbox: newInbox(), news: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	var err error
	if f.link, err = newLink(f); err != nil {
		return nil, fmt.Errorf("connectivity information: %w", err)
	}
	f.wg.Go(f.link.run)
	f.wg.Go(f.work)
	return f, nil
}

// NetworkChanged tells that the network has come back, and what waits is tried at once, or
// that it has gone, which hastens nothing. It is a listener for
// cloudsync.Cloud.OnNetworkChange.
func (f *Follower) NetworkChanged(up bool) {
	if !up {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.news)
	f.news = make(chan struct{})
}

// Up says whether AWS IoT is connected, and tells of changes.
func (f *Follower) Up() bool { return f.State().Up }

// State tells how far the follower is.
func (f *Follower) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *Follower) set(change func(*State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
}

// Close disconnects and returns when nothing is under way.
func (f *Follower) Close() {
	f.cancel()
	f.wg.Wait()
}

// work deals with notices, one at a time.
func (f *Follower) work() {
	for {
		select {
		case <-f.ctx.Done():
			return
		case <-f.inbox.filled:
		}
		for n := f.inbox.take(); n != nil; n = f.inbox.take() {
			if !f.handle(*n) {
				return
			}
		}
	}
}

// handle deals with one notice, however often that takes, unless a newer one comes. False:
// the follower is closed.
func (f *Follower) handle(n Notice) bool {
	if !f.retry("the core's addresses are not taken from the cloud yet", f.fetch) {
		return f.ctx.Err() == nil
	}
	f.set(func(s *State) { s.Handled, s.Err = n, nil })
	if n.State != nil {
		f.link.report(n.State) // for people who look at the shadow: nothing depends on it
	}
	return f.ctx.Err() == nil
}

// fetch asks for the addresses, as they are now, and stores them. What cannot be stored is
// asked for again: the cloud may have mended it.
func (f *Follower) fetch() error {
	hosts, known, err := f.cfg.Source.Addresses(f.ctx)
	if err != nil {
		return fmt.Errorf("ask for the core's addresses: %w", err)
	}
	if !known {
		return nil
	}
	if err := f.cfg.Keeper.Hosts(f.ctx, SourceName, hosts); err != nil {
		return fmt.Errorf("store the core's addresses: %w", err)
	}
	return nil
}

// retry tries until it succeeds; false: the follower is closed, or a newer notice waits.
// Neither that nor the network hastens what the service wants to be asked later.
func (f *Follower) retry(what string, try func() error) bool {
	b := f.cfg.pace().Backoff()
	for {
		news, newer := f.newsOf(), (<-chan struct{})(f.inbox.filled)
		err := try()
		if f.ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		f.set(func(s *State) { s.Err = err })
		wait := b.Next()
		if asked, ok := errors.AsType[interface {
			error
			RetryAfter() time.Duration
		}](err); ok && asked.RetryAfter() > wait {
			wait, news, newer = min(asked.RetryAfter(), retryAfterMax), nil, nil // the service's own pace
		}
		f.cfg.Log.Warn(what, "error", err, "again_in_ms", wait.Milliseconds())
		if !f.cfg.pace().Wait(f.ctx, wait, news, newer) || f.inbox.holds() {
			return false
		}
	}
}

const retryAfterMax = time.Hour

func (f *Follower) newsOf() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.news
}
