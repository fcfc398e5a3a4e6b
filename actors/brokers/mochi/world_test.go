package mochi_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	pahopackets "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client/clienttest"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/mochi"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

const (
	patience = 5 * time.Second
	variable = permission.ThingNameVariable
)

var (
	mayConnect   = clienttest.Permit("mqtt:connect", "mqtt:clientId:"+variable)
	mayPublish   = clienttest.Permit("mqtt:publish", "mqtt:topic:sensors/"+variable+"/*")
	maySubscribe = clienttest.Permit("mqtt:subscribe", "mqtt:topicfilter:sensors/"+variable+"/*")
	mayTalk      = clienttest.Permit("mqtt:publish", "mqtt:topic:hall/*")
	mayListen    = clienttest.Permit("mqtt:subscribe", "mqtt:topicfilter:hall/*")
	mayShare     = clienttest.Permit("mqtt:subscribe", "mqtt:topicfilter:$share/group/hall/*")
)

// world is a desk, a broker that asks it, and certificates for its devices.
type world struct {
	t       *testing.T
	desk    *clienttest.Desk
	client  *client.Client
	broker  *mochi.Broker
	server  tls.Certificate
	current atomic.Pointer[tls.Certificate]
	devices map[string]tls.Certificate
}

// start runs a world in which sensor-1 and sensor-2 may do everything above.
func start(t *testing.T, edit func(*mochi.Config)) *world {
	t.Helper()
	return startAsking(t, client.Config{Timeout: time.Second, MaxStale: 500 * time.Millisecond}, edit)
}

// startAsking is start with bounds of its own on the word of the desk.
func startAsking(t *testing.T, bounds client.Config, edit func(*mochi.Config)) *world {
	t.Helper()
	w := &world{t: t, desk: clienttest.Start(t, "mqtt"), server: clienttest.Certificate(t, "broker"), devices: make(map[string]tls.Certificate)}
	w.current.Store(&w.server)
	for _, name := range []string{"sensor-1", "sensor-2"} {
		w.devices[name] = clienttest.Certificate(t, name)
		w.desk.Trust(name, w.devices[name].Certificate[0])
	}
	w.desk.SetPolicy(mayConnect, mayPublish, maySubscribe, mayTalk, mayListen, mayShare)
	var err error
	bounds.Broker, bounds.URL = "mqtt", w.desk.URL()
	w.client, err = client.Connect(t.Context(), bounds)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.client.Close() })
	if err := w.client.Ready(w.within()); err != nil {
		t.Fatal(err)
	}
	cfg := mochi.Config{
		Listen: "127.0.0.1:0", Client: w.client,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return w.current.Load(), nil },
	}
	if edit != nil {
		edit(&cfg)
	}
	if w.broker, err = mochi.New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.broker.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) within() context.Context {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	w.t.Cleanup(cancel)
	return ctx
}

// tls is the TLS configuration of a client that presents cert, or nothing.
func (w *world) tls(cert *tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(w.current.Load().Leaf)
	cfg := &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
	if cert != nil {
		cfg.Certificates = []tls.Certificate{*cert}
	}
	return cfg
}

// device is a client of MQTT 5.
type device struct {
	t    *testing.T
	conn net.Conn
	c    *paho.Client
	ack  *paho.Connack
	got  chan *paho.Publish
	gone chan byte  // reason code of a DISCONNECT
	lost chan error // end of the connection otherwise
}

// as is the client of name with its own certificate.
func (w *world) as(name string, edit ...func(*paho.Connect)) *device {
	w.t.Helper()
	d, err := w.dial(name, w.devices[name], edit...)
	if err != nil {
		w.t.Fatalf("%s: connect: %v", name, err)
	}
	return d
}

// dial connects as name with cert. Where CONNECT is refused, the device has the CONNACK.
func (w *world) dial(name string, cert tls.Certificate, edit ...func(*paho.Connect)) (*device, error) {
	w.t.Helper()
	return w.dialBy(name, cert, func(*paho.ClientConfig, *device) {}, edit...)
}

// dialBy is dial with a client of another configuration.
func (w *world) dialBy(name string, cert tls.Certificate, configure func(*paho.ClientConfig, *device), edit ...func(*paho.Connect)) (*device, error) {
	w.t.Helper()
	conn, err := tls.Dial("tcp", w.broker.Addr().String(), w.tls(&cert))
	if err != nil {
		return nil, err
	}
	d := &device{t: w.t, conn: conn, got: make(chan *paho.Publish, 256), gone: make(chan byte, 4), lost: make(chan error, 4)}
	cfg := paho.ClientConfig{
		Conn: pahopackets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			d.got <- p.Packet
			return true, nil
		}},
		OnServerDisconnect: func(p *paho.Disconnect) { d.gone <- p.ReasonCode },
		OnClientError:      func(err error) { d.lost <- err },
		PacketTimeout:      patience,
	}
	configure(&cfg, d)
	d.c = paho.NewClient(cfg)
	cp := &paho.Connect{ClientID: name, KeepAlive: 30, CleanStart: true}
	for _, e := range edit {
		e(cp)
	}
	d.ack, err = d.c.Connect(w.within(), cp)
	w.t.Cleanup(func() { _ = conn.Close() })
	return d, err
}

// persistent keeps the session for an hour.
func persistent(cp *paho.Connect) {
	hour := uint32(3600)
	cp.CleanStart = false
	cp.Properties = &paho.ConnectProperties{SessionExpiryInterval: &hour}
}

func will(topic string, retain bool) func(*paho.Connect) {
	return func(cp *paho.Connect) {
		cp.WillMessage = &paho.WillMessage{Topic: topic, Payload: []byte("will"), QoS: 1, Retain: retain}
	}
}

