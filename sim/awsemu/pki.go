package awsemu

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// How long what an Authority signs is valid.
const (
	authorityValidity = 10 * 365 * 24 * time.Hour
	serverValidity    = 365 * 24 * time.Hour
	deviceValidity    = 10 * 365 * 24 * time.Hour // AWS' own last until 2049
	backdate          = 5 * time.Minute           // for clients whose clock is slow
)

// Authority is a certificate authority of the emulated cloud, with a P-256 key. One
// signs the servers' certificates, as Amazon's roots do; one those of things, as AWS IoT
// does for certificates it makes itself.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes an authority that is valid from now on.
func NewAuthority(commonName string, now time.Time) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("new authority: %w", err)
	}
	template := newTemplate(commonName, now, authorityValidity)
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("new authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("new authority: %w", err)
	}
	return &Authority{certificate: certificate, key: key}, nil
}

// LoadAuthority reads an authority from what PEM and KeyPEM returned.
func LoadAuthority(certificatePEM, keyPEM []byte) (*Authority, error) {
	pair, err := tls.X509KeyPair(certificatePEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("load authority: %w", err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("load authority: want a CA certificate with an ECDSA key")
	}
	return &Authority{certificate: pair.Leaf, key: key}, nil
}

// PEM returns the authority's certificate.
func (a *Authority) PEM() []byte { return certificatePEM(a.certificate.Raw) }

// DER returns the authority's certificate.
func (a *Authority) DER() []byte { return a.certificate.Raw }

// KeyPEM returns the authority's private key (PKCS #8). Keep it in a file that only its
// owner reads.
func (a *Authority) KeyPEM() ([]byte, error) { return keyPEM(a.key) }

// Pool returns a pool with this authority alone.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// Identity is a certificate with its private key.
type Identity struct {
	ID             messages.CertificateID
	DER            []byte
	CertificatePEM []byte
	KeyPEM         []byte
}

// TLS returns the identity in the form crypto/tls takes.
func (i *Identity) TLS() (tls.Certificate, error) { return tls.X509KeyPair(i.CertificatePEM, i.KeyPEM) }

// IssueServer makes a server's identity for names, each a DNS name or an IP address.
func (a *Authority) IssueServer(names []string, now time.Time) (*Identity, error) {
	if len(names) == 0 {
		return nil, errors.New("issue server certificate: no names")
	}
	template := newTemplate(names[0], now, serverValidity)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	return a.issue(template)
}

// IssueDevice makes the identity of a client device or a core. As with AWS, the
// certificate does not name its thing: the registry's attachment does.
func (a *Authority) IssueDevice(commonName string, now time.Time) (*Identity, error) {
	template := newTemplate(commonName, now, deviceValidity)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return a.issue(template)
}

func (a *Authority) issue(template *x509.Certificate) (*Identity, error) {
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	if template.NotAfter.After(a.certificate.NotAfter) {
		template.NotAfter = a.certificate.NotAfter
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	private, err := keyPEM(key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return &Identity{ID: messages.CertificateIDOf(der), DER: der, CertificatePEM: certificatePEM(der), KeyPEM: private}, nil
}

func newTemplate(commonName string, now time.Time, validity time.Duration) *x509.Certificate {
	var serial [16]byte
	_, _ = rand.Read(serial[:]) // never fails
	serial[0] = serial[0]&0x7f | 0x40
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial[:]), // RFC 5280, 4.1.2.2: positive, at most 20 octets
		Subject:      pkix.Name{CommonName: commonName, Organization: []string{"Gatehouse AWS emulator"}},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(validity),
	}
}

func certificatePEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
