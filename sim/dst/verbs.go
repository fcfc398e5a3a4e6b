package dst

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Do implements Stage.
func (m *Sim) Do(a *Action) {
	t := m.sched.trace
	t.now = m.sched.now
	t.number('!', uint64(a.ID)<<8|uint64(a.Kind))
	if t.telling() {
		t.say("action %d: %v %s", a.ID, a.Kind, a.How)
	}
	if a.Kind >= FaultStore {
		m.doFault(a)
		return
	}
	switch a.Kind {
	case Connect, Disconnect, Vanish, Publish, Subscribe:
		m.doClient(a)
	case Quarantine:
		m.operate(a, messages.QuarantineDevice{Thing: ThingOf(a.Thing), Source: messages.Source_SOURCE_OPERATOR, Reason: "operator: simulated"})
	case Release:
		m.operate(a, messages.ReleaseDevice{Thing: ThingOf(a.Thing), Source: messages.Source_SOURCE_OPERATOR, Reason: "operator: simulated"})
	case Forget:
		m.operate(a, messages.ForgetDevice{Thing: ThingOf(a.Thing), Source: messages.Source_SOURCE_OPERATOR, Reason: "operator: simulated"})
	case EditPolicy:
		m.edit(filePolicy, a)
	case EditSection:
		m.edit(fileSection, a)
	case RotateAuth:
		m.rotate(a)
	case RemoveBrokers:
		m.remove(BrokerOf(a.Broker))
	case AskedRefresh:
		m.operate(a, messages.RunRefresh{Force: true})
	case Activate, Deactivate:
		m.cloud.registry.setCertificate(m.sched.now, IDOf(a.Cert), a.Kind == Activate)
	case Attach, Detach:
		m.cloud.registry.setAttached(m.sched.now, ThingOf(a.Thing), IDOf(a.Cert), a.Kind == Attach)
	case Associate, Dissociate:
		for i := a.Thing; i <= a.Thing+max(a.Count, 1)-1; i++ {
			m.cloud.registry.setAssociated(i, a.Kind == Associate)
		}
	}
}

func (m *Sim) doClient(a *Action) {
	c := m.connOf(a.Client)
	if a.Kind == Connect {
		name := a.Name
		if name == "" {
			name = string(ThingOf(a.Thing))
		}
		if c != nil {
			m.vanish(c) // it has but one antenna
		}
		c = &conn{client: a.Client, broker: a.Broker, name: name, cert: a.Cert}
		if a.Client < len(m.clients) {
			m.clients[a.Client] = c
		} else {
			m.others[a.Client] = c
		}
		m.brokers[a.Broker].connect(c)
		return
	}
	if c == nil || c.gone {
		return
	}
	switch a.Kind {
	case Disconnect:
		c.gone = true
		m.brokers[c.broker].leave(c)
	case Vanish:
		m.vanish(c)
	default:
		m.brokers[c.broker].act(c, a.Kind, a.Name)
	}
}

func (m *Sim) connOf(client int) *conn {
	if client < len(m.clients) {
		return m.clients[client]
	}
	return m.others[client]
}

// A broker notices that a client is gone without a word when its keep-alive has passed.
const (
	keepAliveMin = 5 * time.Second
	keepAliveMax = 2 * time.Minute
)

func (m *Sim) vanish(c *conn) {
	if c.gone {
		return
	}
	c.gone = true
	b := m.brokers[c.broker]
	m.sched.after(m.dice.key(uint64(m.sched.now)).spread(keepAliveMin, keepAliveMax), anAction, b.clock, func() { b.leave(c) })
}

// spell is a fault that lasts.
type spell struct {
	of  Faults
	end func()
}

// last begins a fault that lasts as the action says, in place of one of the same name.
func (m *Sim) last(name string, a *Action, end func()) {
	m.over(name)
	sp := &spell{of: a.Fault(), end: end}
	m.under[name] = sp
	m.witness.Fault(sp.of)
	if a.For > 0 {
		m.sched.after(a.For, anAction, nil, func() {
			if m.under[name] == sp {
				m.over(name)
			}
		})
	}
}

