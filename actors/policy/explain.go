package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

const (
	explainMatchesMax = 20
	explainMissesMax  = 8
	explainGroupsMax  = 50
)

// An Explanation is a decision with all that bears on it, for people.
type Explanation struct {
	Thing     messages.ThingName `json:"thing"`
	Operation string             `json:"operation"`
	Resource  string             `json:"resource"`
	Allowed   bool               `json:"allowed"`
	Reason    Reason             `json:"reason"`
	Text      string             `json:"text"`     // the decision in a sentence
	Revision  string             `json:"revision"` // of the policy asked
	// Groups are those the thing is in, then others, by name, up to a limit.
	Groups      []GroupView `json:"groups"`
	GroupsTotal int         `json:"groupsTotal"`
	// Matches are the permissions that allow the request, up to a limit.
	Matches []PermissionView `json:"matches,omitempty"`
	// NearMisses, of a denied request, are what comes closest to allowing it, best first.
	NearMisses []NearMiss `json:"nearMisses,omitempty"`
}

// A GroupView is a group as Explain looked at it.
type GroupView struct {
	Name   string `json:"name"`
	Rule   string `json:"selectionRule"`
	Policy string `json:"policy"`
	Member bool   `json:"member"` // the rule picks the thing
}

// A PermissionView is a permission and where it stands.
type PermissionView struct {
	Group     string `json:"group"`
	Policy    string `json:"policy"`
	Statement string `json:"statement"`
	Operation string `json:"operation"`
	Resource  string `json:"resource"` // as it is written
}

// A NearMiss is a permission that does not allow the request, and why not.
type NearMiss struct {
	PermissionView
	Why string `json:"why"`

	score int // more is nearer
}

// Explain decides as Evaluate does and says why. It looks at everything: use it for
// people, not per message.
func (c *Compiled) Explain(thing messages.ThingName, operation, resource string) Explanation {
	return c.explain(c.For(thing), c.members(thing), "", operation, resource)
}

// ExplainAlone is Explain for a thing that is in one group alone.
func (c *Compiled) ExplainAlone(thing messages.ThingName, name, operation, resource string) Explanation {
	members := slices.DeleteFunc(c.members(thing), func(g *group) bool { return g.name != name })
	return c.explain(c.Alone(thing, name), members, name, operation, resource)
}

// explain explains what t decides, which is in no group but alone, unless that is empty.
func (c *Compiled) explain(t *ThingPolicy, members []*group, alone, operation, resource string) Explanation {
	d, thing := t.Evaluate(operation, resource), t.thing
	e := Explanation{
		Thing: thing, Operation: operation, Resource: resource,
		Allowed: d.Allowed, Reason: d.Reason, Revision: c.Revision(), GroupsTotal: len(c.groups),
	}
	e.Groups = c.groupViews(members)
	request, err := permission.ParseRequest(operation, resource)
	if err == nil {
		e.Matches = matchesOf(members, request, string(thing))
		if !d.Allowed {
			e.NearMisses = c.nearMisses(members, alone, request, string(thing))
		}
	}
	e.Text = c.sentence(d, &e, len(members), alone)
	return e
}

func (c *Compiled) groupViews(members []*group) []GroupView {
	views := []GroupView{}
	for _, member := range []bool{true, false} {
		for _, g := range c.groups {
			_, found := slices.BinarySearchFunc(members, g.name, func(m *group, name string) int { return strings.Compare(m.name, name) })
			if found == member && len(views) < explainGroupsMax {
				views = append(views, GroupView{Name: g.name, Rule: g.rule.String(), Policy: g.policy.name, Member: member})
			}
		}
	}
	return views
}

