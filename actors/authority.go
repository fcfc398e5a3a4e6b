package actors

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// AuthorityConfig is what an Authority is made of. System, Keys, Clock and Settings are
// required.
type AuthorityConfig struct {
	System *System
	Keys   keys.Keys
	// Clock calls functions that wait for the log: a simulator's spawns them.
	Clock Clock
	// Settings is the configuration in force, asked at each look. Call Wake when it changes.
	Settings func() AuthoritySettings
	// Custom opens the operator's own authority; nil: there can be none.
	Custom Custom
	// Publish puts the certificates that devices must trust, in PEM, where they are found.
	// It returns when they are; a certificate by an authority that is not published is not
	// issued. nil: nobody looks.
	Publish func(bundle []byte) error
	// Withdrawn says whether an operator took back that the certificate id makes its holder
	// the internal component name; nil: what the authority itself was told counts alone. It
	// must not block.
	Withdrawn func(name string, id messages.CertificateID) bool
	// Uploader tells the cloud; nil: there is none.
	Uploader Uploader
	Logger   *slog.Logger // default: discard
}

// AuthoritySettings is the part of the configuration that concerns certificates.
type AuthoritySettings struct {
	Type           string        // of a managed authority's key: ca.TypeRSA2048 or ca.TypeECDSAP256
	Custom         keys.URIs     // of the operator's own authority; none: a managed one
	ServerValidity time.Duration // of what serves
	ClientValidity time.Duration
	// RotationDisabled: nothing is issued again once there is a first certificate.
	RotationDisabled bool
}

func (s AuthoritySettings) custom() bool {
	return s.Custom.Certificate != "" && s.Custom.PrivateKey != ""
}

// Custom opens the operator's own authority, and returns the same Opened as long as
// nothing has changed.
type Custom interface {
	Open(ctx context.Context, uris keys.URIs) (*keys.Opened, error)
}

// Uploader tells the cloud which authorities devices must trust: pem holds the topmost
// certificate of each, oldest first. It returns nil when the cloud has them, and waits for
// that however long it takes, until ctx ends. It calls taken with each, in DER, as soon as
// the cloud has that one, perhaps several times, and returns its error. After an error it is
// called again within a minute.
type Uploader interface {
	Upload(ctx context.Context, pem []byte, taken func(der []byte) error) error
}

// Authority is the certificate authority at work. It carries out ca.Plan: makes, imports
// and retires authorities, and issues certificates to subscribers before they end. Each
// step is in the log before the next: a certificate's bytes leave only after
// CertificateIssued is durable (reliability spec 3, C-I2), and only after the authority
// that signed it is published (C-I1). What is in memory only is who subscribes now, and
// keys made here; after a crash the plan says again what is missing.
//
// A pass over the plan is made whenever something changes, and once a minute; passes
// follow one another.
type Authority struct {
	cfg  AuthorityConfig
	ctx  context.Context // ends with Close
	end  context.CancelFunc
	book atomic.Pointer[ca.Book] // what the log says

	turn      turnstile // held for one pass, and guards what follows
	signers   map[messages.CertificateID]crypto.Signer
	silent    map[messages.CertificateID]silence // whose keys did not sign when they were asked last
	keysOf    *ca.Book                           // for which the keys in signers were taken
	opened    *keys.Opened                       // the custom authority in use, as it was opened
	refused   string                             // why another is not, as it was told last
	published map[messages.CertificateID]bool
	bundle    []byte    // as published
	edition   *ca.Book  // the bundle is of
	failing   time.Time // since when passes fail; zero: the last did not …
	failed    []string  // … and what did
	warned    time.Time // of an end that comes near

	folding sync.Mutex // held while the log is read into book, and guards version
	version uint64     // of stream core/ca, as far as it is in book

	mu          sync.Mutex // guards what follows; never held while waiting
	subscribers map[subscription]*subscriber
	stop        func() bool // the next look at the clock
	closed      bool
	issued      map[string]uint64 // certificates since the start, by ca.ReasonClass
	work        int               // looks and uploads under way
	idle        []func()          // who waits for there to be none

	seen atomic.Pointer[sight] // as of the last pass, or of what it has done so far

	upload upload
}

// authorityRetry is how long a step that failed waits (client-device-auth spec 6.3).
const authorityRetry = 30 * time.Second

// lookEvery bounds the wait for a look at the clock: trust time jumps when the wall clock
// is set right, and a timer stands still while the machine is suspended. A certificate
// must not end meanwhile. Files of a custom authority are looked at as often.
const lookEvery = time.Minute

