package awsemu_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// reply is an answer of the control planes.
type reply struct {
	status int
	header http.Header
	text   string
	body   map[string]any
	fault  struct { // of IAM and STS
		Code    string `xml:"Error>Code"`
		Message string `xml:"Error>Message"`
	}
}

func (r *reply) error() string { return cmp.Or(r.fault.Code, r.header.Get("X-Amzn-ErrorType")) }

// api sends a signed request to the control planes.
func (w *world) api(t testing.TB, keys awsemu.Credentials, method, target, body string) *reply {
	t.Helper()
	return w.send(t, w.signed(t, keys, method, target, body))
}

// signed is a request to the control planes, signed by aws-sdk-go-v2's signer.
func (w *world) signed(t testing.TB, keys awsemu.Credentials, method, target, body string) *http.Request {
	t.Helper()
	service := "iot"
	switch {
	case strings.HasPrefix(target, "/greengrass"):
		service = "greengrass"
	case target == "/" && strings.Contains(body, "Version=2011-06-15"):
		service = "sts"
	case target == "/", strings.HasPrefix(target, "/?"):
		service = "iam"
	}
	r := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), method, w.emulator.ControlURL()+target, strings.NewReader(body)))
	sum := sha256.Sum256([]byte(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey, SessionToken: keys.SessionToken},
		r, hex.EncodeToString(sum[:]), service, awsemu.Region, noon); err != nil {
		t.Fatal(err)
	}
	return r
}

func (w *world) send(t testing.TB, r *http.Request) *reply {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.servers.Pool(), Time: atNoon}, DisableKeepAlives: true}
	answer := must[*http.Response](t)((&http.Client{Transport: transport}).Do(r))
	defer func() { _ = answer.Body.Close() }()
	text := must[[]byte](t)(io.ReadAll(answer.Body))
	got := &reply{status: answer.StatusCode, header: answer.Header, text: string(text)}
	form := "application/json"
	if r.URL.Path == "/" { // IAM and STS
		form = "text/xml"
		if err := xml.Unmarshal(text, &got.fault); err != nil && answer.StatusCode >= 400 {
			t.Fatalf("%s %s: %d %s", r.Method, r.URL, answer.StatusCode, text)
		}
	} else if err := json.Unmarshal(text, &got.body); err != nil {
		t.Fatalf("%s %s: %d %s", r.Method, r.URL, answer.StatusCode, text)
	}
	if answer.Header.Get("Content-Type") != form || answer.Header.Get("x-amzn-RequestId") == "" || answer.Header.Get("Date") != noon.Format(http.TimeFormat) {
		t.Errorf("not in AWS's form: %v", answer.Header)
	}
	return got
}

func (w *world) admin() awsemu.Credentials { return w.emulator.AdminCredentials() }

func roleKeys(e *awsemu.Emulator) awsemu.Credentials {
	var c awsemu.Credentials
	c.AccessKeyID, c.SecretAccessKey, c.SessionToken = e.Credentials()
	return c
}

const devicesPath = "/greengrass/v2/coreDevices/core-1/"

func TestAssociationsOverTheWire(t *testing.T) {
	w := newWorld(t)
	if got := w.api(t, roleKeys(w.emulator), "GET", devicesPath+"associatedClientDevices", ""); got.status != 200 || got.text != `{"associatedClientDevices":[]}` {
		t.Fatalf("nothing is associated yet: %d %s", got.status, got.text)
	}
	got := w.api(t, w.admin(), "POST", devicesPath+"associateClientDevices", `{"entries":[{"thingName":"valve-1"},{"thingName":"pump-7"},{"thingName":"nobody"},{"thingName":"a b"}]}`)
	want := `{"errorEntries":[{"thingName":"nobody","code":"ResourceNotFoundException","message":"Thing not found"},{"thingName":"a b","code":"ValidationException","message":"thingName is malformed"}]}`
	if got.status != 200 || got.text != want {
		t.Fatalf("associate: %d %s, want %s", got.status, got.text, want)
	}
	stamp := fmt.Sprintf("%d.000", noon.Unix())
	want = `{"associatedClientDevices":[{"thingName":"pump-7","associationTimestamp":` + stamp + `},{"thingName":"valve-1","associationTimestamp":` + stamp + `}]}`
	if got := w.api(t, roleKeys(w.emulator), "GET", devicesPath+"associatedClientDevices", ""); got.text != want {
		t.Errorf("list: %s, want %s", got.text, want)
	}
	if got := w.api(t, w.admin(), "POST", devicesPath+"disassociateClientDevices", `{"entries":[{"thingName":"valve-1"},{"thingName":"valve-1"}]}`); got.text != `{"errorEntries":[]}` {
		t.Errorf("disassociate: %d %s", got.status, got.text)
	}
	if got := w.registry.Associated("core-1"); len(got) != 1 || got[0] != (awsemu.Association{Thing: "pump-7", Since: noon}) {
		t.Errorf("left: %v", got)
	}
}

