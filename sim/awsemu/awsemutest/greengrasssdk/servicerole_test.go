package greengrasssdk_test

import (
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/smithy-go"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

func TestServiceRole(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	admin, arn := client(t, c, c.AdminCredentials()), "arn:aws:iam::"+awsemu.AccountID+":role/path/Another"
	get := func() (string, error) {
		got, err := admin.GetServiceRoleForAccount(t.Context(), &greengrassv2.GetServiceRoleForAccountInput{})
		if err != nil {
			return "", err
		}
		if _, err := time.Parse(time.RFC3339, *got.AssociatedAt); err != nil {
			t.Error(err)
		}
		return *got.RoleArn, nil
	}
	if got, err := get(); err != nil || got == "" {
		t.Errorf("a new account's: %q, %v", got, err)
	}
	if _, err := admin.AssociateServiceRoleToAccount(t.Context(), &greengrassv2.AssociateServiceRoleToAccountInput{RoleArn: aws.String(arn)}); err != nil {
		t.Error(err)
	}
	if got, err := get(); err != nil || got != arn || c.Registry.ServiceRole() != arn {
		t.Errorf("associated: %q, %v", got, err)
	}
	if _, err := admin.AssociateServiceRoleToAccount(t.Context(), &greengrassv2.AssociateServiceRoleToAccountInput{RoleArn: aws.String("role/x")}); err == nil {
		t.Error("no ARN was taken")
	}
	if _, err := admin.DisassociateServiceRoleFromAccount(t.Context(), &greengrassv2.DisassociateServiceRoleFromAccountInput{}); err != nil {
		t.Error(err)
	}
	_, err := get()
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "ResourceNotFoundException" {
		t.Errorf("disassociated: %v", err)
	}
}
