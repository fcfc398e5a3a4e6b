package awsemu

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The IoT control plane's operations on certificates (cloud spec 4.1, 4.2).

const (
	certificatesMax  = 250 // of a page, as with AWS
	certificatesPage = 25
	pemCharsMax      = 65536 // of a certificate, as with AWS
)

var certificateRoutes = []route{
	newRoute(OpDescribeCertificate, iot, "GET", "certificates/*", certificateARNOf, (*Emulator).describeCertificate),
	newRoute("UpdateCertificate", iot, "PUT", "certificates/*", certificateARNOf, (*Emulator).updateCertificate),
	newRoute("DeleteCertificate", iot, "DELETE", "certificates/*", certificateARNOf, (*Emulator).deleteCertificate),
	newRoute("ListCertificates", iot, "GET", "certificates", anything, (*Emulator).listCertificates),
	newRoute("ListCertificatesByCA", iot, "GET", "certificates-by-ca/*", authorityARNOf, (*Emulator).listCertificatesByCA),
	newRoute("RegisterCertificate", iot, "POST", "certificate/register", anything, (*Emulator).registerCertificate),
	newRoute("RegisterCertificateWithoutCA", iot, "POST", "certificate/register-no-ca", anything, (*Emulator).registerCertificateWithoutCA),
	newRoute("CreateKeysAndCertificate", iot, "POST", "keys-and-certificate", anything, (*Emulator).createKeysAndCertificate),
	newRoute("CreateCertificateFromCsr", iot, "POST", "certificates", anything, (*Emulator).createCertificateFromCSR),
}

type validity struct {
	NotBefore epoch `json:"notBefore"`
	NotAfter  epoch `json:"notAfter"`
}

type certificateDescription struct {
	ARN          string                 `json:"certificateArn"`
	ID           string                 `json:"certificateId"`
	Authority    messages.CertificateID `json:"caCertificateId,omitempty"`
	Status       Status                 `json:"status"`
	PEM          string                 `json:"certificatePem"`
	OwnedBy      string                 `json:"ownedBy"`
	Created      epoch                  `json:"creationDate"`
	Modified     epoch                  `json:"lastModifiedDate"`
	Version      int                    `json:"customerVersion"`
	GenerationID string                 `json:"generationId"`
	Validity     validity               `json:"validity"`
	Mode         Mode                   `json:"certificateMode"`
}

// certificateParameter reads the path's first parameter as a certificate's id.
func certificateParameter(c *call) (messages.CertificateID, *apiError) {
	id, err := messages.ParseCertificateID(strings.ToLower(c.parameters[0]))
	if err != nil {
		return "", constraint("certificateId", "Member must be 64 hexadecimal digits")
	}
	return id, nil
}

func (e *Emulator) describeCertificate(c *call) (any, *apiError) {
	id, refused := certificateParameter(c)
	if refused != nil {
		return nil, refused
	}
	var known certificate
	if refused := e.look(func(r *Registry) *apiError {
		if r.certificates[id] == nil {
			return noCertificate()
		}
		known = *r.certificates[id]
		return nil
	}); refused != nil {
		return nil, refused
	}
	leaf, err := x509.ParseCertificate(known.der)
	if err != nil {
		return nil, iotFailed(err)
	}
	return map[string]certificateDescription{"certificateDescription": {
		ARN: certificateARN(string(id)), ID: string(id), Authority: known.authority, Status: known.status, PEM: string(certificatePEM(known.der)), OwnedBy: AccountID,
		Created: epoch(known.createdAt()), Modified: epoch(known.modifiedAt()), Version: max(known.version, 1),
		GenerationID: cmp.Or(known.generation, derivedUUID("generation", string(id))),
		Validity:     validity{epoch(leaf.NotBefore), epoch(leaf.NotAfter)}, Mode: known.modeOf(),
	}}, nil
}

