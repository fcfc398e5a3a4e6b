package awsemu

import (
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"time"
)

// SeedSchema is the JSON Schema (2020-12) of a seed, for editors. Registry.Seed is stricter
// where a schema cannot follow.
func SeedSchema() []byte {
	schema := schemaOf(reflect.TypeFor[seedFile](), false)
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "Seed of Gatehouse's AWS emulator"
	schema["properties"].(map[string]any)["formatVersion"] = map[string]any{"const": seedFormat}
	text, err := json.MarshalIndent(schema, "", "  ")
	if err != nil {
		panic("awsemu: a schema that is no JSON: " + err.Error())
	}
	return append(text, '\n')
}

// schemaOf describes what seedReader.value takes for a t.
func schemaOf(t reflect.Type, asText bool) map[string]any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case isOpaque(t):
		return map[string]any{}
	case asText:
		return map[string]any{"type": []string{"string", "object", "array"}}
	}
	switch t.Kind() {
	case reflect.Struct:
		return objectSchema(t)
	case reflect.Map:
		return map[string]any{"type": "object", "additionalProperties": schemaOf(t.Elem(), false)}
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return map[string]any{"type": "string", "contentEncoding": "base64"}
		}
		return map[string]any{"type": "array", "items": schemaOf(t.Elem(), false)}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	}
	return map[string]any{"type": "string"}
}

func objectSchema(t reflect.Type) map[string]any {
	properties, required := map[string]any{}, []string{}
	fields := seedFields(t)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		f := fields[name]
		property := schemaOf(f.Type, seedTag(f, "text"))
		if doc := f.Tag.Get("doc"); doc != "" {
			property["description"] = doc
		}
		properties[name] = property
		if seedTag(f, "required") {
			required = append(required, name)
		}
	}
	return map[string]any{"type": "object", "additionalProperties": false, "properties": properties, "required": required}
}
