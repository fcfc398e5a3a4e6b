package dst

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// What is promised of time, besides the trust duration itself.
const (
	// pipeline is what a decision may take from the disk to the network.
	pipeline = 1500 * time.Millisecond
	// cacheTTL is how long a broker uses permissions at most (actors/gate).
	cacheTTL = time.Minute
	// markSlack is the interval of the clock's marks (reliability spec T1), and then some for
	// the way there and back.
	markSlack = 70 * time.Second
	// driftMax is how wrong the rate of a clock may be (reliability spec 2.1).
	driftMax = .0102
	// batterySlackEach is what a start by a hardware clock may hide.
	batterySlackEach = 60 * time.Second
	// answerMaxOf is the longest that a broker waits for the core's answer, with what its own
	// scheduling takes.
	answerMaxOf = 8 * time.Second
)

// Asked implements Witness.
func (o *observer) Asked(a *Ask) {
	m := o.counts.Denied
	switch a.Outcome {
	case Allowed:
		m = o.counts.Allowed
	case Busy, Unavailable:
		m = o.counts.Busy
	}
	m[a.Op.String()]++
	o.hold("L1", o.now()-a.Begun <= answerMaxOf, "%s of client %d had no answer for %v", a.Op, a.Client, o.now()-a.Begun)
	if o.staying > 0 && a.Begun >= o.staying {
		o.hold("L7", a.Outcome != Busy && a.Outcome != Unavailable, "all has been well for %v, and client %d was told %v", o.now()-o.healed, a.Client, a.Outcome)
	}
	c := o.client(a.Client)
	switch {
	case a.Op == Connect:
		c.refused = a.Outcome != Allowed
		if a.Outcome == Allowed {
			o.connected(c, a)
		} else {
			o.notConnected(a)
		}
	case a.Outcome == Allowed:
		o.permitted(c, a)
	}
}

// connected judges that a client got in.
func (o *observer) connected(c *clientView, a *Ask) {
	k, certKey := keyOfDigest(a.Session), keyOfCert(a.CertID)
	session := o.on.sessions[k]
	thing, named := DeviceOf(messages.ThingName(a.Name))
	o.hold("S5", a.Cert.Spoilt != "garbage", "client %d got in with no certificate", a.Client)
	_, bad := messages.ParseThingName(a.Name)
	o.hold("S5", bad == nil, "client %d got in as %q", a.Client, a.Name)
	o.hold("S5", o.core != nil || o.diedAt >= a.Begun, "client %d got in while the core was away", a.Client)
	o.hold("D6", o.failedAt == 0 || a.Begun <= o.failedAt, "%q got in after an append had failed", a.Name)
	o.hold("S8", a.CertID == IDOf(a.Cert), "%q got in with %s, and presented %s", a.Name, a.CertID, IDOf(a.Cert))
	if !o.hold("D1", session != nil, "%q got in at %s, and no session is on record", a.Name, BrokerOf(a.Broker)) ||
		!o.hold("S5", named, "%q got in, a stranger", a.Name) {
		return
	}
	o.hold("S7", session.thing == thing && session.cert == certKey && session.broker == BrokerOf(a.Broker),
		"%q got in at %s with %.8s, on a session of %d at %s", a.Name, BrokerOf(a.Broker), a.CertID, session.thing, session.broker)
	o.hold("S7", !o.takenBefore(a.Client, k), "%q got in on a session that another client has", a.Name)
	o.takesOver(a, thing)
	c.broker, c.session, c.thing, c.in, c.since = a.Broker, k, thing, a.Begun >= c.moved, max(o.now(), 1)
	o.standsBy(a, session, thing, certKey)
	o.inTime(a)
	operation, resource := resourceOf(Connect, a.Name)
	if session.pending {
		o.pendingAllowed(a, thing)
		return
	}
	o.hold("S4", o.on.policyIn(a.Begun, func(p *naivePolicy) bool { return p.allows(a.Name, operation, resource) }),
		"%q got in, and no policy in force then lets it connect", a.Name)
}

