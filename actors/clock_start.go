package actors

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// What a start of the machine costs whose wall clock is not synchronised.
const (
	// suspectMaxMs is how far at most such a wall clock moves trust time: it may show any
	// year, and whatever was trusted would have lapsed.
	suspectMaxMs = int64(24 * time.Hour / time.Millisecond)
	// In budget mode a start takes a tenth of the trust duration, or this: ten use it up.
	chargeMinMs = int64(10 * time.Minute / time.Millisecond)
	chargeParts = 10
	// chargeMaxMs bounds the sum: longer than any trust duration.
	chargeMaxMs = int64(1) << 50
)

// Anchor is where the trust clock stood, from the log. Make it with Fold.
type Anchor struct {
	TrustMs, WallMs int64 // the latest trust time of all records, the last one's wall time
	// The last mark: its trust and wall time, the boot time, and the boot's id. An empty
	// BootID says that the time was not known then; DoubtedBootID names the boot.
	MarkTrustMs, MarkWallMs, BootMs int64
	BootID, DoubtedBootID           string
	ChargedMs, SuspectMs, AgreedMs  int64 // as marked
	Battery                         bool  // as marked
}

// Fold takes the next record of the log into a.
func (a *Anchor) Fold(rec *messages.Record) {
	a.TrustMs, a.WallMs = max(a.TrustMs, rec.At.TrustMs), rec.At.WallMs
	if rec.Kind != messages.KindClockMarked && rec.Kind != messages.KindClockReanchored {
		return
	}
	e, err := messages.DecodeEvent(rec)
	if err != nil {
		return // no mark: the former one is older, and older is never later
	}
	switch e := e.(type) {
	case *messages.ClockMarked:
		a.MarkTrustMs, a.MarkWallMs, a.BootMs = rec.At.TrustMs, rec.At.WallMs, e.BootMs
		a.BootID, a.DoubtedBootID = e.BootId, e.DoubtedBootId
		a.ChargedMs, a.SuspectMs, a.AgreedMs, a.Battery = e.ChargedMs, e.SuspectMs, e.AgreedMs, e.Battery
	case *messages.ClockReanchored:
		// The one place where trust time goes back. A mark follows in the same batch; what
		// was marked before it was ahead.
		*a = Anchor{TrustMs: rec.At.TrustMs, WallMs: rec.At.WallMs, MarkTrustMs: rec.At.TrustMs, MarkWallMs: rec.At.WallMs}
	}
}

// boot reports whether the last mark was made since the machine started, at boot time
// bootMs of the boot id.
func (a *Anchor) boot(id string, bootMs int64) bool {
	return id != "" && (id == a.BootID || id == a.DoubtedBootID) && bootMs >= a.BootMs
}

// ClockOption changes what a TrustClock does when it is not known how long the machine
// was off.
type ClockOption func(*start)

// Budget lets stored trust count in that case, for a trust duration of durationMs at the
// price of a tenth of it, and at least ten minutes, for each such start of the machine,
// until the time is known again: ten of them use it up. It does not bound how long the
// machine was off. Default: nothing from before the start counts (strict).
func Budget(durationMs int64) ClockOption {
	return func(s *start) { s.budget, s.durationMs = true, durationMs }
}

// start is what a TrustClock begins with.
type start struct {
	budget     bool
	battery    bool
	durationMs int64

	last   Anchor
	bootMs int64
	wallMs int64
	synced bool
}

// NewTrustClock resumes the trust clock from the log's anchor; the zero Anchor starts
// one. Same boot: the time since the last mark has passed, whatever the wall clock
// says. Another boot: how long the machine was off is known only if the wall clock is
// synchronised, or shows a hardware clock's time (Clock.Battery). Another may count on from where it was saved at the shutdown,
// however long ago that is, so it never ends the doubt; it only moves trust time forward,
// by a day at most. In doubt no stored trust counts, or less of it (Budget), until the
// clock is synchronised or the cloud tells the time.
func NewTrustClock(c Clock, last Anchor, options ...ClockOption) *TrustClock {
	s := start{
		last: last, bootMs: c.Boot().Milliseconds(), wallMs: c.Wall().UnixMilli(),
		battery: c.Battery(),
		synced:  c.Synced(), // asked once: a clock that loses its source between two answers must not end the doubt
	}
	for _, o := range options {
		o(&s)
	}
	t := &TrustClock{clock: c, budget: s.budget, agreedMs: last.AgreedMs}
	same := last.boot(c.BootID(), s.bootMs)
	nowMs := max(last.TrustMs, last.MarkTrustMs, 0)
	if same {
		nowMs = max(nowMs, last.MarkTrustMs+s.bootMs-last.BootMs)
	}
	switch {
	case last == (Anchor{}): // nothing is trusted yet: what the wall clock shows is all there is
		nowMs = s.wallMs
	case s.synced:
		nowMs = max(nowMs, s.wallMs)
	case same && last.BootID != "":
	case s.tells():
		nowMs = max(nowMs, last.MarkTrustMs+s.wallMs-last.MarkWallMs)
	default:
		nowMs++ // past the last record, so that nothing from before it counts
		t.suspectMs = last.SuspectMs
		if !same {
			t.suspectMs = s.suspect(nowMs)
			nowMs += t.suspectMs
		}
		t.sinceMs.Store(nowMs)
		t.dueMs = s.charge(same, nowMs)
		if s.budget && same && t.dueMs == last.ChargedMs { // it is in the log
			t.chargedMs.Store(t.dueMs)
			t.sinceMs.Store(0)
		}
	}
	t.startedMs = nowMs
	t.offsetMs.Store(nowMs - s.bootMs)
	return t
}

// tells reports whether the wall clock, not synchronised, tells how long the machine was
// off: it is a battery's, now as at the last mark, and the time was known then.
func (s *start) tells() bool {
	return s.battery && s.last.Battery && s.last.BootID != "" && s.wallMs >= s.last.MarkWallMs
}

// suspect is how far a wall clock that is not synchronised moves trust time from nowMs:
// by what it claims, by its date or by what has passed on it since the last mark, but for
// a day at most.
func (s *start) suspect(nowMs int64) int64 {
	claim := s.wallMs - nowMs
	if s.last.BootID != "" || s.last.DoubtedBootID != "" {
		claim = max(claim, s.last.MarkTrustMs+s.wallMs-s.last.MarkWallMs-nowMs)
	}
	return min(max(claim, 0), suspectMaxMs)
}

// charge is what starts with an unknown off time have cost until now, this one included:
// its share, and what the wall clock claims beyond what it was let move trust time.
func (s *start) charge(same bool, nowMs int64) int64 {
	if !s.budget || same && s.last.ChargedMs > 0 {
		return s.last.ChargedMs
	}
	share := max(chargeMinMs, (s.durationMs+chargeParts-1)/chargeParts)
	return min(max(s.last.ChargedMs, 0)+share+max(s.wallMs-nowMs, 0), chargeMaxMs)
}
