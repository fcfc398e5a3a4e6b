package actors

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/core"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// life is a core of one clock, a log and read models, through which true time is known.
type life struct {
	t       *rapid.T
	clock   *actorstest.Clock
	trulyMs int64 // true time
	tc      *TrustClock
	budget  bool
	views   *projections.Views
	log     []messages.Record
	marked  time.Duration // boot time of the last mark
	lie     time.Duration // by which a source of time is ahead

	rtc   time.Duration // by which a hardware clock with a battery is ahead of true time
	set   bool          // the wall clock was set from it at the start of the machine
	slack int64         // what starts by it may have hidden, ms

	durationMs int64
	given      []given
	topMs      int64 // the latest trust time on record since the last re-anchoring
	unknownMs  int64 // how long the machine was off since the time was last known, from a mark to a start that did not tell
	starts     int64 // how many those were
}

// given is a certificate that the cloud confirmed, and when it truly did.
type given struct {
	id      messages.CertificateID
	trulyMs int64
	slack   int64
}

// markSlackMs is the promise of reliability spec T1 in strict mode: the interval of marks.
const markSlackMs = 60_000

func newLife(t *rapid.T) *life {
	l := &life{
		t: t, clock: actorstest.NewClock(noon), trulyMs: noon.UnixMilli(), budget: rapid.Bool().Draw(t, "budget"),
		rtc:        rapid.SampledFrom([]time.Duration{0, 40 * time.Second, -40 * time.Second, -5 * time.Hour, 5 * time.Hour}).Draw(t, "hardware clock"),
		durationMs: rapid.SampledFrom([]int64{60_000, 3_600_000, 10 * dayMs, 400 * dayMs}).Draw(t, "duration"),
	}
	l.start()
	return l
}

// battery tells the clock whether its wall clock still shows the hardware clock's time.
func (l *life) battery() {
	apart := l.clock.Wall().Sub(time.UnixMilli(l.trulyMs).Add(l.rtc))
	l.clock.SetBattery(l.set && apart.Abs() <= rtcSlack)
}

// start is a start of the process: all is folded from the log.
func (l *life) start() {
	l.battery()
	l.views = projections.New(nil)
	l.views.Apply(l.log)
	var a Anchor
	for i := range l.log {
		a.Fold(&l.log[i])
	}
	var options []ClockOption
	if l.budget {
		options = append(options, Budget(l.durationMs))
	}
	l.tc = NewTrustClock(l.clock, a, options...)
	if l.tc.State() == ClockCertain {
		l.unknownMs, l.starts = 0, 0
	}
	l.mark()
}

func (l *life) append(stream messages.StreamID, at messages.Instant, events ...messages.Event) {
	for _, e := range events {
		body, schema, err := messages.EncodeEvent(e)
		if err != nil {
			l.t.Fatal(err)
		}
		l.log = append(l.log, messages.Record{
			Seq: uint64(len(l.log) + 1), Stream: stream, Version: 1, Kind: e.Kind(), Schema: schema, Critical: e.Kind().Critical(), At: at, Body: body,
		})
		l.views.Apply(l.log[len(l.log)-1:])
	}
	if events[0].Kind() == messages.KindClockReanchored {
		l.topMs = at.TrustMs
	}
	if at.TrustMs < l.topMs {
		l.t.Fatalf("trust time went from %d to %d", l.topMs, at.TrustMs)
	}
	l.topMs = at.TrustMs
}

func (l *life) mark() {
	l.battery()
	m := l.tc.Mark()
	l.append(messages.StreamClock, l.tc.Now(), m)
	l.tc.Recorded(m)
	l.marked = l.clock.Boot()
}

// step is what the keeper does each second.
func (l *life) step() {
	before := l.tc.State()
	l.tc.Step()
	l.known(before)
	if l.clock.Boot()-l.marked >= markEvery {
		l.mark()
	}
}

func (l *life) known(before ClockState) {
	if l.tc.State() == ClockCertain && before != ClockCertain {
		l.unknownMs, l.starts = 0, 0
		l.mark()
	}
}

// pass lets d pass while the core runs, or sleeps.
func (l *life) pass(d time.Duration, awake bool) {
	for awake && d > markEvery {
		part := max(markEvery, d/8)
		l.pass(part, false)
		l.step()
		d -= part
	}
	l.clock.Advance(d)
	l.trulyMs += d.Milliseconds()
}

