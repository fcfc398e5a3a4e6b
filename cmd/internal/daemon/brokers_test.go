package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// ownBroker is a broker that asks by hand.
type ownBroker struct {
	c      *core
	name   messages.BrokerID
	nc     *nats.Conn
	closed chan struct{}
	csr    string
	got    string // the certificate, PEM
}

func (c *core) broker(name messages.BrokerID) *ownBroker {
	c.t.Helper()
	creds, err := os.ReadFile(CredsFile(c.cfg.Dir, string(name)))
	must(c.t, err)
	options, err := client.Options(name, creds)
	must(c.t, err)
	b := &ownBroker{c: c, name: name, closed: make(chan struct{})}
	b.nc, err = nats.Connect("", append(options, c.server.Local(), nats.NoReconnect(), nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }))...)
	must(c.t, err)
	c.t.Cleanup(b.nc.Close)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(c.t, err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	must(c.t, err)
	b.csr = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	return b
}

// ask asks for a certificate and returns the error's name.
func (b *ownBroker) ask(usage authapi.CertificateType) string {
	b.c.t.Helper()
	body, err := json.Marshal(authapi.CertificatesRequest{
		CertificateOptions: authapi.CertificateOptions{CertificateType: usage}, CertificateSigningRequest: b.csr,
	})
	must(b.c.t, err)
	m, err := b.nc.Request(authapi.Subject(b.name, authapi.OpCertificates), body, 20*time.Second)
	must(b.c.t, err)
	if name := m.Header.Get(authapi.HeaderError); name != "" {
		return name
	}
	a, err := authapi.ParseCertificatesReply(m.Data)
	must(b.c.t, err)
	b.got = a.Certificate
	block, _ := pem.Decode([]byte(a.Certificate))
	leaf, err := x509.ParseCertificate(block.Bytes)
	must(b.c.t, err)
	if leaf.Subject.CommonName != string(b.name) {
		b.c.t.Errorf("the certificate is %s's", leaf.Subject.CommonName)
	}
	return "ok"
}

// TestBrokersCertificatesAreGranted: SERVER for all; CLIENT and both at once by an operator's
// word, which is in the log, survives a restart, and is taken back at once.
func TestBrokersCertificatesAreGranted(t *testing.T) {
	c := newCore(t, "")
	add := func(types *[]string, want ...string) {
		t.Helper()
		added, err := c.brokerAdd(t.Context(), BrokerRequest{Name: "b", Certificates: types})
		must(t, err)
		if !slices.Equal(added.Certificates, want) {
			t.Errorf("certificates %q, want %q", added.Certificates, want)
		}
	}
	check := func(server, client, both string) {
		t.Helper()
		b := c.broker("b")
		defer b.nc.Close()
		for usage, want := range map[authapi.CertificateType]string{
			authapi.CertificateServer: server, authapi.CertificateClient: client, authapi.CertificateClientAndServer: both,
		} {
			if got := b.ask(usage); got != want {
				t.Errorf("%s: %s, want %s", usage, got, want)
			}
		}
	}
	const no = "Unauthorized"
	add(nil, "SERVER")
	check("ok", no, no)
	add(&[]string{"SERVER", "CLIENT"}, "CLIENT", "SERVER")
	check("ok", "ok", "ok")
	c.Close()
	must(t, c.start())
	add(nil, "CLIENT", "SERVER") // as before
	check("ok", "ok", "ok")
	add(&[]string{"CLIENT"}, "CLIENT")
	check(no, "ok", no)
	add(&[]string{})
	check(no, no, no)
	if _, err := c.brokerAdd(t.Context(), BrokerRequest{Name: "b", Certificates: &[]string{"CA"}}); err == nil {
		t.Error("a type that does not exist is taken")
	}
	var kinds []string
	for rec, err := range c.log.Read(t.Context(), messages.StreamBrokers, 1) {
		must(t, err)
		kinds = append(kinds, rec.Kind.String())
	}
	if want := []string{"BrokerPermitted", "BrokerRestricted", "BrokerRestricted"}; !slices.Equal(kinds, want) {
		t.Errorf("log %q, want %q", kinds, want)
	}
}

