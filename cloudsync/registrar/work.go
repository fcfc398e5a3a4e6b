package registrar

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// work takes candidates in turn: one at a time, so that two with one name never overtake each
// other.
func (r *Registrar) work() {
	for {
		e, wait := r.next()
		if e == nil {
			if !r.rest(wait) {
				return
			}
			continue
		}
		outcome, err := r.try(e)
		if r.ctx.Err() != nil {
			return
		}
		r.settle(e, outcome, err)
	}
}

// rest waits until there is something to do, or d has passed unless it is zero; false: the
// registrar ends.
func (r *Registrar) rest(d time.Duration) bool {
	var over chan struct{}
	if d > 0 {
		over = make(chan struct{})
		defer r.cfg.AfterFunc(d, func() { close(over) })()
	}
	select {
	case <-r.wake:
	case <-over:
	case <-r.ctx.Done():
		return false
	}
	return true
}

// next is the candidate that has waited longest, since it came or was last tried, of those that
// are due: one that always fails holds up nobody else. nil: none, for so long (0: until
// something happens).
func (r *Registrar) next() (first *entry, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.cfg.Now()
	r.clockLocked(now)
	free := r.freeLocked(now)
	var soonest time.Time
	for _, e := range r.entries {
		due := r.dueLocked(e, free)
		if due.After(now) {
			if soonest.IsZero() || due.Before(soonest) {
				soonest = due
			}
			continue
		}
		if first == nil || e.turn().Before(first.turn()) {
			first = e
		}
	}
	if first != nil {
		first.running = true
		return first, 0
	}
	if r.more && len(r.entries) < entriesMax/2 {
		r.more = false
		r.relistLocked()
	}
	if soonest.IsZero() {
		return nil, 0
	}
	return nil, max(soonest.Sub(now), time.Millisecond)
}

// clockLocked ends waits that are longer than any: the clock has gone back since.
func (r *Registrar) clockLocked(now time.Time) {
	last := now.Add(max(r.cfg.RetryMax, retryAfterMax))
	if r.paused.After(last) {
		r.paused = now
	}
	for _, e := range r.entries {
		if e.since.After(now) {
			e.since = now
		}
		if e.next.After(last) {
			e.next = now
		}
	}
}

// turn is since when a candidate that is due waits.
func (e *entry) turn() time.Time {
	if e.next.After(e.since) {
		return e.next
	}
	return e.since
}

// dueLocked is when a candidate may be tried: not while the cloud wants to be left alone, nor
// beyond the quota, which lets the next begin when free says, unless it was begun.
func (r *Registrar) dueLocked(e *entry, free time.Time) time.Time {
	due := e.next
	if r.paused.After(due) {
		due = r.paused
	}
	if r.letters[e.c.Certificate] == nil && e.outcome == nil && free.After(due) {
		due = free
	}
	return due
}

const quotaWindow = time.Hour

// freeLocked is when the quota lets one more begin. What was begun in the future, by a clock
// that has gone back, counts as begun now.
func (r *Registrar) freeLocked(now time.Time) time.Time {
	for i, at := range r.recent {
		if at.After(now) {
			r.recent[i] = now
		}
	}
	r.recent = slices.DeleteFunc(r.recent, func(at time.Time) bool { return !now.Before(at.Add(quotaWindow)) })
	if n := len(r.recent) - r.cfg.Rules.PerHour(); n >= 0 {
		return r.recent[n].Add(quotaWindow)
	}
	return time.Time{}
}

// try is one try at a candidate, or at telling what became of it.
func (r *Registrar) try(e *entry) (registration.Outcome, error) {
	r.mu.Lock()
	c := e.c // more may be learnt of it meanwhile
	r.mu.Unlock()
	if e.outcome == nil {
		j := &job{r: r, ctx: r.ctx, c: c, at: r.cfg.Now()}
		j.begun, j.mine, j.activating = r.begun(c.Certificate)
		outcome, err := j.run()
		if err != nil {
			return outcome, err
		}
		c.Authority = j.c.Authority
		r.mu.Lock()
		e.c.Authority, e.outcome, e.inactive = c.Authority, &outcome, j.mine && j.known.Status == StatusInactive
		r.mu.Unlock()
	}
	if err := r.cfg.Settled(r.ctx, c, *e.outcome); err != nil {
		return registration.Outcome{}, &Problem{Detail: fmt.Sprintf("the outcome (%s) is not recorded: %v", e.outcome.Status, err)}
	}
	return *e.outcome, nil
}

// settle notes how a try ended.
func (r *Registrar) settle(e *entry, outcome registration.Outcome, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e.running = false
	for _, done := range e.waiting {
		done <- answer{outcome, laterOf(err)} // each has room for it
	}
	e.waiting = nil
	id := e.c.Certificate
	if err != nil {
		r.counts.Failed++
		r.postponeLocked(e, problemOf(err), err)
		return
	}
	r.paused, r.pauses = time.Time{}, 0
	delete(r.entries, id)
	if outcome.Status == registration.Accepted {
		r.counts.Accepted++
		delete(r.denied, id)
		r.cfg.Log.Info("a device is registered", "thing", outcome.Thing, "certificate", id, "rule", outcome.Rule, "reason", outcome.Reason)
	} else {
		r.counts.Denied++
		r.denyLocked(id, outcome)
		r.cfg.Log.Info("a device is not registered", "certificate", id, "rule", outcome.Rule, "reason", outcome.Reason)
	}
	if l := r.letters[id]; l != nil {
		delete(r.letters, id)
		if outcome.Status == registration.Denied && e.inactive {
			r.keepDeniedLocked(*l, outcome.Reason)
		}
		if err := r.saveLocked(); err != nil { // it is looked at again after a restart, which changes nothing
			r.cfg.Log.Warn("what the registrar has done is not on disk", "error", err)
		}
	}
}

