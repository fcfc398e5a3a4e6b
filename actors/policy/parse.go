package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

const (
	// MaxDocumentBytes bounds a document, as it comes and in its canonical form.
	MaxDocumentBytes = 512 << 10
	// problemsMax bounds how many problems are reported at once.
	problemsMax = 20

	effectAllow = "ALLOW"
	rootPath    = "deviceGroups"
)

// Options say where a document comes from. They only serve error texts.
type Options struct {
	File string // the file's name, or empty
	Path string // what the section is called; "deviceGroups" when empty
}

// Parse reads a deviceGroups section from JSON or YAML: the section itself, or an object
// that holds it as "deviceGroups". Its error is of type Errors and lists what is wrong,
// up to a limit; then there is no Document.
func Parse(doc []byte, o Options) (*Document, error) {
	if bytes.HasPrefix(doc, []byte("\xef\xbb\xbf")) {
		return nil, Errors{{Kind: KindSyntax, File: o.File, Line: 1, Column: 1, Msg: "the document begins with a byte order mark", Hint: "save it as UTF-8 without one"}}
	}
	root, err := ReadDocument(doc, MaxDocumentBytes, "join statements, or replace lists of resources by patterns with '*'")
	if err != nil {
		problems := ErrorsOf(err)
		problems[0].File = o.File
		return nil, problems
	}
	return ParseNode(root, o)
}

// ParseNode is Parse for a section that stands inside a file which the caller has read
// with ReadDocument; errors then name the places in that file.
func ParseNode(section *yaml.Node, o Options) (*Document, error) {
	root, err := fromYAML(section)
	if err != nil {
		err.File = o.File
		return nil, Errors{err}
	}
	return parse(root, o)
}

func parse(root *node, o Options) (*Document, error) {
	p := &parser{file: o.File, doc: &Document{FormatVersion: FormatVersion2021}}
	p.section(root, cmp.Or(o.Path, rootPath))
	if len(p.problems) == 0 {
		if err := p.doc.seal(); err != nil {
			return nil, fmt.Errorf("parse policy: %w", err)
		}
		if len(p.doc.canonical) > MaxDocumentBytes {
			p.fail(KindLimit, root, "", "the document has %d bytes in canonical form, want at most %d", len(p.doc.canonical), MaxDocumentBytes)
		}
	}
	if len(p.problems) > 0 {
		sortErrors(p.problems)
		return nil, p.problems
	}
	sortErrors(p.doc.Warnings)
	return p.doc, nil
}

// A parser walks a document and collects what it finds, good and bad.
type parser struct {
	file     string
	doc      *Document
	problems Errors
	pairs    int // operation–resource pairs so far
}

// fail records a problem and returns it, for a hint to be added.
func (p *parser) fail(kind Kind, at *node, path, format string, args ...any) *Error {
	e := &Error{Kind: kind, File: p.file, Line: at.line, Column: at.column, Path: path, Msg: fmt.Sprintf(format, args...)}
	if len(p.problems) < problemsMax {
		p.problems = append(p.problems, e)
	}
	return e
}

func (p *parser) warn(at *node, path, hint, format string, args ...any) {
	e := &Error{Kind: KindSuspicious, File: p.file, Line: at.line, Column: at.column, Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint}
	if len(p.doc.Warnings) < problemsMax {
		p.doc.Warnings = append(p.doc.Warnings, e)
	}
}

var sectionProperties = []string{"formatVersion", "definitions", "policies"}

// section reads the section, wrapped or bare.
func (p *parser) section(root *node, path string) {
	switch root.kind {
	case nodeMapping:
	case nodeNull:
		p.fail(KindMissing, root, path, "the document is empty").Hint = `write {} if nobody may do anything`
		return
	default:
		p.fail(KindType, root, path, "an object is expected, found %s", root.kind)
		return
	}
	for _, e := range root.entries {
		if fold(e.key.text) == fold(rootPath) {
			p.wrapped(root, e, path)
			return
		}
	}
	values := p.properties(root, path, sectionProperties...)
	p.formatVersion(values["formatVersion"], join(path, "formatVersion"))
	policies := p.policies(values["policies"], join(path, "policies"))
	used := p.definitions(values["definitions"], join(path, "definitions"))
	p.crossCheck(used, policies)
}

// wrapped reads the section out of a larger object. What stands beside it is not the
// policy's business, unless it is a second policy.
func (p *parser) wrapped(root *node, section entry, path string) {
	seen := 0
	for _, e := range root.entries {
		if fold(e.key.text) == fold(rootPath) {
			if seen++; seen > 1 {
				p.fail(KindDuplicate, e.key, path, "%q is given twice", e.key.text).Hint = "keep one"
				return
			}
		}
		if slices.ContainsFunc(sectionProperties, func(s string) bool { return fold(s) == fold(e.key.text) }) {
			p.fail(KindDuplicate, e.key, path, "%q stands beside %q, so it is unclear which policy is meant", e.key.text, section.key.text).Hint =
				"move it into " + section.key.text + ", or remove it"
			return
		}
	}
	inner := section.value
	if inner.kind == nodeMapping {
		for _, e := range inner.entries {
			if fold(e.key.text) == fold(rootPath) {
				p.fail(KindDuplicate, e.key, path, "deviceGroups stands inside deviceGroups").Hint = "remove one of the two"
				return
			}
		}
	}
	p.section(inner, path)
}

