package actors

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// shardCount spreads the router's locks; a power of two.
const shardCount = 64

// perEntityMax is how many commands may be under way at one entity; the next is told
// Busy. What restricts is never turned away for this.
const perEntityMax = 64

// router finds the live actor of an entity, and makes one on first use. Idle ones are
// passivated when more than liveMax are resident. Never Proto.Actor's receive timeout
// (a data race, open upstream), never its bounded mailboxes (they spin).
type router struct {
	sys     *System
	seed    maphash.Seed
	shards  [shardCount]shard
	props   *actor.Props
	liveMax int
	live    atomic.Int64
	clock   atomic.Int64 // counts deliveries: the measure of "least recently used"
	hand    atomic.Uint32
}

type shard struct {
	mu    sync.Mutex
	slots map[messages.StreamID]*slot // guarded by mu
}

// slot is the router's view of one live entity.
type slot struct {
	stream  messages.StreamID
	pid     *actor.PID
	leaving bool        // asked to leave; guarded by the shard's mu
	held    []*envelope // what arrived meanwhile; guarded by the shard's mu
	used    int64       // guarded by the shard's mu
	load    atomic.Int32
}

func newRouter(sys *System, liveMax int, props *actor.Props) *router {
	r := &router{sys: sys, seed: maphash.MakeSeed(), props: props, liveMax: liveMax}
	for i := range r.shards {
		r.shards[i].slots = make(map[messages.StreamID]*slot)
	}
	return r
}

func (r *router) shardOf(stream messages.StreamID) *shard {
	return &r.shards[maphash.String(r.seed, string(stream))&(shardCount-1)]
}

// deliver hands env to its entity, or refuses it as Busy. It never blocks on the
// entity.
func (r *router) deliver(env *envelope) *messages.Refusal {
	stream := env.command.Target()
	s := r.shardOf(stream)
	s.mu.Lock()
	sl := s.slots[stream]
	if sl == nil {
		sl = r.spawn(s, stream)
	}
	if sl.load.Add(1) > perEntityMax && env.command.Lane() != messages.LaneRestrict {
		sl.load.Add(-1)
		s.mu.Unlock()
		return &messages.Refusal{Code: messages.RefusedBusy, Reason: "too many requests for " + string(stream), RetryAfter: r.sys.retryAfter}
	}
	reply := env.reply
	env.reply = func(m messages.Reply) {
		sl.load.Add(-1)
		reply(m)
	}
	sl.used = r.clock.Add(1)
	if sl.leaving {
		sl.held = append(sl.held, env)
	} else {
		r.sys.actors.Root.Send(sl.pid, env) // under the lock: before any passivate that follows
	}
	s.mu.Unlock()
	if r.live.Load() > int64(r.liveMax) {
		r.sweep()
	}
	return nil
}

// spawn starts the actor of stream; s is locked.
func (r *router) spawn(s *shard, stream messages.StreamID) *slot {
	sl := &slot{stream: stream, pid: r.sys.actors.Root.Spawn(r.props)}
	s.slots[stream] = sl
	r.live.Add(1)
	r.sys.actors.Root.Send(sl.pid, &assign{stream: stream, slot: sl})
	return sl
}

// sweep asks the less recently used half of one shard to leave. The shards take turns.
func (r *router) sweep() {
	s := &r.shards[r.hand.Add(1)&(shardCount-1)]
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum int64
	for _, sl := range s.slots {
		sum += sl.used
	}
	if len(s.slots) == 0 {
		return
	}
	mean := sum / int64(len(s.slots))
	for _, sl := range s.slots {
		if sl.used <= mean && !sl.leaving && sl.load.Load() == 0 {
			sl.leaving = true
			r.sys.actors.Root.Send(sl.pid, passivate{})
		}
	}
}

// stay takes an entity that is not idle back into service.
func (r *router) stay(sl *slot) {
	s := r.shardOf(sl.stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	sl.leaving = false
	r.flush(sl)
}

// gone forgets a stopped entity; what was held for it goes to its next incarnation.
func (r *router) gone(sl *slot) {
	s := r.shardOf(sl.stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(sl.held) == 0 {
		delete(s.slots, sl.stream)
		r.live.Add(-1)
		return
	}
	sl.leaving, sl.pid = false, r.sys.actors.Root.Spawn(r.props)
	r.sys.actors.Root.Send(sl.pid, &assign{stream: sl.stream, slot: sl})
	r.flush(sl)
}

func (r *router) flush(sl *slot) {
	for _, env := range sl.held {
		r.sys.actors.Root.Send(sl.pid, env)
	}
	sl.held = nil
}
