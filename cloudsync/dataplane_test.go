package cloudsync

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// endpoint is a TLS server that a test shapes, and what a client needs for it.
type endpoint struct {
	ca     *authority
	server *httptest.Server
	cfg    DataPlaneConfig
}

// newEndpoint serves handler; shape, if not nil, changes the server's TLS first.
func newEndpoint(t testing.TB, handler http.HandlerFunc, shape func(*authority, *tls.Config)) *endpoint {
	t.Helper()
	e := &endpoint{}
	e.server, e.ca = cloudsynctest.Serve(t, handler, func(ca *authority, c *tls.Config) {
		c.ClientAuth = tls.RequireAnyClientCert
		if shape != nil {
			shape(ca, c)
		}
	})
	e.cfg = DataPlaneConfig{
		Endpoint: e.server.URL, ServerName: cloudsynctest.ServerName,
		Identity: e.ca.Issue(t, "core-1", noon), Roots: e.ca.Pool(),
		Now: atNoon, Timeout: 5 * time.Second,
	}
	return e
}

func (e *endpoint) client(t testing.TB) *DataPlane {
	t.Helper()
	d, err := NewDataPlane(e.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func answerWith(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func wantSilent(t *testing.T, got messages.CloudAnswer, why messages.CloudFailure, says string) {
	t.Helper()
	if got.Verdict != messages.CloudSilent || got.Failure != why || !strings.Contains(got.Detail, says) || !got.Date.IsZero() {
		t.Errorf("got %s, failure %d (%s) dated %v, want silent, failure %d, with %q and no date", got.Verdict, got.Failure, got.Detail, got.Date, why, says)
	}
}

func TestQuestionsAreAskedAsAWSExpects(t *testing.T) {
	type seen struct {
		method, path, body, contentType, serverName, protocol string
		peer                                                  messages.CertificateID
		unsigned                                              bool
	}
	var got seen
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = seen{
			method: r.Method, path: r.URL.Path, body: string(body), contentType: r.Header.Get("Content-Type"),
			serverName: r.TLS.ServerName, protocol: r.Proto, peer: messages.CertificateIDOf(r.TLS.PeerCertificates[0].Raw),
			unsigned: r.Header.Get("Authorization") == "" && len(r.Header.Values("Idempotency-Key")) == 0,
		}
		answerWith(200, `{}`)(w, r)
	}, nil)
	d := e.client(t)
	core := messages.CertificateIDOf(e.cfg.Identity.Certificate[0])
	text, q := device(t)

	if a := d.Ask(t.Context(), q); a.Verdict != messages.CloudConfirmed || a.Date.IsZero() {
		t.Fatalf("identity: %+v", a)
	}
	quoted, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	want := seen{
		method: "POST", path: "/greengrass/v2/clientDevices/verifyIdentity", body: `{"clientDeviceCertificate":` + string(quoted) + `}`,
		contentType: "application/json", serverName: "cloud.example", protocol: "HTTP/1.1", peer: core, unsigned: true,
	}
	if got != want {
		t.Errorf("identity: got %+v, want %+v", got, want)
	}

	if a := d.Ask(t.Context(), messages.CloudQuestion{Certificate: q.Certificate, Thing: "pump-7"}); a.Verdict != messages.CloudConfirmed {
		t.Fatalf("association: %+v", a)
	}
	want.path = "/greengrass/v2/clientDevices/verifyCertificateAssociation"
	want.body = `{"clientDeviceCertificateId":"` + string(q.Certificate) + `","clientDeviceThingName":"pump-7"}`
	if got != want {
		t.Errorf("association: got %+v, want %+v", got, want)
	}
}

func TestALPNOffersAWSNameFirst(t *testing.T) {
	var offered []string
	e := newEndpoint(t, answerWith(200, `{}`), func(_ *authority, c *tls.Config) {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			offered = hello.SupportedProtos
			return nil, nil
		}
	})
	_, q := device(t)
	if a := e.client(t).Ask(t.Context(), q); a.Verdict != messages.CloudConfirmed {
		t.Fatal(a.Detail)
	}
	if want := []string{"x-amzn-http-ca", "http/1.1"}; !slices.Equal(offered, want) {
		t.Errorf("got %v, want %v", offered, want)
	}
}

