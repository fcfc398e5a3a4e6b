package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 123456789, time.UTC)

// fixedKey makes a P-256 key from one byte: tests need the same key twice.
func fixedKey(t testing.TB, b byte) *ecdsa.PrivateKey {
	t.Helper()
	raw := make([]byte, 32)
	raw[0], raw[31] = b, b
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), raw)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keyOf makes a key of a kind.
func keyOf(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var key crypto.Signer
	var err error
	switch kind {
	case TypeRSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case TypeECDSAP256:
		key = fixedKey(t, 7)
	case "P-384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		key = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	default:
		t.Fatalf("no key %s", kind)
	}
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func serialOf(b byte) (serial [SerialBytes]byte) {
	for i := range serial {
		serial[i] = b
	}
	return serial
}

func profile(t testing.TB, c ProfileConfig) Profile {
	t.Helper()
	p, err := NewProfile(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func hosts(t testing.TB, texts ...string) []Host {
	t.Helper()
	hosts, rejected := ParseHosts(texts)
	if len(rejected) > 0 {
		t.Fatal(rejected)
	}
	return hosts
}

// issue prepares and signs.
func issue(t testing.TB, p Profile, r Request, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	prepared, err := Prepare(p, r)
	if err != nil {
		t.Fatal(err)
	}
	der, err := Issue(prepared, signer)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

// managed makes a managed authority at noon.
func managed(t testing.TB, key crypto.Signer, keyUsage bool) *Authority {
	t.Helper()
	certificate := issue(t, profile(t, ProfileConfig{Usage: Issuing, KeyUsage: keyUsage}),
		Request{PublicKey: key.Public(), Serial: serialOf(0x11), Now: noon}, key)
	authority, err := ParseAuthority(certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

// custom makes an authority with crypto/x509 alone, as an operator's tools would.
func custom(t testing.TB, template x509.Certificate, parent *x509.Certificate, key, parentKey crypto.Signer) *x509.Certificate {
	t.Helper()
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = noon.Add(-time.Hour), noon.AddDate(1, 0, 0)
	}
	if parent == nil {
		parent = &template
	}
	der, err := x509.CreateCertificate(rand.Reader, &template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func weakKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
