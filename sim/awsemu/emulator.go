package awsemu

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// ServerName is the emulated endpoint's name: what clients send as SNI and find in its
// certificate. It resolves nowhere; dial the address and give this name.
const ServerName = "greengrass-ats.iot.gatehouse.internal"

// ServerNames are the names to issue the emulator's server certificate for.
func ServerNames() []string { return []string{ServerName, "localhost", "127.0.0.1", "::1"} }

// Config shapes an Emulator.
type Config struct {
	// Addr is where it listens. Default 127.0.0.1 with a free port.
	Addr string
	// Certificate is the server's, issued for ServerNames. Required.
	Certificate tls.Certificate
	// Registry is what it knows. Required.
	Registry *Registry
	// Now is the emulated cloud's time: the Date header. Required.
	Now func() time.Time
	// Routes overrides where operations live, as in cloudsync.
	Routes cloudsync.Routes
	// Log hears of failed handshakes and the like. Default: nobody.
	Log *slog.Logger
}

// Emulator is a running emulated cloud. It is safe for use by many goroutines at once.
type Emulator struct {
	cfg      Config
	tls      *tls.Config
	registry *Registry
	routes   cloudsync.Routes
	addr     string // the actual one, kept while offline
	fault    atomic.Pointer[Fault]

	mu     sync.Mutex
	front  *front // nil while offline; guarded by mu
	closed bool   // guarded by mu

	countMu sync.Mutex
	counts  map[cloudsync.Operation]int // guarded by countMu
}

// Start listens and serves. Close it.
func Start(cfg Config) (*Emulator, error) {
	switch {
	case len(cfg.Certificate.Certificate) == 0:
		return nil, errors.New("start emulated cloud: no server certificate")
	case cfg.Registry == nil || cfg.Now == nil:
		return nil, errors.New("start emulated cloud: need a registry and a clock")
	}
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Emulator{
		cfg:      cfg,
		tls:      serverTLS(cfg.Certificate, ServerNames(), cfg.Now),
		registry: cfg.Registry,
		routes:   cloudsync.DefaultRoutes(),
		counts:   map[cloudsync.Operation]int{},
	}
	for op, route := range cfg.Routes {
		if _, ok := e.routes[op]; !ok {
			return nil, fmt.Errorf("start emulated cloud: no operation %q", op)
		}
		e.routes[op] = route
	}
	listener, err := net.Listen("tcp", cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("start emulated cloud: %w", err)
	}
	e.addr = listener.Addr().String()
	e.front = e.open(listener)
	return e, nil
}

func (e *Emulator) open(listener net.Listener) *front {
	return startFront(listener, e.tls, http.HandlerFunc(e.serveDataPlane), e.cfg.Log)
}

// URL returns the data plane's base URL. Clients name ServerName beside it.
func (e *Emulator) URL() string { return "https://" + e.addr }

// Offline takes the cloud away or brings it back. Away means away: nothing listens, every
// connection is cut, and requests under way get no answer. It comes back at the same
// address. It returns when that is so.
func (e *Emulator) Offline(away bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errors.New("emulated cloud: closed")
	}
	if away == (e.front == nil) {
		return nil
	}
	if away {
		e.front.close()
		e.front = nil
		return nil
	}
	listener, err := net.Listen("tcp", e.addr)
	if err != nil {
		return fmt.Errorf("bring emulated cloud back: %w: another program took its port; stop that, or restart", err)
	}
	e.front = e.open(listener)
	return nil
}

// Online says whether the cloud can be reached.
func (e *Emulator) Online() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.front != nil
}

// SetFault makes the cloud misbehave from the next request on; the zero Fault ends it.
func (e *Emulator) SetFault(f Fault) error {
	if err := f.check(); err != nil {
		return err
	}
	e.fault.Store(&f)
	return nil
}

// Fault returns the fault in force.
func (e *Emulator) Fault() Fault {
	if f := e.fault.Load(); f != nil {
		return *f
	}
	return Fault{}
}

func (e *Emulator) count(op cloudsync.Operation) {
	e.countMu.Lock()
	defer e.countMu.Unlock()
	e.counts[op]++
}

// Calls returns how many requests for op have come from registered certificates; the
// empty operation counts those for none.
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
	if e.front != nil {
		e.front.close()
		e.front = nil
	}
}
