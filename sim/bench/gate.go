package main

import (
	"context"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// gate puts entities and read models behind the desk's interface. It does what the
// daemon's own does (cmd/internal/daemon), which only cmd may import; verify, token and
// close are here for completeness, authorize and authenticate are measured.
type gate struct {
	sys     *actors.System
	access  *actors.Access
	views   *projections.Views
	clock   *actors.TrustClock
	denials *actors.Denials
}

var _ brokers.Gate = (*gate)(nil)

const cacheTTL = time.Minute

func causeOf(c brokers.Caller) messages.Cause {
	return messages.Cause{Request: c.Request, Broker: c.Broker}
}

// VerifyIdentity implements brokers.Gate.
func (g *gate) VerifyIdentity(c brokers.Caller, der []byte, reply func(bool, error)) {
	ctx, cancel := actors.WithDeadline(context.Background())
	g.access.Verify(ctx, causeOf(c), der, func(v messages.Verified, err error) {
		cancel()
		reply(err == nil && v.Valid, err)
	})
}

// OpenSession implements brokers.Gate.
func (g *gate) OpenSession(c brokers.Caller, clientID string, der []byte, reply func(brokers.Session, error)) {
	ctx, cancel := actors.WithDeadline(context.Background())
	g.access.Open(ctx, causeOf(c), clientID, der, func(s messages.SessionReady, err error) {
		cancel()
		reply(brokers.Session{Token: s.Token, Thing: s.Thing}, err)
	})
}

// Authenticate implements brokers.Gate.
func (g *gate) Authenticate(c brokers.Caller, clientID string, der []byte, reply func(brokers.Grant, error)) {
	ctx, cancel := actors.WithDeadline(context.Background())
	g.access.Authenticate(ctx, causeOf(c), clientID, der, func(s messages.SessionReady, ok bool, err error) {
		cancel()
		if err != nil || !ok {
			reply(brokers.Grant{DecisionID: c.Request}, err)
			return
		}
		grant, err := g.Permissions(c, []byte(s.Token))
		grant.Token, grant.DecisionID = s.Token, c.Request
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
		return brokers.Grant{}, messages.Refuse(messages.RefusedBusy, "another policy is about to be in force")
	}
	left := g.views.TrustEndsMs(s, g.sys.Trust()) - g.clock.NowMs()
	return brokers.Grant{
		ConnectAuthorized: true,
		Thing:             s.Thing,
		CertificateID:     s.Certificate,
		Permissions:       compiled.Permissions(s.Thing),
		PolicyRevision:    revision,
		ExpiresAt:         g.clock.Now().Wall().Add(time.Duration(left) * time.Millisecond),
		CacheTTL:          cacheTTL,
		DecisionID:        c.Request,
	}, nil
}

// Authorize implements brokers.Gate.
func (g *gate) Authorize(broker messages.BrokerID, token, operation, resource []byte) (brokers.Verdict, error) {
	v := g.views.Authorize(broker, token, operation, resource, g.sys.Trust(), g.clock.NowMs())
	if v.Err != nil {
		return brokers.Verdict{}, v.Err
	}
	if !v.Allowed {
		g.denials.Note(actors.Denial{
			Thing: string(v.Session.Thing), Certificate: v.Session.Certificate, Session: v.Session.Digest, Broker: broker,
			Operation: string(operation), Resource: string(resource), Revision: g.views.Policy().Revision(),
			Reason: "no statement of the device's groups allows it",
		}, messages.Cause{Broker: broker})
	}
	return brokers.Verdict{Allowed: v.Allowed, AsOf: v.AsOf, PolicyRevision: v.Revision}, nil
}

// CloseSession implements brokers.Gate.
func (g *gate) CloseSession(c brokers.Caller, token []byte, reply func(error)) {
	s, refusal := g.views.Lookup(c.Broker, token)
	if refusal != nil {
		reply(nil) // closing what is not there is no error (client-device-auth spec 4)
		return
	}
	ctx, cancel := actors.WithDeadline(context.Background())
	g.access.Close(ctx, causeOf(c), s.Thing, s.Digest, func(err error) {
		cancel()
		reply(err)
	})
}
