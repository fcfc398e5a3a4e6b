package projections

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// DefaultPendingGroup is the policy's group of pending devices, unless another is named.
const DefaultPendingGroup = "pending"

// pending is the admission of a device that nobody registered. Authorization reads its
// atomics without a lock; the rest never changes.
type pending struct {
	basis       // confirmed when it was admitted; never: it is so no more
	thing       messages.ThingName
	certificate messages.CertificateID
	authority   messages.CertificateID
	subject     string
	rule        string
	der         []byte
	notBeforeMs int64
	notAfterMs  atomic.Int64
	seq         uint64 // the DevicePending record
	accepted    atomic.Bool
}

// why says why the admission does not count at nowMs; "" if it does.
func (p *pending) why(trust messages.Trust, nowMs int64) string {
	switch ms := p.confirmedMs.Load(); ms {
	case never:
		return "it is admitted as pending no more"
	case messages.VoidMs:
		return "its admission" + voidWords
	default:
		return trust.NotAdmitted(ms, p.notBeforeMs, p.notAfterMs.Load(), nowMs)
	}
}

// endMs is the first millisecond at which the admission does not count any more, if nothing
// happens; never if it does not count now.
func (p *pending) pendingEndMs(trust messages.Trust) int64 {
	end := p.basis.endMs(trust)
	if end == never || trust.Doubted {
		return never
	}
	return min(end, p.notAfterMs.Load()+1)
}

func (v *Views) devicePending(rec *messages.Record, e *messages.DevicePending) {
	name, ok := rec.Stream.Device()
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.admissions.add(rec.At.TrustMs)
	if v.isPoisoned(rec.Stream) {
		return
	}
	v.dropPending(name)
	p := &pending{
		thing: name, certificate: messages.CertificateID(e.CertificateId), authority: messages.CertificateID(e.AuthorityId),
		subject: e.Subject, rule: e.Rule, der: slices.Clone(e.Der), notBeforeMs: e.NotBeforeMs, seq: rec.Seq,
	}
	p.notAfterMs.Store(e.NotAfterMs)
	p.confirmedMs.Store(rec.At.TrustMs)
	v.thingOf(name).pending = p
	v.pending[name] = p
}

// dropPending lets the admission of name count no more; mu is held.
func (v *Views) dropPending(name messages.ThingName) {
	p := v.pending[name]
	if p == nil {
		return
	}
	p.confirmedMs.Store(never) // sessions hold a pointer to it
	v.agenda.changed(&p.basis)
	delete(v.pending, name)
	if t := v.things[name]; t != nil {
		t.pending = nil
	}
}

// pendingWithdrawn ends an admission and its sessions, also where withdrawn trust leaves
// others alone (sessions.closeOnRevoke).
func (v *Views) pendingWithdrawn(name messages.ThingName, reason string) {
	v.endPending(name)
	v.endAll(v.pendingSessions(func(s *Session) bool { return s.Thing == name }), messages.CloseReason_CLOSE_PENDING_ENDED, reason)
}

func (v *Views) endPending(name messages.ThingName) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropPending(name)
}

// endPendingBy ends what was admitted by a certificate about which there is other word now.
func (v *Views) endPendingBy(id messages.CertificateID, why messages.CloseReason, reason string) {
	v.mu.Lock()
	for name, p := range v.pending {
		if p.certificate == id {
			v.dropPending(name)
		}
	}
	v.mu.Unlock()
	v.endAll(v.pendingSessions(func(s *Session) bool { return s.Certificate == id }), why, reason)
}

// pendingSessions lists the live sessions of pending devices that match accepts.
func (v *Views) pendingSessions(match func(*Session) bool) []*Session {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var list []*Session
	for s := range v.ofPending {
		if match(s) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, byOpening)
	return list
}

// addPendingSession adds a session that rests on the admission of its device alone; live is
// false during replay, when nothing is evicted.
func (v *Views) addPendingSession(rec *messages.Record, name messages.ThingName, e *messages.PendingSessionOpened) (live bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := messages.CertificateID(e.CertificateId)
	if v.isPoisoned(rec.Stream) || v.isPoisoned(messages.CertificateStream(id)) {
		return false
	}
	t := v.thingOf(name)
	p := t.pending
	if p == nil || p.certificate != id {
		p = &pending{thing: name, certificate: id} // a session without an admission: it may do nothing
		p.confirmedMs.Store(never)
	}
	s := &Session{
		Digest: messages.TokenDigest(e.Session), Thing: t.name, Certificate: p.certificate, Broker: v.brokerOf(e.Broker),
		OpenedMs: rec.At.TrustMs, OpenedSeq: rec.Seq, thing: t, pending: p,
	}
	if !v.table.insert(s) {
		return false
	}
	t.sessions.enter(s, ofThing)
	v.ofPending[s] = struct{}{}
	v.agenda.restPending(p)
	return !v.replaying
}

