package awsemu

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The file form of CA certificates, thing types, and what there is to a certificate and a
// thing beside what older files hold.

type seedOrigin struct {
	Authority  string    `json:"caCertificateId,omitempty"`
	Mode       Mode      `json:"certificateMode,omitempty"`
	Created    time.Time `json:"creationDate,omitzero"`
	Modified   time.Time `json:"lastModifiedDate,omitzero"`
	Version    int       `json:"customerVersion,omitempty"`
	Generation string    `json:"generationId,omitempty"`
}

func (o origin) seed() seedOrigin {
	return seedOrigin{string(o.authority), o.mode, o.created, o.modified, o.version, o.generation}
}

func (s seedOrigin) read() (origin, error) {
	if _, err := parseMode(string(s.Mode)); err != nil {
		return origin{}, fmt.Errorf("certificateMode: %w", err)
	}
	if s.Authority != "" {
		if _, err := messages.ParseCertificateID(s.Authority); err != nil {
			return origin{}, fmt.Errorf("caCertificateId: %w", err)
		}
	}
	if err := errors.Join(checkYear("creationDate", s.Created), checkYear("lastModifiedDate", s.Modified)); err != nil {
		return origin{}, err
	}
	if s.Version < 0 || len(s.Generation) > 64 {
		return origin{}, errors.New("customerVersion or generationId is out of range")
	}
	return origin{messages.CertificateID(s.Authority), s.Mode, stampOrZero(s.Created), stampOrZero(s.Modified), s.Version, s.Generation}, nil
}

// checkYear keeps out what cannot be written again.
func checkYear(member string, at time.Time) error {
	if year := at.UTC().Year(); year < 1 || year > 9999 {
		return fmt.Errorf("%s: the year %d, want 1 to 9999", member, year)
	}
	return nil
}

func stampOrZero(at time.Time) time.Time {
	if at.IsZero() {
		return time.Time{}
	}
	return stamp(at)
}

type seedAuthority struct {
	PEM    string `json:"certificatePem" doc:"The CA's certificate, if it is not to be made."`
	Make   string `json:"make,omitempty" doc:"Make a CA: authorities/NAME/ca.pem and ca.key in the directory, unless they are there."`
	Status string `json:"status" doc:"ACTIVE or INACTIVE. Default: ACTIVE."`
	Auto   string `json:"autoRegistrationStatus" doc:"ENABLE or DISABLE. Default: ENABLE."`
	seedOrigin
	Config *registrationConfig `json:"registrationConfig,omitempty"`
}

type seedThingType struct {
	Name string `json:"thingTypeName" seed:"required"`
	thingType
}

type seedTemplate struct {
	Name string `json:"templateName" seed:"required"`
	provisioningTemplate
}

