package awsemu

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"pgregory.net/rapid"
)

var sigNow = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// signed is a request as it goes over the wire, signed by AWS's own signer.
type signed struct {
	method, target string
	header         http.Header // with Host
	body           []byte
}

// sign lets aws-sdk-go-v2 sign a request, and takes apart what that would send.
func sign(t interface {
	Helper()
	Fatal(...any)
}, c Credentials, method, rawURL string, header http.Header, body []byte, service, region string, at time.Time) *signed {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	r := &http.Request{Method: method, URL: u, Host: u.Host, Header: header.Clone(), ContentLength: int64(len(body)), Body: io.NopCloser(bytes.NewReader(body))}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	sum := sha256.Sum256(body)
	keys := aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey, SessionToken: c.SessionToken}
	if err := v4.NewSigner().SignHTTP(context.Background(), keys, r, hex.EncodeToString(sum[:]), service, region, at); err != nil {
		t.Fatal(err)
	}
	s := &signed{method: method, target: r.URL.RequestURI(), header: r.Header, body: body}
	s.header.Set("Host", r.Host)
	return s
}

func (s *signed) clone() *signed {
	return &signed{s.method, s.target, s.header.Clone(), bytes.Clone(s.body)}
}

// receive reads the request as a server does.
func (s *signed) receive() (*http.Request, error) {
	var wire bytes.Buffer
	fmt.Fprintf(&wire, "%s %s HTTP/1.1\r\n", s.method, s.target)
	for name, values := range s.header {
		for _, v := range values {
			fmt.Fprintf(&wire, "%s: %s\r\n", name, v)
		}
	}
	if len(s.body) > 0 {
		fmt.Fprintf(&wire, "Content-Length: %d\r\n", len(s.body))
	}
	wire.WriteString("\r\n")
	wire.Write(s.body)
	return http.ReadRequest(bufio.NewReader(&wire))
}

// judge authenticates the request; nil, nil if no server would have parsed it.
func (s *signed) judge(a *account, services []string, now time.Time) (*identity, *apiError) {
	r, err := s.receive()
	if err != nil {
		return nil, &apiError{status: http.StatusBadRequest, name: "BadRequest", message: err.Error()}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, &apiError{status: http.StatusBadRequest, name: "BadRequest", message: err.Error()}
	}
	query, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, validation(err.Error())
	}
	return a.authenticate(r, query, body, &service{scopes: services}, now)
}

func testAccount(t testing.TB) (*account, Credentials, Credentials) {
	t.Helper()
	a := newAccount()
	admin := newCredentials("AKIA")
	who, err := user(admin, Administrator)
	if err != nil {
		t.Fatal(err)
	}
	a.add(who, false)
	role, err := a.issue(TokenExchangeRole, time.Hour, sigNow)
	if err != nil {
		t.Fatal(err)
	}
	return a, admin, role
}

var (
	oddSegments = rapid.StringOfN(rapid.RuneFrom([]rune("abzAZ09-._~:@!$&'()*+,;= %/?#é\"<>[]{}|\\^`☃")), 0, 12, -1)
	plainNames  = rapid.StringMatching(`[A-Za-z][A-Za-z0-9]{0,8}`)
	headerTexts = rapid.StringMatching(`[!-~]([ -~]{0,30}[!-~])?`)
)

// request draws a request: odd paths, odd queries, odd headers, any body.
func request(t *rapid.T, c Credentials, service string) *signed {
	u := url.URL{Scheme: "https", Host: rapid.SampledFrom([]string{"127.0.0.1:4433", "localhost", "iot.eu-central-1.amazonaws.com"}).Draw(t, "host")}
	path, raw := "", ""
	for _, segment := range rapid.SliceOfN(oddSegments, 0, 5).Draw(t, "segments") {
		path += "/" + segment
		raw += "/" + url.PathEscape(segment)
	}
	if strings.HasPrefix(path, "//") { // no client can send it: it would be a host
		path, raw = "/x"+path, "/x"+raw
	}
	u.Path, u.RawPath = path, raw
	query := url.Values{}
	for _, value := range rapid.SliceOfN(oddSegments, 0, 4).Draw(t, "values") {
		query.Add(oddSegments.Draw(t, "name"), value)
	}
	u.RawQuery = query.Encode()
	header := http.Header{"Content-Type": {"application/json"}}
	for _, name := range rapid.SliceOfN(plainNames, 0, 3).Draw(t, "headers") {
		header.Add("X-"+name, headerTexts.Draw(t, "header"))
	}
	method := rapid.SampledFrom([]string{"GET", "POST", "PUT", "DELETE", "PATCH"}).Draw(t, "method")
	body := rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "body")
	at := sigNow.Add(time.Duration(rapid.IntRange(-290, 290).Draw(t, "skew")) * time.Second)
	return sign(t, c, method, u.String(), header, body, service, Region, at)
}