// Reliability plan D6c: a server that cannot be verified is no cloud at all.
func TestUnverifiedServersAreSilenceAndHearNothing(t *testing.T) {
	for name, test := range map[string]struct {
		shape  func(*testing.T, *endpoint, *tls.Config)
		client func(*testing.T, *endpoint)
		says   string
	}{
		"another authority": {client: func(t *testing.T, e *endpoint) { e.cfg.Roots = newAuthority(t).Pool() }, says: "check the roots"},
		"another name":      {client: func(_ *testing.T, e *endpoint) { e.cfg.ServerName = "other.example" }, says: "another name"},
		"expired": {shape: func(t *testing.T, e *endpoint, c *tls.Config) {
			c.Certificates = []tls.Certificate{e.ca.Issue(t, "cloud.example", noon.Add(-3*time.Hour))}
		}, says: "clock"},
		"not yet valid": {shape: func(t *testing.T, e *endpoint, c *tls.Config) {
			c.Certificates = []tls.Certificate{e.ca.Issue(t, "cloud.example", noon.Add(3*time.Hour))}
		}, says: "clock"},
		"self-signed": {shape: func(t *testing.T, _ *endpoint, c *tls.Config) {
			c.Certificates = []tls.Certificate{newAuthority(t).Issue(t, "cloud.example", noon)}
		}, says: "check the roots"},
		"TLS 1.1": {shape: func(_ *testing.T, _ *endpoint, c *tls.Config) {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}, says: "version"},
		"other protocol": {shape: func(_ *testing.T, _ *endpoint, c *tls.Config) { c.NextProtos = []string{"mqtt"} }, says: "TLS"},
	} {
		t.Run(name, func(t *testing.T) {
			var heard atomic.Int32
			e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
				heard.Add(1)
				answerWith(200, `{}`)(w, r)
			}, func(ca *authority, c *tls.Config) {
				if test.shape != nil {
					test.shape(t, &endpoint{ca: ca}, c)
				}
			})
			if test.client != nil {
				test.client(t, e)
			}
			_, q := device(t)
			wantSilent(t, e.client(t).Ask(t.Context(), q), messages.FailureUnreachable, test.says)
			if heard.Load() != 0 {
				t.Error("the question was sent")
			}
		})
	}
}

