package iotverifier

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"go.uber.org/goleak"

	"github.com/gatehouse-edge/gatehouse/cloudsync/cloudsynctest"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/messages"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// today is the service's time: the SDK blames a refusal on clocks that differ.
var today = time.Now().UTC().Truncate(time.Second)

// reply is one answer of the service.
type reply struct {
	status  int
	body    string
	headers []string
}

func named(status int, name string, headers ...string) reply {
	if name != "" {
		headers = append(headers, "X-Amzn-ErrorType", name)
	}
	return reply{status, `{"message":"as told"}`, headers}
}

// site is a service that answers by path, and a verifier for it.
type site struct {
	cfg    Config
	device messages.CloudQuestion // identity; the association is with pump-7
	core   []byte

	mu    sync.Mutex
	say   map[string][]reply // by path, in order; the last one stays
	asked []string
}

const principalsPath = "/things/pump-7/principals"

func certificatePath(id messages.CertificateID) string { return "/certificates/" + string(id) }

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{say: map[string][]reply{}}
	server, ca := cloudsynctest.Serve(t, s.serve, nil)
	s.core = ca.Issue(t, "core-1", cloudsynctest.Noon).Certificate[0]
	der := ca.Issue(t, "pump-7", cloudsynctest.Noon).Certificate[0]
	s.device = messages.CloudQuestion{Certificate: messages.CertificateIDOf(der), DER: der}
	s.cfg = Config{Core: messages.CertificateIDOf(s.core), Control: control.Config{
		Region: "eu-central-1", Endpoint: server.URL, ServerName: cloudsynctest.ServerName, Roots: ca.Pool(), Now: cloudsynctest.AtNoon,
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "session"), Timeout: 5 * time.Second,
	}}
	s.say[certificatePath(s.cfg.Core)] = []reply{description(s.core, "ACTIVE")}
	return s
}

func (s *site) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	said := named(500, "InternalFailureException")
	if all := s.say[r.URL.Path]; len(all) > 0 {
		said = all[0]
		if len(all) > 1 {
			s.say[r.URL.Path] = all[1:]
		}
	}
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Date", today.Format(http.TimeFormat))
	for i := 0; i < len(said.headers); i += 2 {
		w.Header().Set(said.headers[i], said.headers[i+1])
	}
	w.WriteHeader(said.status)
	_, _ = io.WriteString(w, said.body)
}

func (s *site) verifier(t testing.TB) *Verifier {
	t.Helper()
	v, err := New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return v
}

func (s *site) association() messages.CloudQuestion {
	return messages.CloudQuestion{Certificate: s.device.Certificate, Thing: "pump-7"}
}

// description describes der's certificate; change, of pairs of a member and its JSON,
// replaces members, and "" removes one.
func description(der []byte, status string, change ...string) reply {
	members := map[string]json.RawMessage{}
	set := func(name string, value any) {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		members[name] = text
	}
	id := messages.CertificateIDOf(der)
	set("certificateId", id)
	set("certificateArn", "arn:aws:iot:eu-central-1:123456789012:cert/"+id)
	set("status", status)
	set("certificatePem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	for i := 0; i < len(change); i += 2 {
		if members[change[i]] = json.RawMessage(change[i+1]); change[i+1] == "" {
			delete(members, change[i])
		}
	}
	body, err := json.Marshal(map[string]any{"certificateDescription": members})
	if err != nil {
		panic(err)
	}
	return reply{status: 200, body: string(body)}
}

func arn(id messages.CertificateID) string {
	return "arn:aws:iot:eu-central-1:123456789012:cert/" + string(id)
}

func principals(next string, all ...string) reply {
	answer := map[string]any{"principals": append([]string{}, all...)}
	if next != "" {
		answer["nextToken"] = next
	}
	body, err := json.Marshal(answer)
	if err != nil {
		panic(err)
	}
	return reply{status: 200, body: string(body)}
}

func validity(from, to time.Time) []string {
	return []string{"validity", fmt.Sprintf(`{"notBefore":%d,"notAfter":%d}`, from.Unix(), to.Unix())}
}

