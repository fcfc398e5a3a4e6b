package awsemu

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// ServerName is the emulated endpoint's name: what clients send as SNI and find in its
// certificate. It resolves nowhere; dial the address and give this name.
const ServerName = "greengrass-ats.iot.gatehouse.internal"

// ServerNames are the names to issue the emulator's server certificate for.
func ServerNames() []string {
	return []string{ServerName, AccountServerName, "localhost", "127.0.0.1", "::1"}
}

// Config shapes an Emulator.
type Config struct {
	// Addr is where the data plane listens, ControlAddr where the control planes do,
	// CredentialAddr where the credentials provider does, and MQTTAddr where nothing but MQTT is spoken, as at AWS's port 8883; with ALPN MQTT is
	// spoken at Addr, too. Default 127.0.0.1 with a free port.
	Addr, ControlAddr, CredentialAddr, MQTTAddr string
	// PlainControl answers plain HTTP, too, at the control planes' port, for tools that
	// cannot be given a certificate authority. Only on a loopback address.
	PlainControl bool
	// Names are by what clients may name the server in their handshake, beside ServerNames.
	Names []string
	// Certificate is the server's, issued for ServerNames and Names. Required.
	Certificate tls.Certificate
	// Authority is who signed Certificate. Without it two faults of connections cannot be
	// had: an expired certificate, and one of another host.
	Authority *Authority
	// Admin are the access keys that may do everything. Default: fresh ones; see
	// AdminCredentials.
	Admin Credentials
	// Registry is what it knows. Required.
	Registry *Registry
	// Now is the emulated cloud's time: the Date header, and when signatures and
	// credentials expire. Required.
	Now func() time.Time
	// Wait lets d of the emulated cloud's time pass, or ctx end; a negative d has no end.
	// Default: the machine's time.
	Wait func(ctx context.Context, d time.Duration)
	// Routes overrides where the data plane's operations live, as in cloudsync.
	Routes cloudsync.Routes
	// AuthoritiesKept is how many of a core's authorities discovery shows once newer ones
	// were put: default 2, so that an old and a new one overlap. What AWS does is not known
	// (cloud spec 6).
	AuthoritiesKept int
	// DisconnectUnauthorized has who subscribes to what it may not disconnected, as AWS was
	// seen to do with MQTT 3.1.1; else the filter is refused in the SUBACK (cloud spec 5).
	DisconnectUnauthorized bool
	// ConnackUnauthorized answers a CONNECT that is refused with CONNACK 5, in MQTT 5 0x87,
	// for whoever looks for the cause; AWS hangs up (cloud spec 4.4).
	ConnackUnauthorized bool
	// PolicyDelay is how long changes of policies take to count; AWS takes 6 to 8 minutes
	// (cloud spec 4.6). Default: none. See SetPolicyDelay.
	PolicyDelay time.Duration
	// QuotasLifted has the account do without those of AWS's quotas that depend on it, such
	// as 10 policies of a certificate; see Registry.LiftQuotas.
	QuotasLifted bool
	// RequestsPerSecond is how often, at once and on the average, each operation of IoT's
	// and Greengrass's control planes is answered; beyond that it is throttled. Default: always.
	RequestsPerSecond int
	// Log hears of failed handshakes and the like. Default: nobody.
	Log *slog.Logger
}

// Emulator is a running emulated cloud. It is safe for use by many goroutines at once.
type Emulator struct {
	cfg        Config
	registry   *Registry
	dataRoutes []route
	account    *account
	role       Credentials // of the core's role
	tokenKey   []byte      // of page tokens
	faults     atomic.Pointer[faults]
	lag        policyLag
	amazon     func() (*Authority, error) // signs the certificates that are made here
	throttle   throttle

	mqtt *iotEndpoint

	mu                  sync.Mutex // guards the planes' fronts
	data, control, port *plane     // port is MQTTAddr's
	credentials         *plane
	closed              bool // guarded by mu

	countMu sync.Mutex
	counts  map[cloudsync.Operation]int // guarded by countMu
}

// plane is one address of the cloud.
type plane struct {
	addr  string // the actual one, kept while offline
	shape frontConfig
	front *front // nil while offline
}

func (p *plane) listen() error {
	listener, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	if actual := listener.Addr().String(); p.addr != actual { // at the first time alone: it is read without a lock
		p.addr = actual
	}
	p.front = startFront(listener, p.shape)
	return nil
}