func delay(seconds uint32) func(*paho.Connect) {
	return func(cp *paho.Connect) { cp.WillProperties = &paho.WillProperties{WillDelayInterval: &seconds} }
}

// publish publishes with QoS qos and returns the reason code.
func (d *device) publish(topic, payload string, qos byte) byte {
	d.t.Helper()
	r, err := d.c.Publish(d.t.Context(), &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: qos})
	return reason(d.t, r, err)
}

func (d *device) retain(topic, payload string) byte {
	d.t.Helper()
	r, err := d.c.Publish(d.t.Context(), &paho.Publish{Topic: topic, Payload: []byte(payload), QoS: 1, Retain: true})
	return reason(d.t, r, err)
}

func reason(t *testing.T, r *paho.PublishResponse, err error) byte {
	t.Helper()
	if r == nil {
		if err != nil {
			t.Fatalf("publish: %v", err)
		}
		return 0
	}
	return r.ReasonCode
}

// subscribe subscribes and returns the reason codes.
func (d *device) subscribe(filters ...string) []byte {
	d.t.Helper()
	s := &paho.Subscribe{}
	for _, f := range filters {
		s.Subscriptions = append(s.Subscriptions, paho.SubscribeOptions{Topic: f, QoS: 1})
	}
	a, err := d.c.Subscribe(d.t.Context(), s)
	if a == nil {
		d.t.Fatalf("subscribe %q: %v", filters, err)
	}
	return a.Reasons
}

// expect waits for a message with payload and fails if another comes first.
func (d *device) expect(payload string) *paho.Publish {
	d.t.Helper()
	p := d.next(payload)
	if string(p.Payload) != payload {
		d.t.Fatalf("received %q on %q, want %q", p.Payload, p.Topic, payload)
	}
	return p
}

// next is the next message, whatever it says.
func (d *device) next(awaited string) *paho.Publish {
	d.t.Helper()
	select {
	case p := <-d.got:
		return p
	case <-time.After(patience):
		d.t.Fatalf("waited too long for %q", awaited)
		return nil
	}
}

// ends waits until the broker disconnects the device, and checks the reason code.
func (d *device) ends(code byte) {
	d.t.Helper()
	select {
	case got := <-d.gone:
		if got != code {
			d.t.Fatalf("disconnected with %#02x, want %#02x", got, code)
		}
	case err := <-d.lost:
		d.t.Fatalf("connection lost (%v), want DISCONNECT %#02x", err, code)
	case <-time.After(patience):
		d.t.Fatal("still connected")
	}
}

// device3 is a client of MQTT 3.1.1.
type device3 struct {
	t    *testing.T
	c    mqtt3.Client
	got  chan mqtt3.Message
	lost chan error
}

func (w *world) dial3(name string, cert tls.Certificate) (*device3, error) {
	d := &device3{t: w.t, got: make(chan mqtt3.Message, 64), lost: make(chan error, 4)}
	d.c = mqtt3.NewClient(mqtt3.NewClientOptions().AddBroker("ssl://" + w.broker.Addr().String()).
		SetTLSConfig(w.tls(&cert)).SetClientID(name).SetProtocolVersion(4).SetAutoReconnect(false).
		SetConnectTimeout(patience).SetCleanSession(true).SetWriteTimeout(patience).
		SetDefaultPublishHandler(func(_ mqtt3.Client, m mqtt3.Message) { d.got <- m }).
		SetConnectionLostHandler(func(_ mqtt3.Client, err error) { d.lost <- err }))
	token := d.c.Connect()
	if !token.WaitTimeout(patience) {
		return nil, errors.New("no CONNACK")
	}
	w.t.Cleanup(func() { d.c.Disconnect(0) })
	return d, token.Error()
}

func (w *world) as3(name string) *device3 {
	w.t.Helper()
	d, err := w.dial3(name, w.devices[name])
	if err != nil {
		w.t.Fatalf("%s: connect: %v", name, err)
	}
	return d
}

func (d *device3) publish(topic, payload string, qos byte) error {
	token := d.c.Publish(topic, qos, false, payload)
	if !token.WaitTimeout(patience) {
		return errors.New("no acknowledgement")
	}
	return token.Error()
}

func (d *device3) subscribe(filter string) byte {
	d.t.Helper()
	token := d.c.Subscribe(filter, 1, nil)
	if !token.WaitTimeout(patience) {
		d.t.Fatal("no SUBACK")
	}
	return token.(*mqtt3.SubscribeToken).Result()[filter]
}

func (d *device3) expect(payload string) {
	d.t.Helper()
	select {
	case m := <-d.got:
		if string(m.Payload()) != payload {
			d.t.Fatalf("received %q on %q, want %q", m.Payload(), m.Topic(), payload)
		}
	case <-time.After(patience):
		d.t.Fatalf("waited too long for %q", payload)
	}
}

func (d *device3) ends() {
	d.t.Helper()
	select {
	case <-d.lost:
	case <-time.After(patience):
		d.t.Fatal("still connected")
	}
}

func code(t *testing.T, what string, got, want byte) {
	t.Helper()
	if got != want {
		t.Errorf("%s: reason code %#02x, want %#02x", what, got, want)
	}
}

func codes(t *testing.T, what string, got []byte, want ...byte) {
	t.Helper()
	if fmt.Sprintf("%x", got) != fmt.Sprintf("%x", want) {
		t.Errorf("%s: reason codes %x, want %x", what, got, want)
	}
}

// eventually polls for what nothing announces.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long until %s", what)
		}
	}
}
