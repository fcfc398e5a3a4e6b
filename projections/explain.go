package projections

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Explanation says why something was, or would be, allowed or refused.
type Explanation struct {
	// Question, in a sentence.
	Question string `json:"question"`
	// Allowed and Answer are the decision and its reason in words.
	Allowed bool   `json:"allowed"`
	Answer  string `json:"answer"`
	// Advice is what to do about it; empty if there is nothing to do.
	Advice string `json:"advice,omitempty"`
	// When is the moment of the decision that is explained; absent if it is "now".
	When   *time.Time          `json:"when,omitempty"`
	Trust  []string            `json:"trust"` // what is known of the device, a sentence each
	Policy *policy.Explanation `json:"policy,omitempty"`
	Events []EventRef          `json:"events"` // the records it rests on, oldest first
}

// EventRef names a record of the log.
type EventRef struct {
	Seq  uint64    `json:"seq"`
	Kind string    `json:"kind"`
	Time time.Time `json:"time"`
	Note string    `json:"note,omitempty"`
}

// eventsMax is how many records an explanation names.
const eventsMax = 12

// Explainer explains decisions from the log and the read models.
type Explainer struct {
	Views *Views
	Log   interface {
		Read(ctx context.Context, stream messages.StreamID, fromVersion uint64) iter.Seq2[messages.Record, error]
	}
	Trust func() messages.Trust
	NowMs func() int64
}

// ExplainDenied explains a recorded denial.
func (x *Explainer) ExplainDenied(ctx context.Context, d Denied) (Explanation, error) {
	denied, when := d.Event, d.At.Wall()
	e := Explanation{When: &when, Answer: "refused: " + denied.Reason}
	name, nameErr := messages.ParseThingName(denied.Thing)
	shown := messages.CertificateID(denied.CertificateId)
	switch {
	case denied.Operation == "authenticate" || denied.Operation == "verify":
		e.Question = fmt.Sprintf("why could a client that calls itself %q not connect through broker %s?", denied.Thing, denied.Broker)
		e.Advice = denialAdvice[messages.ClassOfDenial(denied.Operation, denied.Reason)]
	case denied.Operation == messages.OperationCredentials && denied.Broker == "":
		e.Question = "why did a local program get no AWS credentials?"
		if denied.Resource != "" {
			e.Question = fmt.Sprintf("why did a local program get no AWS credentials as consumer %s?", denied.Resource)
		}
		e.Advice = denialAdvice[messages.DeniedCredentials]
	default:
		e.Question = fmt.Sprintf("why was %s refused %s on %s?", denied.Thing, denied.Operation, denied.Resource)
		device, _ := x.Views.Device(name)
		now := x.policy(device, name, denied.Operation, denied.Resource)
		e.Policy, e.Advice = &now, x.policyAdvice(device)
	}
	if nameErr == nil {
		if err := x.about(ctx, name, shown, &e); err != nil {
			return Explanation{}, err
		}
	} else if shown != "" {
		e.Trust = append(e.Trust, x.certificate(shown))
	}
	e.Events = append(e.Events, EventRef{Seq: d.Seq, Kind: messages.KindAccessDenied.String(), Time: when, Note: denied.Reason})
	e.Events = inOrder(e.Events, d.Seq)
	return e, nil
}

// ExplainClosed explains the end of a session.
func (x *Explainer) ExplainClosed(ctx context.Context, c Closed) (Explanation, error) {
	when := c.At.Wall()
	e := Explanation{
		Question: fmt.Sprintf("why did the session of %s end?", c.Thing), When: &when,
		Answer: "ended: " + endings[c.Event.Reason],
		Advice: closeAdvice[c.Event.Reason],
	}
	if c.Event.Detail != "" {
		e.Answer += ": " + c.Event.Detail
	}
	if err := x.about(ctx, c.Thing, "", &e); err != nil {
		return Explanation{}, err
	}
	e.Events = inOrder(append(e.Events, EventRef{Seq: c.Seq, Kind: messages.KindSessionClosed.String(), Time: when, Note: c.Event.Detail}), c.Seq)
	return e, nil
}

