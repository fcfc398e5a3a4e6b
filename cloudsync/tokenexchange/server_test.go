package tokenexchange

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// real is the machine's time.
type real struct{ start time.Time }

func (r real) Boot() time.Duration { return time.Since(r.start) + time.Hour }

func (real) AfterFunc(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }

// source is a Source of needles.
type source struct {
	mu      sync.Mutex
	n       int
	takes   chan struct{} // nil: at once
	failure *Failure
}

func (s *source) Fetch(ctx context.Context) (Fetched, *Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.takes != nil {
		select {
		case <-s.takes:
		case <-ctx.Done():
			return Fetched{}, &Failure{Message: "given up"}
		}
	}
	s.n++
	return Fetched{Credentials{fmt.Sprint("ASIANEEDLE", s.n), needleSecret, needleSession, time.Date(2026, 11, 21, 13, 0, 0, 0, time.UTC)}, time.Hour}, s.failure
}

func (*source) Close() {}

// site is a server with all around it.
type site struct {
	*Server
	t        *testing.T
	cfg      ServerConfig
	source   *source
	log      bytes.Buffer
	mu       sync.Mutex
	recorded []*messages.CredentialsServed // guarded by mu, as the next
	denied   []string
	failing  error
}

func newSite(t *testing.T, shape func(*ServerConfig, *source)) *site {
	t.Helper()
	dir := t.TempDir()
	s := &site{t: t, source: &source{}}
	clock := real{time.Now()}
	cache, err := NewCache(CacheConfig{Source: s.source, Clock: clock, Chance: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Close)
	exchange := NewExchange(cache, clock, "alias")
	exchange.Record(func(_ context.Context, e *messages.CredentialsServed) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.failing == nil {
			s.recorded = append(s.recorded, e)
		}
		return s.failing
	})
	s.cfg = ServerConfig{
		Listen: "127.0.0.1:0", Exchange: exchange, Consumers: []Consumer{{Name: "app", UID: os.Geteuid()}, {Name: "other", UID: os.Geteuid()}},
		Own: filepath.Join(dir, "tokens"), Shared: filepath.Join(dir, "consumers"), Region: "eu-central-1", Clock: clock,
		Denied: func(consumer, reason string) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.denied = append(s.denied, consumer+": "+reason)
		},
		Log: slog.New(slog.NewTextHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if shape != nil {
		shape(&s.cfg, s.source)
	}
	s.restart()
	t.Cleanup(func() { s.Server.Close() })
	return s
}

func (s *site) restart() {
	s.t.Helper()
	if s.Server != nil {
		s.Server.Close()
	}
	var err error
	if s.Server, err = Serve(s.cfg); err != nil {
		s.t.Fatal(err)
	}
}

// token is what the consumer reads in its file.
func (s *site) token(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.cfg.Shared, name, "token"))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// get asks with a token; more changes the request.
func (s *site) get(token string, more ...func(*http.Request)) (status int, header http.Header, body string) {
	s.t.Helper()
	r, err := http.NewRequest("GET", s.URL(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	for _, f := range more {
		f(r)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	answer, err := client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

// Cloud spec 3.1: what SDKs ask, and what they read.
func TestCredentialsAreServedAsSDKsReadThem(t *testing.T) {
	s := newSite(t, nil)
	status, header, body := s.get(s.token("app"))
	var got map[string]string
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 || header.Get("Content-Type") != "application/json" || header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v %s: %v", status, header, body, err)
	}
	want := map[string]string{"AccessKeyId": "ASIANEEDLE1", "SecretAccessKey": needleSecret, "Token": needleSession, "Expiration": "2026-11-21T13:00:00Z"}
	if len(got) != len(want) || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v", got)
	}
	if s.token("app") == s.token("other") || !isToken(s.token("app")) {
		t.Errorf("tokens %q and %q", s.token("app"), s.token("other"))
	}
	if status, _, _ := s.get(s.token("app"), func(r *http.Request) { r.Host = "localhost:" + s.port }); status != 200 {
		t.Errorf("by its name: %d", status)
	}
	if !strings.HasPrefix(s.URL(), "http://127.0.0.1:") {
		t.Errorf("advertised is %s", s.URL())
	}
}

// Reliability spec 4.7: who is refused, and with what; none gets a secret, all are counted.
func TestWhoIsRefused(t *testing.T) {
	s := newSite(t, nil)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	good := s.token("app")
	for _, c := range []struct {
		name, token string
		change      func(*http.Request)
		status      int
		code        string
	}{
		{"no token", "", nil, 403, "MissingToken"},
		{"two tokens", good, func(r *http.Request) { r.Header.Add("Authorization", good) }, 403, "MissingToken"},
		{"another token", strings.Repeat("x", len(good)), nil, 403, "InvalidToken"},
		{"half a token", good[:20], nil, 403, "InvalidToken"},
		{"a bearer", "Bearer " + good, nil, 403, "InvalidToken"},
		{"magic", "ALLOW_ALL", nil, 403, "InvalidToken"},
		{"a name that leads here", good, func(r *http.Request) { r.Host = "evil.example:" + s.port }, 403, "Forbidden"},
		{"no port", good, func(r *http.Request) { r.Host = "localhost" }, 403, "Forbidden"},
		{"another port", good, func(r *http.Request) { r.Host = "localhost:1" }, 403, "Forbidden"},
		{"a browser", good, header("Origin", "http://localhost"), 403, "Forbidden"},
		{"a proxy", good, header("Via", "1.1 p"), 403, "Forbidden"},
		{"a forwarder", good, header("X-Forwarded-For", "127.0.0.1"), 403, "Forbidden"},
		{"POST", good, func(r *http.Request) { r.Method = "POST" }, 405, "MethodNotAllowed"},
		{"OPTIONS", good, func(r *http.Request) { r.Method = "OPTIONS" }, 405, "MethodNotAllowed"},
		{"another path", good, func(r *http.Request) { r.URL.Path = "/" }, 400, "BadRequest"},
		{"without the slash", good, func(r *http.Request) { r.URL.Path = strings.TrimSuffix(Path, "/") }, 400, "BadRequest"},
		{"a path to clean", good, func(r *http.Request) { r.URL.Path = "/x/.." + Path }, 400, "BadRequest"},
		{"a query", good, func(r *http.Request) { r.URL.RawQuery = "a=b" }, 400, "BadRequest"},
		{"a body", good, func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader("x")), 1
		}, 400, "BadRequest"},
		{"long headers", good, header("X-Long", strings.Repeat("x", headerBytesMax)), 431, "HeadersTooLarge"},
	} {
		status, header, body := s.get(c.token, func(r *http.Request) {
			if c.change != nil {
				c.change(r)
			}
		})
		var said errorBody
		if err := json.Unmarshal([]byte(body), &said); err != nil || status != c.status || said.Code != c.code || said.Message == "" || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s, want %d %s: %v", c.name, status, body, c.status, c.code, err)
		}
		if strings.Contains(body, "needle") || strings.Contains(body, "NEEDLE") || header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s: got %v %s", c.name, header, body)
		}
	}
	counts := s.Refusals()
	if counts["token"] != 6 || counts["origin"] != 6 || counts["request"] != 8 || len(s.denied) != 20 || len(s.recorded) != 0 {
		t.Errorf("counted %v; %d denials, %d records", counts, len(s.denied), len(s.recorded))
	}
}

