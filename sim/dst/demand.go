package dst

import (
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The second phase: all is healed, and then things must go on.

// How long what is demanded may take.
const (
	comeBack    = 60 * time.Second // until everybody is in; and a little for each device
	perDevice   = 500 * time.Millisecond
	feltWithin  = 2 * time.Second // a revocation, at a connected broker
	stayMax     = 4 * time.Minute
	askEvery    = time.Second
	settle      = 20 * time.Second // until what was opened on trust about to end is renewed
	answersEach = 8                // answers of the cloud in a second, for each question at a time
	talkEvery   = 5 * time.Second  // while all are to stay …
	talkersMax  = 5                // … so many say something
	healSlack   = 5 * time.Second  // until the process has started
)

// livenessMax is about how long the second phase takes.
func livenessMax(p *Plan) time.Duration {
	if p.Mode == Safety {
		return 0
	}
	return comeBack + stayMax
}

// demand heals the world and demands progress.
func (x *player) demand() {
	o := x.obs
	x.stage.Heal()
	o.healed = max(x.stage.Now(), 1)
	if !x.to(o.healed + healSlack) {
		return
	}
	released := map[int]bool{}
	for i := range x.plan.Devices { // L6: an end without an edit of files
		if o.on.thing(i).quarantined {
			x.order(Action{Kind: Release, Thing: i})
			released[i] = true
		}
	}
	if !x.to(x.stage.Now() + feltWithin) {
		return
	}
	if !x.everybodyIn(released) || !x.stay() || !x.revoke() {
		return
	}
	o.current()
	if x.plan.Herd != nil && !o.everFull {
		o.apart = o.digested() // there may be no room for two of everything
	} else {
		o.folded()
	}
}

// order does something that is not in the plan.
func (x *player) order(a Action) {
	x.extra++
	a.ID, a.At = actionsMax+x.extra, x.stage.Now()
	x.do(&a)
}

// stride is of how many devices one is asked to come in: of a herd so many that they come in
// while one looks on, of others each.
func (x *player) stride() int {
	if x.plan.Herd == nil {
		return 1
	}
	return 1 + x.plan.Devices/herdAbove
}

// certOf is a certificate with which a device may come in, if there is one.
func (o *observer) certOf(device int) (Cert, bool) {
	for gen := 6; gen >= 0; gen-- {
		if c := (Cert{Of: device, Gen: gen}); o.entitled(device, c) {
			return c, true
		}
	}
	if c := o.plan.certOf(device, 0); o.entitled(device, c) {
		return c, true
	}
	return Cert{}, false
}

// everybodyIn has every device that may come in connect until it is in, and demands that it
// is soon.
func (x *player) everybodyIn(released map[int]bool) bool {
	o := x.obs
	missing := make([]int, 0, x.plan.Devices/x.stride()+1)
	for i := 0; i < x.plan.Devices; i += x.stride() {
		if _, ok := o.certOf(i); ok {
			missing = append(missing, i)
		}
	}
	since := x.stage.Now()
	section := o.on.sections[len(o.on.sections)-1].section
	deadline := since + comeBack + time.Duration(len(missing))*perDevice
	// Where those who are in are asked about as often as there is room in the queue to the
	// cloud, others may never find any.
	narrow := 4*float64(x.plan.Devices)/section.trust.Seconds() > float64(section.workers+section.queue)/askEvery.Seconds()/2
	tries := make(map[int]int, len(missing))
	next := make(map[int]time.Duration, len(missing))
	// Where not all have room at once they put one another out: then it is enough to have been in.
	crowded := section.sessionsMax < x.plan.Devices
	for len(missing) > 0 {
		now := x.stage.Now()
		missing = slices.DeleteFunc(missing, func(i int) bool {
			c := o.clients[i]
			_, may := o.certOf(i)
			return !may || c != nil && (c.in || crowded) && c.thing == i && c.since > o.healed
		})
		for _, i := range missing {
			if now < next[i] {
				continue
			}
			cert, _ := o.certOf(i)
			x.order(Action{Kind: Connect, Client: i, Broker: i % x.plan.Brokers, Thing: i, Cert: cert})
			after := askEvery << min(tries[i], 3)
			next[i] = now + after + time.Duration(float64(after)*dice(i).key(uint64(tries[i])).float()) // as devices do
			tries[i]++
		}
		if len(missing) > 0 {
			if narrow && now >= deadline {
				return true
			}
			name := "L2"
			if released[missing[0]] {
				name = "L6"
			}
			if !o.hold(name, now < deadline, "all has been well for %v, and %s is not in, nor are %d others", now-since, ThingOf(missing[0]), len(missing)-1) {
				return false
			}
		}
		if !x.to(now + askEvery) {
			return false
		}
	}
	return true
}

// stay demands that who is in stays in while trust would end if nobody renewed it, and may
// do what the policy says.
func (x *player) stay() bool {
	o := x.obs
	section := o.on.sections[len(o.on.sections)-1].section
	if !x.to(x.stage.Now()+settle) || !x.everybodyIn(nil) {
		return false
	}
	if asks := 4 * float64(x.plan.Devices) / section.trust.Seconds(); asks <= float64(section.workers)*answersEach/2 {
		o.staying = max(x.stage.Now(), 1)
	} // else the way to the cloud is too narrow for so many
	since := x.stage.Now()
	for end := since + min(2*section.trust+time.Minute, stayMax); x.stage.Now() < end; {
		for n := range min(x.plan.Devices, talkersMax) {
			x.talker = (x.talker + 1) % x.plan.Devices
			if c := o.clients[x.talker]; c != nil && c.in && c.thing == x.talker {
				x.order(Action{Kind: Publish, Client: x.talker, Name: ownTopic(x.talker + n%2)}) // its own, or another's
			}
		}
		if !x.to(min(x.stage.Now()+talkEvery, end)) {
			return false
		}
	}
	o.staying = 0
	return true
}

// revoke demands that who is revoked is out at once.
func (x *player) revoke() bool {
	o := x.obs
	victims := []int{}
	for i := range x.plan.Devices {
		if c := o.clients[i]; c != nil && c.in && c.thing == i && len(victims) < 2 {
			victims = append(victims, i)
		}
	}
	for n, i := range victims {
		x.order(Action{Kind: []Kind{Quarantine, Forget}[n], Thing: i})
	}
	if !x.to(x.stage.Now() + feltWithin) {
		return false
	}
	for _, i := range victims {
		if !o.hold("L4", !o.clients[i].in, "%s was revoked %v ago, and is connected", ThingOf(i), feltWithin) {
			return false
		}
	}
	return true
}

// isIn reports whether a broker has let a device in.
func (o *observer) isIn(device int) bool {
	c := o.clients[device]
	return c != nil && c.in
}

// lost judges that a broker ended a connection while everybody is to stay.
func (o *observer) lost(c *clientView, why string) {
	if o.staying == 0 || c.thing < 0 {
		return
	}
	cert, ok := o.certOf(c.thing)
	session := o.on.sessions[c.session]
	ours := ok && session != nil && session.cert == keyOfCert(IDOf(cert)) && o.truth.associated(c.thing)
	if strings.Contains(why, "operator: ") { // an order that waited for the machine to wake up
		return
	}
	if ours && (session.why == messages.CloseReason_CLOSE_EVICTED || session.why == messages.CloseReason_CLOSE_BY_BROKER) {
		return // there are more than may be, or it has another
	}
	o.hold("L3", !ours, "all is well, and %s lost its connection: %s", ThingOf(c.thing), why)
}

// replied judges, in the second phase, an operator's order that was refused.
func (o *observer) ordered(a *Action, r messages.Reply) {
	if o.healed == 0 || a.At < o.healed+healSlack {
		return
	}
	_, refused := r.(*messages.Refusal)
	o.hold("L1", r != nil && !refused, "all is well, and an operator's %v was answered %v", a.Kind, r)
}
