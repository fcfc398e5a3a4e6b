package mochi

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// errNotMQTT says that a connection did not begin with an acceptable CONNECT.
var errNotMQTT = errors.New("the first packet is not a CONNECT, or is too long")

// A socket is the TCP connection under TLS. It bounds how long a write may take, which
// mochi leaves to the keep alive and so, at keep alive 0, to nobody; the farewell of TLS
// included, which is written on Close.
type socket struct {
	net.Conn
	writeTimeout time.Duration

	mu    sync.Mutex
	dying time.Time // when set, no write may last beyond it
}

// Write writes p within the time-out.
func (s *socket) Write(p []byte) (int, error) {
	s.mu.Lock()
	until := s.dying
	if until.IsZero() {
		until = deadline(s.writeTimeout)
	}
	err := s.Conn.SetWriteDeadline(until)
	s.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return s.Conn.Write(p)
}

// SetWriteDeadline does nothing: writes have their own.
func (s *socket) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline sets the deadline of reads.
func (s *socket) SetDeadline(t time.Time) error { return s.SetReadDeadline(t) }

// hurry bounds all writes, one that is stuck now included, to d from now.
func (s *socket) hurry(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dying.IsZero() {
		s.dying = deadline(d)
		_ = s.Conn.SetWriteDeadline(s.dying) // fails only on a closed connection
	}
}

// A conn is a TLS connection that passed its handshake, with what the broker knows of the
// client.
type conn struct {
	*tls.Conn
	socket   *socket
	leaf     []byte               // the client's certificate, DER
	begin    []byte               // read ahead: the CONNECT's fixed header
	link     atomic.Pointer[link] // nil before CONNECT was accepted
	admitted func()               // gives back the place of a connection in handshake; safe to call again
}

// expectConnect reads the fixed header of the first packet (MQTT 5, 2.1) and checks that
// it announces a CONNECT of bearable size: mochi would first allocate what is announced.
func (c *conn) expectConnect(maxBytes int) error {
	var b [1]byte
	next := func() (byte, error) {
		_, err := io.ReadFull(c.Conn, b[:])
		c.begin = append(c.begin, b[0])
		return b[0], err
	}
	first, err := next()
	if err != nil {
		return fmt.Errorf("read the first packet: %w", err)
	}
	if first != 0x10 {
		return errNotMQTT
	}
	length := 0
	for shift := 0; ; shift += 7 {
		digit, err := next()
		if err != nil {
			return fmt.Errorf("read the first packet: %w", err)
		}
		if length |= int(digit&0x7f) << shift; shift > 21 || length > maxBytes {
			return errNotMQTT
		}
		if digit < 0x80 {
			return nil
		}
	}
}

// unsent stands for a packet that is not to leave: mochi writes it, and the connection
// drops it. It is an AUTH, which this broker never sends. Were it refused as too long, which
// is mochi's own way to keep a packet back, a session would break off that is resumed.
func unsent() packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Auth}}
}

// Write writes one packet, unless it is unsent.
func (c *conn) Write(p []byte) (int, error) {
	if len(p) > 0 && p[0]>>4 == packets.Auth {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// Read reads what was read ahead first.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.begin) > 0 {
		n := copy(p, c.begin)
		c.begin = c.begin[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}
