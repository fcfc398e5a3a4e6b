package cloudsync

import (
	"crypto/ed25519"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func authoritiesOf(t testing.TB, cfg DataPlaneConfig) *Authorities {
	t.Helper()
	a, err := NewAuthorities(cfg, "core-1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// The request is what the reference sends: the last certificate, alone.
func TestPutSendsOneCertificate(t *testing.T) {
	ca := authorityPEM(t)
	var got struct {
		Core         string   `json:"coreDeviceThingName"`
		Certificates []string `json:"coreDeviceCertificates"`
	}
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if err := json.Unmarshal(body, &got); err != nil || r.Method != "PUT" || r.URL.Path != "/greengrass/v2/coreDevices/core-1/certificateAuthorities" || r.TLS.PeerCertificates == nil {
			t.Errorf("%s %s %s: %v", r.Method, r.URL, body, err)
		}
		w.Header().Set("x-amzn-RequestId", "1")
	}, nil)
	if err := authoritiesOf(t, e.cfg).Put(t.Context(), append([]byte("\n"), ca...)); err != nil {
		t.Fatal(err)
	}
	if got.Core != "core-1" || len(got.Certificates) != 1 || got.Certificates[0] != string(ca) {
		t.Errorf("sent %+v", got)
	}
}

// What can be an authority here can be published: 16 KiB of DER, which are 22 KiB of PEM.
func TestPutSendsTheLargestCertificate(t *testing.T) {
	e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("x-amzn-RequestId", "1") }, nil)
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true,
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, 16<<10-400)}},
	}, &x509.Certificate{}, public, private)
	if err != nil || len(der) < 16<<10-300 || len(der) > 16<<10 {
		t.Fatal(len(der), err)
	}
	if err := authoritiesOf(t, e.cfg).Put(t.Context(), encodeCertificate(der)); err != nil {
		t.Error(err)
	}
}

func TestOnlyOneAuthoritysCertificateIsPut(t *testing.T) {
	e := newEndpoint(t, func(http.ResponseWriter, *http.Request) { t.Error("asked the cloud") }, nil)
	a := authoritiesOf(t, e.cfg)
	ca := authorityPEM(t)
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.cfg.Identity.Certificate[0]})
	for name, text := range map[string][]byte{
		"nothing": nil, "no PEM": []byte("x"), "two": append(authorityPEM(t), ca...), "a device's": leaf, "too long": append(ca, make([]byte, authorityBytesMax)...),
		"a key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}), "malformed": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}),
	} {
		if err := a.Put(t.Context(), text); err == nil || errors.As(err, new(*PutError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is no clear answer of the service is no yes, and says what it was (cloud spec 1.5).
func TestAnswersToPut(t *testing.T) {
	type answer struct {
		status                      int
		contentType, errorType, txt string
	}
	for name, c := range map[string]struct {
		answer  answer
		verdict messages.CloudVerdict
		failure messages.CloudFailure
	}{
		"taken":             {answer{200, "application/json", "", `{}`}, messages.CloudConfirmed, 0},
		"taken, whatever":   {answer{200, "application/json", "", `{"a":1}`}, messages.CloudConfirmed, 0},
		"no content":        {answer{204, "", "", ``}, messages.CloudConfirmed, 0},
		"validation":        {answer{400, "application/json", "ValidationException", `{"message":"m"}`}, messages.CloudDenied, 0},
		"not found":         {answer{404, "application/json", "ResourceNotFoundException", `{}`}, messages.CloudDenied, 0},
		"throttled":         {answer{429, "application/json", "ThrottlingException", `{}`}, messages.CloudSilent, messages.FailureThrottled},
		"server":            {answer{500, "application/json", "InternalServerException", `{}`}, messages.CloudSilent, messages.FailureServer},
		"refused":           {answer{403, "application/json", "AccessDeniedException", `{}`}, messages.CloudSilent, messages.FailureRefused},
		"a portal":          {answer{200, "text/html", "", `<html>`}, messages.CloudSilent, messages.FailureNotService},
		"a redirect":        {answer{302, "", "", ``}, messages.CloudSilent, messages.FailureNotService},
		"garbage":           {answer{200, "application/json", "", `{"a`}, messages.CloudSilent, messages.FailureNotService},
		"contradiction":     {answer{200, "application/json", "ThrottlingException", `{}`}, messages.CloudSilent, messages.FailureNotService},
		"empty, with error": {answer{200, "", "ThrottlingException", ``}, messages.CloudSilent, messages.FailureNotService},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
				for header, value := range map[string]string{"Content-Type": c.answer.contentType, "X-Amzn-ErrorType": c.answer.errorType, "x-amzn-RequestId": "1"} {
					if value != "" {
						w.Header().Set(header, value)
					}
				}
				w.WriteHeader(c.answer.status)
				_, _ = io.WriteString(w, c.answer.txt)
			}, nil)
			err := authoritiesOf(t, e.cfg).Put(t.Context(), authorityPEM(t))
			put, failed := errors.AsType[*PutError](err)
			switch {
			case c.verdict == messages.CloudConfirmed && err != nil, c.verdict != messages.CloudConfirmed && !failed:
				t.Errorf("got %v", err)
			case failed && (put.Answer.Verdict != c.verdict || put.Answer.Failure != c.failure || put.Error() == ""):
				t.Errorf("got %+v", put.Answer)
			}
		})
	}
}