func (v *Views) pendingSessionOpened(rec *messages.Record, e *messages.PendingSessionOpened) {
	name, ok := rec.Stream.Device()
	if ok && len(e.Session) == len(messages.TokenDigest{}) && v.addPendingSession(rec, name, e) {
		v.evict(v.section.Load().Performance.MaxActiveAuthTokens, false)
	}
}

// registered notes the registrar's yes about a pending device, which leaves it pending.
func (v *Views) registered(rec *messages.Record, e *messages.DeviceRegistered) {
	name, ok := rec.Stream.Device()
	if !ok || e.Outcome != messages.RegistrationOutcome_REGISTRATION_ACCEPTED {
		return
	}
	v.mu.RLock()
	defer v.mu.RUnlock()
	if p := v.pending[name]; p != nil && string(p.certificate) == e.CertificateId {
		p.accepted.Store(true)
	}
}

// admissions are the trust times of the admissions of the last hour.
type admissions []int64

func (a *admissions) add(ms int64) {
	*a = append(slices.DeleteFunc(*a, func(old int64) bool { return old <= ms-hourMs }), ms)
}

// PendingDevices lists the pending devices, those admitted first first.
func (v *Views) PendingDevices() []messages.PendingDevice {
	v.mu.RLock()
	defer v.mu.RUnlock()
	list := make([]messages.PendingDevice, 0, len(v.pending))
	for name := range v.pending {
		list = append(list, *v.pendingOf(v.things[name]))
	}
	slices.SortFunc(list, func(a, b messages.PendingDevice) int { return cmp.Compare(a.Seq, b.Seq) })
	return list
}

// pendingOf describes the admission of t, nil if there is none; mu is held.
func (v *Views) pendingOf(t *thing) *messages.PendingDevice {
	if t.pending == nil {
		return nil
	}
	p := t.pending
	d := &messages.PendingDevice{
		Thing: p.thing, Certificate: p.certificate, Authority: p.authority, Subject: p.subject, Rule: p.rule, DER: p.der,
		AdmittedMs: p.confirmedMs.Load(), NotBeforeMs: p.notBeforeMs, NotAfterMs: p.notAfterMs.Load(), Seq: p.seq, Accepted: p.accepted.Load(),
	}
	for _, s := range t.sessions {
		if s.pending == p {
			d.Sessions++
		}
	}
	return d
}

// PendingCount says how many devices are pending, whether that still counts or not, and how
// many were admitted within the hour before nowMs, of trust time: whoever sets limits counts
// what is on record, so that a restart does not lift them. coming are those of underway that
// are not pending: an order is on record a moment before its giver hears of it, and counts once.
func (v *Views) PendingCount(nowMs int64, underway map[*messages.AdmitPending]struct{}) (held, lastHour, coming int) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, ms := range v.admissions {
		if ms > nowMs-hourMs { // also one from ahead of a clock that was set back
			lastHour++
		}
	}
	for order := range underway {
		if !v.isPending(order.Thing, order.Certificate) {
			coming++
		}
	}
	return len(v.pending), lastHour, coming
}

// IsPending reports whether name is pending by certificate id.
func (v *Views) IsPending(name messages.ThingName, id messages.CertificateID) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.isPending(name, id)
}

// isPending is IsPending; mu is held.
func (v *Views) isPending(name messages.ThingName, id messages.CertificateID) bool {
	p := v.pending[name]
	return p != nil && p.certificate == id
}

// CertificateKnown reports whether the log holds, or held, the cloud's word about a
// certificate, or cannot be read about it.
func (v *Views) CertificateKnown(id messages.CertificateID) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	c := v.certificates[id]
	return c != nil || v.isPoisoned(messages.CertificateStream(id))
}

// Quarantined reports whether name is, or its records cannot be read.
func (v *Views) Quarantined(name messages.ThingName) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t := v.things[name]
	return t != nil && t.quarantined != "" || v.isPoisoned(messages.DeviceStream(name))
}

// SetPendingGroup names the policy's group of pending devices; call it before anybody asks.
func (v *Views) SetPendingGroup(name string) { v.pendingGroup.Store(&name) }

// PendingGroup is the policy's group of pending devices.
func (v *Views) PendingGroup() string { return *v.pendingGroup.Load() }

// PendingConnectAllowed says whether the policy in force lets name connect as a pending
// device, and which policy.
func (v *Views) PendingConnectAllowed(name messages.ThingName) (bool, string) {
	p, group := v.policy.Load(), v.PendingGroup()
	allowed := p.current.Alone(name, group).ConnectAllowed() && (p.next == nil || p.next.Alone(name, group).ConnectAllowed())
	return allowed, p.current.Revision()
}

// Pending reports whether s is the session of a pending device.
func (s *Session) Pending() bool { return s.pending != nil }

// PolicyOf is c as it applies to the session: a pending device is in one group alone.
func (v *Views) PolicyOf(s *Session, c *policy.Compiled) *policy.ThingPolicy {
	if s.pending != nil {
		return c.Alone(s.Thing, v.PendingGroup())
	}
	return c.For(s.Thing)
}
