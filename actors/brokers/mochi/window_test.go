package mochi_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	pahopackets "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
)

// receives makes a client that has at most n messages unacknowledged (MQTT 5, 3.1.2.11.3).
func receives(n uint16) func(*paho.Connect) {
	return func(cp *paho.Connect) {
		if cp.Properties == nil {
			cp.Properties = &paho.ConnectProperties{}
		}
		cp.Properties.ReceiveMaximum = &n
	}
}

// slowly is the client of name that acknowledges only when it is told to.
func (w *world) slowly(name string, edit ...func(*paho.Connect)) (d *device, acknowledge func()) {
	w.t.Helper()
	acks := make(chan *paho.Publish, 256)
	d, err := w.dialBy(name, w.devices[name], func(cfg *paho.ClientConfig, d *device) {
		cfg.EnableManualAcknowledgment = true
		cfg.OnPublishReceived = []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			if p.Packet.QoS > 0 {
				acks <- p.Packet
			}
			d.got <- p.Packet
			return true, nil
		}}
	}, edit...)
	if err != nil {
		w.t.Fatal(err)
	}
	return d, func() {
		w.t.Helper()
		if err := d.c.Ack(<-acks); err != nil {
			w.t.Fatal(err)
		}
	}
}

// quiet says that nothing was received: whatever came before what was last expected.
func (d *device) quiet() {
	d.t.Helper()
	select {
	case p := <-d.got:
		d.t.Fatalf("received %q beyond the receive maximum", p.Payload)
	default:
	}
}

// TestReceiveMaximum: a client has no more messages to acknowledge than it takes at once,
// and gets the others, in order, as it acknowledges.
func TestReceiveMaximum(t *testing.T) {
	w := start(t, nil)
	listener, acknowledge := w.slowly("sensor-1", receives(2))
	codes(t, "subscribe", listener.subscribe("hall/#"), 1)
	talker := w.as("sensor-2")
	for i := range 5 {
		code(t, "publish", talker.publish("hall/x", fmt.Sprint(i), 1), 0)
	}
	code(t, "publish", talker.publish("hall/x", "in between", 0), 0)
	listener.expect("0")
	listener.expect("1")
	listener.expect("in between") // what is not acknowledged needs no room
	for i := 2; i < 5; i++ {
		listener.quiet()
		acknowledge()
		listener.expect(fmt.Sprint(i))
	}
}

// TestReceiveMaximumOverlong: what the client would not take is no longer waited for.
func TestReceiveMaximumOverlong(t *testing.T) {
	w := start(t, nil)
	short := uint32(100)
	listener, acknowledge := w.slowly("sensor-1", receives(1), func(cp *paho.Connect) { cp.Properties.MaximumPacketSize = &short })
	codes(t, "subscribe", listener.subscribe("hall/#"), 1)
	talker := w.as("sensor-2")
	long := strings.Repeat("x", 200)
	for _, payload := range []string{long, "1", long, "2", long, "3"} {
		code(t, "publish", talker.publish("hall/x", payload, 1), 0)
	}
	listener.expect("1")
	acknowledge()
	listener.expect("2")
	acknowledge()
	listener.expect("3")
}

// TestReceiveMaximumResumed: what was held back goes on with the session.
func TestReceiveMaximumResumed(t *testing.T) {
	w := start(t, nil)
	listener, _ := w.slowly("sensor-1", persistent, receives(1))
	codes(t, "subscribe", listener.subscribe("hall/#"), 1)
	talker := w.as("sensor-2")
	for i := range 3 {
		code(t, "publish", talker.publish("hall/x", fmt.Sprint(i), 1), 0)
	}
	listener.expect("0")
	_ = listener.conn.Close()
	eventually(t, "it is away", func() bool { return w.broker.Connected() == 1 })
	code(t, "publish", talker.publish("hall/x", "3", 1), 0)
	// paho loses what arrives while it connects: the packets themselves, then.
	cert, one, hour := w.devices["sensor-1"], uint16(1), uint32(3600)
	conn, err := tls.Dial("tcp", w.broker.Addr().String(), w.tls(&cert))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	send := func(p pahopackets.Packet) {
		t.Helper()
		if _, err := p.WriteTo(conn); err != nil {
			t.Fatal(err)
		}
	}
	send(&pahopackets.Connect{
		ProtocolName: "MQTT", ProtocolVersion: 5, ClientID: "sensor-1", KeepAlive: 30,
		Properties: &pahopackets.Properties{SessionExpiryInterval: &hour, ReceiveMaximum: &one},
	})
	got := map[string]bool{}
	for unacknowledged := 0; len(got) < 5; {
		p, err := pahopackets.ReadPacket(conn)
		if err != nil {
			t.Fatalf("received %v: %v", got, err)
		}
		switch p := p.Content.(type) {
		case *pahopackets.Connack:
			if !p.SessionPresent {
				t.Fatal("the session is gone")
			}
			code(t, "publish", talker.publish("hall/x", "4", 1), 0)
		case *pahopackets.Publish: // mochi keeps their order to the second they came in
			if unacknowledged++; unacknowledged > 1 {
				t.Fatal("more than one to acknowledge")
			}
			got[string(p.Payload)] = true
			send(&pahopackets.Puback{PacketID: p.PacketID, Properties: &pahopackets.Properties{}})
			unacknowledged--
		default:
			t.Fatalf("received %T", p)
		}
	}
	for i := range 5 {
		if !got[fmt.Sprint(i)] {
			t.Errorf("%d is lost: %v", i, got)
		}
	}
}

// TestReceiveMaximumDenied: what must not be delivered any more makes room.
func TestReceiveMaximumDenied(t *testing.T) {
	w := start(t, nil)
	listener, acknowledge := w.slowly("sensor-1", receives(1))
	codes(t, "subscribe", listener.subscribe("hall/#", "sensors/sensor-1/#"), 1, 1)
	talker := w.as("sensor-2")
	for range 3 {
		code(t, "publish", talker.publish("hall/x", "denied", 1), 0)
	}
	code(t, "publish", listener.publish("sensors/sensor-1/x", "mine", 1), 0)
	listener.expect("denied")
	w.desk.SetPolicy(mayConnect, mayPublish, maySubscribe, mayTalk)
	listener.expect("mine")
	acknowledge() // of what has lost its place: harmless
	acknowledge()
}

// TestFlowUnderLoad: messages go on to a client that says how many it takes at once, while
// others publish to it and it acknowledges. mochi's own flow control hangs in it, or loses
// the room it had.
func TestFlowUnderLoad(t *testing.T) {
	w := start(t, nil)
	listener := w.as("sensor-1", receives(20))
	codes(t, "subscribe", listener.subscribe("hall/#"), 1)
	talker := w.as("sensor-2")
	const messages, talkers = 8000, 8
	var wg sync.WaitGroup
	for n := range talkers {
		wg.Go(func() {
			for i := range messages / talkers {
				if got := talker.publish(fmt.Sprintf("hall/%d", n), fmt.Sprint(i), 1); got != 0 {
					t.Errorf("publish: %#02x", got)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for published := false; !published; {
		select {
		case <-listener.got:
		case <-done:
			published = true
		case <-time.After(patience):
			t.Fatal("publishing hangs")
		}
	}
	// What the queue had no room for is lost; what comes once it is empty is not.
	eventually(t, "a message arrives", func() bool {
		code(t, "publish", talker.publish("hall/x", "fence", 1), 0)
		for {
			select {
			case p := <-listener.got:
				if string(p.Payload) == "fence" {
					return true
				}
			case <-time.After(50 * time.Millisecond):
				return false
			}
		}
	})
}
