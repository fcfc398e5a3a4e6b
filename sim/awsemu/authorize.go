package awsemu

import (
	"crypto/x509"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// A Bearer is who shows a certificate, with what policies can know of the occasion.
type Bearer struct {
	Certificate messages.CertificateID
	// ClientID is that of an MQTT connection. It names the connection's thing, if the
	// certificate is attached to one of that name.
	ClientID string
	// Thing is the one that a caller of the credentials provider names. It counts if the
	// certificate is attached to it.
	Thing messages.ThingName
	// Address is where it comes from: an IP address, with a port or without.
	Address string
}

// Authorize judges by the IoT policies in force what the bearer of a certificate may do. A
// certificate that is not active, or not there, may do nothing. Policies of thing groups,
// and variables of things, count for the thing of an MQTT connection; variables alone for
// one that is named (cloud spec 1.7, 8.2). resource is an ARN, or *.
func (e *Emulator) Authorize(who Bearer, action, resource string) iotpolicy.Result {
	return e.authorizer(who).judge(action, resource)
}

// RoleAliasARN is what iot:AssumeRoleWithCertificate is judged for.
func RoleAliasARN(alias string) string { return "arn:aws:iot" + arnPrefix + "rolealias/" + alias }

func clientARN(id string) string     { return "arn:aws:iot" + arnPrefix + "client/" + id }
func topicARN(topic string) string   { return "arn:aws:iot" + arnPrefix + "topic/" + topic }
func filterARN(filter string) string { return "arn:aws:iot" + arnPrefix + "topicfilter/" + filter }

// authorizer judges for one bearer, again and again.
type authorizer struct {
	e    *Emulator
	who  Bearer
	base *iotpolicy.Context // what does not change
}

func (e *Emulator) authorizer(who Bearer) *authorizer {
	a := &authorizer{e: e, who: who, base: &iotpolicy.Context{}}
	a.base.SetCertificate(e.registry.leaf(who.Certificate))
	if host, _, err := net.SplitHostPort(who.Address); err == nil {
		who.Address = host
	}
	if who.Address != "" {
		a.base.Set(iotpolicy.SourceIP, who.Address)
	}
	if who.ClientID != "" {
		a.base.Set(iotpolicy.ClientID, who.ClientID)
	}
	return a
}

// leaf is a registered certificate; nil if there is none.
func (r *Registry) leaf(id messages.CertificateID) *x509.Certificate {
	r.mu.RLock()
	known := r.certificates[id]
	r.mu.RUnlock()
	if known == nil {
		return nil
	}
	leaf, _ := x509.ParseCertificate(known.der) // it was parsed when it came
	return leaf
}

// judge goes by what is in force now.
func (a *authorizer) judge(action, resource string) iotpolicy.Result {
	policies, context, active := a.inForce()
	if !active {
		policies = nil
	}
	return iotpolicy.Evaluate(policies, iotpolicy.Request{Action: action, Resource: resource, Context: context})
}

// may says whether nothing but an explicit yes was found, and no no.
func (a *authorizer) may(action, resource string) bool {
	return a.judge(action, resource).Decision == iotpolicy.Allowed
}

// inForce returns the policies that count now, and the context.
func (a *authorizer) inForce() (policies []iotpolicy.Policy, context *iotpolicy.Context, active bool) {
	now := a.e.now()
	policies, context, thing, active := a.attached(now)
	return a.e.lag.policies(string(a.who.Certificate)+" "+string(thing), now, policies), context, active
}

// attached returns the policies as they are, whether that counts already or not.
func (a *authorizer) attached(now time.Time) (policies []iotpolicy.Policy, context *iotpolicy.Context, thing messages.ThingName, active bool) {
	context = a.base.Clone()
	context.Set(iotpolicy.CurrentTime, now.UTC().Format(time.RFC3339))
	context.Set(iotpolicy.EpochTime, strconv.FormatInt(now.Unix(), 10))
	r := a.e.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	known := r.certificates[a.who.Certificate]
	thing = known.thingOf(a.who)
	r.describeThing(context, thing, a.who.ClientID != "")
	targets := []string{CertificateARN(a.who.Certificate)}
	if a.who.ClientID != "" && thing != "" {
		targets = append(targets, r.groupTargets(thing)...)
	}
	return r.documents(targets...), context, thing, known != nil && known.status == StatusActive
}

// thingOf is the thing that a bearer comes as; empty if as none. Newer certificates know
// their only thing themselves (cloud spec 8.2).
func (c *certificate) thingOf(who Bearer) messages.ThingName {
	switch name := messages.ThingName(who.ClientID); {
	case c == nil:
		return ""
	case who.ClientID != "" && c.exclusive:
		for only := range c.things {
			return only
		}
	case c.things[name]:
		return name
	case c.things[who.Thing]:
		return who.Thing
	}
	return ""
}

// describeThing sets the variables of a connection's thing. The caller holds mu.
func (r *Registry) describeThing(context *iotpolicy.Context, name messages.ThingName, connected bool) {
	known := r.things[name]
	if known == nil {
		if connected {
			context.Set(iotpolicy.ThingAttached, "false")
		}
		return
	}
	context.Set(iotpolicy.ThingName, string(name))
	context.Set(iotpolicy.ThingAttached, "true")
	if known.typeName != "" {
		context.Set(iotpolicy.ThingTypeName, known.typeName)
	}
	for attribute, value := range known.attributes {
		context.Set(iotpolicy.ThingAttribute(attribute), value)
	}
}

// policyLag remembers policies for as long as changes take to get everywhere: AWS says 6
// to 8 minutes, since it keeps documents in caches (cloud spec 4.6).
type policyLag struct {
	mu    sync.Mutex
	delay time.Duration            // guarded by mu; zero: changes count at once
	seen  map[string]laggingPolicy // by bearer; guarded by mu
}

type laggingPolicy struct {
	at       time.Time
	policies []iotpolicy.Policy
}

const policyLagMax = 10_000 // bearers

// policies returns what counts for a bearer, whose policies are current.
func (l *policyLag) policies(bearer string, now time.Time, current []iotpolicy.Policy) []iotpolicy.Policy {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.delay <= 0 {
		return current
	}
	if former, ok := l.seen[bearer]; ok && !now.Before(former.at) && now.Before(former.at.Add(l.delay)) {
		return former.policies
	}
	if len(l.seen) >= policyLagMax {
		clear(l.seen)
	}
	l.seen[bearer] = laggingPolicy{now, slices.Clone(current)}
	return current
}

// SetPolicyDelay has changes of policies count for a bearer only once what it was last
// judged by is that old, in the emulated cloud's time. Zero: at once.
func (e *Emulator) SetPolicyDelay(delay time.Duration) {
	e.lag.mu.Lock()
	defer e.lag.mu.Unlock()
	e.lag.delay, e.lag.seen = delay, map[string]laggingPolicy{}
}
