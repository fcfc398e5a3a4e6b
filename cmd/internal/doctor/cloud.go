package doctor

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
)

// groups are the links of a trace, as checks.
var groups = []struct {
	check string
	kinds []trace.Kind
}{
	{"cloud.thing", []trace.Kind{trace.KindThing, trace.KindGroup}},
	{"cloud.certificate", []trace.Kind{trace.KindCertificate, trace.KindAuthority}},
	{"cloud.policies", []trace.Kind{trace.KindPolicies, trace.KindPolicy, trace.KindAction}},
	{"cloud.role", []trace.Kind{trace.KindRoleAlias, trace.KindRole, trace.KindTrust, trace.KindDuration, trace.KindPermission}},
	{"cloud.credentials", []trace.Kind{trace.KindProbe}},
	{"cloud.endpoints", []trace.Kind{trace.KindEndpoint}},
	{"cloud.service-role", []trace.Kind{trace.KindServiceRole}},
	{"cloud.client-devices", []trace.Kind{trace.KindAssociations}},
	{"clock.skew", []trace.Kind{trace.KindClock}},
}

var states = map[trace.State]State{trace.OK: OK, trace.Note: OK, trace.Unknown: Unknown, trace.Warning: Warning, trace.Broken: Failed}

// cloud checks what AWS knows of the core, by a trace of it.
func (h *Host) cloud(ctx context.Context) []Result {
	if h.Trace == nil || h.Local.Thing == "" {
		return []Result{unknown("cloud", "this core has no thing's name (cloud.thingName), so AWS is not asked about it")}
	}
	r, err := h.Trace(ctx)
	if err != nil {
		return []Result{unknown("cloud", "AWS is not asked: %v", err)}
	}
	nodes := map[trace.Kind][]*trace.Node{}
	var collect func(*trace.Node)
	collect = func(n *trace.Node) {
		nodes[n.Kind] = append(nodes[n.Kind], n)
		for _, c := range n.Children {
			collect(c)
		}
	}
	collect(r.Root)
	var list []Result
	if r.AskedAs != "" {
		list = append(list, ok("cloud.asked-as", "AWS was asked as %s", r.AskedAs))
	}
	for _, g := range groups {
		var links []*trace.Node
		for _, k := range g.kinds {
			links = append(links, nodes[k]...)
		}
		list = append(list, fromTrace(g.check, links)...)
	}
	return list
}

// fromTrace makes results of links: one for each that is not as it should be, else one for
// all.
func fromTrace(check string, links []*trace.Node) (list []Result) {
	seen := map[string]bool{}
	good := []string{}
	for _, n := range links {
		if state := states[n.State]; state != OK {
			if key := string(n.Fault) + n.Detail; !seen[key] { // one cause, told once
				seen[key] = true
				list = append(list, Result{Check: check, State: state, Fault: string(n.Fault), Found: told(n), Do: n.Fix})
			}
			continue
		}
		if n.State == trace.OK {
			good = append(good, told(n))
		}
	}
	switch {
	case len(list) > 0:
		slices.SortStableFunc(list, func(a, b Result) int { return severity[b.State] - severity[a.State] })
		return list
	case len(links) == 0:
		return nil
	case len(good) == 0:
		return []Result{unknown(check, "%s", told(links[0]))}
	}
	return []Result{ok(check, "%s", strings.Join(good, "; "))}
}

// told is a link with what is known of it.
func told(n *trace.Node) string {
	if n.Detail == "" {
		return n.Title()
	}
	return n.Title() + ": " + n.Detail
}

// clock checks whether the machine's clock is kept right; how far off it is, the cloud says.
func (h *Host) clock(context.Context) []Result {
	if h.Synced == nil {
		return nil
	}
	if !h.Synced() {
		return []Result{bad(Warning, "clock.synchronised", "a clock that NTP keeps right", []string{"timedatectl set-ntp true", "timedatectl timesync-status tells which server it has"},
			"the kernel says that the clock is not synchronised: after a restart stored trust may not count until the cloud is reached")}
	}
	return []Result{ok("clock.synchronised", "the kernel says that the clock is synchronised")}
}

// credentials checks that there are some for the control planes. Nothing of them is shown.
func (h *Host) credentials(ctx context.Context) []Result {
	const name = "credentials"
	if h.Credentials == nil {
		return []Result{unknown(name, "%s", h.NoCredentials)}
	}
	until, err := h.Credentials(ctx)
	switch {
	case err != nil:
		return []Result{bad(Failed, name, "credentials of the core's role", []string{"check the token exchange (gatehouse credentials), or where cloud.control says that they come from"}, "%v", err)}
	case until.IsZero():
		return []Result{ok(name, "there are some, that do not expire")}
	case until.Before(h.Now()):
		return []Result{bad(Failed, name, "credentials that are valid now", []string{"check the token exchange, and this machine's clock"}, "they ended at %s", until.UTC().Format(time.RFC3339))}
	}
	return []Result{ok(name, "there are some, until %s", until.UTC().Format("15:04:05Z"))}
}

// live asks the data plane as the core.
func (h *Host) live(ctx context.Context) []Result {
	if h.Live == nil {
		return []Result{unknown("live", "no data plane is configured (cloud.endpoint)")}
	}
	return h.Live(ctx)
}
