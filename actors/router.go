package actors

import (
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

// Bounds of one sweep: it must cost a delivery little, also when nobody is idle.
const (
	sweepShardsMax = 8
	sweepSlotsMax  = 16 // looked at, per shard
)

// router finds the live actor of an entity, and makes one on first use. The least
// recently used idle ones are passivated when more than liveMax are resident. Never
// Proto.Actor's receive timeout (a data race, open upstream), never its bounded
// mailboxes (they spin).
type router struct {
	sys     *System
	shards  [shardCount]shard
	props   *actor.Props
	liveMax int64
	live    atomic.Int64 // slots, those that are leaving included
	leaving atomic.Int64
	hand    atomic.Uint32
}

// shard holds a part of the slots, by stream and in the order of their use.
type shard struct {
	mu      sync.Mutex
	slots   map[messages.StreamID]*slot // guarded by mu, as all below and the links of the slots
	newest  *slot
	oldest  *slot
	leaving int // slots that were asked to leave
}

// slot is the router's view of one live entity.
type slot struct {
	stream       messages.StreamID
	pid          *actor.PID
	newer, older *slot
	leaving      bool        // asked to leave; guarded by the shard's mu
	held         []*envelope // what arrived meanwhile; guarded by the shard's mu
	load         atomic.Int32
}

func newRouter(sys *System, liveMax int, props *actor.Props) *router {
	r := &router{sys: sys, props: props, liveMax: int64(liveMax)}
	for i := range r.shards {
		r.shards[i].slots = make(map[messages.StreamID]*slot)
	}
	return r
}

// shardOf spreads the streams by FNV-1a: the same in every run, so that a simulation
// can be repeated. Who chose names for one shard would only make its lock busier.
func (r *router) shardOf(stream messages.StreamID) *shard {
	h := uint32(2166136261)
	for i := range len(stream) {
		h = (h ^ uint32(stream[i])) * 16777619
	}
	return &r.shards[(h^h>>16)&(shardCount-1)]
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
	if sl.load.Add(1) > perEntityMax && env.lane != messages.LaneRestrict {
		sl.load.Add(-1)
		s.mu.Unlock()
		return &messages.Refusal{Code: messages.RefusedBusy, Reason: "too many requests for " + string(stream), RetryAfter: r.sys.retryAfter}
	}
	env.slot = sl
	s.unlink(sl)
	s.link(sl)
	if sl.leaving {
		sl.held = append(sl.held, env)
	} else {
		r.sys.actors.Root.Send(sl.pid, env) // under the lock: before any passivate that follows
	}
	s.mu.Unlock()
	if r.excess() {
		r.sweep()
	}
	return nil
}

// excess reports whether more entities are resident than should be, those that were
// asked to leave not counted.
func (r *router) excess() bool { return r.live.Load()-r.leaving.Load() > r.liveMax }

// spawn starts the actor of stream; s is locked.
func (r *router) spawn(s *shard, stream messages.StreamID) *slot {
	sl := &slot{stream: stream}
	s.slots[stream] = sl
	s.link(sl)
	r.live.Add(1)
	r.start(sl)
	return sl
}

// start gives the slot an actor; its shard is locked.
func (r *router) start(sl *slot) {
	sl.pid = r.sys.actors.Root.Spawn(r.props)
	r.sys.actors.Root.Send(sl.pid, &assign{stream: sl.stream, slot: sl})
}

// sweep asks the least recently used idle entities to leave. The shards take turns, and
// each keeps its share.
func (r *router) sweep() {
	for range sweepShardsMax {
		s := &r.shards[r.hand.Add(1)&(shardCount-1)]
		s.mu.Lock()
		sl := s.oldest
		for i := 0; i < sweepSlotsMax && sl != nil && r.excess() && len(s.slots)-s.leaving > int(r.liveMax/shardCount); i++ {
			if !sl.leaving && sl.load.Load() == 0 {
				r.markLeaving(s, sl, true)
				r.sys.actors.Root.Send(sl.pid, passivate{})
			}
			sl = sl.newer
		}
		s.mu.Unlock()
		if !r.excess() {
			return
		}
	}
}

// markLeaving notes that a slot was asked to leave, or that this is over; s is locked.
func (r *router) markLeaving(s *shard, sl *slot, leaving bool) {
	n := 1
	if !leaving {
		n = -1
	}
	sl.leaving = leaving
	s.leaving += n
	r.leaving.Add(int64(n))
}

// stay takes an entity that is not idle back into service, as the most recently used:
// the next sweep looks at others.
func (r *router) stay(sl *slot) {
	s := r.shardOf(sl.stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.markLeaving(s, sl, false)
	s.unlink(sl)
	s.link(sl)
	r.flush(sl)
}

// gone forgets a stopped entity; what was held for it goes to its next incarnation.
func (r *router) gone(sl *slot) {
	s := r.shardOf(sl.stream)
	s.mu.Lock()
	defer s.mu.Unlock()
	r.markLeaving(s, sl, false)
	if len(sl.held) == 0 {
		delete(s.slots, sl.stream)
		s.unlink(sl)
		r.live.Add(-1)
		return
	}
	r.start(sl)
	r.flush(sl)
}

func (r *router) flush(sl *slot) {
	for _, env := range sl.held {
		r.sys.actors.Root.Send(sl.pid, env)
	}
	sl.held = nil
}

// link puts a slot that is not in the list at its newest end; s is locked.
func (s *shard) link(sl *slot) {
	sl.newer, sl.older = nil, s.newest
	if s.newest != nil {
		s.newest.newer = sl
	} else {
		s.oldest = sl
	}
	s.newest = sl
}

// unlink takes a slot out of the list; s is locked.
func (s *shard) unlink(sl *slot) {
	if sl.newer != nil {
		sl.newer.older = sl.older
	} else {
		s.newest = sl.older
	}
	if sl.older != nil {
		sl.older.newer = sl.newer
	} else {
		s.oldest = sl.newer
	}
	sl.newer, sl.older = nil, nil
}
