package awsemu_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

const (
	confirmed = messages.CloudConfirmed
	denied    = messages.CloudDenied
	quiet     = messages.CloudSilent
)

func TestAnswersFollowTheRegistry(t *testing.T) {
	w := newWorld(t)
	c := w.client(t, w.core)

	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
	wantVerdicts(t, c, "valve-1", w.pump, confirmed, denied) // another thing's certificate
	wantVerdicts(t, c, "pump-7", w.stranger, denied, denied)
	wantVerdicts(t, c, "no-such-thing", w.pump, confirmed, denied)

	if err := w.registry.Detach("pump-7", w.pump.ID); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, denied)
	if err := w.registry.Attach("pump-7", w.pump.ID); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)

	if err := w.registry.Revoke(w.pump.ID); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, denied, confirmed) // attachment and status are separate facts
	wantVerdicts(t, c, "valve-1", w.valve, confirmed, confirmed)
}

func TestOnlyActiveCertificatesAreConfirmed(t *testing.T) {
	w := newWorld(t)
	c := w.client(t, w.core)
	for status, want := range map[awsemu.Status]messages.CloudVerdict{
		awsemu.StatusActive: confirmed, awsemu.StatusInactive: denied, awsemu.StatusRevoked: denied,
		awsemu.StatusPendingTransfer: denied, awsemu.StatusPendingActivation: denied,
	} {
		if err := w.registry.SetStatus(w.pump.ID, status); err != nil {
			t.Fatal(err)
		}
		wantVerdicts(t, c, "pump-7", w.pump, want, confirmed)
	}
}

// A core whose own certificate is refused learns nothing about its devices
// (cloud spec 1.5: AccessDenied is "cannot tell").
func TestWhoMayAsk(t *testing.T) {
	w := newWorld(t)
	for name, test := range map[string]struct {
		caller *awsemu.Identity
		want   string
	}{
		"a certificate AWS does not know": {w.stranger, "not registered and active"},
		"a client device's certificate":   {w.valve, "AccessDeniedException"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := w.client(t, test.caller).VerifyClientDeviceIdentity(t.Context(), string(w.pump.CertificatePEM))
			if answer.Verdict != quiet || !strings.Contains(answer.Detail, test.want) {
				t.Errorf("got %s (%s), want silent with %q", answer.Verdict, answer.Detail, test.want)
			}
		})
	}

	// The status is looked up at each request, on a connection that is open already.
	c := w.client(t, w.core)
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
	if err := w.registry.SetStatus(w.core.ID, awsemu.StatusInactive); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, quiet, quiet)
}

func TestOfflineIsRefusedAndComesBackAtTheSamePort(t *testing.T) {
	w := newWorld(t)
	c := w.client(t, w.core)
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)

	for range 3 {
		if err := w.emulator.Offline(true); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.emulator.URL(), "https://"))
		if err == nil {
			_ = conn.Close()
			t.Fatal("something listens while offline")
		}
		answer := c.VerifyClientDeviceIdentity(t.Context(), string(w.pump.CertificatePEM))
		if answer.Verdict != quiet || !strings.Contains(answer.Detail, "refused") || !answer.Date.IsZero() {
			t.Fatalf("offline: got %+v, want silence, connection refused, no date", answer)
		}
		if err := w.emulator.Offline(false); err != nil {
			t.Fatal(err)
		}
		wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
	}
}

func TestGoingOfflineCutsRequestsUnderWay(t *testing.T) {
	w := newWorld(t)
	if err := w.emulator.SetFault(awsemu.Fault{Latency: time.Hour}); err != nil {
		t.Fatal(err)
	}
	cfg := w.config(t, w.core)
	cfg.Timeout = time.Minute
	c := client{must[*cloudsync.DataPlane](t)(cloudsync.NewDataPlane(cfg))}
	defer c.Close()
	answers := make(chan messages.CloudAnswer)
	go func() { answers <- c.VerifyClientDeviceIdentity(context.Background(), string(w.pump.CertificatePEM)) }()
	for w.emulator.Calls(cloudsync.OpVerifyIdentity) == 0 {
		time.Sleep(time.Millisecond) // the request is on its way; nothing tells when it arrives
	}
	if err := w.emulator.Offline(true); err != nil {
		t.Fatal(err)
	}
	if answer := <-answers; answer.Verdict != quiet {
		t.Errorf("got %+v, want silence", answer)
	}
}

