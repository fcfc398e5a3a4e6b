package iotregistry

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	greengrasstypes "github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/registrar"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

const defaultTimeout = 10 * time.Second

// Config says who asks and how.
type Config struct {
	Control control.Config     // Timeout is for one exchange: 10 s by default
	Core    messages.ThingName // what devices are associated with; "": nothing is
}

// Client asks AWS IoT. Its errors are *registrar.Problem. It is safe for use by many
// goroutines at once.
type Client struct {
	control    *control.Client
	iot        *iot.Client
	greengrass *greengrassv2.Client
	core       messages.ThingName
	host       string // for people
}

var _ registrar.Cloud = (*Client)(nil)

// New checks cfg and returns a client. It connects to nothing yet. Close it.
func New(cfg Config) (*Client, error) {
	cfg.Control.EmptyAnswers = true // most of these operations answer nothing
	c, err := control.New(cfg.Control, defaultTimeout)
	if err != nil {
		return nil, fmt.Errorf("iot registry: %w", err)
	}
	client := &Client{control: c, core: cfg.Core, host: "AWS IoT in " + c.Region}
	if c.BaseEndpoint != nil {
		client.host = *c.BaseEndpoint
	}
	client.iot = iot.New(iot.Options{
		Region: c.Region, BaseEndpoint: c.BaseEndpoint, Credentials: c.Credentials, HTTPClient: c, HTTPSignerV4: c, Retryer: aws.NopRetryer{},
	})
	client.greengrass = greengrassv2.New(greengrassv2.Options{
		Region: c.Region, BaseEndpoint: c.BaseEndpoint, Credentials: c.Credentials, HTTPClient: c, HTTPSignerV4: c, Retryer: aws.NopRetryer{},
	})
	return client, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.control.Close() }

// Names of errors that say something beside a failure.
const (
	notFound      = "ResourceNotFoundException"
	alreadyExists = "ResourceAlreadyExistsException"
	limitExceeded = "LimitExceededException"
)

// problem says why a call for action failed; nil if err is.
func (c *Client) problem(err error, action string) error {
	if err == nil {
		return nil
	}
	f := c.control.Explain(err, c.host, action)
	p := &registrar.Problem{Class: f.Class, RetryAfter: f.RetryAfter, Detail: f.Detail}
	switch {
	case f.Name == notFound && f.Status == http.StatusNotFound:
		p.Is, p.Final, p.Detail = registrar.ErrNotThere, true, fmt.Sprintf("%s: there is no such resource in %s", action, c.control.Region)
	case f.Name == alreadyExists && f.Status == http.StatusConflict:
		p.Is, p.Final, p.Detail = registrar.ErrThere, true, fmt.Sprintf("%s: the resource exists already, and is another", action)
	case f.Name == limitExceeded:
		// One of AWS' bounds on a resource, not on how often it is asked (cloud spec 4.6). An
		// operator may have it raised, so that nobody is given up for it.
		p.Class = messages.FailureServer
	case f.Status == http.StatusConflict:
		// Somebody else changes the same thing, in a way that may be over in a moment.
	case f.Class == messages.FailureServer && f.Status < 500 && f.Status != 0:
		p.Final = true
	}
	if p.Final && p.Is == nil {
		p.Detail = fmt.Sprintf("%s: HTTP %d %s: %.160q", action, f.Status, f.Name, messageOf(err))
	}
	return p
}

func messageOf(err error) string {
	if api, ok := errors.AsType[interface {
		error
		ErrorMessage() string
	}](err); ok {
		return api.ErrorMessage()
	}
	return err.Error()
}

// notService is what an answer is that makes no sense.
func notService(format string, args ...any) error {
	return &registrar.Problem{Class: messages.FailureNotService, Detail: fmt.Sprintf(format, args...)}
}

