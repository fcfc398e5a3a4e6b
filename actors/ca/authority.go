package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The types of a managed authority's key, as the configuration spells them.
const (
	TypeRSA2048   = "RSA_2048"
	TypeECDSAP256 = "ECDSA_P256"
)

// Limits of what is read.
const (
	certificateBytesMax = 16 << 10 // design section 8
	chainMax            = 8        // certificates from the issuing one to its root
	rsaBitsMin          = 2048
	rsaBitsMax          = 4096 // beyond it a verification is a denial of service
)

// ErrAuthority is wrapped by every error about a certificate that cannot issue.
var ErrAuthority = errors.New("unusable authority")

// An Authority is a certificate that may issue certificates, with its chain.
type Authority struct {
	chain []*x509.Certificate // issuing first
	id    messages.CertificateID
}

// ParseAuthority checks that the DER certificates, issuing one first, form a chain
// whose first is an authority. It does not judge time (ValidAt) and does not ask for
// the root (Complete).
func ParseAuthority(chain ...[]byte) (*Authority, error) {
	if len(chain) == 0 || len(chain) > chainMax {
		return nil, fmt.Errorf("%w: a chain of %d certificates, want 1 to %d", ErrAuthority, len(chain), chainMax)
	}
	a := &Authority{id: messages.CertificateIDOf(chain[0])}
	for i, der := range chain {
		certificate, err := parseIssuer(der, i, i)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			if err := a.chain[i-1].CheckSignatureFrom(certificate); err != nil {
				return nil, fmt.Errorf("%w: certificate %d did not sign certificate %d: %w; the chain runs from the issuing certificate to the root", ErrAuthority, i, i-1, err)
			}
		}
		a.chain = append(a.chain, certificate)
	}
	return a, nil
}

// ParseAuthorityPEM reads a chain from PEM text; blocks other than certificates are
// refused, so that a key does not travel with it.
func ParseAuthorityPEM(text []byte) (*Authority, error) {
	if len(text) > 2*chainMax*certificateBytesMax {
		return nil, fmt.Errorf("%w: %d bytes of PEM", ErrAuthority, len(text))
	}
	var chain [][]byte
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" || len(chain) == chainMax {
			return nil, fmt.Errorf("%w: PEM block %d is %.40q, want at most %d blocks CERTIFICATE", ErrAuthority, len(chain), block.Type, chainMax)
		}
		chain = append(chain, block.Bytes)
	}
	return ParseAuthority(chain...)
}

// checkIssuer says whether certificate may issue with below authorities under it.
func checkIssuer(certificate *x509.Certificate, below int) error {
	switch {
	case !certificate.BasicConstraintsValid || !certificate.IsCA:
		return errors.New("is no authority (basicConstraints CA:TRUE is missing)")
	case certificate.KeyUsage != 0 && certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("may not sign certificates (keyUsage without keyCertSign)")
	case certificate.MaxPathLen >= 0 && certificate.MaxPathLen < below: // RFC 5280 4.2.1.9; -1 is "no limit"
		return fmt.Errorf("allows %d authorities below it, there are %d", certificate.MaxPathLen, below)
	}
	return checkKey(certificate.PublicKey)
}

// checkKey says whether public is of a kind and size we sign and verify with.
func checkKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < rsaBitsMin || bits > rsaBitsMax {
			return fmt.Errorf("RSA key of %d bits, want %d to %d", bits, rsaBitsMin, rsaBitsMax)
		}
		if key.E < 65537 || key.E%2 == 0 {
			return fmt.Errorf("RSA exponent %d, want 65537", key.E)
		}
		return nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() || key.Curve == elliptic.P521() {
			return nil
		}
		return fmt.Errorf("elliptic curve %s, want P-256, P-384 or P-521", key.Curve.Params().Name)
	case ed25519.PublicKey:
		return nil
	default:
		return fmt.Errorf("a %T, want an RSA, ECDSA or Ed25519 key", public)
	}
}

