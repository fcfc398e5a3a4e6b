package authapi

import (
	"bytes"
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	testSerial = "0123456789abcdef0123456789abcdef01234567"
	testCurve  = "XAB3NANV3M6N7AHSQP2U5FRWKKUT7EG2ZXXABV4XVXYQRJGM4S2CZGHT"
)

func testUpdate() CertificateUpdate {
	return CertificateUpdate{
		CertificateType: CertificateServer, Certificate: "PEM\n", CACertificates: []string{"A"}, TrustBundle: []string{"A", "B"},
		SerialNumber: testSerial, NotAfter: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC), SealedPrivateKey: "c2VhbGVk", SealedBy: testCurve,
	}
}

// schemaOf compiles the schema of a message.
func schemaOf(t *testing.T, message string) *jsonschema.Schema {
	t.Helper()
	raw, err := fs.ReadFile(Schemas(), message+".json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource(SchemaID(message), doc); err != nil {
		t.Fatal(err)
	}
	return c.MustCompile(SchemaID(message))
}

func conforms(t *testing.T, schema *jsonschema.Schema, body string) bool {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(body))
	return err == nil && schema.Validate(doc) == nil
}

// TestCertificatesRequests: parser and schema take and refuse the same.
func TestCertificatesRequests(t *testing.T) {
	schema := schemaOf(t, "certificates-request")
	const server = `"certificateOptions":{"certificateType":"SERVER"}`
	for body, ok := range map[string]bool{
		`{` + server + `,"certificateSigningRequest":"p"}`:                                                true,
		`{` + server + `,"certificateSigningRequest":"p","held":"` + testSerial + `","more":1}`:           true,
		`{` + server + `,"sealTo":"` + testCurve + `"}`:                                                   true,
		`{"certificateOptions":{"certificateType":"CLIENT"},"certificateSigningRequest":"p"}`:             true,
		`{"certificateOptions":{"certificateType":"CLIENT_AND_SERVER"},"certificateSigningRequest":"p"}`:  true,
		`{` + server + `,"certificateSigningRequest":"` + strings.Repeat("x", MaxCertificateBytes) + `"}`: true,
		`{` + server + `}`: false,
		`{` + server + `,"certificateSigningRequest":""}`:                                                   false,
		`{` + server + `,"certificateSigningRequest":7}`:                                                    false,
		`{` + server + `,"certificateSigningRequest":"p","sealTo":"` + testCurve + `"}`:                     false,
		`{` + server + `,"certificateSigningRequest":"` + strings.Repeat("x", MaxCertificateBytes+1) + `"}`: false,
		`{` + server + `,"sealTo":"U` + testCurve[1:] + `"}`:                                                false,
		`{` + server + `,"sealTo":"` + testCurve[:55] + `"}`:                                                false,
		`{` + server + `,"sealTo":"` + testCurve[:55] + `1"}`:                                               false,
		`{` + server + `,"certificateSigningRequest":"p","held":"` + strings.ToUpper(testSerial) + `"}`:     false,
		`{` + server + `,"certificateSigningRequest":"p","held":"` + testSerial[1:] + `"}`:                  false,
		`{"certificateOptions":{"certificateType":"server"},"certificateSigningRequest":"p"}`:               false,
		`{"certificateOptions":{"certificateType":"CA"},"certificateSigningRequest":"p"}`:                   false,
		`{"certificateOptions":{},"certificateSigningRequest":"p"}`:                                         false,
		`{"certificateSigningRequest":"p"}`:                                                                 false,
		`{}`:                                                                                                false,
	} {
		q, err := ParseCertificatesRequest([]byte(body))
		if (err == nil) != ok || !ok && code(t, err) != "InvalidArguments" || !ok && !reflect.ValueOf(q).IsZero() {
			t.Errorf("%.200s: got %.200v, %v", body, q, err)
		}
		if conforms(t, schema, body) != ok {
			t.Errorf("%.200s: the schema says otherwise", body)
		}
	}
}

