package actors

import (
	"crypto/rand"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// hear tells tc a date that is off from noon plus what has passed, asked for just now.
func hear(tc *TrustClock, c *actorstest.Clock, off time.Duration) Hearing {
	h, _ := tc.Hear(noon.Add(c.Boot()-time.Hour+off), c.Boot())
	return h
}

// TestHear: what one word of the cloud about the time does, and what it takes two for.
func TestHear(t *testing.T) {
	const h = time.Hour
	for _, c := range []struct {
		name  string
		doubt bool
		words []time.Duration
		want  []Hearing
		after time.Duration // of trust time from true time
	}{
		{"it agrees", false, []time.Duration{0}, []Hearing{HeardAgreed}, 0},
		{"a little ahead: followed", false, []time.Duration{9 * time.Second}, []Hearing{HeardAgreed}, 9 * time.Second},
		{"a little behind: the second it was written in, and the servers' own differences", false, []time.Duration{-11 * time.Second}, []Hearing{HeardAgreed}, 0},
		{"behind by more: one word sets nothing back", false, []time.Duration{-11001 * time.Millisecond, 0}, []Hearing{HeardDispute, HeardAgreed}, 0},
		{"ahead by more: one word ends no trust", false, []time.Duration{h, 0}, []Hearing{HeardDispute, HeardAgreed}, 0},
		{"two words ahead", false, []time.Duration{h, h}, []Hearing{HeardDispute, HeardAgreed}, h},
		{"two words behind", false, []time.Duration{-h, -h}, []Hearing{HeardDispute, HeardAhead}, 0},
		{"two that do not agree, and a third", false, []time.Duration{h, 2 * h, 2 * h}, []Hearing{HeardDispute, HeardDispute, HeardAgreed}, 2 * h},
		{"in doubt: two, also if they agree", true, []time.Duration{0, 0}, []Hearing{HeardDispute, HeardAgreed}, 0},
		{"in doubt, ahead", true, []time.Duration{100 * h, 100 * h}, []Hearing{HeardDispute, HeardAgreed}, 100 * h},
		{"in doubt, behind", true, []time.Duration{-h, -h}, []Hearing{HeardDispute, HeardAhead}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := actorstest.NewClock(noon)
			tc := NewTrustClock(clock, Anchor{})
			if c.doubt {
				tc.sinceMs.Store(tc.NowMs())
			}
			var got []Hearing
			for _, word := range c.words {
				got = append(got, hear(tc, clock, word))
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("heard %v, want %v", got, c.want)
			}
			if off := sinceNoon(tc); off != c.after {
				t.Errorf("trust time is off by %v, want %v", off, c.after)
			}
			if agreed := got[len(got)-1] == HeardAgreed; agreed != (tc.State() == ClockCertain && tc.Status(0).AgreedMs == tc.NowMs()) {
				t.Errorf("the clock is %s, agreed %d", tc.State(), tc.Status(0).AgreedMs)
			}
		})
	}
}

// TestHearMeasuresTheWay: however long the answer takes, a night's sleep included, it
// proves nothing but that it was written between question and answer.
func TestHearMeasuresTheWay(t *testing.T) {
	clock := actorstest.NewClock(noon)
	clock.SetSynced(false)
	tc := NewTrustClock(clock, Anchor{})
	asked := clock.Boot()
	clock.Advance(8 * time.Hour)
	for _, date := range []time.Time{noon, noon.Add(4 * time.Hour), noon.Add(8 * time.Hour)} {
		if h, _ := tc.Hear(date, asked); h != HeardAgreed {
			t.Errorf("a date of %v: %v", date, h)
		}
	}
	if h, _ := tc.Hear(noon.Add(-time.Minute), asked); h != HeardDispute {
		t.Errorf("a date from before the question: %v", h)
	}
	if h, _ := tc.Hear(time.Time{}, asked); h != HeardNothing {
		t.Errorf("no date: %v", h)
	}
}

