package tokenexchange

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// defaultTimeout bounds one question to the provider. No caller of a warm cache waits for it.
const defaultTimeout = 10 * time.Second

// ProviderConfig says how the core reaches the IoT credentials provider.
type ProviderConfig struct {
	// Endpoint is the account's, of type iot:CredentialProvider: host or host:port; 443 if no
	// port is given. Required.
	Endpoint string
	// RoleAlias names the role. Required.
	RoleAlias string
	// Thing is the core's own name, which must be attached to its certificate. Required.
	Thing messages.ThingName
	// Identity is the core's certificate with its key. Required.
	Identity tls.Certificate
	// Roots are the authorities that may vouch for the endpoint. Required.
	Roots *x509.CertPool
	// ServerName is the name the endpoint's certificate must carry, and the SNI that is sent.
	// Default: the endpoint's host.
	ServerName string
	// Timeout bounds one question. Default 10 s.
	Timeout time.Duration
	// ConnectTimeout bounds dialling, and then the TLS handshake. Default: Timeout alone.
	ConnectTimeout time.Duration
	// Proxy is the HTTP proxy to go through; nil is none. The environment's is not used.
	Proxy *url.URL
	// Now is the time by which the endpoint's certificate is judged. Required.
	Now func() time.Time
}

// Provider asks the IoT credentials provider. Safe for use by many goroutines at once.
type Provider struct {
	url     string
	host    string
	alias   string
	thing   messages.ThingName
	timeout time.Duration
	client  *wire.Client
	now     func() time.Time
}

// aliasPattern is what a role alias may be called (cloud spec 2).
var aliasPattern = regexp.MustCompile(`^[A-Za-z0-9_=,@-]{1,128}$`)

// CheckRoleAlias returns why name cannot be a role alias.
func CheckRoleAlias(name string) error {
	if !aliasPattern.MatchString(name) {
		return fmt.Errorf("role alias %.140q: want 1 to 128 of A-Z a-z 0-9 _ = , @ -", name)
	}
	return nil
}

// NewProvider checks cfg and returns a client. It connects to nothing yet. Close it.
func NewProvider(cfg ProviderConfig) (*Provider, error) {
	if err := CheckRoleAlias(cfg.RoleAlias); err != nil {
		return nil, err
	}
	if _, err := messages.ParseThingName(string(cfg.Thing)); err != nil {
		return nil, fmt.Errorf("the core's thing name: %w", err)
	}
	if len(cfg.Identity.Certificate) == 0 || cfg.Identity.PrivateKey == nil {
		return nil, errors.New("the core's certificate and key are missing: AWS knows the core by them")
	}
	target, err := url.Parse("https://" + strings.TrimPrefix(cfg.Endpoint, "https://"))
	if err != nil || target.Hostname() == "" || target.User != nil || target.RawQuery != "" || target.Fragment != "" || target.Path != "" {
		return nil, fmt.Errorf("credentials endpoint %.120q: want HOST or HOST:PORT and nothing else", cfg.Endpoint)
	}
	p := &Provider{host: target.Host, alias: cfg.RoleAlias, thing: cfg.Thing, timeout: cfg.Timeout, now: cfg.Now}
	p.url = target.JoinPath("role-aliases", url.PathEscape(cfg.RoleAlias), "credentials").String()
	if p.timeout <= 0 {
		p.timeout = defaultTimeout
	}
	serverName := cfg.ServerName
	if serverName == "" {
		serverName = target.Hostname()
	}
	p.client, err = wire.NewClient(wire.Config{
		Roots: cfg.Roots, Now: cfg.Now, Timeout: p.timeout, ConnectTimeout: cfg.ConnectTimeout, Identity: &cfg.Identity,
		ServerName: serverName, Proxy: cfg.Proxy,
	})
	if err != nil {
		return nil, fmt.Errorf("credentials provider: %w", err)
	}
	return p, nil
}

// RoleAlias is what credentials are asked for.
func (p *Provider) RoleAlias() string { return p.alias }

// Host is where they are asked for.
func (p *Provider) Host() string { return p.host }

// Close drops idle connections. Questions under way end by their own deadline.
func (p *Provider) Close() { p.client.Close() }

// Fetch implements Source.
func (p *Provider) Fetch(ctx context.Context) (Fetched, *Failure) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return Fetched{}, unavailable(0, "not asked: %v", err)
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "gatehouse")
	request.Header["x-amzn-iot-thingname"] = []string{string(p.thing)} // as AWS spells it
	answer, err := p.client.Do(request)
	if err != nil {
		_, advice := wire.Explain(err, p.host, p.timeout)
		return Fetched{}, unavailable(0, "%s", advice)
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return Fetched{}, unavailable(0, "the answer of %s broke off", p.host)
	}
	got, failure := parseAnswer(answer.StatusCode, answer.Header, body, p.now)
	if failure != nil && failure.Status == http.StatusOK {
		failure.Message = wire.Detail("%s is not the credentials provider, or not as it is known: %s", p.host, failure.Message)
	}
	return got, failure
}
