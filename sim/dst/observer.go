package dst

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// observer stands outside. It knows what devices, brokers and operators saw, the true time,
// the registry of the cloud and what is on disk, and holds the invariants. It implements
// Witness.
type observer struct {
	plan  *Plan
	stage Stage // set before anything happens
	on    *standing
	truth *truth
	log   rolling // what is on disk, in short

	life     int   // of the process; the last that began
	core     *Core // nil: it does not run
	diedAt   time.Duration
	failedAt time.Duration // when an append failed in this life; 0: none did
	clock    clockView
	requests recent // that opened a session
	events   recent

	clients   map[int]*clientView
	places    map[placeOf]int // the client that came last under a thing's name
	brokers   []brokerView
	authority authorityView
	machine   machineView
	calm      calm

	counts    Counts
	checks    map[string]*uint64
	faults    Faults // under way
	everFull  bool   // the disk was
	over      map[Faults]int
	healed    time.Duration // when all was healed; 0: it is not yet
	staying   time.Duration // since when everybody is to stay; 0: not now
	violation *Violation
	apart     *[sha256.Size]byte // of the read models in use in the end: see foldedApart
}

// clientView is a client as the observer knows it.
type clientView struct {
	broker  int
	session key
	thing   int // whose name it got in under; negative: none
	in      bool
	since   time.Duration // of in
	moved   time.Duration // when it came or went last: what it asked for before is not for it any more
	refused bool          // its last try was not allowed
}

// placeOf is where there is room for one client: under a name, at a broker.
type placeOf struct{ broker, thing int }

// brokerView is what the observer knows of a broker.
type brokerView struct {
	slow []pushView // pushes that took their time, the last ones
}

type pushView struct{ sent, came time.Duration }

// machineView is what the observer knows of the core's machine: the truth.
type machineView struct {
	booted time.Duration // true time of the last start; 0: before the beginning
	offs   []offView
	lie    time.Duration // by how much the cloud's clock was wrong, at most, so far
}

// offView is a time for which the machine had no power.
type offView struct{ from, to time.Duration }

func newObserver(p *Plan) *observer {
	o := &observer{
		plan: p, on: newStanding(), truth: newTruth(p), clients: make(map[int]*clientView), places: make(map[placeOf]int), brokers: make([]brokerView, p.Brokers),
		checks: make(map[string]*uint64, len(invariants)), over: make(map[Faults]int), requests: newRecent(), events: newRecent(),
		authority: newAuthorityView(p.Brokers),
	}
	for _, i := range invariants {
		o.checks[i.Name] = new(uint64)
	}
	o.counts = Counts{
		Allowed: map[string]uint64{}, Denied: map[string]uint64{}, Busy: map[string]uint64{}, Actions: map[string]uint64{},
		Faults: map[string]uint64{}, Records: map[string]uint64{},
	}
	return o
}

var _ Witness = (*observer)(nil)

func (o *observer) now() time.Duration { return o.stage.Now() }

// hold counts that an invariant was held against something, and notes when it does not hold.
// The sentence is made only then.
func (o *observer) hold(name string, ok bool, format string, args ...any) bool {
	*o.checks[name]++
	if !ok && o.violation == nil {
		o.violation = &Violation{Invariant: name, Step: o.stage.Steps(), At: o.now(), What: fmt.Sprintf(format, args...), Last: o.stage.Last()}
	}
	return ok
}

// Acted tells of an action that is about to be done.
func (o *observer) acted(a *Action) {
	o.counts.Actions[a.Kind.String()]++
	if o.truth.act(a, o.now()) {
		o.calm.disturb(o.now())
	}
	switch a.Kind {
	case FaultCloud:
		if a.How == "time" {
			o.machine.lie = max(o.machine.lie, a.Amount.Abs())
		}
	case Disconnect, Vanish, Connect: // a client has one connection at a time
		c := o.client(a.Client)
		c.in, c.moved = false, o.now()
	case Quarantine, Release, Forget, EditPolicy, EditSection:
		o.calm.disturb(o.now())
	}
}

// client finds what is known of a client.
func (o *observer) client(number int) *clientView {
	c := o.clients[number]
	if c == nil {
		c = &clientView{thing: -1}
		o.clients[number] = c
	}
	return c
}

// Fault implements Witness.
func (o *observer) Fault(f Faults) {
	o.faults |= f
	o.calm.disturb(o.now())
	for _, name := range f.Names() {
		o.counts.Faults[name]++
	}
	for i := range faultNames {
		if f.Has(1 << i) {
			o.over[1<<i]++
		}
	}
	o.everFull = o.everFull || f.Has(StoreFull)
	if f.Has(ClockJump | ClockDrift | ClockUnset | CloudTime | Suspend) {
		o.calm.unsure = true
	}
}

// Over implements Witness.
func (o *observer) Over(f Faults) {
	for i := range faultNames {
		kind := Faults(1) << i
		if !f.Has(kind) || o.over[kind] == 0 {
			continue
		}
		if o.over[kind]--; o.over[kind] == 0 {
			o.faults &^= kind
		}
	}
	o.calm.disturb(o.now())
}

