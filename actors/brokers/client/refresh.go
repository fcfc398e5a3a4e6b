package client

import (
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// refreshAttempts is how often in a row a refresh may be overtaken by news before it has
// to wait.
const refreshAttempts = 3

// pushed takes in one push. NATS calls it for one message after the other.
func (c *Client) pushed(msg *nats.Msg) {
	now := c.cfg.Now()
	_, kind, err := authapi.ParsePushSubject(msg.Subject)
	if err != nil { // a kind of a newer daemon: it still counts, but its number is unknown
		c.invalidate("a push of an unknown kind arrived", "subject", msg.Subject)
		return
	}
	switch kind {
	case authapi.PushHeartbeat:
		var p authapi.Heartbeat
		if p, err = authapi.ParseHeartbeat(msg.Data); err == nil {
			c.observe(kind, p.Stamp)
		}
	case authapi.PushSessionClosed:
		var p authapi.SessionClosed
		if p, err = authapi.ParseSessionClosed(msg.Data); err == nil {
			c.observe(kind, p.Stamp)
			c.sessionClosed(p)
		}
	case authapi.PushPolicyChanged:
		var p authapi.PolicyChanged
		if p, err = authapi.ParsePolicyChanged(msg.Data); err == nil {
			c.observe(kind, p.Stamp)
			c.policyChanged(p)
		}
	case authapi.PushCertificateUpdated:
		var p authapi.CertificateUpdated
		if p, err = authapi.ParseCertificateUpdated(msg.Data); err == nil {
			c.observe(kind, p.Stamp)
			c.mu.Lock()
			if s := c.certificates[p.CertificateType]; s != nil {
				s.heed(&p.CertificateUpdate)
			}
			c.mu.Unlock()
		}
	}
	if err != nil {
		c.invalidate("a push cannot be read", "err", err)
		return
	}
	// Last, so that nobody takes the feed for fresh before what the push says is known.
	c.heard(now)
	select {
	case <-c.ready:
	default:
		close(c.ready)
	}
}

// observe voids all permissions if a push before the one of stamp was missed. It comes
// before what the push says is applied, lest it undo that.
func (c *Client) observe(kind authapi.Push, stamp authapi.Stamp) {
	if c.feed.observe(kind, stamp) {
		c.invalidate("a push was missed", "epoch", stamp.Epoch, "seq", stamp.Seq)
	}
}

// sessionClosed ends the session of a push.
func (c *Client) sessionClosed(p authapi.SessionClosed) {
	digest, err := parseDigest(p.TokenDigest)
	if err != nil { // the parser let it through, so this cannot be
		c.invalidate("a push cannot be read", "err", err)
		return
	}
	c.mu.Lock()
	c.endings.add(digest)
	s := c.sessions.of(digest)
	c.mu.Unlock()
	if s != nil {
		s.finish(Ending{Cause: ByGatehouse, Reason: p.Reason})
	}
}

// policyChanged voids all permissions of older policies. A new run of the daemon may
// have gone back to an older policy, a known run cannot; observe has told them apart.
func (c *Client) policyChanged(p authapi.PolicyChanged) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor = max(c.floor, p.PolicyRevision)
	c.generation.Add(1)
	c.enqueueAll()
}

// invalidate voids all permissions because something was missed. A session may have been
// closed and a policy replaced without our hearing of it: fetching each session's
// permissions again finds out both.
func (c *Client) invalidate(why string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.floor = 0
	c.generation.Add(1)
	c.enqueueAll()
	for _, s := range c.certificates {
		s.heed(nil)
	}
	c.cfg.Logger.Warn("fetching all permissions again: "+why, append(args, "broker", c.cfg.Broker, "sessions", c.sessions.len())...)
}

// enqueueAll has the permissions of all sessions fetched. c.mu is held.
func (c *Client) enqueueAll() {
	for _, s := range c.sessions.list() {
		if s.queued.CompareAndSwap(false, true) {
			c.add(task{session: s})
		}
	}
}

