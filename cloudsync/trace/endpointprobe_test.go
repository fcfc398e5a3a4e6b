package trace

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
)

// The live question carries the thing's name, and of the answer nothing secret is kept.
func TestTheCredentialsEndpointIsAsked(t *testing.T) {
	const secret = "wJalrXUtnFEMI"
	var path, thing string
	server, ca := cloudsynctest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		path, thing = r.URL.Path, r.Header.Get("x-amzn-iot-thingname")
		w.Header().Set("Content-Type", "application/json")
		if r.TLS == nil || strings.Contains(path, "refused") {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"Access Denied"}`)
			return
		}
		_, _ = io.WriteString(w, `{"credentials":{"accessKeyId":"ASIA","secretAccessKey":"`+secret+`","sessionToken":"`+secret+`","expiration":"2026-01-18T09:18:06Z"}}`)
	}, nil)
	identity := ca.Issue(t, "core-1", cloudsynctest.Noon)
	e, err := NewEndpoint(EndpointConfig{
		Endpoint: strings.TrimPrefix(server.URL, "https://"), Identity: &identity, Roots: ca.Pool(), ServerName: cloudsynctest.ServerName, Now: cloudsynctest.AtNoon,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	a := e.Probe(t.Context(), "Alias", "core-1")
	if a.Status != 200 || a.Failed != "" || a.Expires.IsZero() || path != "/role-aliases/Alias/credentials" || thing != "core-1" {
		t.Errorf("%+v of %s by %s", a, path, thing)
	}
	if a := e.Probe(t.Context(), "refused", ""); a.Status != 403 || a.Message != "Access Denied" || thing != "" {
		t.Errorf("%+v", a)
	}
	server.Close()
	if a := e.Probe(t.Context(), "Alias", ""); !strings.Contains(a.Failed, "refused") {
		t.Errorf("closed: %+v", a)
	}
	for _, bad := range []string{"http://x", "x/y", "", "a b", "https://u@x"} {
		if _, err := NewEndpoint(EndpointConfig{Endpoint: bad, Identity: &identity, Roots: ca.Pool(), Now: cloudsynctest.AtNoon}); err == nil {
			t.Errorf("%q is an endpoint", bad)
		}
	}
}

// FuzzReadProbe: only what the provider can have said gives a status without a failure, and
// nothing of the body but a line of its message is kept.
func FuzzReadProbe(f *testing.F) {
	f.Add(200, []byte(`{"credentials":{"expiration":"2026-01-18T09:18:06Z","secretAccessKey":"s"}}`))
	f.Add(403, []byte(`{"message":"Access Denied"}`))
	f.Add(200, []byte(`{}`))
	f.Add(200, []byte(`<html>`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		a := readProbe(status, http.Header{"Content-Type": {"application/json"}}, body)
		if a.Status == 200 && a.Failed == "" && a.Expires.IsZero() || len(a.Message) > 256 || strings.ContainsAny(a.Message, "\n\x1b") {
			t.Errorf("%+v", a)
		}
	})
}

// A date has whole seconds, and was written between question and answer.
func TestSkew(t *testing.T) {
	at := func(ms int) time.Time { return cloudsynctest.Noon.Add(time.Duration(ms) * time.Millisecond) }
	for _, test := range []struct {
		asked, answered, date int
		want                  time.Duration
	}{
		{300, 400, 0, 0}, {900, 1100, 1000, 0}, {900, 1100, 0, 0}, {300, 400, 60000, 59600 * time.Millisecond}, {60300, 60400, 0, -time.Minute},
	} {
		if got := SkewOf(at(test.asked), at(test.answered), at(test.date)); got != test.want {
			t.Errorf("%+v: %v", test, got)
		}
	}
}

// The cloud's time is read whatever this machine's clock says, but of the right server alone.
func TestTheCloudsTimeIsRead(t *testing.T) {
	server, ca := cloudsynctest.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Date", cloudsynctest.Noon.UTC().Format(http.TimeFormat))
	}, nil)
	for _, test := range []struct {
		behind time.Duration
		blind  bool
	}{{0, false}, {10 * time.Minute, false}, {-10 * time.Minute, false}, {50 * 365 * 24 * time.Hour, true}, {-5 * time.Hour, true}} {
		cfg := ClockConfig{URL: server.URL, Roots: ca.Pool(), ServerName: cloudsynctest.ServerName, Now: func() time.Time { return cloudsynctest.Noon.Add(-test.behind) }}
		got, err := ReadClock(t.Context(), cfg)
		if err != nil || got.Blind != test.blind || got.Ahead != test.behind {
			t.Errorf("%v behind: %+v, %v", test.behind, got, err)
		}
		cfg.ServerName = "other.example"
		if _, err := ReadClock(t.Context(), cfg); err == nil {
			t.Errorf("%v behind: another server's time was taken", test.behind)
		}
		cfg.ServerName, cfg.Roots = cloudsynctest.ServerName, cloudsynctest.NewAuthority(t).Pool()
		if _, err := ReadClock(t.Context(), cfg); err == nil {
			t.Errorf("%v behind: a stranger's time was taken", test.behind)
		}
	}
}
