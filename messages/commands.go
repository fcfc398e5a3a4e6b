package messages

import "time"

// Command is an order to one entity. The entity is named by Target.
type Command interface {
	// Target names the stream of the entity that decides.
	Target() StreamID
	// Lane says how urgent the command is when there is more work than time.
	Lane() Lane
}

// Lane ranks commands under load: what restricts and what operators ask first, then
// devices that are known, then those that nobody has seen (design.md, section 5).
type Lane uint8

// The lanes, most urgent first.
const (
	LaneRestrict Lane = iota
	LaneToken
	LaneRegister
	Lanes // how many there are
)

// Input is a command as the host hands it to a decider: with the moment it was taken
// up, fresh random bytes, and where it came from. Deciders read nothing else.
type Input struct {
	Command Command
	At      Instant
	Nonce   [32]byte // secret: tokens are made of it
	Cause   Cause
}

// Decision is what a decider makes of an input, as plain data. The host appends the
// events, then folds them, then runs the effects, then gives the reply: in this order,
// so that nobody sees an answer before the events it rests on are durable.
type Decision struct {
	Events  []Event
	Effects []Effect
	Reply   Reply // nil if the reply comes later, with the answer to an AskCloud
}

// Reply is an answer to a command: one of the types below, or *Refusal.
type Reply any

// Effect is a request to the outside, run after the events of its decision are
// durable.
type Effect interface{ isEffect() }

// CloudQuestion is one of the two questions about a device that only the cloud can
// answer (client-device-auth spec 5.1, 5.2).
type CloudQuestion struct {
	Certificate CertificateID
	DER         []byte    // with an identity question: the certificate
	Thing       ThingName // with an association question; empty otherwise
	// Stranger: nothing is held about what is asked, so anyone may have brought it about.
	// Strangers have a share of the way to the cloud; the devices that work here must not
	// be shut out by them.
	Stranger bool
	// Background: no device waits for the answer. What is asked about loses its trust at
	// EndsMs (trust time); the soonest goes first, and 0, nothing stored, goes last.
	Background bool
	EndsMs     int64
}

// AskCloud asks Question and comes back to the same entity as CloudAnswered with Then,
// the command that needs the answer. Its reply is the answer's.
type AskCloud struct {
	Question CloudQuestion
	Then     Command
	// Late says that what is stored will do: then a device waits for the cloud only a
	// moment, after which its silence is the answer. A no that comes after that is the answer
	// to this command. Nil: the answer is waited for.
	Late Command
}

// Tell sends Command to its own target and forgets about it. It must be harmless to
// repeat and to lose: what it does is found again from the log.
type Tell struct{ Command Command }

func (AskCloud) isEffect() {}
func (Tell) isEffect()     {}

// VerifyCertificate orders the certificate entity to say whether its certificate is
// good. Answer: Verified.
type VerifyCertificate struct {
	Certificate CertificateID
	DER         []byte
	NotBefore   time.Time
	NotAfter    time.Time
	Subject     string // for people; at most 256 bytes
}

// RecheckCertificate orders the certificate entity to ask the cloud again about a
// certificate it holds, without a device waiting. Answer: Rechecked.
type RecheckCertificate struct {
	Certificate CertificateID
	Refresh     bool // as part of a refresh: every yes is recorded, and silence changes nothing
}

// DropCertificate orders the certificate entity to forget its certificate, unless it was
// confirmed after VerifiedMs: no thing that is associated with this core holds it. Answer:
// Done.
type DropCertificate struct {
	Certificate CertificateID
	VerifiedMs  int64
	Reason      string
}

// CloudAnswered brings the cloud's answer to the command that needed it. AskedMs is
// the trust time of the question: an answer to a question that is older than a later
// "no" proves nothing.
type CloudAnswered struct {
	Answer  CloudAnswer
	AskedMs int64
	Then    Command
}

