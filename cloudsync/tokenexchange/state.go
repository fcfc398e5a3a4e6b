package tokenexchange

import "time"

// Defaults and bounds of the caching rules (cloud spec 2).
const (
	DefaultRefreshBefore = 5 * time.Minute
	DefaultClientError   = 120 * time.Second
	DefaultServerError   = 60 * time.Second
	DefaultUnknownError  = 300 * time.Second
	retryFirst           = time.Second // after the first failure of a kind that may pass at any moment
	jitterMax            = time.Minute
)

// Rules say how long what the cloud said is kept. The zero value is Greengrass's.
type Rules struct {
	// RefreshBefore is how long before the end of a set a newer one is fetched.
	RefreshBefore time.Duration
	// ClientError, ServerError and UnknownError are how long a 4xx, a 5xx and anything else
	// that is no answer is kept, for callers who find no credentials that are good.
	ClientError, ServerError, UnknownError time.Duration
}

func (r Rules) complete() Rules {
	for _, rule := range []struct {
		value    *time.Duration
		standard time.Duration
	}{{&r.RefreshBefore, DefaultRefreshBefore}, {&r.ClientError, DefaultClientError}, {&r.ServerError, DefaultServerError}, {&r.UnknownError, DefaultUnknownError}} {
		if *rule.value <= 0 {
			*rule.value = rule.standard
		}
	}
	return r
}

// kept is how long a failure counts.
func (r Rules) kept(f *Failure) time.Duration {
	switch {
	case f.passing:
		return 0
	case f.Status >= 400 && f.Status <= 499:
		return r.ClientError
	case f.Status >= 500 && f.Status <= 599:
		return r.ServerError
	default:
		return r.UnknownError
	}
}

// state is what a Cache knows. It is a value without a clock: all its times are those since
// the machine's start.
type state struct {
	held     *holding
	failed   *Failure      // the last one, while its credentials' successor is missing; nil: the last answer was good
	failedTo time.Duration // until then it is the answer to who finds no credentials
	failedAt time.Duration
	failures int           // in a row
	next     time.Duration // when the next set is to be fetched; 0: at once
}

// holding is a set of credentials.
type holding struct {
	Credentials
	got   time.Duration
	until time.Duration // its end, never later than what the cloud said
}

// look is what a caller gets now: a set that is good, or else a failure that still counts, or
// neither: then the cloud is to be asked.
func (s *state) look(now time.Duration) (*holding, *Failure) {
	if s.held != nil && now < s.held.until {
		return s.held, nil
	}
	if s.failed != nil && now < s.failedTo {
		return nil, s.failed
	}
	return nil, nil
}

// take takes what came, at now, of a question that was asked at asked; chance is of [0, 1).
// It returns what those get who waited for it.
func (s *state) take(rules Rules, asked, now time.Duration, got Fetched, failure *Failure, chance float64) (*holding, *Failure) {
	if failure == nil {
		// The cloud wrote what is left after it was asked: counted from then it is never too long.
		h := &holding{Credentials: got.Credentials, got: now, until: asked + got.Lifetime}
		if now < h.until {
			s.keep(rules, h, now, got.Lifetime, chance)
			return h, nil
		}
		failure = &Failure{Code: CodeUnavailable, Message: "the credentials expired while they were fetched", passing: true}
	}
	s.failures++
	s.failed, s.failedAt, s.failedTo = failure, now, now+rules.kept(failure)
	s.next = now + s.pause(rules, failure, chance)
	return nil, failure
}

// keep takes a new set. One that is nearly over goes to those who wait, but is not kept
// (cloud spec 2): another would have to be fetched at once.
func (s *state) keep(rules Rules, h *holding, now, lifetime time.Duration, chance float64) {
	s.failed = nil
	margin := rules.RefreshBefore
	if lifetime < min(margin, DefaultRefreshBefore) {
		s.failures++
		s.next = now + s.pause(rules, &Failure{}, chance)
		return
	}
	if lifetime <= margin { // refreshBefore was set longer than the role's credentials last
		margin = lifetime / 2
	}
	s.failures = 0
	s.held = h
	s.next = max(now, h.until-margin-time.Duration(chance*float64(min(jitterMax, margin/5))))
}

// pause is how long the cloud is left alone. Who said no is asked again when that no has
// lapsed; what may pass at any moment is tried sooner, since the next caller should find
// credentials.
func (s *state) pause(rules Rules, failure *Failure, chance float64) time.Duration {
	wait := rules.kept(failure)
	if failure.Status == 0 || failure.passing {
		most := max(wait, rules.UnknownError)
		wait = min(retryFirst<<min(s.failures-1, 20), most)
		wait = time.Duration(float64(wait) * (1 + chance) / 2)
	}
	return max(wait, retryFirst/2)
}

// wake tells that the cloud is back: who fails is tried at once, or a moment after the last
// try; and a question that is under way, and fails yet, is repeated as soon as after the first.
func (s *state) wake(now time.Duration) {
	s.failures = 0
	if s.failed != nil {
		s.next = min(s.next, max(now, s.failedAt+retryFirst))
	}
}
