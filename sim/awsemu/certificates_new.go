package awsemu

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The IoT control plane's operations by which certificates come into being here: they are
// registered, or made (cloud spec 4.1).

var newCertificateRoutes = []route{
	newRoute("RegisterCertificate", iot, "POST", "certificate/register", anything, (*Emulator).registerCertificate),
	newRoute("RegisterCertificateWithoutCA", iot, "POST", "certificate/register-no-ca", anything, (*Emulator).registerCertificateWithoutCA),
	newRoute("CreateKeysAndCertificate", iot, "POST", "keys-and-certificate", anything, (*Emulator).createKeysAndCertificate),
	newRoute("CreateCertificateFromCsr", iot, "POST", "certificates", anything, (*Emulator).createCertificateFromCSR),
}

type registration struct {
	PEM          string `json:"certificatePem"`
	AuthorityPEM string `json:"caCertificatePem"`
	Status       string `json:"status"`
}

type registered struct {
	ARN string                 `json:"certificateArn"`
	ID  messages.CertificateID `json:"certificateId"`
	PEM string                 `json:"certificatePem,omitempty"`
}

func (e *Emulator) registerCertificate(c *call) (any, *apiError) {
	var request registration
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	active, refused := c.flag("setAsActive")
	if refused != nil {
		return nil, refused
	}
	leaf, status, refused := request.read(active)
	if refused != nil {
		return nil, refused
	}
	var id messages.CertificateID
	refused = e.change(func(b *Batch) *apiError {
		signer, refused := b.r.signerOf(leaf, request.AuthorityPEM, e.now())
		if refused != nil {
			return refused
		}
		id, refused = b.register(leaf.Raw, status, born(e.now(), signer.id, signer.mode))
		return refused
	})
	return registered{ARN: certificateARN(string(id)), ID: id}, refused
}

// read takes the certificate and the status that is asked for.
func (g registration) read(active bool) (*x509.Certificate, Status, *apiError) {
	leaf, refused := readPEM("certificatePem", g.PEM)
	if refused != nil {
		return nil, "", refused
	}
	status := StatusInactive
	if active {
		status = StatusActive
	}
	switch given := Status(g.Status); given {
	case "":
	case StatusActive, StatusInactive, StatusRevoked:
		status = given
	case StatusPendingActivation, StatusPendingTransfer: // measured: cloud spec 4.4
		return nil, "", certificateState(fmt.Sprintf("Not allowed to register certificate with %s status", given))
	default:
		return nil, "", constraint("status", "Member must satisfy enum value set: [ACTIVE, INACTIVE, REVOKED, PENDING_TRANSFER, REGISTER_INACTIVE, PENDING_ACTIVATION]")
	}
	return leaf, status, nil
}

func (e *Emulator) registerCertificateWithoutCA(c *call) (any, *apiError) {
	var request registration
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	leaf, status, refused := request.read(false)
	if refused != nil {
		return nil, refused
	}
	var id messages.CertificateID
	refused = e.change(func(b *Batch) *apiError {
		id, refused = b.register(leaf.Raw, status, born(e.now(), "", ModeSNIOnly))
		return refused
	})
	return registered{ARN: certificateARN(string(id)), ID: id}, refused
}

// readPEM reads the one certificate that a member of a request must hold.
func readPEM(member, text string) (*x509.Certificate, *apiError) {
	if text == "" || len(text) > pemCharsMax {
		return nil, constraint(member, fmt.Sprintf("Member must have length between 1 and %d", pemCharsMax))
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, certificateInvalid(member + " is not one PEM certificate")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, certificateInvalid(member + " is malformed")
	}
	return certificate, nil
}

const rsaBits = 2048 // what AWS makes

func (e *Emulator) createKeysAndCertificate(c *call) (any, *apiError) {
	active, refused := c.flag("setAsActive")
	if refused != nil {
		return nil, refused
	}
	key, err := rsa.GenerateKey(rand.Reader, rsaBits)
	if err != nil {
		return nil, iotFailed(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, iotFailed(err)
	}
	made, refused := e.issue(key.Public(), pkix.Name{CommonName: "AWS IoT Certificate"}, active)
	if refused != nil {
		return nil, refused
	}
	type keyPair struct{ PublicKey, PrivateKey string }
	return struct {
		registered
		Keys keyPair `json:"keyPair"`
	}{made, keyPair{
		string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})),
	}}, nil
}

func (e *Emulator) createCertificateFromCSR(c *call) (any, *apiError) {
	var request struct {
		CSR string `json:"certificateSigningRequest"`
	}
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	active, refused := c.flag("setAsActive")
	if refused != nil {
		return nil, refused
	}
	csr, refused := readCSR(request.CSR)
	if refused != nil {
		return nil, refused
	}
	made, refused := e.issue(csr.PublicKey, csr.Subject, active)
	return made, refused
}

func readCSR(text string) (*x509.CertificateRequest, *apiError) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || !strings.HasSuffix(block.Type, "CERTIFICATE REQUEST") || len(bytes.TrimSpace(rest)) > 0 || len(text) > pemCharsMax {
		return nil, badRequest("certificateSigningRequest is not one PEM certificate signing request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.CheckSignature() != nil {
		return nil, badRequest("The certificate signing request is malformed, or not signed by its key")
	}
	switch key := csr.PublicKey.(type) {
	case *rsa.PublicKey:
		if key.N.BitLen() < rsaBits || key.N.BitLen() > 4096 {
			return nil, badRequest("The RSA key must have 2048 to 4096 bits")
		}
	case *ecdsa.PublicKey:
		if bits := key.Params().BitSize; bits < 256 {
			return nil, badRequest("The ECC key must be of P-256, P-384 or P-521")
		}
	default:
		return nil, badRequest("The key must be an RSA or an ECC key")
	}
	return csr, nil
}

// awsNotAfter is when the certificates end that AWS makes.
var awsNotAfter = time.Date(2049, 12, 31, 23, 59, 59, 0, time.UTC)

// issue makes a certificate as AWS does, and registers it.
func (e *Emulator) issue(key any, subject pkix.Name, active bool) (registered, *apiError) {
	der, refused := e.sign(key, subject)
	if refused != nil {
		return registered{}, refused
	}
	status := StatusInactive
	if active {
		status = StatusActive
	}
	var id messages.CertificateID
	refused = e.change(func(b *Batch) (refused *apiError) {
		id, refused = b.register(der, status, born(e.now(), "", ModeDefault))
		return refused
	})
	return registered{certificateARN(string(id)), id, string(certificatePEM(der))}, refused
}

// sign makes a certificate as AWS does.
func (e *Emulator) sign(key any, subject pkix.Name) ([]byte, *apiError) {
	authority, err := e.amazon()
	if err != nil {
		return nil, iotFailed(err)
	}
	template := newTemplate("", e.now(), time.Hour)
	template.Subject, template.NotAfter = subject, awsNotAfter
	template.KeyUsage, template.BasicConstraintsValid = x509.KeyUsageDigitalSignature, true
	der, err := x509.CreateCertificate(rand.Reader, template, authority.certificate, key, authority.key)
	if err != nil {
		return nil, iotFailed(err)
	}
	return der, nil
}
