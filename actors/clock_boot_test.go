package actors

import (
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
)

// bootCase is one start of the core. The last mark was made at noon, in an earlier boot
// unless it says same, with the wall clock showing noon. Trust of a day had been given an
// hour before it.
type bootCase struct {
	rule   string
	same   bool          // the boot in which the mark was made, an hour later
	wall   time.Duration // what the wall clock shows, from noon
	synced bool
	budget bool
	anchor func(*Anchor)

	trust time.Duration // where trust time begins, from noon
	state ClockState    // once the first mark is durable
	old   bool          // does what was trusted count
	left  time.Duration // of the trust duration, if it counts
}

const (
	dayMs  = int64(24 * time.Hour / time.Millisecond)
	unset  = -56 * 365 * 24 * time.Hour // 1970
	absurd = 70 * 365 * 24 * time.Hour
	eps    = time.Millisecond // past the last record
	tenth  = 144 * time.Minute
)

// bootCases are the 24 cases of reliability spec B3.
var bootCases = []bootCase{
	// The same boot: what has passed on the boot clock has passed, whatever the wall shows.
	{"same boot, wall goes on", true, time.Hour, false, false, nil, time.Hour, ClockCertain, true, 22 * time.Hour},
	{"same boot, wall set back: no trust is won", true, -1000 * time.Hour, false, false, nil, time.Hour, ClockCertain, true, 22 * time.Hour},
	{"same boot, wall set forward, not synchronised: ignored", true, 1000 * time.Hour, false, false, nil, time.Hour, ClockCertain, true, 22 * time.Hour},
	{"same boot, synchronised, behind: never back", true, -1000 * time.Hour, true, false, nil, time.Hour, ClockCertain, true, 22 * time.Hour},
	{"same boot, synchronised, ahead: followed", true, 10 * time.Hour, true, false, nil, 10 * time.Hour, ClockCertain, true, 13 * time.Hour},
	{"same boot, records after the mark: the last record counts", true, time.Hour, false, false,
		func(a *Anchor) { a.TrustMs += (3 * time.Hour).Milliseconds() }, 3 * time.Hour, ClockCertain, true, 20 * time.Hour},
	{"same boot id, but its clock went back: another boot", true, -time.Hour, false, false,
		func(a *Anchor) { a.BootMs = (100 * time.Hour).Milliseconds() }, eps, ClockUncertain, false, 0},
	{"same boot, marked in doubt: doubt still", true, time.Hour, false, false, doubted(0), time.Hour + eps, ClockUncertain, false, 0},
	{"same boot, marked with its charge: not charged again", true, time.Hour, false, true, doubted(tenth), time.Hour + eps, ClockBudget, true, 22*time.Hour - tenth},

	// Another boot, synchronised: the wall clock tells how long the machine was off.
	{"reboot, synchronised", false, 10 * time.Hour, true, false, nil, 10 * time.Hour, ClockCertain, true, 13 * time.Hour},
	{"reboot, synchronised, behind: never back", false, -10 * time.Hour, true, false, nil, 0, ClockCertain, true, 23 * time.Hour},
	{"reboot, synchronised, after a doubt: known again, charges are over", false, 10 * time.Hour, true, true, doubted(9 * tenth), 10 * time.Hour, ClockCertain, true, 13 * time.Hour},

	// Another boot, and the wall clock is a battery's, then as now: it tells as well.
	{"reboot, battery: off for as long as it shows", false, 10 * time.Hour, false, false, battery, 10 * time.Hour, ClockCertain, true, 13 * time.Hour},

	// Another boot, not synchronised, strict: nothing from before counts.
	{"reboot, wall unset, strict", false, unset, false, false, nil, eps, ClockUncertain, false, 0},
	{"reboot, wall a moment behind, strict", false, -time.Millisecond, false, false, nil, eps, ClockUncertain, false, 0},
	{"reboot, wall just where it was (saved at the shutdown), strict", false, 0, false, false, nil, eps, ClockUncertain, false, 0},
	{"reboot, wall went on, strict: it moves the clock, and proves nothing", false, 10 * time.Hour, false, false, nil, 10 * time.Hour, ClockUncertain, false, 0},
	{"reboot, wall years ahead, strict: a day at most", false, absurd, false, false, nil, 24*time.Hour + eps, ClockUncertain, false, 0},

	// Another boot, not synchronised, budget: it counts, for less.
	{"reboot, wall unset, budget: a tenth", false, unset, false, true, nil, eps, ClockBudget, true, 23*time.Hour - tenth},
	{"reboot, wall went on, budget: what it shows, and a tenth", false, 10 * time.Hour, false, true, nil, 10 * time.Hour, ClockBudget, true, 13*time.Hour - tenth},
	{"reboot, wall set back an hour before the mark: counted from trust time", false, 2 * time.Hour, false, true,
		func(a *Anchor) { a.MarkWallMs -= time.Hour.Milliseconds() }, 3 * time.Hour, ClockBudget, true, 20*time.Hour - tenth},
	{"reboot, wall years ahead, budget: what it claims beyond a day is charged", false, absurd, false, true, nil, 24*time.Hour + eps, ClockUncertain, false, 0},
	{"reboot, the eighth of its kind, budget: charges add up", false, unset, false, true, doubted(7 * tenth), eps, ClockBudget, true, 23*time.Hour - 8*tenth},
	{"reboot, the tenth of its kind, budget: used up", false, unset, false, true, doubted(9 * tenth), eps, ClockUncertain, false, 0},
}

