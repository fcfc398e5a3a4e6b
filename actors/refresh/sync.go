// Package refresh decides about the daily refresh of all stored trust (client-device-auth
// spec 5.5): when it is due, what a listing of the associated things means, and what to
// ask again. It is pure.
//
// It leaves the reference where that loses trust or keeps it wrongly: the due time is in
// the log, so that restarts do not postpone it; nothing is removed but after a complete
// listing, nor at the word of a single one.
package refresh

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The schedule, in milliseconds of trust time.
const (
	PeriodMs     = int64(24 * time.Hour / time.Millisecond)
	retryAwayMs  = int64(15 * time.Minute / time.Millisecond) // after a listing that did not reach the service
	ConfirmAfter = 5 * time.Minute                            // between the two listings of a removal in doubt (reliability spec, D4c)
)

// Changes that one command may record: a batch of the log takes 1,024 events.
const changesMax = 1000

// Facts is what the sync entity needs to know beyond its own stream.
type Facts struct {
	NetworkUp bool           // the state of the core's link to the cloud
	InHandMs  int64          // when the refresh began that is being carried out; 0: none is
	Trust     messages.Trust // the rule by which stored answers count
}

// State is the state of the sync entity. Times are trust milliseconds; 0 is never.
type State struct {
	DueMs     int64 // when the next refresh is due
	RunningMs int64 // when the one under way began
	SinceMs   int64 // when one that was broken off began, which nothing but its repetition has followed
}

// Decide judges one command about the refresh, and records whether the network is there.
func Decide(s State, f Facts, in messages.Input) (messages.Decision, error) {
	switch c := in.Command.(type) {
	case messages.RunRefresh:
		return run(s, f, c, in.At.TrustMs), nil
	case messages.AssociationsListed:
		return listed(s, f, c, in.At.TrustMs), nil
	case messages.AssociationsChanged:
		return changed(c)
	case messages.Refreshed:
		return completed(s, c), nil
	case messages.Note:
		if e, ok := c.Event.(*messages.NetworkChanged); ok {
			return messages.Decision{Events: []messages.Event{e}, Reply: messages.Done{}}, nil
		}
		return messages.Decision{}, fmt.Errorf("sync: %T does not belong here", c.Event)
	default:
		return messages.Decision{}, fmt.Errorf("sync: unexpected command %T", c)
	}
}

// run begins a refresh, if one is due and the cloud is there. One that is under way by the
// log alone is broken off, and due: it ended with the process, or what came of it could
// not be put on record.
func run(s State, f Facts, c messages.RunRefresh, nowMs int64) messages.Decision {
	var d messages.Decision
	answer := func(outcome messages.RefreshOutcome) messages.Decision {
		d.Reply = messages.RefreshAnswer{Outcome: outcome, DueMs: s.DueMs}
		return d
	}
	happen := func(e messages.Event) {
		d.Events = append(d.Events, e)
		s = Evolve(s, e, messages.Instant{TrustMs: nowMs})
	}
	if s.RunningMs != 0 && s.RunningMs != f.InHandMs {
		happen(&messages.RefreshFailed{Reason: "the core stopped during the refresh, or could not record what came of it", NextDueMs: s.RunningMs, BrokenOff: true})
	}
	if s.DueMs == 0 {
		happen(&messages.RefreshPlanned{DueMs: nowMs + PeriodMs, Reason: "the core started for the first time"})
	}
	switch {
	case s.RunningMs != 0:
		return answer(messages.RefreshUnderWay)
	case !due(s, nowMs) && !c.Force:
		return answer(messages.RefreshNotDue)
	case !f.NetworkUp:
		return answer(messages.RefreshOffline)
	}
	happen(&messages.RefreshStarted{DueMs: s.DueMs})
	d.Effects = []messages.Effect{messages.ListAssociations{StartedMs: nowMs}}
	return answer(messages.RefreshBegun)
}

// due reports whether a refresh is due. One that is further ahead than a period was
// planned by a clock that has been set right since.
func due(s State, nowMs int64) bool { return nowMs >= s.DueMs || s.DueMs > nowMs+PeriodMs }

// listed takes a listing: one that is not complete changes nothing, and with the guard none
// removes anything unless a second one says the same. A page that lacks a device, or an end
// that comes early, cannot be told from the truth otherwise.
func listed(s State, f Facts, c messages.AssociationsListed, nowMs int64) messages.Decision {
	d := messages.Decision{Reply: messages.Done{}}
	if s.RunningMs == 0 || s.RunningMs != c.Of.StartedMs {
		return d // of a refresh that has ended
	}
	if !c.List.Complete {
		nextMs := s.RunningMs + PeriodMs
		if c.List.Failure == messages.FailureUnreachable { // as if the network had been down: it stays due
			nextMs = nowMs + retryAwayMs
		}
		d.Events = []messages.Event{&messages.RefreshFailed{Reason: c.List.Detail, NextDueMs: nextMs}}
		return d
	}
	plan := Plan(c.Held, c.List.Things, f.Trust, s.renewedSince(nowMs), nowMs)
	if c.Guard && len(plan.Forget) > 0 {
		if c.Of.Former == nil {
			return again(c, plan.Forget, nowMs)
		}
		plan = confirmed(plan, f, s, c, nowMs)
	}
	d.Effects = []messages.Effect{messages.Reverify{StartedMs: c.Of.StartedMs, Listed: len(c.List.Things), Plan: plan}}
	return d
}

