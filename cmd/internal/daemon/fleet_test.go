package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	pahopackets "github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// fleetPolicy lets each device publish under its own name, and hear everybody.
const fleetPolicy = `formatVersion: 2021-03-05
definitions:
  fleet: {selectionRule: "thingName: line-*", policyName: p}
policies:
  p:
    connect: {operations: ["mqtt:connect"], resources: ["mqtt:clientId:${iot:Connection.Thing.ThingName}"]}
    publish: {operations: ["mqtt:publish"], resources: ["mqtt:topic:lines/${iot:Connection.Thing.ThingName}"]}
    subscribe: {operations: ["mqtt:subscribe"], resources: ["mqtt:topicfilter:lines/*"]}
`

// fleetPatience bounds waits that a passing test never exhausts.
const fleetPatience = 30 * time.Second

// fleet are MQTT clients of a daemon's broker, half of MQTT 5 and half of 3.1.1. Each hears
// the numbers that its neighbour, which speaks the other version, publishes.
type fleet struct {
	t       *testing.T
	d       *Daemon
	cloud   *awsemutest.Cloud
	ahead   *atomic.Int64 // of the machine's time, as everybody but the machine knows it: ns
	members []*member
	guest   tls.Certificate // of one more device
	visits  int

	over     chan struct{} // closed: nobody publishes any more
	stopping sync.Once
	work     sync.WaitGroup
	gone     atomic.Bool // they leave by themselves
}

// member is one client.
type member struct {
	name    string
	publish func(payload []byte) error // returns when it is acknowledged
	sent    atomic.Int64               // the last number that it published, or is about to
	heard   atomic.Int64               // … that its neighbour published
}

func memberName(i int) string { return fmt.Sprintf("line-%03d", i) }

func (f *fleet) now() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) }

// enroll makes a device that the cloud knows.
func (f *fleet) enroll(name string) tls.Certificate {
	f.t.Helper()
	identity, err := f.cloud.Servers.IssueDevice(name, time.Now())
	must(f.t, err)
	must(f.t, f.cloud.Registry.Enroll(messages.ThingName(name), identity, false))
	pair, err := identity.TLS()
	must(f.t, err)
	return pair
}

// board connects n members, and has them publish.
func (f *fleet) board(n int) {
	f.t.Helper()
	f.guest = f.enroll("line-guest")
	for i := range n {
		f.members = append(f.members, &member{name: memberName(i)})
	}
	const atOnce = 8
	var dialling sync.WaitGroup
	for w := range atOnce {
		pairs := make([]tls.Certificate, n)
		for i := w; i < n; i += atOnce {
			pairs[i] = f.enroll(memberName(i))
		}
		dialling.Go(func() {
			for i := w; i < n; i += atOnce {
				if err := f.connect(i, pairs[i]); err != nil {
					f.t.Errorf("%s: %v", memberName(i), err)
					return
				}
			}
		})
	}
	dialling.Wait()
	f.t.Cleanup(f.leave) // before anything that was started until here ends
	if f.t.Failed() {
		f.t.FailNow()
	}
	for w := range atOnce { // as many messages are on their way
		f.work.Go(func() { f.convey(w, atOnce) })
	}
}

// connect connects member i and subscribes it to its neighbour. Versions alternate.
func (f *fleet) connect(i int, pair tls.Certificate) error {
	m, topic := f.members[i], "lines/"+memberName((i+1)%len(f.members))
	cfg, err := f.tls(pair, "localhost")
	if err != nil {
		return err
	}
	if i%2 == 0 {
		return f.connect5(m, cfg, topic)
	}
	return f.connect3(m, cfg, topic)
}

// tls is how a device connects that trusts what is published now.
func (f *fleet) tls(pair tls.Certificate, name string) (*tls.Config, error) {
	roots, err := f.bundle()
	return &tls.Config{RootCAs: roots, ServerName: name, Certificates: []tls.Certificate{pair}, Time: f.now}, err
}

// bundle is what devices must trust, as it is published at this moment.
func (f *fleet) bundle() (*x509.CertPool, error) { return publishedIn(f.d.cfg.Dir) }

func publishedIn(dir string) (*x509.CertPool, error) {
	text, err := os.ReadFile(CAFile(dir))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("the published bundle has no certificate")
	}
	return roots, nil
}

