// Package iamsdk_test lets aws-sdk-go-v2's IAM and STS clients judge the emulated cloud. It
// is alone in its folder because the former is slow to build.
package iamsdk_test

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

func provider(keys awsemu.Credentials) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)
}

// iamClient signs for region: IAM itself has none, and takes us-east-1 as well.
func iamClient(t *testing.T, c *awsemutest.Cloud, keys awsemu.Credentials, region string) *iam.Client {
	t.Helper()
	return iam.New(iam.Options{Region: region, BaseEndpoint: aws.String(c.ControlURL()), HTTPClient: c.HTTPClient(t), RetryMaxAttempts: 1, Credentials: provider(keys)})
}

func stsClient(t *testing.T, c *awsemutest.Cloud, keys awsemu.Credentials) *sts.Client {
	t.Helper()
	return sts.New(sts.Options{Region: awsemu.Region, BaseEndpoint: aws.String(c.ControlURL()), HTTPClient: c.HTTPClient(t), RetryMaxAttempts: 1, Credentials: provider(keys)})
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused compares an error with what the service is to say.
func refused(t *testing.T, what string, err error, status int, code, message string) {
	t.Helper()
	api, isAPI := errors.AsType[smithy.APIError](err)
	response, isHTTP := errors.AsType[*awshttp.ResponseError](err)
	if !isAPI || !isHTTP || api.ErrorCode() != code || response.HTTPStatusCode() != status || !strings.Contains(api.ErrorMessage(), message) || response.ServiceRequestID() == "" {
		t.Errorf("%s: got %v, want %d %s with %q", what, err, status, code, message)
	}
}

const (
	trustIoT = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"credentials.iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	trustAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}]}`
	logs     = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["logs:*","iot:Describe*"],"Resource":"*"}]}`
	noThings = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iot:DescribeThing","Resource":"*"}]}`
)

func TestRoles(t *testing.T) {
	c := awsemutest.Start(t, 0, time.Now)
	client := iamClient(t, c, c.AdminCredentials(), "us-east-1")
	created := must[*iam.CreateRoleOutput](t)(client.CreateRole(t.Context(), &iam.CreateRoleInput{
		RoleName: aws.String("Gateway"), Path: aws.String("/edge/"), AssumeRolePolicyDocument: aws.String(trustIoT), Description: aws.String("of <gateways>"), MaxSessionDuration: aws.Int32(7200),
	})).Role
	role := must[*iam.GetRoleOutput](t)(client.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("Gateway")})).Role
	document := must[string](t)(url.PathUnescape(*role.AssumeRolePolicyDocument))
	if *role.Arn != "arn:aws:iam::123456789012:role/edge/Gateway" || *role.Path != "/edge/" || document != trustIoT || *role.MaxSessionDuration != 7200 || *role.Description != "of <gateways>" ||
		*role.RoleId != *created.RoleId || !strings.HasPrefix(*role.RoleId, "AROA") || time.Since(*role.CreateDate) > time.Minute {
		t.Errorf("role: %+v %s", role, document)
	}
	_, err := client.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("gateway"), AssumeRolePolicyDocument: aws.String(trustIoT)})
	refused(t, "twice", err, 409, "EntityAlreadyExists", "Role with name gateway already exists.")
	if _, typed := errors.AsType[*types.EntityAlreadyExistsException](err); !typed {
		t.Errorf("it is of type %T", err)
	}

	must[*iam.UpdateRoleOutput](t)(client.UpdateRole(t.Context(), &iam.UpdateRoleInput{RoleName: aws.String("Gateway"), MaxSessionDuration: aws.Int32(3600)}))
	must[*iam.UpdateAssumeRolePolicyOutput](t)(client.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String("Gateway"), PolicyDocument: aws.String(trustAll)}))
	role = must[*iam.GetRoleOutput](t)(client.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("Gateway")})).Role
	if document := must[string](t)(url.PathUnescape(*role.AssumeRolePolicyDocument)); document != trustAll || *role.MaxSessionDuration != 3600 || *role.Description != "of <gateways>" {
		t.Errorf("changed: %+v %s", role, document)
	}

	must[*iam.PutRolePolicyOutput](t)(client.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("Gateway"), PolicyName: aws.String("Logs"), PolicyDocument: aws.String(logs)}))
	policy := must[*iam.GetRolePolicyOutput](t)(client.GetRolePolicy(t.Context(), &iam.GetRolePolicyInput{RoleName: aws.String("Gateway"), PolicyName: aws.String("Logs")}))
	names := must[*iam.ListRolePoliciesOutput](t)(client.ListRolePolicies(t.Context(), &iam.ListRolePoliciesInput{RoleName: aws.String("Gateway")}))
	if document := must[string](t)(url.PathUnescape(*policy.PolicyDocument)); document != logs || !slices.Equal(names.PolicyNames, []string{"Logs"}) || names.IsTruncated {
		t.Errorf("inline policy: %s, %v", document, names)
	}
	_, err = client.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("Gateway")})
	refused(t, "with a policy", err, 409, "DeleteConflict", "must delete policies first")
	must[*iam.DeleteRolePolicyOutput](t)(client.DeleteRolePolicy(t.Context(), &iam.DeleteRolePolicyInput{RoleName: aws.String("Gateway"), PolicyName: aws.String("Logs")}))
	must[*iam.DeleteRoleOutput](t)(client.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("Gateway")}))
	_, err = client.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("Gateway")})
	refused(t, "deleted", err, 404, "NoSuchEntity", "The role with name Gateway cannot be found.")
	if _, typed := errors.AsType[*types.NoSuchEntityException](err); !typed {
		t.Errorf("it is of type %T", err)
	}
}

