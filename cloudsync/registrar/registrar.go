package registrar

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// Bounds of a registrar.
const (
	entriesMax    = 1024     // waiting for their turn
	lettersMax    = 1024     // given up, or dismissed
	deniedMax     = 64 << 10 // remembered
	finalTriesMax = 5        // of what the service says no to
	callsPerSec   = 10       // to the cloud (reliability spec 4.8)
	waitMin       = time.Second / 2
	waitMax       = 5 * time.Minute
	retryAfterMax = time.Hour
	// deniedFor is how long a denied certificate that comes again is not looked into.
	deniedFor = 10 * time.Minute
)

// Config shapes a Registrar.
type Config struct {
	Cloud       Cloud                    // required
	Rules       registration.Rules       // none: everybody is denied
	Authorities registration.Authorities // by which devices register
	// Load and Save keep what must survive a restart: what is half done, and what was given up.
	// Load returns nil if there is nothing. Save is durable when it returns. Required.
	Load func() ([]byte, error)
	Save func(text []byte) error
	// Settled hears of each outcome, one at a time, again after a crash. An error means that it
	// is told again. Default: nobody.
	Settled func(ctx context.Context, c registration.Candidate, o registration.Outcome) error
	// Now is the time by which certificates are judged, and the quota is kept. Required.
	Now func() time.Time
	// AfterFunc and Jitter are as in cloudsync.MonitorConfig. Default: the real ones.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	Jitter    func() float64
	// Rate bounds requests to the cloud, a second. Default: 10.
	Rate int
	// RetryMin and RetryMax bound the waits between tries: 0.5 s and 5 min by default.
	RetryMin, RetryMax time.Duration
	// Log hears what an operator can do something about. Default: nobody.
	Log *slog.Logger
}

