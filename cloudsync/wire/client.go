package wire

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// BodyBytesMax bounds the body of an answer. An honest one is smaller by far: a verdict
// has under 200 bytes, a page of a listing under 32 KiB.
const BodyBytesMax = 1 << 20

const (
	headerBytesMax = 64 << 10
	idleTimeout    = 10 * time.Second
	idleConnsMax   = 16
)

// What Do returns when an answer began and did not end well.
var (
	ErrTooLarge = errors.New("answer larger than 1 MiB")
	ErrHalf     = errors.New("the answer broke off")
)

// Config says how servers are reached and verified.
type Config struct {
	// Roots are the authorities that may vouch for a server. Required: adding one to the
	// machine's does not add one here.
	Roots *x509.CertPool
	// Now is the time by which certificates are judged. Required.
	Now func() time.Time
	// Timeout bounds one exchange, from dialling to the last byte. Required.
	Timeout time.Duration
	// ConnectTimeout bounds dialling, and then the TLS handshake. Default: Timeout alone.
	ConnectTimeout time.Duration
	// Identity is the client certificate that is shown; nil: none.
	Identity *tls.Certificate
	// ServerName is the name a server's certificate must carry, and the SNI that is sent.
	// Default: the host that is dialled.
	ServerName string
	// Protocols is the ALPN list. Default: what net/http offers for HTTP/1.1.
	Protocols []string
	// Proxy is the HTTP proxy to go through; nil is none. The environment's is not used.
	Proxy *url.URL
}

// Client does exchanges over HTTP/1.1 and TLS. It is safe for use by many goroutines at
// once, and never retries.
type Client struct {
	http      *http.Client
	transport *http.Transport
	timeout   time.Duration
}

// NewClient returns a client. It connects to nothing yet.
func NewClient(cfg Config) (*Client, error) {
	switch {
	case cfg.Roots == nil:
		return nil, errors.New("the root certificates are missing: give the file AWS or the emulator published")
	case cfg.Now == nil:
		return nil, errors.New("no clock given")
	case cfg.Timeout <= 0:
		return nil, errors.New("no timeout given")
	}
	if len(cfg.Protocols) == 0 {
		cfg.Protocols = []string{"http/1.1"}
	}
	connect := cfg.Timeout
	if cfg.ConnectTimeout > 0 {
		connect = min(connect, cfg.ConnectTimeout)
	}
	dialer := &net.Dialer{Timeout: connect}
	transport := &http.Transport{
		DialContext: dialer.DialContext,
		TLSClientConfig: &tls.Config{
			RootCAs:    cfg.Roots,
			ServerName: cfg.ServerName,
			MinVersion: tls.VersionTLS12,
			NextProtos: cfg.Protocols,
			Time:       cfg.Now,
		},
		TLSHandshakeTimeout:    connect,
		MaxResponseHeaderBytes: headerBytesMax,
		MaxIdleConnsPerHost:    idleConnsMax,
		IdleConnTimeout:        idleTimeout,
		DisableCompression:     true, // unpacking would let a small answer grow without bound
	}
	if cfg.Identity != nil {
		transport.TLSClientConfig.Certificates = []tls.Certificate{*cfg.Identity}
	}
	if cfg.Proxy != nil {
		transport.Proxy = http.ProxyURL(cfg.Proxy)
	}
	return &Client{transport: transport, timeout: cfg.Timeout, http: &http.Client{
		Transport: transport,
		// A redirect would carry the question, and the proof of who asks, to a host nobody
		// configured.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Do sends request, whose URL must be https, and returns the answer with its whole body
// in memory, whatever its status.
func (c *Client) Do(request *http.Request) (*http.Response, error) {
	if request.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s is not https", request.URL.Redacted())
	}
	ctx, cancel := context.WithTimeout(request.Context(), c.timeout)
	defer cancel()
	answer, err := c.http.Do(request.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	if answer.TLS == nil || len(answer.TLS.VerifiedChains) == 0 {
		return nil, errors.New("the server was not verified") // cannot happen with https; checked all the same
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, BodyBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHalf, err)
	}
	if len(body) > BodyBytesMax {
		return nil, ErrTooLarge
	}
	if err := ctx.Err(); err != nil {
		return nil, err // net/http may still hand out what came while it hung up
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// Close drops idle connections. Exchanges under way end by their own deadline.
func (c *Client) Close() { c.transport.CloseIdleConnections() }
