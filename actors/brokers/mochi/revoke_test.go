package mochi_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client/clienttest"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/mochi"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

func TestKick(t *testing.T) {
	w := start(t, nil)
	watcher := w.as("sensor-2")
	watcher.subscribe("hall/#")
	code(t, "publish", watcher.publish("hall/x", "fence", 1), 0)
	watcher.expect("fence") // mochi looks for retained messages after the SUBACK; it is through
	one := w.as("sensor-1", persistent, will("hall/will", true))
	one.subscribe("hall/#")
	code(t, "retained", one.retain("hall/state", "last words"), 0)
	watcher.expect("last words")
	one.expect("last words")

	began := time.Now()
	w.desk.Revoke(w.devices["sensor-1"].Certificate[0], "revoked")
	one.ends(0x98)
	if d := time.Since(began); d > time.Second {
		t.Errorf("disconnected after %v, want at most 1s", d)
	}
	d, err := w.dial("sensor-1", w.devices["sensor-1"], persistent)
	if err == nil {
		t.Fatal("it came back")
	}
	code(t, "connect", d.ack.ReasonCode, 0x87)

	eventually(t, "it is gone", func() bool { return w.broker.Connected() == 1 })
	code(t, "publish", watcher.publish("hall/x", "unheard", 1), 0)
	watcher.expect("unheard") // and not the will
	codes(t, "subscribe again", watcher.subscribe("hall/state", "hall/+"), 1, 1)
	code(t, "publish", watcher.publish("hall/y", "fence", 1), 0)
	watcher.expect("fence") // and no retained message of the one revoked

	w.desk.Trust("sensor-1", w.devices["sensor-1"].Certificate[0])
	again := w.as("sensor-1", persistent)
	if again.ack.SessionPresent {
		t.Error("the session of the one revoked was kept")
	}
	again.subscribe("hall/z")
	code(t, "publish", watcher.publish("hall/z", "fresh", 1), 0)
	again.expect("fresh")
}

func TestKickV3(t *testing.T) {
	w := start(t, nil)
	one := w.as3("sensor-1")
	began := time.Now()
	w.desk.CloseSessions("sensor-1", "quarantined")
	one.ends()
	if d := time.Since(began); d > time.Second {
		t.Errorf("disconnected after %v, want at most 1s", d)
	}
}

// stuck connects sensor-1 with MQTT 5, subscribes to hall/# and reads nothing while
// messages of many bytes come in.
func stuck(w *world) (conn *tls.Conn, sentBytes int) {
	w.t.Helper()
	cert := w.devices["sensor-1"]
	conn, err := tls.Dial("tcp", w.broker.Addr().String(), w.tls(&cert))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.NetConn().(*net.TCPConn).SetReadBuffer(256 << 10); err != nil {
		w.t.Fatal(err)
	}
	packets := []byte{0x10, 21, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 0, 0, 0, 8, 's', 'e', 'n', 's', 'o', 'r', '-', '1'}
	packets = append(packets, 0x82, 12, 0, 1, 0, 0, 6, 'h', 'a', 'l', 'l', '/', '#', 0)
	if _, err := conn.Write(packets); err != nil {
		w.t.Fatal(err)
	}
	eventually(w.t, "it is subscribed", func() bool {
		c := w.broker.Clients()
		return len(c) == 1 && len(c[0].Subscriptions) == 1
	})
	talker := w.as("sensor-2")
	big := string(make([]byte, 128<<10))
	const messages = 128 // more than the buffers between broker and client take
	for range messages {
		code(w.t, "publish", talker.publish("hall/big", big, 1), 0)
	}
	return conn, messages * len(big)
}

// A client that reads nothing must go as fast as any other.
func TestKickOfAStuckClient(t *testing.T) {
	w := start(t, nil)
	stuck(w)
	began := time.Now()
	w.desk.CloseSessions("sensor-1", "revoked")
	eventually(t, "it is gone", func() bool { return w.broker.Connected() == 1 })
	if d := time.Since(began); d > time.Second {
		t.Errorf("disconnected after %v, want at most 1s", d)
	}
}

// What waits to be written when the right to receive it ends is not written any more.
func TestPolicyChangeCatchesWhatIsQueued(t *testing.T) {
	w := start(t, nil)
	conn, sent := stuck(w)
	w.desk.SetPolicy(mayConnect, mayTalk)
	eventually(t, "the subscription has ended", func() bool { return len(w.broker.Clients()[0].Subscriptions) == 0 })
	received := 0
	buf := make([]byte, 64<<10)
	for {
		_ = conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)) // quiet for so long: nothing more comes
		n, err := conn.Read(buf)
		received += n
		if err != nil {
			break
		}
	}
	if received == 0 || received > sent/2 {
		t.Errorf("received %d of %d bytes, want only what was on its way", received, sent)
	}
}

