package cloudsync

import (
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The back-off of background questions: full jitter over a step that doubles (reliability
// spec 2.3, D2c), which the service may lengthen.
const (
	backoffMin = 500 * time.Millisecond
	backoffMax = 5 * time.Minute
	paceSlack  = 50 * time.Millisecond // that timers may be late without lowering the rate
)

// pace says when the next background question may go.
type pace struct {
	interval time.Duration // between questions, at the configured rate
	jitter   func() float64
	next     time.Time // by the rate

	step         time.Duration // of the back-off; 0 while the service answers
	since, until time.Time     // the last back-off
	why          messages.CloudFailure
}

// readyAt is when the next question may go.
func (p *pace) readyAt() time.Time {
	if p.until.After(p.next) {
		return p.until
	}
	return p.next
}

// take counts a question that goes now.
func (p *pace) take(now time.Time) {
	if now.Sub(p.next) > paceSlack { // it was idle, which earns nothing
		p.next = now
	}
	p.next = p.next.Add(p.interval)
}

// learn takes an answer, to anyone's question, that was asked at began. What was asked
// before a back-off began tells nothing new, and while it lasts the service can only
// lengthen it: many questions that fail together are one failure.
func (p *pace) learn(a messages.CloudAnswer, began, now time.Time) {
	switch {
	case a.Verdict == messages.CloudSilent && a.Failure == messages.FailureNotAsked:
	case a.Verdict != messages.CloudSilent:
		if !began.Before(p.since) {
			p.step = 0
		}
	case now.Before(p.until):
		if until := now.Add(min(a.RetryAfter, backoffMax)); until.After(p.until) {
			p.until = until
		}
	case !began.Before(p.since):
		p.step = min(max(2*p.step, backoffMin), backoffMax)
		wait := a.RetryAfter + time.Duration(p.jitter()*float64(p.step))
		p.since, p.until, p.why = now, now.Add(min(wait, backoffMax)), a.Failure
	}
}

// resume ends a back-off that no service asked for.
func (p *pace) resume() {
	if p.why == messages.FailureUnreachable || p.why == messages.FailureNotService {
		p.step, p.until = 0, time.Time{}
	}
}