// updateCertificate changes the status, which ends what the certificate has open unless it
// is ACTIVE.
func (e *Emulator) updateCertificate(c *call) (any, *apiError) {
	id, refused := certificateParameter(c)
	if refused != nil {
		return nil, refused
	}
	status, err := ParseStatus(c.query.Get("newStatus"))
	if err != nil {
		return nil, constraint("newStatus", "Member must satisfy enum value set: [ACTIVE, INACTIVE, REVOKED, PENDING_TRANSFER, PENDING_ACTIVATION]")
	}
	return none{}, e.change(func(b *Batch) *apiError {
		known := b.r.certificates[id]
		switch {
		case known == nil:
			return noCertificate()
		case status == StatusPendingTransfer || status == StatusPendingActivation:
			return certificateState(fmt.Sprintf("Not allowed to update certificate status to %s", status))
		case known.status == StatusRevoked && status != StatusRevoked:
			return certificateState("Not allowed to change the status of a revoked certificate")
		case known.status == status:
			return nil
		}
		b.touch(&known.origin, e.now())
		return failedIf(b.SetStatus(id, status))
	})
}

func failedIf(err error) *apiError {
	if err != nil {
		return iotFailed(err)
	}
	return nil
}

// deleteCertificate: force lets attached policies go with it, and nothing else (API
// reference).
func (e *Emulator) deleteCertificate(c *call) (any, *apiError) {
	id, refused := certificateParameter(c)
	if refused != nil {
		return nil, refused
	}
	force, refused := c.flag("forceDelete")
	if refused != nil {
		return nil, refused
	}
	return none{}, e.change(func(b *Batch) *apiError {
		known := b.r.certificates[id]
		switch {
		case known == nil:
			return noCertificate()
		case known.status == StatusActive:
			return certificateState(fmt.Sprintf("Certificate must be deactivated (not ACTIVE) before deletion. (arn: %s)", certificateARN(string(id))))
		case len(known.things) > 0:
			return deleteConflict(fmt.Sprintf("Things must be detached before deletion (arn: %s)", certificateARN(string(id))))
		case len(b.r.attached[CertificateARN(id)]) > 0 && !force:
			return deleteConflict(fmt.Sprintf("Certificate policies must be detached before deletion (arn: %s)", CertificateARN(id)))
		}
		b.removeCertificate(id)
		return nil
	})
}

type certificateEntry struct {
	ARN     string                 `json:"certificateArn"`
	ID      messages.CertificateID `json:"certificateId"`
	Status  Status                 `json:"status"`
	Mode    Mode                   `json:"certificateMode"`
	Created epoch                  `json:"creationDate"`
	key     string
}

type certificateEntries struct {
	Certificates []certificateEntry `json:"certificates"`
	NextMarker   string             `json:"nextMarker,omitempty"`
}

func (e *Emulator) listCertificates(c *call) (any, *apiError) {
	return e.certificatesWhere(c, func(*certificate) bool { return true })
}

func (e *Emulator) listCertificatesByCA(c *call) (any, *apiError) {
	id, refused := certificateParameter(c)
	if refused != nil {
		return nil, refused
	}
	return e.certificatesWhere(c, func(known *certificate) bool { return known.authority == id })
}

// certificatesWhere lists a page of the certificates that wanted says, by their age.
func (e *Emulator) certificatesWhere(c *call, wanted func(*certificate) bool) (any, *apiError) {
	ascending, refused := c.flag("isAscendingOrder")
	if refused != nil {
		return nil, refused
	}
	p, refused := e.markedPageOf(c, certificatesPage, certificatesMax)
	if refused != nil {
		return nil, refused
	}
	all := e.registry.certificatesByDate()
	behind := len(all) // of those that were shown
	if ascending {
		behind = 0
	}
	if p.after != "" {
		var shown bool
		behind, shown = slices.BinarySearchFunc(all, p.after, func(d dated, key string) int { return cmp.Compare(d.key(), key) })
		if shown && ascending {
			behind++
		}
	}
	var found []certificateEntry
	_ = e.look(func(r *Registry) *apiError {
		collect := func(d dated) bool {
			if known := r.certificates[d.id]; known != nil && wanted(known) {
				found = append(found, certificateEntry{certificateARN(string(d.id)), d.id, known.status, known.modeOf(), epoch(d.at), d.key()})
			}
			return len(found) <= p.limit
		}
		if ascending {
			for i := behind; i < len(all) && collect(all[i]); i++ {
			}
			return nil
		}
		for i := behind - 1; i >= 0 && collect(all[i]); i-- {
		}
		return nil
	})
	more := len(found) > p.limit
	found, next := turn(e, p, found[:min(len(found), p.limit)], more, func(entry certificateEntry) string { return entry.key })
	return certificateEntries{append([]certificateEntry{}, found...), next}, nil
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
