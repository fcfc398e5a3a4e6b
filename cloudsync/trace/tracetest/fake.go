package tracetest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Names of the fake account's things.
const (
	Region                    = "eu-central-1"
	account                   = "123456789012"
	Core                      = messages.ThingName("core-1")
	Alias                     = "TokenExchangeAlias"
	role                      = "TokenExchangeRole"
	thingPolicy, assumePolicy = "ThingPolicy", "AssumePolicy"
)

// ID is the core's certificate's.
var ID = messages.CertificateIDOf([]byte("core-1"))

// Fake is an account in memory: a Reader and a Prober. Change it before it is read.
type Fake struct {
	Now           time.Time
	Ahead         time.Duration
	Certificates  map[messages.CertificateID]trace.Certificate
	Authorities   map[string]trace.Authority
	PolicyTargets map[string][]string // policies, by target
	Documents     map[string]string
	Attachments   map[messages.ThingName][]messages.CertificateID
	Aliases       map[string]trace.RoleAlias
	Roles         map[string]trace.Role
	Inline        []trace.RolePolicy
	Service       string
	Devices       []messages.ThingName
	Local         trace.Local
	// Deny has the caller lack these permissions.
	Deny map[string]bool
}

func arn(service, resource string) string {
	return "arn:aws:" + service + ":" + Region + ":" + account + ":" + resource
}

// CertificateARN is the core's certificate's.
func CertificateARN() string { return arn("iot", "cert/"+string(ID)) }

