package trace

import (
	"fmt"
	"strings"
)

// Format names the form of a Report in JSON. Members are only added.
const Format = "gatehouse/trace-1"

// State says how one link is.
type State string

// The states, the worse the later. A note is neither good nor bad.
const (
	OK      State = "ok"
	Note    State = "note"
	Unknown State = "unknown" // it could not be read
	Warning State = "warning" // it works, and will not, or not for all
	Broken  State = "broken"
)

var severity = map[State]int{OK: 0, Note: 0, Unknown: 1, Warning: 2, Broken: 3}

// Worse says whether s is worse than t.
func (s State) Worse(t State) bool { return severity[s] > severity[t] }

// Fault names what is wrong, for programs. Names stay.
type Fault string

// The faults.
const (
	CertificateInactive Fault = "certificate-inactive"
	CertificateUnknown  Fault = "certificate-unknown" // this account and region do not know it
	CertificateExpired  Fault = "certificate-expired" // or not yet valid
	AuthorityInactive   Fault = "authority-inactive"
	AuthorityUnknown    Fault = "authority-unknown"
	ThingUnknown        Fault = "thing-unknown"
	ThingWithout        Fault = "thing-without-certificate"
	ThingNotAttached    Fault = "thing-not-attached"
	PolicyDetached      Fault = "policy-detached"     // none is attached, or the one that would do is not
	PolicyLacksAssume   Fault = "policy-lacks-assume" // none allows iot:AssumeRoleWithCertificate on the alias
	PolicyDenies        Fault = "policy-denies"
	PolicyUnreadable    Fault = "policy-unreadable"
	PolicyLacksAction   Fault = "policy-lacks-action" // of what a core needs besides
	RoleAliasMissing    Fault = "role-alias-missing"
	RoleMissing         Fault = "role-missing"
	TrustPolicyWrong    Fault = "trust-policy-wrong"
	DurationTooLong     Fault = "duration-too-long"
	RoleLacksAction     Fault = "role-lacks-action"
	EndpointWrongRegion Fault = "endpoint-wrong-region"
	EndpointWrong       Fault = "endpoint-wrong" // not the account's, or of another service
	EndpointUnreachable Fault = "endpoint-unreachable"
	PrivateCARegional   Fault = "private-ca-on-regional-endpoint"
	ServiceRoleMissing  Fault = "service-role-missing"
	ClockSkew           Fault = "clock-skew"
	NoAssociations      Fault = "no-associations"
	NotAssociated       Fault = "not-associated" // this device with this core
	CredentialsRefused  Fault = "credentials-refused"
)

// Kind says what a Node stands for.
type Kind string

// The kinds.
const (
	KindThing        Kind = "thing"
	KindGroup        Kind = "thingGroup"
	KindCertificate  Kind = "certificate"
	KindAuthority    Kind = "authority"
	KindPolicies     Kind = "policies"
	KindPolicy       Kind = "policy"
	KindAction       Kind = "action"
	KindRoleAlias    Kind = "roleAlias"
	KindRole         Kind = "role"
	KindTrust        Kind = "trustPolicy"
	KindDuration     Kind = "duration"
	KindPermission   Kind = "permission"
	KindProbe        Kind = "credentialsEndpoint"
	KindEndpoint     Kind = "endpoint"
	KindServiceRole  Kind = "serviceRole"
	KindAssociations Kind = "clientDevices"
	KindClock        Kind = "clock"
)

// Node is one link, with those that hang on it.
type Node struct {
	Kind     Kind     `json:"kind"`
	Name     string   `json:"name"`
	State    State    `json:"state"`
	Fault    Fault    `json:"fault,omitempty"`
	Detail   string   `json:"detail,omitempty"`
	Fix      []string `json:"fix,omitempty"`   // what to do: commands for a shell, or a sentence
	Needs    string   `json:"needs,omitempty"` // the permission of the caller that is missing
	Children []*Node  `json:"children,omitempty"`
}

