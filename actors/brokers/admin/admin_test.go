package admin_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// site is a real NATS server with the service on it.
type site struct {
	server *brokers.Server
	creds  map[string]brokers.Credentials
}

func newSite(t *testing.T, h admin.Handlers) *site {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	server, err := brokers.StartServer(brokers.ServerConfig{Listen: "127.0.0.1:0", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s := &site{server: server, creds: map[string]brokers.Credentials{}}
	for _, name := range []string{authapi.OperatorAdmin, authapi.OperatorAuditor} {
		c, err := brokers.NewOperatorCredentials(name)
		if err == nil {
			err = server.AddOperator(name, c.Public)
		}
		if err != nil {
			t.Fatal(err)
		}
		s.creds[name] = c
	}
	conn, err := server.DaemonConn()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	service, err := admin.Serve(conn, h, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	return s
}

func (s *site) dial(t *testing.T) *admin.Client {
	t.Helper()
	c, err := admin.Dial(s.server.URL(), authapi.OperatorAdmin, s.creds[authapi.OperatorAdmin].File(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func handlers() admin.Handlers {
	return admin.Handlers{
		Admin: map[string]admin.Handler{
			"change": func(_ context.Context, body []byte) ([]byte, error) { return body, nil },
			"refuse": func(context.Context, []byte) ([]byte, error) {
				return nil, messages.Refuse(messages.RefusedInvalidArguments, "no such thing")
			},
			"fail":  func(context.Context, []byte) ([]byte, error) { return nil, errors.New("it broke") },
			"panic": func(context.Context, []byte) ([]byte, error) { panic("it broke badly") },
			"long":  func(context.Context, []byte) ([]byte, error) { return make([]byte, authapi.MaxMessageBytes+1), nil },
		},
		Audit: map[string]admin.Handler{
			"look": func(context.Context, []byte) ([]byte, error) { return []byte(`{"seen":7}`), nil },
		},
	}
}

func TestAdministratorAsks(t *testing.T) {
	c := newSite(t, handlers()).dial(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var echo map[string]string
	if err := c.Ask(ctx, "change", map[string]string{"a": "b"}, &echo); err != nil || echo["a"] != "b" {
		t.Errorf("change: %v %v", echo, err)
	}
	var seen struct{ Seen int }
	if err := c.Ask(ctx, "look", nil, &seen); err != nil || seen.Seen != 7 {
		t.Errorf("the administrator may look, too: %v %v", seen, err)
	}
	for op, want := range map[string]string{
		"refuse": "no such thing", "fail": "it broke", "panic": "failed inside", "long": "ask for fewer", "nothing": "no operation",
	} {
		if err := c.Ask(ctx, op, nil, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", op, err, want)
		}
	}
	if err := c.Ask(ctx, "look", nil, &seen); err != nil {
		t.Errorf("after a panic: %v", err)
	}
}

// TestAuditorOnlyLooks: the NATS server keeps the auditor from the admin subjects.
func TestAuditorOnlyLooks(t *testing.T) {
	s := newSite(t, handlers())
	user, err := nats.Connect(s.server.URL(), nats.UserCredentialBytes(s.creds[authapi.OperatorAuditor].File()),
		nats.CustomInboxPrefix(authapi.InboxPrefix(messages.BrokerID(authapi.OperatorAuditor))))
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	if m, err := user.Request(authapi.SubjectPrefix+"audit.look", nil, 5*time.Second); err != nil || string(m.Data) != `{"seen":7}` {
		t.Errorf("look: %v %v", m, err)
	}
	if m, err := user.Request(authapi.SubjectPrefix+"audit.change", nil, 5*time.Second); err != nil || m.Header.Get("Gatehouse-Error") != "InvalidArguments" {
		t.Errorf("change by way of audit: %v %v", m, err)
	}
	refused := make(chan error, 1)
	user.SetErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { refused <- err })
	if err := user.PublishRequest(authapi.SubjectPrefix+"admin.change", user.NewInbox(), nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			t.Errorf("change: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the auditor may publish on an admin subject")
	}
}

// TestHostileReplySubject: no answer goes outside an operator's inbox (reliability spec
// R11), and the service goes on.
func TestHostileReplySubject(t *testing.T) {
	s := newSite(t, handlers())
	user, err := nats.Connect(s.server.URL(), nats.UserCredentialBytes(s.creds[authapi.OperatorAdmin].File()),
		nats.CustomInboxPrefix(authapi.InboxPrefix(messages.BrokerID(authapi.OperatorAdmin))))
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	daemon, err := s.server.DaemonConn()
	if err != nil {
		t.Fatal(err)
	}
	defer daemon.Close()
	heard, err := daemon.SubscribeSync(authapi.SubjectPrefix + "audit.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := user.PublishRequest(authapi.SubjectPrefix+"admin.look", authapi.SubjectPrefix+"audit.stolen", nil); err != nil {
		t.Fatal(err)
	}
	// The next answer proves that the hostile request was handled before it.
	if _, err := user.Request(authapi.SubjectPrefix+"admin.look", nil, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if n, _, err := heard.Pending(); err != nil || n != 0 {
		t.Errorf("%d answers went astray (%v)", n, err)
	}
}

// TestServerThatComesLater: a NATS server that is down does not keep the service from
// starting, and operators are answered once it is there.
func TestServerThatComesLater(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "nats://" + listener.Addr().String()
	port := listener.Addr().(*net.TCPAddr).Port
	_ = listener.Close()
	conn, err := nats.Connect(url, nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	connected := conn.StatusChanged(nats.CONNECTED)
	service, err := admin.Serve(conn, handlers(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer service.Close()
	ns, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: port, NoLog: true, NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	defer func() { ns.Shutdown(); ns.WaitForShutdown() }()
	select {
	case <-connected:
	case <-time.After(10 * time.Second):
		t.Fatal("the daemon's connection is not there")
	}
	if err := conn.FlushTimeout(5 * time.Second); err != nil { // what it subscribed is known
		t.Fatal(err)
	}
	operator, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	if m, err := operator.Request(authapi.SubjectPrefix+"audit.look", nil, 5*time.Second); err != nil || string(m.Data) != `{"seen":7}` {
		t.Errorf("look: %v %v", m, err)
	}
}

// TestServeOnAClosedConnection fails, and leaves nothing running (goleak).
func TestServeOnAClosedConnection(t *testing.T) {
	conn, err := newSite(t, handlers()).server.DaemonConn()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if s, err := admin.Serve(conn, handlers(), slog.New(slog.DiscardHandler)); err == nil {
		s.Close()
		t.Error("it serves nobody")
	}
}

// TestDialKeepsPasswords: an error must not tell what a URL may hold.
func TestDialKeepsPasswords(t *testing.T) {
	c, err := brokers.NewOperatorCredentials(authapi.OperatorAdmin)
	if err != nil {
		t.Fatal(err)
	}
	_, err = admin.Dial("nats://u:sesame@127.0.0.1:1", authapi.OperatorAdmin, c.File(), nil)
	if err == nil || strings.Contains(err.Error(), "sesame") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("got %v", err)
	}
}
