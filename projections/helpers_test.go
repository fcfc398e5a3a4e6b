package projections

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// The world of these tests: trust lasts a minute, certificates expire after ten, times
// are milliseconds from t0.
const (
	t0       int64 = 1_700_000_000_000
	duration int64 = 60_000
	expiry         = 10 * duration
	pump           = messages.ThingName("pump-7")
	valve          = messages.ThingName("valve-1")
	broker         = messages.BrokerID("b1")
)

var (
	certA = messages.CertificateIDOf([]byte("a"))
	certB = messages.CertificateIDOf([]byte("b"))
)

func minute() messages.Trust { return messages.Trust{DurationMs: duration} }

// history makes records as the log would.
type history struct {
	records  []messages.Record
	versions map[messages.StreamID]uint64
}

// add appends one event and returns its record.
func (h *history) add(stream messages.StreamID, ms int64, e messages.Event) messages.Record {
	body, schema, err := messages.EncodeEvent(e)
	if err != nil {
		panic(err)
	}
	if h.versions == nil {
		h.versions = map[messages.StreamID]uint64{}
	}
	h.versions[stream]++
	r := messages.Record{
		Seq: uint64(len(h.records) + 1), Stream: stream, Version: h.versions[stream],
		Kind: e.Kind(), Schema: schema, Critical: e.Kind().Critical(), At: messages.Instant{TrustMs: t0 + ms}, Body: body,
	}
	h.records = append(h.records, r)
	return r
}

func (h *history) verified(id messages.CertificateID, ms int64) messages.Record {
	return h.add(messages.CertificateStream(id), ms, &messages.CertificateVerified{NotBeforeMs: t0 - 1000, NotAfterMs: t0 + expiry})
}

func (h *history) refused(id messages.CertificateID, ms int64) messages.Record {
	return h.add(messages.CertificateStream(id), ms, &messages.CertificateRefused{Reason: "no"})
}

func (h *history) attached(thing messages.ThingName, id messages.CertificateID, ms int64) messages.Record {
	return h.add(messages.DeviceStream(thing), ms, &messages.AttachmentVerified{CertificateId: string(id)})
}

func (h *history) withdrawn(thing messages.ThingName, id messages.CertificateID, ms int64) messages.Record {
	return h.add(messages.DeviceStream(thing), ms, &messages.AttachmentWithdrawn{CertificateId: string(id)})
}

func (h *history) opened(thing messages.ThingName, id messages.CertificateID, n int, ms int64) messages.Record {
	d := digest(n)
	return h.add(messages.DeviceStream(thing), ms, &messages.SessionOpened{Session: d[:], CertificateId: string(id), Broker: string(broker)})
}

func (h *history) pending(thing messages.ThingName, id messages.CertificateID, ms int64) messages.Record {
	return h.add(messages.DeviceStream(thing), ms, &messages.DevicePending{
		CertificateId: string(id), Der: []byte("der"), AuthorityId: "ca", Rule: "fleet", NotBeforeMs: t0 - 1000, NotAfterMs: t0 + expiry,
	})
}

func (h *history) pendingOpened(thing messages.ThingName, id messages.CertificateID, n int, ms int64) messages.Record {
	d := digest(n)
	return h.add(messages.DeviceStream(thing), ms, &messages.PendingSessionOpened{Session: d[:], CertificateId: string(id), Broker: string(broker)})
}

func (h *history) closed(thing messages.ThingName, n int, ms int64) messages.Record {
	d := digest(n)
	return h.add(messages.DeviceStream(thing), ms, &messages.SessionClosed{Session: d[:], Reason: messages.CloseReason_CLOSE_BY_BROKER})
}

func (h *history) policy(doc string, ms int64) messages.Record {
	d, err := policy.Parse([]byte(doc), policy.Options{})
	if err != nil {
		panic(err)
	}
	return h.add(messages.StreamPolicy, ms, &messages.PolicyReplaced{Document: d.Canonical(), Revision: d.Revision()})
}

