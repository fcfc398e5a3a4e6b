package client

import (
	"hash/maphash"
	"sync"
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
	over bool                // none begins any more
	then func()              // to be called when the last of them is done; nil: nothing is
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

func (r *reports) done() {
	r.mu.Lock()
	r.out--
	var then func()
	if r.out == 0 {
		then, r.then = r.then, nil
	}
	r.mu.Unlock()
	if then != nil {
		then()
	}
}

// end lets no further report begin, and calls then when those under way, each of which
// ends within the time-out of a request, are done: a session that is closed first cannot
// be put on record any more.
func (r *reports) end(then func()) {
	r.mu.Lock()
	r.over = true
	wait := r.out > 0
	if wait {
		r.then = then
	}
	r.mu.Unlock()
	if !wait {
		then()
	}
}

var reportSeed = maphash.MakeSeed()

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
	c := s.client
	if c.reports.Add(1) > reportsAtOnce || !s.reports.begin() {
		c.reports.Add(-1)
		return
	}
	op, res := string(operation), string(resource)
	ended := func() {
		s.reports.done()
		c.reports.Add(-1)
	}
	if !c.crew.do(func() {
		defer ended()
		if _, err := c.AuthorizeToken(c.ctx, s.token, op, res); err != nil {
			c.cfg.Logger.Debug("denial not put on record", "client", s.clientID, "err", err)
		}
	}) {
		ended()
	}
}
