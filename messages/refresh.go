package messages

import "time"

// The refresh: once a day all stored trust is renewed, and what no longer belongs to this
// core is removed (client-device-auth spec 5.5). The sync entity decides; listing and
// asking are its effects, which come back as commands.

// RunRefresh orders the sync entity to begin a refresh if one is due and the cloud can be
// reached. Answer: RefreshAnswer.
type RunRefresh struct {
	Force bool // also if none is due
}

// AssociationsListed brings what came of ListAssociations, and what was held when it
// came.
type AssociationsListed struct {
	Of   ListAssociations
	List AssociationList
	Held Held
	// Guard: what a listing would remove must be confirmed by a second
	// (refresh.massRemovalGuard).
	Guard bool
}

// AssociationsChanged orders the sync entity to record who joined and left this core, at
// most 1,000 at a time. Answer: Done.
type AssociationsChanged struct{ Changes []*AssociationChanged }

// Refreshed brings the outcome of Reverify.
type Refreshed struct {
	StartedMs                            int64
	Listed                               int
	Renewed, Denied, Unanswered, Removed int
}

// RefreshAnswer answers RunRefresh.
type RefreshAnswer struct {
	Outcome RefreshOutcome
	DueMs   int64 // trust time of the next refresh
}

// RefreshOutcome says what became of RunRefresh.
type RefreshOutcome uint8

// The outcomes.
const (
	RefreshNotDue  RefreshOutcome = iota
	RefreshOffline                // due, and the cloud is away: it stays due
	RefreshBegun
	RefreshUnderWay
)

// ListAssociations lists the things associated with this core, after Delay, and comes back
// as AssociationsListed. Former is what the first listing would have removed; nil: this is
// the first.
type ListAssociations struct {
	StartedMs int64 // names the refresh
	Delay     time.Duration
	Former    []ThingName
}

// Reverify carries out a plan and comes back as Refreshed.
type Reverify struct {
	StartedMs int64
	Listed    int
	Plan      RefreshPlan
}

func (ListAssociations) isEffect() {}
func (Reverify) isEffect()         {}

// RefreshPlan is what one refresh does.
type RefreshPlan struct {
	Changes []*AssociationChanged
	Forget  []ThingName       // held, and not associated with this core
	Drop    []HeldCertificate // held by no thing that stays
	Steps   []RefreshStep     // in the order of asking
}

// RefreshStep is one question: about the certificate, or with Thing about its attachment.
type RefreshStep struct {
	Thing       ThingName
	Certificate CertificateID
	EndsMs      int64 // when trust in it ends; 0: it has ended
}

// Held is what this core holds of things and certificates at one moment.
type Held struct {
	Things       []HeldThing
	Certificates []HeldCertificate
}

// HeldThing is a thing with its attachments.
type HeldThing struct {
	Thing       ThingName
	Associated  bool // as last recorded
	Attachments []HeldAttachment
}

// HeldAttachment says when an attachment was last confirmed, in trust time.
type HeldAttachment struct {
	Certificate CertificateID
	ConfirmedMs int64
}

// HeldCertificate says when a certificate was last confirmed, in trust time.
type HeldCertificate struct {
	Certificate CertificateID
	ConfirmedMs int64
}

// Target implements Command.
func (RunRefresh) Target() StreamID { return StreamSync }

// Target implements Command.
func (AssociationsListed) Target() StreamID { return StreamSync }

// Target implements Command.
func (AssociationsChanged) Target() StreamID { return StreamSync }

// Target implements Command.
func (Refreshed) Target() StreamID { return StreamSync }

// Lane implements Command.
func (RunRefresh) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (AssociationsListed) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (AssociationsChanged) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (Refreshed) Lane() Lane { return LaneRestrict }
