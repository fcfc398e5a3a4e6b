package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// plane asks the emulated control planes for nothing in particular, unsigned, without any
// of a client's help; the truth is a refusal in JSON.
type plane struct {
	d      *dev
	url    string
	client *http.Client
}

func newPlane(d *dev) *plane {
	d.t.Helper()
	env, err := os.ReadFile(filepath.Join(d.dir, "aws.env"))
	if err != nil {
		d.t.Fatal(err)
	}
	found := regexp.MustCompile(`AWS_ENDPOINT_URL='([^']+)'`).FindSubmatch(env)
	authority, err := os.ReadFile(filepath.Join(d.dir, "cloud", "authority.pem"))
	roots := x509.NewCertPool()
	if found == nil || err != nil || !roots.AppendCertsFromPEM(authority) {
		d.t.Fatalf("no endpoint or authority: %v\n%s", err, env)
	}
	return &plane{d, string(found[1]), &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}},
	}}
}

type reply struct {
	status int
	header http.Header
	body   string
}

func (p *plane) get(ctx context.Context) (reply, error) {
	p.d.t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		p.d.t.Fatal(err)
	}
	answer, err := p.client.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return reply{answer.StatusCode, answer.Header, string(body)}, err
}

// inForce is the one fault that `fault show` shows.
func (d *dev) inForce() fault.State {
	d.t.Helper()
	all := answer[[]fault.State](d, "sim", "cloud", "fault", "show")
	if len(all) != 1 {
		d.t.Fatalf("in force: %+v", all)
	}
	return all[0]
}

// hangs says whether a request is left without an answer until its caller gives up.
func (p *plane) hangs() bool {
	p.d.t.Helper()
	ctx, cancel := context.WithCancel(p.d.t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := p.get(ctx)
		ended <- err
	}()
	for end := time.Now().Add(10 * time.Second); p.d.inForce().Struck == 0 && time.Now().Before(end); {
	}
	cancel()
	return errors.Is(<-ended, context.Canceled) && p.d.inForce().Struck == 1
}

// answered makes a check of one answer that comes whole.
func answered(check func(reply) bool) func(*plane) bool {
	return func(p *plane) bool {
		r, err := p.get(p.d.t.Context())
		return err == nil && check(r)
	}
}

// failed makes a check of a request that fails with an error that holds text.
func failed(text string) func(*plane) bool {
	return func(p *plane) bool {
		_, err := p.get(p.d.t.Context())
		return err != nil && strings.Contains(err.Error(), text)
	}
}

