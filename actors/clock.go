package actors

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Clock is the machine's time. Safe for concurrent use.
type Clock interface {
	// Wall is the wall clock, which may jump either way.
	Wall() time.Time
	// Boot is the time since the machine started, suspend included; it never goes back.
	Boot() time.Duration
	// BootID names this start of the machine.
	BootID() string
	// Synced reports whether the wall clock is synchronised with a time source.
	Synced() bool
	// Battery reports whether the wall clock shows, within a minute, the time of a hardware
	// clock that it was set from at the machine's start and that counts on while the machine
	// is off.
	Battery() bool
	// AfterFunc runs f once after d, in a goroutine of the clock's; stop keeps it from
	// running if it has not started.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// forwardSlackMs is how far a synchronised wall clock must be ahead before the trust
// clock follows it (reliability spec 2.4).
const forwardSlackMs = 2000

// TrustClock is the clock by which trust is judged (reliability spec 2.4). It goes on
// from the log's last record by elapsed boot time, follows a synchronised wall clock
// forward, and follows the cloud's own time either way (Hear). It goes back nowhere but
// in a re-anchoring. Safe for concurrent use.
//
// Who judges trust asks for Trust first and reads the clock after that: the clock moves
// forward before a doubt ends, and whoever sees the doubt ended must see the clock moved.
type TrustClock struct {
	clock  Clock
	budget bool
	// offsetMs is trust time minus boot time.
	offsetMs atomic.Int64
	// sinceMs: trust from before this moment does not count, because nobody knows how long
	// the machine was off; 0: nothing is in doubt.
	sinceMs atomic.Int64
	// chargedMs is what budget mode takes off the trust duration instead; 0: nothing.
	chargedMs atomic.Int64
	// downs counts the re-anchorings.
	downs atomic.Uint64

	startedMs int64 // trust time at the start of the process

	mu        sync.Mutex // guards what follows, and serialises changes of what is above
	dueMs     int64      // the charge that is in force once it is on record
	suspectMs int64      // how far the wall clock, not synchronised, moved trust time at the start
	agreedMs  int64      // trust time when the cloud's time last agreed with it; 0: never
	heard     *cloudTime // the cloud's last word about the time, in this process
	disputed  *cloudTime // one that nobody has confirmed yet
	former    anchorage  // before the last re-anchoring
	refuted   *int64     // wall less boot time as the cloud refuted it; nil: it did not
}

// anchorage is what a re-anchoring replaces.
type anchorage struct{ offsetMs, sinceMs, chargedMs int64 }

// NowMs is the trust time in milliseconds since the Unix epoch.
func (t *TrustClock) NowMs() int64 { return t.offsetMs.Load() + t.bootMs() }

// Boot is the time since the machine started. Waits are measured by it: it never leaps.
func (t *TrustClock) Boot() time.Duration { return t.clock.Boot() }

func (t *TrustClock) bootMs() int64 { return t.clock.Boot().Milliseconds() }

// Now stamps a moment.
func (t *TrustClock) Now() messages.Instant {
	return messages.Instant{TrustMs: t.NowMs(), WallMs: t.clock.Wall().UnixMilli()}
}

// Trust is the rule of the moment by which stored answers count: a trust duration of
// durationMs, nothing from before voidedMs, and what the clock itself takes away.
func (t *TrustClock) Trust(durationMs, voidedMs int64) messages.Trust {
	sinceMs := t.sinceMs.Load() // before the charge, which is in force before the doubt ends
	chargedMs := t.chargedMs.Load()
	doubted := sinceMs != 0 || chargedMs != 0
	if chargedMs >= durationMs && chargedMs != 0 { // the budget is used up
		sinceMs, chargedMs = max(sinceMs, t.startedMs), 0
	}
	return messages.Trust{DurationMs: durationMs - chargedMs, SinceMs: max(voidedMs, sinceMs), Doubted: doubted}
}

// SinceMs is the moment before which no trust counts because the clock was lost; 0 if it
// was not, or the time is known again.
func (t *TrustClock) SinceMs() int64 { return t.sinceMs.Load() }

// known reports whether nothing is in doubt.
func (t *TrustClock) known() bool { return t.sinceMs.Load() == 0 && t.chargedMs.Load() == 0 }

// Step follows the wall clock forward, if it is synchronised and ahead, and ends the
// doubt about the time. Call it now and then: every second is right.
func (t *TrustClock) Step() {
	t.mu.Lock()
	defer t.mu.Unlock()
	wallMs, bootMs := t.clock.Wall().UnixMilli(), t.bootMs()
	if !t.clock.Synced() || t.isRefuted(wallMs-bootMs) {
		return
	}
	ahead := wallMs - bootMs - t.offsetMs.Load()
	if ahead > forwardSlackMs || ahead > 0 && !t.known() {
		t.offsetMs.Add(ahead)
	}
	t.settle()
}

// settle ends the doubt; mu is held, and the clock has moved.
func (t *TrustClock) settle() {
	t.sinceMs.Store(0)
	t.chargedMs.Store(0)
	t.dueMs, t.suspectMs = 0, 0
}

// Mark is the event that lets the next start go on from here. While it is not known how
// long the machine was off it names no boot: a start after it must not take the doubt
// for settled.
func (t *TrustClock) Mark() *messages.ClockMarked {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mark()
}

// mark is Mark; mu is held.
func (t *TrustClock) mark() *messages.ClockMarked {
	m := &messages.ClockMarked{BootMs: t.bootMs(), Synced: t.clock.Synced(), AgreedMs: t.agreedMs, Battery: t.clock.Battery()}
	if t.known() {
		m.BootId = t.clock.BootID()
		return m
	}
	m.DoubtedBootId, m.ChargedMs, m.SuspectMs = t.clock.BootID(), t.dueMs, t.suspectMs
	return m
}

// Recorded says that m, made by Mark, is durable: a charge is in force once it is in the
// log, or a machine that starts again and again would never pay.
func (t *TrustClock) Recorded(m *messages.ClockMarked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.budget && t.dueMs > 0 && m.ChargedMs == t.dueMs && t.chargedMs.Load() == 0 {
		t.chargedMs.Store(t.dueMs)
		t.sinceMs.Store(0)
	}
}

// ClockState says how well the time is known.
type ClockState string

// The states.
const (
	ClockCertain   ClockState = "certain"
	ClockUncertain ClockState = "uncertain" // nothing from before the start of the machine counts
	ClockBudget    ClockState = "budget"    // it counts, for a shorter time
)

// ClockStatus describes the clock for people.
type ClockStatus struct {
	State     ClockState
	NowMs     int64
	ChargedMs int64 // taken off the trust duration
	SuspectMs int64 // how far the wall clock, not synchronised, moved it at the start
	AgreedMs  int64 // when the cloud's time last agreed; 0: never
}

// State says how well the time is known.
func (t *TrustClock) State() ClockState {
	switch {
	case t.sinceMs.Load() != 0:
		return ClockUncertain
	case t.chargedMs.Load() != 0:
		return ClockBudget
	}
	return ClockCertain
}

// Status describes the clock, with a trust duration of durationMs.
func (t *TrustClock) Status(durationMs int64) ClockStatus {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := ClockStatus{State: t.State(), NowMs: t.NowMs(), ChargedMs: t.chargedMs.Load(), SuspectMs: t.suspectMs, AgreedMs: t.agreedMs}
	if s.State == ClockBudget && s.ChargedMs >= durationMs { // used up
		s.State = ClockUncertain
	}
	return s
}
