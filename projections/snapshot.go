package projections

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// SnapshotVersion is that of a snapshot's form and meaning: whoever changes what a fold
// makes of the log, or how it is written here, raises it, and older snapshots are ignored.
const SnapshotVersion = 1

// ErrUnsettled is why there is no snapshot at the moment: the read models have taken away
// what the log does not say yet, or will not say.
var ErrUnsettled = errors.New("the read models are ahead of the log")

// ahead is what the read models have taken away before the log says so (deny early). A
// snapshot is of what the log says, so it waits until nothing is. Guarded by Views.mu.
type ahead struct {
	streams map[messages.StreamID]int         // restrictions told of by Restrict that are not folded yet
	evicted map[messages.TokenDigest]struct{} // sessions whose end is on its way to the log
	lasting bool                              // something was taken away that the log will never say
}

// evictedMax bounds what ahead remembers of evictions.
const evictedMax = 4096

// restricting notes that a restriction is on its way to the log.
func (v *Views) restricting(stream messages.StreamID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ahead.streams[stream]++
	v.unsettled.Add(1)
}

// evicting notes that a session ends of which the log is told now.
func (v *Views) evicting(s *Session) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.ahead.evicted) == evictedMax {
		v.ahead.lasting = true
		return
	}
	v.ahead.evicted[s.Digest] = struct{}{}
	v.unsettled.Add(1)
}

// landed notes that a record is folded. Only one decision of a stream is on its way at a
// time, and its records come together.
func (v *Views) landed(stream messages.StreamID, e messages.Event) {
	if v.unsettled.Load() == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if n := v.ahead.streams[stream]; n > 0 {
		v.settle(stream, n-1)
	}
	if closed, ok := e.(*messages.SessionClosed); ok && len(closed.Session) == len(messages.TokenDigest{}) {
		if _, mine := v.ahead.evicted[messages.TokenDigest(closed.Session)]; mine {
			delete(v.ahead.evicted, messages.TokenDigest(closed.Session))
			v.unsettled.Add(-1)
		}
	}
}

// settle leaves n restrictions of stream on their way; mu is held.
func (v *Views) settle(stream messages.StreamID, n int) {
	v.ahead.streams[stream] = n
	if n == 0 {
		delete(v.ahead.streams, stream)
	}
	v.unsettled.Add(-1)
}

// abandoned notes that a restriction told of by Restrict is not in the log. A policy that
// is not put in force leaves nothing behind; of others the effect stays.
func (v *Views) abandoned(stream messages.StreamID, e messages.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := v.ahead.streams[stream]
	if n == 0 {
		return
	}
	if _, policy := e.(*messages.PolicyReplaced); policy {
		v.settle(stream, n-1)
		return
	}
	v.ahead.lasting = true
}

func (v *Views) lasting() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ahead.lasting = true
}

// Captured is what the read models held at one moment: what folding the log up to Seq
// gives. Encode it without holding anything up.
type Captured struct {
	Seq          uint64
	small        small
	certificates []capturedCertificate
	things       []capturedThing
	sessions     []capturedSession
}

type capturedCertificate struct {
	of                                   *certificate
	id                                   messages.CertificateID
	confirmedMs, notBeforeMs, notAfterMs int64
}

type capturedThing struct {
	name        messages.ThingName
	quarantined string
	associated  bool
	attachments []capturedAttachment
}

type capturedAttachment struct {
	certificate *certificate
	confirmedMs int64
}

// capturedSession is a session that rests on an attachment of its thing's, on one that was
// taken back, or on an admission.
type capturedSession struct {
	of          *Session
	detached    bool
	confirmedMs int64 // of what it rests on, if detached
	pending     int   // from 1; 0: it rests on no admission
}

// Capture takes the read models down, in a time that the number of devices tells: half a
// microsecond for each, in which no record is folded. The caller sees to it that no Apply
// is under way. ErrUnsettled: try again.
func (v *Views) Capture() (*Captured, error) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	if len(v.ahead.streams) > 0 || len(v.ahead.evicted) > 0 || v.ahead.lasting {
		return nil, fmt.Errorf("%w: %d streams, %d sessions; for good: %v", ErrUnsettled, len(v.ahead.streams), len(v.ahead.evicted), v.ahead.lasting)
	}
	c := &Captured{
		Seq:          v.seq.Load(),
		certificates: make([]capturedCertificate, 0, len(v.certificates)),
		things:       make([]capturedThing, 0, len(v.things)),
	}
	for _, of := range v.certificates {
		c.certificates = append(c.certificates, capturedCertificate{of, of.id, of.confirmedMs.Load(), of.notBeforeMs.Load(), of.notAfterMs.Load()})
	}
	admissions := c.captureSmall(v)
	attachments := make([]capturedAttachment, 0, len(v.things)) // most have one
	for name, t := range v.things {
		from := len(attachments)
		for _, at := range t.attachments {
			attachments = append(attachments, capturedAttachment{at.certificate, at.confirmedMs.Load()})
		}
		c.things = append(c.things, capturedThing{name, t.quarantined, t.associated, attachments[from:len(attachments):len(attachments)]})
		for _, s := range t.sessions {
			held := capturedSession{of: s}
			if s.pending != nil {
				held.pending = admissions[s.pending]
			} else if t.attachment(s.Certificate) != s.attached {
				held.detached, held.confirmedMs = true, s.attached.confirmedMs.Load()
			}
			c.sessions = append(c.sessions, held)
		}
	}
	for s := range v.components {
		c.sessions = append(c.sessions, capturedSession{of: s})
	}
	return c, nil
}

// sort puts everything into an order that the contents alone decide.
func (c *Captured) sort() {
	slices.SortFunc(c.certificates, func(a, b capturedCertificate) int { return strings.Compare(string(a.id), string(b.id)) })
	slices.SortFunc(c.things, func(a, b capturedThing) int { return strings.Compare(string(a.name), string(b.name)) })
	slices.SortFunc(c.sessions, func(a, b capturedSession) int { return cmp.Compare(a.of.OpenedSeq, b.of.OpenedSeq) })
}
