package refresh

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/messages"
)

const (
	t0       = int64(1_800_000_000_000)
	duration = int64(time.Hour / time.Millisecond)
)

func facts(up bool) Facts {
	return Facts{NetworkUp: up, Trust: messages.Trust{DurationMs: duration}}
}

// at is an event and its time after t0.
type at struct {
	ms int64
	e  messages.Event
}

func state(events ...at) State {
	var s State
	for _, e := range events {
		s = Evolve(s, e.e, messages.Instant{TrustMs: t0 + e.ms})
	}
	return s
}

// show spells a decision, times after t0.
func show(d messages.Decision, err error) string {
	if err != nil {
		return "error"
	}
	var l []string
	for _, e := range d.Events {
		switch e := e.(type) {
		case *messages.RefreshPlanned:
			l = append(l, fmt.Sprintf("planned %d", e.DueMs-t0))
		case *messages.RefreshStarted:
			l = append(l, "started")
		case *messages.RefreshFailed:
			l = append(l, fmt.Sprintf("failed, next %d, broken off %v", e.NextDueMs-t0, e.BrokenOff))
		case *messages.RefreshCompleted:
			l = append(l, fmt.Sprintf("completed %d/%d/%d/%d/%d, next %d", e.Listed, e.Renewed, e.Denied, e.Unanswered, e.Removed, e.NextDueMs-t0))
		default:
			l = append(l, e.Kind().String())
		}
	}
	for _, e := range d.Effects {
		switch e := e.(type) {
		case messages.ListAssociations:
			l = append(l, fmt.Sprintf("list of %d after %v, former %v", e.StartedMs-t0, e.Delay, e.Former))
		case messages.Reverify:
			l = append(l, fmt.Sprintf("reverify of %d: forget %v, drop %d, ask %d", e.StartedMs-t0, e.Plan.Forget, len(e.Plan.Drop), len(e.Plan.Steps)))
		}
	}
	if a, ok := d.Reply.(messages.RefreshAnswer); ok {
		l = append(l, fmt.Sprintf("%s, due %d", [...]string{"not due", "offline", "begun", "under way"}[a.Outcome], a.DueMs-t0))
	}
	return strings.Join(l, "; ")
}

func TestRun(t *testing.T) {
	planned := at{0, &messages.RefreshPlanned{DueMs: t0 + PeriodMs}}
	started := at{PeriodMs, &messages.RefreshStarted{}}
	const lost, inHand = int64(0), t0 + PeriodMs
	for _, c := range []struct {
		name  string
		given []at
		hand  int64 // what is carried out
		up    bool
		ms    int64
		when  messages.RunRefresh
		then  string
	}{
		{"first start: due in a day", nil, lost, true, 0, messages.RunRefresh{}, "planned 86400000; not due, due 86400000"},
		{"first start offline: the same", nil, lost, false, 0, messages.RunRefresh{}, "planned 86400000; not due, due 86400000"},
		{"a millisecond early", []at{planned}, lost, true, PeriodMs - 1, messages.RunRefresh{}, "not due, due 86400000"},
		{"due", []at{planned}, lost, true, PeriodMs, messages.RunRefresh{}, "started; list of 86400000 after 0s, former []; begun, due 86400000"},
		{"due while away: stays due", []at{planned}, lost, false, PeriodMs, messages.RunRefresh{}, "offline, due 86400000"},
		{"due, after a restart", []at{planned}, lost, true, PeriodMs + 5, messages.RunRefresh{}, "started; list of 86400005 after 0s, former []; begun, due 86400000"},
		{"a restart does not postpone it", []at{planned}, lost, true, 5, messages.RunRefresh{}, "not due, due 86400000"},
		{"under way", []at{planned, started}, inHand, true, PeriodMs + 1, messages.RunRefresh{}, "under way, due 86400000"},
		{"under way, by hand", []at{planned, started}, inHand, true, PeriodMs + 1, messages.RunRefresh{Force: true}, "under way, due 86400000"},
		{"broken off by a restart: due at once", []at{planned, started}, lost, true, PeriodMs + 9, messages.RunRefresh{}, "failed, next 86400000, broken off true; started; list of 86400009 after 0s, former []; begun, due 86400000"},
		{"broken off by a restart, away: stays due", []at{planned, started}, lost, false, PeriodMs + 9, messages.RunRefresh{}, "failed, next 86400000, broken off true; offline, due 86400000"},
		{"what is carried out is another: lost all the same", []at{planned, started}, inHand + 1, true, PeriodMs + 9, messages.RunRefresh{}, "failed, next 86400000, broken off true; started; list of 86400009 after 0s, former []; begun, due 86400000"},
		{"by hand", []at{planned}, lost, true, 5, messages.RunRefresh{Force: true}, "started; list of 5 after 0s, former []; begun, due 86400000"},
		{"by hand, away", []at{planned}, lost, false, 5, messages.RunRefresh{Force: true}, "offline, due 86400000"},
		{"by hand, the first time", nil, lost, true, 5, messages.RunRefresh{Force: true}, "planned 86400005; started; list of 5 after 0s, former []; begun, due 86400005"},
		{"planned by a clock that was ahead", []at{{0, &messages.RefreshPlanned{DueMs: t0 + 70*365*PeriodMs}}}, lost, true, 5, messages.RunRefresh{}, fmt.Sprintf("started; list of 5 after 0s, former []; begun, due %d", 70*365*PeriodMs)},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := facts(c.up)
			f.InHandMs = c.hand
			got := show(Decide(state(c.given...), f, messages.Input{Command: c.when, At: messages.Instant{TrustMs: t0 + c.ms}}))
			if got != c.then {
				t.Errorf("decided %s\nwant    %s", got, c.then)
			}
		})
	}
}