// add has t done as soon as a worker is free. c.mu is held.
func (c *Client) add(t task) {
	c.tasks.add(t)
	if c.tasks.len() > 0 && c.tasks.running < c.cfg.Refreshers {
		next := c.tasks.take()
		if !c.crew.do(func() { c.work(next) }) {
			c.tasks.done()
		}
	}
}

// enqueue has the permissions of s fetched, if they are not about to be.
func (c *Client) enqueue(s *Session) {
	if s.queued.CompareAndSwap(false, true) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.add(task{session: s})
	}
}

// work does t, and then what waits, until nothing does.
func (c *Client) work(t task) {
	for {
		if t.session != nil {
			t.session.refresh()
		} else {
			c.sendClose(t.token)
		}
		c.mu.Lock()
		if c.tasks.len() == 0 {
			c.tasks.done()
			c.mu.Unlock()
			return
		}
		t = c.tasks.take()
		c.tasks.done() // of the former
		c.mu.Unlock()
	}
}

// refresh fetches the session's permissions.
func (s *Session) refresh() {
	c := s.client
	// From here on a new reason to refresh queues the session again.
	s.queued.Store(false)
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.wakeWaiters()
	}()
	for range refreshAttempts {
		if s.ending.Load() != nil {
			return
		}
		generation := c.generation.Load()
		reply, err := c.permissions(c.ctx, s.token)
		switch {
		case s.closedBy(err):
			return
		case err != nil:
			s.failures.Add(1)
			c.silent.Store(true)
			c.retryLater(s)
			return
		case !reply.IsConnectAuthorized:
			s.finish(Ending{Cause: ByGatehouse, Reason: "the policy does not let the client connect any more"})
			return
		case reply.ClientDeviceAuthToken != string(s.token):
			c.cfg.Logger.Error("Gatehouse answered for another session", "client", s.clientID)
			c.retryLater(s)
			return
		}
		c.answered()
		if s.accept(reply, generation) {
			return
		}
	}
	c.retryLater(s)
}

// answered notes that Gatehouse answers. If it did not before, what waits for that is tried.
func (c *Client) answered() {
	if c.silent.CompareAndSwap(true, false) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.again(len(c.failed), len(c.unclosed))
	}
}

// accept makes reply the session's permissions, unless something that happened since it
// was asked for, in generation, has made them void.
func (s *Session) accept(reply authapi.GrantReply, generation uint64) bool {
	accepted, changed := s.install(reply, generation)
	if changed {
		s.mu.Lock()
		callbacks := slices.Clone(s.onChanged)
		s.mu.Unlock()
		for _, fn := range callbacks {
			fn()
		}
	}
	return accepted
}

func (s *Session) install(reply authapi.GrantReply, generation uint64) (accepted, changed bool) {
	c := s.client
	s.accepting.Lock()
	defer s.accepting.Unlock()
	age := int64(c.cfg.Now().Sub(c.feed.base))
	ttl := int64(time.Duration(min(reply.CacheTTLMs, uint64(24*time.Hour/time.Millisecond))) * time.Millisecond)
	g := &grant{
		generation: generation,
		renewAt:    age + ttl - ttl/5,
		endsAt:     age + ttl,
		expiresAt:  instantOf(reply.ExpiresAt),
	}
	changed = s.compile(g, reply)
	c.mu.Lock()
	// The pushes raise generation and floor under this mutex, so none can slip in
	// between the look and the store.
	if generation != c.generation.Load() || reply.PolicyRevision < c.floor {
		c.mu.Unlock()
		return false, false
	}
	s.grant.Store(g)
	c.mu.Unlock()
	if s.ending.Load() != nil {
		s.grant.Store(nil)
		return true, false
	}
	return true, changed
}

