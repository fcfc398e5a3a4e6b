package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// place is a folder with mosquitto in it, whose certificate `gatehouse cert watch` keeps.
type place struct {
	*gate
	folder string // of the files
	addr   string // where mosquitto listens
	watch  *exec.Cmd
	said   *buffer
	ended  chan error
}

func (p *place) path(name string) string { return filepath.Join(p.folder, name) }

// flags are those of `cert watch`.
func (p *place) flags() []string {
	return []string{"cert", "watch", "--credentials", filepath.Join(p.dir, "brokers", "mosquitto.creds"), "--url", "nats://" + p.gate.nats,
		"--certificate", p.path("server.pem"), "--key", p.path("server.key"), "--trust", p.path("ca.pem")}
}

func (p *place) configureHosts(hosts string) {
	p.t.Helper()
	text := fmt.Sprintf("dir: data\nnats: {listen: %q}\nmqtt: {listen: %q, hostAddresses: [%s]}\n", p.gate.nats, p.gate.mqtt, hosts)
	if err := os.WriteFile(p.file, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) startWatch(command ...string) {
	p.t.Helper()
	path, err := binary()
	if err != nil {
		p.t.Fatal(err)
	}
	p.said, p.ended = newBuffer(), make(chan error, 1)
	p.watch = exec.Command(path, append(p.flags(), append([]string{"--exec"}, command...)...)...)
	p.watch.Stdout, p.watch.Stderr = p.said, p.said
	if err := p.watch.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() { p.ended <- p.watch.Wait() }()
	p.t.Cleanup(func() { _ = p.watch.Process.Kill() })
}

// startMosquitto starts Debian's, with the files that are watched.
func (p *place) startMosquitto() {
	p.t.Helper()
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	config := fmt.Sprintf("listener %s 127.0.0.1\ncertfile %s\nkeyfile %s\nallow_anonymous true\npid_file %s\n",
		port, p.path("server.pem"), p.path("server.key"), p.path("pid"))
	if os.Getuid() == 0 {
		config += "user root\n" // whose the key is
	}
	if err := os.WriteFile(p.path("mosquitto.conf"), []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command("mosquitto", "-c", p.path("mosquitto.conf"))
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
}

// dial connects as a device does that trusts the file of --trust.
func (p *place) dial() (*tls.Conn, error) {
	roots := x509.NewCertPool()
	text, err := os.ReadFile(p.path("ca.pem"))
	if err != nil {
		return nil, err
	}
	roots.AppendCertsFromPEM(text)
	return tls.Dial("tcp", p.addr, &tls.Config{RootCAs: roots, ServerName: "localhost"})
}

// shown is the certificate that a new connection sees, once fits says so.
func (p *place) shown(fits func(*x509.Certificate) bool) (*tls.Conn, *x509.Certificate) {
	p.t.Helper()
	var last any
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		conn, err := p.dial()
		if err != nil {
			last = err
			continue
		}
		leaf := conn.ConnectionState().PeerCertificates[0]
		if fits(leaf) {
			p.t.Cleanup(func() { _ = conn.Close() })
			return conn, leaf
		}
		last = leaf.SerialNumber
		_ = conn.Close()
	}
	p.t.Fatalf("mosquitto does not show the certificate: %v\n%s", last, p.said)
	return nil, nil
}

// say writes an MQTT packet and reads the answer.
func say(t *testing.T, conn net.Conn, packet string, answer ...byte) {
	t.Helper()
	if _, err := conn.Write([]byte(packet)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(answer))
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, got); err != nil || !slices.Equal(got, answer) {
		t.Fatalf("%x is answered %x, %v; want %x", packet, got, err, answer)
	}
}

// delivered waits until the log says that the certificate was.
func (p *place) delivered(leaf *x509.Certificate) {
	p.t.Helper()
	want := fmt.Sprintf("%040x", leaf.SerialNumber)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		out := p.must("", "log", "cat", "--live", "--stream", "core/ca", "--json")
		if slices.ContainsFunc(strings.Split(out, "\n"), func(line string) bool {
			return strings.Contains(line, "CertificateDelivered") && strings.Contains(line, want)
		}) {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("%s is not on record as delivered:\n%s", want, p.said)
		}
	}
}

