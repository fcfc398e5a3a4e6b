package load

import (
	"math/rand/v2"
	"time"
)

// A state is what a member does.
type state uint8

const (
	isAway state = iota
	isConnecting
	isIn
	isLeaving
	isRevoked // or about to be, or to be released
)

// A member is a device in a run. The runner's lock guards it.
type member struct {
	*Device
	broker  int
	state   state
	session *Session
	// epoch counts what changes the answers it must get: a request is judged if it got its
	// answer in the epoch in which it was sent.
	epoch int
	place int           // in the set that it is in
	back  time.Duration // when it comes again, if it is to; else 0
	storm *storm        // that it is in; nil: none
	first time.Duration // of a storm: when it tried first
	tries int           // of a storm, that were no answer
	told  time.Duration // of a revocation that was not felt yet: when it was due; else 0
}

// A set holds members, any of which can be picked.
type set struct{ list []*member }

func (s *set) len() int { return len(s.list) }

func (s *set) add(m *member) {
	m.place = len(s.list)
	s.list = append(s.list, m)
}

func (s *set) remove(m *member) {
	last := s.list[len(s.list)-1]
	s.list[m.place], last.place = last, m.place
	s.list = s.list[:len(s.list)-1]
}

// pick returns any member; nil: there is none.
func (s *set) pick(r *rand.Rand) *member {
	if len(s.list) == 0 {
		return nil
	}
	return s.list[r.IntN(len(s.list))]
}

// become moves a member to a state and the set that goes with it.
func (r *runner) become(m *member, to state) {
	switch m.state {
	case isAway:
		r.away.remove(m)
	case isIn:
		r.in.remove(m)
	}
	m.state = to
	switch to {
	case isAway:
		r.away.add(m)
	case isIn:
		r.in.add(m)
	}
}

// drop forgets a member's session.
func (r *runner) drop(m *member) {
	if m.session != nil {
		delete(r.sessions, m.session.Key)
		m.session = nil
	}
	m.epoch++
}
