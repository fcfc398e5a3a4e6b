package dst

import (
	"context"
	"encoding/binary"
	"math"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Durable implements Witness.
func (o *observer) Durable(records []messages.Record) {
	for i := range records {
		o.record(&records[i])
	}
}

// record takes in a record that is on disk from now on.
func (o *observer) record(rec *messages.Record) {
	if !o.hold("D4", rec.Seq == o.log.seq+1, "record %d follows record %d", rec.Seq, o.log.seq) {
		return
	}
	o.log.add(rec)
	o.counts.Records[rec.Kind.String()]++
	o.hold("D3", o.events.add(binary.LittleEndian.Uint64(rec.ID[:8])), "record %d is an event that was on record before", rec.Seq)
	now := max(o.now(), 1)
	if rec.Kind == messages.KindSessionOpened || rec.Kind == messages.KindPendingSessionOpened {
		o.opened(rec)
	}
	o.heeds(rec)
	if err := o.on.fold(now, rec); err != nil {
		o.hold("D10", false, "record %d cannot be read: %v", rec.Seq, err)
	}
}

// opened holds a session's opening against the request that it is for.
func (o *observer) opened(rec *messages.Record) {
	if rec.Cause.Request == "" {
		return
	}
	n := uint64(o.life)
	for _, s := range []string{string(rec.Cause.Broker), rec.Cause.Request} {
		for i := range len(s) {
			n = (n ^ uint64(s[i])) * 0x100000001b3
		}
		n *= 0x9e3779b97f4a7c15
	}
	o.hold("D3", o.requests.add(n), "request %s of %s opened two sessions; record %d", rec.Cause.Request, rec.Cause.Broker, rec.Seq)
}

// heeds holds what a record grants or takes away against what the cloud and operators said.
func (o *observer) heeds(rec *messages.Record) {
	e, err := messages.FoldEvent(rec)
	if err != nil {
		return
	}
	switch e := e.(type) {
	case *messages.CertificateVerified:
		id, _ := rec.Stream.Certificate()
		if len(e.Der) > 0 {
			o.hold("S8", messages.CertificateIDOf(e.Der) == id, "record %d has the bytes of %s for %s", rec.Seq, messages.CertificateIDOf(e.Der), id)
		}
		o.renewed(rec, &o.on.cert(keyOfCert(id)).said)
	case *messages.AttachmentVerified:
		if name, ok := rec.Stream.Device(); ok {
			if i, ok := DeviceOf(name); ok {
				o.renewed(rec, &o.on.thing(i).attachment(keyOfCert(messages.CertificateID(e.CertificateId))).said)
			}
		}
	case *messages.DeviceForgotten:
		name, _ := rec.Stream.Device()
		if e.Source == messages.Source_SOURCE_CLOUD {
			listings := 2 // one is enough where the guard is off, or was when they were heard
			if o.on.sectionIn(o.now()-listingsMax, func(s naiveSection) bool { return !s.guard }) {
				listings = 1
			}
			o.hold("D3c", o.truth.lacking(name, o.life, listings), "record %d: %s was forgotten, and no %d complete listings lack it", rec.Seq, name, listings)
		}
	case *messages.ClockReanchored:
		if o.clock.loweredAt != 0 {
			o.clock.loweredAt = 0
		} else {
			o.clock.recorded = true
		}
	case *messages.DevicePending:
		o.pendingRecord(rec, e)
	case *messages.CertificateOrdered, *messages.CertificateIssued:
		o.issuance(rec, e)
	}
}

// listingsMax is how long a refresh may go on after its last listing.
const listingsMax = time.Hour

// renewed holds a renewal of trust against the cloud's answers.
func (o *observer) renewed(rec *messages.Record, s *said) {
	o.hold("T4", s.yes > 0 && s.life == o.life, "record %d renews trust, and the cloud's last yes, at %v, was heard in life %d of %d", rec.Seq, s.yes, s.life, o.life)
}

// reopened holds what a process found on disk against what was there.
func (o *observer) reopened() {
	log := o.stage.Log()
	head := log.Head()
	o.hold("D5", head.Seq >= o.log.seq, "the log opened with %d records, %d were there", head.Seq, o.log.seq)
	o.hold("D9", head.Seq >= o.log.seq, "the log's head is %d, and %d records were acknowledged", head.Seq, o.log.seq)
	var again rolling
	before := o.log
	for rec, err := range log.Scan(context.Background(), 1, math.MaxUint64) {
		if !o.hold("D5", err == nil, "the log cannot be read: %v", err) {
			return
		}
		if rec.Seq > before.seq { // it was being written when the process died
			o.record(&rec)
			continue
		}
		o.hold("D4", rec.Seq == again.seq+1, "record %d follows record %d after a restart", rec.Seq, again.seq)
		again.add(&rec)
	}
	o.hold("D10", again == before || head.Seq < before.seq, "the first %d records are not those that were there", before.seq)
}

// verified recomputes the whole log.
func (o *observer) verified() {
	_, err := o.stage.Log().Verify(context.Background(), nil)
	o.hold("D9", err == nil, "the log does not verify: %v", err)
	var again rolling
	for rec, err := range o.stage.Log().Scan(context.Background(), 1, math.MaxUint64) {
		if err == nil {
			again.add(&rec)
		}
	}
	o.hold("D10", again == o.log, "the log is not as it was written: %d records, %d were seen", again.seq, o.log.seq)
}

// folded compares the read models in use with those that the log gives.
func (o *observer) folded() {
	c := o.core
	if c == nil || c.Views == nil || c.Quiet == nil || !c.Quiet() {
		return
	}
	fresh := projections.New(nil)
	batch := make([]messages.Record, 0, 256)
	for rec, err := range o.stage.Log().Scan(context.Background(), 1, math.MaxUint64) {
		if err != nil {
			o.hold("D2", false, "the log cannot be read: %v", err)
			return
		}
		if batch = append(batch, rec); len(batch) == cap(batch) {
			fresh.Apply(batch)
			batch = batch[:0]
		}
	}
	fresh.Apply(batch)
	what := differs(c.Views, fresh, o.everFull)
	o.hold("D2", what == "", "folded anew, the log gives other read models: %s", what)
}

// Replied implements Witness.
func (o *observer) Replied(a *Action, begun time.Duration, r messages.Reply) {
	o.ordered(a, r)
	switch r.(type) {
	case messages.Done:
		o.done(a, begun)
	case messages.Replaced:
		o.replaced(a, begun)
	case messages.Rejected:
		o.hold("S4", true, "")
	}
}

// done holds an operator's order that was acknowledged against the record.
func (o *observer) done(a *Action, begun time.Duration) {
	t := o.on.thing(a.Thing)
	switch a.Kind {
	case Quarantine:
		o.hold("D1", t.quarantined || t.since >= begun, "the quarantine of %s was acknowledged, and is not on record", ThingOf(a.Thing))
	case Release:
		o.hold("D1", !t.quarantined || t.since >= begun, "the release of %s was acknowledged, and is not on record", ThingOf(a.Thing))
	case Forget:
		for _, g := range t.attached {
			o.hold("D1", !g.granted || g.since >= begun, "it was acknowledged that %s is forgotten, and an attachment of before is on record", ThingOf(a.Thing))
		}
	}
}

// replaced holds a document that was acknowledged against the record.
func (o *observer) replaced(a *Action, begun time.Duration) {
	type entry struct {
		text  string
		since time.Duration
	}
	var list []entry
	text := a.Text
	switch a.Kind {
	case EditPolicy:
		p, err := readNaive([]byte(a.Text))
		if !o.hold("S4", err == nil, "a document was taken that is bad: %v", err) {
			return
		}
		text = p.text()
		for _, p := range o.on.policies {
			list = append(list, entry{p.text, p.since})
		}
	case EditSection:
		for _, s := range o.on.sections {
			list = append(list, entry{s.text, s.since})
		}
	default:
		return
	}
	found := false
	for i := len(list) - 1; i >= 0 && !found; i-- {
		found = list[i].text == text
		if list[i].since < begun {
			break // that one was in force when it was asked for
		}
	}
	o.hold("D1", found, "%s was acknowledged, and the document is not on record", a.Kind)
}
