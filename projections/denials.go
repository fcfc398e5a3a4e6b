package projections

import (
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// recentMax is how many denials are kept at hand for `explain`.
const recentMax = 256

// recent remembers the last denials and the last sessions that were taken away; guarded
// by Views.mu.
type recent struct {
	records []Denied // oldest first
	closed  []Closed // oldest first
}

// Closed is a session that was ended by Gatehouse, not by its broker.
type Closed struct {
	Seq   uint64
	At    messages.Instant
	Thing messages.ThingName
	Event *messages.SessionClosed
}

// Denied is a recorded refusal.
type Denied struct {
	Seq   uint64
	At    messages.Instant
	Event *messages.AccessDenied
}

func (v *Views) accessDenied(rec *messages.Record, e *messages.AccessDenied) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.denied.records) == recentMax {
		v.denied.records = slices.Delete(v.denied.records, 0, recentMax/4)
	}
	v.denied.records = append(v.denied.records, Denied{Seq: rec.Seq, At: rec.At, Event: e})
}

// sessionClosed remembers an end that somebody may ask about.
func (v *Views) sessionClosed(rec *messages.Record, e *messages.SessionClosed) {
	name, ok := rec.Stream.Device()
	if !ok || e.Reason == messages.CloseReason_CLOSE_BY_BROKER || e.Reason == messages.CloseReason_CLOSE_TAKEN_OVER {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.denied.closed) == recentMax {
		v.denied.closed = slices.Delete(v.denied.closed, 0, recentMax/4)
	}
	v.denied.closed = append(v.denied.closed, Closed{Seq: rec.Seq, At: rec.At, Thing: name, Event: e})
}

// LastClosed finds the newest session that was taken away, of thing or, if it is empty,
// of anybody.
func (v *Views) LastClosed(thing string) (Closed, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, c := range slices.Backward(v.denied.closed) {
		if thing == "" || string(c.Thing) == thing {
			return c, true
		}
	}
	return Closed{}, false
}

// LastDenied finds the newest denial that match accepts.
func (v *Views) LastDenied(match func(*messages.AccessDenied) bool) (Denied, bool) {
	v.mu.RLock()
	defer v.mu.RUnlock()
	for _, d := range slices.Backward(v.denied.records) {
		if match(d.Event) {
			return d, true
		}
	}
	return Denied{}, false
}