// TestCertWatch: mosquitto serves with a certificate of the core's authority; when the core's
// addresses change while it is down, a new handshake gets the new one, an old client stays;
// after a restart of the watch nothing is issued; removed, it ends.
func TestCertWatch(t *testing.T) {
	need(t, "mosquitto", "sh")
	p := &place{gate: newGate(t), folder: t.TempDir(), addr: freeAddr(t)}
	p.configureHosts("localhost")
	p.serve()
	p.must("certificates server", "broker", "add", "mosquitto")
	reload := []string{"sh", "-c", "kill -HUP $(cat " + p.path("pid") + ")"}
	p.startWatch(reload...)
	p.said.await(t, "the files are in place, but", 30*time.Second) // mosquitto is not there yet
	if out := p.must("", "log", "cat", "--live", "--stream", "core/ca"); strings.Contains(out, "mosquitto") && strings.Count(out, "CertificateDelivered") > 1 {
		t.Errorf("delivered though nobody has read it:\n%s", out)
	}
	p.startMosquitto()
	old, first := p.shown(func(*x509.Certificate) bool { return true })
	if first.Subject.CommonName != "mosquitto" {
		t.Errorf("shown: %s", first.Subject)
	}
	say(t, old, "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a", 0x20, 2, 0, 0) // CONNECT, CONNACK
	p.delivered(first)
	if info, err := os.Stat(p.path("server.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info, err)
	}

	p.end(os.Interrupt)
	p.configureHosts("localhost, 10.9.8.7")
	p.serve()
	_, second := p.shown(func(leaf *x509.Certificate) bool { return leaf.SerialNumber.Cmp(first.SerialNumber) != 0 })
	if !slices.ContainsFunc(second.IPAddresses, net.IP{10, 9, 8, 7}.Equal) {
		t.Errorf("the new certificate is for %v", second.IPAddresses)
	}
	say(t, old, "\xc0\x00", 0xd0, 0) // PINGREQ, PINGRESP
	p.delivered(second)

	if err := p.watch.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-p.ended; err != nil {
		t.Errorf("the watch ended with %v\n%s", err, p.said)
	}
	p.startWatch(reload...)
	p.said.await(t, fmt.Sprintf("certificate %040x, until", second.SerialNumber), 30*time.Second)
	p.must("is removed", "broker", "remove", "mosquitto")
	if err := <-p.ended; exitCode(err) != 1 || !strings.Contains(p.said.String(), "refuses the credentials") {
		t.Errorf("after it was removed: %v\n%s", err, p.said)
	}
	say(t, old, "\xc0\x00", 0xd0, 0)
}

// TestCertWatchBadInputs: said before anything is asked, with what to do, and without a byte
// of a key.
func TestCertWatchBadInputs(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string, mode os.FileMode) string {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path(name)
	}
	const half = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n"
	half600, open := write("half.key", half, 0o600), write("open.key", half, 0o644)
	long := write("long.creds", strings.Repeat("x", watchedMaxBytes+1), 0o600)
	garbage := write("garbage.creds", "hello", 0o600)
	for _, c := range []struct {
		name, want string
		code       int
		args       []string
	}{
		{"nothing", "are needed", exitUsage, nil},
		{"no key", "are needed", exitUsage, []string{"--credentials", garbage, "--certificate", path("c")}},
		{"a command without --exec", "comes behind --exec", exitUsage, []string{"--credentials", garbage, "--certificate", path("c"), "--key", path("k"), "true"}},
		{"--exec without a command", "comes behind --exec", exitUsage, []string{"--credentials", garbage, "--certificate", path("c"), "--key", path("k"), "--exec"}},
		{"one file twice", "the same file", exitUsage, []string{"--credentials", garbage, "--certificate", path("c"), "--key", dir + "/./c"}},
		{"no folder", "there is no folder", 1, []string{"--credentials", garbage, "--certificate", path("x/c"), "--key", path("k")}},
		{"a folder", "not a file", 1, []string{"--credentials", garbage, "--certificate", dir, "--key", path("k")}},
		{"half a key", "no private key in PEM", 1, []string{"--credentials", garbage, "--certificate", path("c"), "--key", half600}},
		{"a key that others can read", "chmod 600", 1, []string{"--credentials", garbage, "--certificate", path("c"), "--key", open}},
		{"no credentials", "no such file", 1, []string{"--credentials", path("none"), "--certificate", path("c"), "--key", path("k")}},
		{"garbage", "no nkey user seed", 1, []string{"--credentials", garbage, "--certificate", path("c"), "--key", path("k")}},
		{"long", "more than", 1, []string{"--credentials", long, "--certificate", path("c"), "--key", path("k")}},
	} {
		out, code := runProgram(t, append([]string{"cert", "watch"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.want) || strings.Contains(out, "MIGHAgEA") {
			t.Errorf("%s: exit %d, want %d and %q in\n%s", c.name, code, c.code, c.want, out)
		}
	}
	if _, err := os.Stat(path("k")); !os.IsNotExist(err) {
		t.Errorf("a key was made: %v", err)
	}
}
