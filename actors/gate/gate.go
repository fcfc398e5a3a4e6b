// Package gate puts the entities and the read models behind the desk's interface: what a
// broker asks becomes commands and reads here, and nowhere else, for the daemon, the
// simulator and the benchmarks alike. It keeps no state.
package gate

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Gate lets brokers in. It implements brokers.Gate.
type Gate struct {
	sys     *actors.System
	access  *actors.Access
	views   *projections.Views
	clock   *actors.TrustClock
	denials *actors.Denials
}

// New makes a gate of a running system's parts.
func New(sys *actors.System, views *projections.Views, clock *actors.TrustClock, denials *actors.Denials) *Gate {
	return &Gate{sys: sys, access: actors.NewAccess(sys, denials), views: views, clock: clock, denials: denials}
}

// cacheTTL is how long a broker may use a list of permissions without asking again. It
// only bounds the damage of lost pushes: freshness is the heartbeat's business.
const cacheTTL = time.Minute

var _ brokers.Gate = (*Gate)(nil)

func cause(c brokers.Caller) messages.Cause {
	return messages.Cause{Request: c.Request, Broker: c.Broker}
}

// patience is how long a request may wait before it is not worth deciding: its asker has
// been told Busy by then.
const patience = 5 * time.Second

// deadline is a context that only knows when it is over: a timer a request is more than
// the request. It counts by the machine's boot time: trust time leaps when the cloud, or
// NTP, sets it right, and then nobody has waited for longer.
type deadline struct {
	context.Context
	clock *actors.TrustClock
	end   time.Duration // since boot
}

// Err implements context.Context.
func (d deadline) Err() error {
	if d.clock.Boot() > d.end {
		return context.DeadlineExceeded
	}
	return nil
}

func (g *Gate) within() context.Context {
	return deadline{context.Background(), g.clock, g.clock.Boot() + patience}
}

// VerifyIdentity implements brokers.Gate.
func (g *Gate) VerifyIdentity(c brokers.Caller, der []byte, reply func(bool, error)) {
	ctx := g.within()
	g.access.Verify(ctx, cause(c), der, func(v messages.Verified, err error) {
		reply(err == nil && v.Valid, err)
	})
}

// OpenSession implements brokers.Gate.
func (g *Gate) OpenSession(c brokers.Caller, clientID string, der []byte, reply func(brokers.Session, error)) {
	ctx := g.within()
	g.access.Open(ctx, cause(c), clientID, der, func(s messages.SessionReady, err error) {
		reply(brokers.Session{Token: s.Token, Thing: s.Thing}, err)
	})
}

// Authenticate implements brokers.Gate.
func (g *Gate) Authenticate(c brokers.Caller, clientID string, der []byte, reply func(brokers.Grant, error)) {
	ctx := g.within()
	g.access.Authenticate(ctx, cause(c), clientID, der, func(s messages.SessionReady, ok bool, err error) {
		if err != nil || !ok {
			reply(brokers.Grant{DecisionID: c.Request}, err)
			return
		}
		grant, err := g.Permissions(c, []byte(s.Token))
		if refusal, ok := errors.AsType[*messages.Refusal](err); ok && refusal.Code == messages.RefusedInvalidToken {
			// Evicted by others, say, before it was answered: no fault of the device's, which
			// never had the token that would be called wrong here.
			err = &messages.Refusal{Code: messages.RefusedBusy, Reason: "its session ended before it was answered: " + refusal.Reason, RetryAfter: endedAtOnce}
		}
		grant.DecisionID = c.Request
		reply(grant, err)
	})
}

// Permissions implements brokers.Gate.
func (g *Gate) Permissions(c brokers.Caller, token []byte) (brokers.Grant, error) {
	s, refusal := g.views.Lookup(c.Broker, token)
	if refusal != nil {
		return brokers.Grant{}, refusal
	}
	if s.Component != "" { // a list of permissions is for a thing
		return brokers.Grant{}, messages.Refuse(messages.RefusedInvalidArguments, "an internal component's session has no list of permissions: ask authorize")
	}
	trust := g.sys.Trust() // before the clock: see TrustEndsMs
	left := g.views.TrustEndsMs(s, trust) - g.clock.NowMs()
	if left < 0 {
		return brokers.Grant{}, messages.Refuse(messages.RefusedInvalidToken, "trust in the device has lapsed")
	}
	compiled, revision, settled := g.views.Settled()
	if !settled {
		return brokers.Grant{}, &messages.Refusal{Code: messages.RefusedBusy, Reason: "another policy is about to be in force", RetryAfter: 10 * time.Millisecond}
	}
	policy := g.views.PolicyOf(s, compiled)
	if !policy.ConnectAllowed() {
		return brokers.Grant{Thing: s.Thing, CertificateID: s.Certificate, PolicyRevision: revision, DecisionID: c.Request}, nil
	}
	return brokers.Grant{
		ConnectAuthorized: true,
		Token:             messages.Token(token),
		Thing:             s.Thing,
		CertificateID:     s.Certificate,
		Permissions:       policy.Permissions(),
		PolicyRevision:    revision,
		ExpiresAt:         g.wall(left),
		CacheTTL:          cacheTTL,
		DecisionID:        c.Request,
	}, nil
}

// endedAtOnce is when to come again for whose session ended before it was answered.
const endedAtOnce = time.Second

const yearMs = 365 * 24 * 60 * 60 * 1000

// wall is when trust that lasts for another leftMs may end, on the broker's wall clock.
// The keeper renews it while the cloud can be asked, and the broker then asks again.
func (g *Gate) wall(leftMs int64) time.Time {
	// A certificate may say the year 9999, which a duration cannot: more than a year is
	// as good as for ever here.
	return g.clock.Now().Wall().Add(time.Duration(min(leftMs, yearMs)) * time.Millisecond)
}

// Authorize implements brokers.Gate: a pure read of memory.
func (g *Gate) Authorize(broker messages.BrokerID, token, operation, resource []byte) (brokers.Verdict, error) {
	v := g.views.Authorize(broker, token, operation, resource, g.sys.Trust(), g.clock.NowMs())
	if v.Err != nil {
		return brokers.Verdict{}, v.Err
	}
	if !v.Allowed && !g.denials.Again(v.Session.Thing, v.Session.Digest, operation, resource) {
		g.denied(broker, v, operation, resource)
	}
	return brokers.Verdict{Allowed: v.Allowed, AsOf: v.AsOf, PolicyRevision: v.Revision}, nil
}

func (g *Gate) denied(broker messages.BrokerID, v projections.Verdict, operation, resource []byte) {
	g.denials.Note(actors.Denial{
		Thing: string(v.Session.Thing), Certificate: v.Session.Certificate, Session: v.Session.Digest, Broker: broker,
		Operation: string(operation), Resource: string(resource), Revision: g.views.Policy().Revision(),
		Reason: "no statement of the device's groups allows it",
	}, messages.Cause{Broker: broker})
}

// CloseSession implements brokers.Gate.
func (g *Gate) CloseSession(c brokers.Caller, token []byte, reply func(error)) {
	s, refusal := g.views.Lookup(c.Broker, token)
	if refusal != nil {
		reply(nil) // closing what is not there is no error (client-device-auth spec 4)
		return
	}
	ctx := g.within()
	g.access.Close(ctx, cause(c), s.Thing, s.Component, s.Digest, func(err error) {
		reply(err)
	})
}
