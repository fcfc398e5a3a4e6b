package actors

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// The messages of an entity's mailbox, beside *envelope.
type (
	assign struct { // first of all: who you are
		stream messages.StreamID
		slot   *slot
	}
	appended struct { // the log's word on the append in flight
		records []messages.Record
		err     error
	}
	cloudAnswer struct { // the cloud's word, for the entity that asked
		env      *envelope
		answered messages.CloudAnswered
		question uint64
		downs    uint64
	}
	passivate struct{} // leave if you are idle
	resume    struct{} // after a panic: go on with what waits
)

// panicsMax panics of one entity within panicWindowMs quarantine it.
const (
	panicsMax     = 5
	panicWindowMs = 10 * 60 * 1000
)

// requestMaxBytes bounds a request id in the log, which takes no longer one.
const requestMaxBytes = 255

// entity is the actor around a pure decider. Everything in it is owned by its mailbox.
type entity struct {
	sys     *System
	stream  messages.StreamID
	slot    *slot
	family  family
	state   any
	version uint64
	snapped uint64 // version of the last snapshot
	awake   bool   // the stream was folded, or poisoned it; until then nothing is decided

	current *envelope   // what is in hand
	flight  *flight     // the decision whose events are being appended; nil when idle
	urgent  []*envelope // what waits meanwhile: what restricts …
	waiting []*envelope // … and the rest
	asking  int         // questions to the cloud that are out

	// Questions are numbered. denied is the last that was asked when the cloud last said
	// no. The host keeps this because a no may leave no event, and can: no question is
	// older than its actor.
	questions, denied uint64

	panicsMs []int64
	poisoned error // why nothing is decided any more; nil: healthy
}

// flight is a decision between its append and its reply.
type flight struct {
	env      *envelope
	at       messages.Instant
	downs    uint64 // how often the clock had been set back before at
	decision messages.Decision
}

// Receive implements actor.Actor.
func (e *entity) Receive(c actor.Context) {
	defer func() {
		if p := recover(); p != nil {
			e.broke(c, p)
		}
	}()
	switch m := c.Message().(type) {
	case *assign:
		e.stream, e.slot = m.stream, m.slot
	case *envelope:
		if e.awake || e.wake(m) {
			e.take(c, m)
		}
	case *appended:
		e.settle(c, m)
	case *cloudAnswer:
		e.asking--
		m.env.command, m.env.question, m.env.downs = m.answered, m.question, m.downs
		if m.answered.Answer.Verdict == messages.CloudDenied {
			e.denied = e.questions // a yes to any of them may be old news
		}
		e.take(c, m.env)
	case passivate:
		e.leave(c)
	case resume:
		e.goOn(c)
	}
}

// broke is the end of a panic outside the decider: the command in hand fails, the
// entity starts again from its log and goes on with what waits. An append whose
// beginning panicked may or may not have begun: its outcome is unknown.
func (e *entity) broke(c actor.Context, p any) {
	e.sys.panics.Add(1)
	e.sys.logger.Error("entity panicked", "stream", e.stream, "panic", p, "stack", string(debug.Stack()))
	env := e.current
	e.current = nil
	if e.flight != nil && e.flight.env == env {
		e.flight = nil
		e.sys.fail(fmt.Errorf("append to %s panicked: %v", e.stream, p))
	}
	e.panicked(e.sys.clock.NowMs())
	if env != nil {
		env.answer(messages.Refuse(messages.RefusedService, "%s: %T: entity panicked", e.stream, env.command))
	}
	c.Send(c.Self(), resume{})
}

// coldPatience is how long a device's request may wait for its entity to be read from the
// log. When a fleet comes back at once more wait than can be read; who was told Busy comes
// again, who was let in after the broker gave up was for nothing, and comes again too.
const coldPatience = 400 * time.Millisecond

// wake recovers the entity for the first envelope that is worth it. The others are told
// Busy, which costs little: what restricts is never among them.
func (e *entity) wake(env *envelope) bool {
	restricts := env.lane == messages.LaneRestrict
	release := e.permit(restricts)
	defer release()
	if !restricts && e.sys.clock.Boot()-env.since > coldPatience {
		env.answer(&messages.Refusal{Code: messages.RefusedBusy, Reason: "too many wait to be read from the log", RetryAfter: e.sys.retryAfter})
		return false
	}
	e.recoverNow()
	return true
}

// permit waits until this entity may read the log. What restricts has permits of its own:
// an order of an operator does not wait for a fleet that comes back.
func (e *entity) permit(restricts bool) (release func()) {
	permits := e.sys.permits
	if restricts {
		permits = e.sys.urgentPermits
	}
	permits <- struct{}{}
	return func() { <-permits }
}