func encode(der []byte) *string {
	return aws.String(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// Certificate implements registrar.Cloud.
func (c *Client) Certificate(ctx context.Context, id messages.CertificateID) (registrar.Certificate, error) {
	var known registrar.Certificate
	output, err := c.iot.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: aws.String(string(id))})
	if err != nil {
		return known, c.problem(err, "iot:DescribeCertificate")
	}
	d := output.CertificateDescription
	if d == nil || aws.ToString(d.CertificateId) != string(id) || d.Status == "" {
		return known, notService("iot:DescribeCertificate: no description of certificate %.12s…", id)
	}
	block, _ := pem.Decode([]byte(aws.ToString(d.CertificatePem)))
	if block == nil || block.Type != "CERTIFICATE" || messages.CertificateIDOf(block.Bytes) != id {
		return known, notService("iot:DescribeCertificate: the certificate described is not %.12s…", id)
	}
	if arn := aws.ToString(d.CertificateArn); arn != "" {
		if described, err := control.CertificateOf(arn); err != nil || described != id {
			return known, notService("iot:DescribeCertificate: ARN %.120q is not that of %.12s…", arn, id)
		}
		known.ARN = arn
	} else {
		return known, notService("iot:DescribeCertificate: no ARN")
	}
	known.DER, known.Status = block.Bytes, string(d.Status)
	known.Untouched = d.CreationDate != nil && d.LastModifiedDate != nil && d.CreationDate.Equal(*d.LastModifiedDate)
	if authority := aws.ToString(d.CaCertificateId); authority != "" {
		if known.Authority, err = messages.ParseCertificateID(authority); err != nil {
			return registrar.Certificate{}, notService("iot:DescribeCertificate: caCertificateId: %v", err)
		}
	}
	return known, nil
}

// Register implements registrar.Cloud.
func (c *Client) Register(ctx context.Context, der, authorityDER []byte) error {
	output, err := c.iot.RegisterCertificate(ctx, &iot.RegisterCertificateInput{
		CertificatePem: encode(der), CaCertificatePem: encode(authorityDER), Status: types.CertificateStatusInactive,
	})
	if err != nil {
		return c.problem(err, "iot:RegisterCertificate")
	}
	if id := aws.ToString(output.CertificateId); id != string(messages.CertificateIDOf(der)) {
		return notService("iot:RegisterCertificate: registered as %.70q, not as the certificate's digest", id)
	}
	return nil
}

// SetStatus implements registrar.Cloud.
func (c *Client) SetStatus(ctx context.Context, id messages.CertificateID, status string) error {
	_, err := c.iot.UpdateCertificate(ctx, &iot.UpdateCertificateInput{CertificateId: aws.String(string(id)), NewStatus: types.CertificateStatus(status)})
	return c.problem(err, "iot:UpdateCertificate")
}

const pageSize = 250 // the most AWS gives

// Pending implements registrar.Cloud.
func (c *Client) Pending(ctx context.Context, authority messages.CertificateID, marker string) ([]messages.CertificateID, string, error) {
	input := &iot.ListCertificatesByCAInput{CaCertificateId: aws.String(string(authority)), PageSize: aws.Int32(pageSize)}
	if marker != "" {
		input.Marker = aws.String(marker)
	}
	output, err := c.iot.ListCertificatesByCA(ctx, input)
	if err != nil {
		return nil, "", c.problem(err, "iot:ListCertificatesByCA")
	}
	if output.Certificates == nil {
		return nil, "", notService("iot:ListCertificatesByCA: no certificates in the answer: an empty list is []")
	}
	var ids []messages.CertificateID
	for _, found := range output.Certificates {
		if found.Status != types.CertificateStatusPendingActivation {
			continue
		}
		id, err := messages.ParseCertificateID(aws.ToString(found.CertificateId))
		if err != nil {
			return nil, "", notService("iot:ListCertificatesByCA: %v", err)
		}
		ids = append(ids, id)
	}
	return ids, aws.ToString(output.NextMarker), nil
}

const principalPagesMax = 20

// Principals implements registrar.Cloud. Of a thing with more than it reads it knows nothing.
func (c *Client) Principals(ctx context.Context, thing messages.ThingName) ([]string, error) {
	input := &iot.ListThingPrincipalsInput{ThingName: aws.String(string(thing)), MaxResults: aws.Int32(100)}
	var list []string
	for range principalPagesMax {
		output, err := c.iot.ListThingPrincipals(ctx, input)
		if err != nil {
			return nil, c.problem(err, "iot:ListThingPrincipals")
		}
		if output.Principals == nil {
			return nil, notService("iot:ListThingPrincipals: no principals in the answer: an empty list is []")
		}
		list = append(list, output.Principals...)
		if aws.ToString(output.NextToken) == "" {
			return list, nil
		}
		input.NextToken = output.NextToken
	}
	return nil, notService("iot:ListThingPrincipals: thing %s has more than %d pages of principals", thing, principalPagesMax)
}

