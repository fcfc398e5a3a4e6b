package awsemu

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Bounds of policies. They are AWS IoT's (cloud spec 4.6), but for how many there may be.
const (
	policiesMax            = 10_000
	policyVersionsMax      = 5
	policiesOfPrincipalMax = 10
	policiesOfGroupMax     = 2
)

// DefaultPolicyName is the policy that Enroll attaches: what AWS's installer makes for a
// core (cloud spec 8.1).
const DefaultPolicyName = "GreengrassV2IoTThingPolicy"

const defaultPolicy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:Publish","iot:Subscribe","iot:Receive","greengrass:*"],"Resource":"*"}]}`

// iotPolicy is a policy with its versions. It never changes in place.
type iotPolicy struct {
	versions          []policyVersion // the oldest first
	current           int             // the number of the default one
	last              int             // the highest number there ever was
	created, modified time.Time       // zero: unknown
	generation        string
}

type policyVersion struct {
	number   int
	document *iotpolicy.Document
	created  time.Time
}

func (p *iotPolicy) version(number int) (policyVersion, bool) {
	i := slices.IndexFunc(p.versions, func(v policyVersion) bool { return v.number == number })
	if i < 0 {
		return policyVersion{}, false
	}
	return p.versions[i], true
}

// generationOf differs after each change.
func (p *iotPolicy) generationOf(name string) string {
	return derivedUUID("policy", fmt.Sprint(name, "/", p.created.UnixMilli(), p.modified.UnixMilli(), "/", p.last, p.current, len(p.versions)))
}

// document is what the policy says: its default version.
func (p *iotPolicy) document() *iotpolicy.Document {
	v, _ := p.version(p.current) // it is there by construction
	return v.document
}

var policyNameForm = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)

func policyARN(name string) string { return "arn:aws:iot" + arnPrefix + "policy/" + name }

// CertificateARN is how AWS's operations name a certificate.
func CertificateARN(id messages.CertificateID) string { return certificateARN(string(id)) }

func readDocument(text string) (*iotpolicy.Document, *apiError) {
	d, err := iotpolicy.Parse(text)
	if err != nil {
		return nil, iotError(http.StatusBadRequest, "MalformedPolicyException", "Policy document is Malformed: "+err.Error())
	}
	return d, nil
}

func (b *Batch) createPolicy(name, document string, at time.Time) *apiError {
	if !policyNameForm.MatchString(name) {
		return constraint("policyName", `Member must satisfy regular expression pattern: [\w+=,.@-]+`)
	}
	d, refused := readDocument(document)
	switch {
	case refused != nil:
		return refused
	case b.r.policies[name] != nil:
		return alreadyExists(fmt.Sprintf("Policy cannot be created - name already exists (name=%s)", name), name, policyARN(name))
	case len(b.r.policies) >= policiesMax:
		return limitExceeded(fmt.Sprintf("There are %d policies: no more are emulated", policiesMax))
	}
	at = stampOrZero(at)
	made := &iotPolicy{versions: []policyVersion{{1, d, at}}, current: 1, last: 1, created: at, modified: at}
	made.generation = made.generationOf(name)
	put(b, b.r.policies, name, made)
	return nil
}

// changePolicy replaces a policy by what change makes of a copy.
func (b *Batch) changePolicy(name string, at time.Time, change func(*iotPolicy) *apiError) *apiError {
	known := b.r.policies[name]
	if known == nil {
		return noPolicy(name)
	}
	next := *known
	next.versions = slices.Clone(known.versions)
	if refused := change(&next); refused != nil {
		return refused
	}
	next.modified = stamp(at)
	next.generation = next.generationOf(name)
	put(b, b.r.policies, name, &next)
	return nil
}

func noPolicy(name string) *apiError { return noResource(fmt.Sprintf("Policy %.128s not found", name)) }

func (b *Batch) createPolicyVersion(name, document string, asDefault bool, at time.Time) (made policyVersion, refused *apiError) {
	d, refused := readDocument(document)
	if refused != nil {
		return made, refused
	}
	return made, b.changePolicy(name, at, func(p *iotPolicy) *apiError {
		if b.r.full(len(p.versions), policyVersionsMax) {
			return iotError(http.StatusConflict, "VersionsLimitExceededException", fmt.Sprintf("The policy %s already has the maximum number of versions (%d)", name, policyVersionsMax))
		}
		p.last++
		made = policyVersion{p.last, d, stamp(at)}
		p.versions = append(p.versions, made)
		if asDefault {
			p.current = made.number
		}
		return nil
	})
}

func (b *Batch) setDefaultPolicyVersion(name string, number int, at time.Time) *apiError {
	return b.changePolicy(name, at, func(p *iotPolicy) *apiError {
		if _, ok := p.version(number); !ok {
			return noPolicyVersion(name, number)
		}
		p.current = number
		return nil
	})
}

