package awsemu

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/provisioning"
)

// Provisioning does what a template says: for RegisterThing, and for a device that connects
// first, just in time (cloud spec 4.5).

var provisioningRoutes = []route{
	newRoute("RegisterThing", iot, "POST", "things", anything, (*Emulator).registerThing),
}

// provisioned is what a template has made, or found.
type provisioned struct {
	PEM  string            `json:"certificatePem,omitempty"`
	ARNs map[string]string `json:"resourceArns"` // by logical name
}

func unregistrable(message string) *apiError {
	return iotError(http.StatusBadRequest, "ResourceRegistrationFailureException", message)
}

func (e *Emulator) registerThing(c *call) (any, *apiError) {
	var request struct {
		Body       string            `json:"templateBody"`
		Parameters map[string]string `json:"parameters"`
	}
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	plan, refused := resolve(request.Body, request.Parameters)
	if refused != nil {
		return nil, refused
	}
	var made []byte // outside of the registry's lock, as it takes time
	if plan.Certificate != nil && plan.Certificate.CSR != "" {
		csr, refused := readCSR(plan.Certificate.CSR)
		if refused != nil {
			return nil, refused
		}
		if made, refused = e.sign(csr.PublicKey, csr.Subject); refused != nil {
			return nil, refused
		}
	}
	var answer provisioned
	refused = e.change(func(b *Batch) (refused *apiError) {
		answer, refused = e.provision(b, plan, made)
		return refused
	})
	return answer, refused
}

func resolve(body string, values map[string]string) (provisioning.Plan, *apiError) {
	template, refused := readTemplate(body)
	if refused != nil {
		return provisioning.Plan{}, refused
	}
	plan, err := template.Resolve(values)
	if err != nil {
		return plan, badRequest("Invalid parameters: " + err.Error())
	}
	return plan, nil
}

// provisionNewcomer provisions a device whose certificate is pending: all that its CA's
// template says, or nothing.
func (e *Emulator) provisionNewcomer(leaf *x509.Certificate, by registrationConfig) *apiError {
	id := messages.CertificateIDOf(leaf.Raw)
	return e.change(func(b *Batch) *apiError {
		body := by.TemplateBody
		if t := b.r.templates[by.TemplateName]; t != nil && t.Enabled {
			body = t.Body
		}
		if body == "" {
			return unregistrable(fmt.Sprintf("template %s is not enabled", by.TemplateName))
		}
		plan, refused := resolve(body, provisioning.CertificateParameters(leaf))
		switch {
		case refused != nil:
			return refused
		case plan.Certificate == nil || plan.Certificate.ID != string(id):
			return unregistrable("the template's certificate is not the device's: its CertificateId is to be the parameter AWS::IoT::Certificate::Id")
		}
		_, refused = e.provision(b, plan, nil)
		return refused
	})
}

// provision does what plan says. made is the certificate for its request. The certificate
// gets its status last.
func (e *Emulator) provision(b *Batch, plan provisioning.Plan, made []byte) (provisioned, *apiError) {
	done := provisioned{ARNs: map[string]string{}}
	var (
		id    messages.CertificateID
		fresh bool
	)
	if c := plan.Certificate; c != nil {
		var refused *apiError
		if id, fresh, refused = e.provisionCertificate(b, c, made); refused != nil {
			return done, refused
		}
		done.ARNs[c.Logical], done.PEM = certificateARN(string(id)), string(certificatePEM(b.r.certificates[id].der))
	}
	if t := plan.Thing; t != nil {
		if refused := b.provisionThing(t); refused != nil {
			return done, refused
		}
		done.ARNs[t.Logical] = thingARN(t.Name)
	}
	for _, p := range plan.Policies {
		if refused := cmp.Or(e.provisionPolicy(b, p), b.attachPolicy(p.Name, certificateARN(string(id)))); refused != nil {
			return done, refused
		}
		done.ARNs[p.Logical] = policyARN(p.Name)
	}
	if plan.Certificate == nil {
		return done, nil
	}
	if plan.Thing != nil {
		if refused := b.attach(messages.ThingName(plan.Thing.Name), id, plan.Certificate.Way); refused != nil {
			return done, refused
		}
	}
	return done, e.settle(b, id, fresh, plan.Certificate)
}

