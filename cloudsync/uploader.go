package cloudsync

import (
	"bytes"
	"context"
	"errors"
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
)

// UploaderConfig shapes an Uploader.
type UploaderConfig struct {
	// Put sends one certificate in PEM, once. Required: Authorities.Put.
	Put func(ctx context.Context, pem []byte) error
	// NetworkUp says whether the cloud can be reached. Required: Cloud.NetworkUp. Tell of
	// changes with NetworkChanged.
	NetworkUp func() bool
	// Uploaded hears of each certificate that was offered and that the cloud has taken. It
	// may be slow.
	Uploaded func(pem []byte)
	// AfterFunc and Jitter are as in MonitorConfig. Default: the real ones.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	Jitter    func() float64
	// Log hears of failures. Default: nobody.
	Log *slog.Logger
}

// Uploader publishes an authority in the background, however long that takes: what holds
// the cloud back holds up neither a start nor a rotation, and a core that starts without a
// network publishes when it comes. The reference does not (client-device-auth spec 6.6).
//
// A service that throttles, fails or refuses the core is asked again, less and less often,
// without end: a policy can be mended. Without a network nothing is asked until it is up.
// What the cloud refuses for good is told, and asked once more when the network returns.
type Uploader struct {
	cfg    UploaderConfig
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu        sync.Mutex
	news      chan struct{} // closed and replaced when the network changes
	offers    int           // so far; state is the last one's
	offered   chan struct{} // closed and replaced with each
	supersede func()        // gives up the upload under way
	state     UploadState
}

// UploadState tells how far an upload is.
type UploadState struct {
	PEM   []byte // what was offered last; nil: nothing yet
	Done  bool   // the cloud has it
	Tries int    // so far
	Err   error  // of the last try; nil if it was good, or none was made
}

// NewUploader starts one. Close it.
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
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	u := &Uploader{cfg: cfg, news: make(chan struct{}), offered: make(chan struct{}), supersede: func() {}}
	u.ctx, u.cancel = context.WithCancel(context.Background())
	u.wg.Go(u.run)
	return u, nil
}

// Offer has a certificate uploaded, in place of one that still waits. It returns at once.
func (u *Uploader) Offer(pem []byte) error {
	if _, err := parseAuthority(pem); err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.offers++
	u.state = UploadState{PEM: bytes.Clone(pem)}
	u.supersede()
	close(u.offered)
	u.offered = make(chan struct{})
	return nil
}

// Upload uploads a certificate and returns when the cloud has it, has refused it, or ctx
// ends.
func (u *Uploader) Upload(ctx context.Context, pem []byte) error {
	if _, err := parseAuthority(pem); err != nil {
		return err
	}
	return u.attempts(ctx, pem, func(error) {})
}

// NetworkChanged tells that the cloud can be reached again, or no longer. It is a listener
// for Cloud.OnNetworkChange.
func (u *Uploader) NetworkChanged(bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	close(u.news)
	u.news = make(chan struct{})
}

// State tells how far the upload of what was offered last is.
func (u *Uploader) State() UploadState {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.state
}

// Close gives up what was not uploaded, and returns when nothing is under way.
func (u *Uploader) Close() {
	u.cancel()
	u.wg.Wait()
}

// run uploads what is offered, one after the other.
func (u *Uploader) run() {
	for served := 0; ; {
		u.mu.Lock()
		pem, offer, next := u.state.PEM, u.offers, u.offered
		ctx, cancel := context.WithCancel(u.ctx)
		u.supersede = cancel
		u.mu.Unlock()
		if offer != served {
			u.serve(ctx, pem, offer)
			served = offer
		}
		cancel()
		select {
		case <-u.ctx.Done():
			return
		case <-next:
		}
	}
}

// serve deals with one offer until the cloud has it or ctx ends.
func (u *Uploader) serve(ctx context.Context, pem []byte, offer int) {
	for {
		news := u.newsOf()
		err := u.attempts(ctx, pem, func(err error) { u.note(offer, err) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			if u.cfg.Uploaded != nil {
				u.cfg.Uploaded(pem)
			}
			return
		}
		u.cfg.Log.Error("the cloud does not take the authority's certificate: devices cannot discover it", "error", err)
		for up := false; !up; up = u.cfg.NetworkUp() { // when the network returns its mind may have changed
			if u.wait(ctx, news, 0) != nil {
				return
			}
			news = u.newsOf()
		}
	}
}

// note keeps the outcome of one try.
func (u *Uploader) note(offer int, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if offer == u.offers {
		u.state.Tries++
		u.state.Done, u.state.Err = err == nil, err
	}
}

func (u *Uploader) newsOf() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.news
}

// attempts tries until the cloud has the certificate, has refused it, or ctx ends. tried
// hears of every try.
func (u *Uploader) attempts(ctx context.Context, pem []byte, tried func(error)) error {
	for interval := uploadWaitMin; ; interval = min(2*interval, uploadWaitMax) {
		news := u.newsOf()
		for !u.cfg.NetworkUp() {
			if err := u.wait(ctx, news, 0); err != nil {
				return err
			}
			news = u.newsOf()
		}
		err := u.cfg.Put(ctx, pem)
		if ctx.Err() != nil && err != nil {
			return ctx.Err()
		}
		tried(err)
		put, asked := errors.AsType[*PutError](err)
		if err == nil || !asked || put.Answer.Verdict == messages.CloudDenied {
			return err
		}
		wait := interval/2 + time.Duration(u.cfg.Jitter()*float64(interval-interval/2))
		switch put.Answer.Failure {
		case messages.FailureThrottled, messages.FailureServer, messages.FailureRefused:
			news, wait = nil, max(wait, min(put.Answer.RetryAfter, uploadRetryAfterMax)) // the service's own pace
		}
		u.cfg.Log.Warn("the authority's certificate is not published yet", "error", err, "again_in_ms", wait.Milliseconds())
		if err := u.wait(ctx, news, wait); err != nil {
			return err
		}
	}
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
	case <-u.ctx.Done():
		return ErrClosed
	}
}
