package config

import "github.com/gatehouse-edge/gatehouse/actors/policy"

// An Error is one thing wrong with a document: where, what, what to do. It is policy's
// type, so that one file has one kind of errors.
type Error = policy.Error

// Errors are all that is wrong with a document, in the order of their places.
type Errors = policy.Errors

// Warnings say where the values in force are not what the writer may expect. They
// never keep a configuration from being used.
type Warnings = policy.Errors

// The kinds of problems beside policy's.
const (
	KindUnknownKey policy.Kind = "unknown-key" // a key that means nothing
	KindValue      policy.Kind = "value"       // a value that cannot be used
	KindConflict   policy.Kind = "conflict"    // values that do not go together
)

// InFile writes the name of the file into problems, which then print as
// "gatehouse.yaml:3:7: …". The errors of Parse are theirs through policy.ErrorsOf.
func InFile(name string, problems Errors) {
	for _, problem := range problems {
		problem.File = name
	}
}