// OpenSession orders the device entity to authenticate Thing by Certificate, which was
// verified before. Answer: SessionReady.
type OpenSession struct {
	Thing       ThingName
	Certificate CertificateID
	Broker      BrokerID
	Connect     bool // the policy must let the device connect, or there is no session
}

// OpenComponent orders the entity of an internal component to open a session for it: its
// client certificate was issued by the local authority, which has been checked. Answer:
// SessionReady.
type OpenComponent struct {
	Component   ComponentName
	Certificate CertificateID
	NotBefore   time.Time
	NotAfter    time.Time
	Broker      BrokerID
}

// RecheckAttachment orders the device entity to ask the cloud again whether
// Certificate belongs to it. Answer: Rechecked.
type RecheckAttachment struct {
	Thing       ThingName
	Certificate CertificateID
	Refresh     bool // as with RecheckCertificate
}

// CloseSession orders the device entity, or a component's, to end one session. Answer:
// Done, also when there is no such session.
type CloseSession struct {
	Thing     ThingName
	Component ComponentName // in place of Thing
	Session   TokenDigest
	Reason    CloseReason
	Detail    string
}

// CloseSessions orders the device entity, or a component's, to end all sessions that were
// opened with Certificate, or all if it is empty. Answer: Done.
type CloseSessions struct {
	Thing       ThingName
	Component   ComponentName // in place of Thing
	Certificate CertificateID
	Reason      CloseReason
	Detail      string
}

// QuarantineDevice orders the device entity to refuse the device until it is released.
// Answer: Done.
type QuarantineDevice struct {
	Thing  ThingName
	Source Source
	Reason string
}

// ReleaseDevice ends a quarantine. Answer: Done.
type ReleaseDevice struct {
	Thing  ThingName
	Source Source
	Reason string
}

// ForgetDevice removes a device: its attachments and its sessions. Answer: Done.
type ForgetDevice struct {
	Thing  ThingName
	Source Source
	Reason string
}

// RecordDenial records that something was refused. Answer: Done.
type RecordDenial struct {
	Known  bool // the thing has an entity; otherwise it goes to the strangers' stream
	Denial *AccessDenied
}

// ReplacePolicy orders the policy entity to take a deviceGroups document into force.
// Answer: Replaced or Rejected.
type ReplacePolicy struct {
	Document []byte
	Source   Source
	Origin   string
}

// ReplaceConfig orders the configuration entity to take a clientDeviceAuth document
// into force. Answer: Replaced or Rejected.
type ReplaceConfig struct {
	Document []byte
	Source   Source
	Origin   string
}

// RejectConfig orders the configuration entity to put on record that the file which holds
// its document cannot be used, for Errors, each with its place in the file: what stands
// outside clientDeviceAuth is read before there is a document. Answer: Rejected.
type RejectConfig struct {
	Document []byte // the file's bytes
	Origin   string
	Errors   []string
}

// MarkClock orders the clock entity to note where the trust clock stands. Answer: Done.
type MarkClock struct{ Mark *ClockMarked }

// Note orders a core entity to record a fact that needs no judgement: the core started
// or stopped, the network came or went. Answer: Done.
type Note struct {
	Stream StreamID
	Event  Event
}

// DueWork is what there is to do about live sessions at one moment: whose trust to
// renew, and what to close because it has ended.
type DueWork struct {
	Certificates []RecheckCertificate
	Attachments  []RecheckAttachment
	Lapsed       []CloseSessions
}

// Rechecked answers RecheckCertificate, RecheckAttachment and ConfirmPending. The zero value: nothing is
// held that could be asked about.
type Rechecked struct {
	Asked   bool
	Verdict CloudVerdict
	Failure CloudFailure // with CloudSilent
	// Wait: the queue to the cloud had no room for the question; put it again after that. 0:
	// it had.
	Wait time.Duration
}

// Verified answers VerifyCertificate.
type Verified struct {
	Valid  bool
	Source Source // on whose word
	Reason string // for the audit trail
	// Component is the internal component that the certificate belongs to; empty: none.
	Component ComponentName
	Want      Want // unless Valid
}

