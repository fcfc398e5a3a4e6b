package awsemu

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
)

type roleXML struct {
	Path        string `xml:"Path"`
	Name        string `xml:"RoleName"`
	ID          string `xml:"RoleId"`
	ARN         string `xml:"Arn"`
	Created     string `xml:"CreateDate"`
	Trust       string `xml:"AssumeRolePolicyDocument"`
	Description string `xml:"Description,omitempty"`
	MaxSession  int    `xml:"MaxSessionDuration"`
}

func (r *role) xml() roleXML {
	return roleXML{r.path, r.name, r.id, r.arn(), iamTime(r.created), escaped(r.trust.text), r.description, int(r.session / time.Second)}
}

type roleResult struct {
	Role roleXML `xml:"Role"`
}

func (e *Emulator) createRole(c *call) (any, *apiError) {
	form := c.query
	if refused := unsupported(form, "PermissionsBoundary", "Tags"); refused != nil {
		return nil, refused
	}
	made := &role{id: iamID("AROA"), created: toSecond(e.now()), inline: map[string]policyText{}}
	var refused *apiError
	if made.name, refused = nameIn(form, "RoleName", 64); refused != nil {
		return nil, refused
	}
	if made.path, refused = pathIn(form, "Path"); refused != nil {
		return nil, refused
	}
	if made.description, refused = descriptionIn(form); refused != nil {
		return nil, refused
	}
	seconds, refused := number(form, "MaxSessionDuration", int(sessionMin/time.Second), int(sessionMin/time.Second), int(sessionMax/time.Second))
	if refused != nil {
		return nil, refused
	}
	made.session = time.Duration(seconds) * time.Second
	if made.trust, refused = readIAMPolicy(form.Get("AssumeRolePolicyDocument"), trustCharsMax, iampolicy.ParseTrust); refused != nil {
		return nil, refused
	}
	refused = e.change(func(b *Batch) *apiError {
		switch err := b.addRole(made); {
		case errors.Is(err, ErrExists):
			return entityExists("Role with name %s already exists.", made.name)
		case err != nil:
			return iamLimit("Cannot exceed quota for RolesPerAccount: %d", rolesMax)
		}
		return nil
	})
	if refused != nil {
		return nil, refused
	}
	return roleResult{made.xml()}, nil
}

// named is the role that a request names.
func (e *Emulator) namedRole(c *call) (*role, *apiError) {
	name := c.query.Get("RoleName")
	found := e.registry.role(name)
	if found == nil {
		return nil, noRole(name)
	}
	return found, nil
}

func (e *Emulator) getRole(c *call) (any, *apiError) {
	found, refused := e.namedRole(c)
	if refused != nil {
		return nil, refused
	}
	return roleResult{found.xml()}, nil
}

func (e *Emulator) listRoles(c *call) (any, *apiError) {
	prefix, refused := pathIn(c.query, "PathPrefix")
	if refused != nil {
		return nil, refused
	}
	roles := e.registry.rolesUnder(prefix)
	names := make([]string, len(roles))
	for i, r := range roles {
		names[i] = r.name
	}
	names, listing, refused := listIAM(e, c, names)
	if refused != nil {
		return nil, refused
	}
	answer := struct {
		Roles members[roleXML] `xml:"Roles"`
		iamListing
	}{iamListing: listing}
	for _, name := range names {
		i := slices.IndexFunc(roles, func(r *role) bool { return r.name == name })
		answer.Roles.Members = append(answer.Roles.Members, roles[i].xml())
	}
	return answer, nil
}

// rolesUnder returns the roles whose path begins with prefix, by name.
func (r *Registry) rolesUnder(prefix string) (all []*role) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, name := range sortedKeys(r.roles) {
		if found := r.roles[name]; strings.HasPrefix(found.path, prefix) {
			all = append(all, found)
		}
	}
	return all
}

// updateRole changes the description and the longest session; both are left as they are
// where nothing is given for them.
func (e *Emulator) updateRole(c *call) (any, *apiError) {
	description, refused := descriptionIn(c.query)
	if refused != nil {
		return nil, refused
	}
	seconds, refused := number(c.query, "MaxSessionDuration", 0, int(sessionMin/time.Second), int(sessionMax/time.Second))
	if refused != nil {
		return nil, refused
	}
	if refused := e.changeRole(c, func(_ *Batch, r *role) *apiError {
		if c.query.Has("Description") {
			r.description = description
		}
		if seconds != 0 {
			r.session = time.Duration(seconds) * time.Second
		}
		return nil
	}); refused != nil {
		return nil, refused
	}
	return struct{}{}, nil // UpdateRole's result is there, and empty
}

func (e *Emulator) updateAssumeRolePolicy(c *call) (any, *apiError) {
	trust, refused := readIAMPolicy(c.query.Get("PolicyDocument"), trustCharsMax, iampolicy.ParseTrust)
	if refused != nil {
		return nil, refused
	}
	return nil, e.changeRole(c, func(_ *Batch, r *role) *apiError {
		r.trust = trust
		return nil
	})
}

