package dst

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// conn is one connection of a client with a broker, or its try at one.
type conn struct {
	client int
	broker int
	name   string // the id that it claims
	cert   Cert
	open   bool // the broker has let it in, and it is still there
	gone   bool // the client is not there any more
	life   int  // of the broker

	thing   messages.ThingName
	token   messages.Token
	session messages.TokenDigest
}

// broker is one broker: who connects to it is authenticated by the core.
type broker struct {
	sim      *Sim
	number   int
	clock    *process
	life     int
	up       bool
	sessions map[messages.TokenDigest]*conn
	names    map[string]*conn // by client id: a second one takes the place of the first
}

// askMax is how long a broker waits for an answer.
const askMax = 2 * time.Second

func (m *Sim) startBroker(b *broker) {
	b.life++
	b.up, b.sessions, b.names = true, map[messages.TokenDigest]*conn{}, map[string]*conn{}
	b.clock = newMachine(m.sched, true).process()
}

// answered tells what became of what a client asked for.
func (b *broker) answered(op Kind, c *conn, begun time.Duration, o Outcome, name, why string) {
	m := b.sim
	t := m.sched.trace
	t.number('a', uint64(c.client)<<16|uint64(op)<<8|uint64(o))
	t.text('w', why)
	if t.telling() {
		t.say("client %d (%s) at %s, %v %s: %v %s", c.client, c.name, BrokerOf(b.number), op, name, o, why)
	}
	a := Ask{
		Op: op, Client: c.client, Broker: b.number, Begun: begun, Outcome: o, Name: name, Session: c.session, ClientThing: c.thing,
	}
	if op == Connect {
		a.Cert, a.CertID = c.cert, IDOf(c.cert)
	}
	m.witness.Asked(&a)
}

// ask puts a request to the core. What comes of it is told once; late, that nobody answers.
func (b *broker) ask(request func(c *core, reply func(tell func())), late func()) {
	m, of := b.sim, b.clock
	over := false
	once := func(f func()) {
		if !over && !of.dead {
			over = true
			f()
		}
	}
	of.AfterFunc(askMax, func() { once(late) })
	m.net.carry(b.number, true, func() {
		c := m.core
		if c == nil || !c.ready {
			m.net.carry(b.number, false, func() { once(late) }) // no responders, or NotReady
			return
		}
		request(c, func(tell func()) {
			if c.clock.dead || c.failed {
				return
			}
			m.net.carry(b.number, false, func() { once(tell) })
		})
	})
}

// connect lets a client in, if the core says so.
func (b *broker) connect(c *conn) {
	m := b.sim
	begun := m.sched.now
	if !b.up {
		b.answered(Connect, c, begun, Unavailable, c.name, "the broker is down")
		return
	}
	c.life = b.life
	m.requests++
	request := "r" + itoa(m.requests)
	der := DER(c.cert)
	b.ask(func(core *core, reply func(func())) {
		core.gate.Authenticate(core.caller(b.number, request), c.name, der, func(g brokers.Grant, err error) {
			reply(func() { b.granted(c, begun, g, err) })
		})
	}, func() { b.answered(Connect, c, begun, Unavailable, c.name, "no answer in time") })
}

func (b *broker) granted(c *conn, begun time.Duration, g brokers.Grant, err error) {
	switch {
	case err != nil:
		o, why := outcomeOf(err)
		b.answered(Connect, c, begun, o, c.name, why)
	case !g.ConnectAuthorized:
		b.answered(Connect, c, begun, Denied, c.name, "the policy does not let it connect")
	default:
		if former := b.names[c.name]; former != nil {
			former.gone = true
			b.leave(former)
		}
		c.token, c.session, c.thing, c.open = g.Token, g.Token.Digest(), g.Thing, true
		b.sessions[c.session], b.names[c.name] = c, c
		b.answered(Connect, c, begun, Allowed, c.name, "")
		if c.gone {
			b.leave(c)
		}
	}
}

// outcomeOf is what a client is told of an error.
func outcomeOf(err error) (Outcome, string) {
	r, ok := errors.AsType[*messages.Refusal](err)
	if !ok {
		return Unavailable, err.Error()
	}
	switch r.Code {
	case messages.RefusedInvalidCredential, messages.RefusedInvalidArguments:
		return Denied, r.Reason
	case messages.RefusedInvalidToken:
		return Closed, r.Reason
	case messages.RefusedBusy:
		return Busy, r.Reason
	}
	return Unavailable, r.Reason
}

// act asks whether a client may do something.
func (b *broker) act(c *conn, op Kind, name string) {
	begun := b.sim.sched.now
	if !c.open {
		return
	}
	operation, resource := "mqtt:publish", "mqtt:topic:"+name
	if op == Subscribe {
		operation, resource = "mqtt:subscribe", "mqtt:topicfilter:"+name
	}
	b.ask(func(core *core, reply func(func())) {
		v, err := core.gate.Authorize(BrokerOf(b.number), []byte(string(c.token)), []byte(operation), []byte(resource))
		reply(func() {
			o := Denied
			switch {
			case !c.open:
				o = Closed
			case err != nil:
				o, _ = outcomeOf(err)
			case v.Allowed:
				o = Allowed
			}
			b.answered(op, c, begun, o, name, "")
			if o == Closed && c.open {
				b.drop(c, "the core does not know the session any more")
			}
		})
	}, func() { b.answered(op, c, begun, Unavailable, name, "no answer in time") })
}

// leave is a client that has gone away.
func (b *broker) leave(c *conn) {
	if !c.open || c.life != b.life {
		return
	}
	b.forget(c)
	b.ask(func(core *core, reply func(func())) {
		core.gate.CloseSession(core.caller(b.number, "close"), []byte(string(c.token)), func(error) { reply(func() {}) })
	}, func() {})
}

func (b *broker) forget(c *conn) {
	c.open = false
	delete(b.sessions, c.session)
	if b.names[c.name] == c {
		delete(b.names, c.name)
	}
}

// drop ends a client's connection.
func (b *broker) drop(c *conn, why string) {
	b.forget(c)
	t := b.sim.sched.trace
	t.number('D', uint64(c.client))
	t.text('w', why)
	if t.telling() {
		t.say("client %d (%s) at %s is disconnected: %s", c.client, c.name, BrokerOf(b.number), why)
	}
	b.sim.witness.Dropped(c.client, b.number, c.session, why)
}

// crashBroker ends a broker's process, and all connections with it; another starts after a
// while.
func (m *Sim) crashBroker(b *broker, after time.Duration, over func()) {
	if b.up {
		b.up = false
		b.clock.kill()
		lost := slices.SortedFunc(maps.Values(b.sessions), func(x, y *conn) int { return x.client - y.client })
		for _, c := range lost {
			b.drop(c, "the broker died")
		}
	}
	m.sched.after(after, anAction, nil, func() {
		if !b.up {
			m.startBroker(b)
		}
		over()
	})
}

// pushClosed tells a broker that a session has ended.
func (m *Sim) pushClosed(s *projections.Session, reason messages.CloseReason, detail string) {
	i := slices.IndexFunc(m.brokers, func(b *broker) bool { return BrokerOf(b.number) == s.Broker })
	if i < 0 {
		return
	}
	b, digest, sent := m.brokers[i], s.Digest, m.sched.now
	m.net.carry(i, false, func() {
		if !b.up {
			return
		}
		m.witness.Pushed(i, sent)
		if c := b.sessions[digest]; c != nil {
			b.drop(c, reason.String()+": "+detail)
		}
	})
}

// pushPolicy tells the brokers that another policy is in force.
func (*Sim) pushPolicy(uint64) {}
