package ca

import (
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

func TestPossessionIsSignedByTheAuthoritysKeyAlone(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	code := strings.Repeat("a", 64)
	for _, kind := range []string{TypeRSA2048, TypeECDSAP256, "P-384", "P-521"} {
		key, own := keyOf(t, kind), keyOf(t, "Ed25519")
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		authority, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		made, err := Possession(rand.Reader, authority, key, own.Public(), code, now)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		c, err := x509.ParseCertificate(made)
		if err != nil || c.CheckSignatureFrom(authority) != nil || c.Subject.CommonName != code || c.IsCA || c.SerialNumber.Sign() <= 0 || c.NotAfter.Sub(c.NotBefore) > 48*time.Hour {
			t.Errorf("%s: %+v, %v", kind, c, err)
		}
		if _, err := Possession(rand.Reader, authority, own, own.Public(), code, now); err == nil {
			t.Errorf("%s: by another key", kind)
		}
		if _, err := Possession(rand.Reader, authority, key, own.Public(), code[:63], now); err == nil {
			t.Errorf("%s: with half a code", kind)
		}
	}
}
