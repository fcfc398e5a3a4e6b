package dst

import (
	"math"
	"time"
)

// source gives a plan's actions in the order of time: those that are listed, and those of
// its herd, which are worked out one after the other, so that a million devices cost a few
// bytes each. What a herd's device does next depends on whether it is connected; the rest is
// the seed's.
type source struct {
	p    *Plan
	at   int // of the list
	herd *herd
}

// newSource begins a plan. connected says of a device whether a broker has let it in; a plan
// without a herd does not ask.
func newSource(p *Plan, connected func(device int) bool) *source {
	s := &source{p: p}
	if p.Herd != nil {
		s.herd = newHerd(p, connected)
	}
	return s
}

// when is the time of the next action; false: there is none.
func (s *source) when() (time.Duration, bool) {
	at, ok := time.Duration(math.MaxInt64), false
	if s.at < len(s.p.Actions) {
		at, ok = s.p.Actions[s.at].At, true
	}
	if s.herd != nil {
		if t, has := s.herd.when(); has && t < at {
			return t, true
		}
	}
	return at, ok
}

// next takes the next action, which is only good until the next call; nil: there is none.
func (s *source) next() *Action {
	if s.herd != nil {
		if t, has := s.herd.when(); has && (s.at == len(s.p.Actions) || t < s.p.Actions[s.at].At) {
			return s.herd.next()
		}
	}
	if s.at == len(s.p.Actions) {
		return nil
	}
	s.at++
	a := &s.p.Actions[s.at-1]
	if s.herd != nil && a.Kind == FaultBroker {
		s.herd.lost(a)
	}
	return a
}

// turn is when which device of a herd does something next.
type turn struct {
	at     int64 // µs
	device int32
	mood   mood
	n      uint8 // of that mood: tries in a row
}

// mood is what a device is about to do.
type mood uint8

const (
	arriving mood = iota // connects, and again until it is let in
	settled              // publishes, leaves, or is revoked
	away                 // comes back
)

// herd is the behaviour of many devices, each with a turn of its own, and storms.
type herd struct {
	p         *Plan
	dice      dice
	connected func(int) bool
	turns     []turn // a heap, the earliest first
	storms    []storm
	action    Action
	id        int
}

// storm is a broker that loses all its clients, which come back at once.
type storm struct {
	at     time.Duration
	within time.Duration
	broker int
	n      int // devices that came back
}

// How a herd's devices behave beyond what Herd says.
const (
	herdSettle   = 20 * time.Second // a device looks whether it is connected
	herdRetryMax = time.Hour        // between tries; they double until then
	herdAwayMin  = time.Minute
	herdAwayMax  = time.Hour
	stormMax     = time.Minute
)

func newHerd(p *Plan, connected func(int) bool) *herd {
	h := &herd{p: p, dice: diceOf(p.Seed, diceHerd), connected: connected, turns: make([]turn, 0, p.Devices)}
	if n := len(p.Actions); n > 0 {
		h.id = p.Actions[n-1].ID
	}
	for i := range p.Devices {
		d := h.dice.key(uint64(i))
		at := d.key(1).between(0, p.Herd.Arrival)
		if !d.key(2).chance(p.Herd.Connected) { // it comes some time
			at = d.key(1).between(0, p.Duration)
		}
		h.push(turn{at: at.Microseconds(), device: int32(i)})
	}
	for k := range p.Herd.Storms {
		d := h.dice.key(^uint64(k))
		h.storms = append(h.storms, storm{at: d.key(1).between(p.Herd.Arrival, p.Duration), within: d.key(2).between(time.Second, stormMax), broker: d.key(3).below(p.Brokers)})
	}
	return h
}

// lost has the clients of a broker that dies come back when it is there again.
func (h *herd) lost(a *Action) {
	d := h.dice.key(uint64(a.ID))
	h.storms = append(h.storms, storm{at: a.At + a.Amount + time.Second, within: d.key(2).between(time.Second, stormMax), broker: a.Broker})
}

// broker is where a device connects.
func (h *herd) broker(device int) int { return device % h.p.Brokers }

// when is the time of the next action.
func (h *herd) when() (time.Duration, bool) {
	at, ok := time.Duration(0), false
	if len(h.turns) > 0 {
		at, ok = time.Duration(h.turns[0].at)*time.Microsecond, true
	}
	if i := h.storm(); i >= 0 {
		if t := h.stormAt(i); !ok || t < at {
			at, ok = t, true
		}
	}
	return at, ok && at <= h.p.Duration
}

