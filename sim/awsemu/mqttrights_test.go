package awsemu_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// hear waits for exactly these messages, and then for one that is sent last.
func (d *device) hear(t testing.TB, what string, want ...string) {
	t.Helper()
	for _, topic := range append(want, "all/last") {
		if got, _ := d.next(t); got != topic {
			t.Errorf("%s: heard %s, want %s", what, got, topic)
		}
	}
}

const talk = "all/*" // what everybody may speak of in these tests

// speaker may do what it likes.
func (w *world) speaker(t testing.TB) *device {
	t.Helper()
	w.grant(t, w.valve, allow("iot:*", "*"))
	return must[*device](t)(w.dial(t, w.valve, "valve-1"))
}

// AWS does not answer a CONNECT that it refuses; here it does if it is told to.
func TestRefusedConnects(t *testing.T) {
	for _, words := range []bool{false, true} {
		w := newWorldAt(t, atNoon, func(c *awsemu.Config) { c.ConnackUnauthorized = words })
		w.grant(t, w.valve, allow("iot:Connect", iotARN+"client/other"))
		if err := w.registry.DetachPolicy(awsemu.DefaultPolicyName, awsemu.CertificateARN(w.pump.ID)); err != nil {
			t.Fatal(err)
		}
		if err := w.registry.Revoke(w.core.ID); err != nil {
			t.Fatal(err)
		}
		for name, as := range map[string]*awsemu.Identity{"without a policy": w.pump, "under another name": w.valve, "a stranger": w.stranger, "revoked": w.core} {
			got := fmt.Sprintf("%x", w.connect(t, as, awsemu.ServerName)) // MQTT 3.1.1
			if want := map[bool]string{false: "", true: "20020005"}[words]; got != want {
				t.Errorf("%s: answered with %s, want %q", name, got, want)
			}
			conn := must[net.Conn](t)(w.mqttConn(t, as, w.emulator.MQTTAddr()))
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			connack, err := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)}).Connect(ctx, &paho.Connect{ClientID: "pump-7", CleanStart: true})
			cancel()
			if err == nil || words != (connack != nil && connack.ReasonCode == 0x87) {
				t.Errorf("%s: MQTT 5: answered %+v (%v)", name, connack, err)
			}
		}
	}
}

// Variables stand for the thing of the connection, which must hold the certificate.
func TestVariablesAtMQTT(t *testing.T) {
	w := newWorld(t)
	w.control(t, "POST", "/thing-types/pump", "")
	w.control(t, "PATCH", "/things/pump-7", `{"thingTypeName":"pump","attributePayload":{"attributes":{"line":"north"}}}`)
	own := iotARN + "topic/${iot:Connection.Thing.ThingTypeName}/${iot:Connection.Thing.Attributes[line]}/${iot:ClientId}"
	w.grant(t, w.pump,
		`{"Effect":"Allow","Action":"iot:Connect","Resource":"`+iotARN+`client/*","Condition":{"Bool":{"iot:Connection.Thing.IsAttached":"true"}}}`,
		allow("iot:Publish", own))
	for _, clientID := range []string{"valve-1", "nobody"} {
		if _, err := w.dial(t, w.pump, clientID); err == nil {
			t.Errorf("connected as %s", clientID)
		}
	}
	d := must[*device](t)(w.dial(t, w.pump, "pump-7"))
	if err := d.publish(t, "pump/north/pump-7", ""); err != nil {
		t.Error(err)
	}
	_ = d.publish(t, "pump/north/pump-8", "")
	d.wantEnd(t, "another's topic")

	// A certificate that belongs to one thing alone brings it along (cloud spec 8.2).
	w.grant(t, w.pump, allow("iot:Connect", iotARN+"client/${iot:Connection.Thing.ThingName}-*"))
	if _, err := w.dial(t, w.pump, "pump-7-a"); err == nil {
		t.Error("connected beside the thing's name")
	}
	r := w.signed(t, w.admin(), "PUT", "/things/pump-7/principals?thingPrincipalType=EXCLUSIVE_THING", "")
	r.Header.Set("X-Amzn-Principal", awsemu.CertificateARN(w.pump.ID))
	if got := w.send(t, r); got.status != 200 {
		t.Fatal(got.text)
	}
	must[*device](t)(w.dial(t, w.pump, "pump-7-a"))
}

