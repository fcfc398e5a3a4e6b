package authapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

func code(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	refusal, ok := errors.AsType[*messages.Refusal](err)
	if !ok {
		t.Fatalf("error is a %T, want a refusal: %v", err, err)
	}
	return refusal.Code.String()
}

func TestSubjectsReadBackWhatTheyWrite(t *testing.T) {
	for _, op := range Ops() {
		broker, got, err := ParseSubject(Subject("line-4_a", op))
		if err != nil || broker != "line-4_a" || got != op {
			t.Errorf("%s: got %q %q %v", op, broker, got, err)
		}
	}
	for _, push := range Pushes() {
		broker, got, err := ParsePushSubject(PushSubject("line-4_a", push))
		if err != nil || broker != "line-4_a" || got != push {
			t.Errorf("%s: got %q %q %v", push, broker, got, err)
		}
	}
}

func TestSubjectsOutsideTheProtocolAreRefused(t *testing.T) {
	for _, s := range []string{
		"", "gatehouse.v1", "gatehouse.v1.", "gatehouse.v1.a", "gatehouse.v1.a.", "gatehouse.v1..verify",
		"gatehouse.v1.a.verify.x", "gatehouse.v1.a.verify ", "gatehouse.v1.a.Verify", "gatehouse.v2.a.verify",
		"gatehouse.v1.*.verify", "gatehouse.v1.>", "gatehouse.v1.a b.verify", "gatehouse.v1.a\x00.verify",
		"gatehouse.v1.push.verify", "gatehouse.v1.admin.verify", "gatehouse.v1.audit.close", "gatehouse.v1.events.token", "gatehouse.v1.auditor.token",
		"gatehouse.v1." + strings.Repeat("a", 65) + ".verify", "gatehouse.v1.a.certificate",
	} {
		if broker, op, err := ParseSubject(s); err == nil {
			t.Errorf("%q: got %q %q, want an error", s, broker, op)
		}
	}
}

func TestReplySubjectMustLieInTheBrokersInbox(t *testing.T) {
	for reply, ok := range map[string]bool{
		"_INBOX_a.x": true, "_INBOX_a.x.y-Z_9": true,
		"": false, "_INBOX_a": false, "_INBOX_a.": false, "_INBOX_a..x": false, "_INBOX_a.x.": false, "_INBOX_a.x..y": false,
		"_INBOX.x": false, "_INBOX_b.x": false, "_INBOX_ab.x": false, "_INBOX_.x": false, "_inbox_a.x": false,
		"_INBOX_a.*": false, "_INBOX_a.>": false, "_INBOX_a.x y": false, "_INBOX_a.x\r\nPUB y 0": false, "_INBOX_a.\x7f": false,
		"gatehouse.v1.push.b.session-closed": false, "gatehouse.v1.a.verify": false, "$SYS.REQ.x": false,
		"_INBOX_a." + strings.Repeat("x", 300): false,
	} {
		if err := CheckReply("a", reply); (err == nil) != ok {
			t.Errorf("%q: got %v, want ok=%v", reply, err, ok)
		}
	}
}

func TestDiscoveryRepliesGoToOperatorsOnly(t *testing.T) {
	for reply, ok := range map[string]bool{
		"_INBOX.x": true, "_INBOX_admin.x.y": true, "_INBOX_auditor.x": true,
		"_INBOX_a.x": false, "_INBOX": false, "_INBOX.": false, "_INBOX..x": false, "_INBOX_administrator.x": false,
		"gatehouse.v1.push.b.heartbeat": false, "$SRV.PING": false, "$SYS.x": false, "": false, "_INBOX.>": false,
	} {
		if err := CheckOperatorReply(reply); (err == nil) != ok {
			t.Errorf("%q: got %v, want ok=%v", reply, err, ok)
		}
	}
}

func TestRequestIDIsPlain(t *testing.T) {
	for header, ok := range map[string]bool{"": true, "r-1_A": true, "a b": false, "a\nb": false, strings.Repeat("a", 65): false} {
		if got, err := RequestID(header); (err == nil) != ok || (ok && got != header) {
			t.Errorf("%q: got %q, %v", header, got, err)
		}
	}
}

