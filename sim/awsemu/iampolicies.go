package awsemu

import (
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
)

// Managed policies: documents in versions, one of them in force, which roles share.

type managedXML struct {
	Name        string `xml:"PolicyName"`
	ID          string `xml:"PolicyId"`
	ARN         string `xml:"Arn"`
	Path        string `xml:"Path"`
	InForce     string `xml:"DefaultVersionId"`
	Attachments int    `xml:"AttachmentCount"`
	Boundaries  int    `xml:"PermissionsBoundaryUsageCount"`
	Attachable  bool   `xml:"IsAttachable"`
	Description string `xml:"Description,omitempty"`
	Created     string `xml:"CreateDate"`
	Updated     string `xml:"UpdateDate"`
}

// xmlOf describes a policy. Caller holds the registry's lock.
func (r *Registry) xmlOf(p *managedPolicy) managedXML {
	return managedXML{p.name, p.id, p.arn(), p.path, p.inForce, r.attachments(p.arn()), 0, true, p.description, iamTime(p.created), iamTime(p.updated)}
}

func (r *Registry) attachments(arn string) (n int) {
	for _, found := range r.roles {
		if _, attached := slices.BinarySearch(found.attached, arn); attached {
			n++
		}
	}
	return n
}

func managedARN(path, name string) string { return (&managedPolicy{path: path, name: name}).arn() }

type managedVersionXML struct {
	Document  string `xml:"Document,omitempty"`
	ID        string `xml:"VersionId"`
	IsDefault bool   `xml:"IsDefaultVersion"`
	Created   string `xml:"CreateDate"`
}

// xmlOf describes a version, with its document only where it is wanted.
func (p *managedPolicy) xmlOf(v *managedVersion, document bool) managedVersionXML {
	x := managedVersionXML{ID: v.id, IsDefault: v.id == p.inForce, Created: iamTime(v.created)}
	if document {
		x.Document = escaped(v.text)
	}
	return x
}

type managedResult struct {
	Policy managedXML `xml:"Policy"`
}

type managedVersionResult struct {
	Version managedVersionXML `xml:"PolicyVersion"`
}

func noManaged(arn string) *apiError { return noEntity("Policy %.200s was not found.", arn) }

func (e *Emulator) createManaged(c *call) (any, *apiError) {
	form := c.query
	if refused := unsupported(form, "Tags"); refused != nil {
		return nil, refused
	}
	made := &managedPolicy{id: iamID("ANPA"), created: toSecond(e.now()), updated: toSecond(e.now()), inForce: "v1", last: 1}
	var refused *apiError
	if made.name, refused = nameIn(form, "PolicyName", 128); refused != nil {
		return nil, refused
	}
	if made.path, refused = pathIn(form, "Path"); refused != nil {
		return nil, refused
	}
	if made.description, refused = descriptionIn(form); refused != nil {
		return nil, refused
	}
	text, refused := readIAMPolicy(form.Get("PolicyDocument"), managedCharsMax, iampolicy.ParseIdentity)
	if refused != nil {
		return nil, refused
	}
	made.versions = []managedVersion{{"v1", made.created, text}}
	var answer managedResult
	refused = e.change(func(b *Batch) *apiError {
		for _, known := range b.r.managed {
			if strings.EqualFold(known.name, made.name) {
				return entityExists("A policy called %s already exists. Duplicate names are not allowed.", made.name)
			}
		}
		if len(b.r.managed) >= managedMax {
			return iamLimit("Cannot exceed quota for PoliciesPerAccount: %d", managedMax)
		}
		put(b, b.r.managed, made.arn(), made)
		answer.Policy = b.r.xmlOf(made)
		return nil
	})
	if refused != nil {
		return nil, refused
	}
	return answer, nil
}

// namedManaged is the policy that a request names.
func (e *Emulator) namedManaged(c *call) (*managedPolicy, *apiError) {
	arn := c.query.Get("PolicyArn")
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	if found := e.registry.managed[arn]; found != nil {
		return found, nil
	}
	return nil, noManaged(arn)
}

func (e *Emulator) getManaged(c *call) (any, *apiError) {
	found, refused := e.namedManaged(c)
	if refused != nil {
		return nil, refused
	}
	e.registry.mu.RLock()
	defer e.registry.mu.RUnlock()
	return managedResult{e.registry.xmlOf(found)}, nil
}

