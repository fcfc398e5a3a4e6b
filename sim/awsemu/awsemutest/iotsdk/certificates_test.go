package iotsdk_test

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
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

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// wantError checks an error's status, name and words, and that the SDK knows its type.
func wantError[E error](t *testing.T, what string, err error, status int, words string) (typed E) {
	t.Helper()
	typed, isTyped := errors.AsType[E](err)
	response, isHTTP := errors.AsType[*awshttp.ResponseError](err)
	api, isAPI := errors.AsType[smithy.APIError](err)
	if !isTyped || !isHTTP || !isAPI || response.HTTPStatusCode() != status || !strings.Contains(api.ErrorMessage(), words) {
		t.Errorf("%s: %v, want %d %T with %q", what, err, status, typed, words)
	}
	return typed
}

// possession is the verification certificate for code, by a's key.
func possession(t *testing.T, a *awsemutest.Authority, code string) *string {
	t.Helper()
	return aws.String(string(a.Issue(t, code, time.Now()).CertificatePEM))
}

func text(b []byte) *string { return aws.String(string(b)) }

func code(t *testing.T, client *iot.Client) string {
	t.Helper()
	answer, err := client.GetRegistrationCode(t.Context(), &iot.GetRegistrationCodeInput{})
	if err != nil {
		t.Fatal(err)
	}
	return *answer.RegistrationCode
}

