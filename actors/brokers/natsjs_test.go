package brokers

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"

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
	next := func(into any) {
		t.Helper()
		if !lines.Scan() {
			t.Fatalf("nats.js said no more: %v", lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), into); err != nil {
			t.Fatalf("%v in %s", err, lines.Bytes())
		}
	}

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
	if err := cmd.Wait(); err != nil {
		t.Errorf("nats.js: %v", err)
	}
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