func (f *fleet) connect5(m *member, cfg *tls.Config, topic string) error {
	conn, err := tls.Dial("tcp", f.d.MQTTAddr(), cfg)
	if err != nil {
		return err
	}
	c := paho.NewClient(paho.ClientConfig{
		Conn: pahopackets.NewThreadSafeConn(conn),
		OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
			f.hear(m, p.Packet.Payload)
			return true, nil
		}},
		OnServerDisconnect: func(p *paho.Disconnect) { f.lost(m, fmt.Errorf("DISCONNECT %#02x", p.ReasonCode)) },
		OnClientError:      func(err error) { f.lost(m, err) },
		PacketTimeout:      fleetPatience,
	})
	m.publish = func(payload []byte) error {
		_, err := c.Publish(context.Background(), &paho.Publish{Topic: "lines/" + m.name, QoS: 1, Payload: payload})
		return err
	}
	f.t.Cleanup(func() { _ = c.Disconnect(&paho.Disconnect{}); _ = conn.Close() })
	if _, err := c.Connect(f.t.Context(), &paho.Connect{ClientID: m.name, KeepAlive: 10, CleanStart: true}); err != nil {
		return err
	}
	_, err = c.Subscribe(f.t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: topic, QoS: 1}}})
	return err
}

func (f *fleet) connect3(m *member, cfg *tls.Config, topic string) error {
	c := mqtt3.NewClient(mqtt3.NewClientOptions().AddBroker("ssl://" + f.d.MQTTAddr()).
		SetTLSConfig(cfg).SetClientID(m.name).SetProtocolVersion(4).SetAutoReconnect(false).SetKeepAlive(10 * time.Second).
		SetConnectTimeout(fleetPatience).SetWriteTimeout(fleetPatience).SetCleanSession(true).
		SetConnectionLostHandler(func(_ mqtt3.Client, err error) { f.lost(m, err) }))
	done := func(token mqtt3.Token) error {
		if !token.WaitTimeout(fleetPatience) {
			return errors.New("not acknowledged")
		}
		return token.Error()
	}
	m.publish = func(payload []byte) error { return done(c.Publish("lines/"+m.name, 1, false, payload)) }
	f.t.Cleanup(func() { c.Disconnect(0) })
	if err := done(c.Connect()); err != nil {
		return err
	}
	token := c.Subscribe(topic, 1, func(_ mqtt3.Client, p mqtt3.Message) { f.hear(m, p.Payload()) })
	if err := done(token); err != nil {
		return err
	}
	if code := token.(*mqtt3.SubscribeToken).Result()[topic]; code != 1 {
		return fmt.Errorf("SUBACK %#02x", code)
	}
	return nil
}

// hear takes a number: each comes, in its order, and once, as long as the connection holds.
func (f *fleet) hear(m *member, payload []byte) {
	n, err := strconv.ParseInt(string(payload), 10, 64)
	if last := m.heard.Swap(n); err != nil || n != last+1 {
		f.t.Errorf("%s heard %q after %d", m.name, payload, last)
	}
}

func (f *fleet) lost(m *member, err error) {
	if !f.gone.Load() {
		f.t.Errorf("%s was disconnected: %v", m.name, err)
	}
}

// convey publishes one number after the other for every step-th member.
func (f *fleet) convey(from, step int) {
	for {
		for i := from; i < len(f.members); i += step {
			select {
			case <-f.over:
				return
			default:
			}
			m := f.members[i]
			if err := m.publish(strconv.AppendInt(nil, m.sent.Add(1), 10)); err != nil {
				f.t.Errorf("%s: publish %d: %v", m.name, m.sent.Load(), err)
				return
			}
		}
	}
}

// passage waits until everybody has published, and been heard, since it began.
func (f *fleet) passage(what string) {
	f.t.Helper()
	f.settle(what, func(m *member) int64 { return m.sent.Load() + 1 })
}

// settle waits until of each member all numbers up to a last one were heard.
func (f *fleet) settle(what string, last func(*member) int64) {
	f.t.Helper()
	want := make([]int64, len(f.members))
	for i, m := range f.members {
		want[i] = last(m)
	}
	for i := range f.members {
		listener := f.members[(i+len(f.members)-1)%len(f.members)]
		eventually(f.t, what+": "+memberName(i)+" is heard", func() bool { return f.t.Failed() || listener.heard.Load() >= want[i] })
	}
	if f.t.Failed() {
		f.t.FailNow()
	}
}

