package actors

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// Registrar makes devices known to the cloud. Safe for concurrent use.
type Registrar interface {
	// Register registers c and returns what became of it, the same however often it is
	// called. An error means that nothing can be said yet: ask again later. It returns soon
	// after ctx ends.
	Register(ctx context.Context, c registration.Candidate) (registration.Outcome, error)
}

// PendingDevices is what the enroller needs of the read models.
type PendingDevices interface {
	// PendingDevices lists the pending devices, those admitted first first.
	PendingDevices() []messages.PendingDevice
	// PendingCount counts them, whether their admission still counts or not, and the
	// admissions of the hour before nowMs; coming are those of underway that are not pending.
	PendingCount(nowMs int64, underway map[*messages.AdmitPending]struct{}) (held, lastHour, coming int)
	IsPending(thing messages.ThingName, id messages.CertificateID) bool
	Quarantined(thing messages.ThingName) bool
}

// EnrollerConfig is what an Enroller is made of. System, Views and Clock are required.
type EnrollerConfig struct {
	System *System
	Views  PendingDevices
	Clock  Clock
	// Registrar tells the cloud; nil: nobody does, and nobody is admitted as pending.
	Registrar Registrar
	// Authorities sign the certificates of devices that may register, and Rules say which of
	// them may, and as what. The zero values let nobody.
	Authorities registration.Authorities
	Rules       registration.Rules
	Offline     OfflineRegistration
	Logger      *slog.Logger // default: discard
}

// OfflineRegistration says whether, and how many, devices are admitted as pending while the
// cloud cannot be asked. The zero value: none.
type OfflineRegistration struct {
	Enabled bool
	PerHour int // admissions in any hour
	Max     int // pending devices at once
}

// Enroller brings devices that nobody registered to the registrar, and, while the cloud
// cannot be asked, to their entity to be admitted as pending. It sees to it that those are
// settled. It grants nothing itself. Safe for concurrent use.
type Enroller struct {
	cfg    EnrollerConfig
	sys    *System
	logger *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	out    sync.WaitGroup

	mu       sync.Mutex
	closed   bool        // guarded by mu, as all that follows
	stop     func() bool // the next look
	attempts map[messages.CertificateID]*attempted
	started  []time.Duration                     // since boot: when attempts of the last hour began
	running  int                                 // registrations under way
	reserved map[*messages.AdmitPending]struct{} // admissions that are being decided
	settling map[messages.CertificateID]*settling
}

// attempted is what the enroller remembers of one certificate that asked to register.
type attempted struct {
	out     bool          // the registrar is at it
	next    time.Duration // since boot: until then the outcome stands
	fails   int
	outcome *registration.Outcome // nil: none yet
}

// Limits of the enroller. A certificate signed by a registered authority costs at most one
// entry, one registration under way, and what the quota allows of the log.
const (
	attemptsMax      = 4096
	registrationsMax = 8               // under way at once; the registrar has a queue of its own
	registerTimeout  = 2 * time.Minute // of one try
	comeAgain        = 5 * time.Second // what a device that is being registered is told
	comeAgainLater   = time.Minute     // … and one beyond a quota
	acceptedFor      = 5 * time.Second // the cloud may need a moment to know what it has accepted
	deniedFor        = time.Hour       // a denial stands, so that asking again costs nothing
	tryAgainMin      = 2 * time.Second
	tryAgainMax      = 5 * time.Minute
	enrollEvery      = time.Second // between looks at who is pending
)

