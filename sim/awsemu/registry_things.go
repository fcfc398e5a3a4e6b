package awsemu

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// record is what a thing is described by. The zero value is that of a thing that nobody
// described. It never changes in place.
type record struct {
	id         string // empty: derived from the name
	typeName   string
	attributes map[string]string
	version    int64 // from 1 on; zero: 1
}

func (d record) idOf(name messages.ThingName) string {
	return cmp.Or(d.id, derivedUUID("thing", string(name)))
}
func (d record) versionOf() int64 { return max(d.version, 1) }

// Limits of a thing (cloud spec 4.6; API reference).
const (
	attributesTypedMax   = 50 // of a thing with a type
	attributesUntypedMax = 3
)

var (
	attributeName  = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]{1,128}$`)
	attributeValue = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#=\[\]-]{0,800}$`)
	thingTypeName  = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)
)

// checkRecord says what is wrong with how a thing is described. The caller holds mu.
func (r *Registry) checkRecord(d record) *apiError {
	limit := attributesUntypedMax
	if d.typeName != "" {
		limit = attributesTypedMax
	}
	if r.full(len(d.attributes), limit+1) {
		return badRequest(fmt.Sprintf("The thing has %d attributes: at most %d with a thing type, %d without", len(d.attributes), attributesTypedMax, attributesUntypedMax))
	}
	for _, name := range slices.Sorted(maps.Keys(d.attributes)) {
		switch {
		case !attributeName.MatchString(name):
			return constraint("attributePayload.attributes", "Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must satisfy regular expression pattern: [a-zA-Z0-9_.,@/:#-]+]")
		case !attributeValue.MatchString(d.attributes[name]):
			return constraint("attributePayload.attributes", "Map value must satisfy constraint: [Member must have length less than or equal to 800, Member must satisfy regular expression pattern: [a-zA-Z0-9_.,@/:#=\\[\\]-]*]")
		}
	}
	return nil
}

// checkType says why things cannot get a type. The caller holds mu.
func (r *Registry) checkType(name string) *apiError {
	switch known := r.types[name]; {
	case name == "":
		return nil
	case known == nil:
		return noResource(fmt.Sprintf("Thing type %.128s not found", name))
	case !known.Deprecated.IsZero():
		return badRequest(fmt.Sprintf("Can not create new thing with deprecated thing type:%s", name))
	}
	return nil
}

// withoutEmpty drops the attributes without a value, which stand for none.
func withoutEmpty(attributes map[string]string) map[string]string {
	kept := maps.Clone(attributes)
	maps.DeleteFunc(kept, func(_, value string) bool { return value == "" })
	return kept
}

// createThing adds a thing, or finds it as it would be made; one that differs is refused
// (API reference, CreateThing).
func (b *Batch) createThing(name messages.ThingName, d record) (record, *apiError) {
	d.attributes = withoutEmpty(d.attributes)
	if known, ok := b.r.things[name]; ok {
		if known.typeName != d.typeName || !maps.Equal(known.attributes, d.attributes) {
			return known.record, alreadyExists(fmt.Sprintf("Thing %s already exists in account with different properties", name), known.idOf(name), thingARN(string(name)))
		}
		return known.record, nil
	}
	if refused := cmp.Or(b.r.checkRecord(d), b.r.checkType(d.typeName)); refused != nil {
		return d, refused
	}
	if err := b.AddThing(name); err != nil {
		return d, badRequest(err.Error())
	}
	d.id, d.version = requestID(), 1
	b.r.things[name].record = d // undone with the thing, which is new
	return d, nil
}

// describe changes how a thing is described.
func (b *Batch) describe(name messages.ThingName, d record) *apiError {
	known := b.r.things[name]
	if d.typeName != known.typeName {
		if refused := b.r.checkType(d.typeName); refused != nil {
			return refused
		}
	}
	d.attributes = withoutEmpty(d.attributes)
	if refused := b.r.checkRecord(d); refused != nil {
		return refused
	}
	d.id, d.version = known.id, known.versionOf()+1
	set(b, &known.record, d)
	return nil
}

// removeThing forgets a thing, which must have no certificates, and that it was a client
// device.
func (b *Batch) removeThing(name messages.ThingName) error {
	for core, t := range b.r.things {
		if _, ok := t.associated[name]; ok {
			if err := b.Disassociate(core, name); err != nil {
				return err
			}
		}
	}
	if err := asError(b.leaveGroups(name)); err != nil {
		return err
	}
	put(b, b.r.things, name, nil)
	set(b, &b.r.names, nil)
	return nil
}

// thingType is a kind of things. It never changes in place.
type thingType struct {
	ID          string    `json:"thingTypeId"`
	Description string    `json:"thingTypeDescription,omitempty"`
	Searchable  []string  `json:"searchableAttributes,omitempty"`
	Created     time.Time `json:"creationDate"`
	Deprecated  time.Time `json:"deprecationDate,omitzero" seed:"never"` // zero: it is not
}
