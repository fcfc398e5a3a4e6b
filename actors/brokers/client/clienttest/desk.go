// Package clienttest is a desk for tests of brokers: it speaks messages/authapi over a
// real embedded NATS server, or over natsmem, decides by what the test told it, and can be
// made to fail in the ways a daemon and a network do.
package clienttest

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/natsmem"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// Beat is the desk's heartbeat interval: short, so that tests of silence are.
const Beat = 20 * time.Millisecond

// startTimeout bounds the start of the NATS server, and each wait of the Desk.
const startTimeout = 10 * time.Second

// A Desk is a stand-in for the daemon. Its methods are safe for concurrent use.
type Desk struct {
	t       testing.TB
	broker  messages.BrokerID
	network network
	conn    conn
	quit    chan struct{}
	workers sync.WaitGroup

	mu       sync.Mutex
	devices  map[messages.CertificateID]messages.ThingName
	nobody   messages.ThingName // who a client without certificate is taken for
	sessions map[messages.TokenDigest]session
	policy   []permission.Permission
	revision uint64
	epoch    int
	seq      uint64
	muted    bool
	omit     bool
	ttl      time.Duration
	expires  time.Time
	refuse   map[authapi.Op]*messages.Refusal
	before   map[authapi.Op]func() // runs before an op is decided
	after    map[authapi.Op]func() // runs between deciding an op and answering it
	asked    map[authapi.Op]int
	news     chan struct{} // closed and replaced when asked or sessions change
}

type session struct {
	token messages.Token
	thing messages.ThingName
	cert  messages.CertificateID
}

// network is what carries messages between clients and a desk.
type network interface {
	start() error
	stop()
	// connect makes the desk's connection.
	connect() (conn, error)
}

// conn is a desk's connection.
type conn interface {
	PublishMsg(m *nats.Msg) error
	subscribe(subject string, hear nats.MsgHandler) error
	Close()
}

// Start runs a NATS server and a desk for broker until the test ends.
func Start(t testing.TB, broker messages.BrokerID) *Desk {
	t.Helper()
	return start(t, broker, &natsNetwork{options: server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true,
		MaxPayload: authapi.MaxMessageBytes + 1024,
	}})
}

// StartInMemory is Start without a NATS server: see Link.
func StartInMemory(t testing.TB, broker messages.BrokerID) *Desk {
	t.Helper()
	return start(t, broker, memory{natsmem.New(natsmem.Config{MaxPayload: authapi.MaxMessageBytes + 1024})})
}

func start(t testing.TB, broker messages.BrokerID, n network) *Desk {
	t.Helper()
	d := &Desk{
		t:        t,
		broker:   broker,
		network:  n,
		quit:     make(chan struct{}),
		devices:  make(map[messages.CertificateID]messages.ThingName),
		sessions: make(map[messages.TokenDigest]session),
		revision: 1,
		epoch:    1,
		ttl:      time.Minute,
		refuse:   make(map[authapi.Op]*messages.Refusal),
		before:   make(map[authapi.Op]func()),
		after:    make(map[authapi.Op]func()),
		asked:    make(map[authapi.Op]int),
		news:     make(chan struct{}),
	}
	d.StartServer()
	var err error
	if d.conn, err = n.connect(); err != nil {
		t.Fatalf("clienttest: connect the desk: %v", err)
	}
	for _, op := range authapi.Ops() {
		if err := d.conn.subscribe(authapi.Subject(broker, op), func(m *nats.Msg) {
			d.workers.Go(func() { d.answer(op, m) })
		}); err != nil {
			t.Fatalf("clienttest: subscribe: %v", err)
		}
	}
	d.workers.Go(d.beat)
	t.Cleanup(func() {
		close(d.quit)
		d.conn.Close()
		d.workers.Wait()
		d.StopServer()
	})
	return d
}

// URL is the NATS server's address; "" in memory.
func (d *Desk) URL() string {
	if n, ok := d.network.(*natsNetwork); ok {
		return n.server.ClientURL()
	}
	return ""
}

// Link is a client's connection in memory, which ends with the test; nil over NATS.
func (d *Desk) Link() *natsmem.Conn {
	m, ok := d.network.(memory)
	if !ok {
		return nil
	}
	c := m.server.Connect(natsmem.Options{Name: string(d.broker), Inbox: authapi.InboxPrefix(d.broker)})
	d.t.Cleanup(c.Close)
	return c
}

// StartServer runs the server, after StopServer at the same address.
func (d *Desk) StartServer() {
	if err := d.network.start(); err != nil {
		d.t.Fatalf("clienttest: start the server: %v", err)
	}
}

// StopServer stops the server, as when the network breaks.
func (d *Desk) StopServer() { d.network.stop() }

// beat sends heartbeats.
func (d *Desk) beat() {
	ticker := time.NewTicker(Beat)
	defer ticker.Stop()
	for {
		select {
		case <-d.quit:
			return
		case <-ticker.C:
			d.mu.Lock()
			if !d.muted {
				d.send(authapi.PushHeartbeat, authapi.Heartbeat{Stamp: d.stamp()})
			}
			d.mu.Unlock()
		}
	}
}

// stamp is that of the last push. d.mu is held.
func (d *Desk) stamp() authapi.Stamp {
	return authapi.Stamp{Epoch: string(rune('a' + d.epoch)), Seq: d.seq}
}

// send publishes a push. A broken connection swallows it, as it would the daemon's.
// d.mu is held, so that pushes leave in the order of their numbers.
func (d *Desk) send(kind authapi.Push, push any) {
	body, err := authapi.Encode(push)
	if err != nil {
		d.t.Errorf("clienttest: push: %v", err)
		return
	}
	_ = d.conn.PublishMsg(&nats.Msg{Subject: authapi.PushSubject(d.broker, kind), Data: body})
}

// announce changes the news. d.mu is held.
func (d *Desk) announce() {
	close(d.news)
	d.news = make(chan struct{})
}

// Eventually waits until done, which it calls with the Desk locked, is true; it looks
// again whenever a request has been answered.
func (d *Desk) eventually(what string, done func() bool) {
	d.t.Helper()
	deadline := time.After(startTimeout)
	for {
		d.mu.Lock()
		ok, news := done(), d.news
		d.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-news:
		case <-deadline:
			d.t.Fatalf("clienttest: waited too long until %s", what)
		}
	}
}
