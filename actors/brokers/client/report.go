package client

import (
	"hash/maphash"
	"sync"
	"sync/atomic"
)

// A denial that is decided here is not seen by Gatehouse, whose log must explain it. So
// the first of its kind is put to Gatehouse as well, beside the answer: for the record
// only, at most so many per session and at the same time.
const (
	reportsPerSession = 64
	reportsAtOnce     = 16
)

// reports is what a session has had put on record.
type reports struct {
	mu   sync.Mutex
	seen map[uint64]struct{} // guarded by mu, as all below
	out  int                 // reports under way
	last chan struct{}       // closed when the last of them is done; nil until somebody waits
	over bool                // none begins any more
}

// begin counts a report in, unless the session is being closed.
func (r *reports) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return false
	}
	r.out++
	return true
}

func (r *reports) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.out--; r.out == 0 && r.last != nil {
		close(r.last)
		r.last = nil
	}
}

// drain lets no further report begin and waits for those under way, each of which ends
// within the time-out of a request: a session that is closed first cannot be put on
// record any more.
func (r *reports) drain() {
	r.mu.Lock()
	r.over = true
	var last chan struct{}
	if r.out > 0 {
		if r.last == nil {
			r.last = make(chan struct{})
		}
		last = r.last
	}
	r.mu.Unlock()
	if last != nil {
		<-last
	}
}

var (
	reportSeed = maphash.MakeSeed()
	reporting  atomic.Int64
)

// first notes a denial, and reports whether it is worth a report.
func (r *reports) first(operation, resource []byte) bool {
	var h maphash.Hash
	h.SetSeed(reportSeed)
	_, _ = h.Write(operation) // never fails
	_ = h.WriteByte(0)
	_, _ = h.Write(resource)
	key := h.Sum64()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, again := r.seen[key]; again || len(r.seen) >= reportsPerSession {
		return false
	}
	if r.seen == nil {
		r.seen = make(map[uint64]struct{})
	}
	r.seen[key] = struct{}{}
	return true
}

// report puts a denial on record at Gatehouse, in the background. Losing one loses an
// explanation, never a decision.
func (s *Session) report(operation, resource []byte) {
	if !s.reports.first(operation, resource) {
		return
	}
	if reporting.Add(1) > reportsAtOnce {
		reporting.Add(-1)
		return
	}
	c := s.client
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		reporting.Add(-1)
		return
	}
	if !s.reports.begin() {
		c.mu.Unlock()
		reporting.Add(-1)
		return
	}
	c.callbacks.Add(1) // under mu: Close waits for the callbacks after it has set closed
	c.mu.Unlock()
	op, res := string(operation), string(resource)
	go func() {
		defer c.callbacks.Done()
		defer reporting.Add(-1)
		defer s.reports.end()
		if _, err := c.AuthorizeToken(c.ctx, s.token, op, res); err != nil {
			c.cfg.Logger.Debug("denial not put on record", "client", s.clientID, "err", err)
		}
	}()
}
