package cloudsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// Waits of an Uploader (client-device-auth spec 6.6).
const (
	uploadWaitMin       = 3 * time.Second
	uploadWaitMax       = time.Minute
	uploadRetryAfterMax = time.Hour
	uploadRefusedWait   = time.Hour
)

// UploaderConfig shapes an Uploader.
type UploaderConfig struct {
	// Put sends one certificate in PEM, once. Required: Authorities.Put.
	Put func(ctx context.Context, pem []byte) error
	// NetworkUp says whether the cloud can be reached. Required: Cloud.NetworkUp. Tell of
	// changes with NetworkChanged.
	NetworkUp func() bool
	// AfterFunc and Jitter are as in MonitorConfig. Default: the real ones.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	Jitter    func() float64
	// Now dates failures and tries, in step with AfterFunc. Default: the machine's clock.
	Now func() time.Time
	// Log hears of failures. Default: nobody.
	Log *slog.Logger
}

// Uploader publishes authorities, however long that takes: call Upload beside what must not
// wait for the cloud. A core that starts without a network publishes when it comes; the
// reference does not (client-device-auth spec 6.6).
//
// A service that throttles, fails or refuses the core is asked again, less and less often,
// without end: a policy can be mended. Without a network nothing is asked until it is up.
// What the cloud refuses for good is told, and asked again each hour, and when the network
// returns.
type Uploader struct {
	cfg UploaderConfig

	mu    sync.Mutex
	news  chan struct{} // closed and replaced when the network returns
	state UploadState   // guarded by mu
}

// UploadState says how publishing goes.
type UploadState struct {
	Failed  uint64    // tries, since the start
	Since   time.Time // when the tries that fail now began; zero: none does
	Err     error     // why the oldest of what is missing is not taken
	Waiting bool      // nothing is tried: there is no network
}

// State says how publishing goes.
func (u *Uploader) State() UploadState {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

// tried notes a try, and why what is missing fails; nil: nothing does.
func (u *Uploader) tried(failed bool, problem error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if failed {
		u.state.Failed++
	}
	if u.state.Err = problem; problem == nil {
		u.state.Since = time.Time{}
	} else if u.state.Since.IsZero() {
		u.state.Since = u.cfg.Now()
	}
}

func (u *Uploader) waiting(yes bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.state.Waiting = yes
}

// NewUploader returns one.
func NewUploader(cfg UploaderConfig) (*Uploader, error) {
	if cfg.Put == nil || cfg.NetworkUp == nil {
		return nil, errors.New("uploader: need a way to put, and the state of the network")
	}
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = afterFunc
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Now == nil {
		cfg.Now = now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Uploader{cfg: cfg, news: make(chan struct{})}, nil
}

// Upload returns nil when the cloud has all certificates of a PEM text, which are the
// topmost of one authority each, oldest first. Else it tries until ctx ends. taken hears of
// each, in DER, as soon as the cloud has taken it, whatever becomes of the others; its error
// ends the upload.
//
// Each goes by itself, as the reference sends them, and the newest last: a cloud that shows
// devices only what came last shows that one. So what is newer follows once more when one
// is taken late. None keeps another from being tried: an old one that is refused for good
// would keep its successor unknown.
func (u *Uploader) Upload(ctx context.Context, pem []byte, taken func(der []byte) error) error {
	certificates, err := splitAuthorities(pem)
	if err != nil {
		return fmt.Errorf("publish authorities: %w", err)
	}
	p := &publication{u: u, taken: taken}
	for _, der := range certificates {
		p.offers = append(p.offers, &offer{der: der})
	}
	defer u.tried(false, nil) // what was broken off fails no more
	return p.run(ctx)
}

// NetworkChanged tells that the cloud can be reached again, or no longer, which hastens
// nothing. It is a listener for Cloud.OnNetworkChange.
func (u *Uploader) NetworkChanged(up bool) {
	if !up {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.news)
	u.news = make(chan struct{})
}

func (u *Uploader) newsOf() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.news
}

// wait says whether there was news before d, unless it is zero, had passed. The error is why
// ctx ended, if that came first.
func (u *Uploader) wait(ctx context.Context, news <-chan struct{}, d time.Duration) (heard bool, err error) {
	var over chan struct{}
	if d > 0 {
		over = make(chan struct{})
		defer u.cfg.AfterFunc(d, func() { close(over) })()
	}
	select {
	case <-over:
		return false, nil
	case <-news:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
