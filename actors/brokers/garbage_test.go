package brokers

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// listener is a Bus that hands over what is subscribed, and keeps the last answer.
type listener struct {
	hear map[string]nats.MsgHandler
	last []byte
}

func (l *listener) Publish(_ string, data []byte) error {
	l.last = append(l.last[:0], data...)
	return nil
}

func (l *listener) PublishMsg(m *nats.Msg) error { return l.Publish(m.Subject, m.Data) }

func (l *listener) Subscribe(subject, _ string, _ int, hear nats.MsgHandler) (func() error, error) {
	l.hear[subject] = hear
	return func() error { return nil }, nil
}

func (*listener) Flush(context.Context, time.Duration) error { return nil }

// TestAnAuthorizationMakesNoGarbage: from the message to the answer, allowed or denied. (What
// the real gate does between is held to it in projections and policy.)
func TestAnAuthorizationMakesNoGarbage(t *testing.T) {
	bus, gate := &listener{hear: map[string]nats.MsgHandler{}}, newFakeGate()
	desk, err := OpenDesk(DeskConfig{Conn: bus, Gate: gate, Log: slog.New(slog.DiscardHandler), Instance: "i1"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := desk.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	desk.SetReady(true)
	m := &nats.Msg{
		Subject: authapi.Subject("b1", authapi.OpAuthorize), Reply: authapi.InboxPrefix("b1") + ".x.1",
		Data: authapi.AppendAuthorizeRequest(nil, "gh1_token", "mqtt:publish", "mqtt:topic:pumps/7"),
	}
	for _, allowed := range []bool{true, false} {
		verdict := Verdict{Allowed: allowed, AsOf: 12345, PolicyRevision: 7}
		gate.onAuthorize = func() (Verdict, error) { return verdict, nil }
		want := string(authapi.AuthorizeReply{IsAuthorized: allowed, AsOf: 12345, PolicyRevision: 7}.AppendTo(nil))
		ask := func() { bus.hear[authapi.AllBrokers(authapi.OpAuthorize)](m) }
		if n := testing.AllocsPerRun(1000, ask); n != 0 {
			t.Errorf("allowed %t: %v allocations", allowed, n)
		}
		if got := string(bus.last); got != want {
			t.Errorf("answered %s, want %s", got, want)
		}
	}
}
