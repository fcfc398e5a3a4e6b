package actors

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// agreeMs is how far the cloud's time and the trust clock may be apart and still agree. A
// Date is whole seconds, which is reckoned with, as is the time that the answer took, by
// the boot clock; what is left are the differences between the cloud's own servers, a
// second or so, and what the boot clock drifts: 10 s in a day at 115 ppm.
const agreeMs = 10_000

// dateStepMs is the resolution of a Date.
const dateStepMs = 1000

// cloudTime is one word of the cloud about the time, as bounds of true time minus boot
// time: the date was written after the question was asked and before the answer came.
type cloudTime struct {
	lowMs, highMs int64
	gotMs         int64 // boot time of the answer
}

// near reports whether c and other can be true of one clock.
func (c *cloudTime) near(other *cloudTime) bool {
	return c.lowMs <= other.highMs+agreeMs && other.lowMs <= c.highMs+agreeMs
}

// agrees reports whether a trust clock with this offset to the boot clock is right by c.
func (c *cloudTime) agrees(offsetMs int64) bool {
	return offsetMs-c.highMs <= agreeMs && c.lowMs-offsetMs <= agreeMs
}

// Hearing is what became of one word of the cloud about the time.
type Hearing uint8

// The hearings.
const (
	HeardNothing Hearing = iota // the answer did not say
	HeardAgreed                 // the clock is right, perhaps since this word
	HeardDispute                // it contradicts the clock: ask again
	HeardAhead                  // so do two: the clock is ahead and must be re-anchored
)

// Hear takes in the cloud's own time, from an authenticated answer that has just come to
// a question asked at boot time asked. A date that agrees with a clock nobody doubts is
// taken at once. To end a doubt, or to move the clock further than agreeMs, takes two
// that agree with each other, the second asked for after the first had come: one server
// with a wrong clock must neither end all trust nor lend any. Forward the clock then
// moves by itself and counts as synchronised for this boot. Back it goes only by a
// messages.ReanchorClock, with the offset that Hear returns.
func (t *TrustClock) Hear(date time.Time, asked time.Duration) (h Hearing, offsetMs int64) {
	if date.IsZero() {
		return HeardNothing, 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	bootMs, dateMs := t.bootMs(), date.UnixMilli()
	word := &cloudTime{lowMs: dateMs - bootMs, highMs: dateMs + dateStepMs - min(asked.Milliseconds(), bootMs), gotMs: bootMs}
	offset := t.offsetMs.Load()
	first := t.disputed
	switch {
	case t.known() && word.agrees(offset):
	case first == nil || !word.near(first) || t.known() && first.agrees(offset): // the clock has changed since
		t.disputed = word
		return HeardDispute, 0
	case asked.Milliseconds() < first.gotMs: // under way together: the first stays, or answers that overlap end no doubt
		return HeardDispute, 0
	case offset-word.highMs > agreeMs:
		return HeardAhead, max(word.lowMs, first.lowMs)
	}
	t.offsetMs.Store(max(offset, word.lowMs))
	t.settle()
	t.agree(word)
	return HeardAgreed, 0
}

// agree notes that the clock is right by word, and a wall clock that says something else
// is not; mu is held.
func (t *TrustClock) agree(word *cloudTime) {
	t.agreedMs, t.heard, t.disputed, t.refuted = t.NowMs(), word, nil, nil
	if wall := t.clock.Wall().UnixMilli() - word.gotMs; wall > word.highMs+agreeMs {
		t.refuted = &wall
	}
}

// reanchoring completes an order to set the clock back, as of now; not ok: there is
// nothing to set back any more. rule is the rule by which trust counted until now.
// The clock is not changed yet.
//
// What was stamped before the clock last agreed with the cloud was stamped by a right
// clock, unless the cloud contradicts that, too. It goes on counting, except for what had
// lapsed: a re-anchoring lends trust to nobody.
func (t *TrustClock) reanchoring(order messages.ReanchorClock, rule messages.Trust) (messages.ReanchorClock, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	bootMs := t.bootMs()
	order.FormerMs, order.AuthenticatedMs = t.offsetMs.Load()+bootMs, order.OffsetMs+bootMs
	back := order.FormerMs - order.AuthenticatedMs
	if back <= 0 || back <= agreeMs && t.known() { // another order came first: a second would void what it left
		return order, false
	}
	lapsed := order.FormerMs - rule.DurationMs + 1 // at exactly the limit it had lapsed: Holds
	if stamped := t.agreedMs + agreeMs; t.agreedMs != 0 && lapsed <= stamped && stamped <= order.AuthenticatedMs {
		order.VoidAfterMs = stamped
	}
	order.LapsedMs = min(lapsed, order.AuthenticatedMs)
	order.Mark = &messages.ClockMarked{BootMs: bootMs, BootId: t.clock.BootID(), Synced: t.clock.Synced(), AgreedMs: order.AuthenticatedMs}
	return order, true
}

// lower sets the clock back, as ordered.
func (t *TrustClock) lower(order messages.ReanchorClock) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.former = anchorage{t.offsetMs.Load(), t.sinceMs.Load(), t.chargedMs.Load()}
	t.downs.Add(1)
	t.offsetMs.Store(order.OffsetMs)
	t.settle()
	t.agree(&cloudTime{lowMs: order.OffsetMs, highMs: order.OffsetMs, gotMs: t.bootMs()})
}

