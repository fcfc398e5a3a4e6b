package ca

import (
	"bytes"
	"crypto"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// findOpenSSL fails where end-to-end tests must run, and skips elsewhere.
func findOpenSSL(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err == nil {
		return path
	}
	if os.Getenv("GATEHOUSE_E2E") == "1" {
		t.Fatalf("GATEHOUSE_E2E=1 and no openssl: %v", err)
	}
	t.Skipf("cross-check left out: %v", err)
	return ""
}

func writePEM(t *testing.T, dir, name string, der []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Another implementation reads our certificates as we mean them, and judges them as
// devices will: by chain, purpose, name, address and time.
func TestOpenSSLAgrees(t *testing.T) {
	openssl := findOpenSSL(t)
	for _, c := range []struct {
		name     string
		key      crypto.Signer
		keyUsage bool
	}{
		{"RSA as the reference's", keyOf(t, TypeRSA2048), false},
		{"RSA as it is issued", keyOf(t, TypeRSA2048), true},
		{"P-256 with key usage", keyOf(t, TypeECDSAP256), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			authority := managed(t, c.key, c.keyUsage)
			leaf := func(usage Usage) string {
				r := Request{Issuer: authority, Subscriber: "mosquitto", PublicKey: fixedKey(t, 9).Public(), Serial: serialOf(0x5a), Now: noon}
				if usage.Serves() {
					r.Hosts = hosts(t, "core.local", "192.168.1.4", "FE80::1")
				}
				certificate := issue(t, profile(t, ProfileConfig{Usage: usage, Validity: time.Hour, KeyUsage: c.keyUsage}), r, c.key)
				return writePEM(t, dir, usage.String()+".pem", certificate.Raw)
			}
			ca, server, client, both := writePEM(t, dir, "ca.pem", authority.Certificate().Raw), leaf(Server), leaf(Client), leaf(ClientAndServer)
			now := strconv.FormatInt(noon.Unix(), 10)
			late := strconv.FormatInt(noon.Add(2*time.Hour).Unix(), 10)
			early := strconv.FormatInt(noon.Add(-10*time.Minute).Unix(), 10)
			for _, v := range []struct {
				name string
				args []string
				ok   bool
			}{
				{"a server", []string{"-attime", now, "-purpose", "sslserver", server}, true},
				{"a client", []string{"-attime", now, "-purpose", "sslclient", client}, true},
				{"a server for a client", []string{"-attime", now, "-purpose", "sslclient", server}, false},
				{"a client for a server", []string{"-attime", now, "-purpose", "sslserver", client}, false},
				{"one for both uses, as a server", []string{"-attime", now, "-purpose", "sslserver", "-verify_hostname", "core.local", both}, true},
				{"one for both uses, as a client", []string{"-attime", now, "-purpose", "sslclient", both}, true},
				{"the authority as a server", []string{"-attime", now, "-purpose", "sslserver", "-verify_hostname", "core.local", ca}, false},
				{"its name", []string{"-attime", now, "-verify_hostname", "core.local", server}, true},
				{"localhost", []string{"-attime", now, "-verify_hostname", "localhost", server}, true},
				{"another name", []string{"-attime", now, "-verify_hostname", "other.local", server}, false},
				{"its address", []string{"-attime", now, "-verify_ip", "fe80::1", server}, true},
				{"another address", []string{"-attime", now, "-verify_ip", "10.0.0.1", server}, false},
				{"after the end", []string{"-attime", late, server}, false},
				{"before the beginning", []string{"-attime", early, server}, false},
				{"the strict check, which wants key usage", []string{"-attime", now, "-x509_strict", "-purpose", "sslserver", server}, c.keyUsage},
			} {
				out, err := exec.CommandContext(t.Context(), openssl, append([]string{"verify", "-CAfile", ca}, v.args...)...).CombinedOutput()
				if (err == nil) != v.ok {
					t.Errorf("%s: %v\n%s", v.name, err, out)
				}
			}
			text, err := exec.CommandContext(t.Context(), openssl, "x509", "-in", server, "-noout", "-text").Output()
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				"Issuer: C = US, O = Amazon.com Inc., OU = Amazon Web Services, ST = Washington, L = Seattle, CN = Greengrass Core CA",
				"Subject: C = US, O = Amazon.com Inc., OU = Amazon Web Services, ST = Washington, L = Seattle, CN = mosquitto",
				"X509v3 Basic Constraints: critical\n                CA:FALSE",
				"X509v3 Extended Key Usage: critical\n                TLS Web Server Authentication",
				"DNS:core.local, DNS:localhost, IP Address:192.168.1.4, IP Address:FE80:0:0:0:0:0:0:1",
				"Serial Number:\n            5a:5a:5a:5a",
			} {
				if !bytes.Contains(text, []byte(want)) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
			if got := strings.Contains(string(text), "X509v3 Key Usage: critical\n                Digital Signature\n"); got != c.keyUsage {
				t.Errorf("key usage %t, want %t in\n%s", got, c.keyUsage, text)
			}
		})
	}
}

// A request made by openssl is taken; its names are not.
func TestOpenSSLRequest(t *testing.T) {
	openssl := findOpenSSL(t)
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), openssl, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-keyout", filepath.Join(dir, "key.pem"), "-subj", "/CN=Greengrass Core CA", "-addext", "basicConstraints=critical,CA:TRUE").Output()
	if err != nil {
		t.Fatal(err)
	}
	public, err := ParseCSR(out)
	if err != nil {
		t.Fatal(err)
	}
	key := fixedKey(t, 7)
	got := issue(t, profile(t, ProfileConfig{Usage: Server}), Request{Issuer: managed(t, key, false), Subscriber: "b", PublicKey: public, Serial: serialOf(1), Now: noon}, key)
	if got.IsCA || got.Subject.CommonName != "b" {
		t.Errorf("CA %t, name %s: the request's own words are in the certificate", got.IsCA, got.Subject.CommonName)
	}
}