// holding makes n things with a certificate each.
func holding(n int) (held messages.Held, names []messages.ThingName) {
	for i := range n {
		name, id := messages.ThingName(fmt.Sprintf("t%03d", i)), messages.CertificateIDOf([]byte{byte(i), byte(i >> 8)})
		held.Things = append(held.Things, messages.HeldThing{Thing: name, Associated: true, Attachments: []messages.HeldAttachment{{Certificate: id, ConfirmedMs: t0}}})
		held.Certificates = append(held.Certificates, messages.HeldCertificate{Certificate: id, ConfirmedMs: t0})
		names = append(names, name)
	}
	return held, names
}

func TestListed(t *testing.T) {
	const now = int64(100_000)
	running := []at{{0, &messages.RefreshPlanned{DueMs: t0}}, {now, &messages.RefreshStarted{}}}
	complete := func(names []messages.ThingName) messages.AssociationList {
		return messages.AssociationList{Complete: true, Things: names}
	}
	ten, tenNames := holding(10)
	many, manyNames := holding(300)
	of := messages.ListAssociations{StartedMs: t0 + now}
	second := func(former []messages.ThingName) messages.ListAssociations {
		return messages.ListAssociations{StartedMs: t0 + now, Delay: ConfirmAfter, Former: former}
	}
	atOnce := func(former []messages.ThingName) messages.ListAssociations {
		return messages.ListAssociations{StartedMs: t0 + now, Former: former}
	}
	for _, c := range []struct {
		name  string
		given []at
		guard bool
		when  messages.AssociationsListed
		then  string
	}{
		{"all are there", running, true, messages.AssociationsListed{Of: of, List: complete(tenNames), Held: ten}, "reverify of 100000: forget [], drop 0, ask 20"},
		{"one of ten is not", running, true, messages.AssociationsListed{Of: of, List: complete(tenNames[1:]), Held: ten}, "list of 100000 after 0s, former [t000]"},
		{"one of ten is not, twice", running, true, messages.AssociationsListed{Of: atOnce(tenNames[:1]), List: complete(tenNames[1:]), Held: ten}, "reverify of 100000: forget [t000], drop 1, ask 18"},
		{"one of ten is not, unguarded", running, false, messages.AssociationsListed{Of: of, List: complete(tenNames[1:]), Held: ten}, "reverify of 100000: forget [t000], drop 1, ask 18"},
		{"one of ten is not, then another", running, true, messages.AssociationsListed{Of: atOnce(tenNames[:1]), List: complete(append(slices.Clone(tenNames[:1]), tenNames[2:]...)), Held: ten}, "reverify of 100000: forget [], drop 0, ask 20"},
		{"one of ten is not, then none is there", running, true, messages.AssociationsListed{Of: atOnce(tenNames[:1]), List: complete(nil), Held: ten}, "reverify of 100000: forget [t000], drop 1, ask 18"},
		{"one of ten is not, then the listing fails", running, true, messages.AssociationsListed{Of: atOnce(tenNames[:1]), List: messages.AssociationList{Detail: "early", Failure: messages.FailureServer}, Held: ten}, "failed, next 86500000, broken off false"},
		{"nine of ten are not: few", running, true, messages.AssociationsListed{Of: of, List: complete(tenNames[9:]), Held: ten},
			"list of 100000 after 0s, former [t000 t001 t002 t003 t004 t005 t006 t007 t008]"},
		{"nine of ten are not, twice", running, true, messages.AssociationsListed{Of: atOnce(tenNames[:9]), List: complete(tenNames[9:]), Held: ten},
			"reverify of 100000: forget [t000 t001 t002 t003 t004 t005 t006 t007 t008], drop 9, ask 2"},
		{"none, and nothing is held", running, true, messages.AssociationsListed{Of: of, List: complete(nil)}, "reverify of 100000: forget [], drop 0, ask 0"},
		{"none: in doubt", running, true, messages.AssociationsListed{Of: of, List: complete(nil), Held: messages.Held{Things: ten.Things[:1]}}, "planned 400000; list of 100000 after 5m0s, former [t000]"},
		{"none, unguarded", running, false, messages.AssociationsListed{Of: of, List: complete(nil), Held: messages.Held{Things: ten.Things[:1]}}, "reverify of 100000: forget [t000], drop 0, ask 0"},
		{"none, twice", running, true, messages.AssociationsListed{Of: second(tenNames[:1]), List: complete(nil), Held: messages.Held{Things: ten.Things[:1]}}, "reverify of 100000: forget [t000], drop 0, ask 0"},
		{"none, then all", running, true, messages.AssociationsListed{Of: second(tenNames), List: complete(tenNames), Held: ten}, "reverify of 100000: forget [], drop 0, ask 20"},
		{"none, then none, but one came meanwhile", running, true, messages.AssociationsListed{Of: second(tenNames[1:2]), List: complete(nil), Held: messages.Held{Things: ten.Things[:2]}}, "reverify of 100000: forget [t001], drop 0, ask 1"},
		{"a page ends early", running, true, messages.AssociationsListed{Of: of, List: messages.AssociationList{Detail: "early", Failure: messages.FailureNotService}, Held: ten}, "failed, next 86500000, broken off false"},
		{"the confirming one fails", running, true, messages.AssociationsListed{Of: second(tenNames), List: messages.AssociationList{Detail: "early", Failure: messages.FailureServer}, Held: ten}, "failed, next 86500000, broken off false"},
		{"access denied", running, true, messages.AssociationsListed{Of: of, List: messages.AssociationList{Failure: messages.FailureRefused}, Held: ten}, "failed, next 86500000, broken off false"},
		{"not reached: soon again", running, true, messages.AssociationsListed{Of: of, List: messages.AssociationList{Failure: messages.FailureUnreachable}, Held: ten}, "failed, next 1000000, broken off false"},
		{"of a refresh that has ended", nil, true, messages.AssociationsListed{Of: of, List: complete(nil), Held: ten}, ""},
		{"of another refresh", running, true, messages.AssociationsListed{Of: messages.ListAssociations{StartedMs: 5}, List: complete(nil), Held: ten}, ""},
		{"one is not, and the last page is full: it may have been cut short", running, true, messages.AssociationsListed{Of: of, List: complete(append([]messages.ThingName{"a-thing"}, manyNames[:99]...)), Held: messages.Held{Things: many.Things[:100]}},
			"planned 400000; list of 100000 after 5m0s, former [t099]"},
		{"60 of 300: a fifth is not more than a fifth", running, true, messages.AssociationsListed{Of: of, List: complete(manyNames[60:]), Held: messages.Held{Things: many.Things}},
			"list of 100000 after 0s, former " + fmt.Sprint(manyNames[:60])},
		{"60 of 300, twice", running, true, messages.AssociationsListed{Of: atOnce(manyNames[:60]), List: complete(manyNames[60:]), Held: messages.Held{Things: many.Things}},
			"reverify of 100000: forget " + fmt.Sprint(manyNames[:60]) + ", drop 0, ask 240"},
		{"61 of 300", running, true, messages.AssociationsListed{Of: of, List: complete(manyNames[61:]), Held: messages.Held{Things: many.Things}},
			"planned 400000; list of 100000 after 5m0s, former " + fmt.Sprint(manyNames[:61])},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.when.Guard = c.guard
			got := show(Decide(state(c.given...), facts(true), messages.Input{Command: c.when, At: messages.Instant{TrustMs: t0 + now}}))
			if got != c.then {
				t.Errorf("decided %s\nwant    %s", got, c.then)
			}
		})
	}
}

