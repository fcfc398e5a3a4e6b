package projections

import (
	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Answers of authorization that are not a verdict. They are values, made once: the
// refusal of a stranger must cost no memory.
var (
	errNoSession = messages.Refuse(messages.RefusedInvalidToken, "no such session for this broker")
	errLapsed    = messages.Refuse(messages.RefusedInvalidToken, "trust in the device has lapsed")
	errMismatch  = messages.Refuse(messages.RefusedService, "the operation's service differs from the resource's")
)

// Verdict is the answer to an authorization.
type Verdict struct {
	Allowed  bool
	Err      *messages.Refusal // no verdict: why; nil otherwise
	AsOf     uint64            // the last record the answer knows of
	Revision uint64            // the record that put the policy in force by which it was judged
	Session  *Session          // nil if there is none
}

// Authorize judges one action of the holder of token, which came through broker, at
// trust time nowMs. It reads memory alone and makes no garbage. A token is good only
// for the broker it was issued to.
func (v *Views) Authorize(broker messages.BrokerID, token, operation, resource []byte, trust messages.Trust, nowMs int64) Verdict {
	verdict := Verdict{AsOf: v.seq.Load()} // before anything is read: what is read knows at least that
	s := v.table.find(messages.DigestOf(token))
	if s == nil || s.dead.Load() || s.Broker != broker {
		verdict.Err = errNoSession
		return verdict
	}
	verdict.Session = s
	if !v.trusted(s, trust, nowMs) {
		verdict.Err = errLapsed
		return verdict
	}
	v.table.touch(s)
	p := v.policy.Load()
	verdict.Revision = p.seq
	if s.Component != "" { // everything, before anything is parsed (client-device-auth spec 3.3)
		verdict.Allowed = policy.Component().EvaluateBytes(operation, resource).Allowed
		return verdict
	}
	d := v.permittedBy(s, p.current).EvaluateBytes(operation, resource)
	if d.Err != nil {
		verdict.Err = errMismatch
		return verdict
	}
	verdict.Allowed = d.Allowed && (p.next == nil || v.PolicyOf(s, p.next).EvaluateBytes(operation, resource).Allowed)
	return verdict
}

// trusted reports whether the session's trust holds now: its certificate valid in time
// and, unless parity is asked for, certificate and attachment confirmed within the
// trust duration. Closing follows; the answer does not wait for it.
func (v *Views) trusted(s *Session, trust messages.Trust, nowMs int64) bool {
	if s.Component != "" {
		return s.componentHolds(trust, nowMs)
	}
	if s.pending != nil { // whatever closeOnRevoke says: nothing but the clock vouches for it
		return s.pending.why(trust, nowMs) == ""
	}
	c := s.cert
	if notAfter := c.notAfterMs.Load(); nowMs > notAfter {
		return false
	}
	if !v.CloseOnRevoke() {
		return true
	}
	return trust.Holds(c.confirmedMs.Load(), nowMs) && trust.Holds(s.attached.confirmedMs.Load(), nowMs)
}

// permittedBy is the policy as it applies to the session's thing, worked out once per
// revision.
func (v *Views) permittedBy(s *Session, c *policy.Compiled) *policy.ThingPolicy {
	if p := s.permitted.Load(); p != nil && p.compiled == c {
		return p.thing
	}
	p := &permitted{compiled: c, thing: v.PolicyOf(s, c)}
	s.permitted.Store(p)
	return p.thing
}

// Lookup finds the live session of a token that came through broker.
func (v *Views) Lookup(broker messages.BrokerID, token []byte) (*Session, *messages.Refusal) {
	s := v.table.find(messages.DigestOf(token))
	if s == nil || s.dead.Load() || s.Broker != broker {
		return nil, errNoSession
	}
	v.table.touch(s) // a broker that decides from its cache comes back only to renew that
	return s, nil
}

// Settled is the policy in force and the record that put it there; not ok while another
// is about to replace it: then a list of permissions would be out of date at once.
func (v *Views) Settled() (c *policy.Compiled, seq uint64, ok bool) {
	p := v.policy.Load()
	return p.current, p.seq, p.next == nil
}

// TrustEndsMs is when the session's trust ends unless it is renewed: the earlier of its
// certificate's notAfter and, unless parity is asked for, the end of the trust duration;
// 0 if it has ended already.
func (v *Views) TrustEndsMs(s *Session, trust messages.Trust) int64 {
	if s.Component != "" {
		return s.endsMs
	}
	if s.pending != nil {
		return max(s.pending.pendingEndMs(trust), 0)
	}
	end := s.cert.notAfterMs.Load()
	if v.CloseOnRevoke() {
		end = min(end, s.cert.endMs(trust), s.attached.endMs(trust))
	}
	return max(end, 0)
}