// TestTheSecondWordIsAskedForLater: two answers that were under way at once, on one
// connection, are one word.
func TestTheSecondWordIsAskedForLater(t *testing.T) {
	clock := actorstest.NewClock(noon)
	tc := NewTrustClock(clock, Anchor{})
	asked := clock.Boot()
	clock.Advance(time.Second)
	for range 2 {
		if h, _ := tc.Hear(noon.Add(-time.Hour), asked); h != HeardDispute {
			t.Errorf("heard %v", h)
		}
	}
}

// TestAnswersThatOverlap end a doubt as well as one after another: in a fleet that asks
// all the time there are no others.
func TestAnswersThatOverlap(t *testing.T) {
	clock := actorstest.NewClock(noon)
	tc := NewTrustClock(clock, Anchor{})
	var got []Hearing
	for range 4 { // each asked for before the one before it came
		asked := clock.Boot() - 1500*time.Millisecond
		h, _ := tc.Hear(noon.Add(clock.Boot()-2*time.Hour), asked)
		got = append(got, h)
		clock.Advance(time.Second)
	}
	if want := []Hearing{HeardDispute, HeardDispute, HeardAhead, HeardAhead}; !slices.Equal(got, want) {
		t.Errorf("heard %v, want %v", got, want)
	}
}

// TestAWordTheClockHasComeTo is none of the two that contradict it.
func TestAWordTheClockHasComeTo(t *testing.T) {
	clock := actorstest.NewClock(noon)
	tc := NewTrustClock(clock, Anchor{})
	if h := hear(tc, clock, 12*time.Second); h != HeardDispute {
		t.Fatalf("heard %v", h)
	}
	clock.SetWall(noon.Add(12 * time.Second))
	tc.Step()
	clock.Advance(time.Second)
	if h := hear(tc, clock, 0); h != HeardDispute {
		t.Errorf("one word sets the clock back: %v", h)
	}
	clock.Advance(time.Second)
	if h := hear(tc, clock, 0); h != HeardAhead {
		t.Errorf("two do not: %v", h)
	}
}

// TestTwoOrdersAtOnce: of two answers that show the clock ahead only the first sets it
// back. A second would take all that it left for stamped by a wrong clock.
func TestTwoOrdersAtOnce(t *testing.T) {
	r := newTimed(t)
	now := r.clock.Boot()
	r.trust.Hear(r.truly(), now)
	_, offset := r.trust.Hear(r.truly(), now)
	r.do(messages.ReanchorClock{OffsetMs: offset, Authority: "test"})
	records := r.log.Head().Seq
	if reply := r.do(messages.ReanchorClock{OffsetMs: offset - 5, Authority: "test"}); reply != (messages.Done{}) {
		t.Errorf("the second order: %v", reply)
	}
	if n := r.log.Head().Seq - records; n != 0 {
		t.Errorf("the second order is on record: %d more", n)
	}
	if !r.allowed(r.pumpToken) {
		t.Error("what was stamped by a right clock is void")
	}
}

// TestTheLimitOfASetBack: what lapsed at this very millisecond does not come back.
func TestTheLimitOfASetBack(t *testing.T) {
	const duration = 3_600_000
	clock := actorstest.NewClock(noon)
	tc := NewTrustClock(clock, Anchor{})
	clock.SetWall(noon.Add(time.Hour)) // what was confirmed at noon has just lapsed
	tc.Step()
	rule := messages.Trust{DurationMs: duration}
	order, ok := tc.reanchoring(messages.ReanchorClock{OffsetMs: noon.UnixMilli() + 60_000 - clock.Boot().Milliseconds()}, rule)
	if !ok {
		t.Fatal("nothing to set back")
	}
	for verified, want := range map[time.Time]bool{noon: false, noon.Add(time.Millisecond): true} {
		if before := rule.Holds(verified.UnixMilli(), order.FormerMs); before != want {
			t.Fatalf("%v counts before: %v", verified, before)
		}
		rule := messages.Trust{DurationMs: duration, SinceMs: order.LapsedMs}
		if got := rule.Holds(verified.UnixMilli(), order.AuthenticatedMs); got != want {
			t.Errorf("%v counts after: %v", verified, got)
		}
	}
}

