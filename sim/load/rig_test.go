package load

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/mochi"
	"github.com/gatehouse-edge/gatehouse/actors/gate"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/projections"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// rigPolicy is that of gatehouse dev.
const rigPolicy = `{"formatVersion": "2021-03-05",
"definitions": {"sensors": {"selectionRule": "thingName: sensor-*", "policyName": "own"}},
"policies": {"own": {
 "c": {"operations": ["mqtt:connect"], "resources": ["mqtt:clientId:${iot:Connection.Thing.ThingName}"]},
 "p": {"operations": ["mqtt:publish"], "resources": ["mqtt:topic:sensors/${iot:Connection.Thing.ThingName}/*"]},
 "s": {"operations": ["mqtt:subscribe"], "resources": ["mqtt:topicfilter:sensors/${iot:Connection.Thing.ThingName}/*"]}}}}`

// rig is a core with a real desk, NATS server and MQTT broker, on a log in memory, and a
// fleet that its cloud knows.
type rig struct {
	t       *testing.T
	sys     *actors.System
	server  *brokers.Server
	desk    *brokers.Desk
	pusher  atomic.Pointer[brokers.Pusher]
	cloud   *actorstest.Cloud
	fleet   []*Device
	brokers []Broker
	mqtt    string         // address
	roots   *x509.CertPool // of its certificate
}

// rigConfig bends a rig; the zero value does not.
type rigConfig struct {
	devices, brokers int
	wrap             func(brokers.Gate) brokers.Gate
	section          string
	desk             func(*brokers.DeskConfig)
	mqtt             bool
}

func newRig(t *testing.T, c rigConfig) *rig {
	t.Helper()
	r := &rig{t: t, cloud: actorstest.NewCloud()}
	quiet := slog.New(slog.DiscardHandler)
	views := projections.New(quiet)
	machine, err := actors.NewSystemClock()
	must(t, err)
	clock := actors.NewTrustClock(machine, actors.Anchor{})
	r.sys, err = actors.New(actors.Config{Log: actorstest.NewLog(views.Apply), Views: views, Cloud: r.cloud, Clock: clock, Logger: quiet})
	must(t, err)
	t.Cleanup(func() { _ = r.sys.Close(context.WithoutCancel(t.Context())) })
	views.Live(projections.Hooks{
		Closed: func(s *projections.Session, reason messages.CloseReason, detail string) {
			if p := r.pusher.Load(); p != nil && reason != messages.CloseReason_CLOSE_BY_BROKER {
				p.SessionClosed(s.Broker, brokers.Closed{Token: s.Digest, Thing: s.Thing, CertificateID: s.Certificate, Reason: reason.String()})
			}
		},
	})
	section := `{"security": {"clientDeviceTrustDurationMinutes": 60}}`
	if c.section != "" {
		section = c.section
	}
	for _, order := range []messages.Command{
		messages.ReplaceConfig{Document: []byte(section), Origin: "test"}, messages.ReplacePolicy{Document: []byte(rigPolicy), Origin: "test"},
	} {
		_, err := r.sys.Do(t.Context(), order, messages.Cause{})
		must(t, err)
	}
	var g brokers.Gate = gate.New(r.sys, views, clock, actors.NewDenials(r.sys, views.Known))
	if c.wrap != nil {
		g = c.wrap(g)
	}
	r.open(c, g, quiet)
	r.enroll(max(1, c.devices))
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open starts NATS, desk, pushes and, if wanted, the MQTT broker.
func (r *rig) open(c rigConfig, g brokers.Gate, quiet *slog.Logger) {
	t := r.t
	var err error
	r.server, err = brokers.StartServer(brokers.ServerConfig{Listen: "127.0.0.1:0", Log: quiet})
	must(t, err)
	t.Cleanup(r.server.Close)
	conn, err := r.server.DaemonConn()
	must(t, err)
	t.Cleanup(conn.Close)
	cfg := brokers.DeskConfig{Conn: brokers.OnNATS(conn), Gate: g, Log: quiet, Instance: "test"}
	if c.desk != nil {
		c.desk(&cfg)
	}
	r.desk, err = brokers.OpenDesk(cfg)
	must(t, err)
	t.Cleanup(func() { _ = r.desk.Close(context.WithoutCancel(t.Context())) })
	pusher, err := brokers.NewPusher(brokers.PusherConfig{Conn: conn, Epoch: "test", Log: quiet})
	must(t, err)
	for i := range max(1, c.brokers) {
		r.brokers = append(r.brokers, r.admit(pusher, fmt.Sprintf("load-%d", i+1)))
	}
	embedded := r.admit(pusher, "mqtt")
	r.pusher.Store(pusher)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ticker := time.NewTicker(authapi.HeartbeatInterval)
	done := make(chan struct{})
	go func() { defer close(done); pusher.Run(ctx, ticker.C) }()
	t.Cleanup(func() { cancel(); ticker.Stop(); <-done })
	r.desk.SetReady(true)
	if c.mqtt {
		r.openMQTT(embedded, quiet)
	}
}

func (r *rig) admit(pusher *brokers.Pusher, name string) Broker {
	creds, err := brokers.NewBrokerCredentials(messages.BrokerID(name))
	must(r.t, err)
	must(r.t, r.server.AddBroker(messages.BrokerID(name), creds.Public))
	pusher.AddBroker(messages.BrokerID(name))
	return Broker{messages.BrokerID(name), creds.File()}
}

func (r *rig) openMQTT(as Broker, quiet *slog.Logger) {
	t := r.t
	authority, err := awsemu.NewAuthority("test", time.Now())
	must(t, err)
	identity, err := authority.IssueServer([]string{"localhost"}, time.Now())
	must(t, err)
	certificate, err := identity.TLS()
	must(t, err)
	c, err := client.Connect(t.Context(), client.Config{Broker: as.Name, URL: r.server.URL(), Credentials: as.Credentials})
	must(t, err)
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.Ready(t.Context()))
	b, err := mochi.New(mochi.Config{Listen: "127.0.0.1:0", Client: c, Logger: quiet,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }})
	must(t, err)
	t.Cleanup(func() { _ = b.Close() })
	r.mqtt, r.roots = strings.Replace(b.Addr().String(), "127.0.0.1", "localhost", 1), authority.Pool()
}

