package connectivity

import (
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

	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
	"github.com/gatehouse-edge/gatehouse/cloudsync/shadow"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ shadow.Source = (*Client)(nil)

func configOf(t testing.TB, c *awsemutest.Cloud) cloudsync.DataPlaneConfig {
	t.Helper()
	identity, err := c.Identity.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return cloudsync.DataPlaneConfig{Endpoint: c.URL(), ServerName: awsemu.ServerName, Identity: identity, Roots: c.Servers.Pool(), Now: cloudsynctest.AtNoon, Timeout: 5 * time.Second}
}

func newClient(t testing.TB, cfg cloudsync.DataPlaneConfig) *Client {
	t.Helper()
	c, err := New(cfg, awsemutest.Core)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestAddresses(t *testing.T) {
	cloud := awsemutest.Start(t, 1, cloudsynctest.AtNoon)
	c := newClient(t, configOf(t, cloud))
	if hosts, known, err := c.Addresses(t.Context()); hosts != nil || known || err != nil {
		t.Errorf("never told: %v, %v, %v", hosts, known, err)
	}
	for _, want := range [][]string{{"172.8.8.10", "localhost"}, {}, {"core.local"}} {
		var told []awsemu.Connectivity
		for _, host := range want {
			told = append(told, awsemu.Connectivity{Host: host, Port: 8883}, awsemu.Connectivity{Host: host, Port: 443}, awsemu.Connectivity{})
		}
		if _, err := cloud.Registry.SetConnectivity(awsemutest.Core, cloudsynctest.Noon, told...); err != nil {
			t.Fatal(err)
		}
		if hosts, known, err := c.Addresses(t.Context()); !slices.Equal(hosts, want) || hosts == nil || !known || err != nil {
			t.Errorf("told %v: %v, %v, %v", want, hosts, known, err)
		}
	}
}

// How many addresses there are, and how long, is no reason to know none of them: the keeper
// takes what it can.
func TestAddressesWithoutLimitOfTheirOwn(t *testing.T) {
	told := make([]string, 3000)
	for i := range told {
		told[i] = fmt.Sprintf("h%d.%s", i/2, strings.Repeat("x", 100)) // each twice
	}
	told = append(told, strings.Repeat("y", 5000))
	type address struct{ HostAddress string }
	var list []address
	for _, host := range told {
		list = append(list, address{host})
	}
	body, err := json.Marshal(map[string]any{"ConnectivityInfo": list})
	if err != nil {
		t.Fatal(err)
	}
	server, authority := cloudsynctest.Serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}, nil)
	c := newClient(t, cloudsync.DataPlaneConfig{
		Endpoint: server.URL, ServerName: cloudsynctest.ServerName, Identity: authority.Issue(t, "core-1", cloudsynctest.Noon), Roots: authority.Pool(), Now: cloudsynctest.AtNoon, Timeout: 30 * time.Second,
	})
	if hosts, known, err := c.Addresses(t.Context()); err != nil || !known || !slices.Equal(hosts, slices.Compact(told)) {
		t.Errorf("%d addresses, %v, %v", len(hosts), known, err)
	}
}

