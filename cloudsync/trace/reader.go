package trace

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// ErrorKind says why something could not be read.
type ErrorKind int

// The kinds. The zero value says least.
const (
	Unavailable ErrorKind = iota // no answer, or none that can be understood
	NotFound                     // the service says that there is no such thing
	Denied                       // the caller lacks the permission Action
)

// ReadError is what a Reader returns when it cannot read.
type ReadError struct {
	Action string // the IAM action, such as iot:GetPolicy
	Kind   ErrorKind
	Detail string // for people, with what to do
}

// Error says why, and what to do.
func (e *ReadError) Error() string { return e.Detail }

func asReadError(err error) *ReadError {
	if e, ok := errors.AsType[*ReadError](err); ok {
		return e
	}
	return &ReadError{Detail: err.Error()}
}

func isNotFound(err error) bool { return err != nil && asReadError(err).Kind == NotFound }

// Certificate is what AWS IoT says of one.
type Certificate struct {
	ID        messages.CertificateID
	ARN       string
	Status    string
	Authority string // its id; empty: not said
	Mode      string // DEFAULT or SNI_ONLY; empty: not said
	NotBefore time.Time
	NotAfter  time.Time
	DER       []byte // nil: not said
}

// Authority is what AWS IoT says of a registered CA.
type Authority struct {
	ID, Status, AutoRegistration, Mode string
	NotAfter                           time.Time
}

// Policy is an AWS IoT policy's default version.
type Policy struct {
	Name, Version, Document string
}

// RoleAlias is what AWS IoT says of one.
type RoleAlias struct {
	Name, ARN, Role string // Role is the role's ARN
	Duration        time.Duration
}

// Role is an IAM role. Trust is its trust policy, as JSON.
type Role struct {
	Name, ARN, Trust string
	MaxSession       time.Duration
}

// RolePolicy is a policy of a role, inline or attached, as JSON.
type RolePolicy struct {
	Name, Document string
}

// Reader reads what AWS knows, and changes nothing. Errors are ReadErrors. Lists are whole,
// or an error: a Reader bounds how many pages it reads. It is used by one goroutine.
type Reader interface {
	// Thing returns the thing's ARN.
	Thing(ctx context.Context, name messages.ThingName) (arn string, err error)
	// Principals are the ARNs of the thing's principals.
	Principals(ctx context.Context, name messages.ThingName) ([]string, error)
	// Things are those that a principal is attached to.
	Things(ctx context.Context, principal string) ([]messages.ThingName, error)
	// Groups are the ARNs of the groups a thing is in.
	Groups(ctx context.Context, name messages.ThingName) ([]string, error)
	Certificate(ctx context.Context, id messages.CertificateID) (Certificate, error)
	Authority(ctx context.Context, id string) (Authority, error)
	// Attached are the names of the policies of a target: a certificate's or a group's ARN.
	Attached(ctx context.Context, target string) ([]string, error)
	// Policies are the names of the account's policies; more says that there are others.
	Policies(ctx context.Context) (names []string, more bool, err error)
	Policy(ctx context.Context, name string) (Policy, error)
	RoleAliases(ctx context.Context) ([]string, error)
	RoleAlias(ctx context.Context, name string) (RoleAlias, error)
	Role(ctx context.Context, name string) (Role, error)
	RolePolicies(ctx context.Context, name string) ([]RolePolicy, error)
	// ServiceRole is the ARN of the role that Greengrass itself has in the account.
	ServiceRole(ctx context.Context) (arn string, err error)
	// Endpoint is the host of an endpoint type, such as iot:Data-ATS.
	Endpoint(ctx context.Context, kind string) (host string, err error)
	// Associated are client devices of a core; more says that there are others.
	Associated(ctx context.Context, core messages.ThingName) (devices []messages.ThingName, more bool, err error)
	// Skew is how far the cloud's clock was ahead of this machine's in the last answer; known
	// is false without one.
	Skew() (ahead time.Duration, known bool)
}

// ProbeAnswer is what the credentials endpoint said. Of credentials nothing is kept.
type ProbeAnswer struct {
	Status   int
	Message  string // of an error
	Expires  time.Time
	Date     time.Time // the server's; zero: not said
	Asked    time.Time // by this machine's clock, as the next
	Answered time.Time
	Failed   string // why there was no answer, and what to do; "" if there was one
}

// Prober asks the credentials endpoint for a role alias' credentials, as the core.
type Prober interface {
	Probe(ctx context.Context, alias string, thing messages.ThingName) ProbeAnswer
}

// aws is a command of AWS's own command line: each %s of format is a word, quoted where it
// needs to be.
func aws(format string, words ...any) string {
	for i, w := range words {
		words[i] = shellWord(fmt.Sprint(w))
	}
	return "aws " + fmt.Sprintf(format, words...)
}

// shellWord quotes w for a shell unless it needs no quotes.
func shellWord(w string) string {
	plain := w != ""
	for _, r := range w {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.' || r == '/' || r == ':' || r == '=' || r == ',' || r == '@' || r == '+') {
			plain = false
		}
	}
	if plain {
		return w
	}
	quoted := "'"
	for _, r := range w {
		if r == '\'' {
			quoted += `'\''`
		} else {
			quoted += string(r)
		}
	}
	return quoted + "'"
}
