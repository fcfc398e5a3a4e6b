package dst

import (
	"context"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Sim is a whole Gatehouse in a world of its own, on one goroutine: one core, its brokers,
// its cloud. It implements Stage. Time is the true one since the beginning.
type Sim struct {
	plan    *Plan
	witness Witness
	dice    dice
	sched   *sched
	machine *machine
	host    *process // the core's machine without the core
	store   *store
	net     *net
	cloud   *cloud
	brokers []*broker
	clients []*conn         // of devices, the last of each; nil: it never connected
	others  map[int]*conn   // of clients that are no devices
	core    *core           // nil: the process does not run
	files   [2]file         // the section, the policy
	orders  map[*order]bool // of operators, that wait for their reply
	under   map[string]*spell
	off     bool // the machine has no power
	healed  bool // all faults are over, for good
	cuts    int  // of the power, and ends of them, so far
	cutAt   time.Duration
	wallOn  time.Duration // what the wall clock shows when there is power again

	keys    keys.Keys                  // of the core's authority
	removed map[messages.BrokerID]bool // brokers that may have no certificates

	lives   int
	orderNo uint64
}

// file is a document that operators write.
type file struct {
	doc   string
	by    *Action // nil: it was there from the start
	begun time.Duration
	told  bool // what became of it
}

// The files.
const (
	fileSection = iota
	filePolicy
)

// order is an operator's, on its way.
type order struct {
	number uint64
	action *Action
	begun  time.Duration
}

var _ Stage = (*Sim)(nil)

// NewSim makes the world of a plan, without its actions: a core that is about to start on an
// empty log, and brokers. keep is how many lines of the trace are kept.
func NewSim(p *Plan, w Witness, keep int) *Sim {
	s := newSched(p.Seed, newTracer(keep))
	m := &Sim{
		plan: p, witness: w, dice: diceOf(p.Seed, diceCore), sched: s, machine: newMachine(s, p.Setup.Battery), store: newStore(s, p.Seed),
		net: newNet(s, p.Seed, p.Brokers, s.park), cloud: newCloud(s, p.Seed, p.Devices-p.Setup.Newcomers, w),
		clients: make([]*conn, p.Devices), others: map[int]*conn{}, orders: map[*order]bool{}, under: map[string]*spell{},
		keys: newKeys(p.Seed), removed: map[messages.BrokerID]bool{},
	}
	m.files[fileSection].doc, m.files[filePolicy].doc = p.Setup.Section, p.Setup.Policy
	m.host = m.machine.process()
	m.net.host, m.net.pushed, m.store.witness = m.host, w.Pushed, w
	for i := range p.Brokers {
		m.brokers = append(m.brokers, &broker{sim: m, number: i})
		m.startBroker(m.brokers[i])
	}
	m.startCore()
	return m
}

// Close implements Stage.
func (m *Sim) Close() {
	if m.core != nil {
		m.core.kill()
		m.core = nil
	}
	for _, b := range m.brokers {
		b.kill()
	}
	m.sched.close()
	m.brokers, m.clients, m.others = nil, nil, nil // somebody may still have the Sim
}

// Now implements Stage.
func (m *Sim) Now() time.Duration { return m.sched.now }

// Steps implements Stage.
func (m *Sim) Steps() uint64 { return m.sched.steps }

// Step implements Stage.
func (m *Sim) Step(until time.Duration) bool { return m.sched.step(until) }

// Trace implements Stage.
func (m *Sim) Trace() Trace { return m.sched.trace.sum() }

// Last implements Stage.
func (m *Sim) Last() []string { return m.sched.trace.last() }

// Log implements Stage.
func (m *Sim) Log() eventlog.Log { return m.store.log }

// Core implements Stage.
func (m *Sim) Core() *Core {
	if m.core == nil || m.core.seen.Life == 0 {
		return nil
	}
	return &m.core.seen
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

// operate gives the core an operator's order.
func (m *Sim) operate(a *Action, c messages.Command) {
	m.orderNo++
	o := &order{number: m.orderNo, action: a, begun: m.sched.now}
	m.sched.soon(anAction, m.host, func() {
		core := m.core
		if core == nil || !core.ready {
			m.replied(o, messages.Refuse(messages.RefusedNotReady, "the core is not there"))
			return
		}
		m.orders[o] = true
		core.sys.Submit(context.Background(), c, messages.Cause{Request: "operator-" + strconv.Itoa(a.ID)}, func(r messages.Reply) {
			if !core.clock.dead && !core.failed && m.orders[o] {
				delete(m.orders, o)
				m.replied(o, r)
			}
		})
	})
}

func (m *Sim) replied(o *order, r messages.Reply) {
	t := m.sched.trace
	t.number('o', uint64(o.action.ID))
	if t.telling() {
		t.say("the order %v (action %d) is answered: %T %+v", o.action.Kind, o.action.ID, r, r)
	}
	m.witness.Replied(o.action, o.begun, r)
}

// unanswered has who ordered something know that no reply comes any more.
func (m *Sim) unanswered() {
	for len(m.orders) > 0 {
		var first *order
		for o := range m.orders {
			if first == nil || o.number < first.number {
				first = o
			}
		}
		delete(m.orders, first)
		m.replied(first, nil)
	}
}

// edit writes a file.
func (m *Sim) edit(which int, a *Action) {
	f := &m.files[which]
	if f.by != nil && !f.told {
		m.replied(&order{action: f.by, begun: f.begun}, nil) // nobody has read it
	}
	*f = file{doc: a.Text, by: a, begun: m.sched.now}
	m.sched.soon(anAction, m.host, func() {
		if m.core != nil {
			m.core.fileChanged()
		}
	})
}

// The core's process and machine.

// exits ends the core's process by itself; who supervises it starts it again after a while.
func (m *Sim) exits(c *core, why string) {
	m.sched.after(0, anAction, nil, func() {
		if m.core == c {
			m.crash(m.dice.key(uint64(m.sched.now)).spread(100*time.Millisecond, 10*time.Second), why)
		}
	})
}

// crash kills the core's process; it starts again after a while.
func (m *Sim) crash(after time.Duration, why string) {
	m.down(why)
	m.sched.after(after, anAction, m.host, m.up)
}

// restart stops the core's process in order; it starts again after a while.
func (m *Sim) restart(after time.Duration) {
	if m.core != nil {
		m.core.stop(func() { m.crash(m.awayFor(after), "asked to stop") })
	}
}

// awayFor is how long something is away that was to be for so long: once all is healed, what was
// under way comes to its end at once.
func (m *Sim) awayFor(d time.Duration) time.Duration {
	if m.healed {
		return 0
	}
	return d
}

// powerCut takes the machine's power away for a while. After it its wall clock is not
// synchronised, and shows what it did before, or with unset the year 1970, if it has no
// hardware clock.
func (m *Sim) powerCut(off time.Duration, unset bool, then func()) {
	m.down("the power is cut")
	if !m.off {
		m.off, m.cutAt = true, m.sched.now
	}
	m.cuts++
	if m.wallOn = m.machine.wall(); unset {
		m.wallOn = -time.Duration(Beginning.Unix()) * time.Second
	}
	cut := m.cuts
	m.sched.after(off, anAction, nil, func() {
		if m.cuts == cut { // else it was cut anew meanwhile, or the world is healed
			m.powerOn()
		}
		then()
	})
}

func (m *Sim) powerOn() {
	m.off = false
	m.cuts++
	m.machine.off(m.wallOn)
	m.witness.Booted(m.sched.now - m.cutAt)
	m.sched.trace.say("the machine starts (%s); its wall clock shows %v", m.machine.bootID, Beginning.Add(m.machine.wall()))
	m.up()
}

func (m *Sim) down(why string) {
	c := m.core
	if c == nil {
		return
	}
	m.sched.trace.say("the core's process ends: %s", why)
	c.kill()
	m.core = nil
	m.unanswered()
	m.witness.Died(c.life, why)
}

func (m *Sim) up() {
	if m.core == nil && !m.off {
		m.startCore()
	}
}
