package ca

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

// Client-device-auth spec 6.5 says what the reference does not check: that the
// certificate is an authority, that the chain is one, that it is valid in time.
func TestAuthoritiesThatAreRefused(t *testing.T) {
	key := fixedKey(t, 7)
	template := func(change func(*x509.Certificate)) x509.Certificate {
		c := x509.Certificate{SerialNumber: big.NewInt(5), Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true, MaxPathLen: -1}
		change(&c)
		return c
	}
	good := custom(t, template(func(*x509.Certificate) {}), nil, key, key)
	other := custom(t, template(func(c *x509.Certificate) { c.Subject.CommonName = "other" }), nil, fixedKey(t, 8), fixedKey(t, 8))
	short := custom(t, template(func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }), nil, key, key)
	below := custom(t, template(func(c *x509.Certificate) { c.Subject.CommonName = "below" }), short, fixedKey(t, 9), key)
	for _, c := range []struct {
		name  string
		chain [][]byte
		want  string
	}{
		{"no certificate", nil, "a chain of 0 certificates"},
		{"a long chain", make([][]byte, 9), "a chain of 9 certificates"},
		{"garbage", [][]byte{{1, 2, 3}}, "certificate 0"},
		{"a giant", [][]byte{make([]byte, 16<<10+1)}, "16385 bytes"},
		{"a leaf", [][]byte{custom(t, template(func(c *x509.Certificate) { c.IsCA = false }), nil, key, key).Raw}, "is no authority"},
		{"no basic constraints", [][]byte{custom(t, template(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }), nil, key, key).Raw}, "is no authority"},
		{"a key usage without signing", [][]byte{custom(t, template(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }), nil, key, key).Raw}, "may not sign certificates"},
		{"a chain of strangers", [][]byte{good.Raw, other.Raw}, "did not sign certificate 0"},
		{"a path length that ends above", [][]byte{below.Raw, short.Raw}, "allows 0 authorities below it, there are 1"},
	} {
		if _, err := ParseAuthority(c.chain...); !errors.Is(err, ErrAuthority) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	authority, err := ParseAuthority(below.Raw)
	if err != nil || authority.Complete() {
		t.Errorf("an intermediate alone: %v, complete %t", err, authority != nil && authority.Complete())
	}
}

func TestAuthorityPEM(t *testing.T) {
	authority := managed(t, fixedKey(t, 7), false)
	again, err := ParseAuthorityPEM(append([]byte("text before\n"), authority.PEM()...))
	if err != nil || again.ID() != authority.ID() || !bytes.Equal(again.Chain()[0], authority.Chain()[0]) {
		t.Errorf("read back: %v", err)
	}
	withKey := append(authority.PEM(), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}})...)
	if _, err := ParseAuthorityPEM(withKey); !errors.Is(err, ErrAuthority) {
		t.Errorf("a key beside the certificate: %v", err)
	}
	if _, err := ParseAuthorityPEM(nil); !errors.Is(err, ErrAuthority) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := ParseAuthorityPEM(make([]byte, 1<<20)); !errors.Is(err, ErrAuthority) {
		t.Errorf("a megabyte: %v", err)
	}
}

// Client-device-auth spec 4.1, design section 14: a component is who holds a client
// certificate of this authority, nobody else.
func TestComponents(t *testing.T) {
	key, strange := fixedKey(t, 7), fixedKey(t, 8)
	authority, other := managed(t, key, false), managed(t, strange, false)
	leaf := func(issuer *Authority, usage Usage, validity time.Duration) *x509.Certificate {
		signer := key
		if issuer == other {
			signer = strange
		}
		return issue(t, profile(t, ProfileConfig{Usage: usage, Validity: validity}),
			Request{Issuer: issuer, Subscriber: "aws.greengrass.Bridge", PublicKey: fixedKey(t, 9).Public(), Serial: serialOf(3), Now: noon}, signer)
	}
	if name, ok := authority.Component(leaf(authority, Client, time.Hour), noon); !ok || name != "aws.greengrass.Bridge" {
		t.Errorf("its own client certificate: %q, %t", name, ok)
	}
	if _, ok := authority.Component(leaf(authority, ClientAndServer, time.Hour), noon); !ok {
		t.Error("a client-and-server certificate is refused")
	}
	noUsage := custom(t, x509.Certificate{SerialNumber: big.NewInt(1), RawSubject: subject("x")}, authority.Certificate(), strange, key)
	wrongSubject := custom(t, x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "x"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}},
		authority.Certificate(), strange, key)
	for name, c := range map[string]struct {
		leaf *x509.Certificate
		at   time.Time
	}{
		"a server certificate":                   {leaf(authority, Server, time.Hour), noon},
		"another authority's":                    {leaf(other, Client, time.Hour), noon},
		"an expired one":                         {leaf(authority, Client, time.Hour), noon.Add(2 * time.Hour)},
		"one that is not valid yet":              {leaf(authority, Client, time.Hour), noon.Add(-time.Hour)},
		"the authority itself":                   {authority.Certificate(), noon},
		"one without extended key usage":         {noUsage, noon},
		"one whose subject is not of our making": {wrongSubject, noon},
	} {
		if component, ok := authority.Component(c.leaf, c.at); ok {
			t.Errorf("%s is taken for component %q", name, component)
		}
	}
}

// Reliability spec 4.2: proof of possession, keys of a known kind, nothing else read.
func TestCSR(t *testing.T) {
	key := fixedKey(t, 7)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "Greengrass Core CA"}, DNSNames: []string{"evil"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})
	for name, good := range map[string][]byte{"DER": request, "PEM": text, "PEM with a blank line": append([]byte("\n"), text...)} {
		public, err := ParseCSR(good)
		if err != nil || !key.PublicKey.Equal(public) {
			t.Errorf("%s: %v", name, err)
		}
	}
	forged := bytes.Clone(request)
	forged[len(forged)-1] ^= 1
	weak, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, weakKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string][]byte{
		"nothing": nil, "garbage": {0x30, 0x03, 1, 2, 3}, "a giant": make([]byte, 16<<10+1), "no proof": forged, "a weak key": weak,
		"another block": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: request}), "two requests": append(bytes.Clone(text), text...),
		"broken PEM": []byte("-----BEGIN CERTIFICATE REQUEST-----\nAAAA"), "bytes behind": append(bytes.Clone(request), 0),
	} {
		if public, err := ParseCSR(bad); !errors.Is(err, ErrCSR) || public != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseCSR holds that a request is refused or yields a key that a certificate can
// be prepared for.
func FuzzParseCSR(f *testing.F) {
	key := fixedKey(f, 7)
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(request)
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request}))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n"))
	authority := managed(f, key, false)
	server := profile(f, ProfileConfig{Usage: Server})
	f.Fuzz(func(t *testing.T, request []byte) {
		public, err := ParseCSR(request)
		if err != nil {
			return
		}
		if _, err := Prepare(server, Request{Issuer: authority, Subscriber: "b", PublicKey: public, Serial: serialOf(1), Now: noon}); err != nil {
			t.Errorf("accepted, but: %v", err)
		}
	})
}

// FuzzParseHost holds that an accepted host survives its own text.
func FuzzParseHost(f *testing.F) {
	for _, seed := range []string{"localhost", "127.0.0.1:80", "[::1]", "fe80::1%eth0", "a.b-c_d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host, err := ParseHost(text)
		if err != nil {
			return
		}
		if again, err := ParseHost(host.String()); err != nil || again != host {
			t.Errorf("%q is %s, which is %s (%v)", text, host, again, err)
		}
	})
}
