package actors

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// LiveSessions is what the keeper needs of the read models.
type LiveSessions interface {
	// Due lists live sessions whose trust is older than ageMs, at most limit of each kind,
	// and those whose trust has ended.
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

	asking  atomic.Int64 // rechecks under way
	mu      sync.Mutex
	closed  bool          // guarded by mu
	stop    func() bool   // the next tick; guarded by mu
	running chan struct{} // holds a token while a step runs
	marked  int64         // boot ms of the last mark; owned by the step
}

// Limits of the keeper's work.
const (
	rechecksMax   = 64          // questions under way at once
	markEvery     = time.Minute // reliability spec 2.4
	tickDefault   = time.Second
	recheckMin    = 50 * time.Millisecond
	lapsedPerStep = 1024
)

// NewKeeper makes a keeper that asks the cloud about a live session's certificate and
// attachment whenever recheck has passed since the last answer, but at least twice per
// trust duration, so that trust does not end while the cloud can be asked. recheck 0:
// twice per trust duration only. Call Start.
func NewKeeper(sys *System, live LiveSessions, clock Clock, recheck time.Duration, logger *slog.Logger) *Keeper {
	k := &Keeper{sys: sys, live: live, clock: clock, recheck: recheck, tick: tickDefault, logger: logger, running: make(chan struct{}, 1)}
	if recheck > 0 {
		k.recheck = max(recheck, recheckMin)
		k.tick = min(k.tick, k.recheck/2)
	}
	return k
}

// Start takes the first step and goes on until Close.
func (k *Keeper) Start() { k.run() }

func (k *Keeper) run() {
	k.running <- struct{}{}
	k.Step()
	<-k.running
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		k.stop = k.clock.AfterFunc(k.tick, k.run)
	}
}

// Step does what is due now. The simulator calls it itself.
func (k *Keeper) Step() {
	k.sys.clock.Step()
	now := k.sys.clock.NowMs()
	trust := k.sys.Trust()
	room := rechecksMax - int(k.asking.Load())
	due := k.live.Due(trust, now, k.ageMs(trust), max(room/2, 0))
	if k.sys.NetworkUp() {
		for _, c := range due.Certificates {
			k.ask(c)
		}
		for _, c := range due.Attachments {
			k.ask(c)
		}
	}
	if !k.sys.NetworkUp() { // with the cloud in reach its answer decides, or its silence
		for i, c := range due.Lapsed {
			if i == lapsedPerStep {
				break
			}
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

func (k *Keeper) ask(c messages.Command) {
	k.asking.Add(1)
	k.sys.Submit(context.Background(), c, messages.Cause{Request: "keeper"}, func(messages.Reply) { k.asking.Add(-1) })
}

// mark notes the clock every minute while sessions are live or not: the next start must
// know how far trust time had come.
func (k *Keeper) mark() {
	boot := k.clock.Boot().Milliseconds()
	if k.marked != 0 && boot-k.marked < markEvery.Milliseconds() {
		return
	}
	k.marked = boot
	k.sys.tell(messages.MarkClock{Mark: k.sys.clock.Mark()}, messages.Cause{Request: "keeper"})
}

// Close stops the keeper and returns when no step runs any more.
func (k *Keeper) Close() {
	k.mu.Lock()
	k.closed = true
	if k.stop != nil {
		k.stop()
	}
	k.mu.Unlock()
	k.running <- struct{}{}
}