// What AWS's own signer signs is accepted, and no mutation of it is.
func TestSignaturesOfTheSDKAndTheirMutations(t *testing.T) {
	a, admin, role := testAccount(t)
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SampledFrom([]Credentials{admin, role}).Draw(t, "keys")
		service := rapid.SampledFrom([]string{"iot", "execute-api"}).Draw(t, "service")
		s := request(t, keys, service)
		who, refused := s.judge(a, []string{"iot", "execute-api"}, sigNow)
		if refused != nil || who.AccessKeyID != keys.AccessKeyID {
			t.Fatalf("%s %s refused: %v\n%v", s.method, s.target, refused, s.header)
		}
		m := s.clone()
		what := mutate(t, m, admin, role)
		if who, refused := m.judge(a, []string{"iot", "execute-api"}, sigNow); refused == nil {
			t.Fatalf("accepted as %s after: %s\n%s %s\n%v", who.AccessKeyID, what, m.method, m.target, m.header)
		} else if refused.status < 400 || refused.name == "" || refused.message == "" {
			t.Fatalf("refused without saying why: %+v", refused)
		}
	})
}

// mutate changes one thing that is signed, and says what.
func mutate(t *rapid.T, s *signed, admin, role Credentials) string {
	auth := s.header.Get("Authorization")
	switch rapid.IntRange(0, 11).Draw(t, "mutation") {
	case 0:
		s.method = map[string]string{"GET": "POST"}[s.method]
		if s.method == "" {
			s.method = "GET"
		}
		return "another method"
	case 1:
		path, query, found := strings.Cut(s.target, "?")
		s.target = path + "x"
		if found {
			s.target += "?" + query
		}
		return "a longer path"
	case 2:
		separator := "?"
		if strings.Contains(s.target, "?") {
			separator = "&"
		}
		s.target += separator + "maxResults=1"
		return "one parameter more"
	case 3:
		if at := strings.IndexByte(s.target, '='); at > 0 {
			s.target = s.target[:at+1] + "x" + s.target[at+1:]
			return "another value of a parameter"
		}
		s.target = "/y" + s.target
		return "another path"
	case 4:
		s.body = append(s.body, ' ')
		return "a longer body"
	case 5:
		if len(s.body) > 0 {
			s.body[rapid.IntRange(0, len(s.body)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
			return "a bit of the body"
		}
		s.header.Set("Host", "elsewhere.example")
		return "another host"
	case 6:
		s.header.Set("Content-Type", "text/plain")
		return "another content type"
	case 7:
		at := strings.Index(auth, "Signature=") + len("Signature=") + rapid.IntRange(0, 63).Draw(t, "digit")
		digit := byte('0')
		if auth[at] == digit {
			digit = 'f'
		}
		s.header.Set("Authorization", auth[:at]+string(digit)+auth[at+1:])
		return "a digit of the signature"
	case 8:
		stamp := s.header.Get("X-Amz-Date")
		at, _ := time.Parse(sigDateFormat, stamp)
		s.header.Set("X-Amz-Date", at.Add(time.Second).Format(sigDateFormat))
		return "another second"
	case 9:
		other := role
		if strings.Contains(auth, role.AccessKeyID) {
			other = admin
		}
		s.header.Set("Authorization", strings.NewReplacer(role.AccessKeyID, other.AccessKeyID, admin.AccessKeyID, other.AccessKeyID).Replace(auth))
		s.header.Del("X-Amz-Security-Token")
		if other.SessionToken != "" {
			s.header.Set("X-Amz-Security-Token", other.SessionToken)
		}
		return "another identity's keys"
	case 10:
		s.header.Set("X-Amz-Target", "injected")
		return "one of Amazon's headers, unsigned"
	default:
		s.header.Set("Authorization", strings.Replace(auth, "SignedHeaders=content-", "SignedHeaders=xontent-", 1))
		return "other signed headers"
	}
}

// The order and the words of refusals (cloud spec 7.10, 7.11).
func TestRefusalsOfSignatures(t *testing.T) {
	a, admin, role := testAccount(t)
	good := func(c Credentials, service, region string, at time.Time) *signed {
		return sign(t, c, "GET", "https://localhost/things?maxResults=3", nil, nil, service, region, at)
	}
	stolen := admin
	stolen.SecretAccessKey = "wrong"
	unknown := newCredentials("AKIA")
	tokenless := role
	tokenless.SessionToken = ""
	for name, c := range map[string]struct {
		request *signed
		now     time.Time
		change  func(*signed)
		error   string
		message string
	}{
		"no header":         {good(admin, "iot", Region, sigNow), sigNow, func(s *signed) { s.header.Del("Authorization") }, "MissingAuthenticationTokenException", "Missing"},
		"another algorithm": {good(admin, "iot", Region, sigNow), sigNow, func(s *signed) { s.header.Set("Authorization", "Bearer x") }, "IncompleteSignatureException", "algorithm"},
		"nothing but the algorithm": {good(admin, "iot", Region, sigNow), sigNow, func(s *signed) { s.header.Set("Authorization", sigAlgorithm+" Credential=a/b/c/d/e") },
			"IncompleteSignatureException", "requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter."},
		"credential of four parts": {good(admin, "iot", Region, sigNow), sigNow, func(s *signed) {
			s.header.Set("Authorization", strings.Replace(s.header.Get("Authorization"), "/aws4_request", "", 1))
		}, "IncompleteSignatureException", "5 slash-delimited"},
		"two headers":                 {good(admin, "iot", Region, sigNow), sigNow, func(s *signed) { s.header.Add("Authorization", s.header.Get("Authorization")) }, "IncompleteSignatureException", "One"},
		"unknown key":                 {good(unknown, "iot", Region, sigNow), sigNow, nil, "UnrecognizedClientException", "invalid"},
		"no session token":            {good(tokenless, "iot", Region, sigNow), sigNow, nil, "UnrecognizedClientException", "invalid"},
		"wrong secret":                {good(stolen, "iot", Region, sigNow), sigNow, nil, "InvalidSignatureException", "does not match the signature you provided"},
		"expired token":               {good(role, "iot", Region, sigNow.Add(time.Hour)), sigNow.Add(time.Hour), nil, "ExpiredTokenException", "expired"},
		"wrong region":                {good(admin, "iot", "us-east-1", sigNow), sigNow, nil, "InvalidSignatureException", "valid region, not 'us-east-1'"},
		"wrong service":               {good(admin, "s3", Region, sigNow), sigNow, nil, "InvalidSignatureException", "correct service: 'iot'"},
		"no date":                     {good(admin, "iot", Region, sigNow), sigNow, func(s *signed) { s.header.Del("X-Amz-Date") }, "IncompleteSignatureException", "X-Amz-Date"},
		"date of another form":        {good(admin, "iot", Region, sigNow), sigNow, func(s *signed) { s.header.Set("X-Amz-Date", "20261121T120000.5Z") }, "IncompleteSignatureException", "ISO-8601"},
		"date of another day":         {good(admin, "iot", Region, sigNow), sigNow, func(s *signed) { s.header.Set("X-Amz-Date", "20261120T120000Z") }, "InvalidSignatureException", "'20261121' != '20261120'"},
		"five minutes and a bit ago":  {good(admin, "iot", Region, sigNow.Add(-301*time.Second)), sigNow, nil, "InvalidSignatureException", "Signature expired: 20261121T115459Z is now earlier than 20261121T115500Z"},
		"five minutes and a bit more": {good(admin, "iot", Region, sigNow.Add(301*time.Second)), sigNow, nil, "InvalidSignatureException", "Signature not yet current"},
		"host not signed": {good(admin, "iot", Region, sigNow), sigNow, func(s *signed) {
			s.header.Set("Authorization", strings.Replace(s.header.Get("Authorization"), "SignedHeaders=host;", "SignedHeaders=", 1))
		}, "InvalidSignatureException", "'Host'"},
		"another body's digest": {sign(t, admin, "GET", "https://localhost/things", http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}, nil, "iot", Region, sigNow), sigNow, nil,
			"InvalidSignatureException", "x-amz-content-sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			s := c.request.clone()
			if c.change != nil {
				c.change(s)
			}
			_, refused := s.judge(a, []string{"iot", "execute-api"}, c.now)
			if refused == nil || refused.status != http.StatusForbidden || refused.name != c.error || !strings.Contains(refused.message, c.message) {
				t.Errorf("got %+v, want 403 %s with %q", refused, c.error, c.message)
			}
		})
	}
	edge := good(admin, "iot", Region, sigNow.Add(-5*time.Minute))
	if _, refused := edge.judge(a, []string{"iot"}, sigNow); refused != nil {
		t.Errorf("exactly five minutes: %+v", refused)
	}
}

