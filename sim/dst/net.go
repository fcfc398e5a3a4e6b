package dst

import (
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/natsmem"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// net is the network between brokers and core: a NATS server and the ways to it. The core is
// on the server's machine, or the server is embedded in its process; what breaks is between
// it and the brokers.
type net struct {
	s        *sched
	dice     dice
	host     *process // the machine that the core and the server are on
	server   *natsmem.Server
	embedded bool // the server comes and goes with the core's process
	links    []link
	names    map[string]int // of brokers' connections
	core     *natsmem.Conn  // of the core's process; nil: there is none
	down     bool           // the server is away
	downs    uint64         // how often it was restarted
	carried  uint64
	pushed   func(broker int, sent time.Duration) // a push has arrived
}

// link is one broker's way to the server.
type link struct {
	conn            *natsmem.Conn // nil: the broker does not run
	drop, duplicate float64
	delay           time.Duration // at most, beside what is normal
	delayed         float64       // of the messages
	cutIn, cutOut   bool          // nothing comes to the core, to the broker
	silent          bool          // and nobody notices for a while
	held            []func()      // what waits for the end of a cut that nobody has noticed
	lastIn, lastOut time.Duration // when the last message arrives: they keep their order
	n               uint64        // messages so far
	life            uint64        // counts losses of the connection
}

// What is normal.
const (
	hopMin = 50 * time.Microsecond
	hopMax = 800 * time.Microsecond
)

// A client of NATS tries again after ReconnectWait and jitter (client.Options); it notices a
// server that is silent by its pings: two in a row, two minutes apart, without an answer.
const (
	reconnectMin = 250 * time.Millisecond
	reconnectMax = 750 * time.Millisecond
	noticeMin    = 2 * time.Minute
	noticeMax    = 6 * time.Minute
)

func newNet(s *sched, seed uint64, brokers int, park parker) *net {
	n := &net{
		s: s, dice: diceOf(seed, diceNet), links: make([]link, brokers), names: map[string]int{},
		embedded: diceOf(seed, diceRun).key(20).chance(.5), down: true,
	}
	n.server = natsmem.New(natsmem.Config{Carry: n.carry, AfterFunc: s.afterFunc, Park: park})
	for i := range brokers {
		n.names[string(BrokerOf(i))] = i
	}
	if !n.embedded {
		n.down = false
	}
	return n
}

// connectBroker makes the connection of a broker that starts.
func (n *net) connectBroker(b int) *natsmem.Conn {
	name := BrokerOf(b)
	l := &n.links[b]
	l.conn = n.server.Connect(natsmem.Options{Name: string(name), Inbox: authapi.InboxPrefix(name)})
	if !n.reachable(l) {
		l.conn.Down()
	}
	return l.conn
}

// disconnectBroker ends it.
func (n *net) disconnectBroker(b int) {
	l := &n.links[b]
	l.lose()
	l.conn.Close()
	l.conn = nil
}

// connectCore makes the connection of a core's process, and brings an embedded server up.
func (n *net) connectCore() *natsmem.Conn {
	n.core = n.server.Connect(natsmem.Options{Name: "core", Buffer: true})
	if n.embedded {
		n.down = false
		n.reconnect()
	} else if n.down {
		n.core.Down()
	}
	return n.core
}

// disconnectCore ends it as the process does.
func (n *net) disconnectCore() {
	if n.core == nil {
		return
	}
	n.core.Close()
	n.core = nil
	if n.embedded {
		n.down = true
		n.loseAll()
	}
}

func (n *net) reachable(l *link) bool { return !n.down && !(l.cutIn || l.cutOut) }

// lose ends a broker's connection; both ends notice.
func (l *link) lose() {
	l.life++
	l.held = nil
	if l.conn != nil {
		l.conn.Down()
	}
}

func (n *net) loseAll() {
	for i := range n.links {
		n.links[i].lose()
	}
}

// reconnect has those who lost their connections try again.
func (n *net) reconnect() {
	for i := range n.links {
		n.retry(i)
	}
}

func (n *net) retry(b int) {
	l := &n.links[b]
	conn := l.conn
	if conn == nil || conn.Connected() {
		return
	}
	n.s.after(n.dice.key(uint64(n.s.now)).key(uint64(b)).between(reconnectMin, reconnectMax), aMessage, nil, func() {
		if l.conn == conn && n.reachable(l) && !conn.Connected() {
			n.s.trace.number('+', uint64(b))
			n.s.trace.say("%s has its connection to NATS again", BrokerOf(b))
			conn.Up()
		}
	})
}

// cut cuts a broker off; silently, its connection is lost only when that is noticed.
func (n *net) cut(b int, in, out, silent bool) {
	l := &n.links[b]
	l.cutIn, l.cutOut, l.silent = in, out, silent
	if !silent {
		l.lose()
		return
	}
	life := l.life
	n.s.after(n.dice.key(uint64(n.s.now)).key(8).between(noticeMin, noticeMax), aMessage, nil, func() {
		if l.life == life && (l.cutIn || l.cutOut) {
			l.lose()
		}
	})
}

// mend ends a cut. What waited because nobody had noticed arrives now, or the connection
// turns out to be lost.
func (n *net) mend(b int) {
	l := &n.links[b]
	l.cutIn, l.cutOut = false, false
	if l.conn == nil {
		return
	}
	if !l.conn.Connected() {
		n.retry(b)
		return
	}
	held := l.held
	l.held = nil
	if n.dice.key(uint64(n.s.now)).key(9).chance(.3) {
		l.lose()
		n.retry(b)
		return
	}
	for _, deliver := range held {
		deliver()
	}
}

// restart has the server be away for a while.
func (n *net) restart(d time.Duration, over func()) {
	n.downs++
	this, was := n.downs, n.down
	n.down = true
	n.loseAll()
	if n.core != nil && !n.embedded {
		n.core.Down()
	}
	n.s.after(d, anAction, nil, func() {
		if n.downs == this && !(was && n.embedded) {
			n.up()
		}
		over()
	})
}

func (n *net) up() {
	n.down = n.embedded && n.core == nil
	if n.down {
		return
	}
	if core := n.core; core != nil && !core.Connected() {
		n.s.after(n.dice.key(uint64(n.s.now)).between(reconnectMin, reconnectMax), aMessage, n.host, func() {
			if n.core == core && !n.down {
				core.Up()
			}
		})
	}
	n.reconnect()
}

// heal ends what is wrong.
func (n *net) heal() {
	n.downs++
	for i := range n.links {
		l := &n.links[i]
		l.drop, l.duplicate, l.delayed = 0, 0, 0
		n.mend(i)
	}
	n.up()
}

// carry is natsmem's Carry: a message may be lost, come late, or come twice. Messages keep
// their order unless the network is at fault.
func (n *net) carry(p natsmem.Passage, deliver func()) {
	n.carried++
	b, in := n.names[p.From]
	if !in {
		b = n.names[p.To]
	}
	l := &n.links[b]
	l.n++
	side := uint64(b) << 1
	cut, last := l.cutOut, &l.lastOut
	if in {
		side |= 1
		cut, last = l.cutIn, &l.lastIn
	}
	d := n.dice.key(side).key(uint64(n.s.now)).key(l.n)
	sent := n.s.now
	arrive := func() {
		t := n.s.trace
		t.number('m', side)
		t.bytes('b', p.Data)
		if t.telling() {
			t.say("%s → %s: %s %.100s", from(p.From), from(p.To), p.Subject, p.Data)
		}
		life := l.life
		deliver()
		if _, _, err := authapi.ParsePushSubject(p.Subject); err == nil && !in && life == l.life && n.pushed != nil {
			n.pushed(b, sent)
		}
	}
	after := d.key(2).between(hopMin, hopMax)
	switch {
	case d.key(1).chance(l.drop):
		n.s.trace.number('X', side)
		if n.s.trace.telling() {
			n.s.trace.say("lost on the way to %s: %s", from(p.To), p.Subject)
		}
		return
	case cut && l.silent:
		l.held = append(l.held, func() { n.arrive(after, in, aMessage, arrive) })
		return
	case cut:
		return
	case l.delay > 0 && d.key(3).chance(l.delayed):
		after += d.key(4).between(0, l.delay)
	default:
		after = max(after, *last-n.s.now+1)
		*last = n.s.now + after
	}
	w := aMessage
	if strings.HasSuffix(p.Subject, beatSuffix) {
		w = aTick
	}
	n.arrive(after, in, w, arrive)
	if d.key(5).chance(l.duplicate) {
		n.arrive(after+d.key(6).between(0, time.Second), in, w, arrive)
	}
}

// beatSuffix ends the subjects of heartbeats.
const beatSuffix = "." + string(authapi.PushHeartbeat)

func (n *net) arrive(after time.Duration, in bool, w what, f func()) {
	at := n.host
	if !in {
		at = nil
	}
	n.s.after(after, w, at, f)
}

func from(name string) string {
	if name == "" {
		return "NATS"
	}
	return name
}
