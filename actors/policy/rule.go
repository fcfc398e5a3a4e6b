package policy

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Rule is a parsed selection rule: it picks things by name. The grammar has no
// parentheses, so every rule is an OR of ANDs. The zero Rule picks nothing.
type Rule struct {
	text  string
	anyOf [][]term
}

// A term is one "thingName: name".
type term struct {
	kind termKind
	text string // the name without its '*' and with "\:" as ":"
}

type termKind uint8

const (
	termEquals termKind = iota
	termAny
	termPrefix
	termSuffix
	termContains
)

// A RuleError says why a selection rule is not one.
type RuleError struct {
	Lexical bool // a character no token begins with; else tokens in the wrong order
	Offset  int  // in bytes, from 0
	Msg     string
}

// Error says where in the rule the problem is, and which.
func (e *RuleError) Error() string { return fmt.Sprintf("character %d: %s", e.Offset+1, e.Msg) }

// ParseRule reads a selection rule (client-device-auth spec 2.1). Its error is a *RuleError.
func ParseRule(text string) (Rule, error) {
	tokens, err := lexRule(text)
	if err != nil {
		return Rule{}, err
	}
	rule := Rule{text: text}
	clauses := []term{}
	for {
		if tokens[0].kind != tokenKey {
			return Rule{}, unexpected(tokens[0], `"thingName:"`)
		}
		if tokens[1].kind != tokenName {
			return Rule{}, unexpected(tokens[1], `a thing name, "prefix*", "*suffix", "*middle*" or "*"`)
		}
		clauses = append(clauses, newTerm(tokens[1].text))
		switch tokens[2].kind {
		case tokenAnd:
		case tokenOr:
			rule.anyOf = append(rule.anyOf, clauses)
			clauses = nil
		case tokenEnd:
			rule.anyOf = append(rule.anyOf, clauses)
			return rule, nil
		default:
			return Rule{}, unexpected(tokens[2], "AND, OR or the end of the rule")
		}
		tokens = tokens[3:]
	}
}

// String returns the rule as it was written.
func (r Rule) String() string { return r.text }

// Matches says whether the rule picks the thing (client-device-auth spec 2.2). It picks
// no thing without a name: a session without one is in no group.
func (r Rule) Matches(thing string) bool {
	if thing == "" {
		return false
	}
	for _, clauses := range r.anyOf {
		if matchesAll(clauses, thing) {
			return true
		}
	}
	return false
}

func matchesAll(clauses []term, thing string) bool {
	for _, t := range clauses {
		if !t.matches(thing) {
			return false
		}
	}
	return true
}

func (t term) matches(thing string) bool {
	switch t.kind {
	case termEquals:
		return thing == t.text
	case termAny:
		return true
	case termPrefix:
		return strings.HasPrefix(thing, t.text)
	case termSuffix:
		return strings.HasSuffix(thing, t.text)
	case termContains:
		return strings.Contains(thing, t.text)
	default:
		return false
	}
}

func newTerm(name string) term {
	if name == "*" {
		return term{kind: termAny}
	}
	text, leading := strings.CutPrefix(name, "*")
	text, trailing := strings.CutSuffix(text, "*")
	t := term{text: strings.ReplaceAll(text, `\:`, ":")} // spec 2.3: unescape
	switch {
	case leading && trailing:
		t.kind = termContains
	case leading:
		t.kind = termSuffix
	case trailing:
		t.kind = termPrefix
	}
	return t
}

// names lists the things that alone the rule can pick, or says that there is no such list.
func (r Rule) names() (names []string, ok bool) {
	for _, clauses := range r.anyOf {
		found := false
		for _, t := range clauses {
			if t.kind == termEquals {
				names, found = append(names, t.text), true
				break
			}
		}
		if !found {
			return nil, false
		}
	}
	return names, true
}

type tokenKind uint8

const (
	tokenEnd  tokenKind = iota
	tokenKey            // thingName:
	tokenName           // also "*"
	tokenAnd
	tokenOr
)

type token struct {
	kind   tokenKind
	text   string
	offset int
}

const ruleKey = "thingName:"

// lexRule cuts a rule into tokens, the longest that fits at each place. Two end tokens
// close the list, so that the parser may look two ahead. All of the text is cut before
// any order is looked at: a wrong character is reported before a wrong order.
func lexRule(s string) ([]token, error) {
	var tokens []token
	for i := 0; i < len(s); {
		if c := s[i]; c == ' ' || c == '\t' || c == '\r' {
			i++
			continue
		}
		t := token{kind: tokenName, text: s[i : i+nameLength(s[i:])], offset: i}
		switch {
		case strings.HasPrefix(s[i:], ruleKey) && len(ruleKey) > len(t.text):
			t.kind, t.text = tokenKey, ruleKey
		case t.text == "AND":
			t.kind = tokenAnd
		case t.text == "OR":
			t.kind = tokenOr
		case t.text == "":
			return nil, illegal(s, i)
		}
		tokens = append(tokens, t)
		i += len(t.text)
	}
	end := token{kind: tokenEnd, offset: len(s)}
	return append(tokens, end, end, end), nil
}

// nameLength returns how long a name s begins with:
// ["*"] ( letter | digit | "-" | "_" | "\:" )+ ["*"], or "*". Letters are ASCII.
func nameLength(s string) int {
	i := 0
	if strings.HasPrefix(s, "*") {
		i = 1
	}
	start := i
	for i < len(s) {
		if c := s[i]; 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '_' {
			i++
		} else if strings.HasPrefix(s[i:], `\:`) {
			i += 2
		} else {
			break
		}
	}
	if i > start && strings.HasPrefix(s[i:], "*") {
		i++
	}
	return i
}

func illegal(s string, i int) *RuleError {
	r, _ := utf8.DecodeRuneInString(s[i:])
	e := &RuleError{Lexical: true, Offset: i}
	switch r {
	case ':':
		e.Msg = `':' may stand only right after thingName; a colon in a name is written "\:"`
	case '\\':
		e.Msg = `'\' may stand only before ':'`
	case '\n':
		e.Msg = "a rule is one line; line breaks are not allowed in it"
	default:
		e.Msg = fmt.Sprintf(`%q is not allowed; names have ASCII letters, digits, '-', '_' and "\:", with a '*' at either end`, r)
	}
	return e
}

func unexpected(t token, want string) *RuleError {
	if t.kind == tokenEnd {
		return &RuleError{Offset: t.offset, Msg: "the rule ends where " + want + " is expected"}
	}
	return &RuleError{Offset: t.offset, Msg: fmt.Sprintf("%q stands where %s is expected", t.text, want)}
}
