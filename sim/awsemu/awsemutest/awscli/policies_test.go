package awscli_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// What one does by hand to give a device its permissions, and to see them.
func TestPolicies(t *testing.T) {
	need(t)
	c := awsemutest.Start(t, 1, time.Now)
	aws := func(args ...string) (into map[string]any) {
		t.Helper()
		out, err := run(t, c, c.AdminCredentials(), awsemu.Region, append([]string{"iot"}, args...)...)
		if err == nil && out != "" {
			err = json.Unmarshal([]byte(out), &into)
		}
		if err != nil {
			t.Fatalf("aws iot %v: %v\n%s", args, err, out)
		}
		return into
	}
	refused := func(code string, args ...string) {
		t.Helper()
		if out, err := run(t, c, c.AdminCredentials(), awsemu.Region, append([]string{"iot"}, args...)...); err == nil || !strings.Contains(out, "("+code+")") {
			t.Errorf("aws iot %v: %v, want %s\n%s", args, err, code, out)
		}
	}
	thing, certificate := awsemutest.Thing(0), awsemu.CertificateARN(c.Device.ID)
	const arn = "arn:aws:iot:" + awsemu.Region + ":" + awsemu.AccountID + ":"
	document := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish","Resource":"` + arn + `topic/${iot:ClientId}/*"}]}`

	made := aws("create-policy", "--policy-name", "own", "--policy-document", document)
	if made["policyDocument"] != document || made["policyVersionId"] != "1" {
		t.Errorf("made %v", made)
	}
	refused("ResourceAlreadyExistsException", "create-policy", "--policy-name", "own", "--policy-document", document)
	refused("MalformedPolicyException", "create-policy", "--policy-name", "bad", "--policy-document", "{}")
	aws("attach-policy", "--policy-name", "own", "--target", certificate)
	aws("detach-policy", "--policy-name", awsemu.DefaultPolicyName, "--target", certificate)
	attached := aws("list-attached-policies", "--target", certificate)["policies"].([]any)
	if len(attached) != 1 || attached[0].(map[string]any)["policyName"] != "own" {
		t.Errorf("attached %v", attached)
	}
	decision := func(action, resource string) any {
		t.Helper()
		results := aws("test-authorization", "--principal", certificate, "--client-id", thing, "--auth-infos", "actionType="+action+",resources="+resource)["authResults"].([]any)
		return results[0].(map[string]any)["authDecision"]
	}
	if got := decision("PUBLISH", arn+"topic/"+thing+"/t"); got != "ALLOWED" {
		t.Errorf("its own topic: %v", got)
	}
	if got := decision("PUBLISH", arn+"topic/other/t"); got != "IMPLICIT_DENY" {
		t.Errorf("another topic: %v", got)
	}

	aws("create-thing-group", "--thing-group-name", "plant")
	aws("add-thing-to-thing-group", "--thing-group-name", "plant", "--thing-name", thing)
	denying := strings.ReplaceAll(document, "Allow", "Deny")
	aws("create-policy", "--policy-name", "stop", "--policy-document", denying)
	aws("attach-policy", "--policy-name", "stop", "--target", arn+"thinggroup/plant")
	if got := decision("PUBLISH", arn+"topic/"+thing+"/t"); got != "EXPLICIT_DENY" {
		t.Errorf("denied by the group: %v", got)
	}
	var names []string
	for _, p := range aws("get-effective-policies", "--principal", certificate, "--thing-name", thing)["effectivePolicies"].([]any) {
		names = append(names, p.(map[string]any)["policyName"].(string))
	}
	if !slices.Equal(names, []string{"own", "stop"}) {
		t.Errorf("effective %v", names)
	}
	version := aws("create-policy-version", "--policy-name", "stop", "--policy-document", document, "--set-as-default")
	if version["policyVersionId"] != "2" || version["isDefaultVersion"] != true {
		t.Errorf("version %v", version)
	}
	if got := decision("PUBLISH", arn+"topic/"+thing+"/t"); got != "ALLOWED" {
		t.Errorf("by the group's new version: %v", got)
	}
	refused("DeleteConflictException", "delete-policy", "--policy-name", "stop")
	if targets := aws("list-targets-for-policy", "--policy-name", "stop")["targets"].([]any); len(targets) != 1 || targets[0] != arn+"thinggroup/plant" {
		t.Errorf("targets %v", targets)
	}
}
