package awsemu

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

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
