package awsemu_test

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"github.com/eclipse/paho.golang/paho"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// happened is a lifecycle event as it comes.
type happened struct {
	ClientID                  string `json:"clientId"`
	Timestamp                 int64  `json:"timestamp"`
	EventType                 string
	SessionIdentifier         string
	PrincipalIdentifier       string
	IPAddress                 string `json:"ipAddress"`
	VersionNumber             *int64
	ClientInitiatedDisconnect *bool
	DisconnectReason          string
	Topics                    []string
}

// heard is the event about a client that comes next, or of two at once that comes later:
// they may come out of order, as with AWS.
func (d *device) heard(t testing.TB, topic, event, client string, as *awsemu.Identity) happened {
	t.Helper()
	gotTopic, payload := d.next(t)
	if !strings.Contains(gotTopic, "/"+event+"/") {
		first := paho.Publish{Topic: gotTopic, Payload: []byte(payload)}
		gotTopic, payload = d.next(t)
		d.messages <- &first
	}
	var got happened
	if err := json.Unmarshal([]byte(payload), &got); err != nil || gotTopic != "$aws/events/"+topic+"/"+event+"/"+client || got.EventType != event || got.ClientID != client ||
		got.PrincipalIdentifier != string(as.ID) || got.Timestamp != noon.UnixMilli() || got.SessionIdentifier == "" {
		t.Errorf("heard %s %s (%v), want %s/%s of %s", gotTopic, payload, err, topic, event, client)
	}
	return got
}

// AWS IoT tells who comes, subscribes and goes, and why.
func TestLifecycleEvents(t *testing.T) {
	w := newWorld(t)
	d := must[*device](t)(w.dial(t, w.core, "observer"))
	if err := d.subscribe(t, "$aws/events/presence/+/+", "$aws/events/subscriptions/+/+"); err != nil {
		t.Fatal(err)
	}
	d.heard(t, "subscriptions", "subscribed", "observer", w.core)
	connected := func() happened {
		t.Helper()
		got := d.heard(t, "presence", "connected", "pump-7", w.pump)
		if got.IPAddress != "127.0.0.1" || got.VersionNumber == nil || got.ClientInitiatedDisconnect != nil {
			t.Errorf("connected: %+v", got)
		}
		return got
	}
	gone := func(what string, since happened, byClient bool, reason string) {
		t.Helper()
		got := d.heard(t, "presence", "disconnected", "pump-7", w.pump)
		if got.SessionIdentifier != since.SessionIdentifier || *got.VersionNumber != *since.VersionNumber || got.ClientInitiatedDisconnect == nil || *got.ClientInitiatedDisconnect != byClient || got.DisconnectReason != reason {
			t.Errorf("%s: %+v, want %s", what, got, reason)
		}
	}
	dial := func() *device { t.Helper(); return must[*device](t)(w.dial(t, w.pump, "pump-7")) }

	pump := dial()
	first := connected()
	if err := pump.subscribe(t, "a/+", "b"); err != nil {
		t.Fatal(err)
	}
	if got := d.heard(t, "subscriptions", "subscribed", "pump-7", w.pump); strings.Join(got.Topics, " ") != "a/+ b" || got.SessionIdentifier != first.SessionIdentifier {
		t.Errorf("subscribed: %+v", got)
	}
	ctx, cancel := pump.during(t)
	defer cancel()
	if _, err := pump.Unsubscribe(ctx, &paho.Unsubscribe{Topics: []string{"b"}}); err != nil {
		t.Fatal(err)
	}
	if got := d.heard(t, "subscriptions", "unsubscribed", "pump-7", w.pump); strings.Join(got.Topics, " ") != "b" {
		t.Errorf("unsubscribed: %+v", got)
	}
	if err := pump.Disconnect(&paho.Disconnect{}); err != nil {
		t.Fatal(err)
	}
	gone("good-bye", first, true, "CLIENT_INITIATED_DISCONNECT")

	dial()
	second := connected()
	if *second.VersionNumber <= *first.VersionNumber || second.SessionIdentifier == first.SessionIdentifier {
		t.Errorf("connected again: %+v after %+v", second, first)
	}
	pump = dial() // takes over
	gone("taken over", second, false, "DUPLICATE_CLIENTID")
	third := connected()
	_ = pump.publish(t, "$aws/events/presence/connected/x", "{}")
	gone("forging", third, false, "AUTH_ERROR")

	conn := must[net.Conn](t)(w.mqttConn(t, w.pump, w.emulator.MQTTAddr()))
	packet := append([]byte{0x10, 18, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 6}, "pump-7"...)
	if _, err := conn.Write(packet); err != nil {
		t.Fatal(err)
	}
	fourth := connected()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	gone("hung up", fourth, false, "CONNECTION_LOST")

	dial()
	fifth := connected()
	if err := w.registry.Revoke(w.pump.ID); err != nil {
		t.Fatal(err)
	}
	gone("revoked", fifth, false, "SERVER_INITIATED_DISCONNECT")
	w.emulator.PublishMQTT("$aws/events/presence/end/end", []byte("end"))
	if topic, payload := d.next(t); payload != "end" {
		t.Errorf("heard %s %s beside", topic, payload)
	}
}