func TestRequestsThatLackSomethingAreInvalidArguments(t *testing.T) {
	for _, c := range []struct {
		parse func([]byte) error
		body  string
	}{
		{verify, `{}`}, {verify, `{"credential":{}}`}, {verify, `{"credential":null}`}, {verify, `null`}, {verify, ``}, {verify, `[]`},
		{verify, `{"credential":{"clientDeviceCertificate":""}}`}, {verify, `{"credential":{"clientDeviceCertificate":7}}`},
		{verify, `{"credential":"x"}`}, {verify, `{"Credential":{"clientDeviceCertificate":"x"}}`},
		{token, `{}`}, {token, `{"credential":{}}`}, {token, `{"credential":{"mqttCredential":null}}`},
		{token, `{"credential":{"mqttCredential":{"clientId":"c"}}}`}, {token, `{"credential":{"mqttCredential":{"certificatePem":"p"}}}`},
		{authenticate, `{}`}, {authenticate, `{"certificatePem":"p"}`},
		{tokenOnly, `{}`}, {tokenOnly, `{"clientDeviceAuthToken":""}`},
		{authorize, `{"clientDeviceAuthToken":"t","operation":"o","resource":null}`},
		{authorize, `{"clientDeviceAuthToken":"t","operation":"","resource":"r"}`},
		{authorize, `{"clientDeviceAuthToken":"","operation":"o","resource":"r"}`},
		{authorize, `{"clientDeviceAuthToken":"t","operation":"o"}`}, {authorize, `null`}, {authorize, ``},
	} {
		if got := code(t, c.parse([]byte(c.body))); got != "InvalidArguments" {
			t.Errorf("%s: got %q, want InvalidArguments", c.body, got)
		}
	}
}

func verify(b []byte) error       { _, err := ParseVerifyRequest(b); return err }
func token(b []byte) error        { _, err := ParseTokenRequest(b); return err }
func authenticate(b []byte) error { _, err := ParseAuthenticateRequest(b); return err }
func tokenOnly(b []byte) error    { _, err := ParseTokenOnlyRequest(b); return err }
func authorize(b []byte) error    { return new(AuthorizeRequest).Parse(b) }

func TestJSONThatTwoReadersMayReadDifferentlyIsRefused(t *testing.T) {
	const rest = `,"operation":"o","resource":"r"}`
	for _, body := range []string{
		`{"clientDeviceAuthToken":"t","clientDeviceAuthToken":"u"` + rest,      // duplicate
		`{"clientDeviceAuthToken":"t","clientDeviceAuthT\u006fken":"u"` + rest, // duplicate, spelled otherwise
		`{"clientDeviceAuthToken":"t","x":1,"x":2` + rest,                      // duplicate, unknown
		`{"clientDeviceAuthToken":"t","x":{"y":1,"y":2}` + rest,                // duplicate, deep
		`{"clientDeviceAuthToken":"` + "\xff" + `"` + rest,                     // not UTF-8
		`{"clientDeviceAuthToken":"` + "\xc0\x80" + `"` + rest,                 // over-long
		`{"clientDeviceAuthToken":"` + "\xed\xa0\x80" + `"` + rest,             // surrogate in UTF-8
		`{"clientDeviceAuthToken":"\ud800"` + rest,                             // unpaired surrogate
		`{"clientDeviceAuthToken":"\ud800\u0041"` + rest,                       // wrong partner
		`{"clientDeviceAuthToken":"\udc00\ud800"` + rest,                       // wrong order
		`{"clientDeviceAuthToken":"\x41"` + rest,                               // unknown escape
		`{"clientDeviceAuthToken":"` + "\n" + `"` + rest,                       // control character
		`{"clientDeviceAuthToken":"t","x":` + strings.Repeat("[", 9) + strings.Repeat("]", 9) + rest,
		`{"clientDeviceAuthToken":"t","x":01` + rest, `{"clientDeviceAuthToken":"t","x":1.` + rest,
		`{"clientDeviceAuthToken":"t","x":+1` + rest, `{"clientDeviceAuthToken":"t","x":NaN` + rest,
		`{"clientDeviceAuthToken":"t",` + rest, `{'clientDeviceAuthToken':'t'` + rest,
		`{"clientDeviceAuthToken":"t"` + rest + `{}`, `{"clientDeviceAuthToken":"t"` + rest + "\x00",
		"\xef\xbb\xbf" + `{"clientDeviceAuthToken":"t"` + rest,
		`{"clientDeviceAuthToken":"t","x":"` + strings.Repeat("y", MaxMessageBytes) + `"` + rest,
		`{"clientDeviceAuthToken":"t"` + manyNames(maxKeys) + rest,
	} {
		if got := code(t, authorize([]byte(body))); got != "InvalidArguments" {
			t.Errorf("%.120q: got %q, want InvalidArguments", body, got)
		}
	}
}

