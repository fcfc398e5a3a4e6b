package natsmem_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/natsmem"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// alone is a desk, a pusher and brokers' clients on one goroutine, under a clock that is
// moved by hand and a scheduler that chooses by a seed. Nothing in it is guarded by a mutex,
// so that the race detector would find a second goroutine.
type alone struct {
	t      *testing.T
	chance *rand.Rand
	queue  []func()
	clock  *actorstest.Clock
	tasks  *tasks
	server *natsmem.Server
	gate   *gate
	desk   *brokers.Desk
	pusher *brokers.Pusher
	trace  strings.Builder
	lose   func(natsmem.Passage) bool
}

func startAlone(t *testing.T, seed uint64) *alone {
	a := &alone{t: t, chance: rand.New(rand.NewPCG(seed, 0)), clock: actorstest.NewClock(noon), lose: func(natsmem.Passage) bool { return false }}
	a.tasks = &tasks{ready: a.schedule}
	t.Cleanup(a.tasks.end)
	a.server = natsmem.New(natsmem.Config{Carry: a.carry, AfterFunc: a.clock.AfterFunc, Park: a.tasks.park})
	daemon := a.server.Connect(natsmem.Options{Name: "daemon", Buffer: true})
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	a.gate = &gate{things: map[string]messages.ThingName{}, sessions: map[messages.Token]held{}}
	var err error
	if a.pusher, err = brokers.NewPusher(brokers.PusherConfig{Conn: daemon, Epoch: "e1", Log: log}); err != nil {
		t.Fatal(err)
	}
	if a.desk, err = brokers.OpenDesk(brokers.DeskConfig{
		Conn: daemon, Gate: a.gate, Log: log, Instance: "alone", Clock: clock{a.clock}, Schedule: a.schedule,
	}); err != nil {
		t.Fatal(err)
	}
	a.desk.SetReady(true)
	return a
}

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// clock is a brokers.Clock.
type clock struct{ *actorstest.Clock }

func (c clock) Now() time.Time { return c.Wall() }

func (a *alone) schedule(f func()) { a.queue = append(a.queue, f) }

func (a *alone) note(format string, args ...any) {
	fmt.Fprintf(&a.trace, "%v ", a.clock.Wall().Sub(noon))
	fmt.Fprintf(&a.trace, format+"\n", args...)
}

// carry lets a message arrive after up to 5 ms, unless it gets lost.
func (a *alone) carry(p natsmem.Passage, deliver func()) {
	if a.lose(p) {
		a.note("lost %s to %s", p.Subject, p.To)
		return
	}
	a.clock.AfterFunc(time.Duration(a.chance.IntN(5e6)), func() {
		a.schedule(func() {
			a.note("%s from %s to %s: %x", p.Subject, p.From, p.To, p.Data)
			deliver()
		})
	})
}

// pass lets d pass, and everything that can happen happen, with heartbeats.
func (a *alone) pass(d time.Duration) {
	for end := a.clock.Boot() + d; a.clock.Boot() < end; {
		if a.clock.Boot()%authapi.HeartbeatInterval == 0 {
			a.pusher.Beat()
		}
		a.clock.Advance(time.Millisecond)
		for len(a.queue) > 0 {
			i := a.chance.IntN(len(a.queue))
			f := a.queue[i]
			a.queue = append(a.queue[:i], a.queue[i+1:]...)
			f()
		}
	}
}

// broker connects a client.
func (a *alone) broker(name messages.BrokerID) *client.Client {
	a.pusher.AddBroker(name)
	c, err := client.Connect(a.t.Context(), client.Config{
		Broker: name, Link: a.server.Connect(natsmem.Options{Name: string(name), Inbox: authapi.InboxPrefix(name)}),
		Now: a.clock.Wall, AfterFunc: a.clock.AfterFunc, Spawn: a.tasks.spawn, Jitter: a.chance.Float64,
	})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() {
		a.pass(5 * time.Second)
		if s := c.Status(); s.Beside > 0 {
			a.t.Errorf("%s: %d things are under way for ever", name, s.Beside)
			return
		}
		_ = c.Close()
	})
	return c
}

// do runs f, which waits, and lets time pass until it returns.
func (a *alone) do(f func()) {
	a.t.Helper()
	returned := false
	a.tasks.spawn(func() { f(); returned = true })
	for range 100 {
		if a.pass(100 * time.Millisecond); returned {
			return
		}
	}
	a.t.Fatal("it does not return")
}

func (a *alone) connect(c *client.Client, thing string) *client.Session {
	a.t.Helper()
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: thing}, NotBefore: noon, NotAfter: noon.AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key) // the same in each run
	if err != nil {
		a.t.Fatal(err)
	}
	a.gate.things[string(der)] = messages.ThingName(thing)
	var s *client.Session
	a.do(func() {
		var err error
		if s, err = c.Authenticate(context.Background(), thing, der); err != nil {
			a.t.Fatal(err)
		}
	})
	return s
}

// asks is what a broker asks of a session, and what that has to be.
func (a *alone) want(s *client.Session, want client.Decision) {
	a.t.Helper()
	var got client.Decision
	a.do(func() { got = s.Publish("sensors/" + string(s.Thing())) })
	a.note("%s: %v", s.Thing(), got)
	if got != want {
		a.t.Errorf("%s: %v, want %v", s.Thing(), got, want)
	}
}

