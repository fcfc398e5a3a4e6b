package trace

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// held are the policies of a certificate.
type held struct {
	target   string // ARN
	der      []byte // of the certificate; nil: not known
	nodes    []*Node
	policies []iotpolicy.Policy
	whole    bool // all were read: what they do not allow is not allowed
}

// policies reads what is attached to a certificate or a group.
func (t *tracer) policies(target string) *held {
	h := &held{target: target, whole: true}
	names, err := t.Reader.Attached(t.ctx, target)
	if err != nil {
		h.whole = false
		h.nodes = append(h.nodes, (&Node{Kind: KindPolicies, Name: "attached"}).unread(err))
		return h
	}
	slices.Sort(names)
	if more := len(names) - policiesMax; more > 0 {
		h.whole = false
		h.nodes = append(h.nodes, &Node{Kind: KindPolicies, Name: fmt.Sprintf("%d more", more), State: Unknown, Detail: "not looked at"})
		names = names[:policiesMax]
	}
	for _, name := range names {
		n := &Node{Kind: KindPolicy, Name: name, State: OK}
		h.nodes = append(h.nodes, n)
		document, err := t.document(n, name)
		if err != nil {
			h.whole = false
			n.unread(err)
			continue
		}
		h.policies = append(h.policies, iotpolicy.Policy{Name: name, Document: document})
	}
	return h
}

// document reads a policy's default version.
func (t *tracer) document(n *Node, name string) (*iotpolicy.Document, error) {
	p, err := t.Reader.Policy(t.ctx, name)
	if err != nil {
		return nil, err
	}
	document, err := iotpolicy.Parse(p.Document)
	if err != nil {
		return nil, fmt.Errorf("version %s cannot be understood: %w", p.Version, err)
	}
	n.Detail = "version " + p.Version + spoken(document)
	return document, nil
}

// spoken says what a policy's statements have to say of the role.
func spoken(d *iotpolicy.Document) string {
	text := ""
	for _, s := range d.Mentioning(assumeWithCertificate) {
		except := ""
		if s.NotResource {
			except = "all but "
		}
		text += fmt.Sprintf("; statement %d: %s %s on %s%s", s.Index+1, s.Effect, assumeWithCertificate, except, strings.Join(s.Resources, ", "))
	}
	return text
}

// context is what policies can know of a thing that the certificate is attached to: at the
// credentials provider, or, if mqtt, at the MQTT endpoint.
func (t *tracer) context(h *held, thing messages.ThingName, mqtt bool) *iotpolicy.Context {
	c := &iotpolicy.Context{}
	now := t.now().UTC()
	c.Set(iotpolicy.CurrentTime, now.Format(time.RFC3339))
	c.Set(iotpolicy.EpochTime, strconv.FormatInt(now.Unix(), 10))
	if leaf, err := x509.ParseCertificate(h.der); err == nil {
		c.SetCertificate(leaf)
	}
	if thing == "" {
		return c
	}
	c.Set(iotpolicy.ThingName, string(thing))
	if mqtt {
		c.Set(iotpolicy.ClientID, string(thing))
		c.Set(iotpolicy.ThingAttached, "true")
	}
	return c
}

func (t *tracer) mayAssume(h *held, alias string, thing messages.ThingName) iotpolicy.Result {
	return iotpolicy.Evaluate(h.policies, iotpolicy.Request{Action: assumeWithCertificate, Resource: t.arn("rolealias", alias), Context: t.context(h, thing, false)})
}

// undecided names what a decision depends on that a trace does not know: where the core comes
// from, and, but at the data plane, where no thing counts, what its thing is like.
func undecided(r iotpolicy.Result, data bool) string {
	var keys []string
	for _, key := range r.Missing {
		lower := strings.ToLower(key)
		if strings.HasPrefix(lower, "aws:") || !data && (strings.HasPrefix(lower, "iot:connection.thing.attributes") || lower == "iot:connection.thing.thingtypename") {
			keys = append(keys, key)
		}
	}
	if r.Decision == iotpolicy.Allowed {
		return ""
	}
	return strings.Join(keys, ", ")
}

// role traces from the policies to the role aliases that they allow.
func (t *tracer) role(h *held, thing messages.ThingName) (list []*Node) {
	aliases, err := t.aliases(h)
	if err != nil {
		list = append(list, (&Node{Kind: KindRoleAlias, Name: "of the account"}).unread(err))
	}
	allowed := 0
	for i, name := range aliases {
		if i == aliasesMax {
			list = append(list, &Node{Kind: KindRoleAlias, Name: fmt.Sprintf("%d more", len(aliases)-i), State: Note, Detail: "not looked at"})
			break
		}
		r := t.mayAssume(h, name, thing)
		open := undecided(r, false)
		switch {
		case r.Decision == iotpolicy.Allowed:
			allowed++
			list = append(list, t.alias(name))
		case open != "" && (t.Local.RoleAlias != "" || len(aliases) == 1):
			allowed++
			n := &Node{Kind: KindAction, Name: assumeWithCertificate, State: Unknown, Detail: "whether the policies allow it depends on " + open}
			t.undecided = append(t.undecided, n)
			list = append(list, n, t.alias(name))
		case r.Decision == iotpolicy.ExplicitDeny && (t.Local.RoleAlias != "" || len(aliases) == 1):
			allowed++ // it is said here what is wrong
			list = append(list, t.denied(name, r))
		}
	}
	if allowed == 0 {
		list = append(list, t.lacking(h, thing))
		if name := t.Local.RoleAlias; name != "" {
			list = append(list, t.alias(name)) // how it goes on is of use all the same
		}
	}
	return list
}

