package config

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// problemsMax bounds what one document can make us say about it.
const problemsMax = 50

// reader walks a document and collects what is wrong with it, so that a writer sees
// all problems at once.
type reader struct {
	problems Errors
	warnings Warnings
}

// fail notes a problem at n. expected may be empty.
func (r *reader) fail(kind policy.Kind, n *yaml.Node, path, problem, expected, hint string) {
	if expected != "" {
		problem += ", want " + expected
	}
	if len(r.problems) < problemsMax {
		r.problems = append(r.problems, place(kind, n, path, problem, hint))
	}
}

func (r *reader) warn(kind policy.Kind, n *yaml.Node, path, message, hint string) {
	if len(r.warnings) < problemsMax {
		r.warnings = append(r.warnings, place(kind, n, path, message, hint))
	}
}

func place(kind policy.Kind, n *yaml.Node, path, message, hint string) *Error {
	e := &Error{Kind: kind, Path: path, Msg: message, Hint: hint}
	if n != nil {
		e.Line, e.Column = n.Line, n.Column
	}
	return e
}

// result returns what was found, in the order of the lines.
func (r *reader) result() (Warnings, error) {
	byPlace := func(a, b *Error) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) }
	slices.SortStableFunc(r.warnings, byPlace)
	slices.SortStableFunc(r.problems, byPlace)
	if len(r.problems) > 0 {
		return r.warnings, r.problems
	}
	return r.warnings, nil
}

// manner is how a mapping's keys are read.
type manner bool

const (
	strict  manner = false // Gatehouse's own keys: exact, and an unknown one is an error
	lenient manner = true  // Greengrass' keys: any case, "_x" dropped, an unknown one reported
)

// object is a mapping whose keys were checked. The zero fields of an absent mapping
// read as absent.
type object struct {
	r      *reader
	node   *yaml.Node
	path   string
	manner manner
	fields map[string]*yaml.Node
}

// object reads n as a mapping with the known keys. nil and null are an empty one.
func (r *reader) object(n *yaml.Node, path string, m manner, known ...string) object {
	o := object{r: r, node: n, path: path, manner: m, fields: map[string]*yaml.Node{}}
	if absent(n) {
		return o
	}
	if n.Kind != yaml.MappingNode {
		r.fail(policy.KindType, n, path, quoted(n)+" stands where keys are expected", "a mapping", "indent the keys under this one, or remove it")
		return o
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			r.fail(policy.KindType, key, path, "a key that is a list or a mapping", "a name", "")
			continue
		}
		if m == lenient && strings.HasPrefix(key.Value, "_") {
			continue // client-device-auth spec 1: dropped by the nucleus
		}
		if !contains(known, m, key.Value) {
			o.unknown(key, known)
			continue
		}
		if o.fields[m.fold(key.Value)] != nil {
			r.fail(policy.KindDuplicate, key, join(path, key.Value), "this key was given before", "each key once", "remove one of the two; which one counts is not guessed")
			continue
		}
		o.fields[m.fold(key.Value)] = value
	}
	return o
}

func contains(known []string, m manner, key string) bool {
	return slices.ContainsFunc(known, func(k string) bool { return m.fold(k) == m.fold(key) })
}

func (m manner) fold(key string) string {
	if m == lenient {
		return strings.ToLower(key)
	}
	return key
}

func (o object) unknown(key *yaml.Node, known []string) {
	hint := didYouMean(nearest(key.Value, known))
	if o.manner == strict && o.path == "" && contains(sectionKeys, lenient, key.Value) {
		hint = "indent it under clientDeviceAuth"
	}
	if hint == "" {
		hint = "known here: " + strings.Join(known, ", ")
	}
	if o.manner == lenient {
		o.r.warn(KindUnknownKey, key, join(o.path, key.Value), "unknown key, ignored", hint)
		return
	}
	o.r.fail(KindUnknownKey, key, join(o.path, key.Value), "unknown key", "", hint)
}

// get returns the value of key and its path, nil if it is absent or null.
func (o object) get(key string) (*yaml.Node, string) {
	n := o.fields[o.manner.fold(key)]
	if absent(n) {
		return nil, join(o.path, key)
	}
	return n, join(o.path, key)
}

// child reads the mapping under key.
func (o object) child(key string, known ...string) object {
	n, path := o.get(key)
	return o.r.object(n, path, o.manner, known...)
}

// scalar returns the value of key if it is one value, not a list or a mapping.
func (o object) scalar(key, expected string) (*yaml.Node, string) {
	n, path := o.get(key)
	if n != nil && n.Kind != yaml.ScalarNode {
		o.r.fail(policy.KindType, n, path, quoted(n)+" stands where one value is expected", expected, "")
		return nil, path
	}
	return n, path
}

// number reads key by Greengrass' rules into value, which keeps its default if key
// is absent; limit holds it in its range.
func (o object) number(key string, value *int, limit func(int) int) {
	n, path := o.scalar(key, "a number")
	if n == nil {
		return
	}
	read, plain := int32Of(n)
	*value = limit(int(read))
	if !plain || int(read) != *value {
		o.r.warn(KindValue, n, path, fmt.Sprintf("%s is used as %d", quoted(n), *value), "write the number that is meant")
	}
}

// boolean reads key by Greengrass' rules.
func (o object) boolean(key string, value *bool) {
	n, path := o.scalar(key, "true or false")
	if n == nil {
		return
	}
	*value = boolOf(n)
	if !boolSpelled(n) {
		o.r.warn(KindValue, n, path, fmt.Sprintf("%s is used as %t", quoted(n), *value), "write true or false")
	}
}

// text reads key as text.
func (o object) text(key string) string {
	n, _ := o.scalar(key, "text")
	if n == nil {
		return ""
	}
	return n.Value
}

func absent(n *yaml.Node) bool {
	return n == nil || n.Kind == yaml.ScalarNode && n.Tag == "!!null"
}

// quoted prints a value for a message: short, on one line, and without what stands before
// an "@", which may be a password: messages reach the log, which is never cut.
func quoted(n *yaml.Node) string {
	const charactersMax = 40
	switch {
	case n.Kind == yaml.MappingNode:
		return "a mapping"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	}
	shown := n.Value
	if at := strings.LastIndexByte(shown, '@'); at >= 0 {
		shown = "xxxxx" + shown[at:]
	}
	text := []rune(shown)
	if len(text) > charactersMax {
		text = append(text[:charactersMax], '…')
	}
	return strconv.Quote(string(text))
}

// join appends key to path; a key that is no plain word is quoted.
func join(path, key string) string {
	plain := key != "" && strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
	switch {
	case !plain:
		return path + "[" + quoted(&yaml.Node{Kind: yaml.ScalarNode, Value: key}) + "]"
	case path == "":
		return key
	default:
		return path + "." + key
	}
}

func didYouMean(word string) string {
	if word == "" {
		return ""
	}
	return "did you mean " + word + "?"
}
