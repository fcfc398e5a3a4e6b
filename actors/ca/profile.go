package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Usage says what a certificate is for.
type Usage uint8

// The usages. The zero value is none.
const (
	Issuing         Usage = iota + 1 // the managed authority's own, self-signed
	Server                           // a broker's
	Client                           // a component's, such as the MQTT bridge
	ClientAndServer                  // both
)

// String names the usage as Greengrass spells certificate types.
func (u Usage) String() string {
	switch u {
	case Issuing:
		return "AUTHORITY"
	case Server:
		return "SERVER"
	case Client:
		return "CLIENT"
	case ClientAndServer:
		return "CLIENT_AND_SERVER"
	default:
		return fmt.Sprintf("usage %d", uint8(u))
	}
}

// ParseUsage reads the name of a subscriber's usage; "" is SERVER, as orders of 0.1.0 have
// none.
func ParseUsage(name string) (Usage, error) {
	switch name {
	case "", "SERVER":
		return Server, nil
	case "CLIENT":
		return Client, nil
	case "CLIENT_AND_SERVER":
		return ClientAndServer, nil
	}
	return 0, fmt.Errorf("usage %.40q, want SERVER, CLIENT or CLIENT_AND_SERVER", name)
}

// Serves says whether certificates of this usage hold the names a server is dialled by.
func (u Usage) Serves() bool { return u == Server || u == ClientAndServer }

// Lives of certificates (client-device-auth spec 1.1 and 6.1).
const (
	ValidityMin       = 60 * time.Second
	ValidityMax       = 864000 * time.Second
	AuthorityValidity = 5 * 365 * 24 * time.Hour
	backdateMax       = 5 * time.Minute // reliability spec 4.4
)

// ProfileConfig describes a profile.
type ProfileConfig struct {
	Usage Usage

	// Validity is the life of a server or client certificate, held between
	// ValidityMin and ValidityMax. The managed authority's is AuthorityValidity.
	Validity time.Duration

	// KeyUsage adds the extension keyUsage: digitalSignature, and for the authority
	// keyCertSign and cRLSign. Greengrass leaves it out, and RFC 5280 4.2.1.3 lets a
	// leaf do so; but OpenSSL's X509_STRICT, which Python's default TLS context sets
	// from 3.13 on, refuses an authority without it.
	KeyUsage bool
}

// A Profile is a checked ProfileConfig: it says everything about a certificate but
// whose it is.
type Profile struct {
	usage    Usage
	validity time.Duration
	keyUsage x509.KeyUsage
}

// NewProfile checks c and returns its profile.
func NewProfile(c ProfileConfig) (Profile, error) {
	p := Profile{usage: c.Usage, validity: min(max(c.Validity, ValidityMin), ValidityMax)}
	switch c.Usage {
	case Issuing:
		p.validity = AuthorityValidity
		if c.KeyUsage {
			p.keyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		}
	case Server, Client, ClientAndServer:
		if c.KeyUsage {
			p.keyUsage = x509.KeyUsageDigitalSignature
		}
	default:
		return Profile{}, fmt.Errorf("certificate profile: %s is not known", c.Usage)
	}
	return p, nil
}

// window returns the life of a certificate made at now. It begins a little before
// now, for devices whose clock is behind: by 5 minutes, and by no more than a tenth of
// the life. It lasts exactly the profile's validity, and never beyond the issuer's.
func (p Profile) window(now time.Time, issuer *Authority) (notBefore, notAfter time.Time, err error) {
	now = now.UTC().Truncate(time.Second) // RFC 5280 4.1.2.5: no fractions
	notBefore = now.Add(-min(backdateMax, p.validity/10)).Truncate(time.Second)
	notAfter = notBefore.Add(p.validity)
	if issuer == nil {
		return notBefore, notAfter, nil
	}
	if err := issuer.ValidAt(now); err != nil {
		return time.Time{}, time.Time{}, fmt.Errorf("%w; renew it first", err)
	}
	for _, above := range issuer.chain {
		notBefore = latest(notBefore, above.NotBefore)
		notAfter = earliest(notAfter, above.NotAfter)
	}
	if notAfter.Sub(now) < ValidityMin/2 {
		return time.Time{}, time.Time{}, fmt.Errorf("%w: it ends at %s, too soon to issue anything; renew it first", ErrAuthority, notAfter.Format(time.RFC3339))
	}
	return notBefore, notAfter, nil
}

