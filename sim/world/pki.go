package world

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// issuer signs everybody's certificates in a world: the cloud's server, the core, the
// devices. They are valid for longer than any scenario lasts, or for as long as asked.
type issuer struct {
	key         *ecdsa.PrivateKey // everybody's: nobody here tries to be somebody else
	certificate *x509.Certificate
	serial      atomic.Int64
}

// validBefore and validFor are what a certificate is valid before and after the world
// begins.
const (
	validBefore = 24 * time.Hour
	validFor    = 200 * 365 * 24 * time.Hour
)

func newIssuer(name string, start time.Time) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	i := &issuer{key: key}
	der, err := i.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: start.Add(-validBefore), NotAfter: start.Add(validFor),
	})
	if err != nil {
		return nil, err
	}
	i.certificate, err = x509.ParseCertificate(der)
	return i, err
}

func (i *issuer) sign(template *x509.Certificate) ([]byte, error) {
	template.SerialNumber = big.NewInt(i.serial.Add(1))
	parent := i.certificate
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, i.key.Public(), i.key)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate: %w", err)
	}
	return der, nil
}

// authority is the issuer as the emulated cloud knows it, for certificates that are wrong.
func (i *issuer) authority() (*awsemu.Authority, error) {
	key, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		return nil, err
	}
	return awsemu.LoadAuthority(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.certificate.Raw}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

// device makes a client's certificate.
func (i *issuer) device(name string, from, to time.Time) ([]byte, error) {
	return i.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// server makes the emulated cloud's certificate.
func (i *issuer) server(start time.Time) (tls.Certificate, error) {
	der, err := i.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: awsemu.ServerName}, DNSNames: []string{awsemu.ServerName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: start.Add(-validBefore), NotAfter: start.Add(validFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: i.key}, err
}

func (i *issuer) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(i.certificate)
	return pool
}
