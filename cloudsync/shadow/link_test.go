package shadow

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// A connection that AWS ends at once, again and again, is made less and less often, though
// its coming and going is news of the network for the monitor whose news hastens the link.
// Until it has subscribed it is no such news at all.
func TestFlappingLinkKeepsItsPace(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault fault.Fault
		told  bool // that it was up
		down  bool // the monitor's own probe fails
		late  bool // news comes when the link waits already
	}{
		{"hung up on subscribing", fault.Fault{Operation: fault.Subscribe, Drop: true}, false, false, false},
		{"hung up on subscribing, data plane away", fault.Fault{Operation: fault.Subscribe, Drop: true}, false, true, false},
		{"hung up on the get", fault.Fault{Operation: fault.GetShadow, Drop: true}, true, false, false},
		{"hung up on the get, late news", fault.Fault{Operation: fault.GetShadow, Drop: true}, true, false, true},
		{"hung up on the get, data plane away", fault.Fault{Operation: fault.GetShadow, Drop: true}, true, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.faults(c.fault)
			var follower atomic.Pointer[Follower]
			monitor, err := cloudsync.NewMonitor(cloudsync.MonitorConfig{
				Probe: func(context.Context) error {
					if c.down {
						return errors.New("its port is blocked")
					}
					return nil
				},
				AfterFunc: afterFunc, Jitter: rand.Float64,
				OnChange: func(up bool) {
					if f := follower.Load(); f != nil {
						f.NetworkChanged(up)
					}
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(monitor.Close)
			var told atomic.Bool
			begin := time.Now()
			follower.Store(s.follow(func(cfg *Config) {
				cfg.RetryMin, cfg.RetryMax, cfg.Jitter = 50*time.Millisecond, time.Minute, func() float64 { return 1 }
				cfg.AfterFunc = func(d time.Duration, over func()) func() bool {
					if f := follower.Load(); f != nil && c.late {
						time.AfterFunc(time.Millisecond, func() { f.NetworkChanged(true) })
					}
					return afterFunc(d, over)
				}
				cfg.OnLink = func(up bool) {
					told.Store(told.Load() || up)
					monitor.Observe(up)
				}
			}))
			// Five waits before the sixth: 50 + 100 + 200 + 400 + 800 ms.
			s.await("the sixth connection", func() bool { go s.recheckLater(); return s.Calls(fault.Connect) >= 6 })
			if took := time.Since(begin); took < 1550*time.Millisecond {
				t.Errorf("connected %d times within %v", s.Calls(fault.Connect), took)
			}
			if told.Load() != c.told {
				t.Errorf("told that it was up: %v", told.Load())
			}
		})
	}
}

// Whose subscriptions are refused is not up, and says why.
func TestRefusedSubscriptionIsShown(t *testing.T) {
	s := newSite(t)
	s.faults(fault.Fault{Operation: fault.Subscribe, Status: 403})
	f := s.follow()
	s.await("the reason", func() bool { go s.recheckLater(); return f.State().LinkErr != nil })
	if f.Up() || !strings.Contains(f.State().LinkErr.Error(), "iot:Subscribe") {
		t.Errorf("state %+v", f.State())
	}
	s.faults()
	s.await("up", func() bool { go s.recheckLater(); return f.Up() })
}
