package iotmqtt

import (
	"errors"
	"fmt"
	"net"
)

// guarded is a connection that ends before a packet that is too long, which the MQTT
// library would first make room for.
type guarded struct {
	net.Conn
	bytesMax int
	frame    frame
}

// Read reads. One goroutine does so.
func (g *guarded) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if bad := g.frame.pass(p[:n], g.bytesMax); bad != nil {
		return 0, bad
	}
	return n, err
}

// frame knows where in a stream of packets a reader is (MQTT 5, 2.1).
type frame struct {
	left   int  // bytes of the present packet that are still to come
	digits int  // of its length, read so far
	length int  // as far as it is read
	inside bool // of a fixed header
}

var errNotMQTT = errors.New("the length of a packet is malformed")

// pass moves on over b.
func (f *frame) pass(b []byte, bytesMax int) error {
	for len(b) > 0 {
		if f.left > 0 {
			skipped := min(f.left, len(b))
			f.left -= skipped
			b = b[skipped:]
			continue
		}
		c := b[0]
		b = b[1:]
		if !f.inside { // the packet's type
			*f = frame{inside: true}
			continue
		}
		f.length |= int(c&0x7f) << (7 * f.digits)
		f.digits++
		switch {
		case f.length > bytesMax:
			return fmt.Errorf("a packet of %d bytes or more, at most %d are taken", f.length, bytesMax)
		case c < 0x80:
			f.left, f.inside = f.length, false
		case f.digits == 4:
			return errNotMQTT
		}
	}
	return nil
}
