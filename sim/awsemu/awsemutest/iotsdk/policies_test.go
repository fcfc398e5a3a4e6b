package iotsdk_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

const arn = "arn:aws:iot:" + awsemu.Region + ":" + awsemu.AccountID + ":"

func allow(action, resource string) string { return statement("Allow", action, resource) }
func deny(action, resource string) string  { return statement("Deny", action, resource) }
func statement(effect, action, resource string) string {
	return fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":%q}`, effect, action, resource)
}

func document(statements ...string) *string {
	return aws.String(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)
}

// ok takes an answer whose error is to be none.
func ok[T any](t *testing.T) func(T, error) T {
	return func(answer T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}

// wantRefusal checks an error's code, status and a part of its message; E is its type.
func wantRefusal[E error](t *testing.T, what string, err error, status int, part string) {
	t.Helper()
	_, typed := errors.AsType[E](err)
	api, _ := errors.AsType[smithy.APIError](err)
	response, isHTTP := errors.AsType[*awshttp.ResponseError](err)
	if !typed || !isHTTP || response.HTTPStatusCode() != status || !strings.Contains(api.ErrorMessage(), part) {
		t.Errorf("%s: got %v, want %d of type %T with %q", what, err, status, *new(E), part)
	}
}

func names(policies []types.Policy) (all []string) {
	for _, p := range policies {
		if *p.PolicyArn != arn+"policy/"+*p.PolicyName {
			all = append(all, *p.PolicyArn)
			continue
		}
		all = append(all, *p.PolicyName)
	}
	return all
}

func TestPoliciesAndTheirVersions(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	admin, name := client(t, c, c.AdminCredentials(), awsemu.Region), aws.String("sensors")
	first, second := document(allow("iot:Connect", "*")), document(deny("iot:*", "*"))

	made := ok[*iot.CreatePolicyOutput](t)(admin.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: name, PolicyDocument: first}))
	if *made.PolicyArn != arn+"policy/sensors" || *made.PolicyDocument != *first || *made.PolicyVersionId != "1" || *made.PolicyName != "sensors" {
		t.Errorf("made %+v", made)
	}
	_, err := admin.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: name, PolicyDocument: first})
	wantRefusal[*types.ResourceAlreadyExistsException](t, "again", err, 409, "name already exists (name=sensors)")
	exists, _ := errors.AsType[*types.ResourceAlreadyExistsException](err)
	if exists == nil || aws.ToString(exists.ResourceArn) != *made.PolicyArn {
		t.Errorf("again: %+v", exists)
	}
	for bad, part := range map[string]string{`{}`: "no Version", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"topic/x"}]}`: `line 1, column 92: Statement[0].Resource: the following resources are invalid: "topic/x"`} {
		_, err = admin.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String("bad"), PolicyDocument: aws.String(bad)})
		wantRefusal[*types.MalformedPolicyException](t, bad, err, 400, "Policy document is Malformed: ")
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v, want %q", bad, err, part)
		}
	}
	_, err = admin.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String("bad name"), PolicyDocument: first})
	wantRefusal[*types.InvalidRequestException](t, "a bad name", err, 400, "policyName")

	version := ok[*iot.CreatePolicyVersionOutput](t)(admin.CreatePolicyVersion(t.Context(), &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: second, SetAsDefault: true}))
	if *version.PolicyVersionId != "2" || !version.IsDefaultVersion || *version.PolicyDocument != *second {
		t.Errorf("version %+v", version)
	}
	got := ok[*iot.GetPolicyOutput](t)(admin.GetPolicy(t.Context(), &iot.GetPolicyInput{PolicyName: name}))
	if *got.DefaultVersionId != "2" || *got.PolicyDocument != *second || time.Since(*got.CreationDate).Abs() > time.Minute || got.LastModifiedDate.Before(*got.CreationDate) {
		t.Errorf("got %+v", got)
	}
	former := ok[*iot.GetPolicyVersionOutput](t)(admin.GetPolicyVersion(t.Context(), &iot.GetPolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("1")}))
	if *former.PolicyDocument != *first || former.IsDefaultVersion || *former.PolicyVersionId != "1" {
		t.Errorf("version 1: %+v", former)
	}
	for range 3 {
		ok[*iot.CreatePolicyVersionOutput](t)(admin.CreatePolicyVersion(t.Context(), &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: first}))
	}
	_, err = admin.CreatePolicyVersion(t.Context(), &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: first})
	wantRefusal[*types.VersionsLimitExceededException](t, "a sixth version", err, 409, "The policy sensors already has the maximum number of versions (5)")
	ok[*iot.SetDefaultPolicyVersionOutput](t)(admin.SetDefaultPolicyVersion(t.Context(), &iot.SetDefaultPolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("5")}))
	_, err = admin.DeletePolicyVersion(t.Context(), &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("5")})
	wantRefusal[*types.DeleteConflictException](t, "delete the default", err, 409, "Cannot delete the default version of a policy")
	ok[*iot.DeletePolicyVersionOutput](t)(admin.DeletePolicyVersion(t.Context(), &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("4")}))
	again := ok[*iot.CreatePolicyVersionOutput](t)(admin.CreatePolicyVersion(t.Context(), &iot.CreatePolicyVersionInput{PolicyName: name, PolicyDocument: first}))
	if *again.PolicyVersionId != "6" {
		t.Errorf("a number was given twice: %s", *again.PolicyVersionId)
	}
	_, err = admin.GetPolicyVersion(t.Context(), &iot.GetPolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String("4")})
	wantRefusal[*types.ResourceNotFoundException](t, "a deleted version", err, 404, "version 4")
	var listed []string
	for _, v := range ok[*iot.ListPolicyVersionsOutput](t)(admin.ListPolicyVersions(t.Context(), &iot.ListPolicyVersionsInput{PolicyName: name})).PolicyVersions {
		listed = append(listed, fmt.Sprint(*v.VersionId, v.IsDefaultVersion))
	}
	if want := []string{"6false", "5true", "3false", "2false", "1false"}; !slices.Equal(listed, want) {
		t.Errorf("versions %v, want %v", listed, want)
	}
	_, err = admin.DeletePolicy(t.Context(), &iot.DeletePolicyInput{PolicyName: name})
	wantRefusal[*types.DeleteConflictException](t, "delete with versions", err, 409, "Cannot delete the policy because it has one or more policy versions attached to it")
	for _, n := range []string{"6", "3", "2", "1"} {
		ok[*iot.DeletePolicyVersionOutput](t)(admin.DeletePolicyVersion(t.Context(), &iot.DeletePolicyVersionInput{PolicyName: name, PolicyVersionId: aws.String(n)}))
	}
	ok[*iot.DeletePolicyOutput](t)(admin.DeletePolicy(t.Context(), &iot.DeletePolicyInput{PolicyName: name}))
	_, err = admin.GetPolicy(t.Context(), &iot.GetPolicyInput{PolicyName: name})
	wantRefusal[*types.ResourceNotFoundException](t, "deleted", err, 404, "sensors")
}

func TestAttachedPolicies(t *testing.T) {
	c := awsemutest.Start(t, 2, time.Now)
	admin := client(t, c, c.AdminCredentials(), awsemu.Region)
	certificate := aws.String(awsemu.CertificateARN(c.Device.ID))
	for i := range 12 {
		ok[*iot.CreatePolicyOutput](t)(admin.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: aws.String(fmt.Sprintf("p%02d", i)), PolicyDocument: document(allow("iot:Connect", "*"))}))
	}
	for i := range 9 { // beside the one of the start
		for range 2 { // which is one
			ok[*iot.AttachPolicyOutput](t)(admin.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: aws.String(fmt.Sprintf("p%02d", i)), Target: certificate}))
		}
	}
	_, err := admin.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: aws.String("p09"), Target: certificate})
	wantRefusal[*types.LimitExceededException](t, "an eleventh policy", err, 410, "limit of 10")
	_, err = admin.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: aws.String("none"), Target: certificate})
	wantRefusal[*types.ResourceNotFoundException](t, "no such policy", err, 404, "none")
	_, err = admin.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: aws.String("p00"), Target: aws.String(arn + "cert/" + strings.Repeat("0", 64))})
	wantRefusal[*types.ResourceNotFoundException](t, "no such certificate", err, 404, strings.Repeat("0", 64))
	_, err = admin.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: aws.String("p00"), Target: aws.String(arn + "thing/x")})
	wantRefusal[*types.InvalidRequestException](t, "no target", err, 400, "Invalid target")

	var listed []string
	for p := iot.NewListAttachedPoliciesPaginator(admin, &iot.ListAttachedPoliciesInput{Target: certificate, PageSize: aws.Int32(3)}); p.HasMorePages(); {
		listed = append(listed, names(ok[*iot.ListAttachedPoliciesOutput](t)(p.NextPage(t.Context())).Policies)...)
	}
	if want := []string{awsemu.DefaultPolicyName, "p00", "p01", "p02", "p03", "p04", "p05", "p06", "p07", "p08"}; !slices.Equal(listed, want) {
		t.Errorf("attached %v, want %v", listed, want)
	}
	var all []string
	for p := iot.NewListPoliciesPaginator(admin, &iot.ListPoliciesInput{PageSize: aws.Int32(5)}); p.HasMorePages(); {
		all = append(all, names(ok[*iot.ListPoliciesOutput](t)(p.NextPage(t.Context())).Policies)...)
	}
	if count := len(slices.Compact(slices.Clone(all))); count != len(all) || count < 13 || !slices.IsSorted(all) || !slices.Contains(all, "p11") {
		t.Errorf("policies %v", all)
	}
	targets := ok[*iot.ListTargetsForPolicyOutput](t)(admin.ListTargetsForPolicy(t.Context(), &iot.ListTargetsForPolicyInput{PolicyName: aws.String("p03")}))
	if !slices.Equal(targets.Targets, []string{*certificate}) {
		t.Errorf("targets %v", targets.Targets)
	}
	_, err = admin.DeletePolicy(t.Context(), &iot.DeletePolicyInput{PolicyName: aws.String("p03")})
	wantRefusal[*types.DeleteConflictException](t, "delete an attached one", err, 409, "attached to one or more principals (name=p03)")
	for range 2 { // the second changes nothing
		ok[*iot.DetachPolicyOutput](t)(admin.DetachPolicy(t.Context(), &iot.DetachPolicyInput{PolicyName: aws.String("p03"), Target: certificate}))
	}
	ok[*iot.DeletePolicyOutput](t)(admin.DeletePolicy(t.Context(), &iot.DeletePolicyInput{PolicyName: aws.String("p03")}))

	// The older operations do the same.
	for i := range 9 {
		if i != 3 {
			//lint:ignore SA1019 tools of before call it
			ok[*iot.DetachPrincipalPolicyOutput](t)(admin.DetachPrincipalPolicy(t.Context(), &iot.DetachPrincipalPolicyInput{PolicyName: aws.String(fmt.Sprintf("p%02d", i)), Principal: certificate}))
		}
	}
	//lint:ignore SA1019 tools of before call it
	ok[*iot.AttachPrincipalPolicyOutput](t)(admin.AttachPrincipalPolicy(t.Context(), &iot.AttachPrincipalPolicyInput{PolicyName: aws.String("p10"), Principal: certificate}))
	//lint:ignore SA1019 tools of before call it
	old := ok[*iot.ListPrincipalPoliciesOutput](t)(admin.ListPrincipalPolicies(t.Context(), &iot.ListPrincipalPoliciesInput{Principal: certificate}))
	if got := names(old.Policies); !slices.Equal(got, []string{awsemu.DefaultPolicyName, "p10"}) {
		t.Errorf("of the principal: %v", got)
	}

	//lint:ignore SA1019 tools of before call it
	holders := ok[*iot.ListPolicyPrincipalsOutput](t)(admin.ListPolicyPrincipals(t.Context(), &iot.ListPolicyPrincipalsInput{PolicyName: aws.String("p10")}))
	if !slices.Equal(holders.Principals, []string{*certificate}) {
		t.Errorf("principals of p10: %v", holders.Principals)
	}

	// A certificate goes with its policies only by force.
	if err := errors.Join(c.Registry.SetStatus(c.Device.ID, awsemu.StatusInactive), c.Registry.Detach(messages.ThingName(awsemutest.Thing(0)), c.Device.ID)); err != nil {
		t.Fatal(err)
	}
	_, err = admin.DeleteCertificate(t.Context(), &iot.DeleteCertificateInput{CertificateId: aws.String(string(c.Device.ID))})
	wantRefusal[*types.DeleteConflictException](t, "delete a certificate with policies", err, 409, "policies must be detached")
	ok[*iot.DeleteCertificateOutput](t)(admin.DeleteCertificate(t.Context(), &iot.DeleteCertificateInput{CertificateId: aws.String(string(c.Device.ID)), ForceDelete: true}))
	if left := c.Registry.Policies(*certificate); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if _, err := client(t, c, awsemu.Credentials{AccessKeyID: "AKIANOBODY", SecretAccessKey: "x"}, awsemu.Region).ListPolicies(t.Context(), &iot.ListPoliciesInput{}); err == nil {
		t.Error("a stranger lists policies")
	}
}

func TestThingGroups(t *testing.T) {
	c := awsemutest.Start(t, 3, time.Now)
	admin := client(t, c, c.AdminCredentials(), awsemu.Region)
	create := func(name, parent string) (*iot.CreateThingGroupOutput, error) {
		input := &iot.CreateThingGroupInput{ThingGroupName: aws.String(name), ThingGroupProperties: &types.ThingGroupProperties{
			ThingGroupDescription: aws.String("about " + name), AttributePayload: &types.AttributePayload{Attributes: map[string]string{"floor": "1"}},
		}}
		if parent != "" {
			input.ParentGroupName = aws.String(parent)
		}
		return admin.CreateThingGroup(t.Context(), input)
	}
	for _, g := range [][2]string{{"plant", ""}, {"north", "plant"}, {"line-1", "north"}, {"other", ""}} {
		made := ok[*iot.CreateThingGroupOutput](t)(create(g[0], g[1]))
		again := ok[*iot.CreateThingGroupOutput](t)(create(g[0], g[1]))
		if *made.ThingGroupArn != arn+"thinggroup/"+g[0] || *made.ThingGroupId == "" || *again.ThingGroupId != *made.ThingGroupId {
			t.Errorf("made %+v, again %+v", made, again)
		}
	}
	_, err := create("north", "other")
	wantRefusal[*types.ResourceAlreadyExistsException](t, "another parent", err, 409, "different properties")
	_, err = create("x", "nothing")
	wantRefusal[*types.InvalidRequestException](t, "no such parent", err, 400, "nothing")
	described := ok[*iot.DescribeThingGroupOutput](t)(admin.DescribeThingGroup(t.Context(), &iot.DescribeThingGroupInput{ThingGroupName: aws.String("line-1")}))
	path := described.ThingGroupMetadata.RootToParentThingGroups
	if described.Version != 1 || *described.ThingGroupMetadata.ParentGroupName != "north" || len(path) != 2 || *path[0].GroupName != "plant" || *path[1].GroupArn != arn+"thinggroup/north" ||
		described.ThingGroupMetadata.CreationDate == nil || *described.ThingGroupProperties.ThingGroupDescription != "about line-1" || described.ThingGroupProperties.AttributePayload.Attributes["floor"] != "1" {
		t.Errorf("described %+v %+v", described, described.ThingGroupMetadata)
	}
	list := func(input iot.ListThingGroupsInput) (found []string) {
		input.MaxResults = aws.Int32(1)
		for p := iot.NewListThingGroupsPaginator(admin, &input); p.HasMorePages(); {
			for _, g := range ok[*iot.ListThingGroupsOutput](t)(p.NextPage(t.Context())).ThingGroups {
				found = append(found, *g.GroupName)
			}
		}
		return found
	}
	for _, w := range []struct {
		input iot.ListThingGroupsInput
		want  string
	}{
		{iot.ListThingGroupsInput{}, "[line-1 north other plant]"},
		{iot.ListThingGroupsInput{Recursive: aws.Bool(false)}, "[other plant]"},
		{iot.ListThingGroupsInput{ParentGroup: aws.String("plant")}, "[line-1 north]"},
		{iot.ListThingGroupsInput{ParentGroup: aws.String("plant"), Recursive: aws.Bool(false)}, "[north]"},
		{iot.ListThingGroupsInput{NamePrefixFilter: aws.String("o")}, "[other]"},
	} {
		if got := fmt.Sprint(list(w.input)); got != w.want {
			t.Errorf("%+v: got %s, want %s", w.input, got, w.want)
		}
	}

	add := func(thing, group string) error {
		_, err := admin.AddThingToThingGroup(t.Context(), &iot.AddThingToThingGroupInput{ThingName: aws.String(thing), ThingGroupArn: aws.String(arn + "thinggroup/" + group)})
		return err
	}
	first := awsemutest.Thing(0)
	if err := errors.Join(add(first, "line-1"), add(first, "line-1"), add(first, "other"), add(awsemutest.Thing(1), "plant")); err != nil {
		t.Fatal(err)
	}
	wantRefusal[*types.InvalidRequestException](t, "twice in a hierarchy", add(first, "plant"), 400, "hierarchy")
	wantRefusal[*types.ResourceNotFoundException](t, "no such thing", add("nobody", "plant"), 404, "nobody")
	wantRefusal[*types.ResourceNotFoundException](t, "no such group", add(first, "nothing"), 404, "nothing")
	groups := ok[*iot.ListThingGroupsForThingOutput](t)(admin.ListThingGroupsForThing(t.Context(), &iot.ListThingGroupsForThingInput{ThingName: aws.String(first)}))
	if len(groups.ThingGroups) != 2 || *groups.ThingGroups[0].GroupName != "line-1" || *groups.ThingGroups[1].GroupName != "other" {
		t.Errorf("groups of %s: %+v", first, groups.ThingGroups)
	}
	for recursive, want := range map[bool][]string{false: {awsemutest.Thing(1)}, true: {first, awsemutest.Thing(1)}} {
		things := ok[*iot.ListThingsInThingGroupOutput](t)(admin.ListThingsInThingGroup(t.Context(), &iot.ListThingsInThingGroupInput{ThingGroupName: aws.String("plant"), Recursive: recursive}))
		if !slices.Equal(things.Things, want) {
			t.Errorf("in plant, recursive %v: %v, want %v", recursive, things.Things, want)
		}
	}
	updated := ok[*iot.UpdateThingGroupOutput](t)(admin.UpdateThingGroup(t.Context(), &iot.UpdateThingGroupInput{ThingGroupName: aws.String("plant"), ExpectedVersion: aws.Int64(1), ThingGroupProperties: &types.ThingGroupProperties{
		ThingGroupDescription: aws.String("new"), AttributePayload: &types.AttributePayload{Attributes: map[string]string{"roof": "flat"}, Merge: true},
	}}))
	described = ok[*iot.DescribeThingGroupOutput](t)(admin.DescribeThingGroup(t.Context(), &iot.DescribeThingGroupInput{ThingGroupName: aws.String("plant")}))
	if got := described.ThingGroupProperties; updated.Version != 2 || described.Version != 2 || *got.ThingGroupDescription != "new" || len(got.AttributePayload.Attributes) != 2 {
		t.Errorf("updated to %d: %+v", updated.Version, described)
	}
	groupPolicies(t, c, admin)
	ok[*iot.RemoveThingFromThingGroupOutput](t)(admin.RemoveThingFromThingGroup(t.Context(), &iot.RemoveThingFromThingGroupInput{ThingName: aws.String(first), ThingGroupName: aws.String("other")}))
	_, err = admin.DeleteThingGroup(t.Context(), &iot.DeleteThingGroupInput{ThingGroupName: aws.String("plant")})
	wantRefusal[*types.InvalidRequestException](t, "with a child", err, 400, "child")
	_, err = admin.DeleteThingGroup(t.Context(), &iot.DeleteThingGroupInput{ThingGroupName: aws.String("line-1"), ExpectedVersion: aws.Int64(7)})
	wantRefusal[*types.VersionConflictException](t, "another version", err, 409, "version")
	for _, name := range []string{"line-1", "north", "plant", "never there"} {
		ok[*iot.DeleteThingGroupOutput](t)(admin.DeleteThingGroup(t.Context(), &iot.DeleteThingGroupInput{ThingGroupName: aws.String(name)}))
	}
	if left := ok[*iot.ListThingGroupsForThingOutput](t)(admin.ListThingGroupsForThing(t.Context(), &iot.ListThingGroupsForThingInput{ThingName: aws.String(first)})); len(left.ThingGroups) != 0 {
		t.Errorf("%s is in groups that are gone: %+v", first, left.ThingGroups)
	}
	if got := list(iot.ListThingGroupsInput{}); !slices.Equal(got, []string{"other"}) {
		t.Errorf("left %v", got)
	}
}

// groupPolicies: device-0000 is in line-1 below north below plant, and in other.
func groupPolicies(t *testing.T, c *awsemutest.Cloud, admin *iot.Client) {
	t.Helper()
	for i, group := range []string{"plant", "line-1", "line-1", "other"} {
		name := aws.String(fmt.Sprintf("g%d", i))
		ok[*iot.CreatePolicyOutput](t)(admin.CreatePolicy(t.Context(), &iot.CreatePolicyInput{PolicyName: name, PolicyDocument: document(allow("iot:Connect", "*"))}))
		ok[*iot.AttachPolicyOutput](t)(admin.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: name, Target: aws.String(arn + "thinggroup/" + group)}))
	}
	_, err := admin.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: aws.String("g0"), Target: aws.String(arn + "thinggroup/line-1")})
	wantRefusal[*types.LimitExceededException](t, "a third policy of a group", err, 410, "limit of 2")
	attached := func(target string, recursive bool) []string {
		return names(ok[*iot.ListAttachedPoliciesOutput](t)(admin.ListAttachedPolicies(t.Context(), &iot.ListAttachedPoliciesInput{Target: aws.String(target), Recursive: recursive})).Policies)
	}
	if got := attached(arn+"thinggroup/line-1", true); !slices.Equal(got, []string{"g0", "g1", "g2"}) {
		t.Errorf("of line-1 and above: %v", got)
	}
	if got := attached(awsemu.CertificateARN(c.Device.ID), true); !slices.Equal(got, []string{awsemu.DefaultPolicyName, "g0", "g1", "g2", "g3"}) {
		t.Errorf("of the certificate and its things' groups: %v", got)
	}
	var effective []string
	for _, p := range ok[*iot.GetEffectivePoliciesOutput](t)(admin.GetEffectivePolicies(t.Context(), &iot.GetEffectivePoliciesInput{
		Principal: aws.String(awsemu.CertificateARN(c.Device.ID)), ThingName: aws.String(awsemutest.Thing(0)),
	})).EffectivePolicies {
		effective = append(effective, *p.PolicyName)
		if !strings.Contains(*p.PolicyDocument, "iot:Connect") {
			t.Errorf("%s says %s", *p.PolicyName, *p.PolicyDocument)
		}
	}
	if !slices.Equal(effective, []string{awsemu.DefaultPolicyName, "g1", "g2", "g0", "g3"}) {
		t.Errorf("effective %v", effective)
	}
}

func TestTestAuthorization(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	admin, thing := client(t, c, c.AdminCredentials(), awsemu.Region), awsemutest.Thing(0)
	certificate := awsemu.CertificateARN(c.Device.ID)
	for name, text := range map[string]*string{
		"own":   document(allow("iot:Connect", arn+"client/${iot:Connection.Thing.ThingName}"), allow("iot:Publish", arn+"topic/${iot:ClientId}/*"), allow("iot:Subscribe", arn+"topicfilter/${iot:ClientId}/#")),
		"guard": document(deny("iot:Publish", arn+"topic/*/secret")),
		"extra": document(allow("iot:Receive", "*")),
	} {
		if err := c.Registry.CreatePolicy(name, *text, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c.Registry.DetachPolicy(awsemu.DefaultPolicyName, certificate), c.Registry.AttachPolicy("own", certificate), c.Registry.AttachPolicy("guard", certificate)); err != nil {
		t.Fatal(err)
	}
	ask := func(change func(*iot.TestAuthorizationInput), infos ...types.AuthInfo) []types.AuthResult {
		t.Helper()
		input := &iot.TestAuthorizationInput{Principal: aws.String(certificate), ClientId: aws.String(thing), AuthInfos: infos}
		change(input)
		return ok[*iot.TestAuthorizationOutput](t)(admin.TestAuthorization(t.Context(), input)).AuthResults
	}
	info := func(action types.ActionType, resources ...string) types.AuthInfo {
		return types.AuthInfo{ActionType: action, Resources: resources}
	}
	asIs := func(*iot.TestAuthorizationInput) {}
	results := ask(asIs,
		info(types.ActionTypeConnect, arn+"client/"+thing),
		info(types.ActionTypePublish, arn+"topic/"+thing+"/a", arn+"topic/"+thing+"/b"),
		info(types.ActionTypePublish, arn+"topic/"+thing+"/a", arn+"topic/"+thing+"/secret"),
		info(types.ActionTypePublish, arn+"topic/"+thing+"/a", arn+"topic/elsewhere"),
		info(types.ActionTypeSubscribe, arn+"topicfilter/"+thing+"/#"),
		info(types.ActionTypeReceive, arn+"topic/x"))
	for i, want := range []string{"ALLOWED [own] [] []", "ALLOWED [own] [] []", "EXPLICIT_DENY [own] [guard] []", "IMPLICIT_DENY [own] [] [own guard]", "ALLOWED [own] [] []", "IMPLICIT_DENY [] [] [own guard]"} {
		r := results[i]
		if got := fmt.Sprint(r.AuthDecision, " ", names(r.Allowed.Policies), " ", names(r.Denied.ExplicitDeny.Policies), " ", names(r.Denied.ImplicitDeny.Policies)); got != want || len(r.MissingContextValues) != 0 {
			t.Errorf("%v: got %s, want %s; missing %v", r.AuthInfo.Resources, got, want, r.MissingContextValues)
		}
	}
	stranger := ask(func(i *iot.TestAuthorizationInput) { i.ClientId = aws.String("stranger") }, info(types.ActionTypeConnect, arn+"client/stranger"))[0]
	if stranger.AuthDecision != types.AuthDecisionImplicitDeny || !slices.Equal(stranger.MissingContextValues, []string{"iot:Connection.Thing.ThingName"}) {
		t.Errorf("under another client id: %s, missing %v", stranger.AuthDecision, stranger.MissingContextValues)
	}
	changed := ask(func(i *iot.TestAuthorizationInput) {
		i.PolicyNamesToAdd, i.PolicyNamesToSkip = []string{"extra"}, []string{"guard"}
	}, info(types.ActionTypeReceive, arn+"topic/x"), info(types.ActionTypePublish, arn+"topic/"+thing+"/secret"))
	if changed[0].AuthDecision != types.AuthDecisionAllowed || changed[1].AuthDecision != types.AuthDecisionAllowed {
		t.Errorf("with extra and without guard: %+v", changed)
	}
	_, err := admin.TestAuthorization(t.Context(), &iot.TestAuthorizationInput{Principal: aws.String(certificate), PolicyNamesToAdd: []string{"none"}, AuthInfos: []types.AuthInfo{info(types.ActionTypeConnect, "*")}})
	wantRefusal[*types.ResourceNotFoundException](t, "no such policy", err, 404, "none")
	_, err = admin.TestAuthorization(t.Context(), &iot.TestAuthorizationInput{Principal: aws.String(certificate), AuthInfos: []types.AuthInfo{info("FLY", "*")}})
	wantRefusal[*types.InvalidRequestException](t, "no such action", err, 400, "actionType")
	_, err = admin.TestAuthorization(t.Context(), &iot.TestAuthorizationInput{Principal: aws.String(certificate), AuthInfos: []types.AuthInfo{}})
	wantRefusal[*types.InvalidRequestException](t, "nothing asked", err, 400, "authInfos")
}
