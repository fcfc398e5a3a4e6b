package awsemu_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotpolicy"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

const iotARN = "arn:aws:iot:" + awsemu.Region + ":" + awsemu.AccountID + ":"

// statement is one of a policy; document puts several together.
func statement(effect, action, resource string) string {
	return fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":%q}`, effect, action, resource)
}

func allow(action, resource string) string { return statement("Allow", action, resource) }

func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// grant has a certificate one policy alone, of the statements given.
func (w *world) grant(t testing.TB, as *awsemu.Identity, statements ...string) {
	t.Helper()
	name, arn := "of-"+string(as.ID)[:8], awsemu.CertificateARN(as.ID)
	if err := w.registry.Update(func(b *awsemu.Batch) error {
		return b.EnsurePolicy(name, document(allow("iot:none", "*")), noon)
	}); err != nil {
		t.Fatal(err)
	}
	for _, former := range w.registry.Policies(arn) {
		if err := w.registry.DetachPolicy(former, arn); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.registry.SetPolicyDocument(name, document(statements...), noon), w.registry.AttachPolicy(name, arn)); err != nil {
		t.Fatal(err)
	}
}

// control makes a request of the control planes that is to be granted.
func (w *world) control(t testing.TB, method, target, body string) {
	t.Helper()
	if got := w.api(t, w.admin(), method, target, body); got.status != 200 {
		t.Fatalf("%s %s: %d %s", method, target, got.status, got.text)
	}
}

// Each operation of the data plane needs a policy that allows it, on the resource that AWS
// names (cloud spec 1.7).
func TestPoliciesAtTheDataPlane(t *testing.T) {
	w := newWorld(t)
	w.tell(t)
	identity := `{"clientDeviceCertificate":` + string(must[[]byte](t)(jsonText(string(w.pump.CertificatePEM)))) + `}`
	association := `{"clientDeviceThingName":"pump-7","clientDeviceCertificateId":"` + string(w.pump.ID) + `"}`
	for op, c := range map[string]struct {
		caller             *awsemu.Identity
		method, path, body string
		resource, another  string
	}{
		"VerifyClientDeviceIdentity":                  {w.core, "POST", "/greengrass/v2/clientDevices/verifyIdentity", identity, "*", iotARN + "thing/*"},
		"VerifyClientDeviceIoTCertificateAssociation": {w.core, "POST", "/greengrass/v2/clientDevices/verifyCertificateAssociation", association, iotARN + "thing/pump-7", iotARN + "thing/core-1"},
		"PutCertificateAuthorities":                   {w.core, "PUT", "/greengrass/v2/coreDevices/core-1/certificateAuthorities", authoritiesBody("core-1", w.servers.PEM()), "*", iotARN + "thing/core-1"},
		"GetConnectivityInfo":                         {w.core, "GET", connectivityPath, "", iotARN + "thing/core*", iotARN + "thing/pump-7"},
		"UpdateConnectivityInfo":                      {w.core, "PUT", connectivityPath, `{"ConnectivityInfo":[{"HostAddress":"10.0.0.1"}]}`, iotARN + "thing/core-1", iotARN + "thing/core-2"},
		"Discover":                                    {w.pump, "GET", "/greengrass/discover/thing/pump-7", "", iotARN + "thing/pump-7", iotARN + "thing/valve-1"},
	} {
		ask := func(what string, status int) string {
			t.Helper()
			answer, text, err := w.ask(t, c.caller, c.method, c.path, c.body)
			if err != nil || answer.StatusCode != status || status == 403 && answer.Header.Get("X-Amzn-ErrorType") != "AccessDeniedException" {
				t.Errorf("%s, %s: got %v %s (%v), want %d", op, what, answer, text, err, status)
			}
			return text
		}
		action := "greengrass:" + op
		w.grant(t, c.caller, allow(action, c.resource))
		ask("allowed", 200)
		w.grant(t, c.caller, allow(action, c.another))
		refused := ask("on another resource", 403)
		if op == "Discover" && !strings.HasPrefix(refused, `{"message":null,"traceId":"`) {
			t.Errorf("Discover is refused with %s", refused)
		}
		w.grant(t, c.caller, allow("greengrass:Other", "*"), allow("iot:*", "*"))
		ask("other actions", 403)
		w.grant(t, c.caller, allow("*", "*"), statement("Deny", action, c.resource))
		ask("denied", 403)
		w.grant(t, c.caller, allow(action, iotARN+"thing/${iot:Connection.Thing.ThingName}"))
		ask("for a variable of things", 403)
	}
}