// visit connects one more device, which trusts what is published, calls the broker name, and
// leaves; it returns the serial number that it was shown.
func (f *fleet) visit(name string) (string, error) {
	cfg, err := f.tls(f.guest, name)
	if err != nil {
		return "", err
	}
	conn, err := tls.Dial("tcp", f.d.MQTTAddr(), cfg)
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Close() }()
	c := paho.NewClient(paho.ClientConfig{Conn: pahopackets.NewThreadSafeConn(conn), PacketTimeout: fleetPatience})
	if _, err := c.Connect(f.t.Context(), &paho.Connect{ClientID: "line-guest", KeepAlive: 10, CleanStart: true}); err != nil {
		return "", err
	}
	f.visits++
	return shownSerial(conn), c.Disconnect(&paho.Disconnect{})
}

func shownSerial(conn *tls.Conn) string {
	return fmt.Sprintf("%040x", conn.ConnectionState().PeerCertificates[0].SerialNumber)
}

// stop ends the publishing.
func (f *fleet) stop() {
	f.stopping.Do(func() { close(f.over) })
	f.work.Wait()
}

// leave lets the members disconnect.
func (f *fleet) leave() {
	f.stop()
	f.gone.Store(true)
}

// land has everybody stop, waits for what is under way, and returns how many messages came.
func (f *fleet) land() (messages int64) {
	f.t.Helper()
	f.stop()
	f.settle("at the end", func(m *member) int64 { return m.sent.Load() })
	for _, m := range f.members {
		messages += m.heard.Load()
	}
	return messages
}

// newFleet starts a daemon with everything it has around it; its members are still to come.
func newFleet(t *testing.T) *fleet {
	t.Helper()
	f := &fleet{t: t, ahead: new(atomic.Int64), over: make(chan struct{})}
	f.cloud = awsemutest.Start(t, 0, f.now)
	_, err := f.cloud.Registry.SetConnectivity(awsemutest.Core, f.now(), awsemu.Connectivity{Host: "first.example"})
	must(t, err)
	cfg := published(t, f.cloud)
	cfg.Policy = t.TempDir() + "/policy.yaml"
	put(t, cfg.Policy, fleetPolicy)
	cfg.Trust = time.Hour
	cfg.Dir, cfg.Mode, cfg.CAType, cfg.MQTTHosts = t.TempDir(), "dev", ca.TypeECDSAP256, []string{"localhost"}
	said := &output{}
	cfg.Logger = slog.New(slog.NewTextHandler(said, nil))
	f.d, err = Start(t.Context(), cfg)
	must(t, err)
	t.Cleanup(func() {
		f.d.Close()
		if t.Failed() {
			t.Logf("the daemon said:\n%s", said)
		}
	})
	return f
}

// prober makes new connections all the time, as devices with the published bundle, and says
// which certificate they are shown.
type prober struct {
	f       *fleet
	version uint16 // of TLS
	count   atomic.Int64
	serials sync.Map // that it was shown
}

// run goes on until the fleet is told to stop. What was published before a handshake must
// verify what it shows, and what is published after it, too.
func (p *prober) run() {
	for {
		select {
		case <-p.f.over:
			return
		default:
		}
		if err := p.probe(); err != nil {
			p.f.t.Errorf("handshake %d, TLS %#x: %v", p.count.Load()+1, p.version, err)
			return
		}
		p.count.Add(1)
	}
}

func (p *prober) probe() error {
	cfg, err := p.f.tls(p.f.guest, "localhost")
	if err != nil {
		return err
	}
	cfg.MinVersion, cfg.MaxVersion = p.version, p.version
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: fleetPatience}, "tcp", p.f.d.MQTTAddr(), cfg)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	p.serials.Store(shownSerial(conn), true)
	chain := conn.ConnectionState().PeerCertificates
	options := x509.VerifyOptions{DNSName: "localhost", CurrentTime: p.f.now(), Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	if options.Roots, err = p.f.bundle(); err != nil {
		return err
	}
	_, err = chain[0].Verify(options)
	return err
}

// more waits until p has begun and ended a handshake since now.
func (p *prober) more() {
	p.f.t.Helper()
	want := p.count.Load() + 2
	eventually(p.f.t, "a handshake", func() bool { return p.f.t.Failed() || p.count.Load() >= want })
}

func (p *prober) shown() (n int) {
	p.serials.Range(func(any, any) bool { n++; return true })
	return n
}
