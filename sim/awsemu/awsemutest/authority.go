package awsemutest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// Authority is a private CA of devices, such as a customer registers with AWS IoT.
type Authority struct {
	Certificate *x509.Certificate
	PEM         []byte
	Key         *ecdsa.PrivateKey
}

// NewAuthority makes one that is valid for a year from now on; change shapes it. With a
// parent it is an intermediate one, else its own.
func NewAuthority(t testing.TB, name string, now time.Time, parent *Authority, change ...func(*x509.Certificate)) *Authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	for _, f := range change {
		f(template)
	}
	key := NewKey(t)
	signer := parent
	if signer == nil {
		signer = &Authority{Certificate: template, Key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer.Certificate, key.Public(), signer.Key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{certificate, encode("CERTIFICATE", der), key}
}

// ID is what AWS calls it by.
func (a *Authority) ID() messages.CertificateID { return messages.CertificateIDOf(a.Certificate.Raw) }

// Issue makes a device's certificate; change shapes it.
func (a *Authority) Issue(t testing.TB, name string, now time.Time, change ...func(*x509.Certificate)) *awsemu.Identity {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	for _, f := range change {
		f(template)
	}
	key := NewKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, a.Certificate, key.Public(), a.Key)
	if err != nil {
		t.Fatal(err)
	}
	return &awsemu.Identity{ID: messages.CertificateIDOf(der), DER: der, CertificatePEM: encode("CERTIFICATE", der), KeyPEM: keyPEM(t, key)}
}

// NewKey makes a P-256 key.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func keyPEM(t testing.TB, key crypto.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return encode("PRIVATE KEY", der)
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
