package awsemu

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Bounds of thing groups. The first two are AWS IoT's (cloud spec 4.6).
const (
	groupsOfThingMax = 10
	groupDepthMax    = 7
	groupsMax        = 10_000
	groupTextMax     = 2028 // characters of a description
)

// thingGroup is a static group of things.
type thingGroup struct {
	parent      string // empty: none
	description string
	attributes  map[string]string // never changed in place
	id          string
	created     time.Time
	version     int64
	things      map[messages.ThingName]bool // those directly in it
}

var groupNameForm = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)

func groupARN(name string) string { return "arn:aws:iot" + arnPrefix + "thinggroup/" + name }

func noGroup(name string) *apiError {
	return noResource(fmt.Sprintf("Thing group %.128s cannot be found.", name))
}

// groupPath lists a group and those above it, the nearest first. The caller holds mu.
func (r *Registry) groupPath(name string) (path []string) {
	for name != "" && r.thingGroups[name] != nil && len(path) <= groupDepthMax {
		path = append(path, name)
		name = r.thingGroups[name].parent
	}
	return path
}

// groupsOf lists the groups that a thing is directly in, by name; it must not be changed.
// The caller holds mu.
func (r *Registry) groupsOf(thing messages.ThingName) []string {
	return r.memberOf[thing]
}

// groupTargets are the ARNs of a thing's groups and of those above them. The caller holds
// mu.
func (r *Registry) groupTargets(thing messages.ThingName) []string {
	var targets []string
	for _, name := range r.groupsOf(thing) {
		for _, name := range r.groupPath(name) {
			if arn := groupARN(name); !slices.Contains(targets, arn) {
				targets = append(targets, arn)
			}
		}
	}
	return targets
}

// above lists what a policy's target comes under: a group's groups above it, or the
// groups of a certificate's things. The caller holds mu.
func (r *Registry) above(target string) (targets []string) {
	if name, ok := strings.CutPrefix(target, groupARN("")); ok {
		for _, name := range r.groupPath(name)[1:] {
			targets = append(targets, groupARN(name))
		}
		return targets
	}
	if known := r.certificates[messages.CertificateID(strings.TrimPrefix(target, certificateARN("")))]; known != nil {
		for _, thing := range sortedKeys(known.things) {
			targets = append(targets, r.groupTargets(thing)...)
		}
	}
	return targets
}

// effectiveTargets are those whose policies count for a principal that connects as a
// thing; either may be empty. The caller holds mu.
func (r *Registry) effectiveTargets(principal, thing string) (targets []string, refused *apiError) {
	if principal != "" {
		if _, refused := r.knownTarget(principal); refused != nil {
			return nil, refused
		}
		targets = append(targets, principal)
	}
	if thing != "" {
		if r.things[messages.ThingName(thing)] == nil {
			return nil, noThing(messages.ThingName(thing))
		}
		targets = append(targets, r.groupTargets(messages.ThingName(thing))...)
	}
	return targets, nil
}

// below says whether group is name, or below it. The caller holds mu.
func (r *Registry) below(group, name string) bool { return slices.Contains(r.groupPath(group), name) }

// checkGroup says what is wrong with how a group is described. The caller holds mu.
func (r *Registry) checkGroup(g thingGroup) *apiError {
	if len(g.description) > groupTextMax {
		return constraint("thingGroupProperties.thingGroupDescription", fmt.Sprintf("Member must have length less than or equal to %d", groupTextMax))
	}
	return r.checkRecord(record{typeName: "a group has as many attributes as a thing with a type", attributes: g.attributes})
}

// createGroup makes a group, or finds it as it would be made.
func (b *Batch) createGroup(name string, g thingGroup, at time.Time) (*thingGroup, *apiError) {
	r := b.r
	if !groupNameForm.MatchString(name) {
		return nil, constraint("thingGroupName", "Member must satisfy regular expression pattern: [a-zA-Z0-9:_-]+")
	}
	if known := r.thingGroups[name]; known != nil {
		if known.parent != g.parent || known.description != g.description || !maps.Equal(known.attributes, g.attributes) {
			return nil, alreadyExists(fmt.Sprintf("Thing Group %s already exists in current account with different properties", name), known.id, groupARN(name))
		}
		return known, nil
	}
	switch {
	case g.parent != "" && r.thingGroups[g.parent] == nil:
		return nil, badRequest(noGroup(g.parent).message) // CreateThingGroup knows no other error
	case len(r.groupPath(g.parent)) >= groupDepthMax:
		return nil, limitExceeded(fmt.Sprintf("A thing group may be %d levels deep", groupDepthMax))
	case len(r.thingGroups) >= groupsMax:
		return nil, limitExceeded(fmt.Sprintf("There are %d thing groups: no more are emulated", groupsMax))
	}
	g.created = stampOrZero(at)
	g.id, g.version, g.things = derivedUUID("thing group", fmt.Sprint(name, "/", g.created.UnixMilli())), 1, map[messages.ThingName]bool{}
	put(b, r.thingGroups, name, &g)
	return &g, nil
}

