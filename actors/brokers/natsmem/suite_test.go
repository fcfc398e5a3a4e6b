package natsmem_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/natsmem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// conn is what the suite needs of either.
type conn interface {
	brokers.Bus
	Request(ctx context.Context, subject string, body []byte, timeout time.Duration) (*nats.Msg, error)
	Close()
}

type natsConn struct {
	brokers.Bus
	nc *nats.Conn
}

func (c natsConn) Request(ctx context.Context, subject string, body []byte, timeout time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return c.nc.RequestWithContext(ctx, subject, body)
}

func (c natsConn) Close() { c.nc.Close() }

// place is where connections are made.
type place struct {
	connect func(t *testing.T, name string) conn
}

func overNATS(t *testing.T) place {
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, MaxPayload: 68 << 10})
	if err != nil {
		t.Fatal(err)
	}
	go s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("no NATS server")
	}
	return place{func(t *testing.T, name string) conn {
		nc, err := nats.Connect(s.ClientURL(), nats.CustomInboxPrefix("_INBOX_"+name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(nc.Close)
		return natsConn{brokers.OnNATS(nc), nc}
	}}
}

func inMemory(*testing.T) place {
	s := natsmem.New(natsmem.Config{})
	return place{func(t *testing.T, name string) conn {
		c := s.Connect(natsmem.Options{Name: name, Inbox: "_INBOX_" + name})
		t.Cleanup(c.Close)
		return c
	}}
}

const patience = 5 * time.Second

// box keeps what was heard.
type box struct {
	mu    sync.Mutex
	heard []string
	news  chan struct{}
}

func newBox() *box { return &box{news: make(chan struct{}, 1000)} }

func (b *box) hear(m *nats.Msg) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heard = append(b.heard, m.Subject+"="+string(m.Data))
	b.news <- struct{}{}
}

