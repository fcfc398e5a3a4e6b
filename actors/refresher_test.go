package actors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

const day = 24 * time.Hour

// listing is a scripted list of associated things.
type listing struct {
	mu      sync.Mutex
	things  []messages.ThingName
	failure messages.CloudFailure // not complete, if set
	hold    chan struct{}         // nil: answers at once
	asked   int
}

func (l *listing) set(things ...messages.ThingName) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.things = slices.Sorted(slices.Values(things))
}

func (l *listing) List(ctx context.Context, progress func(things, pages int)) messages.AssociationList {
	l.mu.Lock()
	l.asked++
	list, hold := messages.AssociationList{Complete: l.failure == 0, Things: l.things, Failure: l.failure, Detail: "scripted"}, l.hold
	l.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
		}
	}
	progress(len(list.Things), 1)
	return list
}

func (l *listing) calls() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked
}

// refreshing adds a refresher to a rig.
func refreshing(r *rig, l *listing) *Refresher {
	ref := NewRefresher(r.sys, l, r.views, r.clock, nil)
	r.t.Cleanup(ref.Close) // before the system's
	ref.Start()
	r.until("the next refresh is planned", func() bool { return ref.Status().DueMs != 0 })
	return ref
}

// refreshes lists what the log says of refreshes.
func (r *rig) refreshes() string {
	r.t.Helper()
	var l []string
	for rec, err := range r.log.Memory.Read(context.Background(), messages.StreamSync, 1) {
		if err != nil {
			r.t.Fatal(err)
		}
		event, err := messages.DecodeEvent(&rec)
		if err != nil {
			r.t.Fatal(err)
		}
		switch e := event.(type) {
		case *messages.RefreshCompleted:
			l = append(l, fmt.Sprintf("completed %d/%d/%d/%d/%d", e.Listed, e.Renewed, e.Denied, e.Unanswered, e.Removed))
		case *messages.AssociationChanged:
			l = append(l, fmt.Sprintf("%s %v", e.Thing, e.Associated))
		case *messages.NetworkChanged:
		default:
			l = append(l, strings.ToLower(strings.TrimPrefix(e.Kind().String(), "Refresh")))
		}
	}
	return strings.Join(l, ", ")
}

func (r *rig) untilRefreshes(want string) {
	r.t.Helper()
	r.untilRefreshesNow(want)
	r.atRest()
}

func (r *rig) untilRefreshesNow(want string) {
	r.t.Helper()
	defer func() {
		if r.t.Failed() {
			r.t.Logf("the log says: %s", r.refreshes())
		}
	}()
	r.until(want, func() bool { return r.refreshes() == want })
}

func (r *rig) trustFor(d time.Duration) { r.views.SetTrustDurationMs(d.Milliseconds()) }

// TestRefreshRenewsAndRemoves: a day after the start all trust of associated things is
// renewed, and what belongs to no associated thing goes.
func TestRefreshRenewsAndRemoves(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.trustFor(10 * day)
	l := &listing{}
	refreshing(r, l)
	one, token := r.join(pump)
	_, other := r.join(valve)
	l.set(pump, "never seen here")
	r.clock.Advance(day - time.Millisecond)
	r.atRest()
	if got := r.refreshes(); got != "planned" || l.calls() != 0 {
		t.Fatalf("early: %s, %d listings", got, l.calls())
	}
	r.clock.Advance(time.Millisecond)
	r.untilRefreshes("planned, started, pump-7 true, completed 2/2/0/0/2")
	dueMs := noon.Add(day).UnixMilli()
	if got := r.views.CertificateTrust(one.id).VerifiedMs; got != dueMs {
		t.Errorf("the certificate was confirmed at %d, want %d: in a refresh every yes counts", got, dueMs)
	}
	if d, _ := r.views.Device(pump); len(d.Attachments) != 1 || d.Attachments[0].ConfirmedMs != dueMs {
		t.Errorf("the attachment was confirmed at %+v", d.Attachments)
	}
	if things := r.views.Things(); !slices.Equal(things, []messages.ThingName{pump}) {
		t.Errorf("held: %v", things)
	}
	if !r.allowed(token) || r.allowed(other) {
		t.Errorf("allowed: %v, and who is not associated: %v", r.allowed(token), r.allowed(other))
	}
	if n := l.calls(); n != 2 {
		t.Errorf("%d listings, want a second before anything is removed", n)
	}
	if why := r.heard(); why != "CLOSE_FORGOTTEN" {
		t.Errorf("brokers heard %s", why)
	}
	r.clock.Advance(day)
	r.untilRefreshes("planned, started, pump-7 true, completed 2/2/0/0/2, started, completed 2/2/0/0/0")
}

