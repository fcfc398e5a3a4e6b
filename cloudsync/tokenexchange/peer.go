package tokenexchange

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
)

type peerKey struct{}

// peerConn is a connection, and whose program is at its other end.
type peerConn struct {
	net.Conn
	uid    int // if err is nil
	err    error
	once   sync.Once
	closed func()
}

// Close ends the connection.
func (c *peerConn) Close() error {
	c.once.Do(c.closed)
	return c.Conn.Close()
}

// counted bounds connections, in all and of one user, so that no user keeps others out.
type counted struct {
	net.Listener
	server *Server

	mu   sync.Mutex
	all  int         // guarded by mu, as the next
	of   map[int]int // by user; of unknown ones by unknownUser
	open sync.WaitGroup
}

const unknownUser = -1

// Accept returns the next connection that is within the bounds.
func (l *counted) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.admit(conn); c != nil {
			return c, nil
		}
		_ = conn.Close()
	}
}

func (l *counted) admit(conn net.Conn) *peerConn {
	l.mu.Lock()
	full := l.all >= connsMax
	l.mu.Unlock()
	if full {
		return nil
	}
	c := &peerConn{Conn: conn}
	c.uid, c.err = l.server.userOf(conn)
	user := c.uid
	if c.err != nil {
		user = unknownUser
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of[user] >= connsPerUser {
		return nil
	}
	l.all++
	l.of[user]++
	l.open.Add(1)
	c.closed = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.all--
		if l.of[user]--; l.of[user] == 0 {
			delete(l.of, user)
		}
		l.open.Done()
	}
	return c
}

// wait returns when all connections are closed.
func (l *counted) wait() { l.open.Wait() }

func (s *Server) userOf(conn net.Conn) (int, error) {
	client, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return 0, err
	}
	here, err := netip.ParseAddrPort(conn.LocalAddr().String())
	if err != nil {
		return 0, err
	}
	return s.cfg.peerUser(client, here)
}

var errNoPeer = errors.New("the kernel does not list its connection")

// established is a TCP connection both ends of which are open: the kernel forgets the user of
// one that its program has closed.
const established = "01"

// findUser finds in a table of the kernel (/proc/net/tcp, tcp6) the user who has the end of a
// connection at client whose other end is at server.
func findUser(table io.Reader, client, server netip.AddrPort, v6 bool) (uid int, err error) {
	local, remote := kernelAddress(client, v6), kernelAddress(server, v6)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		// sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[1] != local || f[2] != remote || f[3] != established || f[9] == "0" {
			continue
		}
		number, err := strconv.ParseUint(f[7], 10, 31)
		if err != nil {
			return 0, fmt.Errorf("user %.20q of a connection: %w", f[7], err)
		}
		return int(number), nil
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, errNoPeer
}

// kernelAddress is an address as those tables spell it: words of 32 bits in the machine's
// order, in hexadecimal.
func kernelAddress(a netip.AddrPort, v6 bool) string {
	raw := a.Addr().Unmap().AsSlice()
	if v6 {
		all := a.Addr().As16()
		raw = all[:]
	}
	words := make([]byte, 0, len(raw))
	for i := 0; i+4 <= len(raw); i += 4 {
		words = binary.BigEndian.AppendUint32(words, binary.NativeEndian.Uint32(raw[i:]))
	}
	return fmt.Sprintf("%s:%04X", strings.ToUpper(hex.EncodeToString(words)), a.Port())
}