// next waits until n messages were heard.
func (b *box) next(t *testing.T, n int) []string {
	t.Helper()
	for range n {
		select {
		case <-b.news:
		case <-time.After(patience):
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Fatalf("heard only %q", b.heard)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.heard)
}

func listen(t *testing.T, c conn, subject, group string, hear nats.MsgHandler) (stop func() error) {
	t.Helper()
	stop, err := c.Subscribe(subject, group, 0, hear)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	return stop
}

func publish(t *testing.T, c conn, subject, text string) {
	t.Helper()
	if err := c.Publish(subject, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

// TestAsNATS holds both against what desk, pusher and client rely on.
func TestAsNATS(t *testing.T) {
	for name, start := range map[string]func(*testing.T) place{"NATS": overNATS, "memory": inMemory} {
		t.Run(name, func(t *testing.T) {
			for what, test := range map[string]func(*testing.T, place){
				"wildcards": wildcards, "order": order, "groups": groups, "requests": requests, "comes back": comesBack, "bounds": bounds, "ends": ends,
			} {
				t.Run(what, func(t *testing.T) { test(t, start(t)) })
			}
		})
	}
}

func wildcards(t *testing.T, p place) {
	a, b := p.connect(t, "a"), p.connect(t, "b")
	for pattern, covered := range map[string]string{
		"x.*.z": "x.1.z x.2.z", "x.>": "x.1.z x.2.z x.1 x.1.z.4", "x.1": "x.1", "*.1": "x.1", "*": "x", "y.>": "",
	} {
		b1 := newBox()
		stop := listen(t, b, pattern, "", b1.hear)
		for _, subject := range []string{"x", "x.1.z", "x.2.z", "x.1", "x.1.z.4"} {
			publish(t, a, subject, "")
		}
		want := strings.Fields(covered)
		for i := range want {
			want[i] += "="
		}
		publish(t, a, "the.end", "") // nothing of it is heard
		if got := b1.next(t, len(want)); !slices.Equal(got, want) {
			t.Errorf("%s covers %q, want %q", pattern, got, want)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
}

// order: what one sends to one subscription arrives in the order of sending, its bytes as
// they were when it was sent.
func order(t *testing.T, p place) {
	a, b := p.connect(t, "a"), p.connect(t, "b")
	heard := newBox()
	listen(t, b, "o.*", "", heard.hear)
	body := make([]byte, 0, 8)
	var want []string
	for i := range 100 {
		body = fmt.Appendf(body[:0], "%d", i)
		subject := "o." + string('a'+rune(i%3))
		if err := a.Publish(subject, body); err != nil {
			t.Fatal(err)
		}
		want = append(want, subject+"="+string(body))
	}
	if got := heard.next(t, 100); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func groups(t *testing.T, p place) {
	a, b, c := p.connect(t, "a"), p.connect(t, "b"), p.connect(t, "c")
	heard, alone := newBox(), newBox()
	listen(t, b, "g.*", "q", heard.hear)
	stop := listen(t, c, "g.*", "q", heard.hear)
	listen(t, c, "g.1", "", alone.hear)
	for range 20 {
		publish(t, a, "g.1", "x")
	}
	if n := len(heard.next(t, 20)); n != 20 {
		t.Errorf("a group heard %d of 20", n)
	}
	alone.next(t, 20)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	publish(t, a, "g.1", "y")
	heard.next(t, 1)
}

func requests(t *testing.T, p place) {
	a, b := p.connect(t, "a"), p.connect(t, "b")
	if _, err := a.Request(t.Context(), "ask", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("nobody there: %v", err)
	}
	listen(t, b, "ask", "", func(m *nats.Msg) {
		if !strings.HasPrefix(m.Reply, "_INBOX_a.") {
			t.Errorf("reply to %q", m.Reply)
		}
		reply := &nats.Msg{Subject: m.Reply, Data: append([]byte("re "), m.Data...), Header: nats.Header{"Kind": {"test"}}}
		if string(m.Data) == "silence" {
			return
		}
		if err := b.PublishMsg(reply); err != nil {
			t.Error(err)
		}
		_ = b.PublishMsg(reply) // a second answer is nobody's
	})
	m, err := a.Request(t.Context(), "ask", []byte("hello"), patience)
	if err != nil || string(m.Data) != "re hello" || m.Header.Get("Kind") != "test" {
		t.Errorf("got %v, %v", m, err)
	}
	if _, err := a.Request(t.Context(), "ask", []byte("silence"), 10*time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := a.Request(ctx, "ask", []byte("silence"), patience); !errors.Is(err, context.Canceled) {
		t.Errorf("broken off: %v", err)
	}
	if m, err := a.Request(t.Context(), "ask", []byte("again"), patience); err != nil || string(m.Data) != "re again" {
		t.Errorf("got %v, %v", m, err)
	}
}

// comesBack: the answer to a former connection is not the answer to its successor's question.
func comesBack(t *testing.T, p place) {
	b := p.connect(t, "b")
	replies := make(chan string, 2)
	listen(t, b, "ask", "", func(m *nats.Msg) { replies <- m.Reply })
	before := p.connect(t, "a")
	broken := make(chan error, 1)
	go func() {
		_, err := before.Request(t.Context(), "ask", nil, patience)
		broken <- err
	}()
	former := <-replies
	before.Close()
	if err := <-broken; err == nil {
		t.Error("a closed connection had an answer")
	}
	after := p.connect(t, "a")
	answered := make(chan string, 1)
	go func() {
		m, err := after.Request(t.Context(), "ask", nil, patience)
		if err != nil {
			t.Error(err)
			m = &nats.Msg{}
		}
		answered <- string(m.Data)
	}()
	now := <-replies
	publish(t, b, former, "to the former")
	publish(t, b, now, "to this one")
	if got := <-answered; got != "to this one" {
		t.Errorf("answered %q", got)
	}
}

func bounds(t *testing.T, p place) {
	a := p.connect(t, "a")
	if err := a.Publish("x", make([]byte, 68<<10+1)); !errors.Is(err, nats.ErrMaxPayload) {
		t.Errorf("too long: %v", err)
	}
	if err := a.Publish("", nil); !errors.Is(err, nats.ErrBadSubject) {
		t.Errorf("no subject: %v", err)
	}
	heard := newBox()
	listen(t, a, "x", "", heard.hear)
	publish(t, a, "x", strings.Repeat("x", 68<<10))
	heard.next(t, 1)
}

func ends(t *testing.T, p place) {
	a, b := p.connect(t, "a"), p.connect(t, "b")
	heard := newBox()
	stop := listen(t, a, "x", "", heard.hear)
	if err := stop(); err != nil {
		t.Error(err)
	}
	if err := stop(); err == nil {
		t.Error("a subscription ends twice")
	}
	listen(t, b, "ask", "", func(*nats.Msg) {})
	b.Close()
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end) && !errors.Is(err, nats.ErrNoResponders); { // a server hears of it soon
		_, err = a.Request(t.Context(), "ask", nil, 10*time.Millisecond)
	}
	if !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("who closed is still asked: %v", err)
	}
	a.Close()
	if err := a.Publish("x", nil); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("publish on what is closed: %v", err)
	}
	if _, err := a.Subscribe("x", "", 0, heard.hear); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("subscribe on what is closed: %v", err)
	}
	if _, err := a.Request(t.Context(), "x", nil, patience); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Errorf("ask on what is closed: %v", err)
	}
}