// A page has at most maxResults things, and a token of this listing alone leads on; what
// changes meanwhile neither hides nor repeats what stays.
func TestPaging(t *testing.T) {
	w := newWorld(t)
	names := []messages.ThingName{"core-2"}
	for i := range 25 {
		names = append(names, messages.ThingName(fmt.Sprintf("t-%02d", i)))
	}
	if err := w.registry.Update(func(b *awsemu.Batch) error {
		for _, name := range names {
			if err := b.AddThing(name); err != nil {
				return err
			}
		}
		if err := b.AddCore("core-2"); err != nil {
			return err
		}
		return b.Associate("core-1", noon, names...)
	}); err != nil {
		t.Fatal(err)
	}
	list := func(query string) *reply {
		return w.api(t, w.admin(), "GET", devicesPath+"associatedClientDevices"+query, "")
	}
	var seen []string
	token, pages := "", 0
	for {
		got := list("?maxResults=4&nextToken=" + url.QueryEscape(token))
		for _, d := range got.body["associatedClientDevices"].([]any) {
			seen = append(seen, d.(map[string]any)["thingName"].(string))
		}
		if pages++; pages == 2 { // one that was seen goes, as does one that was not
			if err := w.registry.Disassociate("core-1", "t-01", "t-20"); err != nil {
				t.Fatal(err)
			}
		}
		next, more := got.body["nextToken"].(string)
		if !more {
			break
		}
		if next == token {
			t.Fatal("a token repeats")
		}
		token = next
	}
	if len(seen) != 25 || !slices.IsSorted(seen) || slices.Contains(seen, "t-20") || pages != 7 {
		t.Errorf("in %d pages: %v", pages, seen)
	}

	good := list("?maxResults=1").body["nextToken"].(string)
	other := "A"
	if good[0] == 'A' { // of 64 tokens one begins so
		other = "B"
	}
	for name, query := range map[string]string{
		"maxResults 0": "?maxResults=0", "maxResults 101": "?maxResults=101", "maxResults x": "?maxResults=x", "an invented token": "?nextToken=abc",
		"a changed token": "?nextToken=" + other + good[1:], "a cut token": "?nextToken=" + good[:len(good)-2],
	} {
		if got := list(query); got.status != 400 || got.error() != "ValidationException" {
			t.Errorf("%s: %d %s", name, got.status, got.text)
		}
	}
	for _, other := range []string{"/greengrass/v2/coreDevices/core-2/associatedClientDevices", "/things"} {
		if got := w.api(t, w.admin(), "GET", other+"?nextToken="+good, ""); got.status != 400 {
			t.Errorf("a token of another listing at %s: %d %s", other, got.status, got.text)
		}
	}
}