// A thing group's policy does not count at the data plane (cloud spec 1.7), and without any
// policy nothing is allowed.
func TestGroupPoliciesDoNotCountAtTheDataPlane(t *testing.T) {
	w := newWorld(t)
	w.control(t, "POST", "/thing-groups/cores", "")
	w.control(t, "PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"core-1","thingGroupName":"cores"}`)
	if err := errors.Join(w.registry.AttachPolicy(awsemu.DefaultPolicyName, iotARN+"thinggroup/cores"), w.registry.DetachPolicy(awsemu.DefaultPolicyName, awsemu.CertificateARN(w.core.ID))); err != nil {
		t.Fatal(err)
	}
	if answer, text, err := w.ask(t, w.core, "GET", connectivityPath, ""); err != nil || answer.StatusCode != 403 {
		t.Errorf("got %v %s (%v)", answer, text, err)
	}
	must[*device](t)(w.dial(t, w.core, "core-1")) // at MQTT it does
	if _, err := w.dial(t, w.core, "core-1-a"); err == nil {
		t.Error("the group's policy counts for a connection that is not its thing's")
	}
}

func TestWithoutAServiceRoleNoDeviceIsVerified(t *testing.T) {
	w := newWorld(t)
	c := w.client(t, w.core)
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
	if err := w.registry.SetServiceRole("", noon); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, quiet, quiet) // neither a yes nor a no
	if answer, text, err := w.ask(t, w.core, "GET", connectivityPath, ""); err != nil || answer.StatusCode != 404 {
		t.Errorf("what needs no role: got %v %s (%v)", answer, text, err)
	}
	if err := w.registry.SetServiceRole("arn:aws:iam::"+awsemu.AccountID+":role/other", noon); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
	if err := w.registry.SetServiceRole("role/other", noon); err == nil {
		t.Error("a role that is no ARN was taken")
	}
}

// Authorize is what every endpoint judges by; here as the credentials provider asks.
func TestAuthorize(t *testing.T) {
	w := newWorld(t)
	alias := awsemu.RoleAliasARN("tes")
	w.grant(t, w.core, allow("iot:AssumeRoleWithCertificate", alias), allow("iot:Connect", iotARN+"client/${iot:Certificate.Subject.CommonName}"),
		allow("iot:AssumeRoleWithCertificate", iotARN+"rolealias/of-${iot:Connection.Thing.ThingName}"),
		`{"Effect":"Allow","Action":"iot:GetThingShadow","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"DateLessThan":{"aws:CurrentTime":"2026-11-21T12:30:00Z"}}}`)
	for _, c := range []struct {
		who              awsemu.Bearer
		action, resource string
		want             iotpolicy.Decision
	}{
		{awsemu.Bearer{Certificate: w.core.ID}, "iot:AssumeRoleWithCertificate", alias, iotpolicy.Allowed},
		{awsemu.Bearer{Certificate: w.core.ID}, "iot:AssumeRoleWithCertificate", awsemu.RoleAliasARN("other"), iotpolicy.ImplicitDeny},
		{awsemu.Bearer{Certificate: w.core.ID, Thing: "core-1"}, "iot:AssumeRoleWithCertificate", awsemu.RoleAliasARN("of-core-1"), iotpolicy.Allowed},
		{awsemu.Bearer{Certificate: w.core.ID, Thing: "pump-7"}, "iot:AssumeRoleWithCertificate", awsemu.RoleAliasARN("of-pump-7"), iotpolicy.ImplicitDeny},
		{awsemu.Bearer{Certificate: w.core.ID}, "iot:Connect", iotARN + "client/core-1", iotpolicy.Allowed},
		{awsemu.Bearer{Certificate: w.core.ID, Address: "10.1.2.3:4567"}, "iot:GetThingShadow", "*", iotpolicy.Allowed},
		{awsemu.Bearer{Certificate: w.core.ID, Address: "11.1.2.3"}, "iot:GetThingShadow", "*", iotpolicy.ImplicitDeny},
		{awsemu.Bearer{Certificate: w.core.ID}, "iot:GetThingShadow", "*", iotpolicy.ImplicitDeny},
		{awsemu.Bearer{Certificate: w.stranger.ID}, "iot:Connect", "*", iotpolicy.ImplicitDeny},
		{awsemu.Bearer{}, "iot:Connect", "*", iotpolicy.ImplicitDeny},
	} {
		if got := w.emulator.Authorize(c.who, c.action, c.resource); got.Decision != c.want {
			t.Errorf("%+v %s %s: got %+v, want %s", c.who, c.action, c.resource, got, c.want)
		}
	}
	if err := w.registry.SetStatus(w.core.ID, awsemu.StatusInactive); err != nil {
		t.Fatal(err)
	}
	if got := w.emulator.Authorize(awsemu.Bearer{Certificate: w.core.ID}, "iot:AssumeRoleWithCertificate", alias); got.Decision != iotpolicy.ImplicitDeny {
		t.Errorf("an inactive certificate: %s", got.Decision)
	}
}