// enroll makes the fleet, and has the cloud know it.
func (r *rig) enroll(n int) {
	authority, err := awsemu.NewAuthority("devices", time.Now())
	must(r.t, err)
	for i := range n {
		name := fmt.Sprintf("sensor-%04d", i+1)
		identity, err := authority.IssueDevice(name, time.Now())
		must(r.t, err)
		bundle, err := parseBundle(AppendBundle(nil, identity.CertificatePEM, identity.KeyPEM), 1)
		must(r.t, err)
		r.fleet = append(r.fleet, bundle[0])
		r.cloud.Register(identity.ID, messages.ThingName(name))
	}
}

// nats connects the rig's brokers.
func (r *rig) nats(timeout time.Duration) *NATS {
	n, err := DialNATS(r.t.Context(), NATSConfig{URL: r.server.URL(), Brokers: r.brokers, Timeout: timeout})
	must(r.t, err)
	r.t.Cleanup(n.Close)
	return n
}

// Quarantine makes a rig an Operator.
func (r *rig) Quarantine(ctx context.Context, thing messages.ThingName) error {
	_, err := r.sys.Do(ctx, messages.QuarantineDevice{Thing: thing, Source: messages.Source_SOURCE_OPERATOR, Reason: "test"}, messages.Cause{})
	return err
}

// Release makes a rig an Operator.
func (r *rig) Release(ctx context.Context, thing messages.ThingName) error {
	_, err := r.sys.Do(ctx, messages.ReleaseDevice{Thing: thing, Source: messages.Source_SOURCE_OPERATOR, Reason: "test"}, messages.Cause{})
	return err
}

// mixOf reads a mix; lagLimit is wide, since the machines of tests are busy.
func mixOf(t *testing.T, doc string) *Mix {
	t.Helper()
	m, err := Parse("mix.yaml", []byte(doc))
	must(t, err)
	m.LagLimit = Duration(time.Minute)
	return m
}

// operation returns the result's figures of a kind of request.
func (r *Result) operation(op Op) Operation {
	for _, o := range r.Operations {
		if o.Name == op.String() {
			return o
		}
	}
	return Operation{}
}