// TestRefreshLeavesNamesAlone: a quarantine, or an attachment that the cloud took back,
// is no trust: there is nothing to remove, and nothing for the guard to count.
func TestRefreshLeavesNamesAlone(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.trustFor(10 * day)
	l := &listing{}
	refreshing(r, l)
	r.join(pump)
	c, _ := r.join(valve)
	r.cloud.Detach(valve, c.id)
	r.do(messages.RecheckAttachment{Thing: valve, Certificate: c.id})
	r.do(messages.QuarantineDevice{Thing: "stolen", Reason: "test"})
	l.set(pump)
	r.clock.Advance(day)
	r.untilRefreshes("planned, started, pump-7 true, completed 1/2/0/0/1") // valve's certificate
	r.clock.Advance(day)
	r.untilRefreshes("planned, started, pump-7 true, completed 1/2/0/0/1, started, completed 1/2/0/0/0")
	if l.calls() != 2 {
		t.Errorf("%d listings, want one each: nobody is to be removed", l.calls())
	}
}

// TestRefreshWaitsForTheNetwork: due while the cloud is away it stays due, and runs when
// it is back; a restart does not postpone it.
func TestRefreshWaitsForTheNetwork(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.trustFor(10 * day)
	l := &listing{}
	first := refreshing(r, l)
	r.join(pump)
	l.set(pump)
	r.sys.SetNetwork(false)
	first.Close()
	r.restart()
	r.trustFor(10 * day)
	r.sys.SetNetwork(false)
	refreshing(r, l)
	r.clock.Advance(day + time.Hour)
	r.atRest()
	if got := r.refreshes(); got != "planned" {
		t.Fatalf("while away: %s", got)
	}
	r.until("nobody looks at the clock meanwhile", func() bool { return r.clock.Timers() == 0 })
	r.sys.SetNetwork(true)
	r.untilRefreshes("planned, started, pump-7 true, completed 1/2/0/0/0")
}

// TestRefreshIsCareful: listings that fail, or would remove everything, remove nothing.
func TestRefreshIsCareful(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.trustFor(10 * day)
	l := &listing{failure: messages.FailureRefused}
	refreshing(r, l)
	r.join(pump)
	r.clock.Advance(day)
	r.untilRefreshes("planned, started, failed")
	l.mu.Lock()
	l.failure = 0
	l.mu.Unlock()
	r.clock.Advance(day) // an empty listing now
	r.untilRefreshes("planned, started, failed, started, planned")
	if len(r.views.Things()) != 1 {
		t.Fatal("one empty listing removed a thing")
	}
	r.clock.Advance(5*time.Minute - time.Millisecond)
	r.atRest()
	if l.calls() != 2 {
		t.Fatalf("%d listings, want the confirming one five minutes after the first", l.calls())
	}
	l.set(pump)
	r.clock.Advance(time.Millisecond)
	r.untilRefreshes("planned, started, failed, started, planned, pump-7 true, completed 1/2/0/0/0")
	l.set()
	r.clock.Advance(day)
	r.until("it is in doubt", func() bool { return strings.HasSuffix(r.refreshes(), "started, planned") })
	r.clock.Advance(5 * time.Minute)
	r.until("a second empty listing is believed", func() bool { return len(r.views.Things()) == 0 })
	r.until("it ends", func() bool { return strings.HasSuffix(r.refreshes(), "pump-7 false, completed 0/0/0/0/2") })
}

// TestRefreshOutlivesTheProcess: broken off, it is begun again by the next start, which
// does not ask about what was renewed already.
func TestRefreshOutlivesTheProcess(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.trustFor(10 * day)
	l := &listing{}
	first := refreshing(r, l)
	r.join(pump)
	r.join(valve)
	l.set(pump, valve)
	r.cloud.Hold()
	asked := len(r.cloud.Asked())
	r.clock.Advance(day)
	r.untilRefreshesNow("planned, started, pump-7 true, valve-1 true")
	r.until("the questions are out", func() bool { return len(r.cloud.Asked()) == asked+4 })
	r.clock.Advance(time.Second)
	r.cloud.ReleaseAt(0)
	r.until("one answer is in the log", func() bool {
		n := 0
		for _, c := range r.views.Held().Certificates {
			if c.ConfirmedMs > noon.Add(day).UnixMilli() {
				n++
			}
		}
		for _, thing := range r.views.Held().Things {
			if thing.Attachments[0].ConfirmedMs > noon.Add(day).UnixMilli() {
				n++
			}
		}
		return n == 1
	})
	first.Close()
	r.cloud.SetSilent(true)
	cloud := r.cloud
	r.restart()
	r.trustFor(10 * day)
	cloud.SetSilent(false)
	cloud.Release()
	asked = len(cloud.Asked())
	refreshing(r, l)
	r.until("it completes", func() bool { return strings.HasSuffix(r.refreshes(), "failed, started, completed 2/3/0/0/0") })
	if n := len(cloud.Asked()) - asked; n != 3 {
		t.Errorf("%d questions, want 3: one was answered before", n)
	}
}

