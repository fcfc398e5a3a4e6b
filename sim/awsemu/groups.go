package awsemu

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The IoT control plane's operations on thing groups (cloud spec 4.1).

var groupRoutes = []route{
	newRoute("CreateThingGroup", iot, "POST", "thing-groups/*", groupARNOf, (*Emulator).createThingGroup),
	newRoute("UpdateThingGroup", iot, "PATCH", "thing-groups/*", groupARNOf, (*Emulator).updateThingGroup),
	newRoute("DescribeThingGroup", iot, "GET", "thing-groups/*", groupARNOf, (*Emulator).describeThingGroup),
	newRoute("ListThingGroups", iot, "GET", "thing-groups", anything, (*Emulator).listThingGroups),
	newRoute("DeleteThingGroup", iot, "DELETE", "thing-groups/*", groupARNOf, (*Emulator).deleteThingGroup),
	newRoute("AddThingToThingGroup", iot, "PUT", "thing-groups/addThingToThingGroup", anything, (*Emulator).addThingToThingGroup),
	newRoute("RemoveThingFromThingGroup", iot, "PUT", "thing-groups/removeThingFromThingGroup", anything, (*Emulator).removeThingFromThingGroup),
	newRoute("ListThingGroupsForThing", iot, "GET", "things/*/thing-groups", thingARNOf, (*Emulator).listThingGroupsForThing),
	newRoute("ListThingsInThingGroup", iot, "GET", "thing-groups/*/things", groupARNOf, (*Emulator).listThingsInThingGroup),
}

func groupARNOf(parameters []string) string { return groupARN(parameters[0]) }

type groupProperties struct {
	Description string            `json:"thingGroupDescription,omitempty"`
	Attributes  *attributePayload `json:"attributePayload,omitempty"`
}

func (e *Emulator) createThingGroup(c *call) (any, *apiError) {
	var request struct {
		Parent     string          `json:"parentGroupName"`
		Properties groupProperties `json:"thingGroupProperties"`
	}
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	name, wanted := c.parameters[0], thingGroup{parent: request.Parent, description: request.Properties.Description}
	if a := request.Properties.Attributes; a != nil {
		wanted.attributes = withoutEmpty(a.Attributes)
	}
	id := ""
	refused := e.change(func(b *Batch) *apiError {
		if refused := b.r.checkGroup(wanted); refused != nil {
			return refused
		}
		made, refused := b.createGroup(name, wanted, e.now())
		if refused == nil {
			id = made.id
		}
		return refused
	})
	return map[string]string{"thingGroupName": name, "thingGroupArn": groupARN(name), "thingGroupId": id}, refused
}

func (e *Emulator) updateThingGroup(c *call) (any, *apiError) {
	var request struct {
		Properties      groupProperties `json:"thingGroupProperties"`
		ExpectedVersion *int64          `json:"expectedVersion"`
	}
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	name, version := c.parameters[0], int64(0)
	refused := e.change(func(b *Batch) *apiError {
		known := b.r.thingGroups[name]
		switch {
		case known == nil:
			return noGroup(name)
		case request.ExpectedVersion != nil && *request.ExpectedVersion != known.version:
			return versionConflict(fmt.Sprintf("The version of thing group %s is %d", name, known.version))
		}
		next := *known
		next.description, next.version = request.Properties.Description, known.version+1
		if a := request.Properties.Attributes; a != nil {
			d := record{attributes: known.attributes}
			next.attributes = withoutEmpty(thingRequest{Attributes: a}.applied(d).attributes)
		}
		version = next.version
		if refused := b.r.checkGroup(next); refused != nil {
			return refused
		}
		put(b, b.r.thingGroups, name, &next)
		return nil
	})
	return map[string]int64{"version": version}, refused
}

type groupEntry struct {
	Name string `json:"groupName"`
	ARN  string `json:"groupArn"`
}

func groupEntries(names []string) []groupEntry {
	entries := make([]groupEntry, len(names))
	for i, name := range names {
		entries[i] = groupEntry{name, groupARN(name)}
	}
	return entries
}

type groupMetadata struct {
	Created *epoch       `json:"creationDate,omitempty"`
	Parent  string       `json:"parentGroupName,omitempty"`
	Path    []groupEntry `json:"rootToParentThingGroups,omitempty"`
}

type groupDescription struct {
	Name       string          `json:"thingGroupName"`
	ARN        string          `json:"thingGroupArn"`
	ID         string          `json:"thingGroupId"`
	Version    int64           `json:"version"`
	Properties groupProperties `json:"thingGroupProperties"`
	Metadata   groupMetadata   `json:"thingGroupMetadata"`
}

func (e *Emulator) describeThingGroup(c *call) (any, *apiError) {
	name := c.parameters[0]
	var answer groupDescription
	refused := e.look(func(r *Registry) *apiError {
		g := r.thingGroups[name]
		if g == nil {
			return noGroup(name)
		}
		path := r.groupPath(g.parent)
		slices.Reverse(path)
		answer = groupDescription{
			Name: name, ARN: groupARN(name), ID: g.id, Version: g.version,
			Properties: groupProperties{Description: g.description},
			Metadata:   groupMetadata{since(g.created), g.parent, groupEntries(path)},
		}
		if len(g.attributes) > 0 {
			answer.Properties.Attributes = &attributePayload{Attributes: g.attributes}
		}
		return nil
	})
	return answer, refused
}

