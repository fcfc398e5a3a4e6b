package registration

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// signer is an authority of the tests.
type signer struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func issue(t testing.TB, template *x509.Certificate, above *signer, key crypto.Signer) *x509.Certificate {
	t.Helper()
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(0xabc)
	}
	if template.NotBefore.IsZero() {
		template.NotBefore, template.NotAfter = noon.Add(-time.Hour), noon.Add(24*time.Hour)
	}
	parent, signing := template, key
	if above != nil {
		parent, signing = above.cert, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signing)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newSigner(t testing.TB, change func(*x509.Certificate)) *signer {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "Fleet CA", Organization: []string{"ACME"}}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	key := newKey(t)
	return &signer{issue(t, template, nil, key), key}
}

func (s *signer) leaf(t testing.TB, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{Subject: pkix.Name{CommonName: "pump-7", Organization: []string{"ACME"}}}
	if change != nil {
		change(template)
	}
	return issue(t, template, s, newKey(t))
}

func candidateOf(leaf *x509.Certificate, s *signer) Candidate {
	return Candidate{
		Certificate: messages.CertificateIDOf(leaf.Raw), DER: leaf.Raw,
		Authority: messages.CertificateIDOf(s.cert.Raw), AuthorityDER: s.cert.Raw,
	}
}

func compile(t testing.TB, cfg Config) Rules {
	t.Helper()
	r, err := Compile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