func (c *Compiled) sentence(d Decision, e *Explanation, members int, alone string) string {
	switch d.Reason {
	case ReasonAllowed:
		return fmt.Sprintf("allowed: group %q gives policy %q, whose statement %q allows %s on %s", d.Group, d.Policy, d.Statement, d.Permission.Operation, d.Permission.Resource)
	case ReasonMalformed:
		return "denied: " + d.Malformed.Error()
	case ReasonServiceMismatch:
		return "not decided: " + d.Err.Error() + ", which is an error and not a deny"
	case ReasonNoGroup:
		switch _, err := messages.ParseThingName(string(e.Thing)); {
		case e.Thing == "":
			return "denied: the session has no thing, so it is in no group"
		case err != nil:
			return "denied: " + err.Error()
		case len(c.groups) == 0:
			return "denied: the policy has no groups, so nobody may do anything"
		case alone != "":
			return fmt.Sprintf("denied: thing %q can be in group %q alone, and the policy has none of that name which picks it", e.Thing, alone)
		}
		return fmt.Sprintf("denied: no selection rule of the %d groups picks thing %q", len(c.groups), e.Thing)
	case ReasonNoStatement:
		text := fmt.Sprintf("denied: thing %q is in %d of %d groups, and no statement there allows the request", e.Thing, members, len(c.groups))
		if alone != "" {
			text = fmt.Sprintf("denied: thing %q is in group %q alone, and no statement there allows the request", e.Thing, alone)
		}
		if len(e.NearMisses) > 0 {
			text += "; nearest: " + e.NearMisses[0].Why
		}
		return text
	default:
		return "denied: " + d.Reason.String()
	}
}

// view describes permission i of g's policy.
func (g *group) view(i int) PermissionView {
	p := g.policy.permissions[i]
	return PermissionView{
		Group: g.name, Policy: g.policy.name, Statement: g.policy.statements[g.policy.statementOf[i]].Name,
		Operation: p.Operation, Resource: p.Resource,
	}
}

func matchesOf(members []*group, r permission.Request, thing string) []PermissionView {
	var views []PermissionView
	for _, g := range members {
		if g.policy.set.Match(r, thing) < 0 {
			continue
		}
		for i, p := range g.policy.permissions {
			if len(views) < explainMatchesMax && covers(p, r, thing) {
				views = append(views, g.view(i))
			}
		}
	}
	return views
}

// nearMisses compares a denied request with every permission, of the thing's groups and
// of the others. A thing that is in one group alone is in no other whatever its rule picks.
func (c *Compiled) nearMisses(members []*group, alone string, r permission.Request, thing string) []NearMiss {
	var misses []NearMiss
	keep := func(m NearMiss) {
		misses = append(misses, m)
		if len(misses) > 4*explainMissesMax {
			misses = nearestFew(misses)
		}
	}
	for _, g := range c.groups {
		if slices.Contains(members, g) {
			for i, p := range g.policy.permissions {
				if why, score := compare(p, r, thing); score > 0 {
					keep(NearMiss{PermissionView: g.view(i), Why: why, score: score})
				}
			}
			for _, m := range g.strayOperations(r, thing) {
				keep(m)
			}
			continue
		}
		if rule := g.policy.set.Match(r, thing); rule >= 0 {
			why := fmt.Sprintf("group %q would allow it, but its selection rule %q does not pick thing %q", g.name, g.rule, thing)
			if alone != "" && g.name != alone {
				why = fmt.Sprintf("group %q would allow it, but thing %q is in group %q alone for now", g.name, thing, alone)
			}
			keep(NearMiss{PermissionView: g.view(rule), Why: why, score: scoreOtherGroup})
		}
	}
	return nearestFew(misses)
}

// nearestFew keeps the best, without repetitions.
func nearestFew(misses []NearMiss) []NearMiss {
	slices.SortStableFunc(misses, func(a, b NearMiss) int { return cmp.Compare(b.score, a.score) })
	misses = slices.CompactFunc(misses, func(a, b NearMiss) bool { return a.PermissionView == b.PermissionView })
	return misses[:min(len(misses), explainMissesMax)]
}

// strayOperations finds operations such as "mqtt:pub*", which look like wildcards and
// match nothing, on resources that would match.
func (g *group) strayOperations(r permission.Request, thing string) []NearMiss {
	var misses []NearMiss
	for _, s := range g.policy.statements {
		for _, operation := range s.Operations {
			if operationCanMatch(operation) || !strings.Contains(operation, "*") || !permission.Matches(operation, r.Operation()) {
				continue
			}
			for _, resource := range s.Resources {
				if coversResource(resource, r, thing) {
					misses = append(misses, NearMiss{
						PermissionView: PermissionView{Group: g.name, Policy: g.policy.name, Statement: s.Name, Operation: operation, Resource: resource},
						Why:            fmt.Sprintf(`the operation %q matches nothing: a '*' counts only as "*" or "<service>:*"`, operation),
						score:          scoreOperation,
					})
					break
				}
			}
		}
	}
	return misses
}
