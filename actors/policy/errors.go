package policy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Kind says what sort of problem an Error reports.
type Kind string

// The kinds of problems. Those of the policy itself are named as the reference's
// vectors name them.
const (
	KindSyntax          Kind = "syntax"           // neither JSON nor YAML
	KindUnsupported     Kind = "unsupported"      // YAML, but with anchors, tags or several documents
	KindLimit           Kind = "limit"            // too large, too deep, too many
	KindDuplicate       Kind = "duplicate"        // a name given twice
	KindType            Kind = "type"             // a list where a text belongs, and the like
	KindMissing         Kind = "missing"          // a required property is absent
	KindFormatVersion   Kind = "formatVersion"    // not a version this release knows
	KindEffect          Kind = "effect"           // not ALLOW
	KindMissingPolicy   Kind = "missing-policy"   // a definition names a policy that is not there
	KindUnknownVariable Kind = "unknown-variable" // ${...} other than the thing name
	KindRuleLexical     Kind = "rule-lexical"     // a character that no token of a rule begins with
	KindRuleSyntax      Kind = "rule-syntax"      // a rule's tokens in the wrong order
	KindSuspicious      Kind = "suspicious"       // accepted, but surely not meant: warnings only
)

// An Error is one problem of a document: where it is, what was expected, what to do.
type Error struct {
	Kind   Kind   `json:"kind"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`   // from 1; 0 when not known
	Column int    `json:"column,omitempty"` // from 1, in characters; 0 when not known
	Path   string `json:"path,omitempty"`   // as "deviceGroups.definitions.g1.selectionRule"
	Msg    string `json:"message"`
	Hint   string `json:"hint,omitempty"` // what to do
}

// Error puts place, problem and remedy on one line.
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.File != "" && e.Line > 0 && e.Column > 0:
		fmt.Fprintf(&b, "%s:%d:%d: ", e.File, e.Line, e.Column)
	case e.File != "" && e.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", e.File, e.Line)
	case e.File != "":
		fmt.Fprintf(&b, "%s: ", e.File)
	case e.Line > 0 && e.Column > 0:
		fmt.Fprintf(&b, "line %d, column %d: ", e.Line, e.Column)
	case e.Line > 0:
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Msg)
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// Errors are all the problems of a document, in the order of their places.
type Errors []*Error

// Error puts each problem on a line of its own.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look at each problem.
func (e Errors) Unwrap() []error {
	all := make([]error, len(e))
	for i, one := range e {
		all[i] = one
	}
	return all
}

// ErrorsOf returns the problems that err, from Parse, stands for.
func ErrorsOf(err error) Errors {
	if all, ok := errors.AsType[Errors](err); ok {
		return all
	}
	if one, ok := errors.AsType[*Error](err); ok {
		return Errors{one}
	}
	return nil
}

func sortErrors(e []*Error) {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
