package messages

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// The kinds of events. Numbers are part of the log's format: never changed, never
// reused; the tens leave room inside each family.
const (
	KindCertificateVerified Kind = 10
	KindCertificateRefused  Kind = 11

	KindAttachmentVerified  Kind = 20
	KindAttachmentWithdrawn Kind = 21
	KindDeviceForgotten     Kind = 22
	KindSessionOpened       Kind = 23
	KindSessionClosed       Kind = 24
	KindAccessDenied        Kind = 25
	KindDeviceQuarantined   Kind = 26
	KindDeviceReleased      Kind = 27
	KindDeviceRegistered    Kind = 28

	KindDevicePending        Kind = 30
	KindPendingWithdrawn     Kind = 31
	KindPendingSessionOpened Kind = 32

	KindPolicyReplaced Kind = 40
	KindConfigReplaced Kind = 41
	KindConfigRejected Kind = 42

	KindAuthorityCreated     Kind = 50
	KindAuthorityImported    Kind = 51
	KindAuthorityUploaded    Kind = 52
	KindAuthorityRetired     Kind = 53
	KindCertificateOrdered   Kind = 54
	KindCertificateIssued    Kind = 55
	KindCertificateDelivered Kind = 56
	KindHostAddressesChanged Kind = 57
	KindAuthorityAnnounced   Kind = 58
	KindAuthorityRejected    Kind = 59
	KindComponentWithdrawn   Kind = 60

	KindNetworkChanged     Kind = 70
	KindRefreshStarted     Kind = 71
	KindRefreshCompleted   Kind = 72
	KindRefreshFailed      Kind = 73
	KindAssociationChanged Kind = 74
	KindRefreshPlanned     Kind = 75

	KindClockMarked     Kind = 80
	KindClockReanchored Kind = 81
	KindTrustVoided     Kind = 82

	KindCredentialsServed Kind = 90

	KindStarted Kind = 100
	KindStopped Kind = 101

	KindBrokerPermitted  Kind = 110
	KindBrokerRestricted Kind = 111
)

// Class says what an event may do to what is allowed (design.md, section 3).
type Class uint8

// Records changes nothing about what is allowed, Grants may allow more, Restricts may
// allow less. Deny early, allow late: what restricts acts before it is durable, what
// grants only after.
const (
	Records Class = iota
	Grants
	Restricts
)

// String names the class.
func (c Class) String() string {
	switch c {
	case Grants:
		return "grants"
	case Restricts:
		return "restricts"
	default:
		return "records"
	}
}

// kindInfo describes one kind.
type kindInfo struct {
	name   string
	class  Class
	schema uint8        // the newest version this program writes and reads
	fresh  func() Event // an empty event to decode into
}

