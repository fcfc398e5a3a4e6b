// Package greengrasssdk_test lets aws-sdk-go-v2's Greengrass client judge the emulated
// cloud. It is apart from the emulator's own tests because the client takes long to build.
package greengrasssdk_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/smithy-go"
	smithyauth "github.com/aws/smithy-go/auth"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

func client(t *testing.T, c *awsemutest.Cloud, keys awsemu.Credentials, change ...func(*greengrassv2.Options)) *greengrassv2.Client {
	t.Helper()
	return greengrassv2.New(greengrassv2.Options{
		Region: awsemu.Region, BaseEndpoint: aws.String(c.ControlURL()), HTTPClient: c.HTTPClient(t), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken),
	}, change...)
}

func role(c *awsemutest.Cloud) (keys awsemu.Credentials) {
	keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken = c.Credentials()
	return keys
}

// list lists all pages.
func list(ctx context.Context, client *greengrassv2.Client) (things []string, pages int, err error) {
	paginator := greengrassv2.NewListClientDevicesAssociatedWithCoreDevicePaginator(client, &greengrassv2.ListClientDevicesAssociatedWithCoreDeviceInput{
		CoreDeviceThingName: aws.String(awsemutest.Core),
	})
	for paginator.HasMorePages() {
		page, err := paginator.NextPage(ctx)
		if err != nil {
			return things, pages, err
		}
		pages++
		for _, d := range page.AssociatedClientDevices {
			if d.AssociationTimestamp.IsZero() {
				return things, pages, fmt.Errorf("%s was associated at no time", *d.ThingName)
			}
			things = append(things, *d.ThingName)
		}
	}
	return things, pages, nil
}

// wantError compares an error with what AWS answers: status, code, part of the message.
func wantError(t *testing.T, what string, err error, status int, code, message string) {
	t.Helper()
	api, isAPI := errors.AsType[smithy.APIError](err)
	response, isHTTP := errors.AsType[*awshttp.ResponseError](err)
	if !isAPI || !isHTTP || api.ErrorCode() != code || response.HTTPStatusCode() != status || !strings.Contains(api.ErrorMessage(), message) || response.ServiceRequestID() == "" {
		t.Errorf("%s: got %v, want %d %s with %q", what, err, status, code, message)
	}
}

func TestListAndAssociate(t *testing.T) {
	c := awsemutest.Start(t, 250, time.Now)
	things, pages, err := list(t.Context(), client(t, c, role(c)))
	if err != nil || len(things) != 250 || pages != 3 || !slices.IsSorted(things) {
		t.Fatalf("%d things in %d pages, %v", len(things), pages, err)
	}

	admin := client(t, c, c.AdminCredentials())
	out, err := admin.BatchDisassociateClientDeviceFromCoreDevice(t.Context(), &greengrassv2.BatchDisassociateClientDeviceFromCoreDeviceInput{
		CoreDeviceThingName: aws.String(awsemutest.Core), Entries: []types.DisassociateClientDeviceFromCoreDeviceEntry{{ThingName: aws.String(awsemutest.Thing(7))}},
	})
	if err != nil || len(out.ErrorEntries) > 0 {
		t.Fatalf("disassociate: %v, %v", out, err)
	}
	if things, _, err = list(t.Context(), admin); err != nil || len(things) != 249 || slices.Contains(things, awsemutest.Thing(7)) {
		t.Errorf("%d things, %v", len(things), err)
	}
	in, err := admin.BatchAssociateClientDeviceWithCoreDevice(t.Context(), &greengrassv2.BatchAssociateClientDeviceWithCoreDeviceInput{
		CoreDeviceThingName: aws.String(awsemutest.Core),
		Entries:             []types.AssociateClientDeviceWithCoreDeviceEntry{{ThingName: aws.String(awsemutest.Thing(7))}, {ThingName: aws.String("nobody")}},
	})
	if err != nil || len(in.ErrorEntries) != 1 || *in.ErrorEntries[0].ThingName != "nobody" || *in.ErrorEntries[0].Code != "ResourceNotFoundException" {
		t.Fatalf("associate: %v, %v", in, err)
	}
	if things, _, err = list(t.Context(), admin); err != nil || len(things) != 250 {
		t.Errorf("%d things, %v", len(things), err)
	}
}

