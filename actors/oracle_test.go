package actors

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// held is a token as an outside observer knows it: dead is set when the reply to an
// order that ends it was seen, before whatever begins after that.
type held struct {
	token messages.Token
	dead  atomic.Bool
}

// subject is one device under the observer's eyes.
type subject struct {
	thing messages.ThingName
	cert  identity

	mu    sync.Mutex // held by who changes the device: the observer must know the order
	alive []*held    // guarded by mu
	all   atomic.Pointer[[]*held]
}

// TestNoAllowAfterRevoke (reliability spec, S1): devices connect, are revoked, detached,
// quarantined, forgotten and closed at random, while others authorize with every token
// there ever was. Nothing is allowed that begins after the reply to its end; run with
// -race. The live views at the end are those of a restart (D2).
func TestNoAllowAfterRevoke(t *testing.T) {
	const devices, changers, askers, changes = 12, 3, 2, 60
	r := newRig(t, func(c *Config) { c.LiveMax = 10 })
	r.views.SetTrustDurationMs(time.Hour.Milliseconds())
	r.policy()
	subjects := make([]*subject, devices)
	for i := range subjects {
		name := fmt.Sprint("device-", i)
		subjects[i] = &subject{thing: messages.ThingName(name), cert: certificate(t, name)}
		subjects[i].all.Store(&[]*held{})
	}
	stop := r.committing()
	var changing, asking sync.WaitGroup
	done := make(chan struct{})
	var allows, ends atomic.Int64
	for w := range askers {
		asking.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(w)))
			for {
				select {
				case <-done:
					return
				default:
				}
				s := subjects[random.IntN(devices)]
				for _, h := range *s.all.Load() {
					dead := h.dead.Load()
					if r.allowed(h.token) {
						allows.Add(1)
						if dead {
							t.Errorf("%s: allowed after the reply that ended it", s.thing)
							return
						}
					}
				}
			}
		})
	}
	for w := range changers {
		changing.Go(func() {
			random := rand.New(rand.NewPCG(8, uint64(w)))
			// More of them if nobody has been let in yet, as on a machine too busy to ask.
			for i := 0; i < changes || allows.Load() == 0 && i < 100*changes; i++ {
				s := subjects[random.IntN(devices)]
				s.mu.Lock()
				r.change(s, random, &ends)
				s.mu.Unlock()
			}
		})
	}
	changing.Wait()
	close(done)
	asking.Wait()
	stop()
	r.atRest()
	if ends.Load() == 0 || allows.Load() == 0 {
		t.Errorf("%d ended, %d allowed: nothing was tested", ends.Load(), allows.Load())
	}
	live := map[messages.Token]bool{}
	for _, s := range subjects {
		for _, h := range *s.all.Load() {
			live[h.token] = r.allowed(h.token)
		}
	}
	r.restart()
	r.views.SetTrustDurationMs(time.Hour.Milliseconds())
	for token, was := range live {
		if is := r.allowed(token); is != was {
			t.Errorf("%s is allowed after a restart: %v, before: %v", token, is, was)
		}
	}
}

// change connects a device or ends something about it, and waits for the reply.
func (r *rig) change(s *subject, random *rand.Rand, ends *atomic.Int64) {
	do := func(c messages.Command) {
		if _, err := r.sys.Do(context.Background(), c, messages.Cause{}); err != nil {
			r.t.Errorf("%T: %v", c, err)
		}
	}
	end := func(list ...*held) {
		for _, h := range list {
			h.dead.Store(true)
			ends.Add(1)
		}
	}
	switch n := random.IntN(8); {
	case n < 3:
		r.cloud.Register(s.cert.id, s.thing)
		do(messages.ReleaseDevice{Thing: s.thing})
		got, token := r.connect(s.thing, s.cert)
		if got != "ok" {
			r.t.Errorf("%s cannot connect: %s", s.thing, got)
			return
		}
		h := &held{token: token}
		s.alive = append(s.alive, h)
		all := append(append([]*held(nil), *s.all.Load()...), h)
		s.all.Store(&all)
		return
	case n == 3:
		r.cloud.Revoke(s.cert.id)
		do(messages.RecheckCertificate{Certificate: s.cert.id})
	case n == 4:
		r.cloud.Detach(s.thing, s.cert.id)
		do(messages.RecheckAttachment{Thing: s.thing, Certificate: s.cert.id})
	case n == 5:
		do(messages.QuarantineDevice{Thing: s.thing})
	case n == 6:
		do(messages.ForgetDevice{Thing: s.thing})
	case len(s.alive) > 0:
		do(messages.CloseSession{Thing: s.thing, Session: s.alive[0].token.Digest()})
		end(s.alive[0])
		s.alive = s.alive[1:]
		return
	}
	end(s.alive...)
	s.alive = nil
}
