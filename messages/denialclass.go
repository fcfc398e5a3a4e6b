package messages

import "strings"

// DenialClass is why something was denied, as a word of a closed list: for metrics, and
// for advice.
type DenialClass string

// The classes of denials.
const (
	DeniedByPolicy      DenialClass = "policy"         // no statement allows it
	DeniedQuarantined   DenialClass = "quarantined"    // the device is
	DeniedNoCertificate DenialClass = "no-certificate" // the client presented none
	DeniedUnreadable    DenialClass = "unreadable"     // the certificate cannot be read
	DeniedNotAttached   DenialClass = "not-attached"   // the certificate does not belong to the thing
	DeniedRefused       DenialClass = "refused"        // the cloud does not vouch for the certificate
	DeniedUnknown       DenialClass = "unknown"        // never verified, and the cloud gave no answer
	DeniedLapsed        DenialClass = "lapsed"         // trust lapsed, and the cloud gave no answer
	DeniedNotValid      DenialClass = "not-valid"      // outside the certificate's dates
	DeniedClientID      DenialClass = "client-id"      // the client id is no thing name
	DeniedPending       DenialClass = "pending"        // it is being registered, or waits for that
	DeniedRegistration  DenialClass = "registration"   // the rules of registration, or the cloud, deny it
	DeniedCredentials   DenialClass = "credentials"    // a local program asked for AWS credentials that it may not have
	DeniedOther         DenialClass = "other"
)

// OperationCredentials is the operation of an AccessDenied about AWS credentials; its resource
// is the consumer.
const OperationCredentials = "credentials"

// DenialClasses lists the classes.
func DenialClasses() []DenialClass {
	list := []DenialClass{DeniedByPolicy}
	for _, p := range denialPatterns {
		list = append(list, p.class)
	}
	return append(list, DeniedCredentials, DeniedOther)
}

// denialPatterns tell the class by what deciders say. What the cloud or an operator said
// follows in the same text, so that the first in the text counts.
var denialPatterns = []struct {
	class DenialClass
	texts []string
}{
	{DeniedQuarantined, []string{"the device is quarantined"}},
	{DeniedNoCertificate, []string{"presented no certificate"}},
	{DeniedUnreadable, []string{"certificate cannot be read"}},
	{DeniedNotAttached, []string{"does not belong to the thing", "never confirmed to belong"}},
	{DeniedPending, []string{"being registered"}},
	{DeniedRegistration, []string{"registration is denied", "not admitted as pending"}},
	{DeniedRefused, []string{"does not vouch", "no longer vouches"}},
	{DeniedUnknown, []string{"never verified", "is not verified"}},
	{DeniedLapsed, []string{"lapsed"}},
	{DeniedNotValid, []string{"outside its validity", "expired"}},
	{DeniedClientID, []string{"client id"}},
}

// ClassOfDenial tells why operation was denied, of the reason that went on record.
func ClassOfDenial(operation, reason string) DenialClass {
	switch operation {
	case "authenticate", "verify":
	case OperationCredentials:
		return DeniedCredentials
	default:
		return DeniedByPolicy
	}
	class, first := DeniedOther, len(reason)
	for _, p := range denialPatterns {
		for _, text := range p.texts {
			if i := strings.Index(reason, text); i >= 0 && i < first {
				class, first = p.class, i
			}
		}
	}
	return class
}
