package registrar

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotmqtt"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Bounds of a Follower.
const (
	linkRetryMin = time.Second
	linkRetryMax = 30 * time.Second
	linkTimeout  = 10 * time.Second
)

// FollowConfig says how a Follower hears AWS IoT.
type FollowConfig struct {
	Registrar   *Registrar               // who is told. Required
	Authorities []messages.CertificateID // whose devices. Required
	// Endpoint, ServerName, Identity, Roots and ClientID are as in iotmqtt.Config.
	Endpoint, ServerName string
	Identity             tls.Certificate
	Roots                *x509.CertPool
	ClientID             string
	// Now is the time by which the endpoint's certificate is judged. Required.
	Now func() time.Time
	// AfterFunc and Jitter are as in cloudsync.MonitorConfig. Default: the real ones.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	Jitter    func() float64
	// Log hears what an operator can do something about. Default: nobody.
	Log *slog.Logger
}

// Follower hears over MQTT of certificates that register themselves. At the beginning of each
// connection what is pending is listed, since what is told while there is none is lost.
type Follower struct {
	cfg    FollowConfig
	link   *iotmqtt.Link
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	news chan struct{}
	up   bool
	err  error
}

// Follow starts a follower. Nothing waits for the network. Close it.
func Follow(cfg FollowConfig) (*Follower, error) {
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = afterFunc
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	f := &Follower{cfg: cfg, news: make(chan struct{})}
	var err error
	f.link, err = iotmqtt.New(iotmqtt.Config{
		Endpoint: cfg.Endpoint, ServerName: cfg.ServerName, Identity: cfg.Identity, Roots: cfg.Roots, ClientID: cfg.ClientID,
		Pace:    iotmqtt.Pace{Min: linkRetryMin, Max: linkRetryMax, AfterFunc: cfg.AfterFunc, Jitter: cfg.Jitter},
		Timeout: linkTimeout, Now: cfg.Now, News: f.newsOf, Failed: f.failed,
	})
	if err != nil {
		return nil, fmt.Errorf("registration events: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.wg.Go(func() { f.link.Run(ctx, f) })
	return f, nil
}

// Close disconnects and returns when nothing is under way.
func (f *Follower) Close() {
	f.cancel()
	f.wg.Wait()
}

// NetworkChanged tells that the network has come back, and what waits is tried at once, or
// that it has gone, which hastens nothing.
func (f *Follower) NetworkChanged(up bool) {
	if !up {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.news)
	f.news = make(chan struct{})
}

// Up says whether events are heard, and if not why, the last time.
func (f *Follower) Up() (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.up, f.err
}

func (f *Follower) newsOf() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.news
}

func (f *Follower) set(up bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.up, f.err = up, err
}

func (f *Follower) failed(err error, again time.Duration) {
	f.set(false, err)
	f.cfg.Log.Debug("AWS IoT is not connected for registrations", "error", err, "again_in_ms", again.Milliseconds())
}

// Use implements iotmqtt.User. What is refused of one authority holds up no other's.
func (f *Follower) Use(s *iotmqtt.Session) {
	var refused []string
	for _, id := range f.cfg.Authorities {
		topic := TopicOf(id)
		if _, err := s.Subscribe(topic); err != nil {
			refused = append(refused, topic)
		}
	}
	for _, topic := range refused {
		f.cfg.Registrar.CatchUp()
		if !s.Insist(func() error {
			_, err := s.Subscribe(topic)
			return err
		}, func(err error, again time.Duration) {
			f.set(false, err)
			f.cfg.Log.Warn("registrations are not heard of as they happen, but listed now and then: allow iot:Subscribe and iot:Receive in the policy of the core's certificate", "topic", topic, "error", err, "again_in_ms", again.Milliseconds())
		}) {
			return
		}
	}
	f.set(true, nil)
	f.cfg.Registrar.CatchUp()
}

// Over implements iotmqtt.User.
func (f *Follower) Over() { f.set(false, nil) }

// Receive implements iotmqtt.User.
func (f *Follower) Receive(_ *iotmqtt.Session, topic string, payload []byte) {
	f.cfg.Registrar.Hear(topic, payload)
}
