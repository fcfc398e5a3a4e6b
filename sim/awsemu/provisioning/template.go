package provisioning

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// Bounds of a template.
const (
	BodyBytesMax  = 10240 // AWS's (API reference)
	parametersMax = 50
	policiesMax   = 10 // those of a principal (cloud spec 4.6)
	attributesMax = 50
	groupsMax     = 10 // those of a thing (cloud spec 4.6)
	problemsMax   = 20
)

// Kinds of problems beside policy's.
const (
	kindUnknownKey       policy.Kind = "unknown-key"
	kindUnknownParameter policy.Kind = "unknown-parameter"
	kindValue            policy.Kind = "value"
)

// Override says what happens to something that is there already and differs.
type Override string

// The overrides. The default is Fail: nothing changes hands unasked.
const (
	Fail      Override = "FAIL"
	DoNothing Override = "DO_NOTHING"
	Replace   Override = "REPLACE"
	Merge     Override = "MERGE" // attributes and groups alone
)

// text is a value of a template: itself, or that of a parameter.
type text struct {
	literal string
	ref     string // empty: literal
}

// Template is a provisioning template. Parse makes one.
type Template struct {
	parameters  map[string]parameter
	thing       *thing
	certificate *certificate
	policies    []policyResource
}

type parameter struct {
	value    string
	optional bool // value stands for a missing one
}

type thing struct {
	logical       string
	name          text
	typeName      *text
	attributes    map[string]text
	groups        []text
	onType        Override
	onAttributes  Override
	onGroups      Override
	hasAttributes bool
}

type certificate struct {
	logical                      string
	id, pem, authority, csr, way *text
	status                       *text
	onStatus                     Override
}

type policyResource struct {
	logical        string
	name, document *text
}

var (
	parameterName = regexp.MustCompile(`^[a-zA-Z0-9:_.-]{1,128}$`)
	logicalName   = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
)

// Parse reads a template's body, which is JSON. Errors, policy.ErrorsOf, say where and what.
func Parse(body string) (*Template, error) {
	doc := []byte(body)
	if !bytes.HasPrefix(bytes.TrimLeft(doc, " \t\r\n"), []byte("{")) { // else it would be read as YAML
		return nil, &policy.Error{Kind: policy.KindType, Msg: "a template is a JSON object"}
	}
	root, err := policy.ReadDocument(doc, BodyBytesMax, "AWS takes no longer ones")
	if err != nil {
		return nil, err
	}
	r := &reader{}
	t := &Template{parameters: map[string]parameter{}}
	var resources *yaml.Node
	r.object(root, "", map[string]func(*yaml.Node, string){
		"Parameters": func(n *yaml.Node, path string) { t.parameters = r.parameters(n, path) },
		"Resources":  func(n *yaml.Node, _ string) { resources = n },
	})
	r.declared = t.parameters
	if resources != nil { // after the parameters, wherever they stand
		r.resources(t, resources)
	} else {
		r.fail(policy.KindMissing, root, "Resources", "there are none")
	}
	if len(r.problems) > 0 {
		return nil, r.problems
	}
	return t, nil
}

type reader struct {
	declared map[string]parameter
	problems policy.Errors
}

func (r *reader) fail(kind policy.Kind, n *yaml.Node, path, problem string) {
	if len(r.problems) < problemsMax {
		r.problems = append(r.problems, &policy.Error{Kind: kind, Line: n.Line, Column: n.Column, Path: path, Msg: problem})
	}
}

// each calls f for every member of an object, each name once.
func (r *reader) each(n *yaml.Node, path string, f func(key string, keyNode, value *yaml.Node, path string)) {
	if n.Kind != yaml.MappingNode {
		r.fail(policy.KindType, n, path, "an object is wanted here")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		if seen[key.Value] {
			r.fail(policy.KindDuplicate, key, at, "the name is there already")
			continue
		}
		seen[key.Value] = true
		f(key.Value, key, value, at)
	}
}

