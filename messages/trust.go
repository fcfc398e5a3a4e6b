package messages

// CertificateTrust is what the log says of a certificate, as deciders see it. The zero
// value is a certificate nobody vouches for. Times are trust-clock milliseconds.
type CertificateTrust struct {
	Verified    bool  // the last word about it was a yes
	VerifiedMs  int64 // when that was
	NotBeforeMs int64
	NotAfterMs  int64
}

// Trust is the rule by which a stored yes counts or not (client-device-auth spec 5,
// design.md section 6). It is a value: the moment is passed in.
type Trust struct {
	// DurationMs is clientDeviceTrustDurationMinutes in milliseconds.
	DurationMs int64
	// SinceMs is the moment before which nothing counts: trust was voided, or the clock
	// was lost on the way (reliability spec 2.4).
	SinceMs int64
}

// notBeforeSkewMs is how early a certificate may be used: its maker's clock may be
// ahead of ours. There is no such allowance at the end (reliability spec 2.3, B5).
const notBeforeSkewMs = 5 * 60 * 1000

// Holds reports whether a yes from verifiedMs still counts at nowMs. At exactly the
// limit it no longer does.
func (t Trust) Holds(verifiedMs, nowMs int64) bool {
	return verifiedMs >= t.SinceMs && verifiedMs+t.DurationMs > nowMs
}

// Trusted reports whether c is vouched for at nowMs and valid in time.
func (t Trust) Trusted(c CertificateTrust, nowMs int64) bool {
	return c.Verified && t.Holds(c.VerifiedMs, nowMs) && ValidAt(c.NotBeforeMs, c.NotAfterMs, nowMs)
}

// ValidAt reports whether nowMs lies in a certificate's validity: from notBefore, less
// five minutes, up to but not including notAfter.
func ValidAt(notBeforeMs, notAfterMs, nowMs int64) bool {
	return nowMs >= notBeforeMs-notBeforeSkewMs && nowMs < notAfterMs
}