func TestFaultsAreSilenceAndEnd(t *testing.T) {
	w := newWorld(t)
	c := w.client(t, w.core)
	for name, fault := range map[string]awsemu.Fault{
		"access denied":   {Status: 403, ErrorType: "AccessDeniedException"},
		"throttled":       {Status: 429, ErrorType: "ThrottlingException", RetryAfter: 3 * time.Second},
		"internal":        {Status: 500, ErrorType: "InternalServerException"},
		"unavailable":     {Status: 503, ErrorType: "ServiceUnavailableException"},
		"captive portal":  {Status: 200, Body: "<html>sign in</html>", ContentType: "text/html"},
		"garbage":         {Body: `{"clientDeviceCertificateId":`},
		"redirect":        {Status: 302, Header: map[string]string{"Location": "https://elsewhere.example/"}},
		"dropped":         {Drop: true},
		"truncated":       {Truncate: true},
		"oversized":       {Body: `{"a":"` + strings.Repeat("x", 1<<20) + `"}`},
		"another id":      {Body: `{"clientDeviceCertificateId":"` + strings.Repeat("0", 64) + `"}`},
		"404 of a proxy":  {Status: 404, Body: "not here", ContentType: "text/plain"},
		"404 without why": {Status: 404},
	} {
		t.Run(name, func(t *testing.T) {
			if err := w.emulator.SetFault(fault); err != nil {
				t.Fatal(err)
			}
			wantVerdicts(t, c, "pump-7", w.pump, quiet, quiet)
			if err := w.emulator.SetFault(awsemu.Fault{}); err != nil {
				t.Fatal(err)
			}
			wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
		})
	}

	onlyIdentity := awsemu.Fault{Operation: cloudsync.OpVerifyIdentity, Status: 500, ErrorType: "InternalServerException"}
	if err := w.emulator.SetFault(onlyIdentity); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, quiet, confirmed)

	for _, bad := range []awsemu.Fault{
		{Status: 99}, {Latency: -1}, {RetryAfter: -1}, {ErrorType: "X"}, {Operation: "NoSuch"},
		{Body: strings.Repeat("x", 9<<20)},
	} {
		if err := w.emulator.SetFault(bad); err == nil {
			t.Errorf("fault %+.100v was accepted", bad)
		}
	}
}

// rawPost sends body to path with the core's certificate and returns the whole answer.
func rawPost(t *testing.T, w *world, method, path, body string) (*http.Response, string) {
	t.Helper()
	pair, err := w.core.TLS()
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			Certificates: []tls.Certificate{pair}, RootCAs: w.servers.Pool(), ServerName: awsemu.ServerName, Time: atNoon,
			NextProtos: []string{"x-amzn-http-ca"}, // alone, as the device SDKs offer it
		},
	}}
	request, err := http.NewRequestWithContext(t.Context(), method, w.emulator.URL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(text)
}

func TestMalformedRequestsGetAWSErrors(t *testing.T) {
	w := newWorld(t)
	routes := cloudsync.DefaultRoutes()
	identity, association := routes[cloudsync.OpVerifyIdentity].Path, routes[cloudsync.OpVerifyAssociation].Path
	id := string(w.pump.ID)
	for name, test := range map[string]struct {
		method, path, body string
		status             int
		errorType          string
	}{
		"no JSON":                    {"POST", identity, `nonsense`, 400, "SerializationException"},
		"empty":                      {"POST", identity, ``, 400, "SerializationException"},
		"wrong type":                 {"POST", identity, `{"clientDeviceCertificate":7}`, 400, "SerializationException"},
		"no certificate":             {"POST", identity, `{}`, 400, "ValidationException"},
		"no PEM":                     {"POST", identity, `{"clientDeviceCertificate":"hello"}`, 400, "ValidationException"},
		"PEM of nothing":             {"POST", identity, `{"clientDeviceCertificate":"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}`, 400, "ValidationException"},
		"a key":                      {"POST", identity, `{"clientDeviceCertificate":"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}`, 400, "ValidationException"},
		"too large":                  {"POST", identity, `{"clientDeviceCertificate":"` + strings.Repeat("x", 65<<10) + `"}`, 413, "RequestEntityTooLargeException"},
		"bad thing name":             {"POST", association, `{"clientDeviceThingName":"a b","clientDeviceCertificateId":"` + id + `"}`, 400, "ValidationException"},
		"bad certificate id":         {"POST", association, `{"clientDeviceThingName":"pump-7","clientDeviceCertificateId":"xyz"}`, 400, "ValidationException"},
		"unknown thing":              {"POST", association, `{"clientDeviceThingName":"nobody","clientDeviceCertificateId":"` + id + `"}`, 404, "ResourceNotFoundException"},
		"unknown path":               {"POST", "/greengrass/v2/other", `{}`, 404, "UnknownOperationException"},
		"known path, unclean":        {"POST", "/greengrass//v2/clientDevices/verifyIdentity", `{}`, 404, "UnknownOperationException"},
		"known path, another method": {"GET", identity, ``, 404, "UnknownOperationException"},
	} {
		t.Run(name, func(t *testing.T) {
			answer, body := rawPost(t, w, test.method, test.path, test.body)
			if answer.StatusCode != test.status || answer.Header.Get("X-Amzn-ErrorType") != test.errorType {
				t.Errorf("got %d %s %s, want %d %s", answer.StatusCode, answer.Header.Get("X-Amzn-ErrorType"), body, test.status, test.errorType)
			}
			if !strings.Contains(body, `"message":`) || answer.Header.Get("Content-Type") != "application/json" || answer.Header.Get("x-amzn-RequestId") == "" {
				t.Errorf("answer is not in AWS's form: %v %s", answer.Header, body)
			}
			if got, want := answer.Header.Get("Date"), noon.Format(http.TimeFormat); got != want {
				t.Errorf("Date %q, want the emulated cloud's %q", got, want)
			}
		})
	}
}

