package iotpolicy

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a document (cloud spec 4.6).
const (
	// CharsMax is how many characters that are no white space a document may have.
	CharsMax = 2048
	// BytesMax is what AWS's API takes, white space included.
	BytesMax = 404600
)

// Effect is what a statement does to the requests it applies to.
type Effect string

// The effects.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// A Document is a policy document. It is never changed, and safe for use by many
// goroutines at once.
type Document struct {
	text       string
	statements []*Statement
}

// A Statement is one statement of a document.
type Statement struct {
	// Index counts from 0 in the document.
	Index int
	// Sid is the statement's own name; mostly empty.
	Sid string
	// Effect is what it does.
	Effect Effect
	// Actions and Resources are the patterns as they were written.
	Actions, Resources []string
	// NotAction and NotResource turn the patterns around: all but these.
	NotAction, NotResource bool
	// Operators are its conditions' operators, in the order they were written.
	Operators []string

	actions, resources []*pattern
	conditions         []*condition
}

// Error says what is wrong with a document, and where.
type Error struct {
	Line, Column int    // from 1; 0: the document as a whole
	Path         string // such as Statement[0].Action
	Problem      string
}

// Error writes it for people.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Line > 0 {
		fmt.Fprintf(&b, "line %d, column %d: ", e.Line, e.Column)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	return b.String() + e.Problem
}

// Parse reads a policy document. The error is an *Error.
func Parse(text string) (*Document, error) {
	if err := checkSize(text); err != nil {
		return nil, err
	}
	root, err := readJSON(text)
	if err != nil {
		return nil, err
	}
	p := &parser{text: text}
	d := &Document{text: text, statements: p.document(root)}
	if p.err != nil {
		return nil, p.err
	}
	return d, nil
}

func checkSize(text string) error {
	if len(text) > BytesMax {
		return &Error{Problem: fmt.Sprintf("%d bytes, at most %d", len(text), BytesMax)}
	}
	if !utf8.ValidString(text) {
		return &Error{Problem: "not UTF-8"}
	}
	chars := 0
	for _, c := range text {
		if !unicode.IsSpace(c) {
			chars++
		}
	}
	if chars > CharsMax {
		return &Error{Problem: fmt.Sprintf("%d characters without white space, at most %d", chars, CharsMax)}
	}
	return nil
}

// String returns the document as it was parsed.
func (d *Document) String() string { return d.text }

// Statements lists the statements. The caller leaves them as they are.
func (d *Document) Statements() []*Statement { return d.statements }

// Mentioning lists the statements that speak of action, such as
// iot:AssumeRoleWithCertificate, whatever their effect, resources and conditions.
func (d *Document) Mentioning(action string) []*Statement {
	var found []*Statement
	for _, s := range d.statements {
		if s.Mentions(action) {
			found = append(found, s)
		}
	}
	return found
}

// Mentions says whether the statement speaks of action.
func (s *Statement) Mentions(action string) bool {
	action = strings.ToLower(action)
	for _, a := range s.actions {
		if a.expand(nil).matches(action) {
			return !s.NotAction
		}
	}
	return s.NotAction
}
