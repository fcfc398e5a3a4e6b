package authapi

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// VerifyReply answers verify.
type VerifyReply struct {
	IsValidClientDevice bool `json:"isValidClientDevice"`
}

// ParseVerifyReply reads the body of a verify reply. As with all replies, one that
// cannot be read, or lacks what decides, is an error: never a yes.
func ParseVerifyReply(body []byte) (VerifyReply, error) {
	var a VerifyReply
	seen := false
	if err := decode(body, decisive("isValidClientDevice", &a.IsValidClientDevice, &seen)); err != nil {
		return VerifyReply{}, fmt.Errorf("verify reply: %w", err)
	}
	if !seen {
		return VerifyReply{}, errors.New("verify reply: no isValidClientDevice")
	}
	return a, nil
}

// TokenReply answers token.
type TokenReply struct {
	ClientDeviceAuthToken string `json:"clientDeviceAuthToken"`
}

// ParseTokenReply reads the body of a token reply.
func ParseTokenReply(body []byte) (TokenReply, error) {
	var a TokenReply
	if err := decode(body, field{"clientDeviceAuthToken", text(&a.ClientDeviceAuthToken)}); err != nil {
		return TokenReply{}, fmt.Errorf("token reply: %w", err)
	}
	if a.ClientDeviceAuthToken == "" {
		return TokenReply{}, errors.New("token reply: no clientDeviceAuthToken")
	}
	return a, nil
}

// AuthorizeReply answers authorize. AsOf is the sequence number of the last event in
// the log that the answer rests on, PolicyRevision that of the policy in force.
type AuthorizeReply struct {
	IsAuthorized   bool   `json:"isAuthorized"`
	AsOf           uint64 `json:"asOf"`
	PolicyRevision uint64 `json:"policyRevision"`
}

// AppendTo appends the JSON of a to dst; it allocates nothing when dst has room for
// AuthorizeReplyMaxBytes more.
func (a AuthorizeReply) AppendTo(dst []byte) []byte {
	dst = append(dst, `{"isAuthorized":`...)
	dst = strconv.AppendBool(dst, a.IsAuthorized)
	dst = append(dst, `,"asOf":`...)
	dst = strconv.AppendUint(dst, a.AsOf, 10)
	dst = append(dst, `,"policyRevision":`...)
	dst = strconv.AppendUint(dst, a.PolicyRevision, 10)
	return append(dst, '}')
}

// AuthorizeReplyMaxBytes is the longest JSON of an AuthorizeReply.
const AuthorizeReplyMaxBytes = 96

// ParseAuthorizeReply reads the body of an authorize reply.
func ParseAuthorizeReply(body []byte) (AuthorizeReply, error) {
	var a AuthorizeReply
	seen := false
	err := decode(body,
		decisive("isAuthorized", &a.IsAuthorized, &seen),
		field{"asOf", count(&a.AsOf)},
		field{"policyRevision", count(&a.PolicyRevision)},
	)
	if err != nil {
		return AuthorizeReply{}, fmt.Errorf("authorize reply: %w", err)
	}
	if !seen {
		return AuthorizeReply{}, errors.New("authorize reply: no isAuthorized")
	}
	return a, nil
}

// GrantReply answers authenticate and permissions.
type GrantReply struct {
	// IsConnectAuthorized says whether the policy lets the client connect under its
	// id. When false there is no session: the token is empty and nothing is permitted.
	IsConnectAuthorized   bool   `json:"isConnectAuthorized"`
	ClientDeviceAuthToken string `json:"clientDeviceAuthToken,omitempty"`
	ThingName             string `json:"thingName"`
	CertificateID         string `json:"certificateId"`

	// Permissions is all the session may do under PolicyRevision, with variables
	// filled in. It is not sent, and PermissionsOmitted is true, when it would
	// outgrow a message: then each action has to be asked with authorize.
	Permissions        []permission.Permission `json:"permissions"`
	PermissionsOmitted bool                    `json:"permissionsOmitted,omitempty"`
	PolicyRevision     uint64                  `json:"policyRevision"`

	// ExpiresAt is when the session's trust ends at the latest; the zero time means
	// no known end. CacheTTLMs is how long Permissions may be used without asking
	// again, as long as pushes keep arriving (MaxStale).
	ExpiresAt  time.Time `json:"-"`
	CacheTTLMs uint64    `json:"cacheTtlMs"`

	// DecisionID names the decision in the daemon's log, for `gatehouse explain`.
	DecisionID string `json:"decisionId"`
}

// MarshalJSON writes ExpiresAt in RFC 3339 with milliseconds, UTC.
func (a GrantReply) MarshalJSON() ([]byte, error) { return a.appendTo(nil), nil }