// endings says in words why a session ended; closeAdvice what to do about it.
var (
	endings = map[messages.CloseReason]string{
		messages.CloseReason_CLOSE_EVICTED:              "too many sessions were open, and this one was used longest ago",
		messages.CloseReason_CLOSE_CERTIFICATE_REFUSED:  "its certificate is no longer good",
		messages.CloseReason_CLOSE_ATTACHMENT_WITHDRAWN: "its certificate no longer belongs to it",
		messages.CloseReason_CLOSE_TRUST_LAPSED:         "it was not confirmed by the cloud for longer than the trust duration",
		messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED:  "its certificate has expired",
		messages.CloseReason_CLOSE_QUARANTINED:          "it is quarantined",
		messages.CloseReason_CLOSE_BY_OPERATOR:          "an operator ended it",
		messages.CloseReason_CLOSE_FORGOTTEN:            "it was removed",
		messages.CloseReason_CLOSE_CONNECT_DENIED:       "the policy does not let it connect any more",
		messages.CloseReason_CLOSE_REGISTERED:           "it was pending, and the cloud knows it now: it connects again with all its rights",
		messages.CloseReason_CLOSE_PENDING_ENDED:        "it was pending, and is admitted so no more",
	}
	closeAdvice = map[messages.CloseReason]string{
		messages.CloseReason_CLOSE_EVICTED:              "raise performance.maxActiveAuthTokens, or find who opens so many",
		messages.CloseReason_CLOSE_CERTIFICATE_REFUSED:  "register and activate a certificate for it in AWS IoT",
		messages.CloseReason_CLOSE_ATTACHMENT_WITHDRAWN: "attach its certificate to its thing in AWS IoT",
		messages.CloseReason_CLOSE_TRUST_LAPSED:         "bring the cloud back in reach; to bridge longer outages raise security.clientDeviceTrustDurationMinutes",
		messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED:  "give the device a certificate that is valid now",
		messages.CloseReason_CLOSE_PENDING_ENDED:        "bring the cloud back in reach, so that the device can be registered",
		messages.CloseReason_CLOSE_QUARANTINED:          "release it with `gatehouse device release` when it is safe again",
	}
)

// inOrder sorts references by number, names each record once, and leaves out what came
// after the decision.
func inOrder(refs []EventRef, until uint64) []EventRef {
	slices.SortStableFunc(refs, func(a, b EventRef) int { return cmp.Or(cmp.Compare(a.Seq, b.Seq), -cmp.Compare(a.Note, b.Note)) })
	refs = slices.CompactFunc(refs, func(a, b EventRef) bool { return a.Seq == b.Seq })
	refs = slices.DeleteFunc(refs, func(r EventRef) bool { return r.Seq > until })
	return refs[max(0, len(refs)-eventsMax):]
}

// denialAdvice tells what to do about a refused authentication.
var denialAdvice = map[messages.DenialClass]string{
	messages.DeniedCredentials:   "start the program by `gatehouse run`, as the user of one of tokenExchange.consumers",
	messages.DeniedNoCertificate: "give the client its certificate and key (mosquitto: --cert and --key)",
	messages.DeniedNotAttached:   "connect with the thing name as client id, and attach the certificate to that thing in the cloud",
	messages.DeniedRefused:       "register and activate the certificate in AWS IoT, or use the device's registered one",
	messages.DeniedLapsed:        "bring the cloud back in reach; to bridge longer outages raise security.clientDeviceTrustDurationMinutes",
	messages.DeniedUnknown:       "bring the cloud back in reach; to bridge longer outages raise security.clientDeviceTrustDurationMinutes",
	messages.DeniedNotValid:      "give the device a certificate that is valid now, and check the clocks",
	messages.DeniedQuarantined:   "release the device with `gatehouse device release` when it is safe again",
	messages.DeniedPending:       "nothing: the device comes again by itself; see `gatehouse status` if it takes long",
	messages.DeniedRegistration:  "change the rules under registration in gatehouse.yaml, or register the device in AWS IoT",
	messages.DeniedClientID:      "the client id must be the thing name: 1 to 128 of letters, digits, ':', '_' and '-'",
}

