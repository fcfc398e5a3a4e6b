package device

import (
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Pending is the admission of a device that nobody registered, while the cloud could not
// be asked (design.md, section 10). It is never written to once it is part of a state.
type Pending struct {
	Certificate messages.CertificateID
	AdmittedMs  int64 // trust time
	// Certificate and authority are both valid from NotBeforeMs to NotAfterMs.
	NotBeforeMs, NotAfterMs int64
}

// Settled is what registration last decided about the device. The zero value: nothing.
type Settled struct {
	Certificate messages.CertificateID
	Outcome     messages.RegistrationOutcome
}

// How long a device that has to wait is told to wait.
const (
	comeAgain     = 5 * time.Second
	comeAgainRoom = time.Minute // when there is no room for another
)

// Word with which refusals to admit begin: people, and metrics, tell them by it.
const notAdmitted = "the device is not admitted as pending: "

// admit opens a session for a device of which nothing is known, and which the rules admit
// while the cloud cannot be asked.
func admit(s Device, f Facts, c messages.AdmitPending, in messages.Input) messages.Decision {
	if r := barredFromPending(s, f, c); r != nil {
		return messages.Decision{Reply: r}
	}
	if r := admission(s, f, c, in.At); r != nil {
		return messages.Decision{Reply: r}
	}
	if !f.ConnectAllowed {
		return messages.Decision{Reply: messages.ConnectDenied{Thing: c.Thing, Certificate: c.Certificate}}
	}
	var events []messages.Event
	if s.Pending == nil {
		events = append(events, &messages.DevicePending{
			CertificateId: string(c.Certificate), Der: c.DER, Subject: c.Subject, AuthorityId: string(c.Authority), Rule: c.Rule,
			NotBeforeMs: c.NotBeforeMs, NotAfterMs: c.NotAfterMs,
		})
	}
	if len(s.Sessions) >= sessionsMax {
		events = append(events, closed(oldest(s), messages.CloseReason_CLOSE_EVICTED, "the device opened too many sessions"))
	}
	token := messages.TokenFrom(in.Nonce)
	digest := token.Digest()
	events = append(events, &messages.PendingSessionOpened{Session: digest[:], CertificateId: string(c.Certificate), Broker: string(c.Broker)})
	return messages.Decision{Events: events, Reply: messages.SessionReady{
		Token: token, Thing: c.Thing, Certificate: c.Certificate, Source: messages.Source_SOURCE_LOCAL, Pending: true,
	}}
}

// barredFromPending says why this is no device that nobody knows. Whatever is known of it, or
// was, only the cloud can let it in.
func barredFromPending(s Device, f Facts, c messages.AdmitPending) *messages.Refusal {
	no := func(reason string) *messages.Refusal {
		return messages.Refuse(messages.RefusedInvalidCredential, "%s%s", notAdmitted, reason)
	}
	switch {
	case s.Quarantined != "":
		return messages.Refuse(messages.RefusedInvalidCredential, "the device is quarantined: %s", s.Quarantined)
	case f.CertificateKnown || f.Certificate.Verified:
		return no("its certificate is known here, and only the cloud can vouch for it again")
	case len(s.Attachments) > 0:
		return no("another certificate belongs to the thing")
	case s.WithdrawnMs != 0:
		return no("what was known of it was taken back, and only the cloud can let it in again")
	case s.Pending == nil && s.Settled.Outcome == messages.RegistrationOutcome_REGISTRATION_DENIED: // of a pending one another's was
		return no("its registration was denied")
	case s.Settled.Outcome == messages.RegistrationOutcome_REGISTRATION_ACCEPTED && s.Settled.Certificate != c.Certificate:
		return no("another certificate is registered for the thing")
	case s.Pending != nil && s.Pending.Certificate != c.Certificate:
		return no("another certificate is pending for the thing")
	case f.NetworkUp:
		return &messages.Refusal{Code: messages.RefusedPending, Reason: "the device is being registered: the cloud can be asked again", RetryAfter: comeAgain}
	}
	return nil
}

// admission says why an admission, the one on record or a new one, does not count now. One
// that has lapsed is not given again: the trust duration bounds how long a device gets by
// without the cloud.
func admission(s Device, f Facts, c messages.AdmitPending, at messages.Instant) *messages.Refusal {
	p := s.Pending
	switch {
	case p != nil && f.Voided:
		return messages.Refuse(messages.RefusedInvalidCredential, "%sits admission was stamped while the clock was wrong", notAdmitted)
	case p == nil && !c.Room:
		return &messages.Refusal{Code: messages.RefusedPending, Reason: "the device is being registered: no more devices are admitted as pending for now", RetryAfter: comeAgainRoom}
	case p == nil:
		p = &Pending{AdmittedMs: at.TrustMs, NotBeforeMs: c.NotBeforeMs, NotAfterMs: c.NotAfterMs}
	}
	if why := f.Trust.NotAdmitted(p.AdmittedMs, p.NotBeforeMs, p.NotAfterMs, at.TrustMs); why != "" {
		return messages.Refuse(messages.RefusedInvalidCredential, "%s%s", notAdmitted, why)
	}
	return nil
}

// settle records what became of a registration. A no ends the pending admission by the same
// certificate; a yes leaves it until the cloud's own word about the attachment, and ends one by
// another certificate: the thing is not that one's. Nor does a no to another certificate than
// the one that is registered take that one's place.
func settle(s Device, c messages.SettleRegistration) messages.Decision {
	d := messages.Decision{Reply: messages.Done{}}
	outcome := messages.RegistrationOutcome_REGISTRATION_DENIED
	if c.Accepted {
		outcome = messages.RegistrationOutcome_REGISTRATION_ACCEPTED
	}
	reason := clip(c.Reason, messages.RegisterReasonMax)
	others := s.Settled.Outcome == messages.RegistrationOutcome_REGISTRATION_ACCEPTED && s.Settled.Certificate != c.Certificate
	if s.Settled != (Settled{c.Certificate, outcome}) && (c.Accepted || !others) {
		d.Events = append(d.Events, &messages.DeviceRegistered{
			CertificateId: string(c.Certificate), AuthorityId: string(c.Authority), Source: c.Source,
			Outcome: outcome, Rule: c.Rule, Reason: reason,
		})
	}
	switch {
	case !c.Accepted:
		d.Events = append(d.Events, endPending(s, c.Certificate, c.Source, "registration is denied: "+reason)...)
	case s.Pending != nil && s.Pending.Certificate != c.Certificate:
		d.Events = append(d.Events, endPending(s, "", c.Source, "another certificate is registered for the thing")...)
	}
	return d
}

// withdrawPending ends a pending admission.
func withdrawPending(s Device, c messages.WithdrawPending) messages.Decision {
	return messages.Decision{Events: endPending(s, c.Certificate, c.Source, clip(c.Reason, messages.RegisterReasonMax)), Reply: messages.Done{}}
}

// endPending ends the pending admission by id, any if that is empty, and its sessions.
func endPending(s Device, id messages.CertificateID, source messages.Source, reason string) []messages.Event {
	if s.Pending == nil || id != "" && s.Pending.Certificate != id {
		return nil
	}
	events := []messages.Event{&messages.PendingWithdrawn{CertificateId: string(s.Pending.Certificate), Source: source, Reason: reason}}
	return append(events, closePending(s, messages.CloseReason_CLOSE_PENDING_ENDED, reason)...)
}

// closePending ends the sessions of a pending device, oldest first.
func closePending(s Device, why messages.CloseReason, detail string) []messages.Event {
	var events []messages.Event
	for i := range s.Sessions {
		if x := &s.Sessions[i]; x.Pending {
			events = append(events, closed(x.Digest, why, detail))
		}
	}
	return events
}

// attach records the cloud's word that the certificate belongs to the thing. With it the
// device is pending no more, by whichever certificate it was: the sessions it had so end,
// since none of them ever gets more rights.
func attach(s Device, id messages.CertificateID) []messages.Event {
	attached := &messages.AttachmentVerified{CertificateId: string(id), Source: messages.Source_SOURCE_CLOUD}
	switch {
	case s.Pending == nil:
		return []messages.Event{attached}
	case s.Pending.Certificate != id:
		return append(endPending(s, "", messages.Source_SOURCE_CLOUD, "another certificate belongs to the thing"), attached)
	}
	events := []messages.Event{attached}
	if s.Settled != (Settled{id, messages.RegistrationOutcome_REGISTRATION_ACCEPTED}) {
		events = append(events, &messages.DeviceRegistered{
			CertificateId: string(id), Source: messages.Source_SOURCE_CLOUD, Outcome: messages.RegistrationOutcome_REGISTRATION_ACCEPTED,
			Reason: "the cloud says that the certificate belongs to the thing",
		})
	}
	return append(events, closePending(s, messages.CloseReason_CLOSE_REGISTERED, "the cloud knows the device")...)
}

// confirmPending asks the cloud about the attachment of a pending device whose certificate
// it vouches for by now.
func confirmPending(s Device, f Facts, c messages.ConfirmPending, at messages.Instant) messages.Decision {
	if s.Pending == nil || s.Pending.Certificate != c.Certificate || barred(s, f, at) != nil {
		return messages.Decision{Reply: messages.Rechecked{}}
	}
	return ask(messages.CloudQuestion{Certificate: c.Certificate, Thing: c.Thing, Background: true}, c)
}

// confirmPendingAnswered takes the cloud's word: only a yes makes it a device like others.
func confirmPendingAnswered(s Device, f Facts, a messages.CloudAnswered, c messages.ConfirmPending, at messages.Instant) messages.Decision {
	d := messages.Decision{Reply: messages.Rechecked{Asked: true, Verdict: a.Answer.Verdict, Failure: a.Answer.Failure}}
	switch {
	case s.Pending == nil || s.Pending.Certificate != c.Certificate:
		return messages.Decision{Reply: messages.Rechecked{}}
	case a.Answer.Verdict == messages.CloudDenied:
		d.Events = endPending(s, c.Certificate, messages.Source_SOURCE_CLOUD, "the cloud says the certificate does not belong to the thing: "+a.Answer.Detail)
	case a.Answer.Verdict != messages.CloudConfirmed || barred(s, f, at) != nil:
	case stale(f, a, s.WithdrawnMs, at):
		return confirmPending(s, f, c, at)
	default:
		d.Events = attach(s, c.Certificate)
	}
	return d
}

// evolved is s after events that happen at the same moment.
func evolved(s Device, events []messages.Event, at messages.Instant) Device {
	for _, e := range events {
		s = EvolveDevice(s, e, at)
	}
	return s
}

// clip bounds a text for the log.
func clip(text string, most int) string {
	return strings.ToValidUTF8(text[:min(len(text), most)], "")
}
