package dst

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Stage is what a plan is played on: a whole Gatehouse with its cloud, brokers and devices.
// One goroutine uses it.
type Stage interface {
	// Do does what the action says, now, or begins it: what becomes of it the witness hears.
	Do(a *Action)
	// Step runs one thing, and lets time pass to it if nothing is ready. It reports false, with
	// the time at until, when nothing is left to do before.
	Step(until time.Duration) bool
	// Now is the true time since the beginning.
	Now() time.Duration
	// Heal ends all faults: link, network, store and cloud are well, clocks are right and
	// synchronised, what is down starts, scheduling is fair. What faults have done stays.
	Heal()
	// Core is the life of the core's process at the moment; nil: it does not run.
	Core() *Core
	// Log is the log on its disk.
	Log() eventlog.Log
	// Trace is the hash over all that happened so far, Steps how much that was, and Last its
	// last lines, if they are kept.
	Trace() Trace
	Steps() uint64
	Last() []string
	// Close ends it.
	Close()
}

// Core is one life of the core's process, as far as one may look into it: to compare what is
// folded from the log, and for T2, never to judge by it.
type Core struct {
	Life  int // counts from 1
	Views *projections.Views
	// TrustMs is the trust clock; Certain: the time is known.
	TrustMs func() int64
	Certain func() bool
	// Quiet reports whether nothing is on its way to the log, decided or waiting to be.
	Quiet func() bool
}

// Outcome is what came of asking for something.
type Outcome uint8

// The outcomes.
const (
	Unavailable Outcome = iota // nobody could say
	Busy                       // come back
	Denied
	Closed // the session is over
	Allowed
)

// String names the outcome.
func (o Outcome) String() string {
	return [...]string{"unavailable", "busy", "denied", "closed", "allowed"}[o]
}

// Ask is one thing that a client asked of its broker, and what came of it.
type Ask struct {
	Op      Kind // Connect, Publish, Subscribe
	Client  int
	Broker  int
	Begun   time.Duration // when the broker was asked; the answer is now
	Outcome Outcome
	// Name is the client id that was claimed, or the topic or filter.
	Name string
	// Cert is the certificate that was presented (Connect), CertID its id.
	Cert   Cert
	CertID messages.CertificateID
	// Session is the session that was opened, or that the client has.
	Session messages.TokenDigest
	// ClientThing is what the broker takes the client of an open session for.
	ClientThing messages.ThingName
}

// Witness sees what happens, when it happens. It must not change anything.
type Witness interface {
	// Asked: a client has its answer.
	Asked(a *Ask)
	// Dropped: a broker has ended a client's connection since its session is over.
	Dropped(client, broker int, session messages.TokenDigest, why string)
	// Replied: the reply to an operator's order, or a document's, was seen; nil: it never will
	// be, since the process died.
	Replied(a *Action, begun time.Duration, r messages.Reply)
	// CloudSaid: an answer of the cloud has reached the core's process. The cloud gave it at
	// asked, perhaps by what it had known a while before; silence is as the core takes it.
	CloudSaid(q *messages.CloudQuestion, asked time.Duration, a *messages.CloudAnswer)
	// Listed: the outcome of a listing has reached it.
	Listed(l *messages.AssociationList)
	// Registered: the cloud knows a newcomer from now on, by this certificate.
	Registered(c Cert)
	// Durable: these records are on disk from now on, and nobody was told before.
	Durable(records []messages.Record)
	// Began: the process runs, all was folded from the log. Died: it does not any more.
	Began(c *Core)
	// Booted: the machine has power again, which it had not for that long.
	Booted(off time.Duration)
	// Failed: an append failed; the process is about to end of it.
	Failed(life int)
	Died(life int, how string)
	// Pushed: a push that left the core at sent has reached a broker's client.
	Pushed(broker int, sent time.Duration)
	// Serves: a broker shows this certificate from now on: the chain, leaf first, and the
	// authorities that clients are told to trust.
	Serves(broker int, chain, bundle [][]byte)
	// Fault: a fault took effect; Over: it is over. f may be several.
	Fault(f Faults)
	Over(f Faults)
}
