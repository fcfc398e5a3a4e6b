package daemon

import (
	"context"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// gate lets brokers in: it puts the entities and the read models behind the desk's
// interface, and keeps no state of its own.
type gate struct {
	sys     *actors.System
	access  *actors.Access
	views   *projections.Views
	clock   *actors.TrustClock
	denials *actors.Denials
}

// cacheTTL is how long a broker may use a list of permissions without asking again. It
// only bounds the damage of lost pushes: freshness is the heartbeat's business.
const cacheTTL = time.Minute

var _ brokers.Gate = (*gate)(nil)

func cause(c brokers.Caller) messages.Cause {
	return messages.Cause{Request: c.Request, Broker: c.Broker}
}

// VerifyIdentity implements brokers.Gate.
func (g *gate) VerifyIdentity(c brokers.Caller, der []byte, reply func(bool, error)) {
	ctx, cancel := actors.WithDeadline(context.Background())
	g.access.Verify(ctx, cause(c), der, func(v messages.Verified, err error) {
		cancel()
		reply(err == nil && v.Valid, err)
	})
}

// OpenSession implements brokers.Gate.
func (g *gate) OpenSession(c brokers.Caller, clientID string, der []byte, reply func(brokers.Session, error)) {
	ctx, cancel := actors.WithDeadline(context.Background())
	g.access.Open(ctx, cause(c), clientID, der, func(s messages.SessionReady, err error) {
		cancel()
		reply(brokers.Session{Token: s.Token, Thing: s.Thing}, err)
	})
}

// Authenticate implements brokers.Gate.
func (g *gate) Authenticate(c brokers.Caller, clientID string, der []byte, reply func(brokers.Grant, error)) {
	ctx, cancel := actors.WithDeadline(context.Background())
	g.access.Authenticate(ctx, cause(c), clientID, der, func(s messages.SessionReady, ok bool, err error) {
		cancel()
		if err != nil || !ok {
			reply(brokers.Grant{DecisionID: c.Request}, err)
			return
		}
		grant, err := g.Permissions(c, []byte(s.Token))
		grant.DecisionID = c.Request
		reply(grant, err)
	})
}

// Permissions implements brokers.Gate.
func (g *gate) Permissions(c brokers.Caller, token []byte) (brokers.Grant, error) {
	s, refusal := g.views.Lookup(c.Broker, token)
	if refusal != nil {
		return brokers.Grant{}, refusal
	}
	compiled, revision, settled := g.views.Settled()
	if !settled {
		return brokers.Grant{}, &messages.Refusal{Code: messages.RefusedBusy, Reason: "another policy is about to be in force", RetryAfter: 10 * time.Millisecond}
	}
	if allowed, _ := g.views.ConnectAllowed(s.Thing); !allowed {
		return brokers.Grant{Thing: s.Thing, CertificateID: s.Certificate, PolicyRevision: revision, DecisionID: c.Request}, nil
	}
	return brokers.Grant{
		ConnectAuthorized: true,
		Token:             messages.Token(token),
		Thing:             s.Thing,
		CertificateID:     s.Certificate,
		Permissions:       compiled.Permissions(s.Thing),
		PolicyRevision:    revision,
		ExpiresAt:         g.expires(s),
		CacheTTL:          cacheTTL,
		DecisionID:        c.Request,
	}, nil
}

// expires is when trust in the session's device may end, on the broker's wall clock.
// The keeper renews it while the cloud can be asked, and the broker then asks again.
func (g *gate) expires(s *projections.Session) time.Time {
	left := g.views.TrustEndsMs(s, g.sys.Trust()) - g.clock.NowMs()
	return g.clock.Now().Wall().Add(time.Duration(left) * time.Millisecond)
}

// Authorize implements brokers.Gate: a pure read of memory.
func (g *gate) Authorize(broker messages.BrokerID, token, operation, resource []byte) (brokers.Verdict, error) {
	v := g.views.Authorize(broker, token, operation, resource, g.sys.Trust(), g.clock.NowMs())
	if v.Err != nil {
		return brokers.Verdict{}, v.Err
	}
	if !v.Allowed && !g.denials.Again(v.Session.Thing, v.Session.Digest, operation, resource) {
		g.denied(broker, v, operation, resource)
	}
	return brokers.Verdict{Allowed: v.Allowed, AsOf: v.AsOf, PolicyRevision: v.Revision}, nil
}

func (g *gate) denied(broker messages.BrokerID, v projections.Verdict, operation, resource []byte) {
	g.denials.Note(actors.Denial{
		Thing: string(v.Session.Thing), Certificate: v.Session.Certificate, Session: v.Session.Digest, Broker: broker,
		Operation: string(operation), Resource: string(resource), Revision: g.views.Policy().Revision(),
		Reason: "no statement of the device's groups allows it",
	}, messages.Cause{Broker: broker})
}

// CloseSession implements brokers.Gate.
func (g *gate) CloseSession(c brokers.Caller, token []byte, reply func(error)) {
	s, refusal := g.views.Lookup(c.Broker, token)
	if refusal != nil {
		reply(nil) // closing what is not there is no error (client-device-auth spec 4)
		return
	}
	ctx, cancel := actors.WithDeadline(context.Background())
	g.access.Close(ctx, cause(c), s.Thing, s.Digest, func(err error) {
		cancel()
		reply(err)
	})
}