// NewEnroller makes an enroller, to which Access brings devices from then on. Call Start.
func NewEnroller(cfg EnrollerConfig) *Enroller {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	e := &Enroller{
		cfg: cfg, sys: cfg.System, logger: cfg.Logger,
		attempts: map[messages.CertificateID]*attempted{}, settling: map[messages.CertificateID]*settling{}, reserved: map[*messages.AdmitPending]struct{}{},
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	cfg.System.enroller.Store(e)
	return e
}

// candidate is a device that may register, by the signature of its certificate and the rules.
type candidate struct {
	registration.Candidate
	leaf    *x509.Certificate
	signer  *x509.Certificate
	verdict registration.Verdict
}

// candidate judges who presents leaf and calls itself thing ("": that is not known). found
// is false if leaf was signed by none of the authorities: then this is no matter of
// registration. The device is to be refused if a refusal comes back.
func (e *Enroller) candidate(leaf *x509.Certificate, thing messages.ThingName) (c candidate, found bool, r *messages.Refusal) {
	now := time.UnixMilli(e.sys.clock.NowMs())
	denied := func(format string, args ...any) *messages.Refusal {
		return messages.Refuse(messages.RefusedInvalidCredential, registrationDenied+format, args...)
	}
	id, signer, err := e.cfg.Authorities.SignerOf(leaf, now)
	switch {
	case errors.Is(err, registration.ErrNotSigned):
		return c, false, nil
	case err != nil:
		return c, true, denied("%v", err)
	}
	c = candidate{leaf: leaf, signer: signer, Candidate: registration.Candidate{
		Certificate: messages.CertificateIDOf(leaf.Raw), DER: leaf.Raw, Authority: id, AuthorityDER: signer.Raw, Thing: thing,
	}}
	c.verdict = e.cfg.Rules.Judge(leaf, c.Candidate, now)
	switch {
	case !c.verdict.Allowed:
		return c, true, denied("%s", byRule(c.verdict.Rule, c.verdict.Reason))
	case thing != "" && thing != c.verdict.Plan.Thing: // what it is known as is what it may call itself
		return c, true, denied("its client id is %q, and its thing name by rule %q is %q", thing, c.verdict.Rule, c.verdict.Plan.Thing)
	case e.cfg.Views.Quarantined(c.verdict.Plan.Thing):
		return c, true, messages.Refuse(messages.RefusedInvalidCredential, "the device is quarantined")
	}
	c.Candidate.Thing = c.verdict.Plan.Thing
	return c, true, nil
}

// The words with which refusals of registration begin: people, and metrics, tell them by it.
const (
	registrationDenied = "registration is denied: "
	beingRegistered    = "the device is being registered: "
)

func byRule(rule, reason string) string {
	if rule == "" {
		return reason
	}
	return fmt.Sprintf("%s (rule %q)", reason, rule)
}

func later(wait time.Duration, format string, args ...any) *messages.Refusal {
	return &messages.Refusal{Code: messages.RefusedPending, Reason: beingRegistered + fmt.Sprintf(format, args...), RetryAfter: wait}
}

// Register begins the registration of a device whose certificate the cloud says it does not
// know, and says how the device is to be refused meanwhile; nil if it is no matter of
// registration.
func (e *Enroller) register(leaf *x509.Certificate, thing messages.ThingName) *messages.Refusal {
	if e.cfg.Registrar == nil {
		return nil
	}
	c, found, r := e.candidate(leaf, thing)
	if !found || r != nil {
		return r
	}
	now := e.cfg.Clock.Boot()
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.attempts[c.Certificate]
	switch {
	case e.closed:
		return messages.Refuse(messages.RefusedNotReady, "stopping")
	case a != nil && a.out:
		return later(comeAgain, "the cloud is told of it")
	case a != nil && now < a.next:
		return a.standing(now)
	case e.running >= registrationsMax:
		return later(comeAgain, "%d others are before it", e.running)
	case a == nil:
		if r := e.quota(now); r != nil {
			return r
		}
		a = &attempted{}
		e.attempts[c.Certificate] = a
	}
	a.out = true
	e.running++
	e.out.Add(1)
	e.sys.spawn(func() { e.try(a, c) })
	return later(comeAgain, "the cloud is told of it")
}

// standing is what the device is told until a.next.
func (a *attempted) standing(now time.Duration) *messages.Refusal {
	switch {
	case a.outcome == nil:
		return later(max(a.next-now, time.Second), "the cloud cannot decide yet")
	case a.outcome.Status == registration.Accepted:
		return later(max(a.next-now, time.Second), "the cloud has accepted it")
	}
	return messages.Refuse(messages.RefusedInvalidCredential, registrationDenied+"%s", byRule(a.outcome.Rule, a.outcome.Reason))
}

// Retry has a certificate that comes again brought to the registrar anew, whatever that said;
// false: nothing is remembered of it.
func (e *Enroller) Retry(id messages.CertificateID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	a := e.attempts[id]
	if a == nil {
		return false
	}
	a.next, a.fails = 0, 0
	return true
}

// quota counts one more certificate, if there is room for it; mu is held.
func (e *Enroller) quota(now time.Duration) *messages.Refusal {
	for len(e.started) > 0 && now-e.started[0] >= time.Hour {
		e.started = e.started[1:]
	}
	if perHour := e.cfg.Rules.PerHour(); len(e.started) >= perHour {
		return later(comeAgainLater, "%d devices have been registered in this hour, as many as registration.perHour says", perHour)
	}
	if len(e.attempts) >= attemptsMax {
		for id, a := range e.attempts {
			if !a.out && now >= a.next {
				delete(e.attempts, id)
			}
		}
	}
	if len(e.attempts) >= attemptsMax {
		return later(comeAgainLater, "%d others are remembered", attemptsMax)
	}
	e.started = append(e.started, now)
	return nil
}

// try has the registrar decide, and remembers what it says.
func (e *Enroller) try(a *attempted, c candidate) {
	defer e.out.Done()
	outcome, err := e.ask(c.Candidate)
	if err != nil {
		e.logger.Warn("device cannot be registered yet", "thing", c.Thing, "certificate_id", c.Certificate, "error", err)
	} else {
		e.sys.tell(settled(c.Candidate, outcome), enrollCause) // before anybody is told of it
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	a.out = false
	e.running--
	now := e.cfg.Clock.Boot()
	switch {
	case err != nil:
		a.outcome, a.next = nil, now+e.backOff(a.fails)
		a.fails++
	case outcome.Status == registration.Accepted:
		a.outcome, a.next, a.fails = &outcome, now+acceptedFor, 0
	default:
		a.outcome, a.next, a.fails = &outcome, now+deniedFor, 0
	}
}

// enrollCause is what the log calls the cause of what the enroller does.
var enrollCause = messages.Cause{Request: "registration"}

// ask asks the registrar. What it accepts under another name is not this device.
func (e *Enroller) ask(c registration.Candidate) (registration.Outcome, error) {
	ctx, cancel := e.sys.within(e.ctx, registerTimeout, context.DeadlineExceeded)
	defer cancel()
	outcome, err := e.cfg.Registrar.Register(ctx, c)
	if err == nil && outcome.Status == registration.Accepted && outcome.Thing != c.Thing {
		outcome = registration.Outcome{Rule: outcome.Rule, Reason: fmt.Sprintf("it is registered as thing %q, not %q", outcome.Thing, c.Thing)}
	}
	return outcome, err
}

// settled is the order to record an outcome.
func settled(c registration.Candidate, o registration.Outcome) messages.SettleRegistration {
	return messages.SettleRegistration{
		Thing: c.Thing, Certificate: c.Certificate, Authority: c.Authority, Accepted: o.Status == registration.Accepted,
		Source: messages.Source_SOURCE_CLOUD, Rule: o.Rule, Reason: o.Reason,
	}
}

// backOff is how long to wait after fails failures in a row, with jitter.
func (e *Enroller) backOff(fails int) time.Duration {
	wait := min(tryAgainMin<<min(fails, 10), tryAgainMax)
	var b [2]byte
	e.sys.random(b[:])
	return wait/2 + wait/2*time.Duration(uint16(b[0])<<8|uint16(b[1]))/(1<<16)
}

// admission is the order to admit a device of which nothing is known while the cloud cannot
// be asked, and what to call when it is answered; nil, and perhaps a refusal, if it is not to
// be given.
func (e *Enroller) admission(leaf *x509.Certificate, thing messages.ThingName, broker messages.BrokerID) (*messages.AdmitPending, func(), *messages.Refusal) {
	if !e.cfg.Offline.Enabled || e.cfg.Registrar == nil || e.sys.NetworkUp() {
		return nil, nil, nil
	}
	c, found, r := e.candidate(leaf, thing)
	if !found || r != nil {
		return nil, nil, r
	}
	order := &messages.AdmitPending{
		Thing: thing, Certificate: c.Certificate, DER: c.DER, Subject: clip(leaf.Subject.String(), subjectBytes),
		Authority: c.Authority, Rule: c.verdict.Rule, Broker: broker,
		NotBeforeMs: max(leaf.NotBefore.UnixMilli(), c.signer.NotBefore.UnixMilli()),
		NotAfterMs:  min(leaf.NotAfter.UnixMilli(), c.signer.NotAfter.UnixMilli()),
	}
	if e.cfg.Views.IsPending(thing, c.Certificate) {
		return order, func() {}, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	held, lastHour, coming := e.cfg.Views.PendingCount(e.sys.clock.NowMs(), e.reserved)
	switch limits := e.cfg.Offline; { // what is being decided counts: it may be on record in a moment
	case held+coming >= limits.Max:
		return nil, nil, later(comeAgainLater, "%d devices are pending, as many as registration.offline.max says", held+coming)
	case lastHour+coming >= limits.PerHour:
		return nil, nil, later(comeAgainLater, "%d devices were admitted as pending in this hour, as many as registration.offline.perHour says", lastHour+coming)
	}
	e.reserved[order] = struct{}{}
	order.Room = true
	return order, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.reserved, order)
	}, nil
}
