package iotpolicy

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

const arn = "arn:aws:iot:eu-central-1:123456789012:"

// contextOf makes a context of key=value pairs; a value with | in it is several.
func contextOf(pairs ...string) *Context {
	c := &Context{}
	for _, pair := range pairs {
		key, values, _ := strings.Cut(pair, "=")
		c.Set(key, strings.Split(values, "|")...)
	}
	return c
}

func allow(action, resource string) string { return statement("Allow", action, resource) }
func deny(action, resource string) string  { return statement("Deny", action, resource) }
func statement(effect, action, resource string) string {
	return `"Effect":"` + effect + `","Action":"` + action + `","Resource":"` + resource + `"`
}

func TestEvaluate(t *testing.T) {
	for _, test := range []struct {
		name             string
		statements       []string
		action, resource string
		context          *Context
		want             Decision
	}{
		{"nothing is allowed by itself", []string{allow("iot:Connect", "*")}, "iot:Publish", arn + "topic/a", nil, ImplicitDeny},
		{"an action and a resource", []string{allow("iot:Publish", arn+"topic/a")}, "iot:Publish", arn + "topic/a", nil, Allowed},
		{"the action's case does not count", []string{allow("IOT:publish", "*")}, "iot:Publish", arn + "topic/a", nil, Allowed},
		{"the resource's does", []string{allow("iot:Publish", arn+"topic/A")}, "iot:Publish", arn + "topic/a", nil, ImplicitDeny},
		{"deny wins", []string{allow("*", "*"), deny("iot:Publish", arn+"topic/a")}, "iot:Publish", arn + "topic/a", nil, ExplicitDeny},
		{"deny wins, whatever the order", []string{deny("iot:*", "*"), allow("iot:Publish", arn+"topic/a")}, "iot:Publish", arn + "topic/a", nil, ExplicitDeny},
		{"deny of something else", []string{allow("*", "*"), deny("iot:Publish", arn+"topic/b")}, "iot:Publish", arn + "topic/a", nil, Allowed},
		{"star crosses levels", []string{allow("iot:Publish", arn+"topic/a/*")}, "iot:Publish", arn + "topic/a/b/c", nil, Allowed},
		{"star stands for nothing, too", []string{allow("iot:Publish", arn+"topic/a/*")}, "iot:Publish", arn + "topic/a/", nil, Allowed},
		{"question mark is one character", []string{allow("iot:Publish", arn+"topic/?")}, "iot:Publish", arn + "topic/ü", nil, Allowed},
		{"not none", []string{allow("iot:Publish", arn+"topic/a?")}, "iot:Publish", arn + "topic/a", nil, ImplicitDeny},
		{"MQTT wildcards are text", []string{allow("iot:Subscribe", arn+"topicfilter/a/+/#")}, "iot:Subscribe", arn + "topicfilter/a/b/c", nil, ImplicitDeny},
		{"the filter is compared as text", []string{allow("iot:Subscribe", arn+"topicfilter/a/+/#")}, "iot:Subscribe", arn + "topicfilter/a/+/#", nil, Allowed},
		{"NotAction", []string{`"Effect":"Allow","NotAction":"iot:Publish","Resource":"*"`}, "iot:Publish", arn + "topic/a", nil, ImplicitDeny},
		{"NotAction is all others", []string{`"Effect":"Allow","NotAction":"iot:Publish","Resource":"*"`}, "greengrass:Discover", arn + "thing/a", nil, Allowed},
		{"NotResource", []string{`"Effect":"Deny","Action":"*","NotResource":"` + arn + `topic/a*"`, allow("*", "*")}, "iot:Publish", arn + "topic/b", nil, ExplicitDeny},
		{"a list is an or", []string{`"Effect":"Allow","Action":["iot:Connect","iot:Publish"],"Resource":["` + arn + `topic/a","` + arn + `topic/b"]`}, "iot:Publish", arn + "topic/b", nil, Allowed},
		{"no resource at all", []string{allow("*", "*")}, "iot:Publish", "", nil, ImplicitDeny},
		{"no action at all", []string{allow("*", "*")}, "", "*", nil, ImplicitDeny},

		{"variable", []string{allow("iot:Connect", arn+"client/${iot:ClientId}")}, "iot:Connect", arn + "client/c", contextOf("iot:ClientId=c"), Allowed},
		{"the variable's case does not count", []string{allow("iot:Connect", arn+"client/${IOT:clientid}")}, "iot:Connect", arn + "client/c", contextOf("iot:ClientId=c"), Allowed},
		{"another's", []string{allow("iot:Publish", arn+"topic/${iot:ClientId}/x")}, "iot:Publish", arn + "topic/d/x", contextOf("iot:ClientId=c"), ImplicitDeny},
		{"a value is no wildcard", []string{allow("iot:Publish", arn+"topic/${iot:ClientId}/x")}, "iot:Publish", arn + "topic/d/x", contextOf("iot:ClientId=*"), ImplicitDeny},
		{"a value is no variable", []string{allow("iot:Publish", arn+"topic/${iot:ClientId}")}, "iot:Publish", arn + "topic/s", contextOf("iot:ClientId=${aws:SourceIp}", "aws:SourceIp=s"), ImplicitDeny},
		{"a client id may have signs in it", []string{allow("iot:Publish", arn+"topic/${iot:ClientId}/x")}, "iot:Publish", arn + "topic/+/x", contextOf("iot:ClientId=+"), Allowed},
		{"a certificate's value may not", []string{allow("iot:Publish", arn+"topic/${iot:Certificate.Subject.CommonName}/x")}, "iot:Publish", arn + "topic/+/x", contextOf("iot:Certificate.Subject.CommonName=+"), ImplicitDeny},
		{"nor be long", []string{allow("iot:Connect", arn+"client/${iot:ClientId}")}, "iot:Connect", arn + "client/" + strings.Repeat("c", 1025), contextOf("iot:ClientId=" + strings.Repeat("c", 1025)), ImplicitDeny},
		{"a variable without a value is text", []string{allow("iot:Publish", arn+"topic/${iot:ClientId}")}, "iot:Publish", arn + "topic/${iot:ClientId}", nil, Allowed},
		{"and denies nothing else", []string{allow("*", "*"), deny("iot:Publish", arn+"topic/${iot:ClientId}")}, "iot:Publish", arn + "topic/c", nil, Allowed},
		{"with default, as IAM has it: text", []string{allow("iot:Publish", arn+"topic/${iot:ClientId, '*'}")}, "iot:Publish", arn + "topic/c", contextOf("iot:ClientId=c"), ImplicitDeny},
		{"a variable without a value allows nothing by NotResource", []string{`"Effect":"Allow","Action":"*","NotResource":"` + arn + `topic/${iot:ClientId}"`}, "iot:Publish", arn + "topic/c", nil, ImplicitDeny},
		{"but denies", []string{allow("*", "*"), `"Effect":"Deny","Action":"*","NotResource":"` + arn + `topic/${iot:ClientId}"`}, "iot:Publish", arn + "topic/c", nil, ExplicitDeny},
		{"the signs themselves", []string{allow("iot:Publish", arn+"topic/${*}${?}${$}/$aws$")}, "iot:Publish", arn + "topic/*?$/$aws$", nil, Allowed},
		{"the signs are no wildcards", []string{allow("iot:Publish", arn+"topic/${*}")}, "iot:Publish", arn + "topic/a", nil, ImplicitDeny},
		{"unclosed", []string{allow("iot:Publish", arn+"topic/${iot:ClientId")}, "iot:Publish", arn + "topic/${iot:ClientId", contextOf("iot:ClientId=c"), Allowed},
		{"an attribute", []string{allow("iot:Publish", arn+"topic/${iot:Connection.Thing.Attributes[Line]}")}, "iot:Publish", arn + "topic/7", contextOf(ThingAttribute("Line")+"=7", ThingAttribute("line")+"=8"), Allowed},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := parse(t, document(test.statements...))
			if got := Evaluate([]Policy{{"p", d}}, Request{test.action, test.resource, test.context}); got.Decision != test.want {
				t.Errorf("got %s, want %s: %+v", got.Decision, test.want, got)
			}
		})
	}
}

