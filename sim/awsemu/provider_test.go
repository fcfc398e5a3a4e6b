package awsemu_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

const (
	aliasARN  = "arn:aws:iot:eu-central-1:123456789012:rolealias/"
	mayAssume = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate","Resource":"` + aliasARN + `*"}]}`
)

// provided is an answer of the credentials provider.
type provided struct {
	status      int
	errorType   string
	header      http.Header
	text        string
	Message     string `json:"message"`
	Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken, Expiration string }
}

func (p *provided) keys() awsemu.Credentials {
	return awsemu.Credentials{AccessKeyID: p.Credentials.AccessKeyID, SecretAccessKey: p.Credentials.SecretAccessKey, SessionToken: p.Credentials.SessionToken}
}

// ask asks the credentials provider at a path, naming things if there are any.
func (w *world) askProvider(t *testing.T, caller *awsemu.Identity, method, path string, things ...string) (*provided, error) {
	t.Helper()
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, w.emulator.CredentialURL()+path, nil))
	for _, thing := range things {
		r.Header.Add("x-amzn-iot-thingname", thing)
	}
	answer, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: w.tls(t, caller), DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text := must[[]byte](t)(io.ReadAll(answer.Body))
	got := &provided{status: answer.StatusCode, errorType: answer.Header.Get("x-amzn-ErrorType"), header: answer.Header, text: string(text)}
	if err := json.Unmarshal(text, got); err != nil {
		t.Fatalf("%d %s", answer.StatusCode, text)
	}
	if answer.Header.Get("Content-Type") != "application/json" || answer.Header.Get("x-amzn-RequestId") == "" {
		t.Errorf("not in AWS's form: %v", answer.Header)
	}
	return got, nil
}

// credentials asks for those of an alias, which must be answered.
func (w *world) credentials(t *testing.T, caller *awsemu.Identity, alias string, things ...string) *provided {
	t.Helper()
	return must[*provided](t)(w.askProvider(t, caller, "GET", "/role-aliases/"+url.PathEscape(alias)+"/credentials", things...))
}

