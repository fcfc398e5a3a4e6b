package scenario

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// The kinds of problems beside policy's.
const (
	kindUnknownKey policy.Kind = "unknown-key"
	kindValue      policy.Kind = "value"
	kindOrder      policy.Kind = "order"
)

// A value that is read from one text checks it.
type checked interface{ check() error }

// A value of few is one of its choices.
type choice interface{ choices() []string }

// Parse reads a file of scenarios, JSON or YAML; name stands in its errors. The error is
// Errors: everything that is wrong, up to a limit.
func Parse(name string, doc []byte) (*File, error) {
	d := &decoder{}
	node, err := policy.ReadDocument(doc, FileBytesMax, "split the file")
	if err != nil {
		problems := policy.ErrorsOf(err)
		if problems == nil {
			problems = Errors{{Kind: policy.KindSyntax, Msg: err.Error(), Hint: "check the file with a JSON or YAML tool"}}
		}
		return nil, inFile(name, problems)
	}
	var f File
	d.value(node, "", reflect.ValueOf(&f).Elem())
	if len(d.problems) == 0 {
		d.order(&f, node)
	}
	if len(d.problems) > 0 {
		return nil, inFile(name, d.problems)
	}
	return &f, nil
}

func inFile(name string, problems Errors) Errors {
	for _, p := range problems {
		p.File = name
	}
	return problems
}

// decoder reads the tree of a document into values, by the tags of their fields.
type decoder struct{ problems Errors }

func (d *decoder) fail(kind policy.Kind, n *yaml.Node, path, hint, format string, args ...any) {
	if len(d.problems) < problemsMax {
		d.problems = append(d.problems, &policy.Error{
			Kind: kind, Line: n.Line, Column: n.Column, Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint,
		})
	}
}

var (
	eventType    = reflect.TypeFor[Event]()
	documentType = reflect.TypeFor[document]()
	faultsType   = reflect.TypeFor[faults]()
)

// value reads n into v.
func (d *decoder) value(n *yaml.Node, path string, v reflect.Value) {
	switch {
	case v.Type() == eventType:
		d.event(n, path, v.Addr().Interface().(*Event))
	case v.Type() == documentType:
		d.document(n, path, v)
	case v.Type() == faultsType:
		list, problems := fault.ParseFaults(n, path)
		v.Set(reflect.ValueOf(faults(list)))
		d.problems = append(d.problems, problems...)
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(n, path, v.Elem())
	case v.Kind() == reflect.Struct:
		d.object(n, path, v)
	case v.Kind() == reflect.Map:
		d.mapping(n, path, v)
	case v.Kind() == reflect.Slice:
		d.list(n, path, v)
	default:
		d.scalar(n, path, v)
	}
}

// fieldsOf lists the fields of a struct that a file can name.
func fieldsOf(t reflect.Type) []reflect.StructField {
	return slices.DeleteFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Tag.Get("key") == "" })
}

// object reads the fields of a struct by their names.
func (d *decoder) object(n *yaml.Node, path string, v reflect.Value) {
	d.fields(n, path, v, nil)
}

func (d *decoder) fields(n *yaml.Node, path string, v reflect.Value, besides []string) {
	fields := fieldsOf(v.Type())
	known := slices.Clone(besides)
	for _, f := range fields {
		known = append(known, f.Tag.Get("key"))
	}
	values, ok := d.keys(n, path, known)
	if !ok {
		return
	}
	for _, f := range fields {
		key := f.Tag.Get("key")
		value := values[key]
		switch {
		case value != nil:
			d.value(value, join(path, key), v.FieldByIndex(f.Index))
		case f.Tag.Get("need") == "yes":
			d.fail(policy.KindMissing, n, path, fmt.Sprintf("add %q: %s", key, f.Tag.Get("doc")), "%q is missing", key)
		}
	}
}

// keys lists the values of a mapping whose keys must be of known.
func (d *decoder) keys(n *yaml.Node, path string, known []string) (map[string]*yaml.Node, bool) {
	if n.Kind != yaml.MappingNode {
		d.fail(policy.KindType, n, path, "keys here: "+strings.Join(known, ", "), "%s, want an object", describe(n))
		return nil, false
	}
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode || !slices.Contains(known, key.Value):
			d.fail(kindUnknownKey, key, path, "known here: "+strings.Join(known, ", "), "unknown key %.60q", key.Value)
		case values[key.Value] != nil:
			d.fail(policy.KindDuplicate, key, join(path, key.Value), "remove one of the two", "given twice")
		default:
			values[key.Value] = value
		}
	}
	return values, true
}