func (m *Sim) over(name string) {
	if sp := m.under[name]; sp != nil {
		delete(m.under, name)
		sp.end()
		m.witness.Over(sp.of)
	}
}

// strike is a fault of a moment, or one whose end is told by over.
func (m *Sim) strike(a *Action) (over func()) {
	f := a.Fault()
	m.witness.Fault(f)
	return func() { m.witness.Over(f) }
}

func (m *Sim) doFault(a *Action) {
	switch a.Kind {
	case FaultStore:
		m.faultStore(a)
	case FaultNet:
		m.faultNet(a)
	case FaultCut:
		b := a.Broker
		m.last("cut "+itoa(uint64(b)), a, func() { m.net.mend(b) })
		m.net.cut(b, a.How != "to-broker", a.How != "to-core", a.How != "both")
	case FaultBus:
		over := m.strike(a)
		m.net.restart(a.Amount, over)
	case FaultCloud:
		way := wayOf(a.How)
		m.last("cloud "+a.How, a, func() { m.cloud.trouble[way] = trouble{} })
		m.cloud.trouble[way] = trouble{on: true, rate: a.Rate, amount: a.Amount}
	case FaultCrash:
		m.strike(a)()
		m.crash(a.Amount, "killed")
	case FaultPower:
		m.powerCut(a.Amount, a.How == "unset", m.strike(a))
	case FaultReboot:
		over := m.strike(a)
		reboot := func() { m.powerCut(m.awayFor(a.Amount), a.How == "unset", over) }
		if m.core == nil {
			reboot()
			return
		}
		m.core.stop(reboot)
	case FaultBroker:
		m.crashBroker(m.brokers[a.Broker], a.Amount, m.strike(a))
	case FaultClock:
		m.faultClock(a)
	case FaultSuspend:
		m.sched.after(a.Amount, anAction, nil, m.strike(a))
		m.machine.suspend(a.Amount)
	case Restart:
		m.restart(a.Amount)
	}
}

func (m *Sim) faultStore(a *Action) {
	d := m.store
	switch a.How {
	case "slow":
		m.last("store slow", a, func() { d.slow = 0 })
		d.slow = a.Amount
	case "error":
		d.failing = true
		m.strike(a)()
	case "full":
		m.last("store full", a, func() { d.fill(false) })
		d.fill(true)
	case "snapshots":
		m.last("store snapshots", a, func() { d.rotten = 0 })
		if d.rotten = a.Rate; a.Rate == 0 {
			d.rotten = 1
		}
	}
}

func (m *Sim) faultNet(a *Action) {
	l, rate := &m.net.links[a.Broker], a.Rate
	if rate == 0 {
		rate = 1
	}
	name := "net " + a.How + itoa(uint64(a.Broker))
	switch a.How {
	case "drop":
		m.last(name, a, func() { l.drop = 0 })
		l.drop = rate
	case "delay":
		m.last(name, a, func() { l.delayed = 0 })
		l.delayed, l.delay = rate, a.Amount
	case "duplicate":
		m.last(name, a, func() { l.duplicate = 0 })
		l.duplicate = rate
	}
}

func (m *Sim) faultClock(a *Action) {
	switch a.How {
	case "drift":
		m.last("clock drift", a, func() { m.machine.drift(1) })
		m.machine.drift(1 + a.Rate)
		return
	case "synced":
		m.over("clock")
		m.machine.correct()
		return
	}
	m.last("clock", a, m.machine.correct)
	m.machine.setSynced(a.How == "lie")
	if a.How != "unsynced" {
		m.machine.setWall(m.sched.now + a.Amount)
	}
}

// Heal implements Stage.
func (m *Sim) Heal() {
	m.sched.trace.now = m.sched.now
	m.sched.trace.say("everything is healed")
	m.healed = true
	m.sched.calm()
	for _, name := range sorted(m.under) {
		m.over(name)
	}
	m.store.failing = false
	m.net.heal()
	if m.off {
		m.powerOn()
	}
	m.machine.drift(1)
	m.machine.correct()
	m.machine.wake()
	for _, b := range m.brokers {
		if !b.up {
			m.startBroker(b)
		}
	}
	m.up()
}