// StartAuthority takes up what the log knows, or makes the first authority. One whose key
// is lost or locked refuses the start: a new one would be trusted by no device (C-I4). So
// does a custom one that cannot be used, unless one that was in force before can go on. A
// clock before its beginning does not: who may do what does not rest on an authority, and
// it issues again when the clock is right.
func StartAuthority(ctx context.Context, cfg AuthorityConfig) (*Authority, error) {
	if cfg.System == nil || cfg.Keys == nil || cfg.Clock == nil || cfg.Settings == nil {
		return nil, errors.New("start authority: AuthorityConfig needs System, Keys, Clock and Settings")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Authority{
		cfg: cfg, signers: map[messages.CertificateID]crypto.Signer{}, published: map[messages.CertificateID]bool{},
		silent: map[messages.CertificateID]silence{}, subscribers: map[subscription]*subscriber{}, issued: map[string]uint64{},
	}
	a.turn.park = cfg.System.park
	a.seen.Store(&sight{})
	a.ctx, a.end = context.WithCancel(context.Background())
	a.upload.of = a
	if err := a.begin(ctx); err != nil {
		a.Close()
		return nil, err
	}
	cfg.System.issuer.Store(a)
	return a, nil
}

func (a *Authority) begin(ctx context.Context) error {
	a.turn.Lock()
	defer a.turn.Unlock()
	if err := a.restore(ctx); err != nil {
		return fmt.Errorf("read authorities: %w", err)
	}
	if err := a.takeKeys(); err != nil {
		return err
	}
	failed := errors.Join(append(a.pass(ctx), a.customError())...)
	if _, ok := a.state().Issuer(a.now()); !ok {
		if failed == nil && len(a.book.Load().Authorities) == 0 {
			failed = errors.New("none was made")
		}
		if failed != nil {
			return fmt.Errorf("no authority can issue certificates: %w", failed)
		}
		a.cfg.Logger.Error("no authority can issue certificates: by the clock none is valid now", "now", a.now().Format(time.RFC3339))
	}
	return nil
}

// restore folds the stream, from the entity's snapshot if there is one.
func (a *Authority) restore(ctx context.Context) error {
	book := ca.Book{}
	if s, found, err := a.cfg.System.log.Snapshot(snapshotKey(messages.StreamCA)); err == nil && found && s.Version == snapshotVersion {
		if version, state, err := authorities.decode(s.Data); err == nil {
			book, a.version = state.(ca.Book), version
		}
	}
	a.book.Store(&book)
	return a.catchUp(ctx)
}

// catchUp folds what has come to the log since. A book that was stored is never changed:
// whoever loaded it may be reading it.
func (a *Authority) catchUp(ctx context.Context) error {
	a.folding.Lock()
	defer a.folding.Unlock()
	for rec, err := range a.cfg.System.log.Read(ctx, messages.StreamCA, a.version+1) {
		if err != nil {
			return err
		}
		e, err := messages.FoldEvent(&rec)
		if err != nil {
			return fmt.Errorf("record %d: %w", rec.Seq, err)
		}
		if e != nil {
			book := ca.Evolve(*a.book.Load(), e, rec.At)
			a.book.Store(&book)
		}
		a.version = rec.Version
	}
	return nil
}

// note puts a fact on record and folds it; nothing for a caller who has given up.
func (a *Authority) note(ctx context.Context, e messages.Event) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("record %s: %w", e.Kind(), err)
	}
	if _, err := a.cfg.System.Do(ctx, messages.Note{Stream: messages.StreamCA, Event: e}, messages.Cause{Request: "authority"}); err != nil {
		return fmt.Errorf("record %s: %w", e.Kind(), err)
	}
	return a.catchUp(ctx)
}

// takeKeys takes the keys of managed authorities from the store, when there are others than
// before: one may be on record whose maker never heard so. The key of an authority that
// only waits for its certificates to end is not needed. turn is held.
func (a *Authority) takeKeys() error {
	book := a.book.Load()
	if book == a.keysOf {
		return nil
	}
	issuer, _ := a.stateIf(func(messages.CertificateID) bool { return false }).Issuer(a.now()) // as if all were at hand
	for i, entry := range book.Authorities {
		if entry.Custom || a.signers[entry.ID] != nil {
			continue
		}
		authority, err := ca.ParseAuthority(entry.Chain...)
		if err != nil {
			return fmt.Errorf("the authority in the log: %w", err)
		}
		signer, err := a.cfg.Keys.AuthorityKey(authority.Certificate())
		switch {
		case err == nil:
			a.signers[entry.ID] = signer
		case i == len(book.Authorities)-1 || entry.ID == issuer.ID:
			return err
		default:
			a.cfg.Logger.Warn("the key of a former authority cannot be opened; it is not needed any more", "authority", entry.ID, "error", err)
		}
	}
	a.keysOf = book
	return nil
}