// listManaged lists the account's policies; AWS's own are not emulated.
func (e *Emulator) listManaged(c *call) (any, *apiError) {
	form := c.query
	prefix, refused := pathIn(form, "PathPrefix")
	switch scope := form.Get("Scope"); {
	case refused != nil:
		return nil, refused
	case !slices.Contains([]string{"", "All", "AWS", "Local"}, scope):
		return nil, iamInvalid("scope", "Member must satisfy enum value set: [All, AWS, Local]")
	case scope == "AWS":
		prefix = "none"
	}
	r := e.registry
	r.mu.RLock()
	defer r.mu.RUnlock()
	var arns []string
	for _, arn := range sortedKeys(r.managed) {
		if strings.HasPrefix(r.managed[arn].path, prefix) && (form.Get("OnlyAttached") != "true" || r.attachments(arn) > 0) {
			arns = append(arns, arn)
		}
	}
	arns, listing, refused := listIAM(e, c, arns)
	if refused != nil {
		return nil, refused
	}
	answer := struct {
		Policies members[managedXML] `xml:"Policies"`
		iamListing
	}{iamListing: listing}
	for _, arn := range arns {
		x := r.xmlOf(r.managed[arn])
		x.Description = "" // as in AWS's listing
		answer.Policies.Members = append(answer.Policies.Members, x)
	}
	return answer, nil
}

func (e *Emulator) deleteManaged(c *call) (any, *apiError) {
	return nil, e.change(func(b *Batch) *apiError {
		arn := c.query.Get("PolicyArn")
		switch found := b.r.managed[arn]; {
		case found == nil:
			return noManaged(arn)
		case b.r.attachments(arn) > 0:
			return iamConflict("Cannot delete a policy attached to entities.")
		case len(found.versions) > 1:
			return iamConflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. The default version is deleted with the policy.")
		}
		put(b, b.r.managed, arn, nil)
		return nil
	})
}

// changeManaged changes the policy that a request names.
func (e *Emulator) changeManaged(c *call, f func(*managedPolicy) *apiError) *apiError {
	arn := c.query.Get("PolicyArn")
	return e.change(func(b *Batch) *apiError {
		found := b.r.managed[arn]
		if found == nil {
			return noManaged(arn)
		}
		changed := found.clone()
		if refused := f(changed); refused != nil {
			return refused
		}
		changed.updated = toSecond(e.now())
		put(b, b.r.managed, arn, changed)
		return nil
	})
}

func (e *Emulator) createManagedVersion(c *call) (any, *apiError) {
	text, refused := readIAMPolicy(c.query.Get("PolicyDocument"), managedCharsMax, iampolicy.ParseIdentity)
	if refused != nil {
		return nil, refused
	}
	var answer managedVersionResult
	refused = e.changeManaged(c, func(p *managedPolicy) *apiError {
		if len(p.versions) >= versionsMax {
			return iamLimit("A managed policy can have up to %d versions. Before you create a new version, you must delete an existing version.", versionsMax)
		}
		p.last++
		v := managedVersion{"v" + strconv.Itoa(p.last), toSecond(e.now()), text}
		p.versions = append(p.versions, v)
		if c.query.Get("SetAsDefault") == "true" {
			p.inForce = v.id
		}
		answer.Version = p.xmlOf(&v, false)
		return nil
	})
	if refused != nil {
		return nil, refused
	}
	return answer, nil
}

func noManagedVersion(c *call) *apiError {
	return noEntity("Policy %.200s version %.20s does not exist or is not attachable.", c.query.Get("PolicyArn"), c.query.Get("VersionId"))
}

func (e *Emulator) getManagedVersion(c *call) (any, *apiError) {
	found, refused := e.namedManaged(c)
	if refused != nil {
		return nil, refused
	}
	v := found.version(c.query.Get("VersionId"))
	if v == nil {
		return nil, noManagedVersion(c)
	}
	return managedVersionResult{found.xmlOf(v, true)}, nil
}

func (e *Emulator) listManagedVersions(c *call) (any, *apiError) {
	found, refused := e.namedManaged(c)
	if refused != nil {
		return nil, refused
	}
	var ids []string
	for _, v := range found.versions {
		ids = append(ids, v.id)
	}
	slices.Sort(ids)
	ids, listing, refused := listIAM(e, c, ids)
	if refused != nil {
		return nil, refused
	}
	answer := struct {
		Versions members[managedVersionXML] `xml:"Versions"`
		iamListing
	}{iamListing: listing}
	for _, id := range ids {
		answer.Versions.Members = append(answer.Versions.Members, found.xmlOf(found.version(id), false))
	}
	return answer, nil
}

func (e *Emulator) setDefaultManagedVersion(c *call) (any, *apiError) {
	return nil, e.changeManaged(c, func(p *managedPolicy) *apiError {
		id := c.query.Get("VersionId")
		if p.version(id) == nil {
			return noManagedVersion(c)
		}
		p.inForce = id
		return nil
	})
}

func (e *Emulator) deleteManagedVersion(c *call) (any, *apiError) {
	return nil, e.changeManaged(c, func(p *managedPolicy) *apiError {
		id := c.query.Get("VersionId")
		switch {
		case p.version(id) == nil:
			return noManagedVersion(c)
		case id == p.inForce:
			return iamConflict("Cannot delete the default version of a policy.")
		}
		p.versions = slices.DeleteFunc(p.versions, func(v managedVersion) bool { return v.id == id })
		return nil
	})
}
