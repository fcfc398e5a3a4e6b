package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
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
	authority, key := operators(t, "root", time.Now(), time.Now().Add(time.Hour), true)
	ca, foreign := write("ca.pem", string(authority), 0o644), write("foreign.key", string(key), 0o600)
	server := write("server.pem", string(signed(t, authority, key))+string(authority), 0o644)
	notes := write("notes", "the broker's", 0o644)
	damaged := write("damaged.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644)
	if err := errors.Join(os.Symlink(dir, path("link")), os.Link(server, path("alias"))); err != nil {
		t.Fatal(err)
	}
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
		{"a certificate for the credentials' file", "the same file", exitUsage, []string{"--credentials", garbage, "--certificate", garbage, "--key", path("k")}},
		{"one file by two folders", "the same file", exitUsage, []string{"--credentials", garbage, "--certificate", path("c"), "--key", path("k"), "--trust", path("link/c")}},
		{"one file by two names", "the same file", exitUsage, []string{"--credentials", garbage, "--certificate", server, "--key", path("k"), "--trust", path("alias")}},
		{"trust in the file to verify NATS by", "--trust and --url-ca are the same file", exitUsage, []string{"--credentials", garbage, "--certificate", path("c"), "--key", path("k"), "--trust", ca, "--url-ca", ca}},
		{"a certificate for ca.pem", "certificates of authorities", 1, []string{"--credentials", garbage, "--certificate", ca, "--key", path("k")}},
		{"trust for a server's certificate", "no authority's", 1, []string{"--credentials", garbage, "--certificate", path("c"), "--key", path("k"), "--trust", server}},
		{"a certificate for a key", "not overwritten", 1, []string{"--credentials", garbage, "--certificate", foreign, "--key", path("k")}},
		{"trust for a text", "not overwritten", 1, []string{"--credentials", garbage, "--certificate", path("c"), "--key", path("k"), "--trust", notes}},
		{"trust for half a certificate", "damaged certificate", 1, []string{"--credentials", garbage, "--certificate", path("c"), "--key", path("k"), "--trust", damaged}},
		{"the right kinds", "no nkey user seed", 1, []string{"--credentials", garbage, "--certificate", server, "--key", path("k"), "--trust", ca}},
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
	if text, err := os.ReadFile(ca); err != nil || string(text) != string(authority) {
		t.Errorf("ca.pem is now %s, %v", text, err)
	}
}

// signed is a server's certificate by an authority.
func signed(t *testing.T, authority, key []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(authority)
	parent, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := parseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "server"}, NotBefore: parent.NotBefore, NotAfter: parent.NotAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestCertWatchFiles: what comes to stand in a file while the watch runs stays, if it is
// another's.
func TestCertWatchFiles(t *testing.T) {
	dir := t.TempDir()
	authority, key := operators(t, "root", time.Now(), time.Now().Add(time.Hour), true)
	server := signed(t, authority, key)
	path := filepath.Join(dir, "file")
	content := func() string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	w := watched{key: path}
	_, fresh, err := w.readKey()
	if err != nil || fresh == nil {
		t.Fatalf("no key was made: %v", err)
	}
	if err := os.WriteFile(path, key, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := w.keepKey(fresh); err == nil || !strings.Contains(err.Error(), "start again") || content() != string(key) {
		t.Errorf("another key came to be: %v", err)
	}
	if err := replace(path, server, false); err == nil || content() != string(key) {
		t.Errorf("a certificate for a key: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := w.keepKey(fresh); err != nil || content() != string(fresh) {
		t.Errorf("the key in its file: %v", err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key's mode: %v, %v", info, err)
	}
	if _, again, err := w.readKey(); err != nil || again != nil {
		t.Errorf("read again: %v, made anew %t", err, again != nil)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for i, text := range [][]byte{authority, append(authority, authority...)} {
		if err := replace(path, text, true); err != nil || content() != string(text) {
			t.Errorf("trust, %d: %v", i, err)
		}
	}
	before := content()
	if err := replace(path, server, false); err == nil || content() != before {
		t.Errorf("a certificate for trust: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".tmp-*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
