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
}