// Each condition is judged once as an Allow's: true means that it holds.
func TestConditions(t *testing.T) {
	for _, test := range []struct {
		condition string
		context   *Context
		want      bool
	}{
		{`"StringEquals":{"a:b":"x"}`, contextOf("a:b=x"), true},
		{`"StringEquals":{"a:b":"x"}`, contextOf("a:b=X"), false},
		{`"StringEquals":{"A:B":["y","x"]}`, contextOf("a:b=x"), true},
		{`"StringEquals":{"a:b":"x*"}`, contextOf("a:b=xy"), false},
		{`"StringEquals":{"a:b":"x*"}`, contextOf("a:b=x*"), true},
		{`"StringEquals":{"a:b":"x"}`, nil, false},
		{`"StringEqualsIfExists":{"a:b":"x"}`, nil, true},
		{`"StringEqualsIfExists":{"a:b":"x"}`, contextOf("a:b=y"), false},
		{`"StringEqualsIgnoreCase":{"a:b":"x"}`, contextOf("a:b=X"), true},
		{`"StringNotEquals":{"a:b":["x","y"]}`, contextOf("a:b=y"), false},
		{`"StringNotEquals":{"a:b":["x","y"]}`, contextOf("a:b=z"), true},
		{`"StringNotEquals":{"a:b":"x"}`, nil, true},
		{`"StringNotEquals":{"a:b":"x"}`, contextOf("a:b=x|y"), false}, // without a set operator: none may fit
		{`"StringEquals":{"a:b":"x"}`, contextOf("a:b=x|y"), true},
		{`"StringNotEqualsIgnoreCase":{"a:b":"x"}`, contextOf("a:b=X"), false},
		{`"StringLike":{"a:b":"x*"}`, contextOf("a:b=xy"), true},
		{`"StringLike":{"a:b":"${iot:ClientId}-?"}`, contextOf("a:b=c-1", "iot:ClientId=c"), true},
		{`"StringNotLike":{"a:b":"x*"}`, contextOf("a:b=xy"), false},
		{`"StringNotEquals":{"a:b":"${iot:ClientId}"}`, contextOf("a:b=c", "iot:ClientId=d"), true},
		{`"StringNotEquals":{"a:b":"${iot:ClientId}"}`, contextOf("a:b=c"), false}, // without knowing it
		{`"Bool":{"iot:Connection.Thing.IsAttached":[true]}`, contextOf("iot:Connection.Thing.IsAttached=true"), true},
		{`"Bool":{"iot:Connection.Thing.IsAttached":"true"}`, contextOf("iot:Connection.Thing.IsAttached=false"), false},
		{`"Bool":{"iot:Connection.Thing.IsAttached":"true"}`, nil, false},
		{`"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}`, contextOf("aws:SourceIp=10.9.9.9"), true},
		{`"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}`, contextOf("aws:SourceIp=::ffff:10.9.9.9"), true},
		{`"IpAddress":{"aws:SourceIp":"10.0.0.1"}`, contextOf("aws:SourceIp=10.0.0.2"), false},
		{`"IpAddress":{"aws:SourceIp":["fe80::/10","10.0.0.2"]}`, contextOf("aws:SourceIp=10.0.0.2"), true},
		{`"NotIpAddress":{"aws:SourceIp":"::ffff:10.0.0.0/104"}`, contextOf("aws:SourceIp=10.9.9.9"), false},
		{`"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}`, contextOf("aws:SourceIp=11.0.0.1"), true},
		{`"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}`, contextOf("aws:SourceIp=nonsense"), false},
		{`"NumericEquals":{"a:b":"1.0"}`, contextOf("a:b=1"), true},
		{`"NumericNotEquals":{"a:b":1}`, contextOf("a:b=2"), true},
		{`"NumericNotEquals":{"a:b":1}`, contextOf("a:b=two"), false},
		{`"NumericLessThan":{"a:b":2}`, contextOf("a:b=2"), false},
		{`"NumericLessThanEquals":{"a:b":2}`, contextOf("a:b=2"), true},
		{`"NumericGreaterThan":{"a:b":2}`, contextOf("a:b=10"), true},
		{`"NumericGreaterThanEquals":{"a:b":2}`, contextOf("a:b=-2"), false},
		{`"DateGreaterThan":{"aws:CurrentTime":"2026-11-22T00:00:00Z"}`, contextOf("aws:CurrentTime=2026-11-22T01:00:00+00:30"), true},
		{`"DateLessThan":{"aws:CurrentTime":"2026-11-22"}`, contextOf("aws:CurrentTime=2026-11-22T00:00:00Z"), false},
		{`"DateLessThanEquals":{"aws:EpochTime":1000}`, contextOf("aws:EpochTime=1000"), true},
		{`"DateNotEquals":{"aws:EpochTime":"1970-01-01T00:16:40Z"}`, contextOf("aws:EpochTime=1000"), false},
		{`"ArnLike":{"a:b":"arn:aws:iot:*:*:thing/*"}`, contextOf("a:b=" + arn + "thing/x:y"), true},
		{`"ArnEquals":{"a:b":"arn:aws:iot:*:thing/*:x"}`, contextOf("a:b=" + arn + "thing/x:x"), false}, // no star reaches further
		{`"ArnLike":{"a:b":"*"}`, contextOf("a:b=" + arn + "thing/x"), true},
		{`"ArnLike":{"a:b":"arn:aws:iot:*:*:thing/${iot:ClientId}"}`, contextOf("a:b="+arn+"thing/x", "iot:ClientId=x"), true},
		{`"ArnNotLike":{"a:b":"arn:aws:iot:*:*:thing/*"}`, contextOf("a:b=" + arn + "cert/x"), true},
		{`"ArnNotLike":{"a:b":"arn:aws:iot:*:*:thing/*"}`, contextOf("a:b=no arn"), false},
		{`"Null":{"a:b":"true"}`, nil, true},
		{`"Null":{"a:b":false}`, nil, false},
		{`"Null":{"a:b":"false"}`, contextOf("a:b=x"), true},
		{`"ForAllValues:StringLike":{"a:b":["x*","y"]}`, contextOf("a:b=xx|y"), true},
		{`"ForAllValues:StringLike":{"a:b":["x*","y"]}`, contextOf("a:b=xx|z"), false},
		{`"ForAllValues:StringLike":{"a:b":"x"}`, nil, true},
		{`"ForAnyValue:StringLike":{"a:b":["x*","y"]}`, contextOf("a:b=z|y"), true},
		{`"ForAnyValue:StringLike":{"a:b":"x"}`, contextOf("a:b=z|y"), false},
		{`"ForAnyValue:StringLike":{"a:b":"x"}`, nil, false},
		{`"ForAnyValue:StringLikeIfExists":{"a:b":"x"}`, nil, true},
		{`"ForAnyValue:StringNotEquals":{"a:b":["x","y"]}`, contextOf("a:b=x|z"), true},
		{`"ForAllValues:StringNotEquals":{"a:b":["x","y"]}`, contextOf("a:b=x|z"), false},
		{`"StringEquals":{"a:b":"x"},"StringLike":{"c:d":"y"}`, contextOf("a:b=x"), false},
		{`"StringEquals":{"a:b":"x","c:d":"y"}`, contextOf("a:b=x", "c:d=y"), true},
	} {
		d := parse(t, document(open+`,"Condition":{`+test.condition+`}`))
		got := Evaluate([]Policy{{"p", d}}, Request{"iot:Connect", arn + "client/x", test.context})
		if (got.Decision == Allowed) != test.want {
			t.Errorf("%s with %v: got %s", test.condition, test.context, got.Decision)
		}
	}
}

