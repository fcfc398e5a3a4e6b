package brokers

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// TestAFloodDoesNotCutTheDaemonOff: brokers that ask for more than the daemon reads are told
// Busy, or wait; its connection, which all brokers and pushes share, is not lost over it.
func TestAFloodDoesNotCutTheDaemonOff(t *testing.T) {
	h := startHouse(t, nil)
	a := h.broker(t, "a")
	lost := make(chan error, 16)
	h.daemon.SetDisconnectErrHandler(func(_ *nats.Conn, err error) { lost <- err })
	answers := make(chan struct{}, 1<<20)
	sub, err := a.Subscribe(authapi.InboxPrefix("a")+".flood.*", func(*nats.Msg) { answers <- struct{}{} })
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.SetPendingLimits(-1, -1); err != nil {
		t.Fatal(err)
	}
	body := []byte(`{"clientId":"x","certificatePem":"` + strings.Repeat("x", 1100) + `"}`)
	const n = 12_000 // those of forty-seven brokers with our client
	for i := range n {
		if err := a.PublishRequest(authapi.Subject("a", authapi.OpAuthenticate), authapi.InboxPrefix("a")+".flood."+strconv.Itoa(i), body); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		select {
		case <-answers:
		case err := <-lost:
			t.Fatalf("the daemon was cut off after %d answers: %v", i, err)
		case <-time.After(patience):
			t.Fatalf("%d of %d requests are answered", i, n)
		}
	}
}
