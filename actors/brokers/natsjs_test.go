package brokers

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// needNode skips a test on a machine without node or the packages of testdata/natsjs,
// unless the end-to-end run demands it.
func needNode(t *testing.T) (node string) {
	t.Helper()
	lacking := ""
	node, err := exec.LookPath("node")
	if err != nil {
		lacking = "node is not installed"
	} else if _, err := os.Stat("testdata/natsjs/node_modules/@nats-io/transport-node"); err != nil {
		lacking = "its packages are not installed: run npm ci in actors/brokers/testdata/natsjs"
	}
	switch {
	case lacking == "":
	case os.Getenv("GATEHOUSE_E2E") == "1":
		t.Fatalf("nats.js cannot be tested: %s", lacking)
	default:
		t.Skipf("nats.js is not tested: %s", lacking)
	}
	return node
}

// jsReply is a reply as testdata/natsjs/broker.mjs prints it.
type jsReply struct {
	Status, Error string
	Body          map[string]any
}

// TestNATSJSGetsTheSameAnswers makes the same requests from nats.js and from nats.go,
// with the same .creds file, and compares.
func TestNATSJSGetsTheSameAnswers(t *testing.T) {
	node := needNode(t)
	h := startHouse(t, nil)
	_, cert := h.gate.certificate(t, "sensor-1")
	nc := h.broker(t, "demo")
	file := filepath.Join(t.TempDir(), "demo.creds")
	if err := os.WriteFile(file, credentialsOf(t, h.server, "demo").File(), 0o400); err != nil {
		t.Fatal(err)
	}
	body, refusal := ask(t, nc, "demo", authapi.OpAuthenticate, quotedJSON(t, authapi.AuthenticateRequest{ClientID: "sensor-1", CertificatePEM: cert}))
	grant, err := authapi.ParseGrantReply([]byte(body))
	if refusal != nil || err != nil {
		t.Fatal(refusal, err)
	}
	token := grant.ClientDeviceAuthToken
	type request struct {
		Op   authapi.Op `json:"op"`
		Body any        `json:"body"`
	}
	authorize := func(token, resource string) request {
		return request{authapi.OpAuthorize, json.RawMessage(authapi.AppendAuthorizeRequest(nil, token, "mqtt:publish", resource))}
	}
	requests := []request{
		{authapi.OpVerify, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: cert}}},
		{authapi.OpVerify, authapi.VerifyRequest{Credential: authapi.VerifyCredential{ClientDeviceCertificate: "BAD CERT"}}},
		{authapi.OpVerify, map[string]any{}},
		{authapi.OpToken, authapi.TokenRequest{Credential: authapi.TokenCredential{MQTT: &authapi.MQTTCredential{ClientID: "sensor-2", CertificatePEM: cert}}}},
		{authapi.OpAuthenticate, authapi.AuthenticateRequest{ClientID: "sensor-2", CertificatePEM: cert}},
		authorize(token, "mqtt:topic:sensors/sensor-1/t"),
		authorize(token, "mqtt:topic:sensors/sensor-2/\u00e4\U0001F600"),
		authorize("gh1_unknown", "x"),
		{authapi.OpPermissions, authapi.TokenOnlyRequest{ClientDeviceAuthToken: token}},
		{authapi.OpClose, authapi.TokenOnlyRequest{ClientDeviceAuthToken: "gh1_unknown"}},
	}

	wait, next := startNode(t, node, h, file, requests)
	var first struct{ Foreign string }
	if next(&first); first.Foreign != "PermissionViolationError" {
		t.Errorf("another broker's pushes: got %q, want a permission violation", first.Foreign)
	}
	for _, q := range requests {
		var js jsReply
		next(&js)
		if want := askGo(t, h, q.Op, q.Body); !reflect.DeepEqual(withoutNames(js), withoutNames(want)) {
			t.Errorf("%s %v: nats.js got %+v, nats.go %+v", q.Op, q.Body, js, want)
		}
	}
	var end struct{ Ready bool }
	next(&end)
	comparePushes(t, h, next)
	wait()
}

// startNode runs the JavaScript as broker demo with requests. next reads a line of what it
// prints; wait waits for its end.
func startNode[Q any](t *testing.T, node string, h *house, file string, requests []Q) (wait func(), next func(any)) {
	t.Helper()
	var input bytes.Buffer
	for _, q := range requests {
		b, err := json.Marshal(q)
		if err != nil {
			t.Fatal(err)
		}
		input.Write(append(b, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), node, "broker.mjs", h.server.URL(), file, "demo", "other")
	cmd.Dir, cmd.Stdin, cmd.Stderr = "testdata/natsjs", &input, t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 2*authapi.MaxMessageBytes)
	next = func(into any) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("nats.js said no more: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), into); err != nil {
			t.Fatalf("%v in %s", err, lines.Bytes())
		}
	}
	return func() {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Errorf("nats.js: %v", err)
		}
	}, next
}

// handIssuer delivers what the test gives it.
type handIssuer struct {
	next    Delivery
	deliver func(Delivery)
}