// object reads an object whose members are known.
func (r *reader) object(n *yaml.Node, path string, read map[string]func(*yaml.Node, string)) {
	r.each(n, path, func(key string, keyNode, value *yaml.Node, path string) {
		if f := read[key]; f != nil {
			f(value, path)
			return
		}
		var known []string
		for name := range read {
			known = append(known, name)
		}
		slices.Sort(known)
		r.fail(kindUnknownKey, keyNode, path, "not known, or not emulated; known are "+strings.Join(known, ", "))
	})
}

func (r *reader) string(n *yaml.Node, path string) string {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" {
		r.fail(policy.KindType, n, path, "a string is wanted here")
		return ""
	}
	return n.Value
}

// text reads a string or a reference to a parameter.
func (r *reader) text(n *yaml.Node, path string) text {
	if n.Kind != yaml.MappingNode {
		return text{literal: r.string(n, path)}
	}
	var t text
	r.object(n, path, map[string]func(*yaml.Node, string){"Ref": func(n *yaml.Node, path string) {
		t.ref = r.string(n, path)
		if _, ok := r.declared[t.ref]; !ok {
			r.fail(kindUnknownParameter, n, path, fmt.Sprintf("no parameter %.128q is declared", t.ref))
		}
	}})
	if t.ref == "" && len(r.problems) == 0 {
		r.fail(policy.KindMissing, n, path, `want a string, or {"Ref": "Parameter"}`)
	}
	return t
}

func (r *reader) parameters(n *yaml.Node, path string) map[string]parameter {
	all := map[string]parameter{}
	r.each(n, path, func(name string, key, value *yaml.Node, path string) {
		if !parameterName.MatchString(name) || len(all) >= parametersMax {
			r.fail(kindValue, key, path, fmt.Sprintf("want at most %d parameters, each name 1 to 128 of [a-zA-Z0-9:_.-]", parametersMax))
			return
		}
		var p parameter
		typed := false
		r.object(value, path, map[string]func(*yaml.Node, string){
			"Type": func(n *yaml.Node, path string) {
				if typed = true; r.string(n, path) != "String" {
					r.fail(kindValue, n, path, `want "String", the only type`)
				}
			},
			"Default": func(n *yaml.Node, path string) { p = parameter{r.string(n, path), true} },
		})
		if !typed {
			r.fail(policy.KindMissing, value, path+".Type", `want "String"`)
		}
		all[name] = p
	})
	return all
}

func (r *reader) resources(t *Template, n *yaml.Node) {
	const path = "Resources"
	r.each(n, path, func(logical string, key, value *yaml.Node, path string) {
		if !logicalName.MatchString(logical) {
			r.fail(kindValue, key, path, "want a logical name of 1 to 128 of [a-zA-Z0-9_-]")
			return
		}
		var kind, properties, overrides *yaml.Node
		keep := func(into **yaml.Node) func(*yaml.Node, string) {
			return func(n *yaml.Node, _ string) { *into = n }
		}
		r.object(value, path, map[string]func(*yaml.Node, string){"Type": keep(&kind), "Properties": keep(&properties), "OverrideSettings": keep(&overrides)})
		if kind == nil || properties == nil {
			r.fail(policy.KindMissing, value, path, "want Type and Properties")
			return
		}
		r.resource(t, logical, path, kind, properties, overrides)
	})
	if t.thing == nil && t.certificate == nil && len(t.policies) == 0 {
		r.fail(policy.KindMissing, n, path, "there are none")
	}
	if len(t.policies) > 0 && t.certificate == nil {
		r.fail(policy.KindMissing, n, path, "policies are attached to a certificate, and there is none")
	}
}

func (r *reader) resource(t *Template, logical, path string, kind, properties, overrides *yaml.Node) {
	switch name := r.string(kind, path+".Type"); {
	case name == "AWS::IoT::Thing" && t.thing == nil:
		t.thing = r.thing(logical, path, properties, overrides)
	case name == "AWS::IoT::Certificate" && t.certificate == nil:
		t.certificate = r.certificate(logical, path, properties, overrides)
	case name == "AWS::IoT::Policy" && len(t.policies) < policiesMax:
		t.policies = append(t.policies, r.policy(logical, path, properties, overrides))
	default:
		r.fail(kindValue, kind, path+".Type", fmt.Sprintf("%.60q: want at most one AWS::IoT::Thing, one AWS::IoT::Certificate and %d AWS::IoT::Policy", name, policiesMax))
	}
}