// takesOver notes that a client has the place of another, who came under the same name.
func (o *observer) takesOver(a *Ask, thing int) {
	at := placeOf{a.Broker, thing}
	if former, ok := o.places[at]; ok && former != a.Client {
		if c := o.clients[former]; c != nil && c.broker == a.Broker && c.thing == thing {
			c.in = false
		}
	}
	o.places[at] = a.Client
}

// takenBefore reports whether another client holds the session.
func (o *observer) takenBefore(client int, k key) bool {
	session := o.on.sessions[k]
	taken := session.client != 0 && session.client != client+1
	session.client = client + 1
	return taken
}

// standsBy holds what a session rests on against the record and against what the cloud said.
func (o *observer) standsBy(a *Ask, session *sessionStanding, thing int, certKey key) {
	cert, t := o.on.cert(certKey), o.on.thing(thing)
	o.hold("S1", !t.quarantined || t.since >= a.Begun, "%q got in, quarantined at %v; it asked at %v", a.Name, t.since, a.Begun)
	o.hold("S1", session.closed == 0 || session.closed >= a.Begun, "%q got in on a session that was closed at %v", a.Name, session.closed)
	if session.pending {
		return
	}
	attached := t.attachment(certKey)
	o.rests(a, "certificate", &cert.grantStanding, &cert.said)
	o.rests(a, "attachment", &attached.grantStanding, &attached.said)
}

// rests holds an admission against what is on record of its certificate or attachment.
func (o *observer) rests(a *Ask, what string, g *grantStanding, s *said) {
	if g.voided != 0 {
		o.hold("T5", g.voided >= a.Begun || !g.void && s.yes+answerMaxOf >= g.voided, "%q got in, and trust in its %s was voided at %v; the cloud's last yes is of %v", a.Name, what, g.voided, s.yes)
	}
	switch {
	case g.void:
	case g.since == 0:
		o.hold("S3", false, "%q got in, and its %s was never confirmed on record", a.Name, what)
	default:
		o.hold("S3", true, "")
		o.hold("S1", g.counted(a.Begun), "%q got in, and its %s was taken back at %v; it asked at %v", a.Name, what, g.since, a.Begun)
	}
	o.cloudStands(a, what, s)
}

// cloudStands holds an admission against what the cloud has said about certificate or
// attachment.
func (o *observer) cloudStands(a *Ask, what string, s *said) {
	said := s.noAsked > s.yesAsked && (s.noLife == o.life || s.noOnRecord)
	o.hold("S1", !said || s.no+pipeline >= a.Begun, "%q got in, and the cloud had said no to its %s at %v; it asked at %v", a.Name, what, s.no, a.Begun)
	if !o.hold("T1", s.yes > 0, "%q got in, and the cloud never said yes to its %s", a.Name, what) {
		return
	}
	age, bound := o.now()-s.yes, o.trustBound(s.yes, a.Begun)
	o.hold("T1", age <= bound, "%q got in on a yes to its %s from %v, %v ago: %v at most", a.Name, what, s.yes, age, bound)
	// What was answered before the machine stopped may still be on its way.
	if !o.plan.Setup.Budget && o.core != nil && o.core.Certain != nil && a.Begun >= o.machine.booted {
		o.hold("S12", o.core.Certain() || s.yes >= o.machine.booted, "%q got in although the time is not known, on a yes to its %s from before the machine started", a.Name, what)
	}
}

// trustBound is how old an answer may truly be that lets somebody in who asked at begun.
func (o *observer) trustBound(heard, begun time.Duration) time.Duration {
	var d time.Duration
	o.on.sectionIn(begun, func(s naiveSection) bool {
		d = max(d, s.trust)
		return false
	})
	d += time.Duration(float64(d)*driftMax) + markSlack + o.machine.lie + time.Duration(float64(o.now()-heard)*driftMax)
	for _, off := range o.machine.offs {
		if off.to < heard {
			continue
		}
		if o.plan.Setup.Battery {
			d += batterySlackEach
		} else if o.plan.Setup.Budget {
			d += min(off.to, o.now()) - max(off.from, heard) + markSlack // nobody knows how long it was: each costs its charge
		}
	}
	return d
}