// With a delay, who was judged before is judged by the same policies for that long.
func TestPolicyDelay(t *testing.T) {
	now := noon
	w := newWorldAt(t, func() time.Time { return now }, func(c *awsemu.Config) { c.PolicyDelay = 6 * time.Minute })
	may := func(as *awsemu.Identity) bool {
		return w.emulator.Authorize(awsemu.Bearer{Certificate: as.ID}, "iot:Connect", "*").Decision == iotpolicy.Allowed
	}
	if !may(w.core) {
		t.Fatal("not allowed at first")
	}
	w.grant(t, w.core, allow("iot:Publish", "*"))
	w.grant(t, w.pump, allow("iot:Publish", "*"))
	tested := w.api(t, w.admin(), "POST", "/test-authorization", `{"principal":"`+awsemu.CertificateARN(w.core.ID)+`","authInfos":[{"actionType":"CONNECT","resources":["*"]}]}`)
	if !strings.Contains(tested.text, `"authDecision":"IMPLICIT_DENY"`) {
		t.Errorf("TestAuthorization goes by what was: %s", tested.text)
	}
	now = noon.Add(6*time.Minute - time.Second)
	if !may(w.core) {
		t.Error("the change counts at once")
	}
	if may(w.pump) {
		t.Error("who is new is judged by what was")
	}
	now = noon.Add(6 * time.Minute)
	if may(w.core) {
		t.Error("the change does not count after the delay")
	}
	w.grant(t, w.core, allow("iot:Connect", "*"))
	if may(w.core) {
		t.Error("the change back counts at once")
	}
	w.emulator.SetPolicyDelay(0)
	if !may(w.core) {
		t.Error("without a delay the change does not count")
	}
}

func TestPoliciesSurviveInTheFile(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(t.TempDir(), "registry.json")
	r := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path))
	w2 := newWorldAt(t, atNoon, func(c *awsemu.Config) { c.Registry = r })
	if err := errors.Join(r.Enroll("core-1", w.core, true), r.Enroll("pump-7", w.pump, false), r.SetServiceRole("", noon), r.SetPolicy(w.core.ID, awsemu.PolicyMinimal)); err != nil {
		t.Fatal(err)
	}
	w2.control(t, "POST", "/policies/a", `{"policyDocument":`+string(must[[]byte](t)(jsonText(document(allow("iot:*", "*")))))+`}`)
	w2.control(t, "POST", "/policies/a/version?setAsDefault=true", `{"policyDocument":`+string(must[[]byte](t)(jsonText(document(allow("iot:Connect", "*")))))+`}`)
	w2.control(t, "POST", "/policies/a/version", `{"policyDocument":`+string(must[[]byte](t)(jsonText(document(allow("iot:Publish", "*")))))+`}`)
	w2.control(t, "DELETE", "/policies/a/version/3", "")
	w2.control(t, "POST", "/thing-groups/upper", `{"thingGroupProperties":{"thingGroupDescription":"d","attributePayload":{"attributes":{"k":"v"}}}}`)
	w2.control(t, "POST", "/thing-groups/below", `{"parentGroupName":"upper"}`)
	w2.control(t, "PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"pump-7","thingGroupName":"below"}`)
	if err := errors.Join(r.AttachPolicy("a", iotARN+"thinggroup/upper"), r.AttachPolicy("a", awsemu.CertificateARN(w.core.ID)), r.DetachPolicy(awsemu.DefaultPolicyName, awsemu.CertificateARN(w.pump.ID))); err != nil {
		t.Fatal(err)
	}
	again := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path))
	if was, is := must[[]byte](t)(r.Encode()), must[[]byte](t)(again.Encode()); !bytes.Equal(was, is) {
		t.Errorf("got %s, want %s", is, was)
	}
	if got := again.Policies(awsemu.CertificateARN(w.core.ID)); !slices.Equal(got, []string{"GreengrassMinimal-core-1", "a"}) {
		t.Errorf("the core came back with %v", got)
	}
	if got := again.Policies(awsemu.CertificateARN(w.pump.ID)); got != nil || again.ServiceRole() != "" {
		t.Errorf("what has none came back with %v, and the account with role %q", got, again.ServiceRole())
	}
	w3 := newWorldAt(t, atNoon, func(c *awsemu.Config) { c.Registry = again })
	w3.control(t, "POST", "/policies/a/version", `{"policyDocument":`+string(must[[]byte](t)(jsonText(document(allow("iot:Publish", "*")))))+`}`)
	if got := w3.api(t, w3.admin(), "GET", "/policies/a/version/4", ""); got.status != 200 {
		t.Errorf("a number was given twice: %s", got.text)
	}
}

