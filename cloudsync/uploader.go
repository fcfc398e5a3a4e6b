package cloudsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
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
	// Now dates failures. Default: the wall clock.
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
	news  chan struct{} // closed and replaced when the network changes
	state UploadState   // guarded by mu
}

// UploadState says how publishing goes.
type UploadState struct {
	Failed  uint64    // tries, since the start
	Since   time.Time // when the tries that fail now began; zero: the last succeeded, or there was none
	Err     error     // why the last failed
	Waiting bool      // nothing is tried: there is no network
}

// State says how publishing goes.
func (u *Uploader) State() UploadState {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

// tried notes the outcome of a try.
func (u *Uploader) tried(err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.state.Err = err; err == nil {
		u.state.Since = time.Time{}
		return
	}
	u.state.Failed++
	if u.state.Since.IsZero() {
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
// topmost of one authority each, oldest first. Else it tries until ctx ends.
//
// Each goes by itself, as the reference sends them, and the newest last: a cloud that shows
// devices only what came last shows that one.
func (u *Uploader) Upload(ctx context.Context, pem []byte) error {
	certificates, err := splitAuthorities(pem)
	if err != nil {
		return fmt.Errorf("publish authorities: %w", err)
	}
	for _, one := range certificates {
		if err := u.upload(ctx, one); err != nil {
			return err
		}
	}
	return nil
}

// NetworkChanged tells that the cloud can be reached again, or no longer. It is a listener
// for Cloud.OnNetworkChange.
func (u *Uploader) NetworkChanged(bool) {
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

// upload tries until the cloud has one certificate, or ctx ends.
func (u *Uploader) upload(ctx context.Context, pem []byte) error {
	for interval := uploadWaitMin; ; interval = min(2*interval, uploadWaitMax) {
		news := u.newsOf()
		for !u.cfg.NetworkUp() {
			u.waiting(true)
			err := u.wait(ctx, news, 0)
			u.waiting(false)
			if err != nil {
				return err
			}
			news = u.newsOf()
		}
		err := u.cfg.Put(ctx, pem)
		if err != nil && ctx.Err() != nil {
			return err // it was broken off
		}
		if u.tried(err); err == nil {
			return nil
		}
		if err := u.rest(ctx, err, interval, news); err != nil {
			return err
		}
	}
}

// rest waits after a try that failed with err: for about interval, or for news.
func (u *Uploader) rest(ctx context.Context, err error, interval time.Duration, news <-chan struct{}) error {
	put, asked := errors.AsType[*PutError](err)
	if !asked || put.Answer.Verdict == messages.CloudDenied {
		u.cfg.Log.Error("the cloud does not take the authority's certificate: devices cannot discover it", "error", err)
		return u.wait(ctx, news, uploadRefusedWait)
	}
	wait := interval/2 + time.Duration(u.cfg.Jitter()*float64(interval-interval/2))
	switch put.Answer.Failure {
	case messages.FailureThrottled, messages.FailureServer, messages.FailureRefused:
		news, wait = nil, max(wait, min(put.Answer.RetryAfter, uploadRetryAfterMax)) // the service's own pace
	}
	u.cfg.Log.Warn("the authority's certificate is not published yet", "error", err, "again_in_ms", wait.Milliseconds())
	return u.wait(ctx, news, wait)
}

// wait returns nil when there is news or, unless it is zero, d has passed, and why ctx
// ended if that came first.
func (u *Uploader) wait(ctx context.Context, news <-chan struct{}, d time.Duration) error {
	var over chan struct{}
	if d > 0 {
		over = make(chan struct{})
		defer u.cfg.AfterFunc(d, func() { close(over) })()
	}
	select {
	case <-over:
		return nil
	case <-news:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
