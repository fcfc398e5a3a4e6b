package projections

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// ErrSnapshot is wrapped by every error of Restore.
var ErrSnapshot = errors.New("snapshot cannot be used")

// Restore makes read models of a snapshot, in replay: fold the records behind Seq with
// Apply, then call Live.
func Restore(data []byte, logger *slog.Logger) (v *Views, err error) {
	defer func() {
		if p := recover(); p != nil {
			v, err = nil, fmt.Errorf("%w: reading it panics: %v", ErrSnapshot, p)
		}
	}()
	r := reader{b: data}
	kinds := messages.KindsDigest()
	if !bytes.Equal(r.bytes(len(kinds)), kinds[:]) {
		return nil, fmt.Errorf("%w: it was made by a program that knows other events", ErrSnapshot)
	}
	v = New(logger)
	seq := r.number()
	var s small
	if text := r.bytes(r.count(1)); r.err == nil {
		r.err = json.Unmarshal(text, &s)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r.restore(v, &s)
	if r.err == nil && len(r.b) != 0 {
		r.err = fmt.Errorf("%d bytes after its end", len(r.b))
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, r.err)
	}
	v.seq.Store(seq)
	return v, nil
}

// reader reads a snapshot. After an error it reads zeros.
type reader struct {
	b   []byte
	err error
}

var errShort = errors.New("it is cut short")

func (r *reader) number() uint64 {
	n, size := binary.Uvarint(r.b)
	if size <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[size:]
	return n
}

func (r *reader) time() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.fail(errShort)
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count reads how many things follow of which each takes each bytes at least.
func (r *reader) count(each int) int {
	n := r.number()
	if n > uint64(len(r.b)/each) {
		r.fail(fmt.Errorf("%d of something in %d bytes", n, len(r.b)))
		return 0
	}
	return int(n)
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail(errShort)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) text() string { return string(r.bytes(r.count(1))) }

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// place reads a place in a list of n.
func (r *reader) place(n int) int {
	at := r.number()
	if at >= uint64(n) {
		r.fail(fmt.Errorf("place %d in a list of %d", at, n))
		return -1
	}
	return int(at)
}

// arena keeps many texts in one piece of memory.
type arena struct{ all strings.Builder }

func newArena(n int) *arena {
	a := &arena{}
	a.all.Grow(n)
	return a
}

// keep returns b as a text that shares the arena's memory, if there is room.
func (a *arena) keep(b []byte) string {
	from := a.all.Len()
	if from+len(b) > a.all.Cap() {
		return string(b)
	}
	a.all.Write(b)
	return a.all.String()[from:]
}

func (r *reader) restore(v *Views, s *small) {
	certificates := r.certificates(v)
	brokers := make([]messages.BrokerID, 0, r.count(1))
	for range cap(brokers) {
		brokers = append(brokers, v.brokerOf(r.text()))
	}
	things := r.things(v, certificates)
	if r.err != nil {
		return
	}
	admissions, err := v.restoreSmall(s)
	if err != nil {
		r.fail(err)
		return
	}
	n := r.count(len(messages.TokenDigest{}) + 4)
	v.table.grow(n)
	for i := 0; i < n && r.err == nil; i++ {
		r.session(v, brokers, certificates, things, admissions)
	}
}

func (r *reader) certificates(v *Views) []*certificate {
	n := r.count(4)
	ids := newArena(r.count(1))
	list := make([]*certificate, 0, n)
	v.certificates = make(map[messages.CertificateID]*certificate, n)
	all := make([]certificate, n) // none is ever forgotten
	for i := 0; i < n && r.err == nil; i++ {
		c := &all[i]
		c.id = messages.CertificateID(ids.keep(r.bytes(r.count(1))))
		c.confirmedMs.Store(r.time())
		c.notBeforeMs.Store(r.time())
		c.notAfterMs.Store(r.time())
		v.certificates[c.id] = c
		list = append(list, c)
	}
	if len(v.certificates) != len(list) {
		r.fail(errors.New("a certificate is there twice"))
	}
	return list
}

