package dst

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// conn is one connection of a client with a broker, or its try at one.
type conn struct {
	client  int
	broker  int
	life    int    // of the broker
	name    string // the id that it claims
	cert    Cert
	session *client.Session // nil: it was not let in
	open    bool            // the broker has let it in, and it is still there
	gone    bool            // the client is not there any more
}

// broker is one broker: the product's client, and what an adapter does with it.
type broker struct {
	sim    *Sim
	number int
	clock  *process
	life   int
	up     bool
	client *client.Client
	conns  map[string]*conn // that are open, by client id: a second one takes the place of the first
}

// startBroker has a broker's process start.
func (m *Sim) startBroker(b *broker) {
	b.life++
	b.up, b.conns = true, map[string]*conn{}
	b.clock = newMachine(m.sched, true).process()
	jitter := diceOf(m.plan.Seed, diceBroker).key(uint64(b.number)).key(uint64(b.life))
	n := uint64(0)
	var err error
	b.client, err = client.Connect(context.Background(), client.Config{
		Broker: BrokerOf(b.number), Link: m.net.connectBroker(b.number),
		Now: b.clock.Wall, AfterFunc: b.after, Spawn: b.clock.spawn,
		Jitter: func() float64 { n++; return jitter.key(n).float() },
	})
	if err != nil {
		panic(err) // nothing of it waits or fails
	}
	if m.plan.Setup.Certified {
		b.certify()
	}
}

// retryEvery is after what the client tries again what failed.
const retryEvery = 500 * time.Millisecond

// after is the client's AfterFunc. That it looks every few seconds whether Gatehouse is silent,
// to say so, is nothing that happens.
func (b *broker) after(d time.Duration, f func()) (stop func() bool) {
	w := aTick
	if d == retryEvery || d > authapi.MaxStale {
		w = aTimer
	}
	return b.clock.timer(d, w, f)
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
	a := Ask{Op: op, Client: c.client, Broker: b.number, Begun: begun, Outcome: o, Name: name}
	if c.session != nil {
		a.Session, a.ClientThing = c.session.Digest(), c.session.Thing()
	}
	if op == Connect {
		a.Cert, a.CertID = c.cert, IDOf(c.cert)
	}
	m.witness.Asked(&a)
}

// connect lets a client in, if the core says so.
func (b *broker) connect(c *conn) {
	begun := b.sim.sched.now
	if !b.up {
		b.answered(Connect, c, begun, Unavailable, c.name, "the broker is down")
		return
	}
	c.life = b.life
	b.sim.sched.begin(b.clock, func() {
		s, err := b.client.Authenticate(context.Background(), c.name, DER(c.cert))
		if c.life != b.life || !b.up {
			return // its connection ended with the broker
		}
		if err != nil {
			b.answered(Connect, c, begun, outcomeOf(err), c.name, err.Error())
			return
		}
		if former := b.conns[c.name]; former != nil {
			former.gone = true
			b.leave(former)
		}
		c.session, c.open = s, true
		b.conns[c.name] = c
		s.OnClosed(func(e client.Ending) {
			if e.Cause == client.ByGatehouse {
				b.drop(c, e.Reason)
			}
		})
		b.answered(Connect, c, begun, Allowed, c.name, "")
		if c.gone {
			b.leave(c)
		}
	})
}

// outcomeOf is what a client is told of an error.
func outcomeOf(err error) Outcome {
	switch {
	case errors.Is(err, client.ErrBusy):
		return Busy
	case errors.Is(err, client.ErrDenied):
		return Denied
	}
	return Unavailable
}

var outcomes = map[client.Decision]Outcome{
	client.Unavailable: Unavailable, client.Denied: Denied, client.Closed: Closed, client.Allowed: Allowed,
}

// act asks whether a client may do something.
func (b *broker) act(c *conn, op Kind, name string) {
	if !c.open {
		return
	}
	begun := b.sim.sched.now
	b.sim.sched.begin(b.clock, func() {
		decide := c.session.Publish
		if op == Subscribe {
			decide = c.session.Subscribe
		}
		d := decide(name)
		if c.life == b.life && b.up {
			b.answered(op, c, begun, outcomes[d], name, "")
		}
	})
}

// leave is a client that has gone away.
func (b *broker) leave(c *conn) {
	if !c.open || c.life != b.life {
		return
	}
	b.forget(c)
	c.session.Close()
}

func (b *broker) forget(c *conn) {
	c.open = false
	if b.conns[c.name] == c {
		delete(b.conns, c.name)
	}
}

// drop ends a client's connection.
func (b *broker) drop(c *conn, why string) {
	if !c.open {
		return
	}
	b.forget(c)
	t := b.sim.sched.trace
	t.number('D', uint64(c.client))
	t.text('w', why)
	if t.telling() {
		t.say("client %d (%s) at %s is disconnected: %s", c.client, c.name, BrokerOf(b.number), why)
	}
	b.sim.witness.Dropped(c.client, b.number, c.session.Digest(), why)
}

// crashBroker ends a broker's process, and all connections with it; another starts after a
// while.
func (m *Sim) crashBroker(b *broker, after time.Duration, over func()) {
	if b.up {
		for _, name := range slices.Sorted(maps.Keys(b.conns)) {
			b.drop(b.conns[name], "the broker died")
		}
		b.kill()
	}
	m.sched.after(after, anAction, nil, func() {
		if !b.up {
			m.startBroker(b)
		}
		over()
	})
}

func (b *broker) kill() {
	if !b.up {
		return
	}
	b.up = false
	b.sim.net.disconnectBroker(b.number) // so that what waits for an answer ends
	b.clock.kill()
}
