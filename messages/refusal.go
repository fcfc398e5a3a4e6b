package messages

import (
	"fmt"
	"time"
)

// RefusalCode is the closed list of reasons a request is turned away. Adapters
// translate it: to the Greengrass error names on NATS, to reason codes on MQTT.
type RefusalCode uint8

// The refusal codes. A "deny" of an authorization is not among them: it is a normal
// answer.
const (
	RefusedService           RefusalCode = iota // something inside failed; the zero value, so that a forgotten code is never mistaken for a milder one
	RefusedInvalidArguments                     // the request is malformed
	RefusedInvalidCredential                    // the certificate or client id is not accepted
	RefusedInvalidToken                         // no such session for this broker
	RefusedUnauthorized                         // the broker may not ask this
	RefusedBusy                                 // overload: ask again after RetryAfter
	RefusedNotReady                             // starting, stopping, or a log that cannot be written
	RefusedPending                              // the device is being registered: come again after RetryAfter
	refusalCodes
)

// RefusalCodes is how many codes there are; codes run from 0.
const RefusalCodes = int(refusalCodes)

// String names the code as the Greengrass IPC spells its error
// (client-device-auth spec 7.2), with Busy, NotReady and Pending beside them.
func (c RefusalCode) String() string {
	switch c {
	case RefusedInvalidArguments:
		return "InvalidArguments"
	case RefusedInvalidCredential:
		return "InvalidCredential"
	case RefusedInvalidToken:
		return "InvalidClientDeviceAuthToken"
	case RefusedUnauthorized:
		return "Unauthorized"
	case RefusedBusy:
		return "Busy"
	case RefusedNotReady:
		return "NotReady"
	case RefusedPending:
		return "Pending"
	default:
		return "Service"
	}
}

// A Refusal is an answer against the caller. Adapters translate its Code; its Reason
// is for the audit trail and stays on this side of the wire, but for
// InvalidArguments, where it tells the caller what to mend and holds nothing else.
type Refusal struct {
	Code       RefusalCode
	Reason     string
	RetryAfter time.Duration // with RefusedBusy and RefusedPending
}

// Error makes a Refusal an error, so that it travels where errors do.
func (r *Refusal) Error() string { return fmt.Sprintf("%s: %s", r.Code, r.Reason) }

// Refuse builds a Refusal.
func Refuse(code RefusalCode, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Reason: fmt.Sprintf(format, args...)}
}