// state is what the plan follows from.
func (a *Authority) state() ca.State {
	return a.stateIf(func(id messages.CertificateID) bool { return a.signers[id] == nil })
}

func (a *Authority) stateIf(unusable func(messages.CertificateID) bool) ca.State {
	book := a.book.Load()
	return book.State(a.planSettings(a.cfg.Settings(), book), a.subscriptions(), unusable)
}

func (a *Authority) planSettings(s AuthoritySettings, book *ca.Book) ca.Settings {
	return ca.Settings{
		Type: s.Type, Custom: s.custom(), RotationDisabled: s.RotationDisabled, CloudConfigured: a.cfg.Uploader != nil,
		// The first is made whatever the clock says: its life is five years.
		AuthoritiesFrozen: len(book.Authorities) > 0 && !a.cfg.System.clock.known(),
	}
}

// stepsMax bounds one pass: more is due only if the plan does not come to rest.
const stepsMax = 4096

// pass does what is due, step by step, and returns what failed. What fails is left for
// later and keeps nothing else from being done, but for the end of ctx, and for what needs
// a key that does not sign. turn is held.
func (a *Authority) pass(ctx context.Context) (failed []error) {
	defer func() { a.outcome(ctx, failed) }()
	if err := a.catchUp(ctx); err != nil {
		if !gaveUp(ctx) {
			a.cfg.Logger.Error("certificates: the log cannot be read; trying again", "error", err)
		}
		a.plan(true)
		return []error{err}
	}
	if err := a.takeKeys(); err != nil {
		failed = append(failed, err)
	}
	if err := a.takeCustom(ctx); err != nil {
		failed = append(failed, err)
	}
	if err := a.publish(); err != nil {
		failed = append(failed, err)
	}
	failed = append(failed, a.steps(ctx)...)
	a.redeliver()
	a.warn()
	a.upload.look()
	a.plan(len(failed) > 0)
	return failed
}

// steps does what is due until nothing is, or ctx ends, and returns what failed.
func (a *Authority) steps(ctx context.Context) (failed []error) {
	tried, silent := map[ca.Step]bool{}, map[messages.CertificateID]bool{}
	for range stepsMax {
		step, ok := a.next(func(s ca.Step) bool { return tried[s] || s.Do == ca.IssueCertificate && silent[s.Authority] })
		if !ok {
			break
		}
		if err := ctx.Err(); err != nil {
			return append(failed, fmt.Errorf("not all that is due is done: %w", err))
		}
		tried[step] = true
		err := a.do(ctx, step)
		if err == nil {
			continue
		}
		failed = append(failed, err)
		if errors.Is(err, ca.ErrNotSigned) { // the others are left for the next pass: each might wait as long
			silent[step.Authority] = true
		}
		if !gaveUp(ctx) {
			a.cfg.Logger.Error("certificates: a step failed; trying again", "error", err, "wait_ms", authorityRetry.Milliseconds())
		}
	}
	return failed
}

// errPassTime is why a pass that nobody waits for ends.
var errPassTime = errors.New("the pass ran out of time")

// gaveUp says whether ctx was ended by a caller, or by Close: no failure of the authority's.
func gaveUp(ctx context.Context) bool {
	return ctx.Err() != nil && !errors.Is(context.Cause(ctx), errPassTime)
}

// next is the first step that is due and that this pass does not leave out.
func (a *Authority) next(leftOut func(ca.Step) bool) (ca.Step, bool) {
	state := a.state()
	now := a.now()
	due, _ := ca.Plan(state, now)
	if issuer, ok := state.Issuer(now); ok {
		due = append(due, a.demanded(issuer.ID, due)...)
	}
	for _, step := range due {
		if !leftOut(step) {
			return step, true
		}
	}
	return ca.Step{}, false
}

func (a *Authority) do(ctx context.Context, step ca.Step) error {
	switch step.Do {
	case ca.CreateAuthority:
		if err := a.create(ctx, step.Reason); err != nil {
			return fmt.Errorf("make an authority (%s): %w", step.Reason, err)
		}
		return a.publish()
	case ca.IssueCertificate:
		if err := a.issueTo(ctx, subscription{step.Subscriber, step.Usage}, step.Authority, step.Reason); err != nil {
			return fmt.Errorf("issue a certificate to %s (%s): %w", step.Subscriber, step.Reason, err)
		}
	case ca.RetireAuthority:
		if err := a.note(ctx, &messages.AuthorityRetired{AuthorityId: string(step.Authority), Reason: step.Reason}); err != nil {
			return fmt.Errorf("retire authority %s: %w", step.Authority, err)
		}
		delete(a.signers, step.Authority)
		a.cfg.Logger.Info("authority retired", "authority", step.Authority, "reason", step.Reason)
		return a.publish()
	}
	return nil
}

