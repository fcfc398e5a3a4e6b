package cloudsync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// gate is someone to ask who answers when told to.
type gate struct {
	mu    sync.Mutex
	asked []messages.ThingName
	open  chan messages.CloudAnswer
}

func newGate() *gate { return &gate{open: make(chan messages.CloudAnswer)} }

func (g *gate) ask(ctx context.Context, q messages.CloudQuestion) messages.CloudAnswer {
	g.mu.Lock()
	g.asked = append(g.asked, q.Thing)
	g.mu.Unlock()
	select {
	case a := <-g.open:
		return a
	case <-ctx.Done():
		return messages.CloudAnswer{Failure: messages.FailureNotAsked, Detail: "given up"}
	}
}

func (g *gate) seen() []messages.ThingName {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.asked)
}

func about(i int) messages.CloudQuestion {
	return messages.CloudQuestion{Certificate: ourID, Thing: messages.ThingName(fmt.Sprintf("pump-%d", i))}
}

// box collects answers.
type box struct {
	mu  sync.Mutex
	got []messages.CloudAnswer
}

func (b *box) put(a messages.CloudAnswer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, a)
}

func (b *box) len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got)
}

func newQueue(t *testing.T, g *gate, cfg QueueConfig) *Queue {
	t.Helper()
	cfg.Now = time.Now // the bubble's
	q, err := NewQueue(g.ask, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func isBusy(err error) bool {
	refusal, ok := errors.AsType[*messages.Refusal](err)
	return ok && refusal.Code == messages.RefusedBusy && refusal.RetryAfter > 0
}

// vectors/api-sessions-metrics.json: "third concurrent, queue size 1, one worker".
func TestAFullQueueIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, answers := newGate(), &box{}
		q := newQueue(t, g, QueueConfig{Size: 1, Workers: 1})
		defer q.Close()
		for i, busy := range []bool{false, false, true, true} {
			if err := q.Submit(about(i), answers.put); isBusy(err) != busy || (err != nil) != busy {
				t.Errorf("question %d: %v, want busy %v", i, err, busy)
			}
		}
		g.open <- messages.CloudAnswer{Verdict: messages.CloudConfirmed}
		synctest.Wait()
		if err := q.Submit(about(4), answers.put); err != nil {
			t.Errorf("after one was answered: %v", err)
		}
		close(g.open)
		synctest.Wait()
		if got := answers.len(); got != 3 {
			t.Errorf("%d answers, want one for each that was taken", got)
		}
	})
}

// Reliability spec 2.3, E4: a flood of unknown certificates fills its half of the queue;
// devices that are known are asked about, and first; an honest newcomer
// gets its turn all the same.
func TestStrangersDoNotShutOutWhoIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, answers := newGate(), &box{}
		q := newQueue(t, g, QueueConfig{Size: 20, Workers: 1})
		defer q.Close()
		refused := 0
		for i := range 1000 {
			question := about(1000 + i)
			question.Stranger = true
			if err := q.Submit(question, answers.put); isBusy(err) {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if taken := 1000 - refused; taken != 1+10 { // one is being asked
			t.Errorf("%d strangers' questions were taken, want half of the queue and one", taken)
		}
		for i := range 10 {
			if err := q.Submit(about(i), answers.put); err != nil {
				t.Errorf("question %d about a known device: %v", i, err)
			}
		}
		if err := q.Submit(about(10), answers.put); !isBusy(err) {
			t.Errorf("beyond the size: %v, want busy", err)
		}
		close(g.open)
		synctest.Wait()
		var order strings.Builder
		for _, thing := range g.seen() {
			order.WriteString(map[bool]string{true: "s", false: "k"}[len(thing) > len("pump-99")])
		}
		if got, want := order.String(), "skkkkskkkkskkssssssss"; got != want {
			t.Errorf("asked in the order %s, want %s", got, want)
		}
	})
}

// client-device-auth spec 1.1: "Do: n workers at once", and in order.
func TestWorkersStartAtOnceAndInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, answers := newGate(), &box{}
		q := newQueue(t, g, QueueConfig{Size: 100, Workers: 3})
		defer q.Close()
		for i := range 6 {
			if err := q.Submit(about(i), answers.put); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if got := len(g.seen()); got != 3 {
			t.Errorf("%d asked at once, want 3", got)
		}
		for range 3 {
			g.open <- messages.CloudAnswer{}
			synctest.Wait()
		}
		rest := g.seen()[3:]
		if want := []messages.ThingName{"pump-3", "pump-4", "pump-5"}; !slices.Equal(rest, want) {
			t.Errorf("got %v, want %v", rest, want)
		}
	})
}

func TestWorkersChangeLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, answers := newGate(), &box{}
		q := newQueue(t, g, QueueConfig{})
		defer q.Close()
		asking := func(want int) {
			t.Helper()
			synctest.Wait()
			if got := q.Waiting().Asking; got != want {
				t.Errorf("%d are being asked, want %d", got, want)
			}
		}
		for i := range 20 {
			if err := q.Submit(about(i), answers.put); err != nil {
				t.Fatal(err)
			}
		}
		asking(1)
		q.SetWorkers(4)
		asking(4)
		q.SetWorkers(0)
		q.SetWorkers(-1)
		asking(4)
		q.SetWorkers(2)
		asking(4) // none is broken off
		for range 2 {
			g.open <- messages.CloudAnswer{}
		}
		asking(2)
		close(g.open)
		asking(0)
		if got := answers.len(); got != 20 {
			t.Errorf("%d answers, want 20", got)
		}
	})
}

