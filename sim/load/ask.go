package load

import (
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// An expectation is what the answer to a request must be.
type expectation uint8

const (
	either expectation = iota
	yes
	no
)

// fire does what is due; r.mu is held.
func (r *runner) fire(op Op, due time.Duration) {
	var err error
	switch op {
	case Publish, Subscribe, Permissions, Verify:
		err = r.act(op, due)
	case Connect:
		if m := r.away.pick(r.rand); m != nil {
			r.connect(m, due)
		} else {
			err = errNobody
		}
	case Disconnect, opChurn:
		if m := r.in.pick(r.rand); m != nil {
			if op == opChurn {
				m.back = due + time.Duration(r.m.Away)
			}
			r.leave(m, due)
		} else {
			err = errNobody
		}
	case Stranger:
		s := r.strangers[r.rand.IntN(len(r.strangers))]
		r.intrude(op, s, string(s.Thing), due)
	case Imposter:
		m, as := r.in.pick(r.rand), r.in.pick(r.rand)
		if m == nil || m == as {
			err = errNobody
		} else {
			r.intrude(op, m.Device, string(as.Thing), due)
		}
	case Revoke:
		if m := r.in.pick(r.rand); m != nil {
			r.revoke(m, due)
		} else {
			err = errNobody
		}
	}
	if err != nil {
		r.skipped++
	}
}

// ask sends a request and has done called with its answer, under the lock. What is over the
// bound is not sent.
func (r *runner) ask(q Question, due time.Duration, done func(Answer, time.Duration)) {
	op := q.Op
	if q.probe {
		op = Probe
	}
	r.rec.offer(op, due)
	if r.inFlight >= r.m.InFlight {
		// Whoever waits for it waits at least as long as for one that gets no answer.
		r.rec.answered(op, Unsent, due, due+time.Duration(r.m.Timeout))
		done(Answer{Outcome: Unsent}, r.now())
		return
	}
	r.inFlight++
	r.inFlightMost = max(r.inFlightMost, r.inFlight)
	r.rec.sent(due, r.now())
	r.o.Driver.Ask(q, func(a Answer) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inFlight--
		now := a.At.Sub(r.start)
		r.rec.answered(op, a.Outcome, due, now)
		if a.Note != "" && (a.Outcome == Failed || a.Outcome == Unavailable) {
			r.rec.note(op.String() + ": " + a.Outcome.String() + ": " + a.Note)
		}
		done(a, now)
	})
}

// act asks about a connected device.
func (r *runner) act(op Op, due time.Duration) error {
	m := r.in.pick(r.rand)
	if m == nil {
		return errNobody
	}
	q := Question{Op: op, Broker: m.broker, Device: m.Device, ClientID: string(m.Thing), Session: m.session}
	want := yes
	if denied := r.rand.Float64() < float64(r.m.Denied); op == Publish || op == Subscribe {
		q.Topic = r.topicOf(op, denied, m)
		if denied {
			want = no
		}
	}
	epoch := m.epoch
	r.ask(q, due, func(a Answer, _ time.Duration) {
		if m.epoch != epoch && want == yes {
			return // something happened to it meanwhile: both answers are right
		}
		r.judge(q, a, want, m, due)
	})
	return nil
}

func (r *runner) topicOf(op Op, denied bool, m *member) string {
	t := r.m.Topics
	switch {
	case op == Publish && denied:
		return r.topic(t.PublishDenied, m)
	case op == Publish:
		return r.topic(t.Publish, m)
	case denied:
		return r.topic(t.SubscribeDenied, m)
	}
	return r.topic(t.Subscribe, m)
}

// judge compares an answer with what it must be.
func (r *runner) judge(q Question, a Answer, want expectation, m *member, due time.Duration) {
	switch {
	case want == no && a.Outcome == Allowed:
		r.rec.wrong(WrongAllow, due, q.Op, q.ClientID, q.what()+" was allowed")
	case want == yes && a.Outcome == Denied && !r.m.Tolerate:
		r.rec.wrong(WrongDeny, due, q.Op, q.ClientID, q.what()+" was denied: "+a.Note)
	case a.Outcome == Closed && m != nil && m.session != nil && m.session == q.Session:
		r.suspect(m, q, due)
	case want == yes && a.Outcome == Allowed && q.Op == Permissions && a.Permissions != nil:
		r.judgePermissions(q, a, m, due)
	}
}

func (q Question) what() string {
	switch q.Op {
	case Publish:
		return "publishing to " + q.Topic
	case Subscribe:
		return "subscribing to " + q.Topic
	case Imposter:
		return fmt.Sprintf("connecting as %s with the certificate of %s", q.ClientID, q.Device.Thing)
	}
	return q.Op.String()
}