func TestPolicyChangeOnLiveConnections(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as("sensor-2")
	codes(t, "subscribe", one.subscribe("hall/#", "sensors/sensor-1/#", "$share/group/hall/+"), 1, 1, 1)
	code(t, "own topic", one.publish("sensors/sensor-1/x", "subscribed", 1), 0)
	one.expect("subscribed") // mochi is through with the SUBSCRIBE, retained messages included
	code(t, "retained", two.retain("hall/state", "before"), 0)
	one.expect("before")
	code(t, "before", one.publish("hall/x", "1", 1), 0)
	one.expect("1")

	w.desk.SetPolicy(mayConnect, mayPublish, maySubscribe, mayTalk) // nobody may listen in the hall
	eventually(t, "the subscription has ended", func() bool { return len(w.broker.Clients()[0].Subscriptions) == 1 })
	code(t, "after", two.publish("hall/x", "unheard", 1), 0)
	code(t, "own topic", one.publish("sensors/sensor-1/x", "still mine", 1), 0)
	one.expect("still mine")

	w.desk.SetPolicy(mayConnect, maySubscribe, mayListen) // nobody may talk
	eventually(t, "publish is refused", func() bool { return two.publish("hall/x", "evil", 1) == 0x87 })
	// The retained message went with the right to publish it.
	eventually(t, "the permission to listen is in force", func() bool { return one.subscribe("hall/+")[0] == 1 })
	w.desk.SetPolicy(mayConnect, mayPublish, maySubscribe, mayListen, mayTalk)
	eventually(t, "publish is allowed", func() bool { return two.publish("hall/fence", "fence", 1) == 0 })
	one.expect("fence")
}

// A retained message goes with its publisher's right to publish it.
func TestRetainedMessagesAreJudgedAgain(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as("sensor-2")
	code(t, "retain", one.retain("sensors/sensor-1/state", "old"), 0)
	code(t, "retain", one.retain("hall/state", "kept"), 0)
	listen := clienttest.Permit("mqtt:subscribe", "mqtt:topicfilter:*")
	w.desk.SetPolicy(mayConnect, mayTalk, listen)
	eventually(t, "publish is refused", func() bool { return one.publish("sensors/sensor-1/x", "x", 1) == 0x87 })
	// What is retained is judged a moment after that; were the right back by then, it would stay.
	eventually(t, "it is gone", func() bool {
		codes(t, "subscribe", two.subscribe("sensors/sensor-1/state", "hall/state"), 1, 1)
		if first := two.next("kept"); string(first.Payload) == "kept" {
			return true
		}
		two.expect("kept")
		return false
	})
	w.desk.SetPolicy(mayConnect, mayTalk, mayPublish, listen)
	eventually(t, "publish is allowed", func() bool { return one.publish("sensors/sensor-1/x", "x", 1) == 0 })
	codes(t, "subscribe", two.subscribe("sensors/sensor-1/state", "hall/state"), 1, 1)
	two.expect("kept") // and nothing before it
}

// Messages that are published while new permissions are on their way wait for them.
func TestDeliveryAcrossAPolicyChange(t *testing.T) {
	const rounds = 200
	// A busy machine is no reason to drop any: neither acknowledgements that are behind,
	// nor a desk that is slow.
	w := startAsking(t, client.Config{Timeout: time.Minute}, func(cfg *mochi.Config) {
		cfg.Limits.Queued, cfg.Limits.DeliveryWait = rounds, time.Minute
	})
	one, two := w.as("sensor-1"), w.as("sensor-2")
	one.subscribe("hall/#", "sensors/sensor-1/#")
	for i := range rounds {
		if i%2 == 0 {
			w.desk.SetPolicy(mayConnect, mayTalk, mayListen, maySubscribe)
		} else {
			w.desk.SetPolicy(mayConnect, mayTalk, mayListen, maySubscribe, mayPublish)
		}
		code(t, "publish", two.publish("hall/x", fmt.Sprint(i), 1), 0)
	}
	for i := range rounds {
		one.expect(fmt.Sprint(i))
	}
}