func TestListings(t *testing.T) {
	c := awsemutest.Start(t, 0, time.Now)
	client := iamClient(t, c, c.AdminCredentials(), awsemu.Region)
	for i := range 25 {
		must[*iam.CreateRoleOutput](t)(client.CreateRole(t.Context(), &iam.CreateRoleInput{
			RoleName: aws.String(fmt.Sprintf("role-%02d", i)), Path: aws.String("/many/"), AssumeRolePolicyDocument: aws.String(trustIoT),
		}))
	}
	var names []string
	pages := 0
	for p := iam.NewListRolesPaginator(client, &iam.ListRolesInput{MaxItems: aws.Int32(10), PathPrefix: aws.String("/many/")}); p.HasMorePages(); pages++ {
		for _, role := range must[*iam.ListRolesOutput](t)(p.NextPage(t.Context())).Roles {
			names = append(names, *role.RoleName)
		}
	}
	if len(names) != 25 || pages != 3 || !slices.IsSorted(names) {
		t.Errorf("%d pages: %v", pages, names)
	}
	if got := must[*iam.ListRolesOutput](t)(client.ListRoles(t.Context(), &iam.ListRolesInput{PathPrefix: aws.String("/none")})); len(got.Roles) != 0 || got.IsTruncated {
		t.Errorf("of another path: %v", got.Roles)
	}
	_, err := client.ListRoles(t.Context(), &iam.ListRolesInput{Marker: aws.String("x")})
	refused(t, "marker", err, 400, "ValidationError", "Marker")
	if err := c.SetFault(fault.Fault{Operation: "iam:ListRoles", Page: fault.PageFewer}); err != nil {
		t.Fatal(err)
	}
	if got := must[*iam.ListRolesOutput](t)(client.ListRoles(t.Context(), &iam.ListRolesInput{PathPrefix: aws.String("/many/")})); len(got.Roles) != 12 {
		t.Errorf("the half of 25 are %d", len(got.Roles))
	}
}

