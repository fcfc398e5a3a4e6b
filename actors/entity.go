package actors

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// envelope is one command on its way, with the duty to answer exactly once.
type envelope struct {
	ctx     context.Context
	command messages.Command
	cause   messages.Cause
	reply   func(messages.Reply)
}

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
	passivate struct{} // leave if you are idle
)

// panicsMax panics of one entity within panicWindowMs quarantine it.
const (
	panicsMax     = 5
	panicWindowMs = 10 * 60 * 1000
)

// entity is the actor around a pure decider. Everything in it is owned by its mailbox.
type entity struct {
	sys     *System
	stream  messages.StreamID
	slot    *slot
	family  family
	state   any
	version uint64

	flight  *flight     // the decision whose events are being appended; nil when idle
	urgent  []*envelope // what waits meanwhile: what restricts …
	waiting []*envelope // … and the rest
	asking  int         // questions to the cloud that are out

	panicsMs []int64
	poisoned error // why nothing is decided any more; nil: healthy
}

// flight is a decision between its append and its reply.
type flight struct {
	env      *envelope
	at       messages.Instant
	decision messages.Decision
}

// Receive implements actor.Actor.
func (e *entity) Receive(c actor.Context) {
	switch m := c.Message().(type) {
	case *assign:
		e.stream, e.slot = m.stream, m.slot
		e.recover()
	case *envelope:
		e.take(c, m)
	case *appended:
		e.settle(c, m)
	case *cloudAnswer:
		e.asking--
		e.take(c, m.env)
	case passivate:
		e.leave(c)
	}
}

// recover folds the entity's stream. A log that cannot be read, or an event that its
// fold cannot take, poisons this entity alone: it answers nothing but refusals.
func (e *entity) recover() {
	e.sys.permits <- struct{}{}
	defer func() { <-e.sys.permits }()
	e.family, e.poisoned = e.sys.familyOf(e.stream), nil
	e.state, e.version = e.family.fresh(), 0
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
	for rec, err := range e.sys.log.Read(context.Background(), e.stream, 1) {
		if err != nil {
			return err
		}
		if err := e.evolve(&rec); err != nil {
			return err
		}
	}
	return nil
}

// evolve folds one record. A kind from a newer version that is not critical is passed
// by (a critical one refuses the start of the log).
func (e *entity) evolve(rec *messages.Record) error {
	event, err := messages.DecodeEvent(rec)
	switch {
	case errors.Is(err, messages.ErrUnknownKind) && !rec.Critical:
	case err != nil:
		return err
	default:
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
		if env.command.Lane() == messages.LaneRestrict {
			e.urgent = append(e.urgent, env)
		} else {
			e.waiting = append(e.waiting, env)
		}
		return
	}
	e.decide(c, env)
}

