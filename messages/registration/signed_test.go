package registration

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"strings"
	"testing"
	"time"
)

// reliability spec 1.3, "JITR with rogue CA", and what else must not pass.
func TestSignedTakesTheDirectSignersOwnLeavesAlone(t *testing.T) {
	fleet := newSigner(t, nil)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	rogue := newSigner(t, nil) // the same name, another key
	root := newSigner(t, func(c *x509.Certificate) { c.Subject.CommonName = "Root" })
	rootsKey := newKey(t)
	under := &signer{issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Under"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, root, rootsKey), rootsKey}
	deviceKey := newKey(t)
	device := &signer{issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "pump-1"}}, fleet, deviceKey), deviceKey}
	good := fleet.leaf(t, nil)
	if err := Signed(withVersion(good, 1), fleet.cert, noon); err != nil {
		t.Errorf("of version 1: %v", err)
	}
	for name, test := range map[string]struct {
		leaf, authority *x509.Certificate
		at              time.Time
		want            string // "" passes
		notSigned       bool
	}{
		"its own":                  {good, fleet.cert, noon, "", false},
		"at its first second":      {good, fleet.cert, good.NotBefore, "", false},
		"at its last second":       {good, fleet.cert, good.NotAfter, "", false},
		"below an intermediate":    {under.leaf(t, nil), under.cert, noon, "", false},
		"not the direct signer":    {under.leaf(t, nil), root.cert, noon, "another name", true},
		"the same name, rogue":     {rogue.leaf(t, nil), fleet.cert, noon, "signed", true},
		"another authority's":      {good, root.cert, noon, "another name", true},
		"a leaf as authority":      {device.leaf(t, nil), device.cert, noon, "CA:TRUE", false},
		"the authority itself":     {fleet.cert, fleet.cert, noon, "may sign others", false},
		"an authority as a device": {under.cert, root.cert, noon, "may sign others", false},
		"a device that may sign":   {fleet.leaf(t, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign }), fleet.cert, noon, "may sign others", false},
		"expired":                  {good, fleet.cert, good.NotAfter.Add(time.Second), "expired", false},
		"not yet":                  {good, fleet.cert, good.NotBefore.Add(-time.Second), "not valid before", false},
		"ends before it begins":    {fleet.leaf(t, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = noon, noon.Add(-time.Minute) }), fleet.cert, noon, "ends before", false},
		"an unknown critical thing": {fleet.leaf(t, func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
		}), fleet.cert, noon, "not understood", false},
		"too large":   {fleet.leaf(t, func(c *x509.Certificate) { c.DNSNames = []string{strings.Repeat("a", 17<<10)} }), fleet.cert, noon, "at most", false},
		"a short key": {issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "x"}}, fleet, weak), fleet.cert, noon, "1024 bits", false},
		"SHA-1":       {withAlgorithm(good, x509.ECDSAWithSHA1), fleet.cert, noon, "signature algorithm", false},
	} {
		err := Signed(test.leaf, test.authority, test.at)
		switch {
		case (err == nil) != (test.want == ""), err != nil && !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %v, want %q", name, err, test.want)
		case errors.Is(err, ErrNotSigned) != test.notSigned:
			t.Errorf("%s: %v: not signed %v, want %v", name, err, errors.Is(err, ErrNotSigned), test.notSigned)
		}
	}
	for name, test := range map[string]struct {
		change func(*x509.Certificate)
		want   string
	}{
		"expired":             {func(c *x509.Certificate) { c.NotBefore, c.NotAfter = noon.Add(-2*time.Hour), noon.Add(-time.Hour) }, "expired"},
		"not yet":             {func(c *x509.Certificate) { c.NotBefore, c.NotAfter = noon.Add(time.Hour), noon.Add(2*time.Hour) }, "not valid before"},
		"no key usage at all": {func(c *x509.Certificate) { c.KeyUsage = 0 }, ""},
		"a key usage without": {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }, "keyCertSign"},
		"CA:FALSE":            {func(c *x509.Certificate) { c.IsCA = false; c.KeyUsage = x509.KeyUsageDigitalSignature }, "CA:TRUE"},
		"for other names": {func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"acme.example"}
		}, "not permitted"},
		"for these names": {func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example"}
		}, ""},
		"which signs leaves only": {func(c *x509.Certificate) { c.MaxPathLenZero = true }, ""},
	} {
		s := newSigner(t, test.change)
		leaf := s.leaf(t, func(c *x509.Certificate) { c.DNSNames = []string{"pump.example"} })
		err := Signed(leaf, s.cert, noon)
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("authority, %s: %v, want %q", name, err, test.want)
		}
	}
}

