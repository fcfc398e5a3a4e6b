package brokers

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// request is one request on its way: taken in, perhaps waiting, answered once.
type request struct {
	desk     *Desk
	counters *counters
	lane     *lane
	judge    func(*request) error // asks the gate; an error is the answer
	caller   Caller
	reply    string
	header   nats.Header
	body     []byte
	arrived  time.Time
	answered atomic.Bool
	stop     atomic.Pointer[func() bool] // ends the deadline's timer
}

// queued makes the callback of an operation that waits for the log or the cloud.
func (d *Desk) queued(op authapi.Op, l *lane, judge func(*request) error) nats.MsgHandler {
	return func(m *nats.Msg) {
		q, ok := d.receive(m, d.ops[op], judge)
		if !ok {
			return
		}
		q.lane = l
		if !l.admit(q) {
			q.lane = nil // it holds no place there
			q.refuse(d.busy("too many %s requests are waiting", q.counters.op))
		}
	}
}

// inline makes the callback of an operation that only reads memory.
func (d *Desk) inline(op authapi.Op, judge func(*request) error) nats.MsgHandler {
	return func(m *nats.Msg) {
		if q, ok := d.receive(m, d.ops[op], judge); ok {
			d.handle(q)
		}
	}
}

// receive makes a request of m, or answers it.
func (d *Desk) receive(m *nats.Msg, c *counters, judge func(*request) error) (*request, bool) {
	broker, ok := d.caller(m, c)
	if !ok {
		return nil, false
	}
	if refusal := d.enter(); refusal != nil {
		d.refuse(c, m.Reply, refusal)
		return nil, false
	}
	q := &request{
		desk: d, counters: c, judge: judge, caller: Caller{Broker: broker}, reply: m.Reply,
		header: m.Header, body: m.Data, arrived: d.cfg.Clock.Now(),
	}
	if !d.cfg.Permit(broker, c.op) {
		q.refuse(messages.Refuse(messages.RefusedUnauthorized, "broker %s may not ask %s", broker, c.op))
		return nil, false
	}
	name, err := authapi.RequestID(m.Header.Get(authapi.HeaderRequestID))
	if err != nil {
		q.refuse(authapi.RefusalFor(err))
		return nil, false
	}
	if name == "" {
		name = d.cfg.Instance + "-" + strconv.FormatUint(d.names.Add(1), 10)
	}
	q.caller.Request = name
	return q, true
}

// handle takes a request up: it asks the gate, unless the asker has given up by now.
func (d *Desk) handle(q *request) {
	defer func() {
		if p := recover(); p != nil {
			q.refuse(d.recovered(q.counters, p))
		}
	}()
	waited := d.cfg.Clock.Now().Sub(q.arrived)
	left := d.cfg.Deadline - waited
	if left <= 0 {
		q.late()
		return
	}
	if q.lane == d.sessions && waited > d.cfg.Patience {
		q.refuse(d.busy("too many %s requests are waiting", q.counters.op))
		return
	}
	if q.lane != nil { // an inline request is answered before this returns
		stop := d.cfg.Clock.AfterFunc(left, q.late)
		q.stop.Store(&stop)
	}
	if err := q.judge(q); err != nil {
		q.refuse(authapi.RefusalFor(err))
	}
}

// late answers a request that the core did not answer in time. Busy is not a deny: the
// outcome is unknown, and the broker asks again.
func (q *request) late() {
	if q.desk.closed.Load() {
		return
	}
	if q.answered.CompareAndSwap(false, true) {
		q.counters.late.Add(1)
		q.desk.refuse(q.counters, q.reply, q.desk.busy("no answer in time"))
		q.done()
	}
}

// guard runs the gate's reply: a panic in it must not reach the gate.
func (q *request) guard(f func()) {
	defer func() {
		if p := recover(); p != nil {
			q.refuse(q.desk.recovered(q.counters, p))
		}
	}()
	f()
}