// Files of before say nothing of policies, or that one is minimal.
func TestPoliciesOfOlderFiles(t *testing.T) {
	w := newWorld(t)
	of := func(as *awsemu.Identity, more string) string {
		pem := strings.ReplaceAll(string(as.CertificatePEM), "\n", `\n`)
		return `{"certificatePem":"` + pem + `","status":"ACTIVE",` + more + `}`
	}
	read := func(certificates ...string) (*awsemu.Registry, error) {
		return awsemu.ReadRegistry(strings.NewReader(`{"formatVersion":"gatehouse/awsemu-1","things":[{"thingName":"a","core":true}],"certificates":[` + strings.Join(certificates, ",") + `]}`))
	}
	r := must[*awsemu.Registry](t)(read(of(w.core, `"iotPolicy":"minimal","things":["a"]`), of(w.pump, `"things":[]`), of(w.valve, `"things":[],"policies":[]`)))
	for as, want := range map[*awsemu.Identity][]string{w.core: {"GreengrassMinimal-a"}, w.pump: {awsemu.DefaultPolicyName}, w.valve: nil} {
		if got := r.Policies(awsemu.CertificateARN(as.ID)); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	if r.ServiceRole() == "" {
		t.Error("the account has no service role")
	}
	for bad, part := range map[string]string{
		of(w.core, `"things":[],"iotPolicy":"maximal"`):                  "maximal",
		of(w.core, `"things":[],"iotPolicy":"minimal","policies":["x"]`): "keep one",
		of(w.core, `"things":[],"policies":["x"]`):                       "Policy x not found",
	} {
		if _, err := read(bad); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%.60s: %v, want %q", bad, err, part)
		}
	}
}

// What cannot be saved has not happened, nor what a batch began before it failed.
func TestPoliciesAreUndone(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "cloud")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := must[*awsemu.Registry](t)(awsemu.OpenRegistry(filepath.Join(dir, "registry.json")))
	w2 := newWorldAt(t, atNoon, func(c *awsemu.Config) { c.Registry = r })
	pump := awsemu.CertificateARN(w.pump.ID)
	if err := errors.Join(r.Enroll("pump-7", w.pump, false), r.CreatePolicy("a", document(allow("iot:*", "*")), noon), r.CreatePolicy("b", document(allow("iot:*", "*")), noon), r.AttachPolicy("a", pump)); err != nil {
		t.Fatal(err)
	}
	w2.control(t, "POST", "/policies/b/version", `{"policyDocument":`+string(must[[]byte](t)(jsonText(document(allow("iot:Connect", "*")))))+`}`)
	w2.control(t, "POST", "/thing-groups/g", "")
	w2.control(t, "PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"pump-7","thingGroupName":"g"}`)
	w2.control(t, "POST", "/thing-groups/empty", "")
	before := must[[]byte](t)(r.Encode())
	unchanged := func(what string) {
		t.Helper()
		if after := must[[]byte](t)(r.Encode()); !bytes.Equal(before, after) {
			t.Errorf("%s: got %s, want %s", what, after, before)
		}
	}
	failure := errors.New("on purpose")
	if err := r.Update(func(b *awsemu.Batch) error {
		return errors.Join(b.CreatePolicy("c", document(allow("*", "*")), noon), b.AttachPolicy("c", pump), b.DetachPolicy("a", pump), b.SetPolicy(w.pump.ID, awsemu.PolicyMinimal), failure)
	}); !errors.Is(err, failure) {
		t.Fatal(err)
	}
	unchanged("a failed batch")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	text := string(must[[]byte](t)(jsonText(document(allow("iot:Connect", "*")))))
	for _, c := range [][3]string{
		{"POST", "/policies/c", `{"policyDocument":` + text + `}`}, {"POST", "/policies/a/version", `{"policyDocument":` + text + `}`},
		{"PATCH", "/policies/b/version/2", ""}, {"DELETE", "/policies/b/version/2", ""}, {"PUT", "/target-policies/b", `{"target":"` + pump + `"}`},
		{"POST", "/target-policies/a", `{"target":"` + pump + `"}`}, {"POST", "/thing-groups/h", ""}, {"DELETE", "/thing-groups/g", ""},
		{"PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"pump-7","thingGroupName":"empty"}`},
		{"PUT", "/thing-groups/removeThingFromThingGroup", `{"thingName":"pump-7","thingGroupName":"g"}`},
		{"DELETE", "/greengrass/servicerole", ""},
	} {
		if got := w2.api(t, w2.admin(), c[0], c[1], c[2]); got.status != 500 {
			t.Errorf("%s %s: %d %s", c[0], c[1], got.status, got.text)
		}
		unchanged(c[0] + " " + c[1])
	}
}

func jsonText(text string) ([]byte, error) { return json.Marshal(text) }
