package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/client/clienttest"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

const (
	broker   = "demo"
	thing    = "sensor-1"
	maxStale = 200 * time.Millisecond
	patience = 5 * time.Second
)

var (
	connect   = clienttest.Permit("mqtt:connect", "mqtt:clientId:"+permission.ThingNameVariable)
	publish   = clienttest.Permit("mqtt:publish", "mqtt:topic:sensors/"+permission.ThingNameVariable+"/*")
	subscribe = clienttest.Permit("mqtt:subscribe", "mqtt:topicfilter:sensors/"+permission.ThingNameVariable+"/*")
)

const (
	mine   = "sensors/sensor-1/temperature"
	theirs = "sensors/sensor-2/temperature"
)

// fixture is a desk, a client that hears it, and the certificate of sensor-1.
type fixture struct {
	t    *testing.T
	desk *clienttest.Desk
	c    *client.Client
	der  []byte
	skew atomic.Int64 // added to the client's clock
}

// network starts a desk and what carries messages to it.
type network func(testing.TB, messages.BrokerID) *clienttest.Desk

// suite is what holds over every network.
var suite = map[string]func(network, *testing.T){
	"DecisionsAreLocal":                    network.DecisionsAreLocal,
	"DenialsAreReported":                   network.DenialsAreReported,
	"ReportsComeBeforeTheClose":            network.ReportsComeBeforeTheClose,
	"AuthenticateRefusals":                 network.AuthenticateRefusals,
	"RawOperations":                        network.RawOperations,
	"CloseTellsTheDesk":                    network.CloseTellsTheDesk,
	"CloseIsRepeatedUntilHeard":            network.CloseIsRepeatedUntilHeard,
	"ClientCloseEndsSessions":              network.ClientCloseEndsSessions,
	"SecretsAreNotPrinted":                 network.SecretsAreNotPrinted,
	"SessionClosedPush":                    network.SessionClosedPush,
	"PolicyChangeIsFeltAtOnce":             network.PolicyChangeIsFeltAtOnce,
	"NothingIsCachedWhileRefreshing":       network.NothingIsCachedWhileRefreshing,
	"OneAsksForAll":                        network.OneAsksForAll,
	"ReplyOlderThanPush":                   network.ReplyOlderThanPush,
	"ClosedWhileOpening":                   network.ClosedWhileOpening,
	"ConnectWithdrawnEndsTheSession":       network.ConnectWithdrawnEndsTheSession,
	"MissedPushes":                         network.MissedPushes,
	"AnswerOvertakenByAGap":                network.AnswerOvertakenByAGap,
	"Silence":                              network.Silence,
	"SilenceBound":                         network.SilenceBound,
	"NATSDown":                             network.NATSDown,
	"ReconnectVoidsTheCache":               network.ReconnectVoidsTheCache,
	"LifeOfPermissions":                    network.LifeOfPermissions,
	"OmittedPermissionsAreAsked":           network.OmittedPermissionsAreAsked,
	"Overload":                             network.Overload,
	"VersionChangesWithThePermissionsOnly": network.VersionChangesWithThePermissionsOnly,
}

func TestOverNATS(t *testing.T) { network(clienttest.Start).run(t) }

func TestInMemory(t *testing.T) { network(clienttest.StartInMemory).run(t) }

func (n network) run(t *testing.T) {
	for name, test := range suite {
		t.Run(name, func(t *testing.T) { test(n, t) })
	}
}