// TestASetBackOfMoreThanTheTrustDuration voids all, also what was stamped by the right
// clock at the moment that it is set back to.
func TestASetBackOfMoreThanTheTrustDuration(t *testing.T) {
	clock := actorstest.NewClock(noon)
	tc := NewTrustClock(clock, Anchor{})
	tc.Hear(noon, clock.Boot())
	for _, c := range []struct {
		durationMs int64
		all        bool
	}{{3_599_000 - agreeMs, true}, {3_601_000, false}} {
		clock.SetWall(noon.Add(time.Hour))
		tc.Step()
		order, ok := tc.reanchoring(messages.ReanchorClock{OffsetMs: noon.UnixMilli() + agreeMs - clock.Boot().Milliseconds()}, messages.Trust{DurationMs: c.durationMs})
		if all := order.VoidAfterMs == 0; !ok || all != c.all {
			t.Errorf("a duration of %d ms: %v, %+v", c.durationMs, ok, order)
		}
	}
}

// TestTLSTime: by which time the cloud's certificate is judged.
func TestTLSTime(t *testing.T) {
	released := noon.Add(-30 * 24 * time.Hour)
	for _, c := range []struct {
		name  string
		trust time.Duration // all from noon
		wall  time.Duration
		want  []time.Duration // in turns of ten seconds
	}{
		{"both agree: the later", 0, time.Hour, []time.Duration{time.Hour, time.Hour}},
		{"both agree, the wall clock is behind", time.Hour, 0, []time.Duration{time.Hour, time.Hour}},
		{"the wall clock is unset: trust time", 0, unset, []time.Duration{0, 0}},
		{"both are unset: when this program was made", unset, unset, []time.Duration{-30 * 24 * time.Hour, -30 * 24 * time.Hour}},
		{"the wall clock is years ahead: both in turn", 0, absurd, []time.Duration{absurd, 0}},
		{"trust time is years ahead: both in turn", absurd, 0, []time.Duration{absurd, 0}},
	} {
		clock := actorstest.NewClock(noon.Add(c.trust))
		tc := NewTrustClock(clock, Anchor{})
		for i, want := range c.want {
			clock.SetWall(noon.Add(c.wall))
			if got := tc.TLSTime(released).Sub(noon); got < want || got > want+time.Minute {
				t.Errorf("%s, turn %d: %v from noon, want %v", c.name, i, got, want)
			}
			clock.Advance(10 * time.Second)
		}
	}
	clock := actorstest.NewClock(noon.Add(absurd))
	tc := NewTrustClock(clock, Anchor{})
	order, _ := tc.reanchoring(messages.ReanchorClock{OffsetMs: noon.UnixMilli() - clock.Boot().Milliseconds()}, messages.Trust{})
	tc.lower(order)
	for range 3 {
		if got := tc.TLSTime(released); got.Sub(noon) > time.Minute || got.Before(noon) {
			t.Errorf("the cloud has told the time: %v", got)
		}
		clock.Advance(10 * time.Second)
	}
	// The cloud that told it may have been wrong, and its certificate be of the future by it.
	clock.Advance(10 * time.Minute)
	turns := map[bool]int{}
	for range 4 {
		turns[tc.TLSTime(released).After(noon.Add(absurd-time.Hour))]++
		clock.Advance(10 * time.Second)
	}
	if turns[true] != 2 || turns[false] != 2 {
		t.Errorf("for ten minutes the cloud has not told the time: the wall clock has %d turns of 4", turns[true])
	}
}

// timed is a rig whose cloud tells the time, with a trust duration of ten hours and three
// devices: pump was confirmed while the clock was right, as was gate's certificate. Then a
// source of time lied by an hour, and answers without a date confirmed valve, and that
// gate's certificate is its own.
type timed struct {
	*rig
	pump, valve, gate     identity
	pumpToken, valveToken messages.Token
	truly                 func() time.Time
}

const (
	lie  = time.Hour
	gate = messages.ThingName("gate-1")
)

