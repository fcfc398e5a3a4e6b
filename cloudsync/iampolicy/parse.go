package iampolicy

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The versions of the language. Only the newer one has variables.
const (
	Version2012 = "2012-10-17"
	Version2008 = "2008-10-17"
)

// Bounds of a document. AWS's own are lower, and depend on what the document is for.
const (
	BytesMax = 32 << 10
	depthMax = 8
)

// Document is a policy document that was read.
type Document struct {
	variables  bool
	statements []statement
}

type statement struct {
	sid        string
	allow      bool
	principals []principal // of a trust policy
	actions    patterns
	resources  patterns
	conditions []condition
}

// patterns are those of Action or, with except, of NotAction.
type patterns struct {
	except bool
	of     []string
}

type principal struct{ kind, name string }

// The kinds of principals.
const (
	KindAWS     = "AWS"     // of accounts, users, roles and their sessions
	KindService = "Service" // of AWS's services, such as credentials.iot.amazonaws.com
	kindUser    = "Federated"
	kindS3      = "CanonicalUser"
)

// ErrMalformed is wrapped by every error of ParseIdentity and ParseTrust.
var ErrMalformed = errors.New("malformed policy document")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// ParseIdentity reads a policy of an identity: one that says what a role may do.
func ParseIdentity(text string) (*Document, error) { return parse(text, false) }

// ParseTrust reads a role's trust policy: one that says who may assume it.
func ParseTrust(text string) (*Document, error) { return parse(text, true) }

func parse(text string, trust bool) (*Document, error) {
	root, err := readJSON(text)
	if err != nil {
		return nil, err
	}
	members, ok := root.(object)
	if !ok {
		return nil, malformed("it is not a JSON object")
	}
	d := &Document{}
	for name, value := range members {
		switch name {
		case "Version":
			if value != Version2012 && value != Version2008 {
				return nil, malformed("Version is neither %s nor %s", Version2012, Version2008)
			}
			d.variables = value == Version2012
		case "Id":
			if _, ok := value.(string); !ok {
				return nil, malformed("Id is not a text")
			}
		case "Statement":
		default:
			return nil, malformed("unknown element %.60q", name)
		}
	}
	statements := listOf(members["Statement"])
	if len(statements) == 0 {
		return nil, malformed("there is no Statement")
	}
	sids := map[string]bool{}
	for i, value := range statements {
		s, err := readStatement(value, trust)
		if err != nil {
			return nil, fmt.Errorf("%w (Statement %d)", err, i+1)
		}
		if s.sid != "" && sids[s.sid] {
			return nil, malformed("Sid %.60q is given twice (Statement %d)", s.sid, i+1)
		}
		sids[s.sid] = true
		d.statements = append(d.statements, s)
	}
	return d, nil
}

func readStatement(value any, trust bool) (s statement, err error) {
	members, ok := value.(object)
	if !ok {
		return s, malformed("a statement is not a JSON object")
	}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		if err := s.readElement(name, members[name], trust); err != nil {
			return s, err
		}
	}
	_, effect := members["Effect"]
	_, resources := members["Resource"]
	_, others := members["NotResource"]
	_, exceptActions := members["NotAction"]
	_, actions := members["Action"]
	switch {
	case !effect:
		return s, malformed("a statement has no Effect")
	case actions == exceptActions:
		return s, malformed("a statement wants Action or NotAction, not both")
	case trust && len(s.principals) == 0:
		return s, malformed("a statement of a trust policy wants a Principal")
	case !trust && resources == others:
		return s, malformed("a statement wants Resource or NotResource, not both")
	}
	return s, nil
}

func (s *statement) readElement(name string, value any, trust bool) (err error) {
	switch name {
	case "Sid":
		sid, ok := value.(string)
		if !ok || strings.Trim(sid, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
			return malformed("Sid is to be of letters and digits")
		}
		s.sid = sid
	case "Effect":
		if value != "Allow" && value != "Deny" {
			return malformed("Effect is neither Allow nor Deny")
		}
		s.allow = value == "Allow"
	case "Action", "NotAction":
		s.actions, err = readPatterns(name, value, checkAction)
	case "Resource", "NotResource":
		if trust {
			return malformed("a trust policy has no %s: it is about its role", name)
		}
		s.resources, err = readPatterns(name, value, checkResource)
	case "Principal":
		if !trust {
			return malformed("a policy of an identity has no Principal")
		}
		s.principals, err = readPrincipals(value)
	case "Condition":
		s.conditions, err = readConditions(value)
	default: // NotPrincipal, too, which AWS advises against and nobody needs here
		return malformed("unknown element %.60q", name)
	}
	return err
}

func readPatterns(name string, value any, check func(string) string) (patterns, error) {
	p := patterns{except: strings.HasPrefix(name, "Not")}
	for _, v := range listOf(value) {
		text, ok := v.(string)
		if !ok {
			return p, malformed("%s is not a text or a list of texts", name)
		}
		if problem := check(text); problem != "" {
			return p, malformed("%s %.200q %s", name, text, problem)
		}
		p.of = append(p.of, text)
	}
	if len(p.of) == 0 {
		return p, malformed("%s is empty", name)
	}
	return p, nil
}

func checkAction(text string) string {
	if service, action, ok := strings.Cut(text, ":"); text != "*" && (!ok || service == "" || action == "") {
		return "wants its service's prefix, such as iot:, or is to be *"
	}
	return ""
}

func checkResource(text string) string {
	if text != "*" && (!strings.HasPrefix(text, "arn:") || strings.Count(text, ":") < 2) {
		return "is neither an ARN nor *"
	}
	return ""
}

func readPrincipals(value any) (all []principal, err error) {
	if value == "*" { // as with {"AWS": "*"}: anybody
		return []principal{{KindAWS, "*"}}, nil
	}
	members, ok := value.(object)
	if !ok {
		return nil, malformed("Principal is neither * nor an object")
	}
	for _, kind := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains([]string{KindAWS, KindService, kindUser, kindS3}, kind) {
			return nil, malformed("Principal of unknown kind %.60q", kind)
		}
		for _, v := range listOf(members[kind]) {
			name, ok := v.(string)
			if !ok || name == "" || name != "*" && strings.ContainsAny(name, "*?") || name == "*" && kind != KindAWS {
				return nil, malformed("Invalid principal in policy: %.20q is to name a principal as a whole", kind)
			}
			all = append(all, principal{kind, name})
		}
	}
	return all, nil
}

// listOf returns the values of an element that may be one, or a list of them.
func listOf(value any) []any {
	switch v := value.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{value}
}
