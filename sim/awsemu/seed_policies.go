package awsemu

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
)

type seedPolicy struct {
	Name       string              `json:"policyName" seed:"required"`
	Document   string              `json:"policyDocument,omitempty" seed:"text" doc:"What it says, in place of versions."`
	Versions   []seedPolicyVersion `json:"versions,omitempty" doc:"1 to 5, ascending."`
	Default    int                 `json:"defaultVersionId,omitempty"`
	Last       int                 `json:"lastVersionId,omitempty" doc:"The highest number there ever was."`
	Created    time.Time           `json:"creationDate,omitzero"`
	Modified   time.Time           `json:"lastModifiedDate,omitzero"`
	Generation string              `json:"generationId,omitempty"`
}

type seedPolicyVersion struct {
	Number   int       `json:"versionId"`
	Document string    `json:"policyDocument" seed:"text"`
	Created  time.Time `json:"createDate,omitzero"`
}

type seedGroup struct {
	Name        string            `json:"thingGroupName" seed:"required"`
	Parent      string            `json:"parentGroupName,omitempty"`
	Description string            `json:"description,omitempty"`
	Attributes  map[string]string `json:"attributes,omitempty"`
	ID          string            `json:"thingGroupId,omitempty"`
	Created     time.Time         `json:"creationDate,omitzero"`
	Version     int64             `json:"version,omitempty"`
	Things      []string          `json:"things,omitempty" doc:"The things in it, not in groups below it."`
	Policies    []string          `json:"policies,omitempty" doc:"The IoT policies attached to it, at most 2."`
}

func (p *iotPolicy) seed(name string) seedPolicy {
	s := seedPolicy{Name: name, Default: p.current, Last: p.last, Created: p.created, Modified: p.modified, Generation: p.generation}
	for _, v := range p.versions {
		s.Versions = append(s.Versions, seedPolicyVersion{v.number, v.document.String(), v.created})
	}
	return s
}

func (b *Batch) fillPolicies(policies []seedPolicy) error {
	for i, s := range policies {
		at := fmt.Sprintf("iotPolicies[%d]", i)
		if s.Document != "" {
			if s.Versions != nil {
				return fmt.Errorf("%s.policyDocument: versions are given, too: keep one", at)
			}
			s.Versions, s.Default = []seedPolicyVersion{{1, s.Document, s.Created}}, 1
		}
		if len(s.Versions) == 0 || len(s.Versions) > policyVersionsMax {
			return fmt.Errorf("%s.versions: %d, want 1 to %d", at, len(s.Versions), policyVersionsMax)
		}
		if err := b.CreatePolicy(s.Name, s.Versions[0].Document, s.Created); err != nil {
			return fmt.Errorf("%s: %w", at, err)
		}
		p := b.r.policies[s.Name] // undone with the policy, which is new
		p.versions, p.last = nil, s.Last
		for j, v := range s.Versions {
			d, refused := readDocument(v.Document)
			if refused != nil {
				return fmt.Errorf("%s.versions[%d].policyDocument: %w", at, j, asError(refused))
			}
			if v.Number < 1 || j > 0 && v.Number <= s.Versions[j-1].Number {
				return fmt.Errorf("%s.versions[%d].versionId: %d, want numbers from 1 on, ascending", at, j, v.Number)
			}
			if err := checkYear("createDate", v.Created); err != nil {
				return fmt.Errorf("%s.versions[%d].%w", at, j, err)
			}
			p.versions, p.last = append(p.versions, policyVersion{v.Number, d, v.Created}), max(p.last, v.Number)
		}
		p.current = s.Default
		if _, ok := p.version(s.Default); !ok {
			return fmt.Errorf("%s.defaultVersionId: there is no version %d", at, s.Default)
		}
		if err := errors.Join(checkYear("creationDate", s.Created), checkYear("lastModifiedDate", s.Modified)); err != nil {
			return fmt.Errorf("%s.%w", at, err)
		}
		p.created, p.modified = s.Created, s.Modified
		if s.Generation != "" {
			p.generation = s.Generation
		}
	}
	return nil
}

