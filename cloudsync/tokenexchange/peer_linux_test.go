package tokenexchange

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
)

// The kernel's answer about one connection is what its tables say, by sockets of both kinds; of
// none, or one whose program has gone, there is no user.
func TestOneConnectionIsFoundAsInTheTables(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here := netip.MustParseAddrPort(l.Addr().String())
	ends := func(conn net.Conn) (client, server netip.AddrPort) {
		return netip.MustParseAddrPort(conn.RemoteAddr().String()), netip.MustParseAddrPort(conn.LocalAddr().String())
	}
	if _, err := diagnose(netip.MustParseAddrPort("127.0.0.1:1"), here); err != nil && !errors.Is(err, errNoPeer) {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatalf("this kernel cannot be asked: %v", err)
		}
		t.Skipf("this kernel cannot be asked: %v", err) // then the tables are read
	}
	for _, family := range []int{syscall.AF_INET, syscall.AF_INET6} {
		fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
		if errors.Is(err, syscall.EAFNOSUPPORT) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		var to syscall.Sockaddr = &syscall.SockaddrInet4{Port: int(here.Port()), Addr: here.Addr().As4()}
		if family == syscall.AF_INET6 {
			to = &syscall.SockaddrInet6{Port: int(here.Port()), Addr: here.Addr().As16()}
		}
		if err := syscall.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		client, server := ends(conn)
		want, err := searchTables(client, server)
		got, err2 := diagnose(client, server)
		if err != nil || err2 != nil || got != want || got != os.Geteuid() {
			t.Errorf("family %d: user %d, %v; by the tables %d, %v", family, got, err2, want, err)
		}
		_ = syscall.Close(fd)
		if uid, err := diagnose(client, server); !errors.Is(err, errNoPeer) {
			t.Errorf("its program has gone: user %d, %v", uid, err)
		}
		conn.Close()
	}
	if uid, err := diagnose(netip.MustParseAddrPort("127.0.0.1:1"), here); !errors.Is(err, errNoPeer) {
		t.Errorf("the listener alone: user %d, %v", uid, err)
	}
}

// FuzzDiagAnswer: whatever comes, only the whole answer about that connection has a user.
func FuzzDiagAnswer(f *testing.F) {
	client, server := netip.MustParseAddrPort("127.0.0.1:4711"), netip.MustParseAddrPort("127.0.0.1:80")
	question := diagRequest(client, server)
	good := make([]byte, diagAnswerBytes)
	good[4], good[16], good[17], good[84] = sockDiagByFamily, syscall.AF_INET, tcpEstablished, 1
	copy(good[20:], question[24:])
	f.Add(good)
	f.Add(question)
	f.Fuzz(func(t *testing.T, a []byte) {
		if _, err := diagAnswer(a, client, server); err == nil && (len(a) < diagAnswerBytes || a[17] != tcpEstablished) {
			t.Errorf("a user of %x", a)
		}
	})
}

// What another user's connections cost: those that are over are in the tables for a minute.
func BenchmarkPeerUser(b *testing.B) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for range 10000 {
		c, err := net.Dial("tcp4", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
		c.Close()
	}
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	client, server := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(l.Addr().String())
	for name, find := range map[string]func(client, server netip.AddrPort) (int, error){"one": diagnose, "tables": searchTables} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if uid, err := find(client, server); err != nil {
					b.Fatal(fmt.Sprint(uid, err))
				}
			}
		})
	}
}