// SessionReady answers OpenSession, OpenComponent and AdmitPending. Token is a secret and is given to the broker once.
type SessionReady struct {
	Token       Token
	Thing       ThingName
	Component   ComponentName // in place of Thing
	Certificate CertificateID
	Source      Source
	Pending     bool // the session of a pending device
}

// Replaced answers ReplacePolicy and ReplaceConfig: the document is in force.
type Replaced struct {
	Revision string
	Changed  bool // false: it was in force already
}

// Rejected answers ReplacePolicy, ReplaceConfig and RejectConfig: the former document stays in force.
type Rejected struct{ Errors []string }

// ConnectDenied answers OpenSession and AdmitPending when the device is who it says, and the policy does
// not let it connect. There is no session.
type ConnectDenied struct {
	Thing       ThingName
	Certificate CertificateID
}

// Done answers a command that has nothing to say.
type Done struct{ Seq uint64 } // the last event's sequence number, 0 if there was none

// Target implements Command.
func (c VerifyCertificate) Target() StreamID { return CertificateStream(c.Certificate) }

// Target implements Command.
func (c RecheckCertificate) Target() StreamID { return CertificateStream(c.Certificate) }

// Target implements Command.
func (c DropCertificate) Target() StreamID { return CertificateStream(c.Certificate) }

// Target implements Command.
func (c CloudAnswered) Target() StreamID { return c.Then.Target() }

// Target implements Command.
func (c OpenSession) Target() StreamID { return DeviceStream(c.Thing) }

// Target implements Command.
func (c RecheckAttachment) Target() StreamID { return DeviceStream(c.Thing) }

// Target implements Command.
func (c CloseSession) Target() StreamID { return holder(c.Thing, c.Component) }

// Target implements Command.
func (c CloseSessions) Target() StreamID { return holder(c.Thing, c.Component) }

// holder is the stream of who has sessions.
func holder(thing ThingName, component ComponentName) StreamID {
	if component != "" {
		return ComponentStream(component)
	}
	return DeviceStream(thing)
}

// Target implements Command.
func (c OpenComponent) Target() StreamID { return ComponentStream(c.Component) }

// Target implements Command.
func (c QuarantineDevice) Target() StreamID { return DeviceStream(c.Thing) }

// Target implements Command.
func (c ReleaseDevice) Target() StreamID { return DeviceStream(c.Thing) }

// Target implements Command.
func (c ForgetDevice) Target() StreamID { return DeviceStream(c.Thing) }

// Target implements Command.
func (ReplacePolicy) Target() StreamID { return StreamPolicy }

// Target implements Command.
func (ReplaceConfig) Target() StreamID { return StreamConfig }

// Target implements Command.
func (RejectConfig) Target() StreamID { return StreamConfig }

// Target implements Command.
func (MarkClock) Target() StreamID { return StreamClock }

// Target implements Command.
func (c Note) Target() StreamID { return c.Stream }

// Target implements Command.
func (c RecordDenial) Target() StreamID {
	if c.Known {
		return DeviceStream(ThingName(c.Denial.Thing))
	}
	return StreamStrangers
}

// Lane implements Command.
func (VerifyCertificate) Lane() Lane { return LaneRegister }

// Lane implements Command.
func (RecheckCertificate) Lane() Lane { return LaneToken }

// Lane implements Command.
func (DropCertificate) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (CloudAnswered) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (OpenSession) Lane() Lane { return LaneToken }

// Lane implements Command.
func (OpenComponent) Lane() Lane { return LaneToken }

// Lane implements Command.
func (RecheckAttachment) Lane() Lane { return LaneToken }

// Lane implements Command.
func (CloseSession) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (CloseSessions) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (QuarantineDevice) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (ReleaseDevice) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (ForgetDevice) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (ReplacePolicy) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (ReplaceConfig) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (RejectConfig) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (MarkClock) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (Note) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (RecordDenial) Lane() Lane { return LaneRegister }
