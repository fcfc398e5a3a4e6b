package tokenexchange

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
)

// The needles: what must be found nowhere but where it belongs.
const (
	needleSecret  = "needle/Secret+Access0Key"
	needleSession = "needleSessionToken//////"
)

func answerText(expires time.Time) string {
	return fmt.Sprintf(`{"credentials":{"accessKeyId":"ASIANEEDLE","secretAccessKey":%q,"sessionToken":%q,"expiration":%q}}`,
		needleSecret, needleSession, expires.UTC().Format(time.RFC3339))
}

func respond(w http.ResponseWriter, status int, name, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("x-amzn-RequestId", "r")
	w.Header().Set("Date", cloudsynctest.Noon.Format(http.TimeFormat))
	if name != "" {
		w.Header().Set("x-amzn-ErrorType", name)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func provider(t *testing.T, handler http.HandlerFunc, alias string) *Provider {
	t.Helper()
	server, authority := cloudsynctest.Serve(t, handler, nil)
	p, err := NewProvider(ProviderConfig{
		Endpoint: strings.TrimPrefix(server.URL, "https://"), RoleAlias: alias, Thing: "core-1", ServerName: cloudsynctest.ServerName,
		Identity: authority.Issue(t, "core-1", cloudsynctest.Noon), Roots: authority.Pool(), Now: cloudsynctest.AtNoon,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Cloud spec 2: GET /role-aliases/{alias}/credentials, the core's certificate, its thing's name.
func TestTheProviderIsAskedAsTheCore(t *testing.T) {
	p := provider(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.URL.Path != "/role-aliases/a,b=c@d-_/credentials" || r.URL.RawQuery != "" || r.Header.Get("X-Amzn-Iot-Thingname") != "core-1" ||
			len(r.TLS.PeerCertificates) == 0 || r.TLS.PeerCertificates[0].Subject.CommonName != "core-1" || r.TLS.ServerName != cloudsynctest.ServerName {
			t.Errorf("asked %s %s with %v", r.Method, r.URL, r.Header)
		}
		respond(w, 200, "", answerText(cloudsynctest.Noon.Add(time.Hour)))
	}, "a,b=c@d-_")
	got, failure := p.Fetch(t.Context())
	if failure != nil {
		t.Fatal(failure)
	}
	c := got.Credentials
	if c.AccessKeyID != "ASIANEEDLE" || c.SecretAccessKey.Reveal() != needleSecret || c.SessionToken.Reveal() != needleSession ||
		!c.Expiration.Equal(cloudsynctest.Noon.Add(time.Hour)) || got.Lifetime != time.Hour-time.Second {
		t.Errorf("got %v, %v", c, got.Lifetime)
	}
	for _, printed := range []string{fmt.Sprint(got), fmt.Sprintf("%+v", got), fmt.Sprintf("%#v", got), fmt.Sprintf("%q", c)} {
		if strings.Contains(printed, "needle") {
			t.Errorf("printed: %s", printed)
		}
	}
}

// Cloud spec 2, the measured answers of the service, and what is none of its.
func TestWhyThereAreNoCredentials(t *testing.T) {
	for _, c := range []struct {
		name, error, body string
		status            int
		wantStatus        int
		wantLocal         int
		wantCode, want    string
	}{
		{"thing", "AccessDeniedException", `{"message":"Invalid thing name passed"}`, 403, 403, 403, "AccessDeniedException", "attach the core's certificate to its thing"},
		{"policy", "AccessDeniedException", `{"message":"Access Denied"}`, 403, 403, 403, "AccessDeniedException", "iot:AssumeRoleWithCertificate"},
		{"alias", "ResourceNotFoundException", `{"message":"Role alias does not exist"}`, 404, 404, 404, "ResourceNotFoundException", "cloud.roleAlias"},
		{"role", "InvalidRequestException", `{"message":"Unable to assume the role, or the role to assume does not exist"}`, 400, 400, 400, "InvalidRequestException", "trust credentials.iot.amazonaws.com"},
		{"broken", "InternalFailureException", `{"message":"oops"}`, 500, 500, 500, "InternalFailureException", "oops"},
		{"nameless", "", `{}`, 503, 503, 503, "HTTP503", "HTTP 503"},
		{"a redirect", "", `{}`, 302, 0, 500, CodeUnavailable, "proxy or captive portal"},
		{"nothing", "", "", 200, 200, 500, CodeUnavailable, "no member credentials"},
		{"null", "", `{"credentials":null}`, 200, 200, 500, CodeUnavailable, "no object"},
		{"twice", "", `{"credentials":{},"credentials":{}}`, 200, 200, 500, CodeUnavailable, "twice"},
		{"numbers", "", `{"credentials":{"accessKeyId":1,"secretAccessKey":2,"sessionToken":3,"expiration":4}}`, 200, 200, 500, CodeUnavailable, "accessKeyId is not"},
		{"a line in a secret", "", strings.Replace(answerText(cloudsynctest.Noon.Add(time.Hour)), needleSecret, `needle\nX: y`, 1), 200, 200, 500, CodeUnavailable, "secretAccessKey is not"},
		{"expired", "", answerText(cloudsynctest.Noon), 200, 200, 500, CodeUnavailable, "had expired"},
		{"for ever", "", answerText(cloudsynctest.Noon.Add(48 * time.Hour)), 200, 200, 500, CodeUnavailable, "no role's last so long"},
		{"too large", "", answerText(cloudsynctest.Noon.Add(time.Hour)) + strings.Repeat(" ", answerBytesMax), 200, 0, 500, CodeUnavailable, "larger"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := provider(t, func(w http.ResponseWriter, _ *http.Request) { respond(w, c.status, c.error, c.body) }, "alias")
			got, failure := p.Fetch(t.Context())
			if failure == nil {
				t.Fatalf("got %v", got)
			}
			if failure.Status != c.wantStatus || failure.LocalStatus() != c.wantLocal || failure.Code != c.wantCode || !strings.Contains(failure.Message, c.want) {
				t.Errorf("got %d (%d here) %s: %s", failure.Status, failure.LocalStatus(), failure.Code, failure.Message)
			}
			if strings.Contains(failure.Message, "needle") {
				t.Errorf("a secret in %s", failure.Message)
			}
		})
	}
}

// What is left of a lifetime is the cloud's own word, whatever this machine's clocks show.
func TestNoClockOfThisMachineMakesALifetime(t *testing.T) {
	header := http.Header{"Content-Type": {"application/json"}, "Date": {cloudsynctest.Noon.Format(http.TimeFormat)}}
	for _, year := range []int{1970, 2026, 2096} {
		now := func() time.Time { return time.Date(year, 1, 1, 0, 0, 0, 0, time.UTC) }
		got, failure := parseAnswer(200, header, []byte(answerText(cloudsynctest.Noon.Add(time.Hour))), now)
		if failure != nil || got.Lifetime != time.Hour-time.Second {
			t.Errorf("in %d: %v, %v", year, got.Lifetime, failure)
		}
	}
	header.Del("Date")
	if got, failure := parseAnswer(200, header, []byte(answerText(cloudsynctest.Noon.Add(time.Hour))), cloudsynctest.AtNoon); failure != nil || got.Lifetime != time.Hour-time.Second {
		t.Errorf("without a date: %v, %v", got.Lifetime, failure)
	}
}

// Who answers must be who was configured, by the clock that was given.
func TestAProviderThatIsNotItGetsNoWord(t *testing.T) {
	shape := map[string]func(*cloudsynctest.Authority, *tls.Config){
		"another's certificate": func(_ *cloudsynctest.Authority, c *tls.Config) {
			c.Certificates = []tls.Certificate{cloudsynctest.NewAuthority(t).Issue(t, cloudsynctest.ServerName, cloudsynctest.Noon)}
		},
		"expired by the trust clock": func(a *cloudsynctest.Authority, c *tls.Config) {
			c.Certificates = []tls.Certificate{a.Issue(t, cloudsynctest.ServerName, cloudsynctest.Noon.Add(-2*time.Hour))}
		},
	}
	for name, shape := range shape {
		server, authority := cloudsynctest.Serve(t, func(http.ResponseWriter, *http.Request) { t.Errorf("%s: asked", name) }, shape)
		p, err := NewProvider(ProviderConfig{
			Endpoint: strings.TrimPrefix(server.URL, "https://"), RoleAlias: "alias", Thing: "core-1", ServerName: cloudsynctest.ServerName,
			Identity: authority.Issue(t, "core-1", cloudsynctest.Noon), Roots: authority.Pool(), Now: cloudsynctest.AtNoon,
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, failure := p.Fetch(t.Context()); failure == nil || failure.Status != 0 || !strings.Contains(failure.Message, "not trusted") {
			t.Errorf("%s: %v", name, failure)
		}
		p.Close()
	}
}

func TestAProviderNeedsAllOfItsConfiguration(t *testing.T) {
	authority := cloudsynctest.NewAuthority(t)
	good := ProviderConfig{
		Endpoint: "x.credentials.iot.eu-central-1.amazonaws.com", RoleAlias: "alias", Thing: "core-1",
		Identity: authority.Issue(t, "core-1", cloudsynctest.Noon), Roots: authority.Pool(), Now: cloudsynctest.AtNoon,
	}
	if p, err := NewProvider(good); err != nil || p.url != "https://x.credentials.iot.eu-central-1.amazonaws.com/role-aliases/alias/credentials" {
		t.Fatalf("%v, %v", p, err)
	}
	for want, spoil := range map[string]func(*ProviderConfig){
		"role alias":         func(c *ProviderConfig) { c.RoleAlias = "a/../b" },
		"thing name":         func(c *ProviderConfig) { c.Thing = "a b" },
		"certificate and":    func(c *ProviderConfig) { c.Identity = tls.Certificate{} },
		"root certificates":  func(c *ProviderConfig) { c.Roots = (*x509.CertPool)(nil) },
		"no clock":           func(c *ProviderConfig) { c.Now = nil },
		"want HOST or":       func(c *ProviderConfig) { c.Endpoint = "h/path" },
		"want HOST or HOST:": func(c *ProviderConfig) { c.Endpoint = "user@h" },
	} {
		c := good
		spoil(&c)
		if _, err := NewProvider(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}

// FuzzParseAnswer: what is taken is whole and bounded, and no error has a piece of it.
func FuzzParseAnswer(f *testing.F) {
	f.Add(200, "application/json", []byte(answerText(cloudsynctest.Noon.Add(time.Hour))))
	f.Add(403, "application/json", []byte(`{"message":"Access Denied"}`))
	f.Add(200, "application/json", []byte(`{"credentials":{"accessKeyId":"A","accessKeyId":"B"}}`))
	f.Add(200, "text/html", []byte("<html>"))
	f.Add(200, "application/json", []byte(`{"Credentials":{}}`))
	f.Fuzz(func(t *testing.T, status int, contentType string, body []byte) {
		header := http.Header{"Content-Type": {contentType}, "Date": {cloudsynctest.Noon.Format(http.TimeFormat)}}
		got, failure := parseAnswer(status, header, body, cloudsynctest.AtNoon)
		if failure != nil {
			if failure.Message == "" || failure.Code == "" || got != (Fetched{}) || failure.LocalStatus() < 400 || failure.LocalStatus() > 599 {
				t.Errorf("%+v, %v", failure, got)
			}
			return
		}
		c := got.Credentials
		if status != 200 || !visible(c.AccessKeyID, keyIDBytesMax) || !visible(c.SecretAccessKey.Reveal(), secretBytesMax) || !visible(c.SessionToken.Reveal(), sessionBytesMax) ||
			got.Lifetime <= 0 || got.Lifetime > lifetimeMax || len(body) > answerBytesMax {
			t.Errorf("HTTP %d %q is taken as %+v", status, body, got)
		}
	})
}