func (e *entity) decide(c actor.Context, env *envelope) {
	if r := e.refusal(env); r != nil {
		env.reply(r)
		return
	}
	in := messages.Input{Command: env.command, At: e.sys.clock.Now(), Cause: env.cause}
	e.sys.random(in.Nonce[:])
	d, err := e.judge(in)
	if err != nil {
		e.sys.logger.Error("decider failed", "stream", e.stream, "error", err)
		env.reply(messages.Refuse(messages.RefusedService, "%v", err))
		return
	}
	f := &flight{env: env, at: in.At, decision: d}
	if len(d.Events) == 0 {
		e.act(c, f, 0)
		return
	}
	batch, err := e.batch(in, d.Events)
	if err != nil {
		e.sys.logger.Error("events cannot be encoded", "stream", e.stream, "error", err)
		env.reply(messages.Refuse(messages.RefusedService, "%v", err))
		return
	}
	for _, event := range d.Events {
		if event.Kind().Class() == messages.Restricts || event.Kind() == messages.KindPolicyReplaced {
			e.sys.views.Restrict(e.stream, event, in.At) // deny early
		}
	}
	e.flight = f
	root, self := c.ActorSystem().Root, c.Self()
	e.sys.log.Append(batch, func(records []messages.Record, err error) {
		root.Send(self, &appended{records: records, err: err})
	})
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
func (e *entity) judge(in messages.Input) (d messages.Decision, err error) {
	defer func() {
		if p := recover(); p != nil {
			e.sys.panics.Add(1)
			e.sys.logger.Error("handler panicked", "stream", e.stream, "command", fmt.Sprintf("%T", in.Command), "panic", p, "stack", string(debug.Stack()))
			d, err = messages.Decision{}, fmt.Errorf("%s: %T: handler panicked", e.stream, in.Command)
			e.panicked(in.At.TrustMs)
		}
	}()
	return e.family.decide(e.stream, e.state, e.sys.facts(in.Command, in.At), in)
}

func (e *entity) panicked(nowMs int64) {
	recent := e.panicsMs[:0]
	for _, ms := range e.panicsMs {
		if nowMs-ms < panicWindowMs {
			recent = append(recent, ms)
		}
	}
	e.panicsMs = append(recent, nowMs)
	e.recover()
	if e.poisoned == nil && len(e.panicsMs) >= panicsMax {
		e.poison(fmt.Errorf("%d panics in ten minutes", len(e.panicsMs)))
	}
}

// batch encodes the events of a decision for the log. Event ids are derived from the
// nonce, which is secret, through a hash that does not give it away.
func (e *entity) batch(in messages.Input, events []messages.Event) (eventlog.Batch, error) {
	b := eventlog.Batch{
		Stream: e.stream, Expected: e.version, At: in.At, Cause: in.Cause,
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
		b.Class = max(b.Class, eventlog.Class(event.Kind().Class())) // one restricting event makes the batch urgent
	}
	return b, nil
}

// settle goes on after the log's word on the append in flight.
func (e *entity) settle(c actor.Context, m *appended) {
	f := e.flight
	e.flight = nil
	switch {
	case m.err == nil:
		e.settled(c, f, m.records)
	case errors.Is(m.err, eventlog.ErrFull), errors.Is(m.err, eventlog.ErrBusy):
		f.env.reply(&messages.Refusal{Code: messages.RefusedBusy, Reason: m.err.Error(), RetryAfter: e.sys.retryAfter})
	case errors.Is(m.err, eventlog.ErrConflict):
		// Nobody else writes this stream: the state is not what the log holds. Read it again.
		e.sys.logger.Error("stream was written by someone else", "stream", e.stream, "error", m.err)
		e.recover()
		f.env.reply(messages.Refuse(messages.RefusedService, "%v", m.err))
	default:
		// The outcome is unknown: answer nothing more that rests on the log.
		e.sys.fail(m.err)
		f.env.reply(messages.Refuse(messages.RefusedNotReady, "the event log cannot be written"))
	}
	for e.flight == nil && len(e.urgent)+len(e.waiting) > 0 {
		e.decide(c, e.next())
	}
}

func (e *entity) settled(c actor.Context, f *flight, records []messages.Record) {
	var seq uint64
	for i := range records {
		if err := e.evolve(&records[i]); err != nil { // decoded what was just encoded: a bug
			e.poison(err)
		}
		seq = records[i].Seq
	}
	e.act(c, f, seq)
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
			asked = true
			e.askCloud(c, f, effect)
		case messages.Tell:
			e.sys.tell(effect.Command, f.env.cause)
		}
	}
	switch reply := f.decision.Reply.(type) {
	case nil:
		if !asked {
			f.env.reply(messages.Refuse(messages.RefusedService, "%s: %T: no answer was decided", e.stream, f.env.command))
		}
	case messages.Done:
		reply.Seq = seq
		f.env.reply(reply)
	default:
		f.env.reply(reply)
	}
}

// cloudAnswer brings an answer back into the mailbox of the entity that asked.
type cloudAnswer struct{ env *envelope }

func (e *entity) askCloud(c actor.Context, f *flight, ask messages.AskCloud) {
	root, self, env := c.ActorSystem().Root, c.Self(), f.env
	e.asking++
	back := func(a messages.CloudAnswer) {
		root.Send(self, &cloudAnswer{env: &envelope{
			ctx: env.ctx, cause: env.cause, reply: env.reply,
			command: messages.CloudAnswered{Answer: a, AskedMs: f.at.TrustMs, Then: ask.Then},
		}})
	}
	if err := e.sys.cloud.Ask(ask.Question, back); err != nil {
		e.asking--
		env.reply(messages.Refuse(messages.RefusedService, "unable to queue the question to the cloud: %v", err))
	}
}

// leave stops the actor if nothing is under way; the router keeps what arrives
// meanwhile and gives it to the next incarnation.
func (e *entity) leave(c actor.Context) {
	if e.flight != nil || e.asking > 0 || len(e.urgent)+len(e.waiting) > 0 || e.poisoned != nil || len(e.panicsMs) > 0 {
		e.sys.router.stay(e.slot)
		return
	}
	c.Stop(c.Self())
	e.sys.router.gone(e.slot)
}
