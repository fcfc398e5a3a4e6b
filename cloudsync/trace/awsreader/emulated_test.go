package awsreader_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"
	ggtypes "github.com/aws/aws-sdk-go-v2/service/greengrassv2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	iottypes "github.com/aws/aws-sdk-go-v2/service/iot/types"

	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace/awsreader"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace/tracetest"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// TestTheTwelveFaultsInTheEmulatedCloud: planted there by AWS's stock clients, each is found
// and named, and without one nothing is.
func TestTheTwelveFaultsInTheEmulatedCloud(t *testing.T) {
	tracetest.Run(t, func(t *testing.T) tracetest.World { return newEmulated(t) })
}

// emulated is an emulated account, changed as an operator would, by stock clients.
type emulated struct {
	*awsemutest.Cloud
	local trace.Local
	ahead *atomic.Int64 // of the cloud's clock, ns
	iot   *iot.Client
	green *greengrassv2.Client
	iam   *iam.Client
}

func newEmulated(t *testing.T) *emulated {
	e := &emulated{ahead: &atomic.Int64{}}
	e.Cloud = awsemutest.Start(t, 2, func() time.Time { return time.Now().Add(time.Duration(e.ahead.Load())) })
	e.local = trace.Local{
		Thing: awsemutest.Core, Certificate: e.Identity.ID, Region: awsemu.Region, RoleAlias: awsemu.TokenExchangeAlias,
		Greengrass: e.URL(), Data: strings.TrimPrefix(e.URL(), "https://"), Credentials: e.CredentialURL(),
	}
	keys := e.AdminCredentials()
	provider := credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, "")
	url, client := aws.String(e.ControlURL()), e.HTTPClient(t)
	e.iot = iot.New(iot.Options{Region: awsemu.Region, BaseEndpoint: url, Credentials: provider, HTTPClient: client})
	e.green = greengrassv2.New(greengrassv2.Options{Region: awsemu.Region, BaseEndpoint: url, Credentials: provider, HTTPClient: client})
	e.iam = iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: url, Credentials: provider, HTTPClient: client})
	return e
}

// done fails t if a change could not be made.
func done[T any](t testing.TB, _ T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (e *emulated) certificate() *string { return aws.String(string(e.Identity.ID)) }

func (e *emulated) arn() *string {
	return aws.String("arn:aws:iot:" + awsemu.Region + ":" + awsemu.AccountID + ":cert/" + string(e.Identity.ID))
}

// assuming is the policy that leads to the role.
func (e *emulated) assuming(t testing.TB) *string {
	t.Helper()
	out, err := e.iot.ListAttachedPolicies(t.Context(), &iot.ListAttachedPoliciesInput{Target: e.arn()})
	done(t, out, err)
	for _, p := range out.Policies {
		policy, err := e.iot.GetPolicy(t.Context(), &iot.GetPolicyInput{PolicyName: p.PolicyName})
		done(t, policy, err)
		if strings.Contains(*policy.PolicyDocument, "AssumeRoleWithCertificate") {
			return p.PolicyName
		}
	}
	t.Fatal("no policy leads to the role")
	return nil
}

func (e *emulated) role(t testing.TB) *string {
	t.Helper()
	out, err := e.iot.DescribeRoleAlias(t.Context(), &iot.DescribeRoleAliasInput{RoleAlias: &e.local.RoleAlias})
	done(t, out, err)
	arn := *out.RoleAliasDescription.RoleArn
	return aws.String(arn[strings.LastIndex(arn, "/")+1:])
}

func (e *emulated) Deactivate(t testing.TB) {
	out, err := e.iot.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: e.certificate(), NewStatus: iottypes.CertificateStatusInactive})
	done(t, out, err)
}

func (e *emulated) DetachPolicy(t testing.TB) {
	out, err := e.iot.DetachPolicy(t.Context(), &iot.DetachPolicyInput{PolicyName: e.assuming(t), Target: e.arn()})
	done(t, out, err)
}

