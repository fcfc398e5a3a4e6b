package registration

import (
	"cmp"
	"crypto/x509"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Rules judge candidates. The zero value denies everybody. They never change, so that any
// number of goroutines may ask.
type Rules struct {
	rules    []rule
	perHour  int
	onDenied string
	reserved []messages.ThingName
}

type rule struct {
	name       string
	deny       bool
	conditions []condition
	validity   time.Duration

	thing      template
	clientID   bool
	thingType  string
	attributes []attribute
	group      string
	takeover   bool
	policyName template
	document   *document
	associate  bool
}

type condition struct {
	what     string // for people
	patterns []string
	values   func(facts) []string
}

type attribute struct {
	name  string
	value template
}

// Verdict is what the rules say of a candidate. The zero value denies.
type Verdict struct {
	Allowed bool
	Rule    string // that decided; "" if none matched
	Reason  string // for people
	Plan    Plan   // if Allowed
}

// Plan is what the cloud is to know of a device.
type Plan struct {
	Thing          messages.ThingName
	ThingType      string
	Attributes     map[string]string
	Group          string
	Takeover       bool
	PolicyName     string // "": none
	PolicyDocument string // canonical JSON; "": a policy that is there already
	Associate      bool
}

// PerHour is how many devices may be registered in an hour.
func (r Rules) PerHour() int { return r.perHour }

// OnDenied is what becomes of a denied certificate in the cloud: a Denied… constant.
func (r Rules) OnDenied() string { return cmp.Or(r.onDenied, DeniedLeave) }

// Judge says what the rules make of leaf, which the authority of c is known to have signed:
// that Signed said so at the same time is for the caller to see to.
func (r Rules) Judge(leaf *x509.Certificate, c Candidate, now time.Time) Verdict {
	f := facts{leaf: leaf, id: messages.CertificateIDOf(leaf.Raw), authority: c.Authority}
	switch {
	case f.id != c.Certificate:
		return Verdict{Reason: fmt.Sprintf("the certificate is %.12s…, not the one that asks", f.id)}
	case checkLeaf(leaf) != nil:
		return Verdict{Reason: checkLeaf(leaf).Error()}
	case inTime(leaf, now) != nil:
		return Verdict{Reason: inTime(leaf, now).Error()}
	}
	for i := range r.rules {
		if rule := &r.rules[i]; rule.matches(f) {
			v := Verdict{Rule: rule.name, Reason: "the rule denies it"}
			if !rule.deny {
				v = rule.plan(f, c, r.reserved)
			}
			return v
		}
	}
	return Verdict{Reason: "no rule allows it"}
}

func (r *rule) matches(f facts) bool {
	if r.validity > 0 && f.leaf.NotAfter.Sub(f.leaf.NotBefore) > r.validity {
		return false
	}
	for i := range r.conditions {
		if !r.conditions[i].holds(f, r.deny) {
			return false
		}
	}
	return true
}

// holds: on any doubt an allow rule does not match, and a deny rule does.
func (c *condition) holds(f facts, deny bool) bool {
	values := c.values(f)
	fits := func(value string) bool {
		if value == unreadable {
			return deny
		}
		return slices.ContainsFunc(c.patterns, func(pattern string) bool {
			if deny {
				return matches(strings.ToLower(pattern), strings.ToLower(value))
			}
			return matches(pattern, value)
		})
	}
	if deny {
		return slices.ContainsFunc(values, fits)
	}
	return len(values) > 0 && !slices.ContainsFunc(values, func(value string) bool { return !fits(value) })
}

var (
	policyNamePattern     = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)          // cloud spec 4.2
	groupNamePattern      = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)      // and of types
	attributeNamePattern  = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]{1,128}$`) // the API's model
	attributeValuePattern = regexp.MustCompile(`^[a-zA-Z0-9_.,@/:#-]{0,800}$`)
)

// plan works out what an allow rule makes of a device. What cannot be made is denied.
func (r *rule) plan(f facts, c Candidate, reserved []messages.ThingName) Verdict {
	v := Verdict{Rule: r.name}
	no := func(format string, args ...any) Verdict {
		v.Plan, v.Reason = Plan{}, fmt.Sprintf(format, args...)
		return v
	}
	text, err := r.thing.expand(f, anyText)
	if err != nil {
		return no("its thing name: %v", err)
	}
	if f.thing, err = messages.ParseThingName(text); err != nil {
		return no("%v", err)
	}
	if slices.Contains(reserved, f.thing) {
		return no("thing name %q is the core's own", f.thing)
	}
	if r.clientID && c.Thing != "" && c.Thing != f.thing {
		return no("its client id is %q, its thing name %q: the rule wants one", c.Thing, f.thing)
	}
	v.Plan = Plan{Thing: f.thing, ThingType: r.thingType, Group: r.group, Takeover: r.takeover, Associate: r.associate}
	for _, a := range r.attributes {
		value, err := a.value.expand(f, anyText)
		if err == nil && !attributeValuePattern.MatchString(value) {
			err = fmt.Errorf("%.80q holds what AWS IoT takes for no attribute: want letters, digits and _.,@/:#-", value)
		}
		if err != nil {
			return no("attribute %s: %v", a.name, err)
		}
		if v.Plan.Attributes == nil {
			v.Plan.Attributes = map[string]string{}
		}
		v.Plan.Attributes[a.name] = value
	}
	if v.Plan.PolicyName, err = r.policyName.expand(f, anyText); err != nil {
		return no("policy name: %v", err)
	}
	if v.Plan.PolicyName != "" && !policyNamePattern.MatchString(v.Plan.PolicyName) {
		return no("policy name %.140q: want 1 to 128 letters, digits and _+=,.@-", v.Plan.PolicyName)
	}
	if r.document != nil {
		if v.Plan.PolicyDocument, err = r.document.expand(f); err != nil {
			return no("policy document: %v", err)
		}
	}
	v.Allowed, v.Reason = true, "the rule allows it"
	return v
}
