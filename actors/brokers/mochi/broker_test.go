package mochi_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/paho"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client/clienttest"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/mochi"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

func TestPublishAndReceive(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as3("sensor-2")
	codes(t, "subscribe", one.subscribe("hall/#", "sensors/sensor-1/+"), 1, 1)
	code(t, "3.1.1 subscribe", two.subscribe("hall/#"), 1)
	for qos := range byte(3) {
		code(t, "publish", one.publish("hall/door", "open", qos), 0)
		one.expect("open")
		two.expect("open")
		if err := two.publish("hall/door", "shut", qos); err != nil {
			t.Errorf("3.1.1 publish with QoS %d: %v", qos, err)
		}
		one.expect("shut")
		two.expect("shut")
	}
	code(t, "own topic", one.publish("sensors/sensor-1/t", "21", 1), 0)
	one.expect("21")
	if n := w.broker.Connected(); n != 2 {
		t.Errorf("%d clients are connected, want 2", n)
	}
	infos := w.broker.Clients()
	if len(infos) != 2 || infos[0].ClientID != "sensor-1" || infos[0].Version != "5" || infos[1].Version != "3.1.1" || len(infos[0].Subscriptions) != 2 {
		t.Errorf("clients: %+v", infos)
	}
	if err := one.c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Error(err)
	}
	w.desk.WaitSessions(1)
	eventually(t, "one is gone", func() bool { return w.broker.Connected() == 1 })
}

func TestSharedSubscription(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as("sensor-2")
	codes(t, "share", one.subscribe("$share/group/hall/+"), 1)
	codes(t, "another group", one.subscribe("$share/other/hall/+"), 0x87)
	code(t, "publish", two.publish("hall/a", "shared", 1), 0)
	one.expect("shared")
}

func TestRefusedPublish(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as("sensor-2")
	two.subscribe("sensors/sensor-2/#", "hall/#")
	code(t, "QoS 0", one.publish("sensors/sensor-2/x", "evil", 0), 0)
	code(t, "QoS 1", one.publish("sensors/sensor-2/x", "evil", 1), 0x87)
	code(t, "QoS 2", one.publish("sensors/sensor-2/x", "evil", 2), 0x87)
	code(t, "retained", one.retain("sensors/sensor-2/x", "evil"), 0x87)
	for name, topic := range map[string]string{
		"$SYS":      "$SYS/broker/version",
		"$share":    "$share/group/hall/x",
		"$":         "$aws/things/sensor-1",
		"too long":  "hall/" + strings.Repeat("x", 1024),
		"too deep":  "hall/" + strings.Repeat("/", 64),
		"long name": "hall/" + strings.Repeat("x/", 600),
	} {
		code(t, name, one.publish(topic, "evil", 1), 0x90)
		code(t, name, one.publish(topic, "evil", 2), 0x90)
	}
	code(t, "control character", one.publish("hall/\x01", "evil", 1), 0x87)
	code(t, "allowed", one.publish("hall/x", "good", 1), 0)
	two.expect("good") // the first thing it receives
}

func TestRefusedPublishV3(t *testing.T) {
	w := start(t, nil)
	one, two := w.as3("sensor-1"), w.as("sensor-2")
	two.subscribe("sensors/sensor-2/#", "hall/#")
	for qos := range byte(3) {
		if err := one.publish("sensors/sensor-2/x", "evil", qos); err != nil {
			t.Errorf("QoS %d: %v", qos, err)
		}
	}
	if err := one.publish("$SYS/x", "evil", 1); err != nil {
		t.Errorf("$SYS: %v", err)
	}
	if err := one.publish("hall/x", "good", 2); err != nil {
		t.Error(err)
	}
	two.expect("good")
}

func TestRefusedPublishV3Disconnects(t *testing.T) {
	t.Run("when so configured", func(t *testing.T) {
		w := start(t, func(c *mochi.Config) { c.DisconnectDenied = true })
		one := w.as3("sensor-1")
		one.c.Publish("sensors/sensor-2/x", 1, false, "evil")
		one.ends()
	})
	t.Run("when nobody can say", func(t *testing.T) {
		w := start(t, nil)
		w.desk.OmitPermissions(true)
		one := w.as3("sensor-1")
		w.desk.Refuse(authapi.OpAuthorize, messages.Refuse(messages.RefusedNotReady, "away"))
		one.c.Publish("hall/x", 1, false, "lost?")
		one.ends()
	})
}

