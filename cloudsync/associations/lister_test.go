package associations

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// today is the service's time: the SDK takes a refusal by a service whose clock differs for
// the difference's fault, and asks again.
var today = time.Now().UTC().Truncate(time.Second)

// step is one answer of the scripted service.
type step func(http.ResponseWriter, *http.Request)

// page lists things; next is the token of the page after it, "" on the last.
func page(next string, things ...string) step {
	devices := []map[string]any{}
	for _, thing := range things {
		devices = append(devices, map[string]any{"thingName": thing, "associationTimestamp": 1.7e9})
	}
	answer := map[string]any{"associatedClientDevices": devices}
	if next != "" {
		answer["nextToken"] = next
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	return raw(200, string(body))
}

func raw(status int, body string, headers ...string) step {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Date", today.Format(http.TimeFormat))
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

// fails is an error of the service, as often as the SDK asks for one page by itself.
func fails(status int, name string, headers ...string) []step {
	s := raw(status, `{"message":"as told"}`, append(headers, "X-Amzn-ErrorType", name)...)
	return []step{s, s, s}
}

func once(status int, name string, headers ...string) step { return fails(status, name, headers...)[0] }

func steps(parts ...any) (all []step) {
	for _, part := range parts {
		switch part := part.(type) {
		case step:
			all = append(all, part)
		case []step:
			all = append(all, part...)
		default:
			panic(fmt.Sprintf("%T", part))
		}
	}
	return all
}

func packed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// site is a service that follows a script, and a lister for it.
type site struct {
	*httptest.Server
	cfg Config

	mu     sync.Mutex
	script []step
	tokens []string // that pages were asked for with
	waits  []time.Duration
}

func newSite(t testing.TB, script ...step) *site {
	t.Helper()
	s := &site{script: script}
	var ca *cloudsynctest.Authority
	s.Server, ca = cloudsynctest.Serve(t, s.serve, nil)
	s.cfg = Config{
		Core: "core-1", Jitter: func() float64 { return 0.5 },
		AfterFunc: func(d time.Duration, f func()) func() bool {
			s.waits = append(s.waits, d)
			f()
			return func() bool { return false }
		},
		Control: control.Config{
			Region: "eu-central-1", Endpoint: s.URL, ServerName: cloudsynctest.ServerName, Roots: ca.Pool(), Now: cloudsynctest.AtNoon,
			Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "session"),
		},
	}
	return s
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.tokens = append(s.tokens, r.URL.Query().Get("nextToken"))
	next := step(func(w http.ResponseWriter, _ *http.Request) { raw(500, `{"message":"the script is over"}`)(w, nil) })
	if len(s.script) > 0 {
		next, s.script = s.script[0], s.script[1:]
	}
	s.mu.Unlock()
	next(w, r)
}

// impatient is the SDK's own retryer without its waits.
func impatient() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return 0, nil })
	})
}

func (s *site) lister(t testing.TB) *Lister {
	t.Helper()
	l, err := newLister(s.cfg, impatient())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	l.pagesMax = 30
	return l
}

// many is n pages of one thing each, with tokens of their own, and last behind them.
func many(n int, last ...any) []step {
	var all []step
	for i := range n {
		all = append(all, page(fmt.Sprint("t", i), fmt.Sprint("thing-", i)))
	}
	return append(all, steps(last...)...)
}

func empties(n int, last ...any) []step { return append(same(n), steps(last...)...) }

// same is one page n times, with tokens of their own.
func same(n int, things ...string) []step {
	var all []step
	for i := range n {
		all = append(all, page(fmt.Sprint("t", i), things...))
	}
	return all
}