func TestHandshakeRefusesOldTLSForeignNamesAndNoCertificate(t *testing.T) {
	w := newWorld(t)
	pair, err := w.core.TLS()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.1":        func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
		"another name":   func(c *tls.Config) { c.ServerName, c.InsecureSkipVerify = "iot.example", true },
		"other protocol": func(c *tls.Config) { c.NextProtos = []string{"h2"} },
		"no certificate": func(c *tls.Config) { c.Certificates, c.MaxVersion = nil, tls.VersionTLS12 }, // 1.3 tells only at the first read
	} {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{
				Certificates: []tls.Certificate{pair}, RootCAs: w.servers.Pool(), ServerName: awsemu.ServerName, Time: atNoon, MinVersion: tls.VersionTLS12,
			}
			change(config)
			conn, err := tls.Dial("tcp", strings.TrimPrefix(w.emulator.URL(), "https://"), config)
			if err == nil {
				_ = conn.Close()
				t.Error("the handshake succeeded")
			}
		})
	}
}

func TestConcurrentUseOfRegistryAndSwitch(t *testing.T) {
	w := newWorld(t)
	c := w.client(t, w.core)
	var group sync.WaitGroup
	group.Go(func() {
		for range 20 {
			if err := errors.Join(w.emulator.Offline(true), w.emulator.Offline(false)); err != nil {
				t.Error(err)
			}
		}
	})
	group.Go(func() {
		for range 200 {
			if err := errors.Join(w.registry.Detach("pump-7", w.pump.ID), w.registry.Attach("pump-7", w.pump.ID)); err != nil {
				t.Error(err)
			}
		}
	})
	for range 4 {
		group.Go(func() {
			for range 25 {
				if got := c.VerifyClientDeviceIdentity(context.Background(), string(w.stranger.CertificatePEM)); got.Verdict == confirmed {
					t.Errorf("a stranger was confirmed: %s", got.Detail)
				}
			}
		})
	}
	group.Wait()
}

func TestStartAndCloseAreStrict(t *testing.T) {
	w := newWorld(t)
	pair := tls.Certificate{Certificate: [][]byte{w.core.DER}}
	for name, cfg := range map[string]awsemu.Config{
		"no certificate": {Registry: w.registry, Now: atNoon},
		"no registry":    {Certificate: pair, Now: atNoon},
		"no clock":       {Certificate: pair, Registry: w.registry},
		"address in use": {Certificate: pair, Registry: w.registry, Now: atNoon, Addr: strings.TrimPrefix(w.emulator.URL(), "https://")},
		"unknown route":  {Certificate: pair, Registry: w.registry, Now: atNoon, Routes: cloudsync.Routes{"Nothing": {}}},
	} {
		if e, err := awsemu.Start(cfg); err == nil {
			e.Close()
			t.Errorf("%s: started", name)
		}
	}
	w.emulator.Close()
	w.emulator.Close() // harmless
	if err := w.emulator.Offline(false); err == nil {
		t.Error("a closed emulator came back")
	}
}

func TestAuthorityRoundTripAndItsCertificates(t *testing.T) {
	w := newWorld(t)
	key, err := w.servers.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	again := must[*awsemu.Authority](t)(awsemu.LoadAuthority(w.servers.PEM(), key))
	server := must[*awsemu.Identity](t)(again.IssueServer([]string{"a.example", "10.0.0.1"}, noon))
	leaf := must[*x509.Certificate](t)(x509.ParseCertificate(server.DER))
	for _, name := range []string{"a.example", "10.0.0.1"} {
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: w.servers.Pool(), DNSName: name, CurrentTime: noon}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: w.servers.Pool(), CurrentTime: noon.Add(366 * 24 * time.Hour)}); err == nil {
		t.Error("a server certificate outlives its year")
	}
	if _, err := awsemu.LoadAuthority(w.core.CertificatePEM, w.core.KeyPEM); err == nil {
		t.Error("a device's certificate was taken for an authority")
	}
	if _, err := awsemu.LoadAuthority(w.devices.PEM(), key); err == nil {
		t.Error("another authority's key was accepted")
	}
	if _, err := again.IssueServer(nil, noon); err == nil {
		t.Error("a server certificate without names was issued")
	}
}
