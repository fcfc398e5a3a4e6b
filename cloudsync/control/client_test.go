package control

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
)

func newClient(t testing.TB, url string, ca *cloudsynctest.Authority) *Client {
	t.Helper()
	c, err := New(Config{
		Region: "eu-central-1", Endpoint: url, ServerName: cloudsynctest.ServerName, Roots: ca.Pool(), Now: cloudsynctest.AtNoon,
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	}, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestProbeTellsWhetherTheServiceIsThere(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		header string
		value  string
		want   bool
	}{
		"refuses the unsigned": {403, "Content-Type", "application/json", true},
		"an empty answer":      {404, "X-Amzn-RequestId", "1", true},
		"a portal":             {200, "Content-Type", "text/html", false},
		"a redirect":           {302, "Location", "http://portal.example/", false},
	} {
		server, ca := cloudsynctest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "" {
				t.Error("the probe is signed")
			}
			w.Header().Set(test.header, test.value)
			w.WriteHeader(test.status)
		}, nil)
		if err := newClient(t, server.URL, ca).Probe(t.Context(), server.URL); (err == nil) != test.want {
			t.Errorf("%s: %v, want reached %v", name, err, test.want)
		}
		server.Close()
		if err := newClient(t, server.URL, ca).Probe(t.Context(), server.URL); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s, closed: %v", name, err)
		}
	}
}

// Signatures carry the configured time, corrected by the service's last answer.
func TestSignaturesCarryTheConfiguredTime(t *testing.T) {
	ahead := 3 * time.Hour
	server, ca := cloudsynctest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Date", cloudsynctest.AtNoon().Add(ahead).UTC().Format(http.TimeFormat))
		_, _ = io.WriteString(w, "{}")
	}, nil)
	c := newClient(t, server.URL, ca)
	sign := func() string {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		keys := aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}
		if err := c.SignHTTP(t.Context(), keys, request, "hash", "greengrass", c.Region, time.Unix(0, 0)); err != nil {
			t.Fatal(err)
		}
		answer, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return request.Header.Get("X-Amz-Date")
	}
	const form = "20060102T150405Z"
	if got, want := sign(), cloudsynctest.AtNoon().UTC().Format(form); got != want {
		t.Errorf("first signed at %s, want %s", got, want)
	}
	if got, want := sign(), cloudsynctest.AtNoon().Add(ahead).UTC().Format(form); got != want {
		t.Errorf("then signed at %s, want %s", got, want)
	}
}

// FuzzCheck: what the SDK gets to decode as a success is one JSON object, in which every
// decoder sees the same.
func FuzzCheck(f *testing.F) {
	f.Add(200, "application/json", "", []byte(`{"a":1,"b":{"a":2}}`))
	f.Add(200, "application/json", "", []byte(`{"a":1,"a":2}`))
	f.Add(200, "application/json", "", []byte(`{"a":1}{}`))
	f.Add(404, "application/json", "gzip", []byte(`{}`))
	f.Add(302, "text/html", "", []byte(``))
	f.Fuzz(func(t *testing.T, status int, contentType, encoding string, body []byte) {
		header := http.Header{"Content-Type": {contentType}}
		if encoding != "" {
			header.Set("Content-Encoding", encoding)
		}
		if check(status, header, body) != nil {
			return
		}
		if status >= 300 && status <= 399 {
			t.Errorf("a redirect passed: %d", status)
		}
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		var object map[string]json.RawMessage
		err := decoder.Decode(&object)
		if status >= 200 && status <= 299 && (err != nil || object == nil) || err != nil && err != io.EOF {
			t.Fatalf("%d %q passed: %v", status, body, err)
		}
		if _, err := decoder.Token(); err != io.EOF {
			t.Errorf("%q passed with more behind it", body)
		}
	})
}