// compile fills in what g permits and its version: the last one's if nothing changed.
// s.accepting is held.
func (s *Session) compile(g *grant, reply authapi.GrantReply) (changed bool) {
	last := s.grant.Load()
	if last != nil && last.permits.set != nil && !reply.PermissionsOmitted && last.permits.set.CompiledFrom(reply.Permissions) {
		g.permits, g.version = last.permits, last.version
		return false
	}
	if !reply.PermissionsOmitted {
		set, err := permission.Compile(reply.Permissions)
		if err != nil {
			s.client.cfg.Logger.Warn("each action is asked: the permissions cannot be held", "client", s.clientID, "err", err)
		} else {
			g.permits = permits{set: set}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.versions++
	g.version = s.versions
	return true
}

// retryLater has the session queued again after a while.
func (c *Client) retryLater(s *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed && !s.failed && s.ending.Load() == nil {
		s.failed = true
		c.failed = append(c.failed, s)
		c.retrySoon()
	}
}

// sendClose tells Gatehouse that the session of token is over.
func (c *Client) sendClose(token messages.Token) {
	err := c.CloseToken(c.ctx, token)
	if err == nil || isDenied(err) {
		c.answered()
		return
	}
	c.silent.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.unclosed) >= maxUnclosed {
		c.unclosed = slices.Delete(c.unclosed, 0, maxUnclosed/8)
	}
	c.unclosed = append(c.unclosed, token)
	c.retrySoon()
}

// retrySoon has what failed tried again after a moment. c.mu is held.
func (c *Client) retrySoon() {
	if c.retrying == nil && !c.tasks.abandoned {
		c.retrying = c.cfg.AfterFunc(retryInterval, c.retry)
	}
}

// retry tries again what failed: refreshes and closes. While nobody answers, one of them
// asks for all: a broker with very many sessions must not ask for each twice a second.
func (c *Client) retry() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retrying = nil
	refreshes, closes := len(c.failed), len(c.unclosed)
	switch {
	case !c.link.Connected():
		refreshes, closes = 0, 0
	case c.silent.Load():
		for len(c.failed) > 0 && c.failed[0].ending.Load() != nil { // it would ask nothing
			c.failed[0], c.failed = nil, c.failed[1:]
		}
		refreshes = len(c.failed)
		refreshes = min(refreshes, 1)
		closes = min(closes, 1-refreshes)
	}
	c.again(refreshes, closes)
	if len(c.failed)+len(c.unclosed) > 0 {
		c.retrySoon()
	}
}

// again has so many of the refreshes and closes that failed done anew, the oldest first. c.mu
// is held.
func (c *Client) again(refreshes, closes int) {
	for range refreshes {
		s := c.failed[0]
		c.failed[0], c.failed = nil, c.failed[1:]
		s.failed = false
		if s.queued.CompareAndSwap(false, true) {
			c.add(task{session: s})
		}
	}
	for _, token := range c.unclosed[:closes] {
		c.add(task{token: token})
	}
	c.unclosed = c.unclosed[closes:]
}

// heard notes that a push arrived at now, and says so if it is the first after a silence.
func (c *Client) heard(now time.Time) {
	c.feed.touch(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.watching == nil && !c.tasks.abandoned {
		c.cfg.Logger.Info("Gatehouse is heard", "broker", c.cfg.Broker)
		c.watching = c.cfg.AfterFunc(c.cfg.MaxStale, c.watch)
	}
}

// watch says when Gatehouse has fallen silent.
func (c *Client) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watching = nil
	switch now := c.cfg.Now(); {
	case c.tasks.abandoned:
	case c.feed.fresh(now, c.cfg.MaxStale):
		c.watching = c.cfg.AfterFunc(c.cfg.MaxStale-c.feed.age(now)+time.Millisecond, c.watch)
	default:
		c.cfg.Logger.Warn("Gatehouse is silent: what was allowed is not any more", "broker", c.cfg.Broker, "maxStale", c.cfg.MaxStale)
	}
}