func noPolicyVersion(name string, number int) *apiError {
	return noResource(fmt.Sprintf("Policy %s has no version %d", name, number))
}

func (b *Batch) deletePolicyVersion(name string, number int, at time.Time) *apiError {
	return b.changePolicy(name, at, func(p *iotPolicy) *apiError {
		switch _, ok := p.version(number); {
		case !ok:
			return noPolicyVersion(name, number)
		case number == p.current:
			return deleteConflict("Cannot delete the default version of a policy")
		}
		p.versions = slices.DeleteFunc(p.versions, func(v policyVersion) bool { return v.number == number })
		return nil
	})
}

func (b *Batch) deletePolicy(name string) *apiError {
	known := b.r.policies[name]
	switch {
	case known == nil:
		return noPolicy(name)
	case len(b.r.targetsOf(name)) > 0:
		return deleteConflict(fmt.Sprintf("The policy cannot be deleted as the policy is attached to one or more principals (name=%s)", name))
	case len(known.versions) > 1:
		return deleteConflict(fmt.Sprintf("Cannot delete the policy because it has one or more policy versions attached to it (name=%s)", name))
	}
	put(b, b.r.policies, name, nil)
	return nil
}

// targetsOf lists what a policy is attached to. The caller holds mu.
func (r *Registry) targetsOf(name string) []string {
	targets := []string{}
	for target, names := range r.attached {
		if slices.Contains(names, name) {
			targets = append(targets, target)
		}
	}
	slices.Sort(targets)
	return targets
}

// target is what a policy can be attached to.
type target struct {
	arn   string
	limit int // of its policies
	known bool
}

// target reads an ARN. The caller holds mu.
func (r *Registry) target(arn string) (target, *apiError) {
	resource, _ := strings.CutPrefix(arn, "arn:aws:iot"+arnPrefix)
	kind, name, _ := strings.Cut(resource, "/")
	switch kind {
	case "cert":
		return target{arn, policiesOfPrincipalMax, r.certificates[messages.CertificateID(name)] != nil}, nil
	case "thinggroup":
		return target{arn, policiesOfGroupMax, r.thingGroups[name] != nil}, nil
	}
	return target{}, badRequest(fmt.Sprintf("Invalid target %.200q: want the ARN of a certificate or of a thing group of this account and region", arn))
}

// knownTarget is target for one that must be there.
func (r *Registry) knownTarget(arn string) (target, *apiError) {
	t, refused := r.target(arn)
	if refused == nil && !t.known {
		refused = noResource(fmt.Sprintf("The specified target does not exist: %s", arn))
	}
	return t, refused
}

func (b *Batch) attachPolicy(name, arn string) *apiError {
	t, refused := b.r.knownTarget(arn)
	names := b.r.attached[arn]
	switch {
	case refused != nil:
		return refused
	case b.r.policies[name] == nil:
		return noPolicy(name)
	case slices.Contains(names, name):
		return nil
	case b.r.full(len(names), t.limit):
		return limitExceeded(fmt.Sprintf("The number of policies attached to %s is at its limit of %d", arn, t.limit))
	}
	b.setPolicies(arn, append(slices.Clone(names), name))
	return nil
}

// detachPolicy says nothing of one that is not attached, as AWS does not.
func (b *Batch) detachPolicy(name, arn string) *apiError {
	names := b.r.attached[arn]
	switch _, refused := b.r.knownTarget(arn); {
	case refused != nil:
		return refused
	case b.r.policies[name] == nil:
		return noPolicy(name)
	case slices.Contains(names, name):
		b.setPolicies(arn, slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n == name }))
	}
	return nil
}

// setPolicies replaces what is attached to a target. The list is never changed in place.
func (b *Batch) setPolicies(arn string, names []string) {
	r, before := b.r, b.r.attached[arn]
	replace := func(names []string) {
		if len(names) == 0 {
			delete(r.attached, arn)
			return
		}
		r.attached[arn] = names
	}
	replace(slices.Clip(names))
	b.undo = append(b.undo, func() { replace(before) })
}

// CreatePolicy makes a policy with one version, with ErrExists if there is one of the name.
func (b *Batch) CreatePolicy(name, document string, at time.Time) error {
	return asError(b.createPolicy(name, document, at))
}

// AttachPolicy attaches a policy to the certificate or thing group that target, an ARN,
// names.
func (b *Batch) AttachPolicy(name, target string) error { return asError(b.attachPolicy(name, target)) }

// DetachPolicy takes it away.
func (b *Batch) DetachPolicy(name, target string) error { return asError(b.detachPolicy(name, target)) }

// EnsurePolicy makes a policy if there is none of the name; it does not look at what the
// one that is there says.
func (b *Batch) EnsurePolicy(name, document string, at time.Time) error {
	if b.r.policies[name] != nil {
		return nil
	}
	return b.CreatePolicy(name, document, at)
}

