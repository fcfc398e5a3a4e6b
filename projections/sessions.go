package projections

import (
	"container/heap"
	"encoding/binary"
	"sync"
	"sync/atomic"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Session is one live session, as authorization reads it. Its identity never changes;
// what does is atomic.
type Session struct {
	Digest      messages.TokenDigest
	Thing       messages.ThingName
	Component   messages.ComponentName // whose session it is in place of a thing's
	Certificate messages.CertificateID
	Broker      messages.BrokerID
	OpenedMs    int64  // trust time
	OpenedSeq   uint64 // the SessionOpened record

	thing     *thing                    // that it is listed with; nil for a component
	cert      *certificate              // the trust it rests on; nil for a component, and if pending
	attached  *attachment               // it rests on that, too; nil for a component, and if pending
	pending   *pending                  // the admission it rests on; nil unless its device was pending when it was opened
	endsMs    int64                     // a component's only: when its certificate ends
	dead      atomic.Bool               // closed, taken over, evicted, revoked
	used      atomic.Int64              // use counter at the last use: the measure of LRU
	permitted atomic.Pointer[permitted] // the policy as it applies to this thing
	places    [rolls]int32              // in the rolls; guarded by Views.mu
	turn      entry[Session]            // in the order of use, as that knows it; guarded by the table's mu
}

// permitted is a policy revision seen from one thing.
type permitted struct {
	compiled *policy.Compiled
	thing    *policy.ThingPolicy
}

// Dead reports whether the session has ended.
func (s *Session) Dead() bool { return s.dead.Load() }

// UsedAt is the use counter at the session's last use.
func (s *Session) UsedAt() int64 { return s.used.Load() }

// tableShards spreads the locks of the look-up; a power of two.
const tableShards = 64

// table finds sessions by their token's digest, and the least recently used one.
type table struct {
	shards [tableShards]struct {
		mu sync.RWMutex
		m  map[messages.TokenDigest]*Session // guarded by mu
	}
	uses atomic.Int64

	mu    sync.Mutex
	order queue[Session] // by last use; guarded by mu
}

func newTable() *table {
	t := &table{}
	for i := range t.shards {
		t.shards[i].m = make(map[messages.TokenDigest]*Session)
	}
	return t
}

// grow makes room for n sessions at once.
func (t *table) grow(n int) {
	for i := range t.shards {
		t.shards[i].m = make(map[messages.TokenDigest]*Session, n/tableShards)
	}
	t.order = make(queue[Session], 0, n)
}

// find looks a live session up. A digest is uniformly distributed and not chosen by the
// asker, so its first bits pick the shard.
func (t *table) find(d messages.TokenDigest) *Session {
	s := &t.shards[binary.LittleEndian.Uint64(d[:8])&(tableShards-1)]
	s.mu.RLock()
	session := s.m[d]
	s.mu.RUnlock()
	return session
}

// touch counts a use.
func (t *table) touch(s *Session) { s.used.Store(t.uses.Add(1)) }

// insert adds a session; one that is there already stays. It is in the order of use
// before it can be found, so that whoever finds it can remove it.
func (t *table) insert(session *Session) bool {
	s := &t.shards[binary.LittleEndian.Uint64(session.Digest[:8])&(tableShards-1)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.m[session.Digest]; there {
		return false
	}
	t.touch(session)
	t.mu.Lock()
	session.turn = entry[Session]{of: session, at: session.used.Load()}
	heap.Push(&t.order, &session.turn)
	t.mu.Unlock()
	s.m[session.Digest] = session
	return true
}

// remove takes a session out; false if it was out already.
func (t *table) remove(session *Session) bool {
	if session.dead.Swap(true) {
		return false
	}
	s := &t.shards[binary.LittleEndian.Uint64(session.Digest[:8])&(tableShards-1)]
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.m, session.Digest)
	t.mu.Lock()
	heap.Remove(&t.order, int(session.turn.place))
	t.mu.Unlock()
	return true
}

// oldest names the least recently used session if more than limit are live. The heap
// lags behind the uses: a root that was used since goes back to its true place first.
func (t *table) oldest(limit int) *Session {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.order) <= limit {
		return nil
	}
	for {
		root := t.order[0]
		used := root.of.used.Load()
		if used == root.at {
			return root.of
		}
		root.at = used
		heap.Fix(&t.order, 0)
	}
}

// count is how many sessions are live.
func (t *table) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.order)
}
