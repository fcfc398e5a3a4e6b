package awsemu_test

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// fleet associates t-00 to t-(n-1) with the core.
func (w *world) fleet(t *testing.T, n int) (names []string) {
	t.Helper()
	if err := w.registry.Update(func(b *awsemu.Batch) error {
		for i := range n {
			name := messages.ThingName(fmt.Sprintf("t-%02d", i))
			names = append(names, string(name))
			if err := errors.Join(b.AddThing(name), b.Associate("core-1", noon, name)); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

func (w *world) setFaults(t *testing.T, faults ...awsemu.Fault) {
	t.Helper()
	if err := w.emulator.SetFaults(fault.Script{Faults: faults}); err != nil {
		t.Fatal(err)
	}
}

// walk lists the core's devices in pages of four, at most ten of them, and tells whether
// the listing ended and which tokens came.
func (w *world) walk(t *testing.T) (things []string, tokens []string, ended bool) {
	t.Helper()
	query := "?maxResults=4"
	for range 10 {
		var got struct {
			Devices []struct{ ThingName string } `json:"associatedClientDevices"`
			Next    string                       `json:"nextToken"`
		}
		answer := w.api(t, roleKeys(w.emulator), "GET", devicesPath+"associatedClientDevices"+query, "")
		if err := json.Unmarshal([]byte(answer.text), &got); err != nil || answer.status != 200 {
			t.Fatalf("%d %s: %v", answer.status, answer.text, err)
		}
		for _, d := range got.Devices {
			things = append(things, d.ThingName)
		}
		if got.Next == "" {
			return things, tokens, true
		}
		tokens = append(tokens, got.Next)
		query = "?maxResults=4&nextToken=" + got.Next
	}
	return things, tokens, false
}

// Each fault of the second of three pages (reliability spec D3c).
func TestFaultsOfPages(t *testing.T) {
	w := newWorld(t)
	all := w.fleet(t, 10)
	second := func(p fault.Page) awsemu.Fault { return awsemu.Fault{Page: p, Skip: 1, Count: 1} }
	for page, want := range map[fault.Page][]string{
		fault.PageEnd:       all[:8],
		fault.PageNothing:   all[:4],
		fault.PageEmpty:     all,
		fault.PageMissing:   slices.Concat(all[:4], all[8:]),
		fault.PageFewer:     slices.Concat(all[:6], all[8:]),
		fault.PageDuplicate: slices.Concat(all[:4], []string{all[4], all[4], all[5], all[5], all[6], all[6], all[7], all[7]}, all[8:]),
		fault.PageRepeat:    slices.Concat(all[:8], all[4:8], all[8:]),
		fault.PageLoop:      slices.Concat(all[:8], all),
	} {
		w.setFaults(t, second(page))
		things, tokens, ended := w.walk(t)
		if !slices.Equal(things, want) || !ended {
			t.Errorf("%s: got %v (ended %v), want %v", page, things, ended, want)
		}
		if repeats := len(tokens) > 1 && tokens[0] == tokens[1]; repeats != (page == fault.PageRepeat) {
			t.Errorf("%s: tokens %v", page, tokens)
		}
	}
	for _, page := range []fault.Page{fault.PageEmpty, fault.PageRepeat, fault.PageLoop} { // without end
		w.setFaults(t, awsemu.Fault{Page: page})
		if things, tokens, ended := w.walk(t); ended || len(tokens) != 10 {
			t.Errorf("%s for ever: ended with %v", page, things)
		}
	}
	w.setFaults(t)
	if things, _, ended := w.walk(t); !ended || !slices.Equal(things, all) {
		t.Errorf("after all that: %v", things)
	}
}

// Each status can be had of each operation, as the error it is to be.
func TestEveryStatusOfEveryOperation(t *testing.T) {
	w := newWorld(t)
	var named []cloudsync.Operation
	for _, target := range awsemu.Targets() {
		named = append(named, target.Op)
	}
	slices.Sort(named)
	if got := slices.Sorted(slices.Values(fault.Operations(fault.ControlPlane))); !slices.Equal(got, named) {
		t.Errorf("a fault can name %v, there are %v", got, named)
	}
	errorTypes := map[int]string{
		400: "ValidationException", 401: "UnauthorizedException", 403: "AccessDeniedException", 404: "ResourceNotFoundException", 409: "ConflictException",
		429: "ThrottlingException", 500: "InternalServerException", 502: "", 503: "ServiceUnavailableException",
	}
	for _, target := range awsemu.Targets() {
		op, path := target.Op, strings.ReplaceAll(target.Path, "*", "pump-7")
		body := cmp.Or(target.Form, "{}")
		if got := w.api(t, w.admin(), target.Method, path, body); got.error() == "UnknownOperationException" || w.emulator.Calls(op) != 1 {
			t.Fatalf("%s: %d %s, %d calls", op, got.status, got.text, w.emulator.Calls(op))
		}
		for status, name := range errorTypes {
			w.setFaults(t, awsemu.Fault{Operation: op, Status: status, ErrorType: name, RetryAfter: 3 * time.Second})
			got := w.api(t, w.admin(), target.Method, path, body)
			if got.status != status || got.header.Get("X-Amzn-ErrorType") != name || got.header.Get("Retry-After") != "3" {
				t.Errorf("%s: %d %s %v, want %d %s", op, got.status, got.error(), got.header, status, name)
			}
		}
		w.setFaults(t)
	}
	w.setFaults(t, awsemu.Fault{Operation: awsemu.OpListThings, Status: 500})
	if got := w.api(t, w.admin(), "GET", "/endpoint?endpointType=iot:Data-ATS", ""); got.status != 200 {
		t.Errorf("a fault of another operation: %d", got.status)
	}
}

// rawGet lists the devices without any of a client's help, not even unpacking.
func (w *world) rawGet(ctx context.Context, t *testing.T) (*http.Response, []byte, error) {
	t.Helper()
	r := w.signed(t, w.admin(), "GET", devicesPath+"associatedClientDevices", "").WithContext(ctx)
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableCompression: true, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: w.servers.Pool(), Time: atNoon}},
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	return answer, body, err
}

func gunzip(t *testing.T, packed []byte) []byte {
	t.Helper()
	r := must[*gzip.Reader](t)(gzip.NewReader(bytes.NewReader(packed)))
	return must[[]byte](t)(io.ReadAll(r))
}

func TestFaultsOfAnswers(t *testing.T) {
	w := newWorld(t)
	truth := []byte(`{"associatedClientDevices":[]}`)
	for name, c := range map[string]struct {
		fault awsemu.Fault
		check func(answer *http.Response, body []byte, err error) bool
	}{
		"truth": {awsemu.Fault{Skip: 1, Drop: true}, func(a *http.Response, body []byte, err error) bool { return err == nil && bytes.Equal(body, truth) }},
		"garbage": {awsemu.Fault{Mangle: fault.MangleGarbage}, func(a *http.Response, body []byte, err error) bool {
			return err == nil && a.StatusCode == 200 && a.Header.Get("Content-Type") == "application/json" && !json.Valid(body)
		}},
		"HTML": {awsemu.Fault{Mangle: fault.MangleHTML}, func(a *http.Response, body []byte, err error) bool {
			return err == nil && a.StatusCode == 200 && strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") && bytes.Contains(body, []byte("Sign in"))
		}},
		"gzip": {awsemu.Fault{Mangle: fault.MangleGzip}, func(a *http.Response, body []byte, err error) bool {
			return err == nil && a.Header.Get("Content-Encoding") == "gzip" && bytes.Equal(gunzip(t, body), truth)
		}},
		"not gzip": {awsemu.Fault{Mangle: fault.MangleNotGzip}, func(a *http.Response, body []byte, err error) bool {
			return err == nil && a.Header.Get("Content-Encoding") == "gzip" && bytes.Equal(body, truth)
		}},
		"gzip bomb": {awsemu.Fault{Mangle: fault.MangleGzipBomb}, func(a *http.Response, body []byte, err error) bool {
			return err == nil && len(body) < 1<<20 && len(gunzip(t, body)) == 64<<20+len(truth) && json.Valid(gunzip(t, body))
		}},
		"oversized": {awsemu.Fault{Mangle: fault.MangleOversized}, func(a *http.Response, body []byte, err error) bool {
			return err == nil && len(body) == 2<<20+len(truth) && json.Valid(body)
		}},
		"truncated": {awsemu.Fault{Truncate: true}, func(a *http.Response, body []byte, err error) bool {
			return errors.Is(err, io.ErrUnexpectedEOF) && bytes.Equal(body, truth[:len(truth)/2])
		}},
		"dropped": {awsemu.Fault{Drop: true}, func(a *http.Response, body []byte, err error) bool { return a == nil && err != nil }},
		"redirect": {awsemu.Fault{Status: 302, Header: map[string]string{"Location": "http://elsewhere.example/"}}, func(a *http.Response, body []byte, err error) bool {
			return err == nil && a.StatusCode == 302 && a.Header.Get("Location") == "http://elsewhere.example/"
		}},
		"date": {awsemu.Fault{DateSkew: -time.Hour}, func(a *http.Response, body []byte, err error) bool {
			return err == nil && bytes.Equal(body, truth) && a.Header.Get("Date") == noon.Add(-time.Hour).Format(http.TimeFormat)
		}},
		"a portal's page for what was a refusal": {awsemu.Fault{Body: "<html>", ContentType: "text/html"}, func(a *http.Response, body []byte, err error) bool {
			return err == nil && a.StatusCode == 200 && a.Header.Get("Content-Type") == "text/html"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w.setFaults(t, c.fault)
			if answer, body, err := w.rawGet(t.Context(), t); !c.check(answer, body, err) {
				t.Errorf("got %+v, %.100q, %v", answer, body, err)
			}
		})
	}

	w.setFaults(t, awsemu.Fault{Blackhole: true})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, _, err := w.rawGet(ctx, t)
		ended <- err
	}()
	for w.emulator.Faults()[0].Struck == 0 {
		time.Sleep(time.Millisecond) // the request is on its way; nothing tells when it arrives
	}
	select {
	case err := <-ended:
		t.Errorf("a black hole answered: %v", err)
	default:
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a caller who gave up heard %v", err)
	}
}

// A connection that is open when certificates go bad is not the way around it.
func TestFaultsOfConnections(t *testing.T) {
	w := newWorld(t)
	c := w.client(t, w.core)
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed) // leaves an open connection
	for kind, want := range map[fault.TLS]string{
		fault.TLSExpired: "expired", fault.TLSWrongHost: "doesn't contain any IP SANs", fault.TLSUnknownAuthority: "unknown authority",
		fault.TLSOldVersion: "protocol version", fault.TLSCaptivePortal: "unknown authority",
	} {
		w.setFaults(t, awsemu.Fault{TLS: kind})
		wantVerdicts(t, c, "pump-7", w.pump, quiet, quiet)
		if _, _, err := w.rawGet(t.Context(), t); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", kind, err, want)
		}
		if states := w.emulator.Faults(); states[0].Struck < 3 {
			t.Errorf("%s struck %d times", kind, states[0].Struck)
		}
		w.setFaults(t)
		wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
	}

	w.setFaults(t, awsemu.Fault{TLS: fault.TLSExpired, Operation: fault.ControlPlane})
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
	if _, _, err := w.rawGet(t.Context(), t); err == nil {
		t.Error("the control plane's certificate is not expired")
	}

	// Who believes a portal's certificate gets its page, whatever is asked.
	w.setFaults(t, awsemu.Fault{TLS: fault.TLSCaptivePortal})
	careless := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "any.example"}}}
	for _, url := range []string{w.emulator.URL() + "/x", w.emulator.ControlURL() + "/things"} {
		answer := must[*http.Response](t)(careless.Get(url))
		body := must[[]byte](t)(io.ReadAll(answer.Body))
		_ = answer.Body.Close()
		if answer.StatusCode != 200 || !bytes.Contains(body, []byte("Sign in")) || answer.Header.Get("x-amzn-RequestId") != "" {
			t.Errorf("%s: %d %s", url, answer.StatusCode, body)
		}
	}

	w.setFaults(t, awsemu.Fault{TLS: fault.TLSHang, Count: 1})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := w.rawGet(ctx, t); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a connection that hangs: %v", err)
	}
	if _, _, err := w.rawGet(t.Context(), t); err != nil {
		t.Errorf("the one after it: %v", err)
	}
}

