package iotpolicy

import (
	"fmt"
	"regexp"
	"strings"
)

// version is the language's; AWS IoT knows no other.
const version = "2012-10-17"

// parser makes a document of JSON. After its first error it has nothing more to say.
type parser struct {
	text string
	err  error
}

func (p *parser) fail(n *node, path, format string, args ...any) {
	if p.err == nil {
		line, column := place(p.text, n.at)
		p.err = &Error{line, column, path, fmt.Sprintf(format, args...)}
	}
}

func (p *parser) want(n *node, path string, want kind) bool {
	if n.kind != want {
		p.fail(n, path, "%s, want %s", n.kind, want)
	}
	return n.kind == want
}

func (p *parser) document(root *node) (statements []*Statement) {
	if !p.want(root, "the document", isObject) {
		return nil
	}
	has := map[string]bool{}
	for _, m := range root.members {
		has[m.name] = true
		switch m.name {
		case "Version":
			if p.want(m.value, "Version", isString) && m.value.text != version {
				p.fail(m.value, "Version", "%.40q, want %q", m.value.text, version)
			}
		case "Id":
			p.want(m.value, "Id", isString)
		case "Statement":
			statements = p.statements(m.value)
		default:
			p.fail(m.value, "", "unknown element %.60q, want Version, Id or Statement", m.name)
		}
	}
	for _, name := range []string{"Version", "Statement"} {
		if !has[name] {
			p.fail(root, "", "no %s", name)
		}
	}
	return statements
}

func (p *parser) statements(n *node) (all []*Statement) {
	if n.kind == isObject {
		return []*Statement{p.statement(n, "Statement", 0)}
	}
	if !p.want(n, "Statement", isArray) {
		return nil
	}
	if len(n.items) == 0 {
		p.fail(n, "Statement", "an empty list")
	}
	for i, item := range n.items {
		all = append(all, p.statement(item, fmt.Sprintf("Statement[%d]", i), i))
	}
	return all
}

func (p *parser) statement(n *node, path string, index int) *Statement {
	s := &Statement{Index: index}
	if !p.want(n, path, isObject) {
		return s
	}
	for _, m := range n.members {
		at := path + "." + m.name
		switch m.name {
		case "Sid":
			if p.want(m.value, at, isString) {
				s.Sid = m.value.text
			}
		case "Effect":
			if p.want(m.value, at, isString) {
				s.Effect = Effect(m.value.text)
			}
			if s.Effect != Allow && s.Effect != Deny {
				p.fail(m.value, at, "%.40q, want %q or %q", m.value.text, Allow, Deny)
			}
		case "Action", "NotAction":
			if s.actions != nil {
				p.fail(m.value, at, "Action and NotAction exclude each other")
			}
			s.NotAction = m.name == "NotAction"
			s.Actions, s.actions = p.patterns(m.value, at, action)
		case "Resource", "NotResource":
			if s.resources != nil {
				p.fail(m.value, at, "Resource and NotResource exclude each other")
			}
			s.NotResource = m.name == "NotResource"
			s.Resources, s.resources = p.patterns(m.value, at, resource)
		case "Condition":
			s.conditions = p.conditions(m.value, at)
		default:
			p.fail(m.value, path, "unknown element %.60q, want Sid, Effect, Action, NotAction, Resource, NotResource or Condition", m.name)
		}
	}
	switch {
	case s.Effect == "":
		p.fail(n, path, "no Effect")
	case s.actions == nil:
		p.fail(n, path, "no Action")
	case s.resources == nil:
		p.fail(n, path, "no Resource")
	}
	for _, c := range s.conditions {
		s.Operators = append(s.Operators, c.name)
	}
	return s
}

// patterns reads one string, or a list of them.
func (p *parser) patterns(n *node, path string, read func(string) (*pattern, error)) (texts []string, all []*pattern) {
	items := []*node{n}
	if n.kind == isArray {
		if items = n.items; len(items) == 0 {
			p.fail(n, path, "an empty list")
		}
	}
	texts, all = []string{}, []*pattern{}
	for i, item := range items {
		at := path
		if n.kind == isArray {
			at = fmt.Sprintf("%s[%d]", path, i)
		}
		if !p.want(item, at, isString) {
			continue
		}
		one, err := read(item.text)
		if err != nil {
			p.fail(item, at, "%v", err)
			continue
		}
		texts, all = append(texts, item.text), append(all, one)
	}
	return texts, all
}

var actionForm = regexp.MustCompile(`^(\*|[A-Za-z0-9-]+:[A-Za-z0-9*?]+)$`)

// action reads a pattern of actions. Their case does not count.
func action(text string) (*pattern, error) {
	if !actionForm.MatchString(text) {
		return nil, fmt.Errorf("the action is invalid: %.100q: want * or service:action, such as iot:Connect", text)
	}
	return newPattern(strings.ToLower(text)), nil
}

// resource reads a pattern of ARNs.
func resource(text string) (*pattern, error) {
	if text != "*" && (strings.Count(text, ":") < 5 || !strings.HasPrefix(text, "arn:")) {
		return nil, fmt.Errorf("the following resources are invalid: %.100q: want * or arn:partition:service:region:account:resource", text)
	}
	return newPattern(text), nil
}