func TestRefusedSubscribe(t *testing.T) {
	w := start(t, func(c *mochi.Config) { c.Limits.Subscriptions = 4 })
	one, three := w.as("sensor-1"), w.as3("sensor-2")
	codes(t, "mixed", one.subscribe("sensors/sensor-2/#", "hall/#", "#", "+/+", "$SYS/#"), 0x87, 1, 0x87, 0x87, 0x87)
	for _, filter := range []string{"hall/#/x", "hall/a#", "hall/a+", "$share/group", "$share/g+/hall/x", "$SHARE/group/hall/x", "$share//hall/x", "$share/a/$share/b/c"} {
		codes(t, filter, one.subscribe(filter), 0x8f)
	}
	codes(t, "up to the quota", one.subscribe("hall/1", "hall/2", "hall/3", "hall/4", "hall/1"), 1, 1, 1, 0x97, 1)
	code(t, "3.1.1", three.subscribe("sensors/sensor-1/#"), 0x80)
	code(t, "3.1.1, malformed", three.subscribe("$SHARE/group/hall/x"), 0x80)
	w.desk.OmitPermissions(true)
	w.desk.Refuse(authapi.OpPermissions, messages.Refuse(messages.RefusedNotReady, "away"))
	w.desk.Refuse(authapi.OpAuthorize, messages.Refuse(messages.RefusedNotReady, "away"))
	w.desk.SetPolicy(mayConnect, maySubscribe)
	eventually(t, "nobody can say", func() bool { return one.subscribe("sensors/sensor-1/x")[0] == 0x83 })
}

func TestConnectRefusals(t *testing.T) {
	w := start(t, nil)
	selfMade := clienttest.Certificate(t, "sensor-1")
	for _, c := range []struct {
		name     string
		prepare  func()
		clientID string
		cert     tls.Certificate
		edit     func(*paho.Connect)
		want5    byte
		want3    string
	}{
		{"self-made certificate", nil, "sensor-1", selfMade, nil, 0x87, "not Authorized"},
		{"another's client id", nil, "sensor-2", w.devices["sensor-1"], nil, 0x87, "not Authorized"},
		{"a stranger's client id", nil, "sensor-1/#", w.devices["sensor-1"], nil, 0x87, "not Authorized"},
		{"no client id", nil, "", w.devices["sensor-1"], nil, 0x85, "identifier rejected"},
		{"will elsewhere", nil, "sensor-1", w.devices["sensor-1"], will("sensors/sensor-2/x", false), 0x87, ""},
		{"will with a wildcard", nil, "sensor-1", w.devices["sensor-1"], will("hall/#", false), 0x90, ""},
		{"will into $SYS", nil, "sensor-1", w.devices["sensor-1"], will("$SYS/x", false), 0x90, ""},
		{"extended authentication", nil, "sensor-1", w.devices["sensor-1"], func(cp *paho.Connect) {
			cp.Properties = &paho.ConnectProperties{AuthMethod: "SCRAM"}
		}, 0x8c, ""},
		{"busy", func() {
			w.desk.Refuse(authapi.OpAuthenticate, &messages.Refusal{Code: messages.RefusedBusy, RetryAfter: time.Second})
		}, "sensor-1", w.devices["sensor-1"], nil, 0x89, "Server Unavailable"},
		{"not ready", func() {
			w.desk.Refuse(authapi.OpAuthenticate, messages.Refuse(messages.RefusedNotReady, "starting"))
		}, "sensor-1", w.devices["sensor-1"], nil, 0x88, "Server Unavailable"},
		{"being registered", func() {
			w.desk.Refuse(authapi.OpAuthenticate, &messages.Refusal{Code: messages.RefusedPending, RetryAfter: 5 * time.Second})
		}, "sensor-1", w.devices["sensor-1"], nil, 0x88, "Server Unavailable"},
		{"policy without connect", func() {
			w.desk.Refuse(authapi.OpAuthenticate, nil)
			w.desk.SetPolicy(mayPublish)
		}, "sensor-1", w.devices["sensor-1"], nil, 0x87, "not Authorized"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.prepare != nil {
				c.prepare()
			}
			edits := []func(*paho.Connect){}
			if c.edit != nil {
				edits = append(edits, c.edit)
			}
			d, err := w.dial(c.clientID, c.cert, edits...)
			if err == nil || d == nil || d.ack == nil {
				t.Fatalf("MQTT 5: %v, want CONNACK %#02x", err, c.want5)
			}
			code(t, "MQTT 5", d.ack.ReasonCode, c.want5)
			if c.want3 == "" {
				return
			}
			if _, err := w.dial3(c.clientID, c.cert); err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(c.want3)) {
				t.Errorf("MQTT 3.1.1: %v, want %q", err, c.want3)
			}
		})
	}
	w.desk.WaitSessions(0)
	eventually(t, "nobody is connected", func() bool { return w.broker.Connected() == 0 })
}

func TestTooManyClients(t *testing.T) {
	w := start(t, func(c *mochi.Config) { c.Limits.Clients = 1 })
	w.as("sensor-1")
	d, err := w.dial("sensor-2", w.devices["sensor-2"])
	if err == nil {
		t.Fatal("connected")
	}
	code(t, "connect", d.ack.ReasonCode, 0x89)
}