// What somebody does by hand to register a CA, and what is refused on the way (cloud spec
// 4.3).
func TestRegisterAuthority(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	client, now := client(t, c, c.AdminCredentials(), awsemu.Region), time.Now()
	ca := awsemutest.NewAuthority(t, "factory", now, nil)

	noCode := &iot.RegisterCACertificateInput{CaCertificate: text(ca.PEM), VerificationCertificate: possession(t, ca, "")}
	_, err := client.RegisterCACertificate(t.Context(), noCode)
	wantError[*types.RegistrationCodeValidationException](t, "before there is a code", err, 400, "registration code")

	first := code(t, client)
	if len(first) != 64 || first != code(t, client) {
		t.Errorf("registration code %q changes, or is not of 64 characters", first)
	}
	if _, err := client.DeleteRegistrationCode(t.Context(), &iot.DeleteRegistrationCodeInput{}); err != nil {
		t.Fatal(err)
	}
	if code(t, client) == first {
		t.Error("a deleted code is back")
	}
	own := code(t, client)
	rogue := awsemutest.NewAuthority(t, "factory", now, nil) // of the same name
	leaf := awsemutest.NewAuthority(t, "leaf", now, nil, func(c *x509.Certificate) { c.IsCA = false })
	expired := awsemutest.NewAuthority(t, "expired", now, nil, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Minute) })
	early := awsemutest.NewAuthority(t, "early", now, nil, func(c *x509.Certificate) { c.NotBefore = now.Add(time.Hour) })
	for name, w := range map[string]struct {
		pem, verification *string
		mode              types.CertificateMode
		invalid           bool // CertificateValidationException, else InvalidRequestException
		words             string
	}{
		"no certificate":            {aws.String("hello"), possession(t, ca, own), "", true, "not one PEM"},
		"two certificates":          {text(append(slices.Clone(ca.PEM), rogue.PEM...)), possession(t, ca, own), "", true, "not one PEM"},
		"a leaf":                    {text(leaf.PEM), possession(t, leaf, own), "", true, "not a CA"},
		"an expired CA":             {text(expired.PEM), possession(t, expired, own), "", true, "has expired"},
		"an early CA":               {text(early.PEM), possession(t, early, own), "", true, "not valid yet"},
		"another CA's verification": {text(ca.PEM), possession(t, rogue, own), "", true, "not signed by"},
		"no verification":           {text(ca.PEM), nil, "", false, "must be given"},
		"needless verification":     {text(ca.PEM), possession(t, ca, own), types.CertificateModeSniOnly, false, "must not be given"},
		"an unknown mode":           {text(ca.PEM), possession(t, ca, own), "NONE", false, "certificateMode"},
	} {
		_, err := client.RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{CaCertificate: w.pem, VerificationCertificate: w.verification, CertificateMode: w.mode})
		if w.invalid {
			wantError[*types.CertificateValidationException](t, name, err, 400, w.words)
		} else {
			wantError[*types.InvalidRequestException](t, name, err, 400, w.words)
		}
	}
	_, err = client.RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{CaCertificate: text(ca.PEM), VerificationCertificate: possession(t, ca, first)})
	wantError[*types.RegistrationCodeValidationException](t, "the deleted code", err, 400, "registration code")

	input := &iot.RegisterCACertificateInput{CaCertificate: text(ca.PEM), VerificationCertificate: possession(t, ca, own)}
	made, err := client.RegisterCACertificate(t.Context(), input)
	if err != nil {
		t.Fatal(err)
	}
	if *made.CertificateId != string(ca.ID()) || *made.CertificateArn != "arn:aws:iot:eu-central-1:123456789012:cacert/"+string(ca.ID()) {
		t.Errorf("registered as %s, %s", *made.CertificateId, *made.CertificateArn)
	}
	_, err = client.RegisterCACertificate(t.Context(), input)
	again := wantError[*types.ResourceAlreadyExistsException](t, "again", err, 409, "already registered")
	if again == nil || aws.ToString(again.ResourceId) != *made.CertificateId || aws.ToString(again.ResourceArn) != *made.CertificateArn {
		t.Errorf("again: %+v", again)
	}

	describe := func() *types.CACertificateDescription {
		t.Helper()
		answer, err := client.DescribeCACertificate(t.Context(), &iot.DescribeCACertificateInput{CertificateId: made.CertificateId})
		if err != nil {
			t.Fatal(err)
		}
		return answer.CertificateDescription
	}
	d := describe()
	if d.Status != types.CACertificateStatusInactive || d.AutoRegistrationStatus != types.AutoRegistrationStatusDisable || d.CertificateMode != types.CertificateModeDefault ||
		*d.CertificatePem != string(ca.PEM) || *d.CustomerVersion != 1 || !d.Validity.NotAfter.Equal(ca.Certificate.NotAfter) || d.CreationDate.Before(now.Add(-time.Minute)) || *d.OwnedBy != awsemu.AccountID {
		t.Errorf("at first: %+v", d)
	}
	if _, err := client.UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{
		CertificateId: made.CertificateId, NewStatus: types.CACertificateStatusActive, NewAutoRegistrationStatus: types.AutoRegistrationStatusEnable,
	}); err != nil {
		t.Fatal(err)
	}
	if d := describe(); d.Status != types.CACertificateStatusActive || d.AutoRegistrationStatus != types.AutoRegistrationStatusEnable || *d.CustomerVersion != 2 || d.LastModifiedDate.Before(*d.CreationDate) {
		t.Errorf("updated: %+v", d)
	}
	_, err = client.DeleteCACertificate(t.Context(), &iot.DeleteCACertificateInput{CertificateId: made.CertificateId})
	wantError[*types.CertificateStateException](t, "delete while active", err, 406, "deactivated")
	if _, err := client.UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{CertificateId: made.CertificateId, NewStatus: types.CACertificateStatusInactive, RemoveAutoRegistration: true}); err != nil {
		t.Fatal(err)
	}
	if d := describe(); d.Status != types.CACertificateStatusInactive || d.AutoRegistrationStatus != types.AutoRegistrationStatusDisable {
		t.Errorf("put away: %+v", d)
	}
	if _, err := client.DeleteCACertificate(t.Context(), &iot.DeleteCACertificateInput{CertificateId: made.CertificateId}); err != nil {
		t.Error(err)
	}
	_, err = client.DescribeCACertificate(t.Context(), &iot.DescribeCACertificateInput{CertificateId: made.CertificateId})
	wantError[*types.ResourceNotFoundException](t, "deleted", err, 404, "does not exist")
}