// TestOnlyCompleteListingsRemove: whatever a listing that is not complete says, or a single
// one that is.
func TestOnlyCompleteListingsRemove(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		held, names := holding(rapid.IntRange(0, 120).Draw(t, "held"))
		list := messages.AssociationList{
			Complete: rapid.Bool().Draw(t, "complete"), Failure: messages.CloudFailure(rapid.IntRange(0, 6).Draw(t, "failure")),
			Things: names[:rapid.IntRange(0, len(names)).Draw(t, "listed")],
		}
		var former []messages.ThingName
		if rapid.Bool().Draw(t, "second") {
			former = names[rapid.IntRange(0, len(names)).Draw(t, "former"):]
		}
		d, err := Decide(State{RunningMs: t0}, facts(true), messages.Input{
			Command: messages.AssociationsListed{Of: messages.ListAssociations{StartedMs: t0, Former: former}, List: list, Held: held, Guard: true},
			At:      messages.Instant{TrustMs: t0 + 1},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range d.Effects {
			r, ok := e.(messages.Reverify)
			if !ok {
				continue
			}
			if !list.Complete && len(r.Plan.Forget)+len(r.Plan.Drop) > 0 {
				t.Fatalf("an incomplete listing removes %v", r.Plan.Forget)
			}
			for _, thing := range r.Plan.Forget {
				if slices.Contains(list.Things, thing) {
					t.Fatalf("%s is listed and removed", thing)
				}
			}
			for _, thing := range r.Plan.Forget {
				if !slices.Contains(former, thing) {
					t.Fatalf("%s of %d is removed at one listing's word", thing, len(held.Things))
				}
			}
		}
	})
}