// algorithmOf chooses the signature by the key that makes it. (Greengrass takes the
// name on the issuer's own certificate, which fails for an EC intermediate under an
// RSA root; client-device-auth spec 6.2.)
func algorithmOf(issuer crypto.PublicKey) (x509.SignatureAlgorithm, crypto.Hash, error) {
	switch key := issuer.(type) {
	case *rsa.PublicKey:
		return x509.SHA256WithRSA, crypto.SHA256, nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P384():
			return x509.ECDSAWithSHA384, crypto.SHA384, nil
		case elliptic.P521():
			return x509.ECDSAWithSHA512, crypto.SHA512, nil
		default:
			return x509.ECDSAWithSHA256, crypto.SHA256, nil
		}
	case ed25519.PublicKey:
		return x509.PureEd25519, crypto.Hash(0), nil
	default:
		return 0, 0, fmt.Errorf("%w: a %T cannot sign certificates", ErrAuthority, issuer)
	}
}

// TypeOf names the type of a managed authority's key, "" for any other key.
func TypeOf(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() == 2048 {
			return TypeRSA2048
		}
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return TypeECDSAP256
		}
	}
	return ""
}

// ID names the authority: the SHA-256 of its issuing certificate.
func (a *Authority) ID() messages.CertificateID { return a.id }

// Certificate returns the issuing certificate, not to be changed.
func (a *Authority) Certificate() *x509.Certificate { return a.chain[0] }

// Type is the key's type as the configuration spells it, "" if it is no managed one.
func (a *Authority) Type() string { return TypeOf(a.chain[0].PublicKey) }

// Chain returns the DER certificates, issuing one first.
func (a *Authority) Chain() [][]byte {
	chain := make([][]byte, len(a.chain))
	for i, certificate := range a.chain {
		chain[i] = bytes.Clone(certificate.Raw)
	}
	return chain
}

// PEM returns the chain as PEM, issuing certificate first.
func (a *Authority) PEM() []byte {
	var text bytes.Buffer
	for _, certificate := range a.chain {
		_ = pem.Encode(&text, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}) // a buffer takes everything
	}
	return text.Bytes()
}

// Top returns the last certificate of the chain: what is uploaded to the cloud
// (client-device-auth spec 6.6).
func (a *Authority) Top() *x509.Certificate { return a.chain[len(a.chain)-1] }

// Complete says whether the chain ends in a self-signed certificate. Without one,
// devices must be given the root by other means.
func (a *Authority) Complete() bool { return selfSigned(a.Top()) }

// ValidAt returns an error if a certificate of the chain is not valid at now.
func (a *Authority) ValidAt(now time.Time) error {
	for i, certificate := range a.chain {
		switch {
		case now.Before(certificate.NotBefore):
			return fmt.Errorf("%w: certificate %d (%s) is valid from %s on, which has not come; see whether the machine's clock is right",
				ErrAuthority, i, certificate.Subject, certificate.NotBefore.Format(time.RFC3339))
		case now.After(certificate.NotAfter):
			return fmt.Errorf("%w: certificate %d (%s) has ended at %s; it needs a successor",
				ErrAuthority, i, certificate.Subject, certificate.NotAfter.Format(time.RFC3339))
		}
	}
	return nil
}

// Component tells the name of the component that leaf was issued to, if leaf is a
// client certificate of this authority valid at now. A broker's own server
// certificate is not enough (design section 14; Greengrass takes it too,
// client-device-auth spec 4.1).
func (a *Authority) Component(leaf *x509.Certificate, now time.Time) (name string, ok bool) {
	roots := x509.NewCertPool()
	roots.AddCert(a.chain[0])
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	// Verify takes an absent extended key usage for "any"; ours always have one.
	named := leaf.Subject.CommonName
	if err != nil || leaf.IsCA || len(leaf.ExtKeyUsage) == 0 || checkSubscriber(named) != nil || !bytes.Equal(leaf.RawSubject, subject(named)) {
		return "", false
	}
	return named, true
}
