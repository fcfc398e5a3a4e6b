package dst

import (
	"slices"
	"time"
)

// agesMax bounds whose ages of trust are looked at for a sample.
const agesMax = 2000

// sampled adds a point to the series.
func (x *player) sampled() {
	now := x.stage.Now()
	x.sample = now + x.every
	o := x.obs
	s := Sample{At: now, Sessions: o.on.live, Records: o.log.seq, Faults: o.faults, Up: o.core != nil}
	var ages []time.Duration
	for _, c := range o.clients {
		switch {
		case c.in:
			s.Connected++
		case c.refused:
			s.Refused++
		}
		if session := o.on.sessions[c.session]; c.in && session != nil && len(ages) < agesMax {
			ages = append(ages, now-o.on.cert(session.cert).said.yes)
		}
	}
	for _, t := range o.on.things {
		if t.quarantined {
			s.Quarantined++
		}
	}
	for _, n := range o.counts.Allowed {
		s.Allowed += n
	}
	for _, n := range o.counts.Denied {
		s.Denied += n
	}
	for _, n := range o.counts.Busy {
		s.Busy += n
	}
	if len(ages) > 0 {
		slices.Sort(ages)
		s.TrustP50, s.TrustMax = ages[len(ages)/2], ages[len(ages)-1]
	}
	x.series = append(x.series, s)
}