// TestCertificatesReplies: what lacks a part is no certificate.
func TestCertificatesReplies(t *testing.T) {
	reply := CertificatesReply{CertificateUpdate: testUpdate(), AskAgainSeconds: 120}
	check(t, reply, ParseCertificatesReply)
	push := CertificateUpdated{Stamp: Stamp{Epoch: "e", Seq: 1}, CertificateUpdate: testUpdate()}
	check(t, push, ParseCertificateUpdated)
	inReply, inPush := schemaOf(t, "certificates-reply"), schemaOf(t, "certificate-updated-push")
	if b, err := Encode(reply); err != nil || !conforms(t, inReply, string(b)) {
		t.Errorf("%s: %v", b, err)
	}
	if b, err := Encode(push); err != nil || !conforms(t, inPush, string(b)) {
		t.Errorf("%s: %v", b, err)
	}
	for name, spoil := range map[string]func(*CertificateUpdate){
		"type":         func(u *CertificateUpdate) { u.CertificateType = "" },
		"certificate":  func(u *CertificateUpdate) { u.Certificate = "" },
		"authorities":  func(u *CertificateUpdate) { u.CACertificates = nil },
		"an authority": func(u *CertificateUpdate) { u.CACertificates = []string{""} },
		"bundle":       func(u *CertificateUpdate) { u.TrustBundle = []string{} },
		"too many":     func(u *CertificateUpdate) { u.TrustBundle = strings.Split(strings.Repeat("x", MaxAuthorities+1), "") },
		"serial":       func(u *CertificateUpdate) { u.SerialNumber = "12" },
		"end":          func(u *CertificateUpdate) { u.NotAfter = time.Time{} },
		"sealed by":    func(u *CertificateUpdate) { u.SealedBy = "" },
		"sealed key":   func(u *CertificateUpdate) { u.SealedPrivateKey = "" },
	} {
		u := testUpdate()
		spoil(&u)
		b, err := Encode(CertificatesReply{CertificateUpdate: u, AskAgainSeconds: 120})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCertificatesReply(b); err == nil {
			t.Errorf("a reply without %s passes", name)
		}
		if b, err = Encode(CertificateUpdated{Stamp: push.Stamp, CertificateUpdate: u}); err != nil {
			t.Fatal(err)
		}
		if _, err := ParseCertificateUpdated(b); err == nil {
			t.Errorf("a push without %s passes", name)
		}
	}
	reply.AskAgainSeconds = 0
	if b, err := Encode(reply); err != nil {
		t.Fatal(err)
	} else if _, err := ParseCertificatesReply(b); err == nil {
		t.Error("a reply that does not say when to ask again passes")
	}
}

func FuzzCertificates(f *testing.F) {
	f.Add([]byte(`{"certificateOptions":{"certificateType":"SERVER"},"certificateSigningRequest":"p","held":"` + testSerial + `"}`))
	f.Add([]byte(`{"certificateOptions":{"certificateType":"SERVER"},"sealTo":"` + testCurve + `"}`))
	for _, message := range []any{
		CertificatesReply{CertificateUpdate: testUpdate(), AskAgainSeconds: 120}, CertificateUpdated{Stamp: Stamp{Epoch: "e", Seq: 1}, CertificateUpdate: testUpdate()},
	} {
		b, err := Encode(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		if q, err := ParseCertificatesRequest(body); err == nil {
			again(t, q, ParseCertificatesRequest)
		}
		if a, err := ParseCertificatesReply(body); err == nil {
			again(t, a, ParseCertificatesReply)
		}
		if p, err := ParseCertificateUpdated(body); err == nil {
			again(t, p, ParseCertificateUpdated)
		}
	})
}

// again checks that what was read is read the same once it is written.
func again[T any](t *testing.T, want T, parse func([]byte) (T, error)) {
	t.Helper()
	b, err := Encode(want)
	if err != nil {
		return // near the limit it may grow
	}
	if got, err := parse(b); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%s reads back as %+v, %v, was %+v", b, got, err, want)
	}
}