// Finding is a node that is not as it should be, with the way to it.
type Finding struct {
	State  State    `json:"state"`
	Fault  Fault    `json:"fault,omitempty"`
	Path   []string `json:"path"` // from the root, each as "kind name"
	Detail string   `json:"detail"`
	Fix    []string `json:"fix,omitempty"`
	Needs  string   `json:"needs,omitempty"`
}

// Report is what a trace found.
type Report struct {
	Format  string `json:"format"`
	Subject string `json:"subject"`
	Region  string `json:"region,omitempty"`
	Account string `json:"account,omitempty"`
	State   State  `json:"state"` // the worst of all links
	// AskedAs says for people with whose credentials AWS was asked. Who calls Run fills it in.
	AskedAs string `json:"askedAs,omitempty"`
	// Findings are what is not as it should be: the broken first, in the order of the way.
	Findings []Finding `json:"findings"`
	Root     *Node     `json:"trace"`
}

// Has says whether the fault was found, broken or as a warning.
func (r *Report) Has(f Fault) bool {
	for _, finding := range r.Findings {
		if finding.Fault == f {
			return true
		}
	}
	return false
}

func (n *Node) add(children ...*Node) {
	for _, c := range children {
		if c != nil {
			n.Children = append(n.Children, c)
		}
	}
}

func (n *Node) label() string { return string(n.Kind) + " " + n.Name }

// fail makes n what f says, with what to do.
func (n *Node) fail(state State, f Fault, fix []string, detail string, args ...any) *Node {
	n.State, n.Fault, n.Fix, n.Detail = state, f, fix, fmt.Sprintf(detail, args...)
	return n
}

// unread makes n unknown for err, which is why it could not be read.
func (n *Node) unread(err error) *Node {
	failure := asReadError(err)
	n.State, n.Detail = Unknown, failure.Detail
	if failure.Kind == Denied {
		n.Needs = failure.Action
		n.Detail = "could not be read: you lack the permission " + failure.Action
		n.Fix = []string{"allow " + failure.Action + " to whoever runs this command, and run it again"}
	}
	return n
}

// walk calls f with each node and the way to it, n included.
func (n *Node) walk(path []string, f func(*Node, []string)) {
	path = append(path[:len(path):len(path)], n.label())
	f(n, path)
	for _, c := range n.Children {
		c.walk(path, f)
	}
}

// soften turns what is broken at n and below into a warning: it is not on the only way.
func (n *Node) soften() {
	n.walk(nil, func(c *Node, _ []string) {
		if c.State == Broken {
			c.State = Warning
		}
	})
}

// worst is the worst state at n and below.
func (n *Node) worst() State {
	state := OK
	n.walk(nil, func(c *Node, _ []string) {
		if c.State.Worse(state) {
			state = c.State
		}
	})
	return state
}

// conclude fills in what follows from the tree.
func (r *Report) conclude() {
	r.Format, r.Findings, r.State = Format, []Finding{}, r.Root.worst()
	for _, state := range []State{Broken, Warning, Unknown} {
		r.Root.walk(nil, func(n *Node, path []string) {
			if n.State == state {
				r.Findings = append(r.Findings, Finding{State: n.State, Fault: n.Fault, Path: path, Detail: n.Detail, Fix: n.Fix, Needs: n.Needs})
			}
		})
	}
}

// Summary is one line about the whole.
func (r *Report) Summary() string {
	count := map[State]int{}
	r.Root.walk(nil, func(n *Node, _ []string) { count[n.State]++ })
	switch {
	case count[Broken] > 0:
		return fmt.Sprintf("broken: %s (%d broken, %d warnings, %d unknown)", r.Findings[0].Fault, count[Broken], count[Warning], count[Unknown])
	case count[OK] == 0:
		return "unknown: nothing could be looked at"
	case count[Warning]+count[Unknown] > 0:
		var parts []string
		for _, s := range []State{Warning, Unknown} {
			if count[s] > 0 {
				parts = append(parts, fmt.Sprintf("%d %s", count[s], map[State]string{Warning: "warnings", Unknown: "unknown"}[s]))
			}
		}
		return "nothing is broken as far as can be seen: " + strings.Join(parts, ", ")
	}
	return "ok: every link holds"
}