// renew has each connection end before its next request.
func (p *plane) renew() {
	if p.front != nil {
		p.front.renew()
	}
}

func (p *plane) close() {
	if p.front != nil {
		p.front.close()
		p.front = nil
	}
}

// Start listens and serves. Close it.
func Start(cfg Config) (*Emulator, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("start emulated cloud: %w", err)
	}
	routes := cloudsync.DefaultRoutes()
	for op, route := range cfg.Routes {
		if _, ok := routes[op]; !ok {
			return nil, fmt.Errorf("start emulated cloud: no operation %q", op)
		}
		routes[op] = route
	}
	e := &Emulator{
		cfg:        cfg,
		registry:   cfg.Registry,
		dataRoutes: newDataRoutes(routes),
		account:    newAccount(),
		role:       newCredentials("ASIA"),
		tokenKey:   random(32),
		counts:     map[cloudsync.Operation]int{},
	}
	e.throttle = throttle{rate: cfg.RequestsPerSecond, buckets: map[cloudsync.Operation]bucket{}}
	if cfg.QuotasLifted {
		cfg.Registry.LiftQuotas()
	}
	e.amazon = sync.OnceValues(func() (*Authority, error) { return NewAuthority("Gatehouse AWS emulator: IoT", cfg.Now()) })
	e.SetPolicyDelay(cfg.PolicyDelay)
	e.role.SessionToken = base64.StdEncoding.EncodeToString(random(180))
	if err := e.addIdentities(); err != nil {
		return nil, fmt.Errorf("start emulated cloud: %w", err)
	}
	shape := frontConfig{tls: serverTLS(cfg.Certificate, slices.Concat(ServerNames(), cfg.Names), cfg.Now), log: cfg.Log}
	e.data = &plane{addr: cfg.Addr, shape: shape}
	e.data.shape.handler = http.HandlerFunc(e.serveDataPlane)
	e.control = &plane{addr: cfg.ControlAddr, shape: shape}
	e.control.shape.handler = http.HandlerFunc(e.serveControlPlane)
	e.control.shape.tls = controlTLS(shape.tls)
	e.control.shape.plain = cfg.PlainControl
	e.credentials = &plane{addr: cfg.CredentialAddr, shape: shape}
	e.credentials.shape.handler = http.HandlerFunc(e.serveCredentials)
	e.credentials.shape.tls = credentialsTLS(shape.tls)
	e.credentials.shape.greet = func() greeting { return e.greet(fault.Credentials) }
	e.data.shape.greet = func() greeting { return e.greet(fault.DataPlane) }
	e.control.shape.greet = func() greeting { return e.greet(fault.ControlPlane) }
	var err error
	if e.mqtt, err = newIoTEndpoint(e); err != nil {
		return nil, fmt.Errorf("start emulated cloud: %w", err)
	}
	e.data.shape.mqtt = e.mqtt.serve
	e.port = &plane{addr: cfg.MQTTAddr, shape: frontConfig{tls: mqttTLS(shape.tls), log: cfg.Log, mqtt: e.mqtt.serve, greet: func() greeting { return e.greet(fault.MQTT) }}}
	if err := e.listen(); err != nil {
		e.mqtt.close()
		return nil, fmt.Errorf("start emulated cloud: %w", err)
	}
	return e, nil
}

// addIdentities makes the identities that are there from the start.
func (e *Emulator) addIdentities() error {
	admin, err := user(e.cfg.Admin, Administrator)
	if err != nil {
		return err
	}
	e.account.add(admin, false)
	core, err := TokenExchangeRole.read()
	if err != nil {
		return err
	}
	may := core.permissions
	if known := e.registry.role(core.name); known != nil {
		core, may = known, func() []*iampolicy.Document { return e.registry.permissions(known.name, known.id) }
	}
	e.account.add(session(e.role, core, "gatehouse", may), false)
	return nil
}

// planes are the addresses of the cloud.
func (e *Emulator) planes() []*plane { return []*plane{e.data, e.control, e.credentials, e.port} }

