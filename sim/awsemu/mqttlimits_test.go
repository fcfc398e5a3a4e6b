package awsemu_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// connectAs connects as pump-7, as c says.
func (w *world) connectAs(t *testing.T, c *paho.Connect) (*device, *paho.Connack, error) {
	t.Helper()
	conn, err := w.mqttConn(t, w.pump, w.emulator.MQTTAddr())
	if err != nil {
		t.Fatal(err)
	}
	d := &device{messages: make(chan *paho.Publish, 100), ended: make(chan struct{})}
	d.Client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			d.messages <- p.Packet
			return true, nil
		}},
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ack, err := d.Connect(ctx, c)
	if err == nil {
		t.Cleanup(func() { _ = d.Disconnect(&paho.Disconnect{}) })
	}
	return d, ack, err
}

// filters are n different ones.
func filters(n int, qos byte, prefix string) *paho.Subscribe {
	s := &paho.Subscribe{}
	for i := range n {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: fmt.Sprint(prefix, i), QoS: qos})
	}
	return s
}

// Who goes beyond the broker's bounds is disconnected, and who keeps within is not.
func TestBoundsOfTheBroker(t *testing.T) {
	w := newWorld(t)
	levels := strings.Repeat("x/", 7)
	for name, try := range map[string]struct {
		stays bool
		do    func(context.Context, *device) error
	}{
		"8 filters": {true, func(ctx context.Context, d *device) error { _, err := d.Subscribe(ctx, filters(8, 1, "a")); return err }},
		"9 filters": {false, func(ctx context.Context, d *device) error { _, err := d.Subscribe(ctx, filters(9, 1, "a")); return err }},
		"QoS 2":     {false, func(ctx context.Context, d *device) error { _, err := d.Subscribe(ctx, filters(1, 2, "a")); return err }},
		"8 levels": {true, func(ctx context.Context, d *device) error {
			_, err := d.Subscribe(ctx, filters(1, 1, levels))
			return err
		}},
		"9 levels": {false, func(ctx context.Context, d *device) error {
			_, err := d.Subscribe(ctx, filters(1, 1, levels+"x/"))
			return err
		}},
		"shared": {true, func(ctx context.Context, d *device) error {
			_, err := d.Subscribe(ctx, filters(1, 1, "$share/g/"+levels))
			return err
		}},
		"256 bytes":        {true, func(ctx context.Context, d *device) error { return publish(ctx, d, strings.Repeat("x", 256), nil) }},
		"257 bytes":        {false, func(ctx context.Context, d *device) error { return publish(ctx, d, strings.Repeat("x", 257), nil) }},
		"deep":             {false, func(ctx context.Context, d *device) error { return publish(ctx, d, levels+"x/x", nil) }},
		"128 KiB":          {true, func(ctx context.Context, d *device) error { return publish(ctx, d, "a", make([]byte, 128<<10)) }},
		"more":             {false, func(ctx context.Context, d *device) error { return publish(ctx, d, "a", make([]byte, 128<<10+1)) }},
		"for a rule":       {true, func(ctx context.Context, d *device) error { return publish(ctx, d, "$aws/rules/r/"+levels+"x", nil) }},
		"for no rule":      {false, func(ctx context.Context, d *device) error { return publish(ctx, d, "$aws/rules/r", nil) }},
		"50 subscriptions": {true, func(ctx context.Context, d *device) error { return subscribeTo(ctx, d, 50) }},
		"51 subscriptions": {false, func(ctx context.Context, d *device) error { return subscribeTo(ctx, d, 51) }},
	} {
		t.Run(name, func(t *testing.T) {
			d := must[*device](t)(w.dial(t, w.pump, "pump-7"))
			ctx, cancel := d.during(t)
			defer cancel()
			switch err := try.do(ctx, d); {
			case try.stays && err != nil:
				t.Error(err)
			case !try.stays:
				d.wantEnd(t, name)
			}
		})
	}
}

func publish(ctx context.Context, d *device, topic string, payload []byte) error {
	_, err := d.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: payload})
	return err
}

func subscribeTo(ctx context.Context, d *device, n int) error {
	for i := range n {
		if _, err := d.Subscribe(ctx, filters(1, 1, fmt.Sprint("t/", i, "/"))); err != nil {
			return err
		}
	}
	_, err := d.Subscribe(ctx, filters(1, 0, "t/0/")) // one that is there
	return err
}

func TestKeepAliveAndClientID(t *testing.T) {
	w := newWorld(t)
	for asked, want := range map[uint16]uint16{0: 1200, 5: 30, 29: 30, 1201: 1200} {
		if _, ack, err := w.connectAs(t, &paho.Connect{ClientID: "pump-7", KeepAlive: asked, CleanStart: true}); err != nil || ack.Properties.ServerKeepAlive == nil || *ack.Properties.ServerKeepAlive != want {
			t.Errorf("keep-alive %d: %v, %+v, want %d", asked, err, ack, want)
		}
	}
	for _, asked := range []uint16{30, 1200} {
		if _, ack, err := w.connectAs(t, &paho.Connect{ClientID: "pump-7", KeepAlive: asked, CleanStart: true}); err != nil || ack.Properties.ServerKeepAlive != nil {
			t.Errorf("keep-alive %d: %v, %+v", asked, err, ack)
		}
	}
	for n, want := range map[int]bool{128: true, 129: false} {
		if _, _, err := w.connectAs(t, &paho.Connect{ClientID: strings.Repeat("c", n), KeepAlive: 60, CleanStart: true}); (err == nil) != want {
			t.Errorf("a client id of %d bytes: %v", n, err)
		}
	}
}

// A session outlives its connection with what was published meanwhile, and ends when it is
// asked to.
func TestSessionsOutliveConnections(t *testing.T) {
	w := newWorld(t)
	expiry := uint32(600)
	resume := &paho.Connect{ClientID: "pump-7", KeepAlive: 60, Properties: &paho.ConnectProperties{SessionExpiryInterval: &expiry}}
	d, ack, err := w.connectAs(t, resume)
	if err != nil || ack.SessionPresent {
		t.Fatalf("first: %v, %+v", err, ack)
	}
	if _, err := d.Subscribe(t.Context(), filters(1, 1, "news/")); err != nil {
		t.Fatal(err)
	}
	if err := d.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	other := must[*device](t)(w.dial(t, w.valve, "valve-1"))
	payload := bytes.Repeat([]byte("x"), 1000)
	if err := publish(t.Context(), other, "news/0", payload); err != nil {
		t.Fatal(err)
	}
	again, ack, err := w.connectAs(t, resume)
	if err != nil || !ack.SessionPresent {
		t.Fatalf("again: %v, %+v", err, ack)
	}
	if topic, got := again.next(t); topic != "news/0" || got != string(payload) {
		t.Errorf("got %s with %d bytes", topic, len(got))
	}
	_, ack, err = w.connectAs(t, &paho.Connect{ClientID: "pump-7", KeepAlive: 60, CleanStart: true})
	if err != nil || ack.SessionPresent {
		t.Errorf("a clean start: %v, %+v", err, ack)
	}
}