// inTime holds a certificate's validity against trust time.
func (o *observer) inTime(a *Ask) {
	from, to := validityOf(a.Cert)
	trustMs := o.trustTime()
	o.hold("T3", trustMs >= from.UnixMilli() && trustMs-(o.now()-a.Begun).Milliseconds()-1000 <= to.UnixMilli(),
		"%q got in with a certificate valid from %v to %v, at trust time %v", a.Name, from, to, time.UnixMilli(trustMs).UTC())
}

func (o *observer) trustTime() int64 {
	if o.core != nil && o.core.TrustMs != nil {
		return o.core.TrustMs()
	}
	return o.clock.trustMs
}

// pendingAllowed judges that a device got in that nobody registered.
func (o *observer) pendingAllowed(a *Ask, thing int) {
	t := o.on.thing(thing)
	o.hold("S10", o.plan.Setup.Offline && !o.truth.registered(thing), "%q got in as pending", a.Name)
	o.hold("S10", o.plan.signed(thing, a.Cert), "%q got in as pending, with a certificate that was not signed for it: %+v", a.Name, a.Cert)
	o.hold("S10", t.pending.counted(a.Begun), "%q got in as pending, and is not, since %v", a.Name, t.pending.since)
	age, bound := o.now()-t.pending.since, o.trustBound(t.pending.since, a.Begun)
	o.hold("S10", age <= bound, "%q got in as pending, admitted %v ago: %v at most", a.Name, age, bound)
	operation, resource := resourceOf(Connect, a.Name)
	o.hold("S4", o.on.policyIn(a.Begun, func(p *naivePolicy) bool { return p.allowsPending(a.Name, operation, resource) }),
		"%q got in as pending, and no policy in force then lets the pending connect", a.Name)
}

// signed reports whether the fleet's authority has signed a certificate for a device.
func (p *Plan) signed(thing int, c Cert) bool {
	return c.By == byFleet && c.Of == thing && c.Spoilt == "" && p.newcomer(thing)
}

// pendingRecord judges that a device is admitted as pending.
func (o *observer) pendingRecord(rec *messages.Record, e *messages.DevicePending) {
	name, _ := rec.Stream.Device()
	i, ok := DeviceOf(name)
	o.hold("S10", o.plan.Setup.Offline && ok && !o.truth.registered(i), "record %d: %s is admitted as pending", rec.Seq, name)
	c, ok := certIn(e.Der)
	o.hold("S10", ok && o.plan.signed(i, c) && e.CertificateId == string(IDOf(c)), "record %d: %s is admitted as pending with a certificate that was not signed for it: %+v", rec.Seq, name, c)
	o.hold("S10", !o.well(o.now()), "record %d: %s is admitted as pending, and the cloud can be asked since %v", rec.Seq, name, o.calm.since)
	pending := 0
	for other, t := range o.on.admitted {
		if t.pending.granted && other != i {
			pending++
		}
	}
	o.hold("S10", pending < pendingMax, "record %d: %s is admitted as pending, and %d others are", rec.Seq, name, pending)
}

