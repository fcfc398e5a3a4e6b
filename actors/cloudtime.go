package actors

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// authorityCloud names the cloud in the log as the one who gave the time.
const authorityCloud = "cloud"

// ask puts a question to the cloud and lets the trust clock hear what time the answer
// tells before anybody hears the answer: what it grants is stamped by a clock that the
// same answer does not contradict. If it does, the question is put once more, since it
// takes two; a yes that is in dispute still is no answer.
func (s *System) ask(q messages.CloudQuestion, done func(messages.CloudAnswer)) error {
	return s.askAt(q, func(a messages.CloudAnswer, h Hearing, offsetMs int64) {
		switch {
		case h == HeardDispute && a.Verdict == messages.CloudConfirmed:
			err := s.askAt(q, func(again messages.CloudAnswer, h Hearing, offsetMs int64) {
				s.settleTime(again, h, offsetMs, done)
			})
			if err != nil {
				s.settleTime(a, h, offsetMs, done)
			}
		default:
			s.settleTime(a, h, offsetMs, done)
		}
	})
}

func (s *System) askAt(q messages.CloudQuestion, done func(messages.CloudAnswer, Hearing, int64)) error {
	asked := s.clock.clock.Boot()
	return s.cloud.Ask(q, func(a messages.CloudAnswer) {
		h, offsetMs := s.clock.Hear(a.Date, asked)
		if h == HeardDispute && s.clock.State() == ClockCertain { // in doubt the first word always is
			s.logger.Warn("the cloud's time and this core's differ; a second answer is needed to follow it",
				"cloud", a.Date.UTC().Format(time.RFC3339), "core", s.clock.Now().Trust().Format(time.RFC3339))
		}
		done(a, h, offsetMs)
	})
}

// Probing is for who asks the cloud for a sign of life: called before, it returns what to tell
// the time of the answer to. A core that followed a cloud whose clock was wrong may take every
// certificate for one of the future, and ask about none: it hears better only so. again: the
// clock and the cloud differ, and a second word is needed.
func (s *System) Probing() (heard func(date time.Time) (again bool)) {
	asked := s.clock.clock.Boot()
	return func(date time.Time) bool {
		h, offsetMs := s.clock.Hear(date, asked)
		if h == HeardAhead {
			s.reanchor(offsetMs, func(error) {})
		}
		return h == HeardDispute
	}
}

// settleTime hands on an answer once the clock is right by it.
func (s *System) settleTime(a messages.CloudAnswer, h Hearing, offsetMs int64, done func(messages.CloudAnswer)) {
	switch {
	case a.Verdict == messages.CloudDenied:
		done(a) // at once: it grants nothing
		if h == HeardAhead {
			s.reanchor(offsetMs, func(error) {})
		}
	case h == HeardAhead:
		s.reanchor(offsetMs, func(err error) {
			if err != nil {
				a = inDispute(a, fmt.Sprintf("the clock cannot be set back: %v", err))
			}
			done(a)
		})
	case h == HeardDispute:
		done(inDispute(a, "the cloud's answers do not agree about the time"))
	default:
		done(a)
	}
}

// inDispute is what is left of an answer that tells another time than the clock.
func inDispute(a messages.CloudAnswer, why string) messages.CloudAnswer {
	if a.Verdict != messages.CloudConfirmed {
		return a
	}
	return messages.CloudAnswer{Detail: clip("not used: "+why, 256), Date: a.Date}
}

// reanchor has the clock set back; then is called when that is on record, or is not.
func (s *System) reanchor(offsetMs int64, then func(error)) {
	former := s.clock.NowMs()
	s.Submit(context.Background(), messages.ReanchorClock{OffsetMs: offsetMs, Authority: authorityCloud}, messages.Cause{Request: "cloud time"}, func(r messages.Reply) {
		if _, ok := r.(messages.Done); !ok {
			err := refusalOf(r)
			s.logger.Error("the clock is ahead of the cloud's time and cannot be set back", "error", err)
			then(err)
			return
		}
		s.logger.Warn("the clock was ahead of the cloud's time and was set back",
			"from", time.UnixMilli(former).UTC().Format(time.RFC3339), "to", s.clock.Now().Trust().Format(time.RFC3339))
		then(nil)
	})
}
