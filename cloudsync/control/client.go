package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
)

// Config says how control planes are reached.
type Config struct {
	// Identity makes it a client of the data plane: the core's certificate says who asks, and
	// nothing is signed, so that Region and Credentials are not needed. Nil: a control plane.
	Identity *tls.Certificate
	// Region is AWS's name of it, such as eu-central-1. Required: signatures are for one.
	Region string
	// Endpoint is the base URL of an emulator or VPC endpoint. Empty: AWS's own of the
	// region. Nothing but https is accepted.
	Endpoint string
	// Credentials are the role's. Required. They are kept until they expire or are refused.
	Credentials aws.CredentialsProvider
	// Roots are the authorities that may vouch for an endpoint. Required.
	Roots *x509.CertPool
	// ServerName is the name the endpoint's certificate must carry. Default: its host.
	ServerName string
	// Timeout bounds one exchange. Default: the client's own.
	Timeout time.Duration
	// ConnectTimeout bounds dialling, and then the TLS handshake. Default: Timeout alone.
	ConnectTimeout time.Duration
	// Proxy is the HTTP proxy to go through; nil is none. The environment's is not used.
	Proxy *url.URL
	// EmptyAnswers lets a success have no body, as that of an operation which has nothing to
	// say. Who sets it checks what must not be missing.
	EmptyAnswers bool
	// Now is the time by which certificates are judged, and which signatures carry,
	// corrected by the service's last answer. Required.
	Now func() time.Time
}

// Client is an aws.HTTPClient, with what an SDK client needs beside it.
type Client struct {
	Region       string
	BaseEndpoint *string // nil: AWS's own
	Credentials  aws.CredentialsProvider
	Timeout      time.Duration
	wire         *wire.Client
	now          func() time.Time
	ahead        atomic.Int64 // how far the service's clock was ahead, ns
	signer       *v4.Signer
	empty        bool // answers may be
}

var regionPattern = regexp.MustCompile(`^[a-z]{2,8}(-[a-z]{1,12}){1,4}-[0-9]{1,2}$`)

// New checks cfg and returns a client, whose exchanges take at most timeout if cfg does
// not say. It connects to nothing yet. Close it.
func New(cfg Config, timeout time.Duration) (*Client, error) {
	c := &Client{Region: cfg.Region, Credentials: aws.AnonymousCredentials{}, Timeout: cfg.Timeout, now: cfg.Now, signer: v4.NewSigner(), empty: cfg.EmptyAnswers}
	if cfg.Identity == nil {
		if !regionPattern.MatchString(cfg.Region) {
			return nil, fmt.Errorf("region %.40q: want AWS's name of it, such as eu-central-1", cfg.Region)
		}
		if cfg.Credentials == nil {
			return nil, errors.New("credentials are missing: name where the role's come from")
		}
		cache, ok := cfg.Credentials.(*aws.CredentialsCache)
		if !ok {
			cache = aws.NewCredentialsCache(cfg.Credentials)
		}
		c.Credentials = provider{cache}
	}
	if c.Timeout <= 0 {
		c.Timeout = timeout
	}
	if cfg.Endpoint != "" {
		u, err := url.Parse(cfg.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("endpoint %.120q: %w", cfg.Endpoint, err)
		}
		if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || (u.Path != "" && u.Path != "/") {
			return nil, fmt.Errorf("endpoint %.120q: want https://HOST or https://HOST:PORT and nothing else", cfg.Endpoint)
		}
		c.BaseEndpoint = aws.String("https://" + u.Host)
	}
	w := wire.Config{
		Roots: cfg.Roots, Now: cfg.Now, Timeout: c.Timeout, ConnectTimeout: cfg.ConnectTimeout,
		Identity: cfg.Identity, ServerName: cfg.ServerName, Proxy: cfg.Proxy,
	}
	if cfg.Identity != nil {
		w.Protocols = cloudsync.Protocols()
	}
	var err error
	c.wire, err = wire.NewClient(w)
	return c, err
}

// Close drops idle connections.
func (c *Client) Close() { c.wire.Close() }

// provider tells errors of getting credentials from those of using them.
type provider struct{ *aws.CredentialsCache }

func (p provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	credentials, err := p.CredentialsCache.Retrieve(ctx)
	if err != nil {
		return credentials, &credentialsError{err}
	}
	return credentials, nil
}

type credentialsError struct{ error }

func (e *credentialsError) Unwrap() error { return e.error }

// notServiceError says that something answered that is not the service.
type notServiceError struct{ text string }

func (e *notServiceError) Error() string { return e.text }

// RetryableError implements the SDK's question: the same would answer again.
func (e *notServiceError) RetryableError() bool { return false }

func notService(format string, args ...any) error {
	return &notServiceError{fmt.Sprintf(format, args...)}
}

// SignHTTP implements HTTPSignerV4 of SDK clients' options. The SDK's own time is the
// machine's, corrected like this; it cannot be given another.
func (c *Client) SignHTTP(ctx context.Context, credentials aws.Credentials, r *http.Request, payloadHash, service, region string, _ time.Time, options ...func(*v4.SignerOptions)) error {
	return c.signer.SignHTTP(ctx, credentials, r, payloadHash, service, region, c.now().Add(time.Duration(c.ahead.Load())).UTC(), options...)
}

// Do implements aws.HTTPClient.
func (c *Client) Do(request *http.Request) (*http.Response, error) {
	answer, err := c.wire.Do(request)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		c.ahead.Store(int64(date.Sub(c.now())))
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if err := check(answer.StatusCode, answer.Header, body, c.empty); err != nil {
		return nil, err
	}
	answer.Body = io.NopCloser(bytes.NewReader(body))
	return answer, nil
}

// Probe asks url for nothing in particular, unsigned, and returns no error if the service
// answers, whatever it says, and its own time; zero: it did not tell.
func (c *Client) Probe(ctx context.Context, url string) (date time.Time, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return date, err
	}
	answer, err := c.wire.Do(request)
	if err != nil {
		_, advice := wire.Explain(err, request.URL.Host, c.Timeout)
		return date, errors.New(advice)
	}
	if !wire.FromService(answer.StatusCode, answer.Header) {
		return date, fmt.Errorf("HTTP %d from %s is not the service: check the endpoint, and for a proxy or captive portal", answer.StatusCode, request.URL.Host)
	}
	return wire.Date(answer.Header), nil
}
