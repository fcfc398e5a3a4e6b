package awsreader

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"

	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Role implements trace.Reader.
func (r *Reader) Role(ctx context.Context, name string) (trace.Role, error) {
	out, err := r.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err != nil {
		return trace.Role{}, r.explain(err, "iam:GetRole")
	}
	if out.Role == nil {
		return trace.Role{}, &trace.ReadError{Action: "iam:GetRole", Detail: "the answer describes no role"}
	}
	trust, err := document(out.Role.AssumeRolePolicyDocument, "iam:GetRole")
	return trace.Role{
		Name: name, ARN: aws.ToString(out.Role.Arn), Trust: trust,
		MaxSession: time.Duration(aws.ToInt32(out.Role.MaxSessionDuration)) * time.Second,
	}, err
}

// document is a policy document, which IAM tells percent-encoded (RFC 3986).
func document(encoded *string, action string) (string, error) {
	text, err := url.PathUnescape(aws.ToString(encoded))
	if err != nil {
		return "", &trace.ReadError{Action: action, Detail: "the policy document cannot be decoded: " + err.Error()}
	}
	return text, nil
}

// RolePolicies implements trace.Reader.
func (r *Reader) RolePolicies(ctx context.Context, role string) ([]trace.RolePolicy, error) {
	inline, err := r.inline(ctx, role)
	if err != nil {
		return nil, err
	}
	attached, err := r.attached(ctx, role)
	return append(inline, attached...), err
}

func (r *Reader) inline(ctx context.Context, role string) (policies []trace.RolePolicy, err error) {
	names, err := whole(list(ctx, rolePoliciesMax, func(ctx context.Context, token *string) ([]string, *string, error) {
		out, err := r.iam.ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: &role, Marker: token})
		if err != nil {
			return nil, nil, r.explain(err, "iam:ListRolePolicies")
		}
		return out.PolicyNames, out.Marker, nil
	}))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		out, err := r.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &role, PolicyName: &name})
		if err != nil {
			return nil, r.explain(err, "iam:GetRolePolicy")
		}
		text, err := document(out.PolicyDocument, "iam:GetRolePolicy")
		if err != nil {
			return nil, err
		}
		policies = append(policies, trace.RolePolicy{Name: name, Document: text})
	}
	return policies, nil
}

func (r *Reader) attached(ctx context.Context, role string) (policies []trace.RolePolicy, err error) {
	arns, err := whole(list(ctx, rolePoliciesMax, func(ctx context.Context, token *string) ([]string, *string, error) {
		out, err := r.iam.ListAttachedRolePolicies(ctx, &iam.ListAttachedRolePoliciesInput{RoleName: &role, Marker: token})
		if err != nil {
			return nil, nil, r.explain(err, "iam:ListAttachedRolePolicies")
		}
		var arns []string
		for _, p := range out.AttachedPolicies {
			arns = append(arns, aws.ToString(p.PolicyArn))
		}
		return arns, out.Marker, nil
	}))
	if err != nil {
		return nil, err
	}
	for _, arn := range arns {
		p, err := r.managed(ctx, arn)
		if err != nil {
			return nil, err
		}
		policies = append(policies, p)
	}
	return policies, nil
}

// managed reads a managed policy's default version.
func (r *Reader) managed(ctx context.Context, arn string) (p trace.RolePolicy, err error) {
	out, err := r.iam.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	if err != nil {
		return p, r.explain(err, "iam:GetPolicy")
	}
	if out.Policy == nil {
		return p, &trace.ReadError{Action: "iam:GetPolicy", Detail: "the answer describes no policy"}
	}
	version, err := r.iam.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: out.Policy.DefaultVersionId})
	if err != nil {
		return p, r.explain(err, "iam:GetPolicyVersion")
	}
	if version.PolicyVersion == nil {
		return p, &trace.ReadError{Action: "iam:GetPolicyVersion", Detail: "the answer describes no version"}
	}
	text, err := document(version.PolicyVersion.Document, "iam:GetPolicyVersion")
	return trace.RolePolicy{Name: aws.ToString(out.Policy.PolicyName), Document: text}, err
}

// ServiceRole implements trace.Reader. Greengrass says by the status that there is none: its
// model names no error for it. An operation that is not known has it, too.
func (r *Reader) ServiceRole(ctx context.Context) (string, error) {
	const action = "greengrass:GetServiceRoleForAccount"
	out, err := r.green.GetServiceRoleForAccount(ctx, &greengrassv2.GetServiceRoleForAccountInput{})
	answer, answered := errors.AsType[*awshttp.ResponseError](err)
	named, _ := errors.AsType[smithy.APIError](err)
	if answered && answer.HTTPStatusCode() == http.StatusNotFound && named != nil && named.ErrorCode() != "UnknownOperationException" {
		return "", &trace.ReadError{Action: action, Kind: trace.NotFound, Detail: "there is no service role"}
	}
	if err != nil {
		return "", r.explain(err, action)
	}
	return aws.ToString(out.RoleArn), nil
}

// Associated implements trace.Reader.
func (r *Reader) Associated(ctx context.Context, core messages.ThingName) ([]messages.ThingName, bool, error) {
	return list(ctx, entriesMax, func(ctx context.Context, token *string) ([]messages.ThingName, *string, error) {
		out, err := r.green.ListClientDevicesAssociatedWithCoreDevice(ctx, &greengrassv2.ListClientDevicesAssociatedWithCoreDeviceInput{
			CoreDeviceThingName: aws.String(string(core)), MaxResults: aws.Int32(pageSize), NextToken: token,
		})
		if err != nil {
			return nil, nil, r.explain(err, "greengrass:ListClientDevicesAssociatedWithCoreDevice")
		}
		var names []string
		for _, d := range out.AssociatedClientDevices {
			names = append(names, aws.ToString(d.ThingName))
		}
		return thingNames(names), out.NextToken, nil
	})
}
