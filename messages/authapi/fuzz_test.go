package authapi

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func FuzzParseSubject(f *testing.F) {
	f.Add("gatehouse.v1.a.verify")
	f.Add("gatehouse.v1.push.a.heartbeat")
	f.Fuzz(func(t *testing.T, s string) {
		if broker, op, err := ParseSubject(s); err == nil && Subject(broker, op) != s {
			t.Errorf("%q reads as %q %q", s, broker, op)
		}
		if broker, push, err := ParsePushSubject(s); err == nil && PushSubject(broker, push) != s {
			t.Errorf("%q reads as push %q %q", s, broker, push)
		}
	})
}

func FuzzCheckReply(f *testing.F) {
	f.Add("a", "_INBOX_a.x")
	f.Add("a", "_INBOX_a_b.x")
	f.Fuzz(func(t *testing.T, name, reply string) {
		broker, err := ParseBroker(name)
		if err != nil || CheckReply(broker, reply) != nil {
			return
		}
		if !bytes.HasPrefix([]byte(reply), []byte(InboxPrefix(broker)+".")) || bytes.ContainsAny([]byte(reply), "*> \r\n\t\x00") {
			t.Errorf("%q passed for %q", reply, broker)
		}
	})
}

// FuzzAuthorizeRequest compares with encoding/json: whatever passes here must mean the
// same there.
func FuzzAuthorizeRequest(f *testing.F) {
	f.Add([]byte(`{"clientDeviceAuthToken":"t","operation":"o","resource":"r\u00e4\ud83d\ude00"}`))
	f.Add([]byte(`{"x":[{"y":-1.5e9}],"clientDeviceAuthToken":"t","operation":"o","resource":"r"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		var q AuthorizeRequest
		if err := q.Parse(body); err != nil {
			if _, ok := err.(*messages.Refusal); !ok {
				t.Fatalf("error is a %T", err)
			}
			return
		}
		var want map[string]any
		if err := json.Unmarshal(body, &want); err != nil {
			t.Fatalf("passed, but encoding/json says %v", err)
		}
		for name, got := range map[string][]byte{"clientDeviceAuthToken": q.Token, "operation": q.Operation, "resource": q.Resource} {
			if want[name] != string(got) {
				t.Errorf("%s: got %q, encoding/json %q", name, got, want[name])
			}
		}
	})
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte(`{"credential":{"clientDeviceCertificate":"c"}}`))
	f.Add([]byte(`{"credential":{"mqttCredential":{"clientId":"c","certificatePem":"p","username":null,"password":""}}}`))
	f.Add([]byte(`{"clientId":"c","certificatePem":"p"}`))
	f.Add([]byte(`{"clientDeviceAuthToken":"t"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, parse := range []func([]byte) error{verify, token, authenticate, tokenOnly} {
			if parse(body) == nil && !json.Valid(body) {
				t.Error("passed, but is not JSON")
			}
		}
	})
}

func FuzzReplies(f *testing.F) {
	f.Add([]byte(`{"isAuthorized":true,"asOf":1,"policyRevision":2}`))
	f.Add([]byte(`{"isConnectAuthorized":true,"clientDeviceAuthToken":"t","thingName":"x","permissions":[{"operation":"o","resource":"r"}],"expiresAt":"2026-11-21T22:00:00.000Z"}`))
	f.Add([]byte(`{"epoch":"e","seq":1,"tokenDigest":"","caCertificates":["x"],"certificate":"c"}`))
	f.Add([]byte(`{"error":"Busy","message":"m","retryAfterMs":18446744073709551615}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if a, err := ParseGrantReply(body); err == nil {
			b, err := Encode(a)
			if err != nil {
				return // a reply near the limit may grow when written again
			}
			if again, err := ParseGrantReply(b); err != nil || again.ClientDeviceAuthToken != a.ClientDeviceAuthToken {
				t.Errorf("%s reads back as %+v, %v", b, again, err)
			}
		}
		_, _ = ParseVerifyReply(body)
		_, _ = ParseTokenReply(body)
		_, _ = ParseAuthorizeReply(body)
		_, _ = ParseCloseReply(body)
		_, _ = ParseSessionClosed(body)
		_, _ = ParsePolicyChanged(body)
		_, _ = ParseCertificateUpdated(body)
		_, _ = ParseHeartbeat(body)
		if r := ReadError("Busy", "429", body); r == nil || r.RetryAfter < 0 {
			t.Errorf("error reads as %v", r)
		}
	})
}

func FuzzCertificateDER(f *testing.F) {
	f.Add(encodePEM(selfSigned(f)))
	f.Add("BAD CERT")
	f.Add("MAA=")
	f.Fuzz(func(t *testing.T, in string) {
		der, err := CertificateDER(in)
		if err == nil && (len(der) == 0 || der[0] != 0x30 || len(der) > MaxCertificateBytes) {
			t.Errorf("got %d bytes starting %x", len(der), der[:min(4, len(der))])
		}
	})
}