// battery makes the last mark one by a hardware clock with a battery, and the clock too.
func battery(a *Anchor) { a.Battery = true }

// doubted makes the last mark one in doubt, with so much charged.
func doubted(charged time.Duration) func(*Anchor) {
	return func(a *Anchor) {
		a.DoubtedBootID, a.BootID, a.ChargedMs = a.BootID, "", charged.Milliseconds()
	}
}

// TestBootCases: where trust time begins, how well it is known, and what that means for
// trust that was given before.
func TestBootCases(t *testing.T) {
	if len(bootCases) != 24 {
		t.Errorf("%d cases", len(bootCases))
	}
	for _, c := range bootCases {
		t.Run(c.rule, func(t *testing.T) {
			clock := actorstest.NewClock(noon)
			clock.Advance(time.Hour)
			if !c.same {
				clock.Reboot(noon)
			}
			clock.SetWall(noon.Add(c.wall))
			clock.SetSynced(c.synced)
			l := &marks{a: marked()}
			if c.anchor != nil {
				c.anchor(&l.a)
			}
			last := l.a
			clock.SetBattery(last.Battery)
			var options []ClockOption
			if c.budget {
				options = append(options, Budget(dayMs))
			}
			tc := NewTrustClock(clock, last, options...)
			givenMs := noon.Add(-time.Hour).UnixMilli()
			if early := tc.Trust(dayMs, 0).Holds(givenMs, tc.NowMs()); early && tc.State() == ClockUncertain {
				t.Error("trust counts before what it costs is on record")
			}
			l.mark(tc)
			if got := sinceNoon(tc); got != c.trust {
				t.Errorf("trust time begins %v after noon, want %v", got, c.trust)
			}
			if got := tc.Status(dayMs).State; got != c.state {
				t.Errorf("the clock is %s, want %s", got, c.state)
			}
			rule := tc.Trust(dayMs, 0)
			if got := rule.Holds(givenMs, tc.NowMs()); got != c.old {
				t.Errorf("what was trusted counts: %v, want %v", got, c.old)
			}
			if left := time.Duration(givenMs+rule.DurationMs-tc.NowMs()) * time.Millisecond; c.old && (left > c.left || left < c.left-eps) {
				t.Errorf("and for %v, want %v", left, c.left)
			}
			if rule.Holds(last.TrustMs, tc.NowMs()) && !c.old {
				t.Error("the last record counts in spite of the doubt")
			}
			if !rule.Holds(tc.NowMs(), tc.NowMs()) {
				t.Error("what is verified now does not count")
			}
			if id := tc.Mark().BootId; (id != "") != (tc.State() == ClockCertain) {
				t.Errorf("marked for boot %q, and the clock is %s", id, tc.State())
			}
		})
	}
}