func (n network) start(t *testing.T, edit func(*client.Config)) *fixture {
	t.Helper()
	f := &fixture{t: t, desk: n(t, broker), der: clienttest.Certificate(t, thing).Certificate[0]}
	f.desk.Trust(thing, f.der)
	f.desk.SetPolicy(connect, publish, subscribe)
	cfg := client.Config{
		Broker: broker, URL: f.desk.URL(), Timeout: time.Second, MaxStale: maxStale,
		Now: func() time.Time { return time.Now().Add(time.Duration(f.skew.Load())) },
	}
	if link := f.desk.Link(); link != nil {
		cfg.Link = link
	}
	if edit != nil {
		edit(&cfg)
	}
	var err error
	if f.c, err = client.Connect(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.c.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := f.c.Ready(f.within()); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) within() context.Context {
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	f.t.Cleanup(cancel)
	return ctx
}

func (f *fixture) session() *client.Session {
	f.t.Helper()
	s, err := f.c.Authenticate(f.within(), thing, f.der)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := s.Await(f.within()); err != nil {
		f.t.Fatal(err)
	}
	return s
}

// locally runs fn while the desk answers no authorize: a decision that is not local does
// not come out. (Denials are put on record beside the answer, so counting will not do.)
func (f *fixture) locally(fn func()) {
	f.t.Helper()
	gate := make(chan struct{})
	f.desk.Before(authapi.OpAuthorize, func() { <-gate })
	fn()
	f.desk.Before(authapi.OpAuthorize, nil)
	close(gate)
}

func want(t *testing.T, what string, got, want client.Decision) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// until waits for a decision to become want: a push is on its way.
func until(t *testing.T, what string, decide func() client.Decision, want client.Decision) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for decide() != want {
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %v, want %v", what, decide(), want)
		}
		time.Sleep(time.Millisecond) // polls: nothing announces a cache's state from outside
	}
}

func (n network) DecisionsAreLocal(t *testing.T) {
	f := n.start(t, nil)
	s := f.session()
	f.locally(func() {
		want(t, "own topic", s.Publish(mine), client.Allowed)
		want(t, "other's topic", s.Publish(theirs), client.Denied)
		want(t, "own filter", s.Subscribe("sensors/sensor-1/#"), client.Allowed)
		want(t, "other's filter", s.Subscribe("sensors/sensor-2/#"), client.Denied)
		want(t, "all", s.Subscribe("#"), client.Denied)
		want(t, "connect", s.Authorize("mqtt:connect", "mqtt:clientId:sensor-1"), client.Allowed)
		want(t, "empty topic", s.Publish(""), client.Denied)
		want(t, "NUL", s.Publish("sensors/sensor-1/\x00"), client.Denied)
		want(t, "invalid UTF-8", s.Publish("sensors/sensor-1/\xff"), client.Denied)
		want(t, "mixed services", s.Authorize("mqtt:publish", "opcua:node:x"), client.Unavailable)
	})
	if s.Thing() != thing || s.ClientID() != thing || s.CertificateID() != messages.CertificateIDOf(f.der) {
		t.Errorf("session is of %s, %s, %s", s.Thing(), s.ClientID(), s.CertificateID())
	}
}

// Gatehouse hears of denials that are decided here: once each.
func (n network) DenialsAreReported(t *testing.T) {
	f := n.start(t, nil)
	s := f.session()
	before := f.desk.Asked(authapi.OpAuthorize)
	for range 5 {
		want(t, "allowed", s.Publish(mine), client.Allowed)
		want(t, "denied", s.Publish(theirs), client.Denied)
		want(t, "another", s.Subscribe("#"), client.Denied)
	}
	f.desk.WaitAsked(authapi.OpAuthorize, before+2)
	if err := f.c.Close(); err != nil { // waits for reports under way
		t.Fatal(err)
	}
	if n := f.desk.Asked(authapi.OpAuthorize) - before; n != 2 {
		t.Errorf("%d decisions were put to Gatehouse, want 2", n)
	}
}

// ReportsComeBeforeTheClose: a client that is denied and leaves at once is on record
// all the same: its session is not closed before the report is through.
func (n network) ReportsComeBeforeTheClose(t *testing.T) {
	f := n.start(t, nil)
	s := f.session()
	gate := make(chan struct{})
	asked := make(chan struct{}, 1)
	f.desk.Before(authapi.OpAuthorize, func() {
		select {
		case asked <- struct{}{}:
		default:
		}
		<-gate
	})
	want(t, "denied", s.Publish(theirs), client.Denied)
	<-asked
	before := f.desk.Asked(authapi.OpClose)
	s.Close()
	other := f.session() // an answer to a later request: a close would have been sent by now
	if n := f.desk.Asked(authapi.OpClose); n != before {
		t.Error("the session was closed before its denial was on record")
	}
	close(gate)
	f.desk.WaitAsked(authapi.OpClose, before+1)
	other.Close()
}

