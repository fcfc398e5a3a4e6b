package load

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// An Op is a kind of request whose times are measured.
type Op uint8

// The kinds. The first ten are asked by a mix's operations; what follows comes of them.
const (
	Publish Op = iota
	Subscribe
	Permissions
	Verify
	Connect
	Disconnect
	Stranger
	Imposter
	Revoke  // until the operator has the answer
	Release // the same, for the end of a quarantine
	Felt    // from the order to revoke until the session's end was heard at its broker
	Probe   // what a revoked device tries; it must be denied
	Back    // in a storm: from a device's first try until it is in
	opCount
)

var opNames = [opCount]string{"publish", "subscribe", "permissions", "verify", "connect", "disconnect", "stranger", "imposter", "revoke", "release", "felt", "probe", "back"}

// String names the kind as results do.
func (o Op) String() string { return opNames[o] }

// asks reports whether there is a request for each of the kind: else it is what comes of
// others.
func (o Op) asks() bool { return o != Felt && o != Back }

// opDocs says what each kind is, in results.
var opDocs = [opCount]string{
	"may a device publish?", "may a device subscribe?", "what may a device do at all?", "is a certificate a client device's?",
	"a device connects: authenticate", "a device disconnects: close", "somebody unknown connects; must be denied", "a device connects under another's name; must be denied",
	"an operator quarantines a device, until it is on record", "an operator releases a device", "from the order to revoke until the session's end was heard",
	"a revoked device tries; must be denied", "storm: from a device's first try until it is in",
}

// An Outcome is what became of a request.
type Outcome uint8

// The outcomes. Only Allowed is a yes, only Denied and Closed are a no.
const (
	Allowed     Outcome = iota
	Denied              // the answer was no
	Closed              // there is no such session any more
	Busy                // come again later
	Unavailable         // not ready, being registered, or nobody there
	TimedOut            // no answer in time
	Failed              // an answer that makes no sense, or an error inside
	Unsent              // too many others were waiting: it was never sent
	outcomeCount
)

var outcomeNames = [outcomeCount]string{"allowed", "denied", "closed", "busy", "unavailable", "timeout", "failed", "unsent"}

// String names the outcome as results do.
func (o Outcome) String() string { return outcomeNames[o] }

// A Question is one request.
type Question struct {
	Op       Op
	Broker   int      // whom it goes through
	Device   *Device  // whose certificate is shown
	ClientID string   // as whom: the device's name, but for an imposter
	Session  *Session // which the request is about; nil for those that open one
	Topic    string   // of Publish and Subscribe
	probe    bool     // it counts as Probe
}

// A Session is a device's open connection, as its driver keeps it.
type Session struct {
	Key   string // names it; Driver.Ended's argument
	token string // NATS
	conn  *mqttConn
}

// An Answer is what came of a Question.
type Answer struct {
	Outcome     Outcome
	At          time.Time // when it was here
	Session     *Session  // opened, if Connect, Stranger or Imposter was allowed
	Permissions []permission.Permission
	RetryAfter  time.Duration // with Busy and Unavailable; 0: not said
	Note        string        // with an outcome that is no decision: what was wrong
	Hopeless    bool          // to try again would change nothing
}

// A Driver carries requests to a Gatehouse.
type Driver interface {
	// Ask begins a request and does not wait. done is called exactly once, within the
	// driver's time-out, on another goroutine.
	Ask(q Question, done func(Answer))
	// Listen has ended called, on any goroutine, when the other side ends a session, also one
	// whose opening is not known here yet. It is called once, before Ask.
	Listen(ended func(key, reason string))
	// Drop breaks a session off, as a broker does that restarts or a device that loses its
	// network: nobody is told.
	Drop(*Session)
	// Stale is how long after a revocation is on record what a session does may still be
	// allowed: the time that its broker's copy of its permissions serves.
	Stale() time.Duration
	// Can reports whether the driver knows a kind of request.
	Can(Op) bool
	// Brokers is how many there are to ask through.
	Brokers() int
	// Close ends it. Nothing is asked any more.
	Close()
}