// names is a page of what list names, in the newer style of paging.
func (e *Emulator) names(c *call, of string, list func(*Registry) ([]string, *apiError)) (names []string, next string, refused *apiError) {
	c.of = of
	p, refused := e.pageOf(c, principalsPage, principalsMax)
	if refused != nil {
		return nil, "", refused
	}
	more := false
	refused = e.look(func(r *Registry) *apiError {
		all, refused := list(r)
		if refused != nil {
			return refused
		}
		names, more = behind(all, p.after, p.limit)
		return nil
	})
	if refused != nil {
		return nil, "", refused
	}
	names, next = turn(e, p, slices.Clone(names), more, func(name string) string { return name })
	return names, next, nil
}

// listThingGroups lists all groups, or those below one; not recursively those alone that
// have no parent, or that one.
func (e *Emulator) listThingGroups(c *call) (any, *apiError) {
	parent, prefix, recursive := c.query.Get("parentGroup"), c.query.Get("namePrefixFilter"), true
	if c.query.Has("recursive") {
		var refused *apiError
		if recursive, refused = c.flag("recursive"); refused != nil {
			return nil, refused
		}
	}
	found, next, refused := e.names(c, fmt.Sprintf("%q%q%v", parent, prefix, recursive), func(r *Registry) ([]string, *apiError) {
		if parent != "" && r.thingGroups[parent] == nil {
			return nil, noGroup(parent)
		}
		return slices.DeleteFunc(sortedKeys(r.thingGroups), func(name string) bool {
			direct := r.thingGroups[name].parent == parent
			below := parent == "" || name != parent && r.below(name, parent)
			return !strings.HasPrefix(name, prefix) || !direct && !(recursive && below)
		}), nil
	})
	return struct {
		Groups    []groupEntry `json:"thingGroups"`
		NextToken string       `json:"nextToken,omitempty"`
	}{groupEntries(found), next}, refused
}

func (e *Emulator) deleteThingGroup(c *call) (any, *apiError) {
	name := c.parameters[0]
	version, given, refused := c.integer("expectedVersion")
	if refused != nil {
		return nil, refused
	}
	return none{}, e.change(func(b *Batch) *apiError {
		if g := b.r.thingGroups[name]; g != nil && given && int64(version) != g.version {
			return versionConflict(fmt.Sprintf("The version of thing group %s is %d", name, g.version))
		}
		return b.deleteGroup(name)
	})
}

func (e *Emulator) addThingToThingGroup(c *call) (any, *apiError) { return e.changeMember(c, true) }

func (e *Emulator) removeThingFromThingGroup(c *call) (any, *apiError) {
	return e.changeMember(c, false)
}

// changeMember takes a thing and a group, each by name or by ARN.
func (e *Emulator) changeMember(c *call, member bool) (any, *apiError) {
	var request struct {
		Group    string `json:"thingGroupName"`
		GroupARN string `json:"thingGroupArn"`
		Thing    string `json:"thingName"`
		ThingARN string `json:"thingArn"`
	}
	if refused := readIoT(c, &request); refused != nil {
		return nil, refused
	}
	group, refused := nameOrARN("thingGroup", request.Group, request.GroupARN, groupARN(""))
	if refused != nil {
		return nil, refused
	}
	thing, refused := nameOrARN("thing", request.Thing, request.ThingARN, thingARN(""))
	if refused != nil {
		return nil, refused
	}
	return none{}, e.change(func(b *Batch) *apiError { return b.setMember(group, messages.ThingName(thing), member) })
}

func nameOrARN(what, name, arn, prefix string) (string, *apiError) {
	byARN, ok := strings.CutPrefix(arn, prefix)
	switch {
	case arn == "" && name == "":
		return "", badRequest(fmt.Sprintf("%sName or %[1]sArn is needed", what))
	case arn == "":
		return name, nil
	case !ok || name != "" && name != byARN:
		return "", badRequest(fmt.Sprintf("Invalid %sArn %.200q: want %s and the name", what, arn, prefix))
	}
	return byARN, nil
}

func (e *Emulator) listThingGroupsForThing(c *call) (any, *apiError) {
	found, next, refused := e.names(c, "", func(r *Registry) ([]string, *apiError) {
		thing := messages.ThingName(c.parameters[0])
		if r.things[thing] == nil {
			return nil, noThing(thing)
		}
		return r.groupsOf(thing), nil
	})
	return struct {
		Groups    []groupEntry `json:"thingGroups"`
		NextToken string       `json:"nextToken,omitempty"`
	}{groupEntries(found), next}, refused
}

func (e *Emulator) listThingsInThingGroup(c *call) (any, *apiError) {
	recursive, refused := c.flag("recursive")
	if refused != nil {
		return nil, refused
	}
	found, next, refused := e.names(c, fmt.Sprint(recursive), func(r *Registry) ([]string, *apiError) {
		group := c.parameters[0]
		if r.thingGroups[group] == nil {
			return nil, noGroup(group)
		}
		var things []string
		for name, g := range r.thingGroups {
			if name == group || recursive && r.below(name, group) {
				for thing := range g.things {
					things = append(things, string(thing))
				}
			}
		}
		slices.Sort(things)
		return slices.Compact(things), nil
	})
	return struct {
		Things    []string `json:"things"`
		NextToken string   `json:"nextToken,omitempty"`
	}{append([]string{}, found...), next}, refused
}
