package dst

import (
	"math/rand/v2"
	"slices"
	"time"
)

// operators makes up what people do at the core.
func (m *maker) operators() {
	r := planRand(m.Seed, planOperator)
	for range int(logUniform(r, 1, 24, 1)) - 1 {
		at, thing := m.at(r), r.IntN(m.Devices)
		switch pick(r, 4, 2, 4, 2, 1, 1) {
		case 0:
			m.add(Action{At: at, Kind: Quarantine, Thing: thing})
			m.insist(r, at, thing)
			if r.IntN(4) > 0 {
				m.add(Action{At: at + logDuration(r, time.Millisecond, m.Duration/2), Kind: Release, Thing: thing})
			}
		case 1:
			m.add(Action{At: at, Kind: Forget, Thing: thing})
			m.insist(r, at, thing)
		case 2:
			m.add(Action{At: at, Kind: EditPolicy, Text: policyText(r, m.Plan, []float64{.3, .7, 1}[r.IntN(3)])})
			m.insist(r, at, thing)
			if r.IntN(2) == 0 { // and back
				m.add(Action{At: at + logDuration(r, time.Millisecond, m.Duration/4), Kind: EditPolicy, Text: m.Setup.Policy})
			}
		case 3:
			m.add(Action{At: at, Kind: EditSection, Text: sectionText(r, m.Plan)})
		case 4:
			m.add(Action{At: at, Kind: EditPolicy, Text: badPolicy(r, m.Plan)})
		default:
			if m.Setup.Certified {
				m.add(Action{At: at, Kind: RotateAuth})
			} else {
				m.add(Action{At: at, Kind: Restart, Amount: logDuration(r, 100*time.Millisecond, time.Minute)})
			}
		}
	}
}

// insist has a device, which may have been shut out at that moment, try around it.
func (m *maker) insist(r *rand.Rand, at time.Duration, i int) {
	for range r.IntN(4) {
		t := at + logDuration(r, time.Microsecond, 20*time.Second)
		if r.IntN(2) == 0 {
			m.connect(t, i, r.IntN(m.Brokers), 0)
		} else {
			m.add(Action{At: t, Kind: Publish, Client: i, Name: ownTopic(i)})
		}
	}
}

// registry makes up what changes in the cloud.
func (m *maker) registry() {
	r := planRand(m.Seed, planRegistry)
	for range int(logUniform(r, 1, 16, 1)) - 1 {
		at, thing := m.at(r), r.IntN(m.Devices)
		cert := m.certOf(thing, 0)
		back := at + logDuration(r, time.Millisecond, m.Duration/2)
		undo := r.IntN(2) == 0
		switch pick(r, 4, 4, 2, 1, 1) {
		case 0:
			m.add(Action{At: at, Kind: Deactivate, Cert: cert})
			m.insist(r, at, thing)
			if undo {
				m.add(Action{At: back, Kind: Activate, Cert: cert})
			}
		case 1:
			m.add(Action{At: at, Kind: Detach, Thing: thing, Cert: cert})
			m.insist(r, at, thing)
			if undo {
				m.add(Action{At: back, Kind: Attach, Thing: thing, Cert: cert})
			}
		case 2:
			m.add(Action{At: at, Kind: Dissociate, Thing: thing})
			if undo {
				m.add(Action{At: back, Kind: Associate, Thing: thing})
			}
		case 3: // of many
			count := r.IntN(m.Devices - thing)
			m.add(Action{At: at, Kind: Dissociate, Thing: thing, Count: count})
			if undo {
				m.add(Action{At: back, Kind: Associate, Thing: thing, Count: count})
			}
		default: // to another thing
			other := r.IntN(m.Devices)
			m.add(Action{At: at, Kind: Attach, Thing: other, Cert: cert})
			m.add(Action{At: at + time.Second, Kind: Connect, Client: thing, Broker: r.IntN(m.Brokers), Thing: other, Cert: cert})
			if undo {
				m.add(Action{At: back, Kind: Detach, Thing: other, Cert: cert})
			}
		}
	}
	for i := m.Devices - m.Setup.Newcomers; i < m.Devices; i++ { // somebody registers them by hand
		if m.Devices <= herdAbove && r.IntN(2) == 0 {
			at := m.at(r)
			m.add(Action{At: at, Kind: Activate, Cert: m.certOf(i, 0)})
			m.add(Action{At: at + time.Second, Kind: Attach, Thing: i, Cert: m.certOf(i, 0)})
			m.connect(at+2*time.Second, i, r.IntN(m.Brokers), 0)
		}
	}
}

// faults makes up what breaks, of the kinds that may.
func (m *maker) faults() {
	for i := range faultNames {
		kind := Faults(1) << i
		r := planRand(m.Seed, planFaults<<8+uint64(i))
		times := 1 + pick(r, 5, 3, 1, 1)
		if m.Herd != nil {
			times = 1
		}
		for range times {
			a := m.fault(r, kind)
			a.At = m.at(r)
			if m.Faults.Has(kind) {
				m.add(a)
			}
		}
	}
	if r := planRand(m.Seed, planFaults); m.Herd != nil && m.Faults.Has(CloudDown) { // three outages
		for range 2 {
			m.add(Action{At: m.at(r), Kind: FaultCloud, How: "down", For: m.Duration / 20})
		}
	}
}

