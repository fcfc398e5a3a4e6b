package load

import (
	"time"
)

// The pauses of a device that was told to come again, unless it was told how long.
const (
	retryLeast = 100 * time.Millisecond
	retryMost  = 5 * time.Second
)

// A storm is devices that lost their connections and come back.
type storm struct {
	begun             time.Duration
	devices, in       int
	lastIn            time.Duration // when the last one was in
	denied            int
	busy, lost, tries int64 // answers that were no decision: busy; others; and all tries
}

// planStorms has each storm begin with its phase.
func (r *runner) planStorms() {
	begin := time.Duration(0)
	for i := range r.m.Load {
		p := &r.m.Load[i]
		if p.Storm > 0 {
			r.later(begin, func(due time.Duration) { r.breakOff(p, due) })
		}
		begin += time.Duration(p.For)
	}
}

// breakOff cuts the connections of a share of the devices and has them come back within the
// phase's time.
func (r *runner) breakOff(p *Phase, due time.Duration) {
	s := &storm{begun: due}
	r.storms = append(r.storms, s)
	within := time.Duration(p.Within)
	if within == 0 {
		within = min(time.Second, time.Duration(p.For))
	}
	var all []*member
	for _, i := range r.rand.Perm(len(r.members)) {
		if m := r.members[i]; (m.state == isIn || m.state == isAway) && m.storm == nil {
			all = append(all, m)
		}
		if len(all) >= int(float64(p.Storm)*float64(len(r.members))+0.5) {
			break
		}
	}
	s.devices = len(all)
	for i, m := range all {
		if m.session != nil {
			r.o.Driver.Drop(m.session)
		}
		r.drop(m)
		r.become(m, isAway)
		m.storm, m.tries = s, 0
		m.first = due + time.Duration(float64(within)*float64(i)/float64(len(all)))
		r.rec.offer(Back, m.first)
		r.comeBack(m, m.first)
	}
}

// cameBack goes on with a member of a storm that had an answer.
func (r *runner) cameBack(m *member, a Answer, now time.Duration) {
	s := m.storm
	if s == nil {
		return
	}
	s.tries++
	switch {
	case m.state == isIn:
		s.in++
		s.lastIn = max(s.lastIn, now)
		r.rec.answered(Back, Allowed, m.first, now)
		m.storm = nil
	case a.Outcome == Denied:
		s.denied++
		r.rec.answered(Back, Denied, m.first, now)
		m.storm = nil
	default:
		if a.Outcome == Busy {
			s.busy++
		} else {
			s.lost++
		}
		pause := max(a.RetryAfter, min(retryLeast<<min(m.tries, 6), retryMost))
		m.tries++
		pause += time.Duration(r.rand.Int64N(int64(pause)))
		epoch := m.epoch
		r.push(&event{at: now + pause, do: func(at time.Duration) {
			if m.state == isAway && m.epoch == epoch {
				r.connect(m, at)
			}
		}})
	}
}

// unfinished counts the members of storms that were not in when the schedule ended.
func (r *runner) unfinished() {
	for _, m := range r.members {
		if m.storm != nil {
			r.rec.answered(Back, TimedOut, m.first, r.m.Total())
			m.storm = nil
		}
	}
}