// Another user who has got the token is refused, and known by name.
func TestAnotherUserIsRefused(t *testing.T) {
	var uid atomic.Int64
	var unknown atomic.Bool
	uid.Store(4711)
	s := newSite(t, func(c *ServerConfig, _ *source) {
		c.Consumers[1].AnyUser = true
		c.peerUser = func(client, server netip.AddrPort) (int, error) {
			if !client.Addr().IsLoopback() || !server.Addr().IsLoopback() || client.Port() == server.Port() {
				t.Errorf("%v asks %v", client, server)
			}
			if unknown.Load() {
				return 0, errNoPeer
			}
			return int(uid.Load()), nil
		}
	})
	if status, _, body := s.get(s.token("app")); status != 403 || !strings.Contains(body, "user 4711") {
		t.Errorf("another user: %d %s", status, body)
	}
	if status, _, _ := s.get(s.token("other")); status != 200 {
		t.Errorf("another user, whom this consumer may have: %d", status)
	}
	uid.Store(int64(os.Geteuid()))
	if status, _, _ := s.get(s.token("app")); status != 200 {
		t.Errorf("its user: %d", status)
	}
	unknown.Store(true)
	if status, _, body := s.get(s.token("app")); status != 403 || !strings.Contains(body, "nobody can tell") {
		t.Errorf("nobody knows whose it is: %d %s", status, body)
	}
	if s.Refusals()["user"] != 2 || len(s.denied) != 2 || !strings.HasPrefix(s.denied[0], "app: ") {
		t.Errorf("counted %v, %v", s.Refusals(), s.denied)
	}
}

