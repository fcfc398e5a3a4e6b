package actors

import (
	"testing"
	"time"

	"pgregory.net/rapid"

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

// TestStartOfTheTrustClock is the table of reliability spec 2.4 and B3: what is known of
// the time that passed since the last mark.
func TestStartOfTheTrustClock(t *testing.T) {
	const h = time.Hour
	for _, c := range []struct {
		name   string
		anchor func(a *Anchor)
		reboot bool
		passed time.Duration // of boot time, in the same boot
		wall   time.Duration // what the wall shows, from noon
		synced bool
		trust  time.Duration // where trust time begins, from noon
		doubt  bool
	}{
		{"first start ever", func(a *Anchor) { *a = Anchor{} }, false, 0, 0, true, 0, false},
		{"first start ever, clock unset: what it shows is all there is", func(a *Anchor) { *a = Anchor{} }, false, 0, -50 * 365 * 24 * h, false, -50 * 365 * 24 * h, false},

		{"same boot: boot time counts", nil, false, 2 * h, 2 * h, true, 2 * h, false},
		{"same boot, wall turned back: boot time counts", nil, false, 2 * h, -1000 * h, false, 2 * h, false},
		{"same boot, wall turned back and synchronised: boot time counts", nil, false, 2 * h, -1000 * h, true, 2 * h, false},
		{"same boot, wall turned forward, not synchronised: ignored", nil, false, 2 * h, 1000 * h, false, 2 * h, false},
		{"same boot, wall forward and synchronised: followed", nil, false, 2 * h, 1000 * h, true, 1000 * h, false},
		{"same boot, suspended for a night: boot time has it", nil, false, 8 * h, 8 * h, false, 8 * h, false},
		{"same boot, records after the mark are ahead", func(a *Anchor) { a.TrustMs += (3 * h).Milliseconds() }, false, 2 * h, 2 * h, false, 3 * h, false},

		{"reboot, synchronised: the wall is right", nil, true, 0, 10 * h, true, 10 * h, false},
		{"reboot, synchronised, wall behind: never backwards", nil, true, 0, -10 * h, true, 0, false},
		{"reboot, not synchronised, wall went on", nil, true, 0, 10 * h, false, 10 * h, false},
		{"reboot, not synchronised, wall just where it was", nil, true, 0, 0, false, 0, false},
		{"reboot, not synchronised, wall a moment behind: doubt", nil, true, 0, -time.Millisecond, false, time.Millisecond, true},
		{"reboot, clock unset: doubt", nil, true, 0, -50 * 365 * 24 * h, false, time.Millisecond, true},
		{"reboot, wall years ahead: trust ends early", nil, true, 0, 70 * 365 * 24 * h, false, 70 * 365 * 24 * h, false},
		{"reboot, wall had been set back an hour: counted from trust time", func(a *Anchor) { a.MarkWallMs -= h.Milliseconds() }, true, 0, 2 * h, false, 3 * h, false},
		{"reboot, wall had been set back by days: doubt", func(a *Anchor) { a.MarkWallMs -= (25 * h).Milliseconds() }, true, 0, 2 * h, false, time.Millisecond, true},
		{"reboot, last mark in doubt, wall went on: doubt still", func(a *Anchor) { a.BootID = "" }, true, 0, 10 * h, false, time.Millisecond, true},
		{"reboot, last mark in doubt, synchronised: known", func(a *Anchor) { a.BootID = "" }, true, 0, 10 * h, true, 10 * h, false},
		{"same boot, last mark in doubt: doubt still", func(a *Anchor) { a.BootID = "" }, false, h, h, false, time.Millisecond, true},
		{"reboot, never marked, synchronised", func(a *Anchor) { a.MarkTrustMs, a.MarkWallMs, a.BootMs, a.BootID = 0, 0, 0, "" }, true, 0, h, true, h, false},
		{"reboot, never marked, not synchronised: doubt", func(a *Anchor) { a.MarkTrustMs, a.MarkWallMs, a.BootMs, a.BootID = 0, 0, 0, "" }, true, 0, h, false, time.Millisecond, true},
		{"a boot time before the mark's is no continuation", func(a *Anchor) { a.BootMs = (100 * h).Milliseconds() }, false, h, -h, false, time.Millisecond, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := actorstest.NewClock(noon)
			clock.Advance(c.passed)
			if c.reboot {
				clock.Reboot(noon)
			}
			clock.SetWall(noon.Add(c.wall))
			clock.SetSynced(c.synced)
			a := marked()
			if c.anchor != nil {
				c.anchor(&a)
			}
			tc := NewTrustClock(clock, a)
			if got := time.UnixMilli(tc.NowMs()).Sub(noon); got != c.trust {
				t.Errorf("trust time begins %v after noon, want %v", got, c.trust)
			}
			if doubt := tc.SinceMs() != 0; doubt != c.doubt {
				t.Errorf("doubt %v, want %v", doubt, c.doubt)
			}
			if c.doubt && tc.SinceMs() <= a.TrustMs {
				t.Errorf("trust from before the start counts in spite of the doubt: since %d, last record %d", tc.SinceMs(), a.TrustMs)
			}
			if id := tc.Mark().BootId; (id == "") != c.doubt {
				t.Errorf("marked for boot %q in doubt %v", id, c.doubt)
			}
		})
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

// TestDoubtEndsWithTheTimeKnown, and not with a restart of the process.
func TestDoubtEndsWithTheTimeKnown(t *testing.T) {
	clock := actorstest.NewClock(noon)
	clock.Reboot(noon.Add(-time.Hour))
	last := marked()
	tc := NewTrustClock(clock, last)
	for range 3 { // the wall passes what it showed at the last mark; the process starts anew
		clock.Advance(40 * time.Minute)
		tc.Step()
		if tc.SinceMs() == 0 {
			t.Fatal("the doubt ended by itself")
		}
		now := tc.Now()
		last.TrustMs, last.WallMs = now.TrustMs, now.WallMs
		last.MarkTrustMs, last.MarkWallMs, last.BootMs, last.BootID = now.TrustMs, now.WallMs, tc.Mark().BootMs, tc.Mark().BootId
		tc = NewTrustClock(clock, last)
		if tc.SinceMs() == 0 {
			t.Fatal("a restart of the process ended the doubt")
		}
	}
	clock.SetWall(noon.Add(9 * time.Hour))
	clock.SetSynced(true)
	tc.Step()
	if tc.SinceMs() != 0 || tc.NowMs() != noon.Add(9*time.Hour).UnixMilli() || tc.Mark().BootId == "" {
		t.Errorf("the time is known, yet: since %d, now %v, mark %+v", tc.SinceMs(), time.UnixMilli(tc.NowMs()).UTC(), tc.Mark())
	}
}

func TestAnchorFold(t *testing.T) {
	var a Anchor
	record := func(trustMs, wallMs int64, e messages.Event) {
		body, schema, err := messages.EncodeEvent(e)
		if err != nil {
			t.Fatal(err)
		}
		a.Fold(&messages.Record{Kind: e.Kind(), Schema: schema, Body: body, At: messages.Instant{TrustMs: trustMs, WallMs: wallMs}})
	}
	record(10, 11, &messages.Started{})
	record(20, 21, &messages.ClockMarked{BootMs: 5, BootId: "b"})
	record(19, 18, &messages.Started{}) // appended late
	if want := (Anchor{TrustMs: 20, WallMs: 18, MarkTrustMs: 20, MarkWallMs: 21, BootMs: 5, BootID: "b"}); a != want {
		t.Errorf("folded %+v, want %+v", a, want)
	}
}

// TestTrustTimeNeverRunsBackwards nor slower than boot time, whatever the wall clock does
// and however often the process starts anew (reliability spec, T1 and T2): over any such
// sequence trust that was given is gone once the trust duration has truly passed, but for
// starts of the machine whose wall clock went on as if nothing had happened.
func TestTrustTimeNeverRunsBackwards(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := actorstest.NewClock(noon)
		tc := NewTrustClock(clock, Anchor{})
		last := Anchor{}
		mark := func() {
			now, m := tc.Now(), tc.Mark()
			last = Anchor{TrustMs: now.TrustMs, WallMs: now.WallMs, MarkTrustMs: now.TrustMs, MarkWallMs: now.WallMs, BootMs: m.BootMs, BootID: m.BootId}
		}
		mark()
		given, trulyPassed := tc.NowMs(), time.Duration(0)
		for range 50 {
			before, bootBefore := tc.NowMs(), clock.Boot()
			step := rapid.SampledFrom([]string{"advance", "suspend", "wall", "sync", "unsync", "step", "restart", "reboot"}).Draw(t, "step")
			switch step {
			case "advance", "suspend":
				d := time.Duration(rapid.Int64Range(0, int64(3*time.Hour)).Draw(t, "passes"))
				clock.Advance(d)
				trulyPassed += d
				mark()
			case "wall":
				clock.SetWall(clock.Wall().Add(time.Duration(rapid.Int64Range(-int64(10000*time.Hour), int64(1000*time.Hour)).Draw(t, "jump"))))
				clock.SetSynced(false) // the kernel takes a clock that was set for not synchronised
			case "sync":
				clock.SetWall(noon.Add(trulyPassed))
				clock.SetSynced(true)
			case "unsync":
				clock.SetSynced(false)
			case "step":
				tc.Step()
			case "restart":
				before = last.TrustMs // what was not recorded did not happen
				tc = NewTrustClock(clock, last)
			case "reboot":
				off := time.Duration(rapid.Int64Range(0, int64(100*time.Hour)).Draw(t, "off"))
				mark()
				wall := clock.Wall().Add(off) // it went on …
				if rapid.Bool().Draw(t, "unset") {
					wall = time.UnixMilli(last.MarkWallMs).Add(-time.Minute) // … or was lost
				}
				clock.Reboot(wall)
				trulyPassed += off
				tc = NewTrustClock(clock, last)
				bootBefore = clock.Boot()
			}
			now := tc.NowMs()
			if now < before {
				t.Fatalf("%s: trust time went from %d to %d", step, before, now)
			}
			if ran := (clock.Boot() - bootBefore).Milliseconds(); now-before < ran-1 {
				t.Fatalf("%s: boot time ran %d ms, trust time %d", step, ran, now-before)
			}
			if counts := given >= tc.SinceMs(); counts && now-given < trulyPassed.Milliseconds()-100 {
				t.Fatalf("%s: trust counts, is %v old, and takes itself for %v old", step, trulyPassed, time.Duration(now-given)*time.Millisecond)
			}
		}
	})
}
