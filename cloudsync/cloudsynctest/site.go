// Package cloudsynctest is a kit for tests of cloudsync's packages: servers that speak TLS
// as a test shapes it, and the certificates for them.
package cloudsynctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// Noon is when tests happen, as far as certificates are concerned.
var Noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// AtNoon is a clock that stands.
func AtNoon() time.Time { return Noon }

// ServerName is the name of each server.
const ServerName = "cloud.example"

// Serve starts an HTTPS server named ServerName, with a certificate of its own authority,
// that takes any client certificate or none; shape, if not nil, changes its TLS first.
func Serve(t testing.TB, handler http.HandlerFunc, shape func(*Authority, *tls.Config)) (*httptest.Server, *Authority) {
	t.Helper()
	authority := NewAuthority(t)
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{
		Certificates: []tls.Certificate{authority.Issue(t, ServerName, Noon)},
		ClientAuth:   tls.RequestClientCert, Time: AtNoon,
	}
	if shape != nil {
		shape(authority, server.TLS)
	}
	own := server.TLS.Certificates
	server.StartTLS()
	server.TLS.Certificates = own // without httptest's own
	t.Cleanup(server.Close)
	return server, authority
}

// An Authority signs what a test needs.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority that is valid around noon.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: Noon.Add(-time.Hour), NotAfter: Noon.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &Authority{certificate, key}
}

// PEM is the authority's certificate.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// Pool holds the authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Issue signs a certificate for name and 127.0.0.1 that is valid in the hour around at.
func (a *Authority) Issue(t testing.TB, name string, at time.Time) tls.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore:   at.Add(-time.Hour), NotAfter: at.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