// The example in AWS's manual (IAM's ListUsers) pins the derivation without any signer.
func TestSigningKeyOfTheManual(t *testing.T) {
	a := &authorization{date: "20150830", region: "us-east-1", service: "iam", terminator: sigTerminator}
	key := hex.EncodeToString(a.signingKey("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"))
	if want := "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9"; key != want {
		t.Errorf("signing key %s, want %s", key, want)
	}
}

func TestPermissions(t *testing.T) {
	allow := func(action string) string {
		return `{"Effect":"Allow","Action":"` + action + `","Resource":"*"}`
	}
	for _, c := range []struct {
		statements, action string
		want               string // of the message; empty: allowed
	}{
		{allow("*"), "iot:ListThings", ""},
		{allow("iot:*"), "IOT:ListThings", ""},
		{allow("iot:*"), "greengrass:ListThings", "because no identity-based policy allows the greengrass:ListThings action"},
		{allow("iot:ListThingPrincipals"), "iot:ListThingPrincipalsV2", "because no identity-based policy"},
		{allow("*") + `,{"Effect":"Deny","Action":"iot:List*","Resource":"arn:aws:*"}`, "iot:ListThings", "with an explicit deny in an identity-based policy"},
		{allow("*") + `,{"Effect":"Deny","Action":"iot:List*","Resource":"arn:aws:z"}`, "iot:ListThings", ""},
	} {
		role, err := Role{Name: "x", Policies: map[string]string{"x": `{"Statement":[` + c.statements + `]}`}}.read()
		if err != nil {
			t.Fatal(err)
		}
		who := session(newCredentials("ASIA"), role, "y", role.permissions)
		refused := who.authorize(c.action, "arn:aws:y")
		if (refused == nil) != (c.want == "") {
			t.Errorf("%v, %s: %+v", c.statements, c.action, refused)
		}
		if want := "assumed-role/x/y is not authorized to perform: " + c.action + " on resource: arn:aws:y " + c.want; refused != nil && (refused.status != 403 || !strings.Contains(refused.message, want)) {
			t.Errorf("refused with %+v, want %q", refused, want)
		}
	}
	role, err := Role{Name: "x"}.read()
	if err != nil {
		t.Fatal(err)
	}
	if refused := session(newCredentials("ASIA"), role, "y", role.permissions).authorize("iot:ListThings", "*"); refused == nil {
		t.Error("a role without a policy may list things")
	}
}