func (*handIssuer) PublicKey([]byte) (crypto.PublicKey, error) {
	return nil, errors.New("only sealed keys here")
}

func (i *handIssuer) Subscribe(_ context.Context, want Subscription) (func(), error) {
	i.deliver = want.Deliver
	want.Deliver(i.next)
	return func() {}, nil
}

// madeDelivery is a self-signed certificate with its key.
func madeDelivery(t *testing.T, serial int64) (Delivery, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e10, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return Delivery{
		Serial: fmt.Sprintf("%040x", serial), Certificate: der, Chain: [][]byte{der}, Bundle: []byte(certificatePEM(der)), NotAfter: template.NotAfter,
		Key: key, Acknowledge: func() {},
	}, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
}

// TestNATSJSOpensSealedKeys: nats.js asks for a certificate with a key made by the daemon, and
// opens the key with its own nkeys, in the reply and in a push.
func TestNATSJSOpensSealedKeys(t *testing.T) {
	node := needNode(t)
	issuer := &handIssuer{}
	var first, second string
	issuer.next, first = madeDelivery(t, 1)
	h := startHouse(t, func(c *DeskConfig) {
		courier, err := NewCourier(CourierConfig{Issuer: issuer, Pusher: newTestPusher(t, c.Conn), Log: testLog(t)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(courier.Close)
		c.Courier = courier
	})
	h.broker(t, "demo")
	file := filepath.Join(t.TempDir(), "demo.creds")
	if err := os.WriteFile(file, credentialsOf(t, h.server, "demo").File(), 0o400); err != nil {
		t.Fatal(err)
	}
	type request struct {
		Op   authapi.Op `json:"op"`
		Body any        `json:"body"`
	}
	server := authapi.CertificateOptions{CertificateType: authapi.CertificateServer}
	wait, next := startNode(t, node, h, file, []request{
		{authapi.OpCertificates, authapi.CertificatesRequest{CertificateOptions: server, SealTo: "its own"}},
		{authapi.OpCertificates, authapi.CertificatesRequest{CertificateOptions: server, CertificateSigningRequest: "hello"}},
	})
	var foreign, ready map[string]any
	next(&foreign)
	var got, bad struct {
		Error, Opened string
		Body          authapi.CertificatesReply
	}
	next(&got)
	if got.Error != "" || got.Opened != first || got.Body.SerialNumber != issuer.next.Serial || got.Body.AskAgainSeconds != 120 {
		t.Errorf("nats.js got %s %+v", got.Error, got.Body)
	}
	if next(&bad); bad.Error != "InvalidArguments" {
		t.Errorf("no signing request: %q", bad.Error)
	}
	next(&ready)
	issuer.next, second = madeDelivery(t, 2)
	issuer.deliver(issuer.next)
	h.desk.cfg.Courier.cfg.Pusher.Beat()
	var push struct {
		Push, Opened string
		Body         authapi.CertificateUpdated
	}
	if next(&push); push.Push != string(authapi.PushCertificateUpdated) || push.Opened != second || push.Body.SerialNumber != issuer.next.Serial {
		t.Errorf("pushed %s: %+v", push.Push, push.Body.Stamp)
	}
	var beat map[string]any
	next(&beat)
	wait()
}

// askGo makes a request from nats.go and reads the reply as the JavaScript does.
func askGo(t *testing.T, h *house, op authapi.Op, body any) jsReply {
	t.Helper()
	nc := h.broker(t, "demo")
	defer nc.Close()
	b, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	m, err := nc.Request(authapi.Subject("demo", op), b, patience)
	if err != nil {
		t.Fatal(err)
	}
	reply := jsReply{Status: m.Header.Get(authapi.HeaderMicroCode), Error: m.Header.Get(authapi.HeaderError)}
	if err := json.Unmarshal(m.Data, &reply.Body); err != nil {
		t.Fatal(err)
	}
	return reply
}

// withoutNames leaves out what is new with every request.
func withoutNames(r jsReply) jsReply {
	delete(r.Body, "decisionId")
	return r
}

// comparePushes sends one push and one heartbeat and reads both from nats.js.
func comparePushes(t *testing.T, h *house, next func(any)) {
	t.Helper()
	p := newTestPusher(t, h.daemon)
	p.SessionClosed("demo", Closed{Token: messages.Token("gh1_x").Digest(), Thing: "sensor-1", CertificateID: "c", Reason: "revoked"})
	p.Beat()
	for _, want := range []struct {
		push authapi.Push
		seq  float64
	}{{authapi.PushSessionClosed, 1}, {authapi.PushHeartbeat, 1}} {
		var got struct {
			Push authapi.Push
			Body map[string]any
		}
		next(&got)
		if got.Push != want.push || got.Body["seq"] != want.seq || got.Body["epoch"] != "e1" {
			t.Errorf("push: got %+v, want %+v", got, want)
		}
		if want.push == authapi.PushSessionClosed && got.Body["tokenDigest"] != messages.Token("gh1_x").Digest().String() {
			t.Errorf("digest: got %v", got.Body["tokenDigest"])
		}
	}
}