// providing is a world whose core may assume any alias there is: "gateway" is good.
func providing(t *testing.T, now func() time.Time) *world {
	t.Helper()
	w := newWorldAt(t, now)
	for _, err := range []error{
		w.registry.CreatePolicy("assume", mayAssume, noon),
		w.registry.AttachPolicy("assume", "arn:aws:iot:eu-central-1:123456789012:cert/"+string(w.core.ID)),
		w.registry.AddRole(noon, awsemu.Role{Name: "Gateway", Trust: trustIoT, Policies: map[string]string{"list": mayList}}),
		w.registry.AddRoleAlias(noon, "gateway", "arn:aws:iam::123456789012:role/Gateway", 15*time.Minute),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// The keys sign as the role, under the certificate's name, until they expire.
func TestCredentialsOfARole(t *testing.T) {
	at := noon
	w := providing(t, func() time.Time { return at })
	got := w.credentials(t, w.core, "gateway", "core-1")
	if got.status != 200 || got.Credentials.Expiration != "2026-11-21T12:15:00Z" || !strings.HasPrefix(got.Credentials.AccessKeyID, "ASIA") || got.Credentials.SecretAccessKey == "" {
		t.Fatalf("%d %s", got.status, got.text)
	}
	for _, member := range []string{"accessKeyId", "secretAccessKey", "sessionToken", "expiration"} {
		if !strings.Contains(got.text, `"`+member+`":"`) {
			t.Errorf("no %s in %s", member, got.text)
		}
	}
	if answer := w.api(t, got.keys(), "GET", "/things", ""); answer.status != 200 {
		t.Errorf("what the role may: %d %s", answer.status, answer.text)
	}
	answer := w.api(t, got.keys(), "GET", "/things/pump-7", "")
	if want := "User: arn:aws:sts::123456789012:assumed-role/Gateway/" + string(w.core.ID) + " is not authorized to perform: iot:DescribeThing"; answer.status != 403 || !strings.Contains(answer.text, want) {
		t.Errorf("what it may not: %d %s", answer.status, answer.text)
	}
	if again := w.credentials(t, w.core, "gateway"); again.status != 200 || again.keys() == got.keys() {
		t.Errorf("without a thing: %d %s", again.status, again.text)
	}
	if calls := w.emulator.Calls(awsemu.OpAssumeRole); calls != 2 {
		t.Errorf("%d calls", calls)
	}
	at = noon.Add(15 * time.Minute)
	r := w.signed(t, got.keys(), "GET", "/things", "")
	if answer := must[*http.Response](t)((&http.Client{Transport: &http.Transport{TLSClientConfig: w.tls(t, w.core), DisableKeepAlives: true}}).Do(r)); answer.StatusCode != 403 || answer.Header.Get("x-amzn-ErrorType") != "ExpiredTokenException" {
		t.Errorf("expired: %d %v", answer.StatusCode, answer.Header)
	}
}

// What goes wrong first is what is told (cloud spec 2): who may not assume learns nothing
// of the aliases that there are.
func TestRefusalsOfTheProviderInOrder(t *testing.T) {
	w := providing(t, atNoon)
	role := "arn:aws:iam::123456789012:role/"
	for _, err := range []error{
		w.registry.AddRoleAlias(noon, "no-role", role+"Nobody", 0),
		w.registry.AddRoleAlias(noon, "other-path", role+"edge/Gateway", 0),
		w.registry.AddRoleAlias(noon, "untrusting", role+"Untrusting", 0),
		w.registry.AddRoleAlias(noon, "confused", role+"Confused", 0),
		w.registry.AddRoleAlias(noon, "long", role+"Gateway", 2*time.Hour),
		w.registry.AddRole(noon, awsemu.Role{Name: "Untrusting", Trust: trustAll}),
		w.registry.AddRole(noon, awsemu.Role{Name: "Confused", Trust: strings.Replace(trustIoT, `"Action"`, `"Condition":{"ArnEquals":{"aws:SourceArn":"`+aliasARN+`only"}},"Action"`, 1)}),
		w.registry.AddRoleAlias(noon, "only", role+"Confused", 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const assume, noAssume, long = "Unable to assume the role, or the role to assume does not exist", "Access Denied", "The requested CredentialDurationSeconds exceeds the MaxSessionDuration set for the role"
	for _, c := range []struct {
		caller    *awsemu.Identity
		alias     string
		things    []string
		status    int
		errorType string
		message   string
	}{
		{w.stranger, "nothing", []string{"nobody"}, 403, "AccessDeniedException", "Certificate is invalid on this endpoint"},
		{w.pump, "nothing", []string{"core-1"}, 403, "AccessDeniedException", "Invalid thing name passed"},
		{w.core, "gateway", []string{""}, 403, "AccessDeniedException", "Invalid thing name passed"},
		{w.core, "gateway", []string{"core-1", "core-1"}, 403, "AccessDeniedException", "Invalid thing name passed"},
		{w.core, "gateway", []string{"nobody"}, 403, "AccessDeniedException", "Invalid thing name passed"},
		{w.pump, "nothing", []string{"pump-7"}, 403, "AccessDeniedException", noAssume},
		{w.pump, "gateway", nil, 403, "AccessDeniedException", noAssume},
		{w.core, "nothing", []string{"core-1"}, 404, "ResourceNotFoundException", "Role alias does not exist"},
		{w.core, "Gateway", nil, 404, "ResourceNotFoundException", "Role alias does not exist"},
		{w.core, "*", nil, 404, "ResourceNotFoundException", "Role alias does not exist"},
		{w.core, "no-role", nil, 400, "InvalidRequestException", assume},
		{w.core, "other-path", nil, 400, "InvalidRequestException", assume},
		{w.core, "untrusting", nil, 400, "InvalidRequestException", assume},
		{w.core, "confused", nil, 400, "InvalidRequestException", assume},
		{w.core, "long", nil, 400, "InvalidRequestException", long},
		{w.core, "only", nil, 200, "", ""},
	} {
		got := w.credentials(t, c.caller, c.alias, c.things...)
		if got.status != c.status || got.errorType != c.errorType || got.Message != c.message {
			t.Errorf("%s %v: %d %s %s, want %d %s", c.alias, c.things, got.status, got.errorType, got.text, c.status, c.message)
		}
	}
	if err := w.registry.SetStatus(w.core.ID, awsemu.StatusInactive); err != nil {
		t.Fatal(err)
	}
	if got := w.credentials(t, w.core, "gateway"); got.status != 403 || got.Message != "Certificate is invalid on this endpoint" {
		t.Errorf("inactive: %d %s", got.status, got.text)
	}
	if err := w.registry.SetStatus(w.core.ID, awsemu.StatusActive); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/role-aliases/gateway", "/role-aliases//credentials", "/role-aliases/a/b/credentials", "/role-aliases/gateway/credentials/"} {
		if got := must[*provided](t)(w.askProvider(t, w.core, "GET", path)); got.status != 404 || got.errorType != "UnknownOperationException" {
			t.Errorf("%s: %d %s", path, got.status, got.text)
		}
	}
	if got := must[*provided](t)(w.askProvider(t, w.core, "POST", "/role-aliases/gateway/credentials")); got.status != 404 {
		t.Errorf("POST: %d %s", got.status, got.text)
	}
}

// A certificate that has expired is of no use, nor one of mode SNI_ONLY where the handshake
// names no server.
func TestCertificatesOfNoUseToTheProvider(t *testing.T) {
	w := providing(t, atNoon)
	expired := must[*awsemu.Identity](t)(w.devices.IssueDevice("expired", noon.Add(-11*365*24*time.Hour)))
	early := must[*awsemu.Identity](t)(w.devices.IssueDevice("early", noon.Add(time.Hour)))
	for _, identity := range []*awsemu.Identity{expired, early} {
		must[messages.CertificateID](t)(w.registry.AddCertificate(identity.DER, awsemu.StatusActive))
	}
	body := string(must[[]byte](t)(json.Marshal(map[string]string{"certificatePem": string(w.stranger.CertificatePEM), "status": "ACTIVE"})))
	if got := w.api(t, w.admin(), "POST", "/certificate/register-no-ca", body); got.status != 200 {
		t.Fatalf("%d %s", got.status, got.text)
	}
	for _, identity := range []*awsemu.Identity{expired, early, w.stranger} {
		if err := w.registry.AttachPolicy("assume", "arn:aws:iot:eu-central-1:123456789012:cert/"+string(identity.ID)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		caller     *awsemu.Identity
		serverName string // an address is no SNI
		want       int
	}{
		"expired":     {expired, awsemu.ServerName, 403},
		"early":       {early, awsemu.ServerName, 403},
		"with SNI":    {w.stranger, awsemu.ServerName, 200},
		"without SNI": {w.stranger, "127.0.0.1", 403},
		"any mode":    {w.core, "127.0.0.1", 200},
	} {
		config := w.tls(t, c.caller)
		config.ServerName = c.serverName
		answer := must[*http.Response](t)((&http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}).Get(w.emulator.CredentialURL() + "/role-aliases/gateway/credentials"))
		text := must[[]byte](t)(io.ReadAll(answer.Body))
		_ = answer.Body.Close()
		if answer.StatusCode != c.want || c.want == 403 && !strings.Contains(string(text), "Certificate is invalid on this endpoint") {
			t.Errorf("%s: %d, want %d", name, answer.StatusCode, c.want)
		}
	}
}

// The role's own policies may ask who came, by which thing.
func TestContextOfTheRolesPolicies(t *testing.T) {
	w := providing(t, atNoon)
	own := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:DescribeThing","Resource":"arn:aws:iot:*:*:thing/${credentials-iot:ThingName}"},` +
		`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"credentials-iot:AwsCertificateId":"` + string(w.core.ID) + `"}}}]}`
	if err := w.registry.AddRole(noon, awsemu.Role{Name: "Own", Trust: trustIoT, Policies: map[string]string{"own": own}}); err != nil {
		t.Fatal(err)
	}
	if err := w.registry.AddRoleAlias(noon, "own", "arn:aws:iam::123456789012:role/Own", 0); err != nil {
		t.Fatal(err)
	}
	named, unnamed := w.credentials(t, w.core, "own", "core-1").keys(), w.credentials(t, w.core, "own").keys()
	for _, c := range []struct {
		keys  awsemu.Credentials
		thing string
		want  int
	}{{named, "core-1", 200}, {named, "pump-7", 403}, {unnamed, "core-1", 403}} {
		if got := w.api(t, c.keys, "GET", "/things/"+c.thing, ""); got.status != c.want {
			t.Errorf("%s: %d %s", c.thing, got.status, got.text)
		}
	}
}

func TestFaultsOfTheProvider(t *testing.T) {
	w := providing(t, atNoon)
	w.setFaults(t, awsemu.Fault{Operation: fault.Credentials, Status: 429, ErrorType: "ThrottlingException", RetryAfter: 2 * time.Second, Count: 1})
	if got := w.credentials(t, w.core, "gateway"); got.status != 429 || got.errorType != "ThrottlingException" || got.header.Get("Retry-After") != "2" {
		t.Errorf("throttled: %d %s", got.status, got.text)
	}
	if got := w.credentials(t, w.core, "gateway"); got.status != 200 {
		t.Errorf("and then: %d %s", got.status, got.text)
	}
	w.setFaults(t, awsemu.Fault{Operation: awsemu.OpAssumeRole, Drop: true})
	if got, err := w.askProvider(t, w.core, "GET", "/role-aliases/gateway/credentials"); err == nil {
		t.Errorf("dropped: %d", got.status)
	}
	w.setFaults(t, awsemu.Fault{Operation: fault.Credentials, TLS: fault.TLSUnknownAuthority})
	if got, err := w.askProvider(t, w.core, "GET", "/role-aliases/gateway/credentials"); err == nil {
		t.Errorf("another authority: %d", got.status)
	}
	if got := w.api(t, w.admin(), "GET", "/things", ""); got.status != 200 {
		t.Errorf("the other planes: %d", got.status)
	}
	w.setFaults(t)
	if err := w.emulator.Offline(true); err != nil {
		t.Fatal(err)
	}
	if got, err := w.askProvider(t, w.core, "GET", "/role-aliases/gateway/credentials"); err == nil {
		t.Errorf("offline: %d", got.status)
	}
	if err := w.emulator.Offline(false); err != nil {
		t.Fatal(err)
	}
	if got := w.credentials(t, w.core, "gateway"); got.status != 200 {
		t.Errorf("back: %d %s", got.status, got.text)
	}
	endpoint := w.api(t, w.admin(), "GET", "/endpoint?endpointType=iot:CredentialProvider", "")
	if address, _ := endpoint.body["endpointAddress"].(string); "https://"+address != w.emulator.CredentialURL() {
		t.Errorf("endpoint: %s", endpoint.text)
	}
}
