package awsreader

import (
	"context"
	"encoding/pem"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"

	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/messages"
)

const entriesMax = pageSize * pagesMax

// Thing implements trace.Reader.
func (r *Reader) Thing(ctx context.Context, name messages.ThingName) (string, error) {
	out, err := r.iot.DescribeThing(ctx, &iot.DescribeThingInput{ThingName: aws.String(string(name))})
	if err != nil {
		return "", r.explain(err, "iot:DescribeThing")
	}
	return aws.ToString(out.ThingArn), nil
}

// Principals implements trace.Reader.
func (r *Reader) Principals(ctx context.Context, name messages.ThingName) ([]string, error) {
	return whole(list(ctx, entriesMax, func(ctx context.Context, token *string) ([]string, *string, error) {
		out, err := r.iot.ListThingPrincipals(ctx, &iot.ListThingPrincipalsInput{ThingName: aws.String(string(name)), MaxResults: aws.Int32(pageSize), NextToken: token})
		if err != nil {
			return nil, nil, r.explain(err, "iot:ListThingPrincipals")
		}
		return out.Principals, out.NextToken, nil
	}))
}

// Things implements trace.Reader.
func (r *Reader) Things(ctx context.Context, principal string) ([]messages.ThingName, error) {
	return whole(list(ctx, entriesMax, func(ctx context.Context, token *string) ([]messages.ThingName, *string, error) {
		out, err := r.iot.ListPrincipalThings(ctx, &iot.ListPrincipalThingsInput{Principal: &principal, MaxResults: aws.Int32(pageSize), NextToken: token})
		if err != nil {
			return nil, nil, r.explain(err, "iot:ListPrincipalThings")
		}
		return thingNames(out.Things), out.NextToken, nil
	}))
}

func thingNames(list []string) (names []messages.ThingName) {
	for _, one := range list {
		if name, err := messages.ParseThingName(one); err == nil {
			names = append(names, name)
		}
	}
	return names
}

// Groups implements trace.Reader.
func (r *Reader) Groups(ctx context.Context, name messages.ThingName) ([]string, error) {
	return whole(list(ctx, entriesMax, func(ctx context.Context, token *string) ([]string, *string, error) {
		out, err := r.iot.ListThingGroupsForThing(ctx, &iot.ListThingGroupsForThingInput{ThingName: aws.String(string(name)), MaxResults: aws.Int32(pageSize), NextToken: token})
		if err != nil {
			return nil, nil, r.explain(err, "iot:ListThingGroupsForThing")
		}
		var arns []string
		for _, g := range out.ThingGroups {
			arns = append(arns, aws.ToString(g.GroupArn))
		}
		return arns, out.NextToken, nil
	}))
}

// Certificate implements trace.Reader.
func (r *Reader) Certificate(ctx context.Context, id messages.CertificateID) (c trace.Certificate, err error) {
	out, err := r.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: aws.String(string(id))})
	if err != nil {
		return c, r.explain(err, "iot:DescribeCertificate")
	}
	d := out.CertificateDescription
	if d == nil || aws.ToString(d.CertificateId) != string(id) {
		return c, &trace.ReadError{Action: "iot:DescribeCertificate", Detail: "the answer describes no certificate, or another"}
	}
	c = trace.Certificate{ID: id, ARN: aws.ToString(d.CertificateArn), Status: string(d.Status), Authority: aws.ToString(d.CaCertificateId), Mode: string(d.CertificateMode)}
	if v := d.Validity; v != nil {
		c.NotBefore, c.NotAfter = aws.ToTime(v.NotBefore), aws.ToTime(v.NotAfter)
	}
	if block, _ := pem.Decode([]byte(aws.ToString(d.CertificatePem))); block != nil {
		c.DER = block.Bytes
	}
	return c, nil
}