// Publish, RetainPublish, Subscribe and the will, each by its own action and resource.
func TestActionsAtMQTT(t *testing.T) {
	w := newWorld(t)
	s := w.speaker(t)
	if err := s.subscribe(t, "all/#"); err != nil {
		t.Fatal(err)
	}
	begin := func(statements ...string) *device {
		t.Helper()
		w.grant(t, w.pump, append(statements, allow("iot:Connect", "*"))...)
		return must[*device](t)(w.dial(t, w.pump, "pump-7"))
	}
	d := begin(allow("iot:Publish", iotARN+"topic/"+talk), statement("Deny", "iot:Publish", iotARN+"topic/*/secret"))
	if err := d.publish(t, "all/a", ""); err != nil {
		t.Error(err)
	}
	_ = d.publish(t, "all/secret", "")
	d.wantEnd(t, "a publish that is denied")
	retain := func(d *device) error {
		ctx, cancel := d.during(t)
		defer cancel()
		_, err := d.Publish(ctx, &paho.Publish{Topic: "all/kept", QoS: 1, Retain: true, Payload: []byte("x")})
		return err
	}
	d = begin(allow("iot:Publish", iotARN+"topic/"+talk))
	_ = retain(d)
	d.wantEnd(t, "a retained publish without iot:RetainPublish")
	d = begin(allow("iot:RetainPublish", "*"))
	_ = retain(d)
	d.wantEnd(t, "a retained publish without iot:Publish")
	d = begin(allow("iot:Publish", iotARN+"topic/"+talk), allow("iot:RetainPublish", iotARN+"topic/all/kept"))
	if err := retain(d); err != nil {
		t.Error(err)
	}
	if err := d.publish(t, "all/last", ""); err != nil {
		t.Error(err)
	}
	s.hear(t, "what may be published", "all/a", "all/kept")

	// A filter is compared as text: what it would match does not count.
	d = begin(allow("iot:Subscribe", iotARN+"topicfilter/all/*"))
	for filter, granted := range map[string]bool{"all/+": true, "all/#": true, "all/a": true, "+/a": false, "#": false, "$share/g/all/a": false, "$SYS/#": false} {
		if err := d.subscribe(t, filter); (err == nil) != granted {
			t.Errorf("subscribe to %s: %v", filter, err)
		}
	}

	will := func(topic string, retain bool) error {
		conn, err := w.mqttConn(t, w.pump, w.emulator.MQTTAddr())
		if err != nil {
			return err
		}
		c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)})
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		_, err = c.Connect(ctx, &paho.Connect{ClientID: "pump-7", CleanStart: true, KeepAlive: 60, WillMessage: &paho.WillMessage{Topic: topic, QoS: 1, Retain: retain, Payload: []byte("x")}})
		if err == nil {
			_ = conn.Close() // without a DISCONNECT
		}
		return err
	}
	w.grant(t, w.pump, allow("iot:Connect", "*"), allow("iot:Publish", iotARN+"topic/all/will"))
	if err := will("all/other", false); err == nil {
		t.Error("connected with a will that may not be published")
	}
	if err := will("all/will", true); err == nil {
		t.Error("connected with a will that may not be retained")
	}
	if err := will("all/will", false); err != nil {
		t.Error(err)
	}
	if got, _ := s.next(t); got != "all/will" {
		t.Errorf("heard %s, want the will", got)
	}
}

// iot:Receive is judged at each delivery, also of what was retained, and by the policies
// of that moment.
func TestReceive(t *testing.T) {
	w := newWorld(t)
	s := w.speaker(t)
	for _, topic := range []string{"all/kept", "all/secret-kept"} {
		if _, err := s.Publish(t.Context(), &paho.Publish{Topic: topic, QoS: 1, Retain: true, Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
	}
	may := []string{allow("iot:Connect", "*"), allow("iot:Subscribe", "*"), allow("iot:Receive", iotARN+"topic/all/*")}
	guarded := append(may, statement("Deny", "iot:Receive", iotARN+"topic/*secret*"))
	w.grant(t, w.pump, guarded...)
	d := must[*device](t)(w.dial(t, w.pump, "pump-7"))
	if err := d.subscribe(t, "all/secret", "all/secret-kept", "all/#"); err != nil { // each is granted
		t.Fatal(err)
	}
	send := func(topics ...string) {
		t.Helper()
		for _, topic := range append(topics, "all/last") {
			if err := s.publish(t, topic, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	send("all/a", "all/secret", "all/secret-kept")
	d.hear(t, "guarded", "all/kept", "all/a")
	w.grant(t, w.pump, may...)
	send("all/secret")
	d.hear(t, "unguarded", "all/secret")
	w.grant(t, w.pump, may[:2]...)
	send("all/a", "all/secret")
	w.grant(t, w.pump, may...)
	send()
	d.hear(t, "after a time without the right")
}

// The policy of a thing's group is one of the connection's, and may deny.
func TestGroupPoliciesAtMQTT(t *testing.T) {
	w := newWorld(t)
	w.control(t, "POST", "/thing-groups/upper", "")
	w.control(t, "POST", "/thing-groups/below", `{"parentGroupName":"upper"}`)
	w.control(t, "PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"pump-7","thingGroupName":"below"}`)
	for group, text := range map[string]string{"upper": document(statement("Deny", "iot:Publish", iotARN+"topic/secret")), "below": document(allow("iot:Publish", "*"))} {
		if err := errors.Join(w.registry.CreatePolicy(group, text, noon), w.registry.AttachPolicy(group, iotARN+"thinggroup/"+group)); err != nil {
			t.Fatal(err)
		}
	}
	w.grant(t, w.pump, allow("iot:Connect", "*"))
	d := must[*device](t)(w.dial(t, w.pump, "pump-7"))
	if err := d.publish(t, "a", ""); err != nil {
		t.Error(err)
	}
	_ = d.publish(t, "secret", "")
	d.wantEnd(t, "what a group denies")
	d = must[*device](t)(w.dial(t, w.pump, "somebody"))
	_ = d.publish(t, "a", "")
	d.wantEnd(t, "a connection that is not the thing's")
}

// With MQTT 3.1.1 an unauthorised subscribe is a failure in the SUBACK.
func TestSubscribeOf311(t *testing.T) {
	w := newWorld(t)
	w.grant(t, w.pump, allow("iot:Connect", "*"), allow("iot:Subscribe", iotARN+"topicfilter/a"))
	c := paho3.NewClient(paho3.NewClientOptions().AddBroker("ssl://" + w.emulator.MQTTAddr()).SetTLSConfig(w.tls(t, w.pump)).SetClientID("pump-7").SetProtocolVersion(4).SetAutoReconnect(false))
	if token := c.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	defer c.Disconnect(100)
	token := c.SubscribeMultiple(map[string]byte{"a": 1, "b": 1}, nil)
	if !token.WaitTimeout(patience) {
		t.Fatal("no SUBACK")
	}
	if got := token.(*paho3.SubscribeToken).Result(); got["a"] != 1 || got["b"] != 0x80 {
		t.Errorf("granted %v", got)
	}
}