func (e *Emulator) deleteRole(c *call) (any, *apiError) {
	return nil, e.change(func(b *Batch) *apiError {
		name := c.query.Get("RoleName")
		switch found := b.r.roles[name]; {
		case found == nil:
			return noRole(name)
		case len(found.attached) > 0:
			return iamConflict("Cannot delete entity, must detach all policies first.")
		case len(found.inline) > 0:
			return iamConflict("Cannot delete entity, must delete policies first.")
		}
		put(b, b.r.roles, name, nil)
		return nil
	})
}

func (e *Emulator) putRolePolicy(c *call) (any, *apiError) {
	name, refused := nameIn(c.query, "PolicyName", 128)
	if refused != nil {
		return nil, refused
	}
	policy, refused := readIAMPolicy(c.query.Get("PolicyDocument"), inlineCharsMax, iampolicy.ParseIdentity)
	if refused != nil {
		return nil, refused
	}
	return nil, e.changeRole(c, func(_ *Batch, r *role) *apiError {
		r.inline[name] = policy
		total := 0
		for _, p := range r.inline {
			total += charactersOf(p.text)
		}
		if total > inlineCharsMax { // of all together
			return iamLimit("Maximum policy size of %d bytes exceeded for role %s", inlineCharsMax, r.name)
		}
		return nil
	})
}

func noRolePolicy(name string) *apiError {
	return noEntity("The role policy with name %.128s cannot be found.", name)
}

func (e *Emulator) getRolePolicy(c *call) (any, *apiError) {
	found, refused := e.namedRole(c)
	if refused != nil {
		return nil, refused
	}
	name := c.query.Get("PolicyName")
	policy, ok := found.inline[name]
	if !ok {
		return nil, noRolePolicy(name)
	}
	return struct {
		Role     string `xml:"RoleName"`
		Name     string `xml:"PolicyName"`
		Document string `xml:"PolicyDocument"`
	}{found.name, name, escaped(policy.text)}, nil
}

func (e *Emulator) listRolePolicies(c *call) (any, *apiError) {
	found, refused := e.namedRole(c)
	if refused != nil {
		return nil, refused
	}
	names, listing, refused := listIAM(e, c, sortedKeys(found.inline))
	if refused != nil {
		return nil, refused
	}
	return struct {
		Names members[string] `xml:"PolicyNames"`
		iamListing
	}{members[string]{names}, listing}, nil
}

func (e *Emulator) deleteRolePolicy(c *call) (any, *apiError) {
	return nil, e.changeRole(c, func(_ *Batch, r *role) *apiError {
		name := c.query.Get("PolicyName")
		if _, ok := r.inline[name]; !ok {
			return noRolePolicy(name)
		}
		delete(r.inline, name)
		return nil
	})
}

func (e *Emulator) attachRolePolicy(c *call) (any, *apiError) {
	return nil, e.changeRole(c, func(b *Batch, r *role) *apiError {
		arn := c.query.Get("PolicyArn")
		switch i, attached := slices.BinarySearch(r.attached, arn); {
		case b.r.managed[arn] == nil:
			return noEntity("Policy %.200s does not exist or is not attachable.", arn)
		case attached:
		case len(r.attached) >= attachedMax:
			return iamLimit("Cannot exceed quota for PoliciesPerRole: %d", attachedMax)
		default:
			r.attached = slices.Insert(r.attached, i, arn)
		}
		return nil
	})
}

func (e *Emulator) detachRolePolicy(c *call) (any, *apiError) {
	return nil, e.changeRole(c, func(_ *Batch, r *role) *apiError {
		arn := c.query.Get("PolicyArn")
		i, attached := slices.BinarySearch(r.attached, arn)
		if !attached {
			return noEntity("Policy %.200s was not found.", arn)
		}
		r.attached = slices.Delete(r.attached, i, i+1)
		return nil
	})
}

type attachedXML struct {
	Name string `xml:"PolicyName"`
	ARN  string `xml:"PolicyArn"`
}

func (e *Emulator) listAttachedRolePolicies(c *call) (any, *apiError) {
	found, refused := e.namedRole(c)
	if refused != nil {
		return nil, refused
	}
	prefix, refused := pathIn(c.query, "PathPrefix")
	if refused != nil {
		return nil, refused
	}
	var arns []string
	for _, arn := range found.attached {
		if strings.HasPrefix(arn, managedARN(prefix, "")) {
			arns = append(arns, arn)
		}
	}
	arns, listing, refused := listIAM(e, c, arns)
	if refused != nil {
		return nil, refused
	}
	answer := struct {
		Policies members[attachedXML] `xml:"AttachedPolicies"`
		iamListing
	}{iamListing: listing}
	for _, arn := range arns {
		answer.Policies.Members = append(answer.Policies.Members, attachedXML{arn[strings.LastIndexByte(arn, '/')+1:], arn})
	}
	return answer, nil
}
