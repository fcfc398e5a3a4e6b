package dst

import (
	"testing"
	"time"
)

// served counts the certificates that brokers show.
type served struct {
	*seen
	chains map[int]int
	bad    int
}

func (s *served) Serves(b int, chain, bundle [][]byte) {
	s.chains[b]++
	if !chains(chain, bundle) {
		s.bad++
	}
}

// TestBrokersAreCertified: each broker has a certificate of the core's authority, and others
// when that is replaced, through crashes.
func TestBrokersAreCertified(t *testing.T) {
	p := testPlan(5, 1, 40*time.Minute)
	p.Setup.Certified = true
	first := Trace{}
	for range 2 {
		h := &served{seen: newSeen(), chains: map[int]int{}}
		m := NewSim(p, h, 0)
		m.Step(time.Minute)
		for m.Step(2 * time.Minute) {
		}
		for b := range p.Brokers {
			if h.chains[b] != 1 {
				t.Errorf("%s: %d certificates, want 1", BrokerOf(b), h.chains[b])
			}
		}
		m.Do(&Action{ID: 1, Kind: RotateAuth})
		for m.Step(5 * time.Minute) {
		}
		m.Do(&Action{ID: 2, Kind: FaultCrash, Amount: time.Second})
		for m.Step(40 * time.Minute) {
		}
		for b := range p.Brokers {
			if h.chains[b] < 2 {
				t.Errorf("%s: %d certificates in all, want another after the authority was replaced", BrokerOf(b), h.chains[b])
			}
		}
		if h.bad > 0 || len(h.replied[RotateAuth]) != 1 {
			t.Errorf("%d do not chain; replies %v", h.bad, h.replied)
		}
		trace := m.Trace()
		m.Close()
		if first != (Trace{}) && trace != first {
			t.Error("two runs differ")
		}
		first = trace
	}
}
