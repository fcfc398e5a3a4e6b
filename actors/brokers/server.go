package brokers

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// Limits of the embedded server (reliability spec 4.5).
const (
	maxPayload     = authapi.MaxMessageBytes + 4<<10 // a message and its headers
	maxControlLine = 4 << 10
	// What waits for one connection, the daemon's included, before it is cut off: as much as
	// brokers may ask at once. One that does not read at all ends after WriteDeadline.
	maxPending     = 64 << 20
	writeDeadline  = 10 * time.Second // the daemon's own reader may starve on a machine that is too busy
	maxConnections = 512
	maxSubs        = 1024 // of one connection
	startTimeout   = 10 * time.Second
)

// ServerConfig describes the embedded NATS server. Log is required.
type ServerConfig struct {
	// Listen is the TCP address, such as 127.0.0.1:4222; port 0 picks a free one. Empty
	// listens nowhere: only clients in this process can connect (Server is a
	// nats.InProcessConnProvider).
	Listen string
	// TLS is required when Listen is not a loopback address; at least TLS 1.3 is used.
	TLS *tls.Config
	// Name is the server's name in INFO; default gatehouse.
	Name string
	// MaxConnections is how many clients may be connected; default 512.
	MaxConnections int
	// Admit, if set, adds those who may connect before anybody can: NATS clients that are
	// refused twice, while they come back from a restart of the server, never come again.
	Admit func(*Server) error
	Log   *slog.Logger
}

// Server is a NATS server in this process: core NATS only, no JetStream, MQTT,
// websocket, leaf node, route or gateway listener (reliability spec R8), and no user but
// the daemon and those that were added.
type Server struct {
	ns     *server.Server
	users  *userRegistry
	daemon Credentials
	log    *slog.Logger
	wg     sync.WaitGroup
}

// StartServer starts a server and returns when it accepts connections.
func StartServer(cfg ServerConfig) (*Server, error) {
	if cfg.Log == nil {
		return nil, errors.New("nats server: Log is required")
	}
	daemon, err := NewDaemonCredentials()
	if err != nil {
		return nil, fmt.Errorf("nats server: %w", err)
	}
	s := &Server{users: newUserRegistry(), daemon: daemon, log: cfg.Log}
	s.users.add(daemonName, roleDaemon, daemon.Public)
	if cfg.Admit != nil {
		if err := cfg.Admit(s); err != nil {
			return nil, fmt.Errorf("nats server: %w", err)
		}
	}
	opts, err := s.options(cfg)
	if err != nil {
		return nil, fmt.Errorf("nats server: %w", err)
	}
	if s.ns, err = server.NewServer(opts); err != nil {
		return nil, fmt.Errorf("nats server: %w", err)
	}
	bridge := &serverLog{log: cfg.Log}
	s.ns.SetLoggerV2(bridge, false, false, false)
	s.wg.Go(s.ns.Start)
	if err := s.awaitReady(bridge); err != nil {
		s.Close()
		return nil, fmt.Errorf("nats server: %w", err)
	}
	return s, nil
}

// awaitReady waits until the server accepts connections or has given up, which it tells
// its log only.
func (s *Server) awaitReady(bridge *serverLog) error {
	const step = 50 * time.Millisecond
	for range startTimeout / step {
		if s.ns.ReadyForConnections(step) {
			return nil
		}
		if reason := bridge.fatal(); reason != "" {
			return errors.New(reason)
		}
	}
	return fmt.Errorf("not ready after %s", startTimeout)
}

func (s *Server) options(cfg ServerConfig) (*server.Options, error) {
	opts := &server.Options{
		ServerName: cfg.Name, NoSigs: true, NoSystemAccount: true,
		MaxPayload: maxPayload, MaxControlLine: maxControlLine, MaxPending: maxPending,
		MaxConn: cfg.MaxConnections, MaxSubs: maxSubs, WriteDeadline: writeDeadline, AuthTimeout: 2,
		CustomClientAuthentication: s.users, AlwaysEnableNonce: true,
	}
	// A server without trusted keys throws away the JWT that stock clients send instead of
	// their nkey, before Check sees it. This key only prevents that: it signs nothing, and
	// its secret half is forgotten here.
	operator, err := nkeys.CreateOperator()
	if err != nil {
		return nil, fmt.Errorf("make operator key: %w", err)
	}
	defer operator.Wipe()
	trusted, err := operator.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("make operator key: %w", err)
	}
	opts.TrustedKeys = []string{trusted}
	if opts.ServerName == "" {
		opts.ServerName = authapi.ServiceName
	}
	if opts.MaxConn <= 0 {
		opts.MaxConn = maxConnections
	}
	if cfg.Listen == "" {
		opts.DontListen = true
		return opts, nil
	}
	host, port, err := splitListen(cfg.Listen)
	if err != nil {
		return nil, err
	}
	if opts.Host, opts.Port = host, port; port == 0 {
		opts.Port = server.RANDOM_PORT
	}
	if cfg.TLS == nil {
		if !net.ParseIP(host).IsLoopback() {
			return nil, fmt.Errorf("listen %s: not a loopback address and no TLS: tokens and certificates would cross the network in the clear; set TLS or listen on 127.0.0.1", cfg.Listen)
		}
		return opts, nil
	}
	opts.TLSConfig, opts.TLS, opts.TLSTimeout = cfg.TLS.Clone(), true, 2
	opts.TLSConfig.MinVersion = max(opts.TLSConfig.MinVersion, tls.VersionTLS13)
	return opts, nil
}

