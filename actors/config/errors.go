package config

import (
	"fmt"
	"strings"
)

// An Error is one thing wrong with a configuration, told so that its writer can mend
// it: where, what, what was expected, what to do.
type Error struct {
	Line     int    `json:"line,omitempty"`   // from 1; 0 where no place can be named
	Column   int    `json:"column,omitempty"` // in characters, from 1; 0 if only the line is known
	Path     string `json:"path,omitempty"`   // the keys that lead there, as in certificates.serverCertificateValiditySeconds
	Problem  string `json:"problem"`
	Expected string `json:"expected,omitempty"`
	Hint     string `json:"hint,omitempty"`
}

// Error prints all parts on one line: "line 3, column 5: mqtt.listne: unknown key; did
// you mean listen?".
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.Line > 0 && e.Column > 0:
		fmt.Fprintf(&b, "line %d, column %d: ", e.Line, e.Column)
	case e.Line > 0:
		fmt.Fprintf(&b, "line %d: ", e.Line)
	}
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Problem)
	if e.Expected != "" {
		b.WriteString(", want " + e.Expected)
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}
