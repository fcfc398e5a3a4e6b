package projections

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-edge/gatehouse/actors/device"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// twoGroups lets pumps publish to a, and pending pumps to b.
const twoGroups = `{"definitions":{
	"g":{"selectionRule":"thingName: *","policyName":"p"},
	"pending":{"selectionRule":"thingName: pump-*","policyName":"q"}},
	"policies":{"p":{"s":{"operations":["mqtt:publish"],"resources":["mqtt:topic:a"]}},
	"q":{"s":{"operations":["mqtt:publish"],"resources":["mqtt:topic:b"]}}}}`

// waiting is a history of a pump that is pending, with session 1.
func waiting() *history {
	h := &history{}
	h.policy(twoGroups, 0)
	h.pending(pump, certA, 1)
	h.pendingOpened(pump, certA, 1, 1)
	return h
}

// may lists the topics that session n may publish to.
func may(v *Views, n int, trust messages.Trust, ms int64) string {
	var list []string
	for _, topic := range []string{"a", "b", "c"} {
		if v.Authorize(broker, token(n), []byte("mqtt:publish"), []byte("mqtt:topic:"+topic), trust, t0+ms).Allowed {
			list = append(list, topic)
		}
	}
	return strings.Join(list, " ")
}

func TestPendingSession(t *testing.T) {
	stream := messages.DeviceStream(pump)
	for _, c := range []struct {
		name  string
		given func(h *history)
		trust func(*messages.Trust)
		ms    int64
		want  string // what session 1 may
	}{
		{"in its group alone", nil, nil, 5, "b"},
		{"until its time is up", nil, nil, duration, "b"},
		{"its time is up", nil, nil, duration + 1, ""},
		{"closeOnRevoke is off, and its time is up", parity, nil, duration + 1, ""},
		{"certificate or authority has ended", nil, func(r *messages.Trust) { r.DurationMs = 2 * expiry }, expiry + 1, ""},
		{"nobody knows the time", nil, func(r *messages.Trust) { r.Doubted = true }, 5, ""},
		{"nothing from then counts", nil, func(r *messages.Trust) { r.SinceMs = t0 + 2 }, 5, ""},
		{"the clock was wrong then", func(h *history) {
			h.add(messages.StreamClock, 3, &messages.ClockReanchored{FormerTrustMs: t0 + 9, AuthenticatedMs: t0 + 3, VoidAfterMs: t0})
		}, nil, 5, ""},
		{"withdrawn", func(h *history) { h.add(stream, 2, &messages.PendingWithdrawn{CertificateId: string(certA)}) }, nil, 5, ""},
		{"forgotten", func(h *history) { h.add(stream, 2, &messages.DeviceForgotten{}) }, nil, 5, ""},
		{"quarantined", func(h *history) { h.add(stream, 2, &messages.DeviceQuarantined{Reason: "odd"}) }, nil, 5, ""},
		{"its certificate is refused", func(h *history) { h.verified(certA, 2); h.refused(certA, 3) }, nil, 5, ""},
		{"its certificate is refused, closeOnRevoke off", func(h *history) { parity(h); h.verified(certA, 2); h.refused(certA, 3) }, nil, 5, ""},
		{"its certificate is vouched for: it gets no more rights", func(h *history) { h.verified(certA, 2) }, nil, 5, "b"},
		{"attached: nor then, and the session is over", func(h *history) { h.verified(certA, 2); h.attached(pump, certA, 3) }, nil, 5, ""},
		{"another certificate is attached", func(h *history) { h.verified(certB, 2); h.attached(pump, certB, 3) }, nil, 5, ""},
		{"accepted: it waits for the cloud's word", func(h *history) {
			h.add(stream, 2, &messages.DeviceRegistered{CertificateId: string(certA), Outcome: messages.RegistrationOutcome_REGISTRATION_ACCEPTED})
		}, nil, 5, "b"},
		{"another policy", func(h *history) { h.policy(strings.ReplaceAll(twoGroups, "topic:b", "topic:c"), 2) }, nil, 5, "c"},
		{"its group is gone", func(h *history) { h.policy(allow("*", "a", "b", "c"), 2) }, nil, 5, ""},
		{"its group does not pick it", func(h *history) { h.policy(strings.ReplaceAll(twoGroups, "pump-*", "valve-*"), 2) }, nil, 5, ""},
		{"its records cannot be read", func(h *history) {
			r := h.add(stream, 2, &messages.AccessDenied{})
			h.records[r.Seq-1].Kind, h.records[r.Seq-1].Body = messages.KindPendingWithdrawn, []byte{0xff}
		}, nil, 5, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := waiting()
			if c.given != nil {
				c.given(h)
			}
			trust := minute()
			if c.trust != nil {
				c.trust(&trust)
			}
			v := folded(h)
			if got := may(v, 1, trust, c.ms); got != c.want {
				t.Errorf("it may publish to %q, want %q", got, c.want)
			}
			if s := v.table.find(digest(1)); s != nil {
				if ends := v.TrustEndsMs(s, trust); (ends > t0+c.ms) != (v.trusted(s, trust, t0+c.ms)) {
					t.Errorf("trust ends at %d, now is %d, and it is trusted: %t", ends-t0, c.ms, v.trusted(s, trust, t0+c.ms))
				}
			}
		})
	}
}

