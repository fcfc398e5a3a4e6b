package awsemu

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of the front.
const (
	handshakeTimeout  = 10 * time.Second
	handshakesMax     = 256 // at once
	headerReadTimeout = 10 * time.Second
	headerBytesMax    = 64 << 10
	connIdleTimeout   = time.Minute
)

// front is one period of being online: a listener, its connections and their requests. A
// connection speaks HTTP, or MQTT, as its TLS handshake says.
//
// It finishes the TLS handshake itself and hides the *tls.Conn from net/http, which
// would drop a connection whose negotiated protocol it has no handler for, such as AWS'
// x-amzn-http-ca (cloud spec 0).
type front struct {
	frontConfig
	listener net.Listener
	server   *http.Server
	ready    chan net.Conn // handshaken, for the HTTP server
	closing  chan struct{}
	cancel   context.CancelFunc // ends every request's context
	era      atomic.Int64       // counts renew
	wg       sync.WaitGroup     // acceptor, server, handshakes, requests

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]bool // every connection from acceptance to its end; guarded by mu
}

// frontConfig shapes a front.
type frontConfig struct {
	tls     *tls.Config
	plain   bool              // takes connections without TLS, too
	greet   func() greeting   // how the next connection begins
	handler http.Handler      // nil: nothing but MQTT is spoken
	mqtt    func(*handshaken) // serves a connection that speaks MQTT to its end; nil: none does
	log     *slog.Logger
}

// handshaken is a connection after its handshake, without the methods by which net/http
// would recognise TLS.
type handshaken struct {
	net.Conn
	state  tls.ConnectionState
	era    int64 // in which it was accepted
	portal bool
	ended  func()
}

// Close ends the connection; the HTTP server calls it when it is done with it.
func (h *handshaken) Close() error {
	h.ended()
	return h.Conn.Close()
}

type handshakenKey struct{}

func connOf(r *http.Request) *handshaken {
	h, _ := r.Context().Value(handshakenKey{}).(*handshaken)
	return h
}

// connState returns what the handshake of r's connection established.
func connState(r *http.Request) (tls.ConnectionState, bool) {
	if h := connOf(r); h != nil {
		return h.state, true
	}
	return tls.ConnectionState{}, false
}

func startFront(listener net.Listener, shape frontConfig) *front {
	f := &front{
		frontConfig: shape,
		listener:    listener,
		ready:       make(chan net.Conn),
		closing:     make(chan struct{}),
		open:        map[net.Conn]bool{},
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.server = &http.Server{
		BaseContext:       func(net.Listener) context.Context { return ctx },
		Handler:           f.counted(shape.handler),
		ReadHeaderTimeout: headerReadTimeout,
		IdleTimeout:       connIdleTimeout,
		MaxHeaderBytes:    headerBytesMax,
		ErrorLog:          slog.NewLogLogger(shape.log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			if h, ok := conn.(*handshaken); ok {
				return context.WithValue(ctx, handshakenKey{}, h)
			}
			return ctx
		},
	}
	f.wg.Go(f.accept)
	f.wg.Go(func() { _ = f.server.Serve(f) }) // ends with http.ErrServerClosed
	return f
}

// counted lets close wait for requests, which http.Server.Close does not.
func (f *front) counted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		if f.closed {
			f.mu.Unlock()
			panic(http.ErrAbortHandler)
		}
		f.wg.Add(1)
		f.mu.Unlock()
		defer f.wg.Done()
		if h := connOf(r); h != nil {
			if h.era != f.era.Load() { // it was not idle yet when renew closed those that were
				panic(http.ErrAbortHandler)
			}
			if h.portal {
				servePortal(w)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// accept takes connections and shakes hands with each on a goroutine of its own, so that
// a slow client holds up no other.
func (f *front) accept() {
	slots := make(chan struct{}, handshakesMax)
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			select {
			case <-f.closing:
				return
			case <-after(50 * time.Millisecond): // out of file descriptors: not faster than this
				f.log.Warn("accept failed", "error", err)
				continue
			}
		}
		select {
		case slots <- struct{}{}:
		case <-f.closing:
			_ = conn.Close()
			return
		}
		if !f.track(conn) {
			_ = conn.Close()
			return
		}
		f.wg.Go(func() {
			defer func() { <-slots }()
			if err := f.shakeHands(conn); err != nil {
				f.log.Debug("handshake failed", "remote", conn.RemoteAddr().String(), "error", err)
				f.untrack(conn)
				_ = conn.Close()
			}
		})
	}
}

func (f *front) shakeHands(conn net.Conn) error {
	ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
	defer cancel()
	served := &handshaken{Conn: conn, era: f.era.Load(), ended: func() { f.untrack(conn) }}
	config, secure := f.tls, true
	begin := f.greet()
	served.portal = begin.portal
	if begin.change != nil {
		config = config.Clone()
		begin.change(config)
	}
	if begin.hang {
		select {
		case <-ctx.Done():
		case <-f.closing:
		}
		return errHang
	}
	if f.plain {
		peeked, first, err := peek(conn)
		if err != nil {
			return err
		}
		served.Conn, secure = peeked, first == tlsHandshakeRecord
	}
	if secure {
		c := tls.Server(served.Conn, config)
		if err := c.HandshakeContext(ctx); err != nil {
			return err
		}
		served.Conn, served.state = c, c.ConnectionState()
	}
	if f.mqtt != nil && (f.handler == nil || served.state.NegotiatedProtocol == alpnMQTT) {
		f.wg.Go(func() { f.mqtt(served) })
		return nil
	}
	select {
	case f.ready <- served:
		return nil
	case <-f.closing:
		return net.ErrClosed
	}
}

// tlsHandshakeRecord begins every TLS connection, and no HTTP request (RFC 8446, 5.1).
const tlsHandshakeRecord = 22

// peek returns a connection's first byte, and the connection as if it was not read.
func peek(conn net.Conn) (net.Conn, byte, error) {
	var first [1]byte
	if err := conn.SetReadDeadline(handshakeDeadline()); err != nil {
		return nil, 0, err
	}
	if _, err := io.ReadFull(conn, first[:]); err != nil {
		return nil, 0, err
	}
	return &peeked{conn, first[:]}, first[0], conn.SetReadDeadline(time.Time{})
}

// peeked is a connection whose first bytes were read ahead.
type peeked struct {
	net.Conn
	ahead []byte
}

// Read returns what was read ahead first.
func (p *peeked) Read(b []byte) (int, error) {
	if len(p.ahead) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.ahead)
	p.ahead = p.ahead[n:]
	return n, nil
}

