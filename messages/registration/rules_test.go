package registration

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var byName = Thing{Name: "${subject.commonName}"}

// Rules match in order, and what none matches is denied.
func TestTheFirstRuleThatMatchesDecides(t *testing.T) {
	fleet := newSigner(t, nil)
	link, err := url.Parse("urn:pump:7")
	if err != nil {
		t.Fatal(err)
	}
	leaf := fleet.leaf(t, func(c *x509.Certificate) {
		c.Subject.OrganizationalUnit = []string{"pumps", "hall-2"}
		c.DNSNames, c.EmailAddresses, c.URIs, c.IPAddresses = []string{"pump-7.local"}, []string{"a@acme.example"}, []*url.URL{link}, []net.IP{net.IPv4(10, 0, 0, 7)}
	})
	c := candidateOf(leaf, fleet)
	allow := func(m Match) []Rule { return []Rule{{Name: "a", Match: m, Thing: byName}} }
	deny := func(m Match) []Rule {
		return []Rule{{Name: "d", Effect: EffectDeny, Match: m}, {Name: "a", Thing: byName}}
	}
	subject := func(attribute string, patterns ...string) Match {
		return Match{Subject: map[string][]string{attribute: patterns}}
	}
	for name, test := range map[string]struct {
		rules   []Rule
		allowed bool
		rule    string
	}{
		"none":                           {nil, false, ""},
		"without conditions":             {allow(Match{}), true, "a"},
		"common name":                    {allow(subject("commonName", "valve-*", "pump-*")), true, "a"},
		"another common name":            {allow(subject("commonName", "valve-*")), false, ""},
		"case matters to allow":          {allow(subject("commonName", "PUMP-*")), false, ""},
		"every value must match":         {allow(subject("organizationalUnit", "pumps")), false, ""},
		"every value matches":            {allow(subject("organizationalUnit", "pumps", "hall-*")), true, "a"},
		"what is not there":              {allow(subject("state", "*")), false, ""},
		"all conditions":                 {allow(Match{Subject: map[string][]string{"commonName": {"*"}}, Issuer: map[string][]string{"commonName": {"Other"}}}), false, ""},
		"issuer":                         {allow(Match{Issuer: map[string][]string{"commonName": {"Fleet CA"}}}), true, "a"},
		"its authority":                  {allow(Match{Authority: []string{string(c.Authority)}}), true, "a"},
		"another authority":              {allow(Match{Authority: []string{strings.Repeat("0", 64)}}), false, ""},
		"serial":                         {allow(Match{Serial: []string{"abc"}}), true, "a"},
		"id":                             {allow(Match{Certificate: []string{string(c.Certificate)}}), true, "a"},
		"key":                            {allow(Match{Key: []string{"P-*"}}), true, "a"},
		"another key":                    {allow(Match{Key: []string{"RSA-*"}}), false, ""},
		"alternative names":              {allow(Match{DNS: []string{"*.local"}, Email: []string{"*@acme.example"}, URI: []string{"urn:pump:*"}, IP: []string{"10.0.0.*"}}), true, "a"},
		"another address":                {allow(Match{IP: []string{"10.1.*"}}), false, ""},
		"valid for as long":              {allow(Match{ValidityMax: 25 * time.Hour}), true, "a"},
		"valid for too long":             {allow(Match{ValidityMax: 24 * time.Hour}), false, ""},
		"denied":                         {deny(subject("commonName", "pump-7")), false, "d"},
		"denied in any case":             {deny(subject("commonName", "PUMP-7")), false, "d"},
		"one value is enough to deny":    {deny(subject("organizationalUnit", "hall-2")), false, "d"},
		"not denied":                     {deny(subject("commonName", "pump-8")), true, "a"},
		"what is not there is no ground": {deny(subject("state", "*")), true, "a"},
		"all are denied":                 {deny(Match{}), false, "d"},
	} {
		v := compile(t, Config{Rules: test.rules}).Judge(leaf, c, noon)
		if v.Allowed != test.allowed || v.Rule != test.rule || v.Reason == "" || v.Allowed == reflect.DeepEqual(v.Plan, Plan{}) {
			t.Errorf("%s: %+v, want allowed %v by %q", name, v, test.allowed, test.rule)
		}
	}
	if v := (Rules{}).Judge(leaf, c, noon); v.Allowed {
		t.Error("no rules at all allow", v)
	}
	rules := compile(t, Config{Rules: allow(Match{})})
	for name, v := range map[string]Verdict{
		"after its end":       rules.Judge(leaf, c, leaf.NotAfter.Add(time.Second)),
		"of another":          rules.Judge(fleet.leaf(t, nil), c, noon),
		"an authority itself": rules.Judge(fleet.cert, candidateOf(fleet.cert, fleet), noon),
	} {
		if v.Allowed || v.Reason == "" {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestPlanOfADevice(t *testing.T) {
	fleet := newSigner(t, nil)
	leaf := fleet.leaf(t, nil)
	c := candidateOf(leaf, fleet)
	rule := Rule{
		Name: "pumps", Associate: true,
		Thing: Thing{Name: "acme-${subject.commonName}", Type: "pump", Group: "hall", Attributes: map[string]string{"org": "${subject.organization}", "sn": "x"}},
		Policy: Policy{Name: "device-${thing.name}", Document: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish",
			"Resource":["arn:aws:iot:*:*:topic/d/${thing.name}/*","arn:aws:iot:*:*:topic/$aws/things/${iot:ClientId}/<x>"]}]}`},
	}
	got := compile(t, Config{Rules: []Rule{rule}}).Judge(leaf, c, noon)
	want := Verdict{Allowed: true, Rule: "pumps", Reason: "the rule allows it", Plan: Plan{
		Thing: "acme-pump-7", ThingType: "pump", Group: "hall", Attributes: map[string]string{"org": "ACME", "sn": "x"}, Associate: true, PolicyName: "device-acme-pump-7",
		PolicyDocument: `{"Statement":[{"Action":"iot:Publish","Effect":"Allow","Resource":["arn:aws:iot:*:*:topic/d/acme-pump-7/*","arn:aws:iot:*:*:topic/$aws/things/${iot:ClientId}/<x>"]}],"Version":"2012-10-17"}`,
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

// What the rules cannot make of a device is denied, with the reason.
func TestWhatCannotBeMadeIsDenied(t *testing.T) {
	fleet := newSigner(t, nil)
	named := func(cn string) *x509.Certificate {
		return fleet.leaf(t, func(c *x509.Certificate) { c.Subject = pkix.Name{CommonName: cn} })
	}
	twice := fleet.leaf(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "a"}, {Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "b"}}}
	})
	for name, test := range map[string]struct {
		leaf *x509.Certificate
		as   string
		rule Rule
		want string
	}{
		"no name":               {fleet.leaf(t, func(c *x509.Certificate) { c.Subject = pkix.Name{Country: []string{"DE"}} }), "", Rule{Thing: byName}, "gives none"},
		"two names":             {twice, "", Rule{Thing: byName}, "gives 2"},
		"no thing name":         {named("pump 7"), "", Rule{Thing: byName}, "thing name"},
		"a long name":           {named(strings.Repeat("a", 129)), "", Rule{Thing: byName}, "thing name"},
		"a very long name":      {named(strings.Repeat("a", 257)), "", Rule{Thing: byName}, "longer"},
		"the core's":            {named("core-1"), "", Rule{Thing: byName}, "core's own"},
		"the core's shadow's":   {named("core-1-gci"), "", Rule{Thing: byName}, "core's own"},
		"the registrar's":       {named("core-1-registrar"), "", Rule{Thing: byName}, "core's own"},
		"the registrar's other": {named("listener"), "", Rule{Thing: byName}, "core's own"},
		"another client id":     {named("pump-7"), "pump-8", Rule{Thing: Thing{Name: byName.Name, ClientID: true}}, "client id"},
		"an attribute's blank":  {fleet.leaf(t, func(c *x509.Certificate) { c.Subject.Organization = []string{"A B"} }), "", Rule{Thing: Thing{Name: byName.Name, Attributes: map[string]string{"o": "${subject.organization}"}}}, "attribute o"},
		"a policy name's colon": {named("a:b"), "", Rule{Thing: byName, Policy: Policy{Name: "p-${thing.name}"}}, "policy name"},
		"a wildcard": {fleet.leaf(t, func(c *x509.Certificate) { c.Subject.Organization = []string{"*"} }), "", Rule{Thing: byName,
			Policy: Policy{Name: "p-${thing.name}", Document: `{"Statement":{"Resource":"${subject.organization}"}}`}}, "further than its own name"},
	} {
		test.rule.Name = "r"
		c := candidateOf(test.leaf, fleet)
		if c.Thing = "x"; test.as != "" {
			c.Thing = "pump-8"
		}
		v := compile(t, Config{Core: "core-1", ClientID: "listener", Rules: []Rule{test.rule}}).Judge(test.leaf, c, noon)
		if v.Allowed || v.Rule != "r" || !strings.Contains(v.Reason, test.want) || !reflect.DeepEqual(v.Plan, Plan{}) {
			t.Errorf("%s: %+v, want a no about %q", name, v, test.want)
		}
	}
}

// Configurations that cannot be meant are refused, with the place.
func TestCompileRefusesWhatCannotBeMeant(t *testing.T) {
	document := func(text string) Policy { return Policy{Name: "p-${thing.name}", Document: text} }
	for name, test := range map[string]struct {
		rule Rule
		path string
	}{
		"no name":               {Rule{Thing: byName}, "rules[0].name"},
		"effect":                {Rule{Name: "r", Effect: "ALLOW", Thing: byName}, "rules[0].effect"},
		"no thing":              {Rule{Name: "r"}, "rules[0].thing.name"},
		"one name for all":      {Rule{Name: "r", Thing: Thing{Name: "pump"}}, "rules[0].thing.name"},
		"its issuer's name":     {Rule{Name: "r", Thing: Thing{Name: "${issuer.commonName}"}}, "rules[0].thing.name"},
		"itself":                {Rule{Name: "r", Thing: Thing{Name: "${thing.name}"}}, "rules[0].thing.name"},
		"unknown variable":      {Rule{Name: "r", Thing: Thing{Name: "${subject.cn}"}}, "rules[0].thing.name"},
		"AWS's variable":        {Rule{Name: "r", Thing: Thing{Name: "${iot:ClientId}"}}, "rules[0].thing.name"},
		"open variable":         {Rule{Name: "r", Thing: Thing{Name: "${subject.commonName"}}, "rules[0].thing.name"},
		"attribute":             {Rule{Name: "r", Thing: byName, Match: Match{Subject: map[string][]string{"cn": {"*"}}}}, "rules[0].match.subject.cn"},
		"empty list":            {Rule{Name: "r", Thing: byName, Match: Match{DNS: []string{}}}, "rules[0].match.dns"},
		"empty pattern":         {Rule{Name: "r", Thing: byName, Match: Match{DNS: []string{"a", ""}}}, "rules[0].match.dns[1]"},
		"variable in a pattern": {Rule{Name: "r", Thing: byName, Match: Match{DNS: []string{"${thing.name}"}}}, "rules[0].match.dns[0]"},
		"deny with a thing":     {Rule{Name: "r", Effect: EffectDeny, Thing: byName}, "rules[0].thing"},
		"deny with a policy":    {Rule{Name: "r", Effect: EffectDeny, Policy: Policy{Name: "p"}}, "rules[0].policy"},
		"deny by validity":      {Rule{Name: "r", Effect: EffectDeny, Match: Match{ValidityMax: 1}}, "rules[0].match.validityMax"},
		"negative validity":     {Rule{Name: "r", Thing: byName, Match: Match{ValidityMax: -1}}, "rules[0].match.validityMax"},
		"type":                  {Rule{Name: "r", Thing: Thing{Name: byName.Name, Type: "a b"}}, "rules[0].thing.type"},
		"attributes":            {Rule{Name: "r", Thing: Thing{Name: byName.Name, Attributes: map[string]string{"a": "", "b": "", "c": "", "d": ""}}}, "rules[0].thing.attributes"},
		"one policy for each":   {Rule{Name: "r", Thing: byName, Policy: Policy{Name: "p", Document: `{"Statement":{"Resource":"${thing.name}"}}`}}, "rules[0].policy.name"},
		"document, no name":     {Rule{Name: "r", Thing: byName, Policy: Policy{Document: `{"Statement":[]}`}}, "rules[0].policy.name"},
		"no JSON":               {Rule{Name: "r", Thing: byName, Policy: document(`{"Statement":`)}, "rules[0].policy.document"},
		"two documents":         {Rule{Name: "r", Thing: byName, Policy: document(`{"Statement":[]}{}`)}, "rules[0].policy.document"},
		"a name twice":          {Rule{Name: "r", Thing: byName, Policy: document(`{"Statement":[{"Effect":"Deny","Effect":"Allow"}]}`)}, "rules[0].policy.document"},
		"no statement":          {Rule{Name: "r", Thing: byName, Policy: document(`{"Version":"2012-10-17"}`)}, "rules[0].policy.document"},
		"an action's variable":  {Rule{Name: "r", Thing: byName, Policy: document(`{"Statement":[{"Action":"iot:${subject.organization}"}]}`)}, "rules[0].policy.document"},
		"a name's variable":     {Rule{Name: "r", Thing: byName, Policy: document(`{"Statement":[{"${subject.organization}":""}]}`)}, "rules[0].policy.document"},
		"too deep":              {Rule{Name: "r", Thing: byName, Policy: document(`{"Statement":` + strings.Repeat("[", 10) + strings.Repeat("]", 10) + `}`)}, "rules[0].policy.document"},
	} {
		_, err := Compile(Config{Rules: []Rule{test.rule}})
		list, _ := err.(Errors)
		found := false
		for _, e := range list {
			found = found || e.Path == test.path && e.Msg != ""
		}
		if !found {
			t.Errorf("%s: %v, want something about %s", name, err, test.path)
		}
	}
	if _, err := Compile(Config{Rules: []Rule{{Name: "r", Thing: byName}, {Name: "r", Thing: byName}}, PerHour: -1, OnDenied: "no"}); err == nil || len(err.(Errors)) != 3 {
		t.Errorf("%v, want 3 errors", err)
	}
}

// A subject stays what it is, wherever its variable stands: whatever it says, the policy has
// the shape of its template, and the resource reaches no further than one name.
func TestASubjectDoesNotLeaveItsVariable(t *testing.T) {
	fleet := newSigner(t, nil)
	key := newKey(t)
	rules := compile(t, Config{Rules: []Rule{{Name: "r", Thing: Thing{Name: "${certificate.id}"}, Policy: Policy{
		Name: "p-${certificate.id}", Document: `{"Statement":[{"Effect":"Allow","Resource":["topic/a/${subject.organization}/b"]}]}`}}}})
	shape := regexp.MustCompile(`^\{"Statement":\[\{"Effect":"Allow","Resource":\["topic/a/([^"\\/*?+#$]+)/b"\]\}\]\}$`)
	rapid.Check(t, func(rt *rapid.T) {
		said := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z"*?+#/$\\{},:]{1,12}`), rapid.SampledFrom([]string{`x","*`, `\u0022`, "${iot:ClientId}", "../..", "x\n\"", "%2a"})).Draw(rt, "organization")
		leaf := issue(t, &x509.Certificate{Subject: pkix.Name{Organization: []string{said}}}, fleet, key)
		v := rules.Judge(leaf, candidateOf(leaf, fleet), noon)
		if !v.Allowed {
			return
		}
		found := shape.FindStringSubmatch(v.Plan.PolicyDocument)
		if found == nil || found[1] != said {
			rt.Fatalf("%q became %s", said, v.Plan.PolicyDocument)
		}
	})
}

// matches agrees with a regular expression.
func FuzzMatches(f *testing.F) {
	f.Add("a*b*c", "axbxbxc")
	f.Add("*", "")
	f.Add("a*a", "a")
	f.Add("**a**", "bab")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 64 || len(text) > 256 {
			return
		}
		quoted := strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, `.*`)
		r, err := regexp.Compile(`^(?s:` + quoted + `)$`)
		if err != nil || strings.ToValidUTF8(pattern+text, "") != pattern+text {
			return
		}
		if got, want := matches(pattern, text), r.MatchString(text); got != want {
			t.Errorf("%q on %q: %v, want %v", pattern, text, got, want)
		}
	})
}

// FuzzCompile: what compiles is judged, whatever it holds, and is allowed only with a thing.
func FuzzCompile(f *testing.F) {
	f.Add("r", "pump-*", "${subject.commonName}", "p-${thing.name}", `{"Statement":[{"Resource":"${thing.name}"}]}`)
	f.Add("r", "*", "x${certificate.serial}${", "${", `{"Statement":[{"Resource":["${iot:ClientId}",1,null,true,{"a":[]}]}]}`)
	fleet := newSigner(f, nil)
	leaf := fleet.leaf(f, nil)
	f.Fuzz(func(t *testing.T, name, pattern, thing, policy, document string) {
		r, err := Compile(Config{Rules: []Rule{{Name: name, Match: Match{Subject: map[string][]string{"commonName": {pattern}}}, Thing: Thing{Name: thing}, Policy: Policy{Name: policy, Document: document}}}})
		if err != nil {
			if _, ok := err.(Errors); !ok || !strings.Contains(fmt.Sprint(err), "rules") {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		v := r.Judge(leaf, candidateOf(leaf, fleet), noon)
		if v.Allowed && (v.Plan.Thing == "" || document != "" && !SamePolicy(v.Plan.PolicyDocument, v.Plan.PolicyDocument)) {
			t.Errorf("%+v", v)
		}
	})
}

func TestPoliciesAreComparedAsJSON(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{`{"a":1,"b":[2]}`, ` {"b":[2], "a":1}`, true},
		{`{"a":"<"}`, `{"a":"\u003c"}`, true},
		{`{"a":[1,2]}`, `{"a":[2,1]}`, false},
		{`{"a":1}`, `{"a":1,"a":2}`, false},
		{`{`, `{`, false},
	} {
		if got := SamePolicy(test.a, test.b); got != test.want {
			t.Errorf("%s and %s: %v", test.a, test.b, got)
		}
	}
}
