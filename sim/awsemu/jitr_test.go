package awsemu_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	paho3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

var registering = awsemu.AuthorityOptions{Active: true, AutoRegister: true}

// factory is a registered CA of devices.
func (w *world) factory(t testing.TB, o awsemu.AuthorityOptions) *awsemutest.Authority {
	t.Helper()
	ca := awsemutest.NewAuthority(t, "factory", w.now(), nil)
	must[messages.CertificateID](t)(w.registry.AddAuthority(ca.Certificate.Raw, w.now(), o))
	return ca
}

// connectPacket is a CONNECT of MQTT 3.1.1 for the client id "d".
var connectPacket = []byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'd'}

// connect sends a CONNECT and returns what comes until the connection ends, or a CONNACK.
func (w *world) connect(t testing.TB, as *awsemu.Identity, serverName string, chain ...[]byte) []byte {
	t.Helper()
	config := w.tls(t, as)
	config.Certificates[0].Certificate = append(config.Certificates[0].Certificate, chain...)
	config.ServerName, config.InsecureSkipVerify = serverName, serverName == "" // which is how Go sends none
	conn := must[net.Conn](t)((&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", w.emulator.MQTTAddr()))
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(connectPacket); err != nil {
		return nil // closed before
	}
	got := make([]byte, 4)
	n, err := io.ReadFull(conn, got)
	if os.IsTimeout(err) {
		t.Fatal("neither an answer nor an end")
	}
	return got[:n]
}

func (w *world) wantClosed(t testing.TB, what string, as *awsemu.Identity, serverName string, chain ...[]byte) {
	t.Helper()
	if got := w.connect(t, as, serverName, chain...); len(got) > 0 {
		t.Errorf("%s: answered with % x, want an end without CONNACK", what, got)
	}
}

func (w *world) wantConnected(t testing.TB, what string, as *awsemu.Identity, serverName string) {
	t.Helper()
	if got := w.connect(t, as, serverName); len(got) != 4 || got[0] != 0x20 || got[3] != 0 {
		t.Errorf("%s: answered with % x, want a good CONNACK", what, got)
	}
}

// listener hears of registrations, as a registrar does.
func (w *world) listener(t testing.TB) *device {
	t.Helper()
	d := must[*device](t)(w.dial(t, w.core, "registrar"))
	if err := d.subscribe(t, "$aws/events/certificates/registered/+"); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *device) wantRegistered(t testing.TB, ca *awsemutest.Authority, as *awsemu.Identity) {
	t.Helper()
	topic, payload := d.next(t)
	want := fmt.Sprintf(`{"certificateId":"%s","caCertificateId":"%s","timestamp":%d,"certificateStatus":"PENDING_ACTIVATION","awsAccountId":"123456789012","certificateRegistrationTimestamp":null}`,
		as.ID, ca.ID(), noon.UnixMilli())
	if topic != "$aws/events/certificates/registered/"+string(ca.ID()) || payload != want {
		t.Errorf("heard %s %s, want %s", topic, payload, want)
	}
}

// wantSilence checks that nothing was heard before what the service says now.
func (d *device) wantSilence(t testing.TB, w *world) {
	t.Helper()
	w.emulator.PublishMQTT("$aws/events/certificates/registered/end", []byte("end"))
	if topic, payload := d.next(t); payload != "end" {
		t.Errorf("heard %s %s, want nothing", topic, payload)
	}
}

func (w *world) wantStatus(t testing.TB, as *awsemu.Identity, want awsemu.Status) {
	t.Helper()
	if info, _ := w.registry.Certificate(as.ID); info.Status != want {
		t.Errorf("certificate %.8s is %q, want %q", as.ID, info.Status, want)
	}
}

// A device of a registered CA is registered by its first CONNECT, not before; it is told
// of each time until it is active (cloud spec 4.4).
func TestRegistrationOnConnect(t *testing.T) {
	w := newWorld(t)
	ca := w.factory(t, registering)
	heard, pump := w.listener(t), ca.Issue(t, "pump-9", noon)

	held := must[net.Conn](t)(w.mqttConn(t, pump, w.emulator.MQTTAddr()))
	t.Cleanup(func() { _ = held.Close() })
	brief := must[net.Conn](t)(w.mqttConn(t, pump, w.emulator.MQTTAddr()))
	if err := brief.Close(); err != nil {
		t.Error(err)
	}
	heard.wantSilence(t, w)
	w.wantStatus(t, pump, "")

	w.wantClosed(t, "first connection", pump, awsemu.ServerName)
	heard.wantRegistered(t, ca, pump)
	w.wantStatus(t, pump, awsemu.StatusPendingActivation)
	w.wantClosed(t, "while pending", pump, awsemu.ServerName, ca.Certificate.Raw)
	heard.wantRegistered(t, ca, pump)
	w.wantStatus(t, pump, awsemu.StatusPendingActivation)

	authority := "/cacertificate/" + string(ca.ID())
	for _, off := range []string{"?newStatus=INACTIVE", "?newStatus=ACTIVE&newAutoRegistrationStatus=DISABLE"} { // pending, and its CA does not register
		if got := w.api(t, w.admin(), "PUT", authority+off, "{}"); got.status != 200 {
			t.Fatal(got.text)
		}
		w.wantClosed(t, off, pump, awsemu.ServerName)
		heard.wantSilence(t, w)
	}
	if got := w.api(t, w.admin(), "PUT", authority+"?newAutoRegistrationStatus=ENABLE", "{}"); got.status != 200 {
		t.Fatal(got.text)
	}
	w.wantClosed(t, "pending, its CA registers again", pump, awsemu.ServerName)
	heard.wantRegistered(t, ca, pump)

	if info, _ := w.registry.Certificate(pump.ID); info.Authority != ca.ID() {
		t.Errorf("registered as of CA %q, want %s", info.Authority, ca.ID())
	}
	if got := w.registry.RegisteredAuthorities(); len(got) != 1 || got[0] != (awsemu.AuthorityInfo{ID: ca.ID(), Subject: "CN=factory", Active: true, AutoRegister: true, Mode: awsemu.ModeDefault}) {
		t.Errorf("registered CAs: %+v", got)
	}
	described := w.api(t, w.admin(), "GET", "/certificates/"+string(pump.ID), "").body["certificateDescription"].(map[string]any)
	if described["caCertificateId"] != string(ca.ID()) || described["status"] != "PENDING_ACTIVATION" || described["certificateMode"] != "DEFAULT" {
		t.Errorf("described as %v", described)
	}
	if got := w.api(t, w.admin(), "GET", "/certificates-by-ca/"+string(ca.ID()), "").body["certificates"].([]any); len(got) != 1 {
		t.Errorf("certificates by CA: %v", got)
	}
	if got := w.api(t, w.admin(), "PUT", "/certificates/"+string(pump.ID)+"?newStatus=ACTIVE", ""); got.status != 200 {
		t.Fatalf("activate: %s", got.text)
	}
	w.wantClosed(t, "active, without a policy", pump, awsemu.ServerName)
	if err := w.registry.SetPolicy(pump.ID, awsemu.PolicyOpen); err != nil {
		t.Fatal(err)
	}
	w.wantConnected(t, "once active", pump, awsemu.ServerName)
	heard.wantSilence(t, w)

	for _, status := range []string{"INACTIVE", "REVOKED"} {
		if got := w.api(t, w.admin(), "PUT", "/certificates/"+string(pump.ID)+"?newStatus="+status, ""); got.status != 200 {
			t.Fatal(got.text)
		}
		w.wantClosed(t, status, pump, awsemu.ServerName)
	}
	heard.wantSilence(t, w)
	w.wantStatus(t, pump, awsemu.StatusRevoked)
}

// Who only looks like a device of a registered CA registers nothing, and no one is told.
func TestNothingRegistersItself(t *testing.T) {
	w := newWorld(t)
	ca := w.factory(t, registering)
	past := func(c *x509.Certificate) { c.NotBefore, c.NotAfter = noon.Add(-2*time.Hour), noon.Add(-time.Hour) }
	later := func(c *x509.Certificate) { c.NotBefore = noon.Add(time.Hour) }
	rogue := awsemutest.NewAuthority(t, "factory", noon, nil) // of the same name
	leaf := ca.Issue(t, "pump-1", noon)
	leafCertificate := must[*x509.Certificate](t)(x509.ParseCertificate(leaf.DER))
	leafKey := must[tls.Certificate](t)(leaf.TLS()).PrivateKey
	posing := &awsemutest.Authority{Certificate: leafCertificate, PEM: leaf.CertificatePEM, Key: leafKey.(*ecdsa.PrivateKey)}
	below := awsemutest.NewAuthority(t, "below", noon, ca)
	inactive := w.factory(t, awsemu.AuthorityOptions{AutoRegister: true})
	byHand := w.factory(t, awsemu.AuthorityOptions{Active: true})
	sni := w.factory(t, awsemu.AuthorityOptions{Active: true, AutoRegister: true, Mode: awsemu.ModeSNIOnly})

	// A CA that was good when it was registered, and is over now.
	old := awsemutest.NewAuthority(t, "old", noon.Add(-48*time.Hour), nil, func(c *x509.Certificate) { c.NotAfter = noon.Add(-time.Minute) })
	must[messages.CertificateID](t)(w.registry.AddAuthority(old.Certificate.Raw, noon.Add(-time.Hour), registering))

	before, heard := len(w.registry.Certificates()), w.listener(t)
	for what, c := range map[string]struct {
		as         *awsemu.Identity
		serverName string
		chain      [][]byte
	}{
		"of nobody's":                        {w.stranger, awsemu.ServerName, nil},
		"of another CA of the name":          {rogue.Issue(t, "pump-2", noon), awsemu.ServerName, nil},
		"of that one, with the true CA":      {rogue.Issue(t, "pump-2", noon), awsemu.ServerName, [][]byte{ca.Certificate.Raw}},
		"of a leaf that poses as a CA":       {posing.Issue(t, "pump-3", noon), awsemu.ServerName, [][]byte{leaf.DER, ca.Certificate.Raw}},
		"of a CA below the registered one":   {below.Issue(t, "pump-4", noon), awsemu.ServerName, [][]byte{below.Certificate.Raw, ca.Certificate.Raw}},
		"of a CA that is inactive":           {inactive.Issue(t, "pump-5", noon), awsemu.ServerName, nil},
		"of a CA without auto-registration":  {byHand.Issue(t, "pump-6", noon), awsemu.ServerName, nil},
		"of a CA that has expired":           {old.Issue(t, "pump-7", noon), awsemu.ServerName, nil},
		"expired":                            {ca.Issue(t, "pump-8", noon, past), awsemu.ServerName, nil},
		"not valid yet":                      {ca.Issue(t, "pump-8", noon, later), awsemu.ServerName, nil},
		"a CA's itself":                      {ca.Issue(t, "pump-8", noon, func(c *x509.Certificate) { c.IsCA = true }), awsemu.ServerName, nil},
		"SNI only, at the regional endpoint": {sni.Issue(t, "pump-8", noon), awsemu.ServerName, nil},
		"SNI only, without SNI":              {sni.Issue(t, "pump-8", noon), "", nil},
	} {
		w.wantClosed(t, what, c.as, c.serverName, c.chain...)
		w.wantStatus(t, c.as, "")
	}
	heard.wantSilence(t, w)
	if got := len(w.registry.Certificates()); got != before {
		t.Errorf("%d certificates, want %d as before", got, before)
	}
}

// A certificate of mode SNI_ONLY is found beside the account's endpoint's name alone, and
// one of a CA of the account's own not at the regional endpoint of Greengrass.
func TestServerNameIndication(t *testing.T) {
	w := newWorld(t)
	sni, plain := w.factory(t, awsemu.AuthorityOptions{Active: true, AutoRegister: true, Mode: awsemu.ModeSNIOnly}), w.factory(t, registering)
	heard := w.listener(t)
	pump, valve := sni.Issue(t, "pump-9", noon), plain.Issue(t, "valve-9", noon)
	w.wantClosed(t, "first", pump, awsemu.AccountServerName)
	heard.wantRegistered(t, sni, pump)
	w.wantClosed(t, "pending, at another name", pump, awsemu.ServerName)
	heard.wantSilence(t, w)
	w.wantClosed(t, "first", valve, "")
	heard.wantRegistered(t, plain, valve)
	for _, as := range []*awsemu.Identity{pump, valve} {
		if err := errors.Join(w.registry.SetPolicy(as.ID, awsemu.PolicyOpen), w.registry.SetStatus(as.ID, awsemu.StatusActive)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{awsemu.AccountServerName, "localhost"} {
		w.wantConnected(t, "by "+name, pump, name)
	}
	w.wantConnected(t, "by no name", valve, "")
	w.wantClosed(t, "by another name", pump, awsemu.ServerName)
	w.wantClosed(t, "by no name", pump, "")

	for name, c := range map[string]struct {
		as         *awsemu.Identity
		serverName string
		answered   bool
	}{
		"SNI only, account":  {pump, awsemu.AccountServerName, true},
		"SNI only, regional": {pump, awsemu.ServerName, false},
		"own CA, account":    {valve, awsemu.AccountServerName, true},
		"own CA, regional":   {valve, awsemu.ServerName, false},
		"AWS's, regional":    {w.pump, awsemu.ServerName, true},
	} {
		if status, err := w.discover(t, c.as, c.serverName); (err == nil) != c.answered {
			t.Errorf("%s: %d, %v, want an answer: %v", name, status, err, c.answered)
		}
	}
}

// discover asks for the cores of pump-7 and returns the answer's status.
func (w *world) discover(t testing.TB, as *awsemu.Identity, serverName string) (int, error) {
	t.Helper()
	config := w.tls(t, as)
	config.ServerName = serverName
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport, Timeout: patience}).Get(w.emulator.URL() + "/greengrass/discover/thing/pump-7")
	if err != nil {
		return 0, err
	}
	return answer.StatusCode, answer.Body.Close()
}

func readCertificate(file string) (*x509.Certificate, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// Of what the service says nobody else can say anything.
func TestNobodyForgesRegistrations(t *testing.T) {
	w := newWorld(t)
	heard := w.listener(t)
	d := must[*device](t)(w.dial(t, w.pump, "pump-7"))
	if err := d.publish(t, "$aws/events/certificates/registered/"+strings.Repeat("0", 64), "{}"); err == nil {
		t.Error("published an event of the service")
	}
	d.wantEnd(t, "who forges")
	heard.wantSilence(t, w)
}

// A client of another make: paho's for MQTT 3.1.1 gives up at first, and is let in once
// the certificate is active.
func TestPahoRegisters(t *testing.T) {
	w := newWorld(t)
	ca := w.factory(t, registering)
	heard, pump := w.listener(t), ca.Issue(t, "pump-9", noon)
	options := paho3.NewClientOptions().AddBroker("ssl://" + w.emulator.MQTTAddr()).SetClientID("pump-9").SetTLSConfig(w.tls(t, pump)).SetConnectTimeout(patience)
	client := paho3.NewClient(options)
	if token := client.Connect(); !token.WaitTimeout(patience) || token.Error() == nil {
		t.Fatalf("at first: %v", token.Error())
	}
	heard.wantRegistered(t, ca, pump)
	if err := errors.Join(w.registry.SetPolicy(pump.ID, awsemu.PolicyOpen), w.registry.SetStatus(pump.ID, awsemu.StatusActive)); err != nil {
		t.Fatal(err)
	}
	client = paho3.NewClient(options)
	if token := client.Connect(); !token.WaitTimeout(patience) || token.Error() != nil {
		t.Fatal(token.Error())
	}
	client.Disconnect(0)
}

// Debian's mosquitto_pub, with a CA and a device of openssl's.
func TestMosquittoRegisters(t *testing.T) {
	pub, openssl := tool(t, "mosquitto_pub"), tool(t, "openssl")
	w, dir := newWorldAt(t, nil), t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), openssl, args...).CombinedOutput(); err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
	}
	run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", in("ca.key"), "-out", in("fleet.pem"), "-subj", "/O=Fleet/CN=Fleet CA", "-days", "30")
	run("req", "-newkey", "rsa:2048", "-nodes", "-keyout", in("device.key"), "-out", in("device.csr"), "-subj", "/O=Fleet/CN=pump-9")
	run("x509", "-req", "-in", in("device.csr"), "-CA", in("fleet.pem"), "-CAkey", in("ca.key"), "-CAcreateserial", "-out", in("device.pem"), "-days", "3", "-sha256")
	fleet := must[*x509.Certificate](t)(readCertificate(in("fleet.pem")))
	id := must[messages.CertificateID](t)(w.registry.AddAuthority(fleet.Raw, w.now(), registering))
	device := must[*x509.Certificate](t)(readCertificate(in("device.pem")))
	if err := os.WriteFile(in("roots.pem"), w.servers.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(w.emulator.MQTTAddr())
	if err != nil {
		t.Fatal(err)
	}
	send := func() error {
		out, err := exec.CommandContext(t.Context(), pub, "-h", "localhost", "-p", port, "--cafile", in("roots.pem"), "--cert", in("device.pem"), "--key", in("device.key"),
			"-i", "pump-9", "-q", "1", "-t", "hello", "-m", "1").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
	heard := w.listener(t)
	for range 2 {
		if err := send(); err == nil {
			t.Fatal("mosquitto_pub was let in before it was registered")
		}
		_, payload := heard.next(t)
		var event struct{ CertificateID, CACertificateID, CertificateStatus string }
		if err := json.Unmarshal([]byte(payload), &event); err != nil || event.CertificateID != string(messages.CertificateIDOf(device.Raw)) || event.CACertificateID != string(id) {
			t.Errorf("heard %s (%v)", payload, err)
		}
	}
	registered := messages.CertificateIDOf(device.Raw)
	if err := errors.Join(w.registry.SetPolicy(registered, awsemu.PolicyOpen), w.registry.SetStatus(registered, awsemu.StatusActive)); err != nil {
		t.Fatal(err)
	}
	if err := send(); err != nil {
		t.Errorf("once active: %v", err)
	}
}
