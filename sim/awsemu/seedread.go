package awsemu

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// A seed is a registry that a person writes: the registry's file form, in JSON or YAML,
// with what can be left out left out. What it may hold is what seedFile's types say: their
// JSON names, which of them a seed must have (`seed:"required"`), where an object stands for
// its own text (`seed:"text"`), which time is not now if it is left out (`seed:"never"`), and
// what each is for (`doc`). SeedSchema tells the same to editors.

// SeedBytesMax bounds a seed. A larger registry is given as one that is kept, to
// OpenRegistry.
const SeedBytesMax = 32 << 20

// seedProblemsMax bounds what is told of one seed.
const seedProblemsMax = 20

// Seed puts into the registry what a seed says, all or nothing. Errors, policy.ErrorsOf,
// say where and what.
func (r *Registry) Seed(doc []byte, o SeedOptions) error {
	root, err := policy.ReadDocument(bytes.TrimPrefix(doc, []byte("\xef\xbb\xbf")), SeedBytesMax, "give a registry of this size with --state")
	if err != nil {
		return err
	}
	reader := &seedReader{}
	tree := reader.value(root, reflect.TypeFor[seedFile](), "", false)
	if len(reader.problems) > 0 {
		return reader.problems
	}
	var seed seedFile
	if err := json.Unmarshal(encodeJSON(tree), &seed); err != nil {
		return locate(root, err) // what reader took and the types do not
	}
	if seed.FormatVersion != seedFormat {
		return locate(root, fmt.Errorf("formatVersion: %.40q, want %q", seed.FormatVersion, seedFormat))
	}
	if err := seed.complete(o); err != nil {
		return locate(root, err)
	}
	if err := r.Update(func(b *Batch) error { return b.fill(seed) }); err != nil {
		return locate(root, err)
	}
	return nil
}

// seedReader holds a document against the types of the file form.
type seedReader struct{ problems policy.Errors }

func (r *seedReader) fail(kind policy.Kind, n *yaml.Node, path, problem, hint string) {
	if len(r.problems) < seedProblemsMax {
		r.problems = append(r.problems, &policy.Error{Kind: kind, Line: n.Line, Column: n.Column, Path: path, Msg: problem, Hint: hint})
	}
}

var unmarshaler = reflect.TypeFor[json.Unmarshaler]()

// isOpaque says whether a type reads its JSON itself.
func isOpaque(t reflect.Type) bool {
	return t.Kind() == reflect.Interface || reflect.PointerTo(t).Implements(unmarshaler)
}

// value turns n into what encoding/json makes a t of. asText: an object or a list stands
// for its text.
func (r *seedReader) value(n *yaml.Node, t reflect.Type, path string, asText bool) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case isOpaque(t):
		return r.opaque(n, t, path)
	case asText && n.Kind != yaml.ScalarNode:
		return string(encodeJSON(r.plain(n)))
	}
	switch t.Kind() {
	case reflect.Struct:
		return r.object(n, t, path)
	case reflect.Map:
		return r.table(n, t, path)
	case reflect.Slice:
		return r.list(n, t, path)
	}
	return r.scalar(n, t, path)
}

func (r *seedReader) object(n *yaml.Node, t reflect.Type, path string) any {
	fields := seedFields(t)
	object := map[string]any{}
	r.pairs(n, path, func(key, value *yaml.Node, at string) {
		f, ok := fields[key.Value]
		if !ok {
			r.fail("unknown-key", key, fmt.Sprintf("%.100s", at), "unknown key", "known here: "+strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
			return
		}
		object[key.Value] = r.value(value, f.Type, at, seedTag(f, "text"))
	})
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if _, given := object[name]; !given && n.Kind == yaml.MappingNode && seedTag(fields[name], "required") {
			r.fail(policy.KindMissing, n, strings.TrimPrefix(path+"."+name, "."), "is missing", "")
		}
	}
	return object
}

func (r *seedReader) table(n *yaml.Node, t reflect.Type, path string) any {
	table := map[string]any{}
	r.pairs(n, path, func(key, value *yaml.Node, at string) { table[key.Value] = r.value(value, t.Elem(), at, false) })
	return table
}

