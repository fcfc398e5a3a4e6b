package mochi

import (
	"net"
	"net/netip"
	"sync"
)

// arrivals counts, by address, the connections that are not through CONNECT yet. One
// address gets at most three quarters of the places: who opens connections and says
// nothing keeps out nobody but its own neighbours (reliability spec 4.8).
type arrivals struct {
	mu     sync.Mutex
	counts map[netip.Addr]int // guarded by mu; never more entries than places
}

// enter counts a connection of from in, unless it has most already.
func (a *arrivals) enter(from netip.Addr, most int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.counts[from] >= most {
		return false
	}
	if a.counts == nil {
		a.counts = make(map[netip.Addr]int)
	}
	a.counts[from]++
	return true
}

// leave counts a connection off.
func (a *arrivals) leave(from netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.counts[from]--; a.counts[from] <= 0 {
		delete(a.counts, from)
	}
}

// addressOf is where a connection comes from: of an IPv6 address the network, since a
// host has as many addresses in it as it likes.
func addressOf(c net.Conn) netip.Addr {
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{}
	}
	address := from.Addr().Unmap().WithZone("")
	if address.Is6() {
		if network, err := address.Prefix(64); err == nil {
			address = network.Addr()
		}
	}
	return address
}
