package brokers

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// outbox is a Publisher that keeps what it is given, or fails.
type outbox struct {
	mu   sync.Mutex
	sent []*nats.Msg // guarded by mu
	fail error       // guarded by mu
}

func (o *outbox) Publish(subject string, data []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	o.sent = append(o.sent, &nats.Msg{Subject: subject, Data: data})
	return nil
}

func (o *outbox) setFail(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = err
}

// stamp reads what every push has.
func stamp(t *testing.T, m *nats.Msg) (messages.BrokerID, authapi.Push, authapi.Stamp) {
	t.Helper()
	broker, push, err := authapi.ParsePushSubject(m.Subject)
	if err != nil {
		t.Fatal(err)
	}
	beat, err := authapi.ParseHeartbeat(m.Data) // all pushes have what a heartbeat has
	if err != nil {
		t.Fatal(err)
	}
	return broker, push, beat.Stamp
}

func newTestPusher(t *testing.T, conn Publisher) *Pusher {
	t.Helper()
	p, err := NewPusher(PusherConfig{Conn: conn, Epoch: "e1", Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPushesAreNumberedPerBrokerAndHeartbeatsRepeatTheLast(t *testing.T) {
	var out outbox
	p := newTestPusher(t, &out)
	p.AddBroker("a")
	p.Beat()
	p.SessionClosed("a", Closed{Token: messages.Token("gh1_x").Digest(), Thing: "t", CertificateID: "c", Reason: "revoked"})
	p.PolicyChanged(8)
	p.AddBroker("b")
	p.CertificateUpdated("b", authapi.CertificateUpdate{Certificate: "PEM"})
	p.AddBroker("a") // changes nothing
	p.Beat()
	p.PolicyChanged(9)
	type push struct {
		broker messages.BrokerID
		kind   authapi.Push
		seq    uint64
	}
	want := map[messages.BrokerID][]push{
		"a": {{"a", "heartbeat", 0}, {"a", "session-closed", 1}, {"a", "policy-changed", 2}, {"a", "heartbeat", 2}, {"a", "policy-changed", 3}},
		"b": {{"b", "certificate-updated", 1}, {"b", "heartbeat", 1}, {"b", "policy-changed", 2}},
	}
	got := map[messages.BrokerID][]push{}
	for _, m := range out.sent {
		broker, kind, s := stamp(t, m)
		if s.Epoch != "e1" {
			t.Errorf("epoch %q", s.Epoch)
		}
		got[broker] = append(got[broker], push{broker, kind, s.Seq})
	}
	for broker, pushes := range want {
		if len(got[broker]) != len(pushes) {
			t.Fatalf("%s: got %v, want %v", broker, got[broker], pushes)
		}
		for i := range pushes {
			if got[broker][i] != pushes[i] {
				t.Errorf("%s, push %d: got %v, want %v", broker, i, got[broker][i], pushes[i])
			}
		}
	}
	closed, err := authapi.ParseSessionClosed(out.sent[1].Data)
	if err != nil || closed.TokenDigest != messages.Token("gh1_x").Digest().String() || closed.Reason != "revoked" {
		t.Errorf("got %+v, %v", closed, err)
	}
}

func TestAPushThatCannotBeSentLeavesAGapTheBrokerSees(t *testing.T) {
	var out outbox
	p := newTestPusher(t, &out)
	p.AddBroker("a")
	p.PolicyChanged(1)
	out.setFail(errors.New("no connection"))
	p.SessionClosed("a", Closed{})
	out.setFail(nil)
	p.Beat()
	if _, _, s := stamp(t, out.sent[len(out.sent)-1]); s.Seq != 2 {
		t.Errorf("heartbeat after a lost push: got %d, want 2, so that the gap shows", s.Seq)
	}
}

// TestPushesOfManyGoroutinesArriveInOrder also is the check that numbers and order of
// sending agree.
func TestPushesOfManyGoroutinesArriveInOrder(t *testing.T) {
	var out outbox
	p := newTestPusher(t, &out)
	var wg sync.WaitGroup
	for _, broker := range []messages.BrokerID{"a", "b"} {
		for range 4 {
			wg.Go(func() {
				for range 50 {
					p.SessionClosed(broker, Closed{})
				}
			})
		}
	}
	wg.Go(func() {
		for range 50 {
			p.Beat()
		}
	})
	wg.Wait()
	last := map[messages.BrokerID]uint64{}
	for _, m := range out.sent {
		broker, kind, s := stamp(t, m)
		want := last[broker]
		if kind != authapi.PushHeartbeat {
			want++
		}
		if s.Seq != want {
			t.Fatalf("%s %s: got %d, want %d", broker, kind, s.Seq, want)
		}
		last[broker] = s.Seq
	}
	if last["a"] != 200 || last["b"] != 200 {
		t.Errorf("got %v, want 200 each", last)
	}
}

func TestHeartbeatsFollowTheTicksOverARealServer(t *testing.T) {
	h := startHouse(t, nil)
	a := h.broker(t, "a")
	sub, err := a.SubscribeSync(authapi.PushSubjects("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := a.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	p := newTestPusher(t, h.daemon)
	p.AddBroker("a")
	ticks := make(chan time.Time)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx, ticks) })
	for range 2 {
		ticks <- time.Time{}
		m, err := sub.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if _, kind, _ := stamp(t, m); kind != authapi.PushHeartbeat {
			t.Errorf("got %s, want a heartbeat", kind)
		}
	}
	cancel()
	wg.Wait()
}

func TestPusherRefusesToStartHalfConfigured(t *testing.T) {
	for _, cfg := range []PusherConfig{{}, {Conn: &outbox{}}, {Conn: &outbox{}, Epoch: "e"}, {Epoch: "e", Log: testLog(t)}} {
		if _, err := NewPusher(cfg); err == nil || !strings.Contains(err.Error(), "required") {
			t.Errorf("%+v: got %v", cfg, err)
		}
	}
}
