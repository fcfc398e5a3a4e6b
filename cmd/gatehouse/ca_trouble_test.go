package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestStoreThatDoesNotOpen: a wrong passphrase, none, or a key that is gone refuses the start
// with what to do; what `ca show` and `ca export` say of the log stays, no key is made, and
// with the right passphrase and key the same authority goes on.
func TestStoreThatDoesNotOpen(t *testing.T) {
	g := newGate(t)
	folder := filepath.Dir(g.file)
	pass := func(text string) string {
		if err := os.WriteFile(filepath.Join(folder, "pass"), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return "{passphraseFile: pass}"
	}
	const authority, secret = "{caType: ECDSA_P256}", "correcthorse"
	g.configure(pass(secret), authority)
	g.serve()
	g.end(os.Interrupt)
	bundle, shown := g.must("", "ca", "export"), answer[daemon.AuthorityReport](g.dev, "ca", "show")
	files, err := filepath.Glob(filepath.Join(g.dir, "keys", "ca-*.key"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v: %v", files, err)
	}
	key, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, passphrase string // "": none is configured
		gone             bool
		want             []string
	}{
		{"a wrong passphrase", "opensesame", false, []string{"the passphrase is wrong", "keys.passphraseFile", "nothing was replaced"}},
		{"no passphrase", "", false, []string{"no passphrase is configured", "keys.passphraseFile", "nothing was replaced"}},
		{"the key is gone", secret, true, []string{filepath.Base(files[0]), "from a copy", "nothing was replaced"}},
	} {
		configured := "{}"
		if c.passphrase != "" {
			configured = pass(c.passphrase)
		}
		g.configure(configured, authority)
		if c.gone {
			if err := os.Remove(files[0]); err != nil {
				t.Fatal(err)
			}
		}
		out := g.refused()
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", c.name, want, out)
			}
		}
		if strings.Contains(out, secret) || strings.Contains(out, "opensesame") {
			t.Errorf("%s: a passphrase is told:\n%s", c.name, out)
		}
		if after := g.must("", "ca", "export"); after != bundle {
			t.Errorf("%s: the bundle is another:\n%s", c.name, after)
		}
		if now, _ := filepath.Glob(filepath.Join(g.dir, "keys", "ca-*.key")); len(now) != map[bool]int{true: 0, false: 1}[c.gone] {
			t.Errorf("%s: keys %v", c.name, now)
		}
	}
	if err := os.WriteFile(files[0], key, 0o400); err != nil {
		t.Fatal(err)
	}
	g.configure(pass(secret), authority)
	g.serve()
	if again := answer[daemon.AuthorityReport](g.dev, "ca", "show"); len(again.Authorities) != 1 || again.Authorities[0].ID != shown.Authorities[0].ID || len(again.Warnings) != 0 {
		t.Errorf("%+v", again)
	}
	g.mustServe(shown.Authorities[0].ID)
}

// mustServe says that the broker's certificate is signed by an authority in use, id.
func (g *gate) mustServe(id messages.CertificateID) {
	g.t.Helper()
	g.dev.mqtt = g.mqtt
	serial := g.serial(filepath.Join(g.dir, "ca.pem"))
	for _, c := range answer[daemon.Certificates](g.dev, "cert", "list").Certificates {
		if c.Serial == serial && c.Authority == id {
			return
		}
	}
	g.t.Errorf("the broker shows %s, which authority %.12s… has not issued", serial, id)
}

// operators is an authority of one's own, from before to after, without openssl.
func operators(t *testing.T, name string, from, to time.Time, isCA bool) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		BasicConstraintsValid: true, IsCA: isCA, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})
}

