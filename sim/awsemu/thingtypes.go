package awsemu

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The IoT control plane's operations on thing types (API reference).

var thingTypeRoutes = []route{
	newRoute("CreateThingType", iot, "POST", "thing-types/*", thingTypeARNOf, (*Emulator).createThingType),
	newRoute("DescribeThingType", iot, "GET", "thing-types/*", thingTypeARNOf, (*Emulator).describeThingType),
	newRoute("ListThingTypes", iot, "GET", "thing-types", anything, (*Emulator).listThingTypes),
	newRoute("DeprecateThingType", iot, "POST", "thing-types/*/deprecate", thingTypeARNOf, (*Emulator).deprecateThingType),
	newRoute("DeleteThingType", iot, "DELETE", "thing-types/*", thingTypeARNOf, (*Emulator).deleteThingType),
}

func thingTypeARN(name string) string           { return "arn:aws:iot" + arnPrefix + "thingtype/" + name }
func thingTypeARNOf(parameters []string) string { return thingTypeARN(parameters[0]) }

const (
	searchableMax     = 3 // attributes of a thing type
	descriptionMax    = 2028
	deprecationPeriod = 5 * time.Minute // until a deprecated type can be deleted
	thingTypesMax     = 250             // of a page
	thingTypesPage    = 50
)

type thingTypeProperties struct {
	Description string   `json:"thingTypeDescription,omitempty"`
	Searchable  []string `json:"searchableAttributes,omitempty"`
}

type thingTypeMetadata struct {
	Deprecated   bool   `json:"deprecated"`
	DeprecatedAt *epoch `json:"deprecationDate,omitempty"`
	Created      epoch  `json:"creationDate"`
}

type thingTypeDescription struct {
	Name       string              `json:"thingTypeName"`
	ARN        string              `json:"thingTypeArn"`
	ID         string              `json:"thingTypeId,omitempty"`
	Properties thingTypeProperties `json:"thingTypeProperties"`
	Metadata   thingTypeMetadata   `json:"thingTypeMetadata"`
}

func (t *thingType) describe(name string) thingTypeDescription {
	d := thingTypeDescription{name, thingTypeARN(name), t.ID, thingTypeProperties{t.Description, t.Searchable}, thingTypeMetadata{Created: epoch(t.Created)}}
	if !t.Deprecated.IsZero() {
		at := epoch(t.Deprecated)
		d.Metadata.Deprecated, d.Metadata.DeprecatedAt = true, &at
	}
	return d
}

func thingTypeParameter(c *call) (string, *apiError) {
	if name := c.parameters[0]; thingTypeName.MatchString(name) {
		return name, nil
	}
	return "", constraint("thingTypeName", "Member must be 1 to 128 of [a-zA-Z0-9:_-]")
}

// check says what is wrong with a thing type.
func (t *thingType) check() *apiError {
	switch {
	case len(t.Description) > descriptionMax:
		return constraint("thingTypeProperties.thingTypeDescription", fmt.Sprintf("Member must have length less than or equal to %d", descriptionMax))
	case len(t.Searchable) > searchableMax || !eachMatches(t.Searchable):
		return constraint("thingTypeProperties.searchableAttributes", fmt.Sprintf("Member must be at most %d names of attributes", searchableMax))
	}
	return nil
}

func eachMatches(names []string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !attributeName.MatchString(name) })
}

func (e *Emulator) createThingType(c *call) (any, *apiError) {
	name, refused := thingTypeParameter(c)
	if refused != nil {
		return nil, refused
	}
	var request struct {
		Properties thingTypeProperties `json:"thingTypeProperties"`
	}
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	made := &thingType{ID: requestID(), Description: request.Properties.Description, Searchable: request.Properties.Searchable, Created: stamp(e.now())}
	if refused := made.check(); refused != nil {
		return nil, refused
	}
	refused = e.change(func(b *Batch) *apiError {
		if known := b.r.types[name]; known != nil {
			if known.Description != made.Description || !slices.Equal(known.Searchable, made.Searchable) {
				return alreadyExists(fmt.Sprintf("Thing type %s already exists with different properties", name), known.ID, thingTypeARN(name))
			}
			made = known
			return nil
		}
		put(b, b.r.types, name, made)
		return nil
	})
	return map[string]string{"thingTypeName": name, "thingTypeArn": thingTypeARN(name), "thingTypeId": made.ID}, refused
}

// onThingType does something with a thing type that must exist.
func (e *Emulator) onThingType(c *call, do func(b *Batch, name string, known *thingType) *apiError) *apiError {
	name, refused := thingTypeParameter(c)
	if refused != nil {
		return refused
	}
	return e.change(func(b *Batch) *apiError {
		known := b.r.types[name]
		if known == nil {
			return noResource(fmt.Sprintf("Thing type %s not found", name))
		}
		return do(b, name, known)
	})
}

func (e *Emulator) describeThingType(c *call) (any, *apiError) {
	var answer thingTypeDescription
	refused := e.onThingType(c, func(_ *Batch, name string, known *thingType) *apiError {
		answer = known.describe(name)
		return nil
	})
	return answer, refused
}

func (e *Emulator) listThingTypes(c *call) (any, *apiError) {
	p, refused := e.pageOf(c, thingTypesPage, thingTypesMax)
	if refused != nil {
		return nil, refused
	}
	prefix, more := c.query.Get("thingTypeName"), false
	found := []thingTypeDescription{}
	_ = e.look(func(r *Registry) *apiError {
		names := slices.DeleteFunc(sortedKeys(r.types), func(name string) bool { return !strings.HasPrefix(name, prefix) })
		names, more = behind(names, p.after, p.limit)
		for _, name := range names {
			d := r.types[name].describe(name)
			d.ID = "" // not in listings
			found = append(found, d)
		}
		return nil
	})
	found, next := turn(e, p, found, more, func(d thingTypeDescription) string { return d.Name })
	return struct {
		Types     []thingTypeDescription `json:"thingTypes"`
		NextToken string                 `json:"nextToken,omitempty"`
	}{append([]thingTypeDescription{}, found...), next}, nil
}

func (e *Emulator) deprecateThingType(c *call) (any, *apiError) {
	var request struct {
		Undo bool `json:"undoDeprecate"`
	}
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	return none{}, e.onThingType(c, func(b *Batch, name string, known *thingType) *apiError {
		next := *known
		next.Deprecated = stamp(e.now())
		if request.Undo {
			next.Deprecated = time.Time{}
		}
		put(b, b.r.types, name, &next)
		return nil
	})
}

// deleteThingType deletes one that was deprecated five minutes ago, and that no thing has.
func (e *Emulator) deleteThingType(c *call) (any, *apiError) {
	return none{}, e.onThingType(c, func(b *Batch, name string, known *thingType) *apiError {
		if known.Deprecated.IsZero() || e.now().Sub(known.Deprecated) < deprecationPeriod {
			return badRequest("Cannot delete thing type : " + name + ". Please wait for 5 minutes after deprecation and then retry")
		}
		for _, t := range b.r.things {
			if t.typeName == name {
				return badRequest(fmt.Sprintf("Cannot delete thing type %s: things have it", name))
			}
		}
		put(b, b.r.types, name, nil)
		return nil
	})
}
