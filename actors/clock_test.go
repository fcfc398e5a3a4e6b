package actors

import (
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// marked is where a clock stood at noon, marked at that moment by boot "boot-1".
func marked() Anchor {
	ms := noon.UnixMilli()
	return Anchor{TrustMs: ms, WallMs: ms, MarkTrustMs: ms, MarkWallMs: ms, BootMs: time.Hour.Milliseconds(), BootID: "boot-1"}
}

// fickle loses its time source as soon as it was asked about it.
type fickle struct {
	*actorstest.Clock
	asked bool
}

func (c *fickle) Synced() bool {
	synced := !c.asked
	c.asked = true
	return synced
}

// TestTheTimeSourceIsLostAtTheStart: the clock follows the wall or is in doubt, never
// neither.
func TestTheTimeSourceIsLostAtTheStart(t *testing.T) {
	c := &fickle{Clock: actorstest.NewClock(noon)}
	c.Reboot(noon.Add(10 * time.Hour))
	anchor := marked()
	anchor.BootID = ""
	trust := NewTrustClock(c, anchor)
	if got := trust.NowMs(); got < noon.Add(10*time.Hour).UnixMilli() && trust.SinceMs() == 0 {
		t.Errorf("no doubt, and trust time is %d ms after noon", got-noon.UnixMilli())
	}
}

func TestStepFollowsASynchronisedClockForward(t *testing.T) {
	for _, c := range []struct {
		name   string
		wall   time.Duration
		synced bool
		want   time.Duration
	}{
		{"ahead by just the slack", 2 * time.Second, true, 0},
		{"ahead by more", 2*time.Second + time.Millisecond, true, 2*time.Second + time.Millisecond},
		{"ahead, not synchronised", time.Hour, false, 0},
		{"behind", -time.Hour, true, 0},
	} {
		clock := actorstest.NewClock(noon)
		tc := NewTrustClock(clock, Anchor{})
		clock.SetWall(noon.Add(c.wall))
		clock.SetSynced(c.synced)
		tc.Step()
		if got := time.UnixMilli(tc.NowMs()).Sub(noon); got != c.want {
			t.Errorf("%s: trust time is %v after noon, want %v", c.name, got, c.want)
		}
	}
}

// TestARefutedWallClock: once the cloud has contradicted what a synchronised wall clock
// shows, the trust clock does not go up with it again, unless it jumps.
func TestARefutedWallClock(t *testing.T) {
	clock := actorstest.NewClock(noon)
	tc := NewTrustClock(clock, Anchor{})
	clock.SetWall(noon.Add(time.Hour))
	tc.Step()
	order, ok := tc.reanchoring(messages.ReanchorClock{OffsetMs: noon.UnixMilli() - clock.Boot().Milliseconds()}, messages.Trust{})
	if !ok {
		t.Fatal("nothing to set back")
	}
	tc.lower(order)
	for range 3 {
		clock.Advance(time.Minute)
		tc.Step()
	}
	if got := sinceNoon(tc); got != 3*time.Minute {
		t.Errorf("trust time is %v after noon", got)
	}
	clock.SetWall(noon.Add(9 * time.Hour)) // the machine was paused, and its wall clock set right
	tc.Step()
	if got := sinceNoon(tc); got != 9*time.Hour {
		t.Errorf("after a jump trust time is %v after noon", got)
	}
}

// sinceNoon is how far trust time is from noon.
func sinceNoon(tc *TrustClock) time.Duration { return time.UnixMilli(tc.NowMs()).Sub(noon) }

// TestDoubtEndsWithTheTimeKnown, and not with a restart of the process, which moves the
// clock no further either.
func TestDoubtEndsWithTheTimeKnown(t *testing.T) {
	clock := actorstest.NewClock(noon)
	clock.Reboot(noon.Add(200 * time.Hour)) // but a day at most is taken from it
	l := &marks{a: marked()}
	tc := NewTrustClock(clock, l.a)
	for range 3 {
		clock.Advance(40 * time.Minute)
		tc.Step()
		if tc.SinceMs() == 0 {
			t.Fatal("the doubt ended by itself")
		}
		l.mark(tc)
		if tc = NewTrustClock(clock, l.a); tc.SinceMs() == 0 {
			t.Fatal("a restart of the process ended the doubt")
		}
	}
	if got := sinceNoon(tc); got < 26*time.Hour || got > 26*time.Hour+time.Second {
		t.Errorf("trust time is %v after noon", got)
	}
	clock.SetWall(noon.Add(300 * time.Hour))
	clock.SetSynced(true)
	tc.Step()
	if tc.SinceMs() != 0 || sinceNoon(tc) != 300*time.Hour || tc.Mark().BootId == "" {
		t.Errorf("the time is known, yet: since %d, now %v, mark %+v", tc.SinceMs(), sinceNoon(tc), tc.Mark())
	}
}

// marks is a log of marks alone.
type marks struct{ a Anchor }

func (l *marks) mark(tc *TrustClock) {
	m := tc.Mark()
	l.put(tc.Now(), m)
	tc.Recorded(m)
}

func (l *marks) put(at messages.Instant, e messages.Event) {
	body, schema, err := messages.EncodeEvent(e)
	if err != nil {
		panic(err)
	}
	l.a.Fold(&messages.Record{Kind: e.Kind(), Schema: schema, Body: body, At: at})
}

// TestAnchorFold: trust time is the latest of all, until a re-anchoring.
func TestAnchorFold(t *testing.T) {
	l := &marks{}
	at := func(trustMs, wallMs int64) messages.Instant {
		return messages.Instant{TrustMs: trustMs, WallMs: wallMs}
	}
	l.put(at(10, 11), &messages.Started{})
	l.put(at(20, 21), &messages.ClockMarked{BootMs: 5, DoubtedBootId: "b", ChargedMs: 6, SuspectMs: 7, AgreedMs: 8})
	l.put(at(19, 18), &messages.Started{}) // appended late
	if want := (Anchor{TrustMs: 20, WallMs: 18, MarkTrustMs: 20, MarkWallMs: 21, BootMs: 5, DoubtedBootID: "b", ChargedMs: 6, SuspectMs: 7, AgreedMs: 8}); l.a != want {
		t.Errorf("folded %+v, want %+v", l.a, want)
	}
	l.put(at(12, 30), &messages.ClockReanchored{FormerTrustMs: 22, AuthenticatedMs: 12})
	if want := (Anchor{TrustMs: 12, WallMs: 30, MarkTrustMs: 12, MarkWallMs: 30}); l.a != want {
		t.Errorf("re-anchored: %+v, want %+v: no boot, or what was marked ahead would be gone on from", l.a, want)
	}
	l.put(at(12, 30), &messages.ClockMarked{BootMs: 9, BootId: "b", AgreedMs: 12})
	if want := (Anchor{TrustMs: 12, WallMs: 30, MarkTrustMs: 12, MarkWallMs: 30, BootMs: 9, BootID: "b", AgreedMs: 12}); l.a != want {
		t.Errorf("marked: %+v, want %+v", l.a, want)
	}
}

// TestDrift (reliability spec, B6): a boot clock that is 1 % slow or fast for thirty days
// offline errs by 1 % of what was measured, however often the process starts anew.
func TestDrift(t *testing.T) {
	const d = 30 * 24 * time.Hour
	for _, rate := range []int64{99, 101} { // of 100
		clock := actorstest.NewClock(noon)
		clock.SetSynced(false)
		l := &marks{}
		tc := NewTrustClock(clock, l.a)
		verifiedMs := tc.NowMs()
		ends := time.Duration(0)
		for truly := time.Duration(0); ends == 0; truly += time.Hour {
			if !tc.Trust(d.Milliseconds(), 0).Holds(verifiedMs, tc.NowMs()) {
				ends = truly
			}
			clock.Advance(time.Hour * time.Duration(rate) / 100)
			l.mark(tc)
			tc = NewTrustClock(clock, l.a)
		}
		if off := (ends - d).Abs(); off > d/99+time.Hour {
			t.Errorf("at a rate of %d %% trust of %v ends after %v", rate, d, ends)
		}
	}
}

// TestTheLastMillisecond (reliability spec, B7): at verification plus trust duration it
// is over.
func TestTheLastMillisecond(t *testing.T) {
	const d = time.Hour
	clock := actorstest.NewClock(noon)
	tc := NewTrustClock(clock, Anchor{})
	verifiedMs := tc.NowMs()
	clock.Advance(d - time.Millisecond)
	for _, want := range []bool{true, false, false} {
		if got := tc.Trust(d.Milliseconds(), 0).Holds(verifiedMs, tc.NowMs()); got != want {
			t.Errorf("%v after the verification: %v, want %v", sinceNoon(tc), got, want)
		}
		clock.Advance(time.Millisecond)
	}
}

// TestSuspendIsTime (reliability spec, B4): a machine that slept for eight hours is eight
// hours older, though no process saw them pass.
func TestSuspendIsTime(t *testing.T) {
	clock := actorstest.NewClock(noon)
	clock.SetSynced(false)
	tc := NewTrustClock(clock, Anchor{})
	verifiedMs := tc.NowMs()
	clock.Advance(8 * time.Hour)
	clock.SetWall(noon) // its wall clock slept, too
	tc.Step()
	if tc.Trust((8*time.Hour).Milliseconds(), 0).Holds(verifiedMs, tc.NowMs()) {
		t.Error("the night did not count")
	}
}
