package keys

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
)

// ErrNoCertificate is returned by a Current that was not given a certificate yet.
var ErrNoCertificate = errors.New("no certificate was issued yet")

// Current holds the certificate a server shows now. It is exchanged under a running
// server: new connections see the new one, open ones stay. The zero value is ready.
type Current struct {
	held atomic.Pointer[tls.Certificate]
}

// Set puts chain (DER, leaf first) and the leaf's key in place, if they belong
// together; else what was there stays.
func (c *Current) Set(chain [][]byte, key crypto.Signer) error {
	if len(chain) == 0 {
		return errors.New("set certificate: the chain is empty")
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return fmt.Errorf("set certificate: %w", err)
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return fmt.Errorf("set certificate %x: %w", leaf.SerialNumber, ErrMismatch)
	}
	c.held.Store(&tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf})
	return nil
}

// GetCertificate is for tls.Config.GetCertificate.
func (c *Current) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if held := c.held.Load(); held != nil {
		return held, nil
	}
	return nil, ErrNoCertificate
}

// GetClientCertificate is for tls.Config.GetClientCertificate.
func (c *Current) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return c.GetCertificate(nil)
}

// Leaf returns the certificate shown now, nil if there is none.
func (c *Current) Leaf() *x509.Certificate {
	if held := c.held.Load(); held != nil {
		return held.Leaf
	}
	return nil
}
