package brokers_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/actorstest"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/gate"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// patience bounds waits that a passing test never exhausts.
const patience = 10 * time.Second

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// post is a core with a real authority, whose courier and desk stand on a real NATS server
// that outlives them, and on which a user hears everything.
type post struct {
	t      *testing.T
	memory *eventlog.Memory
	store  *keys.Seeded
	clock  *actorstest.Clock
	server *server.Server
	users  map[string]brokers.Credentials
	out    *output // what the core logs

	mu    sync.Mutex
	more  map[authapi.CertificateType]bool // what everybody may have beside SERVER; guarded by mu
	heard []*nats.Msg                      // by the tap; guarded by mu
	deaf  atomic.Bool                      // pushes get lost on their way
	lease time.Duration                    // 0: as in production

	runs int
	*core
}

// core is one run of the daemon's parts.
type core struct {
	log       *actorstest.Log
	sys       *actors.System
	authority *actors.Authority
	pusher    *brokers.Pusher
	courier   *brokers.Courier
	desk      *brokers.Desk
	settings  *actors.AuthoritySettings // changed between two passes
	stop      func()
	// acknowledging is how many acknowledgements are under way.
	acknowledging atomic.Int32
}

// witness counts the acknowledgements that are under way.
type witness struct {
	brokers.Issuer
	underway *atomic.Int32
}

func (w witness) Subscribe(ctx context.Context, want brokers.Subscription) (func(), error) {
	deliver := want.Deliver
	want.Deliver = func(d brokers.Delivery) {
		acknowledge := d.Acknowledge
		d.Acknowledge = func() {
			w.underway.Add(1)
			defer w.underway.Add(-1)
			acknowledge()
		}
		deliver(d)
	}
	return w.Issuer.Subscribe(ctx, want)
}

// machine is the clock as brokers take it.
type machine struct{ *actorstest.Clock }

func (m machine) Now() time.Time { return m.Wall() }

// lossy loses what is pushed.
type lossy struct {
	*nats.Conn
	deaf *atomic.Bool
}

func (l lossy) Publish(subject string, body []byte) error {
	if l.deaf.Load() {
		return nil
	}
	return l.Conn.Publish(subject, body)
}

// output is a buffer for several writers.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) Bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.text.Bytes())
}

// newPost starts a core to which the named brokers may connect.
func newPost(t *testing.T, names ...messages.BrokerID) *post {
	t.Helper()
	p := &post{
		t: t, memory: eventlog.NewMemory(actorstest.Options(nil)), store: keys.NewSeeded([32]byte{1}), clock: actorstest.NewClock(noon),
		users: map[string]brokers.Credentials{}, out: &output{}, more: map[authapi.CertificateType]bool{},
	}
	daemon, err := brokers.NewDaemonCredentials()
	if err != nil {
		t.Fatal(err)
	}
	p.users[""] = daemon
	for _, name := range names {
		c, err := brokers.NewBrokerCredentials(name)
		if err != nil {
			t.Fatal(err)
		}
		p.users[string(name)] = c
	}
	p.startServer()
	p.tap()
	p.start()
	t.Cleanup(func() { p.stop() })
	return p
}

// startServer runs a plain nats-server with the users of WriteServerConfig, and one who may
// do anything.
func (p *post) startServer() {
	p.t.Helper()
	var list []brokers.User
	for name, c := range p.users {
		list = append(list, brokers.User{Name: name, Public: c.Public})
	}
	var text strings.Builder
	if err := brokers.WriteServerConfig(&text, list); err != nil {
		p.t.Fatal(err)
	}
	config := "listen: \"127.0.0.1:-1\"\n" + strings.Replace(text.String(), "  ]\n}", "    { user: tap, password: tap }\n  ]\n}", 1)
	file := filepath.Join(p.t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		p.t.Fatalf("%v in\n%s", err, config)
	}
	opts.NoSigs, opts.NoLog = true, true
	if p.server, err = server.NewServer(opts); err != nil {
		p.t.Fatal(err)
	}
	go p.server.Start()
	p.t.Cleanup(func() { p.server.Shutdown(); p.server.WaitForShutdown() })
	if !p.server.ReadyForConnections(patience) {
		p.t.Fatal("the NATS server is not ready")
	}
}

