package shadow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotmqtt"
)

// optionalPause is how long something that is allowed to fail is not tried after it was
// refused, or has cost the connection so many times running: AWS may disconnect who is
// not authorised.
const (
	optionalPause     = time.Hour
	optionalLossesMax = 3
)

// link learns the shadow's state at the beginning of each connection to AWS IoT, and hears of
// changes.
type link struct {
	f    *Follower
	mqtt *iotmqtt.Link

	rejections, reports optional
	answered            chan rejection // to a get; the zero rejection if it was accepted

	mu      sync.Mutex
	session *iotmqtt.Session // guarded by mu; nil while there is none
}

func newLink(f *Follower) (*link, error) {
	l := &link{f: f, answered: make(chan rejection, 1)}
	cfg := &f.cfg
	var err error
	l.mqtt, err = iotmqtt.New(iotmqtt.Config{
		Endpoint: cfg.Endpoint, ServerName: cfg.ServerName, Identity: cfg.Identity, Roots: cfg.Roots, ClientID: cfg.ClientID,
		Pace: cfg.pace(), Timeout: cfg.Timeout, Now: cfg.Now, News: f.newsOf,
		Failed: func(err error, again time.Duration) {
			f.set(func(s *State) { s.LinkErr = err })
			cfg.Log.Debug("AWS IoT is not connected", "error", err, "again_in_ms", again.Milliseconds())
		},
	})
	return l, err
}

// run connects again and again.
func (l *link) run() { l.mqtt.Run(l.f.ctx, l) }

// Use implements iotmqtt.User.
func (l *link) Use(s *iotmqtt.Session) {
	select {
	case <-l.answered: // of the connection before
	default:
	}
	l.use(s)
	l.follow(s)
}

// Over implements iotmqtt.User.
func (l *link) Over() {
	l.become(false)
	l.use(nil)
}

// use makes s what reports go by.
func (l *link) use(s *iotmqtt.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.session = s
}

// become tells of a connection that proved to be of use, or has ended.
func (l *link) become(up bool) {
	if l.f.Up() == up {
		return // it ended before it was told of
	}
	l.f.set(func(state *State) { state.Up = up })
	l.f.cfg.OnLink(up)
	l.f.NetworkChanged(up) // what waits for a network is tried at once
}

// report publishes what was dealt with, if that can be done now. It is best effort.
func (l *link) report(state []byte) {
	l.mu.Lock()
	s := l.session
	l.mu.Unlock()
	if s == nil || !l.reports.due(l.f.cfg.Now()) {
		return
	}
	refused, err := s.Publish(l.f.topics.Update, 1, report(state))
	l.judge(&l.reports, refused, err, "the core may not report that it has its addresses, which nothing needs: allow iot:Publish for "+l.f.topics.Update+" to see it in the shadow")
}

// judge keeps the outcome of something optional.
func (l *link) judge(o *optional, refused bool, err error, told string) {
	lost := err != nil && !refused && !errors.Is(err, context.DeadlineExceeded) && l.f.ctx.Err() == nil
	if o.outcome(l.f.cfg.Now(), refused, lost) {
		l.f.cfg.Log.Info(told, "again_in_ms", optionalPause.Milliseconds(), "error", err)
	}
}

// optional is something that AWS may refuse, or answer by hanging up. It is used by one
// goroutine.
type optional struct {
	until  time.Time // not before
	losses int       // of the connection, in a row
}

func (o *optional) due(at time.Time) bool { return !at.Before(o.until) }

// outcome says whether it is not tried for a while.
func (o *optional) outcome(at time.Time, refused, lost bool) (paused bool) {
	if !lost {
		o.losses = 0
	} else {
		o.losses++
	}
	if refused || o.losses >= optionalLossesMax {
		o.until, o.losses = at.Add(optionalPause), 0
		return true
	}
	return false
}

// Receive implements iotmqtt.User.
func (l *link) Receive(_ *iotmqtt.Session, topic string, payload []byte) {
	f := l.f
	var (
		n   Notice
		err error
	)
	switch topic {
	case f.topics.Accepted:
		if n, err = ParseAccepted(payload); err == nil {
			l.tell(rejection{})
		}
	case f.topics.Delta:
		n, err = ParseDelta(payload)
	case f.topics.Rejected:
		r, err := parseRejected(payload)
		if err != nil {
			f.cfg.Log.Warn("a message about the address shadow was ignored", "topic", topic, "error", err)
			return
		}
		l.tell(r)
		return
	default:
		return
	}
	if err != nil {
		f.cfg.Log.Warn("a message about the address shadow was ignored", "topic", topic, "error", err)
		return
	}
	if f.inbox.offer(n) {
		f.cfg.Log.Debug("the core's connectivity information has changed", "shadow_version", n.ShadowVersion)
	}
}

// tell notes that a get was answered; one answer is as good as another.
func (l *link) tell(r rejection) {
	select {
	case l.answered <- r:
	default:
	}
}

// follow subscribes and gets the state as it is now. It returns when that is done, or the
// connection has ended.
func (l *link) follow(s *iotmqtt.Session) {
	for _, topic := range []string{l.f.topics.Delta, l.f.topics.Accepted} {
		if !l.insist(s, "cannot subscribe to "+topic, func() error {
			_, err := s.Subscribe(topic)
			return err
		}) {
			return
		}
	}
	if l.rejections.due(l.f.cfg.Now()) {
		refused, err := s.Subscribe(l.f.topics.Rejected)
		l.judge(&l.rejections, refused, err, "the core may not hear why its get of the address shadow is rejected, which it can do without: allow iot:Subscribe and iot:Receive for "+l.f.topics.Rejected)
	}
	if s.Context().Err() != nil {
		return
	}
	l.become(true)
	l.insist(s, "the state of the address shadow is not known yet", func() error { return l.get(s) })
}

// insist tries until it succeeds; false: the connection has ended.
func (l *link) insist(s *iotmqtt.Session, what string, try func() error) bool {
	return s.Insist(try, func(err error, again time.Duration) {
		l.f.set(func(state *State) {
			if !state.Up { // a subscription that is refused
				state.LinkErr = err
			}
		})
		l.f.cfg.Log.Info(what, "error", err, "again_in_ms", again.Milliseconds())
	})
}

// get asks for the shadow and waits for an answer, whatever it is.
func (l *link) get(s *iotmqtt.Session) error {
	select {
	case <-l.answered: // to an earlier one
	default:
	}
	if _, err := s.Publish(l.f.topics.Get, 0, []byte("{}")); err != nil {
		return err
	}
	over := make(chan struct{})
	defer l.f.cfg.AfterFunc(l.f.cfg.Timeout*3/2, func() { close(over) })()
	select {
	case r := <-l.answered:
		if r.temporary() {
			return fmt.Errorf("rejected with code %d: %.200q", r.Code, r.Message)
		}
		return nil
	case <-over:
		return errors.New("no answer: either the shadow does not exist, and the core may not hear so, or AWS IoT does not answer")
	case <-s.Context().Done():
		return context.Cause(s.Context())
	}
}
