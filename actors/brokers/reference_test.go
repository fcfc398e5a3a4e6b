package brokers

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// TestReferenceCountsVectors makes each call of the vectors and looks which of the
// reference's metrics it counted in: that one, once, and no other.
func TestReferenceCountsVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/api-sessions-metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Metrics []struct{ Call, Metric string }
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	h := startHouse(t, nil)
	conn := h.broker(t, "a")
	_, good := h.gate.certificate(t, "sensor-1")
	_, stranger := makeCertificate(t)
	quote := func(s string) string { b, _ := json.Marshal(s); return string(b) }
	verify := func(pem string) func() {
		return func() {
			_, _ = ask(t, conn, "a", authapi.OpVerify, `{"credential":{"clientDeviceCertificate":`+quote(pem)+`}}`)
		}
	}
	token := func(id, pem string) func() {
		return func() {
			_, _ = ask(t, conn, "a", authapi.OpToken, `{"credential":{"mqttCredential":{"clientId":`+quote(id)+`,"certificatePem":`+quote(pem)+`}}}`)
		}
	}
	authorize := func(v Verdict, err error) func() {
		return func() {
			set(h.gate, &h.gate.onAuthorize, func() (Verdict, error) { return v, err })
			_, _ = ask(t, conn, "a", authapi.OpAuthorize, `{"clientDeviceAuthToken":"t","operation":"o:p","resource":"o:p:r"}`)
		}
	}
	broken := errors.New("broken inside")
	calls := map[string]func(){
		"verify -> true":  verify(good),
		"verify -> false": verify(stranger),
		"verify -> runtime error": func() {
			set(h.gate, &h.gate.onVerify, func(_ Caller, reply func(bool, error)) bool { reply(false, broken); return true })
			verify(good)()
		},
		"authorize -> true":          authorize(Verdict{Allowed: true}, nil),
		"authorize -> false":         authorize(Verdict{}, nil),
		"authorize -> bad token":     authorize(Verdict{}, messages.Refuse(messages.RefusedInvalidToken, "no session")),
		"authorize -> runtime error": authorize(Verdict{}, broken),
		"token ok":                   token("sensor-1", good),
		"token denied":               token("sensor-1", stranger),
		"token runtime error":        token("bad name!", good),
	}
	ran := 0
	for _, v := range file.Metrics {
		if strings.HasPrefix(v.Call, "subscribe ") || strings.HasPrefix(v.Call, "collect ") {
			continue // no operation of the desk; collecting is TestAggregate's (cmd/internal/metrics)
		}
		call := calls[v.Call]
		if call == nil {
			t.Errorf("no such call: %s", v.Call)
			continue
		}
		ran++
		before := ReferenceCounts(h.desk.Counts())
		call()
		after := ReferenceCounts(h.desk.Counts())
		before[v.Metric]++
		if !maps.Equal(counted(before), counted(after)) {
			t.Errorf("%s: %v, want %s once more: %v", v.Call, counted(after), v.Metric, counted(before))
		}
	}
	if ran != len(calls) {
		t.Errorf("ran %d calls, want %d: the file changed, look at it", ran, len(calls))
	}
}

// counted leaves out what is 0.
func counted(m map[string]uint64) map[string]uint64 {
	maps.DeleteFunc(m, func(_ string, n uint64) bool { return n == 0 })
	return m
}

// TestReferenceCounts: what of our own requests stands for which of the reference's, and
// what is none of them.
func TestReferenceCounts(t *testing.T) {
	refused := func(code messages.RefusalCode) map[string]uint64 { return map[string]uint64{code.String(): 1} }
	for _, c := range []struct {
		name string
		op   OpCounts
		want []string
	}{
		{"a connect", OpCounts{Op: authapi.OpAuthenticate, Allowed: 1}, []string{verifySuccess, tokenSuccess, authorizeSuccess}},
		{"a connect that the policy denies", OpCounts{Op: authapi.OpAuthenticate, Denied: 1}, []string{verifySuccess, tokenSuccess, authorizeFailure}},
		{"a connect with a bad credential", OpCounts{Op: authapi.OpAuthenticate, Refused: refused(messages.RefusedInvalidCredential)}, []string{tokenFailure}},
		{"a failure inside", OpCounts{Op: authapi.OpClose, Refused: refused(messages.RefusedService)}, []string{serviceError}},
		{"busy", OpCounts{Op: authapi.OpVerify, Refused: refused(messages.RefusedBusy)}, nil},
		{"not ready", OpCounts{Op: authapi.OpToken, Refused: refused(messages.RefusedNotReady)}, nil},
		{"bad arguments", OpCounts{Op: authapi.OpAuthorize, Refused: refused(messages.RefusedInvalidArguments)}, nil},
		{"no permission", OpCounts{Op: authapi.OpAuthorize, Refused: refused(messages.RefusedUnauthorized)}, nil},
		{"permissions renewed", OpCounts{Op: authapi.OpPermissions, Allowed: 1, Denied: 1}, nil},
		{"a broker that subscribed, and asked twice since", OpCounts{Op: authapi.OpCertificates, Allowed: 3, Certificates: &CourierCounts{Subscribed: 1}}, []string{subscribeSuccess}},
		{"closed", OpCounts{Op: authapi.OpClose, Allowed: 1}, nil},
	} {
		want := map[string]uint64{}
		for _, name := range c.want {
			want[name] = 1
		}
		if got := counted(ReferenceCounts([]OpCounts{c.op})); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", c.name, got, want)
		}
	}
	known := map[string]bool{}
	for _, name := range ReferenceNames() {
		known[name] = true
	}
	all := []OpCounts{{Op: authapi.OpVerify}, {Op: authapi.OpToken}, {Op: authapi.OpAuthorize}, {Op: authapi.OpAuthenticate}, {Op: authapi.OpClose}}
	for name := range ReferenceCounts(all) {
		if !known[name] {
			t.Errorf("%s is counted and not listed", name)
		}
	}
	if len(known) != 9 {
		t.Errorf("%d names, want the reference's 9", len(known))
	}
}