func TestCredentialsKeepTheirSecrets(t *testing.T) {
	c := newCredentials("AKIA")
	c.SessionToken = "token-token"
	who := &identity{Credentials: c}
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v %#v %d", c, c, c), fmt.Sprintf("%v", who), c.LogValue().String()} {
		if strings.Contains(text, c.SecretAccessKey) || strings.Contains(text, c.SessionToken) {
			t.Errorf("printed: %s", text)
		}
	}
}

func TestIssuedCredentialsAreBounded(t *testing.T) {
	a := newAccount()
	first, err := a.issue(TokenExchangeRole, time.Minute, sigNow)
	if err != nil {
		t.Fatal(err)
	}
	for range identitiesMax {
		if _, err := a.issue(TokenExchangeRole, time.Minute, sigNow); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.identities) != identitiesMax || a.identities[first.AccessKeyID] != nil {
		t.Errorf("%d identities are kept, the first one among them: %v", len(a.identities), a.identities[first.AccessKeyID] != nil)
	}
	if _, err := a.issue(TokenExchangeRole, 13*time.Hour, sigNow); err == nil {
		t.Error("credentials for 13 hours")
	}
	if _, err := a.issue(Role{}, time.Hour, sigNow); err == nil {
		t.Error("credentials for nobody")
	}
}

// FuzzAuthorization: any header is refused with AWS's words or read without loss.
func FuzzAuthorization(f *testing.F) {
	good := sign(f, newCredentials("AKIA"), "GET", "https://localhost/things", nil, nil, "iot", Region, sigNow).header.Get("Authorization")
	f.Add(good)
	f.Add(strings.ReplaceAll(good, ", ", ","))
	f.Add(sigAlgorithm)
	f.Add(sigAlgorithm + " Credential=a/b/c/d/e, SignedHeaders=host;host, Signature=00")
	f.Add("Bearer x")
	f.Fuzz(func(t *testing.T, header string) {
		a, refused := parseAuthorization([]string{header})
		if (a == nil) == (refused == nil) {
			t.Fatalf("read as %v and refused with %v", a, refused)
		}
		if refused != nil {
			checkRefusal(t, refused)
			return
		}
		written := sigAlgorithm + " Credential=" + a.accessKey + "/" + a.scope() + ", SignedHeaders=" + strings.Join(a.signedHeaders, ";") + ", Signature=" + a.signature
		again, refused := parseAuthorization([]string{written})
		if refused != nil || again.scope() != a.scope() || again.accessKey != a.accessKey || again.signature != a.signature {
			t.Errorf("%q came back as %+v, %+v", written, again, refused)
		}
	})
}