// recover folds the entity's stream. A log that cannot be read, or an event that its
// fold cannot take, poisons this entity alone: it answers nothing but refusals.
func (e *entity) recover() {
	release := e.permit(true) // it was read before, and others wait for it
	defer release()
	e.recoverNow()
}

func (e *entity) recoverNow() {
	e.awake, e.poisoned = true, nil
	if err := e.fold(); err != nil {
		e.poison(fmt.Errorf("recover %s: %w", e.stream, err))
	}
}

func (e *entity) fold() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("record %d of the stream: fold panicked: %v", e.version+1, p)
		}
	}()
	if e.family, err = e.sys.familyOf(e.stream); err != nil {
		return err
	}
	e.state, e.version, e.snapped = e.family.fresh(), 0, 0
	if e.family.stateless {
		e.version, err = e.sys.log.Version(e.stream)
		return err
	}
	e.restore()
	for rec, err := range e.sys.log.Read(context.Background(), e.stream, e.version+1) {
		if err != nil {
			return err
		}
		if err := e.evolve(&rec); err != nil {
			return err
		}
	}
	return nil
}

// evolve folds one record. What is passed by counts as a version all the same.
func (e *entity) evolve(rec *messages.Record) error {
	event, err := messages.FoldEvent(rec)
	if err != nil {
		return err
	}
	if event != nil {
		e.state = e.family.evolve(e.state, event, rec.At)
	}
	e.version = rec.Version
	return nil
}

// poison quarantines the entity in memory: until the next start it refuses, and its
// live sessions are refused with it.
func (e *entity) poison(err error) {
	e.poisoned = err
	e.sys.views.Quarantine(e.stream)
	e.sys.logger.Error("entity is quarantined", "stream", e.stream, "error", err,
		"hint", "see `gatehouse log cat` for its records; everything else goes on")
}

// take decides env now, or keeps it until the append in flight is settled.
func (e *entity) take(c actor.Context, env *envelope) {
	if e.flight != nil {
		if env.restricts() {
			e.urgent = append(e.urgent, env)
		} else {
			e.waiting = append(e.waiting, env)
		}
		return
	}
	e.decide(c, env)
}

func (e *entity) decide(c actor.Context, env *envelope) {
	e.current = env // for broke: not cleared by a defer, which a panic would run
	e.decideCurrent(c, env)
	e.current = nil
}

func (e *entity) decideCurrent(c actor.Context, env *envelope) {
	if r := e.refusal(env); r != nil {
		env.answer(r)
		return
	}
	f, err := e.stamped(c, env)
	switch {
	case err != nil:
		e.sys.logger.Error("nothing was decided", "stream", e.stream, "error", err)
		env.answer(messages.Refuse(messages.RefusedService, "%v", err))
	case len(f.decision.Events) == 0:
		e.act(c, f, 0)
	}
}

// stamped decides env and hands its events to the log. Meanwhile the clock is not set
// back, or nobody else's stamp is on its way if this is the order to do so: then it
// happens here, after what becomes void by it is (deny early).
func (e *entity) stamped(c actor.Context, env *envelope) (*flight, error) {
	order, lowers := env.command.(messages.ReanchorClock)
	if lowers {
		e.sys.stamps.Lock()
		defer e.sys.stamps.Unlock()
	} else {
		e.sys.stamps.RLock()
		defer e.sys.stamps.RUnlock()
	}
	trust := e.sys.Trust() // before the clock is read: see TrustClock
	downs := e.sys.clock.downs.Load()
	in := messages.Input{Command: env.command, At: e.sys.clock.Now(), Cause: env.cause}
	if lowers {
		if order, lowers = e.sys.clock.reanchoring(order, trust); lowers {
			in.Command, in.At.TrustMs = order, order.AuthenticatedMs
		}
	}
	e.sys.random(in.Nonce[:])
	d, err := e.judge(in, trust)
	if err != nil {
		return nil, err
	}
	f := &flight{env: env, at: in.At, downs: downs, decision: d}
	if len(d.Events) == 0 {
		return f, nil
	}
	batch, err := e.batch(in, d.Events)
	if err != nil {
		return nil, fmt.Errorf("events cannot be encoded: %w", err)
	}
	for _, event := range d.Events {
		if batch.Class == eventlog.Restricts || event.Kind() == messages.KindPolicyReplaced || lowers {
			e.sys.views.Restrict(e.stream, event, in.At) // deny early
		}
	}
	if lowers {
		e.sys.clock.lower(order)
	}
	e.flight = f
	root, self := c.ActorSystem().Root, c.Self()
	e.sys.log.Append(batch, func(records []messages.Record, err error) {
		root.Send(self, &appended{records: records, err: err})
	})
	return f, nil
}

