// Package projections holds the read models: what the log says, folded into memory for
// those who ask often. Every one of them can be deleted and folded again; none is ever
// written to but by a fold.
//
// An authorization is a pure read of two of them, sessions and policy: no mailbox, no
// disk, no lock that anyone holds for long.
package projections
