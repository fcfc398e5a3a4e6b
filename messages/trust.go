package messages

// CertificateTrust is what the log says of a certificate, as deciders see it. The zero
// value is a certificate nobody vouches for. Times are trust-clock milliseconds.
type CertificateTrust struct {
	Verified    bool  // the last word about it was a yes
	VerifiedMs  int64 // when that was
	NotBeforeMs int64
	NotAfterMs  int64
}

// VoidMs is when a yes was given whose stamp is void: never counts.
const VoidMs = -1

// Trust is the rule by which a stored yes counts or not (client-device-auth spec 5,
// design.md section 6). It is a value: the moment is passed in.
type Trust struct {
	// DurationMs is clientDeviceTrustDurationMinutes in milliseconds.
	DurationMs int64
	// SinceMs is the moment before which nothing counts: trust was voided, or the clock
	// was lost on the way (reliability spec 2.4).
	SinceMs int64
	// Doubted: nobody knows how long the machine was off, whatever else counts. What rests
	// on the time alone, an internal component's certificate, does not.
	Doubted bool
}

// futureSlackMs is how far ahead of the clock a stored yes may be: the clock was set back
// by a re-anchoring. One from further ahead counts for nothing, or it would count for as
// long as the clock was wrong. (What the re-anchoring voided is VoidMs, and does not come
// to count when the clock gets there: see ClockReanchored.)
const futureSlackMs = 60 * 1000

// Holds reports whether a yes from verifiedMs still counts at nowMs. At exactly the
// limit it no longer does.
func (t Trust) Holds(verifiedMs, nowMs int64) bool {
	return verifiedMs > VoidMs && verifiedMs >= t.SinceMs && verifiedMs+t.DurationMs > nowMs && verifiedMs <= nowMs+futureSlackMs
}

// Trusted reports whether c is vouched for at nowMs and valid in time.
func (t Trust) Trusted(c CertificateTrust, nowMs int64) bool {
	return c.Verified && t.Holds(c.VerifiedMs, nowMs) && ValidAt(c.NotBeforeMs, c.NotAfterMs, nowMs)
}

// NotAdmitted says why an admission as pending from admittedMs does not count at nowMs; "" if
// it does. Nobody but the clock stands behind it, so that it needs one that nobody doubts,
// also where other trust counts for a shorter time. Certificate and authority are both valid
// from notBeforeMs to notAfterMs.
func (t Trust) NotAdmitted(admittedMs, notBeforeMs, notAfterMs, nowMs int64) string {
	switch {
	case t.Doubted:
		return "how long the machine was off is not known"
	case !ValidAt(notBeforeMs, notAfterMs, nowMs):
		return "the certificate, or its authority, is outside its validity"
	case !t.Holds(admittedMs, nowMs):
		return "its admission has lapsed"
	}
	return ""
}

// ValidAt reports whether nowMs lies in a certificate's validity, both ends included
// (RFC 5280, 4.1.2.5; the vectors pin it). The five minutes of skew before notBefore that
// the reliability spec proposes (B5) are not given.
func ValidAt(notBeforeMs, notAfterMs, nowMs int64) bool {
	return nowMs >= notBeforeMs && nowMs <= notAfterMs
}
