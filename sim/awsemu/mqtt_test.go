package awsemu_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

const patience = 20 * time.Second // of a loaded machine

// device is a client of MQTT 5.
type device struct {
	*paho.Client
	messages chan *paho.Publish
	ended    chan struct{}
}

// mqttConn connects to the MQTT endpoint at addr.
func (w *world) mqttConn(t testing.TB, caller *awsemu.Identity, addr string, protocols ...string) (net.Conn, error) {
	t.Helper()
	config := w.tls(t, caller)
	config.NextProtos = protocols
	return (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", addr)
}

// dial connects as caller under a client id, with MQTT 5.
func (w *world) dial(t testing.TB, caller *awsemu.Identity, clientID string) (*device, error) {
	t.Helper()
	conn, err := w.mqttConn(t, caller, w.emulator.MQTTAddr())
	if err != nil {
		return nil, err
	}
	d := &device{messages: make(chan *paho.Publish, 100), ended: make(chan struct{})}
	end := sync.OnceFunc(func() { close(d.ended) })
	d.Client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			d.messages <- p.Packet
			return true, nil
		}},
		OnClientError:      func(error) { end() },
		OnServerDisconnect: func(*paho.Disconnect) { end() },
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if _, err := d.Connect(ctx, &paho.Connect{ClientID: clientID, CleanStart: true, KeepAlive: 60}); err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = d.Disconnect(&paho.Disconnect{}) })
	return d, nil
}

func (d *device) subscribe(t testing.TB, topics ...string) error {
	t.Helper()
	s := &paho.Subscribe{}
	for _, topic := range topics {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: topic, QoS: 1})
	}
	ctx, cancel := d.during(t)
	defer cancel()
	_, err := d.Subscribe(ctx, s)
	return err
}

func (d *device) publish(t testing.TB, topic, payload string) error {
	t.Helper()
	ctx, cancel := d.during(t)
	defer cancel()
	_, err := d.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: []byte(payload)})
	return err
}