// What only ignorance makes an Allow hold makes a Deny hold, too.
func TestDoubtDenies(t *testing.T) {
	for _, condition := range []string{
		`"StringNotEquals":{"a:b":"${iot:ClientId}"}`, `"NotIpAddress":{"a:b":"10.0.0.1"}`, `"NumericNotEquals":{"a:b":1}`, `"ArnNotLike":{"a:b":"arn:aws:iot:*:*:x"}`, `"DateNotEquals":{"a:b":1}`,
	} {
		for effect, want := range map[string]Decision{"Allow": ImplicitDeny, "Deny": ExplicitDeny} {
			d := parse(t, document(statement(effect, "*", "*")+`,"Condition":{`+condition+`}`))
			if got := Evaluate([]Policy{{"p", d}}, Request{"iot:Connect", "*", contextOf("a:b=x")}); got.Decision != want {
				t.Errorf("%s %s: got %s, want %s", effect, condition, got.Decision, want)
			}
		}
	}
}

func TestResultNamesItsReasons(t *testing.T) {
	policies := []Policy{
		{"devices", parse(t, document(`"Sid":"own",`+allow("iot:Publish", arn+"topic/${iot:ClientId}/*"), deny("iot:Connect", "*"), allow("iot:Publish", "*")))},
		{"none", nil},
		{"guard", parse(t, document(deny("iot:Publish", arn+"topic/*/secret")+`,"Condition":{"StringEquals":{"aws:SourceIp":"s"},"Null":{"x:y":"true"},"StringLikeIfExists":{"z:z":"z"}}`))},
	}
	got := Evaluate(policies, Request{"iot:Publish", arn + "topic/c/secret", contextOf("iot:ClientId=c", "aws:SourceIp=s")})
	if got.Decision != ExplicitDeny || !slices.Equal(Names(got.Allowing), []string{"devices"}) || len(got.Allowing) != 2 ||
		got.Allowing[0].Statement.Sid != "own" || !slices.Equal(Names(got.Denying), []string{"guard"}) || len(got.Missing) != 0 {
		t.Errorf("got %+v", got)
	}
	got = Evaluate(policies, Request{Action: "iot:Publish", Resource: arn + "topic/c/secret"})
	if got.Decision != Allowed || !slices.Equal(got.Missing, []string{"aws:SourceIp", "iot:ClientId"}) {
		t.Errorf("got %+v", got)
	}
}

