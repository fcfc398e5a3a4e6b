package tokenexchange

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
)

// Credentials are one set of a role's temporary keys.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey Secret
	SessionToken    Secret
	Expiration      time.Time // UTC, by the cloud's clock
}

// Secret is text that nothing prints: who needs it asks for it by Reveal.
type Secret string

// Reveal is the secret itself.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer.
func (Secret) String() string { return "[secret]" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "[secret]" }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("[secret]") }

// MarshalText implements encoding.TextMarshaler.
func (Secret) MarshalText() ([]byte, error) { return []byte("[secret]"), nil }

// Failure says why there are no credentials.
type Failure struct {
	// Status is of the cloud's answer; 0: there was none that counts.
	Status int
	// Code is the name of the error, the cloud's where it gave one.
	Code string
	// Message is one line for people. It holds nothing of an answer that may have held a secret.
	Message string
	// passing: nothing is learnt from it about the next question, so that it is not kept.
	passing bool
}

// Error implements error.
func (f *Failure) Error() string { return f.Message }

// The codes of failures of our own.
const (
	CodeUnavailable = "CredentialsUnavailable" // the cloud cannot be asked, or its answer is none
	CodeTimeout     = "CredentialsTimeout"     // it did not answer while the caller waited
)

// LocalStatus is what a local caller is answered with: the cloud's own status where it said
// no (cloud spec 2), 504 for waiting too long, else 500.
func (f *Failure) LocalStatus() int {
	switch {
	case f.Code == CodeTimeout:
		return http.StatusGatewayTimeout
	case f.Status >= 400 && f.Status <= 599:
		return f.Status
	default:
		return http.StatusInternalServerError
	}
}

// ErrClosed is returned by a Cache that was closed.
var ErrClosed = errors.New("the token exchange has ended")

func unavailable(status int, format string, args ...any) *Failure {
	return &Failure{Status: status, Code: CodeUnavailable, Message: wire.Detail("%s", fmt.Sprintf(format, args...))}
}
