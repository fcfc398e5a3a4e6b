package cloudsync

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

func TestCloudAsksThroughItsQueueAndWatchesTheNetwork(t *testing.T) {
	var broken atomic.Bool
	e := newEndpoint(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			panic(http.ErrAbortHandler)
		}
		answerWith(200, `{}`)(w, r)
	}, nil)
	first := make(chan bool, 10)
	c, err := New(Config{DataPlane: e.cfg, Monitor: MonitorConfig{
		OnChange: func(up bool) { first <- up }, DownIntervalMin: 10 * time.Millisecond, DownIntervalMax: 20 * time.Millisecond,
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	changes := make(chan bool, 10)
	c.OnNetworkChange(func(up bool) { changes <- up })
	if err := c.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !<-first || !c.NetworkUp() {
		t.Fatal("the endpoint answers and the network is down")
	}
	_, question := device(t)
	ask := func() messages.CloudAnswer {
		answers := make(chan messages.CloudAnswer, 1)
		if err := c.Ask(question, func(a messages.CloudAnswer) { answers <- a }); err != nil {
			t.Fatal(err)
		}
		return <-answers
	}
	if a := ask(); a.Verdict != messages.CloudConfirmed {
		t.Errorf("got %+v", a)
	}
	broken.Store(true)
	if a := ask(); a.Verdict != messages.CloudSilent {
		t.Errorf("got %+v", a)
	}
	if <-first { // the failed question hastened the probe: nobody waits 30 s for this
		t.Error("told that the network is up, want down")
	}
	broken.Store(false)
	if !<-first || !c.NetworkUp() {
		t.Error("the network did not come back")
	}
	// The listener may or may not have been in time for the first change.
	got := []bool{<-changes, <-changes}
	if got[0] {
		got = []bool{got[1], <-changes}
	}
	if got[0] || !got[1] {
		t.Errorf("listener heard %v, want down and up", got)
	}

	c.Tune(1, 2)
	c.Close()
	if err := c.Ask(question, func(messages.CloudAnswer) { t.Error("answered after Close") }); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestNewCloudRefusesABadConfiguration(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("a cloud without anything was made")
	}
}

// oracle is a verifier that a test tells what to say.
type oracle struct {
	answer messages.CloudAnswer

	mu     sync.Mutex // what follows is the monitor's goroutine's too
	probe  error
	date   time.Time // that a probe tells
	probes int
	closed bool
}

func (o *oracle) Ask(context.Context, messages.CloudQuestion) messages.CloudAnswer { return o.answer }
func (o *oracle) Close()                                                           { o.closed = true }
func (o *oracle) Probe(context.Context) (time.Time, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.probes++
	return o.date, o.probe
}

// with changes the oracle between two probes.
func (o *oracle) with(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

// Any word of the service shows that the network is up; want of one calls for a probe,
// and what was not asked shows nothing.
func TestEachAnswerIsNewsAboutTheNetwork(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer messages.CloudAnswer
		up     bool // the network is up afterwards, though the first probe found it down
		probes int  // beside the first
	}{
		{"confirmed", messages.CloudAnswer{Verdict: messages.CloudConfirmed}, true, 0},
		{"denied", messages.CloudAnswer{Verdict: messages.CloudDenied}, true, 0},
		{"throttled", messages.CloudAnswer{Failure: messages.FailureThrottled}, true, 0},
		{"failed", messages.CloudAnswer{Failure: messages.FailureServer}, true, 0},
		{"refused", messages.CloudAnswer{Failure: messages.FailureRefused}, true, 0},
		{"not asked", messages.CloudAnswer{Failure: messages.FailureNotAsked}, false, 0},
		{"nothing known", messages.CloudAnswer{}, false, 0},
		{"unreachable", messages.CloudAnswer{Failure: messages.FailureUnreachable}, true, 1},
		{"a portal", messages.CloudAnswer{Failure: messages.FailureNotService}, true, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o := &oracle{answer: test.answer}
				if test.probes == 0 {
					o.probe = errors.New("down")
				}
				never := func(time.Duration, func()) func() bool { return func() bool { return true } }
				c, err := New(Config{Verifier: o, Monitor: MonitorConfig{AfterFunc: never}})
				if err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if err := c.Ask(about(1), func(messages.CloudAnswer) {}); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				if got := o.probes - 1; got != test.probes || c.NetworkUp() != test.up {
					t.Errorf("%d more probes, up %v, want %d and %v", got, c.NetworkUp(), test.probes, test.up)
				}
				c.Close()
				if !o.closed {
					t.Error("the verifier was not closed")
				}
			})
		})
	}
}

// A link that is up is proof at once; one that went down calls for a probe.
func TestNewsOfTheNetworkFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &oracle{probe: errors.New("down")}
		c, err := New(Config{Verifier: o, Monitor: MonitorConfig{AfterFunc: func(time.Duration, func()) func() bool { return func() bool { return true } }}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		synctest.Wait()
		for i, up := range []bool{true, false} {
			c.Observe(up)
			synctest.Wait()
			if c.NetworkUp() != up || o.probes != 1+i {
				t.Errorf("after %v: up %v with %d probes", up, c.NetworkUp(), o.probes)
			}
		}
	})
}

// TestProbesTellTheTime: who listens hears the cloud's time with each probe that tells it, and
// has another soon if that is not enough.
func TestProbesTellTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &oracle{}
		c, err := New(Config{Verifier: o, Monitor: MonitorConfig{Jitter: func() float64 { return .999999 }}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		synctest.Wait()
		begun, again := 0, true
		var heard []time.Time
		c.OnProbe(func() func(time.Time) bool {
			o.with(func() { begun++ })
			return func(date time.Time) (more bool) {
				o.with(func() { heard, more = append(heard, date), again })
				return more
			}
		})
		want := func(what string, after time.Duration, probes, dates int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			o.mu.Lock()
			defer o.mu.Unlock()
			if o.probes != probes || begun != probes-1 || len(heard) != dates {
				t.Errorf("%s: %d probes, %d begun, heard %v; want %d probes, %d dates", what, o.probes, begun, heard, probes, dates)
			}
		}
		want("it does not tell", 30*time.Second, 2, 0)
		o.with(func() { o.date = time.Unix(1, 0) })
		want("it tells", 30*time.Second, 3, 1)
		want("and is asked again", 5*time.Second, 4, 2)
		o.with(func() { again = false })
		want("once more", 5*time.Second, 5, 3)
		want("that was enough", 25*time.Second, 5, 3)
		o.with(func() { o.probe = errors.New("down") })
		want("what fails tells nothing", 5*time.Second, 6, 3)
	})
}