// again has the things listed once more before those in forget go: at once, or after a
// while, which is put on record, if the listing is in doubt.
func again(c messages.AssociationsListed, forget []messages.ThingName, nowMs int64) messages.Decision {
	d := messages.Decision{Reply: messages.Done{}}
	second := messages.ListAssociations{StartedMs: c.Of.StartedMs, Former: forget}
	if doubtful(len(c.Held.Things), len(forget), len(c.List.Things)) {
		second.Delay = ConfirmAfter
		d.Events = []messages.Event{&messages.RefreshPlanned{
			DueMs: nowMs + ConfirmAfter.Milliseconds(), Listed: uint64(len(c.List.Things)), Removals: uint64(len(forget)),
			Reason: fmt.Sprintf("the listing lacks %d of %d things held here: nothing is removed unless a second one says the same", len(forget), len(c.Held.Things)),
		}}
	}
	d.Effects = []messages.Effect{second}
	return d
}

// The mass-removal guard (design.md, section 6; reliability spec, D4c).
const (
	guardThings  = 50  // fewer removals are confirmed at once …
	guardPercent = 20  // … and so is this share of what is held
	pageThings   = 100 // on a full page of the listing
)

// doubtful reports whether the second listing has to wait: the first would remove many and
// a good part; or it ends with a full page, or is empty, as one that was cut short would.
// Whatever cut it short may last a while.
func doubtful(held, removals, listed int) bool {
	return removals > 0 && listed%pageThings == 0 || removals > guardThings && removals*100 > held*guardPercent
}

// confirmed makes the plan anew of two listings: what only one of them lacks stays for now.
func confirmed(plan messages.RefreshPlan, f Facts, s State, c messages.AssociationsListed, nowMs int64) messages.RefreshPlan {
	things := slices.Clone(c.List.Things)
	for _, thing := range plan.Forget {
		if _, twice := slices.BinarySearch(c.Of.Former, thing); !twice {
			things = append(things, thing)
		}
	}
	slices.Sort(things)
	return Plan(c.Held, things, f.Trust, s.renewedSince(nowMs), nowMs)
}

// changed records who joined and who left.
func changed(c messages.AssociationsChanged) (messages.Decision, error) {
	if len(c.Changes) > changesMax {
		return messages.Decision{}, fmt.Errorf("sync: %d changes at once, at most %d", len(c.Changes), changesMax)
	}
	d := messages.Decision{Reply: messages.Done{}}
	for _, e := range c.Changes {
		d.Events = append(d.Events, e)
	}
	return d, nil
}

func completed(s State, c messages.Refreshed) messages.Decision {
	d := messages.Decision{Reply: messages.Done{}}
	if s.RunningMs == 0 || s.RunningMs != c.StartedMs {
		return d
	}
	d.Events = []messages.Event{&messages.RefreshCompleted{
		Listed: uint64(c.Listed), Renewed: uint64(c.Renewed), Removed: uint64(c.Removed),
		Denied: uint64(c.Denied), Unanswered: uint64(c.Unanswered), NextDueMs: s.RunningMs + PeriodMs,
	}}
	return d
}

// Evolve folds one event. It cannot fail: what is in the log happened.
func Evolve(s State, e messages.Event, at messages.Instant) State {
	switch e := e.(type) {
	case *messages.RefreshPlanned:
		if s.RunningMs == 0 { // else it is the second listing of the one under way
			s.DueMs = e.DueMs
		}
	case *messages.RefreshStarted:
		s.RunningMs = at.TrustMs
	case *messages.RefreshCompleted:
		s = State{DueMs: e.NextDueMs}
	case *messages.RefreshFailed:
		var sinceMs int64
		if e.BrokenOff {
			sinceMs = cmp.Or(s.renewedSince(s.RunningMs), s.RunningMs)
		}
		s = State{DueMs: e.NextDueMs, SinceMs: sinceMs}
	}
	return s
}

// renewedSince is the moment since which what was renewed need not be asked about again;
// 0: all must be. A refresh that was broken off saves the next one its questions for a
// period, or trust that was never asked about would pass for renewed.
func (s State) renewedSince(nowMs int64) int64 {
	if s.SinceMs > nowMs || nowMs-s.SinceMs >= PeriodMs {
		return 0
	}
	return s.SinceMs
}
