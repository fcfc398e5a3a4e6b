package trace_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace/tracetest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

func TestEachPlantedFaultIsFoundAndNamed(t *testing.T) {
	tracetest.Run(t, func(*testing.T) tracetest.World { return tracetest.NewFake() })
}

func run(t testing.TB, cfg trace.Config) *trace.Report {
	t.Helper()
	r, err := trace.Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// actions are all permissions that a trace of the core asks for.
var actions = []string{
	"iot:DescribeThing", "iot:ListThingPrincipals", "iot:ListThingGroupsForThing", "iot:DescribeCertificate", "iot:ListAttachedPolicies",
	"iot:GetPolicy", "iot:DescribeRoleAlias", "iam:GetRole", "iam:ListRolePolicies", "greengrass:GetServiceRoleForAccount",
	"iot:DescribeEndpoint", "greengrass:ListClientDevicesAssociatedWithCoreDevice",
}

// What one may not read is unknown, and the permission is named; it is never called broken.
func TestWhatIsNotReadIsUnknown(t *testing.T) {
	all := append([]string{"everything"}, actions...)
	for _, action := range all {
		f := tracetest.NewFake()
		denied := []string{action}
		if action == "everything" {
			denied = actions
		}
		for _, a := range denied {
			f.Deny[a] = true
		}
		r := f.Trace(t)
		if r.State != trace.Unknown {
			t.Errorf("without %s: %s", action, r.Summary())
		}
		if !slices.ContainsFunc(r.Findings, func(f trace.Finding) bool { return slices.Contains(denied, f.Needs) }) {
			t.Errorf("without %s: no finding names the permission: %+v", action, r.Findings)
		}
	}
}

// A caller who may read nothing learns the broken link from the credentials endpoint.
func TestTheProbeNamesWhatCouldNotBeRead(t *testing.T) {
	for _, planted := range tracetest.Faults[:6] {
		f := tracetest.NewFake()
		planted.Plant(f, t)
		for _, a := range actions {
			f.Deny[a] = true
		}
		r := f.Trace(t)
		want := planted.Found
		if want == trace.PolicyDetached { // from outside it looks the same
			want = trace.PolicyLacksAssume
		}
		if r.State != trace.Broken || r.Findings[0].Fault != want || len(r.Findings[0].Fix) == 0 {
			t.Errorf("%s: want %s by the endpoint's word, got %+v", planted.Name, want, r.Findings)
		}
	}
}

// silent never gets an answer.
type silent struct{}

func (silent) Probe(context.Context, string, messages.ThingName) trace.ProbeAnswer {
	return trace.ProbeAnswer{Failed: "the name is not found: check the endpoint and DNS"}
}

func TestAnEndpointThatDoesNotAnswerIsTheFault(t *testing.T) {
	f := tracetest.NewFake()
	cfg := f.Config()
	cfg.Prober = silent{}
	if r := run(t, cfg); len(r.Findings) != 1 || r.Findings[0].Fault != trace.EndpointUnreachable {
		t.Errorf("%+v", r.Findings)
	}
	cfg.Prober, cfg.NoProbe = nil, "the key is elsewhere"
	if r := run(t, cfg); r.State != trace.OK {
		t.Errorf("not asked: %+v", r.Findings)
	}
}

// The way is found without knowing anything of this machine, and from a certificate.
func TestATraceStartsAnywhere(t *testing.T) {
	f := tracetest.NewFake()
	for name, cfg := range map[string]trace.Config{
		"a thing":                     {Thing: tracetest.Core},
		"a certificate":               {Certificate: tracetest.ID},
		"this machine's certificate":  {Certificate: tracetest.ID, Local: f.Local},
		"this machine":                {Local: f.Local},
		"a file, and no thing's name": {Local: trace.Local{Certificate: tracetest.ID}},
	} {
		base := f.Config()
		cfg.Reader, cfg.Now = base.Reader, base.Now
		r := run(t, cfg)
		text := written(t, r)
		if r.State != trace.OK || !strings.Contains(text, "role alias "+tracetest.Alias) || !strings.Contains(text, "trusts credentials.iot.amazonaws.com") || r.Region != tracetest.Region || r.Account == "" {
			t.Errorf("%s:\n%s", name, text)
		}
	}
	if _, err := trace.Run(t.Context(), trace.Config{Reader: f, Now: f.Config().Now}); err == nil {
		t.Error("nothing to start from, and no error")
	}
}

// An inactive certificate beside the core's own breaks nothing.
func TestAnotherCertificateOfTheThingIsAWarning(t *testing.T) {
	f := tracetest.NewFake()
	old := messages.CertificateIDOf([]byte("old"))
	c := f.Certificates[tracetest.ID]
	c.ID, c.Status, c.ARN = old, "INACTIVE", strings.ReplaceAll(c.ARN, string(tracetest.ID), string(old))
	f.Certificates[old] = c
	f.Attachments[tracetest.Core] = append(f.Attachments[tracetest.Core], old)
	for name, local := range map[string]trace.Local{"own known": f.Local, "own unknown": {}} {
		cfg := f.Config()
		cfg.Thing, cfg.Local = tracetest.Core, local
		if r := run(t, cfg); r.State != trace.Warning || !r.Has(trace.CertificateInactive) {
			t.Errorf("%s: %s\n%s", name, r.Summary(), written(t, r))
		}
	}
}

func TestAClientDeviceNeedsNoRole(t *testing.T) {
	f := tracetest.NewFake()
	device := messages.CertificateIDOf([]byte("sensor-1"))
	c := f.Certificates[tracetest.ID]
	c.ID, c.ARN = device, strings.ReplaceAll(c.ARN, string(tracetest.ID), string(device))
	f.Certificates[device] = c
	f.Attachments["sensor-1"] = []messages.CertificateID{device}
	f.Attachments["sensor-9"] = []messages.CertificateID{device}
	cfg := f.Config()
	cfg.Thing = "sensor-1"
	if r := run(t, cfg); r.State != trace.OK || strings.Contains(written(t, r), "role alias") {
		t.Errorf("%s\n%s", r.Summary(), written(t, r))
	}
	cfg.Thing, cfg.Device = "sensor-9", true
	if r := run(t, cfg); r.State != trace.Broken || r.Findings[0].Fault != trace.NotAssociated {
		t.Errorf("%s\n%s", r.Summary(), written(t, r))
	}
}

func TestOtherFaultsOfTheWay(t *testing.T) {
	set := func(change func(*trace.Certificate)) func(*tracetest.Fake) {
		return func(f *tracetest.Fake) {
			c := f.Certificates[tracetest.ID]
			change(&c)
			f.Certificates[tracetest.ID] = c
		}
	}
	for name, test := range map[string]struct {
		plant func(*tracetest.Fake)
		want  trace.Fault
		state trace.State
	}{
		"not registered":  {func(f *tracetest.Fake) { delete(f.Certificates, tracetest.ID) }, trace.CertificateUnknown, trace.Broken},
		"expired":         {set(func(c *trace.Certificate) { c.NotAfter = c.NotBefore }), trace.CertificateExpired, trace.Broken},
		"not yet valid":   {set(func(c *trace.Certificate) { c.NotBefore = c.NotAfter }), trace.CertificateExpired, trace.Broken},
		"pending":         {set(func(c *trace.Certificate) { c.Status = "PENDING_ACTIVATION" }), trace.CertificateInactive, trace.Broken},
		"SNI_ONLY":        {set(func(c *trace.Certificate) { c.Mode = "SNI_ONLY" }), trace.PrivateCARegional, trace.Broken},
		"no thing":        {func(f *tracetest.Fake) { delete(f.Attachments, tracetest.Core) }, trace.ThingUnknown, trace.Broken},
		"role gone":       {func(f *tracetest.Fake) { clear(f.Roles) }, trace.RoleMissing, trace.Broken},
		"role of no use":  {func(f *tracetest.Fake) { f.Inline = nil }, trace.RoleLacksAction, trace.Warning},
		"another account": {func(f *tracetest.Fake) { f.Local.Data = "zzz-ats.iot." + tracetest.Region + ".amazonaws.com" }, trace.EndpointWrong, trace.Broken},
		"another service": {func(f *tracetest.Fake) { f.Local.Credentials = f.Local.Data }, trace.EndpointWrong, trace.Broken},
		"confused deputy": {func(f *tracetest.Fake) {
			for name, r := range f.Roles {
				r.Trust = strings.Replace(r.Trust, `"Action"`, `"Condition":{"StringEquals":{"aws:SourceAccount":"999999999999"}},"Action"`, 1)
				f.Roles[name] = r
			}
		}, trace.TrustPolicyWrong, trace.Broken},
		"denied": {func(f *tracetest.Fake) {
			f.Documents["ThingPolicy"] = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iot:*","greengrass:*"],"Resource":"*"},{"Effect":"Deny","Action":"iot:AssumeRoleWithCertificate","Resource":"*"}]}`
		}, trace.PolicyDenies, trace.Broken},
		"devices cannot be verified": {func(f *tracetest.Fake) {
			f.Documents["ThingPolicy"] = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`
		}, trace.PolicyLacksAction, trace.Broken},
		"one device cannot be verified": {func(f *tracetest.Fake) {
			f.Documents["ThingPolicy"] = strings.Replace(f.Documents["ThingPolicy"], `{"Effect"`, `{"Effect":"Deny","Action":"greengrass:VerifyClientDeviceIoT*","Resource":"arn:aws:iot:*:*:thing/sensor-2"},{"Effect"`, 1)
		}, trace.PolicyLacksAction, trace.Broken},
		"a thing's variable at the data plane": {func(f *tracetest.Fake) {
			f.Documents["ThingPolicy"] = strings.Replace(f.Documents["ThingPolicy"], `"Resource":"*"`, `"Resource":["arn:aws:iot:*:*:thing/${iot:Connection.Thing.ThingName}","arn:aws:iot:*:*:t*ic*/*","arn:aws:iot:*:*:client/*"]`, 1)
		}, trace.PolicyLacksAction, trace.Broken},
	} {
		f := tracetest.NewFake()
		test.plant(f)
		r := f.Trace(t)
		if r.State != test.state || r.Findings[0].Fault != test.want {
			t.Errorf("%s: want %s, got\n%s", name, test.want, written(t, r))
		}
	}
}

// A core needs to verify its own devices alone.
func TestAPolicyForTheCoresDevicesWillDo(t *testing.T) {
	f := tracetest.NewFake()
	f.Documents["ThingPolicy"] = `{"Version":"2012-10-17","Statement":[` +
		`{"Effect":"Allow","Action":["iot:*","greengrass:VerifyClientDeviceIdentity","greengrass:PutCertificateAuthorities","greengrass:GetConnectivityInfo"],"Resource":"*"},` +
		`{"Effect":"Allow","Action":"greengrass:VerifyClientDeviceIoTCertificateAssociation","Resource":"arn:aws:iot:*:*:thing/sensor-*"}]}`
	if r := f.Trace(t); r.State != trace.OK {
		t.Errorf("%s", written(t, r))
	}
}

// What hangs on where the core is, only the endpoint can say.
func TestAConditionThatIsNotKnownIsNotCalledBroken(t *testing.T) {
	for name, test := range map[string]struct {
		condition, policy string
		asked             trace.State
		notAsked          trace.State
	}{
		"an address":         {`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, "AssumePolicy", trace.OK, trace.Unknown},
		"an address to be":   {`{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}`, "ThingPolicy", trace.Unknown, trace.Unknown},
		"the time, that has": {`{"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"}}`, "AssumePolicy", trace.OK, trace.OK},
	} {
		f := tracetest.NewFake()
		f.Documents[test.policy] = strings.Replace(f.Documents[test.policy], `"Effect"`, `"Condition":`+test.condition+`,"Effect"`, 1)
		cfg := f.Config()
		cfg.Prober = grants{f}
		if r := run(t, cfg); r.State != test.asked {
			t.Errorf("%s, asked:\n%s", name, written(t, r))
		}
		cfg.Prober = nil
		if r := run(t, cfg); r.State != test.notAsked {
			t.Errorf("%s, not asked:\n%s", name, written(t, r))
		}
	}
}

// grants is the endpoint of a core that meets every condition.
type grants struct{ *tracetest.Fake }

func (g grants) Probe(context.Context, string, messages.ThingName) trace.ProbeAnswer {
	return trace.ProbeAnswer{Status: 200, Expires: g.Now.Add(time.Hour)}
}

// A group's policies count over MQTT, and nowhere else; a subject's variables everywhere.
func TestWhatAGroupsPoliciesAllow(t *testing.T) {
	const group = "arn:aws:iot:" + tracetest.Region + ":123456789012:thinggroup/cores"
	f := tracetest.NewFake()
	f.Documents["GroupPolicy"] = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`
	f.Documents["ThingPolicy"] = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"greengrass:*","Resource":"*"}]}`
	if r := f.Trace(t); r.State != trace.Warning || !r.Has(trace.PolicyLacksAction) {
		t.Errorf("without the group's:\n%s", written(t, r))
	}
	f.PolicyTargets[group] = []string{"GroupPolicy"}
	if r := f.Trace(t); r.State != trace.OK {
		t.Errorf("MQTT by a group:\n%s", written(t, r))
	}
	f.PolicyTargets[tracetest.CertificateARN()] = []string{"ThingPolicy"}
	if r := f.Trace(t); r.Findings[0].Fault != trace.PolicyDetached { // AssumePolicy would do
		t.Errorf("the role by a group:\n%s", written(t, r))
	}
}

// The account's policies, groups and certificates are read up to a bound, which is said.
func TestATraceIsBounded(t *testing.T) {
	f := tracetest.NewFake()
	for i := range 300 {
		name := fmt.Sprintf("p%03d", i)
		f.Documents[name] = f.Documents["ThingPolicy"]
		f.PolicyTargets[tracetest.CertificateARN()] = append(f.PolicyTargets[tracetest.CertificateARN()], name)
		id := messages.CertificateIDOf([]byte(name))
		f.Attachments[tracetest.Core] = append(f.Attachments[tracetest.Core], id)
	}
	text := written(t, f.Trace(t))
	if lines := strings.Count(text, "\n"); lines > 400 || !strings.Contains(text, "282 more") || !strings.Contains(text, "291 more") {
		t.Errorf("%d lines:\n%.3000s", lines, text)
	}
}

func written(t testing.TB, r *trace.Report) string {
	t.Helper()
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// The JSON is for programs: its members stay.
func TestTheReportAsJSON(t *testing.T) {
	f := tracetest.NewFake()
	f.DeleteAlias(t)
	doc, err := json.Marshal(f.Trace(t))
	if err != nil {
		t.Fatal(err)
	}
	var r struct {
		Format, Subject, Region, Account, State string
		Findings                                []struct {
			State, Fault, Detail string
			Path, Fix            []string
		}
		Trace struct {
			Kind, Name, State string
			Children          []struct{ Kind, Name, State string }
		}
	}
	if err := json.Unmarshal(doc, &r); err != nil {
		t.Fatal(err)
	}
	if r.Format != "gatehouse/trace-1" || r.State != "broken" || r.Subject != "thing core-1" || r.Findings[0].Fault != "role-alias-missing" || r.Trace.Kind != "thing" || r.Trace.Children[0].Kind != "certificate" {
		t.Errorf("%s", doc)
	}
	if want := "aws iot create-role-alias --role-alias " + tracetest.Alias; !strings.HasPrefix(r.Findings[0].Fix[0], want) {
		t.Errorf("fix %q", r.Findings[0].Fix)
	}
}

// FuzzWrite: whatever the cloud calls things, each node is one line of the tree, nothing
// steers the terminal, and what goes to a shell or to Graphviz is quoted.
func FuzzWrite(f *testing.F) {
	f.Add("policy", "statement", "ACTIVE")
	f.Add("p\"; x\\N\n&lt;", "'; rm -rf /", "\x1b[2J")
	f.Fuzz(func(t *testing.T, name, document, status string) {
		fake := tracetest.NewFake()
		fake.PolicyTargets[tracetest.CertificateARN()] = []string{name}
		fake.Documents = map[string]string{name: document}
		c := fake.Certificates[tracetest.ID]
		c.Status = status
		fake.Certificates[tracetest.ID] = c
		r := fake.Trace(t)
		if r.State == trace.OK && status != "ACTIVE" {
			t.Errorf("status %q is well", status)
		}
		for _, line := range strings.Split(written(t, r), "\n") {
			if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Errorf("line %q", line)
			}
		}
		var dot strings.Builder
		if err := r.WriteDOT(&dot); err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(dot.String(), "\n") {
			quotes := strings.Count(strings.ReplaceAll(strings.ReplaceAll(line, `\\`, ""), `\"`, ""), `"`)
			if quotes%2 != 0 {
				t.Errorf("line %q", line)
			}
		}
	})
}
