package awsemu

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iampolicy"
)

// The file form of IAM's entities and role aliases. Ids and dates may be left out by who
// writes one by hand.

type seedRole struct {
	Name        string       `json:"roleName" seed:"required" doc:"1 to 64 of [A-Za-z0-9_+=,.@-]."`
	ID          string       `json:"roleId,omitempty"`
	Path        string       `json:"path,omitempty" doc:"Default: /."`
	Description string       `json:"description,omitempty"`
	Created     time.Time    `json:"createDate,omitzero"`
	Session     int          `json:"maxSessionDuration,omitempty" doc:"Seconds, 3600 (the default) to 43200."`
	Trust       string       `json:"assumeRolePolicyDocument" seed:"required,text" doc:"The trust policy: who may assume the role."`
	Inline      []seedInline `json:"policies,omitempty" doc:"Inline policies: what the role may do."`
	Attached    []string     `json:"attachedPolicies,omitempty" doc:"ARNs of managed policies."`
}

type seedInline struct {
	Name     string `json:"policyName" seed:"required"`
	Document string `json:"policyDocument" seed:"required,text"`
}

type seedManaged struct {
	Name        string        `json:"policyName" seed:"required"`
	ID          string        `json:"policyId,omitempty"`
	Path        string        `json:"path,omitempty" doc:"Default: /."`
	Description string        `json:"description,omitempty"`
	Created     time.Time     `json:"createDate,omitzero"`
	Updated     time.Time     `json:"updateDate,omitzero"`
	Versions    []seedVersion `json:"versions" seed:"required" doc:"At most five, the oldest first."`
	InForce     string        `json:"defaultVersionId,omitempty" doc:"Default: the newest."`
	Last        int           `json:"lastVersion,omitempty"`
}

type seedVersion struct {
	ID       string    `json:"versionId,omitempty" doc:"v1 and so on. Default: its place in the list."`
	Created  time.Time `json:"createDate,omitzero"`
	Document string    `json:"policyDocument" seed:"required,text"`
}

type seedAlias struct {
	Name     string    `json:"roleAlias" seed:"required" doc:"1 to 128 of [A-Za-z0-9_=,@-]."`
	Role     string    `json:"roleArn" seed:"required"`
	Duration int       `json:"credentialDurationSeconds,omitempty" doc:"900 to 43200, default 3600."`
	Created  time.Time `json:"creationDate,omitzero"`
	Modified time.Time `json:"lastModifiedDate,omitzero"`
}

// completeIdentities says when that was made which a seed gives no time for.
func (s *seedFile) completeIdentities(now time.Time) {
	for i := range s.Roles {
		s.Roles[i].Created = cmp.Or(s.Roles[i].Created, now)
	}
	for i := range s.Managed {
		p := &s.Managed[i]
		p.Created = cmp.Or(p.Created, now)
		p.Updated = cmp.Or(p.Updated, p.Created)
		for j := range p.Versions {
			p.Versions[j].Created = cmp.Or(p.Versions[j].Created, p.Created)
		}
	}
	for i := range s.Aliases {
		a := &s.Aliases[i]
		a.Created = cmp.Or(a.Created, now)
		a.Modified = cmp.Or(a.Modified, a.Created)
	}
}

func (b *Batch) fillIdentities(seed *seedFile) error {
	for i, s := range seed.Managed {
		if err := b.fillManaged(s); err != nil {
			return fmt.Errorf("managedPolicies[%d]: %w", i, err)
		}
	}
	for i, s := range seed.Roles {
		if err := b.fillRole(s); err != nil {
			return fmt.Errorf("roles[%d]: %w", i, err)
		}
	}
	for i, s := range seed.Aliases {
		if s.Duration == 0 {
			s.Duration = aliasDurationUsed
		}
		if err := b.addAlias(&roleAlias{s.Name, s.Role, s.Duration, toSecond(s.Created), toSecond(s.Modified)}); err != nil {
			return fmt.Errorf("roleAliases[%d]: %w", i, err)
		}
	}
	return nil
}

