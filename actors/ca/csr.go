package ca

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// ErrCSR is wrapped by every error about a certificate signing request.
var ErrCSR = errors.New("unusable certificate signing request")

// ParseCSR returns the public key of a certificate signing request, PEM or DER, after
// checking that the requester holds its private key. Names, extensions and attributes
// of the request are not looked at: what a certificate says comes from the
// configuration (reliability spec 4.2).
func ParseCSR(request []byte) (crypto.PublicKey, error) {
	if len(request) == 0 || len(request) > certificateBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrCSR, len(request), certificateBytesMax)
	}
	der := request
	if bytes.HasPrefix(bytes.TrimSpace(request), []byte("-----BEGIN")) {
		block, rest := pem.Decode(request)
		switch {
		case block == nil:
			return nil, fmt.Errorf("%w: broken PEM", ErrCSR)
		case block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
			return nil, fmt.Errorf("%w: PEM block %.40q, want CERTIFICATE REQUEST", ErrCSR, block.Type)
		case len(bytes.TrimSpace(rest)) > 0:
			return nil, fmt.Errorf("%w: %d bytes behind the request", ErrCSR, len(rest))
		}
		der = block.Bytes
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	// The key is judged before its signature is computed with: an RSA key of a
	// million bits takes minutes to verify.
	if err := checkKey(csr.PublicKey); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCSR, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("%w: no proof of the private key: %w", ErrCSR, err)
	}
	return csr.PublicKey, nil
}
