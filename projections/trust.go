package projections

import (
	"maps"
	"slices"
	"sync/atomic"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func (v *Views) certificateVerified(rec *messages.Record, e *messages.CertificateVerified) {
	id, ok := rec.Stream.Certificate()
	if !ok {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.certificateOf(id)
	c.notBeforeMs.Store(e.NotBeforeMs)
	c.notAfterMs.Store(e.NotAfterMs)
	c.verifiedMs.Store(rec.At.TrustMs)
	c.verified.Store(true)
}

// certificateRefused forgets the record and, unless parity is asked for, ends every
// session that rests on it, at once.
func (v *Views) certificateRefused(id messages.CertificateID, e *messages.CertificateRefused) {
	v.mu.RLock()
	c := v.certificates[id]
	v.mu.RUnlock()
	if c == nil {
		return
	}
	c.verified.Store(false)
	if v.CloseOnRevoke() {
		v.endAll(v.sessionsWith(id), messages.CloseReason_CLOSE_CERTIFICATE_REFUSED, e.Reason)
	}
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
	at := t.attachments[id]
	if at == nil {
		at = new(atomic.Int64)
		t.attachments[id], c.holders[name] = at, at
	}
	at.Store(rec.At.TrustMs)
}

func (v *Views) attachmentWithdrawn(name messages.ThingName, id messages.CertificateID, reason string) {
	v.mu.Lock()
	if t := v.things[name]; t != nil {
		delete(t.attachments, id)
	}
	if c := v.certificates[id]; c != nil {
		if at := c.holders[name]; at != nil {
			at.Store(0) // sessions hold a pointer to it
		}
		delete(c.holders, name)
	}
	v.mu.Unlock()
	if v.CloseOnRevoke() {
		v.endAll(v.sessionsOf(name, id), messages.CloseReason_CLOSE_ATTACHMENT_WITHDRAWN, reason)
	}
}

func (v *Views) forgotten(name messages.ThingName, reason string) {
	v.endAll(v.sessionsOf(name, ""), messages.CloseReason_CLOSE_FORGOTTEN, reason)
	v.mu.Lock()
	defer v.mu.Unlock()
	t := v.things[name]
	if t == nil {
		return
	}
	for id := range t.attachments {
		if c := v.certificates[id]; c != nil {
			delete(c.holders, name)
		}
	}
	if t.quarantined == "" {
		delete(v.things, name)
	} else {
		clear(t.attachments)
	}
}

func (v *Views) quarantined(name messages.ThingName, reason string) {
	v.mu.Lock()
	v.thingOf(name).quarantined = reason
	v.mu.Unlock()
	v.endAll(v.sessionsOf(name, ""), messages.CloseReason_CLOSE_QUARANTINED, reason)
}

func (v *Views) released(stream messages.StreamID) {
	if name, ok := stream.Device(); ok {
		v.mu.Lock()
		v.thingOf(name).quarantined = ""
		v.mu.Unlock()
	}
}

func (v *Views) sessionOpened(rec *messages.Record, e *messages.SessionOpened) {
	name, ok := rec.Stream.Device()
	if !ok || len(e.Session) != len(messages.TokenDigest{}) {
		return
	}
	v.mu.Lock()
	id := messages.CertificateID(e.CertificateId)
	t, c := v.thingOf(name), v.certificateOf(id)
	attached := t.attachments[id]
	if attached == nil {
		attached = new(atomic.Int64) // a session without attachment: its trust counts as lapsed
	}
	s := &Session{
		Digest: messages.TokenDigest(e.Session), Thing: name, Certificate: id, Broker: messages.BrokerID(e.Broker),
		OpenedMs: rec.At.TrustMs, OpenedSeq: rec.Seq, cert: c, attachedMs: attached,
	}
	if _, bad := v.poisoned[rec.Stream]; bad {
		v.mu.Unlock()
		return
	}
	if v.table.insert(s) {
		t.sessions[s], c.sessions[s] = struct{}{}, struct{}{}
	}
	replaying := v.replaying
	v.mu.Unlock()
	if !replaying {
		v.evict(v.section.Load().Performance.MaxActiveAuthTokens, false)
	}
}

// evict ends the least recently used session beyond limit: one for each that is opened
// (client-device-auth spec 4), or all that are too many after a replay.
func (v *Views) evict(limit int, all bool) {
	for {
		s := v.table.oldest(limit)
		if s == nil {
			return
		}
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
	v.mu.Lock()
	if t := v.things[s.Thing]; t != nil {
		delete(t.sessions, s)
	}
	delete(s.cert.sessions, s)
	h, live := v.hooks, !v.replaying
	v.mu.Unlock()
	if live && h.Closed != nil {
		h.Closed(s, reason, detail)
	}
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
	for s := range t.sessions {
		if id == "" || s.Certificate == id {
			list = append(list, s)
		}
	}
	return list
}

func (v *Views) sessionsWith(id messages.CertificateID) []*Session {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if c := v.certificates[id]; c != nil {
		return slices.Collect(maps.Keys(c.sessions))
	}
	return nil
}

// certificateOf finds or makes the entry; mu is held for writing.
func (v *Views) certificateOf(id messages.CertificateID) *certificate {
	c := v.certificates[id]
	if c == nil {
		c = &certificate{holders: make(map[messages.ThingName]*atomic.Int64), sessions: make(map[*Session]struct{})}
		v.certificates[id] = c
	}
	return c
}

// thingOf finds or makes the entry; mu is held for writing.
func (v *Views) thingOf(name messages.ThingName) *thing {
	t := v.things[name]
	if t == nil {
		t = &thing{attachments: make(map[messages.CertificateID]*atomic.Int64), sessions: make(map[*Session]struct{})}
		v.things[name] = t
	}
	return t
}

func (c *certificate) trust() messages.CertificateTrust {
	return messages.CertificateTrust{
		Verified: c.verified.Load(), VerifiedMs: c.verifiedMs.Load(),
		NotBeforeMs: c.notBeforeMs.Load(), NotAfterMs: c.notAfterMs.Load(),
	}
}

// CertificateTrust is what the log says of a certificate; nobody vouches for one whose
// records cannot be read.
func (v *Views) CertificateTrust(id messages.CertificateID) messages.CertificateTrust {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if _, bad := v.poisoned[messages.CertificateStream(id)]; bad {
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
	c := v.certificates[id]
	if c == nil {
		return nil
	}
	names := slices.Collect(maps.Keys(c.holders))
	for s := range c.sessions {
		names = append(names, s.Thing)
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
