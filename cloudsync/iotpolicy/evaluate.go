package iotpolicy

import (
	"maps"
	"slices"
	"strings"
)

// Decision is what policies come to, spelled as TestAuthorization spells it.
type Decision string

// The decisions. Only Allowed lets anything happen.
const (
	Allowed      Decision = "ALLOWED"
	ExplicitDeny Decision = "EXPLICIT_DENY"
	ImplicitDeny Decision = "IMPLICIT_DENY"
)

// A Policy is a document under the name that it is known by.
type Policy struct {
	Name     string
	Document *Document // nil: says nothing
}

// A Request is what somebody wants to do.
type Request struct {
	// Action is one action, such as iot:Publish. Its case does not count.
	Action string
	// Resource is the ARN of what it is done to, or * for an action without one.
	Resource string
	// Context is what variables and conditions can know; nil: nothing.
	Context *Context
}

// A Match is a statement that applies to a request.
type Match struct {
	Policy    string
	Statement *Statement
}

// A Result is a decision with its reasons.
type Result struct {
	Decision Decision
	// Allowing and Denying are the statements that apply. A single one that denies
	// decides.
	Allowing, Denying []Match
	// Missing are the keys, sorted, that statements on the action asked for and the
	// context does not have.
	Missing []string
}

// Evaluate judges a request by all statements of all policies: one that denies wins, else
// one that allows does, and without any it is denied.
func Evaluate(policies []Policy, r Request) Result {
	v := &view{context: r.Context, missing: map[string]bool{}}
	result := Result{Decision: ImplicitDeny}
	if !strings.Contains(r.Action, ":") || r.Resource == "" {
		return result // no request at all
	}
	for _, p := range policies {
		if p.Document == nil {
			continue
		}
		for _, s := range p.Document.statements {
			switch applies := s.applies(r, v); {
			case applies && s.Effect == Deny:
				result.Denying = append(result.Denying, Match{p.Name, s})
			case applies:
				result.Allowing = append(result.Allowing, Match{p.Name, s})
			}
		}
	}
	switch {
	case len(result.Denying) > 0:
		result.Decision = ExplicitDeny
	case len(result.Allowing) > 0:
		result.Decision = Allowed
	}
	result.Missing = slices.Sorted(maps.Keys(v.missing))
	return result
}

// applies says whether the statement speaks of the request. What is everything but a
// variable without a value would be everything: then it applies only if it denies.
func (s *Statement) applies(r Request, v *view) bool {
	if !s.Mentions(r.Action) {
		return false
	}
	named, open := false, false
	for _, p := range s.resources {
		e := p.expand(v)
		named = named || e.matches(r.Resource)
		open = open || e.open
	}
	if named == s.NotResource {
		return false
	}
	open = open && s.NotResource
	held := true
	for _, c := range s.conditions { // all, to know what they lack
		ok, without := c.holds(v)
		held, open = held && ok, open || without
	}
	return held && (s.Effect == Deny || !open)
}

// Names lists the policies of matches, each once, in their order.
func Names(matches []Match) []string {
	names := []string{}
	for _, m := range matches {
		if !slices.Contains(names, m.Policy) {
			names = append(names, m.Policy)
		}
	}
	return names
}
