package cloudsync

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Bounds and defaults of the data plane's client.
const (
	defaultPort    = "8443" // the nucleus' greengrassDataPlanePort (cloud spec 0)
	defaultTimeout = 2 * time.Second
)

// DataPlaneConfig says how the core reaches the Greengrass data plane.
type DataPlaneConfig struct {
	// Endpoint is the base URL. Without scheme it is https, without port 8443; nothing
	// but https is accepted.
	Endpoint string
	// Identity is the core's certificate with its key. Required.
	Identity tls.Certificate
	// Roots are the authorities that may vouch for the endpoint. Required: the system's
	// are not used, so that adding one to the machine does not add one here.
	Roots *x509.CertPool
	// ServerName is the name the endpoint's certificate must carry and the SNI that is
	// sent. Default: the endpoint's host. AWS demands that the two are the same.
	ServerName string
	// Routes overrides where operations live, one by one. Required for those that are used
	// against AWS's own hosts, which publish none (ErrUnpublishedPath).
	Routes Routes
	// Timeout bounds one question, from dialling to the last byte. Default 2 s: a device
	// is waiting, and Greengrass falls back to stored trust after it.
	Timeout time.Duration
	// ConnectTimeout bounds dialling, and then the TLS handshake. Default: Timeout alone.
	ConnectTimeout time.Duration
	// Proxy is the HTTP proxy to go through; nil is none. The environment's is not used.
	Proxy *url.URL
	// Now is the time by which the endpoint's certificate is judged. Required.
	Now func() time.Time
}

// DataPlane asks the cloud about client devices. It is safe for use by many goroutines
// at once. It never retries a question: the caller has stored trust to fall back on
// (client-device-auth spec 5.6).
type DataPlane struct {
	base    *url.URL
	routes  Routes
	timeout time.Duration
	client  *wire.Client
}

// NewDataPlane checks cfg and returns a client. It connects to nothing yet.
func NewDataPlane(cfg DataPlaneConfig) (*DataPlane, error) {
	return newDataPlane(cfg, OpVerifyIdentity, OpVerifyAssociation)
}

// newDataPlane returns a client that may be asked for ops.
func newDataPlane(cfg DataPlaneConfig, ops ...Operation) (*DataPlane, error) {
	base, err := ParseEndpoint(cfg.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("data plane: %w", err)
	}
	routes, err := routesFor(base.Hostname(), cfg.Routes, ops...)
	if err != nil {
		return nil, fmt.Errorf("data plane: %w", err)
	}
	if len(cfg.Identity.Certificate) == 0 || cfg.Identity.PrivateKey == nil {
		return nil, errors.New("data plane: the core's certificate and key are missing: AWS knows the core by them")
	}
	timeout := cfg.Timeout
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	serverName := cfg.ServerName
	if serverName == "" {
		serverName = base.Hostname()
	}
	client, err := wire.NewClient(wire.Config{
		Roots: cfg.Roots, Now: cfg.Now, Timeout: timeout, ConnectTimeout: cfg.ConnectTimeout, Identity: &cfg.Identity,
		ServerName: serverName, Proxy: cfg.Proxy, Protocols: Protocols(),
	})
	if err != nil {
		return nil, fmt.Errorf("data plane: %w", err)
	}
	return &DataPlane{base: base, routes: routes, timeout: timeout, client: client}, nil
}

// Protocols are what a client of the data plane offers by ALPN: the nucleus offers both,
// whatever the port (cloud spec 0).
func Protocols() []string { return []string{"x-amzn-http-ca", "http/1.1"} }

// ParseEndpoint reads a data plane's base URL: without scheme it is https, without port
// 8443, and nothing else is accepted.
func ParseEndpoint(s string) (*url.URL, error) {
	text := s
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("endpoint %.120q: %w", s, err)
	}
	if u.Scheme != "https" {
		return nil, fmt.Errorf("endpoint %.120q: scheme %q, want https", s, u.Scheme)
	}
	if u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/") {
		return nil, fmt.Errorf("endpoint %.120q: want https://HOST or https://HOST:PORT and nothing else", s)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), defaultPort)
	}
	u.Path = ""
	return u, nil
}

// Close drops idle connections. Questions under way end by their own deadline.
func (d *DataPlane) Close() { d.client.Close() }

// Ask puts one question: an identity question if it names no thing, else one about an
// association. It returns within the configured timeout, or when ctx ends.
func (d *DataPlane) Ask(ctx context.Context, q messages.CloudQuestion) messages.CloudAnswer {
	op, body, err := encodeQuestion(q)
	if err != nil {
		return wire.Silent(messages.FailureNotAsked, "not asked: %v", err)
	}
	response, err := d.exchange(ctx, d.routes[op], body)
	if err != nil {
		class, advice := wire.Explain(err, d.base.Host, d.timeout)
		return wire.Silent(class, "%s", advice)
	}
	return parseAnswer(q, response.status, response.header, response.body)
}

// encodeQuestion writes the request's body. The certificate is written anew from its
// DER, so that the cloud judges exactly the bytes whose id is recorded here, whatever
// surrounded them in the text a broker presented.
func encodeQuestion(q messages.CloudQuestion) (Operation, []byte, error) {
	if err := wire.CheckQuestion(q); err != nil {
		return "", nil, err
	}
	if q.Thing != "" {
		body, err := json.Marshal(map[string]string{
			"clientDeviceThingName":     string(q.Thing),
			"clientDeviceCertificateId": string(q.Certificate),
		})
		return OpVerifyAssociation, body, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: q.DER})
	body, err := json.Marshal(map[string]string{"clientDeviceCertificate": string(text)})
	return OpVerifyIdentity, body, err
}

// response is one complete HTTP answer from a server whose certificate was verified.
type response struct {
	status int
	header http.Header
	body   []byte
}

func (d *DataPlane) exchange(ctx context.Context, route Route, body []byte) (*response, error) {
	target := *d.base
	target.Path = route.Path
	request, err := http.NewRequestWithContext(ctx, route.Method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "gatehouse")
	// An empty list is not sent, but tells net/http that a question is harmless to
	// repeat: when the server has closed an idle connection meanwhile, it is put again
	// on a new one. On a new connection nothing is ever sent twice.
	request.Header["Idempotency-Key"] = []string{}
	answer, err := d.client.Do(request)
	if err != nil {
		return nil, err
	}
	read, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	return &response{status: answer.StatusCode, header: answer.Header, body: read}, nil
}

// Probe asks the endpoint for nothing in particular, and returns no error if the service
// answers, whatever it says, and its own time; zero: it did not tell. It implements Verifier.
func (d *DataPlane) Probe(ctx context.Context) (date time.Time, err error) {
	response, err := d.exchange(ctx, Route{Method: http.MethodGet, Path: "/"}, nil)
	if err != nil {
		_, advice := wire.Explain(err, d.base.Host, d.timeout)
		return date, errors.New(advice)
	}
	if !wire.FromService(response.status, response.header) {
		return date, fmt.Errorf("HTTP %d from %s is not the service: check the endpoint, and for a proxy or captive portal", response.status, d.base.Host)
	}
	return wire.Date(response.header), nil
}
