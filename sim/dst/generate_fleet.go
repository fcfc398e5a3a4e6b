package dst

import (
	"math/rand/v2"
	"time"
)

// device makes up what one device does.
func (m *maker) device(i int) {
	r := planRand(m.Seed, planDevice<<20+uint64(i))
	broker := r.IntN(m.Brokers)
	first := logDuration(r, time.Millisecond, m.Duration/4)
	switch pick(r, 6, 4, 3, 2, 2) {
	case 0: // connected throughout
		m.connect(first, i, broker, 0)
		m.talk(r, i, first, m.Duration, 1+r.IntN(6))
	case 1: // comes and goes
		for t := first; t < m.Duration; t += logDuration(r, time.Second, m.Duration/2) {
			m.connect(t, i, broker, 0)
			end := t + logDuration(r, time.Millisecond, m.Duration/4)
			m.talk(r, i, t, end, r.IntN(3))
			m.add(Action{At: end, Kind: []Kind{Disconnect, Vanish}[r.IntN(2)], Client: i})
			t = end
			if r.IntN(4) == 0 {
				broker = r.IntN(m.Brokers)
			}
		}
	case 2: // wakes now and then, says something and sleeps
		period := logDuration(r, max(time.Second, m.Duration/12), m.Duration)
		for t := first; t < m.Duration; t += period {
			m.connect(t, i, broker, 0)
			m.add(Action{At: t + 2*time.Second, Kind: Publish, Client: i, Name: ownTopic(i)})
			m.add(Action{At: t + 4*time.Second, Kind: Disconnect, Client: i})
		}
	case 3: // chatty
		m.connect(first, i, broker, 0)
		m.talk(r, i, first, m.Duration, 10+r.IntN(30))
		m.connect(m.at(r), i, r.IntN(m.Brokers), 0) // and, once, elsewhere
	default:
		m.swapper(r, i, broker, first)
	}
}

func (m *maker) connect(at time.Duration, i, broker, gen int) {
	m.add(Action{At: at, Kind: Connect, Client: i, Broker: broker, Thing: i, Cert: m.certOf(i, gen)})
}

// talk has a client publish and subscribe so many times.
func (m *maker) talk(r *rand.Rand, client int, from, to time.Duration, times int) {
	of := client
	if of >= m.Devices {
		of = r.IntN(m.Devices)
	}
	for range times {
		at := from + time.Duration(r.Float64()*float64(to-from)).Truncate(time.Microsecond)
		if r.IntN(4) == 0 {
			m.add(Action{At: at, Kind: Subscribe, Client: client, Name: filterOf(r, m.Plan, of)})
		} else {
			m.add(Action{At: at, Kind: Publish, Client: client, Name: topicOf(r, m.Plan, of)})
		}
	}
}

// swapper is a device whose certificate is changed, in the right order or a wrong one.
func (m *maker) swapper(r *rand.Rand, i, broker int, first time.Duration) {
	m.connect(first, i, broker, 0)
	m.talk(r, i, first, m.Duration, 4)
	t := first
	for gen := 1; gen <= 1+r.IntN(3) && t < m.Duration; gen++ {
		t += logDuration(r, time.Second, m.Duration/2)
		step := logDuration(r, time.Millisecond, max(time.Second, m.Duration/20))
		now, old := m.certOf(i, gen), m.certOf(i, gen-1)
		m.add(Action{At: t, Kind: Activate, Cert: now})
		m.add(Action{At: t + step, Kind: Attach, Thing: i, Cert: now})
		m.connect(t+2*step, i, broker, gen)
		if r.IntN(2) == 0 {
			m.add(Action{At: t + 3*step, Kind: Detach, Thing: i, Cert: old})
		}
		m.add(Action{At: t + 4*step, Kind: Deactivate, Cert: old})
		m.connect(t+5*step, i, broker, gen)
		if r.IntN(3) == 0 { // it tries the old one
			m.connect(t+6*step, i, broker, gen-1)
		}
	}
}

// storms has many connect at once.
func (m *maker) storms() {
	r := planRand(m.Seed, planStorms)
	if r.IntN(3) > 0 {
		return
	}
	for range 1 + r.IntN(2) {
		at, broker, within := m.at(r), r.IntN(m.Brokers), logDuration(r, time.Microsecond, 5*time.Second)
		for i := range m.Devices {
			if r.IntN(4) > 0 {
				m.connect(at+time.Duration(r.Int64N(int64(within)+1)), i, broker, 0)
			}
		}
	}
}

// attacks are clients that pose as devices, and strangers.
func (m *maker) attacks() {
	r := planRand(m.Seed, planAttack)
	for range pick(r, 3, 2, 2, 1) * 3 {
		m.attack(r)
	}
	if r.IntN(10) == 0 { // a flood
		at := m.at(r)
		for k := range 20 + r.IntN(80) {
			m.clients++
			m.add(Action{At: at + time.Duration(k)*time.Millisecond, Kind: Connect, Client: m.clients, Broker: r.IntN(m.Brokers),
				Thing: r.IntN(m.Devices), Cert: Cert{Of: -1 - m.clients}})
		}
	}
}

// names that are no thing's.
var oddNames = []string{"", "#", "+", "sensor-*", "$SYS", "sensor-0/../sensor-1", "sensor-0\x00", "${iot:Connection.Thing.ThingName}", "sensor-0 ", "Sensor-0"}

func (m *maker) attack(r *rand.Rand) {
	m.clients++
	victim, other := r.IntN(m.Devices), r.IntN(m.Devices)
	a := Action{At: m.at(r), Kind: Connect, Client: m.clients, Broker: r.IntN(m.Brokers), Thing: victim}
	switch r.IntN(8) {
	case 0, 1: // a device's certificate, another's name
		a.Cert = Cert{Of: other}
	case 2: // a certificate of nobody's
		a.Cert = Cert{Of: -1 - m.clients}
	case 3: // one of the device's own past or future
		a.Cert = Cert{Of: victim, Gen: 1 + r.IntN(3)}
	case 4:
		a.Cert = Cert{Of: victim, Spoilt: []string{"expired", "future", "garbage"}[r.IntN(3)]}
		if r.IntN(2) == 0 { // and the cloud knows no better
			m.add(Action{At: a.At / 2, Kind: Activate, Cert: a.Cert})
			m.add(Action{At: a.At / 2, Kind: Attach, Thing: victim, Cert: a.Cert})
		}
	case 5: // its key was stolen: a clone
		a.Cert = m.certOf(victim, 0)
	case 6: // a revoked one
		a.Cert = m.certOf(victim, 0)
		at := a.At
		m.add(Action{At: at - logDuration(r, time.Millisecond, 10*time.Second), Kind: Deactivate, Cert: a.Cert})
		if r.IntN(2) == 0 {
			m.add(Action{At: at + logDuration(r, time.Second, time.Hour), Kind: Activate, Cert: a.Cert})
		}
	default:
		a.Thing, a.Name, a.Cert = 0, oddNames[r.IntN(len(oddNames))], Cert{Of: victim}
	}
	m.add(a)
	m.talk(r, m.clients, a.At, m.Duration, r.IntN(4))
	if r.IntN(3) == 0 {
		a.At += logDuration(r, time.Millisecond, time.Minute)
		m.add(a)
	}
}
