// Package permission decides whether a list of permissions covers a request: the part
// of policy evaluation that the policy engine and every broker's cache share, so that
// both give the same answer to the same text (client-device-auth spec 3).
//
// A Set is compiled once and asked many times. A decision allocates nothing, takes time
// linear in the length of the request, and does not slow down with the number of
// permissions whose literal beginnings differ.
package permission

import "errors"

// Limits of what is looked at, in bytes. A longer request is malformed, and so denied.
const (
	// MaxOperationBytes bounds a request's operation and a permission's.
	MaxOperationBytes = 256
	// MaxResourceBytes bounds a request's resource and a permission's: the longest MQTT
	// topic (65,535 bytes, MQTT 5 section 1.5.4) with room for "service:type:" before it.
	MaxResourceBytes = 65_535 + 1_025
	// MaxPermissions bounds a Set. One statement of m operations and n resources is m×n
	// permissions, so a short document can ask for a great many.
	MaxPermissions = 1 << 17
)

// ThingNameVariable is the one variable of format version 2021-03-05
// (client-device-auth spec 3.2).
const ThingNameVariable = "${iot:Connection.Thing.ThingName}"

var (
	// ErrMalformed is wrapped by the reason why a request's text cannot be judged. Such a
	// request is denied; it is not a failure (client-device-auth spec 3, rule 3).
	ErrMalformed = errors.New("malformed request")
	// ErrServiceMismatch says that operation and resource name different services. It is
	// not a deny: callers answer with a Service refusal (client-device-auth spec 3, rule 4).
	ErrServiceMismatch = errors.New("operation and resource name different services")
	// ErrTooLarge is wrapped by Compile's errors.
	ErrTooLarge = errors.New("too large")
)

// A Permission allows one operation on the resources that match a text. Operation is an
// operation as requests spell it, "<service>:*" or "*"; in Resource each '*' stands for
// any run of characters, every other character for itself.
type Permission struct {
	Operation string `json:"operation"`
	Resource  string `json:"resource"`
}

// A Decision is a Set's answer. Its zero value denies.
type Decision struct {
	// Allowed is the answer.
	Allowed bool
	// Rule, when Allowed, is the index of a permission that allows the request, in the
	// list the Set was compiled from. Where several do, it is one of them, always the same.
	Rule int
	// Malformed, when not nil, says why the request's text was denied unjudged; it wraps
	// ErrMalformed.
	Malformed error
	// Err is nil or ErrServiceMismatch. When it is not nil there is no decision, and the
	// caller must answer with an error instead of a deny.
	Err error
}