// TestRefreshOutlivesAFullDisk: what the log does not take at first is not lost, whichever
// step of a refresh it is.
func TestRefreshOutlivesAFullDisk(t *testing.T) {
	refused := func(r *rig, kind messages.Kind) {
		r.t.Helper()
		r.batchWith(kind)
		r.atRest()
		r.log.Refuse(nil)
		r.clock.Advance(refreshTickMax)
	}
	t.Run("the outcome", func(t *testing.T) {
		r := newRig(t)
		l := &listing{hold: make(chan struct{})}
		refreshing(r, l)
		r.clock.Advance(day)
		r.until("it lists", func() bool { return l.calls() == 1 })
		r.log.Refuse(eventlog.ErrFull)
		close(l.hold)
		refused(r, messages.KindRefreshCompleted)
		r.untilRefreshes("planned, started, completed 0/0/0/0/0")
		r.clock.Advance(day)
		r.untilRefreshes("planned, started, completed 0/0/0/0/0, started, completed 0/0/0/0/0")
	})
	t.Run("what a listing means", func(t *testing.T) {
		r := newRig(t)
		r.policy()
		r.trustFor(10 * day)
		l := &listing{hold: make(chan struct{})}
		refreshing(r, l)
		r.join(pump)
		r.clock.Advance(day)
		r.until("it lists", func() bool { return l.calls() == 1 })
		r.log.Refuse(eventlog.ErrFull)
		close(l.hold) // nothing is listed: a second listing is to be planned
		r.until("that is refused", func() bool {
			last := r.log.Batches()[len(r.log.Batches())-1].Drafts
			return last[0].Kind == messages.KindRefreshPlanned
		})
		l.set(pump)
		refused(r, messages.KindRefreshPlanned)
		r.untilRefreshes("planned, started, failed, started, pump-7 true, completed 1/2/0/0/0")
	})
	t.Run("that the process ended", func(t *testing.T) {
		r := newRig(t)
		l := &listing{hold: make(chan struct{})}
		first := refreshing(r, l)
		r.clock.Advance(day)
		r.until("it lists", func() bool { return l.calls() == 1 })
		first.Close()
		r.restart()
		r.log.Refuse(eventlog.ErrFull)
		ref := NewRefresher(r.sys, &listing{}, r.views, r.clock, nil)
		t.Cleanup(ref.Close)
		ref.Start()
		refused(r, messages.KindRefreshFailed)
		r.untilRefreshes("planned, started, failed, started, completed 0/0/0/0/0")
	})
}

// TestRefreshEndsOnAFullDisk: an answer that the log does not take is asked for again a few
// times, behind the others, not for ever; what takes trust away is in the log.
func TestRefreshEndsOnAFullDisk(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.trustFor(10 * day)
	l := &listing{}
	ref := refreshing(r, l)
	r.join(pump)
	c, _ := r.join(valve)
	l.set(pump, valve)
	r.cloud.Revoke(c.id)
	r.cloud.Hold()
	asked := len(r.cloud.Asked())
	r.clock.Advance(day)
	r.until("all is asked", func() bool { return r.cloud.Waiting() == 4 })
	r.untilRefreshesNow("planned, started, pump-7 true, valve-1 true")
	r.log.Refuse(eventlog.ErrFull)
	r.cloud.Release()
	for range 3 * refreshAttempts { // whoever is refused first in a round has the others wait for the next
		r.until("the refused wait for another turn", func() bool {
			ref.mu.Lock()
			defer ref.mu.Unlock()
			return ref.sweep == nil || ref.sweep.waiting && ref.sweep.out == 0
		})
		r.clock.Advance(refreshRetryWait)
	}
	r.batchWith(messages.KindRefreshCompleted)
	r.atRest()
	if n := len(r.cloud.Asked()) - asked; n != 3*refreshAttempts+1 {
		t.Errorf("%d questions, want %d", n, 3*refreshAttempts+1)
	}
	r.log.Refuse(nil)
	r.clock.Advance(refreshTickMax)
	r.untilRefreshes("planned, started, pump-7 true, valve-1 true, completed 2/0/1/3/0")
	if r.views.CertificateTrust(c.id).Verified {
		t.Error("the revoked certificate is held")
	}
}

