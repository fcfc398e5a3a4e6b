package awsemu

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// caCertificate is a CA certificate that somebody has registered (cloud spec 4.3). It
// never changes in place.
type caCertificate struct {
	id           messages.CertificateID
	certificate  *x509.Certificate
	active       bool
	autoRegister bool
	config       registrationConfig // the zero value: devices are registered, and no more
	origin
}

// registrationConfig says how devices of a CA are provisioned when they first connect.
type registrationConfig struct {
	TemplateBody string `json:"templateBody,omitempty"`
	TemplateName string `json:"templateName,omitempty"`
	RoleARN      string `json:"roleArn,omitempty"`
}

const sameSubjectMax = 10 // CA certificates of one subject, in an account

func (a *caCertificate) status() Status {
	if a.active {
		return StatusActive
	}
	return StatusInactive
}

// putAuthority stores a CA certificate, a new one or a changed one.
func (b *Batch) putAuthority(a *caCertificate) { put(b, b.r.signers, a.id, a) }

// addAuthority stores one that must be new.
func (b *Batch) addAuthority(a *caCertificate) *apiError {
	if _, ok := b.r.signers[a.id]; ok {
		return alreadyExists("CA certificate already registered", string(a.id), authorityARN(a.id))
	}
	same := 0
	for _, other := range b.r.signers {
		if bytes.Equal(other.certificate.RawSubject, a.certificate.RawSubject) {
			same++
		}
	}
	if b.r.full(same, sameSubjectMax) {
		return limitExceeded(fmt.Sprintf("The account has %d CA certificates of this subject already", same))
	}
	b.putAuthority(a)
	return nil
}

// checkAuthority says why a certificate cannot be registered as a CA's at that time; nil
// if it can be.
func checkAuthority(certificate *x509.Certificate, at time.Time) error {
	switch {
	case !certificate.BasicConstraintsValid || !certificate.IsCA:
		return errors.New("CA certificate is not a CA: its basic constraints need CA:TRUE")
	case certificate.KeyUsage != 0 && certificate.KeyUsage&x509.KeyUsageCertSign == 0:
		return errors.New("CA certificate may not sign certificates: its key usage lacks keyCertSign")
	}
	return errors.Join(checkDates("CA certificate", certificate, at), checkAlgorithms("CA certificate", certificate))
}

func checkDates(what string, certificate *x509.Certificate, at time.Time) error {
	switch {
	case at.Before(certificate.NotBefore):
		return fmt.Errorf("%s is not valid yet", what)
	case at.After(certificate.NotAfter):
		return fmt.Errorf("%s has expired", what)
	}
	return nil
}

var signatureAlgorithms = []x509.SignatureAlgorithm{
	x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS,
	x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512, x509.DSAWithSHA256,
}

// checkAlgorithms lets through what AWS IoT does: SHA-2, and keys of some strength.
func checkAlgorithms(what string, certificate *x509.Certificate) error {
	if !slices.Contains(signatureAlgorithms, certificate.SignatureAlgorithm) {
		return fmt.Errorf("%s is signed with %v, which is not supported", what, certificate.SignatureAlgorithm)
	}
	switch key := certificate.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < rsaBits || bits > 8192 {
			return fmt.Errorf("%s has an RSA key of %d bits, want 2048 to 8192", what, bits)
		}
	case *ecdsa.PublicKey:
		if bits := key.Params().BitSize; bits < 256 {
			return fmt.Errorf("%s has an ECC key of %d bits, want P-256, P-384 or P-521", what, bits)
		}
	default:
		return fmt.Errorf("%s has a key of a kind that is not supported", what)
	}
	return nil
}

// signed says why a is not who signed leaf directly, or may not have at that time; nil if
// it is and may (RFC 5280, 6.1.3, 6.1.4). A name alone proves nothing.
func (a *caCertificate) signed(leaf *x509.Certificate, at time.Time) error {
	ca := a.certificate
	switch {
	case !bytes.Equal(leaf.RawIssuer, ca.RawSubject):
		return errors.New("the certificate names another issuer")
	case leaf.IsCA:
		return errors.New("the certificate is a CA's, not a device's")
	}
	if err := checkAuthority(ca, at); err != nil {
		return err
	}
	if err := errors.Join(checkDates("the certificate", leaf, at), checkAlgorithms("the certificate", leaf)); err != nil {
		return err
	}
	if err := ca.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
		return fmt.Errorf("the certificate is not signed by the CA: %w", err)
	}
	return nil
}

// authorities lists the registered CA certificates, the oldest first.
func (r *Registry) authorities() []*caCertificate {
	all := make([]*caCertificate, 0, len(r.signers))
	for _, a := range r.signers {
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *caCertificate) int { return cmp.Compare(a.key(), b.key()) })
	return all
}

func (a *caCertificate) createdAt() time.Time {
	if a.created.IsZero() {
		return a.certificate.NotBefore
	}
	return a.created
}

func (a *caCertificate) key() string { return dated{a.id, a.createdAt()}.key() }

// signerOf finds the registered CA that signed leaf, for RegisterCertificate: the one whose
// PEM is given, or the only one with the issuer's name (cloud spec 4.3, 4.4). That it must be
// active is a guess. The caller holds mu.
func (r *Registry) signerOf(leaf *x509.Certificate, givenPEM string, at time.Time) (*caCertificate, *apiError) {
	var found *caCertificate
	if givenPEM != "" {
		given, refused := readPEM("caCertificatePem", givenPEM)
		if refused != nil {
			return nil, refused
		}
		if found = r.signers[messages.CertificateIDOf(given.Raw)]; found == nil {
			return nil, certificateInvalid("CA certificate is not registered")
		}
	} else {
		for _, a := range r.signers {
			if !bytes.Equal(a.certificate.RawSubject, leaf.RawIssuer) {
				continue
			}
			if found != nil {
				return nil, iotError(http.StatusConflict, "CertificateConflictException", "There is more than one CA certificate of the issuer's name: name the one that signed, in caCertificatePem")
			}
			found = a
		}
		if found == nil {
			return nil, certificateInvalid("The CA certificate that signed the certificate is not registered")
		}
	}
	if err := found.signed(leaf, at); err != nil {
		return nil, certificateInvalid(err.Error())
	}
	if !found.active {
		return nil, certificateState("The CA certificate is not active")
	}
	return found, nil
}
