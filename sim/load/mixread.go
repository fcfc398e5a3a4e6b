package load

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// Parse reads a mix, YAML or JSON, strictly; name stands in its errors, which are
// policy.Errors: everything that is wrong, with its place, up to a limit.
func Parse(name string, doc []byte) (*Mix, error) {
	node, err := policy.ReadDocument(doc, MixBytesMax, "a mix is a page of text")
	if err != nil {
		return nil, inFile(name, policy.ErrorsOf(err))
	}
	m := defaultMix()
	d := &decoder{}
	d.value(node, "", reflect.ValueOf(&m).Elem(), "")
	if len(d.problems) == 0 {
		if err := m.Check(); err != nil {
			d.fail(node, "", "%v", err)
		}
	}
	if len(d.problems) > 0 {
		return nil, inFile(name, d.problems)
	}
	return &m, nil
}

func inFile(name string, problems policy.Errors) policy.Errors {
	for _, p := range problems {
		p.File = name
	}
	return problems
}

// problemsMax is how many problems of a file are told.
const problemsMax = 20

// decoder reads the tree of a document into values, by the tags of their fields.
type decoder struct{ problems policy.Errors }

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	if len(d.problems) < problemsMax {
		d.problems = append(d.problems, &policy.Error{Kind: policy.KindType, Line: n.Line, Column: n.Column, Path: path, Msg: fmt.Sprintf(format, args...)})
	}
}

// value reads n into v, whose field has the tag.
func (d *decoder) value(n *yaml.Node, path string, v reflect.Value, tag reflect.StructTag) {
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, path, v.Elem(), tag)
	case v.Kind() == reflect.Struct:
		if v.Type() == reflect.TypeFor[Operations]() {
			v.SetZero() // who names some wants no others
		}
		d.object(n, path, v)
	case v.Kind() == reflect.Slice:
		if n.Kind != yaml.SequenceNode || len(n.Content) > phasesMax {
			d.fail(n, path, "%s, want a list of at most %d", describe(n), phasesMax)
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
		for i, item := range n.Content {
			d.value(item, fmt.Sprintf("%s[%d]", path, i), v.Index(i), "")
		}
	case n.Kind != yaml.ScalarNode:
		d.fail(n, path, "%s, want %s", describe(n), form(v.Type(), tag))
	default:
		if err := d.scalar(n, v, tag); err != nil {
			d.fail(n, path, "%s: %v", describe(n), err)
		}
	}
}

func (d *decoder) object(n *yaml.Node, path string, v reflect.Value) {
	fields := fieldsOf(v.Type())
	if n.Kind != yaml.MappingNode {
		d.fail(n, path, "%s, want an object with keys of %s", describe(n), strings.Join(keysOf(fields), ", "))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := slices.IndexFunc(fields, func(f reflect.StructField) bool { return key.Kind == yaml.ScalarNode && f.Tag.Get("key") == key.Value })
		switch {
		case at < 0:
			d.fail(key, path, "unknown key %s; known here: %s", describe(key), strings.Join(keysOf(fields), ", "))
		case seen[key.Value]:
			d.fail(key, path, "%q is given twice", key.Value)
		default:
			seen[key.Value] = true
			d.value(value, join(path, key.Value), v.FieldByIndex(fields[at].Index), fields[at].Tag)
		}
	}
	for _, f := range fields {
		if key := f.Tag.Get("key"); f.Tag.Get("need") == "yes" && !seen[key] {
			d.fail(n, path, "%q is missing: %s", key, f.Tag.Get("doc"))
		}
	}
}

func (d *decoder) scalar(n *yaml.Node, v reflect.Value, tag reflect.StructTag) error {
	if text, ok := v.Addr().Interface().(interface{ UnmarshalText([]byte) error }); ok {
		if n.ShortTag() != "!!str" {
			return fmt.Errorf("want %s", form(v.Type(), tag))
		}
		if err := text.UnmarshalText([]byte(n.Value)); err != nil {
			return err
		}
		return within(v, tag)
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(n.Value)
		return checkText(n, tag)
	case reflect.Bool:
		b, err := strconv.ParseBool(n.Value)
		if err != nil || n.ShortTag() != "!!bool" {
			return fmt.Errorf("want true or false")
		}
		v.SetBool(b)
		return nil
	}
	number, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || n.ShortTag() != "!!int" && n.ShortTag() != "!!float" || math.IsNaN(number) || math.IsInf(number, 0) {
		return fmt.Errorf("want a number")
	}
	if v.CanInt() {
		if number != math.Trunc(number) || math.Abs(number) > 1<<53 {
			return fmt.Errorf("want a whole number")
		}
		v.SetInt(int64(number))
	} else {
		v.SetFloat(number)
	}
	return within(v, tag)
}