func (n network) AuthenticateRefusals(t *testing.T) {
	f := n.start(t, nil)
	stranger := clienttest.Certificate(t, thing).Certificate[0]
	for _, c := range []struct {
		name     string
		prepare  func()
		clientID string
		der      []byte
		want     error
	}{
		{"unknown certificate", nil, thing, stranger, client.ErrDenied},
		{"another's client id", nil, "sensor-2", f.der, client.ErrDenied},
		{"client id not UTF-8", nil, "sensor-\xff", f.der, client.ErrDenied},
		{"empty client id", nil, "", f.der, client.ErrDenied},
		{"no certificate", nil, thing, nil, client.ErrDenied},
		{"certificate too long", nil, thing, make([]byte, 20<<10), client.ErrDenied},
		{"certificate longer than a message", nil, thing, make([]byte, 80<<10), client.ErrDenied},
		{"busy", func() {
			f.desk.Refuse(authapi.OpAuthenticate, &messages.Refusal{Code: messages.RefusedBusy, RetryAfter: 3 * time.Second})
		}, thing, f.der, client.ErrBusy},
		{"not ready", func() {
			f.desk.Refuse(authapi.OpAuthenticate, messages.Refuse(messages.RefusedNotReady, "starting"))
		}, thing, f.der, client.ErrUnavailable},
		{"being registered", func() {
			f.desk.Refuse(authapi.OpAuthenticate, &messages.Refusal{Code: messages.RefusedPending, RetryAfter: 5 * time.Second})
		}, thing, f.der, client.ErrPending},
		{"internal error", func() {
			f.desk.Refuse(authapi.OpAuthenticate, messages.Refuse(messages.RefusedService, "broken"))
		}, thing, f.der, client.ErrUnavailable},
		{"broker not known", func() {
			f.desk.Refuse(authapi.OpAuthenticate, messages.Refuse(messages.RefusedUnauthorized, "who?"))
		}, thing, f.der, client.ErrUnavailable},
		{"internal error about a name", func() {
			f.desk.Refuse(authapi.OpAuthenticate, messages.Refuse(messages.RefusedService, "not a thing name"))
		}, "sensor-1/#", f.der, client.ErrDenied},
		{"policy without connect", func() {
			f.desk.Refuse(authapi.OpAuthenticate, nil)
			f.desk.SetPolicy(publish)
		}, thing, f.der, client.ErrDenied},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.prepare != nil {
				c.prepare()
			}
			s, err := f.c.Authenticate(f.within(), c.clientID, c.der)
			if s != nil || !errors.Is(err, c.want) {
				t.Fatalf("got %v, %v, want error %v", s, err, c.want)
			}
			kinds := 0
			for _, kind := range []error{client.ErrDenied, client.ErrBusy, client.ErrUnavailable} {
				if errors.Is(err, kind) {
					kinds++
				}
			}
			if kinds != 1 {
				t.Errorf("%v is of %d kinds, want 1", err, kinds)
			}
			if after := client.RetryAfter(err); c.want == client.ErrBusy && after != 3*time.Second {
				t.Errorf("retry after %v, want 3s", after)
			}
		})
	}
	if n := f.desk.Sessions(); n != 0 {
		t.Errorf("%d sessions are left, want 0", n)
	}
}

