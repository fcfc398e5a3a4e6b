package projections

import (
	"slices"
	"sync/atomic"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// What is known of a device is spread over few and small pieces of memory: there may be a
// million of them. A device has one certificate and one session, most often, so what
// belongs to what is in slices; and every name is kept once, with what it names.

// certificate is what is known of one certificate. The atomics are read without a lock
// by authorization.
type certificate struct {
	basis
	id          messages.CertificateID
	notBeforeMs atomic.Int64
	notAfterMs  atomic.Int64
	holders     []*attachment // in no order; guarded by Views.mu
	sessions    roll          // guarded by Views.mu
}

// thing is what is known of one device. All guarded by Views.mu.
type thing struct {
	name        messages.ThingName
	attachments []*attachment // in no order
	sessions    roll
	quarantined string
	pending     *pending
	associated  bool // with this core, as the last listing said
}

// attachment says that a certificate belongs to a device. Sessions rest on it also when
// that was taken back.
type attachment struct {
	basis
	thing       *thing
	certificate *certificate
	held        int // its place among the certificate's holders; guarded by Views.mu
}

func newAttachment(t *thing, c *certificate) *attachment {
	at := &attachment{thing: t, certificate: c}
	at.confirmedMs.Store(never)
	return at
}

// attachment finds the attachment of a certificate; nil: it is not attached.
func (t *thing) attachment(id messages.CertificateID) *attachment {
	for _, at := range t.attachments {
		if at.certificate.id == id {
			return at
		}
	}
	return nil
}

// attach lists at with its thing and its certificate.
func (at *attachment) attach() {
	at.thing.attachments = append(at.thing.attachments, at)
	c := at.certificate
	at.held = len(c.holders)
	c.holders = append(c.holders, at)
}

// detach takes at out of both lists. A certificate may have very many holders.
func (at *attachment) detach() {
	t, c := at.thing, at.certificate
	t.attachments = slices.DeleteFunc(t.attachments, func(other *attachment) bool { return other == at })
	last := len(c.holders) - 1
	moved := c.holders[last]
	c.holders[at.held], moved.held = moved, at.held
	c.holders[last] = nil
	c.holders = c.holders[:last]
}

// roll lists live sessions, in no order. Where a session stands is noted in it, so that it
// leaves without a search: a certificate may have very many.
type roll []*Session

// The rolls that a session is in.
const (
	ofThing = iota
	ofCertificate
	rolls
)

func (r *roll) enter(s *Session, which int) {
	s.places[which] = int32(len(*r))
	*r = append(*r, s)
}

func (r *roll) leave(s *Session, which int) {
	list, last := *r, len(*r)-1
	moved := list[last]
	list[s.places[which]], moved.places[which] = moved, s.places[which]
	list[last] = nil
	if *r = list[:last]; last == 0 {
		*r = nil
	}
}

// certificateOf finds or makes the entry; mu is held for writing.
func (v *Views) certificateOf(id messages.CertificateID) *certificate {
	c := v.certificates[id]
	if c == nil {
		c = &certificate{id: id}
		c.confirmedMs.Store(never)
		v.certificates[id] = c
	}
	return c
}

// thingOf finds or makes the entry; mu is held for writing.
func (v *Views) thingOf(name messages.ThingName) *thing {
	t := v.things[name]
	if t == nil {
		t = &thing{name: name}
		v.things[name] = t
		v.thingsVersion++
	}
	return t
}

// brokerOf is the name of a broker in memory that all its sessions share; mu is held for
// writing. Who is in the log was let in by an operator: they are few.
func (v *Views) brokerOf(name string) messages.BrokerID {
	id, known := v.brokerNames[name]
	if !known {
		id = messages.BrokerID(name)
		v.brokerNames[name] = id
	}
	return id
}
