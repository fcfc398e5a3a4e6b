package fault

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
)

// Effect is what a script does to one request.
type Effect struct {
	Latency  time.Duration
	DateSkew time.Duration
	Header   map[string]string
	// Outcome is the fault that decides the answer; nil: the truth.
	Outcome *Fault
}

// State is a fault with what it has done so far.
type State struct {
	Fault Fault `json:"fault"`
	// Tried counts the requests, or connections, that it could have struck; Struck those
	// that it has.
	Tried  int `json:"tried"`
	Struck int `json:"struck"`
}

// Player carries a script out. It is safe for use by many goroutines at once; the same
// requests in the same order get the same effects.
type Player struct {
	mu     sync.Mutex
	states []State    // guarded by mu
	chance *rand.Rand // guarded by mu
}

// NewPlayer begins a script that was checked.
func NewPlayer(s Script) *Player {
	p := &Player{chance: rand.New(rand.NewPCG(s.Seed, 0x6661756c74))}
	for _, f := range s.Faults {
		f.Header = maps.Clone(f.Header)
		p.states = append(p.states, State{Fault: f})
	}
	return p
}

// Request says what happens to the next request of plane for op, Probe if it is for none.
// A nil Player leaves everything true.
func (p *Player) Request(plane, op cloudsync.Operation) Effect {
	var e Effect
	if p == nil {
		return e
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.states {
		f := &p.states[i].Fault
		if f.TLS != "" || !f.concerns(plane, op) || f.Page != "" && !isListing(op) || !p.strikes(&p.states[i]) {
			continue
		}
		e.Latency += f.Latency
		e.DateSkew += f.DateSkew
		for name, value := range f.Header {
			if e.Header == nil {
				e.Header = map[string]string{}
			}
			e.Header[name] = value
		}
		if f.outcome() != "" {
			outcome := *f
			e.Outcome = &outcome
			break
		}
	}
	return e
}

// Connection says what happens to the next connection to plane; empty: nothing.
func (p *Player) Connection(plane cloudsync.Operation) TLS {
	if p == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.states {
		f := &p.states[i].Fault
		if f.TLS != "" && (f.Operation == "" || f.Operation == plane) && p.strikes(&p.states[i]) {
			return f.TLS
		}
	}
	return ""
}

func (f *Fault) concerns(plane, op cloudsync.Operation) bool {
	return f.Operation == "" || f.Operation == plane || f.Operation == op
}

// strikes counts one more request for s and says whether it is struck. Caller holds mu.
func (p *Player) strikes(s *State) bool {
	n := s.Tried - s.Fault.Skip
	s.Tried++
	switch f := &s.Fault; {
	case n < 0, f.Count > 0 && s.Struck >= f.Count, f.Every > 1 && (n+1)%f.Every != 0, f.Probability > 0 && p.chance.Float64() >= f.Probability:
		return false
	}
	s.Struck++
	return true
}

// States tells of every fault in the script's order.
func (p *Player) States() []State {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.states)
}

// StrikesConnections says whether the script has a fault of connections.
func (p *Player) StrikesConnections() bool {
	return slices.ContainsFunc(p.States(), func(s State) bool { return s.Fault.TLS != "" })
}
