package policy

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// A Reason says in one word why a decision is what it is.
type Reason uint8

// The reasons. Only ReasonAllowed and ReasonComponent allow.
const (
	ReasonUndecided       Reason = iota // nobody decided; denies
	ReasonAllowed                       // a statement allows it
	ReasonComponent                     // internal components may do everything
	ReasonNoGroup                       // no selection rule picks the thing
	ReasonNoStatement                   // no statement of the thing's groups allows it
	ReasonMalformed                     // operation or resource is not well formed
	ReasonServiceMismatch               // operation and resource name different services
	reasons
)

var reasonNames = [reasons]string{"undecided", "allowed", "component", "no-group", "no-statement", "malformed", "service-mismatch"}

// String returns the reason's name, as it stands in JSON.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// MarshalText writes the reason's name.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// UnmarshalText reads a reason's name.
func (r *Reason) UnmarshalText(text []byte) error {
	for i, name := range reasonNames {
		if name == string(text) {
			*r = Reason(i)
			return nil
		}
	}
	return fmt.Errorf("policy: %.40q is not a reason", text)
}

// A Decision is the answer to a request, with what it rests on. Its zero value denies.
type Decision struct {
	// Allowed is the answer.
	Allowed bool
	// Reason is why.
	Reason Reason
	// Err is nil or permission.ErrServiceMismatch. When it is not nil there is no answer:
	// the caller replies with a Service refusal, not with a deny (spec 3, rule 4).
	Err error
	// Malformed, with ReasonMalformed, says what is wrong with the request's text.
	Malformed error
	// Group, Policy and Statement, with ReasonAllowed, name what allows it, and
	// Permission is the statement's pair, as it is written.
	Group, Policy, Statement string
	Permission               permission.Permission
}

// A ThingPolicy decides for one thing under one revision. It never changes, so any
// number of goroutines may use it. A nil ThingPolicy denies.
type ThingPolicy struct {
	thing     messages.ThingName
	groups    []*group // those with different policies
	component bool
}

var componentPolicy = &ThingPolicy{component: true}

// Component returns what applies to the session of an internal component: everything is
// allowed, before any parsing (client-device-auth spec 3.3).
func Component() *ThingPolicy { return componentPolicy }

// Thing returns the thing this decides for; it is empty for a component.
func (t *ThingPolicy) Thing() messages.ThingName {
	if t == nil {
		return ""
	}
	return t.thing
}

// Evaluate decides a request (client-device-auth spec 3). It allocates nothing.
func (t *ThingPolicy) Evaluate(operation, resource string) Decision {
	if t != nil && t.component {
		return Decision{Allowed: true, Reason: ReasonComponent}
	}
	r, err := permission.ParseRequest(operation, resource)
	switch {
	case err == nil:
	case errors.Is(err, permission.ErrMalformed):
		return Decision{Reason: ReasonMalformed, Malformed: err}
	default:
		return Decision{Reason: ReasonServiceMismatch, Err: err}
	}
	if t == nil || len(t.groups) == 0 {
		return Decision{Reason: ReasonNoGroup}
	}
	for _, g := range t.groups {
		if rule := g.policy.set.Match(r, string(t.thing)); rule >= 0 {
			return Decision{
				Allowed:    true,
				Reason:     ReasonAllowed,
				Group:      g.name,
				Policy:     g.policy.name,
				Statement:  g.policy.statements[g.policy.statementOf[rule]].Name,
				Permission: g.policy.permissions[rule],
			}
		}
	}
	return Decision{Reason: ReasonNoStatement}
}

// ConnectAllowed says whether the thing may connect under its own name.
func (t *ThingPolicy) ConnectAllowed() bool {
	return t.Evaluate("mqtt:connect", "mqtt:clientId:"+string(t.Thing())).Allowed
}

// EvaluateBytes is Evaluate for texts in buffers that the caller may reuse afterwards.
func (t *ThingPolicy) EvaluateBytes(operation, resource []byte) Decision {
	// Evaluate keeps neither text: a Decision names only what the document holds.
	return t.Evaluate(
		unsafe.String(unsafe.SliceData(operation), len(operation)),
		unsafe.String(unsafe.SliceData(resource), len(resource)))
}