func checkText(n *yaml.Node, tag reflect.StructTag) error {
	switch enum := tag.Get("enum"); {
	case n.ShortTag() != "!!str" || len(n.Value) > textMax:
		return fmt.Errorf("want text of at most %d bytes, in quotes if it looks like something else", textMax)
	case strings.IndexFunc(n.Value, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0:
		return fmt.Errorf("want one line of printable text")
	case enum != "" && !slices.Contains(strings.Split(enum, ","), n.Value):
		return fmt.Errorf("want %s", strings.ReplaceAll(enum, ",", " or "))
	case tag.Get("need") == "topic":
		if n.Value == "" || len(n.Value) > topicMax {
			return fmt.Errorf("want a topic of 1 to %d bytes", topicMax)
		}
		if rest := variables.Replace(n.Value); strings.Contains(rest, "${") {
			return fmt.Errorf("want no variables but ${thing} and ${n}")
		}
	}
	return nil
}

var variables = strings.NewReplacer("${thing}", "", "${n}", "")

// within checks a number against the bounds of its tag; without bounds it is a weight or a
// rate.
func within(v reflect.Value, tag reflect.StructTag) error {
	low, high := bounds(v.Type(), tag)
	var x float64
	if v.CanInt() {
		x = float64(v.Int())
	} else {
		x = v.Float()
	}
	if x >= low && x <= high {
		return nil
	}
	if v.Type() == reflect.TypeFor[Duration]() {
		return fmt.Errorf("want %v to %v", time.Duration(low), time.Duration(high))
	}
	return fmt.Errorf("want %.0f to %.0f", low, high)
}

func bounds(t reflect.Type, tag reflect.StructTag) (low, high float64) {
	read := func(name string, otherwise float64) float64 {
		text := tag.Get(name)
		if text == "" {
			return otherwise
		}
		if t == reflect.TypeFor[Duration]() {
			d, err := time.ParseDuration(text)
			if err != nil {
				panic(err) // a tag of ours
			}
			return float64(d)
		}
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			panic(err)
		}
		return x
	}
	return read("min", 0), read("max", weightMax)
}

// fieldsOf lists the fields of a struct that a file can name.
func fieldsOf(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Tag.Get("key") == "" })
}

func keysOf(fields []reflect.StructField) []string {
	keys := make([]string, len(fields))
	for i, f := range fields {
		keys[i] = f.Tag.Get("key")
	}
	return keys
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "an object"
	case n.Kind == yaml.SequenceNode:
		return fmt.Sprintf("a list of %d", len(n.Content))
	case n.Kind == yaml.ScalarNode && n.ShortTag() != "!!null":
		return fmt.Sprintf("%.60q", n.Value)
	}
	return "nothing"
}

// form says what a value of type t looks like in a file.
func form(t reflect.Type, tag reflect.StructTag) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return form(t.Elem(), tag)
	case t == reflect.TypeFor[Duration]():
		return "a duration, such as 250ms or 1m30s"
	case t == reflect.TypeFor[Share]():
		return "a share, such as 5%"
	case tag.Get("enum") != "":
		return strings.ReplaceAll(tag.Get("enum"), ",", " or ")
	case t.Kind() == reflect.String:
		return "text"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() == reflect.Slice:
		return "a list"
	case t.Kind() == reflect.Struct:
		return "an object"
	}
	return "a number"
}

// Schema is the JSON Schema (2020-12) of a mix's file, for editors.
func Schema() []byte {
	root := schemaOf(reflect.TypeFor[Mix](), "")
	root["$schema"], root["$id"], root["title"] = "https://json-schema.org/draft/2020-12/schema", "urn:gatehouse:load-mix", "load mix"
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // of our own making
	}
	return append(text, '\n')
}

func schemaOf(t reflect.Type, tag reflect.StructTag) map[string]any {
	s := map[string]any{}
	if doc := tag.Get("doc"); doc != "" {
		s["description"] = doc
	}
	low, high := bounds(t, tag)
	switch {
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), tag)
	case t == reflect.TypeFor[Duration]():
		s["type"], s["pattern"] = "string", "^[0-9.]+(ns|us|µs|ms|s|m|h)([0-9.]+(ns|us|µs|ms|s|m|h))*$"
	case t == reflect.TypeFor[Share]():
		s["type"], s["pattern"] = "string", "^[0-9.]+%$"
	case tag.Get("enum") != "":
		s["enum"] = strings.Split(tag.Get("enum"), ",")
	case t.Kind() == reflect.String:
		s["type"], s["maxLength"] = "string", textMax
	case t.Kind() == reflect.Bool:
		s["type"] = "boolean"
	case t.Kind() == reflect.Slice:
		s["type"], s["items"], s["maxItems"], s["minItems"] = "array", schemaOf(t.Elem(), ""), phasesMax, 1
	case t.Kind() == reflect.Int:
		s["type"], s["minimum"], s["maximum"] = "integer", low, high
	case t.Kind() == reflect.Float64:
		s["type"], s["minimum"], s["maximum"] = "number", low, high
	default:
		properties, required := map[string]any{}, []string{}
		for _, f := range fieldsOf(t) {
			properties[f.Tag.Get("key")] = schemaOf(f.Type, f.Tag)
			if f.Tag.Get("need") == "yes" {
				required = append(required, f.Tag.Get("key"))
			}
		}
		s["type"], s["properties"], s["required"], s["additionalProperties"] = "object", properties, required, false
	}
	return s
}

// Help describes the format for people: a line a key.
func Help() string {
	var b strings.Builder
	help(&b, "  ", reflect.TypeFor[Mix]())
	return b.String()
}

func help(b *strings.Builder, indent string, t reflect.Type) {
	for _, f := range fieldsOf(t) {
		fmt.Fprintf(b, "%s%s (%s)  %s\n", indent, f.Tag.Get("key"), form(f.Type, f.Tag), f.Tag.Get("doc"))
		inner := f.Type
		if inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		if inner.Kind() == reflect.Struct {
			help(b, indent+"  ", inner)
		}
	}
}