// Began implements Witness.
func (o *observer) Began(c *Core) {
	o.hold("D8", o.core == nil && c.Life > o.life, "life %d of the process began while life %d was there", c.Life, o.life)
	o.reopened() // what it finds on disk is of a life before
	o.life, o.core, o.failedAt, o.clock = c.Life, c, 0, clockView{trustMs: math.MinInt64}
	o.counts.Lives++
	o.calm.disturb(o.now())
}

// Died implements Witness.
func (o *observer) Died(life int, _ string) {
	o.hold("D8", life == o.life || o.core == nil, "life %d of the process ended while life %d was there", life, o.life)
	o.core, o.diedAt = nil, o.now()
	o.calm.disturb(o.now())
}

// Failed implements Witness.
func (o *observer) Failed(life int) {
	if life == o.life {
		o.failedAt = max(o.now(), 1)
	}
}

// Booted implements Witness.
func (o *observer) Booted(off time.Duration) {
	o.machine.booted = max(o.now(), 1)
	o.machine.offs = append(o.machine.offs, offView{o.now() - off, o.now()})
	o.calm.unsure = true
}

// Pushed implements Witness.
func (o *observer) Pushed(broker int, sent time.Duration) {
	o.counts.Pushes++
	if came := o.now(); came-sent > promptly {
		b := &o.brokers[broker]
		if len(b.slow) >= slowMax {
			b.slow = append(b.slow[:0], b.slow[slowMax/2:]...)
		}
		b.slow = append(b.slow, pushView{sent, came})
	}
}

const (
	promptly = 250 * time.Millisecond // a push on its way, when nothing is wrong
	slowMax  = 1 << 13
)

// CloudSaid implements Witness.
func (o *observer) CloudSaid(q *messages.CloudQuestion, asked time.Duration, a *messages.CloudAnswer) {
	o.counts.Questions++
	if len(q.DER) > 0 {
		o.hold("S8", messages.CertificateIDOf(q.DER) == q.Certificate, "the cloud was asked about %s with the bytes of %s", q.Certificate, messages.CertificateIDOf(q.DER))
	}
	o.truth.said(o.on, q, asked, o.now(), a.Verdict, o.life)
}

// Listed implements Witness.
func (o *observer) Listed(l *messages.AssociationList) { o.truth.listed(l, o.life) }

// Registered implements Witness.
func (o *observer) Registered(c Cert) {
	for _, kind := range []Kind{Activate, Attach, Associate} {
		o.truth.act(&Action{Kind: kind, Thing: c.Of, Cert: c}, o.now())
	}
	o.calm.disturb(o.now())
}

// Dropped implements Witness.
func (o *observer) Dropped(client, broker int, session messages.TokenDigest, why string) {
	if s := o.on.sessions[keyOfDigest(session)]; s != nil {
		o.hold("S11", s.broker == BrokerOf(broker), "%s heard of a session of %s", BrokerOf(broker), s.broker)
	}
	if c := o.clients[client]; c != nil && c.session == keyOfDigest(session) {
		o.lost(c, why)
		c.in = false
	}
}

// clockView is what is seen of the trust clock in one life.
type clockView struct {
	trustMs   int64         // when last looked at
	from      int64         // what it was set back from
	loweredAt time.Duration // when that was seen, while it is not on record; 0: it was not
	recorded  bool          // a re-anchoring is on record that was not seen yet
}

// recordMax is how long a re-anchoring may take to be on record.
const recordMax = time.Minute

// stepped is held after every step.
func (o *observer) stepped() {
	c := o.core
	if c == nil || c.TrustMs == nil {
		return
	}
	now, v := c.TrustMs(), &o.clock
	*o.checks["T2"]++
	switch {
	case now < v.trustMs && v.recorded:
		v.recorded = false
	case now < v.trustMs && v.loweredAt == 0:
		v.loweredAt, v.from = max(o.now(), 1), v.trustMs
	case v.loweredAt != 0 && now >= v.from: // undone
		v.loweredAt = 0
	case v.loweredAt != 0 && o.now() > v.loweredAt+recordMax && o.failedAt == 0:
		o.hold("T2", false, "trust time went back from %d at %v, and no re-anchoring is on record", v.from, v.loweredAt)
	}
	v.trustMs = now
}

// result is what the observer has to say about the run.
func (o *observer) counted() Counts {
	c := o.counts
	c.Checks = map[string]uint64{}
	for name, n := range o.checks {
		c.Checks[name] = *n
	}
	for _, m := range []*map[string]uint64{&c.Allowed, &c.Denied, &c.Busy, &c.Actions, &c.Faults, &c.Records} {
		*m = maps.Clone(*m)
	}
	return c
}

// recent remembers the last of very many numbers.
type recent struct{ young, old map[uint64]struct{} }

const recentMax = 1 << 16

func newRecent() recent { return recent{young: map[uint64]struct{}{}} }

// add reports whether n is new.
func (s *recent) add(n uint64) bool {
	if _, ok := s.young[n]; ok {
		return false
	}
	if _, ok := s.old[n]; ok {
		return false
	}
	if len(s.young) >= recentMax {
		s.old, s.young = s.young, make(map[uint64]struct{}, recentMax)
	}
	s.young[n] = struct{}{}
	return true
}
