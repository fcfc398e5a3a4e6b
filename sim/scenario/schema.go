package scenario

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// Schema is the JSON Schema (2020-12) of a file of scenarios, for editors. Parse is
// stricter where a schema cannot follow: names given twice, events out of order.
func Schema() []byte {
	root := schemaOf(reflect.TypeFor[File]())
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = "urn:gatehouse:scenarios"
	root["title"] = "scenarios"
	events := make([]any, len(kinds))
	for i, k := range kinds {
		event := schemaOf(reflect.TypeOf(k.act).Elem())
		event["description"] = k.doc
		properties := event["properties"].(map[string]any)
		properties["do"] = map[string]any{"const": k.name, "description": "the kind of event"}
		properties["at"] = described(schemaOf(reflect.TypeFor[seconds]()), "when, in seconds from the scenario's beginning; without it, at once")
		event["required"] = append([]string{"do"}, event["required"].([]string)...)
		events[i] = event
	}
	var script struct {
		Defs map[string]any `json:"$defs"`
	}
	if err := json.Unmarshal(fault.Schema, &script); err != nil {
		panic(fmt.Sprintf("scenario: the schema of faults is no JSON: %v", err))
	}
	script.Defs["event"] = map[string]any{"oneOf": events}
	root["$defs"] = script.Defs
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("scenario: the schema is no JSON: %v", err))
	}
	return append(text, '\n')
}

func described(schema map[string]any, doc string) map[string]any {
	schema["description"] = doc
	return schema
}

// schemaOf describes what a value of type t is read from.
func schemaOf(t reflect.Type) map[string]any {
	switch {
	case t == eventType:
		return map[string]any{"$ref": "#/$defs/event"}
	case t == documentType:
		return map[string]any{"type": "object"}
	case t == faultsType:
		return map[string]any{"$ref": "#/$defs/faults"}
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem())
	case t.Kind() == reflect.Struct:
		return objectSchema(t)
	case t.Kind() == reflect.Map:
		return map[string]any{
			"type": "object", "additionalProperties": schemaOf(t.Elem()), "maxProperties": listMax, "propertyNames": schemaOf(t.Key()),
		}
	case t.Kind() == reflect.Slice:
		s := map[string]any{"type": "array", "items": schemaOf(t.Elem()), "maxItems": listLimit(t)}
		if t == reflect.TypeFor[[]Scenario]() {
			s["minItems"] = 1
		}
		return s
	}
	return scalarSchema(t)
}

func objectSchema(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	for _, f := range fieldsOf(t) {
		key := f.Tag.Get("key")
		properties[key] = described(schemaOf(f.Type), f.Tag.Get("doc"))
		if f.Tag.Get("need") == "yes" {
			required = append(required, key)
		}
	}
	return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
}

func scalarSchema(t reflect.Type) map[string]any {
	switch value := reflect.Zero(t).Interface().(type) {
	case choice:
		return map[string]any{"enum": value.choices()}
	case minutes:
		return map[string]any{"type": "integer", "minimum": 1, "maximum": math.MaxInt32}
	case lapse:
		return map[string]any{"type": "number", "minimum": lapseMin, "maximum": secondsMax}
	case alias:
		return map[string]any{"type": "string", "minLength": 1, "maxLength": 64}
	}
	switch t.Kind() {
	case reflect.String:
		return map[string]any{"type": "string", "maxLength": textBytesMax}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Float64:
		return map[string]any{"type": "number", "minimum": secondsMin, "maximum": secondsMax}
	default:
		return map[string]any{"type": "integer"}
	}
}

// Help describes the format for people: a line for each kind of event and for each of its
// keys.
func Help() string {
	var b strings.Builder
	help(&b, "", reflect.TypeFor[File]())
	help(&b, "  ", reflect.TypeFor[Scenario]())
	b.WriteString("\nEvents (do), each with at: when, in seconds from the beginning; without it, at once:\n")
	for _, k := range kinds {
		fmt.Fprintf(&b, "\n  %s  %s\n", k.name, k.doc)
		help(&b, "    ", reflect.TypeOf(k.act).Elem())
	}
	return b.String()
}

func help(b *strings.Builder, indent string, t reflect.Type) {
	for _, f := range fieldsOf(t) {
		optional := ""
		if f.Tag.Get("need") != "yes" {
			optional = ", optional"
		}
		fmt.Fprintf(b, "%s%s (%s%s)  %s\n", indent, f.Tag.Get("key"), form(f.Type), optional, f.Tag.Get("doc"))
		for elem := f.Type; ; elem = elem.Elem() {
			if elem.Kind() == reflect.Struct && elem != eventType && elem != reflect.TypeFor[Scenario]() {
				help(b, indent+"  ", elem)
			}
			if elem.Kind() != reflect.Map && elem.Kind() != reflect.Pointer && (elem.Kind() != reflect.Slice || elem == documentType || elem == faultsType) {
				break
			}
		}
	}
}

// choicesMax is how many choices help spells out.
const choicesMax = 16

// form says what a value of type t looks like in a file.
func form(t reflect.Type) string {
	switch {
	case t == documentType:
		return "object"
	case t == faultsType:
		return "list of faults"
	case t.Kind() == reflect.Pointer:
		return form(t.Elem())
	case t.Kind() == reflect.Map:
		return "object of " + form(t.Elem()) + " by name"
	case t.Kind() == reflect.Slice:
		return "list of " + form(t.Elem())
	case t.Kind() == reflect.Struct:
		return "object"
	}
	if c, ok := reflect.Zero(t).Interface().(choice); ok && len(c.choices()) <= choicesMax {
		return strings.Join(c.choices(), " | ")
	}
	switch t.Kind() {
	case reflect.String:
		return "text"
	case reflect.Bool:
		return "true | false"
	case reflect.Float64:
		return "seconds"
	default:
		return "number"
	}
}