// Only the service's own words say that there are no addresses on record; all else is no
// answer, of the class that it is of (cloud spec 1.5).
func TestFaults(t *testing.T) {
	cloud := awsemutest.Start(t, 1, cloudsynctest.AtNoon)
	if _, err := cloud.Registry.SetConnectivity(awsemutest.Core, cloudsynctest.Noon, awsemu.Connectivity{Host: "10.0.0.1"}); err != nil {
		t.Fatal(err)
	}
	cfg := configOf(t, cloud)
	cfg.Timeout = 30 * time.Second // a bomb takes its time to make
	c := newClient(t, cfg)
	cfg.Timeout = 300 * time.Millisecond
	impatient := newClient(t, cfg)
	for _, test := range []struct {
		fault awsemu.Fault
		class messages.CloudFailure // FailureNone: none on record
	}{
		{awsemu.Fault{Status: 400, ErrorType: "ValidationException"}, messages.FailureNone},
		{awsemu.Fault{Status: 404, ErrorType: "ResourceNotFoundException"}, messages.FailureNone},
		{awsemu.Fault{Status: 403, ErrorType: "ResourceNotFoundException"}, messages.FailureRefused},
		{awsemu.Fault{Status: 404}, messages.FailureNotService},
		{awsemu.Fault{Status: 403, ErrorType: "AccessDeniedException"}, messages.FailureRefused},
		{awsemu.Fault{Status: 429, ErrorType: "ThrottlingException", RetryAfter: 7 * time.Second}, messages.FailureThrottled},
		{awsemu.Fault{Status: 500, ErrorType: "InternalServerException"}, messages.FailureServer},
		{awsemu.Fault{Drop: true}, messages.FailureUnreachable},
		{awsemu.Fault{Blackhole: true}, messages.FailureUnreachable},
		{awsemu.Fault{Truncate: true}, messages.FailureNotService},
		{awsemu.Fault{Mangle: fault.MangleGarbage}, messages.FailureNotService},
		{awsemu.Fault{Mangle: fault.MangleHTML}, messages.FailureNotService},
		{awsemu.Fault{Mangle: fault.MangleGzipBomb}, messages.FailureNotService},
		{awsemu.Fault{Mangle: fault.MangleOversized}, messages.FailureNotService},
		{awsemu.Fault{Status: 302, Header: map[string]string{"Location": "https://elsewhere.example/"}}, messages.FailureNotService},
		{awsemu.Fault{TLS: fault.TLSExpired, Operation: fault.DataPlane}, messages.FailureUnreachable},
	} {
		f := test.fault
		if f.Operation == "" {
			f.Operation = awsemu.OpGetConnectivityInfo
		}
		if err := cloud.SetFault(f); err != nil {
			t.Fatal(err)
		}
		who := c
		if f.Blackhole {
			who = impatient
		}
		hosts, known, err := who.Addresses(t.Context())
		failed, ok := errors.AsType[*Error](err)
		switch {
		case hosts != nil || known, test.class == messages.FailureNone && err != nil:
			t.Errorf("%+v: %v, %v, %v", f, hosts, known, err)
		case test.class != messages.FailureNone && (!ok || failed.Class != test.class || failed.RetryAfter() != f.RetryAfter || failed.Error() == ""):
			t.Errorf("%+v: %v (%+v), want class %d", f, err, failed, test.class)
		}
	}
	if err := cloud.SetFault(awsemu.Fault{}); err != nil {
		t.Fatal(err)
	}
	if hosts, known, err := c.Addresses(t.Context()); err != nil || !known || len(hosts) != 1 {
		t.Errorf("after all that: %v, %v, %v", hosts, known, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Addresses(ctx); err == nil {
		t.Error("answered though nobody waits")
	}
}

func TestConfigIsChecked(t *testing.T) {
	cloud := awsemutest.Start(t, 1, cloudsynctest.AtNoon)
	for name, change := range map[string]func(*cloudsync.DataPlaneConfig){
		"no identity": func(c *cloudsync.DataPlaneConfig) { c.Identity = tls.Certificate{} }, "no roots": func(c *cloudsync.DataPlaneConfig) { c.Roots = nil },
		"http": func(c *cloudsync.DataPlaneConfig) { c.Endpoint = "http://a.example" }, "no clock": func(c *cloudsync.DataPlaneConfig) { c.Now = nil },
	} {
		cfg := configOf(t, cloud)
		change(&cfg)
		if c, err := New(cfg, awsemutest.Core); err == nil {
			c.Close()
			t.Errorf("%s: accepted", name)
		}
	}
	if c, err := New(configOf(t, cloud), "a b"); err == nil {
		c.Close()
		t.Error("no thing's name was accepted")
	}
}

// From the operator's change in the cloud to the core's store, by the stock parts alone.
func TestFromTheCloudToTheCore(t *testing.T) {
	cloud := awsemutest.Start(t, 1, cloudsynctest.AtNoon)
	cfg := configOf(t, cloud)
	stored := make(keeper, 10)
	f, err := shadow.New(shadow.Config{
		Core: awsemutest.Core, Endpoint: cloud.MQTTAddr(), ServerName: awsemu.ServerName, Identity: cfg.Identity, Roots: cfg.Roots, Now: cfg.Now,
		Source: newClient(t, cfg), Keeper: stored,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, want := range [][]string{{"10.0.0.1", "core.local"}, {"10.0.0.2"}, {}} {
		var told []awsemu.Connectivity
		for _, host := range want {
			told = append(told, awsemu.Connectivity{Host: host, Port: 8883})
		}
		if _, err := cloud.Registry.SetConnectivity(awsemutest.Core, cloudsynctest.Noon, told...); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-stored:
			if !slices.Equal(got, want) {
				t.Errorf("stored %v, want %v", got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%v did not arrive: %+v", want, f.State())
		}
	}
}

type keeper chan []string

func (k keeper) Hosts(_ context.Context, source string, hosts []string) error {
	if source != shadow.SourceName {
		return errors.New(source)
	}
	k <- hosts
	return nil
}

// FuzzAnswer: whatever a verified server answers, the result is a list of different
// addresses, none on record, or an error.
func FuzzAnswer(f *testing.F) {
	answer := make(chan func(http.ResponseWriter), 1)
	server, authority := cloudsynctest.Serve(f, func(w http.ResponseWriter, _ *http.Request) { (<-answer)(w) }, nil)
	c := newClient(f, cloudsync.DataPlaneConfig{
		Endpoint: server.URL, ServerName: cloudsynctest.ServerName, Identity: authority.Issue(f, "core-1", cloudsynctest.Noon), Roots: authority.Pool(), Now: cloudsynctest.AtNoon, Timeout: 5 * time.Second,
	})
	f.Add(200, "", `{"ConnectivityInfo":[{"Id":"a","HostAddress":"10.0.0.1","PortNumber":8883,"Metadata":""}]}`)
	f.Add(200, "", `{"ConnectivityInfo":[]}`)
	f.Add(200, "", `{"ConnectivityInfo":null,"Message":"x"}`)
	f.Add(404, "ResourceNotFoundException", `{"message":"x"}`)
	f.Add(200, "", `{"ConnectivityInfo":[{"PortNumber":1e99}]}`)
	f.Fuzz(func(t *testing.T, status int, errorType, body string) {
		if status < 200 || status > 599 || strings.ContainsAny(errorType, "\r\n") {
			return
		}
		answer <- func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			if errorType != "" {
				w.Header().Set("X-Amzn-ErrorType", errorType)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
		hosts, known, err := c.Addresses(t.Context())
		select {
		case <-answer: // the server was not reached
		default:
		}
		if err != nil && (hosts != nil || known) || known && (status < 200 || status > 299) || known != (hosts != nil) {
			t.Errorf("%d %q %q: %v, %v, %v", status, errorType, body, hosts, known, err)
		}
		for i, host := range hosts {
			if host == "" || slices.Contains(hosts[:i], host) {
				t.Errorf("%q: %q", body, host)
			}
		}
	})
}