func (n network) RawOperations(t *testing.T) {
	f := n.start(t, nil)
	ctx := f.within()
	if ok, err := f.c.Verify(ctx, f.der); !ok || err != nil {
		t.Errorf("verify: %v, %v", ok, err)
	}
	if ok, err := f.c.Verify(ctx, clienttest.Certificate(t, thing).Certificate[0]); ok || err != nil {
		t.Errorf("verify a stranger: %v, %v", ok, err)
	}
	token, err := f.c.Token(ctx, thing, f.der)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := f.c.AuthorizeToken(ctx, token, "mqtt:publish", "mqtt:topic:"+mine); !ok || err != nil {
		t.Errorf("authorize: %v, %v", ok, err)
	}
	if ok, err := f.c.AuthorizeToken(ctx, token, "mqtt:publish", "mqtt:topic:"+theirs); ok || err != nil {
		t.Errorf("authorize another's: %v, %v", ok, err)
	}
	for range 2 {
		if err := f.c.CloseToken(ctx, token); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if ok, err := f.c.AuthorizeToken(ctx, token, "mqtt:publish", "mqtt:topic:"+mine); ok || !errors.Is(err, client.ErrSessionClosed) || !errors.Is(err, client.ErrDenied) {
		t.Errorf("authorize with a closed token: %v, %v", ok, err)
	}
}

func (n network) CloseTellsTheDesk(t *testing.T) {
	f := n.start(t, nil)
	s := f.session()
	f.desk.WaitSessions(1)
	s.Close()
	want(t, "publish after close", s.Publish(mine), client.Closed)
	f.desk.WaitSessions(0)
	if e, over := s.Ended(); !over || e.Cause != client.ByBroker {
		t.Errorf("ended %v, %v", e, over)
	}
}

func (n network) CloseIsRepeatedUntilHeard(t *testing.T) {
	f := n.start(t, nil)
	s := f.session()
	f.desk.Refuse(authapi.OpClose, messages.Refuse(messages.RefusedNotReady, "stopping"))
	s.Close()
	f.desk.WaitAsked(authapi.OpClose, 1)
	f.desk.Refuse(authapi.OpClose, nil)
	f.desk.WaitSessions(0)
}

func (n network) ClientCloseEndsSessions(t *testing.T) {
	f := n.start(t, nil)
	s := f.session()
	called := make(chan client.Ending, 1)
	s.OnClosed(func(e client.Ending) { called <- e })
	if err := f.c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-called:
		if e.Cause != client.ByBroker {
			t.Errorf("cause %v", e)
		}
	default:
		t.Error("Close returned before the callback")
	}
	f.desk.WaitSessions(0)
	if _, err := f.c.Authenticate(f.within(), thing, f.der); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("authenticate on a closed client: %v", err)
	}
}

func (n network) SecretsAreNotPrinted(t *testing.T) {
	f := n.start(t, nil)
	s := f.session()
	for _, format := range []string{"%v", "%+v", "%s"} {
		for _, text := range []string{fmt.Sprintf(format, s), fmt.Sprintf(format, f.c)} {
			if strings.Contains(text, "gh1_") || len(text) > 100 {
				t.Errorf("%s prints %q", format, text)
			}
		}
	}
}

// One broker's credentials must not open another's door, and whoever mixes them up
// should be told at once.
func TestForeignCredentials(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true, Nkeys: []*server.NkeyUser{{
		Nkey: public,
		Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"gatehouse.v1.demo.*"}},
			Subscribe: &server.SubjectPermission{Allow: []string{authapi.PushSubjects(broker), authapi.InboxPrefix(broker) + ".>"}},
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	go ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() })
	if !ns.ReadyForConnections(patience) {
		t.Fatal("no NATS server")
	}
	c, err := client.Connect(t.Context(), client.Config{Broker: broker, URL: ns.ClientURL(), Credentials: seed})
	if err != nil {
		t.Fatalf("own credentials: %v", err)
	}
	if _, err := c.Authenticate(t.Context(), thing, []byte("x")); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("authenticate without a daemon: %v", err)
	}
	_ = c.Close()
	if c, err := client.Connect(t.Context(), client.Config{Broker: "other", URL: ns.ClientURL(), Credentials: seed}); err == nil {
		t.Error("another's credentials: connected")
		_ = c.Close()
	} else if !strings.Contains(err.Error(), "credentials are not those of broker") {
		t.Errorf("another's credentials: %v", err)
	}
	if c, err := client.Connect(t.Context(), client.Config{Broker: broker, URL: ns.ClientURL()}); err == nil {
		t.Error("no credentials: connected")
		_ = c.Close()
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, cfg := range map[string]client.Config{
		"no broker":     {},
		"reserved name": {Broker: "push"},
		"bad name":      {Broker: "a.b"},
		"stale too far": {Broker: broker, MaxStale: time.Minute},
		"bad secret":    {Broker: broker, Credentials: []byte("hello")},
		"nobody there":  {Broker: broker, URL: "nats://127.0.0.1:1"},
	} {
		if c, err := client.Connect(t.Context(), cfg); err == nil {
			t.Errorf("%s: connected", name)
			_ = c.Close()
		}
	}
}