// ask puts one question, to a server whose clock is wrong by off, and takes the time the
// answer tells: again if it is in dispute, as the host does. It reports whether the
// answer may be used.
func (l *life) ask(off time.Duration) bool {
	for try := range 2 {
		asked := l.clock.Boot()
		l.pass(time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(l.t, "way there")).Truncate(time.Millisecond), false)
		date := time.UnixMilli(l.trulyMs).Add(off).Truncate(time.Second)
		if try == 1 {
			date = time.UnixMilli(l.trulyMs).Truncate(time.Second) // another server
		}
		l.pass(time.Duration(rapid.Int64Range(0, int64(2*time.Second)).Draw(l.t, "way back")).Truncate(time.Millisecond), false)
		before := l.tc.State()
		h, offsetMs := l.tc.Hear(date, asked)
		l.known(before)
		switch h {
		case HeardAgreed:
			return true
		case HeardAhead:
			l.reanchor(offsetMs)
			return true
		}
	}
	return false
}

func (l *life) reanchor(offsetMs int64) {
	rule := l.rule()
	order, ok := l.tc.reanchoring(messages.ReanchorClock{OffsetMs: offsetMs, Authority: "cloud"}, rule)
	if !ok {
		l.t.Fatal("nothing to set back")
	}
	d, err := core.DecideJournal(messages.StreamClock, core.Journal{}, messages.Input{Command: order})
	if err != nil || len(d.Events) < 2 {
		l.t.Fatalf("decided %+v, %v", d, err)
	}
	counted := l.counting()
	l.tc.lower(order)
	l.append(messages.StreamClock, messages.Instant{TrustMs: order.AuthenticatedMs, WallMs: l.clock.Wall().UnixMilli()}, d.Events...)
	l.unknownMs, l.starts = 0, 0
	if wasCertain := rule.SinceMs == 0 && rule.DurationMs == l.durationMs; wasCertain {
		for _, id := range l.counting() {
			if !slices.Contains(counted, id) {
				l.t.Fatalf("%.8s won trust from a re-anchoring", id)
			}
		}
	}
}

// counting lists who is trusted now.
func (l *life) counting() (ids []messages.CertificateID) {
	for _, g := range l.given {
		if l.rule().Holds(l.views.CertificateTrust(g.id).VerifiedMs, l.tc.NowMs()) {
			ids = append(ids, g.id)
		}
	}
	return ids
}

func (l *life) rule() messages.Trust { return l.tc.Trust(l.durationMs, l.views.VoidedMs()) }

// verify lets the cloud confirm another certificate.
func (l *life) verify() {
	if !l.ask(0) {
		return
	}
	g := given{id: messages.CertificateID(fmt.Sprintf("%064x", len(l.given))), trulyMs: l.trulyMs, slack: l.slack}
	l.append(messages.CertificateStream(g.id), l.tc.Now(), &messages.CertificateVerified{Source: messages.Source_SOURCE_CLOUD, NotAfterMs: 1 << 60})
	l.given = append(l.given, g)
}

// reboot is a start of the machine after it was off.
func (l *life) reboot() {
	if rapid.Bool().Draw(l.t, "orderly") {
		l.mark()
	}
	off := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 9 * time.Minute, 5 * time.Hour, 100 * time.Hour, 5000 * time.Hour}).Draw(l.t, "off")
	hidden := off + l.clock.Boot() - l.marked // power may fail while the machine sleeps
	l.trulyMs += off.Milliseconds()
	truly, saved := time.UnixMilli(l.trulyMs), l.clock.Wall()
	var wall time.Time
	synced := false
	l.set = false
	switch rapid.SampledFrom([]string{"goes on", "saved", "unset", "any", "right", "synced", "battery", "battery"}).Draw(l.t, "wall") {
	case "goes on":
		wall = saved.Add(off)
	case "saved": // by the shutdown: it goes on from there
		wall = saved.Add(time.Second)
	case "unset":
		wall = time.Unix(0, 0)
	case "any":
		wall = saved.Add(time.Duration(rapid.Int64Range(-int64(20_000*time.Hour), int64(20_000*time.Hour)).Draw(l.t, "shows")).Truncate(time.Millisecond))
	case "right":
		wall = truly
	case "synced":
		wall, synced = truly.Add(l.lie), true
	case "battery": // within a minute of what the wall clock was at the last mark
		wall, l.set = truly.Add(l.rtc), true
		l.slack += rtcSlack.Milliseconds()
	}
	l.clock.Reboot(wall)
	l.clock.SetSynced(synced)
	if !synced {
		l.unknownMs += hidden.Milliseconds()
		l.starts++
	}
	l.start()
}