func TestFaultsOfConnectionsNeedTheAuthority(t *testing.T) {
	w := newWorld(t)
	server := must[*awsemu.Identity](t)(w.servers.IssueServer(awsemu.ServerNames(), noon))
	e := must[*awsemu.Emulator](t)(awsemu.Start(awsemu.Config{Certificate: must[tls.Certificate](t)(server.TLS()), Registry: w.registry, Now: atNoon}))
	defer e.Close()
	for kind, possible := range map[fault.TLS]bool{
		fault.TLSExpired: false, fault.TLSWrongHost: false, fault.TLSUnknownAuthority: true, fault.TLSOldVersion: true, fault.TLSCaptivePortal: true, fault.TLSHang: true,
	} {
		if err := e.SetFault(awsemu.Fault{TLS: kind}); (err == nil) != possible {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// A cloud with a clock of its own waits by it, and for ever in a black hole.
func TestWaitingByAnotherClock(t *testing.T) {
	w := newWorld(t)
	server := must[*awsemu.Identity](t)(w.servers.IssueServer(awsemu.ServerNames(), noon))
	waits := make(chan time.Duration, 2)
	e := must[*awsemu.Emulator](t)(awsemu.Start(awsemu.Config{
		Certificate: must[tls.Certificate](t)(server.TLS()), Registry: w.registry, Now: atNoon,
		Wait: func(ctx context.Context, d time.Duration) {
			if waits <- d; d < 0 {
				<-ctx.Done()
			}
		},
	}))
	w.emulator.Close()
	w.emulator = e
	t.Cleanup(e.Close)
	w.setFaults(t, awsemu.Fault{Latency: time.Hour, Count: 1})
	c := w.client(t, w.core)
	question := messages.CloudQuestion{Certificate: w.pump.ID, Thing: "pump-7"}
	if got := c.Ask(t.Context(), question); got.Verdict != messages.CloudConfirmed {
		t.Errorf("after an hour: %+v", got)
	}
	if d := <-waits; d != time.Hour {
		t.Errorf("waited %v, want an hour", d)
	}
	w.setFaults(t, awsemu.Fault{Blackhole: true})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		if d := <-waits; d >= 0 {
			t.Errorf("a black hole waits %v", d)
		}
		cancel()
	}()
	if got := c.Ask(ctx, question); got.Verdict != messages.CloudSilent {
		t.Errorf("a black hole answers: %+v", got)
	}
}
