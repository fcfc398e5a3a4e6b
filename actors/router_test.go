package actors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// committing lets the log commit now and then, from another goroutine, so that appends
// are in flight while their entities are asked to leave.
func (r *rig) committing() (stop func()) {
	r.log.Hold()
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		for {
			select {
			case <-done:
				r.log.Release()
				return
			default:
				if r.log.Commit() == 0 {
					runtime.Gosched()
				}
			}
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}

// TestPassivationLosesNothing: far more entities than may stay, commands arriving while
// they leave: each is carried out once, in its order.
func TestPassivationLosesNothing(t *testing.T) {
	const senders, things, each, window = 6, 30, 40, 32
	r := newRig(t, func(c *Config) { c.LiveMax, c.RecoveriesMax = 5, 2 })
	stop := r.committing()
	var wg sync.WaitGroup
	var refused atomic.Int64
	for s := range senders {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(s)))
			tickets := make(chan struct{}, window)
			var sent [things]int
			for range things * each {
				i := random.IntN(things)
				for sent[i] == each {
					i = (i + 1) % things
				}
				tickets <- struct{}{}
				denial := &messages.AccessDenied{Thing: thingOf(s, i), Resource: strconv.Itoa(sent[i])}
				sent[i]++
				r.sys.Submit(context.Background(), messages.RecordDenial{Known: true, Denial: denial}, messages.Cause{}, func(m messages.Reply) {
					if code(m) != "done" {
						refused.Add(1)
					}
					<-tickets
				})
			}
			for range window {
				tickets <- struct{}{}
			}
		})
	}
	wg.Wait()
	stop()
	r.atRest()
	if refused.Load() != 0 {
		t.Errorf("%d were refused", refused.Load())
	}
	for s := range senders {
		for i := range things {
			n := 0
			for rec, err := range r.log.Memory.Read(t.Context(), messages.DeviceStream(messages.ThingName(thingOf(s, i))), 1) {
				e, err2 := messages.DecodeEvent(&rec)
				if err != nil || err2 != nil {
					t.Fatal(err, err2)
				}
				if got := e.(*messages.AccessDenied).Resource; got != strconv.Itoa(n) {
					t.Fatalf("%s: record %d is %s", thingOf(s, i), n, got)
				}
				n++
			}
			if n != each {
				t.Errorf("%s: %d records, want %d", thingOf(s, i), n, each)
			}
		}
	}
	r.settles(5)
	r.consistent()
}

func thingOf(s, i int) string { return fmt.Sprintf("thing-%d-%d", s, i) }

// settles says that no more than that many entities stay when there is peace.
func (r *rig) settles(liveMax int64) {
	r.t.Helper()
	r.until("the idle have left", func() bool {
		r.do(messages.MarkClock{Mark: &messages.ClockMarked{}}) // a delivery sweeps
		return r.sys.Live() <= liveMax+1
	})
	r.until("nobody is leaving", func() bool { return r.sys.router.leaving.Load() == 0 })
}

// consistent holds the router's lists against each other.
func (r *rig) consistent() {
	r.t.Helper()
	total := int64(0)
	for i := range r.sys.router.shards {
		s := &r.sys.router.shards[i]
		s.mu.Lock()
		n := 0
		for sl := s.oldest; sl != nil; sl = sl.newer {
			if s.slots[sl.stream] != sl || len(sl.held) != 0 && !sl.leaving {
				r.t.Errorf("%s is listed and not there, or keeps what it should have", sl.stream)
			}
			n++
		}
		if n != len(s.slots) {
			r.t.Errorf("%d slots are listed, %d are there", n, len(s.slots))
		}
		total += int64(n)
		s.mu.Unlock()
	}
	if total != r.sys.Live() {
		r.t.Errorf("%d are counted, %d are there", r.sys.Live(), total)
	}
}