const yes, no, none = messages.CloudConfirmed, messages.CloudDenied, messages.CloudSilent

func TestIdentities(t *testing.T) {
	s := newSite(t)
	v := s.verifier(t)
	der, other := s.device.DER, s.core
	quoted, err := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other})))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		reply reply
		want  messages.CloudVerdict
		why   messages.CloudFailure
		says  string
	}{
		"active":               {description(der, "ACTIVE"), yes, 0, "ACTIVE"},
		"valid":                {description(der, "ACTIVE", validity(today.Add(-time.Hour), today.Add(time.Hour))...), yes, 0, ""},
		"at both ends":         {description(der, "ACTIVE", validity(today, today)...), yes, 0, ""},
		"half a validity":      {description(der, "ACTIVE", "validity", `{}`), yes, 0, ""},
		"expired":              {description(der, "ACTIVE", validity(today.Add(-time.Hour), today.Add(-time.Second))...), no, 0, "validity"},
		"not yet valid":        {description(der, "ACTIVE", validity(today.Add(time.Second), today.Add(time.Hour))...), no, 0, "validity"},
		"inactive":             {description(der, "INACTIVE"), no, 0, "INACTIVE"},
		"revoked":              {description(der, "REVOKED"), no, 0, "REVOKED"},
		"pending transfer":     {description(der, "PENDING_TRANSFER"), no, 0, ""},
		"registered, inactive": {description(der, "REGISTER_INACTIVE"), no, 0, ""},
		"pending activation":   {description(der, "PENDING_ACTIVATION"), no, 0, ""},
		"not found":            {named(404, "ResourceNotFoundException"), no, 0, "no such certificate in eu-central-1"},

		"a status of the future":         {description(der, "FROZEN"), none, messages.FailureNotService, "not known"},
		"no status":                      {description(der, "", "status", ""), none, messages.FailureNotService, "not known"},
		"in small letters":               {description(der, "active"), none, messages.FailureNotService, "not known"},
		"another's description":          {description(other, "ACTIVE"), none, messages.FailureNotService, "not of"},
		"another's certificate":          {description(der, "ACTIVE", "certificatePem", string(quoted)), none, messages.FailureNotService, "another certificate"},
		"another's certificate, revoked": {description(der, "REVOKED", "certificatePem", string(quoted)), none, messages.FailureNotService, "another certificate"},
		"no certificate":                 {description(der, "ACTIVE", "certificatePem", ""), none, messages.FailureNotService, "without a PEM"},
		"a key":                          {description(der, "ACTIVE", "certificatePem", `"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"`), none, messages.FailureNotService, "without a PEM"},
		"no id":                          {description(der, "ACTIVE", "certificateId", ""), none, messages.FailureNotService, "not of"},
		"no description":                 {reply{status: 200, body: `{}`}, none, messages.FailureNotService, "no description"},
		"a null description":             {reply{status: 200, body: `{"certificateDescription":null}`}, none, messages.FailureNotService, "no description"},
		"a portal":                       {reply{200, `<html>`, []string{"Content-Type", "text/html"}}, none, messages.FailureNotService, "captive portal"},
		"half of it":                     {reply{status: 200, body: `{"certificateDescription":{`}, none, messages.FailureNotService, "malformed"},
		"not found by nobody":            {reply{status: 404, body: `{}`}, none, messages.FailureNotService, "check the endpoint"},
		"a name that needs its status":   {named(403, "ResourceNotFoundException"), none, messages.FailureRefused, ""},
		"throttled":                      {named(400, "ThrottlingException", "Retry-After", "7"), none, messages.FailureThrottled, "Retry-After"},
		"access denied":                  {named(403, "AccessDeniedException"), none, messages.FailureRefused, "allow iot:DescribeCertificate in the policy of the token exchange role"},
		"unauthorized":                   {named(401, "UnauthorizedException"), none, messages.FailureRefused, "iot:DescribeCertificate"},
	} {
		t.Run(name, func(t *testing.T) {
			s.say[certificatePath(s.device.Certificate)] = []reply{test.reply}
			got := v.Ask(t.Context(), s.device)
			if got.Verdict != test.want || got.Failure != test.why || !strings.Contains(got.Detail, test.says) {
				t.Errorf("got %s, failure %d (%s), want %s, failure %d, with %q", got.Verdict, got.Failure, got.Detail, test.want, test.why, test.says)
			}
			if said := got.Failure != messages.FailureNotService; said != got.Date.Equal(today) || said == got.Date.IsZero() {
				t.Errorf("dated %v", got.Date)
			}
			if throttled := got.Failure == messages.FailureThrottled; throttled != (got.RetryAfter == 7*time.Second) {
				t.Errorf("retry after %v", got.RetryAfter)
			}
		})
	}
}

