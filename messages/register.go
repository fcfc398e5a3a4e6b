package messages

// Just-in-time registration (cloud spec 4.4): what becomes of devices that nobody
// registered. Offline they can be admitted as pending (design.md, section 10).

// RegisterReasonMax is how many bytes of a reason go on record.
const RegisterReasonMax = 256

// SettleRegistration orders the device entity to record what became of the registration of
// Thing with Certificate, once; no ends what was admitted as pending. It grants nothing: a yes
// leaves even a pending device pending, until ConfirmPending. Answer: Done.
type SettleRegistration struct {
	Thing       ThingName
	Certificate CertificateID
	Authority   CertificateID // that signed it
	Accepted    bool
	Source      Source
	Rule        string // of the configuration, that decided; "" if none did
	Reason      string
}

// AdmitPending orders the device entity to open a session for a device that the cloud
// cannot be asked about, and that the rules admit as pending. Answer: SessionReady.
type AdmitPending struct {
	Thing       ThingName
	Certificate CertificateID
	DER         []byte
	Subject     string        // for people; at most 256 bytes
	Authority   CertificateID // its direct signer
	Rule        string        // that admits it
	// Certificate and authority are both valid from NotBeforeMs to NotAfterMs.
	NotBeforeMs, NotAfterMs int64
	Broker                  BrokerID
	// Room: one more device may be admitted. Without it only one that is pending already
	// gets a session.
	Room bool
}

// ConfirmPending orders the device entity to ask the cloud whether the certificate by which
// it is pending belongs to it. A yes makes it a device like others, a no ends the pending.
// Answer: Rechecked.
type ConfirmPending struct {
	Thing       ThingName
	Certificate CertificateID
}

// WithdrawPending orders the device entity to admit the device as pending no more. Answer:
// Done.
type WithdrawPending struct {
	Thing       ThingName
	Certificate CertificateID
	Source      Source
	Reason      string
}

// Want says what a certificate that is not good lacks, with Verified.
type Want uint8

// What it lacks.
const (
	// WantNothing: nothing that registration could bring.
	WantNothing Want = iota
	// WantRegistration: the cloud says that it does not know the certificate, and it never
	// did as far as the log goes back.
	WantRegistration
	// WantCloud: the cloud gave no answer about a certificate of which the log holds nothing.
	WantCloud
)

// PendingDevice is a device that is admitted as pending, for the registrar and for people.
// Times are trust milliseconds.
type PendingDevice struct {
	Thing                   ThingName
	Certificate             CertificateID
	Authority               CertificateID // its signer
	Subject, Rule           string
	DER                     []byte // shared: not to be changed
	AdmittedMs              int64  // VoidMs: the clock was wrong then
	NotBeforeMs, NotAfterMs int64  // of certificate and authority
	Seq                     uint64 // the record that admitted it
	Accepted                bool   // by the registrar; the cloud's own word is outstanding
	Sessions                int
}

// Target implements Command.
func (c SettleRegistration) Target() StreamID { return DeviceStream(c.Thing) }

// Target implements Command.
func (c AdmitPending) Target() StreamID { return DeviceStream(c.Thing) }

// Target implements Command.
func (c ConfirmPending) Target() StreamID { return DeviceStream(c.Thing) }

// Target implements Command.
func (c WithdrawPending) Target() StreamID { return DeviceStream(c.Thing) }

// Lane implements Command.
func (SettleRegistration) Lane() Lane { return LaneRestrict }

// Lane implements Command.
func (AdmitPending) Lane() Lane { return LaneRegister }

// Lane implements Command.
func (ConfirmPending) Lane() Lane { return LaneToken }

// Lane implements Command.
func (WithdrawPending) Lane() Lane { return LaneRestrict }
