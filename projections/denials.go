package projections

import (
	"slices"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// recentMax is how many denials are kept at hand for `explain`.
const recentMax = 256

// recent remembers the last denials; guarded by Views.mu.
type recent struct {
	records []Denied // oldest first
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
