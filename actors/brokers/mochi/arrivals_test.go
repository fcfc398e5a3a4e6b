package mochi

import (
	"net"
	"net/netip"
	"testing"
)

// remote is a connection of which only the other end is known.
type remote struct {
	net.Conn
	from string
}

func (r remote) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(r.from))
}

// TestOneAddressLeavesPlaces: one host cannot take all places, by whichever of its
// addresses; what left makes room, and nothing is kept of who is gone.
func TestOneAddressLeavesPlaces(t *testing.T) {
	const places = 6
	for _, c := range []struct {
		name, one, same, other string
	}{
		{"IPv4", "192.0.2.1:1000", "192.0.2.1:2000", "192.0.2.2:1000"},
		{"IPv4 in IPv6", "[::ffff:192.0.2.1]:1000", "192.0.2.1:2000", "[::ffff:192.0.2.2]:1"},
		{"IPv6", "[2001:db8::1]:1000", "[2001:db8::ffff:2]:1000", "[2001:db8:0:1::1]:1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a arrivals
			one, same, other := addressOf(remote{from: c.one}), addressOf(remote{from: c.same}), addressOf(remote{from: c.other})
			for range places {
				if !a.enter(one, places) {
					t.Fatal("turned away too early")
				}
			}
			if a.enter(same, places) {
				t.Error("one host has more than its share")
			}
			if !a.enter(other, places) {
				t.Error("another host is turned away")
			}
			a.leave(one)
			if !a.enter(same, places) {
				t.Error("what left makes no room")
			}
			for range places {
				a.leave(same)
			}
			if a.leave(other); len(a.counts) != 0 {
				t.Errorf("left over: %v", a.counts)
			}
		})
	}
}