// Reliability spec 2.3, D3c: what a listing makes of each script. Whatever is not whole
// lists nothing.
func TestOnlyAWholeListingLists(t *testing.T) {
	hundred := make([]string, 101)
	for i := range hundred {
		hundred[i] = fmt.Sprint("thing-", i)
	}
	twice := raw(200, `{"associatedClientDevices":[],"associatedClientDevices":[{"thingName":"a"}]}`)
	for _, test := range []struct {
		name   string
		script []step
		want   string // things of a complete list, or what the detail says
		class  messages.CloudFailure
		pages  int
		asked  int
		waits  []time.Duration
	}{
		// Whole ones.
		{name: "one page", script: steps(page("", "b", "a")), want: "a b", pages: 1, asked: 1},
		{name: "nothing is associated", script: steps(page("")), want: "", pages: 1, asked: 1},
		{name: "three pages", script: steps(page("t1", "c"), page("t2", "a"), page("", "b")), want: "a b c", pages: 3, asked: 3},
		{name: "things twice", script: steps(page("t1", "a", "a"), page("", "b", "a")), want: "a b", pages: 2, asked: 2},
		{name: "an empty page between", script: steps(page("t1", "a"), page("t2"), page("", "b")), want: "a b", pages: 3, asked: 3},
		{name: "nine empty pages", script: empties(9, page("", "a")), want: "a", pages: 10, asked: 10},
		{name: "an empty last page", script: steps(page("t1", "a"), page("")), want: "a", pages: 2, asked: 2},
		{name: "a null token is the end", script: steps(raw(200, `{"associatedClientDevices":[{"thingName":"a"}],"nextToken":null}`)), want: "a", pages: 1, asked: 1},
		{name: "an empty token is the end", script: steps(raw(200, `{"associatedClientDevices":[{"thingName":"a"}],"nextToken":""}`)), want: "a", pages: 1, asked: 1},
		{name: "as many pages as may be", script: many(29, page("", "z"))[:30], want: "thing-0 thing-1 thing-10 thing-11 thing-12 thing-13 thing-14 thing-15 thing-16 thing-17 thing-18 thing-19 thing-2 thing-20 thing-21 thing-22 thing-23 thing-24 thing-25 thing-26 thing-27 thing-28 thing-3 thing-4 thing-5 thing-6 thing-7 thing-8 thing-9 z", pages: 30, asked: 30},

		// Failures that pass: the page is asked for again, with its own token.
		{name: "one hiccup", script: steps(page("t1", "a"), once(500, "InternalServerException"), page("", "b")), want: "a b", pages: 2, asked: 3},
		{name: "a hang-up", script: steps(page("t1", "a"), step(hangUp), page("", "b")), want: "a b", pages: 2, asked: 3},
		{name: "a page cut short", script: steps(page("t1", "a"), step(cut), page("", "b")), want: "a b", pages: 2, asked: 3},
		{name: "throttled for a while", script: steps(page("t1", "a"), fails(429, "ThrottlingException"), fails(429, "ThrottlingException"), page("", "b")),
			want: "a b", pages: 2, asked: 8, waits: []time.Duration{22500 * time.Millisecond, 45 * time.Second}},
		{name: "throttled as IoT does it", script: steps(fails(400, "ThrottlingException"), page("", "b")), want: "b", pages: 1, asked: 4, waits: []time.Duration{22500 * time.Millisecond}},
		{name: "failing for a while", script: steps(fails(500, "InternalServerException"), page("", "b")), want: "b", pages: 1, asked: 4, waits: []time.Duration{22500 * time.Millisecond}},
		{name: "Retry-After", script: steps(fails(429, "ThrottlingException", "Retry-After", "100"), page("", "b")), want: "b", pages: 1, asked: 4, waits: []time.Duration{100 * time.Second}},
		{name: "a Retry-After of a day", script: steps(fails(503, "ServiceUnavailableException", "Retry-After", "86400"), page("", "b")), want: "b", pages: 1, asked: 4, waits: []time.Duration{5 * time.Minute}},
		{name: "each page has its tries", script: steps(fails(500, ""), fails(500, ""), page("t1", "a"), fails(502, ""), fails(504, ""), page("", "b")),
			want: "a b", pages: 2, asked: 14, waits: []time.Duration{22500 * time.Millisecond, 45 * time.Second, 22500 * time.Millisecond, 45 * time.Second}},
		{name: "a token that has expired", script: steps(page("t1", "a", "gone"), once(400, "ValidationException"), page("t2", "a"), page("", "b")), want: "a b", pages: 2, asked: 4},

		// Failures that stay.
		{name: "throttled for good", script: steps(page("t1", "a"), fails(429, "ThrottlingException"), fails(429, "ThrottlingException"), fails(429, "ThrottlingException")),
			want: "page 2: given up after 3 tries", class: messages.FailureThrottled, pages: 1, asked: 10, waits: []time.Duration{22500 * time.Millisecond, 45 * time.Second}},
		{name: "failing for good", script: nil, want: "given up after 3 tries", class: messages.FailureServer, asked: 9, waits: []time.Duration{22500 * time.Millisecond, 45 * time.Second}},
		{name: "access denied", script: steps(once(403, "AccessDeniedException")), want: "allow greengrass:ListClientDevicesAssociatedWithCoreDevice in the policy of the token exchange role", class: messages.FailureRefused, asked: 1},
		{name: "access denied in the middle", script: steps(page("t1", "a"), once(403, "AccessDeniedException")), want: "page 2: ", class: messages.FailureRefused, pages: 1, asked: 2},
		{name: "expired credentials", script: steps(once(403, "ExpiredTokenException")), want: "credentials are expired", class: messages.FailureRefused, asked: 1},
		{name: "unknown credentials", script: steps(once(403, "UnrecognizedClientException")), want: "not known", class: messages.FailureRefused, asked: 1},
		{name: "a core that AWS does not know", script: steps(once(404, "ResourceNotFoundException")), want: "no core device core-1 in eu-central-1", class: messages.FailureServer, asked: 1},
		{name: "a token that is refused twice", script: steps(page("t1", "a"), once(400, "ValidationException"), page("t2", "a"), once(400, "ValidationException")), want: "page 2: ", class: messages.FailureServer, pages: 1, asked: 4},
		{name: "a first page that is refused", script: steps(once(400, "ValidationException")), want: "page 1: ", class: messages.FailureServer, asked: 1},
		{name: "a conflict", script: steps(once(409, "ConflictException")), want: "page 1: ", class: messages.FailureServer, asked: 1},
		{name: "not found by nobody in particular", script: steps(raw(404, `{}`)), want: "check the endpoint", class: messages.FailureNotService, asked: 1},
		{name: "hung up for good", script: steps(step(hangUp), step(hangUp), step(hangUp)), want: "closed the connection", class: messages.FailureUnreachable, asked: 3},
		{name: "cut short for good", script: steps(step(cut), step(cut), step(cut)), want: "without a full answer", class: messages.FailureNotService, asked: 3},

		// Answers that are none.
		{name: "a token again", script: steps(page("t1", "a"), page("t2", "b"), page("t1", "c")), want: "page 3: its token was given before", class: messages.FailureNotService, pages: 2, asked: 3},
		{name: "its own token", script: steps(page("t1", "a"), page("t1", "b")), want: "page 2: its token was given before", class: messages.FailureNotService, pages: 1, asked: 2},
		{name: "ten empty pages", script: empties(10, page("", "a")), want: "nothing new", class: messages.FailureNotService, pages: 9, asked: 10},
		{name: "the same page for ever", script: same(20, "a", "b"), want: "nothing new", class: messages.FailureNotService, pages: 10, asked: 11},
		{name: "too many pages", script: many(31), want: "more than 30 pages", class: messages.FailureNotService, pages: 29, asked: 30},
		{name: "a page too full", script: steps(page("", hundred...)), want: "101 devices on a page", class: messages.FailureNotService, asked: 1},
		{name: "a long token", script: steps(page(strings.Repeat("x", 8<<10+1), "a")), want: "token of 8193 bytes", class: messages.FailureNotService, asked: 1},
		{name: "no thing's name", script: steps(page("t1", "a"), page("", "b", "a/b")), want: "device 2 has no thing's name", class: messages.FailureNotService, pages: 1, asked: 2},
		{name: "a null name", script: steps(raw(200, `{"associatedClientDevices":[{"thingName":null}]}`)), want: "device 1 has no thing's name", class: messages.FailureNotService, asked: 1},
		{name: "a null device", script: steps(raw(200, `{"associatedClientDevices":[null]}`)), want: "device 1 has no thing's name", class: messages.FailureNotService, asked: 1},
		{name: "no list", script: steps(raw(200, `{}`)), want: "an empty list is []", class: messages.FailureNotService, asked: 1},
		{name: "a null list", script: steps(raw(200, `{"associatedClientDevices":null}`)), want: "an empty list is []", class: messages.FailureNotService, asked: 1},
		{name: "a list of another kind", script: steps(raw(200, `{"associatedClientDevices":{"a":1}}`)), want: "can be read", class: messages.FailureNotService, asked: 1},
		{name: "a number for a token", script: steps(raw(200, `{"associatedClientDevices":[],"nextToken":7}`)), want: "can be read", class: messages.FailureNotService, asked: 1},
		{name: "two lists", script: steps(twice), want: "twice", class: messages.FailureNotService, asked: 1},
		{name: "no body", script: steps(raw(200, ``)), want: "without a JSON body", class: messages.FailureNotService, asked: 1},
		{name: "half a body", script: steps(raw(200, `{"associatedClientDevices":[{"thingName":"a"}`)), want: "malformed", class: messages.FailureNotService, asked: 1},
		{name: "something behind", script: steps(raw(200, `{"associatedClientDevices":[]}<html>`)), want: "malformed", class: messages.FailureNotService, asked: 1},
		{name: "a list", script: steps(raw(200, `[]`)), want: "no object", class: messages.FailureNotService, asked: 1},
		{name: "a portal", script: steps(raw(200, `<html>sign in</html>`, "Content-Type", "text/html")), want: "captive portal", class: messages.FailureNotService, asked: 1},
		{name: "a portal in the middle", script: steps(page("t1", "a"), raw(503, `<html>`, "Content-Type", "text/html")), want: "page 2: ", class: messages.FailureNotService, pages: 1, asked: 2},
		{name: "a redirect", script: steps(raw(302, ``, "Location", "http://portal.example/")), want: "portal.example", class: messages.FailureNotService, asked: 1},
		{name: "packed", script: steps(raw(200, packed(`{"associatedClientDevices":[]}`), "Content-Encoding", "gzip")), want: "encoding", class: messages.FailureNotService, asked: 1},
		{name: "a bomb", script: slices.Repeat([]step{raw(200, `{"x":"`+strings.Repeat("x", 1<<20)+`"}`)}, 3), want: "larger than 1 MiB", class: messages.FailureNotService, asked: 3},
		{name: "success with an error", script: steps(raw(200, `{"associatedClientDevices":[]}`, "X-Amzn-ErrorType", "InternalServerException")), want: "contradicts", class: messages.FailureNotService, asked: 1},
		{name: "success with an error inside", script: steps(raw(200, `{"associatedClientDevices":[],"__type":"ThrottlingException"}`)), want: "contradicts", class: messages.FailureNotService, asked: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newSite(t, test.script...)
			var heard []int
			got := s.lister(t).List(t.Context(), func(_, pages int) { heard = append(heard, pages) })
			if complete := test.class == messages.FailureNone; got.Complete != complete || got.Failure != test.class {
				t.Fatalf("got complete %v, failure %d (%s), want %v and %d", got.Complete, got.Failure, got.Detail, complete, test.class)
			}
			if got.Complete {
				var names []string
				for _, thing := range got.Things {
					names = append(names, string(thing))
				}
				if text := strings.Join(names, " "); text != test.want || got.Things == nil && test.want != "" {
					t.Errorf("things %q, want %q", text, test.want)
				}
			} else if got.Things != nil || !strings.Contains(got.Detail, test.want) {
				t.Errorf("things %v (%s), want none and %q", got.Things, got.Detail, test.want)
			}
			if got.Pages != test.pages || len(s.tokens) != test.asked || !slices.Equal(s.waits, test.waits) {
				t.Errorf("%d pages, asked %d times, waited %v, want %d, %d and %v", got.Pages, len(s.tokens), s.waits, test.pages, test.asked, test.waits)
			}
			if len(heard) < test.pages {
				t.Errorf("progress was told %v", heard)
			}
			if got.Detail == "" || len(got.Detail) > 256 {
				t.Errorf("detail of %d bytes", len(got.Detail))
			}
		})
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"associatedClientDevices":[]`)
}

func TestPagesAreAskedForAsAWSExpects(t *testing.T) {
	var seen []string
	note := func(next step) step {
		return func(w http.ResponseWriter, r *http.Request) {
			seen = append(seen, r.Method+" "+r.URL.RequestURI())
			if auth := r.Header.Get("Authorization"); !strings.HasPrefix(auth, "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/") || !strings.Contains(auth, "/eu-central-1/greengrass/aws4_request") {
				t.Errorf("signed %q", auth)
			}
			if r.Header.Get("X-Amz-Security-Token") != "session" || r.TLS.ServerName != cloudsynctest.ServerName || len(r.TLS.PeerCertificates) != 0 {
				t.Errorf("token %q, name %q, %d certificates", r.Header.Get("X-Amz-Security-Token"), r.TLS.ServerName, len(r.TLS.PeerCertificates))
			}
			next(w, r)
		}
	}
	s := newSite(t, note(page("a token/+=", "a")), note(page("", "b")))
	got := s.lister(t).List(t.Context(), nil)
	if !got.Complete || !got.Date.Equal(today) {
		t.Errorf("got %+v", got)
	}
	const path = "GET /greengrass/v2/coreDevices/core-1/associatedClientDevices?maxResults=100"
	if want := []string{path, path + "&nextToken=a%20token%2F%2B%3D"}; !slices.Equal(seen, want) {
		t.Errorf("asked %q, want %q", seen, want)
	}
}

// Our own bad standing is never a listing, whatever the status and the name; a name says
// more than a status.
func TestEachStatusWithEachErrorName(t *testing.T) {
	names := []string{"", "ValidationException", "ResourceNotFoundException", "AccessDeniedException", "ThrottlingException", "InternalServerException", "ConflictException"}
	kinds := map[rune]messages.CloudFailure{
		'R': messages.FailureRefused, 'T': messages.FailureThrottled, 'S': messages.FailureServer, '?': messages.FailureNotService,
	}
	for status, want := range map[int]string{
		400: "?SSRTSS", 401: "RRRRTSR", 403: "RRRRTSR", 404: "?SSRTSS", 409: "?SSRTSS",
		429: "TTTRTST", 500: "SSSRTSS", 502: "SSSRTSS", 503: "SSSRTSS", 504: "SSSRTSS",
	} {
		for i, letter := range want {
			var headers []string
			if names[i] != "" {
				headers = []string{"X-Amzn-ErrorType", names[i]}
			}
			s := newSite(t, slices.Repeat([]step{raw(status, `{"message":"as told"}`, headers...)}, 9)...)
			got := s.lister(t).List(t.Context(), nil)
			if got.Complete || got.Things != nil || got.Failure != kinds[letter] {
				t.Errorf("%d %q: got complete %v, failure %d (%s), want %c", status, names[i], got.Complete, got.Failure, got.Detail, letter)
			}
		}
	}
}

// Reliability spec 2.3, D6c: a server that cannot be verified hears nothing.
func TestUnverifiedServersHearNothing(t *testing.T) {
	for name, test := range map[string]struct {
		shape func(*cloudsynctest.Authority, *tls.Config)
		cfg   func(*Config)
		says  string
	}{
		"another authority": {cfg: func(c *Config) { c.Control.Roots = cloudsynctest.NewAuthority(t).Pool() }, says: "check the roots"},
		"another name":      {cfg: func(c *Config) { c.Control.ServerName = "other.example" }, says: "another name"},
		"expired": {shape: func(ca *cloudsynctest.Authority, c *tls.Config) {
			c.Certificates = []tls.Certificate{ca.Issue(t, cloudsynctest.ServerName, cloudsynctest.Noon.Add(-3*time.Hour))}
		}, says: "expired"},
		"TLS 1.1": {shape: func(_ *cloudsynctest.Authority, c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
		}, says: ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			server, ca := cloudsynctest.Serve(t, s.serve, test.shape)
			s.cfg.Control.Endpoint, s.cfg.Control.Roots = server.URL, ca.Pool()
			if test.cfg != nil {
				test.cfg(&s.cfg)
			}
			got := s.lister(t).List(t.Context(), nil)
			if got.Complete || got.Failure != messages.FailureUnreachable || !strings.Contains(got.Detail, test.says) || !got.Date.IsZero() {
				t.Errorf("got %+v, want unreachable with %q", got, test.says)
			}
			if len(s.tokens) != 0 {
				t.Error("a signed request was sent")
			}
		})
	}
}

func TestASlowAnswerIsCutOff(t *testing.T) {
	s := newSite(t, slices.Repeat([]step{func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		for r.Context().Err() == nil { // a byte at a time, for ever
			_, _ = io.WriteString(w, " ")
			w.(http.Flusher).Flush()
			select {
			case <-time.After(5 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	}}, 3)...)
	s.cfg.Control.Timeout = 100 * time.Millisecond
	if got := s.lister(t).List(t.Context(), nil); got.Failure != messages.FailureUnreachable || !strings.Contains(got.Detail, "within 100ms") {
		t.Errorf("got %+v", got)
	}
}

func TestGivingUpEndsAListing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newSite(t, fails(429, "ThrottlingException")...)
	s.cfg.AfterFunc = func(time.Duration, func()) func() bool { cancel(); return func() bool { return true } }
	if got := s.lister(t).List(ctx, nil); got.Complete || got.Failure != messages.FailureNotAsked || len(s.tokens) != 3 {
		t.Errorf("got %+v after %d requests", got, len(s.tokens))
	}
}

// rotating is a provider whose credentials can be replaced before their time.
type rotating struct{ calls int }

func (r *rotating) Retrieve(context.Context) (aws.Credentials, error) {
	r.calls++
	if r.calls > 2 {
		return aws.Credentials{}, errors.New("the token exchange is away")
	}
	return aws.Credentials{AccessKeyID: fmt.Sprint("AKID", r.calls), SecretAccessKey: "s", CanExpire: true, Expires: time.Now().Add(time.Hour)}, nil
}

func TestRefusedCredentialsAreGotAnew(t *testing.T) {
	provider := &rotating{}
	s := newSite(t, page("", "a"), once(403, "AccessDeniedException"), once(403, "ExpiredTokenException"), page("", "a"), once(403, "UnrecognizedClientException"))
	s.cfg.Control.Credentials = provider
	l := s.lister(t)
	for i, want := range []struct {
		class messages.CloudFailure
		calls int
	}{{0, 1}, {messages.FailureRefused, 1}, {messages.FailureRefused, 1}, {0, 2}, {messages.FailureRefused, 2}, {messages.FailureUnreachable, 3}} {
		got := l.List(t.Context(), nil)
		if got.Failure != want.class || provider.calls != want.calls {
			t.Errorf("listing %d: failure %d (%s) after %d calls, want %d and %d", i, got.Failure, got.Detail, provider.calls, want.class, want.calls)
		}
		if i == 5 && (!strings.Contains(got.Detail, "the token exchange is away") || len(s.tokens) != 5) {
			t.Errorf("without credentials: %s", got.Detail)
		}
	}
}

func TestANewListerWantsAllItNeeds(t *testing.T) {
	s := newSite(t)
	for name, change := range map[string]func(*Config){
		"no core":        func(c *Config) { c.Core = "" },
		"no region":      func(c *Config) { c.Control.Region = "" },
		"a bad region":   func(c *Config) { c.Control.Region = "eu-central-1.evil.example/" },
		"no credentials": func(c *Config) { c.Control.Credentials = nil },
		"no roots":       func(c *Config) { c.Control.Roots = nil },
		"no clock":       func(c *Config) { c.Control.Now = nil },
		"plain HTTP":     func(c *Config) { c.Control.Endpoint = "http://127.0.0.1" },
		"a path":         func(c *Config) { c.Control.Endpoint = "https://127.0.0.1/x" },
	} {
		cfg := s.cfg
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg := s.cfg
	cfg.Control.Endpoint = ""
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// FuzzPage: whatever the body of a page, a complete listing is one JSON object with a list
// of things' names and no next token.
func FuzzPage(f *testing.F) {
	f.Add(200, "application/json", "", []byte(`{"associatedClientDevices":[{"thingName":"a"}],"nextToken":null}`))
	f.Add(200, "application/json", "", []byte(`{"associatedClientDevices":[{"thingName":"a/b"}]}`))
	f.Add(200, "application/json", "", []byte(`{"associatedClientDevices":[],"nextToken":"t"}`))
	f.Add(403, "application/json", "AccessDeniedException", []byte(`{}`))
	f.Add(200, "text/html", "", []byte(`<html>`))
	f.Add(258, "application/json", "\n", []byte(`{"associatedClientDevices":[{"thingName":"a"}],"nextToken":null}`))
	s := newSite(f)
	l, err := newLister(s.cfg, aws.NopRetryer{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(l.Close)
	f.Fuzz(func(t *testing.T, status int, contentType, errorType string, body []byte) {
		status = 200 + (status%400+400)%400
		headers := []string{"Content-Type", contentType}
		if errorType != "" {
			headers = append(headers, "X-Amzn-ErrorType", errorType)
		}
		s.script = []step{raw(status, string(body), headers...)}
		got := l.List(t.Context(), nil)
		if got.Detail == "" || len(got.Detail) > 256 || !got.Complete && (got.Things != nil || got.Failure == messages.FailureNone) {
			t.Errorf("got %+v", got)
		}
		if got.Complete {
			var honest struct {
				Devices []struct{ ThingName string } `json:"associatedClientDevices"`
				Next    *string                      `json:"nextToken"`
			}
			if err := json.Unmarshal(body, &honest); err != nil || status < 200 || status > 299 || strings.Trim(errorType, " \t\r\n") != "" { // a header of white space alone says nothing
				t.Errorf("complete by %d %q %q: %v", status, errorType, body, err)
			}
			for _, thing := range got.Things {
				if _, err := messages.ParseThingName(string(thing)); err != nil {
					t.Error(err)
				}
			}
		}
	})
}

// Attempts bounds what the SDK does by itself, by the machine's clock.
func TestAttempts(t *testing.T) {
	s := newSite(t, steps(once(500, "InternalServerException"), page("", "a"))...)
	s.cfg.Attempts = 1
	l, err := New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	if got := l.List(t.Context(), nil); !got.Complete || len(s.waits) != 1 {
		t.Errorf("listed %+v after waits %v, want one", got, s.waits)
	}
}