func (f *front) track(conn net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.open[conn] = true
	return true
}

func (f *front) untrack(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, conn)
}

// Accept hands the HTTP server its next connection.
func (f *front) Accept() (net.Conn, error) {
	select {
	case conn := <-f.ready:
		return conn, nil
	case <-f.closing:
		return nil, net.ErrClosed
	}
}

// Close is the HTTP server's way to stop listening; close does it for all.
func (f *front) Close() error { return nil }

// Addr returns where the front listens.
func (f *front) Addr() net.Addr { return f.listener.Addr() }

// renew closes the connections that wait for a request, and the others when the next one
// comes, so that every later request begins with a handshake.
func (f *front) renew() {
	f.era.Add(1)
	f.server.SetKeepAlivesEnabled(false) // closes idle ones
	f.server.SetKeepAlivesEnabled(true)
}

// close drops the listener and every connection at once, and returns when the last
// request has ended.
func (f *front) close() {
	f.mu.Lock()
	f.closed = true
	open := slices.Collect(maps.Keys(f.open))
	f.mu.Unlock()
	close(f.closing)
	f.cancel() // a cut connection is noticed only while it is read
	_ = f.listener.Close()
	for _, conn := range open {
		_ = conn.Close()
	}
	_ = f.server.Close()
	f.wg.Wait()
}

// serverTLS is the configuration of AWS's data plane as a client sees it: any client
// certificate passes the handshake and is judged at the first request (cloud spec 0).
func serverTLS(certificate tls.Certificate, names []string, now func() time.Time) *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.RequireAnyClientCert,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"x-amzn-http-ca", alpnMQTT, "http/1.1"},
		Time:         now,
		// Every connection is to present its certificate, also after a break.
		SessionTicketsDisabled: true,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			// A client that dials an IP address sends no name; AWS demands the endpoint's.
			if hello.ServerName != "" && !slices.Contains(names, hello.ServerName) {
				return nil, fmt.Errorf("%w %q", errServerName, hello.ServerName)
			}
			return nil, nil
		},
	}
}

// controlTLS is the same for the control planes: callers sign instead of showing a
// certificate.
func controlTLS(data *tls.Config) *tls.Config {
	c := data.Clone()
	c.ClientAuth, c.NextProtos = tls.NoClientCert, []string{"http/1.1"}
	return c
}

// credentialsTLS is the same for the credentials provider, which does not look at ALPN:
// nothing but HTTPS is spoken there.
func credentialsTLS(data *tls.Config) *tls.Config {
	c := data.Clone()
	c.NextProtos = nil
	return c
}

// mqttTLS is the same for the port that speaks MQTT alone.
func mqttTLS(data *tls.Config) *tls.Config {
	c := data.Clone()
	c.NextProtos = []string{alpnMQTT, "mqtt"}
	return c
}

var (
	errServerName = errors.New("SNI names another host")
	errHang       = errors.New("a fault kept silent")
)
