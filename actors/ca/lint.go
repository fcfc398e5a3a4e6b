package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// lint checks a built certificate against what was asked for, without trusting the
// code that built it. Every rule it breaks is in the error.
func lint(p Profile, r Request, c *x509.Certificate) error {
	var broken []error
	rule := func(holds bool, format string, args ...any) {
		if !holds {
			broken = append(broken, fmt.Errorf(format, args...))
		}
	}
	// RFC 5280 4.1.2.2: positive, at most 20 octets.
	rule(c.Version == 3, "version %d, want 3", c.Version)
	rule(c.SerialNumber.Sign() > 0 && c.SerialNumber.BitLen() <= 8*SerialBytes-1, "serial number %x is not positive or too long", c.SerialNumber)
	// Reliability spec C-I2: at least 64 random bits. Fewer leading bits than that is
	// a source of zeros, not chance.
	rule(c.SerialNumber.BitLen() >= 64, "serial number %x has fewer than 64 bits: the random source is broken", c.SerialNumber)
	lintWindow(p, r, c, rule)
	lintNames(p, r, c, rule)
	lintExtensions(p, r, c, rule)
	equal, ok := c.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	rule(ok && equal.Equal(r.PublicKey), "the public key is not the one requested")
	return errors.Join(broken...)
}

// ruleFunc notes a rule that does not hold.
type ruleFunc func(holds bool, format string, args ...any)

func lintWindow(p Profile, r Request, c *x509.Certificate, rule ruleFunc) {
	rule(!c.NotBefore.After(r.Now) && c.NotAfter.After(r.Now), "valid from %s to %s, which is not now", c.NotBefore, c.NotAfter)
	rule(c.NotAfter.Sub(c.NotBefore) <= p.validity, "valid for %s, want at most %s", c.NotAfter.Sub(c.NotBefore), p.validity)
	rule(r.Now.Sub(c.NotBefore) <= backdateMax+time.Second, "begins %s ago, want at most %s", r.Now.Sub(c.NotBefore), backdateMax)
	if r.Issuer == nil {
		return
	}
	for _, above := range r.Issuer.chain {
		rule(!c.NotAfter.After(above.NotAfter) && !c.NotBefore.Before(above.NotBefore), "lives beyond its issuer %s", above.Subject)
	}
}

func lintNames(p Profile, r Request, c *x509.Certificate, rule ruleFunc) {
	name, issuer := AuthorityName, subject(AuthorityName)
	if p.usage != Issuing {
		name, issuer = r.Subscriber, r.Issuer.Certificate().RawSubject
	}
	rule(bytes.Equal(c.RawSubject, subject(name)), "subject %s", c.Subject)
	rule(bytes.Equal(c.RawIssuer, issuer), "issuer %s", c.Issuer)
	var names []Host
	for _, dns := range c.DNSNames {
		names = append(names, Host{name: dns})
	}
	for _, ip := range c.IPAddresses {
		address, _ := netip.AddrFromSlice(ip)
		names = append(names, hostOf(address))
	}
	var want []Host
	if p.usage.Serves() {
		want = withLocalhost(r.Hosts)
	}
	byText := func(a, b Host) int { return bytes.Compare([]byte(a.String()), []byte(b.String())) }
	slices.SortFunc(names, byText)
	slices.SortFunc(want, byText)
	rule(slices.Equal(names, want), "alternative names %v, want %v", names, want)
	rule(len(c.EmailAddresses) == 0 && len(c.URIs) == 0, "alternative names that are no host")
}

func lintExtensions(p Profile, r Request, c *x509.Certificate, rule ruleFunc) {
	expected := p.expected(r.Issuer)
	for _, extension := range c.Extensions {
		critical, known := expected[extension.Id.String()]
		rule(known && critical == extension.Critical, "extension %s (critical %t) does not belong", extension.Id, extension.Critical)
		delete(expected, extension.Id.String())
	}
	rule(len(expected) == 0, "extensions are missing: %v", expected)
	rule(c.BasicConstraintsValid && c.IsCA == (p.usage == Issuing), "basicConstraints CA:%t", c.IsCA)
	rule(c.MaxPathLen == -1, "a path length of %d", c.MaxPathLen)
	rule(slices.Equal(c.ExtKeyUsage, p.extUsages()) && len(c.UnknownExtKeyUsage) == 0, "extended key usage %v", c.ExtKeyUsage)
	rule(c.KeyUsage == p.keyUsage, "key usage %b", c.KeyUsage)
	rule(len(c.SubjectKeyId) == 20, "subject key identifier of %d bytes", len(c.SubjectKeyId))
	if r.Issuer != nil {
		rule(bytes.Equal(c.AuthorityKeyId, r.Issuer.Certificate().SubjectKeyId), "authority key identifier %x", c.AuthorityKeyId)
	}
}

func keyAlgorithm(public crypto.PublicKey) x509.PublicKeyAlgorithm {
	switch public.(type) {
	case *rsa.PublicKey:
		return x509.RSA
	case *ecdsa.PublicKey:
		return x509.ECDSA
	case ed25519.PublicKey:
		return x509.Ed25519
	default:
		return x509.UnknownPublicKeyAlgorithm
	}
}
