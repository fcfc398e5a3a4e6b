package ca

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"time"
)

const (
	registrationCodeLength = 64
	possessionFor          = 24 * time.Hour // it is shown once, at once
	possessionBefore       = time.Hour      // clocks differ
	possessionSerialBytes  = 16
)

// Possession makes the certificate that proves to AWS IoT that one has an authority's key: for
// a public key made for this alone, with the account's registration code as its common name
// (cloud spec 4.3). It is no device's and no server's: it may be used for nothing.
func Possession(random io.Reader, authority *x509.Certificate, key crypto.Signer, public crypto.PublicKey, code string, now time.Time) ([]byte, error) {
	if len(code) != registrationCodeLength {
		return nil, fmt.Errorf("prove possession: a registration code of %d characters, want %d", len(code), registrationCodeLength)
	}
	serial := make([]byte, possessionSerialBytes)
	if _, err := io.ReadFull(random, serial); err != nil {
		return nil, fmt.Errorf("prove possession: draw serial number: %w", err)
	}
	serial[0] = serial[0]&0x7f | 0x40 // RFC 5280, 4.1.2.2: positive
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: code},
		NotBefore: now.Add(-possessionBefore), NotAfter: now.Add(possessionFor), BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(random, template, authority, public, key)
	if err != nil {
		return nil, fmt.Errorf("prove possession: %w", err)
	}
	made, err := x509.ParseCertificate(der)
	if err == nil {
		err = authority.CheckSignature(made.SignatureAlgorithm, made.RawTBSCertificate, made.Signature)
	}
	if err != nil {
		return nil, fmt.Errorf("prove possession: it is not the key of this certificate: %w", err)
	}
	return der, nil
}