func TestAuthoritiesAreStrict(t *testing.T) {
	e := newEndpoint(t, func(http.ResponseWriter, *http.Request) {}, nil)
	if _, err := NewAuthorities(e.cfg, "a b"); err == nil {
		t.Error("no thing's name was taken")
	}
	aws := e.cfg
	aws.Endpoint, aws.ServerName = "greengrass-ats.iot.eu-west-1.amazonaws.com", ""
	if _, err := NewAuthorities(aws, "core-1"); !errors.Is(err, ErrUnpublishedPath) || !strings.Contains(err.Error(), string(OpPutAuthorities)) {
		t.Errorf("a guessed path at AWS: %v", err)
	}
	aws.Routes = Routes{OpPutAuthorities: {Method: "PUT", Path: "/told"}}
	if a, err := NewAuthorities(aws, "core-1"); err != nil {
		t.Error(err)
	} else {
		a.Close()
	}
	e.server.Close()
	if put, ok := errors.AsType[*PutError](authoritiesOf(t, e.cfg).Put(t.Context(), authorityPEM(t))); !ok || put.Answer.Failure != messages.FailureUnreachable {
		t.Errorf("nobody there: %v", put)
	}
}

// FuzzPutAnswer: nothing but a success of the service's own is taken for one.
func FuzzPutAnswer(f *testing.F) {
	f.Add(200, "application/json", "", "1", `{}`)
	f.Add(204, "", "", "1", ``)
	f.Add(200, "text/html", "", "", `<html>`)
	f.Add(403, "application/json", "AccessDeniedException", "1", `{"message":"x"}`)
	f.Add(200, "application/json", "", "", `{"clientDeviceCertificateId":null}`)
	f.Fuzz(func(t *testing.T, status int, contentType, errorType, requestID, body string) {
		header := http.Header{}
		for name, value := range map[string]string{"Content-Type": contentType, "X-Amzn-ErrorType": errorType, "X-Amzn-RequestId": requestID} {
			if value != "" {
				header.Set(name, value)
			}
		}
		got := judgePut(status, header, []byte(body))
		if got.Verdict == messages.CloudConfirmed && (status < 200 || status > 299 || strings.TrimSpace(body) != "" && !json.Valid([]byte(body)) || requestID == "" && contentType == "") {
			t.Errorf("%d %v %q: %+v", status, header, body, got)
		}
		if got.Verdict == messages.CloudDenied && status != 400 && status != 404 {
			t.Errorf("%d %v %q: %+v", status, header, body, got)
		}
	})
}