// storm is the one whose next device is the earliest; -1: none.
func (h *herd) storm() int {
	first := -1
	for i := range h.storms {
		if h.storms[i].broker+h.storms[i].n*h.p.Brokers < h.p.Devices && (first < 0 || h.stormAt(i) < h.stormAt(first)) {
			first = i
		}
	}
	return first
}

func (h *herd) stormAt(i int) time.Duration {
	s := &h.storms[i]
	all := (h.p.Devices - s.broker + h.p.Brokers - 1) / h.p.Brokers
	return (s.at + time.Duration(float64(s.within)*float64(s.n)/float64(all))).Truncate(time.Microsecond)
}

// next works out the next action.
func (h *herd) next() *Action {
	at, _ := h.when()
	h.id++
	h.action = Action{ID: h.id, At: at}
	if i := h.storm(); i >= 0 && h.stormAt(i) == at {
		s := &h.storms[i]
		device := s.broker + s.n*h.p.Brokers
		s.n++
		h.connect(device)
		return &h.action
	}
	t := h.turns[0]
	d := h.dice.key(uint64(t.device)).key(uint64(t.at))
	after := time.Duration(0)
	switch device := int(t.device); {
	case t.mood == settled && h.connected(device):
		after = h.live(&t, d)
	case t.mood == arriving && t.n > 0 && h.connected(device): // it was let in: it says hello
		t.mood, t.n = settled, 0
		h.publish(device, d)
		after = h.pause(d)
	default:
		h.connect(device)
		after = min(herdSettle<<min(t.n, 20), herdRetryMax)
		after = d.key(1).between(after/2, after)
		t.mood, t.n = arriving, min(t.n+1, 200)
	}
	t.at += max(after.Microseconds(), 1)
	h.turns[0] = t
	h.down()
	return &h.action
}

// live is what a connected device does; the result is when its next turn is.
func (h *herd) live(t *turn, d dice) time.Duration {
	device := int(t.device)
	w := h.p.Herd
	switch roll := d.key(2).float() * (w.Publishes + w.Churn + w.Revoked); {
	case roll < w.Churn:
		h.action.Kind, h.action.Client = []Kind{Disconnect, Vanish}[d.key(3).below(2)], device
		t.mood, t.n = away, 0
		return d.key(4).spread(herdAwayMin, herdAwayMax)
	case roll < w.Churn+w.Revoked:
		h.action.Kind, h.action.Cert = Deactivate, Cert{Of: device}
		return h.pause(d)
	default:
		h.publish(device, d)
		return h.pause(d)
	}
}

// pause is how long a connected device does nothing.
func (h *herd) pause(d dice) time.Duration {
	w := h.p.Herd
	all := w.Publishes + w.Churn + w.Revoked
	if all == 0 {
		return h.p.Duration
	}
	hours := -math.Log(1-d.key(5).float()) / all
	return time.Duration(min(hours, 1e4) * float64(time.Hour))
}

func (h *herd) connect(device int) {
	a := &h.action
	a.Kind, a.Client, a.Thing, a.Broker, a.Cert = Connect, device, device, h.broker(device), Cert{Of: device}
}

// publish has a device publish, mostly to its own topic.
func (h *herd) publish(device int, d dice) {
	a := &h.action
	a.Kind, a.Client = Publish, device
	switch n := d.key(6).below(40); {
	case n < 36:
		a.Name = ownTopic(device)
	case n < 37:
		a.Name = "all"
	case n < 38:
		a.Name = ownTopic(d.key(7).below(h.p.Devices)) // another's
	default:
		a.Kind, a.Name = Subscribe, "own/"+string(ThingOf(device))+"/#"
	}
}

// earlier orders turns; no two are equal, since each device has one.
func earlier(a, b *turn) bool { return a.at < b.at || a.at == b.at && a.device < b.device }

func (h *herd) push(t turn) {
	h.turns = append(h.turns, t)
	for n := len(h.turns) - 1; n > 0; {
		up := (n - 1) / 2
		if !earlier(&h.turns[n], &h.turns[up]) {
			return
		}
		h.turns[n], h.turns[up] = h.turns[up], h.turns[n]
		n = up
	}
}

// down puts the first turn, which has become later, in its place.
func (h *herd) down() {
	for n := 0; ; {
		least := n
		for c := 2*n + 1; c <= 2*n+2 && c < len(h.turns); c++ {
			if earlier(&h.turns[c], &h.turns[least]) {
				least = c
			}
		}
		if least == n {
			return
		}
		h.turns[n], h.turns[least] = h.turns[least], h.turns[n]
		n = least
	}
}