// pairs reads a mapping, each key at most once.
func (r *seedReader) pairs(n *yaml.Node, path string, read func(key, value *yaml.Node, at string)) {
	if n.Kind != yaml.MappingNode {
		r.fail(policy.KindType, n, path, "a mapping is wanted here", "")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		switch {
		case key.Kind != yaml.ScalarNode:
			r.fail(policy.KindType, key, path, "a key is a text", "")
		case seen[key.Value]:
			r.fail(policy.KindDuplicate, key, fmt.Sprintf("%.100s", at), "this key was given before", "remove one of the two")
		default:
			read(key, n.Content[i+1], at)
		}
		seen[key.Value] = true
	}
}

func (r *seedReader) list(n *yaml.Node, t reflect.Type, path string) any {
	if t.Elem().Kind() == reflect.Uint8 {
		return r.scalar(n, reflect.TypeFor[string](), path) // base64
	}
	if n.Kind != yaml.SequenceNode {
		r.fail(policy.KindType, n, path, "a list is wanted here", "")
		return nil
	}
	list := make([]any, 0, len(n.Content))
	for i, item := range n.Content {
		list = append(list, r.value(item, t.Elem(), fmt.Sprintf("%s[%d]", path, i), false))
	}
	return list
}

// wantedTags are the tags of scalars, by what is wanted.
var wantedTags = map[reflect.Kind]struct{ what, tags string }{
	reflect.String: {"a text", "!!str !!timestamp"}, reflect.Bool: {"true or false", "!!bool"},
	reflect.Int: {"a whole number", "!!int"}, reflect.Int64: {"a whole number", "!!int"}, reflect.Float64: {"a number", "!!int !!float"},
}

func (r *seedReader) scalar(n *yaml.Node, t reflect.Type, path string) any {
	want := wantedTags[t.Kind()]
	if n.Kind == yaml.ScalarNode && slices.Contains(strings.Fields(want.tags), n.ShortTag()) {
		return r.plain(n)
	}
	hint := ""
	if t.Kind() == reflect.String && n.Kind == yaml.ScalarNode {
		hint = "put it in quotes"
	}
	r.fail(policy.KindType, n, path, want.what+" is wanted here", hint)
	return nil
}

// opaque lets the type judge the value itself.
func (r *seedReader) opaque(n *yaml.Node, t reflect.Type, path string) any {
	plain := r.plain(n)
	if err := json.Unmarshal(encodeJSON(plain), reflect.New(t).Interface()); err != nil {
		r.fail(policy.KindType, n, path, err.Error(), "")
	}
	return plain
}

// plain is n as JSON has it. Numbers that JSON cannot hold (.inf, 0x1f) are texts.
func (r *seedReader) plain(n *yaml.Node) any {
	switch n.Kind {
	case yaml.MappingNode:
		object := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			object[n.Content[i].Value] = r.plain(n.Content[i+1])
		}
		return object
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			list = append(list, r.plain(item))
		}
		return list
	}
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		if number := json.Number(n.Value); json.Valid([]byte(number)) {
			return number
		}
	}
	return n.Value
}

// seedFields are the members of an object, by their JSON names.
func seedFields(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && name != "" && name != "-" {
			fields[name] = f
		}
	}
	return fields
}

// seedTag says whether a member is marked so.
func seedTag(f reflect.StructField, mark string) bool {
	return slices.Contains(strings.Split(f.Tag.Get("seed"), ","), mark)
}

// placed is how errors about a part of the file form begin.
var placed = regexp.MustCompile(`^([A-Za-z]+(?:\[\d+\])?(?:\.[A-Za-z]+(?:\[\d+\])?)*): `)

// locate gives an error that begins with a path the place of what is there.
func locate(root *yaml.Node, err error) error {
	text := err.Error()
	found := placed.FindStringSubmatch(text)
	if found == nil {
		return policy.Errors{{Kind: policy.KindType, Line: root.Line, Column: root.Column, Msg: text}}
	}
	n := root
	for _, step := range strings.Split(found[1], ".") {
		name, index, listed := strings.Cut(strings.TrimSuffix(step, "]"), "[")
		below := member(n, name)
		if i, err := strconv.Atoi(index); below != nil && listed {
			n = below
			if below = nil; err == nil && i < len(n.Content) {
				below = n.Content[i]
			}
		}
		if below == nil {
			break // it was left out; what it belongs to is near
		}
		n = below
	}
	return policy.Errors{{Kind: policy.KindType, Line: n.Line, Column: n.Column, Path: found[1], Msg: strings.TrimPrefix(text, found[0])}}
}

func member(n *yaml.Node, name string) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1]
		}
	}
	return nil
}