// The SDK finds the emulated cloud by the environment, as aws.env sets it.
func TestByTheEnvironmentAlone(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	accessKey, secret, session := c.Credentials()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": c.ControlURL(), "AWS_CA_BUNDLE": c.CAFile(t), "AWS_REGION": awsemu.Region, "AWS_ACCESS_KEY_ID": accessKey,
		"AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": session, "AWS_CONFIG_FILE": "/nonexistent", "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
	} {
		t.Setenv(name, value)
	}
	cfg, err := config.LoadDefaultConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if things, _, err := list(t.Context(), greengrassv2.NewFromConfig(cfg)); err != nil || len(things) != 1 {
		t.Errorf("got %v, %v", things, err)
	}
}

// scoped signs for another service.
type scoped string

func (s scoped) ResolveAuthSchemes(context.Context, *greengrassv2.AuthResolverParameters) ([]*smithyauth.Option, error) {
	option := &smithyauth.Option{SchemeID: smithyauth.SchemeIDSigV4}
	smithyhttp.SetSigV4SigningName(&option.SignerProperties, string(s))
	smithyhttp.SetSigV4SigningRegion(&option.SignerProperties, awsemu.Region)
	return []*smithyauth.Option{option}, nil
}

// Refusals of who asks, as AWS gives them (cloud spec 7.10, 7.11).
func TestRefusals(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	stolen, forged := c.AdminCredentials(), role(c)
	stolen.SecretAccessKey += "x"
	forged.SessionToken += "x"
	unable, err := c.IssueCredentials(awsemu.Role{Name: "nobody"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, w := range map[string]struct {
		client        *greengrassv2.Client
		code, message string
	}{
		"wrong secret":        {client(t, c, stolen), "InvalidSignatureException", "does not match the signature you provided"},
		"wrong session token": {client(t, c, forged), "UnrecognizedClientException", "is invalid"},
		"unknown key":         {client(t, c, awsemu.Credentials{AccessKeyID: "AKIANOBODY", SecretAccessKey: "x"}), "UnrecognizedClientException", "is invalid"},
		"expired":             {client(t, c, c.Expired(t)), "ExpiredTokenException", "is expired"},
		"wrong region":        {client(t, c, role(c), func(o *greengrassv2.Options) { o.Region = "us-east-1" }), "InvalidSignatureException", "valid region, not 'us-east-1'"},
		"wrong service":       {client(t, c, role(c), func(o *greengrassv2.Options) { o.AuthSchemeResolver = scoped("iot") }), "InvalidSignatureException", "correct service: 'greengrass'"},
		"unsigned":            {client(t, c, role(c), func(o *greengrassv2.Options) { o.Credentials = aws.AnonymousCredentials{} }), "MissingAuthenticationTokenException", "Missing"},
		"not allowed":         {client(t, c, unable), "AccessDeniedException", "is not authorized to perform: greengrass:ListClientDevicesAssociatedWithCoreDevice"},
	} {
		_, _, err := list(t.Context(), w.client)
		wantError(t, name, err, 403, w.code, w.message)
		if _, typed := errors.AsType[*types.AccessDeniedException](err); typed != (name == "not allowed") {
			t.Errorf("%s is of type %T", name, err)
		}
	}
}

// A clock that is an hour off is refused; told to try again, the SDK goes by the
// answer's Date (cloud spec 7.9).
func TestSkewedClock(t *testing.T) {
	for name, skew := range map[string]time.Duration{"Signature expired": time.Hour, "Signature not yet current": -time.Hour} {
		c := awsemutest.Start(t, 1, func() time.Time { return time.Now().Add(skew) })
		_, _, err := list(t.Context(), client(t, c, role(c)))
		wantError(t, name, err, 403, "InvalidSignatureException", name)
		things, _, err := list(t.Context(), client(t, c, role(c), func(o *greengrassv2.Options) { o.RetryMaxAttempts = 3 }))
		if err != nil || len(things) != 1 {
			t.Errorf("%s, tried again: %v, %v", name, things, err)
		}
	}
}

func TestErrorsAreTyped(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	admin := client(t, c, c.AdminCredentials())
	_, err := admin.ListClientDevicesAssociatedWithCoreDevice(t.Context(), &greengrassv2.ListClientDevicesAssociatedWithCoreDeviceInput{
		CoreDeviceThingName: aws.String(awsemutest.Core), NextToken: aws.String("made-up"),
	})
	wantError(t, "bad token", err, 400, "ValidationException", "nextToken")
	_, err = admin.ListClientDevicesAssociatedWithCoreDevice(t.Context(), &greengrassv2.ListClientDevicesAssociatedWithCoreDeviceInput{CoreDeviceThingName: aws.String("a:b")})
	if missing, ok := errors.AsType[*types.ResourceNotFoundException](err); !ok || aws.ToString(missing.ResourceId) != "a:b" {
		t.Errorf("no such core: %v", err)
	}

	// Throttled twice, the SDK's standard retryer comes through at its third attempt.
	s := fault.Script{Faults: []fault.Fault{{Operation: awsemu.OpListClientDevices, Count: 2, Status: 429, ErrorType: "ThrottlingException", RetryAfter: time.Second}}}
	if err := c.SetFaults(s); err != nil {
		t.Fatal(err)
	}
	before := c.Calls(awsemu.OpListClientDevices)
	patient := client(t, c, role(c), func(o *greengrassv2.Options) { o.RetryMaxAttempts = 3 })
	if things, _, err := list(t.Context(), patient); err != nil || len(things) != 1 || c.Calls(awsemu.OpListClientDevices) != before+3 {
		t.Errorf("throttled twice: %v, %v, %d calls", things, err, c.Calls(awsemu.OpListClientDevices)-before)
	}
	if err := c.SetFaults(s); err != nil {
		t.Fatal(err)
	}
	_, _, err = list(t.Context(), client(t, c, role(c)))
	if throttled, ok := errors.AsType[*types.ThrottlingException](err); !ok || throttled.RetryAfterSeconds != 1 {
		t.Errorf("throttled: %#v", err)
	}
}

// At the data plane the stock client is anonymous: the core's certificate says who asks
// (cloud spec 1.6).
func TestConnectivityAtBothPlanes(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	admin := client(t, c, c.AdminCredentials())
	core := greengrassv2.New(greengrassv2.Options{
		Region: awsemu.Region, BaseEndpoint: aws.String(c.URL()), Credentials: aws.AnonymousCredentials{}, HTTPClient: c.CoreClient(t), RetryMaxAttempts: 1,
	})
	get := &greengrassv2.GetConnectivityInfoInput{ThingName: aws.String(awsemutest.Core)}
	_, err := core.GetConnectivityInfo(t.Context(), get)
	wantError(t, "never told", err, 404, "ResourceNotFoundException", "not found")
	for who, client := range map[string]*greengrassv2.Client{"admin": admin, "core": core} {
		updated, err := client.UpdateConnectivityInfo(t.Context(), &greengrassv2.UpdateConnectivityInfoInput{
			ThingName:        aws.String(awsemutest.Core),
			ConnectivityInfo: []types.ConnectivityInfo{{Id: aws.String("1"), HostAddress: aws.String(who + ".local"), PortNumber: 8883, Metadata: aws.String("")}},
		})
		if err != nil || aws.ToString(updated.Version) == "" {
			t.Fatalf("update by %s: %v, %v", who, updated, err)
		}
		for whose, other := range map[string]*greengrassv2.Client{"admin": admin, "core": core} {
			got, err := other.GetConnectivityInfo(t.Context(), get)
			if err != nil || len(got.ConnectivityInfo) != 1 || *got.ConnectivityInfo[0].HostAddress != who+".local" || got.ConnectivityInfo[0].PortNumber != 8883 {
				t.Errorf("%s gets what %s wrote: %v, %v", whose, who, got, err)
			}
		}
	}
	_, err = core.UpdateConnectivityInfo(t.Context(), &greengrassv2.UpdateConnectivityInfoInput{ThingName: aws.String("core-2"), ConnectivityInfo: []types.ConnectivityInfo{}})
	wantError(t, "another core's", err, 403, "AccessDeniedException", "UpdateConnectivityInfo")
	for _, f := range []awsemu.Fault{{Status: 429, ErrorType: "ThrottlingException"}, {Status: 500, ErrorType: "InternalServerException"}} {
		f.Operation = awsemu.OpGetConnectivityInfo
		if err := c.SetFault(f); err != nil {
			t.Fatal(err)
		}
		_, err := core.GetConnectivityInfo(t.Context(), get)
		wantError(t, "a fault", err, f.Status, f.ErrorType, "injected")
	}
}