// At most ten CAs of one name; they are listed in pages, by age, either way round.
func TestListAuthorities(t *testing.T) {
	start, n := time.Now(), 0
	c := awsemutest.Start(t, 1, func() time.Time { return start.Add(time.Duration(n) * time.Second) })
	client := client(t, c, c.AdminCredentials(), awsemu.Region)
	var ids []string
	for n = range 11 {
		ca := awsemutest.NewAuthority(t, "factory", start, nil)
		made, err := client.RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{CaCertificate: text(ca.PEM), CertificateMode: types.CertificateModeSniOnly})
		if n == 10 {
			wantError[*types.LimitExceededException](t, "the eleventh", err, 410, "10 CA certificates")
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, *made.CertificateId)
	}
	for _, ascending := range []bool{true, false} {
		var listed []string
		for paginator := iot.NewListCACertificatesPaginator(client, &iot.ListCACertificatesInput{PageSize: aws.Int32(3), AscendingOrder: ascending}); paginator.HasMorePages(); {
			page, err := paginator.NextPage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Certificates) > 3 {
				t.Errorf("a page of %d", len(page.Certificates))
			}
			for _, a := range page.Certificates {
				listed = append(listed, *a.CertificateId)
			}
		}
		want := slices.Clone(ids)
		if !ascending {
			slices.Reverse(want)
		}
		if !slices.Equal(listed, want) {
			t.Errorf("ascending %v: got %v, want %v", ascending, listed, want)
		}
	}
}

