package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// MQTTConfig says where an MQTT broker is. It must take MQTT 5: before it, a client is not
// told that a publish was refused.
type MQTTConfig struct {
	Address string         // host and port of its TLS listener
	Roots   *x509.CertPool // who may have signed its certificate; nil: the system's
	Timeout time.Duration  // of a connection, with its handshake, and of an acknowledgement
}

// keepAliveSeconds is how often a connection shows that it lives; the broker's word counts.
const keepAliveSeconds = 60

// MQTT carries requests as devices do: each over a connection of its own, with TLS and its
// certificate.
type MQTT struct {
	cfg    MQTTConfig
	host   string
	ended  func(key, reason string)
	next   atomic.Uint64
	work   sync.WaitGroup
	mu     sync.Mutex
	open   map[*mqttConn]struct{} // guarded by mu
	closed bool                   // guarded by mu
}

// mqttConn is one device's connection.
type mqttConn struct {
	key    string
	client *paho.Client
	conn   net.Conn
	left   atomic.Bool // we closed it
	told   sync.Once
}

// NewMQTT makes a driver; it connects with the devices.
func NewMQTT(cfg MQTTConfig) (*MQTT, error) {
	host, _, err := net.SplitHostPort(cfg.Address)
	if err != nil {
		return nil, fmt.Errorf("MQTT broker %q: want host:port, such as localhost:8883", cfg.Address)
	}
	return &MQTT{cfg: cfg, host: host, ended: func(string, string) {}, open: map[*mqttConn]struct{}{}}, nil
}

// Listen implements Driver.
func (d *MQTT) Listen(ended func(key, reason string)) { d.ended = ended }

// Stale implements Driver: a broker that is cut off goes on for so long with what it has. One
// that is not hears of a revocation at once, but not before the operator does.
func (d *MQTT) Stale() time.Duration { return authapi.MaxStale }

// Can implements Driver.
func (d *MQTT) Can(op Op) bool { return op < Revoke && op != Permissions && op != Verify }

// Brokers implements Driver: there is one.
func (d *MQTT) Brokers() int { return 1 }

// Drop implements Driver: the connection breaks off without a DISCONNECT.
func (d *MQTT) Drop(s *Session) {
	s.conn.left.Store(true)
	d.work.Go(func() { d.finish(s.conn) })
}

// Close implements Driver.
func (d *MQTT) Close() {
	d.mu.Lock()
	d.closed = true
	for c := range d.open {
		c.left.Store(true)
		d.work.Go(func() { d.finish(c) })
	}
	d.mu.Unlock()
	d.work.Wait()
}

// finish closes a connection and waits until nothing of it runs any more.
func (d *MQTT) finish(c *mqttConn) {
	_ = c.conn.Close() // it may be closed already
	<-c.client.Done()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.open, c)
}

// Ask implements Driver.
func (d *MQTT) Ask(q Question, done func(Answer)) {
	d.work.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), d.cfg.Timeout)
		defer cancel()
		var a Answer
		switch q.Op {
		case Publish:
			a = q.Session.conn.publish(ctx, q.Topic)
		case Subscribe:
			a = q.Session.conn.subscribe(ctx, q.Topic)
		case Disconnect:
			a = d.leave(q.Session.conn)
		default:
			a = d.connect(ctx, q)
		}
		if a.At = time.Now(); a.Outcome == Unavailable && ctx.Err() != nil {
			a.Outcome = TimedOut
		}
		done(a)
	})
}