// extUsages lists the extended key usages of the profile.
func (p Profile) extUsages() []x509.ExtKeyUsage {
	switch p.usage {
	case Server:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	case Client:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case ClientAndServer:
		return []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	default:
		return nil
	}
}

// Object identifiers of RFC 5280 4.2.1.
var (
	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidSubjectAltName   = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidAuthorityKeyID   = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidExtKeyUsage      = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidServerAuth       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth       = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
)

// expected lists the extensions a certificate of the profile has, and which of them
// are critical. There are no others.
func (p Profile) expected(issuer *Authority) map[string]bool {
	critical := map[string]bool{
		oidBasicConstraints.String(): true,
		oidSubjectKeyID.String():     false,
	}
	if p.keyUsage != 0 {
		critical[oidKeyUsage.String()] = true
	}
	if issuer != nil && len(issuer.Certificate().SubjectKeyId) > 0 { // an operator's authority may have none
		critical[oidAuthorityKeyID.String()] = false
	}
	if p.usage != Issuing {
		critical[oidExtKeyUsage.String()] = true
	}
	if p.usage.Serves() {
		critical[oidSubjectAltName.String()] = false
	}
	return critical
}

// extKeyUsageExtension encodes the extended key usages as a critical extension;
// crypto/x509 makes it a non-critical one (client-device-auth spec 6.2 wants critical).
func (p Profile) extKeyUsageExtension() (pkix.Extension, error) {
	var oids []asn1.ObjectIdentifier
	if slices.Contains(p.extUsages(), x509.ExtKeyUsageServerAuth) {
		oids = append(oids, oidServerAuth)
	}
	if slices.Contains(p.extUsages(), x509.ExtKeyUsageClientAuth) {
		oids = append(oids, oidClientAuth)
	}
	value, err := asn1.Marshal(oids)
	return pkix.Extension{Id: oidExtKeyUsage, Critical: true, Value: value}, err
}

// AuthorityName is the common name of a managed authority.
const AuthorityName = "Greengrass Core CA"

// checkSubscriber says whether name can be a subscriber's common name.
func checkSubscriber(name string) error {
	const nameBytesMax = 64 // RFC 5280 appendix A.1, ub-common-name
	if name == "" || len(name) > nameBytesMax || name == AuthorityName {
		return fmt.Errorf("subscriber %.80q: want 1 to %d bytes, and not the authority's own name", name, nameBytesMax)
	}
	for _, c := range []byte(name) {
		if c < ' ' || c > '~' {
			return errors.New("subscriber: only printable ASCII is allowed")
		}
	}
	return nil
}

// subject encodes the distinguished name of Greengrass' certificates, attribute by
// attribute in its order, which differs from that of pkix.Name.
func subject(commonName string) []byte {
	attribute := func(last int, value string) pkix.RelativeDistinguishedNameSET {
		return pkix.RelativeDistinguishedNameSET{{Type: asn1.ObjectIdentifier{2, 5, 4, last}, Value: value}}
	}
	der, err := asn1.Marshal(pkix.RDNSequence{
		attribute(6, "US"),
		attribute(10, "Amazon.com Inc."),
		attribute(11, "Amazon Web Services"),
		attribute(8, "Washington"),
		attribute(7, "Seattle"),
		attribute(3, commonName),
	})
	if err != nil {
		panic(fmt.Sprintf("ca: encode subject %q: %v", commonName, err)) // printable text always encodes
	}
	return der
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