// mapping reads an object whose keys are names.
func (d *decoder) mapping(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode || len(n.Content)/2 > listMax {
		d.fail(policy.KindType, n, path, "write {} for none", "%s, want an object with at most %d names", describe(n), listMax)
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		before := len(d.problems)
		if n.Content[i].Kind == yaml.ScalarNode {
			n.Content[i].Tag = "!!str" // a key is a name, whatever it looks like
		}
		d.scalar(n.Content[i], path, key)
		if len(d.problems) > before {
			continue
		}
		if v.MapIndex(key).IsValid() {
			d.fail(policy.KindDuplicate, n.Content[i], join(path, key.String()), "remove one of the two", "given twice")
			continue
		}
		d.value(n.Content[i+1], join(path, key.String()), value)
		v.SetMapIndex(key, value)
	}
}

// listLimit is how many items a list may have.
func listLimit(t reflect.Type) int {
	switch t {
	case reflect.TypeFor[[]Scenario]():
		return scenariosMax
	case reflect.TypeFor[[]Event]():
		return eventsMax
	default:
		return listMax
	}
}

func (d *decoder) list(n *yaml.Node, path string, v reflect.Value) {
	most := listLimit(v.Type())
	if n.Kind != yaml.SequenceNode || len(n.Content) > most {
		d.fail(policy.KindType, n, path, "", "%s, want a list of at most %d", describe(n), most)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, item := range n.Content {
		d.value(item, fmt.Sprintf("%s[%d]%s", path, i, nameOf(item)), v.Index(i))
	}
}

// nameOf is how an item of a list calls itself, for errors.
func nameOf(n *yaml.Node) string {
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if key := n.Content[i].Value; key == "name" || key == "do" {
			return fmt.Sprintf(" (%.60s)", strings.Map(printable, n.Content[i+1].Value))
		}
	}
	return ""
}

func printable(r rune) rune {
	if !strconv.IsPrint(r) {
		return '.'
	}
	return r
}

// scalar reads one value that is no list and no object.
func (d *decoder) scalar(n *yaml.Node, path string, v reflect.Value) {
	tag := ""
	if n.Kind == yaml.ScalarNode {
		tag = n.ShortTag()
	}
	switch {
	case v.Kind() == reflect.String && tag == "!!str" && len(n.Value) <= textBytesMax:
		v.SetString(n.Value)
	case v.Kind() == reflect.String:
		d.fail(policy.KindType, n, path, "put it in quotes", "%s, want text of at most %d bytes", describe(n), textBytesMax)
		return
	case v.Kind() == reflect.Bool && tag == "!!bool":
		v.SetBool(n.Value == "true" || n.Value == "True" || n.Value == "TRUE")
	case v.Kind() == reflect.Bool:
		d.fail(policy.KindType, n, path, "", "%s, want true or false", describe(n))
		return
	default:
		if !d.number(n, tag, path, v) {
			return
		}
	}
	if c, ok := v.Interface().(choice); ok && !slices.Contains(c.choices(), v.String()) {
		d.fail(kindValue, n, path, "", "%.60q, want %s", v.String(), strings.Join(c.choices(), ", "))
	}
	if c, ok := v.Interface().(checked); ok {
		if err := c.check(); err != nil {
			d.fail(kindValue, n, path, "", "%v", err)
		}
	}
}

func (d *decoder) number(n *yaml.Node, tag, path string, v reflect.Value) bool {
	read, err := strconv.ParseFloat(n.Value, 64)
	if err != nil || tag != "!!int" && tag != "!!float" || math.IsNaN(read) || math.IsInf(read, 0) {
		d.fail(policy.KindType, n, path, "", "%s, want a number", describe(n))
		return false
	}
	if v.CanFloat() {
		if read < secondsMin || read > secondsMax {
			d.fail(kindValue, n, path, "", "%s seconds, want %g to %g", n.Value, secondsMin, secondsMax)
			return false
		}
		v.SetFloat(read)
		return true
	}
	if read != math.Trunc(read) || math.Abs(read) > 1<<53 {
		d.fail(kindValue, n, path, "", "%s, want a whole number", n.Value)
		return false
	}
	v.SetInt(int64(read))
	return true
}

