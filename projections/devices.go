package projections

import (
	"maps"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Device is what is known of one device, for people.
type Device struct {
	Thing       messages.ThingName
	Quarantined string
	Attachments []Attachment
	Sessions    []*Session
	Groups      []string
	Pending     *messages.PendingDevice // nil: it is not; then Groups is that of pending devices, if it picks this one
}

// Attachment is a certificate that belongs to a device.
type Attachment struct {
	Certificate messages.CertificateID
	ConfirmedMs int64 // trust time
	Trust       messages.CertificateTrust
	// NotBeforeMs and NotAfterMs are the certificate's dates, also when nobody vouches for
	// it any more; 0: they were never known.
	NotBeforeMs, NotAfterMs int64
}

// names is the known devices' names, sorted, as of one state of their set.
type names struct {
	version uint64
	sorted  []messages.ThingName
}

// Things lists the known devices' names, sorted. Do not change the list: it is shared
// until the set of devices changes, so that pages of it cost what is on them.
func (v *Views) Things() []messages.ThingName {
	known := v.names.Load()
	v.mu.RLock()
	version := v.thingsVersion
	if known != nil && known.version == version {
		v.mu.RUnlock()
		return known.sorted
	}
	fresh := slices.Collect(maps.Keys(v.things))
	v.mu.RUnlock()
	slices.Sort(fresh) // outside of the lock, which folds wait for
	v.names.Store(&names{version, fresh})
	return fresh
}

// Device describes one device; false if the log holds nothing of it.
func (v *Views) Device(name messages.ThingName) (Device, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	t := v.things[name]
	if t == nil {
		return Device{}, false
	}
	d := Device{Thing: name, Quarantined: t.quarantined}
	if _, bad := v.poisoned[messages.DeviceStream(name)]; bad {
		d.Quarantined = "its records cannot be read"
	}
	for _, at := range t.attachments {
		d.Attachments = append(d.Attachments, at.describe())
	}
	slices.SortFunc(d.Attachments, func(a, b Attachment) int { return int(max(-1, min(1, b.ConfirmedMs-a.ConfirmedMs))) })
	d.Sessions = slices.SortedFunc(slices.Values(t.sessions), func(a, b *Session) int { return int(max(-1, min(1, a.OpenedMs-b.OpenedMs))) })
	d.Groups = v.policy.Load().current.Groups(name)
	if d.Pending = v.pendingOf(t); d.Pending != nil {
		group := v.PendingGroup()
		d.Groups = slices.DeleteFunc(d.Groups, func(g string) bool { return g != group })
	}
	return d, true
}

// describe says what is known of a certificate that belongs to a thing; mu is held.
func (at *attachment) describe() Attachment {
	c := at.certificate
	return Attachment{
		Certificate: c.id, ConfirmedMs: at.confirmedMs.Load(),
		Trust: c.trust(), NotBeforeMs: c.notBeforeMs.Load(), NotAfterMs: c.notAfterMs.Load(),
	}
}

// SessionsOf lists a broker's live sessions, in no order.
func (v *Views) SessionsOf(broker messages.BrokerID) []*Session {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var list []*Session
	for _, t := range v.things {
		for _, s := range t.sessions {
			if s.Broker == broker {
				list = append(list, s)
			}
		}
	}
	for s := range v.components {
		if s.Broker == broker {
			list = append(list, s)
		}
	}
	return list
}

// Counts are the sizes of the read models.
type Counts struct{ Certificates, Things, Sessions, Pending int }

// Counts returns the sizes of the read models.
func (v *Views) Counts() Counts {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return Counts{Certificates: len(v.certificates), Things: len(v.things), Sessions: v.table.count(), Pending: len(v.pending)}
}
