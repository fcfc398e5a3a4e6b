package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// demo is a plain NATS client as broker demo: nats.go and JSON, nothing of ours.
type demo struct {
	conn *nats.Conn
	dir  string
}

func connectDemo(t *testing.T, d *dev) *demo {
	t.Helper()
	conn, err := nats.Connect("nats://"+d.nats, nats.UserCredentials(filepath.Join(d.dir, "brokers", "demo.creds")), nats.CustomInboxPrefix("_INBOX_demo"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &demo{conn, d.dir}
}

// connectSeed is connectDemo for a NATS server that knows plain nkeys: the seed of the
// credentials file alone.
func connectSeed(t *testing.T, d *dev) *demo {
	t.Helper()
	user, err := nats.NkeyOptionFromSeed(filepath.Join(d.dir, "brokers", "demo.creds"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect("nats://"+d.nats, user, nats.CustomInboxPrefix("_INBOX_demo"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return &demo{conn, d.dir}
}

// ask sends a request and returns the answer, or the name of the error.
func (b *demo) ask(t *testing.T, op string, request any) (answer map[string]any, failure string) {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.conn.Request("gatehouse.v1.demo."+op, body, 10*time.Second)
	if err != nil {
		t.Fatalf("%s: %v", op, err)
	}
	if name := m.Header.Get("Gatehouse-Error"); name != "" {
		return nil, name
	}
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		t.Fatalf("%s: %v in %s", op, err, m.Data)
	}
	return answer, ""
}

func (b *demo) pem(t *testing.T, thing string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(b.dir, "devices", thing, "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// token verifies thing's certificate and opens a session.
func (b *demo) token(t *testing.T, thing string) string {
	t.Helper()
	credential := map[string]any{"credential": map[string]any{"clientDeviceCertificate": b.pem(t, thing)}}
	if answer, failure := b.ask(t, "verify", credential); failure != "" || answer["isValidClientDevice"] != true {
		t.Fatalf("verify %s: %v %s", thing, answer, failure)
	}
	answer, failure := b.ask(t, "token", mqttCredential(thing, b.pem(t, thing)))
	token, _ := answer["clientDeviceAuthToken"].(string)
	if failure != "" || token == "" {
		t.Fatalf("token of %s: %v %s", thing, answer, failure)
	}
	return token
}

func mqttCredential(clientID, pem string) map[string]any {
	return map[string]any{"credential": map[string]any{"mqttCredential": map[string]any{"clientId": clientID, "certificatePem": pem}}}
}

func (b *demo) authorize(t *testing.T, token, resource string) bool {
	t.Helper()
	answer, failure := b.ask(t, "authorize", map[string]any{"clientDeviceAuthToken": token, "operation": "mqtt:publish", "resource": resource})
	if failure != "" {
		t.Logf("authorize: %s", failure)
		return false
	}
	return answer["isAuthorized"] == true
}

// TestDemoBroker: a plain NATS client gets the same answers as the MQTT path, and can
// neither use nor hear another broker's subjects.
func TestDemoBroker(t *testing.T) {
	d := startDev(t, "")
	b := connectDemo(t, d)
	token := b.token(t, "sensor-1")
	for resource, want := range map[string]bool{
		"mqtt:topic:sensors/sensor-1/t": true, "mqtt:topic:sensors/sensor-2/t": false, "mqtt:topic:#": false,
	} {
		if got := b.authorize(t, token, resource); got != want {
			t.Errorf("authorize %s = %v, want %v", resource, got, want)
		}
	}
	for name, c := range map[string]struct {
		op      string
		request any
		failure string
	}{
		"foreign certificate": {"token", mqttCredential("sensor-2", b.pem(t, "sensor-1")), "InvalidCredential"},
		"wrong client id":     {"token", mqttCredential("nobody", b.pem(t, "sensor-1")), "InvalidCredential"},
		"magic token":         {"authorize", map[string]any{"clientDeviceAuthToken": "ALLOW_ALL", "operation": "mqtt:publish", "resource": "mqtt:topic:x"}, "InvalidClientDeviceAuthToken"},
		"no token":            {"authorize", map[string]any{"operation": "mqtt:publish", "resource": "mqtt:topic:x"}, "InvalidArguments"},
		"other service":       {"authorize", map[string]any{"clientDeviceAuthToken": token, "operation": "mqtt:publish", "resource": "http:topic:x"}, "Service"},
		"no credential":       {"verify", map[string]any{}, "InvalidArguments"},
	} {
		if answer, failure := b.ask(t, c.op, c.request); failure != c.failure {
			t.Errorf("%s: %v %q, want %q", name, answer, failure, c.failure)
		}
	}
	if answer, failure := b.ask(t, "close", map[string]any{"clientDeviceAuthToken": token}); failure != "" {
		t.Errorf("close: %v %s", answer, failure)
	}
	if _, failure := b.ask(t, "authorize", map[string]any{"clientDeviceAuthToken": token, "operation": "mqtt:publish", "resource": "mqtt:topic:sensors/sensor-1/t"}); failure != "InvalidClientDeviceAuthToken" {
		t.Errorf("authorize after close: %q", failure)
	}
	t.Run("other brokers' subjects", b.foreign)
}

// foreign tries what only broker mqtt may do.
func (b *demo) foreign(t *testing.T) {
	refused := make(chan error, 16)
	b.conn.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	for _, try := range []func() error{
		func() error {
			return b.conn.PublishRequest("gatehouse.v1.mqtt.authorize", "_INBOX_demo.x", []byte("{}"))
		},
		func() error { return b.conn.Publish("gatehouse.v1.push.mqtt.session-closed", []byte("{}")) },
		func() error { return b.conn.PublishRequest("gatehouse.v1.admin.status", "_INBOX_demo.x", nil) },
		func() error { _, err := b.conn.SubscribeSync("gatehouse.v1.push.mqtt.>"); return err },
		func() error { _, err := b.conn.SubscribeSync("_INBOX_mqtt.>"); return err },
		func() error { _, err := b.conn.SubscribeSync(">"); return err },
	} {
		if err := try(); err != nil {
			t.Fatal(err)
		}
		if err := b.conn.Flush(); err != nil {
			t.Fatal(err)
		}
		select {
		case <-refused:
		case <-time.After(5 * time.Second):
			t.Error("not refused")
		}
	}
	// A reply subject of another broker: the desk drops the request.
	heard, err := b.conn.SubscribeSync("_INBOX_demo.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.conn.PublishRequest("gatehouse.v1.demo.authorize", "gatehouse.v1.push.mqtt.session-closed", []byte("{}")); err != nil {
		t.Fatal(err)
	}
	if m, err := heard.NextMsg(300 * time.Millisecond); err == nil {
		t.Errorf("answered: %s", m.Data)
	}
}

// TestAuditorHearsEvents: who may audit hears each record once it is durable.
func TestAuditorHearsEvents(t *testing.T) {
	d := startDev(t, "")
	conn, err := nats.Connect("nats://"+d.nats, nats.UserCredentials(filepath.Join(d.dir, "brokers", "auditor.creds")), nats.CustomInboxPrefix("_INBOX_auditor"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	events, err := conn.SubscribeSync("gatehouse.v1.events.SessionOpened")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	connectDemo(t, d).token(t, "sensor-1")
	m, err := events.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var event struct{ Stream, Kind, Broker string }
	if err := json.Unmarshal(m.Data, &event); err != nil || event.Stream != "device/sensor-1" || event.Kind != "SessionOpened" || event.Broker != "demo" {
		t.Errorf("%v in %s", err, m.Data)
	}
}