// permitted judges that a broker let a client do something.
func (o *observer) permitted(c *clientView, a *Ask) {
	k := keyOfDigest(a.Session)
	session := o.on.sessions[k]
	if !o.hold("S7", session != nil, "client %d may %s %s, on a session that is not on record", a.Client, a.Op, clipped(a.Name)) ||
		!o.hold("S7", session.client == a.Client+1 && session.broker == BrokerOf(a.Broker), "client %d may %s %s, on another's session", a.Client, a.Op, clipped(a.Name)) {
		return
	}
	if session.closed != 0 {
		until := o.stale(a.Broker, session.closed)
		o.hold("S2", a.Begun <= until, "%s may %s %s at %s, and its session was closed at %v (%v): it could pass until %v",
			ThingOf(session.thing), a.Op, clipped(a.Name), BrokerOf(a.Broker), session.closed, session.why, until)
	} else {
		o.hold("S2", true, "")
	}
	operation, resource := resourceOf(a.Op, a.Name)
	thing := string(ThingOf(session.thing))
	if session.pending {
		o.pendingPermitted(a, session, func(p *naivePolicy) bool { return p.allowsPending(thing, operation, resource) })
		return
	}
	o.hold("S4", o.policyAt(a, func(p *naivePolicy) bool { return p.allows(thing, operation, resource) }),
		"%s may %s %s at %s, and no policy in force then lets it", thing, a.Op, clipped(a.Name), BrokerOf(a.Broker))
	o.stillTrusted(a, session)
}

// pendingPermitted judges that a broker let a pending device do something.
func (o *observer) pendingPermitted(a *Ask, session *sessionStanding, allows func(*naivePolicy) bool) {
	o.hold("S4", o.policyAt(a, allows), "%s may %s %s at %s, and no policy in force then lets the pending", ThingOf(session.thing), a.Op, clipped(a.Name), BrokerOf(a.Broker))
	from := a.Begun - cacheTTL - authapi.MaxStale - pipeline
	age, bound := o.now()-session.opened, o.trustBound(session.opened, from)+cacheTTL+authapi.MaxStale+o.transit(a.Broker)
	o.hold("S10", age <= bound, "%s may still %s at %s, on a session as pending from %v ago: %v at most", ThingOf(session.thing), a.Op, BrokerOf(a.Broker), age, bound)
}

// policyAt reports whether a policy lets it that the broker may still know of.
func (o *observer) policyAt(a *Ask, yes func(*naivePolicy) bool) bool {
	list := o.on.policies
	for i := len(list) - 1; i >= 0; i-- {
		if yes(list[i].policy) {
			return true
		}
		if o.stale(a.Broker, list[i].since) < a.Begun {
			return false
		}
	}
	return false
}

// stillTrusted holds an open session's trust against true time, where trust that ended ends
// sessions.
func (o *observer) stillTrusted(a *Ask, session *sessionStanding) {
	from := a.Begun - cacheTTL - authapi.MaxStale - pipeline
	if o.on.sectionIn(from, func(s naiveSection) bool { return !s.closeOnRevoke }) {
		return
	}
	o.stillHolds(a, session, "certificate", &o.on.cert(session.cert).said, from)
	o.stillHolds(a, session, "attachment", &o.on.thing(session.thing).attachment(session.cert).said, from)
}

func (o *observer) stillHolds(a *Ask, session *sessionStanding, what string, s *said, from time.Duration) {
	age, bound := o.now()-s.yes, o.trustBound(s.yes, from)+cacheTTL+authapi.MaxStale+o.transit(a.Broker)
	o.hold("T1", age <= bound, "%s may still %s at %s on a yes to its %s from %v, %v ago: %v at most",
		ThingOf(session.thing), a.Op, BrokerOf(a.Broker), what, s.yes, age, bound)
}

// stale is until when a broker may go on by what was so before since: 5 s after the last push
// that reached it and had left the core by then.
func (o *observer) stale(broker int, since time.Duration) time.Duration {
	last := since + promptly
	for _, p := range o.brokers[broker].slow {
		if p.sent <= since+pipeline {
			last = max(last, p.came)
		}
	}
	return last + authapi.MaxStale + pipeline
}

// transit is the longest that a push to a broker took of late.
func (o *observer) transit(broker int) time.Duration {
	d := promptly
	for _, p := range o.brokers[broker].slow {
		d = max(d, p.came-p.sent)
	}
	return d
}

// clipped is a name as people can read it.
func clipped(name string) string {
	if len(name) > 60 {
		return name[:60] + "…"
	}
	return name
}