// kinds is the closed list. Every kind that restricts is critical: a reader that does
// not know it would allow what was taken away, so it must refuse the log.
var kinds = map[Kind]kindInfo{
	KindCertificateVerified:  {"CertificateVerified", Grants, 1, func() Event { return new(CertificateVerified) }},
	KindCertificateRefused:   {"CertificateRefused", Restricts, 1, func() Event { return new(CertificateRefused) }},
	KindAttachmentVerified:   {"AttachmentVerified", Grants, 1, func() Event { return new(AttachmentVerified) }},
	KindAttachmentWithdrawn:  {"AttachmentWithdrawn", Restricts, 1, func() Event { return new(AttachmentWithdrawn) }},
	KindDeviceForgotten:      {"DeviceForgotten", Restricts, 1, func() Event { return new(DeviceForgotten) }},
	KindSessionOpened:        {"SessionOpened", Grants, 1, func() Event { return new(SessionOpened) }},
	KindSessionClosed:        {"SessionClosed", Restricts, 1, func() Event { return new(SessionClosed) }},
	KindAccessDenied:         {"AccessDenied", Records, 1, func() Event { return new(AccessDenied) }},
	KindDeviceQuarantined:    {"DeviceQuarantined", Restricts, 1, func() Event { return new(DeviceQuarantined) }},
	KindDeviceReleased:       {"DeviceReleased", Grants, 1, func() Event { return new(DeviceReleased) }},
	KindDeviceRegistered:     {"DeviceRegistered", Records, 1, func() Event { return new(DeviceRegistered) }},
	KindDevicePending:        {"DevicePending", Grants, 1, func() Event { return new(DevicePending) }},
	KindPendingWithdrawn:     {"PendingWithdrawn", Restricts, 1, func() Event { return new(PendingWithdrawn) }},
	KindPendingSessionOpened: {"PendingSessionOpened", Grants, 1, func() Event { return new(PendingSessionOpened) }},
	KindPolicyReplaced:       {"PolicyReplaced", Grants, 1, func() Event { return new(PolicyReplaced) }},
	KindConfigReplaced:       {"ConfigReplaced", Grants, 1, func() Event { return new(ConfigReplaced) }},
	KindConfigRejected:       {"ConfigRejected", Records, 1, func() Event { return new(ConfigRejected) }},
	KindAuthorityCreated:     {"AuthorityCreated", Grants, 1, func() Event { return new(AuthorityCreated) }},
	KindAuthorityImported:    {"AuthorityImported", Grants, 1, func() Event { return new(AuthorityImported) }},
	KindAuthorityUploaded:    {"AuthorityUploaded", Records, 1, func() Event { return new(AuthorityUploaded) }},
	KindAuthorityRetired:     {"AuthorityRetired", Restricts, 1, func() Event { return new(AuthorityRetired) }},
	KindCertificateOrdered:   {"CertificateOrdered", Records, 1, func() Event { return new(CertificateOrdered) }},
	KindCertificateIssued:    {"CertificateIssued", Grants, 1, func() Event { return new(CertificateIssued) }},
	KindCertificateDelivered: {"CertificateDelivered", Records, 1, func() Event { return new(CertificateDelivered) }},
	KindHostAddressesChanged: {"HostAddressesChanged", Records, 1, func() Event { return new(HostAddressesChanged) }},
	KindAuthorityAnnounced:   {"AuthorityAnnounced", Records, 1, func() Event { return new(AuthorityAnnounced) }},
	KindAuthorityRejected:    {"AuthorityRejected", Records, 1, func() Event { return new(AuthorityRejected) }},
	KindComponentWithdrawn:   {"ComponentWithdrawn", Restricts, 1, func() Event { return new(ComponentWithdrawn) }},
	KindNetworkChanged:       {"NetworkChanged", Records, 1, func() Event { return new(NetworkChanged) }},
	KindRefreshPlanned:       {"RefreshPlanned", Records, 1, func() Event { return new(RefreshPlanned) }},
	KindRefreshStarted:       {"RefreshStarted", Records, 1, func() Event { return new(RefreshStarted) }},
	KindRefreshCompleted:     {"RefreshCompleted", Records, 1, func() Event { return new(RefreshCompleted) }},
	KindRefreshFailed:        {"RefreshFailed", Records, 1, func() Event { return new(RefreshFailed) }},
	KindAssociationChanged:   {"AssociationChanged", Records, 1, func() Event { return new(AssociationChanged) }},
	KindClockMarked:          {"ClockMarked", Records, 1, func() Event { return new(ClockMarked) }},
	KindClockReanchored:      {"ClockReanchored", Grants, 1, func() Event { return new(ClockReanchored) }},
	KindTrustVoided:          {"TrustVoided", Restricts, 1, func() Event { return new(TrustVoided) }},
	KindCredentialsServed:    {"CredentialsServed", Records, 1, func() Event { return new(CredentialsServed) }},
	KindStarted:              {"Started", Records, 1, func() Event { return new(Started) }},
	KindStopped:              {"Stopped", Records, 1, func() Event { return new(Stopped) }},
	KindBrokerPermitted:      {"BrokerPermitted", Grants, 1, func() Event { return new(BrokerPermitted) }},
	KindBrokerRestricted:     {"BrokerRestricted", Restricts, 1, func() Event { return new(BrokerRestricted) }},
}

// AllKinds lists every kind this program knows, in no order.
func AllKinds() []Kind {
	list := make([]Kind, 0, len(kinds))
	for k := range kinds {
		list = append(list, k)
	}
	return list
}

// Known reports whether this program reads kind at schema version schema.
func Known(kind Kind, schema uint8) bool {
	info, ok := kinds[kind]
	return ok && schema >= 1 && schema <= info.schema
}

// String names the kind, or says its number.
func (k Kind) String() string {
	if info, ok := kinds[k]; ok {
		return info.name
	}
	return "kind " + itoa(uint64(k))
}

// Name is the kind's name as one token of a NATS subject: also for an unknown kind.
func (k Kind) Name() string {
	if info, ok := kinds[k]; ok {
		return info.name
	}
	return "kind-" + itoa(uint64(k))
}

// Class says what events of this kind may do to what is allowed. An unknown kind is
// taken as restricting.
func (k Kind) Class() Class {
	if info, ok := kinds[k]; ok {
		return info.class
	}
	return Restricts
}

// Critical reports whether a reader that does not know the kind must refuse the log:
// what restricts, and the two documents that may take something away.
func (k Kind) Critical() bool {
	return k.Class() == Restricts || k == KindPolicyReplaced || k == KindConfigReplaced
}

// Kind implements Event.
func (*CertificateVerified) Kind() Kind { return KindCertificateVerified }