const trustDocument = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"%s"},"Action":"sts:AssumeRole"}]}`

// NewFake is an account in which everything works.
func NewFake() *Fake {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	roleARN := "arn:aws:iam::" + account + ":role/" + role
	return &Fake{
		Now: now,
		Certificates: map[messages.CertificateID]trace.Certificate{ID: {
			ID: ID, ARN: CertificateARN(), Status: "ACTIVE", Mode: "DEFAULT", NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		}},
		Authorities:   map[string]trace.Authority{},
		PolicyTargets: map[string][]string{CertificateARN(): {thingPolicy, assumePolicy}},
		Documents: map[string]string{
			thingPolicy:  `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:Connect","iot:Publish","iot:Subscribe","iot:Receive","greengrass:*"],"Resource":"*"}]}`,
			assumePolicy: `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":"` + arn("iot", "rolealias/"+Alias) + `"}}`,
		},
		Attachments: map[messages.ThingName][]messages.CertificateID{Core: {ID}},
		Aliases:     map[string]trace.RoleAlias{Alias: {Name: Alias, ARN: arn("iot", "rolealias/"+Alias), Role: roleARN, Duration: time.Hour}},
		Roles:       map[string]trace.Role{role: {Name: role, ARN: roleARN, MaxSession: time.Hour, Trust: fmt.Sprintf(trustDocument, "credentials.iot.amazonaws.com")}},
		Inline:      []trace.RolePolicy{{Name: "Core", Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["greengrass:ListClientDevicesAssociatedWithCoreDevice","logs:*"],"Resource":"*"}]}`}},
		Service:     "arn:aws:iam::" + account + ":role/service-role/Greengrass_ServiceRole",
		Devices:     []messages.ThingName{"sensor-1", "sensor-2"},
		Local: trace.Local{
			Thing: Core, Certificate: ID, Region: Region, RoleAlias: Alias,
			Greengrass: "greengrass-ats.iot." + Region + ".amazonaws.com", Data: "abc123-ats.iot." + Region + ".amazonaws.com:443", Credentials: "abc123.credentials.iot." + Region + ".amazonaws.com",
		},
		Deny: map[string]bool{},
	}
}

// Deactivate implements World.
func (f *Fake) Deactivate(testing.TB) {
	c := f.Certificates[ID]
	c.Status = "INACTIVE"
	f.Certificates[ID] = c
}

// DetachPolicy implements World.
func (f *Fake) DetachPolicy(testing.TB) { f.PolicyTargets[CertificateARN()] = []string{thingPolicy} }

// StripPolicy implements World.
func (f *Fake) StripPolicy(testing.TB) { f.Documents[assumePolicy] = f.Documents[thingPolicy] }

// DeleteAlias implements World.
func (f *Fake) DeleteAlias(testing.TB) { delete(f.Aliases, Alias) }

// BreakTrust implements World.
func (f *Fake) BreakTrust(testing.TB) {
	r := f.Roles[role]
	r.Trust = fmt.Sprintf(trustDocument, "ec2.amazonaws.com")
	f.Roles[role] = r
}

// Lengthen implements World.
func (f *Fake) Lengthen(testing.TB) {
	a := f.Aliases[Alias]
	a.Duration = 12 * time.Hour
	f.Aliases[Alias] = a
}

// MoveEndpoint implements World.
func (f *Fake) MoveEndpoint(testing.TB) {
	f.Local.Greengrass = "greengrass-ats.iot.us-east-1.amazonaws.com"
}

// RegisterCA implements World.
func (f *Fake) RegisterCA(testing.TB) {
	id := strings.Repeat("ab", 32)
	f.Authorities[id] = trace.Authority{ID: id, Status: "ACTIVE", AutoRegistration: "ENABLE", Mode: "DEFAULT", NotAfter: f.Now.AddDate(5, 0, 0)}
	c := f.Certificates[ID]
	c.Authority = id
	f.Certificates[ID] = c
}

// DetachThing implements World.
func (f *Fake) DetachThing(testing.TB) { f.Attachments[Core] = nil }

// DropService implements World.
func (f *Fake) DropService(testing.TB) { f.Service = "" }

// SkewClock implements World.
func (f *Fake) SkewClock(testing.TB) { f.Ahead = 10 * time.Minute }

// Disassociate implements World.
func (f *Fake) Disassociate(testing.TB) { f.Devices = nil }

// Config is what a trace of the core is made with.
func (f *Fake) Config() trace.Config {
	return trace.Config{Reader: f, Prober: f, Now: func() time.Time { return f.Now.Add(-f.Ahead) }, Local: f.Local}
}

// Trace implements World.
func (f *Fake) Trace(t testing.TB) *trace.Report {
	t.Helper()
	return traceBy(t, f.Config())
}

func traceBy(t testing.TB, cfg trace.Config) *trace.Report {
	t.Helper()
	r, err := trace.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func text(t testing.TB, r *trace.Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// read is the answer for one operation, or why there is none.
func read[T any](f *Fake, action string, found T, there bool) (T, error) {
	var none T
	switch {
	case f.Deny[action]:
		return none, &trace.ReadError{Action: action, Kind: trace.Denied, Detail: "HTTP 403 AccessDeniedException"}
	case !there:
		return none, &trace.ReadError{Action: action, Kind: trace.NotFound, Detail: "HTTP 404 ResourceNotFoundException"}
	}
	return found, nil
}

// Thing implements trace.Reader.
func (f *Fake) Thing(_ context.Context, name messages.ThingName) (string, error) {
	_, there := f.Attachments[name]
	return read(f, "iot:DescribeThing", arn("iot", "thing/"+string(name)), there)
}

// Principals implements trace.Reader.
func (f *Fake) Principals(_ context.Context, name messages.ThingName) ([]string, error) {
	ids, there := f.Attachments[name]
	arns := []string{"eu-central-1:not-a-certificate"}
	for _, id := range ids {
		arns = append(arns, arn("iot", "cert/"+string(id)))
	}
	return read(f, "iot:ListThingPrincipals", arns, there)
}

// Things implements trace.Reader.
func (f *Fake) Things(_ context.Context, principal string) ([]messages.ThingName, error) {
	var things []messages.ThingName
	for _, name := range slices.Sorted(maps.Keys(f.Attachments)) {
		if slices.ContainsFunc(f.Attachments[name], func(id messages.CertificateID) bool { return strings.HasSuffix(principal, string(id)) }) {
			things = append(things, name)
		}
	}
	return read(f, "iot:ListPrincipalThings", things, true)
}

// Groups implements trace.Reader.
func (f *Fake) Groups(context.Context, messages.ThingName) ([]string, error) {
	return read(f, "iot:ListThingGroupsForThing", []string{arn("iot", "thinggroup/cores")}, true)
}

// Certificate implements trace.Reader.
func (f *Fake) Certificate(_ context.Context, id messages.CertificateID) (trace.Certificate, error) {
	c, there := f.Certificates[id]
	return read(f, "iot:DescribeCertificate", c, there)
}

// Authority implements trace.Reader.
func (f *Fake) Authority(_ context.Context, id string) (trace.Authority, error) {
	a, there := f.Authorities[id]
	return read(f, "iot:DescribeCACertificate", a, there)
}

// Attached implements trace.Reader.
func (f *Fake) Attached(_ context.Context, target string) ([]string, error) {
	return read(f, "iot:ListAttachedPolicies", slices.Clone(f.PolicyTargets[target]), true)
}

// Policies implements trace.Reader.
func (f *Fake) Policies(context.Context) ([]string, bool, error) {
	names, err := read(f, "iot:ListPolicies", slices.Sorted(maps.Keys(f.Documents)), true)
	return names, false, err
}

// Policy implements trace.Reader.
func (f *Fake) Policy(_ context.Context, name string) (trace.Policy, error) {
	d, there := f.Documents[name]
	return read(f, "iot:GetPolicy", trace.Policy{Name: name, Version: "1", Document: d}, there)
}

// RoleAliases implements trace.Reader.
func (f *Fake) RoleAliases(context.Context) ([]string, error) {
	return read(f, "iot:ListRoleAliases", slices.Sorted(maps.Keys(f.Aliases)), true)
}

// RoleAlias implements trace.Reader.
func (f *Fake) RoleAlias(_ context.Context, name string) (trace.RoleAlias, error) {
	a, there := f.Aliases[name]
	return read(f, "iot:DescribeRoleAlias", a, there)
}

// Role implements trace.Reader.
func (f *Fake) Role(_ context.Context, name string) (trace.Role, error) {
	r, there := f.Roles[name]
	return read(f, "iam:GetRole", r, there)
}

// RolePolicies implements trace.Reader.
func (f *Fake) RolePolicies(context.Context, string) ([]trace.RolePolicy, error) {
	return read(f, "iam:ListRolePolicies", f.Inline, true)
}

// ServiceRole implements trace.Reader.
func (f *Fake) ServiceRole(context.Context) (string, error) {
	return read(f, "greengrass:GetServiceRoleForAccount", f.Service, f.Service != "")
}

// Endpoint implements trace.Reader.
func (f *Fake) Endpoint(_ context.Context, kind string) (string, error) {
	host := "abc123-ats.iot." + Region + ".amazonaws.com"
	if kind == "iot:CredentialProvider" {
		host = "abc123.credentials.iot." + Region + ".amazonaws.com"
	}
	return read(f, "iot:DescribeEndpoint", host, true)
}

// Associated implements trace.Reader.
func (f *Fake) Associated(context.Context, messages.ThingName) ([]messages.ThingName, bool, error) {
	devices, err := read(f, "greengrass:ListClientDevicesAssociatedWithCoreDevice", f.Devices, true)
	return devices, false, err
}

// Skew implements trace.Reader.
func (f *Fake) Skew() (time.Duration, bool) { return f.Ahead, true }

// Probe implements trace.Prober in the order in which the service checks (cloud spec 2).
func (f *Fake) Probe(_ context.Context, alias string, thing messages.ThingName) trace.ProbeAnswer {
	refuse := func(status int, message string) trace.ProbeAnswer {
		return trace.ProbeAnswer{Status: status, Message: message, Date: f.Now, Asked: f.Now.Add(-f.Ahead), Answered: f.Now.Add(-f.Ahead)}
	}
	var policies []iotpolicy.Policy
	for _, name := range f.PolicyTargets[CertificateARN()] {
		if d, err := iotpolicy.Parse(f.Documents[name]); err == nil {
			policies = append(policies, iotpolicy.Policy{Name: name, Document: d})
		}
	}
	allowed := iotpolicy.Evaluate(policies, iotpolicy.Request{Action: "iot:AssumeRoleWithCertificate", Resource: arn("iot", "rolealias/"+alias)})
	a, there := f.Aliases[alias]
	r := f.Roles[role]
	switch {
	case f.Certificates[ID].Status != "ACTIVE":
		return refuse(http.StatusForbidden, "Certificate is invalid on this endpoint")
	case !slices.Contains(f.Attachments[thing], ID):
		return refuse(http.StatusForbidden, "Invalid thing name passed")
	case allowed.Decision != iotpolicy.Allowed:
		return refuse(http.StatusForbidden, "Access Denied")
	case !there:
		return refuse(http.StatusNotFound, "Role alias does not exist")
	case !strings.Contains(r.Trust, "credentials.iot"):
		return refuse(http.StatusBadRequest, "Unable to assume the role, or the role to assume does not exist")
	case a.Duration > r.MaxSession:
		return refuse(http.StatusBadRequest, "The requested CredentialDurationSeconds exceeds the MaxSessionDuration set for the role")
	}
	answer := refuse(http.StatusOK, "")
	answer.Expires = f.Now.Add(a.Duration)
	return answer
}
