package projections

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// A snapshot's bytes. Numbers are uvarints, times zigzag varints, texts their length and
// their bytes; places count from 0, in the order of these lists:
//
//	digest of the kinds that this program folds, 32
//	sequence number | length of JSON (small) | JSON
//	certificates: number, bytes of their ids; for each: id; confirmed, notBefore, notAfter
//	brokers: number; for each: name
//	things: number, bytes of their names; for each: name; flags: 1 associated, 2 quarantined;
//	  why, if so; attachments: number; for each: certificate's place, confirmed
//	sessions: number; for each: digest 32, opened: time, record; broker's place; form; then
//	  0 of an attachment: thing's place, certificate's place
//	  1 of one that was taken back: the same, confirmed
//	  2 of an admission: thing's place, certificate's id, admission's place
//	  3 of a component: name, certificate's id, end
const (
	sessionAttached = iota
	sessionDetached
	sessionPending
	sessionOfComponent
)

const (
	flagAssociated  = 1
	flagQuarantined = 2
)

// Encode writes the snapshot down. It sorts what it has first, and so may be called once.
func (c *Captured) Encode() ([]byte, error) {
	c.sort()
	text, err := json.Marshal(&c.small)
	if err != nil {
		return nil, fmt.Errorf("snapshot: %w", err)
	}
	if bytes.Contains(text, []byte(`\ufffd`)) {
		return nil, errors.New("snapshot: it holds a text that is not UTF-8")
	}
	w := writer{b: make([]byte, 0, len(text)+100*len(c.certificates)+40*len(c.things)+90*len(c.sessions))}
	kinds := messages.KindsDigest()
	w.b = append(w.b, kinds[:]...)
	w.number(c.Seq)
	w.text(string(text))
	ids := 0
	for i := range c.certificates {
		ids += len(c.certificates[i].id)
	}
	places := make(map[*certificate]uint64, len(c.certificates))
	w.number(uint64(len(c.certificates)))
	w.number(uint64(ids))
	for i := range c.certificates {
		cert := &c.certificates[i]
		places[cert.of] = uint64(i)
		w.text(string(cert.id))
		w.time(cert.confirmedMs)
		w.time(cert.notBeforeMs)
		w.time(cert.notAfterMs)
	}
	brokers := w.brokers(c.sessions)
	things := w.things(c.things, places)
	w.number(uint64(len(c.sessions)))
	for i := range c.sessions {
		w.session(&c.sessions[i], brokers, things, places)
	}
	return w.b, nil
}

type writer struct{ b []byte }

func (w *writer) number(n uint64) { w.b = binary.AppendUvarint(w.b, n) }
func (w *writer) time(ms int64)   { w.b = binary.AppendVarint(w.b, ms) }
func (w *writer) text(s string) {
	w.number(uint64(len(s)))
	w.b = append(w.b, s...)
}

func (w *writer) brokers(sessions []capturedSession) map[messages.BrokerID]uint64 {
	places := map[messages.BrokerID]uint64{}
	var names []messages.BrokerID
	for i := range sessions {
		if name := sessions[i].of.Broker; len(names) == 0 || names[len(names)-1] != name {
			if _, known := places[name]; !known {
				places[name] = uint64(len(names))
				names = append(names, name)
			}
		}
	}
	w.number(uint64(len(names)))
	for _, name := range names {
		w.text(string(name))
	}
	return places
}

func (w *writer) things(things []capturedThing, certificates map[*certificate]uint64) map[messages.ThingName]uint64 {
	total := 0
	for i := range things {
		total += len(things[i].name)
	}
	places := make(map[messages.ThingName]uint64, len(things))
	w.number(uint64(len(things)))
	w.number(uint64(total))
	for i := range things {
		t := &things[i]
		places[t.name] = uint64(i)
		w.text(string(t.name))
		flags := uint64(0)
		if t.associated {
			flags |= flagAssociated
		}
		if t.quarantined != "" {
			flags |= flagQuarantined
		}
		w.number(flags)
		if t.quarantined != "" {
			w.text(t.quarantined)
		}
		w.number(uint64(len(t.attachments)))
		for _, at := range t.attachments {
			w.number(certificates[at.certificate])
			w.time(at.confirmedMs)
		}
	}
	return places
}

func (w *writer) session(held *capturedSession, brokers map[messages.BrokerID]uint64, things map[messages.ThingName]uint64, certificates map[*certificate]uint64) {
	s := held.of
	w.b = append(w.b, s.Digest[:]...)
	w.time(s.OpenedMs)
	w.number(s.OpenedSeq)
	w.number(brokers[s.Broker])
	switch {
	case s.Component != "":
		w.number(sessionOfComponent)
		w.text(string(s.Component))
		w.text(string(s.Certificate))
		w.time(s.endsMs)
	case held.pending != 0:
		w.number(sessionPending)
		w.number(things[s.Thing])
		w.text(string(s.Certificate))
		w.number(uint64(held.pending - 1))
	case held.detached:
		w.number(sessionDetached)
		w.number(things[s.Thing])
		w.number(certificates[s.cert])
		w.time(held.confirmedMs)
	default:
		w.number(sessionAttached)
		w.number(things[s.Thing])
		w.number(certificates[s.cert])
	}
}