// fillGroups comes after things and policies. Groups may come in any order.
func (b *Batch) fillGroups(groups []seedGroup) error {
	for i, s := range groups {
		if b.r.thingGroups[s.Name] != nil {
			return fmt.Errorf("thingGroups[%d]: %.128q: %w", i, s.Name, ErrExists)
		}
		if err := checkYear("creationDate", s.Created); err != nil {
			return fmt.Errorf("thingGroups[%d].%w", i, err)
		}
		if refused := b.r.checkGroup(thingGroup{description: s.Description, attributes: s.Attributes}); refused != nil {
			return fmt.Errorf("thingGroups[%d]: %w", i, asError(refused))
		}
		g, refused := b.createGroup(s.Name, thingGroup{description: s.Description, attributes: s.Attributes}, s.Created)
		if refused != nil {
			return fmt.Errorf("thingGroups[%d]: %w", i, asError(refused))
		}
		g.version = max(s.Version, 1) // undone with the group, which is new
		if s.ID != "" {
			g.id = s.ID
		}
	}
	for i, s := range groups {
		at := fmt.Sprintf("thingGroups[%d]", i)
		if s.Parent != "" {
			if b.r.thingGroups[s.Parent] == nil || b.r.below(s.Parent, s.Name) || len(b.r.groupPath(s.Parent)) >= groupDepthMax {
				return fmt.Errorf("%s.parentGroupName: %.128q is not there, or below it, or too deep", at, s.Parent)
			}
			b.r.thingGroups[s.Name].parent = s.Parent
		}
	}
	for i, s := range groups {
		for _, thing := range s.Things {
			if err := asError(b.setMember(s.Name, messages.ThingName(thing), true)); err != nil {
				return fmt.Errorf("thingGroups[%d].things: %w", i, err)
			}
		}
		for _, name := range s.Policies {
			if err := b.AttachPolicy(name, groupARN(s.Name)); err != nil {
				return fmt.Errorf("thingGroups[%d].policies: %w", i, err)
			}
		}
	}
	return nil
}

// fillAttached attaches policies to a certificate. Where a file says nothing of them, as
// older ones, it is what Enroll attaches.
func (b *Batch) fillAttached(id messages.CertificateID, c seedCertificate) error {
	if c.Policies == nil {
		if err := b.SetPolicy(id, c.Policy); err != nil {
			return fmt.Errorf("iotPolicy: %w", err)
		}
		return nil
	}
	if c.Policy != "" {
		return errors.New("policies: iotPolicy is given, too: keep one")
	}
	for _, name := range c.Policies {
		if err := b.AttachPolicy(name, CertificateARN(id)); err != nil {
			return fmt.Errorf("policies: %w", err)
		}
	}
	return nil
}

// seedPolicies puts policies, groups and the service role into the file's form.
func (r *Registry) seedPolicies(seed *seedFile) {
	for _, name := range sortedKeys(r.policies) {
		seed.Policies = append(seed.Policies, r.policies[name].seed(name))
	}
	for _, name := range sortedKeys(r.thingGroups) {
		g := r.thingGroups[name]
		s := seedGroup{name, g.parent, g.description, g.attributes, g.id, g.created, g.version, nil, slices.Clone(r.attached[groupARN(name)])}
		for _, thing := range sortedKeys(g.things) {
			s.Things = append(s.Things, string(thing))
		}
		seed.Groups = append(seed.Groups, s)
	}
	if r.serviceRole != defaultServiceRole {
		role := r.serviceRole
		seed.ServiceRole = &role
	}
}

func (b *Batch) fillServiceRole(role *serviceRole) error {
	if role == nil {
		return nil
	}
	if err := checkYear("associatedAt", role.Since); err != nil {
		return fmt.Errorf("greengrassServiceRole.%w", err)
	}
	if err := asError(b.setServiceRole(role.ARN, role.Since)); err != nil {
		return fmt.Errorf("greengrassServiceRole: %w", err)
	}
	return nil
}