// ExplainAction explains what would be decided now for an action of a device.
func (x *Explainer) ExplainAction(ctx context.Context, name messages.ThingName, operation, resource string) (Explanation, error) {
	device, known := x.Views.Device(name)
	p := x.policy(device, name, operation, resource)
	e := Explanation{
		Question: fmt.Sprintf("may %s do %s on %s now?", name, operation, resource),
		Policy:   &p, Answer: p.Text,
	}
	if err := x.about(ctx, name, "", &e); err != nil {
		return Explanation{}, err
	}
	e.Events = inOrder(e.Events, math.MaxUint64)
	switch {
	case !p.Allowed:
		e.Advice = x.policyAdvice(device)
	case !known:
		e.Answer, e.Advice = "refused: the device has never been confirmed by the cloud; the policy would allow it", "let it connect once while the cloud is in reach"
	case device.Quarantined != "":
		e.Answer, e.Advice = "refused: the device is quarantined: "+device.Quarantined, "release it with `gatehouse device release` when it is safe again"
	case device.Pending != nil && notAdmitted(*device.Pending, x.now()) != "":
		e.Answer = "refused: the device was admitted as pending, and " + notAdmitted(*device.Pending, x.now())
		e.Advice = closeAdvice[messages.CloseReason_CLOSE_PENDING_ENDED]
	case len(device.Sessions) == 0:
		e.Answer = p.Text + " (the device is not connected now)"
		e.Allowed = true
	default:
		e.Allowed = true
	}
	return e, nil
}

// about adds what is known of a device, and the records it rests on.
func (x *Explainer) about(ctx context.Context, name messages.ThingName, shown messages.CertificateID, e *Explanation) error {
	device, known := x.Views.Device(name)
	if !known {
		e.Trust = append(e.Trust, fmt.Sprintf("nothing is stored about thing %s: the cloud never confirmed a certificate of it", name))
	}
	if device.Quarantined != "" {
		e.Trust = append(e.Trust, "the device is quarantined: "+device.Quarantined)
	}
	if device.Pending != nil {
		e.Trust = append(e.Trust, x.pending(*device.Pending))
	}
	held := false
	streams := []messages.StreamID{}
	for _, a := range device.Attachments {
		held = held || a.Certificate == shown
		e.Trust = append(e.Trust, x.certificate(a.Certificate), x.attachment(name, a))
		streams = append(streams, messages.CertificateStream(a.Certificate))
	}
	if shown != "" && !held {
		e.Trust = append(e.Trust, fmt.Sprintf("the certificate that was shown, %.12s…, is not known to belong to %s", shown, name), x.certificate(shown))
		streams = append(streams, messages.CertificateStream(shown))
	}
	for _, s := range device.Sessions {
		e.Trust = append(e.Trust, fmt.Sprintf("session %s is open through broker %s since %s", s.Digest.Short(), s.Broker, stamp(s.OpenedMs)))
	}
	for _, stream := range append(streams, messages.DeviceStream(name)) {
		if err := x.history(ctx, stream, e); err != nil {
			return err
		}
	}
	return nil
}

// history names the last records of a stream.
func (x *Explainer) history(ctx context.Context, stream messages.StreamID, e *Explanation) error {
	var refs []EventRef
	for rec, err := range x.Log.Read(ctx, stream, 1) {
		if err != nil {
			return fmt.Errorf("read %s: %w", stream, err)
		}
		refs = append(refs, EventRef{Seq: rec.Seq, Kind: rec.Kind.String(), Time: rec.At.Wall(), Note: registrationNote(&rec)})
	}
	e.Events = append(e.Events, refs[max(0, len(refs)-eventsMax):]...)
	return nil
}