func TestTLS(t *testing.T) {
	w := start(t, nil)
	cert := w.devices["sensor-1"]
	handshake := func(edit func(*tls.Config)) error {
		cfg := w.tls(&cert)
		edit(cfg)
		conn, err := tls.Dial("tcp", w.broker.Addr().String(), cfg)
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		// With TLS 1.3 the server's verdict comes after the client's part is done.
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Write([]byte{0x10, 0x00}); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		if errors.Is(err, io.EOF) {
			return nil // the broker took the handshake, and then refused the empty CONNECT
		}
		return err
	}
	if err := handshake(func(*tls.Config) {}); err != nil {
		t.Errorf("good handshake: %v", err)
	}
	// Without a certificate the refusal comes at CONNECT, with a reason: see
	// TestNoCertificate.
	if err := handshake(func(c *tls.Config) { c.Certificates = nil }); err != nil {
		t.Errorf("no certificate: %v", err)
	}
	if err := handshake(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS11; c.MinVersion = tls.VersionTLS10 }); err == nil {
		t.Error("TLS 1.1: handshake succeeded")
	}
	if err := handshake(func(c *tls.Config) {
		chain := cert
		for range 4 {
			chain.Certificate = append(chain.Certificate[:len(chain.Certificate):len(chain.Certificate)], cert.Certificate[0])
		}
		c.Certificates = []tls.Certificate{chain}
	}); err == nil {
		t.Error("chain of five: handshake succeeded")
	}
	// No session may be resumed without proving the key again.
	cache := tls.NewLRUClientSessionCache(4)
	for range 2 {
		cfg := w.tls(&cert)
		cfg.ClientSessionCache, cfg.MaxVersion = cache, tls.VersionTLS12
		conn, err := tls.Dial("tcp", w.broker.Addr().String(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if conn.ConnectionState().DidResume {
			t.Error("the session was resumed")
		}
		_ = conn.Close()
	}
}

func TestNoCertificate(t *testing.T) {
	w := start(t, nil)
	d, err := w.dial("sensor-1", tls.Certificate{})
	if err == nil {
		t.Fatal("connected")
	}
	code(t, "MQTT 5", d.ack.ReasonCode, 0x87)
	if _, err := w.dial3("sensor-1", tls.Certificate{}); err == nil || !strings.Contains(strings.ToLower(err.Error()), "not authorized") {
		t.Errorf("MQTT 3.1.1: %v", err)
	}
	if n := w.desk.Asked(authapi.OpAuthenticate); n != 2 {
		t.Errorf("Gatehouse heard of %d refusals, want 2", n)
	}
	// Not even if Gatehouse said yes.
	w.desk.TrustNobody("sensor-1")
	if d, err = w.dial("sensor-1", tls.Certificate{}); err == nil {
		t.Fatal("connected")
	}
	code(t, "MQTT 5", d.ack.ReasonCode, 0x87)
	w.desk.WaitAsked(authapi.OpClose, 1)
	w.desk.WaitSessions(0)
}

func TestTopicAliases(t *testing.T) {
	w := start(t, nil)
	ten := uint16(10)
	one := w.as("sensor-1", func(cp *paho.Connect) { cp.Properties = &paho.ConnectProperties{TopicAliasMaximum: &ten} })
	one.subscribe("hall/#")
	two := w.as("sensor-2")
	for range 3 {
		code(t, "publish", two.publish("hall/x", "named", 1), 0)
		if p := one.expect("named"); p.Topic != "hall/x" {
			t.Errorf("received on topic %q", p.Topic)
		}
	}
	if m := one.ack.Properties.TopicAliasMaximum; m != nil && *m != 0 {
		t.Errorf("CONNACK offers %d aliases, want none", *m)
	}
	alias := uint16(1) // paho sends it although none was offered, and the answer is the end
	_, _ = two.c.Publish(t.Context(), &paho.Publish{Topic: "hall/x", QoS: 0, Payload: []byte("x"), Properties: &paho.PublishProperties{TopicAlias: &alias}})
	two.ends(0x94)
}

func TestServerCertificateIsSwappedLive(t *testing.T) {
	w := start(t, nil)
	one := w.as("sensor-1")
	one.subscribe("hall/#")
	fresh := clienttest.Certificate(t, "broker, renewed")
	w.current.Store(&fresh)
	two := w.as("sensor-2") // trusts only the new certificate
	code(t, "publish", two.publish("hall/x", "renewed", 1), 0)
	one.expect("renewed")
}

func TestHalfOpenConnections(t *testing.T) {
	w := start(t, func(c *mochi.Config) {
		c.Limits.Handshakes = 2
		c.Limits.ConnectTimeout = 2 * time.Second // long enough that the first two are still there when the third comes
	})
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", w.broker.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		return conn
	}
	first, second := dial(), dial()
	third := dial()
	if _, err := third.Read(make([]byte, 1)); err == nil {
		t.Error("a third handshake was begun")
	}
	if n := w.broker.Shed(); n != 1 {
		t.Errorf("%d connections were shed, want 1", n)
	}
	for _, conn := range []net.Conn{first, second} {
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, net.ErrClosed) || err == nil {
			t.Errorf("read: %v, want the broker to close", err)
		}
	}
	eventually(t, "there is room again", func() bool {
		_, err := w.dial("sensor-1", w.devices["sensor-1"])
		return err == nil
	})
}

