package brokers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// patience bounds waits that a passing test never exhausts.
const patience = 10 * time.Second

// testLog sends a test's log to its output.
func testLog(t testing.TB) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}

// fakeGate is a core that knows a few certificates and sessions by heart. Hooks, where
// set, come first.
type fakeGate struct {
	mu       sync.Mutex                    // guards all below
	active   map[string]messages.ThingName // by DER: certificates that are accepted, and whose they are
	sessions map[messages.Token]session
	closed   []messages.Token
	revision uint64

	onVerify       func(c Caller, reply func(bool, error)) bool // true: taken care of
	onAuthenticate func(c Caller, reply func(Grant, error)) bool
	onAuthorize    func() (Verdict, error)
	onClose        func(c Caller, reply func(error)) bool
}

type session struct {
	broker messages.BrokerID
	thing  messages.ThingName
	der    string
}

func newFakeGate() *fakeGate {
	return &fakeGate{active: map[string]messages.ThingName{}, sessions: map[messages.Token]session{}, revision: 7}
}

// get and set read and change a field of the gate while requests run.
func get[T any](g *fakeGate, p *T) T {
	g.mu.Lock()
	defer g.mu.Unlock()
	return *p
}

func set[T any](g *fakeGate, p *T, v T) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*p = v
}

func (g *fakeGate) VerifyIdentity(c Caller, der []byte, reply func(bool, error)) {
	if hook := get(g, &g.onVerify); hook != nil && hook(c, reply) {
		return
	}
	g.mu.Lock()
	_, ok := g.active[string(der)]
	g.mu.Unlock()
	reply(ok, nil)
}

func (g *fakeGate) open(c Caller, clientID string, der []byte) (Session, error) {
	thing, err := messages.ParseThingName(clientID)
	if err != nil {
		return Session{}, err // a Service error, as in the reference (client-device-auth spec 5.2)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if owner, ok := g.active[string(der)]; !ok || owner != thing {
		return Session{}, messages.Refuse(messages.RefusedInvalidCredential, "certificate is not attached to %s", thing)
	}
	s := Session{Token: messages.NewToken(), Thing: thing}
	g.sessions[s.Token] = session{c.Broker, thing, string(der)}
	return s, nil
}

func (g *fakeGate) OpenSession(c Caller, clientID string, der []byte, reply func(Session, error)) {
	go func() { reply(g.open(c, clientID, der)) }()
}

func (g *fakeGate) Authenticate(c Caller, clientID string, der []byte, reply func(Grant, error)) {
	if hook := get(g, &g.onAuthenticate); hook != nil && hook(c, reply) {
		return
	}
	s, err := g.open(c, clientID, der)
	if err != nil {
		reply(Grant{}, err)
		return
	}
	grant, err := g.Permissions(c, []byte(s.Token))
	reply(grant, err)
}

func (g *fakeGate) Permissions(c Caller, token []byte) (Grant, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, ok := g.sessions[messages.Token(token)]
	if !ok || s.broker != c.Broker {
		return Grant{}, messages.Refuse(messages.RefusedInvalidToken, "no session")
	}
	return Grant{
		ConnectAuthorized: true, Token: messages.Token(token), Thing: s.thing,
		CertificateID: messages.CertificateIDOf([]byte(s.der)), PolicyRevision: g.revision,
		Permissions: []permission.Permission{{Operation: "mqtt:publish", Resource: "mqtt:topic:sensors/" + string(s.thing) + "/*"}},
		ExpiresAt:   time.Date(2026, 11, 21, 23, 0, 0, 0, time.UTC), CacheTTL: time.Minute, DecisionID: c.Request,
	}, nil
}

func (g *fakeGate) Authorize(broker messages.BrokerID, token, operation, resource []byte) (Verdict, error) {
	if hook := get(g, &g.onAuthorize); hook != nil {
		return hook()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s, ok := g.sessions[messages.Token(token)]
	if !ok || s.broker != broker {
		return Verdict{}, messages.Refuse(messages.RefusedInvalidToken, "no session")
	}
	allowed := string(operation) == "mqtt:publish" && string(resource) == "mqtt:topic:sensors/"+string(s.thing)+"/t"
	return Verdict{Allowed: allowed, AsOf: 42, PolicyRevision: g.revision}, nil
}

func (g *fakeGate) CloseSession(c Caller, token []byte, reply func(error)) {
	if hook := get(g, &g.onClose); hook != nil && hook(c, reply) {
		return
	}
	g.mu.Lock()
	delete(g.sessions, messages.Token(token))
	g.closed = append(g.closed, messages.Token(token))
	g.mu.Unlock()
	reply(nil)
}

// certificate makes a self-signed certificate that the gate accepts as thing's.
func (g *fakeGate) certificate(t testing.TB, thing messages.ThingName) (der []byte, text string) {
	t.Helper()
	der, text = makeCertificate(t)
	g.mu.Lock()
	g.active[string(der)] = thing
	g.mu.Unlock()
	return der, text
}

func makeCertificate(t testing.TB) (der []byte, text string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e10, 0)}
	if der, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key); err != nil {
		t.Fatal(err)
	}
	return der, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// house is a server with a desk on it.
type house struct {
	server *Server
	daemon *nats.Conn
	desk   *Desk
	gate   *fakeGate
}

// startServer starts a server on a free TCP port.
func startServer(t testing.TB) *Server {
	t.Helper()
	s, err := StartServer(ServerConfig{Listen: "127.0.0.1:0", Log: testLog(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// startHouse starts a server and an open desk; change may alter the desk's
// configuration.
func startHouse(t testing.TB, change func(*DeskConfig)) *house {
	t.Helper()
	h := &house{server: startServer(t), gate: newFakeGate()}
	var err error
	if h.daemon, err = h.server.DaemonConn(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.daemon.Close)
	cfg := DeskConfig{Conn: OnNATS(h.daemon), Gate: h.gate, Log: testLog(t), Instance: "test1"}
	if change != nil {
		change(&cfg)
	}
	if h.desk, err = OpenDesk(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.desk.Close(context.Background()) })
	h.desk.SetReady(true)
	return h
}

// broker connects as broker name over TCP, with a .creds file as any client would.
func (h *house) broker(t testing.TB, name messages.BrokerID) *nats.Conn {
	t.Helper()
	c, err := NewBrokerCredentials(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.server.AddBroker(name, c.Public); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(h.server.URL(), nats.UserCredentialBytes(c.File()), nats.CustomInboxPrefix(authapi.InboxPrefix(name)), nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// ask makes one request and returns the reply's body and the refusal in it.
func ask(t testing.TB, nc *nats.Conn, broker messages.BrokerID, op authapi.Op, body string) (string, *messages.Refusal) {
	t.Helper()
	m, err := nc.Request(authapi.Subject(broker, op), []byte(body), patience)
	if err != nil {
		t.Fatalf("%s %s: %v", op, body, err)
	}
	return string(m.Data), authapi.ReadError(m.Header.Get(authapi.HeaderError), m.Header.Get(authapi.HeaderMicroCode), m.Data)
}
