package mochi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
)

const (
	// maxChain is the most certificates a client may present: its own and three more.
	maxChain = 4
	// maxLeafBytes keeps the PEM form of a certificate within the protocol's 16 KiB.
	maxLeafBytes = 12_000

	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

func (b *Broker) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     b.cfg.MinVersion,
		GetCertificate: b.cfg.GetCertificate,
		// Who counts is Gatehouse's decision at CONNECT: with a list of authorities here
		// a device whose certificate is not on it would see a broken connection and no
		// reason, and some would not even send their certificate.
		// One without a certificate gets as far as CONNECT too, for the reason code and
		// for the record of its refusal.
		ClientAuth: tls.RequestClientCert,
		// A resumed session would rest on a proof of possession made earlier.
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			switch {
			case len(s.PeerCertificates) == 0:
				return nil
			case len(s.PeerCertificates) > maxChain:
				return fmt.Errorf("client presents %d certificates, want at most %d", len(s.PeerCertificates), maxChain)
			case len(s.PeerCertificates[0].Raw) > maxLeafBytes:
				return fmt.Errorf("client certificate is %d bytes, want at most %d", len(s.PeerCertificates[0].Raw), maxLeafBytes)
			}
			return nil
		},
	}
}

// accept takes connections until the listener is closed. Other errors, such as too many
// open files, pass.
func (b *Broker) accept() {
	pause := acceptPauseMin
	for {
		raw, err := b.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			b.cfg.Logger.Error("cannot accept a connection", "err", err, "pause", pause)
			sleep(pause, b.quit)
			pause = min(2*pause, acceptPauseMax)
			continue
		}
		pause = acceptPauseMin
		from := addressOf(raw)
		if !b.arrivals.enter(from, (cap(b.handshakes)*3+3)/4) {
			b.shed.Add(1) // before anybody can see it
			_ = raw.Close()
			continue
		}
		select {
		case b.handshakes <- struct{}{}:
			b.serving.Go(func() { b.serve(raw, from) })
		default: // each place is held for ConnectTimeout at most
			b.arrivals.leave(from)
			b.shed.Add(1) // before anybody can see it
			_ = raw.Close()
		}
	}
}

// serve takes one connection from accept to its end.
func (b *Broker) serve(tcp net.Conn, from netip.Addr) {
	raw := &socket{Conn: tcp, writeTimeout: b.cfg.Limits.WriteTimeout}
	admitted := sync.OnceFunc(func() {
		<-b.handshakes
		b.arrivals.leave(from)
	})
	defer admitted()
	if !b.track(raw) {
		return
	}
	defer b.untrack(raw)
	c, err := b.handshake(raw)
	if err != nil {
		b.cfg.Logger.Debug("connection refused", "remote", raw.RemoteAddr(), "err", err)
		return
	}
	c.admitted = admitted
	defer b.released(c)
	defer func() {
		p := recover() // one client's bytes must not end all others' connections
		if p == nil {
			return
		}
		stack := string(debug.Stack())
		if strings.Contains(stack, "mochi-mqtt/server/v2/packets.(*Packet).") {
			// The library's decoder reads past a truncated SUBSCRIBE's end (v2.7.9): a malformed
			// packet any stranger can send, so no error of ours and no line in the log each time.
			b.cfg.Logger.Debug("malformed packet", "remote", raw.RemoteAddr(), "err", p)
			return
		}
		b.cfg.Logger.Error("panic while serving a client", "remote", raw.RemoteAddr(), "panic", p, "stack", stack)
	}()
	if err := b.server.EstablishConnection(listenerID, c); err != nil {
		b.cfg.Logger.Debug("connection ended", "remote", raw.RemoteAddr(), "err", err)
	}
}

// handshake does the TLS handshake and waits for the beginning of a CONNECT.
func (b *Broker) handshake(raw *socket) (*conn, error) {
	until := deadline(b.cfg.Limits.ConnectTimeout)
	if err := raw.SetDeadline(until); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	c := &conn{Conn: tls.Server(raw, b.tls), socket: raw}
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	if shown := c.ConnectionState().PeerCertificates; len(shown) > 0 {
		c.leaf = shown[0].Raw
	}
	return c, c.expectConnect(b.cfg.Limits.ConnectBytes)
}

// track notes an open connection, so that Close can end it; not after Close.
func (b *Broker) track(raw *socket) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		_ = raw.Close()
		return false
	}
	b.conns[raw] = struct{}{}
	return true
}

func (b *Broker) untrack(raw *socket) {
	_ = raw.Close() // usually closed already
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.conns, raw)
}

// released cleans up after a connection, however it ended.
func (b *Broker) released(c *conn) {
	l := c.link.Load()
	if l == nil {
		return
	}
	b.mu.Lock()
	delete(b.links, l)
	b.mu.Unlock()
	b.connected.Add(-1)
	l.cl.Stop(nil)              // after a panic it may not be
	if !l.disconnected.Load() { // mochi did not get as far as to say goodbye
		if !l.turn && b.turns.take(context.Background(), l.cl.ID) == nil {
			l.turn = true
		}
		l.offline.Store(true) // first, as in OnDisconnect
		b.cleanUp(l, l.kicked.Load() || expires(l.cl))
	}
	l.endTurn()
	if !b.wills.owns(l) {
		l.session.Close()
	}
}

// expires reports whether the MQTT session of cl ends with its connection (MQTT 5,
// 3.1.2.11.2; 3.1.1, 3.1.2.4).
func expires(cl *mqtt.Client) bool {
	if cl.Properties.ProtocolVersion == 5 {
		return cl.Properties.Props.SessionExpiryInterval == 0
	}
	return cl.Properties.Clean
}
