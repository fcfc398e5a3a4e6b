package client

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// A Decision is the answer to "may this session do that". Only Allowed is a yes, and the
// zero value is not.
type Decision uint8

// The decisions.
const (
	Unavailable Decision = iota // nobody could say: not now
	Denied                      // the policy does not permit it
	Closed                      // the session is over: disconnect the client
	Allowed
)

// String names the decision.
func (d Decision) String() string {
	switch d {
	case Allowed:
		return "allowed"
	case Denied:
		return "denied"
	case Closed:
		return "closed"
	default:
		return "unavailable"
	}
}

// Cause says who ended a session.
type Cause uint8

// The causes.
const (
	ByGatehouse Cause = iota // revoked, taken over, expired: the client must go
	ByBroker                 // Session.Close or Client.Close
)

// An Ending is why a session is over.
type Ending struct {
	Cause  Cause
	Reason string // for people and logs; from Gatehouse as it was pushed
}

// A Session is one authenticated connection of a client device. Its methods are safe for
// use by any number of goroutines.
type Session struct {
	reports reports

	client   *Client
	clientID string
	thing    messages.ThingName
	certID   messages.CertificateID
	decision string
	token    messages.Token
	digest   messages.TokenDigest

	grant    atomic.Pointer[grant]  // what may be done, as last fetched; nil if never
	ending   atomic.Pointer[Ending] // nil while the session lives
	done     chan struct{}
	queued   atomic.Bool   // a refresh is waiting
	failures atomic.Uint64 // refreshes that got no answer
	failed   bool          // it is one of client.failed; guarded by client.mu

	accepting sync.Mutex // held while a reply becomes the grant
	mu        sync.Mutex
	versions  uint64
	waiters   chan struct{} // closed when the refresh under way ends; nil if nobody waits
	onClosed  []func(Ending)
	onChanged []func()
}

// Authenticate opens a session for the client that connected as clientID and proved by
// TLS that it owns the certificate der. The error wraps ErrDenied, ErrBusy or
// ErrUnavailable.
func (c *Client) Authenticate(ctx context.Context, clientID string, der []byte) (*Session, error) {
	if !utf8.ValidString(clientID) {
		return nil, fmt.Errorf("authenticate: %w: the client id is not UTF-8", ErrDenied)
	}
	if err := c.room(authapi.OpAuthenticate); err != nil {
		return nil, err
	}
	generation := c.generation.Load()
	c.mu.Lock()
	endings := c.endings.total
	c.mu.Unlock()
	q := authapi.AuthenticateRequest{ClientID: clientID, CertificatePEM: encodeCertificate(der)}
	reply, err := ask(ctx, c, authapi.OpAuthenticate, q, authapi.ParseGrantReply)
	if err != nil {
		return nil, badName(clientID, err)
	}
	if !reply.IsConnectAuthorized {
		return nil, fmt.Errorf("authenticate: %w: the policy does not let %q connect (decision %s)", ErrDenied, clientID, reply.DecisionID)
	}
	token := messages.Token(reply.ClientDeviceAuthToken)
	s := &Session{
		client:   c,
		clientID: clientID,
		thing:    messages.ThingName(reply.ThingName),
		certID:   messages.CertificateID(reply.CertificateID),
		decision: reply.DecisionID,
		token:    token,
		digest:   token.Digest(),
		done:     make(chan struct{}),
	}
	if err := c.register(s, endings); err != nil {
		return nil, err
	}
	if !s.accept(reply, generation) {
		c.enqueue(s)
	}
	return s, nil
}

// badName turns the answer to a client id that cannot be a thing's name into the denial it
// is: Gatehouse gives the Service error that Greengrass does (client-device-auth spec
// 5.2), and a client told "unavailable" would try for ever.
func badName(clientID string, err error) error {
	refusal, ok := errors.AsType[*messages.Refusal](err)
	if !ok || refusal.Code != messages.RefusedService {
		return err
	}
	if _, bad := messages.ParseThingName(clientID); bad != nil {
		return fmt.Errorf("authenticate: %w: %w", ErrDenied, bad)
	}
	return err
}

// register makes s known to the pushes. Its close may have been pushed since there had
// been so many endings, before its opening was known here.
func (c *Client) register(s *Session, endings uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		c.add(task{token: s.token})
		return fmt.Errorf("authenticate: %w: the client is closed", ErrUnavailable)
	}
	ended, certain := c.endings.since(endings, s.digest)
	if ended {
		return fmt.Errorf("authenticate: %w: %w", ErrDenied, ErrSessionClosed)
	}
	if c.sessions.of(s.digest) != nil {
		return fmt.Errorf("authenticate: %w: Gatehouse issued %v twice", ErrUnavailable, s.token)
	}
	c.sessions.add(s)
	if !certain { // ask whether it still lives before anything else
		c.generation.Add(1)
		c.enqueueAll()
	}
	return nil
}

// String names the session without its token.
func (s *Session) String() string {
	return fmt.Sprintf("session of %s (%s)", s.thing, s.digest.Short())
}

// Thing is the thing that the session's client is.
func (s *Session) Thing() messages.ThingName { return s.thing }

// ClientID is the MQTT client id the session was opened for.
func (s *Session) ClientID() string { return s.clientID }

// CertificateID is the certificate that the client presented.
func (s *Session) CertificateID() messages.CertificateID { return s.certID }

// Digest is the digest of the session's token, by which the log and pushes name it.
func (s *Session) Digest() messages.TokenDigest { return s.digest }

