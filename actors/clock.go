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

// TrustClock is the clock by which trust is judged: it never runs backwards. It goes on
// from the log's last record by elapsed boot time, and moves forward to a synchronised
// wall clock. Safe for concurrent use.
type TrustClock struct {
	clock Clock
	// offsetMs is trust time minus boot time; it only grows.
	offsetMs atomic.Int64
	mu       sync.Mutex // serialises Step
	// uncertainMs: trust from before this moment does not count, because the machine
	// started anew and its wall clock cannot be right; 0: nothing is in doubt.
	uncertainMs atomic.Int64
}

// Anchor is where the trust clock stood, from the log.
type Anchor struct {
	TrustMs, WallMs int64 // of the last record
	BootMs          int64 // of the last mark, with its trust time and boot id
	MarkTrustMs     int64
	BootID          string
}

// NewTrustClock resumes the trust clock from the log's anchor; the zero Anchor starts
// one. Same boot: the time since the last mark has passed, whatever the wall clock
// says. Another boot: how long the machine was off is known only if the wall clock is
// synchronised or at least not behind the log; otherwise no stored trust counts until
// it is renewed (strict mode of reliability spec 2.4).
func NewTrustClock(c Clock, last Anchor) *TrustClock {
	t := &TrustClock{clock: c}
	bootMs, wallMs := c.Boot().Milliseconds(), c.Wall().UnixMilli()
	nowMs := max(last.TrustMs, 0)
	switch {
	case last == (Anchor{}):
		nowMs = wallMs
	case last.BootID == c.BootID() && bootMs >= last.BootMs:
		nowMs = max(nowMs, last.MarkTrustMs+bootMs-last.BootMs)
	case c.Synced() || wallMs >= last.WallMs:
		nowMs = max(nowMs, wallMs)
	default:
		nowMs++ // past the last record, so that nothing from before it counts
		t.uncertainMs.Store(nowMs)
	}
	if c.Synced() {
		nowMs = max(nowMs, wallMs)
	}
	t.offsetMs.Store(nowMs - bootMs)
	return t
}

// NowMs is the trust time in milliseconds since the Unix epoch.
func (t *TrustClock) NowMs() int64 { return t.offsetMs.Load() + t.clock.Boot().Milliseconds() }

// Now stamps a moment.
func (t *TrustClock) Now() messages.Instant {
	return messages.Instant{TrustMs: t.NowMs(), WallMs: t.clock.Wall().UnixMilli()}
}

// SinceMs is the moment before which no trust counts because the clock was lost.
func (t *TrustClock) SinceMs() int64 { return t.uncertainMs.Load() }

// Step follows the wall clock forward, if it is synchronised and ahead. Call it now and
// then: every second is right.
func (t *TrustClock) Step() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.clock.Synced() {
		return
	}
	if ahead := t.clock.Wall().UnixMilli() - t.NowMs(); ahead > forwardSlackMs {
		t.offsetMs.Add(ahead)
	}
}

// Mark is the event that lets the next start go on from here.
func (t *TrustClock) Mark() *messages.ClockMarked {
	return &messages.ClockMarked{
		BootMs: t.clock.Boot().Milliseconds(), BootId: t.clock.BootID(), Synced: t.clock.Synced(),
	}
}
