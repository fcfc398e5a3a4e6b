package awsemu

import (
	"fmt"
	"maps"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The IoT control plane's operations on things and their certificates (cloud spec 4.1).

var thingRoutes = []route{
	newRoute(OpListThings, iot, "GET", "things", anything, (*Emulator).listThings),
	newRoute(OpDescribeThing, iot, "GET", "things/*", thingARNOf, (*Emulator).describeThing),
	newRoute("CreateThing", iot, "POST", "things/*", thingARNOf, (*Emulator).createThing),
	newRoute("UpdateThing", iot, "PATCH", "things/*", thingARNOf, (*Emulator).updateThing),
	newRoute("DeleteThing", iot, "DELETE", "things/*", thingARNOf, (*Emulator).deleteThing),
}

type attributePayload struct {
	Attributes map[string]string `json:"attributes"`
	Merge      bool              `json:"merge"`
}

type thingRequest struct {
	Type            string            `json:"thingTypeName"`
	Attributes      *attributePayload `json:"attributePayload"`
	BillingGroup    string            `json:"billingGroupName"`
	ExpectedVersion *int64            `json:"expectedVersion"`
	RemoveType      bool              `json:"removeThingType"`
}

func (e *Emulator) createThing(c *call) (any, *apiError) {
	name, refused := thingParameter(c, "thingName")
	if refused != nil {
		return nil, refused
	}
	var request thingRequest
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	wanted := record{typeName: request.Type}
	switch {
	case request.BillingGroup != "":
		return nil, noResource(fmt.Sprintf("Billing group %.128s not found: billing groups are not emulated", request.BillingGroup))
	case request.Attributes != nil && request.Attributes.Merge:
		return nil, badRequest("merge is for UpdateThing")
	case request.Attributes != nil:
		wanted.attributes = request.Attributes.Attributes
	}
	var made record
	refused = e.change(func(b *Batch) (refused *apiError) {
		made, refused = b.createThing(name, wanted)
		return refused
	})
	return map[string]string{"thingName": string(name), "thingArn": thingARN(string(name)), "thingId": made.idOf(name)}, refused
}

func (e *Emulator) updateThing(c *call) (any, *apiError) {
	name, refused := thingParameter(c, "thingName")
	if refused != nil {
		return nil, refused
	}
	var request thingRequest
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	if request.RemoveType && request.Type != "" {
		return nil, badRequest("removeThingType goes with no thingTypeName")
	}
	return none{}, e.change(func(b *Batch) *apiError {
		known := b.r.things[name]
		switch {
		case known == nil:
			return noThing(name)
		case request.ExpectedVersion != nil && *request.ExpectedVersion != known.versionOf():
			return versionConflict(fmt.Sprintf("The version of thing %s is %d", name, known.versionOf()))
		}
		return b.describe(name, request.applied(known.record))
	})
}

// applied is d as the request wants it.
func (q thingRequest) applied(d record) record {
	if q.Attributes != nil {
		next := map[string]string{}
		if q.Attributes.Merge {
			maps.Copy(next, d.attributes)
		}
		maps.Copy(next, q.Attributes.Attributes)
		d.attributes = next
	}
	switch {
	case q.RemoveType:
		d.typeName = ""
	case q.Type != "":
		d.typeName = q.Type
	}
	return d
}

func (e *Emulator) deleteThing(c *call) (any, *apiError) {
	name, refused := thingParameter(c, "thingName")
	if refused != nil {
		return nil, refused
	}
	version, given, refused := c.integer("expectedVersion")
	if refused != nil {
		return nil, refused
	}
	return none{}, e.change(func(b *Batch) *apiError {
		known := b.r.things[name]
		switch {
		case known == nil: // is success (API reference)
			return nil
		case given && int64(version) != known.versionOf():
			return versionConflict(fmt.Sprintf("The version of thing %s is %d", name, known.versionOf()))
		case len(known.certificates) > 0:
			return badRequest(fmt.Sprintf("Cannot delete. Thing %s is still attached to one or more principals", name))
		}
		return failedIf(b.removeThing(name))
	})
}

func noThing(name messages.ThingName) *apiError {
	return noResource(fmt.Sprintf("Thing %s cannot be found.", name))
}

type thingDescription struct {
	Attributes map[string]string  `json:"attributes"`
	ClientID   messages.ThingName `json:"defaultClientId,omitempty"`
	ARN        string             `json:"thingArn"`
	ID         string             `json:"thingId,omitempty"`
	Name       messages.ThingName `json:"thingName"`
	Type       string             `json:"thingTypeName,omitempty"`
	Version    int64              `json:"version"`
}

func describeRecord(name messages.ThingName, d record) thingDescription {
	attributes := d.attributes
	if attributes == nil {
		attributes = map[string]string{}
	}
	return thingDescription{Attributes: attributes, ARN: thingARN(string(name)), Name: name, Type: d.typeName, Version: d.versionOf()}
}

func (e *Emulator) describeThing(c *call) (any, *apiError) {
	name, refused := thingParameter(c, "thingName")
	if refused != nil {
		return nil, refused
	}
	var answer thingDescription
	refused = e.look(func(r *Registry) *apiError {
		known := r.things[name]
		if known == nil {
			return noThing(name)
		}
		answer = describeRecord(name, known.record)
		answer.ClientID, answer.ID = name, known.idOf(name)
		return nil
	})
	return answer, refused
}

// listThings lists those of a type or with an attribute, if one is asked for.
func (e *Emulator) listThings(c *call) (any, *apiError) {
	wanted, refused := thingFilter(c)
	if refused != nil {
		return nil, refused
	}
	p, refused := e.pageOf(c, principalsPage, principalsMax)
	if refused != nil {
		return nil, refused
	}
	found, more := e.registry.thingsWhere(messages.ThingName(p.after), p.limit, wanted)
	found, next := turn(e, p, found, more, func(d thingDescription) string { return string(d.Name) })
	return struct {
		Things    []thingDescription `json:"things"`
		NextToken string             `json:"nextToken,omitempty"`
	}{append([]thingDescription{}, found...), next}, nil
}

func thingFilter(c *call) (func(record) bool, *apiError) {
	attribute, value, typeName := c.query.Get("attributeName"), c.query.Get("attributeValue"), c.query.Get("thingTypeName")
	prefix, refused := c.flag("usePrefixAttributeValue")
	switch {
	case refused != nil:
		return nil, refused
	case (attribute == "") != (value == ""):
		return nil, badRequest("attributeName and attributeValue go together")
	}
	return func(d record) bool {
		given, ok := d.attributes[attribute]
		fits := attribute == "" || ok && (given == value || prefix && strings.HasPrefix(given, value))
		return fits && (typeName == "" || d.typeName == typeName)
	}, nil
}

// thingsWhere lists at most limit things behind the one named after that wanted says.
func (r *Registry) thingsWhere(after messages.ThingName, limit int, wanted func(record) bool) (page []thingDescription, more bool) {
	names, _ := r.thingNames(after, -1)
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, name := range names {
		known := r.things[name]
		if known == nil || !wanted(known.record) { // gone meanwhile
			continue
		}
		if len(page) == limit {
			return page, true
		}
		page = append(page, describeRecord(name, known.record))
	}
	return page, false
}
