package messages

import "time"

// CloudVerdict is what the cloud said to a question about a device.
type CloudVerdict uint8

// The verdicts. Only the first two are the cloud's word; everything else (no network,
// throttled, access to our own credentials denied, garbage) is no answer at all and
// changes no trust (client-device-auth spec 5.1 and 5.2).
const (
	CloudSilent    CloudVerdict = iota // no usable answer
	CloudConfirmed                     // yes
	CloudDenied                        // no: ValidationException or ResourceNotFoundException
)

// String names the verdict.
func (v CloudVerdict) String() string {
	switch v {
	case CloudConfirmed:
		return "confirmed"
	case CloudDenied:
		return "denied"
	default:
		return "silent"
	}
}

// CloudAnswer is one answer of the cloud, or the lack of one.
type CloudAnswer struct {
	Verdict CloudVerdict
	Detail  string    // for the audit trail: error class, status, what to do; at most 256 bytes
	Date    time.Time // the cloud's own time, from an authenticated response; zero if none
	// Failure and RetryAfter say, with CloudSilent, why there was no answer and how long the
	// service wants to be left alone; zero: it did not say.
	Failure    CloudFailure
	RetryAfter time.Duration
}

// CloudFailure says why the cloud gave no answer: what to do about it differs (cloud
// spec 1.5). None of them says anything about a device.
type CloudFailure uint8

// The failures.
const (
	FailureNone        CloudFailure = iota // there was an answer, or it is not known why there was none
	FailureUnreachable                     // no connection, TLS not verified, no answer in time
	FailureNotService                      // something answered that is not the service: a portal, half an answer
	FailureThrottled                       // the service asks to be left alone for a while
	FailureServer                          // the service failed
	FailureRefused                         // the service refused the core's own credentials
	FailureNotAsked                        // the queue was full, or shut down, or the question cannot be put
)

// AssociationList is what came of listing the things that are associated with this core
// (ListClientDevicesAssociatedWithCoreDevice).
type AssociationList struct {
	// Complete: every page was read, to the mark of the last. Only then Things may be used.
	Complete bool
	Things   []ThingName // sorted, without repeats; nil unless Complete
	Pages    int         // that were read
	Failure  CloudFailure
	Detail   string    // for people: what failed and what to do; at most 256 bytes
	Date     time.Time // the service's own time, from an authenticated response; zero if none
}