func TestManagedPolicies(t *testing.T) {
	c := awsemutest.Start(t, 0, time.Now)
	client := iamClient(t, c, c.AdminCredentials(), awsemu.Region)
	must[*iam.CreateRoleOutput](t)(client.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("Gateway"), AssumeRolePolicyDocument: aws.String(trustIoT)}))
	created := must[*iam.CreatePolicyOutput](t)(client.CreatePolicy(t.Context(), &iam.CreatePolicyInput{PolicyName: aws.String("Logs"), PolicyDocument: aws.String(logs)})).Policy
	arn := created.Arn
	if *arn != "arn:aws:iam::123456789012:policy/Logs" || *created.DefaultVersionId != "v1" || *created.AttachmentCount != 0 {
		t.Errorf("created: %+v", created)
	}
	for range 2 { // attaching it again changes nothing
		must[*iam.AttachRolePolicyOutput](t)(client.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: aws.String("Gateway"), PolicyArn: arn}))
	}
	attached := must[*iam.ListAttachedRolePoliciesOutput](t)(client.ListAttachedRolePolicies(t.Context(), &iam.ListAttachedRolePoliciesInput{RoleName: aws.String("Gateway")})).AttachedPolicies
	policy := must[*iam.GetPolicyOutput](t)(client.GetPolicy(t.Context(), &iam.GetPolicyInput{PolicyArn: arn})).Policy
	if len(attached) != 1 || *attached[0].PolicyArn != *arn || *attached[0].PolicyName != "Logs" || *policy.AttachmentCount != 1 || !policy.IsAttachable {
		t.Errorf("attached %v, policy %+v", attached, policy)
	}
	_, err := client.DeletePolicy(t.Context(), &iam.DeletePolicyInput{PolicyArn: arn})
	refused(t, "attached", err, 409, "DeleteConflict", "attached to entities")
	for range 4 {
		must[*iam.CreatePolicyVersionOutput](t)(client.CreatePolicyVersion(t.Context(), &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: aws.String(noThings), SetAsDefault: true}))
	}
	_, err = client.CreatePolicyVersion(t.Context(), &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: aws.String(noThings)})
	refused(t, "a sixth version", err, 409, "LimitExceeded", "up to 5 versions")
	version := must[*iam.GetPolicyVersionOutput](t)(client.GetPolicyVersion(t.Context(), &iam.GetPolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v5")})).PolicyVersion
	if document := must[string](t)(url.PathUnescape(*version.Document)); document != noThings || !version.IsDefaultVersion {
		t.Errorf("version: %+v %s", version, document)
	}
	_, err = client.DeletePolicyVersion(t.Context(), &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v5")})
	refused(t, "the default", err, 409, "DeleteConflict", "default version")
	must[*iam.SetDefaultPolicyVersionOutput](t)(client.SetDefaultPolicyVersion(t.Context(), &iam.SetDefaultPolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v1")}))
	for _, id := range []string{"v2", "v3", "v4", "v5"} {
		must[*iam.DeletePolicyVersionOutput](t)(client.DeletePolicyVersion(t.Context(), &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: aws.String(id)}))
	}
	again := must[*iam.CreatePolicyVersionOutput](t)(client.CreatePolicyVersion(t.Context(), &iam.CreatePolicyVersionInput{PolicyArn: arn, PolicyDocument: aws.String(noThings)})).PolicyVersion
	versions := must[*iam.ListPolicyVersionsOutput](t)(client.ListPolicyVersions(t.Context(), &iam.ListPolicyVersionsInput{PolicyArn: arn})).Versions
	if *again.VersionId != "v6" || len(versions) != 2 {
		t.Errorf("%s of %d versions: a number is not used again", *again.VersionId, len(versions))
	}
	_, err = client.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("Gateway")})
	refused(t, "role with a policy", err, 409, "DeleteConflict", "must detach all policies first")
	must[*iam.DetachRolePolicyOutput](t)(client.DetachRolePolicy(t.Context(), &iam.DetachRolePolicyInput{RoleName: aws.String("Gateway"), PolicyArn: arn}))
	_, err = client.DetachRolePolicy(t.Context(), &iam.DetachRolePolicyInput{RoleName: aws.String("Gateway"), PolicyArn: arn})
	refused(t, "detached", err, 404, "NoSuchEntity", "was not found")
	if all := must[*iam.ListPoliciesOutput](t)(client.ListPolicies(t.Context(), &iam.ListPoliciesInput{Scope: types.PolicyScopeTypeLocal})).Policies; len(all) != 1 || *all[0].Arn != *arn {
		t.Errorf("policies: %v", all)
	}
	must[*iam.DeletePolicyVersionOutput](t)(client.DeletePolicyVersion(t.Context(), &iam.DeletePolicyVersionInput{PolicyArn: arn, VersionId: aws.String("v6")}))
	must[*iam.DeletePolicyOutput](t)(client.DeletePolicy(t.Context(), &iam.DeletePolicyInput{PolicyArn: arn}))
	_, err = client.AttachRolePolicy(t.Context(), &iam.AttachRolePolicyInput{RoleName: aws.String("Gateway"), PolicyArn: arn})
	refused(t, "deleted", err, 404, "NoSuchEntity", "does not exist or is not attachable")
}

func TestRefusals(t *testing.T) {
	c := awsemutest.Start(t, 0, time.Now)
	admin := c.AdminCredentials()
	stolen := admin
	stolen.SecretAccessKey += "x"
	unable := must[awsemu.Credentials](t)(c.IssueCredentials(awsemu.Role{Name: "nobody"}, time.Hour))
	for name, w := range map[string]struct {
		keys          awsemu.Credentials
		region        string
		status        int
		code, message string
	}{
		"wrong secret": {stolen, awsemu.Region, 403, "SignatureDoesNotMatch", "does not match the signature"},
		"unknown key":  {awsemu.Credentials{AccessKeyID: "AKIANOBODY", SecretAccessKey: "x"}, awsemu.Region, 403, "InvalidClientTokenId", "invalid"},
		"expired":      {c.Expired(t), awsemu.Region, 403, "ExpiredToken", "expired"},
		"wrong region": {admin, "us-west-2", 403, "SignatureDoesNotMatch", "valid region"},
		"not allowed":  {unable, awsemu.Region, 403, "AccessDenied", "assumed-role/nobody/gatehouse is not authorized to perform: iam:GetRole on resource: arn:aws:iam::123456789012:role/x because no identity-based policy"},
	} {
		_, err := iamClient(t, c, w.keys, w.region).GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("x")})
		refused(t, name, err, w.status, w.code, w.message)
	}
	client := iamClient(t, c, admin, awsemu.Region)
	for name, w := range map[string]struct {
		input         iam.CreateRoleInput
		status        int
		code, message string
	}{
		"trust policy":     {iam.CreateRoleInput{RoleName: aws.String("x"), AssumeRolePolicyDocument: aws.String(logs)}, 400, "MalformedPolicyDocument", "no Resource"},
		"too long":         {iam.CreateRoleInput{RoleName: aws.String("x"), AssumeRolePolicyDocument: aws.String(strings.Replace(trustIoT, `"Allow"`, `"Allow","Sid":"`+strings.Repeat("x", 2000)+`"`, 1))}, 409, "LimitExceeded", "2048"},
		"name":             {iam.CreateRoleInput{RoleName: aws.String("a/b"), AssumeRolePolicyDocument: aws.String(trustIoT)}, 400, "ValidationError", "'roleName'"},
		"path":             {iam.CreateRoleInput{RoleName: aws.String("x"), Path: aws.String("a/"), AssumeRolePolicyDocument: aws.String(trustIoT)}, 400, "ValidationError", "'Path'"},
		"session":          {iam.CreateRoleInput{RoleName: aws.String("x"), MaxSessionDuration: aws.Int32(60), AssumeRolePolicyDocument: aws.String(trustIoT)}, 400, "ValidationError", "between 3600 and 43200"},
		"tags":             {iam.CreateRoleInput{RoleName: aws.String("x"), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}, AssumeRolePolicyDocument: aws.String(trustIoT)}, 400, "ValidationError", "not emulated"},
		"a boundary given": {iam.CreateRoleInput{RoleName: aws.String("x"), PermissionsBoundary: aws.String("arn:aws:iam::aws:policy/AdministratorAccess"), AssumeRolePolicyDocument: aws.String(trustIoT)}, 400, "ValidationError", "not emulated"},
	} {
		_, err := client.CreateRole(t.Context(), &w.input)
		refused(t, name, err, w.status, w.code, w.message)
	}
	if err := c.SetFault(fault.Fault{Operation: "iam:GetRole", Status: 503, ErrorType: "ServiceUnavailable"}); err != nil {
		t.Fatal(err)
	}
	_, err := client.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("x")})
	refused(t, "a fault", err, 503, "ServiceUnavailable", "injected fault")
}