func TestItListensOnLoopbackAlone(t *testing.T) {
	s := newSite(t, nil)
	if host, _, _ := net.SplitHostPort(s.listener.Addr().String()); host != "127.0.0.1" {
		t.Errorf("listens at %s", s.listener.Addr())
	}
	if conn, err := net.Dial("tcp", "[::1]:"+s.port); err == nil {
		conn.Close()
		t.Error("::1 is open")
	}
	for _, listen := range []string{"0.0.0.0:0", ":0", "localhost:0", "127.0.0.2:0", "[::1]:0", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ""} {
		if CheckListen(listen) == nil {
			t.Errorf("%q is let pass", listen)
		}
	}
}

// Reliability spec 4.7: 10 requests a second of one token; of wrong ones together.
func TestTheRateIsBounded(t *testing.T) {
	s := newSite(t, nil)
	s.cfg.Clock = frozen{}
	s.restart()
	for name, token := range map[string]string{"app": s.token("app"), "nobody": "x"} {
		seen := map[int]int{}
		for range 15 {
			status, header, _ := s.get(token)
			seen[status]++
			if status == 429 && header.Get("Retry-After") == "" {
				t.Error("429 without Retry-After")
			}
		}
		if seen[429] != 5 {
			t.Errorf("%s: %v", name, seen)
		}
	}
	if status, _, _ := s.get(s.token("other")); status != 200 {
		t.Errorf("another consumer: %d", status)
	}
}

// frozen is time that stands.
type frozen struct{}

func (frozen) Boot() time.Duration                         { return time.Hour }
func (frozen) AfterFunc(time.Duration, func()) func() bool { return func() bool { return true } }

// One user's connections leave room for another's; who says nothing is hung up on.
func TestConnectionsAreBounded(t *testing.T) {
	users := make(chan int, 1000)
	s := newSite(t, func(c *ServerConfig, _ *source) {
		c.Consumers[0].AnyUser = true
		c.peerUser = func(netip.AddrPort, netip.AddrPort) (int, error) { return <-users, nil }
	})
	var conns []net.Conn
	dial := func(user int) net.Conn {
		users <- user
		conn, err := net.Dial("tcp4", "127.0.0.1:"+s.port)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
		return conn
	}
	for range connsPerUser {
		dial(1)
	}
	if _, err := dial(1).Read(make([]byte, 1)); err == nil {
		t.Error("one more of the same user is answered")
	}
	users <- 2
	if status, _, _ := s.get(s.token("app")); status != 200 {
		t.Errorf("another user: %d", status)
	}
	silent := conns[0]
	_ = silent.SetReadDeadline(time.Now().Add(10 * time.Second))
	if text, err := io.ReadAll(silent); err != nil || strings.Contains(string(text), "200") {
		t.Errorf("who says nothing for %v gets %q, %v", readTimeout, text, err)
	}
	for _, conn := range conns {
		conn.Close()
	}
}

// A cold cache and a slow cloud: who waits is answered, also beyond the time to read a request.
func TestWhoWaitsForASlowCloudIsAnswered(t *testing.T) {
	s := newSite(t, func(_ *ServerConfig, source *source) { source.takes = make(chan struct{}) })
	conn, err := net.Dial("tcp4", "127.0.0.1:"+s.port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost:%s\r\nAuthorization: %s\r\n\r\n", Path, s.port, s.token("app"))
	time.AfterFunc(readTimeout+500*time.Millisecond, func() { close(s.source.takes) })
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != 200 {
		t.Errorf("got %v, %v", answer, err)
	}
}

// What the cloud says reaches the program in a form that SDKs show.
func TestTheCloudsNoIsShown(t *testing.T) {
	s := newSite(t, func(_ *ServerConfig, source *source) {
		source.failure = &Failure{Status: 403, Code: "AccessDeniedException", Message: "Invalid thing name passed"}
	})
	if status, header, body := s.get(s.token("app")); status != 403 || header.Get("Content-Type") != "application/json" ||
		body != `{"code":"AccessDeniedException","message":"Invalid thing name passed"}` {
		t.Errorf("got %d %s", status, body)
	}
	if len(s.recorded) != 0 {
		t.Errorf("on record: %v", s.recorded)
	}
}