type seedRecord struct {
	ID         string            `json:"thingId,omitempty"`
	Type       string            `json:"thingTypeName,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Version    int64             `json:"version,omitempty"`
}

func (d record) seed() seedRecord { return seedRecord{d.id, d.typeName, d.attributes, d.version} }

// fillRegistry puts in what things and certificates may refer to.
func (b *Batch) fillRegistry(seed seedFile) error {
	if seed.Code != "" && !registrationCode.MatchString(seed.Code) {
		return errors.New("registrationCode: want 64 hexadecimal digits")
	}
	set(b, &b.r.code, seed.Code)
	for i, t := range seed.ThingTypes {
		made := t.thingType
		refused := made.check()
		if !thingTypeName.MatchString(t.Name) || b.r.types[t.Name] != nil || refused != nil || errors.Join(checkYear("", made.Created), checkYear("", made.Deprecated)) != nil {
			return fmt.Errorf("thingTypes[%d]: want another thingTypeName each, and what AWS takes of the rest", i)
		}
		made.Created, made.Deprecated = stampOrZero(made.Created), stampOrZero(made.Deprecated)
		put(b, b.r.types, t.Name, &made)
	}
	for i, t := range seed.Templates {
		made := t.provisioningTemplate
		refused := checkTemplate(t.Name, &made)
		switch {
		case refused != nil:
			return fmt.Errorf("provisioningTemplates[%d]: %s", i, refused.message)
		case b.r.templates[t.Name] != nil:
			return fmt.Errorf("provisioningTemplates[%d]: %w", i, ErrExists)
		}
		if err := errors.Join(checkYear("creationDate", made.Created), checkYear("lastModifiedDate", made.Modified)); err != nil {
			return fmt.Errorf("provisioningTemplates[%d]: %w", i, err)
		}
		made.Created, made.Modified = stampOrZero(made.Created), stampOrZero(made.Modified)
		put(b, b.r.templates, t.Name, &made)
	}
	for i, a := range seed.Authorities {
		if err := b.fillAuthority(a); err != nil {
			return fmt.Errorf("caCertificates[%d]: %w", i, err)
		}
	}
	return nil
}

var registrationCode = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (b *Batch) fillAuthority(s seedAuthority) error {
	certificate, refused := readPEM("certificatePem", s.PEM)
	if refused != nil {
		return errors.New(refused.message)
	}
	o, err := s.seedOrigin.read()
	switch {
	case err != nil:
		return err
	case !certificate.IsCA:
		return errors.New("the certificate is not a CA's")
	case s.Status != string(StatusActive) && s.Status != string(StatusInactive):
		return fmt.Errorf("status %.40q: want %s or %s", s.Status, StatusActive, StatusInactive)
	case s.Auto != enabled(true) && s.Auto != enabled(false):
		return fmt.Errorf("autoRegistrationStatus %.40q: want %s or %s", s.Auto, enabled(true), enabled(false))
	}
	a := &caCertificate{
		id: messages.CertificateIDOf(certificate.Raw), certificate: certificate,
		active: s.Status == string(StatusActive), autoRegister: s.Auto == enabled(true), origin: o,
	}
	if s.Config != nil {
		if refused := b.r.checkConfig(*s.Config); refused != nil {
			return errors.New(refused.message)
		}
		a.config = *s.Config
	}
	if refused := b.addAuthority(a); refused != nil {
		return errors.New(refused.message)
	}
	return nil
}

// fillRecord says what a thing, which is there, is.
func (b *Batch) fillRecord(name messages.ThingName, s seedRecord) error {
	d := record{s.ID, s.Type, withoutEmpty(s.Attributes), s.Version}
	if d.typeName != "" && b.r.types[d.typeName] == nil {
		return fmt.Errorf("thingTypeName %.128q: %w", d.typeName, ErrNotFound)
	}
	if refused := b.r.checkRecord(d); refused != nil {
		return errors.New(refused.message)
	}
	if d.version < 0 || len(d.id) > 64 {
		return errors.New("version or thingId is out of range")
	}
	b.r.things[name].record = d // undone with the thing, which is new
	return nil
}

// fillOrigin says where a certificate, which is there, comes from.
func (b *Batch) fillOrigin(id messages.CertificateID, s seedCertificate) error {
	o, err := s.seedOrigin.read()
	if err != nil {
		return err
	}
	if s.Exclusive && len(s.Things) > 1 {
		return errors.New("exclusive: it has several things")
	}
	known := b.r.certificates[id] // undone with the certificate, which is new
	known.origin, known.exclusive = o, s.Exclusive
	return nil
}

// seedRegistry adds to seed what fillRegistry reads. The caller holds mu.
func (r *Registry) seedRegistry(seed *seedFile) {
	seed.Code = r.code
	for _, name := range sortedKeys(r.types) {
		seed.ThingTypes = append(seed.ThingTypes, seedThingType{name, *r.types[name]})
	}
	for _, name := range sortedKeys(r.templates) {
		seed.Templates = append(seed.Templates, seedTemplate{name, *r.templates[name]})
	}
	for _, a := range r.authorities() {
		s := seedAuthority{PEM: string(certificatePEM(a.certificate.Raw)), Status: string(a.status()), Auto: enabled(a.autoRegister), seedOrigin: a.origin.seed()}
		if a.config != (registrationConfig{}) {
			s.Config = &a.config
		}
		seed.Authorities = append(seed.Authorities, s)
	}
}