// Reliability plan D5c.
func TestBrokenAnswersAreSilence(t *testing.T) {
	bomb := func() []byte {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write([]byte(`{"a":"` + strings.Repeat("x", 50<<20) + `"}`))
		_ = w.Close()
		return b.Bytes()
	}()
	hangUp := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		why     messages.CloudFailure
		says    string
	}{
		"truncated": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{}`)
		}, messages.FailureNotService, "without a full answer"},
		"hung up":          {hangUp, messages.FailureUnreachable, "registered and active"},
		"1 MiB and a byte": {answerWith(200, `{"a":"`+strings.Repeat("x", wire.BodyBytesMax-7)+`"}`), messages.FailureNotService, "larger than 1 MiB"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, messages.FailureNotService, "larger than 1 MiB"},
		"gzip bomb": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		}, messages.FailureNotService, "encoding"},
		"endless headers": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				w.Header().Set("X-"+strings.Repeat("a", i%90+1), strings.Repeat("x", 1000))
			}
			answerWith(200, `{}`)(w, nil)
		}, messages.FailureUnreachable, "cannot be asked"},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, test.handler, nil)
			_, q := device(t)
			wantSilent(t, e.client(t).Ask(t.Context(), q), test.why, test.says)
		})
	}

	e := newEndpoint(t, answerWith(200, `{"a":"`+strings.Repeat("x", wire.BodyBytesMax-8)+`"}`), nil)
	_, q := device(t)
	if a := e.client(t).Ask(t.Context(), q); a.Verdict != messages.CloudConfirmed {
		t.Errorf("exactly 1 MiB: got %s (%s), want confirmed", a.Verdict, a.Detail)
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	var followed atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Store(true) }))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, status) }, nil)
		_, q := device(t)
		wantSilent(t, e.client(t).Ask(t.Context(), q), messages.FailureNotService, "not followed")
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

func TestNothingIsRetried(t *testing.T) {
	for _, handler := range []http.HandlerFunc{
		answerWith(500, `{}`), answerWith(503, `{}`), answerWith(429, `{}`),
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		var calls atomic.Int32
		e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			handler(w, r)
		}, nil)
		_, q := device(t)
		if a := e.client(t).Ask(t.Context(), q); a.Verdict != messages.CloudSilent {
			t.Errorf("got %+v", a)
		}
		if got := calls.Load(); got != 1 {
			t.Errorf("asked %d times, want once", got)
		}
	}
}

// A server may close an idle connection at any time; the next question must not suffer.
func TestAConnectionClosedWhileIdleIsReplaced(t *testing.T) {
	e := newEndpoint(t, answerWith(200, `{}`), nil)
	d := e.client(t)
	_, q := device(t)
	for range 3 {
		if a := d.Ask(t.Context(), q); a.Verdict != messages.CloudConfirmed {
			t.Fatal(a.Detail)
		}
		e.server.CloseClientConnections()
	}
}

// The close may also cross the question on its way: it is put once more, on a new
// connection, and only because the old one had worked before.
func TestAConnectionThatDiesUnderTheQuestionIsReplacedOnce(t *testing.T) {
	var mu sync.Mutex
	served, calls := map[string]bool{}, 0
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		calls++
		again := served[r.RemoteAddr]
		served[r.RemoteAddr] = true
		mu.Unlock()
		if again {
			panic(http.ErrAbortHandler)
		}
		answerWith(200, `{}`)(w, r)
	}, nil)
	d := e.client(t)
	_, q := device(t)
	for range 2 {
		if a := d.Ask(t.Context(), q); a.Verdict != messages.CloudConfirmed {
			t.Fatal(a.Detail)
		}
	}
	if calls != 3 {
		t.Errorf("%d requests arrived, want the first, the one that died and its repetition", calls)
	}
}

func TestTimeAndCancellationBoundAQuestion(t *testing.T) {
	arrived := make(chan struct{}, 2)
	e := newEndpoint(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // only then is a hang-up noticed
		arrived <- struct{}{}
		<-r.Context().Done()
	}, nil)
	e.cfg.Timeout = 200 * time.Millisecond
	_, q := device(t)
	wantSilent(t, e.client(t).Ask(t.Context(), q), messages.FailureUnreachable, "within 200ms")

	e.cfg.Timeout = time.Minute
	<-arrived
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	wantSilent(t, e.client(t).Ask(ctx, q), messages.FailureNotAsked, "given up")
}

// TestConnectingHasABoundOfItsOwn: who accepts and says nothing does not cost a whole
// question's time.
func TestConnectingHasABoundOfItsOwn(t *testing.T) {
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	e := newEndpoint(t, answerWith(200, `{}`), nil)
	e.cfg.Endpoint, e.cfg.Timeout, e.cfg.ConnectTimeout = "https://"+mute.Addr().String(), time.Hour, 50*time.Millisecond
	_, q := device(t)
	wantSilent(t, e.client(t).Ask(t.Context(), q), messages.FailureUnreachable, "check the network")
}

func TestSomethingElseListensOrNothing(t *testing.T) {
	plain := httptest.NewServer(answerWith(200, `{}`))
	defer plain.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := listener.Addr().String()
	_ = listener.Close()
	e := newEndpoint(t, answerWith(200, `{}`), nil)
	_, q := device(t)
	for at, says := range map[string]string{
		"https://" + strings.TrimPrefix(plain.URL, "http://"): "does not speak TLS",
		"https://" + free: "refused",
	} {
		e.cfg.Endpoint = at
		wantSilent(t, e.client(t).Ask(t.Context(), q), messages.FailureUnreachable, says)
	}
}

func TestProxiesComeFromTheConfigurationAlone(t *testing.T) {
	var asked atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	defer proxy.Close()
	t.Setenv("HTTPS_PROXY", proxy.URL)
	e := newEndpoint(t, answerWith(200, `{}`), nil)
	_, q := device(t)
	if a := e.client(t).Ask(t.Context(), q); a.Verdict != messages.CloudConfirmed || asked.Load() != 0 {
		t.Errorf("without a configured proxy: %+v, proxy asked %d times", a, asked.Load())
	}
	through, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	e.cfg.Proxy = through
	wantSilent(t, e.client(t).Ask(t.Context(), q), messages.FailureUnreachable, "Forbidden")
	if asked.Load() != 1 {
		t.Errorf("proxy asked %d times, want once", asked.Load())
	}
}

func TestMalformedQuestionsAreNotAsked(t *testing.T) {
	var calls atomic.Int32
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) { calls.Add(1); answerWith(200, `{}`)(w, r) }, nil)
	d := e.client(t)
	_, q := device(t)
	for name, a := range map[string]messages.CloudAnswer{
		"zero":              d.Ask(t.Context(), messages.CloudQuestion{}),
		"id of another":     d.Ask(t.Context(), messages.CloudQuestion{Certificate: ourID, DER: q.DER}),
		"no certificate":    d.Ask(t.Context(), messages.CloudQuestion{Certificate: q.Certificate}),
		"large certificate": d.Ask(t.Context(), messages.CloudQuestion{Certificate: q.Certificate, DER: make([]byte, 16<<10+1)}),
		"bad thing":         d.Ask(t.Context(), messages.CloudQuestion{Certificate: q.Certificate, Thing: "a/b"}),
		"bad id":            d.Ask(t.Context(), messages.CloudQuestion{Certificate: "xyz", Thing: "pump-7"}),
	} {
		if a.Verdict != messages.CloudSilent || a.Failure != messages.FailureNotAsked || !strings.HasPrefix(a.Detail, "not asked") {
			t.Errorf("%s: got %+v", name, a)
		}
	}
	if calls.Load() != 0 {
		t.Errorf("%d questions were sent", calls.Load())
	}
}

func TestNewDataPlaneWantsAllItNeeds(t *testing.T) {
	e := newEndpoint(t, answerWith(200, `{}`), nil)
	for name, change := range map[string]func(*DataPlaneConfig){
		"no identity": func(c *DataPlaneConfig) { c.Identity = tls.Certificate{} },
		"no key":      func(c *DataPlaneConfig) { c.Identity.PrivateKey = nil },
		"no roots":    func(c *DataPlaneConfig) { c.Roots = nil },
		"no clock":    func(c *DataPlaneConfig) { c.Now = nil },
		"plain HTTP":  func(c *DataPlaneConfig) { c.Endpoint = "http://127.0.0.1" },
		"bad route":   func(c *DataPlaneConfig) { c.Routes = Routes{OpVerifyIdentity: {}} },
	} {
		cfg := e.cfg
		change(&cfg)
		if _, err := NewDataPlane(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg := e.cfg
	cfg.Endpoint = "https://greengrass-ats.iot.eu-west-1.amazonaws.com:8443"
	if _, err := NewDataPlane(cfg); !errors.Is(err, ErrUnpublishedPath) {
		t.Errorf("AWS with guessed paths: %v", err)
	}
}

func TestProbeTellsWhetherTheCloudIsThere(t *testing.T) {
	html := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>")
	}
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		want    bool
	}{
		"answers":        {answerWith(200, `{}`), true},
		"denies":         {answerWith(404, `{"code":"ResourceNotFoundException"}`), true},
		"throttles":      {answerWith(429, `{}`), true},
		"captive portal": {html, false},
		"redirects":      {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/", http.StatusFound) }, false},
		"hangs up":       {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEndpoint(t, test.handler, nil)
			if _, err := e.client(t).Probe(t.Context()); (err == nil) != test.want {
				t.Errorf("probe: %v, want reached %v", err, test.want)
			}
		})
	}
}