// TestFaultFlags: each flag of `sim cloud fault` puts in force what it says, `fault show`
// shows it, and it bites.
func TestFaultFlags(t *testing.T) {
	d := startDev(t, "")
	p := newPlane(d)
	truth, err := p.get(t.Context())
	if err != nil || truth.status != http.StatusForbidden || truth.header.Get("X-Amzn-ErrorType") == "" {
		t.Fatalf("without a fault: %+v, %v", truth, err)
	}
	statuses := func(want ...int) func(*plane) bool {
		return func(p *plane) bool {
			for _, status := range want {
				if r, err := p.get(t.Context()); err != nil || r.status != status {
					return false
				}
			}
			return true
		}
	}
	all := fault.Fault{Operation: fault.ControlPlane}
	with := func(change func(*fault.Fault)) fault.Fault {
		f := all
		change(&f)
		return f
	}
	tried := map[string]bool{"file": true, "page": true, "seed": true} // elsewhere
	for _, test := range []struct {
		flags string
		want  fault.Fault
		bites func(*plane) bool
	}{
		{"--status 503 --error ServiceUnavailable --retry-after 7s", with(func(f *fault.Fault) {
			f.Status, f.ErrorType, f.RetryAfter = 503, "ServiceUnavailable", 7*time.Second
		}), answered(func(r reply) bool {
			return r.status == 503 && r.header.Get("X-Amzn-ErrorType") == "ServiceUnavailable" && r.header.Get("Retry-After") == "7"
		})},
		{"--status 503 --skip 1 --count 1", with(func(f *fault.Fault) { f.Status, f.Skip, f.Count = 503, 1, 1 }), statuses(403, 503, 403)},
		{"--status 503 --every 2", with(func(f *fault.Fault) { f.Status, f.Every = 503, 2 }), statuses(403, 503, 403, 503)},
		{"--status 503 --probability 1", with(func(f *fault.Fault) { f.Status, f.Probability = 503, 1 }), statuses(503, 503)},
		{"--body <p>hello</p> --content-type text/html", with(func(f *fault.Fault) { f.Body, f.ContentType = "<p>hello</p>", "text/html" }), answered(func(r reply) bool {
			return r.status == 200 && r.body == "<p>hello</p>" && r.header.Get("Content-Type") == "text/html"
		})},
		{"--redirect http://portal.example/", with(func(f *fault.Fault) {
			f.Status, f.Header = 302, map[string]string{"Location": "http://portal.example/"}
		}), answered(func(r reply) bool { return r.status == 302 && r.header.Get("Location") == "http://portal.example/" })},
		{"--redirect http://portal.example/ --status 307", with(func(f *fault.Fault) {
			f.Status, f.Header = 307, map[string]string{"Location": "http://portal.example/"}
		}), statuses(307)},
		{"--latency 50ms", with(func(f *fault.Fault) { f.Latency = 50 * time.Millisecond }), func(p *plane) bool {
			before := time.Now()
			r, err := p.get(t.Context())
			return err == nil && r.status == 403 && time.Since(before) >= 50*time.Millisecond
		}},
		{"--date-skew -48h", with(func(f *fault.Fault) { f.DateSkew = -48 * time.Hour }), answered(func(r reply) bool {
			date, err := http.ParseTime(r.header.Get("Date"))
			return err == nil && r.status == 403 && time.Since(date) > 47*time.Hour && time.Since(date) < 49*time.Hour
		})},
		{"--drop", with(func(f *fault.Fault) { f.Drop = true }), failed("EOF")},
		{"--truncate", with(func(f *fault.Fault) { f.Truncate = true }), failed("unexpected EOF")},
		{"--blackhole", with(func(f *fault.Fault) { f.Blackhole = true }), (*plane).hangs},
		{"--mangle garbage", with(func(f *fault.Fault) { f.Mangle = fault.MangleGarbage }), answered(func(r reply) bool { return strings.Contains(r.body, "not JSON") })},
		{"--mangle html", with(func(f *fault.Fault) { f.Mangle = fault.MangleHTML }), answered(func(r reply) bool { return r.status == 200 && strings.Contains(r.body, "Sign in") })},
		{"--mangle gzip", with(func(f *fault.Fault) { f.Mangle = fault.MangleGzip }), answered(func(r reply) bool { return strings.HasPrefix(r.body, "\x1f\x8b") })},
		{"--mangle not-gzip", with(func(f *fault.Fault) { f.Mangle = fault.MangleNotGzip }), answered(func(r reply) bool {
			return r.header.Get("Content-Encoding") == "gzip" && r.body == truth.body
		})},
		{"--mangle gzip-bomb", with(func(f *fault.Fault) { f.Mangle = fault.MangleGzipBomb }), answered(func(r reply) bool {
			return r.header.Get("Content-Encoding") == "gzip" && len(r.body) > 16<<10
		})},
		{"--mangle oversized", with(func(f *fault.Fault) { f.Mangle = fault.MangleOversized }), answered(func(r reply) bool { return len(r.body) == 2<<20+len(truth.body) })},
		{"--tls expired", with(func(f *fault.Fault) { f.TLS = fault.TLSExpired }), failed("expired")},
		{"--tls wrong-host", with(func(f *fault.Fault) { f.TLS = fault.TLSWrongHost }), failed("doesn't contain any IP SANs")},
		{"--tls unknown-authority", with(func(f *fault.Fault) { f.TLS = fault.TLSUnknownAuthority }), failed("unknown authority")},
		{"--tls old-version", with(func(f *fault.Fault) { f.TLS = fault.TLSOldVersion }), failed("protocol version")},
		{"--tls captive-portal", with(func(f *fault.Fault) { f.TLS = fault.TLSCaptivePortal }), failed("unknown authority")},
		{"--tls hang", with(func(f *fault.Fault) { f.TLS = fault.TLSHang }), (*plane).hangs},
	} {
		flags := append(strings.Fields(test.flags), "--operation", "control-plane")
		for _, flag := range flags {
			if name, isFlag := strings.CutPrefix(flag, "--"); isFlag {
				tried[name] = true
			}
		}
		d.must("the cloud misbehaves", append([]string{"sim", "cloud", "fault"}, flags...)...)
		if got := d.inForce(); !reflect.DeepEqual(got.Fault, test.want) || got.Tried != 0 {
			t.Errorf("%s: in force is %+v", test.flags, got)
		}
		if !test.bites(p) || d.inForce().Struck == 0 {
			t.Errorf("%s: it does not bite, or %+v", test.flags, d.inForce())
		}
	}
	d.must("the cloud behaves", "sim", "cloud", "fault")
	if !statuses(403)(p) {
		t.Error("a fault that was ended goes on")
	}
	new(app).cloudFault().LocalNonPersistentFlags().VisitAll(func(flag *pflag.Flag) {
		if !tried[flag.Name] {
			t.Errorf("--%s is not tried", flag.Name)
		}
	})
}

// TestFaultsByChance: the same seed strikes the same requests.
func TestFaultsByChance(t *testing.T) {
	d := startDev(t, "")
	p := newPlane(d)
	strikes := func(seed string) (struck string) {
		d.must("misbehaves", "sim", "cloud", "fault", "--operation", "control-plane", "--status", "503", "--probability", "0.5", "--seed", seed)
		for range 24 {
			r, err := p.get(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			struck += map[bool]string{true: "x", false: "."}[r.status == 503]
		}
		return struck
	}
	once := strikes("7")
	if again, other := strikes("7"), strikes("8"); again != once || other == once || !strings.Contains(once, "x.") {
		t.Errorf("seed 7 strikes %s, then %s; seed 8 %s", once, again, other)
	}
}

// TestFaultsOfPages: each does to the core's listing what it says.
func TestFaultsOfPages(t *testing.T) {
	d := startDev(t, "")
	const list = "ListClientDevicesAssociatedWithCoreDevice"
	for _, test := range []struct {
		page, want string
		listed     uint64
	}{
		{"end", "completed", 3}, // all there is
		{"nothing", "completed", 0},
		{"empty", "bring nothing new and promise more", 0},
		{"missing", "completed", 0},
		{"fewer", "completed", 1},
		{"duplicate", "completed", 3},
		{"repeat", "goes round in circles", 0},
		{"loop", "bring nothing new and promise more", 0},
	} {
		d.must("misbehaves", "sim", "cloud", "fault", "--operation", list, "--page", test.page)
		if got := d.inForce(); !reflect.DeepEqual(got.Fault, fault.Fault{Operation: list, Page: fault.Page(test.page)}) {
			t.Errorf("%s: in force is %+v", test.page, got)
		}
		if l := refreshed(d, test.want).Last; l.Listed != test.listed || d.inForce().Struck == 0 {
			t.Errorf("%s: struck %d times, and the refresh did %+v", test.page, d.inForce().Struck, l)
		}
	}
}
