package awsemu

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// FuzzRequest: no body makes an operation fail in another way than AWS would, and
// nothing but the enrolled certificate is confirmed.
func FuzzRequest(f *testing.F) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	authority, err := NewAuthority("devices", now)
	if err != nil {
		f.Fatal(err)
	}
	device, err := authority.IssueDevice("pump-7", now)
	if err != nil {
		f.Fatal(err)
	}
	e := &Emulator{registry: NewRegistry()}
	if err := e.registry.Enroll("pump-7", device, false); err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(identityRequest{Certificate: string(device.CertificatePEM)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"clientDeviceThingName":"pump-7","clientDeviceCertificateId":"` + string(device.ID) + `"}`))
	f.Add([]byte(`{"clientDeviceCertificate":"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"}`))
	f.Add([]byte(`{"clientDeviceCertificate":{}}`))
	f.Add([]byte(`[`))
	f.Add([]byte(strings.Repeat("[", 20000)))
	f.Fuzz(func(t *testing.T, body []byte) {
		answer, refused := e.verifyIdentity(body)
		if (answer == nil) == (refused == nil) {
			t.Fatalf("identity: answer %v and refusal %v", answer, refused)
		}
		if got, ok := answer.(identityAnswer); ok && got.CertificateID != device.ID {
			t.Errorf("confirmed %s, want only %s", got.CertificateID, device.ID)
		}
		checkRefusal(t, refused)
		answer, refused = e.verifyAssociation(body)
		if (answer == nil) == (refused == nil) {
			t.Fatalf("association: answer %v and refusal %v", answer, refused)
		}
		if answer != nil {
			var request associationRequest
			if err := json.Unmarshal(body, &request); err != nil || request.Thing != "pump-7" || messages.CertificateID(request.CertificateID) != device.ID {
				t.Errorf("confirmed %+v (%v)", request, err)
			}
		}
		checkRefusal(t, refused)
	})
}

// FuzzCoreRequest: no body of a core's makes an operation fail in another way than AWS
// would, and what is stored is what can be stored again.
func FuzzCoreRequest(f *testing.F) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	authority, err := NewAuthority("devices", now)
	if err != nil {
		f.Fatal(err)
	}
	core, err := authority.IssueDevice("core-1", now)
	if err != nil {
		f.Fatal(err)
	}
	good, err := json.Marshal(authoritiesRequest{Core: "core-1", Certificates: []string{string(authority.PEM())}})
	if err != nil {
		f.Fatal(err)
	}
	e := &Emulator{registry: NewRegistry(), cfg: Config{AuthoritiesKept: 2, Now: func() time.Time { return now }}}
	if err := e.registry.Enroll("core-1", core, true); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"ConnectivityInfo":[{"Id":"a","HostAddress":"10.0.0.1","PortNumber":8883,"Metadata":""}]}`))
	f.Add([]byte(`{"ConnectivityInfo":[{"PortNumber":1e3}]}`))
	f.Add([]byte(`{"coreDeviceThingName":"core-1","coreDeviceCertificates":["-----BEGIN CERTIFICATE-----"]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, serve := range []func(*call) (any, *apiError){e.updateConnectivityInfo, e.putCertificateAuthorities} {
			answer, refused := serve(&call{parameters: []string{"core-1"}, caller: core.ID, body: body})
			if (answer == nil) == (refused == nil) {
				t.Fatalf("answer %v and refusal %v", answer, refused)
			}
			checkRefusal(t, refused)
		}
		stored := e.registry.Authorities("core-1")
		for _, text := range stored {
			if err := e.registry.PutAuthorities("core-1", 2, []byte(text)); err != nil {
				t.Error(err)
			}
		}
		if len(stored) > 2 {
			t.Errorf("%d authorities are kept", len(stored))
		}
		if err := checkConnectivity(e.registry.Connectivity("core-1")); err != nil {
			t.Error(err)
		}
	})
}

func checkRefusal(t *testing.T, r *apiError) {
	t.Helper()
	if r != nil && (r.status < 400 || r.status > 499 || r.name == "" || r.message == "") {
		t.Errorf("refused with %+v", r)
	}
}

// FuzzIoTRequest: no request makes an operation on certificates and things fail in another
// way than AWS would, none that is refused changes anything, and what one leaves can be read
// again.
func FuzzIoTRequest(f *testing.F) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	authority, err := NewAuthority("factory", now)
	if err != nil {
		f.Fatal(err)
	}
	device, err := authority.IssueDevice("pump-7", now)
	if err != nil {
		f.Fatal(err)
	}
	quoted := func(text []byte) string { q, _ := json.Marshal(string(text)); return string(q) }
	routes := slices.DeleteFunc(slices.Concat(certificateRoutes, newCertificateRoutes, authorityRoutes, thingRoutes, principalRoutes, thingTypeRoutes, templateRoutes, provisioningRoutes, policyRoutes, groupRoutes, roleAliasRoutes), func(r route) bool {
		return r.op == "CreateKeysAndCertificate" // takes nothing, and long
	})
	at := func(op cloudsync.Operation) int {
		return slices.IndexFunc(routes, func(r route) bool { return r.op == op })
	}
	f.Add(at("RegisterCACertificate"), "", "setAsActive=true", `{"certificateMode":"SNI_ONLY","caCertificate":`+quoted(authority.PEM())+`}`, "")
	f.Add(at("RegisterCertificate"), "", "", `{"status":"ACTIVE","certificatePem":`+quoted(device.CertificatePEM)+`}`, "")
	f.Add(at("RegisterCertificateWithoutCA"), "", "", `{"certificatePem":`+quoted(device.CertificatePEM)+`}`, "")
	f.Add(at("CreateCertificateFromCsr"), "", "", `{"certificateSigningRequest":"-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"}`, "")
	f.Add(at("CreateThing"), "pump-7", "", `{"thingTypeName":"pump","attributePayload":{"attributes":{"a":"b"}}}`, "")
	f.Add(at("UpdateThing"), "pump-7", "", `{"attributePayload":{"attributes":{"a":"","b":"c"},"merge":true},"expectedVersion":1}`, "")
	f.Add(at("CreateThingType"), "pump", "", `{"thingTypeProperties":{"searchableAttributes":["a"]}}`, "")
	f.Add(at("AttachThingPrincipal"), "pump-7", "thingPrincipalType=EXCLUSIVE_THING", ``, certificateARN(string(device.ID)))
	f.Add(at("RegisterThing"), "", "", `{"templateBody":"{\"Resources\":{\"t\":{\"Type\":\"AWS::IoT::Thing\",\"Properties\":{\"ThingName\":\"a\"}}}}"}`, "")
	f.Add(at("CreateProvisioningTemplate"), "", "", `{"templateName":"a","type":"JITP","templateBody":"{}","provisioningRoleArn":"arn:aws:iam::123456789012:role/a"}`, "")
	f.Add(at("ListCertificates"), "", "pageSize=1&isAscendingOrder=true&marker=AAAA", ``, "")
	f.Add(at("CreatePolicy"), "p", "", `{"policyDocument":"{\"Version\":\"2012-10-17\",\"Statement\":{\"Effect\":\"Deny\",\"Action\":\"*\",\"Resource\":\"*\"}}"}`, "")
	f.Add(at("CreatePolicyVersion"), DefaultPolicyName, "setAsDefault=true", `{"policyDocument":"{}"}`, "")
	f.Add(at("AttachPolicy"), DefaultPolicyName, "", `{"target":"`+groupARN("g")+`"}`, "")
	f.Add(at("DetachPrincipalPolicy"), DefaultPolicyName, "", "", certificateARN(string(device.ID)))
	f.Add(at("ListAttachedPolicies"), certificateARN(string(device.ID)), "recursive=true&pageSize=1", "", "")
	f.Add(at("TestAuthorization"), "", "clientId=pump-7", `{"principal":"`+certificateARN(string(device.ID))+`","authInfos":[{"actionType":"PUBLISH","resources":["*"]}],"policyNamesToSkip":["p"]}`, "")
	f.Add(at("CreateThingGroup"), "g", "", `{"parentGroupName":"g","thingGroupProperties":{"attributePayload":{"attributes":{"a":"b"}}}}`, "")
	f.Add(at("AddThingToThingGroup"), "", "", `{"thingGroupName":"g","thingArn":"`+thingARN("pump-7")+`"}`, "")
	f.Add(at("CreateRoleAlias"), "a", "", `{"roleArn":"arn:aws:iam::123456789012:role/x/r","credentialDurationSeconds":900,"tags":[]}`, "")
	f.Add(at("UpdateRoleAlias"), "kept", "", `{"roleArn":"arn:aws:iam::123456789012:role//r","credentialDurationSeconds":9e2}`, "")
	f.Add(at("ListRoleAliases"), "", "pageSize=1&isAscendingOrder=false&marker=AAAA", "", "")
	admin, err := Administrator.read()
	if err != nil {
		f.Fatal(err)
	}
	who := session(newCredentials("ASIA"), admin, "x", admin.permissions)
	f.Fuzz(func(t *testing.T, which int, parameter, query, body, principal string) {
		e := &Emulator{registry: NewRegistry(), cfg: Config{Now: func() time.Time { return now }}, tokenKey: random(32), amazon: func() (*Authority, error) { return authority, nil }}
		if err := errors.Join(e.registry.Enroll("pump-7", device, false), e.registry.AddRoleAlias(now, "kept", "arn:aws:iam::123456789012:role/r", 0)); err != nil {
			t.Fatal(err)
		}
		r := routes[uint(which)%uint(len(routes))]
		values, err := parseQuery(query)
		if err != nil {
			return
		}
		c := &call{op: r.op, parameters: []string{parameter, "2"}, query: values, header: http.Header{"X-Amzn-Principal": {principal}, "X-Amzn-Iot-Principal": {principal}}, body: []byte(body), who: who}
		before, err := e.registry.Encode()
		if err != nil {
			t.Fatal(err)
		}
		_, refused := r.serve(e, c)
		checkRefusal(t, refused)
		text, err := e.registry.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if refused != nil && !bytes.Equal(before, text) {
			t.Errorf("%s was refused (%s) and changed something: %s, before %s", r.op, refused.message, text, before)
		}
		if _, err := ReadRegistry(bytes.NewReader(text)); err != nil {
			t.Errorf("%s left what cannot be read again: %v", r.op, err)
		}
	})
}

// FuzzAliasPath: an alias is what stands between the two, unescaped once, and nothing else
// is a request for one.
func FuzzAliasPath(f *testing.F) {
	for _, path := range []string{"/role-aliases/gateway/credentials", "/role-aliases/a%2Fb/credentials", "/role-aliases//credentials", "/role-aliases/credentials", "/role-aliases/a/../b/credentials"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		target, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		alias, ok := aliasIn(&http.Request{Method: http.MethodGet, URL: target})
		if ok && (alias == "" || strings.Count(target.EscapedPath(), "/") != 3) {
			t.Fatalf("%q: %q, %v", path, alias, ok)
		}
		if again, err := url.ParseRequestURI("/role-aliases/" + url.PathEscape(alias) + "/credentials"); ok {
			if got, found := aliasIn(&http.Request{Method: http.MethodGet, URL: again}); err != nil || !found || got != alias {
				t.Errorf("%q: %q came back as %q, %v", path, alias, got, err)
			}
		}
	})
}

// FuzzOrder: no order makes the control protocol do more than it says.
func FuzzOrder(f *testing.F) {
	f.Add(`{"online":false}`)
	f.Add(`{"thing":"pump-7","certificate":"00"}`)
	f.Add(`{"script":{"faults":[{"status":500,"latency":"1h"}]}}`)
	f.Add(`{"core":"core-1","things":["pump-7"]}`)
	f.Add(`{"unknown":1}`)
	f.Fuzz(func(t *testing.T, body string) {
		o, err := readOrder(strings.NewReader(body))
		if err != nil || o.Script == nil {
			return
		}
		if err := o.Script.Check(); err != nil {
			t.Errorf("a script was read that fails its check: %v", err)
		}
	})
}

// The file form and the wire use the same PEM: what is encoded is what is hashed.
func TestCertificateIDIsOfTheEncodedBytes(t *testing.T) {
	authority, err := NewAuthority("devices", time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(authority.PEM())
	if block == nil || string(certificatePEM(block.Bytes)) != string(authority.PEM()) {
		t.Error("the authority's PEM does not survive a round trip")
	}
}

// FuzzRoute: an operation is found by exactly what was sent: written anew from the
// route, the path is the same but for how it was escaped.
func FuzzRoute(f *testing.F) {
	f.Add("GET", "/things/pump-7/principals", "iot")
	f.Add("GET", "/things/a%2Fb", "greengrass")
	f.Add("POST", "/greengrass/v2/coreDevices/core-1/associateClientDevices", "")
	f.Add("GET", "//things", "iot")
	f.Add("GET", "/things/%zz", "iot")
	f.Fuzz(func(t *testing.T, method, path, scope string) {
		found, parameters := findRoute(controlRoutes, scope, method, path)
		if found == nil {
			return
		}
		segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
		written, used := []string{}, 0
		for i, s := range found.path {
			if s == "*" {
				s = segments[i]
				if value, err := url.PathUnescape(s); err != nil || value != parameters[used] {
					t.Errorf("%q: parameter %d is %q", path, used, parameters[used])
				}
				used++
			}
			written = append(written, s)
		}
		if got := strings.Join(written, "/"); method != found.method || got != strings.TrimPrefix(path, "/") || used != len(parameters) {
			t.Errorf("%s %q went to %s as %q %q", method, path, found.op, got, parameters)
		}
	})
}

// FuzzQuery: whatever the form, IAM answers it or refuses it in its own words, and what it
// has stored can be stored again.
func FuzzQuery(f *testing.F) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	admin, err := Administrator.read()
	if err != nil {
		f.Fatal(err)
	}
	trust := url.QueryEscape(TokenExchangeRole.Trust)
	policy := url.QueryEscape(Administrator.Policies["AdministratorAccess"])
	for _, form := range []string{
		"RoleName=r&Path=/a/&AssumeRolePolicyDocument=" + trust, "RoleName=r&PolicyName=p&PolicyDocument=" + policy, "RoleName=r&MaxSessionDuration=7200",
		"PolicyName=p&PolicyDocument=" + policy, "PolicyArn=arn:aws:iam::123456789012:policy/p&RoleName=kept&VersionId=v1", "RoleArn=arn:aws:iam::123456789012:role/kept&RoleSessionName=me&Policy=" + policy,
		"PathPrefix=/a&MaxItems=3&Marker=x",
	} {
		for i := range queryRoutes {
			f.Add(i, form)
		}
	}
	f.Fuzz(func(t *testing.T, index int, text string) {
		form, err := readForm([]byte(text))
		if err != nil {
			return
		}
		e := &Emulator{registry: NewRegistry(), account: newAccount(), tokenKey: random(32), cfg: Config{Now: func() time.Time { return now }}}
		if err := e.registry.AddRole(now, Role{Name: "kept", Trust: TokenExchangeRole.Trust}); err != nil {
			t.Fatal(err)
		}
		who := session(newCredentials("ASIA"), admin, "x", admin.permissions)
		q := queryRoutes[uint(index)%uint(len(queryRoutes))]
		value, refused := q.serve(e, &call{op: q.op, parameters: []string{form.Get(q.listed)}, query: form, who: who})
		if refused != nil && (refused.status < 400 || refused.status >= 500 || refused.name == "" || refused.message == "") {
			t.Fatalf("%s: %+v", q.op, refused)
		}
		a := q.service.protocol(string(q.op))("id", value, refused)
		if err := xml.Unmarshal(a.body, new(struct{})); err != nil {
			t.Fatalf("%s answers %q: %v", q.op, a.body, err)
		}
		kept, err := e.registry.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadRegistry(bytes.NewReader(kept))
		if err != nil {
			t.Fatalf("%s: %v in %s", q.op, err, kept)
		}
		if text, err := again.Encode(); err != nil || !bytes.Equal(text, kept) {
			t.Fatalf("%s: kept %s, and was %s (%v)", q.op, text, kept, err)
		}
	})
}

// FuzzPageToken: no token but one that was given out is read.
func FuzzPageToken(f *testing.F) {
	e := &Emulator{tokenKey: random(32)}
	f.Add(e.pageToken("list", "pump-7"))
	f.Add(e.pageToken("other", "pump-7"))
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, token string) {
		if after, ok := e.readToken("list", token); ok && after != "pump-7" {
			t.Errorf("%q was read as %q", token, after)
		}
	})
}
