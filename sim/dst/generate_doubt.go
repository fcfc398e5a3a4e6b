package dst

import (
	"math/rand/v2"
	"time"
)

// doubts puts devices where it is decided by a hair whether they may come in: about the end of
// trust in an outage, in an outage right after the cloud said no, while a yes and a no are both
// on their way, and at a broker that does not hear that they are shut out.
func (m *maker) doubts() {
	if m.Herd != nil {
		return
	}
	r := planRand(m.Seed, planDoubts)
	for i, n := 0, len(m.Actions); i < n; i++ {
		switch a := m.Actions[i]; a.Kind {
		case FaultCloud:
			m.outlast(r, &a)
		case FaultCut, FaultNet, FaultBus, FaultCrash:
			if (a.Kind != FaultNet || a.How == "drop") && r.IntN(2) == 0 {
				m.unheard(r, &a)
			}
		case Deactivate, Detach:
			switch {
			case m.Faults.Has(CloudDown) && r.IntN(2) == 0:
				m.denied(r, &a)
			case m.Faults.Has(CloudSlow|CloudStale) && r.IntN(2) == 0:
				m.overtaken(r, &a)
			}
		}
	}
}

// outlast has devices come, and say something, about when trust ends in an outage that is
// longer.
func (m *maker) outlast(r *rand.Rand, a *Action) {
	section, err := readSection([]byte(m.Setup.Section))
	if err != nil || cloudFault(a.How) != CloudDown && a.How != "silent" || a.Rate != 0 || a.For < section.trust {
		return
	}
	for range 1 + r.IntN(4) {
		thing := r.IntN(m.Devices)
		at := a.At + time.Duration((.6+.8*r.Float64())*float64(section.trust)) + logDuration(r, time.Millisecond, 5*time.Minute)
		m.connect(at, thing, r.IntN(m.Brokers), 0)
		m.talk(r, thing, at, a.At+a.For, r.IntN(3))
	}
}

// denied has a device hear the cloud's no, and come again when the cloud is away.
func (m *maker) denied(r *rand.Rand, a *Action) {
	thing := a.Thing
	if a.Kind == Deactivate {
		thing = a.Cert.Of
	}
	heard := a.At + logDuration(r, time.Second, 10*time.Second)
	m.connect(heard, thing, r.IntN(m.Brokers), a.Cert.Gen)
	away := heard + logDuration(r, time.Second, 10*time.Second)
	m.add(Action{At: away, Kind: FaultCloud, How: []string{"down", "unreachable"}[r.IntN(2)], For: logDuration(r, 10*time.Second, 10*time.Minute)})
	for range 1 + r.IntN(3) {
		m.connect(away+logDuration(r, 10*time.Millisecond, 10*time.Second), thing, r.IntN(m.Brokers), a.Cert.Gen)
	}
}

// overtaken has many ask about a certificate at once while it is taken back, and answers
// that take their time.
func (m *maker) overtaken(r *rand.Rand, a *Action) {
	how := "stale"
	if m.Faults.Has(CloudSlow) {
		how = "slow"
	}
	m.add(Action{At: a.At - 3*time.Second, Kind: FaultCloud, How: how, For: 8 * time.Second, Amount: logDuration(r, 100*time.Millisecond, 2*time.Second), Rate: .5})
	for range 2 + r.IntN(6) {
		m.clients++
		at := a.At + time.Duration((r.Float64()-.5)*float64(2*time.Second)).Truncate(time.Microsecond)
		m.add(Action{At: at, Kind: Connect, Client: m.clients, Broker: r.IntN(m.Brokers), Thing: max(a.Cert.Of, 0), Cert: a.Cert})
	}
	at := a.At + logDuration(r, time.Second, 8*time.Second)
	m.add(Action{At: at, Kind: Publish, Client: m.clients, Name: ownTopic(max(a.Cert.Of, 0))})
}

// unheard has a device shut out while its broker cannot hear of it, and go on talking.
func (m *maker) unheard(r *rand.Rand, a *Action) {
	thing, broker := r.IntN(m.Devices), a.Broker
	if a.Kind == FaultBus || a.Kind == FaultCrash {
		broker = r.IntN(m.Brokers)
	}
	m.connect(a.At-5*time.Second, thing, broker, 0)
	m.add(Action{At: a.At - 2*time.Second, Kind: Publish, Client: thing, Name: ownTopic(thing)}) // its broker knows what it may
	at := a.At + logDuration(r, time.Millisecond, 2*time.Second)
	if a.Kind == FaultCrash {
		at = a.At - logDuration(r, 100*time.Microsecond, 20*time.Millisecond)
	}
	m.add(Action{At: at, Kind: Quarantine, Thing: thing})
	for range 4 {
		m.add(Action{At: at + 6600*time.Millisecond + logDuration(r, time.Millisecond, 50*time.Second), Kind: Publish, Client: thing, Name: ownTopic(thing)})
	}
	m.add(Action{At: at + 90*time.Second, Kind: Release, Thing: thing})
}
