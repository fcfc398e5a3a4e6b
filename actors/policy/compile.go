package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/permission"
)

// A Compiled is a document made ready to decide. It never changes, so any number of
// goroutines may use it. What is compiled is held once per policy and shared by all
// things; nothing is kept per thing but what For returns.
type Compiled struct {
	document *Document
	groups   []*group // by name
	// A thing's groups are found by looking at those that name it and at those that may
	// pick any thing, not at all of them: there may be a group per device.
	naming map[string][]int // groups that can only pick the things they name, by thing
	open   []int            // the other groups
}

type group struct {
	name   string
	rule   Rule
	policy *compiledPolicy
	alone  []*group // the group by itself, for the many things that are in no other
}

// A compiledPolicy is what one policy allows. permissions[i] stems from
// statements[statementOf[i]].
type compiledPolicy struct {
	name        string
	set         *permission.Set
	permissions []permission.Permission // with the variable as it was written
	statementOf []int32
	statements  []Statement
	listed      []listed // permissions, as Permissions lists them
}

// listed is a permission without repetitions and without what no request can match.
type listed struct {
	permission.Permission
	variable bool // the thing's name is still to be put in
}

// Compile makes d ready to decide. d comes from Parse.
func Compile(d *Document) *Compiled {
	c := &Compiled{document: d, naming: make(map[string][]int)}
	policies := make(map[string]*compiledPolicy)
	for _, g := range d.Groups {
		policy := policies[g.PolicyName]
		if policy == nil {
			i, ok := slices.BinarySearchFunc(d.Policies, g.PolicyName, func(p Policy, name string) int { return strings.Compare(p.Name, name) })
			if !ok {
				panic(fmt.Sprintf("policy: group %q names the policy %q, which Parse would have refused", g.Name, g.PolicyName))
			}
			policy = compilePolicy(d.Policies[i])
			policies[g.PolicyName] = policy
		}
		c.add(&group{name: g.Name, rule: g.Rule, policy: policy})
	}
	return c
}

func (c *Compiled) add(g *group) {
	g.alone = []*group{g}
	at := len(c.groups)
	c.groups = append(c.groups, g)
	names, ok := g.rule.names()
	if !ok {
		c.open = append(c.open, at)
		return
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		c.naming[name] = append(c.naming[name], at)
	}
}

// compilePolicy leaves out what no request can match.
func compilePolicy(p Policy) *compiledPolicy {
	c := &compiledPolicy{name: p.Name, statements: p.Statements}
	for i, s := range p.Statements {
		resources := slices.DeleteFunc(slices.Clone(s.Resources), func(r string) bool { return !resourceCanMatch(r) })
		for _, operation := range s.Operations {
			if !operationCanMatch(operation) {
				continue
			}
			for _, resource := range resources {
				c.permissions = append(c.permissions, permission.Permission{Operation: operation, Resource: resource})
				c.statementOf = append(c.statementOf, int32(i))
			}
		}
	}
	c.listed = listPermissions(c.permissions)
	set, err := permission.CompileTemplate(c.permissions)
	if err != nil {
		panic(fmt.Sprintf("policy: policy %q, which Parse should have refused: %v", p.Name, err))
	}
	c.set = set
	return c
}

// Revision names the document this was compiled from.
func (c *Compiled) Revision() string { return c.document.Revision() }

// Document returns what this was compiled from.
func (c *Compiled) Document() *Document { return c.document }

// For returns what applies to thing: the groups that pick it. The answer holds for as
// long as this revision is in force; ask the next Compiled again. A text that is not a
// thing name is in no group.
func (c *Compiled) For(thing messages.ThingName) *ThingPolicy {
	groups := c.members(thing)
	switch len(groups) {
	case 0:
		groups = nil
	case 1:
		groups = groups[0].alone
	default: // Groups may share a policy; asking it once is enough.
		seen := make(map[*compiledPolicy]bool, len(groups))
		groups = slices.Clip(slices.DeleteFunc(groups, func(g *group) bool {
			dup := seen[g.policy]
			seen[g.policy] = true
			return dup
		}))
	}
	return &ThingPolicy{thing: thing, groups: groups}
}

// Alone returns what applies to thing in that one group, whichever others its rules put it
// in: nothing, if there is no such group or its selection rule does not pick the thing.
func (c *Compiled) Alone(thing messages.ThingName, group string) *ThingPolicy {
	t := &ThingPolicy{thing: thing}
	for _, g := range c.members(thing) {
		if g.name == group {
			t.groups = g.alone
		}
	}
	return t
}

// HasGroup reports whether the document defines a group of that name.
func (c *Compiled) HasGroup(name string) bool {
	return slices.ContainsFunc(c.groups, func(g *group) bool { return g.name == name })
}

// members lists, by name, the groups whose rule is true for thing
// (client-device-auth spec 2.5).
func (c *Compiled) members(thing messages.ThingName) []*group {
	if _, err := messages.ParseThingName(string(thing)); err != nil {
		return nil
	}
	name := string(thing)
	var few [8]int // most things are in few groups
	at := few[:0]
	for _, candidates := range [][]int{c.naming[name], c.open} {
		for _, i := range candidates {
			if c.groups[i].rule.Matches(name) {
				at = append(at, i)
			}
		}
	}
	slices.Sort(at)
	groups := make([]*group, len(at))
	for i, j := range at {
		groups[i] = c.groups[j]
	}
	return groups
}

// Groups names the groups that thing belongs to, in order.
func (c *Compiled) Groups(thing messages.ThingName) []string {
	var names []string
	for _, g := range c.members(thing) {
		names = append(names, g.name)
	}
	return names
}

func listPermissions(all []permission.Permission) []listed {
	var list []listed
	seen := make(map[permission.Permission]bool, len(all))
	for _, p := range all {
		if !seen[p] && resourceCanMatch(p.Resource) {
			seen[p] = true
			list = append(list, listed{p, strings.Contains(p.Resource, permission.ThingNameVariable)})
		}
	}
	return list
}

// Permissions lists what thing may do, with its name in place of the variable: what a
// broker needs to decide by itself, with permission.Compile, as Evaluate does. It never
// holds a '*' that the document does not; a permission comes twice only where two
// groups, or a name put in for the variable, make two of them equal.
func (c *Compiled) Permissions(thing messages.ThingName) []permission.Permission {
	return c.For(thing).Permissions()
}

// Permissions lists what the thing may do by what this decides: see Compiled.Permissions.
func (t *ThingPolicy) Permissions() []permission.Permission {
	groups, thing := t.groups, t.thing
	n := 0
	for _, g := range groups {
		n += len(g.policy.listed)
	}
	if n == 0 {
		return nil
	}
	all := make([]permission.Permission, 0, n)
	for _, g := range groups {
		for i := range g.policy.listed {
			p := g.policy.listed[i]
			if p.variable {
				if p.Resource = substitute(p.Resource, string(thing)); !resourceCanMatch(p.Resource) {
					continue
				}
			}
			all = append(all, p.Permission)
		}
	}
	return all
}
