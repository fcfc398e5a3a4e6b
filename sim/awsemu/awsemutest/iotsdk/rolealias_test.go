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

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

const gatewayRole = "arn:aws:iam::123456789012:role/edge/Gateway"

func TestRoleAliases(t *testing.T) {
	c := awsemutest.Start(t, 0, time.Now)
	admin := client(t, c, c.AdminCredentials(), awsemu.Region)
	created, err := admin.CreateRoleAlias(t.Context(), &iot.CreateRoleAliasInput{RoleAlias: aws.String("Gateway=1,@x"), RoleArn: aws.String(gatewayRole), CredentialDurationSeconds: aws.Int32(900)})
	if err != nil || *created.RoleAliasArn != "arn:aws:iot:eu-central-1:123456789012:rolealias/Gateway=1,@x" || *created.RoleAlias != "Gateway=1,@x" {
		t.Fatalf("%+v, %v", created, err)
	}
	_, err = admin.CreateRoleAlias(t.Context(), &iot.CreateRoleAliasInput{RoleAlias: aws.String("Gateway=1,@x"), RoleArn: aws.String(gatewayRole)})
	if exists, ok := errors.AsType[*types.ResourceAlreadyExistsException](err); !ok || *exists.ResourceArn != *created.RoleAliasArn {
		t.Errorf("twice: %v", err)
	}
	describe := func() *types.RoleAliasDescription {
		t.Helper()
		got, err := admin.DescribeRoleAlias(t.Context(), &iot.DescribeRoleAliasInput{RoleAlias: aws.String("Gateway=1,@x")})
		if err != nil {
			t.Fatal(err)
		}
		return got.RoleAliasDescription
	}
	if d := describe(); *d.RoleArn != gatewayRole || *d.CredentialDurationSeconds != 900 || *d.Owner != awsemu.AccountID || time.Since(*d.CreationDate) > time.Minute || !d.LastModifiedDate.Equal(*d.CreationDate) {
		t.Errorf("described: %+v", d)
	}
	if _, err := admin.UpdateRoleAlias(t.Context(), &iot.UpdateRoleAliasInput{RoleAlias: aws.String("Gateway=1,@x"), CredentialDurationSeconds: aws.Int32(43200)}); err != nil {
		t.Fatal(err)
	}
	if d := describe(); *d.RoleArn != gatewayRole || *d.CredentialDurationSeconds != 43200 {
		t.Errorf("changed: %+v", d)
	}
	if _, err := admin.DeleteRoleAlias(t.Context(), &iot.DeleteRoleAliasInput{RoleAlias: aws.String("Gateway=1,@x")}); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"describe": func() error {
			_, err := admin.DescribeRoleAlias(t.Context(), &iot.DescribeRoleAliasInput{RoleAlias: aws.String("Gateway=1,@x")})
			return err
		},
		"update": func() error {
			_, err := admin.UpdateRoleAlias(t.Context(), &iot.UpdateRoleAliasInput{RoleAlias: aws.String("Gateway=1,@x")})
			return err
		},
		"delete": func() error {
			_, err := admin.DeleteRoleAlias(t.Context(), &iot.DeleteRoleAliasInput{RoleAlias: aws.String("Gateway=1,@x")})
			return err
		},
	} {
		if _, ok := errors.AsType[*types.ResourceNotFoundException](call()); !ok {
			t.Errorf("%s what is gone: %v", name, call())
		}
	}
}

func TestRoleAliasesArePaged(t *testing.T) {
	c := awsemutest.Start(t, 0, time.Now)
	admin := client(t, c, c.AdminCredentials(), awsemu.Region)
	var want []string
	for i := range 60 {
		want = append(want, fmt.Sprintf("alias-%02d", i))
		if err := c.Registry.AddRoleAlias(time.Now(), want[i], gatewayRole, 0); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	pages := 0
	for p := iot.NewListRoleAliasesPaginator(admin, &iot.ListRoleAliasesInput{AscendingOrder: true}); p.HasMorePages(); pages++ {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, page.RoleAliases...)
	}
	if names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasPrefix(name, "alias-") }); !slices.Equal(names, want) || pages < 3 {
		t.Errorf("%d pages: %v", pages, names)
	}
}

func TestRefusalsOfRoleAliases(t *testing.T) {
	c := awsemutest.Start(t, 0, time.Now)
	alone, err := c.IssueCredentials(awsemu.Role{Name: "alone", Policies: map[string]string{ // it may not pass a role on
		"own": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"},` +
			`{"Effect":"Allow","Action":"iam:PassRole","Resource":"*","Condition":{"StringEquals":{"iam:PassedToService":"ec2.amazonaws.com"}}}]}`,
	}}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]struct {
		keys          awsemu.Credentials
		input         iot.CreateRoleAliasInput
		status        int
		code, message string
	}{
		"name":     {c.AdminCredentials(), iot.CreateRoleAliasInput{RoleAlias: aws.String("a.b"), RoleArn: aws.String(gatewayRole)}, 400, "InvalidRequestException", "roleAlias"},
		"role":     {c.AdminCredentials(), iot.CreateRoleAliasInput{RoleAlias: aws.String("a"), RoleArn: aws.String("arn:aws:iam::123456789012:user/x")}, 400, "InvalidRequestException", "roleArn"},
		"short":    {c.AdminCredentials(), iot.CreateRoleAliasInput{RoleAlias: aws.String("a"), RoleArn: aws.String(gatewayRole), CredentialDurationSeconds: aws.Int32(899)}, 400, "InvalidRequestException", "credentialDurationSeconds"},
		"long":     {c.AdminCredentials(), iot.CreateRoleAliasInput{RoleAlias: aws.String("a"), RoleArn: aws.String(gatewayRole), CredentialDurationSeconds: aws.Int32(43201)}, 400, "InvalidRequestException", "credentialDurationSeconds"},
		"tags":     {c.AdminCredentials(), iot.CreateRoleAliasInput{RoleAlias: aws.String("a"), RoleArn: aws.String(gatewayRole), Tags: []types.Tag{{Key: aws.String("a")}}}, 400, "InvalidRequestException", "not emulated"},
		"PassRole": {alone, iot.CreateRoleAliasInput{RoleAlias: aws.String("a"), RoleArn: aws.String(gatewayRole)}, 403, "AccessDeniedException", "iam:PassRole on resource: " + gatewayRole},
	} {
		_, err := client(t, c, w.keys, awsemu.Region).CreateRoleAlias(t.Context(), &w.input)
		api, isAPI := errors.AsType[smithy.APIError](err)
		response, isHTTP := errors.AsType[*awshttp.ResponseError](err)
		if !isAPI || !isHTTP || api.ErrorCode() != w.code || response.HTTPStatusCode() != w.status || !strings.Contains(api.ErrorMessage(), w.message) {
			t.Errorf("%s: got %v, want %d %s with %q", name, err, w.status, w.code, w.message)
		}
	}
}
