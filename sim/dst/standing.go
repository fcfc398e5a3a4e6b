package dst

import (
	"encoding/binary"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// standing is what is on record of who may what, with the true time at which it got there:
// the observer's own fold of the log, for those few things by which it judges.
type standing struct {
	certs    map[key]*certStanding
	things   map[int]*thingStanding
	admitted map[int]*thingStanding // things that were ever admitted as pending
	sessions map[key]*sessionStanding
	policies []policyStanding  // in the order of the log; never empty
	sections []sectionStanding // … nor this
	live     int               // sessions that are open
	brokers  map[string]messages.BrokerID
	closed   []key // closed sessions, in order, to be dropped
}

// key is the beginning of a digest.
type key [16]byte

func keyOfDigest(d messages.TokenDigest) key { return key(d[:16]) }

func keyOfCert(id messages.CertificateID) (k key) {
	for i := range k {
		if 2*i+1 < len(id) {
			k[i] = unhex(id[2*i])<<4 | unhex(id[2*i+1])
		}
	}
	return k
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// grantStanding is something that is granted, or is not, since when.
type grantStanding struct {
	granted bool
	void    bool // it was granted, and counts no more: trust was voided
	since   time.Duration
	trustMs int64         // the stamp of the last grant
	voided  time.Duration // when trust was voided last; 0: it never was
}

// certStanding is what is known of a certificate.
type certStanding struct {
	grantStanding
	said said
}

// thingStanding is what is known of a thing.
type thingStanding struct {
	quarantined bool
	since       time.Duration       // of quarantined
	attached    []*attachedStanding // by their certificates; one, mostly
	pending     grantStanding
	pendingBy   key // the certificate that it is, or was, pending with
}

type attachedStanding struct {
	cert key
	grantStanding
	said said
}

// said is what the cloud has said about something, as it reached the core.
type said struct {
	yes, yesAsked time.Duration // when the last yes was heard, and when it was asked; 0: none
	no, noAsked   time.Duration
	life, noLife  int // in which those were heard
	noOnRecord    bool
}

// sessionStanding is a session on record.
type sessionStanding struct {
	thing   int // negative: no device's
	cert    key
	broker  messages.BrokerID
	pending bool
	client  int // who has it, plus 1; 0: nobody was seen with it
	opened  time.Duration
	closed  time.Duration // 0: it is open
	why     messages.CloseReason
}

type policyStanding struct {
	since  time.Duration
	policy *naivePolicy
	text   string
}

type sectionStanding struct {
	since   time.Duration
	section naiveSection
	text    string
}

func newStanding() *standing {
	return &standing{
		certs: make(map[key]*certStanding), things: make(map[int]*thingStanding), admitted: make(map[int]*thingStanding), sessions: make(map[key]*sessionStanding), brokers: make(map[string]messages.BrokerID),
		policies: []policyStanding{{}}, sections: []sectionStanding{{section: naiveSection{trust: time.Minute, closeOnRevoke: true, sessionsMax: 2500, guard: true}}},
	}
}

func (s *standing) cert(k key) *certStanding {
	c := s.certs[k]
	if c == nil {
		c = &certStanding{}
		s.certs[k] = c
	}
	return c
}

func (s *standing) thing(i int) *thingStanding {
	t := s.things[i]
	if t == nil {
		t = &thingStanding{}
		s.things[i] = t
	}
	return t
}

func (t *thingStanding) attachment(k key) *attachedStanding {
	for _, a := range t.attached {
		if a.cert == k {
			return a
		}
	}
	a := &attachedStanding{cert: k}
	t.attached = append(t.attached, a)
	return a
}

func (g *grantStanding) grant(now time.Duration, rec *messages.Record) {
	if !g.granted || g.void {
		g.since = now
	}
	g.granted, g.void, g.trustMs = true, false, rec.At.TrustMs
}

func (g *grantStanding) refuse(now time.Duration) {
	if g.granted && !g.void {
		g.since = now
	}
	g.granted, g.void = false, false
}

// counted reports whether it was granted at some moment from from on.
func (g *grantStanding) counted(from time.Duration) bool {
	return g.granted && !g.void || g.since >= from && g.since > 0
}

// fold takes in a record that is on disk since now. An error: it cannot be read.
func (s *standing) fold(now time.Duration, rec *messages.Record) error {
	e, err := messages.FoldEvent(rec)
	if err != nil || e == nil {
		return err
	}
	device := -1
	if name, ok := rec.Stream.Device(); ok {
		if i, ok := DeviceOf(name); ok {
			device = i
		}
	}
	switch e := e.(type) {
	case *messages.CertificateVerified:
		if id, ok := rec.Stream.Certificate(); ok {
			s.cert(keyOfCert(id)).grant(now, rec)
		}
	case *messages.CertificateRefused:
		if id, ok := rec.Stream.Certificate(); ok {
			c := s.cert(keyOfCert(id))
			c.refuse(now)
			c.said.noOnRecord = true
			for _, t := range s.admitted {
				if t.pendingBy == keyOfCert(id) {
					t.pending.refuse(now)
				}
			}
		}
	case *messages.PolicyReplaced:
		entry := policyStanding{since: now}
		if p, err := readNaive(e.Document); err == nil {
			entry.policy, entry.text = p, p.text()
		}
		s.policies = append(s.policies, entry)
	case *messages.ConfigReplaced:
		if section, err := readSection(e.Document); err == nil {
			s.sections = append(s.sections, sectionStanding{now, section, string(e.Document)})
		}
	case *messages.TrustVoided:
		s.void(now, func(g *grantStanding) bool { return g.trustMs < e.BeforeMs })
	case *messages.ClockReanchored:
		s.void(now, func(g *grantStanding) bool { return g.trustMs > e.VoidAfterMs })
	case *messages.SessionOpened:
		s.open(now, rec, device, e.Session, e.CertificateId, e.Broker, false)
	case *messages.PendingSessionOpened:
		s.open(now, rec, device, e.Session, e.CertificateId, e.Broker, true)
	case *messages.SessionClosed:
		s.close(now, e)
	default:
		if device >= 0 {
			s.foldDevice(now, rec, device, e)
		}
	}
	return nil
}

func (s *standing) foldDevice(now time.Duration, rec *messages.Record, device int, e messages.Event) {
	t := s.thing(device)
	switch e := e.(type) {
	case *messages.AttachmentVerified:
		t.attachment(keyOfCert(messages.CertificateID(e.CertificateId))).grant(now, rec)
		t.pending.refuse(now)
	case *messages.AttachmentWithdrawn:
		a := t.attachment(keyOfCert(messages.CertificateID(e.CertificateId)))
		a.refuse(now)
		a.said.noOnRecord = true
		t.pending.refuse(now)
	case *messages.DeviceForgotten:
		for _, a := range t.attached {
			a.refuse(now)
		}
		t.pending.refuse(now)
	case *messages.DeviceQuarantined:
		if !t.quarantined {
			t.quarantined, t.since = true, now
		}
		t.pending.refuse(now)
	case *messages.DeviceReleased:
		if t.quarantined {
			t.quarantined, t.since = false, now
		}
	case *messages.DevicePending:
		t.pending.grant(now, rec)
		t.pendingBy = keyOfCert(messages.CertificateID(e.CertificateId))
		s.admitted[device] = t
	case *messages.PendingWithdrawn:
		t.pending.refuse(now)
	}
}

func (s *standing) void(now time.Duration, which func(*grantStanding) bool) {
	strike := func(g *grantStanding) {
		if g.granted && !g.void && which(g) {
			g.void, g.since, g.voided = true, now, now
		}
	}
	for _, c := range s.certs {
		strike(&c.grantStanding)
	}
	for _, t := range s.things {
		for _, a := range t.attached {
			strike(&a.grantStanding)
		}
		strike(&t.pending)
	}
}

// brokerID is the name of a broker, of which there are few.
func (s *standing) brokerID(name string) messages.BrokerID {
	id, ok := s.brokers[name]
	if !ok {
		id = messages.BrokerID(strings.Clone(name))
		s.brokers[string(id)] = id
	}
	return id
}

func (s *standing) open(now time.Duration, rec *messages.Record, device int, digest []byte, cert, broker string, pending bool) {
	if len(digest) < len(key{}) {
		return
	}
	s.sessions[key(digest[:16])] = &sessionStanding{
		thing: device, cert: keyOfCert(messages.CertificateID(cert)), broker: s.brokerID(broker),
		pending: pending, opened: now,
	}
	s.live++
}

// closedMax is how many sessions that ended are remembered.
const closedMax = 1 << 12

func (s *standing) close(now time.Duration, e *messages.SessionClosed) {
	if len(e.Session) < len(key{}) {
		return
	}
	k := key(e.Session[:16])
	session := s.sessions[k]
	if session == nil || session.closed != 0 {
		return
	}
	session.closed, session.why = max(now, 1), e.Reason
	s.live--
	s.closed = append(s.closed, k)
	if len(s.closed) > closedMax {
		for _, k := range s.closed[:closedMax/2] {
			delete(s.sessions, k)
		}
		s.closed = append(s.closed[:0], s.closed[closedMax/2:]...)
	}
}

// policyIn reports whether a policy that was in force at some moment from from on says yes.
func (s *standing) policyIn(from time.Duration, yes func(*naivePolicy) bool) bool {
	for i := len(s.policies) - 1; i >= 0; i-- {
		if yes(s.policies[i].policy) {
			return true
		}
		if s.policies[i].since < from {
			return false
		}
	}
	return false
}

// sectionIn is policyIn of configurations.
func (s *standing) sectionIn(from time.Duration, yes func(naiveSection) bool) bool {
	for i := len(s.sections) - 1; i >= 0; i-- {
		if yes(s.sections[i].section) {
			return true
		}
		if s.sections[i].since < from {
			return false
		}
	}
	return false
}

// rolling is a hash over records, in order.
type rolling struct {
	seq uint64
	sum uint64
}

func (r *rolling) add(rec *messages.Record) {
	r.seq = rec.Seq
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:8], rec.Version)
	binary.LittleEndian.PutUint64(b[8:], uint64(rec.At.TrustMs))
	for _, part := range [][]byte{b[:], rec.ID[:], rec.Body} {
		for len(part) >= 8 {
			r.sum = (r.sum ^ binary.LittleEndian.Uint64(part)) * 0x9e3779b97f4a7c15
			r.sum ^= r.sum >> 29
			part = part[8:]
		}
		for _, c := range part {
			r.sum = (r.sum ^ uint64(c)) * 0x100000001b3
		}
	}
	for i := range len(rec.Stream) {
		r.sum = (r.sum ^ uint64(rec.Stream[i])) * 0x100000001b3
	}
}