// splitListen reads an address that names an interface by number: a name could resolve
// to something else tomorrow.
func splitListen(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("listen %q: %w; want such as 127.0.0.1:4222", addr, err)
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	if net.ParseIP(host) == nil {
		return "", 0, fmt.Errorf("listen %q: want an IP address, such as 127.0.0.1:4222 or 0.0.0.0:4222", addr)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen %q: port: want 0 to 65535", addr)
	}
	return host, int(n), nil
}

// URL is where clients connect, or "" if the server listens nowhere.
func (s *Server) URL() string {
	if s.ns.Addr() == nil {
		return ""
	}
	return s.ns.ClientURL()
}

// InProcessConn makes Server a nats.InProcessConnProvider: a client of this process
// connects with nats.InProcessServer(server) and its credentials.
func (s *Server) InProcessConn() (net.Conn, error) {
	conn, err := s.ns.InProcessConn()
	if err != nil {
		return nil, fmt.Errorf("nats server: %w", err)
	}
	return conn, nil
}

// DaemonConn connects this process as the daemon. The caller closes the connection.
func (s *Server) DaemonConn() (*nats.Conn, error) {
	return connect("", s.daemon, daemonName, s.log, nats.InProcessServer(s))
}

// AddBroker lets the holder of the nkey public act as broker, from now on, without
// touching other connections. A broker may have several keys, so that they can be
// rotated; adding one twice changes nothing.
func (s *Server) AddBroker(broker messages.BrokerID, public string) error {
	if _, err := authapi.ParseBroker(string(broker)); err != nil {
		return fmt.Errorf("add broker: %w", err)
	}
	if err := s.users.addChecked(string(broker), roleBroker, public); err != nil {
		return fmt.Errorf("add broker %s: %w", broker, err)
	}
	return nil
}

// AddOperator lets the holder of the nkey public act as authapi.OperatorAdmin or
// authapi.OperatorAuditor.
func (s *Server) AddOperator(name, public string) error {
	r := User{Name: name}.role()
	if r != roleAdmin && r != roleAuditor {
		return fmt.Errorf("add operator: no operator %q, want %s or %s", name, authapi.OperatorAdmin, authapi.OperatorAuditor)
	}
	if err := s.users.addChecked(name, r, public); err != nil {
		return fmt.Errorf("add operator %s: %w", name, err)
	}
	return nil
}

// RemoveUser takes all keys from a broker or operator and ends its connections.
func (s *Server) RemoveUser(name string) error {
	if name == daemonName {
		return errors.New("remove user: the daemon cannot be removed")
	}
	gone := s.users.remove(name)
	conns, err := s.ns.Connz(&server.ConnzOptions{Username: true, Limit: 1 << 16})
	if err != nil {
		return fmt.Errorf("remove user %s: list connections: %w", name, err)
	}
	for _, c := range conns.Conns {
		if c.AuthorizedUser == name || gone[c.AuthorizedUser] {
			// The error is that it has left by itself.
			_ = s.ns.DisconnectClientByID(c.Cid)
		}
	}
	return nil
}

// Close ends all connections and returns when the server's goroutines are done.
func (s *Server) Close() {
	s.ns.Shutdown()
	s.ns.WaitForShutdown()
	s.wg.Wait()
}

// serverLog turns the server's log lines into records. The server's own "fatal" must not
// end this process, as its usual logger does.
type serverLog struct {
	log  *slog.Logger
	mu   sync.Mutex
	last string // guarded by mu: the last fatal line
}

func (l *serverLog) write(level slog.Level, format string, v []any) {
	ctx := context.Background()
	if l.log.Enabled(ctx, level) {
		l.log.Log(ctx, level, "nats server", "text", fmt.Sprintf(format, v...))
	}
}

func (l *serverLog) fatal() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// The methods of server.Logger.

func (l *serverLog) Noticef(format string, v ...any) { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Warnf(format string, v ...any)   { l.write(slog.LevelWarn, format, v) }
func (l *serverLog) Errorf(format string, v ...any)  { l.write(slog.LevelWarn, format, v) }
func (l *serverLog) Debugf(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }
func (l *serverLog) Tracef(format string, v ...any)  { l.write(slog.LevelDebug, format, v) }

func (l *serverLog) Fatalf(format string, v ...any) {
	l.mu.Lock()
	l.last = fmt.Sprintf(format, v...)
	l.mu.Unlock()
	l.write(slog.LevelError, format, v)
}
