package load

import (
	"math"
	"math/rand/v2"
	"time"
)

// An arrival is one request that is due.
type arrival struct {
	at time.Duration // since the beginning
	op Op            // churn: opChurn
}

// opChurn is in a schedule what becomes Disconnect and, later, Connect.
const opChurn = opCount

// weights are the operations' in the order of their choice.
func (o *Operations) weights() [10]struct {
	op     Op
	weight float64
} {
	return [10]struct {
		op     Op
		weight float64
	}{
		{Publish, o.Publish}, {Subscribe, o.Subscribe}, {Permissions, o.Permissions}, {Verify, o.Verify}, {opChurn, o.Churn},
		{Connect, o.Connect}, {Disconnect, o.Disconnect}, {Stranger, o.Stranger}, {Imposter, o.Imposter}, {Revoke, o.Revoke},
	}
}

func (o *Operations) sum() float64 {
	sum := 0.0
	for _, w := range o.weights() {
		sum += w.weight
	}
	return sum
}

// A schedule says when each request is due, and of which kind it is. It knows nothing of
// answers.
type schedule struct {
	mix   *Mix
	rand  *rand.Rand
	phase int
	begun time.Duration // when the phase did
	owed  float64       // requests of the phase until the next arrival
}

func newSchedule(m *Mix) *schedule {
	s := &schedule{mix: m, rand: rand.New(rand.NewPCG(uint64(m.Seed), 0x6c6f6164))}
	s.owed = s.gap()
	return s
}

// gap is how many requests the next arrival stands for: 1, or by chance as much on average.
func (s *schedule) gap() float64 {
	if s.mix.Arrivals == "constant" {
		return 1
	}
	return s.rand.ExpFloat64()
}

// next returns the next arrival; false: there are no more.
func (s *schedule) next() (arrival, bool) {
	for ; s.phase < len(s.mix.Load); s.phase++ {
		p := &s.mix.Load[s.phase]
		from, to := s.mix.rates(p)
		whole := time.Duration(p.For).Seconds()
		if all := (from + to) / 2 * whole; s.owed >= all {
			s.owed -= all
			s.begun += time.Duration(p.For)
			continue
		}
		// from·t + (to − from)·t²/2·whole = owed, solved for t.
		slope := (to - from) / whole
		t := 2 * s.owed / (from + math.Sqrt(max(0, from*from+2*slope*s.owed)))
		s.owed += s.gap()
		return arrival{s.begun + min(time.Duration(t*float64(time.Second)), time.Duration(p.For)-1), s.pick(s.mix.of(p))}, true
	}
	return arrival{}, false
}

func (s *schedule) pick(o *Operations) Op {
	x := s.rand.Float64() * o.sum()
	last := Publish
	for _, w := range o.weights() {
		if w.weight == 0 {
			continue
		}
		last = w.op
		if x -= w.weight; x < 0 {
			break
		}
	}
	return last
}
