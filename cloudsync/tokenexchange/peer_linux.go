package tokenexchange

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// peerUser asks the kernel for the user at the other end of a connection on this machine: for
// that one connection where it can be asked so, since a table of all takes as long to read as
// another user's many connections make it.
func peerUser(client, server netip.AddrPort) (int, error) {
	uid, err := diagnose(client, server)
	if err == nil || errors.Is(err, errNoPeer) {
		return uid, err
	}
	return searchTables(client, server) // as where a sandbox lets no program ask
}

// searchTables finds the user in the kernel's tables. A program may reach an IPv4 address by a
// socket of IPv6, too.
func searchTables(client, server netip.AddrPort) (int, error) {
	for _, table := range []struct {
		path string
		v6   bool
	}{{"/proc/net/tcp", false}, {"/proc/net/tcp6", true}} {
		f, err := os.Open(table.path)
		if errors.Is(err, os.ErrNotExist) && table.v6 {
			break // a kernel without IPv6
		}
		if err != nil {
			return 0, err
		}
		uid, err := findUser(f, client, server, table.v6)
		_ = f.Close()
		if err == nil || !errors.Is(err, errNoPeer) {
			return uid, err
		}
	}
	return 0, errNoPeer
}

// Of linux/netlink.h, sock_diag.h and inet_diag.h.
const (
	netlinkSockDiag  = 4
	sockDiagByFamily = 20
	diagRequestBytes = 16 + 56
	diagAnswerBytes  = 16 + 72
	tcpEstablished   = 1
	diagTimeout      = time.Second
)

// diagnose asks the kernel for the connection from client to server, as ss does. IPv6 sockets
// that are connected to an address of IPv4 are found by that.
func diagnose(client, server netip.AddrPort) (int, error) {
	if !client.Addr().Unmap().Is4() || !server.Addr().Unmap().Is4() {
		return 0, errors.New("not of IPv4")
	}
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, netlinkSockDiag)
	if err != nil {
		return 0, err
	}
	defer func() { _ = syscall.Close(fd) }()
	limit := syscall.NsecToTimeval(int64(diagTimeout))
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		return 0, err
	}
	if err := syscall.Sendto(fd, diagRequest(client, server), 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return 0, err
	}
	answer := make([]byte, 4096)
	n, from, err := syscall.Recvfrom(fd, answer, 0)
	if err != nil {
		return 0, err
	}
	if kernel, ok := from.(*syscall.SockaddrNetlink); !ok || kernel.Pid != 0 {
		return 0, errors.New("an answer that is not the kernel's")
	}
	return diagAnswer(answer[:n], plain(client), plain(server))
}

// plain is an address without the spelling of IPv6.
func plain(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func diagRequest(client, server netip.AddrPort) []byte {
	q := make([]byte, diagRequestBytes)
	binary.NativeEndian.PutUint32(q, diagRequestBytes)
	binary.NativeEndian.PutUint16(q[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(q[6:], syscall.NLM_F_REQUEST)
	q[16], q[17] = syscall.AF_INET, syscall.IPPROTO_TCP
	binary.NativeEndian.PutUint32(q[20:], 1<<tcpEstablished)
	binary.BigEndian.PutUint16(q[24:], client.Port())
	binary.BigEndian.PutUint16(q[26:], server.Port())
	copy(q[28:], client.Addr().Unmap().AsSlice())
	copy(q[44:], server.Addr().Unmap().AsSlice())
	binary.NativeEndian.PutUint64(q[64:], ^uint64(0)) // no cookie
	return q
}

// diagAnswer reads the kernel's answer: an error, or a connection, which must be the one that
// was asked for, and open.
func diagAnswer(a []byte, client, server netip.AddrPort) (int, error) {
	if len(a) >= 20 && binary.NativeEndian.Uint16(a[4:]) == syscall.NLMSG_ERROR {
		if errno := syscall.Errno(-int32(binary.NativeEndian.Uint32(a[16:]))); errno != syscall.ENOENT {
			return 0, fmt.Errorf("the kernel does not look for one connection: %w", errno)
		}
		return 0, errNoPeer
	}
	if len(a) < diagAnswerBytes || binary.NativeEndian.Uint16(a[4:]) != sockDiagByFamily {
		return 0, errors.New("an answer of the kernel that cannot be read")
	}
	// The kernel gives the listener where there is no connection.
	same := diagAddress(a, 20, 24) == client && diagAddress(a, 22, 40) == server
	if inode := binary.NativeEndian.Uint32(a[84:]); a[17] != tcpEstablished || !same || inode == 0 {
		return 0, errNoPeer
	}
	return int(binary.NativeEndian.Uint32(a[80:])), nil
}

// diagAddress is one end of an answer's connection, as its socket has it.
func diagAddress(a []byte, port, address int) netip.AddrPort {
	ip := netip.AddrFrom4([4]byte(a[address : address+4]))
	if a[16] == syscall.AF_INET6 {
		ip = netip.AddrFrom16([16]byte(a[address : address+16])).Unmap()
	}
	return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(a[port:]))
}

// peersKnown returns why peerUser cannot work here.
func peersKnown() error {
	nobody := netip.MustParseAddrPort("127.0.0.1:1")
	if _, err := diagnose(nobody, nobody); errors.Is(err, errNoPeer) {
		return nil
	}
	f, err := os.Open("/proc/net/tcp")
	if err == nil {
		err = f.Close()
	}
	return err
}