func manyNames(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(`,"x` + strings.Repeat("x", i) + `":0`)
	}
	return b.String()
}

func TestAuthorizeRequestReadsEscapesAndIgnoresUnknownNames(t *testing.T) {
	var q AuthorizeRequest
	body := ` {"x":{"y":[1,-2.5e+3,true,null,"z"]},"resource":"mqtt:topic:\u00e4\/\ud83d\ude00\n\"","operation" : "mqtt:publish" ,"clientDeviceAuthToken":"gh1_x"} `
	for range 2 { // the second reuses the first one's memory
		if err := q.Parse([]byte(body)); err != nil {
			t.Fatal(err)
		}
		if got, want := string(q.Resource), "mqtt:topic:ä/😀\n\""; got != want {
			t.Errorf("resource: got %q, want %q", got, want)
		}
		if string(q.Operation) != "mqtt:publish" || string(q.Token) != "gh1_x" {
			t.Errorf("got operation %q, token %q", q.Operation, q.Token)
		}
	}
}

func TestAuthorizeRequestReadsBackWhatAppendWrites(t *testing.T) {
	var q AuthorizeRequest
	for _, resource := range []string{"mqtt:topic:a/b", "\x00\x1f\"\\/é😀", "x"} {
		if err := q.Parse(AppendAuthorizeRequest(nil, "gh1_t", "mqtt:publish", resource)); err != nil {
			t.Fatal(err)
		}
		if string(q.Resource) != resource {
			t.Errorf("got %q, want %q", q.Resource, resource)
		}
	}
	if err := q.Parse(AppendAuthorizeRequest(nil, "gh1_t", "o", "\xff")); err == nil {
		t.Error("invalid UTF-8 passed")
	}
}

func TestAuthorizeAllocatesNothing(t *testing.T) {
	plain := []byte(`{"clientDeviceAuthToken":"gh1_x","operation":"mqtt:publish","resource":"mqtt:topic:sensors/s/t"}`)
	escaped := []byte(`{"clientDeviceAuthToken":"gh1_x","operation":"mqtt:publish","resource":"mqtt:topic:\/s\u00e4","x":[{}]}`)
	var q AuthorizeRequest
	out := make([]byte, 0, AuthorizeReplyMaxBytes)
	allocs := testing.AllocsPerRun(100, func() {
		if q.Parse(plain) != nil || q.Parse(escaped) != nil {
			t.Fatal("not parsed")
		}
		out = AuthorizeReply{IsAuthorized: true, AsOf: 1<<53 - 1, PolicyRevision: 1<<53 - 1}.AppendTo(out[:0])
	})
	if allocs != 0 {
		t.Errorf("got %v allocations, want 0", allocs)
	}
	if a, err := ParseAuthorizeReply(out); err != nil || !a.IsAuthorized || a.AsOf != 1<<53-1 {
		t.Errorf("reply %s: got %+v, %v", out, a, err)
	}
}

