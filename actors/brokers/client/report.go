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
	seen map[uint64]struct{} // guarded by mu
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
	c.callbacks.Add(1) // under mu: Close waits for the callbacks after it has set closed
	c.mu.Unlock()
	op, res := string(operation), string(resource)
	go func() {
		defer c.callbacks.Done()
		defer reporting.Add(-1)
		if _, err := c.AuthorizeToken(c.ctx, s.token, op, res); err != nil {
			c.cfg.Logger.Debug("denial not put on record", "client", s.clientID, "err", err)
		}
	}()
}
