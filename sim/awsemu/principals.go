package awsemu

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The IoT control plane's operations on which certificate belongs to which thing (cloud
// spec 4.1).

var principalRoutes = []route{
	newRoute("AttachThingPrincipal", iot, "PUT", "things/*/principals", anything, (*Emulator).attachThingPrincipal),
	newRoute("DetachThingPrincipal", iot, "DELETE", "things/*/principals", anything, (*Emulator).detachThingPrincipal),
	newRoute(OpListThingPrincipals, iot, "GET", "things/*/principals", thingARNOf, (*Emulator).listThingPrincipals),
	newRoute(OpListThingPrincipalsV2, iot, "GET", "things/*/principals-v2", thingARNOf, (*Emulator).listThingPrincipalsV2),
	newRoute("ListPrincipalThings", iot, "GET", "principals/things", anything, (*Emulator).listPrincipalThings),
	newRoute("ListPrincipalThingsV2", iot, "GET", "principals/things-v2", anything, (*Emulator).listPrincipalThingsV2),
}

const (
	principalsMax  = 250 // of a page, as with AWS
	principalsPage = 50
)

// principalOf reads the certificate that a request's header names.
func principalOf(c *call) (messages.CertificateID, *apiError) {
	arn := c.header.Get("X-Amzn-Principal")
	id, ok := strings.CutPrefix(arn, certificateARN(""))
	parsed, err := messages.ParseCertificateID(id)
	if !ok || err != nil {
		return "", badRequest(fmt.Sprintf("Invalid principal %.200q: want the ARN of a certificate of this account and region", arn))
	}
	return parsed, nil
}

// Kinds of attachment: a certificate belongs to many things, or to one and no other.
const (
	nonExclusive = "NON_EXCLUSIVE_THING"
	exclusive    = "EXCLUSIVE_THING"
)

// attachmentType reads which kind is asked for; empty if none is.
func attachmentType(c *call) (string, *apiError) {
	wanted := c.query.Get("thingPrincipalType")
	if wanted != "" && wanted != nonExclusive && wanted != exclusive {
		return "", constraint("thingPrincipalType", "Member must satisfy enum value set: [EXCLUSIVE_THING, NON_EXCLUSIVE_THING]")
	}
	return wanted, nil
}

func (c *certificate) attachmentType() string {
	if c.exclusive {
		return exclusive
	}
	return nonExclusive
}

func (e *Emulator) attachThingPrincipal(c *call) (any, *apiError) {
	wanted, refused := attachmentType(c)
	if refused != nil {
		return nil, refused
	}
	return e.onPrincipal(c, func(b *Batch, name messages.ThingName, id messages.CertificateID) *apiError {
		return b.attach(name, id, wanted)
	})
}

// attach makes a certificate one of a thing's, in the way that is wanted: exclusively, with
// others, or as it is. Both must exist.
func (b *Batch) attach(name messages.ThingName, id messages.CertificateID, wanted string) *apiError {
	known := b.r.certificates[id]
	others := len(known.things)
	if known.things[name] {
		others--
	}
	if others > 0 && (known.exclusive || wanted == exclusive) {
		return badRequest(fmt.Sprintf("The principal is attached to %d other things, and an exclusive attachment is the only one", others))
	}
	if !known.things[name] || wanted != "" {
		set(b, &known.exclusive, wanted == exclusive)
	}
	return failedIf(b.Attach(name, id))
}

func (e *Emulator) detachThingPrincipal(c *call) (any, *apiError) {
	return e.onPrincipal(c, func(b *Batch, name messages.ThingName, id messages.CertificateID) *apiError {
		known := b.r.certificates[id]
		if known.things[name] {
			set(b, &known.exclusive, false)
		}
		return failedIf(b.setAttached(name, id, false))
	})
}

// onPrincipal changes what is between a thing and a certificate, which must both exist.
func (e *Emulator) onPrincipal(c *call, change func(*Batch, messages.ThingName, messages.CertificateID) *apiError) (any, *apiError) {
	name, refused := thingParameter(c, "thingName")
	if refused != nil {
		return nil, refused
	}
	id, refused := principalOf(c)
	if refused != nil {
		return nil, refused
	}
	return none{}, e.change(func(b *Batch) *apiError {
		switch {
		case b.r.things[name] == nil:
			return noThing(name)
		case b.r.certificates[id] == nil:
			return noResource(fmt.Sprintf("Principal %s cannot be found.", certificateARN(string(id))))
		}
		return change(b, name, id)
	})
}