// event reads the keys that every event has, and those of its kind.
func (d *decoder) event(n *yaml.Node, path string, e *Event) {
	e.Line = n.Line
	var do *yaml.Node
	for i := 0; n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "do" {
			do = n.Content[i+1]
		}
	}
	if do == nil {
		d.fail(policy.KindMissing, n, path, "kinds: "+strings.Join(kindNames(), ", "), `%s without "do", the kind of event`, describe(n))
		return
	}
	k := kindOf(do.Value)
	if k == nil {
		d.fail(kindValue, do, join(path, "do"), "kinds: "+strings.Join(kindNames(), ", "), "no event %.40q", do.Value)
		return
	}
	e.Do = k.name
	v := reflect.New(reflect.TypeOf(k.act).Elem())
	d.fields(n, path, v.Elem(), []string{"do", "at"})
	e.act = v.Interface().(action)
	if at, _ := d.keysQuietly(n)["at"]; at != nil {
		e.At = new(seconds)
		d.scalar(at, join(path, "at"), reflect.ValueOf(e.At).Elem())
	}
	if c, ok := e.act.(checked); ok {
		if err := c.check(); err != nil {
			d.fail(kindValue, n, path, "", "%v", err)
		}
	}
}

func (d *decoder) keysQuietly(n *yaml.Node) map[string]*yaml.Node {
	values := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		values[n.Content[i].Value] = n.Content[i+1]
	}
	return values
}

// document is a part of a file that another parser reads: as YAML.
type document []byte

func (d *decoder) document(n *yaml.Node, path string, v reflect.Value) {
	if n.Kind != yaml.MappingNode {
		d.fail(policy.KindType, n, path, "", "%s, want an object", describe(n))
		return
	}
	spellNulls(n)
	text, err := yaml.Marshal(n)
	if err != nil {
		d.fail(policy.KindSyntax, n, path, "", "%v", err)
		return
	}
	v.SetBytes(text)
}

// spellNulls writes out what is left empty: inside braces the library makes it a text.
func spellNulls(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		n.Value = "null"
	}
	for _, child := range n.Content {
		spellNulls(child)
	}
}

// order checks what events of one scenario say about each other.
func (d *decoder) order(f *File, root *yaml.Node) {
	seen := map[text]bool{}
	if len(f.Scenarios) == 0 {
		d.fail(policy.KindMissing, root, "scenarios", `add an object with "name" and "events"`, "no scenarios")
	}
	for i := range f.Scenarios {
		s := &f.Scenarios[i]
		path := fmt.Sprintf("scenarios[%d] (%.60s)", i, strings.Map(printable, string(s.Name)))
		if seen[s.Name] {
			d.fail(policy.KindDuplicate, root, path, "give it another name", "two scenarios have this name")
		}
		seen[s.Name] = true
		var now, passed seconds // by the events' moments; with what passes without one
		validity := map[alias]bool{}
		for j, e := range s.Events {
			at := &yaml.Node{Line: e.Line, Column: 1}
			where := fmt.Sprintf("%s.events[%d] (%s)", path, j, e.Do)
			if e.At != nil && *e.At < now {
				d.fail(kindOrder, at, where, "put the events in the order of time", "it happens at %v, after an event at %v", *e.At, now)
			} else if e.At != nil {
				now, passed = *e.At, max(passed, *e.At)
			}
			if t, ok := e.act.(interface{ takes() lapse }); ok {
				if passed += seconds(t.takes()); passed > secondsMax {
					d.fail(kindValue, at, where, "let less time pass", "it ends at %.0f s, want at most %.0f s", passed, float64(secondsMax))
				}
			}
			if c, ok := e.act.(*certValidity); ok {
				if validity[c.Cert] {
					d.fail(policy.KindDuplicate, at, where, "use another certificate", "the validity of %q is given twice", c.Cert)
				}
				validity[c.Cert] = true
			}
		}
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return fmt.Sprintf("a list of %d", len(n.Content))
	case yaml.ScalarNode:
		if n.ShortTag() == "!!null" {
			return "nothing"
		}
		return fmt.Sprintf("%.60q", n.Value)
	default:
		return "nothing"
	}
}