// TestHalfOpenConnectionsOfOneHost: who holds connections open and says nothing keeps
// out its own host, and no other.
func TestHalfOpenConnectionsOfOneHost(t *testing.T) {
	w := start(t, func(c *mochi.Config) { c.Limits.Handshakes = 4 })
	dial := func(from string) net.Conn {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp", w.broker.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		return conn
	}
	for range 3 {
		dial("127.0.0.2")
	}
	if _, err := dial("127.0.0.2").Read(make([]byte, 1)); err == nil {
		t.Error("a fourth handshake of one host was begun")
	}
	if n := w.broker.Shed(); n != 1 {
		t.Errorf("%d connections were shed, want 1", n)
	}
	if _, err := w.dial("sensor-1", w.devices["sensor-1"]); err != nil { // from 127.0.0.1
		t.Errorf("another host is kept out: %v", err)
	}
}

func TestFirstPacket(t *testing.T) {
	w := start(t, nil)
	cert := w.devices["sensor-1"]
	for name, first := range map[string][]byte{
		"a PUBLISH":            {0x30, 0x05, 0, 1, 'a', 'x', 'y'},
		"a CONNECT with flags": {0x11, 0x10},
		"too long":             {0x10, 0xff, 0xff, 0x7f},
		"endless length":       {0x10, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		conn, err := tls.Dial("tcp", w.broker.Addr().String(), w.tls(&cert))
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Write(first); err != nil {
			t.Error(err)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil || n != 0 || errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: read %d, %v, want the broker to close", name, n, err)
		}
		_ = conn.Close()
	}
	if n := w.desk.Asked(authapi.OpAuthenticate); n != 0 {
		t.Errorf("Gatehouse was asked %d times, want 0", n)
	}
}

func TestPacketTooLarge(t *testing.T) {
	w := start(t, func(c *mochi.Config) { c.Limits.PacketBytes = 4096 })
	one := w.as("sensor-1")
	if one.ack.Properties.MaximumPacketSize == nil || *one.ack.Properties.MaximumPacketSize != 4096 {
		t.Errorf("CONNACK says maximum packet size %v, want 4096", one.ack.Properties.MaximumPacketSize)
	}
	two := w.as3("sensor-2")
	two.c.Publish("hall/x", 0, false, strings.Repeat("x", 5000))
	two.ends()
}

func TestCloseDisconnectsAndWaits(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as3("sensor-2")
	if err := w.broker.Close(); err != nil {
		t.Fatal(err)
	}
	one.ends(0x8b)
	two.ends()
	if n := w.broker.Connected(); n != 0 {
		t.Errorf("%d clients are connected after Close", n)
	}
	if _, err := net.DialTimeout("tcp", w.broker.Addr().String(), time.Second); err == nil {
		t.Error("the broker still listens")
	}
	w.desk.WaitSessions(0)
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]mochi.Config{
		"nothing":        {},
		"no certificate": {Listen: "127.0.0.1:0"},
		"no client":      {Listen: "127.0.0.1:0", GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }},
	} {
		if b, err := mochi.New(cfg); err == nil {
			t.Errorf("%s: started", name)
			_ = b.Close()
		}
	}
}

// What AWS IoT takes, a payload of 128 KiB, passes with the default limits; and there is a
// limit, which the CONNACK tells.
func TestLargestPacket(t *testing.T) {
	w := start(t, nil)
	one, two := w.as("sensor-1"), w.as("sensor-2")
	two.subscribe("hall/#")
	most := one.ack.Properties.MaximumPacketSize
	if most == nil || *most != 144<<10 {
		t.Fatalf("largest packet: %v, want 144 KiB", most)
	}
	large := strings.Repeat("x", 128<<10)
	code(t, "128 KiB", one.publish("hall/large", large, 1), 0)
	two.expect(large)
	// The write may see the end of the connection before it is through.
	_, _ = one.c.Publish(t.Context(), &paho.Publish{Topic: "hall/large", Payload: make([]byte, 144<<10)})
	select {
	case <-one.gone:
	case <-one.lost:
	case <-time.After(patience):
		t.Fatal("still connected after a packet beyond the limit")
	}
}
