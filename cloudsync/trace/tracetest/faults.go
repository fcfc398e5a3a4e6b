// Package tracetest plants faults between a core and its role, and has them found: in memory,
// and in the emulated cloud, by the same table.
package tracetest

import (
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
)

// World is an account with a core that works until something is planted.
type World interface {
	Deactivate(t testing.TB)   // the core's certificate is INACTIVE
	DetachPolicy(t testing.TB) // the policy that leads to the role is taken from the certificate
	StripPolicy(t testing.TB)  // it does not allow iot:AssumeRoleWithCertificate any more
	DeleteAlias(t testing.TB)  // the role alias is gone
	BreakTrust(t testing.TB)   // the role trusts another service
	Lengthen(t testing.TB)     // the alias asks for longer than the role allows
	MoveEndpoint(t testing.TB) // the configured endpoint is of another region
	RegisterCA(t testing.TB)   // the certificate is of a private CA, the endpoint is the region's
	DetachThing(t testing.TB)  // the certificate is taken from the thing
	DropService(t testing.TB)  // the account has no service role
	SkewClock(t testing.TB)    // this machine's clock is ten minutes behind
	Disassociate(t testing.TB) // the core has no client devices
	Trace(t testing.TB) *trace.Report
}

// Fault is one that is planted, and by which name it is to be found.
type Fault struct {
	Name  string
	Plant func(World, testing.TB)
	Found trace.Fault
	// Also are those that may be found beside it, since they follow from it.
	Also []trace.Fault
}

// Faults are the twelve (issue 5, must-see 4).
var Faults = []Fault{
	{"inactive certificate", World.Deactivate, trace.CertificateInactive, nil},
	{"detached policy", World.DetachPolicy, trace.PolicyDetached, []trace.Fault{trace.PolicyLacksAssume}},
	{"policy without AssumeRoleWithCertificate", World.StripPolicy, trace.PolicyLacksAssume, nil},
	{"alias missing", World.DeleteAlias, trace.RoleAliasMissing, nil},
	{"trust policy wrong", World.BreakTrust, trace.TrustPolicyWrong, nil},
	{"duration too long", World.Lengthen, trace.DurationTooLong, nil},
	{"wrong region endpoint", World.MoveEndpoint, trace.EndpointWrongRegion, nil},
	{"private CA on the regional endpoint", World.RegisterCA, trace.PrivateCARegional, nil},
	{"thing not attached", World.DetachThing, trace.ThingNotAttached, nil},
	{"no service role", World.DropService, trace.ServiceRoleMissing, nil},
	{"clock skew", World.SkewClock, trace.ClockSkew, nil},
	{"no association", World.Disassociate, trace.NoAssociations, nil},
}

// Run plants each in a world of its own. Each is named first, with where and what to do, and
// nothing else is called broken; without one all is well.
func Run(t *testing.T, build func(t *testing.T) World) {
	t.Run("none", func(t *testing.T) {
		r := build(t).Trace(t)
		if r.State != trace.OK || len(r.Findings) > 0 {
			t.Errorf("a false alarm: %s\n%s", r.Summary(), text(t, r))
		}
	})
	for _, f := range Faults {
		t.Run(f.Name, func(t *testing.T) {
			w := build(t)
			f.Plant(w, t)
			r := w.Trace(t)
			if len(r.Findings) == 0 || r.Findings[0].Fault != f.Found || r.State != trace.Broken {
				t.Fatalf("want %s named first:\n%s", f.Found, text(t, r))
			}
			if first := r.Findings[0]; first.Detail == "" || len(first.Fix) == 0 || len(first.Path) == 0 {
				t.Errorf("what, where or what to do is missing: %+v", first)
			}
			for _, other := range r.Findings {
				if all := other.Detail + strings.Join(other.Fix, " "); strings.Contains(all, "%!") {
					t.Errorf("badly written: %s", all)
				}
				if other.Fault != f.Found && !slices.Contains(f.Also, other.Fault) {
					t.Errorf("also found, though not planted: %+v\n%s", other, text(t, r))
				}
			}
		})
	}
}
