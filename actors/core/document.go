package core

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Document is the state of the entities that hold a document in force: the policy and
// the configuration.
type Document struct {
	Revision string // in force; empty: none was ever
	Rejected string // digest of the last bytes that were refused
}

// Bounds of what a rejection records.
const (
	errorsMax     = 20
	errorMaxBytes = 500
)

// DecideDocument takes a document into force, or says why not and leaves the former one
// in force (design.md, section 7). The same bytes twice make no event.
func DecideDocument(stream messages.StreamID, s Document, in messages.Input) (messages.Decision, error) {
	if in.Command.Target() != stream {
		return messages.Decision{}, fmt.Errorf("%s: %T belongs to %s", stream, in.Command, in.Command.Target())
	}
	switch c := in.Command.(type) {
	case messages.ReplacePolicy:
		return replacePolicy(s, c), nil
	case messages.ReplaceConfig:
		return replaceConfig(s, c), nil
	case messages.RejectConfig:
		return reject(s, configSection, c.Document, c.Origin, c.Errors), nil
	default:
		return messages.Decision{}, fmt.Errorf("%s: unexpected command %T", stream, c)
	}
}

func replacePolicy(s Document, c messages.ReplacePolicy) messages.Decision {
	doc, err := policy.Parse(c.Document, policy.Options{File: c.Origin})
	if err != nil {
		return reject(s, "deviceGroups", c.Document, c.Origin, strings.Split(err.Error(), "\n"))
	}
	if doc.Revision() == s.Revision {
		return inForce(s)
	}
	return messages.Decision{
		Events: []messages.Event{&messages.PolicyReplaced{
			Document: doc.Canonical(), Revision: doc.Revision(), Source: c.Source, Origin: c.Origin,
		}},
		Reply: messages.Replaced{Revision: doc.Revision(), Changed: true},
	}
}

func replaceConfig(s Document, c messages.ReplaceConfig) messages.Decision {
	if _, _, err := config.Parse(c.Document, nil); err != nil {
		return reject(s, configSection, c.Document, c.Origin, strings.Split(err.Error(), "\n"))
	}
	revision := digest(c.Document)
	if revision == s.Revision {
		return inForce(s)
	}
	return messages.Decision{
		Events: []messages.Event{&messages.ConfigReplaced{
			Document: c.Document, Revision: revision, Source: c.Source, Origin: c.Origin,
		}},
		Reply: messages.Replaced{Revision: revision, Changed: true},
	}
}

func inForce(s Document) messages.Decision {
	return messages.Decision{Reply: messages.Replaced{Revision: s.Revision}}
}

// configSection is the key of gatehouse.yaml under which the configuration's document
// stands.
const configSection = "clientDeviceAuth"

func reject(s Document, section string, doc []byte, origin string, errors []string) messages.Decision {
	lines := make([]string, min(len(errors), errorsMax))
	for i := range lines {
		lines[i] = clip(errors[i])
	}
	d := messages.Decision{Reply: messages.Rejected{Errors: lines}}
	if revision := digest(doc); revision != s.Rejected {
		d.Events = []messages.Event{&messages.ConfigRejected{Section: section, Revision: revision, Origin: origin, Errors: lines}}
	}
	return d
}

// clip bounds a line, without cutting a character in two.
func clip(line string) string {
	if len(line) > errorMaxBytes {
		line = line[:errorMaxBytes]
	}
	return strings.ToValidUTF8(line, "")
}

func digest(doc []byte) string {
	sum := sha256.Sum256(doc)
	return hex.EncodeToString(sum[:])
}

// EvolveDocument folds one event.
func EvolveDocument(s Document, e messages.Event, _ messages.Instant) Document {
	switch e := e.(type) {
	case *messages.PolicyReplaced:
		return Document{Revision: e.Revision}
	case *messages.ConfigReplaced:
		return Document{Revision: e.Revision}
	case *messages.ConfigRejected:
		s.Rejected = e.Revision
	}
	return s
}