// sameLieMs is how much a wall clock that the cloud refuted may have changed and still
// shows the same.
const sameLieMs = 60_000

// isRefuted reports whether the cloud has contradicted what the wall clock shows: if it
// goes on, no source of time makes it right, and the trust clock is not to go up with it
// each second and back with each answer. One that jumps is listened to again: the boot
// clock may have stood still, in a virtual machine that was paused. mu is held.
func (t *TrustClock) isRefuted(wallOffsetMs int64) bool {
	return t.refuted != nil && max(wallOffsetMs-*t.refuted, *t.refuted-wallOffsetMs) <= sameLieMs
}

// raise undoes lower: the log did not take it.
func (t *TrustClock) raise() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.downs.Add(1)
	t.offsetMs.Store(max(t.offsetMs.Load(), t.former.offsetMs))
	t.chargedMs.Store(t.former.chargedMs)
	t.dueMs = t.former.chargedMs
	t.sinceMs.Store(t.former.sinceMs)
	t.agreedMs, t.heard, t.disputed = 0, nil, nil
}

// Between two candidates for the time of a TLS handshake that are apart by more than
// farMs the choice changes every turnMs.
const (
	farMs  = int64(24 * time.Hour / time.Millisecond)
	turnMs = int64(10 * time.Second / time.Millisecond)
)

// wordMaxMs is how long the cloud's word about the time is what its certificate is judged by.
const wordMaxMs = int64(10 * time.Minute / time.Millisecond)

// TLSTime is the time by which the cloud's certificate is judged (reliability spec 2.4):
// the later of wall clock and trust clock, and never before released, when this program
// was made, nor before the last time that the cloud itself gave. Once the cloud has told
// the time, it is that. Before, and when nothing was heard for wordMaxMs, while the two clocks
// contradict each other both get their turn: one of them may show a year in which no
// certificate is valid, perhaps since the cloud itself was wrong, and without the cloud it
// would never be set right.
func (t *TrustClock) TLSTime(released time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	bootMs := t.bootMs()
	if t.heard != nil && bootMs-t.heard.gotMs <= wordMaxMs {
		return time.UnixMilli(t.heard.lowMs + bootMs)
	}
	floorMs, nowMs, wallMs := max(released.UnixMilli(), t.agreedMs), t.NowMs(), t.clock.Wall().UnixMilli()
	early, late := min(nowMs, wallMs), max(nowMs, wallMs)
	if wallMs >= floorMs && late-early > farMs && bootMs/turnMs%2 == 1 {
		return time.UnixMilli(max(early, floorMs))
	}
	return time.UnixMilli(max(late, floorMs))
}
