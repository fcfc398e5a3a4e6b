package projections

import (
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestAbandonedReanchoringLoosensNothing: trust is void from another moment on when the clock
// is set back, but only if that gets on record.
func TestAbandonedReanchoringLoosensNothing(t *testing.T) {
	for _, durable := range []bool{true, false} {
		h := &history{}
		h.add(messages.StreamClock, 0, &messages.TrustVoided{BeforeMs: t0 + 9000})
		v := folded(h)
		e := &messages.ClockReanchored{FormerTrustMs: t0 + 9500, AuthenticatedMs: t0 + 5000, VoidAfterMs: t0 + 4000}
		v.Restrict(messages.StreamClock, e, messages.Instant{TrustMs: t0 + 5000})
		if got := v.VoidedMs() - t0; got != 5000 { // what is confirmed from now on must count
			t.Fatalf("decided: void before %d", got)
		}
		want := t0 + 9000
		if durable {
			n := len(h.records)
			h.add(messages.StreamClock, 5000, e)
			v.Apply(h.since(n))
			want = t0 + 5000
		}
		v.Abandon(messages.StreamClock, e) // also of another, later one
		if got := v.VoidedMs(); got != want {
			t.Errorf("durable %v: void before %d, want %d", durable, got-t0, want-t0)
		}
	}
}
