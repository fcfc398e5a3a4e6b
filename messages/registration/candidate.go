package registration

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Candidate is a device that asks to be known.
type Candidate struct {
	Certificate messages.CertificateID
	// DER is the certificate, AuthorityDER that of its signer. Without them the cloud knows the
	// certificate already and is asked for it.
	DER          []byte
	Authority    messages.CertificateID // its direct signer
	AuthorityDER []byte
	Thing        messages.ThingName // what the device calls itself, its MQTT client id; "" if that is not known
}

// Status is what became of a candidate.
type Status uint8

// The zero Status is a no.
const (
	Denied   Status = iota // by the rules, or for good
	Accepted               // the cloud knows the device, and its certificate is ACTIVE
)

// String names the status.
func (s Status) String() string {
	switch s {
	case Denied:
		return "denied"
	case Accepted:
		return "accepted"
	default:
		return fmt.Sprintf("status %d", uint8(s))
	}
}

// Outcome is the answer about a candidate. An error beside it means that there is none yet.
type Outcome struct {
	Status Status
	Thing  messages.ThingName // as the rules name it; "" if denied before that
	Rule   string             // that decided; "" if none did
	Reason string             // for people; no secret in it
}