func TestLookingAtThingsAndCertificates(t *testing.T) {
	w := newWorld(t)
	arn := "arn:aws:iot:" + awsemu.Region + ":" + awsemu.AccountID + ":cert/" + string(w.pump.ID)
	get := func(target string) *reply { return w.api(t, w.admin(), "GET", target, "") }

	d := get("/certificates/" + strings.ToUpper(string(w.pump.ID))).body["certificateDescription"].(map[string]any)
	if d["certificateArn"] != arn || d["certificateId"] != string(w.pump.ID) || d["status"] != "ACTIVE" || d["certificatePem"] != string(w.pump.CertificatePEM) {
		t.Errorf("certificate: %v", d)
	}
	if v := d["validity"].(map[string]any); v["notBefore"] != float64(noon.Add(-5*time.Minute).Unix()) || v["notAfter"].(float64) <= float64(noon.Unix()) {
		t.Errorf("validity: %v", v)
	}
	if err := w.registry.Revoke(w.pump.ID); err != nil {
		t.Fatal(err)
	}
	if d := get("/certificates/" + string(w.pump.ID)).body["certificateDescription"].(map[string]any); d["status"] != "REVOKED" {
		t.Errorf("revoked certificate: %v", d["status"])
	}
	if got := get("/things/pump-7"); got.body["thingName"] != "pump-7" || got.body["thingArn"] != "arn:aws:iot:eu-central-1:123456789012:thing/pump-7" {
		t.Errorf("thing: %s", got.text)
	}
	if got := get("/things?maxResults=2"); got.body["nextToken"] == nil || len(got.body["things"].([]any)) != 2 {
		t.Errorf("things: %s", got.text)
	}
	if got := get("/things/pump-7/principals"); got.text != `{"principals":["`+arn+`"]}` {
		t.Errorf("principals: %s", got.text)
	}
	for query, want := range map[string]string{
		"": `{"thingPrincipalObjects":[{"principal":"` + arn + `","thingPrincipalType":"NON_EXCLUSIVE_THING"}]}`, "?thingPrincipalType=EXCLUSIVE_THING": `{"thingPrincipalObjects":[]}`,
	} {
		if got := get("/things/pump-7/principals-v2" + query); got.text != want {
			t.Errorf("principals-v2%s: %s", query, got.text)
		}
	}
	if got := get("/endpoint?endpointType=iot:Data-ATS"); got.body["endpointAddress"] != strings.TrimPrefix(w.emulator.URL(), "https://") {
		t.Errorf("endpoint: %s", got.text)
	}
}

// An escaped slash stays in its segment, and nothing is cleaned (cloud spec 7.13).
func TestErrorsOfTheControlPlanes(t *testing.T) {
	w := newWorld(t)
	many := `{"entries":[` + strings.TrimSuffix(strings.Repeat(`{"thingName":"x"},`, 101), ",") + `]}`
	for _, c := range []struct {
		method, target, body string
		status               int
		error                string
	}{
		{"GET", "/certificates/" + string(w.stranger.ID), "", 404, "ResourceNotFoundException"},
		{"GET", "/certificates/abc", "", 400, "InvalidRequestException"},
		{"GET", "/things/nobody", "", 404, "ResourceNotFoundException"},
		{"GET", "/things/nobody/principals", "", 404, "ResourceNotFoundException"},
		{"GET", "/things/a%2Fb", "", 400, "InvalidRequestException"},
		{"GET", "/things/pump-7/principals-v2?thingPrincipalType=X", "", 400, "InvalidRequestException"},
		{"GET", "/things/pump-7/shadow", "", 403, "InvalidSignatureException"}, // it is iotdata's
		{"GET", "/things//principals", "", 404, "UnknownOperationException"},
		{"GET", "/things/../things", "", 404, "UnknownOperationException"},
		{"GET", "/things/pump-7/", "", 404, "UnknownOperationException"},
		{"PUT", "/things/pump-7", "", 404, "UnknownOperationException"},
		{"DELETE", "/things/pump-7", "", 400, "InvalidRequestException"},
		{"GET", "/endpoint?endpointType=iot:Jobs", "", 400, "InvalidRequestException"},
		{"GET", "/greengrass/v2/coreDevices/pump-7/associatedClientDevices", "", 404, "ResourceNotFoundException"}, // no core
		{"GET", "/greengrass/v2/coreDevices/a%20b/associatedClientDevices", "", 400, "ValidationException"},
		{"POST", devicesPath + "associateClientDevices", `nonsense`, 400, "SerializationException"},
		{"POST", devicesPath + "associateClientDevices", `{}`, 400, "ValidationException"},
		{"POST", devicesPath + "associateClientDevices", many, 400, "ValidationException"},
		{"POST", "/greengrass/v2/coreDevices/nobody/associateClientDevices", `{"entries":[{"thingName":"pump-7"}]}`, 404, "ResourceNotFoundException"},
	} {
		got := w.api(t, w.admin(), c.method, c.target, c.body)
		if got.status != c.status || got.error() != c.error || got.body["message"] == "" {
			t.Errorf("%s %s: %d %s %s, want %d %s", c.method, c.target, got.status, got.error(), got.text, c.status, c.error)
		}
	}
	r := w.signed(t, w.admin(), "GET", "/things", "")
	r.URL.RawQuery = "maxResults=%2" // as if it was left out of what is signed, as Go's signer does
	if got := w.send(t, r); got.status != 400 || got.error() != "SerializationException" {
		t.Errorf("bad query: %d %s", got.status, got.text)
	}
	r = must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "GET", w.emulator.ControlURL()+"/nothing", nil))
	if got := w.send(t, r); got.status != 403 || got.error() != "MissingAuthenticationTokenException" {
		t.Errorf("unsigned: %d %s", got.status, got.text)
	}
}

