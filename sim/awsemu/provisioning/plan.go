package provisioning

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Plan is what a template makes of a device's parameters.
type Plan struct {
	Thing       *Thing       // nil: none
	Certificate *Certificate // nil: none
	Policies    []Policy     // attached to Certificate
}

// Thing is to be made, or found, and gets the certificate.
type Thing struct {
	Logical, Name        string
	Type                 *string           // nil: not said
	Attributes           map[string]string // nil: not said
	Groups               []string
	OnType, OnAttributes Override
	OnGroups             Override
}

// Certificate is to be found by its id, or registered, or made of a request: one of ID, PEM
// and CSR is set.
type Certificate struct {
	Logical, ID, PEM, CSR string
	AuthorityPEM          string // of who signed PEM; empty: not said
	Status                string // ACTIVE or INACTIVE
	Way                   string // of its attachment to Thing; empty: not said
	OnStatus              Override
}

// Policy is to be made, or found by its name if Document is empty.
type Policy struct{ Logical, Name, Document string }

// Resolve says what the template makes of values. Every parameter that it declares must
// have one, or a default; AWS fails the device otherwise. Values beyond those are left alone.
func (t *Template) Resolve(values map[string]string) (Plan, error) {
	v := resolver{values: map[string]string{}}
	for name, p := range t.parameters {
		given, ok := values[name]
		switch {
		case ok:
			v.values[name] = given
		case p.optional:
			v.values[name] = p.value
		default:
			return Plan{}, fmt.Errorf("parameter %.128s has no value", name)
		}
	}
	var plan Plan
	if t.thing != nil {
		plan.Thing = v.thing(t.thing)
	}
	if c := t.certificate; c != nil {
		plan.Certificate = &Certificate{
			Logical: c.logical, ID: v.optional(c.id), PEM: v.optional(c.pem), CSR: v.optional(c.csr), AuthorityPEM: v.optional(c.authority),
			Status: v.optional(c.status), Way: v.optional(c.way), OnStatus: c.onStatus,
		}
		switch plan.Certificate.Status {
		case "":
			plan.Certificate.Status = "ACTIVE"
		case "ACTIVE", "INACTIVE":
		default:
			return Plan{}, fmt.Errorf("%s: status %.40q, want ACTIVE or INACTIVE", c.logical, plan.Certificate.Status)
		}
	}
	for _, p := range t.policies {
		made := Policy{p.logical, v.optional(p.name), v.optional(p.document)}
		if made.Name == "" { // AWS names it by a hash
			sum := sha256.Sum256([]byte(made.Document))
			made.Name = hex.EncodeToString(sum[:])
		}
		plan.Policies = append(plan.Policies, made)
	}
	return plan, nil
}

type resolver struct{ values map[string]string }

func (v resolver) text(t text) string {
	if t.ref != "" {
		return v.values[t.ref]
	}
	return t.literal
}

func (v resolver) optional(t *text) string {
	if t == nil {
		return ""
	}
	return v.text(*t)
}

func (v resolver) thing(t *thing) *Thing {
	made := &Thing{Logical: t.logical, Name: v.text(t.name), OnType: t.onType, OnAttributes: t.onAttributes, OnGroups: t.onGroups}
	if t.typeName != nil {
		name := v.text(*t.typeName)
		made.Type = &name
	}
	if t.hasAttributes {
		made.Attributes = map[string]string{}
		for name, value := range t.attributes {
			made.Attributes[name] = v.text(value)
		}
	}
	for _, g := range t.groups {
		made.Groups = append(made.Groups, v.text(g))
	}
	return made
}

// parameterPrefix begins the names of the parameters that a certificate gives.
const parameterPrefix = "AWS::IoT::Certificate::"

// object identifiers of a subject's attributes (RFC 4519)
var attributeOIDs = map[string]string{
	"2.5.4.6": "Country", "2.5.4.10": "Organization", "2.5.4.11": "OrganizationalUnit", "2.5.4.46": "DistinguishedNameQualifier",
	"2.5.4.8": "StateName", "2.5.4.3": "CommonName", "2.5.4.5": "SerialNumber",
}

// CertificateParameters are the parameters that just-in-time provisioning takes from a
// certificate: its id, and attributes of its subject. SerialNumber is the subject's, not the
// certificate's. Of an attribute that occurs twice the first counts.
func CertificateParameters(leaf *x509.Certificate) map[string]string {
	values := map[string]string{parameterPrefix + "Id": string(messages.CertificateIDOf(leaf.Raw))}
	for _, attribute := range leaf.Subject.Names {
		name, known := attributeOIDs[attribute.Type.String()]
		value, isText := attribute.Value.(string)
		if _, given := values[parameterPrefix+name]; known && isText && !given {
			values[parameterPrefix+name] = value
		}
	}
	return values
}