func newTimed(t *testing.T) *timed {
	r := &timed{rig: newRig(t)}
	boot := r.clock.Boot()
	r.truly = func() time.Time { return noon.Add(r.clock.Boot() - boot) }
	r.views.SetTrustDurationMs((10 * time.Hour).Milliseconds())
	r.cloud.SetTime(r.truly)
	r.policy()
	r.pump, r.pumpToken = r.join(pump)
	r.gate = r.another(gate)
	if got := code(r.do(verifyOf(r.gate))); got != "valid" {
		t.Fatalf("gate: %s", got)
	}
	r.clock.Advance(time.Minute)
	r.cloud.SetTime(nil)
	r.clock.SetWall(r.truly().Add(lie))
	r.trust.Step()
	if off := r.off(); off != lie {
		t.Fatalf("the clock is off by %v", off)
	}
	r.valve, r.valveToken = r.join(valve)
	if got := code(r.do(messages.OpenSession{Thing: gate, Certificate: r.gate.id, Broker: broker})); got != "session" {
		t.Fatalf("gate: %s", got)
	}
	r.clock.Advance(time.Second)
	r.cloud.SetTime(r.truly)
	return r
}

// off is how far trust time is from true time.
func (r *timed) off() time.Duration { return time.UnixMilli(r.trust.NowMs()).Sub(r.truly()) }

// TestProbesTellTheTime: a core that followed a cloud which was wrong refuses every certificate
// before it asks, so nobody's question brings better word. Two probes of the link do.
func TestProbesTellTheTime(t *testing.T) {
	r := newTimed(t)
	ago := -30 * 365 * 24 * time.Hour
	right := r.truly
	r.cloud.SetTime(func() time.Time { return right().Add(ago) })
	if got := code(r.do(verifyOf(r.gate))); got == "valid" || r.off() > ago/2 {
		t.Fatalf("gate: %s, and the clock is off by %v", got, r.off())
	}
	probe := func(date time.Time) (again bool) {
		heard := r.sys.Probing()
		r.clock.Advance(100 * time.Millisecond)
		return heard(date)
	}
	r.cloud.SetTime(right)
	asked := len(r.cloud.Asked())
	if got := code(r.do(verifyOf(r.gate))); got == "valid" || len(r.cloud.Asked()) != asked {
		t.Fatalf("gate: %s after %d questions: what a probe is to mend is not broken", got, len(r.cloud.Asked())-asked)
	}
	if again := probe(right()); !again || r.off() > ago/2 {
		t.Errorf("one probe: again %v, the clock is off by %v", again, r.off())
	}
	if again := probe(right()); again || r.off().Abs() > time.Second {
		t.Errorf("two probes: again %v, the clock is off by %v", again, r.off())
	}
	if got := code(r.do(verifyOf(r.gate))); got != "valid" {
		t.Errorf("gate: %s", got)
	}
	if again := probe(right().Add(-time.Hour)); !again || r.off() < -time.Second {
		t.Errorf("one probe that is wrong: again %v, the clock is off by %v", again, r.off())
	}
	probe(right().Add(-time.Hour))
	if r.do(messages.MarkClock{Mark: r.trust.Mark()}); r.off() > -time.Hour+2*time.Second { // it waits for what was ordered before
		t.Errorf("two that agree: the clock is off by %v", r.off())
	}
}

// another device, which the cloud knows.
func (r *timed) another(name messages.ThingName) identity {
	c := certificate(r.t, string(name))
	r.cloud.Register(c.id, name)
	return c
}

