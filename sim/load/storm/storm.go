// Package storm is a fleet that comes back at once, without jitter, as when a broker was
// restarted (reliability spec 2.3, F1 to F3): each device tries until it is in, and comes
// back after what it is told, as a well-behaved MQTT client does. It works through brokers'
// clients (actors/brokers/client), since a real broker's TLS would be the bottleneck.
package storm

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Device is one of the fleet.
type Device struct {
	Thing  messages.ThingName
	DER    []byte // its certificate
	Barred bool   // it was revoked: it must not get in, and gives up when it is told so
}

// Between two tries of a device that nobody told when to come back.
const (
	backMin = 100 * time.Millisecond
	backMax = 4 * time.Second
)

// Result is what came of a storm.
type Result struct {
	In, Barred  int           // devices that got in; that were refused, as they had to be
	FalseAllows int           // devices that got in, and must not have
	FalseDenies int           // devices that were refused, and must not have been
	Left        int           // devices that were still trying when ctx ended
	Busy        int           // answers: come back
	Silent      int           // … none, or none in time
	Tries       int           // questions that devices asked, those that their broker did not pass on included
	Took        time.Duration // until the last was in
	Accepted    []time.Duration
	Sessions    map[messages.ThingName]*client.Session
}

// Quantile is how long those who got in waited for the answer that let them, in order; 0 if
// nobody did.
func (r *Result) Quantile(q float64) time.Duration {
	if len(r.Accepted) == 0 {
		return 0
	}
	return r.Accepted[int(q*float64(len(r.Accepted)-1))]
}

// Run has all devices come at once, spread over brokers, until each has an answer that is
// final, or ctx ends.
func Run(ctx context.Context, brokers []*client.Client, devices []Device) *Result {
	r := &run{result: Result{Sessions: make(map[messages.ThingName]*client.Session, len(devices))}}
	var all sync.WaitGroup
	start := make(chan struct{})
	for i, d := range devices {
		all.Go(func() {
			<-start
			r.come(ctx, brokers[i%len(brokers)], d)
		})
	}
	began := time.Now()
	close(start)
	all.Wait()
	r.result.Took = time.Since(began)
	slices.Sort(r.result.Accepted)
	return &r.result
}

type run struct {
	mu     sync.Mutex
	result Result // guarded by mu
}

// come is one device's way in.
func (r *run) come(ctx context.Context, broker *client.Client, d Device) {
	back := backMin
	for ctx.Err() == nil {
		asked := time.Now()
		s, err := broker.Authenticate(ctx, string(d.Thing), d.DER)
		if r.told(d, s, err, time.Since(asked)) {
			return
		}
		wait := max(client.RetryAfter(err), back/2+rand.N(back/2))
		back = min(2*back, backMax)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Left++
}

// told takes an answer into account, and reports whether it is final.
func (r *run) told(d Device, s *client.Session, err error, took time.Duration) (final bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Tries++
	switch {
	case err == nil:
		if r.result.In++; d.Barred {
			r.result.FalseAllows++
		}
		r.result.Accepted = append(r.result.Accepted, took)
		r.result.Sessions[d.Thing] = s
	case errors.Is(err, client.ErrDenied):
		if r.result.Barred++; !d.Barred {
			r.result.FalseDenies++
		}
	case errors.Is(err, client.ErrBusy):
		r.result.Busy++
		return false
	default:
		r.result.Silent++
		return false
	}
	return true
}
