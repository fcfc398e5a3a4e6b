// Package device decides about client devices and their certificates: whether a
// certificate is good, whether it belongs to the thing, which sessions are open. It is
// pure: functions of a state, the facts, and one input.
package device

import (
	"bytes"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Facts is what an entity needs to know beyond its own stream, folded from the log by
// the host at the moment of the decision.
type Facts struct {
	// NetworkUp is the state of the core's link to the cloud.
	NetworkUp bool
	// Trust is the rule by which stored answers count.
	Trust messages.Trust
	// CloseOnRevoke: withdrawn trust ends live sessions (sessions.closeOnRevoke).
	CloseOnRevoke bool
	// Holders are the things that hold the certificate; for a certificate entity.
	Holders []messages.ThingName
	// Certificate is the trust in the certificate a command names; for a device entity.
	Certificate messages.CertificateTrust
	// ConnectAllowed: the policy in force lets the thing connect; for a device entity.
	ConnectAllowed bool
	// PolicyRevision names that policy.
	PolicyRevision string
	// Overtaken: the cloud said no to this entity, also where that left no event, or the
	// clock was set back, after the question was asked that is answered now. Only with
	// CloudAnswered.
	Overtaken bool
	// RefreshMs names the refresh that is being carried out, by its beginning; 0: none is. For
	// the sync entity.
	RefreshMs int64
	// CertificateKnown: the log holds, or held, the cloud's word about the certificate; for a
	// device entity that is to admit it as pending.
	CertificateKnown bool
	// Voided: what the entity holds about the certificate was stamped by a clock that was
	// wrong, and does not count (ClockReanchored).
	Voided bool
}

// Certificate is the state of a certificate entity. The zero value is a certificate
// that was never verified.
type Certificate struct {
	Trust     messages.CertificateTrust
	DER       []byte // as verified; nil until then and after a refusal
	Subject   string
	RefusedMs int64 // when the last refusal was; 0: never
}

// DecideCertificate judges one command about a certificate. id is the certificate.
func DecideCertificate(id messages.CertificateID, s Certificate, f Facts, in messages.Input) (messages.Decision, error) {
	if f.Voided {
		s.Trust.VerifiedMs = messages.VoidMs
	}
	switch c := in.Command.(type) {
	case messages.VerifyCertificate:
		return verify(s, f, c, in.At), nil
	case messages.RecheckCertificate:
		return recheck(id, s, f, c, in.At), nil
	case messages.DropCertificate:
		return drop(id, s, f, c), nil
	case messages.CloudAnswered:
		switch then := c.Then.(type) {
		case messages.VerifyCertificate:
			return verifyAnswered(id, s, f, c, then, in.At), nil
		case messages.RecheckCertificate:
			return recheckAnswered(id, s, f, c, then, in.At), nil
		}
		return messages.Decision{}, fmt.Errorf("certificate: unexpected answer for %T", c.Then)
	default:
		return messages.Decision{}, fmt.Errorf("certificate: unexpected command %T", c)
	}
}

// verify is client-device-auth spec 5.1, steps 2 to 4: a certificate outside its
// validity is refused without asking; a trusted one is good when the cloud cannot be
// asked; everything else is the cloud's to say, also when the link is thought down.
func verify(s Certificate, f Facts, c messages.VerifyCertificate, at messages.Instant) messages.Decision {
	if !messages.ValidAt(c.NotBefore.UnixMilli(), c.NotAfter.UnixMilli(), at.TrustMs) {
		return invalid(messages.Source_SOURCE_LOCAL, "the certificate is outside its validity (%s to %s)",
			c.NotBefore.UTC().Format("2006-01-02"), c.NotAfter.UTC().Format("2006-01-02"))
	}
	if f.NetworkUp || !f.Trust.Trusted(s.Trust, at.TrustMs) {
		return askCertificate(s, f, c, at)
	}
	return valid(messages.Source_SOURCE_LOCAL, "verified before, within the trust duration; the cloud is away")
}

// askCertificate asks whether the certificate is good; stored trust will do, if it
// counts.
func askCertificate(s Certificate, f Facts, c messages.VerifyCertificate, at messages.Instant) messages.Decision {
	q := messages.AskCloud{Question: messages.CloudQuestion{Certificate: c.Certificate, DER: c.DER, Stranger: !s.Trust.Verified}, Then: c}
	if f.Trust.Trusted(s.Trust, at.TrustMs) {
		q.Late = messages.RecheckCertificate{Certificate: c.Certificate}
	}
	return messages.Decision{Effects: []messages.Effect{q}}
}

// verifyAnswered is spec 5.1, step 5.
func verifyAnswered(id messages.CertificateID, s Certificate, f Facts, a messages.CloudAnswered, c messages.VerifyCertificate, at messages.Instant) messages.Decision {
	if !messages.ValidAt(c.NotBefore.UnixMilli(), c.NotAfter.UnixMilli(), at.TrustMs) {
		return invalid(messages.Source_SOURCE_LOCAL, "the certificate expired while the cloud was asked")
	}
	switch a.Answer.Verdict {
	case messages.CloudConfirmed:
		if stale(f, a, s.RefusedMs, at) {
			return askCertificate(s, f, c, at)
		}
		d := valid(messages.Source_SOURCE_CLOUD, "the cloud vouches for the certificate")
		e := &messages.CertificateVerified{
			Source:      messages.Source_SOURCE_CLOUD,
			NotBeforeMs: c.NotBefore.UnixMilli(),
			NotAfterMs:  c.NotAfter.UnixMilli(),
		}
		if s.DER == nil {
			e.Der, e.Subject = c.DER, c.Subject
		}
		d.Events = []messages.Event{e}
		return d
	case messages.CloudDenied:
		return wanting(s, messages.WantRegistration, refuse(id, s, f, messages.Source_SOURCE_CLOUD, messages.CloseReason_CLOSE_CERTIFICATE_REFUSED,
			"the cloud does not vouch for the certificate: "+a.Answer.Detail))
	default:
		if f.Trust.Trusted(s.Trust, at.TrustMs) {
			return valid(messages.Source_SOURCE_LOCAL, "verified before, within the trust duration; the cloud gave no answer: "+a.Answer.Detail)
		}
		reason := "never verified, and the cloud gave no answer: "
		if s.Trust.Verified {
			reason = "trust lapsed, and the cloud gave no answer: "
		}
		return wanting(s, messages.WantCloud, refuse(id, s, f, messages.Source_SOURCE_LOCAL, messages.CloseReason_CLOSE_TRUST_LAPSED, reason+a.Answer.Detail))
	}
}

// wanting adds what a certificate lacks of which nothing was ever on record. One that the
// cloud took back must not come in again by registering.
func wanting(s Certificate, w messages.Want, d messages.Decision) messages.Decision {
	if v, ok := d.Reply.(messages.Verified); ok && !s.Trust.Verified && s.RefusedMs == 0 {
		v.Want = w
		d.Reply = v
	}
	return d
}

// recheck asks again about a certificate that is held; one that is not held is not
// asked about.
func recheck(id messages.CertificateID, s Certificate, f Facts, c messages.RecheckCertificate, at messages.Instant) messages.Decision {
	if s.DER == nil {
		return messages.Decision{Reply: messages.Rechecked{}}
	}
	if at.TrustMs > s.Trust.NotAfterMs {
		return rechecked(refuse(id, s, f, messages.Source_SOURCE_LOCAL, messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED, "the certificate has expired"),
			messages.Rechecked{})
	}
	return askAgain(id, s, f, c, at)
}

func askAgain(id messages.CertificateID, s Certificate, f Facts, c messages.RecheckCertificate, at messages.Instant) messages.Decision {
	q := messages.CloudQuestion{Certificate: id, DER: s.DER, Background: c.Refresh}
	if f.Trust.Trusted(s.Trust, at.TrustMs) {
		q.EndsMs = s.Trust.VerifiedMs + f.Trust.DurationMs
	}
	return ask(q, c)
}

// recheckAnswered settles a recheck. Unless it is part of a refresh, a yes is recorded
// only once a quarter of the trust duration has passed since the last: asking often must
// not fill the log. In a refresh no device waits and no session rests on the outcome, so
// that silence leaves even lapsed trust as it was.
func recheckAnswered(id messages.CertificateID, s Certificate, f Facts, a messages.CloudAnswered, c messages.RecheckCertificate, at messages.Instant) messages.Decision {
	r := messages.Rechecked{Asked: true, Verdict: a.Answer.Verdict, Failure: a.Answer.Failure}
	switch {
	case s.DER == nil: // refused meanwhile
		return messages.Decision{Reply: messages.Rechecked{}}
	case a.Answer.Verdict == messages.CloudConfirmed && stale(f, a, s.RefusedMs, at):
		return askAgain(id, s, f, c, at)
	case a.Answer.Verdict == messages.CloudConfirmed:
		d := messages.Decision{Reply: r}
		if c.Refresh || renewDue(f.Trust, s.Trust.VerifiedMs, at.TrustMs) {
			d.Events = []messages.Event{&messages.CertificateVerified{
				Source: messages.Source_SOURCE_CLOUD, NotBeforeMs: s.Trust.NotBeforeMs, NotAfterMs: s.Trust.NotAfterMs,
			}}
		}
		return d
	case a.Answer.Verdict == messages.CloudDenied:
		return rechecked(refuse(id, s, f, messages.Source_SOURCE_CLOUD, messages.CloseReason_CLOSE_CERTIFICATE_REFUSED,
			"the cloud no longer vouches for the certificate: "+a.Answer.Detail), r)
	case c.Refresh || f.Trust.Trusted(s.Trust, at.TrustMs):
		return messages.Decision{Reply: r}
	default:
		return rechecked(refuse(id, s, f, messages.Source_SOURCE_LOCAL, messages.CloseReason_CLOSE_TRUST_LAPSED,
			"trust lapsed, and the cloud gave no answer: "+a.Answer.Detail), r)
	}
}

// rechecked gives d the answer to a recheck.
func rechecked(d messages.Decision, r messages.Rechecked) messages.Decision {
	d.Reply = r
	return d
}

// drop forgets a certificate that nothing here holds any more.
func drop(id messages.CertificateID, s Certificate, f Facts, c messages.DropCertificate) messages.Decision {
	d := messages.Decision{Reply: messages.Done{}}
	if !s.Trust.Verified || s.Trust.VerifiedMs > c.VerifiedMs {
		return d
	}
	d = refuse(id, s, f, messages.Source_SOURCE_CLOUD, messages.CloseReason_CLOSE_FORGOTTEN, c.Reason)
	d.Reply = messages.Done{}
	return d
}

// EvolveCertificate folds one event. It cannot fail: what is in the log happened.
func EvolveCertificate(s Certificate, e messages.Event, at messages.Instant) Certificate {
	switch e := e.(type) {
	case *messages.CertificateVerified:
		s.Trust = messages.CertificateTrust{
			Verified: true, VerifiedMs: at.TrustMs, NotBeforeMs: e.NotBeforeMs, NotAfterMs: e.NotAfterMs,
		}
		if len(e.Der) > 0 {
			s.DER, s.Subject = bytes.Clone(e.Der), e.Subject // the bytes may be a request's
		}
	case *messages.CertificateRefused:
		s = Certificate{RefusedMs: at.TrustMs}
	}
	return s
}

// refuse says no, forgets a record that existed, and ends the sessions that rested on
// it. A certificate that never was trusted leaves no trace here (design.md, section 4).
func refuse(id messages.CertificateID, s Certificate, f Facts, source messages.Source, why messages.CloseReason, reason string) messages.Decision {
	d := invalid(source, "%s", reason)
	if !s.Trust.Verified {
		return d
	}
	d.Events = []messages.Event{&messages.CertificateRefused{Source: source, Reason: reason}}
	if f.CloseOnRevoke {
		for _, thing := range f.Holders {
			d.Effects = append(d.Effects, messages.Tell{Command: messages.CloseSessions{
				Thing: thing, Certificate: id, Reason: why, Detail: reason,
			}})
		}
	}
	return d
}

func valid(source messages.Source, reason string) messages.Decision {
	return messages.Decision{Reply: messages.Verified{Valid: true, Source: source, Reason: reason}}
}

func invalid(source messages.Source, format string, args ...any) messages.Decision {
	return messages.Decision{Reply: messages.Verified{Source: source, Reason: fmt.Sprintf(format, args...)}}
}

func ask(q messages.CloudQuestion, then messages.Command) messages.Decision {
	return messages.Decision{Effects: []messages.Effect{messages.AskCloud{Question: q, Then: then}}}
}

// stale reports whether a yes may be overtaken news: the cloud said no after the
// question was asked, or trust was taken back since. Within the same millisecond the
// host knows the order. A no from the future was said before the clock was set back; the
// host knows which questions are older than that.
func stale(f Facts, a messages.CloudAnswered, deniedMs int64, at messages.Instant) bool {
	return f.Overtaken || a.AskedMs < deniedMs && deniedMs <= at.TrustMs
}

// renewDue reports whether a repeated yes is worth an event.
func renewDue(t messages.Trust, verifiedMs, nowMs int64) bool {
	return verifiedMs <= messages.VoidMs || verifiedMs < t.SinceMs || nowMs-verifiedMs >= t.DurationMs/4
}
