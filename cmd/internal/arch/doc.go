// Package arch is ARCHITECTURE.md's import rules as a test: which package may import
// which, where each third-party module lives, what pure code must not touch, who may
// read the clock and the command line, and how long files and functions may grow.
//
// It holds nothing but the test. A rule that stands in the way for a good reason is
// changed here, in one table, where the change is seen; every entry of a table has the
// reason that the failure prints.
package arch