func TestSilentGatehouse(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as("sensor-2")
	one.subscribe("hall/#")
	code(t, "publish", two.publish("hall/x", "1", 1), 0)
	one.expect("1")
	w.desk.StopServer()
	eventually(t, "publish is not allowed", func() bool {
		return two.publish("hall/x", "2", 1) == 0x83
	})
	codes(t, "subscribe", one.subscribe("hall/new"), 0x83)
	d, err := w.dial("sensor-1", w.devices["sensor-1"])
	if err == nil {
		t.Fatal("connected")
	}
	code(t, "connect", d.ack.ReasonCode, 0x88)
	w.desk.StartServer()
	eventually(t, "publish is allowed", func() bool { return two.publish("hall/x", "3", 1) == 0 })
	eventually(t, "messages are delivered", func() bool { // after those allowed within the bound
		select {
		case p := <-one.got:
			return string(p.Payload) == "3"
		default:
			return two.publish("hall/x", "3", 1) != 0
		}
	})
}

// Deliveries too stop when Gatehouse falls silent: the publisher may be another broker's
// bridge, or quicker than the silence.
func TestDeliveriesStopWhenGatehouseIsSilent(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as("sensor-2")
	one.subscribe("hall/#")
	code(t, "publish", two.publish("hall/x", "1", 1), 0)
	one.expect("1")
	w.desk.Mute(true)
	eventually(t, "nothing is delivered", func() bool {
		// The desk still answers authorize, so publishes stay allowed.
		if got := two.publish("hall/x", "2", 1); got != 0 {
			t.Fatalf("publish: reason code %#02x", got)
		}
		select {
		case <-one.got:
			return false
		case <-time.After(100 * time.Millisecond):
			return true
		}
	})
	w.desk.Mute(false)
	eventually(t, "messages are delivered", func() bool {
		two.publish("hall/x", "3", 1)
		select {
		case p := <-one.got:
			return string(p.Payload) == "3"
		case <-time.After(100 * time.Millisecond):
			return false
		}
	})
}

func TestTakeover(t *testing.T) {
	for name, edit := range map[string]func(*paho.Connect){
		"clean":      func(*paho.Connect) {},
		"persistent": persistent,
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, nil)
			two := w.as("sensor-2")
			older := w.as("sensor-1", edit)
			older.subscribe("hall/#")
			for range 5 {
				newer := w.as("sensor-1", edit)
				older.ends(0x8e)
				w.desk.WaitSessions(2)
				if present := newer.ack.SessionPresent; present != (name == "persistent") {
					t.Errorf("session present: %v", present)
				}
				if name == "clean" {
					newer.subscribe("hall/#")
				}
				code(t, "publish", two.publish("hall/x", "to the newer", 1), 0)
				newer.expect("to the newer")
				older = newer
			}
			eventually(t, "two are connected", func() bool { return w.broker.Connected() == 2 })
		})
	}
}

// A stranger who claims another's client id must not end the other's connection.
func TestTakeoverByAStranger(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as("sensor-2")
	one.subscribe("hall/#")
	if _, err := w.dial("sensor-1", w.devices["sensor-2"]); err == nil {
		t.Fatal("connected")
	}
	code(t, "publish", two.publish("hall/x", "undisturbed", 1), 0)
	one.expect("undisturbed")
}

func TestStormOfTakeovers(t *testing.T) {
	w := start(t, nil)
	two := w.as("sensor-2")
	const storm = 12
	done := make(chan error, storm)
	for range storm {
		go func() {
			_, err := w.dial("sensor-1", w.devices["sensor-1"], persistent)
			done <- err
		}()
	}
	for range storm {
		<-done // some lose the race before their CONNACK
	}
	one := w.as("sensor-1", persistent)
	one.subscribe("hall/#")
	code(t, "publish", two.publish("hall/x", "to the last", 1), 0)
	one.expect("to the last")
	w.desk.WaitSessions(2)
	eventually(t, "two are connected", func() bool { return w.broker.Connected() == 2 })
}