// Authority implements trace.Reader.
func (r *Reader) Authority(ctx context.Context, id string) (a trace.Authority, err error) {
	out, err := r.iot.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: &id})
	if err != nil {
		return a, r.explain(err, "iot:DescribeCACertificate")
	}
	d := out.CertificateDescription
	if d == nil {
		return a, &trace.ReadError{Action: "iot:DescribeCACertificate", Detail: "the answer describes no CA"}
	}
	a = trace.Authority{ID: id, Status: string(d.Status), AutoRegistration: string(d.AutoRegistrationStatus), Mode: string(d.CertificateMode)}
	if v := d.Validity; v != nil {
		a.NotAfter = aws.ToTime(v.NotAfter)
	}
	return a, nil
}

// Attached implements trace.Reader.
func (r *Reader) Attached(ctx context.Context, target string) ([]string, error) {
	return whole(list(ctx, entriesMax, func(ctx context.Context, token *string) ([]string, *string, error) {
		out, err := r.iot.ListAttachedPolicies(ctx, &iot.ListAttachedPoliciesInput{Target: &target, PageSize: aws.Int32(pageSize), Marker: token})
		if err != nil {
			return nil, nil, r.explain(err, "iot:ListAttachedPolicies")
		}
		var names []string
		for _, p := range out.Policies {
			names = append(names, aws.ToString(p.PolicyName))
		}
		return names, out.NextMarker, nil
	}))
}

// Policies implements trace.Reader.
func (r *Reader) Policies(ctx context.Context) ([]string, bool, error) {
	return list(ctx, pageSize, func(ctx context.Context, token *string) ([]string, *string, error) {
		out, err := r.iot.ListPolicies(ctx, &iot.ListPoliciesInput{PageSize: aws.Int32(pageSize), Marker: token})
		if err != nil {
			return nil, nil, r.explain(err, "iot:ListPolicies")
		}
		var names []string
		for _, p := range out.Policies {
			names = append(names, aws.ToString(p.PolicyName))
		}
		return names, out.NextMarker, nil
	})
}

// Policy implements trace.Reader.
func (r *Reader) Policy(ctx context.Context, name string) (trace.Policy, error) {
	out, err := r.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: &name})
	if err != nil {
		return trace.Policy{}, r.explain(err, "iot:GetPolicy")
	}
	return trace.Policy{Name: name, Version: aws.ToString(out.DefaultVersionId), Document: aws.ToString(out.PolicyDocument)}, nil
}

// RoleAliases implements trace.Reader.
func (r *Reader) RoleAliases(ctx context.Context) ([]string, error) {
	return whole(list(ctx, entriesMax, func(ctx context.Context, token *string) ([]string, *string, error) {
		out, err := r.iot.ListRoleAliases(ctx, &iot.ListRoleAliasesInput{PageSize: aws.Int32(pageSize), Marker: token})
		if err != nil {
			return nil, nil, r.explain(err, "iot:ListRoleAliases")
		}
		return out.RoleAliases, out.NextMarker, nil
	}))
}

// RoleAlias implements trace.Reader.
func (r *Reader) RoleAlias(ctx context.Context, name string) (trace.RoleAlias, error) {
	out, err := r.iot.DescribeRoleAlias(ctx, &iot.DescribeRoleAliasInput{RoleAlias: &name})
	if err != nil {
		return trace.RoleAlias{}, r.explain(err, "iot:DescribeRoleAlias")
	}
	d := out.RoleAliasDescription
	if d == nil {
		return trace.RoleAlias{}, &trace.ReadError{Action: "iot:DescribeRoleAlias", Detail: "the answer describes no role alias"}
	}
	return trace.RoleAlias{
		Name: name, ARN: aws.ToString(d.RoleAliasArn), Role: aws.ToString(d.RoleArn),
		Duration: time.Duration(aws.ToInt32(d.CredentialDurationSeconds)) * time.Second,
	}, nil
}

// Endpoint implements trace.Reader.
func (r *Reader) Endpoint(ctx context.Context, kind string) (string, error) {
	out, err := r.iot.DescribeEndpoint(ctx, &iot.DescribeEndpointInput{EndpointType: &kind})
	if err != nil {
		return "", r.explain(err, "iot:DescribeEndpoint")
	}
	return aws.ToString(out.EndpointAddress), nil
}