// into reads a text where one is kept.
func (r *reader) into(place **text) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		t := r.text(n, path)
		*place = &t
	}
}

// override reads one of those that are possible.
func (r *reader) override(place *Override, possible ...Override) func(*yaml.Node, string) {
	return func(n *yaml.Node, path string) {
		*place = Override(r.string(n, path))
		if !slices.Contains(possible, *place) {
			r.fail(kindValue, n, path, fmt.Sprintf("%.40q: want one of %v", *place, possible))
		}
	}
}

// settings reads overrides, which may be absent.
func (r *reader) settings(n *yaml.Node, path string, read map[string]func(*yaml.Node, string)) {
	if n != nil {
		r.object(n, path+".OverrideSettings", read)
	}
}

func (r *reader) thing(logical, path string, properties, overrides *yaml.Node) *thing {
	t := &thing{logical: logical, onType: Fail, onAttributes: Fail, onGroups: Merge, attributes: map[string]text{}}
	var name *text
	r.object(properties, path+".Properties", map[string]func(*yaml.Node, string){
		"ThingName":     r.into(&name),
		"ThingTypeName": r.into(&t.typeName),
		"AttributePayload": func(n *yaml.Node, path string) {
			t.hasAttributes = true
			r.each(n, path, func(name string, key, value *yaml.Node, path string) {
				if t.attributes[name] = r.text(value, path); len(t.attributes) > attributesMax {
					r.fail(kindValue, key, path, fmt.Sprintf("want at most %d attributes", attributesMax))
				}
			})
		},
		"ThingGroups": func(n *yaml.Node, path string) {
			if n.Kind != yaml.SequenceNode || len(n.Content) > groupsMax {
				r.fail(policy.KindType, n, path, fmt.Sprintf("a list of at most %d groups is wanted here", groupsMax))
				return
			}
			for i, item := range n.Content {
				t.groups = append(t.groups, r.text(item, fmt.Sprintf("%s[%d]", path, i)))
			}
		},
	})
	r.settings(overrides, path, map[string]func(*yaml.Node, string){
		"AttributePayload": r.override(&t.onAttributes, DoNothing, Replace, Fail, Merge),
		"ThingTypeName":    r.override(&t.onType, DoNothing, Replace, Fail),
		"ThingGroups":      r.override(&t.onGroups, DoNothing, Replace, Fail, Merge),
	})
	if name == nil {
		r.fail(policy.KindMissing, properties, path+".Properties.ThingName", "a thing needs a name")
		return t
	}
	t.name = *name
	return t
}

func (r *reader) certificate(logical, path string, properties, overrides *yaml.Node) *certificate {
	c := &certificate{logical: logical, onStatus: Fail}
	r.object(properties, path+".Properties", map[string]func(*yaml.Node, string){
		"CertificateId": r.into(&c.id), "CertificatePem": r.into(&c.pem), "CACertificatePem": r.into(&c.authority),
		"CertificateSigningRequest": r.into(&c.csr), "Status": r.into(&c.status), "ThingPrincipalType": r.into(&c.way),
	})
	r.settings(overrides, path, map[string]func(*yaml.Node, string){"Status": r.override(&c.onStatus, DoNothing, Replace, Fail)})
	ways := 0
	for _, given := range []*text{c.id, c.pem, c.csr} {
		if given != nil {
			ways++
		}
	}
	if ways != 1 || (c.authority != nil && c.pem == nil) {
		r.fail(policy.KindMissing, properties, path+".Properties", "want one of CertificateId, CertificateSigningRequest and CertificatePem, the last with CACertificatePem if need be")
	}
	return c
}

func (r *reader) policy(logical, path string, properties, overrides *yaml.Node) policyResource {
	p := policyResource{logical: logical}
	r.object(properties, path+".Properties", map[string]func(*yaml.Node, string){"PolicyName": r.into(&p.name), "PolicyDocument": r.into(&p.document)})
	r.settings(overrides, path, nil)
	if p.name == nil && p.document == nil {
		r.fail(policy.KindMissing, properties, path+".Properties", "want PolicyName, PolicyDocument or both")
	}
	return p
}
