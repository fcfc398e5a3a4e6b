package iotverifier

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go/middleware"

	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/wire"
	"github.com/gatehouse-edge/gatehouse/messages"
)

const (
	describeCertificate = "iot:DescribeCertificate"
	listThingPrincipals = "iot:ListThingPrincipals"
	notFound            = "ResourceNotFoundException"

	defaultTimeout = 2 * time.Second // a device is waiting
	pageSize       = 100
	pagesMax       = 20 // of one thing's principals; AWS allows a thing far fewer
)

// Config says who asks and how.
type Config struct {
	Control control.Config // Timeout is for a whole question: 2 s by default
	// Core is the core's own certificate. Before the first no counts, this account and
	// region must know it. Required.
	Core messages.CertificateID
}

// Verifier asks AWS IoT's control plane. It is safe for use by many goroutines at once, and
// never retries: the caller has stored trust to fall back on.
type Verifier struct {
	control  *control.Client
	client   *iot.Client
	endpoint string
	core     messages.CertificateID
	knowsUs  atomic.Bool // the core's own certificate was found
}

// New checks cfg and returns a verifier. It connects to nothing yet. Close it.
func New(cfg Config) (*Verifier, error) {
	if _, err := messages.ParseCertificateID(string(cfg.Core)); err != nil {
		return nil, fmt.Errorf("iot verifier: the core's own certificate: %w", err)
	}
	c, err := control.New(cfg.Control, defaultTimeout)
	if err != nil {
		return nil, fmt.Errorf("iot verifier: %w", err)
	}
	v := &Verifier{control: c, core: cfg.Core}
	resolved, err := iot.NewDefaultEndpointResolverV2().ResolveEndpoint(context.Background(), iot.EndpointParameters{Region: &c.Region, Endpoint: c.BaseEndpoint})
	if err != nil {
		return nil, fmt.Errorf("iot verifier: %w", err)
	}
	v.endpoint = resolved.URI.String()
	v.client = iot.New(iot.Options{
		Region: c.Region, BaseEndpoint: &v.endpoint, Credentials: c.Credentials, HTTPClient: c, HTTPSignerV4: c, Retryer: aws.NopRetryer{},
	})
	return v, nil
}

// Close drops idle connections.
func (v *Verifier) Close() { v.control.Close() }

// Probe asks the endpoint for nothing in particular, and returns no error if the service
// answers, whatever it says, and its own time; zero: it did not tell.
func (v *Verifier) Probe(ctx context.Context) (date time.Time, err error) {
	return v.control.Probe(ctx, v.endpoint+"/")
}

// Ask puts one question: an identity question if it names no thing, else one about an
// association. It returns within the configured timeout, or when ctx ends.
func (v *Verifier) Ask(ctx context.Context, q messages.CloudQuestion) messages.CloudAnswer {
	if err := wire.CheckQuestion(q); err != nil {
		return wire.Silent(messages.FailureNotAsked, "not asked: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, v.control.Timeout)
	defer cancel()
	answer := v.identity
	if q.Thing != "" {
		answer = v.association
	}
	a := answer(ctx, q)
	if a.Verdict != messages.CloudDenied || v.knowsUs.Load() {
		return a
	}
	if doubt := v.findCore(ctx); doubt != nil {
		return *doubt
	}
	return a
}

func (v *Verifier) explain(err error, action string) *control.Failure {
	return v.control.Explain(err, v.endpoint, action)
}

// findCore returns nil if this account and region know the core's own certificate, else
// the silence that a no turns into.
func (v *Verifier) findCore(ctx context.Context) *messages.CloudAnswer {
	output, err := v.client.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: aws.String(string(v.core))})
	if err != nil {
		f := v.explain(err, describeCertificate)
		a := f.Answer()
		if isNotFound(f) {
			a = wire.Silent(messages.FailureRefused, "AWS IoT in %s does not know the core's own certificate, so its no about a device does not count: check cloud.region and the account of the credentials", v.control.Region)
		}
		return &a
	}
	if doubt := describes(output.CertificateDescription, v.core); doubt != "" {
		a := wire.Silent(messages.FailureNotService, "about the core's own certificate: %s", doubt)
		return &a
	}
	v.knowsUs.Store(true)
	return nil
}

// isNotFound tells the service's word that there is no such thing from what only bears its
// name: the name with the status it is modelled with.
func isNotFound(f *control.Failure) bool {
	return f.Name == notFound && f.Status == http.StatusNotFound
}

