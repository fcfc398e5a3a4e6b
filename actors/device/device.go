package device

import (
	"cmp"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// sessionsMax bounds the live sessions of one device; the oldest goes when another is
// opened. The reference has only the bound over all devices, which lets one noisy
// client log the others out (reliability spec, R9).
const sessionsMax = 16

// noReason stands for a reason nobody gave: an empty one would mean "not quarantined".
const noReason = "no reason given"

// Device is the state of a device entity. The zero value is a device nobody knows.
type Device struct {
	Attachments []Attachment // by certificate
	Sessions    []Session    // oldest first
	WithdrawnMs int64        // when an attachment, or the pending admission, was last withdrawn; 0: never
	Quarantined string       // why; empty: it is not
	Pending     *Pending     // nil: it is not admitted as pending
	Settled     Settled
}

// confirmed is when an attachment was last confirmed, and whether it is held at all.
func (s *Device) confirmed(f Facts, id messages.CertificateID) (ms int64, held bool) {
	ms, held = s.attachment(id)
	if held && f.Voided {
		ms = messages.VoidMs
	}
	return ms, held
}

// DecideDevice judges one command about a device.
func DecideDevice(thing messages.ThingName, s Device, f Facts, in messages.Input) (messages.Decision, error) {
	switch c := in.Command.(type) {
	case messages.OpenSession:
		return open(s, f, c, in), nil
	case messages.RecheckAttachment:
		return recheckAttachment(s, f, c, in.At), nil
	case messages.AdmitPending:
		return admit(s, f, c, in), nil
	case messages.ConfirmPending:
		return confirmPending(s, f, c, in.At), nil
	case messages.WithdrawPending:
		return withdrawPending(s, c), nil
	case messages.SettleRegistration:
		return settle(s, c), nil
	case messages.CloudAnswered:
		switch then := c.Then.(type) {
		case messages.OpenSession:
			return openAnswered(s, f, c, then, in), nil
		case messages.RecheckAttachment:
			return recheckAttachmentAnswered(s, f, c, then, in.At), nil
		case messages.ConfirmPending:
			return confirmPendingAnswered(s, f, c, then, in.At), nil
		}
		return messages.Decision{}, fmt.Errorf("device: unexpected answer for %T", c.Then)
	case messages.CloseSession:
		return closeOne(s, c), nil
	case messages.CloseSessions:
		return messages.Decision{Events: closeAll(s, c.Certificate, c.Reason, c.Detail), Reply: messages.Done{}}, nil
	case messages.QuarantineDevice:
		return quarantine(s, c, in.At), nil
	case messages.ReleaseDevice:
		return release(s, c), nil
	case messages.ForgetDevice:
		return forget(s, f, c), nil
	case messages.RecordDenial:
		return messages.Decision{Events: []messages.Event{c.Denial}, Reply: messages.Done{}}, nil
	default:
		return messages.Decision{}, fmt.Errorf("device %s: unexpected command %T", thing, c)
	}
}

// open is client-device-auth spec 5.2, steps 2 and 4. (Steps 1 and 3, the form of the
// client id, are the parser's: a command holds a ThingName.)
func open(s Device, f Facts, c messages.OpenSession, in messages.Input) messages.Decision {
	if r := barred(s, f, in.At); r != nil {
		return messages.Decision{Reply: r}
	}
	if f.NetworkUp {
		return askAttachment(s, f, c, in.At)
	}
	return openLocally(s, f, c, in, "the cloud is away")
}

// askAttachment asks whether the certificate belongs to the thing; a stored attachment
// will do, if it counts. Who has one good certificate can claim any number of things with
// it: they are strangers.
func askAttachment(s Device, f Facts, c messages.OpenSession, at messages.Instant) messages.Decision {
	confirmedMs, held := s.confirmed(f, c.Certificate)
	q := messages.AskCloud{Question: messages.CloudQuestion{Certificate: c.Certificate, Thing: c.Thing, Stranger: !held}, Then: c}
	if held && f.Trust.Holds(confirmedMs, at.TrustMs) {
		q.Late = messages.RecheckAttachment{Thing: c.Thing, Certificate: c.Certificate}
	}
	return messages.Decision{Effects: []messages.Effect{q}}
}

// barred says why the device may not have a session whatever the attachment says.
func barred(s Device, f Facts, at messages.Instant) *messages.Refusal {
	switch {
	case s.Quarantined != "":
		return messages.Refuse(messages.RefusedInvalidCredential, "the device is quarantined: %s", s.Quarantined)
	case !f.Certificate.Verified:
		return messages.Refuse(messages.RefusedInvalidCredential, "the certificate is not verified")
	case !f.Trust.Trusted(f.Certificate, at.TrustMs):
		return messages.Refuse(messages.RefusedInvalidCredential, "trust in the certificate has lapsed, or the certificate has expired")
	}
	return nil
}

// openAnswered is client-device-auth spec 5.2, step 4. The cloud's no counts whatever
// else bars the device: what it takes away must not come back when the bar is lifted.
func openAnswered(s Device, f Facts, a messages.CloudAnswered, c messages.OpenSession, in messages.Input) messages.Decision {
	if r := barred(s, f, in.At); r != nil && a.Answer.Verdict != messages.CloudDenied {
		return messages.Decision{Reply: r}
	}
	switch a.Answer.Verdict {
	case messages.CloudConfirmed:
		if stale(f, a, s.WithdrawnMs, in.At) {
			return askAttachment(s, f, c, in.At)
		}
		attached := attach(s, c.Certificate)
		d := grant(evolved(s, attached, in.At), f, c, in, messages.Source_SOURCE_CLOUD)
		d.Events = append(attached, d.Events...)
		return d
	case messages.CloudDenied:
		reason := "the cloud says the certificate does not belong to the thing: " + a.Answer.Detail
		d := withdraw(s, f, c.Certificate, reason)
		d.Events = append(d.Events, endPending(s, c.Certificate, messages.Source_SOURCE_CLOUD, reason)...)
		d.Reply = messages.Refuse(messages.RefusedInvalidCredential,
			"the certificate does not belong to the thing (the client id must be the thing name): %s", a.Answer.Detail)
		return d
	default:
		return openLocally(s, f, c, in, "the cloud gave no answer: "+a.Answer.Detail)
	}
}

// openLocally decides by the stored attachment alone.
func openLocally(s Device, f Facts, c messages.OpenSession, in messages.Input, why string) messages.Decision {
	confirmedMs, held := s.confirmed(f, c.Certificate)
	switch {
	case !held:
		return messages.Decision{Reply: messages.Refuse(messages.RefusedInvalidCredential,
			"the certificate was never confirmed to belong to the thing, and %s", why)}
	case !f.Trust.Holds(confirmedMs, in.At.TrustMs):
		return messages.Decision{Reply: messages.Refuse(messages.RefusedInvalidCredential,
			"trust in the attachment lapsed (last confirmed %s), and %s", messages.Instant{TrustMs: confirmedMs}.Trust().Format("2006-01-02T15:04:05Z"), why)}
	}
	return grant(s, f, c, in, messages.Source_SOURCE_LOCAL)
}

// grant opens the session, or says that the policy does not let the device connect.
// That denial goes on record where it is bounded, not here: a device that is refused and
// comes again and again must not fill the disk.
func grant(s Device, f Facts, c messages.OpenSession, in messages.Input, source messages.Source) messages.Decision {
	if c.Connect && !f.ConnectAllowed {
		return messages.Decision{Reply: messages.ConnectDenied{Thing: c.Thing, Certificate: c.Certificate}}
	}
	var events []messages.Event
	if len(s.Sessions) >= sessionsMax {
		events = append(events, closed(oldest(s), messages.CloseReason_CLOSE_EVICTED, "the device opened too many sessions"))
	}
	token := messages.TokenFrom(in.Nonce)
	digest := token.Digest()
	events = append(events, &messages.SessionOpened{
		Session: digest[:], CertificateId: string(c.Certificate), Broker: string(c.Broker), Source: source,
	})
	return messages.Decision{Events: events, Reply: messages.SessionReady{
		Token: token, Thing: c.Thing, Certificate: c.Certificate, Source: source,
	}}
}

// withdraw takes an attachment away, if it was held, and ends the sessions that rest
// on it.
func withdraw(s Device, f Facts, id messages.CertificateID, reason string) messages.Decision {
	var d messages.Decision
	if _, held := s.attachment(id); !held {
		return d
	}
	d.Events = append(d.Events, &messages.AttachmentWithdrawn{
		CertificateId: string(id), Source: messages.Source_SOURCE_CLOUD, Reason: reason,
	})
	if f.CloseOnRevoke {
		d.Events = append(d.Events, closeAll(s, id, messages.CloseReason_CLOSE_ATTACHMENT_WITHDRAWN, reason)...)
	}
	return d
}

func recheckAttachment(s Device, f Facts, c messages.RecheckAttachment, at messages.Instant) messages.Decision {
	confirmedMs, held := s.confirmed(f, c.Certificate)
	if !held {
		return messages.Decision{Reply: messages.Rechecked{}}
	}
	q := messages.CloudQuestion{Certificate: c.Certificate, Thing: c.Thing, Background: c.Refresh}
	if f.Trust.Holds(confirmedMs, at.TrustMs) {
		q.EndsMs = confirmedMs + f.Trust.DurationMs
	}
	return ask(q, c)
}

// recheckAttachmentAnswered settles a recheck; see recheckAnswered.
func recheckAttachmentAnswered(s Device, f Facts, a messages.CloudAnswered, c messages.RecheckAttachment, at messages.Instant) messages.Decision {
	confirmedMs, held := s.confirmed(f, c.Certificate)
	if !held {
		return messages.Decision{Reply: messages.Rechecked{}}
	}
	d := messages.Decision{}
	switch a.Answer.Verdict {
	case messages.CloudConfirmed:
		if stale(f, a, s.WithdrawnMs, at) {
			return recheckAttachment(s, f, c, at)
		}
		if c.Refresh || renewDue(f.Trust, confirmedMs, at.TrustMs) {
			d.Events = []messages.Event{&messages.AttachmentVerified{CertificateId: string(c.Certificate), Source: messages.Source_SOURCE_CLOUD}}
		}
	case messages.CloudDenied:
		d = withdraw(s, f, c.Certificate, "the cloud says the certificate no longer belongs to the thing: "+a.Answer.Detail)
	default:
		if f.CloseOnRevoke && !c.Refresh && !f.Trust.Holds(confirmedMs, at.TrustMs) {
			d.Events = closeAll(s, c.Certificate, messages.CloseReason_CLOSE_TRUST_LAPSED,
				"trust in the attachment lapsed, and the cloud gave no answer: "+a.Answer.Detail)
		}
	}
	d.Reply = messages.Rechecked{Asked: true, Verdict: a.Answer.Verdict, Failure: a.Answer.Failure}
	return d
}

func closeOne(s Device, c messages.CloseSession) messages.Decision {
	d := messages.Decision{Reply: messages.Done{}}
	if s.live(c.Session) {
		d.Events = []messages.Event{closed(c.Session, c.Reason, c.Detail)}
	}
	return d
}

// closeAll ends the sessions opened with certificate, or all of them if it is empty,
// oldest first.
func closeAll(s Device, certificate messages.CertificateID, why messages.CloseReason, detail string) []messages.Event {
	var events []messages.Event
	for i := range s.Sessions {
		if x := &s.Sessions[i]; certificate == "" || x.Certificate == certificate {
			events = append(events, closed(x.Digest, why, detail))
		}
	}
	return events
}

func quarantine(s Device, c messages.QuarantineDevice, at messages.Instant) messages.Decision {
	if s.Quarantined != "" {
		return messages.Decision{Reply: messages.Done{}}
	}
	reason := cmp.Or(c.Reason, noReason)
	events := endPending(s, "", c.Source, "the device is quarantined: "+reason)
	events = append(events, &messages.DeviceQuarantined{Source: c.Source, Reason: reason})
	events = append(events, closeAll(evolved(s, events, at), "", messages.CloseReason_CLOSE_QUARANTINED, reason)...)
	return messages.Decision{Events: events, Reply: messages.Done{}}
}

func release(s Device, c messages.ReleaseDevice) messages.Decision {
	d := messages.Decision{Reply: messages.Done{}}
	if s.Quarantined != "" {
		d.Events = []messages.Event{&messages.DeviceReleased{Source: c.Source, Reason: c.Reason}}
	}
	return d
}

// forget removes a device. If the cloud brought it about, and withdrawn trust is to leave
// sessions alone (sessions.closeOnRevoke), its attachments go and its sessions stay.
func forget(s Device, f Facts, c messages.ForgetDevice) messages.Decision {
	d := messages.Decision{Reply: messages.Done{}}
	if len(s.Attachments) == 0 && len(s.Sessions) == 0 && s.Pending == nil {
		return d
	}
	if c.Source == messages.Source_SOURCE_CLOUD && !f.CloseOnRevoke && len(s.Sessions) > 0 {
		d.Events = endPending(s, "", c.Source, c.Reason)
		for _, a := range s.Attachments {
			d.Events = append(d.Events, &messages.AttachmentWithdrawn{CertificateId: string(a.Certificate), Source: c.Source, Reason: c.Reason})
		}
		return d
	}
	d.Events = closeAll(s, "", messages.CloseReason_CLOSE_FORGOTTEN, c.Reason)
	d.Events = append(d.Events, &messages.DeviceForgotten{Source: c.Source, Reason: c.Reason})
	return d
}

// EvolveDevice folds one event. It cannot fail: what is in the log happened.
func EvolveDevice(s Device, e messages.Event, at messages.Instant) Device {
	switch e := e.(type) {
	case *messages.AttachmentVerified:
		s.Attachments = withAttachment(s.Attachments, Attachment{s.shared(e.CertificateId), at.TrustMs})
		s.Pending = nil
	case *messages.AttachmentWithdrawn:
		s.Attachments = withoutAttachment(s.Attachments, messages.CertificateID(e.CertificateId))
		s.Pending, s.WithdrawnMs = nil, at.TrustMs
	case *messages.DeviceForgotten:
		s = Device{WithdrawnMs: at.TrustMs, Quarantined: s.Quarantined}
	case *messages.SessionOpened:
		s.Sessions = withSession(s.Sessions, Session{
			Digest: digestOf(e.Session), Certificate: s.shared(e.CertificateId), Broker: messages.BrokerID(e.Broker), OpenedMs: at.TrustMs,
		})
	case *messages.PendingSessionOpened:
		s.Sessions = withSession(s.Sessions, Session{
			Digest: digestOf(e.Session), Certificate: s.shared(e.CertificateId), Broker: messages.BrokerID(e.Broker), OpenedMs: at.TrustMs, Pending: true,
		})
	case *messages.DevicePending:
		s.Pending = &Pending{
			Certificate: messages.CertificateID(e.CertificateId), AdmittedMs: at.TrustMs, NotBeforeMs: e.NotBeforeMs, NotAfterMs: e.NotAfterMs,
		}
	case *messages.PendingWithdrawn:
		s.Pending, s.WithdrawnMs = nil, at.TrustMs
	case *messages.DeviceRegistered:
		s.Settled = Settled{messages.CertificateID(e.CertificateId), e.Outcome}
	case *messages.SessionClosed:
		s.Sessions = withoutSession(s.Sessions, digestOf(e.Session))
	case *messages.DeviceQuarantined:
		s.Quarantined = cmp.Or(e.Reason, noReason)
		if s.Pending != nil {
			s.Pending, s.WithdrawnMs = nil, at.TrustMs
		}
	case *messages.DeviceReleased:
		s.Quarantined = ""
	}
	return s
}

func closed(digest messages.TokenDigest, why messages.CloseReason, detail string) *messages.SessionClosed {
	return &messages.SessionClosed{Session: digest[:], Reason: why, Detail: detail}
}

func oldest(s Device) messages.TokenDigest { return s.Sessions[0].Digest }

// digestOf reads a digest from an event. One of another length is no session's: it
// becomes a digest that no token has in practice, and the fold goes on.
func digestOf(b []byte) messages.TokenDigest {
	var d messages.TokenDigest
	copy(d[:], b)
	return d
}
