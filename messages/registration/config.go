package registration

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Config is the form of the rules in a configuration. Compile reads it.
type Config struct {
	// Rules are tried in order; the first that matches decides. A certificate that none
	// matches is denied.
	Rules []Rule `json:"rules"`
	// PerHour bounds how many devices are registered in an hour; those beyond it wait.
	// Default: 100.
	PerHour int `json:"perHour"`
	// OnDenied is what the cloud is told of a certificate that is denied: DeniedLeave (the
	// default) leaves it pending, DeniedInactivate and DeniedRevoke set its status. The last
	// cannot be undone.
	OnDenied string `json:"onDenied"`
	// Core is the core's own thing name, which no device gets, nor that of its address shadow,
	// nor the client id of its registrar.
	Core messages.ThingName `json:"-"`
	// ClientID is the registrar's own, if it is another: AWS would end the registrar's
	// connection when a device of that name connects.
	ClientID messages.ThingName `json:"-"`
}

// The values of Config.OnDenied.
const (
	DeniedLeave      = "leave"
	DeniedInactivate = "inactivate"
	DeniedRevoke     = "revoke"
)

// DefaultPerHour is the quota where none is given (reliability spec 4.8).
const DefaultPerHour = 100

// The effects of a rule.
const (
	EffectAllow = "allow"
	EffectDeny  = "deny"
)

// Rule says whose certificates it is about, and what becomes of them.
type Rule struct {
	Name   string `json:"name"`             // for people, in outcomes; each once
	Effect string `json:"effect,omitempty"` // EffectAllow, the default, or EffectDeny
	Match  Match  `json:"match,omitzero"`

	// What an allow rule makes of a device; a deny rule has none of it.
	Thing     Thing  `json:"thing,omitzero"`
	Policy    Policy `json:"policy,omitzero"`
	Associate bool   `json:"associate,omitempty"` // with the core, so that devices meet it by discovery
}

// Match is a list of conditions, all of which must hold; one that is not given holds. Each
// is a list of patterns, in which '*' is any run of characters, one of which must match. An
// allow rule wants every value that a certificate gives to match, and at least one to be
// there; a deny rule wants one that does, and is blind to case.
type Match struct {
	Authority   []string            `json:"authority,omitempty"`   // the signer's id
	Subject     map[string][]string `json:"subject,omitempty"`     // by attribute: AttributeNames
	Issuer      map[string][]string `json:"issuer,omitempty"`      // the same of the issuer's name
	Serial      []string            `json:"serial,omitempty"`      // the certificate's number, lower-case hex
	DNS         []string            `json:"dns,omitempty"`         // alternative names
	Email       []string            `json:"email,omitempty"`       //
	URI         []string            `json:"uri,omitempty"`         //
	IP          []string            `json:"ip,omitempty"`          //
	Certificate []string            `json:"certificate,omitempty"` // its id
	Key         []string            `json:"key,omitempty"`         // its type: RSA-2048, P-256, Ed25519
	// ValidityMax is how long the certificate may be valid, from its beginning to its end. It
	// is for allow rules. 0: any time.
	ValidityMax time.Duration `json:"-"`
}

// IsZero says whether there is no condition.
func (m Match) IsZero() bool { return reflect.DeepEqual(m, Match{}) }

// MarshalJSON prints ValidityMax as it is written in a configuration.
func (m Match) MarshalJSON() ([]byte, error) {
	type plain Match // without this method
	text := ""
	if m.ValidityMax != 0 {
		text = m.ValidityMax.String()
	}
	return json.Marshal(struct {
		plain
		ValidityMax string `json:"validityMax,omitempty"`
	}{plain(m), text})
}

// Thing says how a device is known.
type Thing struct {
	// Name is a template whose result must be a thing name. Required.
	Name string `json:"name,omitempty"`
	// ClientID denies a device that is known by another client id than Name's result. A
	// device that connected to the cloud is known by none here: its policy must say so there.
	ClientID   bool              `json:"clientId,omitempty"`
	Type       string            `json:"type,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"` // templates
	Group      string            `json:"group,omitempty"`
	// Takeover lets a certificate join a thing that another is attached to, such as the
	// successor of one that ends. Without it that is denied.
	Takeover bool `json:"takeover,omitempty"`
}

// Policy is what a device may do in the cloud. Empty: nothing is attached.
type Policy struct {
	// Name is a template. A policy of that name which exists is attached, if its document is
	// the same, or none is given.
	Name string `json:"name,omitempty"`
	// Document is the policy in JSON, with variables in its resources. With any, Name must
	// hold ${thing.name} or ${certificate.id}: it is another policy for each device. What AWS
	// IoT replaces itself (${iot:…}, ${aws:…}, ${credentials-iot:…}) is left to it.
	Document string `json:"document,omitempty"`
}

// Error is one thing wrong with a Config: where, what, what to do.
type Error struct {
	Path string // "rules[0].thing.name"
	Msg  string
	Hint string
}

// Error tells it in one line.
func (e *Error) Error() string {
	text := e.Path + ": " + e.Msg
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// Errors are all that is wrong with a Config.
type Errors []*Error

// Error tells them, one a line.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

func (e *Errors) add(path, hint, format string, args ...any) {
	if len(*e) < errorsMax {
		*e = append(*e, &Error{Path: path, Msg: fmt.Sprintf(format, args...), Hint: hint})
	}
}

const errorsMax = 50
