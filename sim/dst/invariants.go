package dst

// Invariant is something that must hold, whatever happens.
type Invariant struct {
	Name     string // as in the reliability spec, section 3
	Sentence string // what must hold, in plain words
	Source   string // where it is promised
}

const (
	specInvariants = "reliability spec 3"
	archFailure    = "ARCHITECTURE.md 7"
)

// invariants are all that a run is held against.
var invariants = []Invariant{
	{"D1", "what was acknowledged, or an answer rested on, is on record and stays there through every crash", specInvariants},
	{"D2", "the read models in use are those that the log gives when it is folded anew", specInvariants},
	{"D3", "a request has its effect once, and no event is on record twice", specInvariants},
	{"D3c", "nobody is forgotten on the cloud's word but after two complete listings that lack it; one, without the guard", "reliability spec 2.3, D3c and D4c"},
	{"D4", "the log grows without gaps, and what is found after a crash begins with all that was there before", specInvariants},
	{"D5", "a log that lost acknowledged records does not open", specInvariants},
	{"D6", "after an append failed, that process lets nobody in any more", specInvariants + "; " + archFailure},
	{"D8", "one process at a time writes the log, and its lives follow each other", specInvariants},
	{"D9", "the log's head is never behind what was acknowledged, and its tree can be recomputed", specInvariants},
	{"D10", "no record is changed once it is there", specInvariants},
	{"S1", "nobody who asks after a revocation was on record, or the cloud had said no, gets in", specInvariants},
	{"S2", "a broker lets nothing pass on what it heard more than 5 s before: a revocation is felt by then", specInvariants + "; authapi.MaxStale"},
	{"S3", "who is let in has all it rests on, on record: session, certificate, attachment", specInvariants},
	{"S4", "what is allowed, a policy that was in force then allows; a document that is bad is not taken", specInvariants},
	{"S5", "nobody gets in while the core is away, with no certificate, or under a name that is no thing's", specInvariants},
	{"S7", "a session serves the client and the broker that it was opened for, and was opened once", specInvariants},
	{"S8", "a certificate is known by the digest of its own bytes, to devices, cloud and log alike", specInvariants},
	{"S10", "a device that nobody registered gets in only where that is allowed, as pending, and as more only when the cloud says so", specInvariants},
	{"S11", "no broker hears of another's sessions", specInvariants},
	{"S12", "while nobody knows the time, trust from before counts for nobody", specInvariants + "; trust.unknownOffTime: strict"},
	{"T1", "nobody is let in on an answer of the cloud that is truly older than the trust duration, but for the declared bound", specInvariants + ", 2.4"},
	{"T2", "trust time does not go back but in a re-anchoring that is on record", specInvariants},
	{"T3", "nobody gets in with a certificate outside its validity", specInvariants},
	{"T4", "trust is renewed by an answer of the cloud that this process heard, and by nothing else", specInvariants},
	{"T5", "trust that was voided lets nobody in until the cloud has confirmed it anew", specInvariants},
	{"C-I1", "the certificate that a broker shows is signed by an authority that devices were given before", specInvariants},
	{"C-I2", "serial numbers are unique, and a certificate is on record before anybody has it", specInvariants},
	{"L1", "every request has an answer, or is given up, within its time", specInvariants + "; ARCHITECTURE.md 7"},
	{"L2", "once all is well, every device that may get in does within seconds; and while all is well none is refused", specInvariants},
	{"L3", "once the cloud can be asked, stored trust is renewed before it ends", specInvariants},
	{"L4", "once all is well, who is revoked loses its connection within a second", specInvariants},
	{"L5", "a broker's certificate is replaced before its time is nearly up", specInvariants},
	{"L6", "what was quarantined or voided works again when that is ended", specInvariants},
	{"L7", "once all is well, nobody is told to come back for long", specInvariants},
}

// Invariants are all that runs are held against, in order.
func Invariants() []Invariant { return append([]Invariant{}, invariants...) }