func TestPlan(t *testing.T) {
	id := func(n byte) messages.CertificateID { return messages.CertificateIDOf([]byte{n}) }
	now := t0 + duration
	held := messages.Held{
		Things: []messages.HeldThing{
			{Thing: "late", Associated: true, Attachments: []messages.HeldAttachment{{Certificate: id(1), ConfirmedMs: now - 10}}},
			{Thing: "soon", Attachments: []messages.HeldAttachment{{Certificate: id(2), ConfirmedMs: now - duration + 1}, {Certificate: id(3), ConfirmedMs: now - duration}}},
			{Thing: "gone", Associated: true, Attachments: []messages.HeldAttachment{{Certificate: id(3), ConfirmedMs: now - 5}, {Certificate: id(4), ConfirmedMs: now - 5}}},
		},
		Certificates: []messages.HeldCertificate{{Certificate: id(1), ConfirmedMs: now - 20}, {Certificate: id(2), ConfirmedMs: now - 30}, {Certificate: id(3), ConfirmedMs: now - 40}, {Certificate: id(4), ConfirmedMs: now - graceMs - 1}, {Certificate: id(5), ConfirmedMs: now - graceMs}},
	}
	things := []messages.ThingName{"another", "late", "soon"}
	p := Plan(held, things, messages.Trust{DurationMs: duration}, 0, now)
	if !slices.Equal(p.Forget, []messages.ThingName{"gone"}) {
		t.Errorf("forgets %v", p.Forget)
	}
	// 3 is held by one that stays; 5 may belong to a device that connects just now.
	if len(p.Drop) != 1 || p.Drop[0].Certificate != id(4) {
		t.Errorf("drops %v", p.Drop)
	}
	var order []string
	for _, s := range p.Steps {
		order = append(order, fmt.Sprintf("%s/%d", s.Thing, slices.IndexFunc(held.Certificates, func(c messages.HeldCertificate) bool { return c.Certificate == s.Certificate })+1))
	}
	if got, want := strings.Join(order, " "), "soon/2 /3 /2 /1 late/1 soon/3"; got != want {
		t.Errorf("asks %s\nwant %s: soonest first, what has ended last", got, want)
	}
	changes, _ := json.Marshal(p.Changes)
	if got, want := string(changes), `[{"thing":"soon","associated":true},{"thing":"gone"}]`; got != want {
		t.Errorf("records %s, want %s", got, want)
	}
	p = Plan(held, things, messages.Trust{DurationMs: duration}, now-25, now)
	if len(p.Steps) != 4 {
		t.Errorf("asks %v, want nothing that was confirmed since", p.Steps)
	}
	held.Certificates[0].ConfirmedMs = now + 1
	if p = Plan(held, things, messages.Trust{DurationMs: duration}, now-25, now); len(p.Steps) != 5 {
		t.Errorf("asks %v, want what a clock that was ahead confirmed", p.Steps)
	}
	if p = Plan(held, things, messages.Trust{DurationMs: duration, SinceMs: now - 4}, now-25, now); len(p.Steps) != 6 {
		t.Errorf("asks %v, want what does not count", p.Steps)
	}
}

