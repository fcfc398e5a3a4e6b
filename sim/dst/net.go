package dst

import "time"

// net is the network between brokers and core: a NATS server and the ways to it. The core is
// beside the server; what breaks is between it and the brokers.
type net struct {
	s        *sched
	host     *process // the machine that the core and the server are on
	dice     dice
	links    []link
	sent     uint64
	down     bool // the server is starting anew
	restarts int
}

// link is one broker's way to the server.
type link struct {
	drop, duplicate float64
	delay           time.Duration // at most, beside what is normal
	delayed         float64       // of the messages
	cutIn, cutOut   bool          // nothing comes to the core, to the broker
	halfOpen        bool          // and nobody notices
	lastIn, lastOut time.Duration // when the last message arrives: they keep their order
	n               uint64
}

// What is normal.
const (
	hopMin = 50 * time.Microsecond
	hopMax = 800 * time.Microsecond
)

func newNet(s *sched, seed uint64, brokers int) *net {
	return &net{s: s, dice: diceOf(seed, diceNet), links: make([]link, brokers)}
}

// carry delivers a message from broker b to the core (in), or the other way, perhaps: it may
// be lost, come late, or come twice. Messages keep their order unless the network is at fault.
func (n *net) carry(b int, in bool, deliver func()) {
	n.sent++
	l := &n.links[b]
	l.n++
	d := n.dice.key(uint64(b)<<1 | uint64(boolInt(in))).key(uint64(n.s.now)).key(l.n)
	cut, last := l.cutOut, &l.lastOut
	if in {
		cut, last = l.cutIn, &l.lastIn
	}
	if cut || n.down || d.key(1).chance(l.drop) {
		n.s.trace.number('X', uint64(b))
		return
	}
	after := d.key(2).between(hopMin, hopMax)
	if l.delay > 0 && d.key(3).chance(l.delayed) {
		after += d.key(4).between(0, l.delay)
	} else {
		after = max(after, *last-n.s.now+1)
		*last = n.s.now + after
	}
	var at *process
	if in {
		at = n.host
	}
	n.s.after(after, aMessage, at, deliver)
	if d.key(5).chance(l.duplicate) {
		n.s.after(after+d.key(6).between(0, time.Second), aMessage, at, deliver)
	}
}

// restart has the server be away for a while.
func (n *net) restart(d time.Duration, over func()) {
	n.down = true
	n.restarts++
	this := n.restarts
	n.s.after(d, anAction, nil, func() {
		if n.restarts == this {
			n.down = false
		}
		over()
	})
}

// heal ends what is wrong.
func (n *net) heal() {
	n.down = false
	for i := range n.links {
		l := &n.links[i]
		l.drop, l.duplicate, l.delayed, l.cutIn, l.cutOut, l.halfOpen = 0, 0, 0, false, false, false
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