// during ends with the connection, which paho's requests do not.
func (d *device) during(t testing.TB) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	go func() {
		select {
		case <-d.ended:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// next is the next message.
func (d *device) next(t testing.TB) (topic, payload string) {
	t.Helper()
	select {
	case m := <-d.messages:
		return m.Topic, string(m.Payload)
	case <-time.After(patience):
		t.Fatal("no message")
		return "", ""
	}
}

func (d *device) wantEnd(t testing.TB, what string) {
	t.Helper()
	select {
	case <-d.ended:
	case <-time.After(patience):
		t.Errorf("%s: still connected", what)
	}
}

func ofShadow(rest string) string { return "$aws/things/core-1-gci/shadow/" + rest }

func TestShadowsOverMQTT(t *testing.T) {
	w := newWorld(t)
	d := must[*device](t)(w.dial(t, w.core, "core-1"))
	if err := d.subscribe(t, ofShadow("#")); err != nil {
		t.Fatal(err)
	}
	want := func(rest, part string) {
		t.Helper()
		topic, payload := d.next(t)
		if topic != ofShadow(rest) || !strings.Contains(payload, part) || !json.Valid([]byte(payload)) {
			t.Errorf("got %s %s, want %s with %s", topic, payload, rest, part)
		}
	}
	send := func(rest, payload string) {
		t.Helper()
		if err := d.publish(t, ofShadow(rest), payload); err != nil {
			t.Fatalf("%s: %v", rest, err)
		}
	}
	send("get", "")
	want("get/rejected", `{"code":404,"message":"No shadow exists with name: 'core-1-gci'"`)
	if _, err := w.registry.SetConnectivity("core-1", noon, awsemu.Connectivity{Host: "10.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	version := `"version":"` + w.shadowVersion(t) + `"`
	want("update/accepted", version)
	want("update/documents", version)
	want("update/delta", `{"state":{`+version+`}`)
	send("get", `{"clientToken":"x"}`)
	want("get/accepted", `"clientToken":"x"`)
	send("update", `{"state":{"reported":{`+version+`}}}`)
	want("update/accepted", `"reported"`)
	want("update/documents", `"current"`) // and no delta: the next message is
	send("update", `{"state":1}`)
	want("update/rejected", `{"code":400,"message":"State node must be an object"`)
	send("delete", ``)
	want("delete/accepted", `"version":2`)
}

// Nobody may speak for the service, and the endpoint's own rules hold.
func TestRulesOfTheEndpoint(t *testing.T) {
	w := newWorld(t)
	for topic, stays := range map[string]bool{
		"sensors/1": true, ofShadow("get"): true, ofShadow("update/delta"): false, "$aws/things/core-1-gci/shadow/name/x/get": true, "$aws/things/core-1-gci/shadow/name/a b/get": false, "$aws/things/core-1-gci/shadow/name/get": false,
		"$SYS/x": false, "$aws/things/a b/shadow/get": false, "$aws/events/certificates/registered/1": false,
	} {
		d := must[*device](t)(w.dial(t, w.core, "core-1"))
		err := d.publish(t, topic, "{}")
		if stays && err != nil {
			t.Errorf("%s: %v", topic, err)
		}
		if !stays {
			d.wantEnd(t, topic)
		}
	}
	d := must[*device](t)(w.dial(t, w.core, "core-1"))
	if err := d.subscribe(t, "$SYS/#"); err == nil {
		t.Error("$SYS can be subscribed to")
	}
	if _, err := d.Publish(t.Context(), &paho.Publish{Topic: "a", QoS: 2}); err == nil {
		t.Error("a publish of QoS 2 was taken")
	}

	// The second connection under a client id ends the first.
	first := must[*device](t)(w.dial(t, w.core, "core-1"))
	must[*device](t)(w.dial(t, w.core, "core-1"))
	first.wantEnd(t, "the first of two")

	// Who is not active is hung up on, also in the middle.
	for name, caller := range map[string]*awsemu.Identity{"stranger": w.stranger} {
		if _, err := w.dial(t, caller, name); err == nil {
			t.Errorf("%s is connected", name)
		}
	}
	d = must[*device](t)(w.dial(t, w.pump, "pump-7"))
	if err := w.registry.Revoke(w.pump.ID); err != nil {
		t.Fatal(err)
	}
	d.wantEnd(t, "with a revoked certificate")
	if _, err := w.dial(t, w.pump, "pump-7"); err == nil {
		t.Error("a revoked certificate connects")
	}

	d = must[*device](t)(w.dial(t, w.core, "core-1"))
	if err := w.emulator.Offline(true); err != nil {
		t.Fatal(err)
	}
	d.wantEnd(t, "offline")
	if err := w.emulator.Offline(false); err != nil {
		t.Fatal(err)
	}
	must[*device](t)(w.dial(t, w.core, "core-1"))
}

// At the port of HTTPS, ALPN tells MQTT from HTTP.
func TestMQTTByALPN(t *testing.T) {
	w := newWorld(t)
	addr := strings.TrimPrefix(w.emulator.URL(), "https://")
	conn, err := w.mqttConn(t, w.core, addr, "x-amzn-mqtt-ca")
	if err != nil {
		t.Fatal(err)
	}
	c := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)})
	if _, err := c.Connect(t.Context(), &paho.Connect{ClientID: "core-1", CleanStart: true, KeepAlive: 60}); err != nil {
		t.Fatal(err)
	}
	if err := c.Disconnect(&paho.Disconnect{}); err != nil {
		t.Error(err)
	}
	if _, err := w.mqttConn(t, w.core, w.emulator.MQTTAddr(), "http/1.1"); err == nil {
		t.Error("the MQTT port agrees to HTTP")
	}
	wantVerdicts(t, w.client(t, w.core), "pump-7", w.pump, confirmed, confirmed)
}

func TestMinimalPolicy(t *testing.T) {
	for _, disconnects := range []bool{false, true} {
		t.Run(fmt.Sprintf("disconnects %v", disconnects), func(t *testing.T) {
			w := newWorldAt(t, atNoon, func(c *awsemu.Config) { c.DisconnectUnauthorized = disconnects })
			if err := w.registry.SetPolicy(w.core.ID, awsemu.PolicyMinimal); err != nil {
				t.Fatal(err)
			}
			if _, err := w.dial(t, w.core, "somebody"); err == nil {
				t.Error("connected under another's name")
			}
			d := must[*device](t)(w.dial(t, w.core, "core-1-a"))
			if err := d.subscribe(t, ofShadow("update/delta"), ofShadow("get/accepted")); err != nil {
				t.Fatal(err)
			}
			if err := d.publish(t, ofShadow("get"), ""); err != nil {
				t.Error(err)
			}
			if err := d.subscribe(t, ofShadow("get/rejected")); err == nil {
				t.Error("get/rejected is subscribed to")
			}
			if disconnects {
				d.wantEnd(t, "an unauthorised subscribe")
				d = must[*device](t)(w.dial(t, w.core, "core-1-a"))
			}
			_ = d.publish(t, ofShadow("update"), `{"state":{}}`)
			d.wantEnd(t, "an unauthorised publish")
		})
	}
}

// The endpoint misbehaves by script, as the others do.
func TestFaultsOverMQTT(t *testing.T) {
	w := newWorld(t)
	if _, err := w.registry.SetConnectivity("core-1", noon); err != nil {
		t.Fatal(err)
	}
	subscribed := func() *device {
		t.Helper()
		d := must[*device](t)(w.dial(t, w.core, "core-1"))
		if err := d.subscribe(t, ofShadow("#")); err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := subscribed()
	for _, op := range []string{"get", "update", "delete"} {
		name := map[string]awsemu.Fault{"get": {Operation: fault.GetShadow}, "update": {Operation: fault.UpdateShadow}, "delete": {Operation: fault.DeleteShadow}}[op]
		for _, status := range []int{429, 500} {
			f := name
			f.Status = status
			w.setFaults(t, f)
			if err := d.publish(t, ofShadow(op), `{"state":{}}`); err != nil {
				t.Fatal(err)
			}
			if topic, payload := d.next(t); topic != ofShadow(op+"/rejected") || !strings.HasPrefix(payload, fmt.Sprintf(`{"code":%d,`, status)) {
				t.Errorf("%s %d: %s %s", op, status, topic, payload)
			}
		}
		f := name
		f.Drop = true
		w.setFaults(t, f)
		_ = d.publish(t, ofShadow(op), `{"state":{}}`)
		d.wantEnd(t, op+" dropped")
		d = subscribed()
	}
	for _, f := range []awsemu.Fault{{Operation: fault.GetShadow, Mangle: fault.MangleGarbage}, {Operation: fault.Receive, Truncate: true}} {
		w.setFaults(t, f)
		if err := d.publish(t, ofShadow("get"), ""); err != nil {
			t.Fatal(err)
		}
		if topic, payload := d.next(t); topic != ofShadow("get/accepted") || json.Valid([]byte(payload)) {
			t.Errorf("%+v: %s %s", f, topic, payload)
		}
	}
	w.setFaults(t, awsemu.Fault{Operation: fault.Receive, Drop: true, Count: 1})
	for range 2 {
		if err := d.publish(t, ofShadow("get"), ""); err != nil {
			t.Fatal(err)
		}
	}
	d.next(t) // of two

	w.setFaults(t, awsemu.Fault{Operation: fault.Subscribe, Status: 403})
	if err := d.subscribe(t, "a"); err == nil {
		t.Error("a subscription was granted")
	}
	for _, f := range []awsemu.Fault{{Drop: true}, {Status: 503}, {Status: 429}, {Status: 403}} {
		f.Operation = fault.Connect
		w.setFaults(t, f)
		if _, err := w.dial(t, w.core, "core-1-b"); err == nil {
			t.Errorf("%+v: connected", f)
		}
	}
	w.setFaults(t, awsemu.Fault{Operation: fault.Connect, Blackhole: true})
	conn := must[net.Conn](t)(w.mqttConn(t, w.core, w.emulator.MQTTAddr()))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := paho.NewClient(paho.ClientConfig{Conn: packets.NewThreadSafeConn(conn)}).Connect(ctx, &paho.Connect{ClientID: "x"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a CONNECT into a black hole: %v", err)
	}
	w.setFaults(t, awsemu.Fault{TLS: fault.TLSUnknownAuthority, Operation: fault.MQTT})
	d.wantEnd(t, "when certificates go bad")
	if _, err := w.dial(t, w.core, "core-1"); err == nil {
		t.Error("connected in spite of the certificate")
	}
	w.setFaults(t)
	subscribed()
}

// A delay does not hold up going offline.
func TestOfflineDuringADelay(t *testing.T) {
	w := newWorld(t)
	d := must[*device](t)(w.dial(t, w.core, "core-1"))
	w.setFaults(t, awsemu.Fault{Operation: fault.GetShadow, Latency: time.Hour})
	if _, err := d.Publish(t.Context(), &paho.Publish{Topic: ofShadow("get")}); err != nil {
		t.Fatal(err)
	}
	for w.emulator.Faults()[0].Struck == 0 {
		time.Sleep(time.Millisecond) // the message is on its way; nothing tells when it arrives
	}
	if err := w.emulator.Offline(true); err != nil {
		t.Fatal(err)
	}
	d.wantEnd(t, "offline")
}

// MQTT 3.1.1 with a session that goes on after a time offline.
func TestSessionOf311(t *testing.T) {
	w := newWorld(t)
	got := make(chan string, 10)
	options := paho3.NewClientOptions().AddBroker("ssl://" + w.emulator.MQTTAddr()).SetTLSConfig(w.tls(t, w.core)).SetClientID("core-1").
		SetCleanSession(false).SetProtocolVersion(4).SetAutoReconnect(true).SetMaxReconnectInterval(100 * time.Millisecond).
		SetDefaultPublishHandler(func(_ paho3.Client, m paho3.Message) { got <- m.Topic() })
	lost := make(chan struct{}, 10)
	options.OnConnectionLost = func(paho3.Client, error) { lost <- struct{}{} }
	c := paho3.NewClient(options)
	wait := func(what string, token paho3.Token) {
		t.Helper()
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("%s: %v", what, token.Error())
		}
	}
	wait("connect", c.Connect())
	defer c.Disconnect(100)
	wait("subscribe", c.Subscribe(ofShadow("update/delta"), 1, nil))
	if err := w.emulator.Offline(true); err != nil {
		t.Fatal(err)
	}
	<-lost
	if _, err := w.registry.SetConnectivity("core-1", noon); err != nil { // nobody is there to hear
		t.Fatal(err)
	}
	if err := w.emulator.Offline(false); err != nil {
		t.Fatal(err)
	}
	select {
	case topic := <-got:
		if topic != ofShadow("update/delta") {
			t.Errorf("got %s", topic)
		}
	case <-time.After(patience):
		t.Error("what came while the client was away is lost")
	}
}

// Debian's clients read, change and follow shadows at both addresses, with both versions.
func TestShadowsByMosquitto(t *testing.T) {
	rr := tool(t, "mosquitto_rr")
	w := newWorldAt(t, nil) // mosquitto goes by the machine's clock
	files := w.files(t, t.TempDir(), "core", w.core)
	_, port, err := net.SplitHostPort(w.emulator.MQTTAddr())
	if err != nil {
		t.Fatal(err)
	}
	_, https, err := net.SplitHostPort(strings.TrimPrefix(w.emulator.URL(), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	version := 0
	for _, v := range []string{"311", "5"} {
		for _, at := range [][]string{{"-p", port}, {"-p", https, "--tls-alpn", "x-amzn-mqtt-ca"}} {
			ask := func(request, answer string, body ...string) string {
				t.Helper()
				args := append([]string{"-V", v, "-h", "localhost", "--cafile", files.ca, "--cert", files.certificate, "--key", files.key, "-i", "core-1",
					"-q", "1", "-W", "20", "-t", ofShadow(request), "-e", ofShadow(answer)}, at...)
				out, err := exec.CommandContext(t.Context(), rr, append(args, body...)...).CombinedOutput()
				if err != nil {
					t.Fatalf("mosquitto_rr -V %s %v %s: %v\n%s", v, at, request, err, out)
				}
				return string(out)
			}
			version++
			desired := fmt.Sprintf(`{"state":{"desired":{"version":"%d"}}}`, version)
			if got := ask("update", "update/delta", "-m", desired); !strings.Contains(got, fmt.Sprintf(`{"state":{"version":"%d"}`, version)) {
				t.Errorf("-V %s %v: delta %s", v, at, got)
			}
			if got := ask("get", "get/accepted", "-n"); !strings.Contains(got, fmt.Sprintf(`"delta":{"version":"%d"}`, version)) {
				t.Errorf("-V %s %v: get %s", v, at, got)
			}
			if got := ask("update", "update/rejected", "-m", `{"state":{},"version":99}`); !strings.Contains(got, `"code":409`) {
				t.Errorf("-V %s %v: update of another version %s", v, at, got)
			}
		}
	}
	pub := tool(t, "mosquitto_pub")
	if err := w.registry.Revoke(w.core.ID); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), pub, "-h", "localhost", "-p", port, "--cafile", files.ca, "--cert", files.certificate, "--key", files.key,
		"-i", "core-1", "-q", "1", "-t", ofShadow("get"), "-n").CombinedOutput(); err == nil {
		t.Errorf("with a revoked certificate: %s", out)
	}
}