// fault makes up one fault of a kind.
func (m *maker) fault(r *rand.Rand, kind Faults) Action {
	lasts := logDuration(r, 100*time.Millisecond, max(time.Second, m.Duration/3))
	a := Action{For: lasts, Broker: r.IntN(m.Brokers), Rate: []float64{.02, .2, .7}[r.IntN(3)]}
	switch kind {
	case StoreSlow, StoreError, StoreFull, SnapshotLost:
		a.Kind, a.Broker = FaultStore, 0
		a.How = map[Faults]string{StoreSlow: "slow", StoreError: "error", StoreFull: "full", SnapshotLost: "snapshots"}[kind]
		a.Amount = logDuration(r, time.Millisecond, 3*time.Second)
	case NetDrop, NetDelay, NetDuplicate:
		a.Kind, a.How = FaultNet, map[Faults]string{NetDrop: "drop", NetDelay: "delay", NetDuplicate: "duplicate"}[kind]
		a.Amount = logDuration(r, time.Millisecond, 4*time.Second)
	case NetPartition:
		a.Kind, a.How = FaultCut, kinds[FaultCut].hows[r.IntN(4)]
	case NetRestart:
		a.Kind, a.Amount = FaultBus, logDuration(r, 100*time.Millisecond, time.Minute)
	case CloudDown, CloudSlow, CloudErrors, CloudStale, CloudListing, CloudTime:
		m.cloudFault(r, kind, &a)
	case Crash, PowerCut, BrokerCrash, Suspend, ClockUnset:
		a.Kind = map[Faults]Kind{Crash: FaultCrash, PowerCut: FaultPower, BrokerCrash: FaultBroker, Suspend: FaultSuspend, ClockUnset: FaultReboot}[kind]
		a.For, a.Rate, a.Amount = 0, 0, logDuration(r, 100*time.Millisecond, max(time.Second, m.Duration/6))
		if kind == ClockUnset || kind == PowerCut && m.Faults.Has(ClockUnset) && r.IntN(2) == 0 {
			a.How = "unset"
		}
	case ClockDrift:
		a.Kind, a.How, a.Rate = FaultClock, "drift", (r.Float64()*2-1)*.01
	case ClockJump:
		a.Kind, a.How = FaultClock, []string{"jump", "unsynced", "lie"}[pick(r, 4, 2, 1)]
		a.Amount = logDuration(r, time.Second, 10*365*24*time.Hour)
		if a.How == "jump" && r.IntN(2) == 0 {
			a.Amount = -a.Amount
		}
	}
	if a.Kind != FaultNet && a.Kind != FaultCut && a.Kind != FaultBroker {
		a.Broker = 0
	}
	return a
}

func (m *maker) cloudFault(r *rand.Rand, kind Faults, a *Action) {
	a.Kind, a.Broker = FaultCloud, 0
	hows := slices.DeleteFunc(slices.Clone(CloudWays), func(how string) bool { return cloudFault(how) != kind })
	a.How = hows[r.IntN(len(hows))]
	a.Amount = logDuration(r, 10*time.Millisecond, 20*time.Second)
	switch {
	case a.How == "time":
		// Back by less than certificates are valid at the beginning: a clock that two answers set
		// before that refuses all, and nobody asks the cloud again until trust is refreshed.
		if a.Amount = logDuration(r, time.Second, 1000*time.Hour); r.IntN(2) == 0 {
			a.Amount = -min(a.Amount, validBefore-4*time.Hour)
		}
	case r.IntN(2) == 0:
		a.Rate = 0 // always
	}
}

// align puts faults where they hurt: right after something was decided, or into another
// fault.
func (m *maker) align() {
	r := planRand(m.Seed, planAligned)
	var near []Action
	for i := range m.Actions {
		a := &m.Actions[i]
		soon := a.At + logDuration(r, time.Microsecond, 3*time.Second)
		if r.IntN(3) > 0 {
			continue
		}
		switch a.Kind {
		case Quarantine, Forget, EditPolicy, EditSection, Deactivate, Detach, Release:
			near = append(near, m.afterRevoke(r, soon))
		case FaultCloud:
			near = append(near, m.insideOutage(r, soon))
		case FaultCrash, FaultPower:
			if m.Faults.Has(NetDuplicate) {
				near = append(near, Action{At: a.At - time.Second, Kind: FaultNet, How: "duplicate", For: a.Amount + 5*time.Second, Rate: .7, Broker: r.IntN(m.Brokers), Amount: 2 * time.Second})
			}
		}
	}
	for _, a := range near {
		if a.Kind != 0 {
			m.add(a)
		}
	}
}

func (m *maker) afterRevoke(r *rand.Rand, at time.Duration) Action {
	switch kind := (Faults)(1) << r.IntN(len(faultNames)); {
	case !m.Faults.Has(kind):
		return Action{}
	default:
		a := m.fault(r, kind)
		a.At = at
		return a
	}
}

func (m *maker) insideOutage(r *rand.Rand, at time.Duration) Action {
	switch {
	case m.Faults.Has(ClockUnset):
		return Action{At: at, Kind: FaultReboot, How: "unset", Amount: logDuration(r, time.Second, time.Hour)}
	case m.Faults.Has(Crash):
		return Action{At: at, Kind: FaultCrash, Amount: logDuration(r, 100*time.Millisecond, 10*time.Second)}
	}
	return Action{}
}
