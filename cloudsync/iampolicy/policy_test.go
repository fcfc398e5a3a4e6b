package iampolicy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func identity(t testing.TB, text string) *Document {
	t.Helper()
	d, err := ParseIdentity(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

func trust(t testing.TB, text string) *Document {
	t.Helper()
	d, err := ParseTrust(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return d
}

// statementOf is a policy of one statement.
func statementOf(elements string) string {
	return `{"Version":"2012-10-17","Statement":{` + elements + `}}`
}

const bucket = "arn:aws:s3:::pumps/"

func TestStatements(t *testing.T) {
	ctx := Context{}
	ctx.Set("credentials-iot:ThingName", "pump-7")
	ctx.Set("credentials-iot:ThingTypeName", "a*b")
	ctx.Set("aws:tagkeys", "one", "two")
	const any = `"Action":"*","Resource":"*"`
	for _, w := range []struct {
		elements, action, resource string
		want                       Decision
	}{
		{`"Effect":"Allow",` + any, "iot:ListThings", "*", Allowed},
		{`"Effect":"Deny",` + any, "iot:ListThings", "*", ExplicitDeny},
		{`"Effect":"Allow","Action":["s3:*","IoT:list*"],"Resource":"*"`, "iot:ListThings", "*", Allowed},
		{`"Effect":"Allow","Action":"iot:List?hings","Resource":"*"`, "iot:ListThings", "*", Allowed},
		{`"Effect":"Allow","Action":"iot:List","Resource":"*"`, "iot:ListThings", "*", ImplicitDeny},
		{`"Effect":"Allow","NotAction":"iot:Delete*","Resource":"*"`, "iot:ListThings", "*", Allowed},
		{`"Effect":"Allow","NotAction":"iot:Delete*","Resource":"*"`, "iot:deletething", "*", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `*"`, "s3:GetObject", bucket + "a/b", Allowed},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `*"`, "s3:GetObject", strings.ToUpper(bucket) + "a", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `*"`, "s3:GetObject", "*", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","NotResource":"` + bucket + `*"`, "s3:GetObject", bucket + "a", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","NotResource":"` + bucket + `*"`, "s3:GetObject", "arn:aws:s3:::valves/a", Allowed},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${credentials-iot:ThingName}/*"`, "s3:GetObject", bucket + "pump-7/x", Allowed},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${Credentials-IoT:thingname}/*"`, "s3:GetObject", bucket + "pump-8/x", ImplicitDeny},
		// A value's wildcards are text, and a request's too.
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${credentials-iot:ThingTypeName}"`, "s3:GetObject", bucket + "axb", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${credentials-iot:ThingTypeName}"`, "s3:GetObject", bucket + "a*b", Allowed},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `pump-7"`, "s3:GetObject", bucket + "*", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${*}${?}${$}"`, "s3:GetObject", bucket + "*?$", Allowed},
		// A variable that has no value, or several, matches nothing.
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${aws:username}*"`, "s3:GetObject", bucket + "x", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${aws:TagKeys}"`, "s3:GetObject", bucket + "one", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${aws:username, 'all'}"`, "s3:GetObject", bucket + "all", Allowed},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${aws:username, all}"`, "s3:GetObject", bucket + "all", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","Resource":"` + bucket + `${aws:username"`, "s3:GetObject", bucket + "${aws:username", ImplicitDeny},
		{`"Effect":"Allow","Action":"*","NotResource":"` + bucket + `${aws:username}"`, "s3:GetObject", bucket + "x", ImplicitDeny},
		{`"Effect":"Deny","Action":"*","NotResource":"` + bucket + `${aws:username}"`, "s3:GetObject", bucket + "x", ExplicitDeny},
		{`"Effect":"Allow",` + any, "s3:GetObject", bucket + "\xff", ImplicitDeny},
	} {
		got, _ := Evaluate(Request{Action: w.action, Resource: w.resource, Context: ctx}, identity(t, statementOf(w.elements)))
		if got != w.want {
			t.Errorf("%s on %s by %s: %v, want %v", w.action, w.resource, w.elements, got, w.want)
		}
	}
	old := identity(t, `{"Statement":[{"Effect":"Allow","Action":"*","Resource":"`+bucket+`${credentials-iot:ThingName}"}]}`)
	if got, _ := Evaluate(Request{Action: "s3:GetObject", Resource: bucket + "pump-7", Context: ctx}, old); got != ImplicitDeny {
		t.Errorf("the old version has variables: %v", got)
	}
}

// A Deny wins wherever it is, and the match names it.
func TestDenyWins(t *testing.T) {
	allow := identity(t, statementOf(`"Effect":"Allow","Action":"*","Resource":"*"`))
	deny := identity(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"},{"Sid":"No","Effect":"Deny","Action":"iot:List*","Resource":"*"}]}`)
	for _, all := range [][]*Document{{allow, deny}, {deny, allow}} {
		got, by := Evaluate(Request{Action: "iot:ListThings", Resource: "*"}, all...)
		if got != ExplicitDeny || by.Sid != "No" || by.Statement != 1 || all[by.Document] != deny {
			t.Errorf("got %v by %+v", got, by)
		}
	}
	if got, _ := Evaluate(Request{Action: "iot:ListThings", Resource: "*"}); got != ImplicitDeny {
		t.Errorf("no document at all: %v", got)
	}
	if allowed, denied := deny.Mentions("iot:listthings"); !allowed || !denied {
		t.Errorf("mentions: %v, %v", allowed, denied)
	}
	if allowed, denied := deny.Mentions("s3:GetObject"); allowed || denied {
		t.Errorf("mentions: %v, %v", allowed, denied)
	}
}

func TestConditions(t *testing.T) {
	ctx := Context{}
	for key, value := range map[string]string{
		"aws:SourceArn": "arn:aws:iot:eu-central-1:123456789012:rolealias/gateway", "aws:username": "Ann", "aws:SourceIp": "10.1.2.3",
		"aws:CurrentTime": "2026-11-21T12:00:00Z", "aws:EpochTime": "1795262400", "aws:MultiFactorAuthAge": "7", "aws:SecureTransport": "true", "x:Binary": "AAE=",
	} {
		ctx.Set(key, value)
	}
	ctx.Set("aws:TagKeys", "one", "two")
	for condition, want := range map[string]bool{
		`"StringEquals":{"AWS:UserName":["Bob","Ann"]}`:                                true,
		`"StringEquals":{"aws:username":"A*"}`:                                         false,
		`"StringEquals":{"aws:username":"ann"}`:                                        false,
		`"StringEqualsIgnoreCase":{"aws:username":"ann"}`:                              true,
		`"StringNotEqualsIgnoreCase":{"aws:username":"ann"}`:                           false,
		`"StringLike":{"aws:username":"A*"}`:                                           true,
		`"StringLike":{"aws:SourceArn":"*${aws:username}*"}`:                           false,
		`"StringEquals":{"aws:username":"${aws:username}"}`:                            true,
		`"StringNotLike":{"aws:username":["B*","C*"]}`:                                 true,
		`"StringNotEquals":{"aws:username":["Ann","Bob"]}`:                             false,
		`"StringEquals":{"aws:absent":"x"}`:                                            false,
		`"StringNotEquals":{"aws:absent":"x"}`:                                         true,
		`"StringEqualsIfExists":{"aws:absent":"x"}`:                                    true,
		`"StringEqualsIfExists":{"aws:username":"x"}`:                                  false,
		`"Null":{"aws:absent":"true"}`:                                                 true,
		`"Null":{"aws:absent":false,"aws:username":"false"}`:                           false,
		`"Bool":{"aws:SecureTransport":true}`:                                          true,
		`"Bool":{"aws:SecureTransport":"false"}`:                                       false,
		`"BinaryEquals":{"x:Binary":"AAE="}`:                                           true,
		`"IpAddress":{"aws:SourceIp":["10.1.0.0/16"]}`:                                 true,
		`"IpAddress":{"aws:SourceIp":"10.1.2.3"}`:                                      true,
		`"NotIpAddress":{"aws:SourceIp":["10.2.0.0/16","10.1.2.0/24"]}`:                false,
		`"IpAddress":{"aws:username":"10.1.0.0/16"}`:                                   false,
		`"NumericLessThan":{"aws:MultiFactorAuthAge":8}`:                               true,
		`"NumericLessThanEquals":{"aws:MultiFactorAuthAge":"7.0"}`:                     true,
		`"NumericGreaterThan":{"aws:MultiFactorAuthAge":"7"}`:                          false,
		`"NumericNotEquals":{"aws:MultiFactorAuthAge":["7","9"]}`:                      false,
		`"NumericEquals":{"aws:username":"7"}`:                                         false,
		`"DateGreaterThan":{"aws:CurrentTime":"2026-11-21T11:59Z"}`:                    true,
		`"DateLessThan":{"aws:CurrentTime":"2026-11-21"}`:                              false,
		`"DateEquals":{"aws:CurrentTime":"1795262400"}`:                                true,
		`"ArnLike":{"aws:SourceArn":"arn:aws:iot:*:123456789012:rolealias/*"}`:         true,
		`"ArnEquals":{"aws:SourceArn":"arn:aws:iot:*:rolealias/*"}`:                    false, // a part's wildcard crosses no colon
		`"ArnNotLike":{"aws:SourceArn":"arn:aws:iot:*:123456789012:rolealias/*"}`:      false,
		`"ArnLike":{"aws:username":"*"}`:                                               false,
		`"ForAllValues:StringEquals":{"aws:TagKeys":["one","two","three"]}`:            true,
		`"ForAllValues:StringEquals":{"aws:TagKeys":["one"]}`:                          false,
		`"ForAllValues:StringEquals":{"aws:absent":["one"]}`:                           true,
		`"ForAnyValue:StringEquals":{"aws:TagKeys":["two"]}`:                           true,
		`"ForAnyValue:StringEquals":{"aws:absent":["two"]}`:                            false,
		`"ForAnyValue:StringNotEquals":{"aws:TagKeys":["two"]}`:                        true,
		`"StringEquals":{"aws:username":"Ann"},"Bool":{"aws:SecureTransport":"false"}`: false, // all of them
		`"StringEquals":{"aws:username":"Ann","aws:SourceIp":"10.1.2.3"}`:              true,
	} {
		got, _ := Evaluate(Request{Action: "a:b", Resource: "*", Context: ctx}, identity(t, statementOf(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{`+condition+`}`)))
		if (got == Allowed) != want {
			t.Errorf("%s: %v", condition, got)
		}
	}
}

func TestTrust(t *testing.T) {
	role := Principal{KindAWS, []string{"arn:aws:sts::123456789012:assumed-role/r/s", "arn:aws:iam::123456789012:role/r"}, []string{"arn:aws:iam::123456789012:root", "123456789012"}}
	service := Principal{KindService, []string{"credentials.iot.amazonaws.com"}, nil}
	for _, w := range []struct {
		principal string
		who       Principal
		want      Decision
		named     bool
	}{
		{`{"Service":"credentials.iot.amazonaws.com"}`, service, Allowed, true},
		{`{"Service":["greengrass.amazonaws.com","credentials.iot.amazonaws.com"]}`, service, Allowed, true},
		{`{"Service":"iot.amazonaws.com"}`, service, ImplicitDeny, false},
		{`{"AWS":"credentials.iot.amazonaws.com"}`, service, ImplicitDeny, false},
		{`"*"`, service, ImplicitDeny, false},
		{`"*"`, role, Allowed, false},
		{`{"AWS":"*"}`, role, Allowed, false},
		{`{"AWS":"123456789012"}`, role, Allowed, false},
		{`{"AWS":["arn:aws:iam::123456789012:root"]}`, role, Allowed, false},
		{`{"AWS":"arn:aws:sts::123456789012:assumed-role/r/s"}`, role, Allowed, true},
		{`{"AWS":"arn:aws:iam::123456789012:role/r"}`, role, Allowed, true},
		{`{"AWS":"arn:aws:iam::210987654321:root"}`, role, ImplicitDeny, false},
		{`{"Federated":"credentials.iot.amazonaws.com"}`, service, ImplicitDeny, false},
	} {
		d := trust(t, statementOf(`"Effect":"Allow","Action":"sts:AssumeRole","Principal":`+w.principal))
		if got, named := d.Trusts(Request{Action: "sts:AssumeRole", Principal: w.who}); got != w.want || named != w.named {
			t.Errorf("%s for %v: %v, %v", w.principal, w.who, got, named)
		}
	}
	both := trust(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:*"},{"Effect":"Deny","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}]}`)
	if got, named := both.Trusts(Request{Action: "sts:AssumeRole", Principal: role}); got != ExplicitDeny || named {
		t.Errorf("got %v, %v", got, named)
	}
}

func TestMalformed(t *testing.T) {
	for text, want := range map[string]string{
		``:                         "invalid JSON at byte 0",
		`[]`:                       "not a JSON object",
		`{} {}`:                    "behind the JSON value",
		`{"Version":"2012-10-17"}`: "no Statement",
		`{"Statement":[]}`:         "no Statement",
		`{"Statement":[1]}`:        "a statement is not a JSON object",
		`{"Statement":null}`:       "null at byte",
		`{"Version":"2026-01-01","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`:                    "Version is neither",
		`{"statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`:                                           `unknown element "statement"`,
		`{"Statement":{"Effect":"Deny","Effect":"Allow","Action":"*","Resource":"*"}}`:                           `"Effect" is given twice`,
		`{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}`:                                           "neither Allow nor Deny",
		`{"Statement":{"Effect":"Maybe","Action":"*","Resource":"*"}}`:                                           "neither Allow nor Deny",
		`{"Statement":{"Action":"*","Resource":"*"}}`:                                                            "no Effect",
		`{"Statement":{"Effect":"Allow","Resource":"*"}}`:                                                        "Action or NotAction",
		`{"Statement":{"Effect":"Allow","Action":"*","NotAction":"*","Resource":"*"}}`:                           "Action or NotAction",
		`{"Statement":{"Effect":"Allow","Action":"*"}}`:                                                          "Resource or NotResource",
		`{"Statement":{"Effect":"Allow","Action":[],"Resource":"*"}}`:                                            "Action is empty",
		`{"Statement":{"Effect":"Allow","Action":["*",1],"Resource":"*"}}`:                                       "list of texts",
		`{"Statement":{"Effect":"Allow","Action":"ListThings","Resource":"*"}}`:                                  "service's prefix",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"things"}}`:                                      "neither an ARN nor *",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Principal":"*"}}`:                           "no Principal",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","NotPrincipal":"*"}}`:                        `unknown element "NotPrincipal"`,
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Sid":"a b"}}`:                               "letters and digits",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringIs":{"a:b":"x"}}}}`:      "unknown condition operator",
		`{"Statement":{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Null":{"a:b":"x"}}}}`:          "not true or false",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"NumericEquals":{"a:b":"x"}}}}`:  "not a number",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"IpAddress":{"a:b":"10.0.0"}}}}`: "not an address",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"b":"x"}}}}`:     "service's prefix",
		`{"Statement":{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"a:b":[]}}}}`:    "wants a text",
		`{"Statement":[[[[[[[[[]]]]]]]]]}`:                                                                       "nested deeper",
		`{"Statement":"` + strings.Repeat("x", BytesMax) + `"}`:                                                  "bytes, at most",
		"{\"Statement\":\"\xff\"}": "not UTF-8",
		`{"Statement":[{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}]}`: "given twice (Statement 2)",
	} {
		if _, err := ParseIdentity(text); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.120s: %v, want %q", text, err, want)
		}
	}
	for text, want := range map[string]string{
		`"Effect":"Allow","Action":"sts:AssumeRole"`:                                                "wants a Principal",
		`"Effect":"Allow","Action":"sts:AssumeRole","Principal":{}`:                                 "wants a Principal",
		`"Effect":"Allow","Action":"sts:AssumeRole","Principal":"*","Resource":"*"`:                 "no Resource",
		`"Effect":"Allow","Action":"sts:AssumeRole","NotPrincipal":"*"`:                             "unknown element",
		`"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"aws":"*"}`:                        "unknown kind",
		`"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"*"}`:                    "Invalid principal",
		`"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":"arn:aws:iam::1234:role/*"}`: "Invalid principal",
		`"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"AWS":[""]}`:                       "Invalid principal",
		`"Effect":"Allow","Action":"sts:AssumeRole","Principal":"arn:aws:iam::123456789012:root"`:   "neither * nor an object",
	} {
		if _, err := ParseTrust(statementOf(text)); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// The matcher agrees with regular expressions.
func TestMatchesAsAnOracle(t *testing.T) {
	letters := rapid.SampledFrom([]rune("ab*?é"))
	rapid.Check(t, func(t *rapid.T) {
		pattern := string(rapid.SliceOfN(letters, 0, 8).Draw(t, "pattern"))
		text := string(rapid.SliceOfN(letters, 0, 12).Draw(t, "text"))
		expression := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))
		want := regexp.MustCompile(`(?s)^` + expression + `$`).MatchString(text)
		if got := matches(wild(pattern), text); got != want {
			t.Fatalf("%q fits %q: %v, want %v", text, pattern, got, want)
		}
	})
}

// Whatever is read, is judged without a panic, a Deny of everything beside it denies, and
// what it says of the same request stays the same.
func FuzzParse(f *testing.F) {
	f.Add(statementOf(`"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::x/${credentials-iot:ThingName}*"`), "pump-7")
	f.Add(statementOf(`"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Service":"credentials.iot.amazonaws.com"},"Condition":{"ForAnyValue:StringLikeIfExists":{"aws:SourceArn":["a","b*"]}}`), "*")
	f.Add(statementOf(`"Effect":"Deny","NotAction":["iot:*"],"NotResource":["*"],"Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"Null":{"a:b":true}}`), "${*}")
	denyAll, err := ParseIdentity(statementOf(`"Effect":"Deny","Action":"*","Resource":"*"`))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text, thing string) {
		ctx := Context{}
		ctx.Set("credentials-iot:ThingName", thing)
		ctx.Set("aws:SourceIp", "10.0.0.1")
		r := Request{Action: "iot:ListThings", Resource: "arn:aws:s3:::x/" + thing, Principal: Principal{KindAWS, []string{"arn:" + thing}, []string{"1"}}, Context: ctx}
		for i, parse := range []func(string) (*Document, error){ParseIdentity, ParseTrust} {
			d, err := parse(text)
			if err != nil {
				if !errors.Is(err, ErrMalformed) || d != nil {
					t.Fatalf("%v, %v", d, err)
				}
				continue
			}
			first, _ := Evaluate(r, d)
			if again, _ := Evaluate(r, d); again != first {
				t.Fatalf("%v, then %v", first, again)
			}
			if decision, named := d.Trusts(r); i == 1 && (decision != first || named && decision != Allowed) {
				t.Fatalf("%v, then %v %v", first, decision, named)
			}
			if got, _ := Evaluate(r, d, denyAll); strings.ToValidUTF8(thing, "") == thing && got != ExplicitDeny {
				t.Fatal(fmt.Sprint("not denied: ", got))
			}
		}
	})
}