// TestLeastRecentlyUsedLeave: those in use stay.
func TestLeastRecentlyUsedLeave(t *testing.T) {
	r := newRig(t, func(c *Config) { c.LiveMax = 100 })
	var recoveries atomic.Int64
	r.log.OnRead(func(s messages.StreamID) {
		if s == messages.DeviceStream("hot") {
			recoveries.Add(1)
		}
	})
	for i := range 400 {
		r.do(messages.ReleaseDevice{Thing: "hot"})
		r.do(messages.ReleaseDevice{Thing: messages.ThingName(fmt.Sprint("cold-", i))})
	}
	if n := recoveries.Load(); n != 1 {
		t.Errorf("the one that is always used came to life %d times", n)
	}
	if n := r.sys.Live(); n > 150 {
		t.Errorf("%d stay, want about 100", n)
	}
}

// TestBusyEntitiesStay: when nobody is idle nobody leaves, and deliveries go on.
func TestBusyEntitiesStay(t *testing.T) {
	r := newRig(t, func(c *Config) { c.LiveMax = 2 })
	r.log.Hold()
	var waiting []<-chan messages.Reply
	for i := range 200 {
		waiting = append(waiting, r.put(messages.QuarantineDevice{Thing: messages.ThingName(fmt.Sprint("busy-", i))}))
	}
	if n := r.sys.Live(); n != 200 {
		t.Errorf("%d are resident, want all 200", n)
	}
	r.until("all have decided", func() bool { return len(r.log.Batches()) == 200 })
	r.log.Release()
	for _, w := range waiting {
		if got := code(r.reply(w)); got != "done" {
			t.Errorf("reply %s", got)
		}
	}
	r.settles(2)
	r.consistent()
}

// TestRecoveryPermits: no more than so many read the log at once.
func TestRecoveryPermits(t *testing.T) {
	const permits = 3
	r := newRig(t, func(c *Config) { c.RecoveriesMax = permits })
	var reading, most atomic.Int64
	go_ := make(chan struct{})
	r.log.OnRead(func(messages.StreamID) {
		n := reading.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-go_
		reading.Add(-1)
	})
	var waiting []<-chan messages.Reply
	for i := range 20 {
		waiting = append(waiting, r.put(messages.ReleaseDevice{Thing: messages.ThingName(fmt.Sprint("thing-", i))}))
	}
	r.until("permits are used up", func() bool { return reading.Load() == permits })
	close(go_)
	for _, w := range waiting {
		r.reply(w)
	}
	if most.Load() != permits {
		t.Errorf("%d read at once, want %d", most.Load(), permits)
	}
}

// TestQuestionsKeepTheirEntity: an entity whose answer is out does not leave, however
// late the answer comes and whatever is asked of it meanwhile.
func TestQuestionsKeepTheirEntity(t *testing.T) {
	r := newRig(t, func(c *Config) { c.LiveMax = 1 })
	c := certificate(t, "pump-7")
	r.cloud.Register(c.id, pump)
	r.cloud.Hold()
	asked := r.put(verifyOf(c))
	r.until("the cloud is asked", func() bool { return r.cloud.Waiting() == 1 })
	for i := range 300 {
		r.do(messages.ReleaseDevice{Thing: messages.ThingName(fmt.Sprint("other-", i))})
	}
	stream := messages.CertificateStream(c.id) // and should it be asked to leave:
	s := r.sys.router.shardOf(stream)
	s.mu.Lock()
	sl := s.slots[stream]
	r.sys.router.markLeaving(s, sl, true)
	r.sys.actors.Root.Send(sl.pid, passivate{})
	s.mu.Unlock()
	second := r.put(verifyOf(c))
	r.until("it stays", func() bool { return r.cloud.Waiting() == 2 })
	if len(asked) != 0 {
		t.Error("answered before the cloud")
	}
	r.cloud.Release()
	for _, w := range []<-chan messages.Reply{asked, second} {
		if got := code(r.reply(w)); got != "valid" {
			t.Errorf("reply %s", got)
		}
	}
	r.settles(1)
	r.consistent()
}