// TestAuthorityThatCannotBeUsed: a running daemon is told to use one that is expired, no
// authority, not the key's, of another chain, or in a token that cannot be read: `ca show`
// and `status` say why and what to do, and what was in force stays in force.
func TestAuthorityThatCannotBeUsed(t *testing.T) {
	g := newGate(t)
	folder := t.TempDir()
	path := func(name string) string { return filepath.Join(folder, name) }
	write := func(name string, text []byte, mode os.FileMode) {
		t.Helper()
		if err := daemon.WriteFile(path(name), text, mode); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	good, goodKey := operators(t, "good", now.Add(-time.Hour), now.Add(100*24*time.Hour), true)
	expired, expiredKey := operators(t, "expired", now.Add(-2*time.Hour), now.Add(-time.Hour), true)
	leaf, leafKey := operators(t, "leaf", now.Add(-time.Hour), now.Add(time.Hour), false)
	stranger, _ := operators(t, "stranger", now.Add(-time.Hour), now.Add(time.Hour), true)
	write("broken-helper", []byte("#!/bin/sh\nexit 1\n"), 0o700)
	write("pin", []byte("4711\n"), 0o600)

	keys := fmt.Sprintf("{pkcs11: {helper: %q, module: /nonexistent/module.so, token: core, pinFile: %q}}", path("broken-helper"), path("pin"))
	g.configure(keys, "{caType: ECDSA_P256}")
	g.serve()
	first := answer[daemon.AuthorityReport](g.dev, "ca", "show")
	if len(first.Warnings) != 0 || len(first.Authorities) != 1 {
		t.Fatalf("%+v", first)
	}
	files := func(name string, certificate, key []byte) string {
		write(name+".pem", certificate, 0o644)
		write(name+".key", key, 0o600)
		return fmt.Sprintf(`{certificateUri: "file://%s", privateKeyUri: "file://%s"}`, path(name+".pem"), path(name+".key"))
	}
	withChain := strings.TrimSuffix(files("chained", good, goodKey), "}") + fmt.Sprintf(`, certificateChainUri: "file://%s"}`, path("chain.pem"))
	write("chain.pem", append(append([]byte{}, good...), stranger...), 0o644)
	for _, c := range []struct{ name, authority, want string }{
		{"expired", files("expired", expired, expiredKey), "expired"},
		{"no authority", files("leaf", leaf, leafKey), "leaf"},
		{"another's key", files("mismatch", good, expiredKey), "private key is not that of"},
		{"another chain", withChain, "none of the chain"},
		{"no files", fmt.Sprintf(`{certificateUri: "file://%s", privateKeyUri: "file://%s"}`, path("none.pem"), path("none.key")), "none.pem"},
		{"garbage", files("garbage", []byte("x"), []byte("y")), "garbage"},
		{"a token that cannot be read", `{certificateUri: "pkcs11:object=ca;type=cert", privateKeyUri: "pkcs11:object=ca;type=private"}`, "PKCS#11 token"},
	} {
		g.configure(keys, c.authority)
		var r daemon.AuthorityReport
		for end := time.Now().Add(20 * time.Second); !strings.Contains(r.Refused, c.want); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: no %q in %+v\n%s", c.name, c.want, r, g.log)
			}
			r = answer[daemon.AuthorityReport](g.dev, "ca", "show")
		}
		if len(r.Authorities) != 1 || r.Authorities[0].ID != first.Authorities[0].ID || !r.Authorities[0].Issues {
			t.Errorf("%s: in force is %+v", c.name, r.Authorities)
		}
		g.must("what was in force stays in force: ", "status")
		g.mustServe(first.Authorities[0].ID)
		if out, code := g.gatehouse("ca", "replace", "--yes"); code != exitFailed || !strings.Contains(out, "change what certificateAuthority.certificateUri") {
			t.Errorf("%s: a managed one is made in its place: exit %d\n%s", c.name, code, out)
		}
		g.must("1 certificates issued", "ca", "rotate") // by what is in force
		if strings.Contains(g.log.String(), "4711") {
			t.Error("the PIN is in the log")
		}
	}
	g.configure(keys, files("good", good, goodKey))
	var r daemon.AuthorityReport
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if r = answer[daemon.AuthorityReport](g.dev, "ca", "show"); r.Refused == "" && len(r.Authorities) == 2 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a good one: %+v\n%s", r, g.log)
		}
	}
	if one := r.Authorities[1]; !one.Custom || one.Subject != "CN=good" || one.Issues || !one.Published || len(r.Warnings) != 0 {
		t.Errorf("a good one: %+v", r)
	}
}
