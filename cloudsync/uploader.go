package cloudsync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
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
	// Park returns how its caller waits: wait returns when wake has been called, before or
	// after, or soon after ctx is done. For the simulator, which may leave the latter out.
	// Default: a channel.
	Park func() (wait func(ctx context.Context), wake func())
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

	mu      sync.Mutex
	returns int     // of the network, so far; guarded by mu, as all below
	waits   []*wait // for the network, or for time to pass
	state   UploadState
}

// wait is one who waits.
type wait struct{ wake func() }

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
	if cfg.Park == nil {
		cfg.Park = park
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Uploader{cfg: cfg}, nil
}

// park waits on a channel.
func park() (wait func(context.Context), wake func()) {
	woken := make(chan struct{})
	return func(ctx context.Context) {
		select {
		case <-woken:
		case <-ctx.Done():
		}
	}, sync.OnceFunc(func() { close(woken) })
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
	u.returns++
	for _, w := range u.waits {
		w.wake()
	}
}

// returned counts how often the network has returned.
func (u *Uploader) returned() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.returns
}

// wait waits until the network has returned more than so many times, or d, unless it is
// zero, has passed, and says whether it was the former. The error is why ctx ended, if that
// came first.
func (u *Uploader) wait(ctx context.Context, returns int, d time.Duration) (heard bool, err error) {
	until, wake := u.cfg.Park()
	w := &wait{wake}
	u.mu.Lock()
	if u.returns > returns {
		wake()
	}
	u.waits = append(u.waits, w)
	u.mu.Unlock()
	if d > 0 {
		defer u.cfg.AfterFunc(d, wake)()
	}
	until(ctx)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.waits = slices.DeleteFunc(u.waits, func(other *wait) bool { return other == w })
	if u.returns > returns {
		return true, nil
	}
	return false, ctx.Err()
}