// publish makes known what devices must trust, if that has changed. turn is held.
func (a *Authority) publish() error {
	book := a.book.Load()
	if book == a.edition {
		return nil
	}
	bundle, ids := book.Bundle(), map[messages.CertificateID]bool{}
	if a.cfg.Publish != nil && !bytes.Equal(bundle, a.bundle) { // both are empty before the first
		if err := a.cfg.Publish(bundle); err != nil {
			a.cfg.Logger.Error("the authorities that devices must trust cannot be published: a new one does not issue yet", "error", err)
			return fmt.Errorf("publish authorities: %w", err)
		}
	}
	for _, entry := range book.Authorities { // also one whose certificate was in another's chain before
		ids[entry.ID] = true
	}
	a.bundle, a.published, a.edition = bundle, ids, book
	a.see()
	return nil
}

// plan sets the time of the next look, in place of any other.
func (a *Authority) plan(failed bool) {
	_, next := ca.Plan(a.state(), a.now())
	wait := lookEvery
	if !next.IsZero() {
		wait = min(wait, next.Sub(a.now()))
	}
	if failed {
		wait = min(wait, a.retry())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	if a.stop != nil {
		a.stop()
	}
	a.stop = a.cfg.Clock.AfterFunc(max(wait, time.Second), a.look)
}

// Wake has a look taken soon: the configuration or a file has changed.
func (a *Authority) Wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.beside(a.look)
	}
}

// beside runs f on its own. a.mu is held, and the authority not closed.
func (a *Authority) beside(f func()) {
	a.work++
	a.cfg.System.spawn(func() {
		defer a.worked()
		f()
	})
}

// look makes a pass.
func (a *Authority) look() {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return
	}
	a.work++
	a.mu.Unlock()
	defer a.worked()
	a.turn.Lock()
	defer a.turn.Unlock()
	ctx, cancel := a.cfg.System.within(a.ctx, authorityRetry, errPassTime)
	defer cancel()
	_ = a.pass(ctx) // what failed is logged, and tried again
}

// worked notes that a look or an upload has ended.
func (a *Authority) worked() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.work--; a.work == 0 {
		for _, wake := range a.idle {
			wake()
		}
		a.idle = nil
	}
}

// warn says, once a day, that the end of an authority comes near and no successor does.
func (a *Authority) warn() {
	const before, every = 30 * 24 * time.Hour, 24 * time.Hour
	list, now := a.book.Load().Authorities, a.now()
	if len(list) == 0 || now.Sub(a.warned) < every {
		return
	}
	newest := list[len(list)-1]
	if left := time.UnixMilli(newest.NotAfterMs).Sub(now); left < before {
		a.warned = now
		a.cfg.Logger.Warn("the authority ends soon, and devices trust no other", "authority", newest.ID,
			"not_after", time.UnixMilli(newest.NotAfterMs).UTC(), "hint", "a custom one needs its successor in certificateUri; a managed one renews itself unless the time is not known")
	}
}

func (a *Authority) now() time.Time { return a.cfg.System.clock.Now().Trust() }

func (a *Authority) serial() (b [ca.SerialBytes]byte) {
	a.cfg.System.random(b[:])
	return b
}

// retry is how long a step that failed waits.
func (a *Authority) retry() time.Duration { return min(authorityRetry, a.shortest()/10) }

// shortest is the shortest life of a certificate in the configuration.
func (a *Authority) shortest() time.Duration {
	s := a.cfg.Settings()
	return max(min(s.ServerValidity, s.ClientValidity), ca.ValidityMin)
}

// Close ends the rotation and returns when none runs.
func (a *Authority) Close() {
	a.cfg.System.issuer.CompareAndSwap(a, nil)
	a.mu.Lock()
	a.closed = true
	if a.stop != nil {
		a.stop()
	}
	wait, wake := a.cfg.System.park()
	busy := a.work > 0
	if busy {
		a.idle = append(a.idle, wake)
	}
	a.mu.Unlock()
	a.end()
	if busy {
		wait(context.Background())
	}
}

// all lists the subscribers in the order of their names.
func (a *Authority) all() []*subscriber {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.subscribers), func(x, y *subscriber) int { return x.of.compare(y.of) })
}