func TestAssociations(t *testing.T) {
	s := newSite(t)
	v := s.verifier(t)
	ours, other := arn(s.device.Certificate), arn(s.cfg.Core)
	cognito := "eu-central-1:0d2b6d8e-6b0e-4f0c-9b5e-000000000000"
	round := []reply{principals("t1", other), principals("t2", other), principals("t1", other)}
	var long []reply
	for i := range pagesMax {
		long = append(long, principals(fmt.Sprint("t", i), other))
	}
	for name, test := range map[string]struct {
		replies []reply
		want    messages.CloudVerdict
		why     messages.CloudFailure
		says    string
	}{
		"attached":                 {[]reply{principals("", ours)}, yes, 0, "attached"},
		"among others":             {[]reply{principals("", cognito, other, ours)}, yes, 0, ""},
		"on the third page":        {[]reply{principals("t1", other), principals("t2"), principals("", ours)}, yes, 0, ""},
		"found before the end":     {[]reply{principals("t1", ours), named(500, "")}, yes, 0, ""},
		"in another partition":     {[]reply{principals("", "arn:aws-cn:iot:cn-north-1:1:cert/"+string(s.device.Certificate))}, yes, 0, ""},
		"beside what is no ARN":    {[]reply{principals("", "arn:aws:iot::x", ours)}, yes, 0, ""},
		"not attached":             {[]reply{principals("", other)}, no, 0, "not among"},
		"nothing is":               {[]reply{principals("")}, no, 0, "not among"},
		"not on any page":          {[]reply{principals("t1", other), principals("", cognito)}, no, 0, "not among"},
		"no such thing":            {[]reply{named(404, "ResourceNotFoundException")}, no, 0, "no such thing in eu-central-1"},
		"a token that is refused":  {[]reply{principals("t1", other), named(404, "ResourceNotFoundException")}, none, messages.FailureServer, ""},
		"half of a list":           {[]reply{principals("t1", other), named(500, "InternalFailureException")}, none, messages.FailureServer, "wait"},
		"in circles":               {round, none, messages.FailureNotService, "circles"},
		"without end":              {long, none, messages.FailureNotService, "not all read"},
		"no list":                  {[]reply{{status: 200, body: `{}`}}, none, messages.FailureNotService, "an empty list is []"},
		"a null list":              {[]reply{{status: 200, body: `{"principals":null}`}}, none, messages.FailureNotService, "an empty list is []"},
		"a list of numbers":        {[]reply{{status: 200, body: `{"principals":[1]}`}}, none, messages.FailureNotService, "can be read"},
		"two lists":                {[]reply{{status: 200, body: `{"principals":[],"principals":["` + ours + `"]}`}}, none, messages.FailureNotService, "twice"},
		"an ARN that is none":      {[]reply{principals("", "arn:aws:iot:eu-central-1:1:cert/XY")}, none, messages.FailureNotService, "cannot be read"},
		"the id in capitals":       {[]reply{principals("", arn(messages.CertificateID(strings.ToUpper(string(s.device.Certificate)))))}, none, messages.FailureNotService, "cannot be read"},
		"the id of another sort":   {[]reply{principals("", strings.Replace(ours, ":cert/", ":cacert/", 1))}, none, messages.FailureNotService, "cannot be read"},
		"the id of another system": {[]reply{principals("", strings.Replace(ours, ":iot:", ":acm:", 1))}, none, messages.FailureNotService, "cannot be read"},
		"the id alone":             {[]reply{principals("", string(s.device.Certificate))}, no, 0, "not among"},
		"access denied":            {[]reply{named(403, "AccessDeniedException")}, none, messages.FailureRefused, "allow iot:ListThingPrincipals in the policy of the token exchange role"},
		"throttled":                {[]reply{named(429, "ThrottlingException")}, none, messages.FailureThrottled, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s.say[principalsPath] = test.replies
			got := v.Ask(t.Context(), s.association())
			if got.Verdict != test.want || got.Failure != test.why || !strings.Contains(got.Detail, test.says) {
				t.Errorf("got %s, failure %d (%s), want %s, failure %d, with %q", got.Verdict, got.Failure, got.Detail, test.want, test.why, test.says)
			}
		})
	}
}

