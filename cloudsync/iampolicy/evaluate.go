package iampolicy

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Decision is what documents say of a request. The zero Decision denies.
type Decision int

// The decisions.
const (
	ImplicitDeny Decision = iota // no statement allows it
	Allowed
	ExplicitDeny // a statement denies it, whatever others allow
)

// String says it in AWS's words.
func (d Decision) String() string {
	switch d {
	case Allowed:
		return "allowed"
	case ExplicitDeny:
		return "explicitDeny"
	}
	return "implicitDeny"
}

// Request is what is asked for. All of it is taken literally: a wildcard in it stands for
// itself.
type Request struct {
	Action   string // such as sts:AssumeRole
	Resource string // an ARN, or "*" for what is about no one resource; a trust policy does not see it
	// Principal is who asks, for a trust policy: its kind, and the names that it goes by.
	Principal Principal
	Context   Context
}

// Principal is who asks.
type Principal struct {
	Kind    string   // KindAWS or KindService
	Names   []string // its own, such as a session's ARN and its role's
	Account []string // its account's: the root's ARN and the number
}

// Context are the values of condition keys, by key in lower case. A key without values is
// absent.
type Context map[string][]string

// Set puts the values of a key in, which is told apart without case.
func (c Context) Set(key string, values ...string) { c[strings.ToLower(key)] = values }

// Match is a statement that has decided: the document's index and the statement's, and
// its Sid, which may be empty.
type Match struct {
	Document, Statement int
	Sid                 string
}

// Evaluate judges a request by documents together. The match is the first statement that
// denies, or else the first that allows; with ImplicitDeny it means nothing.
func Evaluate(r Request, documents ...*Document) (Decision, Match) {
	decision, by := ImplicitDeny, Match{}
	if !utf8.ValidString(r.Action) || !utf8.ValidString(r.Resource) { // nothing has such a name
		return decision, by
	}
	for i, d := range documents {
		for j := range d.statements {
			s := &d.statements[j]
			if s.allow && decision == Allowed || !s.applies(r, d.variables) {
				continue
			}
			match := Match{i, j, s.sid}
			if !s.allow {
				return ExplicitDeny, match
			}
			decision, by = Allowed, match
		}
	}
	return decision, by
}

// Trusts says what a trust policy says of a request. named tells whether an Allow names
// the principal itself, not everybody or its account, which within an account needs no
// policy of the principal's own beside it.
func (d *Document) Trusts(r Request) (decision Decision, named bool) {
	decision, _ = Evaluate(r, d)
	if decision != Allowed {
		return decision, false
	}
	r.Principal.Account = nil
	for i := range d.statements {
		s := &d.statements[i]
		if s.allow && !slices.Contains(s.principals, principal{KindAWS, "*"}) && s.applies(r, d.variables) {
			return decision, true
		}
	}
	return decision, false
}

func (s *statement) applies(r Request, variables bool) bool {
	if len(s.principals) > 0 && !slices.ContainsFunc(s.principals, func(p principal) bool { return p.is(r.Principal) }) {
		return false
	}
	if !s.actions.match(func(pattern string) bool {
		return matches(wild(strings.ToLower(pattern)), strings.ToLower(r.Action))
	}) {
		return false
	}
	if len(s.resources.of) > 0 && !s.resourceApplies(r, variables) {
		return false
	}
	return !slices.ContainsFunc(s.conditions, func(c condition) bool { return !c.holds(r.Context, variables) })
}

// resourceApplies says whether the resource is one of the statement's. Where a variable
// of NotResource has no value, what it excepts is not known: then the statement applies
// if it denies, and does not if it allows.
func (s *statement) resourceApplies(r Request, variables bool) bool {
	unknown := false
	found := slices.ContainsFunc(s.resources.of, func(text string) bool {
		pattern, ok := expand(text, r.Context, variables)
		unknown = unknown || !ok
		return ok && matches(pattern, r.Resource)
	})
	if s.resources.except {
		return !found && (!unknown || !s.allow)
	}
	return found
}

func (p patterns) match(is func(string) bool) bool {
	return slices.ContainsFunc(p.of, is) != p.except
}

func (p principal) is(who Principal) bool {
	return p.kind == who.Kind && (p.name == "*" && p.kind == KindAWS || slices.Contains(who.Names, p.name) || slices.Contains(who.Account, p.name))
}

// Mentions says whether a statement that allows is about the action at all, whatever its
// resources and conditions, and whether one that denies is.
func (d *Document) Mentions(action string) (allowed, denied bool) {
	for i := range d.statements {
		s := &d.statements[i]
		if s.actions.match(func(pattern string) bool {
			return matches(wild(strings.ToLower(pattern)), strings.ToLower(action))
		}) {
			allowed, denied = allowed || s.allow, denied || !s.allow
		}
	}
	return allowed, denied
}