func (e *emulated) StripPolicy(t testing.TB) {
	out, err := e.iot.CreatePolicyVersion(t.Context(), &iot.CreatePolicyVersionInput{PolicyName: e.assuming(t), SetAsDefault: true, PolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`)})
	done(t, out, err)
}

func (e *emulated) DeleteAlias(t testing.TB) {
	out, err := e.iot.DeleteRoleAlias(t.Context(), &iot.DeleteRoleAliasInput{RoleAlias: &e.local.RoleAlias})
	done(t, out, err)
}

func (e *emulated) BreakTrust(t testing.TB) {
	out, err := e.iam.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: e.role(t), PolicyDocument: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`)})
	done(t, out, err)
}

func (e *emulated) Lengthen(t testing.TB) {
	out, err := e.iot.UpdateRoleAlias(t.Context(), &iot.UpdateRoleAliasInput{RoleAlias: &e.local.RoleAlias, CredentialDurationSeconds: aws.Int32(43200)})
	done(t, out, err)
}

func (e *emulated) MoveEndpoint(testing.TB) {
	e.local.Greengrass = "greengrass-ats.iot.us-east-1.amazonaws.com"
}

// RegisterCA gives the core a certificate of a private CA, which is registered as one does it,
// while the configured endpoint is the region's.
func (e *emulated) RegisterCA(t testing.TB) {
	code, err := e.iot.GetRegistrationCode(t.Context(), &iot.GetRegistrationCodeInput{})
	done(t, code, err)
	authority, authorityKey := issue(t, "private CA", nil, nil)
	verification, _ := issue(t, *code.RegistrationCode, authority, authorityKey)
	ca, err := e.iot.RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{
		CaCertificate: inPEM(authority), VerificationCertificate: inPEM(verification), SetAsActive: true, AllowAutoRegistration: true,
	})
	done(t, ca, err)
	leaf, _ := issue(t, awsemutest.Core, authority, authorityKey)
	registered, err := e.iot.RegisterCertificate(t.Context(), &iot.RegisterCertificateInput{
		CertificatePem: inPEM(leaf), CaCertificatePem: inPEM(authority), Status: iottypes.CertificateStatusActive,
	})
	done(t, registered, err)
	policies, err := e.iot.ListAttachedPolicies(t.Context(), &iot.ListAttachedPoliciesInput{Target: e.arn()})
	done(t, policies, err)
	for _, p := range policies.Policies {
		out, err := e.iot.AttachPolicy(t.Context(), &iot.AttachPolicyInput{PolicyName: p.PolicyName, Target: registered.CertificateArn})
		done(t, out, err)
	}
	attached, err := e.iot.AttachThingPrincipal(t.Context(), &iot.AttachThingPrincipalInput{ThingName: aws.String(awsemutest.Core), Principal: registered.CertificateArn})
	done(t, attached, err)
	e.local.Certificate = messages.CertificateIDOf(leaf.Raw)
	e.local.Greengrass = "greengrass-ats.iot." + awsemu.Region + ".amazonaws.com"
}