// judgePermissions looks whether all that a device may do covers what it may, and nothing
// else of what is known.
func (r *runner) judgePermissions(q Question, a Answer, m *member, due time.Duration) {
	set, err := permission.Compile(a.Permissions)
	if err != nil {
		r.rec.wrong(WrongDeny, due, q.Op, q.ClientID, err.Error())
		return
	}
	for _, op := range []Op{Publish, Subscribe} {
		operation, resource := opPublish, resourcePublish
		if op == Subscribe {
			operation, resource = opSubscribe, resourceSubscribe
		}
		if topic := r.topicOf(op, false, m); !r.m.Tolerate && !set.AllowsBytes([]byte(operation), []byte(resource+topic)).Allowed {
			r.rec.wrong(WrongDeny, due, q.Op, q.ClientID, operation+" on "+topic+" is not among the permissions")
		}
		if topic := r.topicOf(op, true, m); set.AllowsBytes([]byte(operation), []byte(resource+topic)).Allowed {
			r.rec.wrong(WrongAllow, due, q.Op, q.ClientID, operation+" on "+topic+" is among the permissions")
		}
	}
}

// suspect takes note of a session that is unknown although nobody here closed it. That is
// right if Gatehouse ended it, which it has to tell: else it is a wrong deny.
func (r *runner) suspect(m *member, q Question, due time.Duration) {
	key := q.Session.Key
	r.drop(m)
	if m.state == isIn {
		r.become(m, isAway)
	}
	told := func() bool { return r.m.Tolerate || r.ended.has(key) }
	e := &event{at: r.now() + suspicionWait, last: true, moot: told, do: func(time.Duration) {
		if !told() {
			r.rec.wrong(WrongDeny, due, q.Op, q.ClientID, "its session was unknown, and no push had said that it ended")
		}
	}}
	r.push(e)
}

// intrude tries what must be denied.
func (r *runner) intrude(op Op, d *Device, clientID string, due time.Duration) {
	q := Question{Op: op, Broker: r.rand.IntN(r.o.Driver.Brokers()), Device: d, ClientID: clientID}
	r.ask(q, due, func(a Answer, _ time.Duration) {
		r.judge(q, a, no, nil, due)
		if a.Session != nil {
			r.discard(q.Broker, a.Session)
		}
	})
}

// discard closes a session that nobody wants.
func (r *runner) discard(broker int, s *Session) {
	r.inFlight++
	r.o.Driver.Ask(Question{Op: Disconnect, Broker: broker, Session: s}, func(Answer) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.inFlight--
	})
}

// connect opens a session for a member that is away.
func (r *runner) connect(m *member, due time.Duration) {
	r.become(m, isConnecting)
	q := Question{Op: Connect, Broker: m.broker, Device: m.Device, ClientID: string(m.Thing)}
	epoch := m.epoch
	r.ask(q, due, func(a Answer, now time.Duration) {
		if m.epoch == epoch {
			r.judge(q, a, yes, m, due)
		}
		if a.Outcome == Allowed && !r.ended.has(a.Session.Key) {
			m.session = a.Session
			r.sessions[a.Session.Key] = m
			r.become(m, isIn)
		} else {
			r.become(m, isAway)
		}
		r.cameBack(m, a, now)
	})
}

// leave closes a member's session.
func (r *runner) leave(m *member, due time.Duration) {
	r.become(m, isLeaving)
	q := Question{Op: Disconnect, Broker: m.broker, Device: m.Device, ClientID: string(m.Thing), Session: m.session}
	r.drop(m)
	r.ask(q, due, func(a Answer, _ time.Duration) {
		r.judge(q, a, yes, nil, due)
		r.become(m, isAway)
		if back := m.back; back != 0 {
			m.back = 0
			r.comeBack(m, back)
		}
	})
}

// comeBack has a member connect when at has come. If that is over it is late, and its time
// counts from then all the same.
func (r *runner) comeBack(m *member, at time.Duration) {
	epoch := m.epoch
	r.later(at, func(due time.Duration) {
		if m.state == isAway && m.epoch == epoch {
			r.connect(m, due)
		}
	})
}

// sessionEnded hears from the driver that the other side ended a session.
func (r *runner) sessionEnded(key, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.sessions[key]
	r.ended.add(key)
	if m == nil {
		return // closed here, or not known yet
	}
	if m.state == isRevoked {
		r.felt(m)
	}
	if reason = clip(reason); len(r.reasons) < 32 || r.reasons[reason] > 0 {
		r.reasons[reason]++
	}
	r.drop(m)
	if m.state == isIn {
		r.become(m, isAway)
	}
}
