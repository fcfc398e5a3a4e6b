package projections

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// small is what of the read models does not grow with the number of devices, as JSON.
type small struct {
	Policy         json.RawMessage // canonical
	PolicyRevision string
	PolicySeq      uint64
	Section        config.Section
	Configured     bool
	Documents      map[messages.StreamID]Document
	Refresh        Refresh
	VoidedMs       int64
	ClockSetBack   bool
	Poisoned       []messages.StreamID
	Brokers        map[messages.BrokerID]BrokerRights // nil: nothing was said of any
	Withdrawn      map[messages.ComponentName][]messages.CertificateID
	Admissions     []int64
	Pending        []smallPending // in the order of their records; those that ended and have sessions last
	Denied         []smallRecord  // AccessDenied
	Closed         []smallRecord  // SessionClosed
}

type smallPending struct {
	Thing                              messages.ThingName
	Certificate, Authority             messages.CertificateID
	Subject, Rule                      string
	DER                                []byte
	NotBeforeMs, NotAfterMs, Confirmed int64
	Seq                                uint64
	Accepted, Ended                    bool
}

type smallRecord struct {
	Seq   uint64
	At    messages.Instant
	Thing messages.ThingName
	Body  []byte
}

// captureSmall takes down all but certificates, things and sessions, and returns the
// admissions' places in the list, from 1; mu is held.
func (c *Captured) captureSmall(v *Views) map[*pending]int {
	p := v.policy.Load()
	c.small = small{
		Policy: p.current.Document().Canonical(), PolicyRevision: p.current.Revision(), PolicySeq: p.seq,
		Section: *v.section.Load(), Configured: v.configured.Load(), Documents: maps.Clone(v.documents), Refresh: v.refresh,
		VoidedMs: v.voidedMs.Load(), ClockSetBack: v.clockSetBack.Load(),
		Poisoned: slices.Sorted(maps.Keys(v.poisoned)), Withdrawn: maps.Clone(v.withdrawn), Admissions: slices.Clone(v.admissions),
	}
	if rights := v.brokers.Load(); rights != nil {
		c.small.Brokers = *rights // never changed, only replaced
	}
	for _, d := range v.denied.records {
		c.small.Denied = append(c.small.Denied, smallRecord{Seq: d.Seq, At: d.At, Body: encoded(d.Event)})
	}
	for _, d := range v.denied.closed {
		c.small.Closed = append(c.small.Closed, smallRecord{d.Seq, d.At, d.Thing, encoded(d.Event)})
	}
	return c.captureAdmissions(v)
}

func (c *Captured) captureAdmissions(v *Views) map[*pending]int {
	all := map[*pending]bool{}
	for _, p := range v.pending {
		all[p] = true
	}
	for s := range v.ofPending {
		all[s.pending] = true
	}
	order := slices.SortedFunc(maps.Keys(all), func(a, b *pending) int {
		endedA, endedB := v.pending[a.thing] != a, v.pending[b.thing] != b
		if endedA != endedB && endedB {
			return -1
		} else if endedA != endedB {
			return 1
		}
		return cmp.Or(cmp.Compare(a.seq, b.seq), strings.Compare(string(a.thing), string(b.thing)), strings.Compare(string(a.certificate), string(b.certificate)),
			cmp.Compare(v.firstOf(a), v.firstOf(b)))
	})
	places := make(map[*pending]int, len(order))
	for i, p := range order {
		places[p] = i + 1
		c.small.Pending = append(c.small.Pending, smallPending{
			Thing: p.thing, Certificate: p.certificate, Authority: p.authority, Subject: p.subject, Rule: p.rule, DER: p.der,
			NotBeforeMs: p.notBeforeMs, NotAfterMs: p.notAfterMs.Load(), Confirmed: p.confirmedMs.Load(), Seq: p.seq,
			Accepted: p.accepted.Load(), Ended: v.pending[p.thing] != p,
		})
	}
	return places
}

// firstOf is the record of the first session that rests on p; mu is held.
func (v *Views) firstOf(p *pending) uint64 {
	first := uint64(0)
	for s := range v.ofPending {
		if s.pending == p && (first == 0 || s.OpenedSeq < first) {
			first = s.OpenedSeq
		}
	}
	return first
}

func encoded(e messages.Event) []byte {
	body, err := e.MarshalVT()
	if err != nil {
		panic(fmt.Sprintf("projections: %T of the log cannot be encoded: %v", e, err)) // it was decoded
	}
	return body
}

// restoreSmall puts s into fresh read models and returns the admissions in its order.
func (v *Views) restoreSmall(s *small) ([]*pending, error) {
	doc, err := policy.Parse(s.Policy, policy.Options{})
	if err != nil || doc.Revision() != s.PolicyRevision {
		return nil, fmt.Errorf("policy of revision %.80q: %w", s.PolicyRevision, cmp.Or(err, errOtherRevision))
	}
	v.policy.Store(&policyState{current: policy.Compile(doc), seq: s.PolicySeq})
	if s.Section.DeviceGroups != nil {
		if s.Section.Policy, err = policy.Parse(s.Section.DeviceGroups, policy.Options{}); err != nil {
			return nil, fmt.Errorf("device groups: %w", err)
		}
	}
	v.section.Store(&s.Section)
	v.configured.Store(s.Configured)
	v.voidedMs.Store(s.VoidedMs)
	v.voidedOnRecord.Store(s.VoidedMs)
	v.clockSetBack.Store(s.ClockSetBack)
	v.refresh, v.admissions = s.Refresh, s.Admissions
	if s.Brokers != nil {
		v.brokers.Store(&s.Brokers)
	}
	maps.Copy(v.documents, s.Documents)
	maps.Copy(v.withdrawn, s.Withdrawn)
	for _, stream := range s.Poisoned {
		v.poisoned[stream] = struct{}{}
	}
	for i := range s.Denied {
		r, e := &s.Denied[i], &messages.AccessDenied{}
		if err := e.UnmarshalVT(r.Body); err != nil {
			return nil, fmt.Errorf("denial: %w", err)
		}
		v.denied.records = append(v.denied.records, Denied{r.Seq, r.At, e})
	}
	for i := range s.Closed {
		r, e := &s.Closed[i], &messages.SessionClosed{}
		if err := e.UnmarshalVT(r.Body); err != nil {
			return nil, fmt.Errorf("closed session: %w", err)
		}
		v.denied.closed = append(v.denied.closed, Closed{r.Seq, r.At, r.Thing, e})
	}
	return v.restoreAdmissions(s.Pending)
}

var errOtherRevision = fmt.Errorf("it reads as another")

func (v *Views) restoreAdmissions(list []smallPending) ([]*pending, error) {
	var all []*pending
	for i := range list {
		s := &list[i]
		p := &pending{
			thing: s.Thing, certificate: s.Certificate, authority: s.Authority, subject: s.Subject, rule: s.Rule, der: s.DER,
			notBeforeMs: s.NotBeforeMs, seq: s.Seq,
		}
		p.notAfterMs.Store(s.NotAfterMs)
		p.confirmedMs.Store(s.Confirmed)
		p.accepted.Store(s.Accepted)
		all = append(all, p)
		if s.Ended {
			continue
		}
		t := v.things[s.Thing]
		if t == nil || t.pending != nil {
			return nil, fmt.Errorf("admission of %.80q: no such thing, or two", s.Thing)
		}
		t.pending, v.pending[s.Thing] = p, p
	}
	return all, nil
}