// keepDeniedLocked keeps it that this registrar has left a certificate INACTIVE: what denied it,
// another's name or a rule, may change, and nobody else has decided. Whoever changes its status
// meanwhile has.
func (r *Registrar) keepDeniedLocked(l letter, reason string) {
	l.State, l.At, l.Problem = stateDenied, r.cfg.Now().UTC(), clip(reason)
	l.DER, l.Activating = nil, true // the cloud has it now
	r.letters[l.Certificate] = &l
	r.boundLocked()
}

func laterOf(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrLater, err)
}

// denyLocked remembers a no, so that who comes again and again costs nobody a request. Beyond
// the bound one is forgotten, whichever: it is judged anew.
func (r *Registrar) denyLocked(id messages.CertificateID, outcome registration.Outcome) {
	if len(r.denied) >= deniedMax {
		for other := range r.denied {
			delete(r.denied, other)
			break
		}
	}
	r.denied[id] = denial{r.cfg.Now(), outcome}
}

// postponeLocked says when a candidate is tried again, and gives up what the service has
// refused too often.
func (r *Registrar) postponeLocked(e *entry, p *Problem, err error) {
	now := r.cfg.Now()
	e.problem = clip(err.Error())
	e.tries++
	if p.Final {
		if e.refusals++; e.refusals >= finalTriesMax {
			r.giveUpLocked(e, now)
			return
		}
	}
	e.interval = min(max(2*e.interval, r.cfg.RetryMin), r.cfg.RetryMax)
	wait := max(r.jitter(e.interval), min(p.RetryAfter, retryAfterMax))
	e.next = now.Add(wait)
	switch p.Class {
	case messages.FailureUnreachable, messages.FailureNotService, messages.FailureThrottled:
		e.interval, e.next = 0, now // it is not about this one
		interval := min(r.cfg.RetryMin<<min(r.pauses, 16), r.cfg.RetryMax)
		r.pauses++
		wait = max(r.jitter(interval), min(p.RetryAfter, retryAfterMax))
		r.paused = now.Add(wait)
	}
	r.cfg.Log.Warn("a device is not registered yet", "certificate", e.c.Certificate, "error", err, "again_in_ms", wait.Milliseconds())
}

// jitter is full: between nothing and all of d (reliability spec 4.8).
func (r *Registrar) jitter(d time.Duration) time.Duration {
	return time.Duration(r.cfg.Jitter() * float64(d))
}

func (r *Registrar) giveUpLocked(e *entry, now time.Time) {
	id := e.c.Certificate
	delete(r.entries, id)
	l := letterOf(e, stateDead)
	if old := r.letters[id]; old != nil {
		l.Mine, l.Activating = old.Mine, old.Activating
	}
	l.At = now.UTC()
	r.letters[id] = l
	r.boundLocked()
	r.cfg.Log.Error("a device is not registered, and no longer tried: see gatehouse registration list", "certificate", id, "problem", e.problem)
	if err := r.saveLocked(); err != nil {
		r.cfg.Log.Warn("what the registrar has given up is not on disk", "error", err)
	}
}

// begin has a candidate counted and on disk before the cloud is changed for it. mine: its
// certificate will be registered, as INACTIVE, by this registrar.
func (r *Registrar) begin(c registration.Candidate, mine bool, at time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.letters[c.Certificate]
	if known != nil && known.Mine == mine && known.State == stateOpen {
		return nil
	}
	former, next := r.recent, letter{}
	if known != nil {
		next = *known
	} else {
		if !r.freeLocked(at).IsZero() {
			return &Problem{Detail: fmt.Sprintf("the quota of %d devices in an hour is used up", r.cfg.Rules.PerHour())}
		}
		former = r.recent
		r.recent = append(slices.Clone(former), at)
		next = *letterOf(r.entries[c.Certificate], stateOpen)
		next.At = at.UTC()
	}
	next.Mine, next.State = mine, stateOpen
	r.letters[c.Certificate] = &next
	if err := r.saveLocked(); err != nil {
		r.recent = former
		if r.letters[c.Certificate] = known; known == nil {
			delete(r.letters, c.Certificate)
		}
		return &Problem{Detail: fmt.Sprintf("nothing is begun that is not on disk: %v", err)}
	}
	return nil
}

// begun says whether the cloud was changed for a certificate, whether this registrar has
// registered it as INACTIVE, and whether it has come as far as making it ACTIVE.
func (r *Registrar) begun(id messages.CertificateID) (begun, mine, activating bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.letters[id]
	return l != nil, l != nil && l.Mine, l != nil && l.Activating
}

// activate has it on disk that a certificate is about to be ACTIVE: found INACTIVE later it may
// be an operator who has made it so.
func (r *Registrar) activate(id messages.CertificateID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := r.letters[id]
	if known == nil || known.Activating {
		return nil
	}
	next := *known
	next.Activating = true
	r.letters[id] = &next
	if err := r.saveLocked(); err != nil {
		r.letters[id] = known
		return &Problem{Detail: fmt.Sprintf("nothing is done that is not on disk: %v", err)}
	}
	return nil
}

// ErrUnknown: nobody of that id waits.
var ErrUnknown = errors.New("no such certificate waits, or was given up")