// life is what TestAllOnOneGoroutine holds of one seed.
func life(t *testing.T, seed uint64) string {
	a := startAlone(t, seed)
	one, two := a.broker("one"), a.broker("two")
	a.pass(2 * time.Second)
	s, other := a.connect(one, "pump-1"), a.connect(two, "pump-2")
	a.want(s, client.Allowed)
	asked := a.gate.asked
	a.want(other, client.Allowed)
	if a.gate.asked != asked {
		t.Error("the cache was not used")
	}

	a.gate.revoke(a.pusher, "pump-1")
	a.pass(20 * time.Millisecond)
	if _, over := s.Ended(); !over {
		t.Error("the push was not felt")
	}
	a.want(s, client.Closed)

	// A push that gets lost shows in the next heartbeat.
	a.lose = func(p natsmem.Passage) bool { return strings.HasSuffix(p.Subject, "session-closed") }
	a.gate.revoke(a.pusher, "pump-2")
	a.pass(1100 * time.Millisecond)
	a.want(other, client.Closed)

	// Cut off, a broker goes on for five seconds, and denies then; the daemon does not hear.
	a.lose = func(natsmem.Passage) bool { return false }
	third := a.connect(one, "pump-3")
	a.want(third, client.Allowed)
	a.lose = func(p natsmem.Passage) bool { return p.From == "one" || p.To == "one" }
	a.gate.revoke(a.pusher, "pump-3")
	heard := one.Status().PushAge
	a.pass(authapi.MaxStale - heard - 500*time.Millisecond)
	a.want(third, client.Allowed)
	a.pass(time.Second)
	a.want(third, client.Unavailable)
	a.lose = func(natsmem.Passage) bool { return false }
	a.pass(3 * time.Second)
	a.want(third, client.Closed)

	// The server is restarted; a session that the broker closes meanwhile is closed after it.
	last := a.connect(two, "pump-4")
	a.server.Down()
	last.Close()
	a.pass(time.Second)
	a.server.Up()
	a.pass(3 * time.Second)
	if n := len(a.gate.sessions); n != 0 {
		t.Errorf("%d sessions are open at the daemon", n)
	}
	return a.trace.String()
}

// TestAllOnOneGoroutine: the product's desk, pusher and clients do what they do over NATS, as
// a function of a seed.
func TestAllOnOneGoroutine(t *testing.T) {
	traces := map[string]bool{}
	for seed := range uint64(5) {
		first, second := life(t, seed), life(t, seed)
		if first != second {
			t.Errorf("seed %d: two runs differ", seed)
		}
		traces[first] = true
	}
	if len(traces) != 5 {
		t.Errorf("%d different runs of 5 seeds", len(traces))
	}
}

// gate is a core of its own: whose certificate it knows may publish.
type gate struct {
	things   map[string]messages.ThingName
	sessions map[messages.Token]held
	asked    int
	opened   int
}

type held struct {
	broker messages.BrokerID
	thing  messages.ThingName
}

func (g *gate) revoke(p *brokers.Pusher, thing messages.ThingName) {
	for token, h := range g.sessions {
		if h.thing == thing {
			delete(g.sessions, token)
			p.SessionClosed(h.broker, brokers.Closed{Token: token.Digest(), Thing: thing, CertificateID: messages.CertificateIDOf(nil), Reason: "revoked"})
		}
	}
}

func (g *gate) Authenticate(c brokers.Caller, clientID string, der []byte, reply func(brokers.Grant, error)) {
	thing, known := g.things[string(der)]
	if !known || string(thing) != clientID {
		reply(brokers.Grant{}, messages.Refuse(messages.RefusedInvalidCredential, "unknown"))
		return
	}
	g.opened++
	token := messages.Token(fmt.Sprintf("gh1_%043d", g.opened))
	g.sessions[token] = held{c.Broker, thing}
	grant, err := g.Permissions(c, []byte(token))
	reply(grant, err)
}

func (g *gate) Permissions(c brokers.Caller, token []byte) (brokers.Grant, error) {
	h, ok := g.sessions[messages.Token(token)]
	if !ok || h.broker != c.Broker {
		return brokers.Grant{}, messages.Refuse(messages.RefusedInvalidToken, "no session")
	}
	return brokers.Grant{
		ConnectAuthorized: true, Token: messages.Token(token), Thing: h.thing, CertificateID: messages.CertificateIDOf(nil), PolicyRevision: 1,
		Permissions: []permission.Permission{{Operation: "mqtt:publish", Resource: "mqtt:topic:sensors/" + string(h.thing)}}, CacheTTL: time.Minute,
	}, nil
}

func (g *gate) Authorize(broker messages.BrokerID, token, _, resource []byte) (brokers.Verdict, error) {
	g.asked++
	h, ok := g.sessions[messages.Token(token)]
	if !ok || h.broker != broker {
		return brokers.Verdict{}, messages.Refuse(messages.RefusedInvalidToken, "no session")
	}
	return brokers.Verdict{Allowed: string(resource) == "mqtt:topic:sensors/"+string(h.thing), PolicyRevision: 1}, nil
}

func (g *gate) CloseSession(_ brokers.Caller, token []byte, reply func(error)) {
	delete(g.sessions, messages.Token(token))
	reply(nil)
}

func (g *gate) VerifyIdentity(_ brokers.Caller, _ []byte, reply func(bool, error)) {
	reply(false, errors.New("not asked here"))
}

func (g *gate) OpenSession(_ brokers.Caller, _ string, _ []byte, reply func(brokers.Session, error)) {
	reply(brokers.Session{}, errors.New("not asked here"))
}