func TestPersistentSession(t *testing.T) {
	w := start(t, nil)
	two := w.as("sensor-2")
	leave := func() {
		one := w.as("sensor-1", persistent)
		one.subscribe("hall/#", "sensors/sensor-1/#")
		if err := one.conn.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is away", func() bool { return w.broker.Connected() == 1 })
		w.desk.WaitSessions(1)
	}
	leave()
	code(t, "publish", two.publish("hall/x", "while away", 1), 0)
	one := w.as("sensor-1", persistent)
	one.expect("while away")
	if err := one.c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is away", func() bool { return w.broker.Connected() == 1 })

	t.Run("policy changed while away", func(t *testing.T) {
		code(t, "publish", two.publish("hall/x", "queued", 1), 0)
		w.desk.SetPolicy(mayConnect, mayPublish, maySubscribe, mayTalk)
		one := w.as("sensor-1", persistent)
		if !one.ack.SessionPresent {
			t.Error("the session was lost")
		}
		code(t, "publish", two.publish("hall/x", "live", 1), 0)
		code(t, "own topic", one.publish("sensors/sensor-1/x", "mine", 1), 0)
		one.expect("mine") // neither what was queued nor what came since
		if subs := w.broker.Clients()[0].Subscriptions; len(subs) != 1 {
			t.Errorf("subscriptions %q, want its own alone", subs)
		}
		_ = one.conn.Close()
		eventually(t, "it is away", func() bool { return w.broker.Connected() == 1 })
	})
	t.Run("nobody can say", func(t *testing.T) {
		w.desk.OmitPermissions(true)
		w.desk.Refuse(authapi.OpAuthorize, messages.Refuse(messages.RefusedNotReady, "away"))
		d, err := w.dial("sensor-1", w.devices["sensor-1"], persistent)
		if err == nil {
			t.Fatal("connected")
		}
		code(t, "connect", d.ack.ReasonCode, 0x88)
		w.desk.OmitPermissions(false)
		w.desk.Refuse(authapi.OpAuthorize, nil)
		if d := w.as("sensor-1", persistent); !d.ack.SessionPresent {
			t.Error("the session was lost")
		}
	})
}

func TestLimitsOfRetained(t *testing.T) {
	w := start(t, func(c *mochi.Config) { c.Limits.RetainedByClient, c.Limits.Retained = 2, 3 })
	one, two := w.as("sensor-1"), w.as("sensor-2")
	code(t, "first", one.retain("hall/1", "x"), 0)
	code(t, "second", one.retain("hall/2", "x"), 0)
	code(t, "beyond the client's", one.retain("hall/3", "x"), 0x97)
	code(t, "again", one.retain("hall/1", "y"), 0)
	code(t, "another client's", two.retain("hall/3", "x"), 0)
	code(t, "beyond all", two.retain("hall/4", "x"), 0x97)
	code(t, "removed", one.retain("hall/1", ""), 0)
	code(t, "room again", two.retain("hall/4", "x"), 0)
}

// The bound in bytes holds for payloads and for what a publisher may put beside them, and
// for Wills, which are sent but not retained.
func TestRetainedBytes(t *testing.T) {
	w := start(t, func(c *mochi.Config) { c.Limits.RetainedBytes = 400 }) // 100 for one client
	one, two := w.as("sensor-1"), w.as("sensor-2")
	two.subscribe("hall/will")
	code(t, "first", one.retain("hall/1", strings.Repeat("x", 90)), 0)
	code(t, "beyond the client's", one.retain("hall/2", "x"), 0x97)
	code(t, "smaller", one.retain("hall/1", "x"), 0)
	r, err := one.c.Publish(t.Context(), &paho.Publish{
		Topic: "hall/2", Payload: []byte("x"), QoS: 1, Retain: true,
		Properties: &paho.PublishProperties{User: paho.UserProperties{{Key: "k", Value: strings.Repeat("v", 90)}}},
	})
	code(t, "long properties", reason(t, r, err), 0x97)
	code(t, "room again", one.retain("hall/2", strings.Repeat("x", 80)), 0)
	_ = one.conn.Close()

	_ = w.as("sensor-1", will("hall/will", true)).conn.Close()
	two.expect("will")
	w.desk.WaitSessions(1)
	codes(t, "subscribe", two.subscribe("hall/#"), 1)
	for range 2 { // hall/1 and hall/2, in any order, and then nothing
		if p := <-two.got; p.Topic == "hall/will" {
			t.Error("the Will is retained")
		}
	}
	code(t, "fence", two.publish("hall/fence", "fence", 1), 0)
	two.expect("fence")
}

// A message that was replaced must not stay in memory: mochi's strings point into the
// packet they were read from.
func TestReplacedMessagesAreLetGo(t *testing.T) {
	w := start(t, nil)
	one := w.as("sensor-1")
	heap := func() int {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	const topics, size = 32, 100 << 10
	before := heap()
	for _, payload := range []string{strings.Repeat("x", size), "x"} {
		for i := range topics {
			code(t, "retained", one.retain(fmt.Sprintf("hall/%d", i), payload), 0)
		}
	}
	if grown := heap() - before; grown > topics*size/4 {
		t.Errorf("%d bytes more than before are in use", grown)
	}
}
