package iotregistry

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Authority is what AWS IoT says of a registered CA certificate.
type Authority struct {
	ARN              string `json:"certificateArn"`
	Active           bool   `json:"active"`
	AutoRegistration bool   `json:"autoRegistration"` // devices register themselves on their first connection
	SNIOnly          bool   `json:"sniOnly"`          // the mode, which cannot be changed
	Provisioned      bool   `json:"provisioned"`      // a template provisions its devices: no registrar is needed, nor heard
}

// RegistrationCode is the account's, which the certificate that proves possession of an
// authority's key carries as its common name.
func (c *Client) RegistrationCode(ctx context.Context) (string, error) {
	output, err := c.iot.GetRegistrationCode(ctx, &iot.GetRegistrationCodeInput{})
	if err != nil {
		return "", c.problem(err, "iot:GetRegistrationCode")
	}
	code := aws.ToString(output.RegistrationCode)
	if len(code) != 64 {
		return "", notService("iot:GetRegistrationCode: %.80q is no code of 64 characters", code)
	}
	return code, nil
}

// RegisterAuthority registers a CA certificate, ACTIVE and as autoRegistration says. Without a
// verification certificate it is registered as SNI_ONLY. registrar.ErrThere: it is there.
func (c *Client) RegisterAuthority(ctx context.Context, der, verificationDER []byte, autoRegistration bool) error {
	input := &iot.RegisterCACertificateInput{CaCertificate: encode(der), SetAsActive: true, AllowAutoRegistration: autoRegistration, CertificateMode: types.CertificateModeSniOnly}
	if verificationDER != nil {
		input.CertificateMode, input.VerificationCertificate = types.CertificateModeDefault, encode(verificationDER)
	}
	output, err := c.iot.RegisterCACertificate(ctx, input)
	if err != nil {
		return c.problem(err, "iot:RegisterCACertificate")
	}
	if id := aws.ToString(output.CertificateId); id != string(messages.CertificateIDOf(der)) {
		return notService("iot:RegisterCACertificate: registered as %.70q, not as the certificate's digest", id)
	}
	return nil
}

// DescribeAuthority tells what AWS IoT knows of a CA certificate; registrar.ErrNotThere if
// nothing.
func (c *Client) DescribeAuthority(ctx context.Context, id messages.CertificateID) (Authority, error) {
	output, err := c.iot.DescribeCACertificate(ctx, &iot.DescribeCACertificateInput{CertificateId: aws.String(string(id))})
	if err != nil {
		return Authority{}, c.problem(err, "iot:DescribeCACertificate")
	}
	d := output.CertificateDescription
	if d == nil || aws.ToString(d.CertificateId) != string(id) {
		return Authority{}, notService("iot:DescribeCACertificate: no description of %.12s…", id)
	}
	config := output.RegistrationConfig
	return Authority{
		ARN: aws.ToString(d.CertificateArn), Active: d.Status == types.CACertificateStatusActive, AutoRegistration: d.AutoRegistrationStatus == types.AutoRegistrationStatusEnable,
		SNIOnly:     d.CertificateMode == types.CertificateModeSniOnly,
		Provisioned: config != nil && (aws.ToString(config.TemplateBody) != "" || aws.ToString(config.TemplateName) != ""),
	}, nil
}

// UpdateAuthority makes a registered CA certificate ACTIVE, with autoRegistration as it says.
func (c *Client) UpdateAuthority(ctx context.Context, id messages.CertificateID, autoRegistration bool) error {
	auto := types.AutoRegistrationStatusDisable
	if autoRegistration {
		auto = types.AutoRegistrationStatusEnable
	}
	_, err := c.iot.UpdateCACertificate(ctx, &iot.UpdateCACertificateInput{CertificateId: aws.String(string(id)), NewStatus: types.CACertificateStatusActive, NewAutoRegistrationStatus: auto})
	return c.problem(err, "iot:UpdateCACertificate")
}
