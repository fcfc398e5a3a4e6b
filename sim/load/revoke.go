package load

import (
	"context"
	"errors"
	"time"
)

// ordersMost is how many orders of operators are under way at once; releaseTries how often a
// release is tried.
const (
	ordersMost   = 32
	releaseTries = 3
)

// revoke has an operator quarantine a connected member. From the answer on it must be denied
// everything, which is probed; its session must end, which its broker must hear.
func (r *runner) revoke(m *member, due time.Duration) {
	r.rec.offer(Revoke, due)
	if r.orders >= ordersMost {
		r.rec.answered(Revoke, Unsent, due, due+operatorWait)
		return
	}
	old := m.session
	r.become(m, isRevoked)
	m.epoch++
	m.told = max(due, 1)
	r.rec.offer(Felt, due)
	r.order(m, Revoke, due, func(err error) {
		now := r.now()
		if err == nil {
			r.probe(m, old, now)
		}
		until := now + time.Duration(r.m.RevokedFor)
		r.push(&event{at: until, last: true, hurry: true, do: func(time.Duration) {
			if r.over {
				until = r.now()
			}
			r.release(m, until, releaseTries)
		}})
		felt := func() bool { return m.told != max(due, 1) }
		r.push(&event{at: now + suspicionWait, last: true, moot: felt, do: func(at time.Duration) {
			if !felt() {
				m.told = 0
				r.rec.answered(Felt, TimedOut, due, at)
			}
		}})
	})
}

// order gives an operator's order, and counts what becomes of it. then is called under the
// lock, when the member's answers are certain again.
func (r *runner) order(m *member, op Op, due time.Duration, then func(error)) {
	r.orders++
	give := r.o.Operator.Quarantine
	if op == Release {
		give = r.o.Operator.Release
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), operatorWait)
		err := give(ctx, m.Thing)
		cancel()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.orders--
		m.epoch++
		outcome := Allowed
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			outcome = TimedOut
		case err != nil:
			outcome = Failed
			r.rec.note(op.String() + ": " + err.Error())
		}
		r.rec.answered(op, outcome, due, r.now())
		then(err)
	}()
}

// probe tries with a revoked member what worked before: to connect, and to publish, as soon
// as nothing may be allowed any more.
func (r *runner) probe(m *member, old *Session, now time.Duration) {
	q := Question{Op: Connect, Broker: m.broker, Device: m.Device, ClientID: string(m.Thing), probe: true}
	r.try(q, m, now)
	q.Op, q.Session, q.Topic = Publish, old, r.topicOf(Publish, false, m)
	stale, epoch := r.o.Driver.Stale(), m.epoch
	if stale == 0 {
		r.try(q, m, now)
		return
	}
	r.later(now+stale, func(due time.Duration) {
		if m.epoch == epoch && m.session == old { // it should have ended long since
			r.try(q, m, due)
		}
	})
}

// try asks what must be denied, unless something happens to the member meanwhile.
func (r *runner) try(q Question, m *member, due time.Duration) {
	epoch := m.epoch
	r.ask(q, due, func(a Answer, _ time.Duration) {
		if m.epoch == epoch {
			r.judge(q, a, no, nil, due)
		}
		if a.Session != nil {
			r.discard(q.Broker, a.Session)
		}
	})
}

// felt notes that a revoked member's broker has heard that its session ended.
func (r *runner) felt(m *member) {
	if m.told != 0 {
		r.rec.answered(Felt, Allowed, m.told, r.now())
		m.told = 0
	}
}

// release has an operator let a member in again, which then comes back.
func (r *runner) release(m *member, due time.Duration, tries int) {
	m.epoch++
	r.rec.offer(Release, due)
	r.order(m, Release, due, func(err error) {
		now := r.now()
		switch {
		case err == nil:
			r.drop(m)
			r.become(m, isAway)
			r.comeBack(m, now+time.Duration(r.m.Away))
		case tries > 1:
			r.push(&event{at: now + time.Second, last: true, do: func(at time.Duration) { r.release(m, at, tries-1) }})
		default:
			r.rec.note(string(m.Thing) + " is still quarantined; release it: gatehouse device release " + string(m.Thing))
		}
	})
}