// CreateThing implements registrar.Cloud.
func (c *Client) CreateThing(ctx context.Context, plan registration.Plan) error {
	input := &iot.CreateThingInput{ThingName: aws.String(string(plan.Thing))}
	if plan.ThingType != "" {
		input.ThingTypeName = aws.String(plan.ThingType)
	}
	if len(plan.Attributes) > 0 {
		input.AttributePayload = &types.AttributePayload{Attributes: plan.Attributes}
	}
	_, err := c.iot.CreateThing(ctx, input)
	return c.problem(err, "iot:CreateThing")
}

// AddToGroup implements registrar.Cloud.
func (c *Client) AddToGroup(ctx context.Context, thing messages.ThingName, group string) error {
	_, err := c.iot.AddThingToThingGroup(ctx, &iot.AddThingToThingGroupInput{ThingName: aws.String(string(thing)), ThingGroupName: aws.String(group)})
	return c.problem(err, "iot:AddThingToThingGroup")
}

// AttachThing implements registrar.Cloud.
func (c *Client) AttachThing(ctx context.Context, thing messages.ThingName, certificateARN string) error {
	_, err := c.iot.AttachThingPrincipal(ctx, &iot.AttachThingPrincipalInput{ThingName: aws.String(string(thing)), Principal: aws.String(certificateARN)})
	return c.problem(err, "iot:AttachThingPrincipal")
}

// DetachThing implements registrar.Cloud.
func (c *Client) DetachThing(ctx context.Context, thing messages.ThingName, certificateARN string) error {
	_, err := c.iot.DetachThingPrincipal(ctx, &iot.DetachThingPrincipalInput{ThingName: aws.String(string(thing)), Principal: aws.String(certificateARN)})
	if err = c.problem(err, "iot:DetachThingPrincipal"); errors.Is(err, registrar.ErrNotThere) {
		return nil // it is not attached
	}
	return err
}

// Policy implements registrar.Cloud.
func (c *Client) Policy(ctx context.Context, name string) (string, error) {
	output, err := c.iot.GetPolicy(ctx, &iot.GetPolicyInput{PolicyName: aws.String(name)})
	if err != nil {
		return "", c.problem(err, "iot:GetPolicy")
	}
	if aws.ToString(output.PolicyDocument) == "" {
		return "", notService("iot:GetPolicy: no document of policy %s", name)
	}
	return *output.PolicyDocument, nil
}

// CreatePolicy implements registrar.Cloud.
func (c *Client) CreatePolicy(ctx context.Context, name, document string) error {
	_, err := c.iot.CreatePolicy(ctx, &iot.CreatePolicyInput{PolicyName: aws.String(name), PolicyDocument: aws.String(document)})
	return c.problem(err, "iot:CreatePolicy")
}

// AttachPolicy implements registrar.Cloud.
func (c *Client) AttachPolicy(ctx context.Context, name, certificateARN string) error {
	_, err := c.iot.AttachPolicy(ctx, &iot.AttachPolicyInput{PolicyName: aws.String(name), Target: aws.String(certificateARN)})
	return c.problem(err, "iot:AttachPolicy")
}

// Associate implements registrar.Cloud.
func (c *Client) Associate(ctx context.Context, thing messages.ThingName) error {
	const action = "greengrass:BatchAssociateClientDeviceWithCoreDevice"
	if c.core == "" {
		return &registrar.Problem{Final: true, Detail: action + ": the core's own thing name is not configured (cloud.thingName)"}
	}
	output, err := c.greengrass.BatchAssociateClientDeviceWithCoreDevice(ctx, &greengrassv2.BatchAssociateClientDeviceWithCoreDeviceInput{
		CoreDeviceThingName: aws.String(string(c.core)), Entries: []greengrasstypes.AssociateClientDeviceWithCoreDeviceEntry{{ThingName: aws.String(string(thing))}},
	})
	if err != nil {
		return c.problem(err, action)
	}
	for _, e := range output.ErrorEntries {
		return &registrar.Problem{Class: messages.FailureServer, Final: true, Detail: fmt.Sprintf("%s: %.60q: %.160q", action, aws.ToString(e.Code), aws.ToString(e.Message))}
	}
	return nil
}