// refusal says why env is not even decided.
func (e *entity) refusal(env *envelope) *messages.Refusal {
	switch {
	case e.sys.failed.Load():
		return messages.Refuse(messages.RefusedNotReady, "the event log cannot be written")
	case e.poisoned != nil:
		return messages.Refuse(messages.RefusedInvalidCredential, "quarantined: %v", e.poisoned)
	case env.ctx.Err() != nil && env.command.Lane() != messages.LaneRestrict:
		return &messages.Refusal{Code: messages.RefusedBusy, Reason: "the request waited past its deadline", RetryAfter: e.sys.retryAfter}
	}
	return nil
}

// judge runs the decider; a panic in it restarts the entity from its log, and five in
// ten minutes quarantine it.
func (e *entity) judge(in messages.Input, trust messages.Trust) (d messages.Decision, err error) {
	defer func() {
		if p := recover(); p != nil {
			e.sys.panics.Add(1)
			e.sys.logger.Error("handler panicked", "stream", e.stream, "command", fmt.Sprintf("%T", in.Command), "panic", p, "stack", string(debug.Stack()))
			d, err = messages.Decision{}, fmt.Errorf("%s: %T: handler panicked", e.stream, in.Command)
			e.panicked(in.At.TrustMs)
		}
	}()
	f := e.sys.facts(e.stream, in.Command, trust)
	// Asked now, not when the answer came: a no goes before a yes that waited with it.
	f.Overtaken = e.current.question != 0 && (e.current.question <= e.denied || e.current.downs != e.sys.clock.downs.Load())
	return e.family.decide(e.stream, e.state, f, in)
}

func (e *entity) panicked(nowMs int64) {
	e.panicsMs = append(e.recentPanics(nowMs), nowMs)
	e.recover()
	if e.poisoned == nil && len(e.panicsMs) >= panicsMax {
		e.poison(fmt.Errorf("%d panics in ten minutes", len(e.panicsMs)))
	}
}

func (e *entity) recentPanics(nowMs int64) []int64 {
	recent := e.panicsMs[:0]
	for _, ms := range e.panicsMs {
		if ms <= nowMs && nowMs-ms < panicWindowMs {
			recent = append(recent, ms)
		}
	}
	return recent
}

// batch encodes the events of a decision for the log. Event ids are derived from the
// nonce, which is secret, through a hash that does not give it away.
func (e *entity) batch(in messages.Input, events []messages.Event) (eventlog.Batch, error) {
	in.Cause.Request = clip(in.Cause.Request, requestMaxBytes)
	b := eventlog.Batch{
		Stream: e.stream, Expected: e.version, At: in.At, Cause: in.Cause, Class: classOf(events),
		Drafts: make([]eventlog.Draft, len(events)),
	}
	for i, event := range events {
		body, schema, err := messages.EncodeEvent(event)
		if err != nil {
			return b, err
		}
		b.Drafts[i] = eventlog.Draft{
			ID: messages.DeriveEventID(in.Nonce, i), Kind: event.Kind(), Schema: schema,
			Critical: event.Kind().Critical(), Body: body,
		}
	}
	return b, nil
}

// classOf says what a batch is for. One that grants anything grants as a whole: that a
// session gives way to a new one must not carry the new one onto a full disk.
func classOf(events []messages.Event) eventlog.Class {
	class := eventlog.Records
	for _, event := range events {
		switch event.Kind().Class() {
		case messages.Grants:
			return eventlog.Grants
		case messages.Restricts:
			class = eventlog.Restricts
		}
	}
	return class
}

// settle goes on after the log's word on the append in flight.
func (e *entity) settle(c actor.Context, m *appended) {
	f := e.flight
	if f == nil {
		return // the panic that lost it has answered
	}
	e.flight, e.current = nil, f.env
	switch {
	case m.err == nil:
		e.settled(c, f, m.records)
	case errors.Is(m.err, eventlog.ErrFailed):
		e.failed(f, m.err)
	case errors.Is(m.err, eventlog.ErrFull), errors.Is(m.err, eventlog.ErrBusy):
		e.abandon(f, &messages.Refusal{Code: messages.RefusedBusy, Reason: m.err.Error(), RetryAfter: e.sys.retryAfter})
	case errors.Is(m.err, eventlog.ErrConflict):
		// Nobody else writes this stream: the state is not what the log holds. Read it again.
		e.sys.logger.Error("stream was written by someone else", "stream", e.stream, "error", m.err)
		e.recover()
		e.abandon(f, messages.Refuse(messages.RefusedService, "%v", m.err))
	case errors.Is(m.err, eventlog.ErrBatch):
		e.sys.logger.Error("the event log does not take this batch", "stream", e.stream, "error", m.err)
		e.abandon(f, messages.Refuse(messages.RefusedService, "%v", m.err))
	case errors.Is(m.err, eventlog.ErrClosed), errors.Is(m.err, eventlog.ErrReadOnly):
		e.abandon(f, messages.Refuse(messages.RefusedNotReady, "%v", m.err))
	default:
		e.failed(f, m.err)
	}
	e.current = nil
	e.goOn(c)
}