// answer sends a normal reply. It reports whether that left: false if the request was
// answered before, or the reply could not be written or sent.
func (q *request) answer(allowed bool, message any) (sent bool) {
	body, err := authapi.Encode(message)
	return q.send(allowed, body, err)
}

// bodies are the buffers in which grants are written: the library copies what it sends. A
// long one is not kept.
var bodies = sync.Pool{New: func() any { return new([]byte) }}

const bodyMaxBytes = 8 << 10

// grant is answer for a grant, of which there are as many as connects.
func (q *request) grant(g Grant) (sent bool) {
	buffer := bodies.Get().(*[]byte)
	body, err := authapi.AppendGrant((*buffer)[:0], grantReply(g))
	sent = q.send(g.ConnectAuthorized, body, err)
	if cap(body) <= bodyMaxBytes {
		*buffer = body
		bodies.Put(buffer)
	}
	return sent
}

// send is answer for a message that is written already, or could not be.
func (q *request) send(allowed bool, body []byte, err error) (sent bool) {
	if err != nil {
		q.refuse(authapi.RefusalFor(err))
		return false
	}
	if !q.answered.CompareAndSwap(false, true) {
		return false
	}
	if allowed {
		q.counters.allowed.Add(1)
	} else {
		q.counters.denied.Add(1)
	}
	if err = q.desk.cfg.Conn.Publish(q.reply, body); err != nil {
		q.desk.unsent(q.counters, err)
	}
	q.done()
	return err == nil
}

// refuse sends an error reply, unless the request was answered before.
func (q *request) refuse(refusal *messages.Refusal) {
	if !q.answered.CompareAndSwap(false, true) {
		return
	}
	q.desk.refuse(q.counters, q.reply, refusal)
	q.done()
}

// done gives back what the request held. It runs once.
func (q *request) done() {
	q.counters.timeNs.Add(int64(q.desk.cfg.Clock.Now().Sub(q.arrived)))
	if stop := q.stop.Load(); stop != nil {
		(*stop)()
	}
	if q.lane != nil {
		q.lane.release(q)
	}
	q.desk.leave()
}

// failuresTold failed requests are logged one by one, then every failuresToldEvery-th.
const (
	failuresTold      = 20
	failuresToldEvery = 1000
)

// refuse writes an error reply to subject reply.
func (d *Desk) refuse(c *counters, reply string, refusal *messages.Refusal) {
	c.refused[refusal.Code].Add(1)
	c.lastErr.Store(int32(refusal.Code) + 1)
	if refusal.Code == messages.RefusedService {
		// Strangers can cause these as often as they like: the first few say what is wrong.
		if n := d.failures.Add(1); n <= failuresTold || n%failuresToldEvery == 0 {
			d.cfg.Log.Error("request failed", "op", c.op, "count", n, "error", refusal)
		}
	}
	shown := authapi.ErrorReplyFor(refusal)
	body, err := authapi.Encode(shown)
	if err != nil {
		d.unsent(c, err)
		return
	}
	err = d.cfg.Conn.PublishMsg(&nats.Msg{Subject: reply, Data: body, Header: nats.Header{
		authapi.HeaderMicroCode: {authapi.MicroCode(refusal.Code)},
		authapi.HeaderMicroText: {refusal.Code.String()},
		authapi.HeaderError:     {refusal.Code.String()},
	}})
	if err != nil {
		d.unsent(c, err)
	}
}

// unsent notes a reply that could not be sent: the asker times out and denies.
func (d *Desk) unsent(c *counters, err error) {
	d.cfg.Log.Warn("reply not sent", "op", c.op, "error", err)
}

// busy is a Busy refusal. The advice is spread over four times RetryAfter, so that all
// who were refused at once do not come back at once.
func (d *Desk) busy(format string, args ...any) *messages.Refusal {
	refusal := messages.Refuse(messages.RefusedBusy, format, args...)
	step := d.cfg.RetryAfter * 3 / 16
	refusal.RetryAfter = d.cfg.RetryAfter + step*time.Duration(d.names.Add(1)%16)
	return refusal
}