func (t *tracer) denied(name string, r iotpolicy.Result) *Node {
	by := iotpolicy.Names(r.Denying)
	n := &Node{Kind: KindRoleAlias, Name: name}
	return n.fail(Broken, PolicyDenies, []string{"take the Deny out of policy " + strings.Join(by, ", ") + ", or detach it"},
		"policy %s denies %s on it", strings.Join(by, ", "), assumeWithCertificate)
}

// aliases are those that the policies may be about: the configured one, or those that
// allowing statements name, found among the account's where the name is a pattern.
func (t *tracer) aliases(h *held) (names []string, err error) {
	if t.Local.RoleAlias != "" {
		return []string{t.Local.RoleAlias}, nil
	}
	pattern := false
	for _, p := range h.policies {
		for _, s := range p.Document.Mentioning(assumeWithCertificate) {
			if s.Effect != iotpolicy.Allow {
				continue
			}
			for _, r := range s.Resources {
				_, name, named := strings.Cut(r, ":rolealias/")
				if s.NotResource || !named || strings.ContainsAny(r, "*?$") {
					pattern = true
				} else if !slices.Contains(names, name) {
					names = append(names, name)
				}
			}
		}
	}
	if !pattern {
		return names, nil
	}
	all, err := t.Reader.RoleAliases(t.ctx)
	for _, name := range all {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, err
}

// lacking says that no policy leads to a role, and what would.
func (t *tracer) lacking(h *held, thing messages.ThingName) *Node {
	alias := orWord(t.Local.RoleAlias, "ROLE_ALIAS")
	n := &Node{Kind: KindAction, Name: assumeWithCertificate}
	if !h.whole {
		n.State, n.Detail = Unknown, "no policy that could be read allows it"
		return n
	}
	state := Broken
	if t.Local.Thing != "" && t.Local.Thing == thing && t.Local.RoleAlias == "" {
		state = Warning // this core is configured to do without a role
	}
	if found := t.elsewhere(h, thing); found != "" {
		return n.fail(state, PolicyDetached, []string{aws("iot attach-policy --policy-name %s --target %s", found, h.target)},
			"policy %s allows it, and is not attached to the certificate", found)
	}
	fix := []string{
		aws("iot create-policy --policy-name %s --policy-document %s", "AssumeRole-"+alias,
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"`+assumeWithCertificate+`","Resource":"`+t.arn("rolealias", alias)+`"}]}`),
		aws("iot attach-policy --policy-name %s --target %s", "AssumeRole-"+alias, h.target),
	}
	if len(h.policies) == 0 {
		return n.fail(Broken, PolicyDetached, fix, "no policy is attached to the certificate: it may do nothing at all")
	}
	return n.fail(state, PolicyLacksAssume, fix, "no attached policy allows it%s: there are no credentials for the role", onAlias(t.Local.RoleAlias))
}

func onAlias(alias string) string {
	if alias == "" {
		return ""
	}
	return " on role alias " + alias
}

// elsewhere finds a policy of the account that would lead to the role, and is not attached.
// It is help: what cannot be read is passed over.
func (t *tracer) elsewhere(h *held, thing messages.ThingName) string {
	names, _, err := t.Reader.Policies(t.ctx)
	if err != nil {
		return ""
	}
	for _, name := range names[:min(len(names), searchedMax)] {
		if slices.ContainsFunc(h.policies, func(p iotpolicy.Policy) bool { return p.Name == name }) {
			continue
		}
		document, err := t.document(&Node{}, name)
		if err != nil {
			continue
		}
		one := &held{der: h.der, policies: []iotpolicy.Policy{{Name: name, Document: document}}}
		aliases, _ := t.aliases(one)
		for _, alias := range aliases[:min(len(aliases), aliasesMax)] {
			if t.mayAssume(one, alias, thing).Decision == iotpolicy.Allowed {
				return name
			}
		}
	}
	return ""
}

// groups shows, and keeps, what the groups of a thing add: rights over MQTT, none at the
// Greengrass data plane (cloud spec 1.7).
func (t *tracer) groups(thing messages.ThingName) (list []*Node) {
	t.grouped.whole = true
	if thing == "" {
		return nil
	}
	arns, err := t.Reader.Groups(t.ctx, thing)
	if err != nil {
		t.grouped.whole = false
		return []*Node{(&Node{Kind: KindGroup, Name: "of " + string(thing)}).unread(err)}
	}
	for i, arn := range arns {
		if i == groupsMax {
			t.grouped.whole = false
			return append(list, &Node{Kind: KindGroup, Name: fmt.Sprintf("%d more", len(arns)-i), State: Note, Detail: "not looked at"})
		}
		n := &Node{Kind: KindGroup, Name: arn[strings.LastIndex(arn, "/")+1:], State: Note, Detail: "its policies do not count for the Greengrass data plane"}
		h := t.policies(arn)
		t.grouped.policies = append(t.grouped.policies, h.policies...)
		t.grouped.whole = t.grouped.whole && h.whole
		n.add(h.nodes...)
		list = append(list, n)
	}
	return list
}
