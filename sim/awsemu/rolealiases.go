package awsemu

import (
	"cmp"
	"slices"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
)

// IoT's role aliases: names by which certificates assume roles (cloud spec 2, 4.1).

// The operations on role aliases.
const (
	OpCreateRoleAlias   cloudsync.Operation = "CreateRoleAlias"
	OpDescribeRoleAlias cloudsync.Operation = "DescribeRoleAlias"
	OpUpdateRoleAlias   cloudsync.Operation = "UpdateRoleAlias"
	OpListRoleAliases   cloudsync.Operation = "ListRoleAliases"
	OpDeleteRoleAlias   cloudsync.Operation = "DeleteRoleAlias"
)

var roleAliasRoutes = []route{
	newRoute(OpCreateRoleAlias, iot, "POST", "role-aliases/*", roleAliasARNOf, (*Emulator).createRoleAlias),
	newRoute(OpDescribeRoleAlias, iot, "GET", "role-aliases/*", roleAliasARNOf, (*Emulator).describeRoleAlias),
	newRoute(OpUpdateRoleAlias, iot, "PUT", "role-aliases/*", roleAliasARNOf, (*Emulator).updateRoleAlias),
	newRoute(OpListRoleAliases, iot, "GET", "role-aliases", anything, (*Emulator).listRoleAliases),
	newRoute(OpDeleteRoleAlias, iot, "DELETE", "role-aliases/*", roleAliasARNOf, (*Emulator).deleteRoleAlias),
}

const (
	aliasesPage    = 25
	aliasesPageMax = 250
)

func roleAliasARNOf(parameters []string) string { return RoleAliasARN(parameters[0]) }

type roleAliasRequest struct {
	Role     *string `json:"roleArn"`
	Duration *int    `json:"credentialDurationSeconds"`
	Tags     []any   `json:"tags"`
}

type roleAliasAnswer struct {
	Name string `json:"roleAlias"`
	ARN  string `json:"roleAliasArn"`
}

// roleAliasRequestOf reads a request to make or change an alias. Who gives a role to it
// must be allowed to pass that role on.
func roleAliasRequestOf(c *call) (name string, request roleAliasRequest, refused *apiError) {
	name = c.parameters[0]
	if !isAliasName(name) {
		return "", request, constraint("roleAlias", `Member must be 1 to 128 of [\w=,@-]`)
	}
	if refused := readIoT(c, &request); refused != nil {
		return "", request, refused
	}
	switch d := request.Duration; {
	case d != nil && (*d < aliasDurationMin || *d > aliasDurationMax):
		return "", request, constraint("credentialDurationSeconds", "Member must have value between 900 and 43200")
	case request.Role != nil && !isRoleARN(*request.Role):
		return "", request, constraint("roleArn", "Member must be the ARN of a role")
	case len(request.Tags) > 0:
		return "", request, badRequest("tags of role aliases are not emulated: leave them out")
	case request.Role != nil:
		refused = c.who.authorizeIn("iam:PassRole", *request.Role, iampolicy.Context{"iam:passedtoservice": {credentialsService}})
	}
	return name, request, refused
}

func (e *Emulator) createRoleAlias(c *call) (any, *apiError) {
	name, request, refused := roleAliasRequestOf(c)
	if refused != nil {
		return nil, refused
	}
	if request.Role == nil {
		return nil, constraint("roleArn", "Member must not be null")
	}
	duration := aliasDurationUsed
	if request.Duration != nil {
		duration = *request.Duration
	}
	now := toSecond(e.now())
	refused = e.change(func(b *Batch) *apiError {
		switch {
		case b.r.aliases[name] != nil:
			return alreadyExists("Role Alias already exists", name, RoleAliasARN(name))
		case len(b.r.aliases) >= aliasesMax:
			return limitExceeded("The account has too many role aliases")
		}
		put(b, b.r.aliases, name, &roleAlias{name, *request.Role, duration, now, now})
		return nil
	})
	return roleAliasAnswer{name, RoleAliasARN(name)}, refused
}

func noAlias() *apiError { return noResource("Role alias does not exist") }

// updateRoleAlias changes what is given for it and leaves the rest as it is.
func (e *Emulator) updateRoleAlias(c *call) (any, *apiError) {
	name, request, refused := roleAliasRequestOf(c)
	if refused != nil {
		return nil, refused
	}
	refused = e.change(func(b *Batch) *apiError {
		found := b.r.aliases[name]
		if found == nil {
			return noAlias()
		}
		changed := *found
		changed.modified = toSecond(e.now())
		if request.Role != nil {
			changed.role = *request.Role
		}
		if request.Duration != nil {
			changed.duration = *request.Duration
		}
		put(b, b.r.aliases, name, &changed)
		return nil
	})
	return roleAliasAnswer{name, RoleAliasARN(name)}, refused
}

type roleAliasDescription struct {
	roleAliasAnswer
	Role     string `json:"roleArn"`
	Owner    string `json:"owner"`
	Duration int    `json:"credentialDurationSeconds"`
	Created  epoch  `json:"creationDate"`
	Modified epoch  `json:"lastModifiedDate"`
}

func (e *Emulator) describeRoleAlias(c *call) (any, *apiError) {
	found, ok := e.registry.alias(c.parameters[0])
	if !ok {
		return nil, noAlias()
	}
	return map[string]roleAliasDescription{"roleAliasDescription": {
		roleAliasAnswer{found.name, RoleAliasARN(found.name)}, found.role, AccountID, found.duration, epoch(found.created), epoch(found.modified),
	}}, nil
}

// listRoleAliases lists the names in ascending order unless isAscendingOrder=false.
func (e *Emulator) listRoleAliases(c *call) (any, *apiError) {
	ascending := true
	if c.query.Has("isAscendingOrder") {
		var refused *apiError
		if ascending, refused = c.flag("isAscendingOrder"); refused != nil {
			return nil, refused
		}
	}
	c.parameters = []string{cmp.Or(c.query.Get("isAscendingOrder"), "true")} // what a marker is of
	p, refused := e.markedPageOf(c, aliasesPage, aliasesPageMax)
	if refused != nil {
		return nil, refused
	}
	names, more := e.registry.aliasNames(p.after, p.limit, ascending)
	names, next := turn(e, p, names, more, func(name string) string { return name })
	return struct {
		Names []string `json:"roleAliases"`
		Next  string   `json:"nextMarker,omitempty"`
	}{append([]string{}, names...), next}, nil
}

// aliasNames lists at most limit names that follow after in the order that is asked for.
func (r *Registry) aliasNames(after string, limit int, ascending bool) (page []string, more bool) {
	r.mu.RLock()
	names := sortedKeys(r.aliases)
	r.mu.RUnlock()
	if ascending {
		return behind(names, after, limit)
	}
	slices.Reverse(names)
	names = slices.DeleteFunc(names, func(name string) bool { return after != "" && name >= after })
	n := min(limit, len(names))
	return names[:n], n < len(names)
}

func (e *Emulator) deleteRoleAlias(c *call) (any, *apiError) {
	name := c.parameters[0]
	return struct{}{}, e.change(func(b *Batch) *apiError {
		if b.r.aliases[name] == nil {
			return noAlias()
		}
		put(b, b.r.aliases, name, nil)
		return nil
	})
}
