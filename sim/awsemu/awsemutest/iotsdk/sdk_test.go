// Package iotsdk_test lets aws-sdk-go-v2's IoT client judge the emulated cloud. It is
// alone in its folder because that client takes over a minute to build.
package iotsdk_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"github.com/aws/aws-sdk-go-v2/service/iot/types"
	"github.com/aws/smithy-go"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

func client(t *testing.T, c *awsemutest.Cloud, keys awsemu.Credentials, region string) *iot.Client {
	t.Helper()
	return iot.New(iot.Options{
		Region: region, BaseEndpoint: aws.String(c.ControlURL()), HTTPClient: c.HTTPClient(t), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken),
	})
}

func TestDescribeAndList(t *testing.T) {
	c := awsemutest.Start(t, 120, time.Now)
	var keys awsemu.Credentials
	keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken = c.Credentials()
	core := client(t, c, keys, awsemu.Region) // what a core may

	described, err := core.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: aws.String(string(c.Device.ID))})
	if err != nil {
		t.Fatal(err)
	}
	d := described.CertificateDescription
	if d.Status != types.CertificateStatusActive || *d.CertificateId != string(c.Device.ID) || *d.CertificatePem != string(c.Device.CertificatePEM) ||
		!d.Validity.NotAfter.After(time.Now()) || !d.Validity.NotBefore.Before(time.Now()) {
		t.Errorf("certificate: %+v, validity %+v", d, d.Validity)
	}
	principals, err := core.ListThingPrincipals(t.Context(), &iot.ListThingPrincipalsInput{ThingName: aws.String(awsemutest.Thing(0))})
	if err != nil || !slices.Equal(principals.Principals, []string{*d.CertificateArn}) {
		t.Errorf("principals: %v, %v", principals, err)
	}
	objects, err := core.ListThingPrincipalsV2(t.Context(), &iot.ListThingPrincipalsV2Input{ThingName: aws.String(awsemutest.Thing(0))})
	if err != nil || len(objects.ThingPrincipalObjects) != 1 || *objects.ThingPrincipalObjects[0].Principal != *d.CertificateArn ||
		objects.ThingPrincipalObjects[0].ThingPrincipalType != types.ThingPrincipalTypeNonExclusiveThing {
		t.Errorf("principals, version 2: %v, %v", objects, err)
	}

	admin := client(t, c, c.AdminCredentials(), awsemu.Region)
	var names []string
	for paginator := iot.NewListThingsPaginator(admin, &iot.ListThingsInput{}); paginator.HasMorePages(); {
		page, err := paginator.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, thing := range page.Things {
			names = append(names, *thing.ThingName)
		}
	}
	if len(names) != 121 || !slices.IsSorted(names) {
		t.Errorf("%d things: %v", len(names), names)
	}
	thing, err := admin.DescribeThing(t.Context(), &iot.DescribeThingInput{ThingName: aws.String(awsemutest.Thing(3))})
	if err != nil || *thing.ThingName != awsemutest.Thing(3) || !strings.HasSuffix(*thing.ThingArn, ":thing/"+awsemutest.Thing(3)) {
		t.Errorf("thing: %v, %v", thing, err)
	}
	endpoint, err := admin.DescribeEndpoint(t.Context(), &iot.DescribeEndpointInput{EndpointType: aws.String("iot:Data-ATS")})
	if err != nil || "https://"+*endpoint.EndpointAddress != c.URL() {
		t.Errorf("endpoint: %v, %v", endpoint, err)
	}
}

func TestRefusals(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	admin := c.AdminCredentials()
	stolen := admin
	stolen.SecretAccessKey += "x"
	unable, err := c.IssueCredentials(awsemu.Role{Name: "nobody"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]struct {
		keys          awsemu.Credentials
		region, id    string
		status        int
		code, message string
	}{
		"wrong secret":   {stolen, awsemu.Region, string(c.Device.ID), 403, "InvalidSignatureException", "does not match the signature"},
		"unknown key":    {awsemu.Credentials{AccessKeyID: "AKIANOBODY", SecretAccessKey: "x"}, awsemu.Region, string(c.Device.ID), 403, "UnrecognizedClientException", "invalid"},
		"expired":        {c.Expired(t), awsemu.Region, string(c.Device.ID), 403, "ExpiredTokenException", "expired"},
		"wrong region":   {admin, "us-east-1", string(c.Device.ID), 403, "InvalidSignatureException", "valid region"},
		"not allowed":    {unable, awsemu.Region, string(c.Device.ID), 403, "AccessDeniedException", "not authorized to perform: iot:DescribeCertificate"},
		"no such":        {admin, awsemu.Region, strings.Repeat("0", 64), 404, "ResourceNotFoundException", "does not exist"},
		"no certificate": {admin, awsemu.Region, "abc/../def", 400, "InvalidRequestException", "certificateId"},
	} {
		_, err := client(t, c, w.keys, w.region).DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: aws.String(w.id)})
		api, isAPI := errors.AsType[smithy.APIError](err)
		response, isHTTP := errors.AsType[*awshttp.ResponseError](err)
		if !isAPI || !isHTTP || api.ErrorCode() != w.code || response.HTTPStatusCode() != w.status || !strings.Contains(api.ErrorMessage(), w.message) {
			t.Errorf("%s: got %v, want %d %s with %q", name, err, w.status, w.code, w.message)
		}
		if _, typed := errors.AsType[*types.ResourceNotFoundException](err); typed != (w.status == 404) {
			t.Errorf("%s is of type %T", name, err)
		}
	}
}
