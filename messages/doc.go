// Package messages is the vocabulary of Gatehouse: identifiers and their parsers,
// events (protobuf), commands, effects and replies, and the codec that turns an
// event into the bytes the log keeps.
//
// Everything else imports this package; it imports the standard library and
// protobuf alone.
//
//go:generate go run ../cmd/internal/protogen -dir .
package messages