// TestTheCloudSetsTheClockBack: before the answer that did it grants anything; what was
// stamped meanwhile is void for good, what was stamped before is not.
func TestTheCloudSetsTheClockBack(t *testing.T) {
	r := newTimed(t)
	if got, _ := r.connect("fan-1", r.another("fan-1")); got != "ok" {
		t.Fatalf("a device that the cloud confirms: %s", got)
	}
	if off := r.off(); off.Abs() > time.Second {
		t.Fatalf("the clock is off by %v", off)
	}
	kinds := r.kinds(messages.StreamClock)
	if i := slices.Index(kinds, messages.KindClockReanchored); i < 0 || kinds[i+1] != messages.KindTrustVoided || kinds[i+2] != messages.KindClockMarked {
		t.Errorf("on record: %v", kinds)
	}
	check := func(when string) {
		t.Helper()
		if !r.allowed(r.pumpToken) {
			t.Errorf("%s: what a right clock stamped does not count", when)
		}
		if r.allowed(r.valveToken) {
			t.Errorf("%s: what the wrong clock stamped counts", when)
		}
	}
	check("at once")
	r.atRest()
	r.clock.SetSynced(false) // or the next process would believe the lie until the cloud speaks
	r.restart()
	r.views.SetTrustDurationMs((10 * time.Hour).Milliseconds())
	if off := r.off(); off.Abs() > time.Second || r.trust.State() != ClockCertain {
		t.Fatalf("after a restart the clock is off by %v, %s", off, r.trust.State())
	}
	check("after a restart")
	r.clock.Advance(lie) // now its stamp is no longer in the future
	check("an hour later")
	r.cloud.SetSilent(true)
	if got := code(r.do(messages.OpenSession{Thing: gate, Certificate: r.gate.id, Broker: broker})); got == "session" {
		t.Error("an attachment that the wrong clock stamped opens a session")
	}
	if got := code(r.do(verifyOf(r.valve))); got != "invalid" {
		t.Errorf("a certificate that the wrong clock stamped is %s", got)
	}
	if got, _ := r.connect(pump, r.pump); got != "ok" {
		t.Errorf("pump: %s", got)
	}
	r.cloud.SetSilent(false)
	if got, token := r.connect(valve, r.valve); got != "ok" || !r.allowed(token) {
		t.Errorf("confirmed again: %s", got)
	}
}

// TestSetBackOnRecordFirst: nobody hears the answer before the re-anchoring is durable.
func TestSetBackOnRecordFirst(t *testing.T) {
	r := newTimed(t)
	c := r.another("fan-1")
	r.log.Hold()
	reply := r.put(verifyOf(c))
	r.until("the re-anchoring is with the log", func() bool { return r.log.Holds(messages.KindClockReanchored) })
	if r.log.Holds(messages.KindCertificateVerified) || r.allowed(r.valveToken) {
		t.Error("it grants, and is not on record")
	}
	r.log.Release()
	if got := code(r.reply(reply)); got != "valid" {
		t.Errorf("then: %s", got)
	}
}

// TestSetBackRefused: what cannot be put on record does not happen, and the answer that
// asked for it grants nothing.
func TestSetBackRefused(t *testing.T) {
	r := newTimed(t)
	c := r.another("fan-1")
	r.log.Refuse(eventlog.ErrFull)
	if got := code(r.do(verifyOf(c))); got != "invalid" {
		t.Errorf("on a full disk: %s", got)
	}
	if off := r.off(); off != lie {
		t.Errorf("the clock is off by %v", off)
	}
	r.log.Refuse(nil)
	if got := code(r.do(verifyOf(c))); got != "valid" || r.off().Abs() > time.Second {
		t.Errorf("with room again: %s, off by %v", got, r.off())
	}
}

// TestDisputeIsNoAnswer: while the cloud's answers do not agree about the time, a yes
// grants nothing and a no is a no.
func TestDisputeIsNoAnswer(t *testing.T) {
	r := newRig(t)
	r.policy()
	c, token := r.join(pump)
	wrong := time.Hour
	r.cloud.SetTime(func() time.Time { wrong += 3 * time.Hour; return noon.Add(wrong) })
	asked := len(r.cloud.Asked())
	other := certificate(t, "valve-1")
	r.cloud.Register(other.id, valve)
	if got := code(r.do(verifyOf(other))); got != "invalid" {
		t.Errorf("a yes in dispute: %s", got)
	}
	if n := len(r.cloud.Asked()) - asked; n != 2 {
		t.Errorf("asked %d times", n)
	}
	if off := r.trust.NowMs() - noon.UnixMilli(); off != 0 || !r.allowed(token) {
		t.Errorf("the clock moved by %d ms", off)
	}
	r.cloud.Revoke(c.id)
	if got := code(r.do(verifyOf(c))); got != "invalid" || r.allowed(token) {
		t.Errorf("a no: %s", got)
	}
}