// asError is a refusal for callers within the program.
func asError(refused *apiError) error {
	switch {
	case refused == nil:
		return nil
	case refused.status == http.StatusNotFound:
		return fmt.Errorf("%s: %w", refused.message, ErrNotFound)
	case refused.name == "ResourceAlreadyExistsException":
		return fmt.Errorf("%s: %w", refused.message, ErrExists)
	}
	return errors.New(refused.message)
}

// CreatePolicy is Batch.CreatePolicy.
func (r *Registry) CreatePolicy(name, document string, at time.Time) error {
	return r.Update(func(b *Batch) error { return b.CreatePolicy(name, document, at) })
}

// AttachPolicy is Batch.AttachPolicy.
func (r *Registry) AttachPolicy(name, target string) error {
	return r.Update(func(b *Batch) error { return b.AttachPolicy(name, target) })
}

// DetachPolicy is Batch.DetachPolicy.
func (r *Registry) DetachPolicy(name, target string) error {
	return r.Update(func(b *Batch) error { return b.DetachPolicy(name, target) })
}

// SetPolicy is Registry.SetPolicy.
func (b *Batch) SetPolicy(id messages.CertificateID, policy Policy) error {
	known := b.r.certificates[id]
	if known == nil {
		return fmt.Errorf("certificate %.64q: %w", id, ErrNotFound)
	}
	wanted := map[string]string{}
	switch policy {
	case PolicyOpen:
		wanted[DefaultPolicyName] = defaultPolicy
	case PolicyMinimal:
		for name := range known.things {
			wanted["GreengrassMinimal-"+string(name)] = minimalPolicy(name)
		}
	default:
		return fmt.Errorf("policy %.40q: want %q or none", policy, PolicyMinimal)
	}
	arn := CertificateARN(id)
	b.setPolicies(arn, nil)
	for _, name := range sortedKeys(wanted) {
		if err := cmp.Or(b.EnsurePolicy(name, wanted[name], time.Time{}), b.AttachPolicy(name, arn)); err != nil {
			return err
		}
	}
	return nil
}

// minimalPolicy is AWS's minimal policy for a core with client device auth.
func minimalPolicy(core messages.ThingName) string {
	const arn = "arn:aws:iot" + arnPrefix
	shadow := "$aws/things/" + AddressShadow(core) + "/shadow/"
	return `{"Version":"2012-10-17","Statement":[
{"Effect":"Allow","Action":"iot:Connect","Resource":"` + arn + `client/` + string(core) + `*"},
{"Effect":"Allow","Action":"iot:Publish","Resource":"` + arn + `topic/` + shadow + `get"},
{"Effect":"Allow","Action":"iot:Subscribe","Resource":["` + arn + `topicfilter/` + shadow + `get/accepted","` + arn + `topicfilter/` + shadow + `update/delta"]},
{"Effect":"Allow","Action":"iot:Receive","Resource":["` + arn + `topic/` + shadow + `get/accepted","` + arn + `topic/` + shadow + `update/delta"]},
{"Effect":"Allow","Action":["greengrass:PutCertificateAuthorities","greengrass:VerifyClientDeviceIdentity"],"Resource":"*"},
{"Effect":"Allow","Action":"greengrass:VerifyClientDeviceIoTCertificateAssociation","Resource":"` + arn + `thing/*"},
{"Effect":"Allow","Action":["greengrass:GetConnectivityInfo","greengrass:UpdateConnectivityInfo"],"Resource":"` + arn + `thing/` + string(core) + `"}]}`
}

// SetPolicyDocument has a policy say something else: a new default version in place of the
// former ones.
func (r *Registry) SetPolicyDocument(name, document string, at time.Time) error {
	return r.Update(func(b *Batch) error {
		d, refused := readDocument(document)
		if refused == nil {
			refused = b.changePolicy(name, at, func(p *iotPolicy) *apiError {
				p.last++
				p.versions, p.current = []policyVersion{{p.last, d, stamp(at)}}, p.last
				return nil
			})
		}
		return asError(refused)
	})
}

// Policies lists the names of the policies attached to a certificate or thing group.
func (r *Registry) Policies(target string) []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clone(r.attached[target])
}

// documents are the policies of targets, each once. The caller holds mu.
func (r *Registry) documents(targets ...string) []iotpolicy.Policy {
	var all []iotpolicy.Policy
	for _, target := range targets {
		for _, name := range r.attached[target] {
			known := slices.ContainsFunc(all, func(p iotpolicy.Policy) bool { return p.Name == name })
			if p := r.policies[name]; p != nil && !known {
				all = append(all, iotpolicy.Policy{Name: name, Document: p.document()})
			}
		}
	}
	return all
}