func (h *history) config(doc string, ms int64) messages.Record {
	return h.add(messages.StreamConfig, ms, &messages.ConfigReplaced{Document: []byte(doc), Revision: doc})
}

// token is the n-th secret, digest what the log knows of it.
func token(n int) []byte                         { return []byte(fmt.Sprintf("gh1_token-%d", n)) }
func digest(n int) messages.TokenDigest          { return messages.DigestOf(token(n)) }
func (h *history) since(n int) []messages.Record { return h.records[n:] }

// allow is a policy that lets the things of a rule publish to topics.
func allow(rule string, topics ...string) string {
	quoted := make([]string, len(topics))
	for i, topic := range topics {
		quoted[i] = `"mqtt:topic:` + topic + `"`
	}
	return `{"definitions":{"g":{"selectionRule":"thingName: ` + rule + `","policyName":"p"}},
		"policies":{"p":{"s":{"operations":["mqtt:publish"],"resources":[` + strings.Join(quoted, ",") + `]}}}}`
}

// folded is views over a history, live.
func folded(h *history) *Views {
	v := New(nil)
	v.Apply(h.records)
	v.Live(Hooks{})
	return v
}

// connected is a history of a pump with session 1 that may publish to a.
func connected() *history {
	h := &history{}
	h.policy(allow("pump-*", "a"), 0)
	h.verified(certA, 0)
	h.attached(pump, certA, 0)
	h.opened(pump, certA, 1, 1)
	return h
}

func publish(v *Views, n int, topic string, ms int64) Verdict {
	return v.Authorize(broker, token(n), []byte("mqtt:publish"), []byte("mqtt:topic:"+topic), minute(), t0+ms)
}

// export spells all that decisions read, the same for the same contents.
func export(v *Views) string {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var b strings.Builder
	for _, id := range slices.Sorted(maps.Keys(v.certificates)) {
		c := v.certificates[id]
		fmt.Fprintf(&b, "certificate %.6s %+v holders %v sessions %v\n", id, c.trust(), exportHolders(c.holders), exportSessions(c.sessions))
	}
	for _, name := range slices.Sorted(maps.Keys(v.things)) {
		t := v.things[name]
		fmt.Fprintf(&b, "thing %s quarantined %q sessions %v", name, t.quarantined, exportSessions(t.sessions))
		for _, at := range slices.SortedFunc(slices.Values(t.attachments), func(a, b *attachment) int { return strings.Compare(string(a.certificate.id), string(b.certificate.id)) }) {
			fmt.Fprintf(&b, " attached %.6s %d", at.certificate.id, at.confirmedMs.Load())
		}
		if p := t.pending; p != nil {
			fmt.Fprintf(&b, " pending %.6s %d accepted %v", p.certificate, p.confirmedMs.Load(), p.accepted.Load())
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "admissions %v\n", v.admissions)
	p, section := v.policy.Load(), v.Section()
	section.Policy = nil // of DeviceGroups, which are there
	fmt.Fprintf(&b, "policy %s by %d next %v voided %d config %+v seq %d live %d watched %d\n", p.current.Revision(), p.seq, p.next != nil,
		v.voidedMs.Load(), section, v.Seq(), v.table.count(), len(v.agenda.ends))
	return b.String()
}

func exportHolders(holders []*attachment) []string {
	var list []string
	for _, at := range holders {
		list = append(list, string(at.thing.name))
	}
	slices.Sort(list)
	return list
}

func exportSessions(all roll) []string {
	var list []string
	for _, s := range all {
		if s.pending != nil {
			list = append(list, fmt.Sprintf("pending %s %s %.6s %d %d rests on %d", s.Digest.Short(), s.Thing, s.Certificate, s.OpenedMs, s.OpenedSeq, s.pending.confirmedMs.Load()))
			continue
		}
		list = append(list, fmt.Sprintf("%s %s %.6s %s %d %d dead=%v attached=%d", s.Digest.Short(), s.Thing, s.Certificate, s.Broker,
			s.OpenedMs, s.OpenedSeq, s.Dead(), s.attached.confirmedMs.Load()))
	}
	slices.Sort(list)
	return list
}