// TestTheClockIsSetBackMeanwhile: an answer to a question from before is asked for again,
// since nobody can tell whether something was taken back after it.
func TestTheClockIsSetBackMeanwhile(t *testing.T) {
	r := newTimed(t)
	late, c := r.another("late-1"), r.another("fan-1")
	r.cloud.SetTime(nil)
	r.cloud.Hold()
	reply := r.put(verifyOf(late))
	r.until("asked", func() bool { return r.cloud.Waiting() == 1 })
	now := r.clock.Boot()
	r.trust.Hear(r.truly(), now)
	_, offset := r.trust.Hear(r.truly(), now)
	r.do(messages.ReanchorClock{OffsetMs: offset, Authority: "test"})
	asked := len(r.cloud.Asked())
	r.cloud.Release()
	if got := code(r.reply(reply)); got != "valid" {
		t.Errorf("in the end: %s", got)
	}
	if n := len(r.cloud.Asked()) - asked; n != 1 {
		t.Errorf("asked again %d times", n)
	}
	if got := code(r.do(verifyOf(c))); got != "valid" {
		t.Errorf("another: %s", got)
	}
}

// TestTheClockIsSetBackBeforeTheQuestion: a question belongs to the clock that stamped it,
// not to the one that runs when it is put.
func TestTheClockIsSetBackBeforeTheQuestion(t *testing.T) {
	var r *rig
	var back atomic.Bool
	r = newRig(t, func(c *Config) {
		c.Random = func(b []byte) {
			_, _ = rand.Read(b)
			if back.Swap(false) {
				r.trust.downs.Add(1) // between stamp and question
			}
		}
	})
	r.policy()
	c, _ := r.join(pump)
	asked := len(r.cloud.Asked())
	back.Store(true)
	if got := code(r.do(messages.RecheckCertificate{Certificate: c.id})); got != "confirmed" {
		t.Fatalf("the recheck: %s", got)
	}
	if n := len(r.cloud.Asked()) - asked; n != 2 {
		t.Errorf("%d questions, want 2: the first is of a clock that was set back", n)
	}
}

// TestANoOfTheWrongClock does not stand against every yes until its moment comes.
func TestANoOfTheWrongClock(t *testing.T) {
	r := newTimed(t)
	r.cloud.SetTime(nil)
	r.cloud.Revoke(r.valve.id)
	if got := code(r.do(verifyOf(r.valve))); got != "invalid" {
		t.Fatalf("revoked: %s", got)
	}
	r.cloud.SetTime(r.truly)
	r.cloud.Register(r.valve.id, valve)
	if got, _ := r.connect(valve, r.valve); got != "ok" || r.off().Abs() > time.Second {
		t.Errorf("registered again: %s, off by %v", got, r.off())
	}
}

// TestAChargeIsOnRecordFirst: budget mode begins when the keeper's mark is durable.
func TestAChargeIsOnRecordFirst(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.views.SetTrustDurationMs((10 * time.Hour).Milliseconds())
	_, token := r.join(pump)
	k := NewKeeper(r.sys, r.views, r.clock, 0, nil)
	k.Step()
	r.until("marked", func() bool { return len(r.kinds(messages.StreamClock)) == 1 })
	r.clock.Reboot(noon.Add(unset))
	r.budgetMs = (10 * time.Hour).Milliseconds()
	r.restart()
	r.views.SetTrustDurationMs((10 * time.Hour).Milliseconds())
	if r.allowed(token) {
		t.Error("it counts, and nothing is on record")
	}
	r.log.Hold()
	k = NewKeeper(r.sys, r.views, r.clock, 0, nil)
	k.Step()
	r.until("the mark is with the log", func() bool { return r.log.Holds(messages.KindClockMarked) })
	if r.allowed(token) {
		t.Error("it counts before the charge is durable")
	}
	r.log.Release()
	r.until("the charge is in force", func() bool { return r.trust.State() == ClockBudget })
	if !r.allowed(token) || r.sys.Trust().DurationMs != (9*time.Hour).Milliseconds() {
		t.Errorf("rule %+v", r.sys.Trust())
	}
}