// connect makes a connection, with a handshake that nothing of another is used for.
func (d *MQTT) connect(ctx context.Context, q Question) Answer {
	identity, err := q.Device.tls()
	if err != nil {
		return Answer{Outcome: Failed, Note: err.Error(), Hopeless: true}
	}
	dialer := tls.Dialer{Config: &tls.Config{
		ServerName: d.host, RootCAs: d.cfg.Roots, MinVersion: tls.VersionTLS12,
		// Shown whoever signed it: a broker may name in its request only those whom it knows.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &identity, nil },
	}}
	conn, err := dialer.DialContext(ctx, "tcp", d.cfg.Address)
	if err != nil {
		if _, unknown := errors.AsType[*tls.CertificateVerificationError](err); unknown {
			return Answer{Outcome: Failed, Note: fmt.Sprintf("the broker's certificate: %v; name its authority with --ca", err), Hopeless: true}
		}
		return Answer{Outcome: Unavailable, Note: "connect: " + err.Error()}
	}
	c := &mqttConn{key: strconv.FormatUint(d.next.Add(1), 10), conn: conn}
	c.client = paho.NewClient(paho.ClientConfig{
		Conn: packets.NewThreadSafeConn(conn), PacketTimeout: d.cfg.Timeout,
		OnClientError: func(err error) { d.lost(c, "the connection broke off") },
		OnServerDisconnect: func(p *paho.Disconnect) {
			d.lost(c, fmt.Sprintf("the broker disconnected with reason 0x%02x", p.ReasonCode))
		},
	})
	answer, err := c.client.Connect(ctx, &paho.Connect{ClientID: q.ClientID, CleanStart: true, KeepAlive: keepAliveSeconds})
	if err != nil {
		_ = conn.Close() // it is refused
		if answer != nil {
			return Answer{Outcome: outcomeOf(answer.ReasonCode), Note: fmt.Sprintf("CONNACK 0x%02x", answer.ReasonCode)}
		}
		return Answer{Outcome: Unavailable, Note: "CONNECT: " + err.Error()}
	}
	d.mu.Lock()
	if d.open[c] = struct{}{}; d.closed {
		c.left.Store(true)
		d.work.Go(func() { d.finish(c) })
	}
	d.mu.Unlock()
	return Answer{Outcome: Allowed, Session: &Session{Key: c.key, conn: c}}
}

// lost tells once that a connection ended that we did not close.
func (d *MQTT) lost(c *mqttConn, reason string) {
	if c.left.Load() {
		return
	}
	c.told.Do(func() {
		d.ended(c.key, reason)
		d.mu.Lock()
		defer d.mu.Unlock()
		if !d.closed { // else Close finishes it
			d.work.Go(func() { d.finish(c) })
		}
	})
}

func (d *MQTT) leave(c *mqttConn) Answer {
	c.left.Store(true)
	err := c.client.Disconnect(&paho.Disconnect{})
	d.finish(c)
	if err != nil {
		return Answer{Outcome: Closed}
	}
	return Answer{Outcome: Allowed}
}

// payload is what devices publish.
var payload = []byte("21.5")

func (c *mqttConn) publish(ctx context.Context, topic string) Answer {
	answer, err := c.client.Publish(ctx, &paho.Publish{Topic: topic, QoS: 1, Payload: payload})
	if answer != nil && (err == nil || answer.ReasonCode >= refusals) {
		return acknowledged(answer.ReasonCode, "PUBACK")
	}
	return c.noAnswer(err)
}

func (c *mqttConn) subscribe(ctx context.Context, filter string) Answer {
	answer, err := c.client.Subscribe(ctx, &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: filter, QoS: 1}}})
	if answer != nil && len(answer.Reasons) == 1 {
		return acknowledged(answer.Reasons[0], "SUBACK")
	}
	return c.noAnswer(err)
}

// noAnswer is what a request comes to whose connection ended or that waited too long.
func (c *mqttConn) noAnswer(err error) Answer {
	select {
	case <-c.client.Done():
		return Answer{Outcome: Closed}
	default:
		return Answer{Outcome: Unavailable, Note: fmt.Sprint(err)}
	}
}

// refusals is where the reason codes of refusals begin (MQTT 5, 2.4).
const refusals = 0x80

func acknowledged(code byte, what string) Answer {
	return Answer{Outcome: outcomeOf(code), Note: fmt.Sprintf("%s 0x%02x", what, code)}
}

// outcomeOf reads a reason code as Gatehouse's broker means it (actors/brokers/client).
func outcomeOf(code byte) Outcome {
	switch {
	case code < refusals:
		return Allowed
	}
	switch code {
	case packets.ConnackServerBusy, packets.PubackQuotaExceeded:
		return Busy
	case packets.ConnackServerUnavailable, packets.PubackImplementationSpecificError:
		return Unavailable
	case packets.ConnackNotAuthorized, packets.ConnackBadUsernameOrPassword, packets.ConnackBanned:
		return Denied
	}
	return Failed
}
