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
	Trust       string       `json:"assumeRolePolicyDocument,omitempty" seed:"text" doc:"The trust policy: who may assume the role. Default: nobody."`
	Inline      []seedInline `json:"policies,omitempty" doc:"Inline policies: what the role may do."`
	Attached    []string     `json:"attachedPolicies,omitempty" doc:"ARNs of managed policies."`
}

type seedInline struct {
	Name     string `json:"policyName" seed:"required"`
	Document string `json:"policyDocument" seed:"text"`
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
	Document string    `json:"policyDocument" seed:"text"`
}

type seedAlias struct {
	Name     string    `json:"roleAlias" seed:"required" doc:"1 to 128 of [A-Za-z0-9_=,@-]."`
	Role     string    `json:"roleArn" seed:"required"`
	Duration int       `json:"credentialDurationSeconds,omitempty" doc:"900 to 43200, default 3600."`
	Created  time.Time `json:"creationDate,omitzero"`
	Modified time.Time `json:"lastModifiedDate,omitzero"`
}

func (b *Batch) fillIdentities(seed *seedFile) error {
	for i, s := range seed.Managed {
		if err := b.fillManaged(fmt.Sprintf("managedPolicies[%d]", i), s); err != nil {
			return err
		}
	}
	for i, s := range seed.Roles {
		if err := b.fillRole(fmt.Sprintf("roles[%d]", i), s); err != nil {
			return err
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

// fillRole puts in a role. at is where it stands, for errors.
func (b *Batch) fillRole(at string, s seedRole) error {
	if s.Session < 0 || s.Session > int(sessionMax/time.Second) {
		return fmt.Errorf("%s.maxSessionDuration: %d s, want at most %d", at, s.Session, int(sessionMax/time.Second))
	}
	made, err := Role{Name: s.Name, MaxSession: time.Duration(s.Session) * time.Second}.read()
	if err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	made.id, made.path = cmp.Or(s.ID, made.id), cmp.Or(s.Path, made.path)
	made.description, made.created = s.Description, toSecond(s.Created)
	if err := errors.Join(checkID(made.id, "AROA"), checkDetails(made.path, s.Description)); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if s.Trust != "" {
		if made.trust, err = readPolicy(s.Trust, trustCharsMax, iampolicy.ParseTrust); err != nil {
			return fmt.Errorf("%s.assumeRolePolicyDocument: %w", at, err)
		}
	}
	for i, p := range s.Inline {
		if _, twice := made.inline[p.Name]; twice || checkName(p.Name) != nil {
			return fmt.Errorf("%s.policies[%d].policyName: %.128q: want names of 1 to 128 of [A-Za-z0-9_+=,.@-], each once", at, i, p.Name)
		}
		if made.inline[p.Name], err = readPolicy(p.Document, inlineCharsMax, iampolicy.ParseIdentity); err != nil {
			return fmt.Errorf("%s.policies[%d].policyDocument: %w", at, i, err)
		}
	}
	made.attached = slices.Sorted(slices.Values(s.Attached))
	for i, arn := range made.attached {
		if b.r.managed[arn] == nil || i > 0 && made.attached[i-1] == arn || i >= attachedMax {
			return fmt.Errorf("%s.attachedPolicies: %.200q: want at most %d of managedPolicies, each once", at, arn, attachedMax)
		}
	}
	if err := b.addRole(made); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	return nil
}

func (b *Batch) fillManaged(at string, s seedManaged) error {
	p := &managedPolicy{
		name: s.Name, id: cmp.Or(s.ID, iamID("ANPA")), path: cmp.Or(s.Path, "/"), description: s.Description,
		created: toSecond(s.Created), updated: toSecond(s.Updated), inForce: s.InForce,
	}
	if err := errors.Join(checkName(p.name), checkID(p.id, "ANPA"), checkDetails(p.path, p.description)); err != nil {
		return fmt.Errorf("%s: %w", at, err)
	}
	if n := len(s.Versions); n < 1 || n > versionsMax || b.r.managed[p.arn()] != nil || len(b.r.managed) >= managedMax {
		return fmt.Errorf("%s: want 1 to %d versions, and at most %d policies, each of another name", at, versionsMax, managedMax)
	}
	for i, v := range s.Versions {
		id := cmp.Or(v.ID, "v"+strconv.Itoa(i+1))
		n, err := strconv.Atoi(strings.TrimPrefix(id, "v"))
		if err != nil || n <= p.last || id != "v"+strconv.Itoa(n) {
			return fmt.Errorf("%s.versions[%d].versionId: %.20q, want v1 and so on, ascending", at, i, id)
		}
		text, err := readPolicy(v.Document, managedCharsMax, iampolicy.ParseIdentity)
		if err != nil {
			return fmt.Errorf("%s.versions[%d].policyDocument: %w", at, i, err)
		}
		p.last = n
		p.versions = append(p.versions, managedVersion{id, toSecond(v.Created), text})
	}
	p.last = max(p.last, s.Last)
	p.inForce = cmp.Or(p.inForce, p.versions[len(p.versions)-1].id)
	if p.version(p.inForce) == nil {
		return fmt.Errorf("%s.defaultVersionId: %.20q is none of versions", at, p.inForce)
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
