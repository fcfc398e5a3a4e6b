package ca

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
)

// Assemble makes an authority of an issuing certificate and of those above it, in any
// order and with repetitions, as files hold them: the chain runs from the issuing one by
// signatures, to a self-signed one if that is given. A certificate that is none of the
// chain's is an error: it belongs to another authority, or the one between is missing.
func Assemble(issuing []byte, others [][]byte) (*Authority, error) {
	if len(others) > 2*chainMax {
		return nil, fmt.Errorf("%w: %d certificates beside the issuing one, want at most %d", ErrAuthority, len(others), 2*chainMax)
	}
	chain := [][]byte{issuing}
	top, err := parseIssuer(issuing, 0, 0)
	if err != nil {
		return nil, err
	}
	var rest []*x509.Certificate
	for i, der := range others {
		if bytes.Equal(der, issuing) || slices.ContainsFunc(rest, func(c *x509.Certificate) bool { return bytes.Equal(c.Raw, der) }) {
			continue
		}
		c, err := parseIssuer(der, i+1, 0)
		if err != nil {
			return nil, err
		}
		rest = append(rest, c)
	}
	for !selfSigned(top) {
		i := slices.IndexFunc(rest, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, top.RawIssuer) && top.CheckSignatureFrom(c) == nil
		})
		if i < 0 {
			break
		}
		top = rest[i]
		rest = slices.Delete(rest, i, i+1)
		chain = append(chain, top.Raw)
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("%w: the certificate of %s is none of the chain, which ends with %s, signed by %s; give the certificates above the issuing one and no others",
			ErrAuthority, rest[0].Subject, top.Subject, top.Issuer)
	}
	return ParseAuthority(chain...)
}

// parseIssuer reads certificate i, which has below authorities under it. Its key is judged
// before it is computed with.
func parseIssuer(der []byte, i, below int) (*x509.Certificate, error) {
	if len(der) > certificateBytesMax {
		return nil, fmt.Errorf("%w: certificate %d has %d bytes, want at most %d", ErrAuthority, i, len(der), certificateBytesMax)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate %d: %w", ErrAuthority, i, err)
	}
	if err := checkIssuer(c, below); err != nil {
		return nil, fmt.Errorf("%w: certificate %d (%s): %w", ErrAuthority, i, c.Subject, err)
	}
	return c, nil
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil
}
