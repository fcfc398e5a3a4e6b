package actors

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// cloudPatience is how long a device whose stored trust counts, or that may be admitted as
// pending, waits for one answer of the cloud. It may need two, and is to have its answer
// within two seconds (reliability spec 2.3, D1c): a cloud that hangs must not keep out who may
// come in without it.
const cloudPatience = 800 * time.Millisecond

// What has become of a question.
const (
	questionOut int32 = iota
	questionAnswered
	questionGivenUp
)

// askCloud asks, and brings the answer back into this mailbox: once, whatever the cloud
// does.
func (e *entity) askCloud(c actor.Context, f *flight, ask messages.AskCloud) {
	root, self, env := c.ActorSystem().Root, c.Self(), f.env
	e.questions++
	question, downs := e.questions, f.downs // of the stamp: what it says may be void since
	var state atomic.Int32
	var timer atomic.Pointer[func() bool]
	bring := func(a messages.CloudAnswer) {
		root.Send(self, &cloudAnswer{env: env, answered: messages.CloudAnswered{Answer: a, AskedMs: f.at.TrustMs, Then: ask.Then}, question: question, downs: downs})
	}
	back := func(a messages.CloudAnswer) {
		switch {
		case state.CompareAndSwap(questionOut, questionAnswered):
			if stop := timer.Load(); stop != nil {
				(*stop)()
			}
			bring(a)
		case a.Verdict == messages.CloudDenied && ask.Late != nil && state.CompareAndSwap(questionGivenUp, questionAnswered):
			// Nobody waits for it any more, and a second question may get no answer.
			e.sys.tell(messages.CloudAnswered{Answer: a, AskedMs: f.at.TrustMs, Then: ask.Late}, env.cause)
		}
	}
	if err := e.sys.ask(ask.Question, back); err != nil && state.CompareAndSwap(questionOut, questionAnswered) {
		r, ok := errors.AsType[*messages.Refusal](err)
		busy := ok && r.Code == messages.RefusedBusy
		switch {
		case busy && (ask.Question.Background || isRecheck(ask.Then)):
			env.answer(messages.Rechecked{Asked: true, Failure: messages.FailureNotAsked, Wait: max(r.RetryAfter, e.sys.retryAfter)})
			return
		case busy && ask.Late != nil:
			// A fleet that comes back at once is more than the queue takes. The reference
			// fails here (client-device-auth spec 5.6); what would do in the cloud's silence
			// does here, too, and the keeper asks about those who are in.
			e.asking++
			bring(messages.CloudAnswer{Detail: r.Reason})
			return
		}
		env.answer(messages.Refuse(messages.RefusedService, "unable to queue the question to the cloud: %v", err))
		return
	}
	e.asking++
	if ask.Late == nil && !e.sys.pendingWaits(ask.Question) || state.Load() != questionOut {
		return
	}
	stop := e.sys.clock.clock.AfterFunc(cloudPatience, func() {
		if state.CompareAndSwap(questionOut, questionGivenUp) {
			bring(messages.CloudAnswer{Detail: "no answer within " + cloudPatience.String()})
		}
	})
	if timer.Store(&stop); state.Load() != questionOut { // it was answered meanwhile
		stop()
	}
}

// pendingWaits reports whether it may be a device to be admitted as pending that waits for the
// answer: a link that swallows everything must not keep out those either.
func (s *System) pendingWaits(q messages.CloudQuestion) bool {
	e := s.enroller.Load()
	return e != nil && e.cfg.Offline.Enabled && q.Stranger && !s.NetworkUp()
}

// isRecheck reports whether nobody waits for what c finds out but who sees to it that trust
// is renewed, and comes again.
func isRecheck(c messages.Command) bool {
	switch c.(type) {
	case messages.RecheckCertificate, messages.RecheckAttachment:
		return true
	}
	return false
}
