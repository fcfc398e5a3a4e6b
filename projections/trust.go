package projections

import (
	"cmp"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func (v *Views) certificateVerified(rec *messages.Record, e *messages.CertificateVerified) {
	id, ok := rec.Stream.Certificate()
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.isPoisoned(rec.Stream) {
		return
	}
	c := v.certificateOf(id)
	c.notBeforeMs.Store(e.NotBeforeMs)
	c.notAfterMs.Store(e.NotAfterMs)
	c.confirmedMs.Store(rec.At.TrustMs)
	v.agenda.changed(&c.basis)
}

// certificateRefused forgets the record and, unless parity is asked for, ends every
// session that rests on it, at once.
func (v *Views) certificateRefused(id messages.CertificateID, e *messages.CertificateRefused, at messages.Instant) {
	c := v.distrust(id)
	v.endPendingBy(id, messages.CloseReason_CLOSE_PENDING_ENDED, e.Reason)
	if c == nil || !v.CloseOnRevoke() {
		return
	}
	why := messages.CloseReason_CLOSE_CERTIFICATE_REFUSED
	if e.Source == messages.Source_SOURCE_LOCAL { // nobody said no: its time was up
		why = messages.CloseReason_CLOSE_TRUST_LAPSED
		if at.TrustMs > c.notAfterMs.Load() {
			why = messages.CloseReason_CLOSE_CERTIFICATE_EXPIRED
		}
	}
	v.endAll(v.sessionsWith(id), why, e.Reason)
}

// distrust takes back what confirmed a certificate; nil if none is known.
func (v *Views) distrust(id messages.CertificateID) *certificate {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.certificates[id]
	if c != nil {
		c.confirmedMs.Store(never)
		v.agenda.changed(&c.basis)
	}
	return c
}

func (v *Views) attachmentVerified(rec *messages.Record, e *messages.AttachmentVerified) {
	name, ok := rec.Stream.Device()
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	id := messages.CertificateID(e.CertificateId)
	t, c := v.thingOf(name), v.certificateOf(id)
	at := t.attachment(id)
	if at == nil {
		at = t.restedOn(c)
		at.attach()
	}
	at.confirmedMs.Store(rec.At.TrustMs)
	v.agenda.changed(&at.basis)
	v.dropPending(name) // by whichever certificate: the log closes its sessions
}

// restedOn finds what the thing's sessions with a certificate rest on although it is not
// attached any more, or makes it anew. Views.mu is held.
func (t *thing) restedOn(c *certificate) *attachment {
	for _, s := range t.sessions {
		if s.cert == c {
			return s.attached
		}
	}
	return newAttachment(t, c)
}

func (v *Views) attachmentWithdrawn(name messages.ThingName, id messages.CertificateID, reason string) {
	v.detach(name, id)
	if v.CloseOnRevoke() {
		v.endAll(v.sessionsOf(name, id), messages.CloseReason_CLOSE_ATTACHMENT_WITHDRAWN, reason)
	}
}

func (v *Views) detach(name messages.ThingName, id messages.CertificateID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropPending(name)
	if t := v.things[name]; t != nil {
		if at := t.attachment(id); at != nil {
			at.confirmedMs.Store(never) // sessions hold a pointer to it
			v.agenda.changed(&at.basis)
			at.detach()
		}
	}
}

func (v *Views) forgotten(name messages.ThingName, reason string) {
	v.endAll(v.sessionsOf(name, ""), messages.CloseReason_CLOSE_FORGOTTEN, reason)
	v.mu.Lock()
	defer v.mu.Unlock()
	v.dropPending(name)
	t := v.things[name]
	if t == nil {
		return
	}
	for _, at := range slices.Clone(t.attachments) {
		at.detach()
	}
	if t.quarantined == "" {
		delete(v.things, name)
		v.thingsVersion++
	}
}

func (v *Views) quarantined(name messages.ThingName, reason string) {
	v.setQuarantine(name, cmp.Or(reason, "no reason given"))
	v.endPending(name)
	v.endAll(v.sessionsOf(name, ""), messages.CloseReason_CLOSE_QUARANTINED, reason)
}

func (v *Views) released(stream messages.StreamID) {
	if name, ok := stream.Device(); ok {
		v.setQuarantine(name, "")
	}
}

func (v *Views) setQuarantine(name messages.ThingName, reason string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.thingOf(name).quarantined = reason
}

func (v *Views) sessionOpened(rec *messages.Record, e *messages.SessionOpened) {
	if len(e.Session) != len(messages.TokenDigest{}) {
		return
	}
	live := false
	if name, ok := rec.Stream.Device(); ok {
		live = v.addSession(rec, name, e)
	} else if name, ok := rec.Stream.Component(); ok {
		live = v.addComponentSession(rec, name, e)
	}
	if live {
		v.evict(v.section.Load().Performance.MaxActiveAuthTokens, false)
	}
}

// addSession adds a session; live is false during replay, when nothing is evicted.
func (v *Views) addSession(rec *messages.Record, name messages.ThingName, e *messages.SessionOpened) (live bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	id := messages.CertificateID(e.CertificateId)
	if len(v.poisoned) > 0 && (v.isPoisoned(rec.Stream) || v.isPoisoned(messages.CertificateStream(id))) {
		return false
	}
	t, c := v.thingOf(name), v.certificateOf(id)
	attached := t.attachment(id)
	if attached == nil {
		attached = t.restedOn(c) // a session without attachment: its trust counts as lapsed
	}
	s := &Session{
		Digest: messages.TokenDigest(e.Session), Thing: t.name, Certificate: c.id, Broker: v.brokerOf(e.Broker),
		OpenedMs: rec.At.TrustMs, OpenedSeq: rec.Seq, thing: t, cert: c, attached: attached,
	}
	if !v.table.insert(s) {
		return false
	}
	t.sessions.enter(s, ofThing)
	c.sessions.enter(s, ofCertificate)
	v.agenda.rest(&c.basis, "", c.id, &c.notAfterMs)
	v.agenda.rest(&attached.basis, t.name, c.id, &c.notAfterMs)
	return !v.replaying
}

// isPoisoned reports whether the entity's records cannot be read; mu is held.
func (v *Views) isPoisoned(stream messages.StreamID) bool {
	_, bad := v.poisoned[stream]
	return bad
}

// evict ends the least recently used session beyond limit: one for each that is opened
// (client-device-auth spec 4), or all that are too many after a replay.
func (v *Views) evict(limit int, all bool) {
	for {
		s := v.table.oldest(limit)
		if s == nil {
			return
		}
		v.evicting(s)
		v.end(s, messages.CloseReason_CLOSE_EVICTED, "more sessions than performance.maxActiveAuthTokens")
		if h, ok := v.live(); ok && h.Evict != nil {
			h.Evict(s)
		}
		if !all {
			return
		}
	}
}

// end takes a session out of the read models and tells who must know, once.
func (v *Views) end(s *Session, reason messages.CloseReason, detail string) {
	if !v.table.remove(s) {
		return
	}
	if h, live := v.dropSession(s); live && h.Closed != nil {
		h.Closed(s, reason, detail)
	}
}

func (v *Views) dropSession(s *Session) (h Hooks, live bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.Component != "" {
		delete(v.components, s)
		return v.hooks, !v.replaying
	}
	s.thing.sessions.leave(s, ofThing)
	if s.pending != nil {
		delete(v.ofPending, s)
		v.agenda.leave(&s.pending.basis)
		return v.hooks, !v.replaying
	}
	s.cert.sessions.leave(s, ofCertificate)
	v.agenda.leave(&s.cert.basis)
	v.agenda.leave(&s.attached.basis)
	return v.hooks, !v.replaying
}

func (v *Views) endAll(sessions []*Session, reason messages.CloseReason, detail string) {
	for _, s := range sessions {
		v.end(s, reason, detail)
	}
}

// sessionsOf lists the live sessions of a thing, those of one certificate only unless
// it is empty.
func (v *Views) sessionsOf(name messages.ThingName, id messages.CertificateID) []*Session {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t := v.things[name]
	if t == nil {
		return nil
	}
	var list []*Session
	for _, s := range t.sessions {
		if id == "" || s.Certificate == id {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, byOpening)
	return list
}

func (v *Views) sessionsWith(id messages.CertificateID) []*Session {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if c := v.certificates[id]; c != nil {
		return slices.SortedFunc(slices.Values(c.sessions), byOpening)
	}
	return nil
}

func byOpening(a, b *Session) int { return cmp.Compare(a.OpenedSeq, b.OpenedSeq) }

func (c *certificate) trust() messages.CertificateTrust {
	confirmed := c.confirmedMs.Load()
	if confirmed == never {
		return messages.CertificateTrust{}
	}
	return messages.CertificateTrust{
		Verified: true, VerifiedMs: confirmed,
		NotBeforeMs: c.notBeforeMs.Load(), NotAfterMs: c.notAfterMs.Load(),
	}
}

// CertificateTrust is what the log says of a certificate; nobody vouches for one whose
// records cannot be read.
func (v *Views) CertificateTrust(id messages.CertificateID) messages.CertificateTrust {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if len(v.poisoned) > 0 && v.isPoisoned(messages.CertificateStream(id)) {
		return messages.CertificateTrust{}
	}
	if c := v.certificates[id]; c != nil {
		return c.trust()
	}
	return messages.CertificateTrust{}
}

// Holders lists the things a certificate is attached to or has live sessions of, sorted.
func (v *Views) Holders(id messages.CertificateID) []messages.ThingName {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var names []messages.ThingName
	if c := v.certificates[id]; c != nil {
		for _, at := range c.holders {
			names = append(names, at.thing.name)
		}
		for _, s := range c.sessions {
			names = append(names, s.Thing)
		}
	}
	for s := range v.ofPending {
		if s.Certificate == id {
			names = append(names, s.Thing)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Known reports whether the log holds trust in thing: it was attached, or it is
// quarantined.
func (v *Views) Known(name messages.ThingName) bool {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.things[name] != nil
}
