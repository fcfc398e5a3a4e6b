package refresh

import (
	"cmp"
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// graceMs is how old the confirmation of a certificate that no thing holds must be for it
// to go: a device that connects just now is verified first and attached next.
const graceMs = 60 * 1000

// Plan says what a complete listing calls for, given what is held: things that are not in
// it go, with the certificates that nothing which stays holds; about the rest the cloud is
// asked again, those first whose trust ends soonest, and last those whose trust has ended.
// What was confirmed since sinceMs is not asked about, unless by a clock that was ahead
// or in doubt. things are sorted.
//
// Which certificates go is judged by what is held now, before anything is asked: one whose
// attachment the cloud takes back meanwhile goes with the next refresh, as in the
// reference.
func Plan(held messages.Held, things []messages.ThingName, trust messages.Trust, sinceMs, nowMs int64) messages.RefreshPlan {
	var p messages.RefreshPlan
	kept := make(map[messages.CertificateID]bool, len(held.Certificates))
	step := func(thing messages.ThingName, id messages.CertificateID, confirmedMs int64) {
		if sinceMs != 0 && confirmedMs >= max(sinceMs, trust.SinceMs) && confirmedMs <= nowMs {
			return
		}
		s := messages.RefreshStep{Thing: thing, Certificate: id}
		if trust.Holds(confirmedMs, nowMs) {
			s.EndsMs = confirmedMs + trust.DurationMs
		}
		p.Steps = append(p.Steps, s)
	}
	for _, t := range held.Things {
		_, associated := slices.BinarySearch(things, t.Thing)
		if associated != t.Associated {
			p.Changes = append(p.Changes, &messages.AssociationChanged{Thing: string(t.Thing), Associated: associated})
		}
		if !associated {
			p.Forget = append(p.Forget, t.Thing)
			continue
		}
		for _, a := range t.Attachments {
			kept[a.Certificate] = true
			step(t.Thing, a.Certificate, a.ConfirmedMs)
		}
	}
	for _, c := range held.Certificates {
		switch {
		case kept[c.Certificate]:
			step("", c.Certificate, c.ConfirmedMs)
		case nowMs-c.ConfirmedMs > graceMs:
			p.Drop = append(p.Drop, c)
		}
	}
	slices.Sort(p.Forget)
	slices.SortStableFunc(p.Steps, bySoonest)
	return p
}

// bySoonest puts what has ended behind what is to end.
func bySoonest(a, b messages.RefreshStep) int {
	if a.EndsMs == 0 || b.EndsMs == 0 {
		return cmp.Compare(b.EndsMs, a.EndsMs)
	}
	return cmp.Compare(a.EndsMs, b.EndsMs)
}