func withVersion(c *x509.Certificate, version int) *x509.Certificate {
	changed := *c
	changed.Version = version
	return &changed
}

func withAlgorithm(c *x509.Certificate, algorithm x509.SignatureAlgorithm) *x509.Certificate {
	changed := *c
	changed.SignatureAlgorithm = algorithm
	return &changed
}

// An authority with pathlen 0 must not sign an intermediate; the intermediate is nobody's
// direct signer unless an operator registered it, so its leaves are refused.
func TestAnIntermediateBelowPathLengthZeroIsNobodys(t *testing.T) {
	fleet := newSigner(t, func(c *x509.Certificate) { c.MaxPathLenZero = true })
	key := newKey(t)
	under := &signer{issue(t, &x509.Certificate{Subject: pkix.Name{CommonName: "Fleet CA", Organization: []string{"ACME"}}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, fleet, key), key}
	all, err := NewAuthorities([]*x509.Certificate{fleet.cert})
	if err != nil {
		t.Fatal(err)
	}
	if id, _, err := all.SignerOf(under.leaf(t, nil), noon); err == nil || id != "" {
		t.Errorf("signed by %.12s: %v", id, err)
	}
}

func TestAuthoritiesOfOneNameAreToldApartByTheirKeys(t *testing.T) {
	a, b, expired := newSigner(t, nil), newSigner(t, nil), newSigner(t, func(c *x509.Certificate) { c.NotBefore, c.NotAfter = noon.Add(-2*time.Hour), noon.Add(-time.Hour) })
	all, err := NewAuthorities([]*x509.Certificate{a.cert, b.cert, a.cert, expired.cert})
	if err != nil || len(all.IDs()) != 3 {
		t.Fatal(all.IDs(), err)
	}
	for i, s := range []*signer{a, b} {
		id, found, err := all.SignerOf(s.leaf(t, nil), noon)
		if err != nil || found != s.cert || id != all.IDs()[i] || all.Find(id) != s.cert {
			t.Errorf("authority %d: %.12s %v", i, id, err)
		}
	}
	stranger := newSigner(t, nil)
	if _, found, err := all.SignerOf(stranger.leaf(t, nil), noon); found != nil || err == nil {
		t.Errorf("a stranger's leaf: %v %v", found, err)
	}
	other := newSigner(t, func(c *x509.Certificate) { c.Subject.CommonName = "Other" })
	if _, found, err := all.SignerOf(other.leaf(t, nil), noon); found != nil || !errors.Is(err, ErrNotSigned) {
		t.Errorf("another's leaf: %v %v", found, err)
	}
	if all.Find("") != nil {
		t.Error("an authority without an id")
	}
	if _, err := NewAuthorities([]*x509.Certificate{a.leaf(t, nil)}); err == nil || !strings.Contains(err.Error(), "CA:TRUE") {
		t.Errorf("a leaf as authority: %v", err)
	}
}

// FuzzSigned: nothing that parses is signed but what the authority signed.
func FuzzSigned(f *testing.F) {
	fleet, rogue := newSigner(f, nil), newSigner(f, nil)
	good := fleet.leaf(f, nil)
	f.Add(good.Raw)
	f.Add(rogue.leaf(f, nil).Raw)
	f.Add(fleet.cert.Raw)
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		if err := Signed(c, fleet.cert, noon); err == nil && !c.Equal(good) && c.CheckSignatureFrom(fleet.cert) != nil {
			t.Errorf("signed: %x", der)
		}
	})
}
