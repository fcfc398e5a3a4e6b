package brokers

import (
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// counters is the tally of one operation; all its fields may be changed at once.
type counters struct {
	op      authapi.Op
	allowed atomic.Uint64
	denied  atomic.Uint64
	refused [messages.RefusalCodes]atomic.Uint64
	dropped atomic.Uint64
	panics  atomic.Uint64
	late    atomic.Uint64
	timeNs  atomic.Int64
	lastErr atomic.Int32 // the last refusal code plus one; 0 if there was none
}

// OpCounts is what became of the requests of one operation since the desk opened.
type OpCounts struct {
	Op      authapi.Op        `json:"op"`
	Allowed uint64            `json:"allowed"` // answered, and not with a deny
	Denied  uint64            `json:"denied"`  // answered with a deny: a false in the reply
	Refused map[string]uint64 `json:"refused"` // answered with an error, by its name
	Dropped uint64            `json:"dropped"` // not answered: the reply subject was not the broker's own
	Panics  uint64            `json:"panics"`  // bugs, answered with Service
	Late    uint64            `json:"late"`    // answered with Busy because the core took too long
	// Certificates is what came of certificates requests; nil with other operations.
	Certificates *CourierCounts `json:"certificates,omitempty"`
	time         time.Duration
	lastErr      int // the last refusal code; -1 if there was none
}

func (c *counters) snapshot() OpCounts {
	s := OpCounts{
		Op: c.op, Allowed: c.allowed.Load(), Denied: c.denied.Load(), Refused: map[string]uint64{},
		Dropped: c.dropped.Load(), Panics: c.panics.Load(), Late: c.late.Load(), time: time.Duration(c.timeNs.Load()),
	}
	for code := range messages.RefusalCode(messages.RefusalCodes) {
		if n := c.refused[code].Load(); n > 0 {
			s.Refused[code.String()] = n
		}
	}
	s.lastErr = int(c.lastErr.Load()) - 1
	return s
}

// errors is how many requests were answered with an error.
func (s OpCounts) errors() (n uint64) {
	for _, count := range s.Refused {
		n += count
	}
	return n
}

// answered is how many requests were answered at all.
func (s OpCounts) answered() uint64 { return s.Allowed + s.Denied + s.errors() }