// client-device-auth spec 5.6: shrinking keeps queued work and refuses new work.
func TestSizeChangesLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, answers := newGate(), &box{}
		q := newQueue(t, g, QueueConfig{})
		defer q.Close()
		n := 0
		fill := func() (taken int) {
			for {
				if err := q.Submit(about(n), answers.put); err != nil {
					if !isBusy(err) {
						t.Fatal(err)
					}
					return taken
				}
				n, taken = n+1, taken+1
			}
		}
		if got := fill(); got != 101 {
			t.Errorf("%d taken by default, want 1 asked and 100 waiting", got)
		}
		q.Resize(0)
		q.Resize(-5)
		if got := fill(); got != 0 {
			t.Errorf("a size of zero or less was not ignored: %d more", got)
		}
		q.Resize(110)
		if got := fill(); got != 10 {
			t.Errorf("%d more after growing by 10", got)
		}
		q.Resize(5)
		for range 105 {
			g.open <- messages.CloudAnswer{}
			synctest.Wait()
			if waiting := q.Waiting().Known; waiting >= 5 {
				if err := q.Submit(about(9999), answers.put); !isBusy(err) {
					t.Fatalf("%d wait, size 5: got %v, want busy", waiting, err)
				}
			}
		}
		if got := answers.len(); got != 105 {
			t.Errorf("%d answers, want all 105 that were told", got)
		}
		q.Resize(6)
		if got := fill(); got != 1 {
			t.Errorf("%d taken into a queue of 6 with 5 waiting", got)
		}
		close(g.open)
	})
}

func TestIdenticalWaitingQuestionsShareOneRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, answers := newGate(), &box{}
		q := newQueue(t, g, QueueConfig{Size: 1, Workers: 1})
		defer q.Close()
		submit := func(question messages.CloudQuestion) error { return q.Submit(question, answers.put) }
		if err := submit(about(1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		// The first is on the wire: its answer may be older than these askers' knowledge.
		for range waitersMax {
			if err := submit(about(1)); err != nil {
				t.Fatal(err)
			}
		}
		if err := submit(about(1)); !isBusy(err) {
			t.Errorf("one more waiter than allowed: %v", err)
		}
		other := about(1)
		other.Certificate = messages.CertificateID(otherID)
		if err := submit(other); !isBusy(err) {
			t.Errorf("another certificate shared the request: %v", err)
		}
		g.open <- messages.CloudAnswer{Verdict: messages.CloudConfirmed}
		synctest.Wait()
		if got := answers.len(); got != 1 {
			t.Errorf("%d got the answer that was under way, want only who asked first", got)
		}
		g.open <- messages.CloudAnswer{Verdict: messages.CloudDenied}
		synctest.Wait()
		if got := len(g.seen()); got != 2 {
			t.Errorf("asked %d times, want 2", got)
		}
		for i, a := range answers.got[1:] {
			if a.Verdict != messages.CloudDenied {
				t.Errorf("waiter %d got %s, want the later answer", i, a.Verdict)
			}
		}
	})
}

func TestWaitingTooLongIsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		q := newQueue(t, g, QueueConfig{Workers: 1, MaxWait: 3 * time.Second})
		defer q.Close()
		first, late := &box{}, &box{}
		if err := errors.Join(q.Submit(about(1), first.put), q.Submit(about(2), late.put)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(4 * time.Second) // the bubble's time
		g.open <- messages.CloudAnswer{Verdict: messages.CloudConfirmed}
		synctest.Wait()
		if len(late.got) != 1 || late.got[0].Verdict != messages.CloudSilent || !strings.Contains(late.got[0].Detail, "waited longer than 3s") {
			t.Errorf("got %+v", late.got)
		}
		if got := len(g.seen()); got != 1 {
			t.Errorf("asked %d times, want once", got)
		}
	})
}

func TestCloseAnswersEveryoneAndWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, answers := newGate(), &box{}
		q := newQueue(t, g, QueueConfig{Workers: 2})
		for i := range 10 {
			if err := q.Submit(about(i), answers.put); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		q.Close()
		if got := answers.len(); got != 10 {
			t.Errorf("%d answers when Close returned, want 10", got)
		}
		for _, a := range answers.got {
			if a.Verdict != messages.CloudSilent {
				t.Errorf("got %+v at shutdown", a)
			}
		}
		if err := q.Submit(about(1), answers.put); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		q.SetWorkers(10)
		q.Close() // harmless
	})
}

func TestQueueUnderConcurrentUse(t *testing.T) {
	var asking, most, taken, answered atomic.Int64
	ask := func(context.Context, messages.CloudQuestion) messages.CloudAnswer {
		now := asking.Add(1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		defer asking.Add(-1)
		return messages.CloudAnswer{Verdict: messages.CloudConfirmed}
	}
	q, err := NewQueue(ask, QueueConfig{Size: 50, Workers: 4, Now: time.Now, RefreshRate: refreshRateMax})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for g := range 8 {
		group.Go(func() {
			for i := range 500 {
				question := about(g*7 + i%20)
				question.Background, question.Stranger, question.EndsMs = i%3 == 0, i%5 == 0, int64(i%7)
				if err := q.Submit(question, func(messages.CloudAnswer) { answered.Add(1) }); err == nil {
					taken.Add(1)
				} else if !isBusy(err) {
					t.Error(err)
				}
			}
		})
	}
	group.Go(func() {
		for i := range 100 {
			q.Resize(i % 60)
			q.SetWorkers(i % 5)
		}
	})
	group.Wait()
	q.Close()
	if taken.Load() == 0 || taken.Load() != answered.Load() || most.Load() > 4 {
		t.Errorf("%d taken, %d answered, %d at once", taken.Load(), answered.Load(), most.Load())
	}
}
