package projections

import (
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// rig plays the steps of the session vectors.
type rig struct {
	t        *testing.T
	h        *history
	v        *Views
	capacity int
	evicted  []int
}

func newRig(t *testing.T, capacity int) *rig {
	r := &rig{t: t, h: &history{}, v: New(nil), capacity: capacity}
	r.h.policy(allow("*", "a"), 0)
	r.h.verified(certA, 0)
	r.h.attached(pump, certA, 0)
	r.v.Apply(r.h.records)
	r.setCapacity(capacity)
	r.v.Live(Hooks{Evict: func(s *Session) {
		if !s.Dead() {
			t.Error("told to evict a session that can still be used")
		}
		r.evicted = append(r.evicted, r.numberOf(s))
	}})
	return r
}

func (r *rig) numberOf(s *Session) int {
	for n := range 100 {
		if digest(n) == s.Digest {
			return n
		}
	}
	return -1
}

func (r *rig) apply(f func()) {
	n := len(r.h.records)
	f()
	r.v.Apply(r.h.since(n))
}

func (r *rig) setCapacity(n int) {
	if n > 0 {
		r.apply(func() { r.h.config(`{"performance":{"maxActiveAuthTokens":`+strconv.Itoa(n)+`}}`, 1) })
	}
}

func (r *rig) live(n int) bool { return r.v.table.find(digest(n)) != nil }

func (r *rig) use(n int) bool { return publish(r.v, n, "a", 5).Allowed }

func (r *rig) step(step string) {
	word, arg, _ := strings.Cut(step, " ")
	n, _ := strconv.Atoi(arg)
	switch {
	case word == "create":
		r.apply(func() { r.h.opened(pump, certA, n, 2) })
	case word == "use":
		r.use(n)
	case word == "close":
		r.apply(func() { r.h.closed(pump, n, 3) })
	case strings.HasPrefix(word, "capacity="):
		c, err := strconv.Atoi(strings.TrimPrefix(word, "capacity="))
		if err != nil {
			r.t.Fatal(err)
		}
		r.setCapacity(c)
	default:
		r.t.Fatalf("step %q: unknown", step)
	}
}

// TestSessionVectors plays the vectors whose steps are about the table; those whose
// outcome is words are named below.
func TestSessionVectors(t *testing.T) {
	raw, err := os.ReadFile("testdata/api-sessions-metrics.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Sessions []struct {
			Name     string
			Capacity int
			Steps    []string
			Expect   json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	played := 0
	for _, c := range file.Sessions {
		var want struct{ Live, Gone []int }
		if json.Unmarshal(c.Expect, &want) != nil || len(want.Live) == 0 {
			continue
		}
		played++
		t.Run(c.Name, func(t *testing.T) {
			r := newRig(t, c.Capacity)
			for _, s := range c.Steps {
				r.step(s)
			}
			for _, n := range want.Live {
				if !r.live(n) {
					t.Errorf("session %d is gone", n)
				}
			}
			for _, n := range want.Gone {
				if r.live(n) || !slices.Contains(r.evicted, n) {
					t.Errorf("session %d is live: %v, evicted %v", n, r.live(n), r.evicted)
				}
			}
			if r.v.table.count() != len(want.Live) {
				t.Errorf("%d are live, want %d", r.v.table.count(), len(want.Live))
			}
		})
	}
	if played < 3 {
		t.Errorf("%d vectors were played: the file has changed, mend this test", played)
	}
}

// TestSessionVectorsInWords: the vectors whose outcome is words; "restart", "trust lapses
// after create" and "certificate revoked after create" differ on purpose (vectors/README).
func TestSessionVectorsInWords(t *testing.T) {
	t.Run("two creates give different ids; same credentials twice", func(t *testing.T) {
		r := newRig(t, 0)
		r.step("create 1")
		r.step("create 2")
		if !r.use(1) || !r.use(2) {
			t.Error("the same device's two sessions are not both live")
		}
	})
	t.Run("close; close unknown", func(t *testing.T) {
		r := newRig(t, 0)
		r.step("create 1")
		r.step("close 1")
		r.step("close 77")
		if r.use(1) {
			t.Error("a closed session is allowed")
		}
	})
	t.Run("restart: the token goes on", func(t *testing.T) {
		r := newRig(t, 0)
		r.step("create 1")
		if v := folded(r.h); !publish(v, 1, "a", 5).Allowed {
			t.Error("the token died with the process")
		}
	})
}

// TestCapacityAfterRestart: sessions beyond the limit go when the replay ends, those
// opened first before the others: nobody knows their use.
func TestCapacityAfterRestart(t *testing.T) {
	r := newRig(t, 0)
	for n := 1; n <= 5; n++ {
		r.step("create " + strconv.Itoa(n))
	}
	r.use(1)
	r.setCapacity(2)
	if r.v.table.count() != 5 {
		t.Errorf("%d are live: lowering the limit purges nothing", r.v.table.count())
	}
	v := New(nil)
	v.Apply(r.h.records)
	var gone []int
	v.Live(Hooks{Evict: func(s *Session) { gone = append(gone, r.numberOf(s)) }})
	if !slices.Equal(gone, []int{1, 2, 3}) {
		t.Errorf("evicted %v, want 1, 2, 3", gone)
	}
}

// TestRefusedUseIsNoUse: who is refused does not keep a session young.
func TestRefusedUseIsNoUse(t *testing.T) {
	r := newRig(t, 2)
	r.step("create 1")
	r.step("create 2")
	r.v.Authorize("b2", token(1), []byte("mqtt:publish"), []byte("mqtt:topic:a"), minute(), t0+5)
	r.v.Authorize(broker, token(1), []byte("mqtt:publish"), []byte("mqtt:topic:a"), minute(), t0+duration)
	r.step("create 3")
	if r.live(1) || !r.live(2) {
		t.Errorf("evicted %v, want 1", r.evicted)
	}
}

// TestDevice: what people are shown is what the log says.
func TestDevice(t *testing.T) {
	h := connected()
	h.attached(pump, certB, 3)
	h.opened(pump, certA, 2, 4)
	v := folded(h)
	d, ok := v.Device(pump)
	if !ok || len(d.Sessions) != 2 || d.Sessions[0].Digest != digest(1) || len(d.Attachments) != 2 || d.Attachments[0].Certificate != certB ||
		!d.Attachments[1].Trust.Verified || !slices.Equal(d.Groups, []string{"g"}) || d.Quarantined != "" {
		t.Errorf("shown %+v", d)
	}
	if _, ok := v.Device(valve); ok || v.Known(valve) || !v.Known(pump) {
		t.Error("a device nobody knows is shown, or the other way round")
	}
	v.Quarantine(messages.DeviceStream(pump))
	if d, _ := v.Device(pump); d.Quarantined == "" || len(d.Sessions) != 0 {
		t.Errorf("unreadable, yet shown as %+v", d)
	}
	if c := v.Counts(); c.Things != 1 || c.Certificates != 2 || c.Sessions != 0 {
		t.Errorf("counts %+v", c)
	}
	if !slices.Equal(v.Holders(certA), []messages.ThingName{pump}) {
		t.Errorf("holders %v", v.Holders(certA))
	}
}
