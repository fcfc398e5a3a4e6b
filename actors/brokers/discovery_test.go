package brokers

import (
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// operator connects as an operator.
func (h *house) operator(t *testing.T, name string) *nats.Conn {
	t.Helper()
	c, err := NewOperatorCredentials(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.server.AddOperator(name, c.Public); err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(h.server.URL(), nats.UserCredentialBytes(c.File()), nats.CustomInboxPrefix("_INBOX_"+name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func discoverAs[T any](t *testing.T, nc *nats.Conn, subject string) T {
	t.Helper()
	m, err := nc.Request(subject, nil, patience)
	if err != nil {
		t.Fatalf("%s: %v", subject, err)
	}
	var got T
	if err := json.Unmarshal(m.Data, &got); err != nil {
		t.Fatalf("%s: %v in %s", subject, err, m.Data)
	}
	return got
}

// TestDeskIsFoundAsAMicroService asks as `nats service ping|info|stats` does (ADR-32).
func TestDeskIsFoundAsAMicroService(t *testing.T) {
	h := startHouse(t, func(c *DeskConfig) { c.Version = "1.2.3" })
	auditor, a := h.operator(t, authapi.OperatorAuditor), h.broker(t, "a")
	for _, subject := range []string{"$SRV.PING", "$SRV.PING.gatehouse", "$SRV.PING.gatehouse.test1"} {
		ping := discoverAs[micro.Ping](t, auditor, subject)
		if ping.Type != micro.PingResponseType || ping.Name != "gatehouse" || ping.ID != "test1" || ping.Version != "1.2.3" {
			t.Errorf("%s: got %+v", subject, ping)
		}
	}
	info := discoverAs[micro.Info](t, auditor, "$SRV.INFO.gatehouse")
	if len(info.Endpoints) != len(authapi.Ops()) {
		t.Errorf("info: got %d endpoints, want %d", len(info.Endpoints), len(authapi.Ops()))
	}
	for _, e := range info.Endpoints {
		for _, key := range []string{"request_schema", "reply_schema", "error_schema"} {
			name := strings.TrimPrefix(e.Metadata[key], authapi.SchemaID(""))
			if _, err := fs.Stat(authapi.Schemas(), name+".json"); err != nil {
				t.Errorf("endpoint %s: %s names no schema: %v", e.Name, key, err)
			}
		}
	}
	set(h.gate, &h.gate.onAuthorize, func() (Verdict, error) { return Verdict{Allowed: true}, nil })
	request := string(authapi.AppendAuthorizeRequest(nil, "t", "o", "r"))
	ask(t, a, "a", authapi.OpAuthorize, request)
	set(h.gate, &h.gate.onAuthorize, func() (Verdict, error) { return Verdict{}, nil })
	ask(t, a, "a", authapi.OpAuthorize, request)
	ask(t, a, "a", authapi.OpAuthorize, "{}")
	stats := discoverAs[micro.Stats](t, auditor, "$SRV.STATS.gatehouse.test1")
	for _, e := range stats.Endpoints {
		if e.Name != string(authapi.OpAuthorize) {
			continue
		}
		if e.NumRequests != 3 || e.NumErrors != 1 || e.LastError != "400:InvalidArguments" {
			t.Errorf("stats: got %+v; a deny must not count as an error", e)
		}
		var counts OpCounts
		if err := json.Unmarshal(e.Data, &counts); err != nil || counts.Allowed != 1 || counts.Denied != 1 || counts.Refused["InvalidArguments"] != 1 {
			t.Errorf("stats data: got %+v, %v", counts, err)
		}
		return
	}
	t.Error("stats: no authorize endpoint")
}

// TestDiscoveryAnswersOperatorsOnly: an auditor must not have the daemon write into a
// broker's inbox or onto its pushes (reliability spec R11).
func TestDiscoveryAnswersOperatorsOnly(t *testing.T) {
	h := startHouse(t, nil)
	auditor, b := h.operator(t, authapi.OperatorAuditor), h.broker(t, "b")
	heard := make(chan *nats.Msg, 64)
	for _, subject := range []string{"_INBOX_b.>", authapi.PushSubjects("b")} {
		if _, err := b.ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"PING", "INFO", "STATS"} {
		for _, reply := range []string{"_INBOX_b.x", authapi.PushSubject("b", authapi.PushSessionClosed), "$SRV.PING", "gatehouse.v1.b.close"} {
			if err := auditor.PublishRequest("$SRV."+verb, reply, nil); err != nil {
				t.Fatal(err)
			}
		}
		discoverAs[map[string]any](t, auditor, "$SRV."+verb) // ends the wait: answers come in order
	}
	for _, nc := range []*nats.Conn{h.daemon, b} {
		if err := nc.FlushTimeout(patience); err != nil {
			t.Fatal(err)
		}
	}
	if len(heard) != 0 {
		t.Errorf("b heard %d messages, the first on %s", len(heard), (<-heard).Subject)
	}
}
