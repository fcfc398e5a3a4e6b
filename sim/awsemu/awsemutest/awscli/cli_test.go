// Package awscli_test lets Debian's awscli judge the emulated cloud. It is apart from the
// emulator's own tests because each call takes a second.
package awscli_test

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// debianAWS is Debian's awscli, 2.9.19; another one may come first in the path.
const debianAWS = "/usr/bin/aws"

// need fails without the tool, or skips where nobody asked for end-to-end tests.
func need(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(debianAWS); err != nil {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatalf("awscli is missing: %v", err)
		}
		t.Skip("awscli is missing; set GATEHOUSE_E2E=1 to make this a failure")
	}
}

// run calls aws in region as the holder of keys.
func run(t *testing.T, c *awsemutest.Cloud, keys awsemu.Credentials, region string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), debianAWS, append([]string{"--endpoint-url", c.ControlURL(), "--output", "json"}, args...)...)
	cmd.Env = []string{
		"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "AWS_CA_BUNDLE=" + c.CAFile(t), "AWS_EC2_METADATA_DISABLED=true", "AWS_PAGER=", "AWS_MAX_ATTEMPTS=2", // the second is a second later
		"AWS_DEFAULT_REGION=" + region, "AWS_ACCESS_KEY_ID=" + keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + keys.SecretAccessKey,
	}
	if keys.SessionToken != "" {
		cmd.Env = append(cmd.Env, "AWS_SESSION_TOKEN="+keys.SessionToken)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestListDescribeAssociate(t *testing.T) {
	need(t)
	c := awsemutest.Start(t, 130, time.Now)
	var core awsemu.Credentials
	core.AccessKeyID, core.SecretAccessKey, core.SessionToken = c.Credentials()
	call := func(keys awsemu.Credentials, into any, args ...string) {
		t.Helper()
		out, err := run(t, c, keys, awsemu.Region, args...)
		if err == nil {
			err = json.Unmarshal([]byte(out), into)
		}
		if err != nil {
			t.Fatalf("aws %v: %v\n%s", args, err, out)
		}
	}
	var listed struct {
		Devices []struct {
			ThingName            string
			AssociationTimestamp time.Time
		} `json:"associatedClientDevices"`
	}
	call(core, &listed, "greengrassv2", "list-client-devices-associated-with-core-device", "--core-device-thing-name", awsemutest.Core)
	if n := len(listed.Devices); n != 130 || listed.Devices[n-1].ThingName != awsemutest.Thing(n-1) || time.Since(listed.Devices[0].AssociationTimestamp) > time.Hour {
		t.Errorf("%d devices: %v", n, listed.Devices)
	}
	var entries struct {
		Errors []struct{ ThingName, Code string } `json:"errorEntries"`
	}
	call(c.AdminCredentials(), &entries, "greengrassv2", "batch-disassociate-client-device-from-core-device", "--core-device-thing-name", awsemutest.Core, "--entries", "thingName="+awsemutest.Thing(5))
	if got := len(c.Registry.Associated(awsemutest.Core)); len(entries.Errors) > 0 || got != 129 {
		t.Errorf("disassociate: %v, %d are left", entries, got)
	}
	call(c.AdminCredentials(), &entries, "greengrassv2", "batch-associate-client-device-with-core-device", "--core-device-thing-name", awsemutest.Core,
		"--entries", "thingName="+awsemutest.Thing(5), "thingName=nobody")
	if got := len(c.Registry.Associated(awsemutest.Core)); len(entries.Errors) != 1 || entries.Errors[0].Code != "ResourceNotFoundException" || got != 130 {
		t.Errorf("associate: %v, %d are there", entries, got)
	}
	// It signs these for execute-api (cloud spec 7.6).
	var described struct {
		Description struct{ CertificateArn, Status string } `json:"certificateDescription"`
	}
	call(core, &described, "iot", "describe-certificate", "--certificate-id", string(c.Device.ID))
	var principals struct{ Principals []string }
	call(core, &principals, "iot", "list-thing-principals", "--thing-name", awsemutest.Thing(0))
	if described.Description.Status != "ACTIVE" || len(principals.Principals) != 1 || principals.Principals[0] != described.Description.CertificateArn {
		t.Errorf("certificate %v, principals %v", described, principals)
	}
	var things struct{ Things []struct{ ThingName string } }
	call(c.AdminCredentials(), &things, "iot", "list-things")
	if len(things.Things) != 131 {
		t.Errorf("%d things", len(things.Things))
	}
}

// IAM, STS and role aliases at the same address: it signs for IAM's region, or for its own.
func TestRoles(t *testing.T) {
	need(t)
	c := awsemutest.Start(t, 0, time.Now)
	call := func(into any, args ...string) {
		t.Helper()
		out, err := run(t, c, c.AdminCredentials(), awsemu.Region, args...)
		if err == nil {
			err = json.Unmarshal([]byte(out), into)
		}
		if err != nil {
			t.Fatalf("aws %v: %v\n%s", args, err, out)
		}
	}
	var alias struct {
		Description struct{ RoleArn string } `json:"roleAliasDescription"`
	}
	call(&alias, "iot", "describe-role-alias", "--role-alias", awsemu.TokenExchangeAlias)
	var role struct {
		Role struct {
			Arn                      string
			MaxSessionDuration       int
			AssumeRolePolicyDocument struct {
				Statement []struct{ Principal struct{ Service string } }
			}
		}
	}
	call(&role, "iam", "get-role", "--role-name", awsemu.TokenExchangeRole.Name)
	if s := role.Role.AssumeRolePolicyDocument.Statement; role.Role.Arn != alias.Description.RoleArn || role.Role.MaxSessionDuration != 3600 || len(s) != 1 || s[0].Principal.Service != "credentials.iot.amazonaws.com" {
		t.Errorf("role %+v of %+v", role, alias)
	}
	var policies struct{ PolicyNames []string }
	call(&policies, "iam", "list-role-policies", "--role-name", awsemu.TokenExchangeRole.Name)
	var none struct{ AttachedPolicies []any }
	call(&none, "iam", "list-attached-role-policies", "--role-name", awsemu.TokenExchangeRole.Name)
	if len(policies.PolicyNames) != 1 || none.AttachedPolicies == nil || len(none.AttachedPolicies) != 0 {
		t.Errorf("policies: %v, %v", policies, none)
	}
	var who struct{ Account, Arn string }
	call(&who, "sts", "get-caller-identity")
	if who.Account != awsemu.AccountID || who.Arn != "arn:aws:iam::123456789012:user/administrator" {
		t.Errorf("who: %+v", who)
	}
	out, err := run(t, c, c.AdminCredentials(), awsemu.Region, "iam", "get-role", "--role-name", "nobody")
	if want := "An error occurred (NoSuchEntity) when calling the GetRole operation: The role with name nobody cannot be found."; exitCode(err) != serviceError || !strings.Contains(out, want) {
		t.Errorf("no such role: %v, %s", err, out)
	}
}

// serviceError is awscli's exit code for what a service refuses.
const serviceError = 254

func exitCode(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return 0
}

// What awscli shows of a refusal: code, operation and message (cloud spec 7.10, 7.11).
func TestRefusals(t *testing.T) {
	need(t)
	c := awsemutest.Start(t, 1, time.Now)
	admin := c.AdminCredentials()
	stolen := admin
	stolen.SecretAccessKey += "x"
	unable, err := c.IssueCredentials(awsemu.Role{Name: "nobody"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	late := awsemutest.Start(t, 1, func() time.Time { return time.Now().Add(-10 * time.Minute) })
	list := []string{"greengrassv2", "list-client-devices-associated-with-core-device", "--core-device-thing-name", awsemutest.Core}
	for name, w := range map[string]struct {
		cloud  *awsemutest.Cloud
		keys   awsemu.Credentials
		region string
		args   []string
		want   string
	}{
		"wrong secret":      {c, stolen, awsemu.Region, list, "An error occurred (InvalidSignatureException) when calling the ListClientDevicesAssociatedWithCoreDevice operation: The request signature we calculated does not match"},
		"expired":           {c, c.Expired(t), awsemu.Region, list, "(ExpiredTokenException) when calling the ListClientDevicesAssociatedWithCoreDevice operation: The security token included in the request is expired"},
		"wrong region":      {c, admin, "us-east-1", list, "(InvalidSignatureException) when calling the ListClientDevicesAssociatedWithCoreDevice operation: Credential should be scoped to a valid region, not 'us-east-1'"},
		"no shadow":         {c, admin, awsemu.Region, []string{"iot-data", "get-thing-shadow", "--thing-name", "x", "/dev/null"}, "(ResourceNotFoundException) when calling the GetThingShadow operation: No shadow exists with name: 'x'"},
		"not allowed":       {c, unable, awsemu.Region, list, "(AccessDeniedException) when calling the ListClientDevicesAssociatedWithCoreDevice operation: User: arn:aws:sts::"},
		"skewed clock":      {late, late.AdminCredentials(), awsemu.Region, list, "(InvalidSignatureException) when calling the ListClientDevicesAssociatedWithCoreDevice operation: Signature not yet current"},
		"IoT, wrong secret": {c, stolen, awsemu.Region, []string{"iot", "list-things"}, "(InvalidSignatureException) when calling the ListThings operation"},
		"no such thing":     {c, admin, awsemu.Region, []string{"iot", "describe-thing", "--thing-name", "nobody"}, "(ResourceNotFoundException) when calling the DescribeThing operation: Thing nobody cannot be found."},
	} {
		t.Run(name, func(t *testing.T) {
			if out, err := run(t, w.cloud, w.keys, w.region, w.args...); exitCode(err) != serviceError || !strings.Contains(out, w.want) {
				t.Errorf("got %v, %s, want %q", err, out, w.want)
			}
		})
	}
	if err := c.SetFault(fault.Fault{Status: 429, ErrorType: "ThrottlingException", RetryAfter: time.Second}); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, c, admin, awsemu.Region, list...); exitCode(err) != serviceError || !strings.Contains(out, "(ThrottlingException)") || !strings.Contains(out, "reached max retries: 1") {
		t.Errorf("throttled: %v, %s", err, out)
	}
}
