package registration

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Bounds of what is verified, as authapi's and the authority's own.
const (
	derBytesMax    = 16 << 10
	rsaBitsMin     = 2048
	rsaBitsMax     = 4096
	authoritiesMax = 64
)

// ErrNotSigned is wrapped by what says that an authority did not sign a certificate.
var ErrNotSigned = errors.New("not signed by a registered authority")

// AuthorityError says why a certificate is none that devices can register by.
type AuthorityError struct{ Reason string }

// Error tells the reason.
func (e *AuthorityError) Error() string { return "not an authority for devices: " + e.Reason }

var signatures = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.PureEd25519,
}

var keyUsageOID = asn1.ObjectIdentifier{2, 5, 29, 15}

// CheckAuthority says whether c can be an authority by which devices register, at any time:
// an *AuthorityError if not.
func CheckAuthority(c *x509.Certificate) error {
	hasUsage := slices.ContainsFunc(c.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(keyUsageOID) })
	reason := ""
	switch {
	case len(c.Raw) > derBytesMax:
		reason = fmt.Sprintf("%d bytes, at most %d", len(c.Raw), derBytesMax)
	case c.Version != 3 || !c.BasicConstraintsValid || !c.IsCA:
		reason = "its basic constraints do not say CA:TRUE: a device's or a server's certificate signs no other"
	case hasUsage && c.KeyUsage&x509.KeyUsageCertSign == 0:
		reason = "its key usage lacks keyCertSign"
	case len(c.UnhandledCriticalExtensions) > 0:
		reason = fmt.Sprintf("its critical extension %s is not understood", c.UnhandledCriticalExtensions[0])
	case !slices.Contains(signatures, c.SignatureAlgorithm):
		reason = fmt.Sprintf("signature algorithm %s: want SHA-256 or longer, with RSA, ECDSA, or Ed25519", c.SignatureAlgorithm)
	default:
		if _, err := KeyType(c.PublicKey); err != nil {
			reason = err.Error()
		}
	}
	if reason != "" {
		return &AuthorityError{Reason: reason}
	}
	return nil
}

// Signed says whether authority is the direct signer of leaf, and both can be relied on at
// now: nil, or why not. The leaf may be anybody's bytes; the authority is one that an
// operator registered (cloud spec 4.3, rule 4), so that nothing above it counts.
func Signed(leaf, authority *x509.Certificate, now time.Time) error {
	if err := CheckAuthority(authority); err != nil {
		return err
	}
	if err := inTime(authority, now); err != nil {
		return &AuthorityError{Reason: err.Error()}
	}
	if err := checkLeaf(leaf); err != nil {
		return err
	}
	if !bytes.Equal(leaf.RawIssuer, authority.RawSubject) {
		return fmt.Errorf("%w: its issuer has another name", ErrNotSigned)
	}
	// Name constraints and the signature itself, by the library's own rules.
	roots := x509.NewCertPool()
	roots.AddCert(authority)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), CurrentTime: within(leaf, now), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return fmt.Errorf("%w: %v", ErrNotSigned, err)
	}
	return inTime(leaf, now)
}

// within is now, or the nearest time at which leaf is valid: that it is not is told apart
// from that it is not signed, which is judged first.
func within(leaf *x509.Certificate, now time.Time) time.Time {
	switch {
	case now.Before(leaf.NotBefore):
		return leaf.NotBefore
	case now.After(leaf.NotAfter):
		return leaf.NotAfter
	}
	return now
}