// TestRefreshGetsNoAnswer: silence is tried again and then left; what was trusted stays
// as it was, the denied go.
func TestRefreshGetsNoAnswer(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.trustFor(time.Minute)
	l := &listing{}
	refreshing(r, l)
	one, _ := r.join(pump)
	r.join(valve)
	l.set(pump, valve)
	r.cloud.SetSilent(true)
	asked := len(r.cloud.Asked())
	r.clock.Advance(day)
	r.until("it ends", func() bool { return strings.HasSuffix(r.refreshes(), "completed 2/0/0/4/0") })
	if n := len(r.cloud.Asked()) - asked; n != 4*refreshAttempts {
		t.Errorf("%d questions, want %d", n, 4*refreshAttempts)
	}
	if !r.views.CertificateTrust(one.id).Verified {
		t.Error("silence in a refresh took a lapsed certificate away")
	}
	r.cloud.SetSilent(false)
	r.cloud.Revoke(one.id)
	r.cloud.Detach(valve, certificate(t, string(valve)).id)
	r.clock.Advance(day)
	r.until("it ends", func() bool { return strings.HasSuffix(r.refreshes(), "completed 2/2/2/0/0") })
	if r.views.CertificateTrust(one.id).Verified {
		t.Error("a revoked certificate is held")
	}
}

// TestRefreshGivesWay: a queue without room is no answer, and neither is a question that
// was not put: the refresh waits, and loses none of its turns.
func TestRefreshGivesWay(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.trustFor(10 * day)
	l := &listing{}
	ref := refreshing(r, l)
	r.join(pump)
	l.set(pump)
	pauses := func() bool {
		ref.mu.Lock()
		defer ref.mu.Unlock()
		return ref.sweep != nil && ref.sweep.waiting && ref.sweep.out == 0
	}
	r.cloud.SetBusy(true)
	r.clock.Advance(day)
	for range 2 * refreshAttempts {
		r.until("it pauses", pauses)
		r.clock.Advance(time.Second)
	}
	r.until("it pauses", pauses)
	r.cloud.SetBusy(false)
	r.cloud.SetFailure(messages.FailureNotAsked)
	for range 2 * refreshAttempts {
		r.clock.Advance(time.Second)
		r.until("it pauses", pauses)
	}
	r.cloud.SetFailure(messages.FailureNone)
	r.clock.Advance(time.Second)
	r.until("it ends", func() bool { return strings.HasSuffix(r.refreshes(), "completed 1/2/0/0/0") })
}

// TestRefreshPausesWhileAway: questions wait for the network, not for nothing.
func TestRefreshPausesWhileAway(t *testing.T) {
	r := newRig(t)
	r.policy()
	r.trustFor(10 * day)
	l := &listing{hold: make(chan struct{})}
	ref := refreshing(r, l)
	r.join(pump)
	l.set(pump)
	r.clock.Advance(day)
	r.until("it lists", func() bool { return l.calls() == 1 })
	if s := ref.Status(); s.Phase != "listing" {
		t.Errorf("the status is %+v", s)
	}
	r.sys.SetNetwork(false)
	asked := len(r.cloud.Asked())
	close(l.hold)
	r.until("it would ask", func() bool { s := ref.Status(); return s.Phase == "asking" && s.Total == 2 })
	r.atRest()
	if n := len(r.cloud.Asked()) - asked; n != 0 {
		t.Errorf("%d questions while away", n)
	}
	r.sys.SetNetwork(true)
	r.until("it ends", func() bool { return strings.HasSuffix(r.refreshes(), "completed 1/2/0/0/0") })
	r.until("the status says so", func() bool { s := ref.Status(); return s.Phase == "" && s.Done == 2 && s.Renewed == 2 })
}

// TestRefreshByHand: at once, whether due or not, and one at a time.
func TestRefreshByHand(t *testing.T) {
	r := newRig(t)
	r.policy()
	l := &listing{hold: make(chan struct{})}
	ref := refreshing(r, l)
	for _, want := range []messages.RefreshOutcome{messages.RefreshBegun, messages.RefreshUnderWay} {
		answer, err := ref.Run(t.Context())
		if err != nil || answer.Outcome != want {
			t.Errorf("the answer is %+v, %v, want %v", answer, err, want)
		}
	}
	close(l.hold)
	r.untilRefreshes("planned, started, completed 0/0/0/0/0")
}