func (r *reader) things(v *Views, certificates []*certificate) []*thing {
	n := r.count(3)
	names := newArena(r.count(1))
	list := make([]*thing, 0, n)
	v.things = make(map[messages.ThingName]*thing, n)
	for i := 0; i < n && r.err == nil; i++ {
		t := &thing{name: messages.ThingName(names.keep(r.bytes(r.count(1))))}
		flags := r.number()
		t.associated = flags&flagAssociated != 0
		if flags&flagQuarantined != 0 {
			t.quarantined = r.text()
		}
		for range r.count(2) {
			at := r.place(len(certificates))
			confirmed := r.time()
			if r.err != nil {
				return nil
			}
			if t.attachment(certificates[at].id) != nil {
				r.fail(errors.New("a certificate is attached twice"))
			}
			attached := newAttachment(t, certificates[at])
			attached.confirmedMs.Store(confirmed)
			attached.attach()
		}
		v.things[t.name] = t
		v.thingsVersion++
		list = append(list, t)
	}
	if len(v.things) != len(list) {
		r.fail(errors.New("a thing is there twice"))
	}
	return list
}

// session restores the next session.
func (r *reader) session(v *Views, brokers []messages.BrokerID, certificates []*certificate, things []*thing, admissions []*pending) {
	s := &Session{}
	copy(s.Digest[:], r.bytes(len(s.Digest)))
	s.OpenedMs, s.OpenedSeq = r.time(), r.number()
	broker, form := r.place(len(brokers)), r.number()
	if form == sessionOfComponent {
		s.Component, s.Certificate, s.endsMs = messages.ComponentName(r.text()), messages.CertificateID(r.text()), r.time()
	} else if at := r.place(len(things)); r.err == nil {
		s.thing, s.Thing = things[at], things[at].name
	}
	if r.err != nil {
		return
	}
	s.Broker = brokers[broker]
	confirmed := int64(never)
	switch form {
	case sessionOfComponent:
		if s.Component == "" {
			r.fail(errors.New("a component without a name"))
		}
	case sessionPending:
		s.Certificate = messages.CertificateID(r.text())
		if at := r.place(len(admissions)); r.err == nil {
			s.pending = admissions[at]
		}
	case sessionAttached, sessionDetached:
		if at := r.place(len(certificates)); r.err == nil {
			s.cert, s.Certificate = certificates[at], certificates[at].id
		}
		if form == sessionDetached {
			confirmed = r.time()
		}
	default:
		r.fail(fmt.Errorf("session of form %d", form))
	}
	if r.err == nil {
		r.enter(v, s, form, confirmed)
	}
}

// enter lists s where sessions of its form are.
func (r *reader) enter(v *Views, s *Session, form uint64, confirmedMs int64) {
	if s.cert != nil {
		s.attached = s.thing.attachment(s.Certificate)
		if (s.attached != nil) != (form == sessionAttached) {
			r.fail(errors.New("a session rests on an attachment that is not there, or is"))
			return
		}
		if s.attached == nil {
			s.attached = s.thing.restedOn(s.cert)
			s.attached.confirmedMs.Store(confirmedMs)
		}
	}
	if !v.table.insert(s) {
		r.fail(errors.New("a session is there twice"))
		return
	}
	switch {
	case s.Component != "":
		v.components[s] = 0
	case s.pending != nil:
		s.thing.sessions.enter(s, ofThing)
		v.ofPending[s] = struct{}{}
		v.agenda.restPending(s.pending)
	default:
		s.thing.sessions.enter(s, ofThing)
		s.cert.sessions.enter(s, ofCertificate)
		v.agenda.rest(&s.cert.basis, "", s.cert.id, &s.cert.notAfterMs)
		v.agenda.rest(&s.attached.basis, s.thing.name, s.cert.id, &s.cert.notAfterMs)
	}
}