func TestRepliesThatLackTheAnswerAreErrors(t *testing.T) {
	for name, parse := range map[string]func([]byte) error{
		"verify":    func(b []byte) error { _, err := ParseVerifyReply(b); return err },
		"token":     func(b []byte) error { _, err := ParseTokenReply(b); return err },
		"authorize": func(b []byte) error { _, err := ParseAuthorizeReply(b); return err },
		"grant":     func(b []byte) error { _, err := ParseGrantReply(b); return err },
		"certs":     func(b []byte) error { _, err := ParseCertificatesReply(b); return err },
		"closed":    func(b []byte) error { _, err := ParseSessionClosed(b); return err },
		"policy":    func(b []byte) error { _, err := ParsePolicyChanged(b); return err },
		"cert":      func(b []byte) error { _, err := ParseCertificateUpdated(b); return err },
		"heartbeat": func(b []byte) error { _, err := ParseHeartbeat(b); return err },
	} {
		for _, body := range []string{
			``, `null`, `{}`, `[]`, `{"isAuthorized":null}`, `{"isAuthorized":1}`, `{"isAuthorized":"true"}`, `{"isAuthorized":true,"asOf":-1}`,
			`{"isAuthorized":true,"asOf":9007199254740992}`, `{"isConnectAuthorized":true,"thingName":"t"}`, `{"IsAuthorized":true}`,
			`{"isConnectAuthorized":false,"permissions":[{"operation":"o"}]}`, `{"isConnectAuthorized":false,"expiresAt":"soon"}`,
			`{"epoch":"e"}`, `{"seq":1}`, `{"epoch":"","seq":1}`,
		} {
			if err := parse([]byte(body)); err == nil {
				t.Errorf("%s: %s passed", name, body)
			}
		}
	}
}

