package registrar

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// Cloud is what a registrar asks of AWS. Each call is one request, and puts it once; an error
// is a *Problem. Safe for use by many goroutines at once.
type Cloud interface {
	// Certificate describes a certificate; ErrNotThere if the cloud does not know it.
	Certificate(ctx context.Context, id messages.CertificateID) (Certificate, error)
	// Register registers a certificate as INACTIVE, under the authority that signed it.
	// ErrThere: it is registered already.
	Register(ctx context.Context, der, authorityDER []byte) error
	// SetStatus changes a certificate's status, to ACTIVE, INACTIVE or REVOKED.
	SetStatus(ctx context.Context, id messages.CertificateID, status string) error
	// Pending lists a page of an authority's certificates that are PENDING_ACTIVATION. marker
	// is the last page's next, "" for the first; next is "" after the last.
	Pending(ctx context.Context, authority messages.CertificateID, marker string) (ids []messages.CertificateID, next string, err error)

	// Principals returns what a thing is attached to; ErrNotThere if there is no such thing.
	Principals(ctx context.Context, thing messages.ThingName) ([]string, error)
	// CreateThing makes the thing of a plan. ErrThere: it exists, with other attributes.
	CreateThing(ctx context.Context, plan registration.Plan) error
	// AddToGroup puts a thing into a group, where it may be already.
	AddToGroup(ctx context.Context, thing messages.ThingName, group string) error
	// AttachThing attaches a certificate to a thing, or finds it attached. DetachThing takes it
	// away.
	AttachThing(ctx context.Context, thing messages.ThingName, certificateARN string) error
	DetachThing(ctx context.Context, thing messages.ThingName, certificateARN string) error

	// Policy returns a policy's document; ErrNotThere if there is none of that name.
	Policy(ctx context.Context, name string) (document string, err error)
	// CreatePolicy makes a policy. ErrThere: there is one of that name.
	CreatePolicy(ctx context.Context, name, document string) error
	// AttachPolicy attaches a policy to a certificate, or finds it attached.
	AttachPolicy(ctx context.Context, name, certificateARN string) error

	// Associate associates a thing with the core, or finds it associated.
	Associate(ctx context.Context, thing messages.ThingName) error
}

// Certificate is what the cloud says of one.
type Certificate struct {
	ARN       string
	DER       []byte                 // of the certificate whose id was asked for
	Status    string                 // ACTIVE, INACTIVE, REVOKED, PENDING_TRANSFER, REGISTER_INACTIVE, PENDING_ACTIVATION
	Authority messages.CertificateID // it is registered under; "" if under none
	Untouched bool                   // its status is that which it was registered with
}

// Statuses of certificates (cloud spec 4.2).
const (
	StatusActive   = "ACTIVE"
	StatusInactive = "INACTIVE"
	StatusRevoked  = "REVOKED"
	StatusPending  = "PENDING_ACTIVATION"
)

// What the cloud says that is no failure.
var (
	ErrNotThere = errors.New("there is no such resource")
	ErrThere    = errors.New("the resource exists already")
)

// Problem is why the cloud did not do what it was asked. What it wraps is ErrNotThere or
// ErrThere, or nothing.
type Problem struct {
	Class messages.CloudFailure
	// Final: the service has understood, and says no: it will not think otherwise by itself.
	Final      bool
	RetryAfter time.Duration // how long it wants to be left alone; 0: it did not say
	Detail     string        // for people: what, and what to do
	Is         error
}

// Error tells the detail.
func (p *Problem) Error() string { return p.Detail }

// Unwrap is what the service said, if that is no failure.
func (p *Problem) Unwrap() error { return p.Is }

// problemOf is err as a Problem.
func problemOf(err error) *Problem {
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	return &Problem{Class: messages.FailureUnreachable, Detail: err.Error()}
}
