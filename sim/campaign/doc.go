// Package campaign simulates many seeds side by side, makes what failed small, and says
// what came of it: in words, as JSON, as a page with plots.
//
// It reads no clock: whoever runs it looks at Status when it likes, and ends it by its
// context. What it finds does not depend on how many cores it has.
package campaign
