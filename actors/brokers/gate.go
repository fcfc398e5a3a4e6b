// Package brokers is where message brokers meet the core: the desk that answers their
// requests over NATS, the pushes that tell them what has changed, and the embedded NATS
// server with its users. It knows the protocol (messages/authapi) and nothing of actors
// or the log: what it asks of them is the interface Gate.
package brokers

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// Caller says where a request came from. Broker is who the request's subject says, which
// NATS permissions enforce; nothing in a body can change it. Request names the request
// within its broker.
type Caller struct {
	Broker  messages.BrokerID
	Request string
}

// Gate is the core as the desk sees it. All methods may be called from several
// goroutines at once and must not block: those that wait for the log or the cloud take
// a reply function, which they call exactly once, on any goroutine, possibly before they
// return. An error that wraps *messages.Refusal is told to the broker by its code; any
// other error is a Service error. A token is good only for the broker it was issued to:
// for another one it is an unknown token.
//
// Byte slices are the caller's: a method that needs one after it has returned copies it.
// DER arguments are an exception: they may be kept, and nobody changes them.
type Gate interface {
	// VerifyIdentity says whether der is a certificate that the core trusts.
	VerifyIdentity(c Caller, der []byte, reply func(valid bool, err error))
	// OpenSession opens a session for the client that presented der, whatever the
	// policy says.
	OpenSession(c Caller, clientID string, der []byte, reply func(Session, error))
	// Authenticate verifies der (nil if the client presented no certificate), decides whether the client may connect and, if so,
	// opens a session.
	Authenticate(c Caller, clientID string, der []byte, reply func(Grant, error))
	// Permissions returns what the session may do under the policy in force.
	Permissions(c Caller, token []byte) (Grant, error)
	// Authorize says whether the session may do operation on resource. It is a pure read
	// of memory and allocates nothing.
	Authorize(broker messages.BrokerID, token, operation, resource []byte) (Verdict, error)
	// CloseSession ends the session. An unknown token is no error.
	CloseSession(c Caller, token []byte, reply func(error))
}

// Session is an opened session: the token and the thing it belongs to.
type Session struct {
	Token messages.Token
	Thing messages.ThingName
}

// Grant is what a session may do. With ConnectAuthorized false there is no session, and
// Token and Permissions are empty.
type Grant struct {
	ConnectAuthorized bool
	Token             messages.Token
	Thing             messages.ThingName
	CertificateID     messages.CertificateID
	Permissions       []permission.Permission // with variables filled in
	PolicyRevision    uint64
	ExpiresAt         time.Time     // when trust ends at the latest; zero if no end is known
	CacheTTL          time.Duration // how long a broker may use Permissions without asking
	DecisionID        string        // for `gatehouse explain`
}

// Verdict is the answer to an authorization. Its zero value denies.
type Verdict struct {
	Allowed        bool
	AsOf           uint64 // sequence number of the last event the answer rests on
	PolicyRevision uint64
}

// Clock is the time the desk goes by. Its methods may be called from several goroutines
// at once.
type Clock interface {
	Now() time.Time
	// AfterFunc calls f on a goroutine of its own after d, unless stop is called first.
	AfterFunc(d time.Duration, f func()) (stop func() bool)
}