// TestRefreshEnds: the outcome plans the next a day after the beginning, and a refresh
// that was broken off goes on where it was.
func TestRefreshEnds(t *testing.T) {
	s := state(at{0, &messages.RefreshPlanned{DueMs: t0 + 5}}, at{10, &messages.RefreshStarted{}})
	outcome := messages.Refreshed{StartedMs: t0 + 10, Listed: 5, Renewed: 4, Denied: 3, Unanswered: 2, Removed: 1}
	if got, want := show(Decide(s, facts(true), messages.Input{Command: outcome, At: messages.Instant{TrustMs: t0 + 99}})), "completed 5/4/3/2/1, next 86400010"; got != want {
		t.Errorf("decided %s, want %s", got, want)
	}
	outcome.StartedMs++
	if got := show(Decide(s, facts(true), messages.Input{Command: outcome})); got != "" {
		t.Errorf("the end of another refresh: %s", got)
	}
	s = Evolve(s, &messages.RefreshFailed{NextDueMs: t0 + 10, BrokenOff: true}, messages.Instant{})
	s = Evolve(s, &messages.RefreshStarted{}, messages.Instant{TrustMs: t0 + 20})
	s = Evolve(s, &messages.RefreshFailed{NextDueMs: t0 + 20, BrokenOff: true}, messages.Instant{})
	if want := (State{DueMs: t0 + 20, SinceMs: t0 + 10}); s != want {
		t.Errorf("broken off twice: %+v, want %+v", s, want)
	}
	s = Evolve(Evolve(s, &messages.RefreshStarted{}, messages.Instant{TrustMs: t0 + 30}), &messages.RefreshCompleted{NextDueMs: t0 + 40}, messages.Instant{})
	if want := (State{DueMs: t0 + 40}); s != want {
		t.Errorf("completed: %+v, want %+v", s, want)
	}
}

// TestRenewedSince: what a broken-off refresh renewed is left out by the one that repeats
// it, and by no later one.
func TestRenewedSince(t *testing.T) {
	started := func(ms int64) at { return at{ms, &messages.RefreshStarted{}} }
	failed := func(brokenOff bool) at { return at{0, &messages.RefreshFailed{BrokenOff: brokenOff}} }
	for _, c := range []struct {
		name  string
		given []at
		now   int64
		want  int64 // after t0; -1: all is asked about
	}{
		{"nothing was broken off", []at{started(10)}, 20, -1},
		{"repeated", []at{started(10), failed(true), started(20)}, 30, 10},
		{"repeated twice", []at{started(10), failed(true), started(20), failed(true), started(30)}, 40, 10},
		{"the repetition cannot list", []at{started(10), failed(true), started(20), failed(false), started(30)}, 40, -1},
		{"after that another is broken off", []at{started(10), failed(true), started(20), failed(false), started(30), failed(true), started(40)}, 50, 30},
		{"the core was off for a day less a moment", []at{started(10), failed(true), started(20)}, 9 + PeriodMs, 10},
		{"for a day", []at{started(10), failed(true), started(20)}, 10 + PeriodMs, -1},
		{"broken off again after a day", []at{started(10), failed(true), started(10 + PeriodMs), failed(true), started(20 + PeriodMs)}, 30 + PeriodMs, 10 + PeriodMs},
		{"the clock was set back", []at{started(10), failed(true), started(0)}, 5, -1},
	} {
		want := max(c.want, 0)
		if c.want >= 0 {
			want += t0
		}
		if got := state(c.given...).renewedSince(t0 + c.now); got != want {
			t.Errorf("%s: %d, want %d", c.name, got-t0, c.want)
		}
	}
}

func TestSyncTakesItsCommands(t *testing.T) {
	for _, c := range []struct {
		command messages.Command
		takes   bool
	}{
		{messages.Note{Stream: messages.StreamSync, Event: &messages.NetworkChanged{Up: true}}, true},
		{messages.Note{Stream: messages.StreamSync, Event: &messages.RefreshCompleted{}}, false}, // nobody else says so
		{messages.Note{Stream: messages.StreamSync, Event: &messages.TrustVoided{}}, false},
		{messages.AssociationsChanged{Changes: []*messages.AssociationChanged{{Thing: "a"}}}, true},
		{messages.AssociationsChanged{Changes: make([]*messages.AssociationChanged, changesMax+1)}, false},
		{messages.OpenSession{}, false},
	} {
		d, err := Decide(State{}, facts(true), messages.Input{Command: c.command})
		if takes := err == nil && len(d.Events) > 0; takes != c.takes {
			t.Errorf("%+v is taken: %v, %v", c.command, takes, err)
		}
	}
}
