package awsreader

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
)

// answers are what a server says, by method and path, or by IAM's action and marker.
func answers(t *testing.T, by map[string]string) *Reader {
	t.Helper()
	server, ca := cloudsynctest.Serve(t, func(w http.ResponseWriter, r *http.Request) {
		key := r.Method + " " + r.URL.RequestURI()
		if r.URL.Path == "/" && r.Method == http.MethodPost {
			if err := r.ParseForm(); err != nil {
				t.Error(err)
			}
			key = strings.TrimSpace(r.Form.Get("Action") + " " + r.Form.Get("Marker"))
			w.Header().Set("Content-Type", "text/xml")
		} else {
			w.Header().Set("Content-Type", "application/json")
		}
		body, known := by[key]
		if !known {
			t.Errorf("asked for %q", key)
		}
		if status, rest, found := strings.Cut(body, " "); found && len(status) == 3 {
			name, text, _ := strings.Cut(rest, " ")
			var code int
			_, _ = fmt.Sscan(status, &code)
			w.Header().Set("X-Amzn-ErrorType", name)
			w.WriteHeader(code)
			body = text
		}
		_, _ = io.WriteString(w, body)
	}, nil)
	r, err := New(control.Config{
		Region: "eu-central-1", Endpoint: server.URL, ServerName: cloudsynctest.ServerName, Roots: ca.Pool(), Now: cloudsynctest.AtNoon,
		Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

func result(action, inside string) string {
	return fmt.Sprintf(`<%[1]sResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><%[1]sResult>%[2]s</%[1]sResult></%[1]sResponse>`, action, inside)
}

// IAM speaks XML, and percent-encodes documents.
func TestARoleIsReadWithAllItsPolicies(t *testing.T) {
	const encoded, decoded = "%7B%22a%22%3A%22b+%2B%22%7D", `{"a":"b++"}`
	r := answers(t, map[string]string{
		"GetRole":                  result("GetRole", `<Role><Arn>arn:aws:iam::1:role/R</Arn><MaxSessionDuration>3600</MaxSessionDuration><AssumeRolePolicyDocument>`+encoded+`</AssumeRolePolicyDocument></Role>`),
		"ListRolePolicies":         result("ListRolePolicies", `<PolicyNames><member>one</member></PolicyNames><IsTruncated>true</IsTruncated><Marker>m</Marker>`),
		"ListRolePolicies m":       result("ListRolePolicies", `<PolicyNames><member>two</member></PolicyNames><IsTruncated>false</IsTruncated>`),
		"GetRolePolicy":            result("GetRolePolicy", `<PolicyName>one</PolicyName><PolicyDocument>`+encoded+`</PolicyDocument>`),
		"ListAttachedRolePolicies": result("ListAttachedRolePolicies", `<AttachedPolicies><member><PolicyName>M</PolicyName><PolicyArn>arn:aws:iam::aws:policy/M</PolicyArn></member></AttachedPolicies>`),
		"GetPolicy":                result("GetPolicy", `<Policy><PolicyName>M</PolicyName><DefaultVersionId>v3</DefaultVersionId></Policy>`),
		"GetPolicyVersion":         result("GetPolicyVersion", `<PolicyVersion><Document>`+encoded+`</Document></PolicyVersion>`),
	})
	role, err := r.Role(t.Context(), "R")
	if err != nil || role.Trust != decoded || role.MaxSession != time.Hour {
		t.Errorf("%+v, %v", role, err)
	}
	policies, err := r.RolePolicies(t.Context(), "R")
	if err != nil || len(policies) != 3 || policies[1].Name != "two" || policies[2].Name != "M" || policies[2].Document != decoded {
		t.Errorf("%+v, %v", policies, err)
	}
}

func TestWhyAReadingFailedIsTold(t *testing.T) {
	const refused = `<ErrorResponse><Error><Code>%s</Code><Message>m</Message></Error></ErrorResponse>`
	for name, test := range map[string]struct {
		by   map[string]string
		read func(*Reader) error
		kind trace.ErrorKind
	}{
		"IoT knows none":         {map[string]string{"GET /things/t": "404 ResourceNotFoundException {}"}, func(r *Reader) error { _, err := r.Thing(t.Context(), "t"); return err }, trace.NotFound},
		"IoT refuses":            {map[string]string{"GET /things/t": "403 AccessDeniedException {}"}, func(r *Reader) error { _, err := r.Thing(t.Context(), "t"); return err }, trace.Denied},
		"a portal's 404":         {map[string]string{"GET /things/t": "404  {}"}, func(r *Reader) error { _, err := r.Thing(t.Context(), "t"); return err }, trace.Unavailable},
		"keys are refused":       {map[string]string{"GET /things/t": "403 UnrecognizedClientException {}"}, func(r *Reader) error { _, err := r.Thing(t.Context(), "t"); return err }, trace.Unavailable},
		"IAM knows none":         {map[string]string{"GetRole": "404  " + fmt.Sprintf(refused, "NoSuchEntity")}, func(r *Reader) error { _, err := r.Role(t.Context(), "R"); return err }, trace.NotFound},
		"IAM refuses":            {map[string]string{"GetRole": "403  " + fmt.Sprintf(refused, "AccessDenied")}, func(r *Reader) error { _, err := r.Role(t.Context(), "R"); return err }, trace.Denied},
		"no service role":        {map[string]string{"GET /greengrass/servicerole": `404 NotFoundException {"message":"none"}`}, func(r *Reader) error { _, err := r.ServiceRole(t.Context()); return err }, trace.NotFound},
		"no such operation":      {map[string]string{"GET /greengrass/servicerole": `404 UnknownOperationException {"message":"none"}`}, func(r *Reader) error { _, err := r.ServiceRole(t.Context()); return err }, trace.Unavailable},
		"a listing without end":  {map[string]string{"GET /role-aliases?pageSize=100": `{"roleAliases":["a"],"nextMarker":"x"}`, "GET /role-aliases?marker=x&pageSize=100": `{"roleAliases":["a"],"nextMarker":"x"}`}, func(r *Reader) error { _, err := r.RoleAliases(t.Context()); return err }, trace.Unavailable},
		"another certificate":    {map[string]string{"GET /certificates/id": `{"certificateDescription":{"certificateId":"other"}}`}, func(r *Reader) error { _, err := r.Certificate(t.Context(), "id"); return err }, trace.Unavailable},
		"a role without answer":  {map[string]string{"GetRole": result("GetRole", "")}, func(r *Reader) error { _, err := r.Role(t.Context(), "R"); return err }, trace.Unavailable},
		"a document not encoded": {map[string]string{"GetRole": result("GetRole", "<Role><AssumeRolePolicyDocument>%zz</AssumeRolePolicyDocument></Role>")}, func(r *Reader) error { _, err := r.Role(t.Context(), "R"); return err }, trace.Unavailable},
	} {
		err := test.read(answers(t, test.by))
		e, typed := errors.AsType[*trace.ReadError](err)
		if err == nil || typed && e.Kind != test.kind || !typed && test.kind != trace.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}
