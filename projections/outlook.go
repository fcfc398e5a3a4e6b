package projections

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Outlook is what would be decided if a device connected now with one of its certificates
// (client-device-auth spec 5.1, 5.2): the deciders' rules, without deciding.
type Outlook struct {
	Online  Forecast // the link is up, and the cloud says yes
	Offline Forecast // the cloud is away, or silent
}

// Forecast is one side of an Outlook.
type Forecast struct {
	Allowed bool
	Reason  string // in words
	// UntilMs is when, offline, an allowed device would be let in no more, if nothing
	// happens: the first trust millisecond of it. 0 unless Allowed.
	UntilMs int64
}

// Circumstances is what a decision about a device rests on beside the certificate and
// its attachment.
type Circumstances struct {
	Trust          messages.Trust
	NowMs          int64  // trust time
	Quarantined    string // why; empty: it is not
	ConnectAllowed bool   // the policy lets it connect
	// PendingAllowed and CertificateKnown are for a pending device: the group of pending
	// devices lets it connect; the cloud has vouched for its certificate, or refused it.
	PendingAllowed, CertificateKnown bool
}

// Predict says what would be decided if the device connected with the certificate of a.
// It is pure.
func Predict(a Attachment, c Circumstances) Outlook {
	until, reason := a.TrustEndMs(c.Trust, c.NowMs)
	o := Outlook{
		Online:  Forecast{Allowed: true, Reason: "the cloud decides"},
		Offline: Forecast{Allowed: reason == "", Reason: reason, UntilMs: until},
	}
	switch {
	case c.Quarantined != "":
		o.Online = Forecast{Reason: "the device is quarantined: " + c.Quarantined}
		o.Offline = o.Online
	case a.outsideValidity(c.NowMs):
		o.Online = Forecast{Reason: reason}
		o.Offline = o.Online
	case c.NowMs < c.Trust.SinceMs: // not even what the cloud says now
		o.Online = Forecast{Reason: "nothing counts before " + stamp(c.Trust.SinceMs)}
	case !c.ConnectAllowed:
		o.Online = Forecast{Reason: "no statement of the device's groups lets it connect"}
		if o.Offline.Allowed {
			o.Offline = o.Online
		}
	}
	if o.Offline.Allowed {
		o.Offline.Reason = "stored trust counts"
	}
	return o
}

// PredictPending says what would be decided if the pending device of p connected. It is pure.
func PredictPending(p messages.PendingDevice, c Circumstances) Outlook {
	a := Attachment{Certificate: p.Certificate, NotBeforeMs: p.NotBeforeMs, NotAfterMs: p.NotAfterMs}
	o := Outlook{Online: Predict(a, c).Online}
	if o.Online.Allowed {
		o.Online.Reason = "the cloud decides, once it knows the device"
	}
	switch why := notAdmitted(p, c); {
	case c.Quarantined != "":
		o.Offline.Reason = "the device is quarantined: " + c.Quarantined
	case c.CertificateKnown:
		o.Offline.Reason = "the cloud has spoken about the certificate, and not about the thing"
	case why != "":
		o.Offline.Reason = why
	case !c.PendingAllowed:
		o.Offline.Reason = "no statement of the group of pending devices lets it connect"
	default:
		o.Offline = Forecast{Allowed: true, Reason: "as a pending device", UntilMs: min(p.AdmittedMs+c.Trust.DurationMs, p.NotAfterMs+1)}
	}
	return o
}

func notAdmitted(p messages.PendingDevice, c Circumstances) string {
	if p.AdmittedMs == messages.VoidMs {
		return "its admission" + voidWords
	}
	return c.Trust.NotAdmitted(p.AdmittedMs, p.NotBeforeMs, p.NotAfterMs, c.NowMs)
}

// outsideValidity reports whether the certificate, whose dates are known, is not valid
// now: then nobody is asked.
func (a Attachment) outsideValidity(nowMs int64) bool {
	return a.NotAfterMs != 0 && !messages.ValidAt(a.NotBeforeMs, a.NotAfterMs, nowMs)
}

// endMs is TrustEndMs without the reason.
func (a Attachment) endMs(trust messages.Trust, nowMs int64) int64 {
	if !trust.Trusted(a.Trust, nowMs) || !trust.Holds(a.ConfirmedMs, nowMs) {
		return 0
	}
	return min(a.Trust.VerifiedMs+trust.DurationMs, a.ConfirmedMs+trust.DurationMs, a.Trust.NotAfterMs+1)
}

// TrustEndMs is when stored trust in the certificate and its attachment ends, the first
// millisecond at which it does not count; 0 and the reason if it does not count now.
func (a Attachment) TrustEndMs(trust messages.Trust, nowMs int64) (ms int64, reason string) {
	if ms := a.endMs(trust, nowMs); ms != 0 {
		return ms, ""
	}
	switch {
	case a.outsideValidity(nowMs):
		return 0, fmt.Sprintf("the certificate is valid from %s to %s only", stamp(a.NotBeforeMs), stamp(a.NotAfterMs))
	case !a.Trust.Verified:
		return 0, "nobody vouches for the certificate"
	case !trust.Holds(a.Trust.VerifiedMs, nowMs):
		return 0, lapsed("trust in the certificate", a.Trust.VerifiedMs, trust, nowMs)
	}
	return 0, lapsed("trust that the certificate belongs to the thing", a.ConfirmedMs, trust, nowMs)
}

// SinceMs is how far back the older of the two confirmations is that trust rests on.
func (a Attachment) SinceMs() int64 {
	if !a.Trust.Verified {
		return a.ConfirmedMs
	}
	return min(a.ConfirmedMs, a.Trust.VerifiedMs)
}

// voidWords say what became of a yes that a re-anchoring voided.
const voidWords = " is void: it was given while the clock was wrong, and the cloud has to confirm it again"

// lapsed says why a yes from verifiedMs does not count.
func lapsed(what string, verifiedMs int64, trust messages.Trust, nowMs int64) string {
	switch {
	case verifiedMs == messages.VoidMs:
		return what + voidWords
	case verifiedMs < trust.SinceMs:
		return fmt.Sprintf("%s does not count: it is from %s, and how much time has passed since is not known, or it was voided", what, stamp(verifiedMs))
	case verifiedMs+trust.DurationMs <= nowMs:
		return fmt.Sprintf("%s lapsed at %s", what, stamp(verifiedMs+trust.DurationMs))
	}
	return fmt.Sprintf("%s does not count: it is from %s, ahead of the clock", what, stamp(verifiedMs))
}