// A certificate from its registration to its end (cloud spec 4.1, 4.2, 4.4).
func TestCertificateLife(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	client, now := client(t, c, c.AdminCredentials(), awsemu.Region), time.Now()
	ca, other := awsemutest.NewAuthority(t, "factory", now, nil), awsemutest.NewAuthority(t, "factory", now, nil)
	device := ca.Issue(t, "pump-7", now)
	register := &iot.RegisterCertificateInput{CertificatePem: text(device.CertificatePEM), CaCertificatePem: text(ca.PEM)}

	_, err := client.RegisterCertificate(t.Context(), register)
	wantError[*types.CertificateValidationException](t, "unregistered CA", err, 400, "not registered")
	for _, a := range []*awsemutest.Authority{ca, other} {
		if _, err := client.RegisterCACertificate(t.Context(), &iot.RegisterCACertificateInput{CaCertificate: text(a.PEM), CertificateMode: types.CertificateModeSniOnly, SetAsActive: a == other}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = client.RegisterCertificate(t.Context(), register)
	wantError[*types.CertificateStateException](t, "inactive CA", err, 406, "not active")
	if _, err := client.UpdateCACertificate(t.Context(), &iot.UpdateCACertificateInput{CertificateId: aws.String(string(ca.ID())), NewStatus: types.CACertificateStatusActive}); err != nil {
		t.Fatal(err)
	}
	_, err = client.RegisterCertificate(t.Context(), &iot.RegisterCertificateInput{CertificatePem: text(device.CertificatePEM), CaCertificatePem: text(other.PEM)})
	wantError[*types.CertificateValidationException](t, "not the signer", err, 400, "not signed")
	_, err = client.RegisterCertificate(t.Context(), &iot.RegisterCertificateInput{CertificatePem: text(device.CertificatePEM)})
	wantError[*types.CertificateConflictException](t, "two CAs of the name", err, 409, "more than one")
	pending := *register
	pending.Status = types.CertificateStatusPendingActivation
	_, err = client.RegisterCertificate(t.Context(), &pending)
	wantError[*types.CertificateStateException](t, "pending", err, 406, "Not allowed to register certificate with PENDING_ACTIVATION status")

	made, err := client.RegisterCertificate(t.Context(), register)
	if err != nil || *made.CertificateId != string(device.ID) {
		t.Fatalf("registered: %+v, %v", made, err)
	}
	_, err = client.RegisterCertificate(t.Context(), register)
	if again := wantError[*types.ResourceAlreadyExistsException](t, "again", err, 409, "already"); again == nil || aws.ToString(again.ResourceId) != string(device.ID) || aws.ToString(again.ResourceArn) != *made.CertificateArn {
		t.Errorf("again: %+v", again)
	}
	_, err = client.RegisterCertificateWithoutCA(t.Context(), &iot.RegisterCertificateWithoutCAInput{CertificatePem: text(device.CertificatePEM)})
	wantError[*types.ResourceAlreadyExistsException](t, "again, without CA", err, 409, "already")

	describe := func() *types.CertificateDescription {
		t.Helper()
		answer, err := client.DescribeCertificate(t.Context(), &iot.DescribeCertificateInput{CertificateId: made.CertificateId})
		if err != nil {
			t.Fatal(err)
		}
		return answer.CertificateDescription
	}
	if d := describe(); d.Status != types.CertificateStatusInactive || aws.ToString(d.CaCertificateId) != string(ca.ID()) || d.CertificateMode != types.CertificateModeSniOnly || *d.CustomerVersion != 1 {
		t.Errorf("at first: %+v", d)
	}
	update := func(status types.CertificateStatus) error {
		_, err := client.UpdateCertificate(t.Context(), &iot.UpdateCertificateInput{CertificateId: made.CertificateId, NewStatus: status})
		return err
	}
	for _, status := range []types.CertificateStatus{types.CertificateStatusPendingActivation, types.CertificateStatusPendingTransfer} {
		wantError[*types.CertificateStateException](t, string(status), update(status), 406, "Not allowed")
	}
	wantError[*types.InvalidRequestException](t, "no status", update("GOOD"), 400, "newStatus")
	if err := update(types.CertificateStatusActive); err != nil {
		t.Error(err)
	}
	if d := describe(); d.Status != types.CertificateStatusActive || *d.CustomerVersion != 2 {
		t.Errorf("activated: %+v", d)
	}
	remove := func() error {
		_, err := client.DeleteCertificate(t.Context(), &iot.DeleteCertificateInput{CertificateId: made.CertificateId, ForceDelete: true})
		return err
	}
	wantError[*types.CertificateStateException](t, "delete while active", remove(), 406, "deactivated")
	attach := &iot.AttachThingPrincipalInput{ThingName: aws.String(awsemutest.Thing(0)), Principal: made.CertificateArn}
	if _, err := client.AttachThingPrincipal(t.Context(), attach); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(update(types.CertificateStatusRevoked), update(types.CertificateStatusRevoked)); err != nil {
		t.Error(err)
	}
	wantError[*types.CertificateStateException](t, "back from revoked", update(types.CertificateStatusActive), 406, "revoked")
	wantError[*types.DeleteConflictException](t, "delete while attached", remove(), 409, "detached")
	if _, err := client.DetachThingPrincipal(t.Context(), &iot.DetachThingPrincipalInput{ThingName: attach.ThingName, Principal: attach.Principal}); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	wantError[*types.ResourceNotFoundException](t, "deleted twice", remove(), 404, "does not exist")
	if active, _ := c.Registry.Caller(device.ID); active {
		t.Error("a deleted certificate counts")
	}
}

// Certificates that AWS makes, of its key or of one's own.
func TestCreateCertificates(t *testing.T) {
	c := awsemutest.Start(t, 1, time.Now)
	client := client(t, c, c.AdminCredentials(), awsemu.Region)
	made, err := client.CreateKeysAndCertificate(t.Context(), &iot.CreateKeysAndCertificateInput{SetAsActive: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair([]byte(*made.CertificatePem), []byte(*made.KeyPair.PrivateKey)); err != nil || !strings.HasPrefix(*made.KeyPair.PublicKey, "-----BEGIN PUBLIC KEY-----") {
		t.Errorf("keys and certificate: %v", err)
	}
	if info, ok := c.Registry.Certificate(messages.CertificateID(*made.CertificateId)); !ok || info.Status != awsemu.StatusActive {
		t.Errorf("registered as %+v", info)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, awsemutest.NewKey(t))
	if err != nil {
		t.Fatal(err)
	}
	request := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	signed, err := client.CreateCertificateFromCsr(t.Context(), &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &request})
	if err != nil {
		t.Fatal(err)
	}
	if info, ok := c.Registry.Certificate(messages.CertificateID(*signed.CertificateId)); !ok || info.Status != awsemu.StatusInactive || len(*signed.CertificatePem) == 0 {
		t.Errorf("registered as %+v", info)
	}
	der[len(der)-1] ^= 1
	forged := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	_, err = client.CreateCertificateFromCsr(t.Context(), &iot.CreateCertificateFromCsrInput{CertificateSigningRequest: &forged})
	wantError[*types.InvalidRequestException](t, "a forged request", err, 400, "not signed by its key")

	var listed []string
	for paginator := iot.NewListCertificatesPaginator(client, &iot.ListCertificatesInput{PageSize: aws.Int32(1), AscendingOrder: true}); paginator.HasMorePages(); {
		page, err := paginator.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Certificates {
			listed = append(listed, fmt.Sprintf("%s %s", d.Status, *d.CertificateId))
		}
	}
	if len(listed) != 4 || !slices.Contains(listed[2:], "ACTIVE "+*made.CertificateId) || !slices.Contains(listed[2:], "INACTIVE "+*signed.CertificateId) { // after the core's and the device's
		t.Errorf("listed: %v", listed)
	}
}