// TestBatteryClocks: only a hardware clock that was shown before and is shown now, and went
// on, tells how long the machine was off.
func TestBatteryClocks(t *testing.T) {
	for _, c := range []struct {
		name        string
		marked, now bool
		wall        time.Duration
		anchor      func(*Anchor)
		state       ClockState
	}{
		{"then and now", true, true, time.Hour, nil, ClockCertain},
		{"years later", true, true, absurd, nil, ClockCertain}, // and all trust has lapsed
		{"not now: the battery is empty", true, false, time.Hour, nil, ClockUncertain},
		{"not then: the wall clock was set by hand", false, true, time.Hour, nil, ClockUncertain},
		{"it went back", true, true, -time.Millisecond, nil, ClockUncertain},
		{"the time was not known then", true, true, time.Hour, doubted(0), ClockUncertain},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := actorstest.NewClock(noon)
			clock.Reboot(noon.Add(c.wall))
			clock.SetBattery(c.now)
			l := &marks{a: marked()}
			l.a.Battery = c.marked
			if c.anchor != nil {
				c.anchor(&l.a)
			}
			tc := NewTrustClock(clock, l.a)
			if tc.State() != c.state {
				t.Errorf("the clock is %s, want %s", tc.State(), c.state)
			}
			if c.state == ClockCertain && sinceNoon(tc) != c.wall {
				t.Errorf("trust time begins %v after noon, want %v", sinceNoon(tc), c.wall)
			}
			if m := tc.Mark(); m.Battery != c.now {
				t.Errorf("marked %v", m)
			}
		})
	}
}

// TestTenRebootsUseTheBudgetUp, whatever the trust duration.
func TestTenRebootsUseTheBudgetUp(t *testing.T) {
	for _, durationMs := range []int64{60_000, 600_000, dayMs + 7, 1<<31*60_000 - 1} {
		clock := actorstest.NewClock(noon)
		l := &marks{}
		tc := NewTrustClock(clock, l.a, Budget(durationMs))
		givenMs := tc.NowMs()
		l.mark(tc)
		reboots := 0
		for ; reboots < 100; reboots++ {
			clock.Reboot(noon.Add(unset))
			tc = NewTrustClock(clock, l.a, Budget(durationMs))
			if tc.Trust(durationMs, 0).Holds(givenMs, tc.NowMs()) {
				t.Fatal("trust counts before the charge is on record")
			}
			l.mark(tc)
			tc = NewTrustClock(clock, l.a, Budget(durationMs)) // a restart of the process is free
			if !tc.Trust(durationMs, 0).Holds(givenMs, tc.NowMs()) {
				break
			}
		}
		want := min(durationMs/chargeMinMs, 10)
		if used := int64(reboots + 1); used > 10 || used < want {
			t.Errorf("trust of %d ms is used up by %d reboots, want %d", durationMs, used, want)
		}
		clock.SetWall(noon.Add(time.Second))
		clock.SetSynced(true)
		tc.Step()
		if !tc.Trust(durationMs, 0).Holds(givenMs, tc.NowMs()) || tc.Mark().ChargedMs != 0 {
			t.Error("the time is known again, and something is charged still")
		}
	}
}

// TestBudgetIsCutShort: a shorter trust duration acts at once on what is charged.
func TestBudgetIsCutShort(t *testing.T) {
	clock := actorstest.NewClock(noon)
	clock.Reboot(noon.Add(unset))
	l := &marks{a: marked()}
	tc := NewTrustClock(clock, l.a, Budget(dayMs))
	l.mark(tc)
	if rule := tc.Trust(dayMs, 0); rule.DurationMs != dayMs-tenth.Milliseconds() || rule.SinceMs != 0 {
		t.Errorf("with the duration as it was: %+v", rule)
	}
	if rule := tc.Trust(tenth.Milliseconds(), 0); rule.Holds(noon.UnixMilli(), tc.NowMs()) || !rule.Holds(tc.NowMs(), tc.NowMs()) {
		t.Errorf("with one that is charged up: %+v", rule)
	}
	if rule := tc.Trust(tenth.Milliseconds(), 1<<60); rule.SinceMs != 1<<60 {
		t.Errorf("what was voided counts: %+v", rule)
	}
}