// checkLeaf bounds what a stranger can make us verify, and refuses what must not be a
// device's. Version 1, which has no extensions, is what "openssl x509 -req" makes, as AWS
// tells people to.
func checkLeaf(leaf *x509.Certificate) error {
	switch {
	case len(leaf.Raw) > derBytesMax:
		return fmt.Errorf("a certificate of %d bytes, at most %d", len(leaf.Raw), derBytesMax)
	case leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0:
		return errors.New("a certificate that may sign others is no device's")
	case len(leaf.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("critical extension %s is not understood", leaf.UnhandledCriticalExtensions[0])
	case !slices.Contains(signatures, leaf.SignatureAlgorithm):
		return fmt.Errorf("signature algorithm %s: want SHA-256 or longer, with RSA, ECDSA, or Ed25519", leaf.SignatureAlgorithm)
	case leaf.NotAfter.Before(leaf.NotBefore):
		return errors.New("the certificate ends before it begins")
	}
	_, err := KeyType(leaf.PublicKey)
	return err
}

// inTime: at both its ends a certificate is valid (RFC 5280, 4.1.2.5).
func inTime(c *x509.Certificate, now time.Time) error {
	switch {
	case now.Before(c.NotBefore):
		return fmt.Errorf("not valid before %s", c.NotBefore.UTC().Format(time.RFC3339))
	case now.After(c.NotAfter):
		return fmt.Errorf("expired at %s", c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// KeyType names the type of a public key, as rules do: RSA-2048, P-256, Ed25519. An error
// tells what cannot be used.
func KeyType(key any) (string, error) {
	switch key := key.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < rsaBitsMin || bits > rsaBitsMax {
			return "", fmt.Errorf("an RSA key of %d bits, want %d to %d", bits, rsaBitsMin, rsaBitsMax)
		}
		return fmt.Sprintf("RSA-%d", key.N.BitLen()), nil
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return key.Params().Name, nil
		}
		return "", fmt.Errorf("a key on curve %s, want P-256, P-384 or P-521", key.Params().Name)
	case ed25519.PublicKey:
		return "Ed25519", nil
	default:
		return "", errors.New("a key of an unknown type, want RSA, ECDSA or Ed25519")
	}
}

// Authorities are those by which devices register. The zero value has none.
type Authorities struct {
	list []*x509.Certificate
	ids  []messages.CertificateID
}

// NewAuthorities makes a set of certs, each of which must pass CheckAuthority; at most 64.
// That one has expired is judged when it is used.
func NewAuthorities(certs []*x509.Certificate) (Authorities, error) {
	var a Authorities
	if len(certs) > authoritiesMax {
		return a, fmt.Errorf("%d authorities, at most %d", len(certs), authoritiesMax)
	}
	for _, c := range certs {
		id := messages.CertificateIDOf(c.Raw)
		if err := CheckAuthority(c); err != nil {
			return Authorities{}, fmt.Errorf("%.12s… (%.80q): %w", id, c.Subject.String(), err)
		}
		if !slices.Contains(a.ids, id) {
			a.list, a.ids = append(a.list, c), append(a.ids, id)
		}
	}
	return a, nil
}

// IDs returns their ids, in the order they were given.
func (a Authorities) IDs() []messages.CertificateID { return slices.Clone(a.ids) }

// Find returns the authority with this id, nil if there is none.
func (a Authorities) Find(id messages.CertificateID) *x509.Certificate {
	if i := slices.Index(a.ids, id); i >= 0 {
		return a.list[i]
	}
	return nil
}

// SignerOf returns the authority that signed leaf and its id, by Signed; an error says why
// there is none, and wraps ErrNotSigned if it is nobody's of these.
func (a Authorities) SignerOf(leaf *x509.Certificate, now time.Time) (messages.CertificateID, *x509.Certificate, error) {
	reason := fmt.Errorf("%w: its issuer is none of them", ErrNotSigned)
	for i, authority := range a.list {
		if !bytes.Equal(leaf.RawIssuer, authority.RawSubject) {
			continue
		}
		err := Signed(leaf, authority, now)
		if err == nil {
			return a.ids[i], authority, nil
		}
		// Several authorities may share a name: what another says of its own leaf tells more
		// than that this one did not sign it.
		if errors.Is(reason, ErrNotSigned) {
			reason = err
		}
	}
	return "", nil, reason
}
