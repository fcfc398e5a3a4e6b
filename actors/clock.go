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
	// AfterFunc runs f once after d, in a goroutine of the clock's; stop keeps it from
	// running if it has not started.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}

// forwardSlackMs is how far a synchronised wall clock must be ahead before the trust
// clock follows it (reliability spec 2.4).
const forwardSlackMs = 2000

// gapMaxMs is how far the wall clock may have been behind trust time at the last mark
// for the time it shows after a start of the machine to be of use. Further behind it was
// not set, or was set back.
const gapMaxMs = 24 * 60 * 60 * 1000

// TrustClock is the clock by which trust is judged: it never runs backwards. It goes on
// from the log's last record by elapsed boot time, and moves forward to a synchronised
// wall clock. Safe for concurrent use.
type TrustClock struct {
	clock Clock
	// offsetMs is trust time minus boot time; it only grows.
	offsetMs atomic.Int64
	mu       sync.Mutex // serialises Step
	// uncertainMs: trust from before this moment does not count, because the machine
	// started anew and nobody knows how long it was off; 0: nothing is in doubt.
	uncertainMs atomic.Int64
}

// Anchor is where the trust clock stood, from the log. Make it with Fold.
type Anchor struct {
	TrustMs, WallMs int64 // the latest trust time of all records, the last one's wall time
	// The last mark: its trust and wall time, the boot time, and the boot's id. An empty
	// id says that the time was not known then.
	MarkTrustMs, MarkWallMs, BootMs int64
	BootID                          string
}

// Fold takes the next record of the log into a.
func (a *Anchor) Fold(rec *messages.Record) {
	a.TrustMs, a.WallMs = max(a.TrustMs, rec.At.TrustMs), rec.At.WallMs
	if rec.Kind != messages.KindClockMarked {
		return
	}
	e, err := messages.DecodeEvent(rec)
	if mark, ok := e.(*messages.ClockMarked); err == nil && ok {
		a.MarkTrustMs, a.MarkWallMs, a.BootMs, a.BootID = rec.At.TrustMs, rec.At.WallMs, mark.BootMs, mark.BootId
	}
}

// NewTrustClock resumes the trust clock from the log's anchor; the zero Anchor starts
// one. Same boot: the time since the last mark has passed, whatever the wall clock
// says. Another boot: how long the machine was off is known only if the wall clock is
// synchronised, or went on from what it showed at the last mark; otherwise no stored
// trust counts until it is renewed or the clock is synchronised (strict mode of
// reliability spec 2.4).
func NewTrustClock(c Clock, last Anchor) *TrustClock {
	t := &TrustClock{clock: c}
	bootMs, wallMs := c.Boot().Milliseconds(), c.Wall().UnixMilli()
	synced := c.Synced() // asked once: a clock that loses its source between two answers must not end the doubt
	nowMs := max(last.TrustMs, last.MarkTrustMs, 0)
	switch sameBoot := last.BootID != "" && last.BootID == c.BootID() && bootMs >= last.BootMs; {
	case last == (Anchor{}):
		nowMs = wallMs
	case sameBoot:
		nowMs = max(nowMs, last.MarkTrustMs+bootMs-last.BootMs)
	case synced: // the wall clock tells: see below
	case last.wentOn(wallMs):
		nowMs = max(nowMs, wallMs, last.MarkTrustMs+wallMs-last.MarkWallMs)
	default:
		nowMs++ // past the last record, so that nothing from before it counts
		t.uncertainMs.Store(nowMs)
	}
	if synced {
		nowMs = max(nowMs, wallMs)
	}
	t.offsetMs.Store(nowMs - bootMs)
	return t
}

// wentOn reports whether a wall clock that shows wallMs after a start of the machine,
// and is not synchronised, tells how long the machine was off: it counted on from the
// last mark, when the time was known. One that had been set back by more than a day has
// lost that credit; less is made good by counting from trust time.
func (a *Anchor) wentOn(wallMs int64) bool {
	return a.BootID != "" && wallMs >= a.MarkWallMs && a.MarkTrustMs-a.MarkWallMs <= gapMaxMs
}

// NowMs is the trust time in milliseconds since the Unix epoch.
func (t *TrustClock) NowMs() int64 { return t.offsetMs.Load() + t.clock.Boot().Milliseconds() }

// Now stamps a moment.
func (t *TrustClock) Now() messages.Instant {
	return messages.Instant{TrustMs: t.NowMs(), WallMs: t.clock.Wall().UnixMilli()}
}

// SinceMs is the moment before which no trust counts because the clock was lost; 0 if
// it was not, or the time is known again. Read it before NowMs: the clock moves forward
// before the doubt ends, and whoever sees the doubt ended must see the clock moved.
func (t *TrustClock) SinceMs() int64 { return t.uncertainMs.Load() }

// Step follows the wall clock forward, if it is synchronised and ahead, and ends the
// doubt about the time. Call it now and then: every second is right.
func (t *TrustClock) Step() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.clock.Synced() {
		return
	}
	ahead := t.clock.Wall().UnixMilli() - t.NowMs()
	if ahead > forwardSlackMs || ahead > 0 && t.uncertainMs.Load() != 0 {
		t.offsetMs.Add(ahead)
	}
	t.uncertainMs.Store(0)
}

// Mark is the event that lets the next start go on from here. While the time is not
// known it names no boot: a start after it must not take the doubt for settled.
func (t *TrustClock) Mark() *messages.ClockMarked {
	m := &messages.ClockMarked{BootMs: t.clock.Boot().Milliseconds(), Synced: t.clock.Synced()}
	if t.SinceMs() == 0 {
		m.BootId = t.clock.BootID()
	}
	return m
}
