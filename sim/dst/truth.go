package dst

import (
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// truth is what is so, whatever the core makes of it: the cloud's registry, and what the
// cloud has said.
type truth struct {
	plan     *Plan
	inactive map[Cert]bool       // where it differs from the beginning
	moved    map[attachedTo]bool // attached, where it differs from the beginning
	apart    map[int]bool        // not associated
	list     listView
}

type attachedTo struct {
	thing int
	cert  Cert
}

// listView is the last complete listings that the core heard, and when.
type listView struct {
	life   int
	listed [2][]messages.ThingName // the last two, the later one last; sorted
	heard  int                     // in this life
}

func newTruth(p *Plan) *truth {
	return &truth{plan: p, inactive: map[Cert]bool{}, moved: map[attachedTo]bool{}, apart: map[int]bool{}}
}

// registered is whether a device was registered from the beginning.
func (t *truth) registered(device int) bool { return device < t.plan.Devices-t.plan.Setup.Newcomers }

// active is whether the cloud vouches for a certificate.
func (t *truth) active(c Cert) bool {
	if inactive, changed := t.inactive[c]; changed {
		return !inactive
	}
	return c.Of >= 0 && c.Gen == 0 && c.Spoilt == "" && c.By == byNobody && t.registered(c.Of)
}

// attached is whether a certificate belongs to a thing.
func (t *truth) attached(thing int, c Cert) bool {
	if is, changed := t.moved[attachedTo{thing, c}]; changed {
		return is
	}
	return c.Of == thing && c.Gen == 0 && c.Spoilt == "" && c.By == byNobody && t.registered(thing)
}

// associated is whether a thing is a client device of this core.
func (t *truth) associated(thing int) bool { return t.registered(thing) != t.apart[thing] }

// act takes in what the plan does to the registry; it reports whether it does anything.
func (t *truth) act(a *Action, _ time.Duration) bool {
	switch a.Kind {
	case Activate:
		t.inactive[a.Cert] = false
	case Deactivate:
		t.inactive[a.Cert] = true
	case Attach:
		t.moved[attachedTo{a.Thing, a.Cert}] = true
	case Detach:
		t.moved[attachedTo{a.Thing, a.Cert}] = false
	case Associate, Dissociate:
		for i := a.Thing; i < a.Thing+max(a.Count, 1); i++ {
			t.apart[i] = t.registered(i) == (a.Kind == Dissociate)
		}
	default:
		return false
	}
	return true
}

// saidOf finds what the cloud has said about what a question is about; nil: no device's.
func saidOf(on *standing, q *messages.CloudQuestion) *said {
	if q.Thing == "" {
		return &on.cert(keyOfCert(q.Certificate)).said
	}
	if i, ok := DeviceOf(q.Thing); ok {
		return &on.thing(i).attachment(keyOfCert(q.Certificate)).said
	}
	return nil
}

// said takes in an answer that the core has heard.
func (t *truth) said(on *standing, q *messages.CloudQuestion, asked, now time.Duration, v messages.CloudVerdict, life int) {
	s := saidOf(on, q)
	if s == nil {
		return
	}
	now, asked = max(now, 1), max(asked, 1)
	switch v {
	case messages.CloudConfirmed:
		s.yes, s.yesAsked, s.life = now, max(s.yesAsked, asked), life
	case messages.CloudDenied:
		if asked >= s.noAsked {
			s.no, s.noAsked, s.noLife, s.noOnRecord = now, asked, life, false
		}
	}
}

// listed takes in a listing that the core has heard.
func (t *truth) listed(l *messages.AssociationList, life int) {
	if !l.Complete {
		return
	}
	if t.list.life != life {
		t.list = listView{life: life}
	}
	things := l.Things
	if !slices.IsSorted(things) {
		things = slices.Sorted(slices.Values(things))
	}
	t.list.heard++
	t.list.listed[0], t.list.listed[1] = t.list.listed[1], things
}

// lacking reports whether the last complete listings of this life lack a thing: so many.
func (t *truth) lacking(name messages.ThingName, life, listings int) bool {
	if t.list.life != life || t.list.heard < listings {
		return false
	}
	for _, l := range t.list.listed[2-listings:] {
		if _, in := slices.BinarySearch(l, name); in {
			return false
		}
	}
	return true
}
