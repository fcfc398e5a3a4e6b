package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// connectAll connects every device, so that Gatehouse has heard of it from the cloud before
// anything is measured, and disconnects those that the mix wants away.
func (r *runner) connectAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(r.m.Prepare))
	defer cancel()
	begun := time.Now()
	var last Answer
	err := each(ctx, r.members, func(ctx context.Context, m *member) error {
		for tries := 0; ; tries++ {
			a := r.await(Question{Op: Connect, Broker: m.broker, Device: m.Device, ClientID: string(m.Thing)})
			r.mu.Lock()
			if last = a; a.Outcome == Allowed {
				m.session = a.Session
				r.sessions[a.Session.Key] = m
				r.become(m, isIn)
				r.report("connect", time.Since(begun), time.Duration(r.m.Prepare))
			}
			r.mu.Unlock()
			switch {
			case a.Outcome == Allowed:
				return nil
			case a.Outcome == Denied:
				return fmt.Errorf("%s is denied: is it registered in the cloud, and may it connect by the policy? `gatehouse explain %[1]s` says", m.Thing)
			case a.Hopeless:
				return fmt.Errorf("%s cannot connect: %s", m.Thing, a.Note)
			}
			select {
			case <-time.After(max(a.RetryAfter, min(retryLeast<<min(tries, 5), retryMost))):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("after %v %d of %d devices are connected; the last answer was %s: %s; give it more time (prepare), or fewer devices", time.Duration(r.m.Prepare), r.in.len(), len(r.members), last.Outcome, last.Note)
	}
	if err != nil {
		return err
	}
	var surplus []*member
	stay := int(float64(r.m.Connected)*float64(len(r.members)) + 0.5)
	for r.in.len() > stay {
		m := r.in.list[r.in.len()-1]
		r.become(m, isLeaving)
		surplus = append(surplus, m)
	}
	r.mu.Unlock()
	r.close(ctx, surplus)
	r.mu.Lock()
	r.reasons = map[string]int64{} // of sessions of before
	return nil
}

// close ends the sessions of members, who are away then.
func (r *runner) close(ctx context.Context, list []*member) {
	_ = each(ctx, list, func(_ context.Context, m *member) error { // a close that fails leaves a session that Gatehouse ends by itself
		r.mu.Lock()
		s := m.session
		r.drop(m)
		r.mu.Unlock()
		if s != nil {
			r.await(Question{Op: Disconnect, Broker: m.broker, Device: m.Device, ClientID: string(m.Thing), Session: s})
		}
		r.mu.Lock()
		r.become(m, isAway)
		r.mu.Unlock()
		return nil
	})
}

// closeAll disconnects all devices, as far as that goes within finishMax.
func (r *runner) closeAll() {
	ctx, cancel := context.WithTimeout(context.Background(), finishMax)
	defer cancel()
	r.mu.Lock()
	var open []*member
	for _, m := range r.members {
		if m.session != nil {
			r.become(m, isLeaving)
			open = append(open, m)
		}
	}
	r.mu.Unlock()
	r.close(ctx, open)
}

// await asks and waits.
func (r *runner) await(q Question) Answer {
	answer := make(chan Answer, 1)
	r.o.Driver.Ask(q, func(a Answer) { answer <- a })
	return <-answer
}

// each calls do for each member, connectAtOnce at a time; the first error ends it.
func each(ctx context.Context, list []*member, do func(context.Context, *member) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	work := make(chan *member)
	for range connectAtOnce {
		wg.Go(func() {
			for m := range work {
				if err := do(ctx, m); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	for _, m := range list {
		if ctx.Err() != nil {
			break
		}
		select {
		case work <- m:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}