func (v *Verifier) identity(ctx context.Context, q messages.CloudQuestion) messages.CloudAnswer {
	output, err := v.client.DescribeCertificate(ctx, &iot.DescribeCertificateInput{CertificateId: aws.String(string(q.Certificate))})
	if err != nil {
		f := v.explain(err, describeCertificate)
		if isNotFound(f) {
			return denied(f.Date, "HTTP %d %s: no such certificate in %s", f.Status, f.Name, v.control.Region)
		}
		return f.Answer()
	}
	d := output.CertificateDescription
	if doubt := describes(d, q.Certificate); doubt != "" {
		return wire.Silent(messages.FailureNotService, "%s: not an answer", doubt)
	}
	date := serverTime(output.ResultMetadata)
	switch d.Status {
	case types.CertificateStatusActive:
	case types.CertificateStatusInactive, types.CertificateStatusRevoked, types.CertificateStatusPendingTransfer,
		types.CertificateStatusRegisterInactive, types.CertificateStatusPendingActivation:
		return denied(date, "the certificate is %s", d.Status)
	default:
		return wire.Silent(messages.FailureNotService, "status %.40q is not known: not an answer", d.Status)
	}
	// By the service's own clock: this machine's may be wrong, and judges elsewhere.
	if at := d.Validity; at != nil && !date.IsZero() {
		if at.NotBefore != nil && date.Before(*at.NotBefore) || at.NotAfter != nil && date.After(*at.NotAfter) {
			return denied(date, "the certificate is ACTIVE, but outside its validity")
		}
	}
	return messages.CloudAnswer{Verdict: messages.CloudConfirmed, Detail: "confirmed (ACTIVE)", Date: date}
}

// describes says why d is no description of the certificate id; "" if it is one. The
// certificate itself is compared: an id alone proves nothing.
func describes(d *types.CertificateDescription, id messages.CertificateID) string {
	if d == nil {
		return "no description of a certificate"
	}
	if got := aws.ToString(d.CertificateId); got != string(id) {
		return fmt.Sprintf("a description of certificate %.70q, not of %.12s…", got, id)
	}
	block, _ := pem.Decode([]byte(aws.ToString(d.CertificatePem)))
	if block == nil || block.Type != "CERTIFICATE" {
		return "a description without a PEM certificate"
	}
	if got := messages.CertificateIDOf(block.Bytes); got != id {
		return fmt.Sprintf("a description with another certificate, %.12s…, than %.12s…", got, id)
	}
	return ""
}

func (v *Verifier) association(ctx context.Context, q messages.CloudQuestion) messages.CloudAnswer {
	input := &iot.ListThingPrincipalsInput{ThingName: aws.String(string(q.Thing)), MaxResults: aws.Int32(pageSize)}
	tokens := map[string]bool{}
	var doubt error
	for range pagesMax {
		output, err := v.client.ListThingPrincipals(ctx, input)
		if err != nil {
			f := v.explain(err, listThingPrincipals)
			// On a later page it would be about the token.
			if isNotFound(f) && input.NextToken == nil {
				return denied(f.Date, "HTTP %d %s: no such thing in %s", f.Status, f.Name, v.control.Region)
			}
			return f.Answer()
		}
		if output.Principals == nil {
			return wire.Silent(messages.FailureNotService, "no principals in the answer: an empty list is [], so this is none")
		}
		for _, principal := range output.Principals {
			id, err := control.CertificateOf(principal)
			if err != nil {
				doubt = err
			}
			if id == q.Certificate {
				return messages.CloudAnswer{Verdict: messages.CloudConfirmed, Detail: "confirmed (attached)", Date: serverTime(output.ResultMetadata)}
			}
		}
		token := aws.ToString(output.NextToken)
		switch {
		case token == "" && doubt != nil:
			return wire.Silent(messages.FailureNotService, "%v", doubt)
		case token == "":
			return denied(serverTime(output.ResultMetadata), "the certificate is not among the thing's principals")
		case tokens[token]:
			return wire.Silent(messages.FailureNotService, "the list of the thing's principals goes round in circles")
		}
		tokens[token] = true
		input.NextToken = &token
	}
	return wire.Silent(messages.FailureNotService, "the thing has more than %d pages of principals: they were not all read", pagesMax)
}

func denied(date time.Time, format string, args ...any) messages.CloudAnswer {
	return messages.CloudAnswer{Verdict: messages.CloudDenied, Detail: wire.Detail(format, args...), Date: date}
}

func serverTime(metadata middleware.Metadata) time.Time {
	date, _ := awsmiddleware.GetServerTime(metadata)
	if date.IsZero() {
		return time.Time{}
	}
	return date.UTC()
}
