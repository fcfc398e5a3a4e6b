package concurrency

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/load/storm"
)

// stormBrokers is how many brokers a fleet comes back to: with their clients' bound, 256
// requests each, they ask for all that the desk takes at once.
const stormBrokers = 8

// TestFleetComesBackAtOnce: everybody gets in, nobody is denied who must not be, nobody gets
// in who must not, and an operator's revocation is not held up meanwhile (reliability spec
// 2.3, F1 and F2). sim/bench measures the same with the daemon in a process of its own.
func TestFleetComesBackAtOnce(t *testing.T) {
	for name, away := range map[string]bool{"cloud there": false, "cloud away": true} {
		t.Run(name, func(t *testing.T) { comeBack(t, sized(share(2000), 100_000), away) })
	}
}

func comeBack(t *testing.T, n int, away bool) {
	var names []messages.BrokerID
	for i := range stormBrokers {
		names = append(names, messages.BrokerID(fmt.Sprintf("broker-%d", i)))
	}
	s := open(t, names, func(cfg *daemon.Config) { cfg.Recheck = 0 }) // so that the way to the cloud is the fleet's
	fleet := make([]storm.Device, n)
	for i := range fleet {
		d := newDevice(t)
		fleet[i] = storm.Device{Thing: d.thing, DER: d.der}
	}
	ctx, cancel := context.WithTimeout(t.Context(), sized(2*time.Minute, 10*time.Minute))
	defer cancel()
	s.meet(ctx, names, fleet)
	for i := range n / 100 {
		fleet[i*100].Barred = true
		must(t, s.operator(ctx, daemon.OpQuarantine, fleet[i*100].Thing))
	}
	if away {
		s.cloud.away.Store(true)
		s.await("the daemon to notice that the cloud is away", func(st daemon.Status) bool { return !st.CloudReachable })
	}
	over := make(chan struct{})
	var revoking sync.WaitGroup
	var took []time.Duration
	revoked := map[messages.ThingName]bool{}
	revoking.Go(func() { // devices that come to what they are told by themselves: they are no part of the count
		for {
			select {
			case <-over:
				return
			default:
			}
			thing := fleet[1+100*rand.IntN(n/100)].Thing
			at := time.Now()
			if err := s.operator(ctx, daemon.OpQuarantine, thing); err != nil {
				t.Error(err)
				return
			}
			took = append(took, time.Since(at))
			revoked[thing] = true
			time.Sleep(20 * time.Millisecond) // the operator's own pace
		}
	})
	var r *storm.Result
	s.with(ctx, names, func(brokers []*client.Client) {
		r = storm.Run(ctx, brokers, fleet)
		close(over)
		revoking.Wait()
		for thing := range revoked { // whether it came before the order or after it
			session := r.Sessions[thing]
			if session == nil {
				r.FalseDenies-- // it was refused, as it had to be
			} else if got := session.Publish("units/" + string(thing) + "/state"); got == client.Allowed {
				t.Errorf("%s publishes after it was revoked", thing)
			}
		}
	})
	t.Logf("%d devices in after %v, %.0f/s; an answer that lets in takes p50 %v, p99 %v, at most %v; %d times busy, %d silent; an order of an operator takes p50 %v, p99 %v (%d)",
		r.In, r.Took.Round(time.Millisecond), float64(r.In)/r.Took.Seconds(), r.Quantile(0.5), r.Quantile(0.99), r.Quantile(1), r.Busy, r.Silent,
		quantile(took, 0.5), quantile(took, 0.99), len(took))
	if r.FalseAllows != 0 || r.FalseDenies != 0 || r.Left != 0 {
		t.Errorf("wrong answers: %+v", counted(r))
	}
	if r.Took > 30*time.Second {
		t.Errorf("all were in after %v, at most 30s may pass", r.Took)
	}
}

// meet has the devices come for the first time, a few at once: the cloud is asked about each.
// Their brokers end with it; their sessions do not.
func (s *site) meet(ctx context.Context, names []messages.BrokerID, fleet []storm.Device) {
	s.t.Helper()
	s.with(ctx, names, func(brokers []*client.Client) {
		const atOnce = 40 // strangers have half of the way to the cloud: 50 places
		var wg sync.WaitGroup
		for w := range atOnce {
			c := brokers[w%len(brokers)]
			wg.Go(func() {
				for i := w; i < len(fleet); i += atOnce {
					_, err := c.Authenticate(ctx, string(fleet[i].Thing), fleet[i].DER)
					for err != nil && !errors.Is(err, client.ErrDenied) && pause(ctx, 200*time.Millisecond) {
						_, err = c.Authenticate(ctx, string(fleet[i].Thing), fleet[i].DER)
					}
					if err != nil {
						s.t.Errorf("%s: %v", fleet[i].Thing, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// with lends brokers to f, which are gone without a goodbye after it.
func (s *site) with(ctx context.Context, names []messages.BrokerID, f func([]*client.Client)) {
	s.t.Helper()
	var brokers []*client.Client
	for _, name := range names {
		nc := s.dial(name)
		c, err := client.Connect(ctx, client.Config{Broker: name, Conn: nc})
		must(s.t, err)
		brokers = append(brokers, c)
		defer func() { // killed: it cannot say that its sessions are over
			nc.Close()
			_ = c.Close()
		}()
	}
	for _, c := range brokers {
		must(s.t, c.Ready(ctx))
	}
	f(brokers)
}

func counted(r *storm.Result) storm.Result {
	c := *r
	c.Sessions, c.Accepted = nil, nil
	return c
}

// await asks the daemon for its status until ok.
func (s *site) await(what string, ok func(daemon.Status) bool) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); ; {
		var st daemon.Status
		must(s.t, s.ops.Ask(s.t.Context(), daemon.OpStatus, nil, &st))
		if ok(st) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("waited too long for %s", what)
		}
		time.Sleep(20 * time.Millisecond) // polls: a status is not announced
	}
}

func quantile(list []time.Duration, q float64) time.Duration {
	r := storm.Result{Accepted: sorted(list)}
	return r.Quantile(q)
}
