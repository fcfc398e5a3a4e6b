package trace

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

const probeTimeout = 10 * time.Second

// EndpointConfig says how the credentials endpoint is reached.
type EndpointConfig struct {
	Endpoint   string           // host, host:port or https URL
	Identity   *tls.Certificate // the core's. Required
	Roots      *x509.CertPool   // Required
	ServerName string           // default: the endpoint's host
	Now        func() time.Time // Required
	Timeout    time.Duration    // of one question; default 10 s
}

// Endpoint is a Prober that asks the real one. Close it.
type Endpoint struct {
	base    string
	host    string
	timeout time.Duration
	client  *wire.Client
	now     func() time.Time
}

// NewEndpoint checks cfg. It connects to nothing yet.
func NewEndpoint(cfg EndpointConfig) (*Endpoint, error) {
	text := cfg.Endpoint
	if !strings.Contains(text, "://") {
		text = "https://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return nil, fmt.Errorf("credentials endpoint %.120q: want HOST or HOST:PORT", cfg.Endpoint)
	}
	if cfg.Identity == nil {
		return nil, errors.New("credentials endpoint: the core's certificate and key are missing")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = probeTimeout
	}
	e := &Endpoint{base: "https://" + u.Host, host: u.Host, timeout: cfg.Timeout, now: cfg.Now}
	e.client, err = wire.NewClient(wire.Config{
		Roots: cfg.Roots, Now: cfg.Now, Timeout: cfg.Timeout, Identity: cfg.Identity, ServerName: cfg.ServerName,
	})
	if err != nil {
		return nil, fmt.Errorf("credentials endpoint: %w", err)
	}
	return e, nil
}

// Close drops idle connections.
func (e *Endpoint) Close() { e.client.Close() }

// Probe implements Prober. The credentials themselves are read past, and kept nowhere.
func (e *Endpoint) Probe(ctx context.Context, alias string, thing messages.ThingName) ProbeAnswer {
	asked := e.now()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, e.base+"/role-aliases/"+url.PathEscape(alias)+"/credentials", nil)
	if err != nil {
		return ProbeAnswer{Asked: asked, Failed: err.Error()}
	}
	if thing != "" {
		request.Header.Set("x-amzn-iot-thingname", string(thing))
	}
	answer, err := e.client.Do(request)
	if err != nil {
		_, advice := wire.Explain(err, e.host, e.timeout)
		return ProbeAnswer{Asked: asked, Failed: advice}
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return ProbeAnswer{Asked: asked, Failed: err.Error()}
	}
	a := readProbe(answer.StatusCode, answer.Header, body)
	a.Asked, a.Answered = asked, e.now()
	return a
}

// readProbe reads an answer of the credentials endpoint (cloud spec 2).
func readProbe(status int, header http.Header, body []byte) ProbeAnswer {
	a := ProbeAnswer{Status: status, Date: wire.Date(header)}
	var said struct {
		Message     string
		Credentials struct{ Expiration time.Time } // and nothing else of it
	}
	if !wire.FromService(status, header) || json.Unmarshal(body, &said) != nil {
		a.Failed = fmt.Sprintf("HTTP %d is no answer of the credentials provider: check the endpoint, and for a proxy or captive portal", status)
		return a
	}
	a.Message, a.Expires = wire.Detail("%s", said.Message), said.Credentials.Expiration
	if status == http.StatusOK && a.Expires.IsZero() {
		a.Failed = "HTTP 200 without credentials: check the endpoint, and for a proxy or captive portal"
	}
	return a
}