// deleteGroup forgets a group. One that is not there is no error, as with AWS.
func (b *Batch) deleteGroup(name string) *apiError {
	if b.r.thingGroups[name] == nil {
		return nil
	}
	for child, g := range b.r.thingGroups {
		if g.parent == name {
			return badRequest(fmt.Sprintf("Cannot delete thing group : %s when there are still child groups attached to it, such as %s", name, child))
		}
	}
	for _, thing := range sortedKeys(b.r.thingGroups[name].things) {
		if refused := b.setMember(name, thing, false); refused != nil {
			return refused
		}
	}
	b.setPolicies(groupARN(name), nil)
	put(b, b.r.thingGroups, name, nil)
	return nil
}

// setMember puts a thing into a group, or takes it out.
func (b *Batch) setMember(name string, thing messages.ThingName, member bool) *apiError {
	r := b.r
	g := r.thingGroups[name]
	switch {
	case g == nil:
		return noGroup(name)
	case r.things[thing] == nil:
		return noThing(thing)
	case g.things[thing] == member:
		return nil
	}
	if member {
		groups := r.groupsOf(thing)
		if r.full(len(groups), groupsOfThingMax) {
			return limitExceeded(fmt.Sprintf("Thing %s is in %d thing groups already", thing, groupsOfThingMax))
		}
		for _, other := range groups { // AWS: not twice in one hierarchy
			if r.below(other, name) || r.below(name, other) {
				return badRequest(fmt.Sprintf("Thing %s is already in thing group %s of the same hierarchy", thing, other))
			}
		}
	}
	change := func(member bool) {
		others := slices.DeleteFunc(slices.Clone(r.memberOf[thing]), func(n string) bool { return n == name })
		if member {
			g.things[thing], r.memberOf[thing] = true, slices.Sorted(slices.Values(append(others, name)))
			return
		}
		delete(g.things, thing)
		if r.memberOf[thing] = others; len(others) == 0 {
			delete(r.memberOf, thing)
		}
	}
	change(member)
	b.undo = append(b.undo, func() { change(!member) })
	return nil
}

// leaveGroups takes a thing out of every group, before it is deleted.
func (b *Batch) leaveGroups(thing messages.ThingName) *apiError {
	for _, name := range b.r.groupsOf(thing) {
		if refused := b.setMember(name, thing, false); refused != nil {
			return refused
		}
	}
	return nil
}

// serviceRole is what Greengrass acts by in the account (cloud spec 1.6).
type serviceRole struct {
	ARN   string    `json:"roleArn"` // empty: none is associated
	Since time.Time `json:"associatedAt,omitzero"`
}

// defaultServiceRole is associated with a new account.
var defaultServiceRole = serviceRole{ARN: "arn:aws:iam::" + AccountID + ":role/Greengrass_ServiceRole"}

// SetServiceRole associates a role with the account for Greengrass, or none if arn is empty:
// then it verifies no device.
func (r *Registry) SetServiceRole(arn string, at time.Time) error {
	return r.Update(func(b *Batch) error { return asError(b.setServiceRole(arn, at)) })
}

var roleARNForm = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]{1,512}$`)

func (b *Batch) setServiceRole(arn string, at time.Time) *apiError {
	if arn != "" && !roleARNForm.MatchString(arn) {
		return &apiError{status: http.StatusBadRequest, name: "BadRequestException", message: fmt.Sprintf("Invalid role ARN %.200q", arn)}
	}
	next := serviceRole{ARN: arn}
	if arn != "" {
		next.Since = stamp(at)
	}
	set(b, &b.r.serviceRole, next)
	return nil
}

// ServiceRole is the ARN of Greengrass's role in the account; empty: none.
func (r *Registry) ServiceRole() string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.serviceRole.ARN
}