// registrationNote says of a record of registration who decided what.
func registrationNote(rec *messages.Record) string {
	switch rec.Kind {
	case messages.KindDevicePending, messages.KindDeviceRegistered, messages.KindPendingWithdrawn:
	default:
		return "" // not read for nothing
	}
	e, err := messages.FoldEvent(rec)
	if err != nil {
		return ""
	}
	switch e := e.(type) {
	case *messages.DevicePending:
		return fmt.Sprintf("rule %q, authority %.12s…", e.Rule, e.AuthorityId)
	case *messages.DeviceRegistered:
		outcome := map[messages.RegistrationOutcome]string{
			messages.RegistrationOutcome_REGISTRATION_ACCEPTED: "accepted", messages.RegistrationOutcome_REGISTRATION_DENIED: "denied",
		}[e.Outcome]
		return strings.TrimSpace(fmt.Sprintf("%s, rule %q: %s", outcome, e.Rule, e.Reason))
	case *messages.PendingWithdrawn:
		return e.Reason
	}
	return ""
}

// policy explains an action by the policy as it applies to the device.
func (x *Explainer) policy(d Device, name messages.ThingName, operation, resource string) policy.Explanation {
	if d.Pending != nil {
		return x.Views.Policy().ExplainAlone(name, x.Views.PendingGroup(), operation, resource)
	}
	return x.Views.Policy().Explain(name, operation, resource)
}

// policyAdvice says where an action is allowed that the policy denies d.
func (x *Explainer) policyAdvice(d Device) string {
	if d.Pending != nil {
		return fmt.Sprintf("bring the cloud back in reach: once registered it is in the groups whose rules pick it; or allow it in the policy of group %q, to all that are pending", x.Views.PendingGroup())
	}
	return "allow it in a policy of one of the device's groups, if it should be"
}

func (x *Explainer) now() Circumstances { return Circumstances{Trust: x.Trust(), NowMs: x.NowMs()} }

// pending is a sentence about a pending device: who admitted it, when, and until when.
func (x *Explainer) pending(p messages.PendingDevice) string {
	text := fmt.Sprintf("it is pending: the cloud could not be asked, nobody knew the device, authority %.12s… signed its certificate %.12s…, and rule %q admitted it (record %d)",
		p.Authority, p.Certificate, p.Rule, p.Seq)
	now := x.now()
	if why := notAdmitted(p, now); why != "" {
		return text + "; now it is not let in: " + why
	}
	text += fmt.Sprintf(" at %s; it is in group %q alone, until %s at the latest", stamp(p.AdmittedMs), x.Views.PendingGroup(), stamp(min(p.AdmittedMs+now.Trust.DurationMs, p.NotAfterMs+1)))
	if p.Accepted {
		text += "; its registration was accepted, and the cloud has still to vouch for it"
	}
	return text
}

// certificate is a sentence about a certificate.
func (x *Explainer) certificate(id messages.CertificateID) string {
	t := x.Views.CertificateTrust(id)
	now, trust := x.NowMs(), x.Trust()
	switch {
	case !t.Verified:
		return fmt.Sprintf("certificate %.12s… is not vouched for", id)
	case !messages.ValidAt(t.NotBeforeMs, t.NotAfterMs, now):
		return fmt.Sprintf("certificate %.12s… is valid from %s to %s only", id, stamp(t.NotBeforeMs), stamp(t.NotAfterMs))
	case t.VerifiedMs == messages.VoidMs:
		return fmt.Sprintf("trust in certificate %.12s…", id) + voidWords
	case !trust.Holds(t.VerifiedMs, now):
		return fmt.Sprintf("certificate %.12s… was last vouched for at %s; trust has lapsed", id, stamp(t.VerifiedMs))
	}
	return fmt.Sprintf("certificate %.12s… was vouched for at %s and is trusted until %s", id, stamp(t.VerifiedMs), stamp(t.VerifiedMs+trust.DurationMs))
}

func (x *Explainer) attachment(name messages.ThingName, a Attachment) string {
	if a.ConfirmedMs == messages.VoidMs {
		return fmt.Sprintf("that it belongs to %s", name) + voidWords
	}
	if now, trust := x.NowMs(), x.Trust(); !trust.Holds(a.ConfirmedMs, now) {
		return fmt.Sprintf("that it belongs to %s was last confirmed at %s; trust has lapsed", name, stamp(a.ConfirmedMs))
	}
	return fmt.Sprintf("that it belongs to %s was confirmed at %s and is trusted until %s", name, stamp(a.ConfirmedMs), stamp(a.ConfirmedMs+x.Trust().DurationMs))
}

func stamp(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05Z") }
