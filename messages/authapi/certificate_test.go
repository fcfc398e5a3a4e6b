package authapi

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"
)

func selfSigned(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1e10, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func encodePEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestCertificateComesAsPEMOrBase64(t *testing.T) {
	der := selfSigned(t)
	bare := base64.StdEncoding.EncodeToString(der)
	for name, in := range map[string]string{
		"PEM": encodePEM(der), "PEM, CRLF": strings.ReplaceAll(encodePEM(der), "\n", "\r\n"), "PEM in blanks": "\n " + encodePEM(der) + " \n",
		"base64": bare, "base64 without padding": strings.TrimRight(bare, "="), "base64 in lines": bare[:76] + "\r\n" + bare[76:],
		"base64 with foreign characters": bare[:10] + " -_*\x00é" + bare[10:],
	} {
		got, err := CertificateDER(in)
		if err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: got %d bytes, %v, want the DER", name, len(got), err)
		}
	}
}

// TestBadCertificates tells what is the request's fault from what is the
// certificate's (client-device-auth spec 7.2; vectors api-sessions-metrics "BAD CERT"
// and "PEM").
func TestBadCertificates(t *testing.T) {
	der := selfSigned(t)
	good := encodePEM(der)
	for _, c := range []struct {
		name, in string
		bad      bool // ErrBadCertificate; else InvalidArguments
	}{
		{"BAD CERT", "BAD CERT", true},
		{"PEM", "PEM", true},
		{"x", "x", false},
		{"nothing decodable", "----", false},
		{"padding in the middle", "QUJD=QUJD", false},
		{"too much padding", "QUJDRA=", false},
		{"PEM without an end", strings.Replace(good, "-----END", "-----", 1), true},
		{"PEM with a broken body", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n", true},
		{"PEM with an empty body", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", true},
		{"PEM with headers", strings.Replace(good, "-----\n", "-----\nProc-Type: 4,ENCRYPTED\n\n", 1), true},
		{"DER with a byte after it", encodePEM(append(bytes.Clone(der), 0)), true},
		{"DER cut short", encodePEM(der[:len(der)-1]), true},
		{"not a sequence", encodePEM([]byte{0x02, 0x01, 0x05}), true},
		{"two certificates", good + good, false},
		{"certificate and key", good + "-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n", false},
		{"text after it", good + "x", false},
		{"too long", strings.Repeat("A", MaxCertificateBytes+1), false},
	} {
		_, err := CertificateDER(c.in)
		if c.bad && !errors.Is(err, ErrBadCertificate) {
			t.Errorf("%s: got %v, want ErrBadCertificate", c.name, err)
		}
		if !c.bad && (err == nil || code(t, err) != "InvalidArguments") {
			t.Errorf("%s: got %v, want InvalidArguments", c.name, err)
		}
	}
}
