package actors

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// LiveSessions is what the keeper needs of the read models.
type LiveSessions interface {
	// Due lists what there is to do about live sessions: whose trust is older than ageMs
	// or does not count, at most limit of each kind, and those whose trust has ended. What
	// it listed it lists again only after a while.
	Due(trust messages.Trust, nowMs, ageMs int64, limit int) messages.DueWork
}

// Keeper looks after live sessions: it renews their trust while the cloud can be asked,
// notices what was revoked meanwhile, closes what lapsed, and marks the clock.
type Keeper struct {
	sys     *System
	live    LiveSessions
	clock   Clock
	recheck time.Duration
	tick    time.Duration
	logger  *slog.Logger

	mu     sync.Mutex  // held while a step runs
	closed bool        // guarded by mu, as the next three
	stop   func() bool // the next tick
	marked int64       // boot ms of the last mark; -1: none yet
	as     ClockState  // in which the last mark was made

	outMu  sync.Mutex
	out    map[messages.StreamID]struct{} // rechecks under way, by what they are about; guarded by outMu, as the next
	noRoom []messages.Command             // rechecks that nobody put to the cloud: there was no room, or it was not their turn in time
}

// Limits of the keeper's work.
const (
	rechecksMax = 64          // questions under way at once
	markEvery   = time.Minute // reliability spec 2.4
	tickDefault = time.Second
	recheckMin  = 50 * time.Millisecond
)

// NewKeeper makes a keeper that asks the cloud about a live session's certificate and
// attachment whenever recheck has passed since the last answer, but at least twice per
// trust duration, so that trust does not end while the cloud can be asked. recheck 0:
// twice per trust duration only. Call Start.
func NewKeeper(sys *System, live LiveSessions, clock Clock, recheck time.Duration, logger *slog.Logger) *Keeper {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	k := &Keeper{
		sys: sys, live: live, clock: clock, recheck: recheck, tick: tickDefault, logger: logger,
		marked: -1, out: make(map[messages.StreamID]struct{}),
	}
	if recheck > 0 {
		k.recheck = max(recheck, recheckMin)
		k.tick = min(k.tick, k.recheck/2)
	}
	return k
}

// Start takes the first step and goes on until Close.
func (k *Keeper) Start() { k.run() }

func (k *Keeper) run() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return
	}
	k.step()
	k.stop = k.clock.AfterFunc(k.tick, k.run)
}

// Step does what is due now. The simulator calls it itself.
func (k *Keeper) Step() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.step()
}

func (k *Keeper) step() {
	k.sys.clock.Step()
	trust := k.sys.Trust() // before the clock is read: see TrustClock
	now := k.sys.clock.NowMs()
	up, room := k.sys.NetworkUp(), 0
	if up {
		again := k.unasked()
		room = max(rechecksMax-k.underWay()-len(again), 0)
		for _, c := range again {
			k.ask(c)
		}
	}
	due := k.live.Due(trust, now, k.ageMs(trust), room/2)
	for _, c := range due.Certificates {
		k.ask(c)
	}
	for _, c := range due.Attachments {
		k.ask(c)
	}
	for _, c := range due.Lapsed {
		// With the cloud in reach its answer decides about lapsed trust, or its silence.
		if !up || c.Reason != messages.CloseReason_CLOSE_TRUST_LAPSED {
			k.sys.tell(c, messages.Cause{Request: "keeper"})
		}
	}
	k.mark()
}

// ageMs is how old trust may get before it is asked about again.
func (k *Keeper) ageMs(t messages.Trust) int64 {
	age := t.DurationMs / 2
	if k.recheck > 0 {
		age = min(age, k.recheck.Milliseconds())
	}
	return age
}

// ask submits a recheck, unless the last one about the same is still out.
func (k *Keeper) ask(c messages.Command) {
	k.outMu.Lock()
	key := keyOf(c)
	_, out := k.out[key]
	k.out[key] = struct{}{}
	k.outMu.Unlock()
	if out {
		return
	}
	k.sys.Submit(context.Background(), c, messages.Cause{Request: "keeper"}, func(r messages.Reply) {
		answer, _ := r.(messages.Rechecked)
		k.outMu.Lock()
		defer k.outMu.Unlock()
		delete(k.out, key)
		if notAsked := answer.Wait > 0 || answer.Failure == messages.FailureNotAsked; notAsked && len(k.noRoom) < rechecksMax {
			k.noRoom = append(k.noRoom, c)
		}
	})
}

// unasked takes the rechecks that found no room. The agenda takes them for asked, and would
// come back to them only after an eighth of the trust duration: trust must not end for that.
func (k *Keeper) unasked() []messages.Command {
	k.outMu.Lock()
	defer k.outMu.Unlock()
	list := k.noRoom
	k.noRoom = nil
	return list
}

func (k *Keeper) underWay() int {
	k.outMu.Lock()
	defer k.outMu.Unlock()
	return len(k.out)
}

// keyOf names what a recheck is about.
func keyOf(c messages.Command) messages.StreamID {
	if a, ok := c.(messages.RecheckAttachment); ok {
		return c.Target() + "/" + messages.StreamID(a.Certificate)
	}
	return c.Target()
}

// mark notes the clock every minute while sessions are live or not: the next start must
// know how far trust time had come. That the time became known is noted at once; that it
// is not, and what this costs, before it is in force.
func (k *Keeper) mark() {
	boot := k.clock.Boot().Milliseconds()
	state := k.sys.clock.State()
	if k.marked >= 0 && boot-k.marked < markEvery.Milliseconds() && state == k.as {
		return
	}
	if k.marked >= 0 && state != k.as {
		k.logger.Info("it has changed how well the time is known", "clock", state)
	}
	k.marked, k.as = boot, state
	mark := k.sys.clock.Mark()
	k.sys.Submit(context.Background(), messages.MarkClock{Mark: mark}, messages.Cause{Request: "keeper"}, func(r messages.Reply) {
		if _, ok := r.(messages.Done); ok {
			k.sys.clock.Recorded(mark)
		}
	})
}

// Close stops the keeper and returns when no step runs any more.
func (k *Keeper) Close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.stop != nil {
		k.stop()
	}
}
