package control

import (
	"bytes"
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
		if _, err := newClient(t, server.URL, ca).Probe(t.Context(), server.URL); (err == nil) != test.want {
			t.Errorf("%s: %v, want reached %v", name, err, test.want)
		}
		server.Close()
		if _, err := newClient(t, server.URL, ca).Probe(t.Context(), server.URL); err == nil || !strings.Contains(err.Error(), "refused") {
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

// What decoders could take for two things is no answer.
func TestCheckRefusesWhatCanBeReadInTwoWays(t *testing.T) {
	typed := func(names ...string) http.Header {
		return http.Header{"Content-Type": {"application/json"}, "X-Amzn-Errortype": names}
	}
	for name, test := range map[string]struct {
		status int
		header http.Header
		body   string
		want   string // "" if it passes
	}{
		"a page":                  {200, typed(), `{"things":[{"name":"a"},{"name":"a"}],"more":{"things":null}}`, ""},
		"an error":                {404, typed("ResourceNotFoundException"), `{"message":"gone"}`, ""},
		"the same name twice":     {404, typed("ResourceNotFoundException", "aws#ResourceNotFoundException:x"), ``, ""},
		"twice":                   {200, typed(), `{"things":[],"things":[{}]}`, `"things" twice`},
		"twice, escaped":          {200, typed(), `{"things":[],"thing\u0073":[{}]}`, `"things" twice`},
		"twice in an object":      {200, typed(), `{"certificate":{"status":"ACTIVE","status":"REVOKED"}}`, `"status" twice`},
		"twice in a list":         {200, typed(), `{"things":[[{"thingName":"a","thingName":"b"}]]}`, `"thingName" twice`},
		"in another case":         {200, typed(), `{"certificate":{"status":"ACTIVE","Status":"REVOKED"}}`, `"Status" twice`},
		"two codes":               {404, typed(), `{"code":"ThrottlingException","Code":"ResourceNotFoundException"}`, `"Code" twice`},
		"two messages":            {404, typed(), `{"message":"a","meſsage":"b"}`, `twice`},
		"two error headers":       {404, typed("ResourceNotFoundException", "ThrottlingException"), `{}`, "two different X-Amzn-ErrorType"},
		"a success with a type":   {200, typed(), `{"__Type":"ThrottlingException"}`, "contradicts"},
		"a success with a code":   {200, typed(), `{"Code":"ThrottlingException"}`, "contradicts"},
		"a success with a header": {200, typed("ThrottlingException"), `{}`, "contradicts"},
		"one in a second header":  {200, typed("", "ThrottlingException"), `{}`, "two different X-Amzn-ErrorType"},
	} {
		err := check(test.status, test.header, []byte(test.body), false)
		if passed := err == nil; passed != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// An answer without a body is a success only where it may be one, and of the service.
func TestCheckLetsEmptyAnswersPassWhereTheyMayBe(t *testing.T) {
	ours := http.Header{"X-Amzn-Requestid": {"1"}}
	for name, test := range map[string]struct {
		header http.Header
		empty  bool
		want   bool
	}{"where they may be": {ours, true, true}, "where not": {ours, false, false}, "of nobody": {http.Header{}, true, false},
		"with an error's name": {http.Header{"X-Amzn-Requestid": {"1"}, "X-Amzn-Errortype": {"ThrottlingException"}}, true, false}} {
		if err := check(200, test.header, nil, test.empty); (err == nil) != test.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzCheck: what the SDK gets to decode as a success is one JSON object, in which every
// decoder sees the same.
func FuzzCheck(f *testing.F) {
	f.Add(200, "application/json", "", []byte(`{"a":1,"b":{"a":2}}`))
	f.Add(200, "application/json", "", []byte(`{"a":1,"a":2}`))
	f.Add(200, "application/json", "", []byte(`{"a":1}{}`))
	f.Add(404, "application/json", "", []byte(`{"a":[{"b":1,"B":2}]}`))
	f.Add(404, "application/json", "gzip", []byte(`{}`))
	f.Add(302, "text/html", "", []byte(``))
	f.Add(404, "application/json", "", []byte("\v"))
	f.Fuzz(func(t *testing.T, status int, contentType, encoding string, body []byte) {
		header := http.Header{"Content-Type": {contentType}}
		if encoding != "" {
			header.Set("Content-Encoding", encoding)
		}
		if check(status, header, body, false) != nil {
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
		if object == nil {
			return
		}
		// Maps keep one of two members of a name.
		var value any
		lower := bytes.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				return r - 'A' + 'a'
			}
			return r
		}, body)
		if err := json.Unmarshal(lower, &value); err != nil {
			return // a number that is too large
		}
		kept, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := tokens(kept), tokens(lower); got != want {
			t.Errorf("%q passed: %d of its %d tokens have a meaning of their own", body, got, want)
		}
	})
}

// tokens counts those of a JSON text.
func tokens(text []byte) int {
	n := 0
	for d := json.NewDecoder(bytes.NewReader(text)); ; n++ {
		if _, err := d.Token(); err != nil {
			return n
		}
	}
}