// Kind implements Event.
func (*CertificateRefused) Kind() Kind { return KindCertificateRefused }

// Kind implements Event.
func (*AttachmentVerified) Kind() Kind { return KindAttachmentVerified }

// Kind implements Event.
func (*AttachmentWithdrawn) Kind() Kind { return KindAttachmentWithdrawn }

// Kind implements Event.
func (*DeviceForgotten) Kind() Kind { return KindDeviceForgotten }

// Kind implements Event.
func (*SessionOpened) Kind() Kind { return KindSessionOpened }

// Kind implements Event.
func (*SessionClosed) Kind() Kind { return KindSessionClosed }

// Kind implements Event.
func (*AccessDenied) Kind() Kind { return KindAccessDenied }

// Kind implements Event.
func (*DeviceQuarantined) Kind() Kind { return KindDeviceQuarantined }

// Kind implements Event.
func (*DeviceReleased) Kind() Kind { return KindDeviceReleased }

// Kind implements Event.
func (*DeviceRegistered) Kind() Kind { return KindDeviceRegistered }

// Kind implements Event.
func (*DevicePending) Kind() Kind { return KindDevicePending }

// Kind implements Event.
func (*PendingWithdrawn) Kind() Kind { return KindPendingWithdrawn }

// Kind implements Event.
func (*PendingSessionOpened) Kind() Kind { return KindPendingSessionOpened }

// Kind implements Event.
func (*PolicyReplaced) Kind() Kind { return KindPolicyReplaced }

// Kind implements Event.
func (*ConfigReplaced) Kind() Kind { return KindConfigReplaced }

// Kind implements Event.
func (*ConfigRejected) Kind() Kind { return KindConfigRejected }

// Kind implements Event.
func (*AuthorityCreated) Kind() Kind { return KindAuthorityCreated }

// Kind implements Event.
func (*AuthorityImported) Kind() Kind { return KindAuthorityImported }

// Kind implements Event.
func (*AuthorityUploaded) Kind() Kind { return KindAuthorityUploaded }

// Kind implements Event.
func (*AuthorityRetired) Kind() Kind { return KindAuthorityRetired }

// Kind implements Event.
func (*CertificateOrdered) Kind() Kind { return KindCertificateOrdered }

// Kind implements Event.
func (*CertificateIssued) Kind() Kind { return KindCertificateIssued }

// Kind implements Event.
func (*CertificateDelivered) Kind() Kind { return KindCertificateDelivered }

// Kind implements Event.
func (*HostAddressesChanged) Kind() Kind { return KindHostAddressesChanged }

// Kind implements Event.
func (*AuthorityAnnounced) Kind() Kind { return KindAuthorityAnnounced }

// Kind implements Event.
func (*AuthorityRejected) Kind() Kind { return KindAuthorityRejected }

// Kind implements Event.
func (*NetworkChanged) Kind() Kind { return KindNetworkChanged }

// Kind implements Event.
func (*RefreshPlanned) Kind() Kind { return KindRefreshPlanned }

// Kind implements Event.
func (*RefreshStarted) Kind() Kind { return KindRefreshStarted }

// Kind implements Event.
func (*RefreshCompleted) Kind() Kind { return KindRefreshCompleted }

// Kind implements Event.
func (*RefreshFailed) Kind() Kind { return KindRefreshFailed }

// Kind implements Event.
func (*AssociationChanged) Kind() Kind { return KindAssociationChanged }

// Kind implements Event.
func (*ClockMarked) Kind() Kind { return KindClockMarked }

// Kind implements Event.
func (*ClockReanchored) Kind() Kind { return KindClockReanchored }

// Kind implements Event.
func (*TrustVoided) Kind() Kind { return KindTrustVoided }

// Kind implements Event.
func (*CredentialsServed) Kind() Kind { return KindCredentialsServed }

// Kind implements Event.
func (*Started) Kind() Kind { return KindStarted }

// Kind implements Event.
func (*Stopped) Kind() Kind { return KindStopped }

// Kind implements Event.
func (*ComponentWithdrawn) Kind() Kind { return KindComponentWithdrawn }

// Kind implements Event.
func (*BrokerPermitted) Kind() Kind { return KindBrokerPermitted }

// Kind implements Event.
func (*BrokerRestricted) Kind() Kind { return KindBrokerRestricted }

// KindsDigest identifies the events that this program folds, with their schemas: a state
// that was folded by a program with others may lack something.
func KindsDigest() [sha256.Size]byte {
	var b []byte
	for _, k := range slices.Sorted(slices.Values(AllKinds())) {
		b = binary.BigEndian.AppendUint16(b, uint16(k))
		b = append(b, kinds[k].schema)
	}
	return sha256.Sum256(b)
}
