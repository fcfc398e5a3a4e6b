package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// FormatVersion2021 is the format with exactly Greengrass 2.5's semantics, and what a
// document has that names none.
const FormatVersion2021 = "2021-03-05"

// A Document is a deviceGroups section that Parse has accepted. It is not to be changed.
type Document struct {
	FormatVersion string
	Groups        []Group  // by name
	Policies      []Policy // by name
	Warnings      Errors   // what is accepted and surely not meant

	canonical []byte
	revision  string
}

// A Group gives a policy to the things that a selection rule picks.
type Group struct {
	Name       string
	Rule       Rule
	PolicyName string
}

// A Policy is what the members of a group may do.
type Policy struct {
	Name       string
	Statements []Statement // by name
}

// A Statement allows each of its operations on each of its resources.
type Statement struct {
	Name        string
	Description string
	Operations  []string // as written, without empty ones
	Resources   []string // as written, without empty ones
}

// Canonical returns the document as JSON with one spelling for one meaning: names in
// order, property names as documented, nothing that is not understood. Parse accepts it
// and finds the same revision. The bytes are not to be changed.
func (d *Document) Canonical() []byte { return d.canonical }

// Revision names the document by its meaning: the hex SHA-256 of Canonical.
func (d *Document) Revision() string { return d.revision }

// ShortRevision is the beginning of a revision, for people.
func ShortRevision(revision string) string { return revision[:min(len(revision), 12)] }

// The canonical form. encoding/json writes maps in the order of their keys.
type (
	canonicalDocument struct {
		FormatVersion string                                   `json:"formatVersion"`
		Definitions   map[string]canonicalGroup                `json:"definitions"`
		Policies      map[string]map[string]canonicalStatement `json:"policies"`
	}
	canonicalGroup struct {
		SelectionRule string `json:"selectionRule"`
		PolicyName    string `json:"policyName"`
	}
	canonicalStatement struct {
		Description string   `json:"statementDescription,omitempty"`
		Effect      string   `json:"effect"`
		Operations  []string `json:"operations"`
		Resources   []string `json:"resources"`
	}
)

// seal computes the canonical form and the revision.
func (d *Document) seal() error {
	c := canonicalDocument{
		FormatVersion: d.FormatVersion,
		Definitions:   make(map[string]canonicalGroup),
		Policies:      make(map[string]map[string]canonicalStatement),
	}
	for _, g := range d.Groups {
		c.Definitions[g.Name] = canonicalGroup{SelectionRule: g.Rule.String(), PolicyName: g.PolicyName}
	}
	for _, p := range d.Policies {
		statements := make(map[string]canonicalStatement)
		for _, s := range p.Statements {
			statements[s.Name] = canonicalStatement{Description: s.Description, Effect: effectAllow, Operations: s.Operations, Resources: s.Resources}
		}
		c.Policies[p.Name] = statements
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(c); err != nil {
		return err
	}
	d.canonical = bytes.TrimSpace(b.Bytes())
	sum := sha256.Sum256(d.canonical)
	d.revision = hex.EncodeToString(sum[:])
	return nil
}