// complete fills in defaults and refuses what cannot work.
func (cfg *Config) complete() error {
	switch {
	case len(cfg.Certificate.Certificate) == 0:
		return errors.New("no server certificate")
	case cfg.Registry == nil || cfg.Now == nil:
		return errors.New("need a registry and a clock")
	}
	for _, addr := range []*string{&cfg.Addr, &cfg.ControlAddr, &cfg.CredentialAddr, &cfg.MQTTAddr} {
		if *addr == "" {
			*addr = "127.0.0.1:0"
		}
	}
	if host, _, err := net.SplitHostPort(cfg.ControlAddr); cfg.PlainControl && (err != nil || !net.ParseIP(host).IsLoopback()) {
		return fmt.Errorf("control address %q: plain HTTP is for a loopback IP address alone", cfg.ControlAddr)
	}
	if cfg.Admin == (Credentials{}) {
		cfg.Admin = newCredentials("AKIA")
	}
	if cfg.Wait == nil {
		cfg.Wait = wait
	}
	if cfg.AuthoritiesKept <= 0 {
		cfg.AuthoritiesKept = 2
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return cfg.Admin.check()
}

// listen opens all planes, or none. The caller holds mu, or is alone.
func (e *Emulator) listen() error {
	e.mqtt.setOnline()
	for _, p := range e.planes() {
		if err := p.listen(); err != nil {
			e.hangUp()
			return err
		}
	}
	return nil
}

func (e *Emulator) hangUp() {
	e.mqtt.setOffline()
	for _, p := range e.planes() {
		p.close()
	}
}

// reach is where clients find p: where it listens, or, if that is every address of the
// machine, by a name that its certificate has.
func (e *Emulator) reach(p *plane) string {
	host, port, err := net.SplitHostPort(p.addr)
	if err != nil || !net.ParseIP(host).IsUnspecified() {
		return p.addr
	}
	name := "localhost"
	if len(e.cfg.Names) > 0 {
		name = e.cfg.Names[0]
	}
	return net.JoinHostPort(name, port)
}

// URL returns the data plane's base URL. Clients name ServerName beside it.
func (e *Emulator) URL() string { return "https://" + e.reach(e.data) }

// ControlURL returns the base URL of the control planes of Greengrass and IoT, which
// clients sign for with Region.
func (e *Emulator) ControlURL() string { return "https://" + e.reach(e.control) }

// PlainControlURL is ControlURL without TLS; empty unless Config.PlainControl is set.
func (e *Emulator) PlainControlURL() string {
	if !e.cfg.PlainControl {
		return ""
	}
	return "http://" + e.reach(e.control)
}

// CredentialURL returns the base URL of the credentials provider.
func (e *Emulator) CredentialURL() string { return "https://" + e.reach(e.credentials) }

// MQTTAddr returns the address where nothing but MQTT is spoken, over TLS with a client
// certificate.
func (e *Emulator) MQTTAddr() string { return e.reach(e.port) }

// AdminCredentials returns the access keys that may do everything.
func (e *Emulator) AdminCredentials() Credentials { return e.cfg.Admin }

// Credentials returns the keys of the core's role, which do not expire: the account's
// TokenExchangeRole, or what that is from the outset in an account which began without it.
func (e *Emulator) Credentials() (accessKey, secret, session string) {
	return e.role.AccessKeyID, e.role.SecretAccessKey, e.role.SessionToken
}

// IssueCredentials makes temporary keys that may do what role allows, for ttl of the
// emulated cloud's time, at most 12 hours.
func (e *Emulator) IssueCredentials(role Role, ttl time.Duration) (Credentials, error) {
	return e.account.issue(role, ttl, e.now())
}

// Offline takes the cloud away or brings it back. Away means away: nothing listens, every
// connection is cut, and requests under way get no answer. It comes back at the same
// address. It returns when that is so.
func (e *Emulator) Offline(away bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("emulated cloud: closed")
	}
	if away == (e.data.front == nil) {
		return nil
	}
	if away {
		e.hangUp()
		return nil
	}
	if err := e.listen(); err != nil {
		return fmt.Errorf("bring emulated cloud back: %w: another program took its port; stop that, or restart", err)
	}
	return nil
}

// Online says whether the cloud can be reached.
func (e *Emulator) Online() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.data.front != nil
}

func (e *Emulator) count(op cloudsync.Operation) {
	e.countMu.Lock()
	defer e.countMu.Unlock()
	e.counts[op]++
}

// Calls returns how many requests for op have come, to the data plane from registered
// certificates; the empty operation counts those for none.
func (e *Emulator) Calls(op cloudsync.Operation) int {
	e.countMu.Lock()
	defer e.countMu.Unlock()
	return e.counts[op]
}

// Close stops serving and returns when the last request has ended.
func (e *Emulator) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	e.hangUp()
	e.mqtt.close()
}