// A role can be assumed by whom it trusts and whose own policies let it; what the session
// may do is what the role may at the time, within the policy it was asked for with.
func TestAssumeRole(t *testing.T) {
	c := awsemutest.Start(t, 0, time.Now)
	admin := iamClient(t, c, c.AdminCredentials(), awsemu.Region)
	addRole := func(name, trust, policy string) {
		t.Helper()
		if err := c.Registry.AddRole(time.Now(), awsemu.Role{Name: name, Trust: trust, Policies: map[string]string{"own": policy}}); err != nil {
			t.Fatal(err)
		}
	}
	readRoles := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:Get*","Resource":"arn:aws:iam::123456789012:role/*"}]}`
	addRole("reader", trustAll, readRoles)
	addRole("service", trustIoT, readRoles)
	named := strings.Replace(trustAll, `"123456789012"`, `"arn:aws:iam::123456789012:role/reader"`, 1)
	addRole("next", named, readRoles)
	addRole("external", strings.Replace(trustAll, `"Action"`, `"Condition":{"StringEquals":{"sts:ExternalId":"secret"}},"Action"`, 1), readRoles)

	assume := func(keys awsemu.Credentials, role string, change ...func(*sts.AssumeRoleInput)) (awsemu.Credentials, error) {
		input := &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::123456789012:role/" + role), RoleSessionName: aws.String("me")}
		for _, f := range change {
			f(input)
		}
		answer, err := stsClient(t, c, keys).AssumeRole(t.Context(), input)
		if err != nil {
			return awsemu.Credentials{}, err
		}
		if left := time.Until(*answer.Credentials.Expiration); *answer.AssumedRoleUser.Arn != "arn:aws:sts::123456789012:assumed-role/"+role+"/me" || left > 12*time.Hour || left < 14*time.Minute {
			t.Errorf("assumed %s for %v", *answer.AssumedRoleUser.Arn, left)
		}
		k := answer.Credentials
		return awsemu.Credentials{AccessKeyID: *k.AccessKeyId, SecretAccessKey: *k.SecretAccessKey, SessionToken: *k.SessionToken}, nil
	}
	getRole := func(keys awsemu.Credentials) error {
		_, err := iamClient(t, c, keys, awsemu.Region).GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("next")})
		return err
	}
	reader := must[awsemu.Credentials](t)(assume(c.AdminCredentials(), "reader"))
	who := must[*sts.GetCallerIdentityOutput](t)(stsClient(t, c, reader).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))
	if *who.Arn != "arn:aws:sts::123456789012:assumed-role/reader/me" || *who.Account != awsemu.AccountID || !strings.HasSuffix(*who.UserId, ":me") {
		t.Errorf("who: %v %v %v", *who.Arn, *who.Account, *who.UserId)
	}
	if err := getRole(reader); err != nil {
		t.Errorf("what the role may: %v", err)
	}
	refusedTo := func(what string, err error, role string) {
		t.Helper()
		refused(t, what, err, 403, "AccessDenied", "is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::123456789012:role/"+role)
	}
	_, err := assume(c.AdminCredentials(), "service")
	refusedTo("another is trusted", err, "service")
	_, err = assume(c.AdminCredentials(), "nobody")
	refusedTo("no such role", err, "nobody")
	_, err = assume(reader, "reader")
	refusedTo("its own policies do not say so", err, "reader")
	_, err = assume(c.AdminCredentials(), "external")
	refusedTo("no external id", err, "external")
	must[awsemu.Credentials](t)(assume(c.AdminCredentials(), "external", func(i *sts.AssumeRoleInput) { i.ExternalId = aws.String("secret") }))
	must[awsemu.Credentials](t)(assume(reader, "next")) // it is named: its own policies need not say so
	_, err = assume(reader, "next", func(i *sts.AssumeRoleInput) { i.DurationSeconds = aws.Int32(3601) })
	refused(t, "a chain", err, 400, "ValidationError", "1 hour session limit")
	_, err = assume(c.AdminCredentials(), "reader", func(i *sts.AssumeRoleInput) { i.DurationSeconds = aws.Int32(7200) })
	refused(t, "too long", err, 400, "ValidationError", "exceeds the MaxSessionDuration")

	bound := must[awsemu.Credentials](t)(assume(c.AdminCredentials(), "reader", func(i *sts.AssumeRoleInput) { i.Policy = aws.String(logs) }))
	refused(t, "bound", getRole(bound), 403, "AccessDenied", "iam:GetRole")
	_, err = assume(bound, "next")
	refusedTo("bound", err, "next")

	must[*iam.PutRolePolicyOutput](t)(admin.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{
		RoleName: aws.String("reader"), PolicyName: aws.String("no"), PolicyDocument: aws.String(strings.NewReplacer("iot:DescribeThing", "iam:GetRole").Replace(noThings)),
	}))
	refused(t, "denied since", getRole(reader), 403, "AccessDenied", "with an explicit deny")
	for _, name := range []string{"no", "own"} {
		must[*iam.DeleteRolePolicyOutput](t)(admin.DeleteRolePolicy(t.Context(), &iam.DeleteRolePolicyInput{RoleName: aws.String("reader"), PolicyName: aws.String(name)}))
	}
	must[*iam.DeleteRoleOutput](t)(admin.DeleteRole(t.Context(), &iam.DeleteRoleInput{RoleName: aws.String("reader")}))
	addRole("reader", trustAll, readRoles)
	refused(t, "another role of the name", getRole(reader), 403, "AccessDenied", "no identity-based policy")
}
