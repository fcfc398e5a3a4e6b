package brokers

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// TestAFloodIsAnsweredToTheLast: many times more requests than may wait, from many
// connections that wait for nothing: whoever has no place is told Busy, none is lost.
func TestAFloodIsAnsweredToTheLast(t *testing.T) {
	const senders, each, places = 40, 1000, 100
	h := startHouse(t, func(c *DeskConfig) { c.SessionLimit, c.Deadline = places, time.Minute })
	held := make(chan func(bool, error), places)
	set(h.gate, &h.gate.onVerify, func(_ Caller, reply func(bool, error)) bool { held <- reply; return true })
	_, cert := makeCertificate(t)
	body := []byte(quotedJSON(t, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: cert}}))
	var busy, other atomic.Int64
	all := make(chan struct{})
	var flood sync.WaitGroup
	for i := range senders {
		name := messages.BrokerID(fmt.Sprint("b", i))
		nc := h.broker(t, name)
		sub, err := nc.Subscribe(authapi.InboxPrefix(name)+".>", func(m *nats.Msg) {
			if r := authapi.ReadError(m.Header.Get(authapi.HeaderError), m.Header.Get(authapi.HeaderMicroCode), m.Data); r == nil || r.Code != messages.RefusedBusy {
				other.Add(1)
			} else if busy.Add(1) == senders*each-places {
				close(all)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := sub.SetPendingLimits(-1, -1); err != nil {
			t.Fatal(err)
		}
		flood.Go(func() {
			for n := range each {
				if err := nc.PublishRequest(authapi.Subject(name, authapi.OpVerify), fmt.Sprintf("%s.r.%d", authapi.InboxPrefix(name), n), body); err != nil {
					t.Error(err)
				}
			}
		})
	}
	flood.Wait()
	select {
	case <-all:
	case <-time.After(patience):
		t.Errorf("%d were told Busy, want %d", busy.Load(), senders*each-places)
	}
	if n := h.daemon.Stats().Reconnects; n != 0 || !h.daemon.IsConnected() {
		t.Errorf("the daemon came back %d times, connected: %t", n, h.daemon.IsConnected())
	}
	if n := other.Load(); n != 0 {
		t.Errorf("%d had another answer than Busy", n)
	}
	for range places { // who had one
		(<-held)(true, nil)
	}
}

// TestTheDaemonMayReadLate: what a flood leaves waiting for the daemon's connection, while
// the daemon has no processor, does not end it.
func TestTheDaemonMayReadLate(t *testing.T) {
	const senders, each = 20, 1000
	s := startServer(t)
	g := &gatedServer{Server: s}
	daemon, err := connect("", s.daemon, daemonName, testLog(t), nats.InProcessServer(g))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(daemon.Close)
	heard := make(chan struct{}, senders*each)
	sub, err := daemon.Subscribe(authapi.AllBrokers(authapi.OpVerify), func(*nats.Msg) { heard <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(sub.SetPendingLimits(-1, -1), daemon.Flush()); err != nil {
		t.Fatal(err)
	}
	g.reading.Lock()
	h := &house{server: s}
	body := make([]byte, 1000)
	var flood sync.WaitGroup
	for i := range senders {
		name := messages.BrokerID(fmt.Sprint("b", i))
		nc := h.broker(t, name)
		flood.Go(func() {
			for range each {
				if err := nc.PublishRequest(authapi.Subject(name, authapi.OpVerify), authapi.InboxPrefix(name)+".r", body); err != nil {
					t.Error(err)
				}
			}
			if err := nc.Flush(); err != nil { // the server has all of it
				t.Error(err)
			}
		})
	}
	flood.Wait()
	g.reading.Unlock()
	for n := range senders * each {
		select {
		case <-heard:
		case <-time.After(patience):
			t.Fatalf("%d were heard, want %d; %d reconnects", n, senders*each, daemon.Stats().Reconnects)
		}
	}
	if n := daemon.Stats().Reconnects; n != 0 {
		t.Errorf("the daemon came back %d times", n)
	}
}

// gatedServer is a server whose client reads nothing while reading is locked.
type gatedServer struct {
	*Server
	reading sync.Mutex
}

func (g *gatedServer) InProcessConn() (net.Conn, error) {
	conn, err := g.Server.InProcessConn()
	return gatedConn{conn, g}, err
}

type gatedConn struct {
	net.Conn
	gate *gatedServer
}

func (c gatedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.gate.reading.Lock()
	defer c.gate.reading.Unlock()
	return n, err
}

// TestWhoWaitedTooLongForAWorkerIsToldSo: what lets in is not begun when its broker is about
// to give up; what restricts is, however late.
func TestWhoWaitedTooLongForAWorkerIsToldSo(t *testing.T) {
	clock := &leapingClock{Clock: SystemClock{}}
	h := startHouse(t, func(c *DeskConfig) { c.Clock = clock })
	a := h.broker(t, "a")
	_, cert := makeCertificate(t)
	body := quotedJSON(t, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: cert}})
	clock.step.Store(int64(time.Second)) // between its arrival and its turn
	if got, refusal := ask(t, a, "a", authapi.OpVerify, body); refusal == nil || refusal.Code != messages.RefusedBusy || refusal.RetryAfter <= 0 {
		t.Errorf("verify: %s, %v; want Busy", got, refusal)
	}
	if got, refusal := ask(t, a, "a", authapi.OpClose, `{"clientDeviceAuthToken":"t"}`); refusal != nil {
		t.Errorf("close: %s, %v", got, refusal)
	}
	clock.step.Store(0)
	if got, refusal := ask(t, a, "a", authapi.OpVerify, body); refusal != nil {
		t.Errorf("verify in time: %s, %v", got, refusal)
	}
}

// leapingClock goes on by step whenever it is read.
type leapingClock struct {
	Clock
	step, ahead atomic.Int64
}

func (c *leapingClock) Now() time.Time {
	return c.Clock.Now().Add(time.Duration(c.ahead.Add(c.step.Load())))
}
