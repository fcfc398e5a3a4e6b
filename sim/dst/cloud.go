package dst

import (
	"context"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// way is one in which the cloud misbehaves.
type way uint8

// The ways: see CloudWays.
const (
	cloudAway        way = iota // and the core's own link knows: connections are refused
	cloudUnreachable            // nothing comes back
	cloudSilent
	cloudSlow
	cloudThrottles
	cloudRefusesUs
	cloudFails
	cloudNonsense
	cloudStale
	listEmpty
	listPartial
	listLoops
	listBreaks
	cloudTime
	ways
)

// trouble is a way in which the cloud misbehaves at the moment.
type trouble struct {
	on     bool
	rate   float64 // of requests; 0: all
	amount time.Duration
}

// Bounds of what the cloud's client waits for, as the daemon's.
const (
	answerMax = 2 * time.Second  // cloudsync.DataPlaneConfig's Timeout
	pageMax   = 10 * time.Second // of the lister
	pageSize  = 100
	pagesMax  = 20_000
)

// cloud answers the core's questions, over a network of its own.
type cloud struct {
	s        *sched
	dice     dice
	registry *registry
	trouble  [ways]trouble
	witness  Witness
	asked    uint64
}

func newCloud(s *sched, seed uint64, registered int, w Witness) *cloud {
	return &cloud{s: s, dice: diceOf(seed, diceCloud), registry: newRegistry(registered), witness: w}
}

func wayOf(name string) way { return way(slices.Index(CloudWays, name)) }

// hit reports whether a request meets trouble of a kind.
func (c *cloud) hit(w way, d dice) bool {
	t := &c.trouble[w]
	return t.on && (t.rate == 0 || d.key(uint64(w)).chance(t.rate))
}

// away is how a request ends that does not reach the cloud, and after how long.
func (c *cloud) away(d dice) (after time.Duration, away bool) {
	switch {
	case c.hit(cloudAway, d):
		return d.key(91).between(0, 20*time.Millisecond), true
	case c.hit(cloudUnreachable, d), c.hit(cloudSilent, d):
		return answerMax, true
	}
	return 0, false
}

// roundTrip is what a request takes there and back.
func (c *cloud) roundTrip(d dice) time.Duration {
	t := d.key(90).spread(10*time.Millisecond, 200*time.Millisecond)
	if c.hit(cloudSlow, d) {
		t += d.key(92).between(0, c.trouble[cloudSlow].amount)
	}
	return t
}

// date is the cloud's own time.
func (c *cloud) date() time.Time {
	t := Beginning.Add(c.s.now)
	if c.trouble[cloudTime].on {
		t = t.Add(c.trouble[cloudTime].amount)
	}
	return t.Truncate(time.Second)
}

func silent(f messages.CloudFailure, detail string) messages.CloudAnswer {
	return messages.CloudAnswer{Failure: f, Detail: detail}
}

// cloudClient is the cloud as one process sees it. It implements cloudsync.Verifier and
// actors.Associations.
type cloudClient struct {
	c       *cloud
	of      *process
	onProbe func() // a probe has ended; nil: nobody waits for that
}

var (
	_ cloudsync.Verifier  = (*cloudClient)(nil)
	_ actors.Associations = (*cloudClient)(nil)
)

// The answers of a cloud that is away.
var (
	unreachable = silent(messages.FailureUnreachable, "no answer in time: check the network")
	refused     = silent(messages.FailureUnreachable, "connection refused: check the network")
)

// Ask implements cloudsync.Verifier.
func (k *cloudClient) Ask(_ context.Context, q messages.CloudQuestion) messages.CloudAnswer {
	s := k.c.s
	asked, a := k.ask(q)
	if k.of.dead {
		return a
	}
	s.trace.number('C', uint64(a.Verdict)<<8|uint64(a.Failure))
	if s.trace.telling() {
		s.trace.say("the cloud answers %s: %v %s", about(q), a.Verdict, a.Detail)
	}
	k.c.witness.CloudSaid(&q, asked, &a)
	return a
}

// ask puts a question; asked is when the registry was looked at.
func (k *cloudClient) ask(q messages.CloudQuestion) (asked time.Duration, a messages.CloudAnswer) {
	c, s := k.c, k.c.s
	c.asked++
	d := c.dice.name(string(q.Certificate)).name(string(q.Thing)).key(uint64(s.now))
	if after, away := c.away(d); away {
		s.sleep(after)
		if after < answerMax {
			return s.now, refused
		}
		return s.now, unreachable
	}
	trip := c.roundTrip(d)
	there := d.key(93).between(0, trip) // when the registry is looked at
	if !s.sleep(min(there, answerMax)) || there > answerMax {
		return s.now, unreachable
	}
	asked = s.now
	if a = c.answer(q, d); a.Failure != messages.FailureNotService {
		a.Date = c.date()
	}
	if !s.sleep(min(trip, answerMax)-there) || trip > answerMax {
		return s.now, unreachable
	}
	return asked, a
}

func about(q messages.CloudQuestion) string {
	if q.Thing != "" {
		return "whether " + short(q.Certificate) + " belongs to " + string(q.Thing)
	}
	return "whether " + short(q.Certificate) + " is good"
}

func short(id messages.CertificateID) string { return string(id[:min(len(id), 8)]) }

// answer is what the cloud makes of a question that has reached it.
func (c *cloud) answer(q messages.CloudQuestion, d dice) messages.CloudAnswer {
	switch {
	case c.hit(cloudThrottles, d):
		a := silent(messages.FailureThrottled, "HTTP 429 ThrottlingException")
		a.RetryAfter = d.key(94).between(0, 10*time.Second)
		return a
	case c.hit(cloudRefusesUs, d):
		return silent(messages.FailureRefused, "HTTP 403 AccessDeniedException: the core itself is refused")
	case c.hit(cloudFails, d):
		return silent(messages.FailureServer, "HTTP 500: the cloud failed")
	case c.hit(cloudNonsense, d):
		return silent(messages.FailureNotService, "HTTP 200 is no answer of the service")
	case c.hit(cloudStale, d):
		return c.registry.judge(q, c.s.now-c.trouble[cloudStale].amount)
	}
	return c.registry.judge(q, c.s.now)
}

// errorText is an answer that is an error.
type errorText string

func (e errorText) Error() string { return string(e) }

// Probe implements cloudsync.Verifier. One that tells nothing new is nothing that happens.
func (k *cloudClient) Probe(context.Context) (date time.Time, err error) {
	if k.onProbe != nil {
		defer k.onProbe()
	}
	c := k.c
	d := c.dice.key(uint64(c.s.now)).key(95)
	if after, away := c.away(d); away {
		c.s.rest(after, aTick)
		return date, errorText("the cloud is away")
	}
	if trip := c.roundTrip(d); !c.s.rest(min(trip, answerMax), aTick) || trip > answerMax {
		return date, errorText("the cloud is away")
	}
	if !c.hit(cloudNonsense, d) {
		date = c.date()
	}
	return date, nil // whatever it says
}

// Close implements cloudsync.Verifier.
func (*cloudClient) Close() {}

// List implements actors.Associations: page by page, each as of its moment.
func (k *cloudClient) List(_ context.Context, progress func(things, pages int)) messages.AssociationList {
	l := k.list(progress)
	if !k.of.dead {
		k.c.witness.Listed(&l)
	}
	return l
}

func (k *cloudClient) list(progress func(things, pages int)) messages.AssociationList {
	c, s := k.c, k.c.s
	d := c.dice.key(uint64(s.now)).key(96)
	var things []messages.ThingName
	broken := func(f messages.CloudFailure, pages int, detail string) messages.AssociationList {
		s.trace.number('B', uint64(pages))
		s.trace.say("the listing of associated things breaks off after %d pages: %s", pages, detail)
		return messages.AssociationList{Pages: pages, Failure: f, Detail: detail}
	}
	for pages := 0; ; pages++ {
		p := d.key(uint64(pages))
		if after, away := c.away(p); away {
			s.sleep(after)
			return broken(messages.FailureUnreachable, pages, "no answer: check the network")
		}
		trip := c.roundTrip(p)
		if !s.sleep(min(trip, pageMax)) || trip > pageMax {
			return broken(messages.FailureUnreachable, pages, "no answer in time")
		}
		switch {
		case c.hit(cloudRefusesUs, p):
			return broken(messages.FailureRefused, pages, "HTTP 403 AccessDeniedException")
		case c.hit(cloudThrottles, p):
			return broken(messages.FailureThrottled, pages, "HTTP 429 ThrottlingException")
		case c.hit(cloudFails, p), c.hit(listBreaks, p):
			return broken(messages.FailureServer, pages, "HTTP 500 InternalServerException")
		case c.hit(cloudNonsense, p):
			return broken(messages.FailureNotService, pages, "HTTP 200 is no answer of the service")
		case c.hit(listLoops, d):
			return broken(messages.FailureNotService, pages, "the listing goes round in circles")
		case pages == pagesMax:
			return broken(messages.FailureNotService, pages, "more pages than there can be")
		}
		page, last := c.page(things, d)
		things = append(things, page...)
		progress(len(things), pages+1)
		if last {
			s.trace.number('A', uint64(len(things)))
			s.trace.say("%d associated things are listed, in %d pages", len(things), pages+1)
			return messages.AssociationList{Complete: true, Things: things, Pages: pages + 1, Date: c.date()}
		}
	}
}

// page is what comes after the things that were listed, and whether that is all.
func (c *cloud) page(listed []messages.ThingName, d dice) (page []messages.ThingName, last bool) {
	all := c.registry.things()
	if c.hit(listEmpty, d) {
		return nil, true
	}
	from := 0
	if n := len(listed); n > 0 {
		i, found := slices.BinarySearch(all, listed[n-1])
		if from = i; found {
			from++
		}
	}
	page = all[from:min(from+pageSize, len(all))]
	if c.hit(listPartial, d) { // the end comes early
		return page[:d.key(97).below(len(page)+1)], true
	}
	return page, from+len(page) == len(all)
}