// TestComponentIsNoneAnyMore: who got a client certificate by asking is an internal component
// until an operator takes the right back, whatever the certificate says; its sessions end.
func TestComponentIsNoneAnyMore(t *testing.T) {
	c := newCore(t, "")
	for _, name := range []messages.BrokerID{"b", "bridge"} {
		_, err := c.brokerAdd(t.Context(), BrokerRequest{Name: name, Certificates: &[]string{"CLIENT", "SERVER"}})
		must(t, err)
	}
	bridge, b := c.broker("bridge"), c.broker("b")
	if got := bridge.ask(authapi.CertificateClient); got != "ok" {
		t.Fatal(got)
	}
	ask := func(op authapi.Op, body any) *nats.Msg {
		t.Helper()
		text, err := json.Marshal(body)
		must(t, err)
		m, err := b.nc.Request(authapi.Subject("b", op), text, 20*time.Second)
		must(t, err)
		return m
	}
	component := func() bool {
		t.Helper()
		a, err := authapi.ParseVerifyReply(ask(authapi.OpVerify, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: bridge.got}}).Data)
		must(t, err)
		return a.IsValidClientDevice
	}
	if !component() {
		t.Fatal("its certificate makes no component of it")
	}
	opened, err := authapi.ParseTokenReply(ask(authapi.OpToken, authapi.TokenRequest{Credential: authapi.TokenCredential{
		MQTT: &authapi.MQTTCredential{ClientID: "bridge", CertificatePEM: bridge.got},
	}}).Data)
	must(t, err)
	allowed := func() string {
		body := json.RawMessage(authapi.AppendAuthorizeRequest(nil, opened.ClientDeviceAuthToken, "mqtt:publish", "mqtt:topic:a"))
		m := ask(authapi.OpAuthorize, body)
		if name := m.Header.Get(authapi.HeaderError); name != "" {
			return name
		}
		a, err := authapi.ParseAuthorizeReply(m.Data)
		must(t, err)
		return map[bool]string{true: "yes", false: "no"}[a.IsAuthorized]
	}
	if got := allowed(); got != "yes" {
		t.Fatal(got)
	}
	c.seen = c.log.Head().Seq
	_, err = c.brokerAdd(t.Context(), BrokerRequest{Name: "bridge", Certificates: &[]string{"SERVER"}})
	must(t, err)
	if component() {
		t.Error("it is still a component")
	}
	c.await(messages.KindBrokerRestricted, messages.KindSessionClosed)
	if got := allowed(); got != "InvalidClientDeviceAuthToken" {
		t.Errorf("its session: %s", got)
	}
	c.Close()
	must(t, c.start())
	b = c.broker("b")
	if component() {
		t.Error("it is a component again after a restart")
	}
	_, err = c.brokerAdd(t.Context(), BrokerRequest{Name: "bridge", Certificates: &[]string{"CLIENT"}})
	must(t, err)
	if component() {
		t.Error("the certificate from before makes a component again")
	}
	csr := bridge.csr // for whose key there is a certificate, which counts for nothing
	bridge = c.broker("bridge")
	bridge.csr = csr
	if got := bridge.ask(authapi.CertificateClient); got != "ok" || !component() {
		t.Errorf("it is none though the right was given again: %s", got)
	}
}

// TestBrokerIsRemoved: its connection ends, it does not get in again nor a certificate, and
// nothing is issued for it; added again it is a new one, with new credentials.
func TestBrokerIsRemoved(t *testing.T) {
	c := newCore(t, "")
	_, err := c.brokerAdd(t.Context(), BrokerRequest{Name: "b", Certificates: &[]string{"CLIENT", "SERVER"}})
	must(t, err)
	b := c.broker("b")
	former, err := os.ReadFile(CredsFile(c.cfg.Dir, "b"))
	must(t, err)
	if got := b.ask(authapi.CertificateServer); got != "ok" {
		t.Fatal(got)
	}
	removed, err := c.brokerRemove(t.Context(), BrokerRequest{Name: "b"})
	if err != nil || removed.Name != "b" || removed.External {
		t.Fatalf("%+v, %v", removed, err)
	}
	<-b.closed
	if _, err := os.Stat(CredsFile(c.cfg.Dir, "b")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its credentials: %v", err)
	}
	options, err := client.Options("b", former)
	must(t, err)
	if nc, err := nats.Connect("", append(options, c.server.Local())...); err == nil {
		nc.Close()
		t.Error("it got in again")
	}
	if c.mayAsk("b", authapi.OpVerify) || c.mayHave("b", authapi.CertificateServer) {
		t.Error("it may still ask")
	}
	must(t, c.authority.Load().Rotate(t.Context(), "test"))
	for _, info := range c.authority.Load().Describe().Certificates {
		if info.Subscriber == "b" && info.Subscribed {
			t.Error("it still subscribes")
		}
	}
	for _, name := range []messages.BrokerID{"b", "nobody", "mqtt", "admin", "../x"} {
		if _, err := c.brokerRemove(t.Context(), BrokerRequest{Name: name}); err == nil {
			t.Errorf("%s was removed", name)
		}
	}
	c.Close()
	must(t, c.start())
	added, err := c.brokerAdd(t.Context(), BrokerRequest{Name: "b"})
	if err != nil || !slices.Equal(added.Certificates, []string{"SERVER"}) {
		t.Fatalf("%+v, %v", added, err)
	}
	if after, err := os.ReadFile(CredsFile(c.cfg.Dir, "b")); err != nil || string(after) == string(former) {
		t.Errorf("the former credentials: %v", err)
	}
	if got := c.broker("b").ask(authapi.CertificateServer); got != "ok" {
		t.Error(got)
	}
}