// issue makes a certificate of a name, signed by authority, or one's own authority.
func issue(t testing.TB, name string, authority *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	done(t, key, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if authority == nil {
		template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
		authority, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, authority, key.Public(), by)
	done(t, der, err)
	certificate, err := x509.ParseCertificate(der)
	done(t, certificate, err)
	return certificate, key
}

func inPEM(c *x509.Certificate) *string {
	return aws.String(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
}

func (e *emulated) DetachThing(t testing.TB) {
	out, err := e.iot.DetachThingPrincipal(t.Context(), &iot.DetachThingPrincipalInput{ThingName: aws.String(awsemutest.Core), Principal: e.arn()})
	done(t, out, err)
}

func (e *emulated) DropService(t testing.TB) {
	out, err := e.green.DisassociateServiceRoleFromAccount(t.Context(), &greengrassv2.DisassociateServiceRoleFromAccountInput{})
	done(t, out, err)
}

func (e *emulated) SkewClock(testing.TB) { e.ahead.Store(int64(10 * time.Minute)) }

func (e *emulated) Disassociate(t testing.TB) {
	var entries []ggtypes.DisassociateClientDeviceFromCoreDeviceEntry
	for i := range 2 {
		entries = append(entries, ggtypes.DisassociateClientDeviceFromCoreDeviceEntry{ThingName: aws.String(awsemutest.Thing(i))})
	}
	out, err := e.green.BatchDisassociateClientDeviceFromCoreDevice(t.Context(), &greengrassv2.BatchDisassociateClientDeviceFromCoreDeviceInput{
		CoreDeviceThingName: aws.String(awsemutest.Core), Entries: entries,
	})
	done(t, out, err)
}

func (e *emulated) reader(t testing.TB, keys aws.CredentialsProvider) *awsreader.Reader {
	t.Helper()
	r, err := awsreader.New(control.Config{Region: awsemu.Region, Endpoint: e.ControlURL(), Roots: e.Servers.Pool(), Now: time.Now, Credentials: keys})
	done(t, r, err)
	t.Cleanup(r.Close)
	return r
}

// Trace traces by the administrator, and asks the endpoint as the core, if its key is that of
// the configured certificate.
func (e *emulated) Trace(t testing.TB) *trace.Report {
	t.Helper()
	keys := e.AdminCredentials()
	cfg := trace.Config{Reader: e.reader(t, credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, "")), Local: e.local, Now: time.Now}
	if e.local.Certificate == e.Identity.ID {
		cfg.Prober = e.prober(t)
	}
	r, err := trace.Run(t.Context(), cfg)
	done(t, r, err)
	return r
}

func (e *emulated) prober(t testing.TB) *trace.Endpoint {
	t.Helper()
	identity, err := e.Identity.TLS()
	done(t, identity, err)
	p, err := trace.NewEndpoint(trace.EndpointConfig{Endpoint: e.CredentialURL(), Identity: &identity, Roots: e.Servers.Pool(), ServerName: awsemu.ServerName, Now: time.Now})
	done(t, p, err)
	t.Cleanup(p.Close)
	return p
}

// By a clock that is years off no server can be believed: then that is all that is said, and
// who is away is not called wrong.
func TestWhoCannotAskSaysWhy(t *testing.T) {
	e := newEmulated(t)
	keys := e.AdminCredentials()
	provider := credentials.NewStaticCredentialsProvider(keys.AccessKeyID, keys.SecretAccessKey, "")
	unset := func() time.Time { return time.Unix(0, 0) }
	r, err := awsreader.New(control.Config{Region: awsemu.Region, Endpoint: e.ControlURL(), Roots: e.Servers.Pool(), Now: unset, Credentials: provider})
	done(t, r, err)
	defer r.Close()
	report, err := trace.Run(t.Context(), trace.Config{Reader: r, Clock: r.Clock, Local: e.local, Now: unset})
	done(t, report, err)
	if len(report.Findings) != 1 || report.Findings[0].Fault != trace.ClockSkew || report.State != trace.Broken {
		t.Errorf("%+v", report.Findings)
	}
	reader := e.reader(t, provider)
	e.Close()
	report, err = trace.Run(t.Context(), trace.Config{Reader: reader, Clock: reader.Clock, Local: e.local, Now: time.Now})
	done(t, report, err)
	if report.State != trace.Unknown || !strings.Contains(report.Findings[0].Detail, "refused") || !strings.Contains(report.Summary(), "nothing could be looked at") {
		t.Errorf("%s: %+v", report.Summary(), report.Findings)
	}
}

// Each answer of the emulated endpoint is one that the trace understands: what it may not read
// it learns from there.
func TestTheEndpointsWordIsUnderstood(t *testing.T) {
	for _, f := range tracetest.Faults[:6] {
		t.Run(f.Name, func(t *testing.T) {
			e := newEmulated(t)
			f.Plant(e, t)
			blind := e.reader(t, aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: "AKIANOBODY", SecretAccessKey: "secret"}, nil
			}))
			r, err := trace.Run(t.Context(), trace.Config{Reader: blind, Prober: e.prober(t), Local: e.local, Now: time.Now})
			done(t, r, err)
			want := f.Found
			if want == trace.PolicyDetached {
				want = trace.PolicyLacksAssume // from outside it looks the same
			}
			if r.State != trace.Broken || r.Findings[0].Fault != want {
				t.Errorf("want %s, got %+v", want, r.Findings)
			}
		})
	}
}