func (l *life) act() string {
	act := rapid.SampledFrom([]string{"advance", "suspend", "jump", "reboot", "restart", "sync", "hostile", "unsync", "cloud", "cloud", "wrong server"}).Draw(l.t, "act")
	switch act {
	case "advance":
		l.pass(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(l.t, "passes")).Truncate(time.Millisecond), true)
	case "suspend":
		l.pass(time.Duration(rapid.Int64Range(0, int64(90*time.Hour)).Draw(l.t, "sleeps")).Truncate(time.Millisecond), false)
	case "jump":
		l.clock.SetWall(l.clock.Wall().Add(time.Duration(rapid.Int64Range(-int64(100_000*time.Hour), int64(100_000*time.Hour)).Draw(l.t, "jump")).Truncate(time.Millisecond)))
		l.clock.SetSynced(false) // the kernel takes a clock that was set for not synchronised
	case "reboot":
		l.reboot()
	case "restart": // the process alone: what was not recorded did not happen
		l.start()
	case "sync":
		l.lie = 0
		l.clock.SetWall(time.UnixMilli(l.trulyMs))
		l.clock.SetSynced(true)
	case "hostile": // a source of time that lies, forward: back it could hide how long the machine was off
		l.lie = rapid.SampledFrom([]time.Duration{time.Second, 11 * time.Second, time.Minute, time.Hour, 30 * time.Hour, 20_000 * time.Hour}).Draw(l.t, "lie")
		l.clock.SetWall(time.UnixMilli(l.trulyMs).Add(l.lie))
		l.clock.SetSynced(true)
	case "unsync":
		l.clock.SetSynced(false)
	case "cloud":
		l.verify()
	case "wrong server":
		l.ask(time.Duration(rapid.Int64Range(-int64(20_000*time.Hour), int64(20_000*time.Hour)).Draw(l.t, "wrong by")).Truncate(time.Millisecond))
	}
	if rapid.Bool().Draw(l.t, "a second passes") {
		l.step()
	}
	return act
}

// noOverTrust holds every yes that counts against true time.
func (l *life) noOverTrust(act string) {
	rule, nowMs := l.rule(), l.tc.NowMs() // in this order
	for _, g := range l.given {
		if !rule.Holds(l.views.CertificateTrust(g.id).VerifiedMs, nowMs) {
			continue
		}
		age, bound := l.trulyMs-g.trulyMs, l.durationMs+l.slack-g.slack
		if l.tc.State() == ClockBudget {
			// What nobody knows is not counted, and each start that hid it has its price: all
			// that is trusted was confirmed when the time was known.
			age -= l.unknownMs
			bound -= l.starts * max(chargeMinMs, l.durationMs/chargeParts)
			if l.starts >= chargeParts {
				l.t.Fatalf("%s: trust counts after %d starts with an unknown off time", act, l.starts)
			}
		}
		if age > bound+markSlackMs {
			l.t.Fatalf("%s (%s): %.8s counts at an age of %v, %v at most", act, l.tc.State(), g.id,
				time.Duration(age)*time.Millisecond, time.Duration(bound)*time.Millisecond)
		}
	}
}

// heals is the other promise: once the cloud tells the time, the clock is right and what
// the cloud confirms counts (reliability spec, B2: no permanent lock-out).
func (l *life) heals() {
	l.clock.SetSynced(rapid.Bool().Draw(l.t, "synced at the end")) // whatever it shows
	if !l.ask(0) {
		l.t.Fatal("two answers of the cloud do not tell the time")
	}
	if l.tc.State() != ClockCertain {
		l.t.Fatalf("the clock is %s", l.tc.State())
	}
	// It is behind by what the answer was on its way and the second it was written in, and
	// ahead by what counts as agreement.
	if off := l.tc.NowMs() - l.trulyMs; off < -1000-2000 || off > agreeMs+1000+4000 {
		l.t.Fatalf("the clock is wrong by %v", time.Duration(off)*time.Millisecond)
	}
	l.given = nil
	l.verify()
	if len(l.given) != 1 || len(l.counting()) != 1 {
		l.t.Fatal("what the cloud confirms does not count")
	}
	l.clock.SetSynced(false) // a source that lies would be believed once more
	if l.start(); len(l.counting()) != 1 {
		l.t.Fatal("… after a restart")
	}
}

// TestNoOverTrust (reliability spec, T1, T2, B1 to B4): over any sequence of what a
// machine and those who mean it harm do to its clocks, no yes of the cloud counts for
// longer than the trust duration in true time, trust time goes back in a re-anchoring
// alone, nobody wins trust by one, and the cloud can always set the clock right.
func TestNoOverTrust(t *testing.T) {
	check := func(t *rapid.T) {
		l := newLife(t)
		for range 50 {
			act := l.act()
			l.noOverTrust(act)
		}
		l.heals()
	}
	for range lives() / 100 {
		rapid.Check(t, check) // 100 sequences
	}
}

// lives is how many sequences are tried: more where time does not matter.
func lives() int {
	if os.Getenv("GATEHOUSE_E2E") == "1" {
		return 20_000
	}
	return 2_000
}