func (cfg *Config) complete() error {
	switch {
	case cfg.Cloud == nil || cfg.Load == nil || cfg.Save == nil || cfg.Now == nil:
		return errors.New("registrar: need a cloud, a place for what must last, and a clock")
	case len(cfg.Authorities.IDs()) == 0:
		return errors.New("registrar: no authority is given by which devices register")
	}
	if cfg.Settled == nil {
		cfg.Settled = func(context.Context, registration.Candidate, registration.Outcome) error { return nil }
	}
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = afterFunc
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.Float64
	}
	if cfg.Rate <= 0 {
		cfg.Rate = callsPerSec
	}
	if cfg.RetryMin <= 0 {
		cfg.RetryMin = waitMin
	}
	if cfg.RetryMax <= 0 {
		cfg.RetryMax = waitMax
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// Registrar registers devices, one after the other, from New to Close.
type Registrar struct {
	cfg    Config
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	calls  chan struct{} // holds something while the next request must wait

	mu      sync.Mutex
	wake    chan struct{} // holds something when work looks again
	entries map[messages.CertificateID]*entry
	letters map[messages.CertificateID]*letter // open, given up and dismissed
	denied  map[messages.CertificateID]denial
	recent  []time.Time // when devices were begun, for the quota; in order
	paused  time.Time   // before it nothing is tried: the cloud is away, or wants to be left alone
	pauses  int         // in a row
	more    bool        // a listing held more than there was room for
	relist  chan struct{}
	counts  Counts
}

// Counts are since the start.
type Counts struct {
	Heard, Malformed                     uint64 // events
	Accepted, Denied, Failed, Overloaded uint64 // Failed: tries
}

type denial struct {
	at      time.Time
	outcome registration.Outcome
}

// entry is a candidate that waits for its turn.
type entry struct {
	c        registration.Candidate
	since    time.Time
	next     time.Time // not before
	interval time.Duration
	tries    int
	refusals int // final ones
	problem  string
	running  bool
	listed   bool // it came from a listing
	waiting  []chan<- answer
	outcome  *registration.Outcome // that is still to be told
	inactive bool                  // with it: this registrar has registered it so
}

type answer struct {
	outcome registration.Outcome
	err     error
}

// New takes up what was half done, and starts. Close it.
func New(cfg Config) (*Registrar, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	r := &Registrar{
		cfg: cfg, wake: make(chan struct{}, 1), relist: make(chan struct{}, 1), calls: make(chan struct{}, 1),
		entries: map[messages.CertificateID]*entry{}, letters: map[messages.CertificateID]*letter{}, denied: map[messages.CertificateID]denial{},
	}
	text, err := cfg.Load()
	if err != nil {
		return nil, fmt.Errorf("registrar: read what was half done: %w", err)
	}
	if err := r.restore(text); err != nil {
		return nil, fmt.Errorf("registrar: %w", err)
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.wg.Go(r.work)
	r.wg.Go(r.list)
	return r, nil
}

// Close ends what is under way; it is taken up at the next start.
func (r *Registrar) Close() {
	r.cancel()
	r.wg.Wait()
}

// ErrLater is wrapped by the error of Register when the candidate waits, and is tried again
// without being asked for: come back.
var ErrLater = errors.New("not registered yet")

// Register brings a candidate and waits for its outcome, or the end of its first try, or ctx.
// An error means that it cannot be told yet, and says why; the candidate is not forgotten, but
// for an overload. It is denied without asking anybody if the rules say so.
func (r *Registrar) Register(ctx context.Context, c registration.Candidate) (registration.Outcome, error) {
	if c.DER != nil {
		if out, ok := r.refuseAtOnce(c); ok {
			return out, nil
		}
	}
	done := make(chan answer, 1)
	if out, err := r.offer(c, false, done); out != nil || err != nil {
		return deref(out), err
	}
	select {
	case a := <-done:
		return a.outcome, a.err
	case <-ctx.Done():
		return registration.Outcome{}, fmt.Errorf("%w: %w", ErrLater, ctx.Err())
	case <-r.ctx.Done():
		return registration.Outcome{}, fmt.Errorf("%w: the registrar has ended", ErrLater)
	}
}

// refuseAtOnce judges a certificate that came with the candidate: what the rules do not allow
// costs nobody a request.
func (r *Registrar) refuseAtOnce(c registration.Candidate) (registration.Outcome, bool) {
	no := registration.Outcome{Status: registration.Denied}
	authority := r.cfg.Authorities.Find(c.Authority)
	leaf, err := x509.ParseCertificate(c.DER)
	switch {
	case err != nil:
		no.Reason = "its certificate cannot be read"
		return no, true
	case authority == nil:
		no.Reason = "no authority whose devices register here has signed it"
		return no, true
	}
	v, _ := r.judge(leaf, authority, c, r.cfg.Now())
	no.Rule, no.Reason = v.Rule, v.Reason
	return no, !v.Allowed
}

// judge says whether a certificate is its authority's, and what the rules make of it. ruled:
// that was for the rules to say.
func (r *Registrar) judge(leaf, authority *x509.Certificate, c registration.Candidate, at time.Time) (v registration.Verdict, ruled bool) {
	if err := registration.Signed(leaf, authority, at); err != nil {
		return registration.Verdict{Reason: err.Error()}, false
	}
	return r.cfg.Rules.Judge(leaf, c, at), true
}

// Hear takes a message of AWS IoT about a certificate that has registered itself. It does not
// block.
func (r *Registrar) Hear(topic string, payload []byte) {
	e, err := ParseEvent(topic, payload)
	r.mu.Lock()
	r.counts.Heard++
	if err != nil || r.cfg.Authorities.Find(e.Authority) == nil {
		r.counts.Malformed++
		r.mu.Unlock()
		r.cfg.Log.Warn("a registration event was ignored", "topic", topic, "error", err)
		return
	}
	r.mu.Unlock()
	if _, err := r.offer(registration.Candidate{Certificate: e.Certificate, Authority: e.Authority}, false, nil); errors.Is(err, errFull) {
		r.again()
	}
}

// errFull: nobody is forgotten who is pending in the cloud: the listing brings them back.
var errFull = fmt.Errorf("%w: %d others wait", ErrLater, entriesMax)

// again has the cloud's lists read once more, when there is room.
func (r *Registrar) again() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.more = true
}

// offer puts a candidate in line, or tells what is known of it already.
func (r *Registrar) offer(c registration.Candidate, listed bool, done chan<- answer) (*registration.Outcome, error) {
	now := r.cfg.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.letters[c.Certificate]
	if l != nil && l.State == stateDead && l.DER == nil && c.DER != nil { // it was given up for want of the certificate itself
		delete(r.letters, c.Certificate)
		l = nil
	}
	if l != nil && l.State != stateOpen && l.State != stateDenied {
		if l.State == stateDismissed {
			return &registration.Outcome{Status: registration.Denied, Reason: "dismissed by an operator"}, nil
		}
		return nil, fmt.Errorf("%w: given up after %d tries: %s", ErrLater, l.Tries, l.Problem)
	}
	if d, ok := r.denied[c.Certificate]; ok && (listed || now.Before(d.at.Add(deniedFor)) && !now.Before(d.at)) {
		return &d.outcome, nil
	}
	e := r.entries[c.Certificate]
	switch {
	case e == nil && len(r.entries) >= entriesMax:
		r.counts.Overloaded++
		return nil, errFull
	case e == nil:
		e = &entry{c: c, since: now, listed: listed}
		r.entries[c.Certificate] = e
	case e.c.DER == nil && c.DER != nil:
		e.c.DER, e.c.AuthorityDER, e.c.Thing, e.refusals = c.DER, c.AuthorityDER, c.Thing, 0
	}
	if done != nil {
		if until := r.dueLocked(e, r.freeLocked(now)); !e.running && now.Before(until) {
			return nil, fmt.Errorf("%w: %s", ErrLater, reasonOf(e, until))
		}
		e.waiting = append(e.waiting, done)
	}
	r.wakeLocked()
	return nil, nil
}

func reasonOf(e *entry, until time.Time) string {
	if e.problem != "" {
		return e.problem
	}
	return "others come first, until " + until.UTC().Format(time.RFC3339)
}

func (r *Registrar) wakeLocked() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// NetworkChanged tells that the cloud can be reached again, and what waits for it is tried at
// once, or that it cannot, which hastens nothing.
func (r *Registrar) NetworkChanged(up bool) {
	if !up {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paused, r.pauses = time.Time{}, 0
	r.wakeLocked()
}

// pace waits for the turn of a request.
func (r *Registrar) pace(ctx context.Context) error {
	select {
	case r.calls <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	r.cfg.AfterFunc(time.Second/time.Duration(r.cfg.Rate), func() { <-r.calls })
	return nil
}
