package authapi

import (
	"errors"
	"strconv"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Headers. The request id is a broker's to send if it likes; the others come with an
// error reply, the last two as those of every NATS micro service.
const (
	HeaderRequestID = "Gatehouse-Request-Id"
	HeaderError     = "Gatehouse-Error" // the Greengrass name of the error, as messages.RefusalCode spells it
	HeaderMicroText = "Nats-Service-Error"
	HeaderMicroCode = "Nats-Service-Error-Code"
)

// ErrorReply is the body of an error reply. Message tells what to mend in the request
// and is otherwise the same for every cause: why a device was refused is in the
// daemon's audit, not on the wire.
type ErrorReply struct {
	Error        string `json:"error"`
	Message      string `json:"message"`
	RetryAfterMs uint64 `json:"retryAfterMs,omitempty"`
}

// MicroCode is the error code of code on NATS, after HTTP's.
func MicroCode(code messages.RefusalCode) string {
	switch code {
	case messages.RefusedInvalidArguments:
		return "400"
	case messages.RefusedInvalidCredential, messages.RefusedInvalidToken:
		return "401"
	case messages.RefusedUnauthorized:
		return "403"
	case messages.RefusedPending:
		return "425"
	case messages.RefusedBusy:
		return "429"
	case messages.RefusedNotReady:
		return "503"
	default:
		return "500"
	}
}

// CodeNamed returns the code that the header names; an unknown name is Service, which
// is the strictest.
func CodeNamed(name string) messages.RefusalCode {
	for c := range messages.RefusalCode(messages.RefusalCodes) {
		if c.String() == name {
			return c
		}
	}
	return messages.RefusedService
}

// RefusalFor returns the refusal that answers err: the one err wraps, or Service.
func RefusalFor(err error) *messages.Refusal {
	if refusal, ok := errors.AsType[*messages.Refusal](err); ok {
		return refusal
	}
	if errors.Is(err, ErrBadCertificate) {
		return messages.Refuse(messages.RefusedInvalidCredential, "%v", err)
	}
	return messages.Refuse(messages.RefusedService, "%v", err)
}

// ErrorReplyFor returns what the wire shows of refusal.
func ErrorReplyFor(refusal *messages.Refusal) ErrorReply {
	reply := ErrorReply{Error: refusal.Code.String(), Message: publicMessage(refusal)}
	if refusal.Code == messages.RefusedBusy || refusal.Code == messages.RefusedPending {
		reply.RetryAfterMs = max(1, uint64(max(0, refusal.RetryAfter)/time.Millisecond))
	}
	return reply
}

func publicMessage(refusal *messages.Refusal) string {
	switch refusal.Code {
	case messages.RefusedInvalidArguments:
		return refusal.Reason
	case messages.RefusedInvalidCredential:
		return "the credential is not accepted"
	case messages.RefusedInvalidToken:
		return "no such session"
	case messages.RefusedUnauthorized:
		return "this broker may not make this request"
	case messages.RefusedBusy:
		return "too many requests, try again later"
	case messages.RefusedNotReady:
		return "not ready, try again later"
	case messages.RefusedPending:
		return "the device is being registered, try again later"
	default:
		return "internal error, see the log of the daemon"
	}
}

// ReadError returns the refusal in an error reply, of which name is header
// Gatehouse-Error, micro is header Nats-Service-Error-Code and body the body. It
// returns nil when neither header is there: the reply is a normal answer.
func ReadError(name, micro string, body []byte) *messages.Refusal {
	if name == "" && micro == "" {
		return nil
	}
	refusal := &messages.Refusal{Code: CodeNamed(name)}
	var reply ErrorReply
	err := decode(body,
		field{"error", text(&reply.Error)},
		field{"message", text(&reply.Message)},
		field{"retryAfterMs", count(&reply.RetryAfterMs)},
	)
	if err != nil {
		reply = ErrorReply{Message: "error " + strconv.Quote(micro) + " without a readable body"}
	}
	refusal.Reason = reply.Message
	const longest = uint64(time.Hour / time.Millisecond)
	refusal.RetryAfter = time.Duration(min(reply.RetryAfterMs, longest)) * time.Millisecond
	return refusal
}
