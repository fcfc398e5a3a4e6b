package client

import (
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// A feed judges the stream of pushes: is it complete, and is it fresh. observe is called
// by one goroutine, the subscription's; the rest may be asked by any.
type feed struct {
	epoch string // the daemon's run; "" before the first push
	seq   uint64 // the last push's number

	base     time.Time    // where monotonic time starts to count
	heard    atomic.Bool  // a push has arrived
	lastMono atomic.Int64 // when the last did, in nanoseconds since base
	lastWall atomic.Int64 // the same, by the wall clock, in nanoseconds since 1970
}

// observe places a push of kind p that carries stamp and reports whether one before it
// was missed. The first push ever starts the count: the subscription is older than
// anything that was asked, so nothing before it can matter.
func (f *feed) observe(p authapi.Push, stamp authapi.Stamp) (missed bool) {
	previous, epoch := f.seq, f.epoch
	f.epoch, f.seq = stamp.Epoch, stamp.Seq
	switch {
	case epoch == "":
		return false
	case epoch != stamp.Epoch:
		return true
	case p == authapi.PushHeartbeat:
		return stamp.Seq != previous
	default:
		return stamp.Seq != previous+1
	}
}

// touch notes that a push arrived at now.
func (f *feed) touch(now time.Time) {
	f.lastMono.Store(int64(now.Sub(f.base)))
	f.lastWall.Store(now.UnixNano())
	f.heard.Store(true)
}

// age returns how long ago the last push arrived: by the clock that says longer, because
// one stands still while the machine sleeps and the other can be turned back.
func (f *feed) age(now time.Time) time.Duration {
	return max(now.Sub(f.base)-time.Duration(f.lastMono.Load()), time.Duration(now.UnixNano()-f.lastWall.Load()))
}

// fresh reports whether the last push arrived at most maxStale ago.
func (f *feed) fresh(now time.Time, maxStale time.Duration) bool {
	return f.heard.Load() && f.age(now) <= maxStale
}