// What a role does not allow is refused with the name of the action, before anything is
// looked up.
func TestPermissionsOfIdentities(t *testing.T) {
	w := newWorld(t)
	role := roleKeys(w.emulator)
	for target, want := range map[string]int{
		devicesPath + "associatedClientDevices": 200, "/certificates/" + string(w.pump.ID): 200, "/things/pump-7/principals": 200, "/things/pump-7/principals-v2": 200,
		"/things": 403, "/things/nobody": 403, "/endpoint": 403,
	} {
		got := w.api(t, role, "GET", target, "")
		if got.status != want || want == 403 && got.error() != "AccessDeniedException" {
			t.Errorf("%s: %d %s, want %d", target, got.status, got.text, want)
		}
	}
	got := w.api(t, role, "POST", devicesPath+"associateClientDevices", `{"entries":[{"thingName":"pump-7"}]}`)
	want := "User: arn:aws:sts::123456789012:assumed-role/GatehouseTokenExchangeRole/gatehouse is not authorized to perform: " +
		"greengrass:BatchAssociateClientDeviceWithCoreDevice on resource: arn:aws:greengrass:eu-central-1:123456789012:coreDevices:core-1"
	if message, _ := got.body["message"].(string); got.status != 403 || !strings.HasPrefix(message, want) || len(w.registry.Associated("core-1")) > 0 {
		t.Errorf("associate: %d %s", got.status, got.text)
	}

	listOnly := must[awsemu.Credentials](t)(w.emulator.IssueCredentials(awsemu.Role{Name: "lister", Policies: map[string]string{
		"list": `{"Statement":{"Effect":"Allow","Action":"greengrass:List*","Resource":"*"}}`,
	}}, time.Hour))
	if got := w.api(t, listOnly, "GET", devicesPath+"associatedClientDevices", ""); got.status != 200 {
		t.Errorf("issued credentials: %d %s", got.status, got.text)
	}
	gone := must[awsemu.Credentials](t)(w.emulator.IssueCredentials(awsemu.TokenExchangeRole, -time.Second))
	if got := w.api(t, gone, "GET", devicesPath+"associatedClientDevices", ""); got.status != 403 || got.error() != "ExpiredTokenException" {
		t.Errorf("expired credentials: %d %s", got.status, got.text)
	}
}

func TestPlainHTTPOnLoopbackAlone(t *testing.T) {
	w := newWorld(t)
	if w.emulator.PlainControlURL() != "" {
		t.Error("plain HTTP without being asked for")
	}
	server := must[*awsemu.Identity](t)(w.servers.IssueServer(awsemu.ServerNames(), noon))
	pair := must[tls.Certificate](t)(server.TLS())
	config := awsemu.Config{Certificate: pair, Registry: w.registry, Now: atNoon, PlainControl: true}
	for _, addr := range []string{"0.0.0.0:0", "[::]:0", "localhost:0", "nowhere"} {
		config.ControlAddr = addr
		if e, err := awsemu.Start(config); err == nil {
			e.Close()
			t.Errorf("plain HTTP at %s", addr)
		}
	}
	config.ControlAddr = ""
	e := must[*awsemu.Emulator](t)(awsemu.Start(config))
	defer e.Close()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.servers.Pool(), Time: atNoon}, DisableKeepAlives: true}}
	for _, base := range []string{e.PlainControlURL(), e.ControlURL()} {
		answer := must[*http.Response](t)(client.Post(base+"/things", "application/json", bytes.NewReader(bytes.Repeat([]byte("x"), 5000))))
		_ = answer.Body.Close()
		if answer.StatusCode != 403 || answer.Header.Get("X-Amzn-ErrorType") != "MissingAuthenticationTokenException" {
			t.Errorf("%s: %d", base, answer.StatusCode)
		}
	}
}