// A wrong region or account says no to everything: it counts only where the core's own
// certificate is known.
func TestANoCountsOnlyWhereTheCoreIsKnown(t *testing.T) {
	s := newSite(t)
	ask := func(v *Verifier, verdict messages.CloudVerdict, why messages.CloudFailure, says string) {
		t.Helper()
		for _, q := range []messages.CloudQuestion{s.device, s.association()} {
			if got := v.Ask(t.Context(), q); got.Verdict != verdict || got.Failure != why || !strings.Contains(got.Detail, says) {
				t.Errorf("got %s, failure %d (%s), want %s, failure %d, with %q", got.Verdict, got.Failure, got.Detail, verdict, why, says)
			}
		}
	}
	s.say[certificatePath(s.device.Certificate)] = []reply{named(404, "ResourceNotFoundException")}
	s.say[principalsPath] = []reply{principals("")}
	core := certificatePath(s.cfg.Core)
	for _, test := range []struct {
		about reply
		why   messages.CloudFailure
		says  string
	}{
		{named(404, "ResourceNotFoundException"), messages.FailureRefused, "check cloud.region"},
		{named(403, "AccessDeniedException"), messages.FailureRefused, "allow iot:DescribeCertificate"},
		{named(429, "ThrottlingException"), messages.FailureThrottled, ""},
		{named(500, ""), messages.FailureServer, ""},
		{description(s.device.DER, "ACTIVE"), messages.FailureNotService, "about the core's own certificate"},
	} {
		s.say[core] = []reply{test.about}
		ask(s.verifier(t), none, test.why, test.says)
	}
	s.say[core] = []reply{named(500, "")}
	v := s.verifier(t)
	ask(v, none, messages.FailureServer, "")
	s.say[core] = []reply{description(s.core, "INACTIVE"), named(500, "")}
	ask(v, no, 0, "") // it is known now, whatever its status, and not looked for again
	s.asked = nil
	ask(v, no, 0, "")
	if len(s.asked) != 2 {
		t.Errorf("asked %q", s.asked)
	}
}

// Cloud spec 1.5: none turns our own refusal into a device's.
func TestEachStatusWithEachErrorName(t *testing.T) {
	names := []string{"", "InvalidRequestException", "ResourceNotFoundException", "AccessDeniedException", "ThrottlingException", "InternalFailureException", "ConflictException"}
	kinds := map[rune]messages.CloudFailure{
		'R': messages.FailureRefused, 'T': messages.FailureThrottled, 'S': messages.FailureServer, '?': messages.FailureNotService,
	}
	s := newSite(t)
	v := s.verifier(t)
	for status, want := range map[int]string{
		400: "?SSRTSS", 401: "RRRRTSR", 403: "RRRRTSR", 404: "?SNRTSS", 409: "?SSRTSS",
		429: "TTTRTST", 500: "SSSRTSS", 502: "SSSRTSS", 503: "SSSRTSS", 504: "SSSRTSS",
	} {
		for i, letter := range want {
			s.say[certificatePath(s.device.Certificate)] = []reply{named(status, names[i])}
			s.say[principalsPath] = []reply{named(status, names[i])}
			for _, q := range []messages.CloudQuestion{s.device, s.association()} {
				got := v.Ask(t.Context(), q)
				verdict := none
				if letter == 'N' {
					verdict = no
				}
				if got.Verdict != verdict || got.Failure != kinds[letter] {
					t.Errorf("%d %q: got %s, failure %d (%s), want %c", status, names[i], got.Verdict, got.Failure, got.Detail, letter)
				}
			}
		}
	}
}

