package awsemu

import (
	"cmp"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The IoT control plane's operations on CA certificates (cloud spec 4.1, 4.3).

var authorityRoutes = []route{
	newRoute("GetRegistrationCode", iot, "GET", "registrationcode", anything, (*Emulator).getRegistrationCode),
	newRoute("DeleteRegistrationCode", iot, "DELETE", "registrationcode", anything, (*Emulator).deleteRegistrationCode),
	newRoute("RegisterCACertificate", iot, "POST", "cacertificate", anything, (*Emulator).registerCACertificate),
	newRoute("DescribeCACertificate", iot, "GET", "cacertificate/*", authorityARNOf, (*Emulator).describeCACertificate),
	newRoute("UpdateCACertificate", iot, "PUT", "cacertificate/*", authorityARNOf, (*Emulator).updateCACertificate),
	newRoute("DeleteCACertificate", iot, "DELETE", "cacertificate/*", authorityARNOf, (*Emulator).deleteCACertificate),
	newRoute("ListCACertificates", iot, "GET", "cacertificates", anything, (*Emulator).listCACertificates),
}

func authorityARN(id messages.CertificateID) string {
	return "arn:aws:iot" + arnPrefix + "cacert/" + string(id)
}

func authorityARNOf(parameters []string) string {
	return "arn:aws:iot" + arnPrefix + "cacert/" + parameters[0]
}

// getRegistrationCode tells the account's code, which stays until it is deleted.
func (e *Emulator) getRegistrationCode(*call) (any, *apiError) {
	var code string
	refused := e.change(func(b *Batch) *apiError {
		if b.r.code == "" {
			set(b, &b.r.code, hex.EncodeToString(random(32)))
		}
		code = b.r.code
		return nil
	})
	return map[string]string{"registrationCode": code}, refused
}

func (e *Emulator) deleteRegistrationCode(*call) (any, *apiError) {
	return none{}, e.change(func(b *Batch) *apiError {
		if b.r.code == "" {
			return noResource("There is no registration code")
		}
		set(b, &b.r.code, "")
		return nil
	})
}

type authorityRegistration struct {
	PEM          string              `json:"caCertificate"`
	Verification string              `json:"verificationCertificate"`
	Mode         string              `json:"certificateMode"`
	Config       *registrationConfig `json:"registrationConfig"`
}

func (e *Emulator) registerCACertificate(c *call) (any, *apiError) {
	var (
		request      authorityRegistration
		active, auto bool
	)
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	if refused := c.flags(map[string]*bool{"setAsActive": &active, "allowAutoRegistration": &auto}); refused != nil {
		return nil, refused
	}
	mode, err := parseMode(request.Mode)
	if err != nil {
		return nil, constraint("certificateMode", "Member must satisfy enum value set: [DEFAULT, SNI_ONLY]")
	}
	certificate, refused := readPEM("caCertificate", request.PEM)
	if refused != nil {
		return nil, refused
	}
	if err := checkAuthority(certificate, e.now()); err != nil {
		return nil, certificateInvalid(err.Error())
	}
	a := &caCertificate{
		id: messages.CertificateIDOf(certificate.Raw), certificate: certificate, active: active, autoRegister: auto,
		origin: born(e.now(), "", mode),
	}
	refused = e.change(func(b *Batch) *apiError {
		if refused := e.checkPossession(b.r.code, mode, certificate, request.Verification); refused != nil {
			return refused
		}
		if request.Config != nil {
			if refused := b.r.checkConfig(*request.Config); refused != nil {
				return refused
			}
			a.config = *request.Config
		}
		return b.addAuthority(a)
	})
	return registered{ARN: authorityARN(a.id), ID: a.id}, refused
}

// checkPossession has who registers a CA certificate prove that its key is theirs: by a
// certificate of a new key, named by the account's code (cloud spec 4.3). In mode SNI_ONLY
// nothing is proved, as others may register the same CA.
func (e *Emulator) checkPossession(code string, mode Mode, ca *x509.Certificate, text string) *apiError {
	switch {
	case mode == ModeSNIOnly && text == "":
		return nil
	case mode == ModeSNIOnly:
		return badRequest("verificationCertificate must not be given with certificateMode SNI_ONLY")
	case text == "":
		return badRequest("verificationCertificate must be given with certificateMode DEFAULT")
	}
	verification, refused := readPEM("verificationCertificate", text)
	if refused != nil {
		return refused
	}
	if err := errors.Join(checkDates("verification certificate", verification, e.now()), checkAlgorithms("verification certificate", verification)); err != nil {
		return certificateInvalid(err.Error())
	}
	if err := ca.CheckSignature(verification.SignatureAlgorithm, verification.RawTBSCertificate, verification.Signature); err != nil {
		return certificateInvalid("The verification certificate is not signed by the CA certificate's key")
	}
	if code == "" || verification.Subject.CommonName != code {
		return iotError(http.StatusBadRequest, "RegistrationCodeValidationException", "The common name of the verification certificate is not the registration code of the account")
	}
	return nil
}

// checkConfig says what is wrong with how devices are to be provisioned. The caller holds mu.
func (r *Registry) checkConfig(c registrationConfig) *apiError {
	switch {
	case c == (registrationConfig{}):
		return nil
	case (c.TemplateBody == "") == (c.TemplateName == ""):
		return badRequest("registrationConfig: want one of templateBody and templateName")
	case c.TemplateName != "" && r.templates[c.TemplateName] == nil:
		return noTemplate(c.TemplateName)
	case c.TemplateName != "":
		return nil
	case !roleARNForm.MatchString(c.RoleARN):
		return badRequest("registrationConfig: a templateBody goes with roleArn, the ARN of a role")
	}
	_, refused := readTemplate(c.TemplateBody)
	return refused
}

func (e *Emulator) authorityOf(c *call, r *Registry) (*caCertificate, *apiError) {
	id, refused := certificateParameter(c)
	if refused != nil {
		return nil, refused
	}
	if a := r.signers[id]; a != nil {
		return a, nil
	}
	return nil, noResource("The specified CA certificate does not exist.")
}

type authorityDescription struct {
	ARN          string                 `json:"certificateArn"`
	ID           messages.CertificateID `json:"certificateId"`
	Status       Status                 `json:"status"`
	PEM          string                 `json:"certificatePem"`
	OwnedBy      string                 `json:"ownedBy"`
	Created      epoch                  `json:"creationDate"`
	Modified     epoch                  `json:"lastModifiedDate"`
	AutoRegister string                 `json:"autoRegistrationStatus"`
	Version      int                    `json:"customerVersion"`
	GenerationID string                 `json:"generationId"`
	Validity     validity               `json:"validity"`
	Mode         Mode                   `json:"certificateMode"`
}

func (e *Emulator) describeCACertificate(c *call) (any, *apiError) {
	var a *caCertificate
	if refused := e.look(func(r *Registry) (refused *apiError) { a, refused = e.authorityOf(c, r); return refused }); refused != nil {
		return nil, refused
	}
	modified := a.modified
	if modified.IsZero() {
		modified = a.createdAt()
	}
	answer := struct {
		Description authorityDescription `json:"certificateDescription"`
		Config      *registrationConfig  `json:"registrationConfig,omitempty"`
	}{Description: authorityDescription{
		ARN: authorityARN(a.id), ID: a.id, Status: a.status(), PEM: string(certificatePEM(a.certificate.Raw)), OwnedBy: AccountID,
		Created: epoch(a.createdAt()), Modified: epoch(modified), AutoRegister: enabled(a.autoRegister), Version: max(a.version, 1),
		GenerationID: cmp.Or(a.generation, derivedUUID("generation", string(a.id))),
		Validity:     validity{epoch(a.certificate.NotBefore), epoch(a.certificate.NotAfter)}, Mode: a.modeOf(),
	}}
	if a.config != (registrationConfig{}) {
		answer.Config = &a.config
	}
	return answer, nil
}

func enabled(on bool) string {
	if on {
		return "ENABLE"
	}
	return "DISABLE"
}

func (e *Emulator) updateCACertificate(c *call) (any, *apiError) {
	var request struct {
		Config *registrationConfig `json:"registrationConfig"`
		Remove bool                `json:"removeAutoRegistration"`
	}
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	status, auto := c.query.Get("newStatus"), c.query.Get("newAutoRegistrationStatus")
	switch {
	case status != "" && status != string(StatusActive) && status != string(StatusInactive):
		return nil, constraint("newStatus", "Member must satisfy enum value set: [ACTIVE, INACTIVE]")
	case auto != "" && auto != enabled(true) && auto != enabled(false):
		return nil, constraint("newAutoRegistrationStatus", "Member must satisfy enum value set: [ENABLE, DISABLE]")
	case request.Remove && (request.Config != nil || auto == enabled(true)):
		return nil, badRequest("removeAutoRegistration goes with neither registrationConfig nor newAutoRegistrationStatus ENABLE")
	}
	return none{}, e.change(func(b *Batch) *apiError {
		known, refused := e.authorityOf(c, b.r)
		if refused != nil {
			return refused
		}
		next := *known
		if status != "" {
			next.active = status == string(StatusActive)
		}
		if auto != "" {
			next.autoRegister = auto == enabled(true)
		}
		if request.Remove { // from provisioning back to mere registration takes this, and ENABLE next (cloud spec 4.5)
			next.autoRegister, next.config = false, registrationConfig{}
		}
		if request.Config != nil {
			if refused := b.r.checkConfig(*request.Config); refused != nil {
				return refused
			}
			next.config = *request.Config
		}
		next.modified, next.version = stamp(e.now()), max(known.version, 1)+1
		b.putAuthority(&next)
		return nil
	})
}

func (e *Emulator) deleteCACertificate(c *call) (any, *apiError) {
	return none{}, e.change(func(b *Batch) *apiError {
		known, refused := e.authorityOf(c, b.r)
		switch {
		case refused != nil:
			return refused
		case known.active: // measured: cloud spec 4.4
			return certificateState(fmt.Sprintf("CA certificate must be deactivated (not ACTIVE) before deletion. (arn: %s)", authorityARN(known.id)))
		}
		put(b, b.r.signers, known.id, nil)
		return nil
	})
}

type authorityEntry struct {
	ARN     string                 `json:"certificateArn"`
	ID      messages.CertificateID `json:"certificateId"`
	Status  Status                 `json:"status"`
	Created epoch                  `json:"creationDate"`
	key     string
}

func (e *Emulator) listCACertificates(c *call) (any, *apiError) {
	ascending, refused := c.flag("isAscendingOrder")
	if refused != nil {
		return nil, refused
	}
	p, refused := e.markedPageOf(c, certificatesPage, certificatesMax)
	if refused != nil {
		return nil, refused
	}
	template := c.query.Get("templateName")
	found := []authorityEntry{}
	_ = e.look(func(r *Registry) *apiError {
		all := r.authorities()
		if !ascending {
			slices.Reverse(all)
		}
		for _, a := range all {
			hidden := p.after != "" && (ascending && a.key() <= p.after || !ascending && a.key() >= p.after)
			if !hidden && (template == "" || a.config.TemplateName == template) {
				found = append(found, authorityEntry{authorityARN(a.id), a.id, a.status(), epoch(a.createdAt()), a.key()})
			}
		}
		return nil
	})
	more := len(found) > p.limit
	found, next := turn(e, p, found[:min(len(found), p.limit)], more, func(entry authorityEntry) string { return entry.key })
	return struct {
		Certificates []authorityEntry `json:"certificates"`
		NextMarker   string           `json:"nextMarker,omitempty"`
	}{found, next}, nil
}