// provisionCertificate finds the certificate, or registers it, INACTIVE as yet. It is fresh
// if it is new, or was registered by a device that waits for it.
func (e *Emulator) provisionCertificate(b *Batch, c *provisioning.Certificate, made []byte) (id messages.CertificateID, fresh bool, refused *apiError) {
	if way := c.Way; way != "" && way != exclusive && way != nonExclusive {
		return "", false, unregistrable(fmt.Sprintf("ThingPrincipalType %.40q: want %s or %s", way, exclusive, nonExclusive))
	}
	switch {
	case made != nil:
		id, refused = b.register(made, StatusInactive, born(e.now(), "", ModeDefault))
		return id, true, refused
	case c.ID != "":
		id, err := messages.ParseCertificateID(c.ID)
		known := b.r.certificates[id]
		if err != nil || known == nil {
			return id, false, noCertificate()
		}
		return id, known.status == StatusPendingActivation, nil
	}
	leaf, refused := readPEM("CertificatePem", c.PEM)
	if refused != nil {
		return "", false, refused
	}
	id = messages.CertificateIDOf(leaf.Raw)
	if b.r.certificates[id] != nil {
		return id, false, nil
	}
	signer, refused := b.r.signerOf(leaf, c.AuthorityPEM, e.now())
	if refused != nil {
		return id, false, refused
	}
	id, refused = b.register(leaf.Raw, StatusInactive, born(e.now(), signer.id, signer.mode))
	return id, true, refused
}

// settle gives the certificate its status: a fresh one that which is wanted, any other as the
// template says.
func (e *Emulator) settle(b *Batch, id messages.CertificateID, fresh bool, c *provisioning.Certificate) *apiError {
	known := b.r.certificates[id]
	wanted := Status(c.Status)
	switch {
	case known.status == wanted, !fresh && c.OnStatus == provisioning.DoNothing:
		return nil
	case known.status == StatusRevoked:
		return certificateState("Not allowed to change the status of a revoked certificate")
	case !fresh && c.OnStatus != provisioning.Replace:
		return conflicts(c.Logical, "Status")
	}
	b.touch(&known.origin, e.now())
	return failedIf(b.SetStatus(id, wanted))
}

func conflicts(logical, property string) *apiError {
	return unregistrable(fmt.Sprintf("%s: %s is there already and differs, and OverrideSettings do not say what to do", logical, property))
}

// provisionThing makes the thing, or makes what is there fit.
func (b *Batch) provisionThing(t *provisioning.Thing) *apiError {
	name, err := messages.ParseThingName(t.Name)
	if err != nil {
		return unregistrable(err.Error())
	}
	known := b.r.things[name]
	if known == nil {
		wanted := record{attributes: t.Attributes}
		if t.Type != nil {
			wanted.typeName = *t.Type
		}
		if _, refused := b.createThing(name, wanted); refused != nil {
			return refused
		}
		return b.provisionGroups(name, t, provisioning.Merge)
	}
	next := known.record
	if t.Type != nil && *t.Type != next.typeName && t.OnType != provisioning.DoNothing {
		if t.OnType == provisioning.Fail {
			return conflicts(t.Logical, "ThingTypeName")
		}
		next.typeName = *t.Type
	}
	if refused := override(&next, t); refused != nil {
		return refused
	}
	if next.typeName != known.typeName || !maps.Equal(next.attributes, known.attributes) {
		if refused := b.describe(name, next); refused != nil {
			return refused
		}
	}
	return b.provisionGroups(name, t, t.OnGroups)
}

// override makes a thing's attributes those of the template, as far as that says so.
func override(next *record, t *provisioning.Thing) *apiError {
	wanted := withoutEmpty(t.Attributes)
	if t.Attributes == nil || maps.Equal(wanted, next.attributes) {
		return nil
	}
	switch t.OnAttributes {
	case provisioning.DoNothing:
	case provisioning.Replace:
		next.attributes = wanted
	case provisioning.Merge:
		merged := map[string]string{}
		maps.Copy(merged, next.attributes)
		maps.Copy(merged, wanted)
		next.attributes = merged
	default:
		return conflicts(t.Logical, "AttributePayload")
	}
	return nil
}

// provisionGroups puts a thing into the template's groups. Replace takes it out of the others
// first, as they may be of the same hierarchy.
func (b *Batch) provisionGroups(name messages.ThingName, t *provisioning.Thing, how provisioning.Override) *apiError {
	present := b.r.groupsOf(name)
	for _, group := range present {
		if how == provisioning.Replace && t.Groups != nil && !slices.Contains(t.Groups, group) {
			if refused := b.setMember(group, name, false); refused != nil {
				return refused
			}
		}
	}
	for _, group := range t.Groups {
		switch {
		case slices.Contains(present, group), how == provisioning.DoNothing:
			continue
		case how == provisioning.Fail:
			return conflicts(t.Logical, "ThingGroups")
		}
		if refused := b.setMember(group, name, true); refused != nil {
			return refused
		}
	}
	return nil
}

// provisionPolicy makes a policy, or finds one that says the same.
func (e *Emulator) provisionPolicy(b *Batch, p provisioning.Policy) *apiError {
	known := b.r.policies[p.Name]
	switch {
	case p.Document == "" && known == nil:
		return noPolicy(p.Name)
	case p.Document == "":
		return nil
	case known == nil:
		return b.createPolicy(p.Name, p.Document, e.now())
	case known.document().String() != p.Document:
		return unregistrable(fmt.Sprintf("%s: there is a policy %s, which says something else", p.Logical, p.Name))
	}
	return nil
}