func TestQuestionsAreAskedAsAWSExpects(t *testing.T) {
	s := newSite(t)
	s.say[certificatePath(s.device.Certificate)] = []reply{description(s.device.DER, "ACTIVE")}
	s.say[principalsPath] = []reply{principals("a token", arn(s.cfg.Core)), principals("", arn(s.device.Certificate))}
	v := s.verifier(t)
	for _, q := range []messages.CloudQuestion{s.device, s.association()} {
		if got := v.Ask(t.Context(), q); got.Verdict != yes || !got.Date.Equal(today) {
			t.Errorf("got %+v", got)
		}
	}
	want := []string{
		"GET " + certificatePath(s.device.Certificate),
		"GET " + principalsPath + "?maxResults=100", "GET " + principalsPath + "?maxResults=100&nextToken=a%20token",
	}
	if !slices.Equal(s.asked, want) {
		t.Errorf("asked %q, want %q", s.asked, want)
	}
	if _, err := v.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
}

func TestAQuestionIsBoundedAsAWhole(t *testing.T) {
	s := newSite(t)
	arrived := make(chan struct{}, 1)
	server, ca := cloudsynctest.Serve(t, func(_ http.ResponseWriter, r *http.Request) {
		arrived <- struct{}{}
		<-r.Context().Done()
	}, nil)
	s.cfg.Control.Endpoint, s.cfg.Control.Roots, s.cfg.Control.Timeout = server.URL, ca.Pool(), 200*time.Millisecond
	got := s.verifier(t).Ask(t.Context(), s.device)
	<-arrived
	if got.Verdict != none || got.Failure != messages.FailureUnreachable || !strings.Contains(got.Detail, "within 200ms") {
		t.Errorf("got %+v", got)
	}
	server.Close()
	if got := s.verifier(t).Ask(t.Context(), s.device); got.Failure != messages.FailureUnreachable || !strings.Contains(got.Detail, "refused") {
		t.Errorf("got %+v", got)
	}
}

func TestMalformedQuestionsAreNotAsked(t *testing.T) {
	s := newSite(t)
	v := s.verifier(t)
	for name, q := range map[string]messages.CloudQuestion{
		"zero":          {},
		"id of another": {Certificate: s.cfg.Core, DER: s.device.DER},
		"bad thing":     {Certificate: s.device.Certificate, Thing: "a/b"},
	} {
		if got := v.Ask(t.Context(), q); got.Verdict != none || got.Failure != messages.FailureNotAsked {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	if len(s.asked) != 0 {
		t.Errorf("asked %q", s.asked)
	}
}

func TestANewVerifierWantsAllItNeeds(t *testing.T) {
	s := newSite(t)
	for name, change := range map[string]func(*Config){
		"no core":        func(c *Config) { c.Core = "" },
		"no region":      func(c *Config) { c.Control.Region = "" },
		"no credentials": func(c *Config) { c.Control.Credentials = nil },
		"no roots":       func(c *Config) { c.Control.Roots = nil },
		"plain HTTP":     func(c *Config) { c.Control.Endpoint = "http://127.0.0.1" },
	} {
		cfg := s.cfg
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	cfg := s.cfg
	cfg.Control.Endpoint = ""
	v, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if v.endpoint != "https://iot.eu-central-1.amazonaws.com" {
		t.Errorf("AWS is at %s", v.endpoint)
	}
}
