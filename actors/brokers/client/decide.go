package client

import (
	"sync"

	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// Operations and the beginnings of resources, as policies spell them
// (client-device-auth spec 10).
const (
	OpPublish   = "mqtt:publish"
	OpSubscribe = "mqtt:subscribe"

	topicPrefix  = "mqtt:topic:"
	filterPrefix = "mqtt:topicfilter:"
)

// permits is what a grant allows. Without a set each action has to be asked.
type permits struct {
	set *permission.Set
}

// requestText is the operation and resource of one decision, kept for the next one.
type requestText struct{ operation, resource []byte }

// texts spares each decision the allocation of its resource.
var texts = sync.Pool{New: func() any { return new(requestText) }}

// keepMaxBytes is the longest resource whose memory is kept.
const keepMaxBytes = 4 << 10

// Publish decides whether the session may publish to topic.
func (s *Session) Publish(topic string) Decision { return s.decide(OpPublish, topicPrefix, topic) }

// Subscribe decides whether the session may subscribe to filter. The filter is judged as
// it is written, a "$share/group/" before it included: what that means is the policy's
// to say (design section 7).
func (s *Session) Subscribe(filter string) Decision {
	return s.decide(OpSubscribe, filterPrefix, filter)
}

// Authorize decides any operation on any resource.
func (s *Session) Authorize(operation, resource string) Decision {
	return s.decide(operation, "", resource)
}

func (s *Session) decide(operation, prefix, name string) Decision {
	if s.ending.Load() != nil {
		return Closed
	}
	if d, ok := s.decideHere(operation, prefix, name); ok {
		return d
	}
	return s.decideThere(operation, prefix+name)
}

// decideHere decides by the permissions held, if they may be used.
func (s *Session) decideHere(operation, prefix, name string) (d Decision, ok bool) {
	g, now := s.grant.Load(), s.client.cfg.Now()
	if g == nil || g.permits.set == nil || !s.client.usable(g, now) {
		return Unavailable, false
	}
	text := texts.Get().(*requestText)
	text.operation = append(text.operation[:0], operation...)
	text.resource = append(append(text.resource[:0], prefix...), name...)
	answer := g.permits.set.AllowsBytes(text.operation, text.resource)
	if !answer.Allowed && answer.Err == nil {
		s.report(text.operation, text.resource)
	}
	if cap(text.resource) <= keepMaxBytes && cap(text.operation) <= keepMaxBytes {
		texts.Put(text)
	}
	if int64(now.Sub(s.client.feed.base)) >= g.renewAt {
		s.client.enqueue(s)
	}
	switch {
	case answer.Err != nil: // operation and resource name different services
		return Unavailable, true
	case answer.Allowed:
		return Allowed, true
	default:
		return Denied, true
	}
}

// decideThere puts the decision to Gatehouse, and sees to it that the next ones need not.
func (s *Session) decideThere(operation, resource string) Decision {
	c := s.client
	if g := s.grant.Load(); g == nil || !c.usable(g, c.cfg.Now()) {
		c.enqueue(s)
	}
	allowed, err := c.AuthorizeToken(c.ctx, s.token, operation, resource)
	switch {
	case s.closedBy(err) || s.ending.Load() != nil:
		return Closed
	case err != nil && isDenied(err):
		return Denied
	case err != nil:
		c.cfg.Logger.Debug("no decision", "client", s.clientID, "op", authapi.OpAuthorize, "err", err)
		return Unavailable
	case allowed:
		return Allowed
	default:
		return Denied
	}
}