// appendTo writes a by hand: authenticate is the busiest request after authorize, and
// encoding/json takes twenty times as long for a reply with MarshalJSON in it.
func (a GrantReply) appendTo(dst []byte) []byte {
	if dst == nil {
		n := 384 + len(a.ThingName) + len(a.DecisionID)
		for i := range a.Permissions {
			n += len(a.Permissions[i].Operation) + len(a.Permissions[i].Resource) + 32
		}
		dst = make([]byte, 0, n)
	}
	dst = append(dst, `{"isConnectAuthorized":`...)
	dst = strconv.AppendBool(dst, a.IsConnectAuthorized)
	if a.ClientDeviceAuthToken != "" {
		dst = appendString(append(dst, `,"clientDeviceAuthToken":`...), a.ClientDeviceAuthToken)
	}
	dst = appendString(append(dst, `,"thingName":`...), a.ThingName)
	dst = appendString(append(dst, `,"certificateId":`...), a.CertificateID)
	dst = append(dst, `,"permissions":[`...)
	for i := range a.Permissions {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(append(dst, `{"operation":`...), a.Permissions[i].Operation)
		dst = appendString(append(dst, `,"resource":`...), a.Permissions[i].Resource)
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	if a.PermissionsOmitted {
		dst = append(dst, `,"permissionsOmitted":true`...)
	}
	dst = strconv.AppendUint(append(dst, `,"policyRevision":`...), a.PolicyRevision, 10)
	dst = strconv.AppendUint(append(dst, `,"cacheTtlMs":`...), a.CacheTTLMs, 10)
	dst = appendString(append(dst, `,"decisionId":`...), a.DecisionID)
	if !a.ExpiresAt.IsZero() {
		dst = append(a.ExpiresAt.UTC().AppendFormat(append(dst, `,"expiresAt":"`...), instantLayout), '"')
	}
	return append(dst, '}')
}

// instantLayout is RFC 3339 with milliseconds.
const instantLayout = "2006-01-02T15:04:05.000Z07:00"

// AppendGrant appends the JSON of a to dst, without its permissions if they do not fit.
func AppendGrant(dst []byte, a GrantReply) ([]byte, error) {
	b := a.appendTo(dst)
	if len(b)-len(dst) > MaxMessageBytes && len(a.Permissions) > 0 {
		a.Permissions, a.PermissionsOmitted = nil, true
		b = a.appendTo(dst)
	}
	if n := len(b) - len(dst); n > MaxMessageBytes {
		return dst, fmt.Errorf("encode grant: %d bytes, want at most %d", n, MaxMessageBytes)
	}
	return b, nil
}

// ParseGrantReply reads the body of an authenticate or permissions reply.
func ParseGrantReply(body []byte) (GrantReply, error) {
	var a GrantReply
	seen := false
	each := func(r *reader) error {
		var p permission.Permission
		err := object(field{"operation", operation(&p.Operation)}, field{"resource", text(&p.Resource)})(r)
		if err == nil && (p.Operation == "" || p.Resource == "") {
			err = errors.New("a permission needs operation and resource")
		}
		a.Permissions = append(a.Permissions, p)
		return err
	}
	err := decode(body,
		decisive("isConnectAuthorized", &a.IsConnectAuthorized, &seen),
		field{"clientDeviceAuthToken", text(&a.ClientDeviceAuthToken)},
		field{"thingName", text(&a.ThingName)},
		field{"certificateId", text(&a.CertificateID)},
		field{"permissions", list(each)},
		field{"permissionsOmitted", flag(&a.PermissionsOmitted)},
		field{"policyRevision", count(&a.PolicyRevision)},
		field{"expiresAt", instant(&a.ExpiresAt)},
		field{"cacheTtlMs", count(&a.CacheTTLMs)},
		field{"decisionId", text(&a.DecisionID)},
	)
	switch {
	case err != nil:
	case !seen:
		err = errors.New("no isConnectAuthorized")
	case a.IsConnectAuthorized && (a.ClientDeviceAuthToken == "" || a.ThingName == ""):
		err = errors.New("connect is authorized, but there is no token or no thing name")
	}
	if err != nil {
		return GrantReply{}, fmt.Errorf("grant reply: %w", err)
	}
	return a, nil
}

// operation is text, without a copy of its own of what most permissions name.
func operation(p *string) sink {
	return func(r *reader) error {
		if r.null() {
			return nil
		}
		b, err := r.string()
		for _, known := range operations {
			if string(b) == known {
				*p = known
				return err
			}
		}
		*p = string(b)
		return err
	}
}

var operations = [...]string{"mqtt:publish", "mqtt:subscribe", "mqtt:connect", "mqtt:*", "*"}

// CloseReply answers close.
type CloseReply struct{}

// ParseCloseReply reads the body of a close reply.
func ParseCloseReply(body []byte) (CloseReply, error) {
	if err := decode(body); err != nil {
		return CloseReply{}, fmt.Errorf("close reply: %w", err)
	}
	return CloseReply{}, nil
}

// decisive is a boolean field that must be there.
func decisive(name string, p, seen *bool) field {
	return field{name, func(r *reader) error {
		*seen = true
		return flag(p)(r)
	}}
}