func TestCertificateVariables(t *testing.T) {
	name := func(values ...string) (n pkix.Name) {
		for _, value := range values {
			n.Names = append(n.Names, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: value})
		}
		return n
	}
	leaf := &x509.Certificate{
		Subject: name("a", "b", "c", "d", "e", "f"), Issuer: pkix.Name{Names: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 65}, Value: "p"}}},
		SerialNumber: new(big.Int).SetUint64(10525622389124227206), DNSNames: []string{"example.com"}, IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)}, NotBefore: time.Time{},
	}
	c := &Context{}
	c.SetCertificate(leaf)
	for key, want := range map[string][]string{
		"iot:Certificate.Subject.Organization": {"a"}, "iot:Certificate.Subject.Organization.1": {"b"}, "iot:Certificate.Subject.Organization.5": nil,
		"iot:Certificate.Subject.Organization.List": {"a", "b", "c", "d", "e"}, "iot:Certificate.Issuer.Pseudonym": {"p"}, "iot:Certificate.Subject.CommonName": nil,
		"iot:Certificate.SerialNumber": {"10525622389124227206"}, "iot:Certificate.Subject.AlternativeName.DNSName": {"example.com"}, "iot:Certificate.Subject.AlternativeName.IPAddress": {"1.2.3.4"},
	} {
		if got := c.Get(key); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if keys := c.Get("iot:Certificate.AvailableKeys"); len(keys) != 5 || !slices.Contains(keys, "iot:Certificate.SerialNumber") {
		t.Errorf("AvailableKeys %q", keys)
	}
	c.SetCertificate(nil)
}

// The worst a pattern can do is to be laid over the text once.
func TestMatchingDoesNotBlowUp(t *testing.T) {
	d := parse(t, document(allow("iot:Publish", arn+strings.Repeat("*a", 900))))
	text := arn + strings.Repeat("a", 60000) + "b"
	begin := time.Now()
	for range 100 {
		if got := Evaluate([]Policy{{"p", d}}, Request{"iot:Publish", text, nil}); got.Decision != ImplicitDeny {
			t.Fatal(got)
		}
	}
	if took := time.Since(begin); took > 10*time.Second { // some ms; by going back it would be years
		t.Errorf("took %v", took)
	}
}
