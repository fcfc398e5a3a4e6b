package projections

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// fleet is a history of n devices, each with a certificate of its own, device i confirmed
// i minutes after t0.
func fleet(n int) *history {
	h := &history{}
	for i := range n {
		thing := messages.ThingName(fmt.Sprintf("pump-%04d", i))
		id := messages.CertificateIDOf([]byte(thing))
		ms := int64(i) * minuteMs
		h.add(messages.CertificateStream(id), ms, &messages.CertificateVerified{NotBeforeMs: t0 - 1000, NotAfterMs: t0 + 365*dayMs})
		h.attached(thing, id, ms)
	}
	return h
}

func TestTrustDue(t *testing.T) {
	const n = 200
	h := fleet(n)
	h.add(messages.DeviceStream("pump-0150"), 0, &messages.DeviceQuarantined{Reason: "stolen"})
	last := messages.CertificateIDOf([]byte("pump-0199"))
	h.opened("pump-0199", last, 1, 199*minuteMs)
	h.attached("second", last, 3*minuteMs) // the older confirmation counts
	v := folded(h)
	now := t0 + 200*minuteMs
	q := TrustQuery{Trust: messages.Trust{DurationMs: 2 * hourMs}, NowMs: now, Limit: 30}
	r := v.TrustDue(q)
	// Who was confirmed within the last two hours, strictly: pump-0081 to pump-0199.
	if r.Things != n+1 || r.Trusted != 119 || r.Hour != 60 || r.Day != 119 || r.Week != 119 || !r.More || len(r.Due) != 30 {
		t.Fatalf("report %+v", r)
	}
	if first := r.Due[0]; first.Thing != "pump-0081" || first.EndMs != now+minuteMs || first.SinceMs != now-119*minuteMs {
		t.Errorf("first %+v", first)
	}
	if r.OldestMs != 119*minuteMs || r.MedianMs != 60*minuteMs || r.SumMs != 119*120/2*minuteMs {
		t.Errorf("oldest %d, median %d, sum %d", r.OldestMs, r.MedianMs, r.SumMs)
	}
	if want := [...]int{1, 5, 15, 60, 119, 119, 119, 119, 119, 119, 119}; r.Ages != want {
		t.Errorf("ages %v, want %v", r.Ages, want)
	}
	// Pages hold all, once, in order.
	var all []TrustLine
	for {
		all = append(all, r.Due...)
		if !r.More {
			break
		}
		end := r.Due[len(r.Due)-1]
		q.AfterMs, q.After = end.EndMs, end.Thing
		r = v.TrustDue(q)
	}
	whole := v.TrustDue(TrustQuery{Trust: q.Trust, NowMs: now, Limit: 1000})
	if len(all) != 119 || !reflect.DeepEqual(all, whole.Due) || whole.More || !slices.IsSortedFunc(all, compareLines) {
		t.Errorf("%d lines on pages, %d at once", len(all), len(whole.Due))
	}
	if !all[150-81].Quarantined || all[118].Sessions != 1 {
		t.Errorf("lines %+v, %+v", all[150-81], all[118])
	}
	if r := v.TrustDue(TrustQuery{Trust: q.Trust, NowMs: now, WithinMs: 5 * minuteMs, Limit: 1000}); len(r.Due) != 5 || r.More {
		t.Errorf("within five minutes: %+v", r.Due)
	}
	if r := v.TrustDue(TrustQuery{Trust: q.Trust, NowMs: now}); len(r.Due) != 0 || r.Trusted != 119 {
		t.Errorf("without a list: %+v", r)
	}
	if r := New(nil).TrustDue(q); r.Things != 0 || r.MedianMs != 0 {
		t.Errorf("nobody: %+v", r)
	}
}

// TestThingsFollowTheSet: the shared list of names is that of the moment.
func TestThingsFollowTheSet(t *testing.T) {
	h := fleet(3)
	v := folded(h)
	before := v.Things()
	h.add(messages.DeviceStream("pump-0001"), 1, &messages.DeviceForgotten{})
	h.attached("a", certA, 1)
	v.Apply(h.records)
	if got, want := v.Things(), []messages.ThingName{"a", "pump-0000", "pump-0002"}; !slices.Equal(got, want) || len(before) != 3 {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestRefreshOutcome(t *testing.T) {
	h := &history{}
	v := folded(h)
	if r := v.Refresh(); r.Last != nil || r.Began != nil || r.DueMs != 0 {
		t.Errorf("none yet: %+v", r)
	}
	step := func(ms int64, e messages.Event) Refresh {
		h.add(messages.StreamSync, ms, e)
		v.Apply(h.records)
		return v.Refresh()
	}
	if r := step(0, &messages.RefreshPlanned{DueMs: t0 + dayMs, Reason: "first start"}); r.DueMs != t0+dayMs || r.Why != "first start" {
		t.Errorf("planned: %+v", r)
	}
	if r := step(dayMs, &messages.RefreshStarted{DueMs: t0 + dayMs}); r.Began == nil || r.Began.Seq != 2 || r.Last != nil {
		t.Errorf("started: %+v", r)
	}
	if r := step(dayMs+1, &messages.RefreshPlanned{DueMs: t0 + 5, Reason: "in doubt"}); r.DueMs != t0+dayMs || r.Why != "in doubt" || r.Began == nil {
		t.Errorf("in doubt: %+v", r)
	}
	r := step(dayMs+2, &messages.RefreshFailed{Reason: "denied", NextDueMs: t0 + 2*dayMs})
	if r.Began != nil || r.Last.Failed != "denied" || r.Last.Began.TrustMs != t0+dayMs || r.DueMs != t0+2*dayMs || r.GoodMs != 0 || r.Why != "" {
		t.Errorf("failed: %+v, %+v", r, r.Last)
	}
	step(2*dayMs, &messages.RefreshStarted{})
	r = step(2*dayMs+9, &messages.RefreshCompleted{Listed: 1, Renewed: 2, Removed: 3, Denied: 4, Unanswered: 5, NextDueMs: t0 + 3*dayMs})
	if want := (RefreshRun{Seq: 6, Began: messages.Instant{TrustMs: t0 + 2*dayMs}, Ended: messages.Instant{TrustMs: t0 + 2*dayMs + 9},
		Listed: 1, Renewed: 2, Removed: 3, Denied: 4, Unanswered: 5}); *r.Last != want || r.GoodMs != t0+2*dayMs+9 {
		t.Errorf("completed: %+v, want %+v", *r.Last, want)
	}
	if r := step(3*dayMs, &messages.RefreshFailed{Reason: "x"}); r.GoodMs != t0+2*dayMs+9 {
		t.Errorf("the last good one is forgotten: %+v", r)
	}
}

func BenchmarkTrustDue(b *testing.B) {
	v := folded(fleet(100_000))
	b.ReportAllocs()
	for b.Loop() {
		v.TrustDue(TrustQuery{Trust: messages.Trust{DurationMs: 1000 * dayMs}, NowMs: t0 + 365*dayMs, Limit: 100})
	}
}