type thingPrincipal struct {
	Principal string `json:"principal"`
	Type      string `json:"thingPrincipalType"`
}

// principals lists a page of a thing's certificates.
func (e *Emulator) principals(c *call) (found []thingPrincipal, next string, refused *apiError) {
	name, refused := thingParameter(c, "thingName")
	if refused != nil {
		return nil, "", refused
	}
	wanted, refused := attachmentType(c)
	if refused != nil {
		return nil, "", refused
	}
	p, refused := e.pageOf(c, principalsPage, principalsMax)
	if refused != nil {
		return nil, "", refused
	}
	more := false
	refused = e.look(func(r *Registry) *apiError {
		t := r.things[name]
		if t == nil {
			return noResource(fmt.Sprintf("Failed to list principals for thing %s because the thing does not exist in your account", name))
		}
		ids := slices.DeleteFunc(sortedKeys(t.certificates), func(id messages.CertificateID) bool {
			return wanted != "" && r.certificates[id].attachmentType() != wanted
		})
		ids, more = behind(ids, messages.CertificateID(p.after), p.limit)
		for _, id := range ids {
			found = append(found, thingPrincipal{certificateARN(string(id)), r.certificates[id].attachmentType()})
		}
		return nil
	})
	if refused != nil {
		return nil, "", refused
	}
	found, next = turn(e, p, found, more, func(t thingPrincipal) string { return strings.TrimPrefix(t.Principal, certificateARN("")) })
	return append([]thingPrincipal{}, found...), next, nil
}

func (e *Emulator) listThingPrincipals(c *call) (any, *apiError) {
	found, next, refused := e.principals(c)
	if refused != nil {
		return nil, refused
	}
	arns := make([]string, len(found))
	for i, t := range found {
		arns[i] = t.Principal
	}
	return struct {
		Principals []string `json:"principals"`
		NextToken  string   `json:"nextToken,omitempty"`
	}{arns, next}, nil
}

func (e *Emulator) listThingPrincipalsV2(c *call) (any, *apiError) {
	found, next, refused := e.principals(c)
	if refused != nil {
		return nil, refused
	}
	return struct {
		Principals []thingPrincipal `json:"thingPrincipalObjects"`
		NextToken  string           `json:"nextToken,omitempty"`
	}{found, next}, nil
}

type principalThing struct {
	Thing messages.ThingName `json:"thingName"`
	Type  string             `json:"thingPrincipalType"`
}

// thingsOf lists a page of a certificate's things.
func (e *Emulator) thingsOf(c *call) (found []principalThing, next string, refused *apiError) {
	id, refused := principalOf(c)
	if refused != nil {
		return nil, "", refused
	}
	wanted, refused := attachmentType(c)
	if refused != nil {
		return nil, "", refused
	}
	c.parameters = []string{string(id)} // as if it was in the path: a token is of this listing
	p, refused := e.pageOf(c, principalsPage, principalsMax)
	if refused != nil {
		return nil, "", refused
	}
	more := false
	refused = e.look(func(r *Registry) *apiError {
		known := r.certificates[id]
		if known == nil {
			return noResource(fmt.Sprintf("Principal %s cannot be found.", certificateARN(string(id))))
		}
		if cmp.Or(wanted, known.attachmentType()) != known.attachmentType() {
			return nil
		}
		var names []messages.ThingName
		names, more = behind(sortedKeys(known.things), messages.ThingName(p.after), p.limit)
		for _, name := range names {
			found = append(found, principalThing{name, known.attachmentType()})
		}
		return nil
	})
	if refused != nil {
		return nil, "", refused
	}
	found, next = turn(e, p, found, more, func(t principalThing) string { return string(t.Thing) })
	return append([]principalThing{}, found...), next, nil
}

func (e *Emulator) listPrincipalThings(c *call) (any, *apiError) {
	found, next, refused := e.thingsOf(c)
	if refused != nil {
		return nil, refused
	}
	names := make([]messages.ThingName, len(found))
	for i, t := range found {
		names[i] = t.Thing
	}
	return struct {
		Things    []messages.ThingName `json:"things"`
		NextToken string               `json:"nextToken,omitempty"`
	}{names, next}, nil
}

func (e *Emulator) listPrincipalThingsV2(c *call) (any, *apiError) {
	found, next, refused := e.thingsOf(c)
	if refused != nil {
		return nil, refused
	}
	return struct {
		Things    []principalThing `json:"principalThingObjects"`
		NextToken string           `json:"nextToken,omitempty"`
	}{found, next}, nil
}