// tap hears all subjects from now on.
func (p *post) tap() {
	p.t.Helper()
	nc, err := nats.Connect(p.server.ClientURL(), nats.UserInfo("tap", "tap"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(nc.Close)
	_, err = nc.Subscribe(">", func(m *nats.Msg) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.heard = append(p.heard, m)
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// start runs the daemon's parts on the log that is there.
func (p *post) start() {
	t := p.t
	t.Helper()
	p.runs++
	c := &core{log: actorstest.WrapLog(p.memory)}
	c.settings = &actors.AuthoritySettings{Type: ca.TypeECDSAP256, ServerValidity: 7 * 24 * time.Hour, ClientValidity: 24 * time.Hour}
	logger := slog.New(slog.NewTextHandler(p.out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	views := projections.New(nil)
	var err error
	c.sys, err = actors.New(actors.Config{Log: c.log, Views: views, Cloud: actorstest.NewCloud(), Clock: actors.NewTrustClock(p.clock, actors.Anchor{}), Logger: logger})
	must(t, err)
	c.authority, err = actors.StartAuthority(t.Context(), actors.AuthorityConfig{
		System: c.sys, Keys: p.store, Clock: p.clock, Settings: func() actors.AuthoritySettings { return *c.settings }, Logger: logger,
	})
	must(t, err)
	must(t, c.authority.Hosts(t.Context(), "configuration", []string{"gate.example"}))
	conn, err := brokers.Connect(brokers.ConnectConfig{URL: p.server.ClientURL(), Credentials: p.users[""], Log: logger})
	must(t, err)
	epoch := fmt.Sprintf("run%d", p.runs)
	c.pusher, err = brokers.NewPusher(brokers.PusherConfig{Conn: lossy{conn, &p.deaf}, Epoch: epoch, Log: logger})
	must(t, err)
	for name := range p.users {
		if name != "" {
			c.pusher.AddBroker(messages.BrokerID(name))
		}
	}
	c.courier, err = brokers.NewCourier(brokers.CourierConfig{
		Issuer: witness{gate.NewIssuer(c.authority, "embedded"), &c.acknowledging}, Pusher: c.pusher, Log: logger, Clock: machine{p.clock}, Permit: p.permit, Lease: p.lease,
	})
	must(t, err)
	c.desk, err = brokers.OpenDesk(brokers.DeskConfig{
		Conn: brokers.OnNATS(conn), Gate: gate.New(c.sys, views, actors.NewTrustClock(p.clock, actors.Anchor{}), actors.NewDenials(c.sys, views.Known)),
		Courier: c.courier, Log: logger, Instance: epoch,
	})
	must(t, err)
	c.desk.SetReady(true)
	c.stop = sync.OnceFunc(func() {
		c.log.Release()
		if err := c.desk.Close(context.Background()); err != nil {
			t.Error(err)
		}
		c.courier.Close()
		conn.Close()
		c.authority.Close()
		if err := c.sys.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	p.core = c
}

func (p *post) permit(_ messages.BrokerID, usage authapi.CertificateType) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return usage == authapi.CertificateServer || p.more[usage]
}

// restart ends the daemon's parts and starts others on the same log.
func (p *post) restart() {
	p.t.Helper()
	p.stop()
	p.start()
}

// kinds counts the events of a kind in the authority's stream.
func (p *post) kinds(kind messages.Kind) (n int) {
	p.t.Helper()
	for rec, err := range p.memory.Read(p.t.Context(), messages.StreamCA, 1) {
		must(p.t, err)
		if rec.Kind == kind {
			n++
		}
	}
	return n
}

// delivered waits until the log says that serial was delivered, and the authority has heard
// that it does: before, it may hand the certificate over again.
func (p *post) delivered(serial string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for rec, err := range p.memory.Follow(ctx, 1) {
		if err != nil {
			p.t.Fatalf("%s was not put on record as delivered: %v", serial, err)
		}
		if rec.Kind != messages.KindCertificateDelivered {
			continue
		}
		e, err := messages.DecodeEvent(&rec)
		must(p.t, err)
		if e.(*messages.CertificateDelivered).Serial == serial {
			p.eventually("the acknowledgement came back", func() bool { return p.acknowledging.Load() == 0 })
			return
		}
	}
}

// mail is a broker in the test: it asks by hand, and keeps its pushes.
type mail struct {
	p      *post
	name   messages.BrokerID
	nc     *nats.Conn
	pushes chan authapi.CertificateUpdated
}

func (p *post) broker(name messages.BrokerID) *mail {
	p.t.Helper()
	m := &mail{p: p, name: name, pushes: make(chan authapi.CertificateUpdated, 64)}
	key, err := nats.NkeyOptionFromSeed(p.seedFile(name))
	must(p.t, err)
	m.nc, err = nats.Connect(p.server.ClientURL(), key, nats.CustomInboxPrefix(authapi.InboxPrefix(name)))
	must(p.t, err)
	p.t.Cleanup(m.nc.Close)
	_, err = m.nc.Subscribe(authapi.PushSubjects(name), func(msg *nats.Msg) {
		push, err := authapi.ParseCertificateUpdated(msg.Data)
		if err != nil {
			p.t.Errorf("push: %v", err)
			return
		}
		m.pushes <- push
	})
	must(p.t, err)
	must(p.t, m.nc.Flush())
	return m
}

func (p *post) seedFile(name messages.BrokerID) string {
	p.t.Helper()
	file := filepath.Join(p.t.TempDir(), string(name)+".creds")
	must(p.t, os.WriteFile(file, p.users[string(name)].File(), 0o600))
	return file
}

// try asks, and returns the refusal if there is one.
func (m *mail) try(q authapi.CertificatesRequest) (authapi.CertificatesReply, *messages.Refusal) {
	m.p.t.Helper()
	body, err := json.Marshal(q)
	must(m.p.t, err)
	return m.send(body)
}

func (m *mail) send(body []byte) (authapi.CertificatesReply, *messages.Refusal) {
	m.p.t.Helper()
	msg, err := m.nc.Request(authapi.Subject(m.name, authapi.OpCertificates), body, patience)
	must(m.p.t, err)
	if r := authapi.ReadError(msg.Header.Get(authapi.HeaderError), msg.Header.Get(authapi.HeaderMicroCode), msg.Data); r != nil {
		return authapi.CertificatesReply{}, r
	}
	a, err := authapi.ParseCertificatesReply(msg.Data)
	must(m.p.t, err)
	return a, nil
}

// ask asks for a SERVER certificate for key, and must get one that fits.
func (m *mail) ask(key crypto.Signer, held string) authapi.CertificatesReply {
	m.p.t.Helper()
	a, refusal := m.try(server1(m.p.t, key, held))
	if refusal != nil {
		m.p.t.Fatal(refusal)
	}
	m.p.verify(a.CertificateUpdate, string(m.name), key.Public())
	return a
}

func (m *mail) push() authapi.CertificateUpdated {
	m.p.t.Helper()
	select {
	case push := <-m.pushes:
		return push
	case <-time.After(patience):
		m.p.t.Fatal("no push came")
		return authapi.CertificateUpdated{}
	}
}

// silent says that no push was sent: what was, comes before the answer to a flush.
func (m *mail) silent() {
	m.p.t.Helper()
	must(m.p.t, m.nc.Flush())
	select {
	case push := <-m.pushes:
		m.p.t.Errorf("an unexpected push: %d, %s", push.Seq, push.SerialNumber)
	default:
	}
}

// server1 is a request for a SERVER certificate for key.
func server1(t testing.TB, key crypto.Signer, held string) authapi.CertificatesRequest {
	t.Helper()
	return authapi.CertificatesRequest{
		CertificateOptions:        authapi.CertificateOptions{CertificateType: authapi.CertificateServer},
		CertificateSigningRequest: csr(t, key), Held: held,
	}
}

// csr is a request that claims names it must not get.
func csr(t testing.TB, key crypto.Signer) string {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "somebody-else"}, DNSNames: []string{"evil.example"},
	}, key)
	must(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func leafOf(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	if block == nil || len(rest) > 0 {
		t.Fatalf("want one certificate: %s", text)
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	return leaf
}

// verify judges a server certificate as a device does, by the bundle alone.
func (p *post) verify(u authapi.CertificateUpdate, name string, public crypto.PublicKey) {
	p.t.Helper()
	leaf := leafOf(p.t, u.Certificate)
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(strings.Join(u.TrustBundle, "")))
	between.AppendCertsFromPEM([]byte(strings.Join(u.CACertificates, "")))
	for _, host := range []string{"gate.example", "localhost"} {
		if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: between, CurrentTime: p.clock.Wall()}); err != nil {
			p.t.Errorf("%s: %v", host, err)
		}
	}
	issuer := leafOf(p.t, u.CACertificates[0])
	if err := leaf.CheckSignatureFrom(issuer); err != nil {
		p.t.Errorf("caCertificates do not begin with the issuer: %v", err)
	}
	if leaf.Subject.CommonName != name || fmt.Sprintf("%040x", leaf.SerialNumber) != u.SerialNumber || !leaf.NotAfter.Equal(u.NotAfter) ||
		!leaf.PublicKey.(*ecdsa.PublicKey).Equal(public) || slices.Contains(leaf.DNSNames, "evil.example") {
		p.t.Errorf("certificate of %s for %v, serial %x, until %s, is not what %+v says", leaf.Subject, leaf.DNSNames, leaf.SerialNumber, leaf.NotAfter, u)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
