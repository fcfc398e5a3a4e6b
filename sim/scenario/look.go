package scenario

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/messages"
)

type state struct {
	Expect stored `key:"expect" need:"yes" doc:"what is stored; a section that is not there is not looked at"`
}

type stored struct {
	Certs   map[alias]certState         `key:"certs" doc:"the certificates on record: no other is"`
	Things  map[thing]map[alias]seconds `key:"things" doc:"the things on record, no other is; for each, the certificates attached to it, and when that was last confirmed"`
	Pems    []alias                     `key:"pems" doc:"the certificates that are held themselves, to be asked about without the device"`
	Pending map[thing]alias             `key:"pending" doc:"the things that are pending, no other is; and by which certificate"`
	Clock   clockState                  `key:"clock" doc:"how well the core knows the time; uncertain: nobody knows how long the machine was off, so nothing from before counts; budget: it counts for less"`
}

type certState struct {
	Status        trustStatus `key:"status" need:"yes" doc:"ACTIVE: the last word about it was a yes"`
	LastUpdatedAt seconds     `key:"lastUpdatedAt" need:"yes" doc:"when that was"`
}

type trustStatus string

func (trustStatus) choices() []string { return []string{"ACTIVE"} }

type clockState string

func (clockState) choices() []string {
	return []string{string(actors.ClockCertain), string(actors.ClockUncertain), string(actors.ClockBudget)}
}

func (e *state) run(p *play) (problems []string, err error) {
	if e.Expect.Certs != nil {
		if problems, err = p.certsDiffer(problems, e.Expect.Certs); err != nil {
			return problems, err
		}
	}
	if e.Expect.Things != nil {
		if problems, err = p.thingsDiffer(problems, e.Expect.Things); err != nil {
			return problems, err
		}
	}
	if e.Expect.Pems != nil {
		held, err := p.world.Held()
		if err != nil {
			return problems, err
		}
		got := p.aliases(held)
		want := slices.Sorted(slices.Values(e.Expect.Pems))
		problems = differs(problems, "certificates held", fmt.Sprint(got), fmt.Sprint(want))
	}
	if e.Expect.Pending != nil {
		problems = p.pendingDiffer(problems, e.Expect.Pending)
	}
	if e.Expect.Clock != "" {
		problems = differs(problems, "clock", clockState(p.world.Clock()), e.Expect.Clock)
	}
	return problems, nil
}

// aliases names certificates as the scenario does, sorted; one that the scenario does
// not name by its id.
func (p *play) aliases(ids []messages.CertificateID) []alias {
	list := make([]alias, len(ids))
	for i, id := range ids {
		list[i] = p.aliasOf(id)
	}
	slices.Sort(list)
	return list
}

func (p *play) certsDiffer(problems []string, want map[alias]certState) ([]string, error) {
	for _, name := range slices.Sorted(maps.Keys(p.certs)) {
		id, err := p.id(name)
		if err != nil {
			return problems, err
		}
		got, w := p.world.Trust(id), want[name]
		switch _, wanted := want[name]; {
		case !wanted && got.Verified:
			problems = append(problems, fmt.Sprintf("certificate %s: on record since %v, want none", name, p.at(got.VerifiedMs)))
		case wanted && !got.Verified:
			problems = append(problems, fmt.Sprintf("certificate %s: not on record, want %s of %v", name, w.Status, w.LastUpdatedAt))
		case wanted:
			problems = differs(problems, fmt.Sprintf("certificate %s, last updated", name), p.at(got.VerifiedMs).snap(w.LastUpdatedAt), w.LastUpdatedAt)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if _, named := p.certs[name]; !named {
			problems = append(problems, fmt.Sprintf("certificate %s: no event before this one names it", name))
		}
	}
	return problems, nil
}

func (p *play) thingsDiffer(problems []string, want map[thing]map[alias]seconds) ([]string, error) {
	got := map[thing]map[alias]seconds{}
	for name, attachments := range p.world.Attachments() {
		got[thing(name)] = map[alias]seconds{}
		for id, ms := range attachments {
			cert := p.aliasOf(id)
			got[thing(name)][cert] = p.at(ms).snap(want[thing(name)][cert])
		}
	}
	if !maps.EqualFunc(got, want, maps.Equal) {
		problems = append(problems, fmt.Sprintf("things: %s, want %s", attachmentText(got), attachmentText(want)))
	}
	return problems, nil
}

func attachmentText(things map[thing]map[alias]seconds) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(things)) {
		var certs []string
		for _, cert := range slices.Sorted(maps.Keys(things[name])) {
			certs = append(certs, fmt.Sprintf("%s at %v", cert, things[name][cert]))
		}
		list = append(list, fmt.Sprintf("%s {%s}", name, strings.Join(certs, ", ")))
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}

type sessions struct {
	Live  map[thing]int       `key:"live" doc:"how many sessions are live, by thing: no other thing has one"`
	Ended map[thing]endReason `key:"ended" doc:"why a thing's latest session that did not end by the broker ended; a thing that is not named is not looked at"`
}

type endReason string

// reasonOf is a close reason as a file spells it: "trust-lapsed".
func reasonOf(r messages.CloseReason) endReason {
	return endReason(strings.ToLower(strings.ReplaceAll(strings.TrimPrefix(r.String(), "CLOSE_"), "_", "-")))
}

func (endReason) choices() []string {
	list := []string{"none"}
	for i := range messages.CloseReason_name {
		if r := messages.CloseReason(i); r != messages.CloseReason_CLOSE_UNSPECIFIED && r != messages.CloseReason_CLOSE_BY_BROKER {
			list = append(list, string(reasonOf(r)))
		}
	}
	slices.Sort(list)
	return list
}

func (e *sessions) run(p *play) (problems []string, err error) {
	if e.Live != nil {
		got := map[thing]int{}
		for name, n := range p.world.Sessions() {
			got[thing(name)] = n
		}
		want := maps.Clone(e.Live)
		maps.DeleteFunc(want, func(_ thing, n int) bool { return n == 0 })
		if !maps.Equal(got, want) {
			problems = append(problems, fmt.Sprintf("live sessions: %v, want %v", got, want))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Ended)) {
		got := endReason("none")
		for _, ended := range p.world.Ended() {
			if ended.Thing == messages.ThingName(name) && ended.Reason != messages.CloseReason_CLOSE_BY_BROKER {
				got = reasonOf(ended.Reason)
			}
		}
		problems = differs(problems, fmt.Sprintf("end of the session of %q", name), got, e.Ended[name])
	}
	return problems, nil
}

type logCounts struct {
	Expect map[eventKind]int `key:"expect" need:"yes" doc:"how many events of a kind are in the log; kinds that are not named are not counted"`
}

type eventKind string

func (eventKind) choices() []string {
	var list []string
	for _, k := range messages.AllKinds() {
		list = append(list, k.String())
	}
	slices.Sort(list)
	return list
}

func (e *logCounts) run(p *play) (problems []string, err error) {
	counts, err := p.world.LogCounts()
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(e.Expect)) {
		problems = differs(problems, string(name)+" events", counts[string(name)], e.Expect[name])
	}
	return problems, nil
}
