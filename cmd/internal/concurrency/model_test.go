package concurrency

import (
	"fmt"
	"strings"

	"github.com/anishathalye/porcupine"
)

// call is what was asked about one device.
type call struct {
	op     op
	device int
	token  int  // authorize and close: which session, as numbered by the history
	mine   bool // authorize: the policy permits the resource
	// byToken: a session is asked for by "token", for which the cloud is not asked about the
	// certificate again (client-device-auth spec 5.2).
	byToken bool
}

type op string

// The operations. Revoke and regrant change what the cloud says; the daemon learns of it when
// it asks.
const (
	opening   op = "open"
	authorize op = "authorize"
	closing   op = "close"
	quarant   op = "quarantine"
	release   op = "release"
	revoke    op = "revoke"
	regrant   op = "regrant"
)

// answer is what was heard.
type answer struct {
	outcome outcome
	token   int // of a session that was opened
}

type outcome string

// The outcomes. Busy: nothing happened. Unknown: nobody knows.
const (
	yes     outcome = "yes"
	no      outcome = "no"
	busy    outcome = "busy"
	unknown outcome = "unknown"
)

// sessionsMax is how many sessions of one device a history may open.
const sessionsMax = 1024

// state is one device as it must look to whoever asks: the specification, in a few bits.
type state struct {
	quarantined bool
	cloudNo     bool // the cloud says no
	everNo      bool // it did: what it said may be learnt late
	learnt      bool // the daemon has learnt that
	refused     bool // … about the certificate, and has heard no other word about it since
	lost        bool // sessions may have been opened that nobody knows of: the cap of a device may end others
	live        [sessionsMax / 64]uint64
}

func (s *state) alive(token int) bool { return s.live[token/64]&(1<<(token%64)) != 0 }
func (s *state) open(token int)       { s.live[token/64] |= 1 << (token % 64) }
func (s *state) end(token int)        { s.live[token/64] &^= 1 << (token % 64) }
func (s *state) endAll()              { s.live = [sessionsMax / 64]uint64{} }

// hears is s after the daemon has heard the cloud's no, which ends all sessions: about the
// certificate, or about whose it is.
func (s state) hears() []state {
	s.learnt = true
	s.endAll()
	of := s
	of.refused = true
	return []state{s, of}
}

// step lists the states in which s may be after c was answered with a; none: it cannot be.
func step(s state, c call, a answer) []state {
	switch c.op {
	case opening:
		return opened(s, c, a)
	case authorize:
		return authorized(s, c, a)
	case closing:
		closed := s
		closed.end(c.token)
		return either(a, s, closed)
	case quarant:
		done := s
		done.quarantined = true
		done.endAll()
		return either(a, s, done)
	case release:
		done := s
		done.quarantined = false
		return either(a, s, done)
	case revoke:
		s.cloudNo, s.everNo, s.learnt = true, true, false
		return []state{s}
	case regrant:
		s.cloudNo = false
		return append(s.hears(), s)
	}
	panic("an operation without a model: " + string(c.op))
}

// either is done, or s, or both, as a says.
func either(a answer, s, done state) []state {
	switch a.outcome {
	case yes:
		return []state{done}
	case busy:
		return []state{s}
	default:
		return []state{s, done}
	}
}

func opened(s state, c call, a answer) []state {
	switch a.outcome {
	case yes:
		// The cloud's no binds once it was learnt: until then its answers may be on their way.
		if s.quarantined || s.learnt && s.cloudNo || s.refused && c.byToken {
			return nil
		}
		s.refused, s.learnt = false, false
		s.open(a.token)
		return []state{s}
	case no:
		var list []state
		if s.quarantined || s.refused {
			list = append(list, s)
		}
		if s.quarantined && s.refused && !c.byToken { // the cloud's yes came before the operator's no
			believed := s
			believed.refused = false
			list = append(list, believed)
		}
		if s.everNo {
			list = append(list, s.hears()...)
		}
		return list
	case unknown:
		s.lost = true
	}
	return []state{s}
}

func authorized(s state, c call, a answer) []state {
	live := s.alive(c.token)
	switch a.outcome {
	case yes: // the one that matters
		if !live || !c.mine {
			return nil
		}
		return []state{s}
	case no:
		if !live || !c.mine {
			return []state{s}
		}
		var list []state
		if s.everNo {
			list = append(list, s.hears()...)
		}
		if s.lost {
			s.end(c.token)
			list = append(list, s)
		}
		return list
	}
	return []state{s}
}

// model is what histories are held against, device by device.
var model = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byDevice := map[int][]porcupine.Operation{}
		for _, o := range history {
			d := o.Input.(call).device
			byDevice[d] = append(byDevice[d], o)
		}
		parts := make([][]porcupine.Operation, 0, len(byDevice))
		for _, part := range byDevice {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() []any { return []any{state{}} },
	Step: func(s, in, out any) []any {
		var list []any
		for _, next := range step(s.(state), in.(call), out.(answer)) {
			list = append(list, next)
		}
		return list
	},
	DescribeOperation: func(in, out any) string {
		c, a := in.(call), out.(answer)
		switch c.op {
		case opening:
			return fmt.Sprintf("%s (by token: %t) → %s %d", c.op, c.byToken, a.outcome, a.token)
		case authorize, closing:
			return fmt.Sprintf("%s %d → %s", c.op, c.token, a.outcome)
		}
		return fmt.Sprintf("%s → %s", c.op, a.outcome)
	},
	DescribeState: func(s any) string {
		v := s.(state)
		var text strings.Builder
		for flag, set := range map[string]bool{"quarantined ": v.quarantined, "revoked ": v.cloudNo, "refused ": v.refused} {
			if set {
				text.WriteString(flag)
			}
		}
		for token := range sessionsMax {
			if v.alive(token) {
				fmt.Fprintf(&text, "%d ", token)
			}
		}
		return text.String()
	},
}).ToModel()