// failed is the end of an append with an unknown outcome: answer nothing more that
// rests on the log.
func (e *entity) failed(f *flight, err error) {
	e.sys.fail(err)
	f.env.answer(messages.Refuse(messages.RefusedNotReady, "the event log cannot be written"))
}

// abandon refuses a decision whose events are not in the log and will not be. What it
// restricted stays restricted in the read models until something grants it again; only
// the judgement by two policies at once ends.
func (e *entity) abandon(f *flight, r *messages.Refusal) {
	for _, event := range f.decision.Events {
		e.sys.views.Abandon(e.stream, event)
		if event.Kind() == messages.KindClockReanchored {
			e.sys.clock.raise()
		}
	}
	f.env.answer(r)
}

// settled folds the events of a durable decision: the very values that were encoded,
// which are what replay will decode. Should the fold fail here, it will fail there.
func (e *entity) settled(c actor.Context, f *flight, records []messages.Record) {
	if len(records) != len(f.decision.Events) {
		panic(fmt.Sprintf("%s: %d events were appended, the log answered with %d", e.stream, len(f.decision.Events), len(records)))
	}
	if err := e.foldOwn(f); err != nil {
		e.poison(err)
		f.decision.Reply = messages.Refuse(messages.RefusedService, "quarantined: %v", err)
	}
	last := &records[len(records)-1]
	e.version = last.Version
	e.act(c, f, last.Seq)
	e.keep(last.Seq)
}

func (e *entity) foldOwn(f *flight) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: fold panicked: %v", e.stream, p)
		}
	}()
	for _, event := range f.decision.Events {
		e.state = e.family.evolve(e.state, event, f.at)
	}
	return nil
}

// goOn takes up what waited for the append.
func (e *entity) goOn(c actor.Context) {
	for e.flight == nil && len(e.urgent)+len(e.waiting) > 0 {
		e.decide(c, e.next())
	}
}

func (e *entity) next() *envelope {
	from := &e.waiting
	if len(e.urgent) > 0 {
		from = &e.urgent
	}
	env := (*from)[0]
	(*from)[0] = nil
	*from = (*from)[1:]
	if len(*from) == 0 {
		*from = nil // give the array back: a burst must not be kept for ever
	}
	return env
}

// act runs the effects of a durable decision, then replies.
func (e *entity) act(c actor.Context, f *flight, seq uint64) {
	asked := false
	for _, effect := range f.decision.Effects {
		switch effect := effect.(type) {
		case messages.AskCloud:
			if !asked && e.poisoned == nil { // one answer, one question
				asked = true
				e.askCloud(c, f, effect)
			}
		case messages.Tell:
			e.sys.tell(effect.Command, f.env.cause)
		case messages.ListAssociations:
			if r := e.sys.refresher.Load(); r != nil {
				r.order(effect)
			}
		case messages.Reverify:
			if r := e.sys.refresher.Load(); r != nil {
				e.sys.run(func() { r.reverify(effect) })
			}
		}
	}
	switch reply := f.decision.Reply.(type) {
	case nil:
		if !asked {
			f.env.answer(messages.Refuse(messages.RefusedService, "%s: %T: no answer was decided", e.stream, f.env.command))
		}
	case messages.Done:
		reply.Seq = seq
		f.env.answer(reply)
	default:
		f.env.answer(reply)
	}
}

// leave stops the actor if nothing is under way; the router keeps what arrives
// meanwhile and gives it to the next incarnation. A question that is out keeps the
// actor: its answer comes to this mailbox. Who is quarantined stays, or leaving would
// be a way out.
func (e *entity) leave(c actor.Context) {
	e.panicsMs = e.recentPanics(e.sys.clock.NowMs())
	if e.flight != nil || e.asking > 0 || len(e.urgent)+len(e.waiting) > 0 || e.poisoned != nil || len(e.panicsMs) > 0 {
		e.sys.router.stay(e.slot)
		return
	}
	c.Stop(c.Self())
	e.sys.router.gone(e.slot)
}
