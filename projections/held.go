package projections

import (
	"maps"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// heldChunk is how many entries are read under one lock: whoever connects meanwhile is not
// to wait for a hundred thousand of them.
const heldChunk = 512

// Held lists what is held of things and certificates, by name: what is confirmed, of
// entities whose records can be read. A thing that nothing is attached to, because it was
// all withdrawn or the thing is only quarantined, is not held. It is no snapshot of one
// moment; what changes meanwhile may be in it or not.
func (v *Views) Held() messages.Held {
	v.mu.RLock()
	names, ids := slices.Collect(maps.Keys(v.things)), slices.Collect(maps.Keys(v.certificates))
	v.mu.RUnlock()
	slices.Sort(names) // the same log gives the same plan
	slices.Sort(ids)
	var held messages.Held
	for chunk := range slices.Chunk(names, heldChunk) {
		held.Things = v.heldThings(held.Things, chunk)
	}
	for chunk := range slices.Chunk(ids, heldChunk) {
		held.Certificates = v.heldCertificates(held.Certificates, chunk)
	}
	return held
}

func (v *Views) heldThings(list []messages.HeldThing, names []messages.ThingName) []messages.HeldThing {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, name := range names {
		t := v.things[name]
		if t == nil || v.isPoisoned(messages.DeviceStream(name)) {
			continue
		}
		h := messages.HeldThing{Thing: name, Associated: t.associated}
		for _, at := range t.attachments {
			if ms := at.confirmedMs.Load(); ms != never {
				h.Attachments = append(h.Attachments, messages.HeldAttachment{Certificate: at.certificate.id, ConfirmedMs: ms})
			}
		}
		if len(h.Attachments) > 0 {
			list = append(list, h)
		}
	}
	return list
}

func (v *Views) heldCertificates(list []messages.HeldCertificate, ids []messages.CertificateID) []messages.HeldCertificate {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, id := range ids {
		c := v.certificates[id]
		if c == nil || v.isPoisoned(messages.CertificateStream(id)) {
			continue
		}
		if ms := c.confirmedMs.Load(); ms != never {
			list = append(list, messages.HeldCertificate{Certificate: id, ConfirmedMs: ms})
		}
	}
	return list
}

// associationChanged notes whether a thing that is known here belongs to this core.
func (v *Views) associationChanged(name messages.ThingName, associated bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if t := v.things[name]; t != nil {
		t.associated = associated
	}
}
