package mochi

import (
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestRetainedBytes: what is retained is bounded in bytes, for one client to a quarter.
func TestRetainedBytes(t *testing.T) {
	b := &Broker{cfg: Config{Limits: Limits{RetainedBytes: 400}.withDefaults()}}
	r := &retained{b: b, kept: make(map[string]kept), holders: make(map[string]*holder)}
	for i, step := range []struct {
		id, topic string
		size      int
		want      bool
	}{
		{"a", "1", 60, true},
		{"a", "2", 41, false}, // beyond a's quarter
		{"a", "2", 40, true},
		{"a", "1", 61, false},
		{"a", "1", 60, true}, // in place of the one before
		{"a", "1", 10, true},
		{"a", "3", 50, true},
		{"b", "4", 100, true},
		{"c", "5", 100, true},
		{"d", "6", 90, true},
		{"e", "7", 11, false}, // beyond all
		{"e", "7", 10, true},
		{"e", "8", 1, false},
		{"e", "2", 41, false}, // a's 40 make room for 40
		{"e", "2", 40, true},
		{"a", "9", 1, false}, // a has room, all together have not
	} {
		if got := r.room(step.id, step.topic, step.size); got != step.want {
			t.Fatalf("step %d: room for %d bytes of %s on %s: %v, want %v", i, step.size, step.id, step.topic, got, step.want)
		}
		if step.want {
			r.add(step.id, step.topic, step.size)
		}
	}
	if r.bytes != 400 || r.holders["a"].bytes != 60 || r.holders["e"].bytes != 50 {
		t.Errorf("%d bytes, a %d, e %d; want 400, 60, 50", r.bytes, r.holders["a"].bytes, r.holders["e"].bytes)
	}
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		for _, topic := range r.of(id) {
			r.forget(topic)
		}
	}
	if r.bytes != 0 || len(r.kept) != 0 || len(r.holders) != 0 {
		t.Errorf("%d bytes, %d messages, %d clients are left", r.bytes, len(r.kept), len(r.holders))
	}
}

// TestSizeOf: nothing that a client can make long is left out.
func TestSizeOf(t *testing.T) {
	p := packets.Properties{
		ContentType: "abc", ResponseTopic: "abcd", CorrelationData: []byte("abcde"),
		User: []packets.UserProperty{{Key: "a", Val: "b"}, {}},
	}
	if got, want := sizeOf("a/b", []byte("xy"), &p), 3+2+3+4+5+2+2*32; got != want {
		t.Errorf("%d, want %d", got, want)
	}
}