// DecisionID names the decision that opened the session, for `gatehouse explain`.
func (s *Session) DecisionID() string { return s.decision }

// Done is closed when the session is over.
func (s *Session) Done() <-chan struct{} { return s.done }

// Ended returns why the session is over, if it is.
func (s *Session) Ended() (Ending, bool) {
	if e := s.ending.Load(); e != nil {
		return *e, true
	}
	return Ending{}, false
}

// OnClosed has fn called once, in a goroutine of its own, when the session is over. If it
// already is, fn is called before OnClosed returns.
func (s *Session) OnClosed(fn func(Ending)) {
	s.mu.Lock()
	e := s.ending.Load()
	if e == nil {
		s.onClosed = append(s.onClosed, fn)
	}
	s.mu.Unlock()
	if e != nil {
		fn(*e)
	}
}

// OnChanged has fn called each time the session's permissions have become different
// ones. It is called by a goroutine that refreshes permissions and should return soon.
func (s *Session) OnChanged(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onChanged = append(s.onChanged, fn)
}

// Close ends the session because its client went away. Decisions are Closed from now on;
// Gatehouse is told in the background, again and again until it has heard.
func (s *Session) Close() { s.finish(Ending{Cause: ByBroker, Reason: "closed by the broker"}) }

// finish ends the session for reason e, unless it is over already.
func (s *Session) finish(e Ending) {
	s.mu.Lock()
	if !s.ending.CompareAndSwap(nil, &e) {
		s.mu.Unlock()
		return
	}
	s.grant.Store(nil)
	close(s.done)
	callbacks := s.onClosed
	s.onClosed, s.onChanged = nil, nil
	s.wakeWaiters()
	for _, fn := range callbacks {
		s.client.crew.do(func() { fn(e) })
	}
	s.mu.Unlock()

	c := s.client
	c.mu.Lock()
	c.sessions.remove(s)
	if e.Cause == ByBroker {
		c.tasks.coming++
	}
	c.mu.Unlock()
	if e.Cause == ByBroker {
		s.reports.end(s.tellClosed)
	}
}

// tellClosed has Gatehouse told that the broker closed the session.
func (s *Session) tellClosed() {
	c := s.client
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(task{token: s.token})
	c.tasks.coming--
	c.tasks.tell()
}

// wakeWaiters lets those in Await look again. s.mu is held.
func (s *Session) wakeWaiters() {
	if s.waiters != nil {
		close(s.waiters)
		s.waiters = nil
	}
}

// Current reports whether the permissions of that version (see Await) are still those
// in force: a few loads and comparisons, for use on every message.
func (s *Session) Current(version uint64) bool {
	g := s.grant.Load()
	return g != nil && g.version == version && s.client.usable(g, s.client.cfg.Now())
}

// Await waits until the session's permissions are known and returns their version. Where
// that is a matter of a refresh under way it takes a moment; where Gatehouse does not
// answer it fails as soon as that is known. The error wraps ErrDenied when the session
// is over, ErrUnavailable otherwise.
func (s *Session) Await(ctx context.Context) (version uint64, err error) {
	failures := s.failures.Load()
	for {
		s.mu.Lock()
		if e := s.ending.Load(); e != nil {
			s.mu.Unlock()
			return 0, fmt.Errorf("permissions: %w: %w: %s", ErrDenied, ErrSessionClosed, e.Reason)
		}
		if g := s.grant.Load(); g != nil && s.client.usable(g, s.client.cfg.Now()) {
			s.mu.Unlock()
			return g.version, nil
		}
		if s.waiters == nil {
			s.waiters = make(chan struct{})
		}
		changed := s.waiters
		s.mu.Unlock()
		if s.failures.Load() != failures || !s.client.reachable() {
			return 0, fmt.Errorf("permissions: %w: Gatehouse does not tell them", ErrUnavailable)
		}
		s.client.enqueue(s)
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, fmt.Errorf("permissions: %w: %w", ErrUnavailable, ctx.Err())
		}
	}
}

// closedBy ends the session if err says that Gatehouse knows it no more.
func (s *Session) closedBy(err error) bool {
	if !errors.Is(err, ErrSessionClosed) {
		return false
	}
	s.finish(Ending{Cause: ByGatehouse, Reason: "Gatehouse does not know the session any more"})
	return true
}

// A grant is one set of permissions and how long it may be used. It never changes.
type grant struct {
	version    uint64
	generation uint64 // of the Client, when it was asked for
	permits    permits
	renewAt    int64 // from then on fetch it again, in nanoseconds since feed.base
	endsAt     int64 // from then on do not use it
	expiresAt  int64 // the same by the wall clock, in nanoseconds since 1970
}

// usable reports whether g may serve a decision now.
func (c *Client) usable(g *grant, now time.Time) bool {
	return g.generation == c.generation.Load() && int64(now.Sub(c.feed.base)) < g.endsAt &&
		now.UnixNano() < g.expiresAt && c.feed.fresh(now, c.cfg.MaxStale)
}

// reachable reports whether it makes sense to wait for Gatehouse.
func (c *Client) reachable() bool {
	return c.link.Connected() && c.feed.fresh(c.cfg.Now(), c.cfg.MaxStale)
}

// instantOf returns t in nanoseconds since 1970; the zero time is the end of time.
func instantOf(t time.Time) int64 {
	const endOfTime = 1<<63 - 1
	if t.IsZero() || t.Year() > 2261 { // where UnixNano ends
		return endOfTime
	}
	return t.UnixNano()
}