func TestGrantReadsBackWhatItWrites(t *testing.T) {
	want := GrantReply{
		IsConnectAuthorized: true, ClientDeviceAuthToken: "gh1_x", ThingName: "sensor-1", CertificateID: strings.Repeat("a", 64),
		Permissions:    []permission.Permission{{Operation: "mqtt:publish", Resource: "mqtt:topic:<&>/*"}},
		PolicyRevision: 7, ExpiresAt: time.Date(2026, 11, 21, 22, 0, 0, 5e6, time.UTC), CacheTTLMs: 60000, DecisionID: "d1",
	}
	b, err := AppendGrant(nil, want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(b, []byte(`"expiresAt":"2026-11-21T22:00:00.005Z"`)) {
		t.Errorf("expiresAt is not RFC 3339 with milliseconds: %s", b)
	}
	got, err := ParseGrantReply(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

func TestGrantTooLargeForAMessageGoesWithoutPermissions(t *testing.T) {
	a := GrantReply{IsConnectAuthorized: true, ClientDeviceAuthToken: "gh1_x", ThingName: "t"}
	for range 100 {
		a.Permissions = append(a.Permissions, permission.Permission{Operation: "o", Resource: strings.Repeat("r", 1000)})
	}
	b, err := AppendGrant(nil, a)
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseGrantReply(b)
	if err != nil || !got.PermissionsOmitted || len(got.Permissions) != 0 {
		t.Errorf("got omitted=%v with %d permissions, %v", got.PermissionsOmitted, len(got.Permissions), err)
	}
}

func TestPushesReadBackWhatTheyWrite(t *testing.T) {
	stamp := Stamp{Epoch: "e1", Seq: 3}
	closed := SessionClosed{Stamp: stamp, TokenDigest: messages.Token("gh1_x").Digest().String(), Thing: "t", CertificateID: "c", Reason: "revoked"}
	check(t, closed, ParseSessionClosed)
	check(t, PolicyChanged{Stamp: stamp, PolicyRevision: 9}, ParsePolicyChanged)
	check(t, CertificateUpdated{Stamp: stamp, CertificateUpdate: testUpdate()}, ParseCertificateUpdated)
	check(t, Heartbeat{Stamp: Stamp{Epoch: "e1"}}, ParseHeartbeat)
}

func check[T any](t *testing.T, want T, parse func([]byte) (T, error)) {
	t.Helper()
	b, err := Encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := parse(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, %v, want %+v", b, got, err, want)
	}
}

func TestErrorsReadBackWithTheirCode(t *testing.T) {
	for c := range messages.RefusalCode(messages.RefusalCodes) {
		b, err := Encode(ErrorReplyFor(&messages.Refusal{Code: c, Reason: "inner detail", RetryAfter: 250 * time.Millisecond}))
		if err != nil {
			t.Fatal(err)
		}
		got := ReadError(c.String(), MicroCode(c), b)
		if got == nil || got.Code != c {
			t.Fatalf("%s: got %v", c, got)
		}
		if leaks := strings.Contains(string(b), "inner detail"); leaks != (c == messages.RefusedInvalidArguments) {
			t.Errorf("%s: inner detail on the wire: %v: %s", c, leaks, b)
		}
		if want := c == messages.RefusedBusy || c == messages.RefusedPending; (got.RetryAfter == 250*time.Millisecond) != want {
			t.Errorf("%s: got retry after %v", c, got.RetryAfter)
		}
	}
	if got := ReadError("", "500", nil); got == nil || got.Code != messages.RefusedService {
		t.Errorf("error without a name: got %v, want Service", got)
	}
	if got := ReadError("", "", []byte(`{}`)); got != nil {
		t.Errorf("normal reply: got %v, want nil", got)
	}
}

// TestSchemasDescribeTheMessages compares each schema's names with those the Go types
// write and the parsers want.
func TestSchemasDescribeTheMessages(t *testing.T) {
	types := map[string]any{
		"verify-request": VerifyRequest{}, "verify-reply": VerifyReply{}, "token-request": TokenRequest{Credential: TokenCredential{MQTT: &MQTTCredential{Username: "u", Password: "p"}}},
		"token-reply": TokenReply{}, "authorize-request": json.RawMessage(AppendAuthorizeRequest(nil, "t", "o", "r")), "authorize-reply": json.RawMessage(AuthorizeReply{}.AppendTo(nil)),
		"authenticate-request": AuthenticateRequest{}, "permissions-request": TokenOnlyRequest{}, "close-request": TokenOnlyRequest{}, "close-reply": CloseReply{},
		"authenticate-reply": fullGrant(), "permissions-reply": fullGrant(), "error-reply": ErrorReply{RetryAfterMs: 1},
		"session-closed-push": SessionClosed{}, "policy-changed-push": PolicyChanged{}, "certificate-updated-push": CertificateUpdated{CertificateUpdate: testUpdate()},
		"certificates-request": CertificatesRequest{CertificateSigningRequest: "p", SealTo: "X", Held: "0"}, "certificates-reply": CertificatesReply{CertificateUpdate: testUpdate()}, "heartbeat-push": Heartbeat{},
	}
	files, err := fs.Glob(Schemas(), "*.json")
	if err != nil || len(files) != len(types) {
		t.Fatalf("got %d schemas (%v), want %d", len(files), err, len(types))
	}
	for name, value := range types {
		raw, err := fs.ReadFile(Schemas(), name+".json")
		if err != nil {
			t.Fatal(err)
		}
		var schema map[string]any
		if err := json.Unmarshal(raw, &schema); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if schema["$id"] != SchemaID(name) {
			t.Errorf("%s: $id is %v", name, schema["$id"])
		}
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		var object map[string]any
		if err := json.Unmarshal(b, &object); err != nil {
			t.Fatal(err)
		}
		sameNames(t, name, schema, object)
	}
}

func fullGrant() GrantReply {
	return GrantReply{ClientDeviceAuthToken: "t", PermissionsOmitted: true, ExpiresAt: time.Unix(1, 0),
		Permissions: []permission.Permission{{Operation: "o", Resource: "r"}}}
}

func sameNames(t *testing.T, at string, schema, object map[string]any) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	for name := range properties {
		if _, ok := object[name]; !ok {
			t.Errorf("%s: the schema has %q, the message has not", at, name)
		}
	}
	for name, value := range object {
		property, ok := properties[name].(map[string]any)
		if !ok {
			t.Errorf("%s: the message has %q, the schema has not", at, name)
			continue
		}
		if inner, ok := value.(map[string]any); ok {
			sameNames(t, at+"."+name, property, inner)
		}
		if elements, ok := value.([]any); ok && len(elements) > 0 {
			if inner, ok := elements[0].(map[string]any); ok {
				sameNames(t, at+"."+name+"[]", property["items"].(map[string]any), inner)
			}
		}
	}
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if !slices.Contains(keys(properties), name.(string)) {
			t.Errorf("%s: required %v is not a property", at, name)
		}
	}
}

func keys(m map[string]any) []string {
	var ks []string
	for k := range m {
		ks = append(ks, k)
	}
	return ks
}
