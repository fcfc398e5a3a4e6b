package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"testing"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client/clienttest"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// sent is an update with a self-signed certificate, which is its own authority.
func sent(t testing.TB) (authapi.CertificateUpdate, *Certificates) {
	t.Helper()
	c := clienttest.Certificate(t, "b")
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Leaf.Raw}))
	s := &Certificates{cfg: CertificatesConfig{Type: authapi.CertificateServer, Key: c.PrivateKey.(*ecdsa.PrivateKey)}}
	return authapi.CertificateUpdate{
		CertificateType: authapi.CertificateServer, Certificate: text, TrustBundle: []string{text},
		SerialNumber: fmt.Sprintf("%040x", c.Leaf.SerialNumber), NotAfter: c.Leaf.NotAfter,
	}, s
}

// TestUpdatesThatDoNotFit: a certificate that does not fit to our key or to its chain is not
// used, wherever it comes from.
func TestUpdatesThatDoNotFit(t *testing.T) {
	good, s := sent(t)
	if c, err := s.read(good); err != nil || c.Serial != good.SerialNumber || string(c.TrustPEM) != good.TrustBundle[0] {
		t.Fatalf("%+v, %v", c, err)
	}
	other, _ := sent(t)
	for name, spoil := range map[string]func(*authapi.CertificateUpdate){
		"another type":     func(u *authapi.CertificateUpdate) { u.CertificateType = authapi.CertificateClient },
		"another's":        func(u *authapi.CertificateUpdate) { *u = other },
		"another serial":   func(u *authapi.CertificateUpdate) { u.SerialNumber = other.SerialNumber },
		"garbage":          func(u *authapi.CertificateUpdate) { u.Certificate = "hello" },
		"two":              func(u *authapi.CertificateUpdate) { u.Certificate += u.Certificate },
		"text before":      func(u *authapi.CertificateUpdate) { u.Certificate = "hello\n" + u.Certificate },
		"another's issuer": func(u *authapi.CertificateUpdate) { u.CACertificates = other.TrustBundle },
		"chain of garbage": func(u *authapi.CertificateUpdate) { u.CACertificates = []string{"hello"} },
		"trust in garbage": func(u *authapi.CertificateUpdate) { u.TrustBundle = []string{"hello"} },
		"trust in a key": func(u *authapi.CertificateUpdate) {
			u.TrustBundle = []string{string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{1}}))}
		},
	} {
		u := good
		spoil(&u)
		if c, err := s.read(u); err == nil {
			t.Errorf("%s is taken: %s", name, c.Serial)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.cfg.Key = key
	if _, err := s.read(good); err == nil {
		t.Error("a certificate for another key is taken")
	}
}

func FuzzUpdate(f *testing.F) {
	good, s := sent(f)
	b, err := json.Marshal(authapi.CertificatesReply{CertificateUpdate: good, AskAgainSeconds: 1})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := authapi.ParseCertificatesReply(body)
		if err != nil {
			return
		}
		c, err := s.read(a.CertificateUpdate)
		if err == nil && (len(c.Certificate.Certificate) != 1+len(a.CACertificates) || c.Leaf == nil) {
			t.Errorf("%+v", c)
		}
	})
}