// TestOrphanedPendingSession: a session without an admission may do nothing.
func TestOrphanedPendingSession(t *testing.T) {
	h := waiting()
	h.pendingOpened(pump, certB, 2, 3)
	h.pendingOpened(valve, certA, 3, 3)
	h.add(messages.DeviceStream(pump), 4, &messages.PendingWithdrawn{CertificateId: string(certA)})
	h.pendingOpened(pump, certA, 4, 5)
	v := folded(h)
	for n := range 5 {
		if got := may(v, n, minute(), 6); got != "" {
			t.Errorf("session %d may publish to %q", n, got)
		}
	}
	if got := spellDue(due(v, 6, 8)); got != "[close pump-7 CLOSE_PENDING_ENDED close valve-1 CLOSE_PENDING_ENDED]" &&
		got != "[close valve-1 CLOSE_PENDING_ENDED close pump-7 CLOSE_PENDING_ENDED]" {
		t.Errorf("due %s", got)
	}
}

func TestPendingSeenByOthers(t *testing.T) {
	h := waiting()
	v := folded(h)
	if held := v.Held(); len(held.Things)+len(held.Certificates) != 0 { // or a refresh would forget it
		t.Errorf("held: %+v", held)
	}
	if got := spellDue(due(v, duration/2+1, 8)); got != "[]" {
		t.Errorf("due before its end: %s", got)
	}
	if got := spellDue(due(v, duration+1, 8)); got != "[close pump-7 CLOSE_PENDING_ENDED]" {
		t.Errorf("due at its end: %s", got)
	}
	if v.CertificateKnown(certA) || !v.IsPending(pump, certA) || v.IsPending(pump, certB) || v.Quarantined(pump) {
		t.Error("known as another than it is")
	}
	r := v.TrustDue(TrustQuery{Trust: minute(), NowMs: t0 + 5, Limit: 5})
	if r.Things != 1 || r.Trusted != 0 || r.Pending != 1 || r.Hour != 0 || len(r.Due) != 1 || !r.Due[0].Pending || r.Due[0].EndMs != t0+1+duration {
		t.Errorf("trust due: %+v", r)
	}
	d, ok := v.Device(pump)
	if !ok || d.Pending == nil || d.Pending.Rule != "fleet" || d.Pending.Sessions != 1 || d.Pending.AdmittedMs != t0+1 || fmt.Sprint(d.Groups) != "[pending]" {
		t.Errorf("device: %+v, %+v", d, d.Pending)
	}
	if got := v.PendingDevices(); len(got) != 1 || got[0].Thing != pump || string(got[0].DER) != "der" || v.Counts().Pending != 1 {
		t.Errorf("pending: %+v", got)
	}
	for ms, want := range map[int64]int{1: 1, hourMs: 1, hourMs + 1: 0} {
		if held, hour, _ := v.PendingCount(t0+ms, nil); held != 1 || hour != want {
			t.Errorf("after %d ms: %d held, %d in the last hour, want %d", ms, held, hour, want)
		}
	}
	there, coming := &messages.AdmitPending{Thing: pump, Certificate: certA}, &messages.AdmitPending{Thing: pump, Certificate: certB}
	if held, hour, n := v.PendingCount(t0+1, map[*messages.AdmitPending]struct{}{there: {}, coming: {}}); held != 1 || hour != 1 || n != 1 {
		t.Errorf("%d held, %d in the last hour, %d to come; want each once", held, hour, n)
	}
}

// TestAdmissionsOfAWrongClockCountForAnHour: not until the clock gets to their stamps.
func TestAdmissionsOfAWrongClockCountForAnHour(t *testing.T) {
	h := &history{}
	h.pending(pump, certA, 10*hourMs)
	h.add(messages.StreamClock, 5, &messages.ClockReanchored{FormerTrustMs: t0 + 10*hourMs, AuthenticatedMs: t0 + 5, VoidAfterMs: t0})
	v := folded(h)
	for ms, want := range map[int64]int{6: 1, hourMs + 4: 1, hourMs + 5: 0} {
		if _, hour, _ := v.PendingCount(t0+ms, nil); hour != want {
			t.Errorf("after %d ms %d in the last hour, want %d", ms, hour, want)
		}
	}
}

