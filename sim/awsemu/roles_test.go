package awsemu_test

import (
	"errors"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

const (
	trustIoT  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"credentials.iot.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	trustAll  = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}}`
	mayList   = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:ListThings","Resource":"*"}}`
	mayNotDo  = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`
	iamForm   = "Version=2010-05-08&Action="
	roleOfAll = "arn:aws:iam::123456789012:role/edge/all"
)

// form writes the parameters of an action of IAM's.
func form(action string, parameters ...string) string {
	text := iamForm + action
	for i := 0; i+1 < len(parameters); i += 2 {
		text += "&" + parameters[i] + "=" + url.QueryEscape(parameters[i+1])
	}
	return text
}

// iam asks for an action that is to succeed.
func (w *world) iam(t *testing.T, action string, parameters ...string) string {
	t.Helper()
	got := w.api(t, w.admin(), "POST", "/", form(action, parameters...))
	if got.status != 200 {
		t.Fatalf("%s: %d %s", action, got.status, got.text)
	}
	return got.text
}

// What the registry knows of roles outlives the program, and goes by the same rights.
func TestRolesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.json")
	registry := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path))
	w := newWorldAt(t, atNoon, func(c *awsemu.Config) { c.Registry = registry })
	w.iam(t, "CreateRole", "RoleName", "all", "Path", "/edge/", "AssumeRolePolicyDocument", trustAll, "Description", "of all")
	w.iam(t, "PutRolePolicy", "RoleName", "all", "PolicyName", "inline", "PolicyDocument", mayList)
	w.iam(t, "CreatePolicy", "PolicyName", "managed", "PolicyDocument", mayList)
	w.iam(t, "CreatePolicyVersion", "PolicyArn", "arn:aws:iam::123456789012:policy/managed", "PolicyDocument", mayNotDo)
	w.iam(t, "AttachRolePolicy", "RoleName", "all", "PolicyArn", "arn:aws:iam::123456789012:policy/managed")
	if got := w.api(t, w.admin(), "POST", "/role-aliases/gateway", `{"roleArn":"`+roleOfAll+`","credentialDurationSeconds":900}`); got.status != 200 ||
		got.text != `{"roleAlias":"gateway","roleAliasArn":"arn:aws:iot:eu-central-1:123456789012:rolealias/gateway"}` {
		t.Fatalf("%d %s", got.status, got.text)
	}
	before := must[[]byte](t)(registry.Encode())
	reopened := must[*awsemu.Registry](t)(awsemu.OpenRegistry(path))
	if after := must[[]byte](t)(reopened.Encode()); string(after) != string(before) {
		t.Errorf("kept:\n%s\nand was:\n%s", after, before)
	}
	again := newWorldAt(t, atNoon, func(c *awsemu.Config) { c.Registry = reopened })
	for _, w := range []*world{w, again} {
		want := []string{"<Path>/edge/</Path>", "<Arn>" + roleOfAll + "</Arn>", "<CreateDate>2026-11-21T12:00:00Z</CreateDate>", "<Description>of all</Description>", "<MaxSessionDuration>3600</MaxSessionDuration>"}
		for _, part := range want {
			if got := w.iam(t, "GetRole", "RoleName", "all"); !strings.Contains(got, part) {
				t.Errorf("no %s in %s", part, got)
			}
		}
		keys := w.assume(t, roleOfAll)
		if got := w.api(t, keys, "GET", "/things", ""); got.status != 200 {
			t.Errorf("by its policies: %d %s", got.status, got.text)
		}
		w.iam(t, "SetDefaultPolicyVersion", "PolicyArn", "arn:aws:iam::123456789012:policy/managed", "VersionId", "v2")
		if got := w.api(t, keys, "GET", "/things", ""); got.status != 403 || !strings.Contains(got.text, "with an explicit deny") {
			t.Errorf("by the version in force now: %d %s", got.status, got.text)
		}
	}
}

// assume takes on a role by STS.
func (w *world) assume(t *testing.T, arn string) (keys awsemu.Credentials) {
	t.Helper()
	got := w.api(t, w.admin(), "POST", "/", "Version=2011-06-15&Action=AssumeRole&RoleSessionName=test&RoleArn="+url.QueryEscape(arn))
	if got.status != 200 {
		t.Fatalf("assume %s: %d %s", arn, got.status, got.text)
	}
	for into, name := range map[*string]string{&keys.AccessKeyID: "AccessKeyId", &keys.SecretAccessKey: "SecretAccessKey", &keys.SessionToken: "SessionToken"} {
		_, rest, _ := strings.Cut(got.text, "<"+name+">")
		*into, _, _ = strings.Cut(rest, "<")
	}
	return keys
}

// The core's own keys go by its role, if the account has it.
func TestTheCoresKeysGoByItsRole(t *testing.T) {
	w := newWorldAt(t, atNoon, func(c *awsemu.Config) {
		if err := c.Registry.Update(func(b *awsemu.Batch) error { return b.AddTokenExchange(noon) }); err != nil {
			t.Fatal(err)
		}
	})
	list := func() int {
		return w.api(t, roleKeys(w.emulator), "GET", devicesPath+"associatedClientDevices", "").status
	}
	if got := list(); got != 200 {
		t.Errorf("from the outset: %d", got)
	}
	w.iam(t, "PutRolePolicy", "RoleName", awsemu.TokenExchangeRole.Name, "PolicyName", "no", "PolicyDocument", mayNotDo)
	if got := list(); got != 403 {
		t.Errorf("denied: %d", got)
	}
	w.iam(t, "DeleteRolePolicy", "RoleName", awsemu.TokenExchangeRole.Name, "PolicyName", "no")
	if got := list(); got != 200 {
		t.Errorf("no more: %d", got)
	}
}

// A change that cannot be saved has not happened, nor one of a batch that fails later.
func TestRolesAreUndone(t *testing.T) {
	registry := awsemu.NewRegistry()
	if err := registry.AddRole(noon, awsemu.Role{Name: "kept"}); err != nil {
		t.Fatal(err)
	}
	before := must[[]byte](t)(registry.Encode())
	failure := errors.New("failure")
	err := registry.Update(func(b *awsemu.Batch) error {
		return errors.Join(b.AddRole(noon, awsemu.Role{Name: "new"}), b.AddRoleAlias(noon, "alias", roleOfAll, 0), failure)
	})
	if after := must[[]byte](t)(registry.Encode()); !errors.Is(err, failure) || string(after) != string(before) {
		t.Errorf("%v: %s", err, after)
	}
	for name, err := range map[string]error{
		"twice":    registry.AddRole(noon, awsemu.Role{Name: "KEPT"}),
		"a name":   registry.AddRole(noon, awsemu.Role{Name: "a/b"}),
		"trust":    registry.AddRole(noon, awsemu.Role{Name: "x", Trust: mayList}),
		"a policy": registry.AddRole(noon, awsemu.Role{Name: "x", Policies: map[string]string{"x": trustIoT}}),
		"session":  registry.AddRole(noon, awsemu.Role{Name: "x", MaxSession: 13 * time.Hour}),
		"duration": registry.AddRoleAlias(noon, "x", roleOfAll, time.Minute),
		"alias":    registry.AddRoleAlias(noon, "a.b", roleOfAll, 0),
		"role":     registry.AddRoleAlias(noon, "x", "arn:aws:iam::123456789012:role/", 0),
	} {
		if err == nil {
			t.Errorf("%s: done", name)
		}
	}
}

// A file written by hand leaves out what it can, and says where it is wrong.
func TestRolesOfASeed(t *testing.T) {
	seed := func(members string) string {
		return `{"formatVersion":"gatehouse/awsemu-1","things":[],"certificates":[],` + members + `}`
	}
	quoted := func(document string) string { return `"` + strings.ReplaceAll(document, `"`, `\"`) + `"` }
	role := `{"roleName":"r","assumeRolePolicyDocument":` + quoted(trustIoT) + `,"policies":[{"policyName":"p","policyDocument":` + quoted(mayList) + `}],"attachedPolicies":["arn:aws:iam::123456789012:policy/m"]}`
	managed := `{"policyName":"m","versions":[{"policyDocument":` + quoted(mayList) + `},{"policyDocument":` + quoted(mayNotDo) + `}]}`
	alias := `{"roleAlias":"a","roleArn":"` + roleOfAll + `"}`
	good := seed(`"managedPolicies":[` + managed + `],"roles":[` + role + `],"roleAliases":[` + alias + `]`)
	text := string(must[[]byte](t)(must[*awsemu.Registry](t)(awsemu.ReadRegistry(strings.NewReader(good))).Encode()))
	for _, part := range []string{`"defaultVersionId": "v2"`, `"credentialDurationSeconds": 3600`, `"maxSessionDuration": 3600`, `"roleId": "AROA`} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
	// By Seed, a document may be an object in place of its text.
	written := strings.NewReplacer(quoted(trustIoT), trustIoT, quoted(mayList), mayList, quoted(mayNotDo), mayNotDo).Replace(good)
	seeded := awsemu.NewRegistry()
	if err := seeded.Seed([]byte(written), awsemu.SeedOptions{Now: noon}); err != nil {
		t.Fatal(err)
	}
	w := newWorldAt(t, atNoon, func(c *awsemu.Config) { c.Registry = seeded })
	for _, part := range []string{"<CreateDate>2026-11-21T12:00:00Z</CreateDate>", "credentials.iot.amazonaws.com"} {
		if got := w.iam(t, "GetRole", "RoleName", "r"); !strings.Contains(got, part) {
			t.Errorf("no %s in %s", part, got)
		}
	}
	err := awsemu.NewRegistry().Seed([]byte(strings.Replace(written, `"sts:AssumeRole"`, `"AssumeRole"`, 1)), awsemu.SeedOptions{Now: noon})
	if errs := policy.ErrorsOf(err); len(errs) != 1 || errs[0].Path != "roles[0].assumeRolePolicyDocument" {
		t.Errorf("%v", err)
	}
	for members, want := range map[string]string{
		`"roles":[` + role + `]`: "roles[0].attachedPolicies",
		`"managedPolicies":[` + managed + `],"roles":[` + role + `,` + role + `]`:                                                "roles[1]: role r: already",
		`"roles":[{"roleName":"r","assumeRolePolicyDocument":` + quoted(mayList) + `}]`:                                          "roles[0].assumeRolePolicyDocument: malformed",
		`"roles":[{"roleName":"r","maxSessionDuration":18446744077,"assumeRolePolicyDocument":` + quoted(trustIoT) + `}]`:        "maxSessionDuration",
		`"roles":[{"roleName":"r","roleId":"x","assumeRolePolicyDocument":` + quoted(trustIoT) + `}]`:                            "id \"x\"",
		`"roles":[{"roleName":"r","path":"x","assumeRolePolicyDocument":` + quoted(trustIoT) + `}]`:                              "path \"x\"",
		`"managedPolicies":[` + managed + `,` + managed + `]`:                                                                    "managedPolicies[1]",
		`"managedPolicies":[{"policyName":"m","versions":[]}]`:                                                                   "1 to 5 versions",
		`"managedPolicies":[{"policyName":"m","defaultVersionId":"v3","versions":[{"policyDocument":` + quoted(mayList) + `}]}]`: "defaultVersionId",
		`"managedPolicies":[{"policyName":"m","versions":[{"versionId":"v01","policyDocument":` + quoted(mayList) + `}]}]`:       "versions[0].versionId",
		`"roleAliases":[` + alias + `,` + alias + `]`:                                                                            "roleAliases[1]: role alias a: already",
	} {
		if _, err := awsemu.ReadRegistry(strings.NewReader(seed(members))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", members, err, want)
		}
	}
}

// Names come in either order, and a marker leads on in its own.
func TestRoleAliasesInEitherOrder(t *testing.T) {
	w := newWorld(t)
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		if err := w.registry.AddRoleAlias(noon, name, roleOfAll, 0); err != nil {
			t.Fatal(err)
		}
	}
	for order, want := range map[string]string{"": "a b|c d|e", "isAscendingOrder=true&": "a b|c d|e", "isAscendingOrder=false&": "e d|c b|a"} {
		var pages []string
		marker := ""
		for {
			got := w.api(t, w.admin(), "GET", "/role-aliases?"+order+"pageSize=2&marker="+url.QueryEscape(marker), "")
			names := []string{}
			for _, name := range got.body["roleAliases"].([]any) {
				names = append(names, name.(string))
			}
			pages = append(pages, strings.Join(names, " "))
			var more bool
			if marker, more = got.body["nextMarker"].(string); !more {
				break
			}
		}
		if got := strings.Join(pages, "|"); got != want {
			t.Errorf("%s: %s, want %s", order, got, want)
		}
	}
	first := w.api(t, w.admin(), "GET", "/role-aliases?pageSize=2", "").body["nextMarker"].(string)
	for target, want := range map[string]int{
		"/role-aliases?isAscendingOrder=false&marker=" + url.QueryEscape(first): 400, "/role-aliases?isAscendingOrder=yes": 400, "/role-aliases?pageSize=251": 400, "/role-aliases?marker=" + url.QueryEscape(first): 200,
	} {
		if got := w.api(t, w.admin(), "GET", target, ""); got.status != want || want == 400 && got.error() != "InvalidRequestException" {
			t.Errorf("%s: %d %s", target, got.status, got.text)
		}
	}
}