func (b *Batch) fillRole(s seedRole) error {
	if s.Session < 0 || s.Session > int(sessionMax/time.Second) {
		return fmt.Errorf("maxSessionDuration: %d s, want at most %d", s.Session, int(sessionMax/time.Second))
	}
	policies := map[string]string{}
	for _, p := range s.Inline {
		if _, twice := policies[p.Name]; twice {
			return fmt.Errorf("policies: %.128q: %w", p.Name, ErrExists)
		}
		policies[p.Name] = p.Document
	}
	made, err := Role{s.Name, s.Trust, time.Duration(s.Session) * time.Second, policies}.read()
	if err != nil {
		return err
	}
	if s.ID != "" {
		made.id = s.ID
	}
	if s.Path != "" {
		made.path = s.Path
	}
	if err := errors.Join(checkID(made.id, "AROA"), checkDetails(made.path, s.Description)); err != nil {
		return err
	}
	made.description, made.created = s.Description, toSecond(s.Created)
	made.attached = slices.Sorted(slices.Values(s.Attached))
	for i, arn := range made.attached {
		if b.r.managed[arn] == nil || i > 0 && made.attached[i-1] == arn || i >= attachedMax {
			return fmt.Errorf("attachedPolicies: %.200q: want at most %d of managedPolicies, each once", arn, attachedMax)
		}
	}
	return b.addRole(made)
}

func (b *Batch) fillManaged(s seedManaged) error {
	p := &managedPolicy{name: s.Name, id: s.ID, path: s.Path, description: s.Description, created: toSecond(s.Created), updated: toSecond(s.Updated), inForce: s.InForce}
	if p.id == "" {
		p.id = iamID("ANPA")
	}
	if p.path == "" {
		p.path = "/"
	}
	if err := errors.Join(checkName(p.name), checkID(p.id, "ANPA"), checkDetails(p.path, p.description)); err != nil {
		return err
	}
	if n := len(s.Versions); n < 1 || n > versionsMax || b.r.managed[p.arn()] != nil || len(b.r.managed) >= managedMax {
		return fmt.Errorf("want 1 to %d versions, and at most %d policies, each of another name", versionsMax, managedMax)
	}
	for i, v := range s.Versions {
		if v.ID == "" {
			v.ID = "v" + strconv.Itoa(i+1)
		}
		n, err := strconv.Atoi(strings.TrimPrefix(v.ID, "v"))
		if err != nil || n <= p.last || v.ID != "v"+strconv.Itoa(n) {
			return fmt.Errorf("versions[%d].versionId: %.20q, want v1 and so on, ascending", i, v.ID)
		}
		text, err := readPolicy(v.Document, managedCharsMax, iampolicy.ParseIdentity)
		if err != nil {
			return fmt.Errorf("versions[%d]: %w", i, err)
		}
		p.last = n
		p.versions = append(p.versions, managedVersion{v.ID, toSecond(v.Created), text})
	}
	p.last = max(p.last, s.Last)
	if p.inForce == "" {
		p.inForce = p.versions[len(p.versions)-1].id
	}
	if p.version(p.inForce) == nil {
		return fmt.Errorf("defaultVersionId: %.20q is none of versions", p.inForce)
	}
	put(b, b.r.managed, p.arn(), p)
	return nil
}

func checkID(id, prefix string) error {
	if len(id) < 16 || len(id) > 128 || !strings.HasPrefix(id, prefix) || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		return fmt.Errorf("id %.128q: want %s and at least 12 upper-case letters and digits", id, prefix)
	}
	return nil
}

func checkDetails(path, description string) error {
	if !isIAMPath(path) || len(description) > iamDescriptionMax {
		return fmt.Errorf("path %.100q: want / at both ends; a description has at most %d bytes", path, iamDescriptionMax)
	}
	return nil
}

func (r *Registry) encodeIdentities(seed *seedFile) {
	for _, arn := range sortedKeys(r.managed) {
		p := r.managed[arn]
		s := seedManaged{p.name, p.id, p.path, p.description, p.created, p.updated, nil, p.inForce, p.last}
		for _, v := range p.versions {
			s.Versions = append(s.Versions, seedVersion{v.id, v.created, v.text})
		}
		seed.Managed = append(seed.Managed, s)
	}
	for _, name := range sortedKeys(r.roles) {
		m := r.roles[name]
		s := seedRole{m.name, m.id, m.path, m.description, m.created, int(m.session / time.Second), m.trust.text, nil, m.attached}
		for _, policy := range sortedKeys(m.inline) {
			s.Inline = append(s.Inline, seedInline{policy, m.inline[policy].text})
		}
		seed.Roles = append(seed.Roles, s)
	}
	for _, name := range sortedKeys(r.aliases) {
		a := r.aliases[name]
		seed.Aliases = append(seed.Aliases, seedAlias{a.name, a.role, a.duration, a.created, a.modified})
	}
}
