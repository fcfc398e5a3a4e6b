package authapi

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// The two bodies of authenticate: a certificate in, ten permissions out.

func BenchmarkParseAuthenticate(b *testing.B) {
	body, err := Encode(AuthenticateRequest{ClientID: "pump-7", CertificatePEM: base64.StdEncoding.EncodeToString(selfSigned(b))})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		q, err := ParseAuthenticateRequest(body)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := CertificateDER(q.CertificatePEM); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendGrant(b *testing.B) {
	g := GrantReply{
		IsConnectAuthorized: true, ClientDeviceAuthToken: "gh_0123456789012345678901234567890123456789012", ThingName: "pump-7",
		CertificateID: fmt.Sprintf("%064x", 7), PolicyRevision: 4, ExpiresAt: time.Unix(1e9, 0), CacheTTLMs: 60_000, DecisionID: "inst-17",
	}
	for i := range 10 {
		g.Permissions = append(g.Permissions, permission.Permission{Operation: "mqtt:publish", Resource: fmt.Sprintf("mqtt:topic:plant/%d/pump-7/level", i)})
	}
	b.ReportAllocs()
	var body []byte
	for b.Loop() {
		var err error
		if body, err = AppendGrant(body[:0], g); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAuthorize(b *testing.B) {
	body := AppendAuthorizeRequest(nil, "gh1_0123456789012345678901234567890123456789012", "mqtt:publish", "mqtt:topic:plants/site-07/line-107/temperature")
	var q AuthorizeRequest
	b.ReportAllocs()
	for b.Loop() {
		if err := q.Parse(body); err != nil {
			b.Fatal(err)
		}
	}
}