// What is not quite the protocol is refused in its words.
func TestQueryProtocol(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct {
		target, body string
		status       int
		code         string
	}{
		"no action":        {"/", "Version=2010-05-08", 400, "InvalidAction"},
		"unknown action":   {"/", form("CreateUser"), 400, "InvalidAction"},
		"STS's of IAM":     {"/", "Version=2011-06-15&Action=GetRole", 400, "InvalidAction"},
		"another version":  {"/", "Version=2011-01-01&Action=GetRole", 400, "InvalidAction"}, // signed for iam
		"twice":            {"/", form("GetRole", "RoleName", "a", "RoleName", "b"), 400, "MalformedQueryString"},
		"not a form":       {"/", "Version=2010-05-08&Action=GetRole&RoleName=%zz", 400, "MalformedQueryString"},
		"in the query":     {"/?RoleName=a", form("GetRole"), 400, "MalformedQueryString"},
		"no such":          {"/", form("GetRole", "RoleName", "a"), 404, "NoSuchEntity"},
		"more than a page": {"/", form("ListRoles", "MaxItems", "1001"), 400, "ValidationError"},
		"too large":        {"/", form("GetRole", "RoleName", strings.Repeat("a", 70_000)), 413, "RequestEntityTooLarge"},
	} {
		if got := w.api(t, w.admin(), "POST", c.target, c.body); got.status != c.status || got.error() != c.code || got.fault.Message == "" {
			t.Errorf("%s: %d %s, want %d %s", name, got.status, got.text, c.status, c.code)
		}
	}
	want := `<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/administrator</Arn>`
	got := w.api(t, w.admin(), "POST", "/", "Version=2011-06-15&Action=GetCallerIdentity")
	if got.status != 200 || !strings.HasPrefix(got.text, want) || !strings.Contains(got.text, "<RequestId>"+got.header.Get("x-amzn-RequestId")+"</RequestId>") {
		t.Errorf("who I am: %s", got.text)
	}
	if calls := w.emulator.Calls("iam:GetRole"); calls != 2 { // those that were understood
		t.Errorf("%d calls", calls)
	}
	if w.emulator.PlainControlURL() != "" {
		t.Error("plain HTTP")
	}
	unsigned := must[*http.Request](t)(http.NewRequestWithContext(t.Context(), "POST", w.emulator.ControlURL()+"/", strings.NewReader(form("ListRoles"))))
	if got := w.send(t, unsigned); got.status != 403 || got.error() != "MissingAuthenticationToken" {
		t.Errorf("unsigned: %d %s", got.status, got.text)
	}
}