func (p *parser) formatVersion(n *node, path string) {
	if n == nil {
		return
	}
	version, ok := p.text(n, path)
	if !ok {
		return
	}
	// The seam for further formats: each has its own reader behind this switch.
	switch version {
	case FormatVersion2021:
		p.doc.FormatVersion = version
	default:
		p.fail(KindFormatVersion, n, path, "format version %.40q is not known", version).Hint = "this release reads " + FormatVersion2021
	}
}

// A usedPolicy remembers where a definition names a policy.
type usedPolicy struct {
	at   *node
	path string
}

func (p *parser) definitions(n *node, path string) map[string]usedPolicy {
	used := make(map[string]usedPolicy)
	for _, e := range p.names(n, path) {
		at := join(path, e.key.text)
		if e.value.kind != nodeMapping {
			p.fail(KindType, e.value, at, "an object with selectionRule and policyName is expected, found %s", e.value.kind)
			continue
		}
		values := p.properties(e.value, at, "selectionRule", "policyName")
		rule, okRule := p.required(e, values["selectionRule"], at, "selectionRule", `write, for example, "thingName: sensor-*"`)
		name, okName := p.required(e, values["policyName"], at, "policyName", "name one of the policies")
		if okName {
			if _, dup := used[name]; !dup {
				used[name] = usedPolicy{at: values["policyName"], path: join(at, "policyName")}
			}
		}
		if !okRule {
			continue
		}
		parsed, err := ParseRule(rule)
		if bad, ok := errors.AsType[*RuleError](err); ok {
			kind := KindRuleSyntax
			if bad.Lexical {
				kind = KindRuleLexical
			}
			p.fail(kind, values["selectionRule"], join(at, "selectionRule"), "selection rule %.80q: %v", rule, bad).Hint =
				`a rule reads "thingName: a* OR thingName: *b AND thingName: *c*"`
			continue
		}
		p.doc.Groups = append(p.doc.Groups, Group{Name: e.key.text, Rule: parsed, PolicyName: name})
	}
	slices.SortFunc(p.doc.Groups, func(a, b Group) int { return strings.Compare(a.Name, b.Name) })
	return used
}

func (p *parser) required(owner entry, n *node, path, name, hint string) (string, bool) {
	if n == nil || n.kind == nodeNull {
		at := owner.key
		if n != nil {
			at = n
		}
		p.fail(KindMissing, at, join(path, name), "%s is missing", name).Hint = hint
		return "", false
	}
	return p.text(n, join(path, name))
}

// A statementNode keeps a statement's resources with their places for crossCheck.
type statementNode struct {
	statement Statement
	resources []*node
	path      string
}

// A policyNode is a policy with the places of what is in it.
type policyNode struct {
	at         *node
	path       string
	statements []statementNode
}

func (p *parser) policies(n *node, path string) map[string]policyNode {
	all := make(map[string]policyNode)
	for _, e := range p.names(n, path) {
		one := policyNode{at: e.key, path: join(path, e.key.text)}
		policy := Policy{Name: e.key.text}
		for _, s := range p.names(e.value, one.path) {
			sn := p.statement(s, join(one.path, s.key.text))
			one.statements = append(one.statements, sn)
			policy.Statements = append(policy.Statements, sn.statement)
		}
		slices.SortFunc(policy.Statements, func(a, b Statement) int { return strings.Compare(a.Name, b.Name) })
		all[policy.Name] = one
		p.doc.Policies = append(p.doc.Policies, policy)
	}
	slices.SortFunc(p.doc.Policies, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (p *parser) statement(e entry, path string) statementNode {
	sn := statementNode{statement: Statement{Name: e.key.text, Operations: []string{}, Resources: []string{}}, path: path}
	switch e.value.kind {
	case nodeNull:
		return sn
	case nodeMapping:
	default:
		p.fail(KindType, e.value, path, "an object with operations and resources is expected, found %s", e.value.kind)
		return sn
	}
	values := p.properties(e.value, path, "statementDescription", "effect", "operations", "resources")
	if n := values["statementDescription"]; n != nil && n.kind != nodeNull {
		sn.statement.Description, _ = p.text(n, join(path, "statementDescription"))
	}
	p.effect(values["effect"], join(path, "effect"))
	var operations []*node
	sn.statement.Operations, operations = p.list(values["operations"], join(path, "operations"))
	sn.statement.Resources, sn.resources = p.list(values["resources"], join(path, "resources"))
	before := p.pairs
	p.pairs += len(operations) * len(sn.resources)
	if before <= permission.MaxPermissions && p.pairs > permission.MaxPermissions {
		p.fail(KindLimit, e.key, path, "with this statement there are more than %d pairs of operation and resource", permission.MaxPermissions).Hint =
			`use "*", "<service>:*" or patterns instead of long lists`
	}
	for _, n := range operations {
		p.checkOperation(n, fmt.Sprintf("%s.operations[%d]", path, n.index))
	}
	for _, n := range sn.resources {
		p.checkResource(n, fmt.Sprintf("%s.resources[%d]", path, n.index))
	}
	return sn
}

func (p *parser) effect(n *node, path string) {
	if n == nil {
		return
	}
	if n.kind == nodeNull {
		p.fail(KindEffect, n, path, "effect has no value").Hint = "write ALLOW, or leave it out"
		return
	}
	if effect, ok := p.text(n, path); ok && !strings.EqualFold(effect, effectAllow) {
		p.fail(KindEffect, n, path, "effect is %.40q, and this format has only ALLOW", effect).Hint =
			"write ALLOW; what no statement allows is denied"
	}
}
