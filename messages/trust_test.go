package messages

import "testing"

// TestTrustHolds: from the moment of the yes until the trust duration has passed, not at
// its end; a yes from the future counts for nothing.
func TestTrustHolds(t *testing.T) {
	trust := Trust{DurationMs: 60_000, SinceMs: 1_000}
	for _, c := range []struct {
		verifiedMs, nowMs int64
		want              bool
	}{
		{1_000, 1_000, true}, {1_000, 60_999, true}, {1_000, 61_000, false}, {999, 1_000, false},
		{10_000, 9_000, true}, {70_000, 10_000, true}, {70_001, 10_000, false},
	} {
		if (Trust{DurationMs: 1 << 60}).Holds(VoidMs, c.nowMs) {
			t.Error("what is void counts")
		}
		if got := trust.Holds(c.verifiedMs, c.nowMs); got != c.want {
			t.Errorf("verified at %d, now %d: %v, want %v", c.verifiedMs, c.nowMs, got, c.want)
		}
	}
}

// TestValidAt: both ends belong to a certificate's validity (RFC 5280, 4.1.2.5).
func TestValidAt(t *testing.T) {
	for nowMs, want := range map[int64]bool{9: false, 10: true, 15: true, 20: true, 21: false} {
		if got := ValidAt(10, 20, nowMs); got != want {
			t.Errorf("at %d: %v, want %v", nowMs, got, want)
		}
	}
}
