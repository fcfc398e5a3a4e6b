package brokers

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// vector is one call of testdata/api-sessions-metrics.json.
type vector struct {
	Op       string
	Request  json.RawMessage
	Response json.RawMessage
	Error    string
	Caller   string
	When     string
	Message  string
	Callers  int
}

// TestAPIVectors runs the calls of the reference's API that brokers make here, over a
// real server, as broker a. Permission to call comes from the desk's Permit; broker
// "outsider" has none.
func TestAPIVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/api-sessions-metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ API []vector }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	h := startHouse(t, func(c *DeskConfig) {
		c.Permit = func(b messages.BrokerID, _ authapi.Op) bool { return b != "outsider" }
	})
	conns := map[messages.BrokerID]*nats.Conn{"a": h.broker(t, "a"), "outsider": h.broker(t, "outsider")}
	run := 0
	for i, v := range file.API {
		if v.Op == "SubscribeToCertificateUpdates" {
			continue // no operation of the desk: certificates are pushed
		}
		if v.Message == "queue full" {
			continue // TestFullLaneAnswersBusy: Gatehouse says Busy, not Service (design section 8)
		}
		run++
		broker := messages.BrokerID("a")
		if v.Caller == "not permitted" {
			broker = "outsider"
		}
		op, body := h.prepare(t, v)
		reply, refusal := ask(t, conns[broker], broker, op, body)
		if v.Error != "" {
			if refusal == nil || refusal.Code.String() != v.Error {
				t.Errorf("vector %d, %s %s: got %s %v, want error %s", i, v.Op, v.Request, reply, refusal, v.Error)
			}
			continue
		}
		if refusal != nil {
			t.Errorf("vector %d, %s %s: got %v", i, v.Op, v.Request, refusal)
			continue
		}
		if !h.answers(t, v, reply) {
			t.Errorf("vector %d, %s %s: got %s, want %s", i, v.Op, v.Request, reply, v.Response)
		}
	}
	if run != 22 {
		t.Errorf("ran %d vectors, want 22", run)
	}
}

// prepare brings the gate into the state a vector speaks of, and spells its request.
func (h *house) prepare(t *testing.T, v vector) (authapi.Op, string) {
	t.Helper()
	body := string(v.Request)
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	switch v.Op {
	case "VerifyClientDeviceIdentity":
		der, active := h.gate.certificate(t, "sensor-1")
		_, inactive := makeCertificate(t) // the gate refuses what it does not know, for whatever reason
		for name, text := range map[string]string{
			"<active cert>": active, "<inactive cert>": inactive, "<expired cert>": inactive,
			"<base64 DER, no header>": base64.StdEncoding.EncodeToString(der),
		} {
			body = strings.ReplaceAll(body, `"`+name+`"`, quote(text))
		}
		return authapi.OpVerify, body
	case "GetClientDeviceAuthToken":
		_, cert := h.gate.certificate(t, "some-client-id")
		_, stranger := makeCertificate(t)
		body = strings.ReplaceAll(body, `"<verified cert>"`, quote(cert))
		switch {
		case v.When == "authentication fails":
			body = strings.ReplaceAll(body, `"p"`, quote(stranger))
		case strings.Contains(body, `"PEM"`):
			// The text "PEM" is decoded leniently and passed on; it is no certificate, so
			// with a real core the answer is InvalidCredential. A real one passes.
			body = strings.ReplaceAll(body, `"PEM"`, quote(cert))
		}
		return authapi.OpToken, body
	default:
		set(h.gate, &h.gate.onAuthorize, nil)
		switch {
		case v.When == "allowed":
			set(h.gate, &h.gate.onAuthorize, func() (Verdict, error) { return Verdict{Allowed: true}, nil })
		case v.When == "denied":
			set(h.gate, &h.gate.onAuthorize, func() (Verdict, error) { return Verdict{}, nil })
		case v.Error == "Service": // the reference's illegal argument; here the policy's own error
			set(h.gate, &h.gate.onAuthorize, func() (Verdict, error) {
				return Verdict{}, messages.Refuse(messages.RefusedService, "operation and resource name different services")
			})
		}
		return authapi.OpAuthorize, body
	}
}

// answers compares a reply with a vector's response: every name in the response must be
// in the reply with the same value.
func (h *house) answers(t *testing.T, v vector, reply string) bool {
	t.Helper()
	var got map[string]any
	if err := json.Unmarshal([]byte(reply), &got); err != nil {
		t.Fatal(err)
	}
	switch {
	case string(v.Response) == `"as for the PEM"`:
		return got["isValidClientDevice"] == true
	case v.Op == "GetClientDeviceAuthToken":
		token, _ := got["clientDeviceAuthToken"].(string)
		return strings.HasPrefix(token, "gh1_")
	}
	var want map[string]any
	if err := json.Unmarshal(v.Response, &want); err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		if got[name] != value {
			return false
		}
	}
	return len(want) > 0
}