// TestPendingUnderTwoPolicies: until a new policy is durable only what both allow is allowed.
func TestPendingUnderTwoPolicies(t *testing.T) {
	h := waiting()
	v := folded(h)
	rec := h.policy(strings.ReplaceAll(twoGroups, "topic:b", "topic:c"), 2)
	e, err := messages.DecodeEvent(&rec)
	if err != nil {
		t.Fatal(err)
	}
	v.Restrict(rec.Stream, e, rec.At)
	if got := may(v, 1, minute(), 5); got != "" {
		t.Errorf("between two policies it may publish to %q", got)
	}
	v.Apply([]messages.Record{rec})
	if got := may(v, 1, minute(), 5); got != "c" {
		t.Errorf("it may publish to %q", got)
	}
}

// TestPredictPendingIsWhatIsDecided: of a pending device, too, the outlook says what the
// deciders then do.
func TestPredictPendingIsWhatIsDecided(t *testing.T) {
	allowed, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		w := &twin{views: New(nil)}
		w.views.Live(Hooks{})
		connect := `{"definitions":{"g":{"selectionRule":"thingName: *","policyName":"p"},"pending":{"selectionRule":"thingName: %s","policyName":"p"}},"policies":{"p":{"s":{"operations":["mqtt:connect"],"resources":["*"]}}}}`
		w.fold(w.policy(fmt.Sprintf(connect, rapid.SampledFrom([]string{"pump-*", "pump-*", "valve-*"}).Draw(t, "group")), 0))
		w.fold(w.history.pending(pump, certA, 1))
		for range rapid.IntRange(0, 4).Draw(t, "steps") {
			w.step(t)
		}
		trust := messages.Trust{
			DurationMs: rapid.SampledFrom([]int64{duration, 3 * duration, 100 * duration}).Draw(t, "duration"),
			SinceMs:    max(w.views.VoidedMs(), rapid.SampledFrom([]int64{0, 0, t0 + w.ms/2}).Draw(t, "uncertain")),
			Doubted:    rapid.IntRange(0, 5).Draw(t, "doubted") == 0,
		}
		now := t0 + w.ms + rapid.SampledFrom([]int64{0, 1, duration - 1, duration, duration + 1, expiry - w.ms, expiry - w.ms + 1}).Draw(t, "later")
		known, _ := w.views.Device(pump)
		if known.Pending == nil {
			return
		}
		full, _ := w.views.ConnectAllowed(pump)
		alone, _ := w.views.PendingConnectAllowed(pump)
		o := PredictPending(*known.Pending, Circumstances{
			Trust: trust, NowMs: now, Quarantined: known.Quarantined, ConnectAllowed: full, PendingAllowed: alone, CertificateKnown: w.views.CertificateKnown(certA),
		})
		admits := func(up bool, nowMs int64) bool {
			f := w.facts(up, trust)
			f.ConnectAllowed, f.CertificateKnown = alone, w.views.CertificateKnown(certA)
			f.Voided = w.views.Voided(messages.DeviceStream(pump), certA)
			d, err := device.DecideDevice(pump, w.dev, f, messages.Input{At: messages.Instant{TrustMs: nowMs}, Command: messages.AdmitPending{
				Thing: pump, Certificate: certA, NotBeforeMs: t0 - 1000, NotAfterMs: t0 + expiry,
			}})
			if err != nil {
				t.Fatal(err)
			}
			s, ok := d.Reply.(messages.SessionReady)
			return ok && s.Pending
		}
		if got := admits(false, now); got != o.Offline.Allowed {
			t.Fatalf("offline: decided %t, predicted %+v of %+v", got, o.Offline, known.Pending)
		}
		if admits(true, now) {
			t.Fatal("admitted with the cloud in reach")
		}
		if o.Online.Reason == "" || o.Offline.Reason == "" {
			t.Fatalf("no reason: %+v", o)
		}
		if !o.Offline.Allowed {
			refused++
			return
		}
		allowed++
		if until := o.Offline.UntilMs; !admits(false, until-1) || admits(false, until) {
			t.Fatalf("it does not end at %d", until-t0)
		}
	})
	if !testing.Short() && (allowed == 0 || refused == 0) { // twenty draws need not have both
		t.Errorf("%d allowed and %d refused: that proves nothing", allowed, refused)
	}
}
