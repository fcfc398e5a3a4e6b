package iotpolicy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func parse(t testing.TB, text string) *Document {
	t.Helper()
	d, err := Parse(text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return d
}

// document is one with the statements given, without their braces.
func document(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[{` + strings.Join(statements, `},{`) + `}]}`
}

const open = `"Effect":"Allow","Action":"*","Resource":"*"`

func TestParseSaysWhatIsWrongAndWhere(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{``, "line 1, column 1: unexpected end of JSON"},
		{"{\n \"Version\":\"2012-10-17\",\n\n}", "line 4, column 1: invalid character '}'"},
		{`[]`, "line 1, column 1: the document: a list, want an object"},
		{document(open) + ` {}`, "after top-level value"},
		{`{"Version":"2012-10-17"}`, "no Statement"},
		{`{"Statement":{` + open + `}}`, "no Version"},
		{`{"Version":"2008-10-17","Statement":{` + open + `}}`, `Version: "2008-10-17", want "2012-10-17"`},
		{`{"Version":"2012-10-17","Statement":[]}`, "Statement: an empty list"},
		{`{"Version":"2012-10-17","Version":"2012-10-17","Statement":{` + open + `}}`, `"Version" occurs twice`},
		{`{"Version":"2012-10-17","Statement":{` + open + `},"Comment":"x"}`, `unknown element "Comment"`},
		{document(`"Effect":"Allow","Action":"iot:Connect"`), "Statement[0]: no Resource"},
		{document(`"Effect":"Allow","Resource":"*"`), "Statement[0]: no Action"},
		{document(`"Action":"*","Resource":"*"`), "Statement[0]: no Effect"},
		{document(open, `"Effect":"allow","Action":"*","Resource":"*"`), `Statement[1].Effect: "allow", want "Allow" or "Deny"`},
		{document(`"Effect":"Allow","action":"*","Resource":"*"`), `unknown element "action"`},
		{document(open + `,"Principal":"*"`), `unknown element "Principal"`},
		{document(open + `,"NotAction":"iot:Connect"`), "Action and NotAction exclude each other"},
		{document(open + `,"NotResource":"*"`), "Resource and NotResource exclude each other"},
		{document(`"Effect":"Allow","Action":[],"Resource":"*"`), "Statement[0].Action: an empty list"},
		{document(`"Effect":"Allow","Action":["*",1],"Resource":"*"`), "Statement[0].Action[1]: a number, want a string"},
		{document(`"Effect":"Allow","Action":"Connect","Resource":"*"`), `the action is invalid: "Connect"`},
		{document(`"Effect":"Allow","Action":"iot:${x}","Resource":"*"`), "the action is invalid"},
		{document(`"Effect":"Allow","Action":"*","Resource":"\\"`), `the following resources are invalid: "\\"`},
		{document(`"Effect":"Allow","Action":"*","Resource":"topic/x"`), `the following resources are invalid: "topic/x"`},
		{document(open + `,"Condition":[]`), "Condition: a list, want an object"},
		{document(open + `,"Condition":{"StringMatches":{"a:b":"c"}}`), `unknown operator "StringMatches"`},
		{document(open + `,"Condition":{"ForSomeValues:StringLike":{"a:b":"c"}}`), `unknown operator`},
		{document(open + `,"Condition":{"NullIfExists":{"a:b":"true"}}`), `unknown operator`},
		{document(open + `,"Condition":{"ForAllValues:Null":{"a:b":"true"}}`), `unknown operator`},
		{document(open + `,"Condition":{"StringLike":{}}`), `no condition key`},
		{document(open + `,"Condition":{"StringLike":{"ab":"c"}}`), `condition key "ab"`},
		{document(open + `,"Condition":{"StringLike":{"a:b":[]}}`), `0 values`},
		{document(open + `,"Condition":{"StringLike":{"a:b":["x",["y"]]}}`), `a list, want a string`},
		{document(open + `,"Condition":{"StringLike":{"a:b":true}}`), `a boolean, want a string`},
		{document(open + `,"Condition":{"Bool":{"a:b":"yes"}}`), `"yes", want true or false`},
		{document(open + `,"Condition":{"Null":{"a:b":["true","false"]}}`), `2 values`},
		{document(open + `,"Condition":{"NumericLessThan":{"a:b":"0x10"}}`), `want a number`},
		{document(open + `,"Condition":{"DateEquals":{"a:b":"soon"}}`), `want a date`},
		{document(open + `,"Condition":{"IpAddress":{"a:b":"10.0.0.0/33"}}`), `want an IP address`},
		{document(open + `,"Condition":{"ArnLike":{"a:b":"arn:aws:iot"}}`), `want an ARN`},
		{document(strings.Repeat(`"Sid":"`, 1) + strings.Repeat("x", CharsMax) + `",` + open), "characters without white space, at most 2048"},
		{document(open) + strings.Repeat(" ", BytesMax), "bytes, at most 404600"},
		{document(open + ",\"Sid\":\"\xff\""), "not UTF-8"},
		{strings.Repeat("[", 1000) + strings.Repeat("]", 1000), "nested deeper"},
		{document(`"Effect":null,"Action":"*","Resource":"*"`), "null, want a string"},
	} {
		d, err := Parse(test.text)
		_, isError := errors.AsType[*Error](err)
		if d != nil || !isError || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.200s:\ngot  %v, %v\nwant an Error with %q", test.text, d, err, test.want)
		}
	}
}

func TestParseTakesEveryForm(t *testing.T) {
	for _, text := range []string{
		`{"Version":"2012-10-17","Id":"x","Statement":{"Sid":"s",` + open + `}}`,
		document(`"Effect":"Deny","NotAction":["iot:*","greengrass:?et*"],"NotResource":["*","arn:aws:iot:*:*:topic/${iot:ClientId}/*"]`),
		document(open + `,"Condition":{"Bool":{"a:b":[true,"FALSE"]},"NumericLessThan":{"a:b":[1,"-2.5e3"]},"Null":{"a:b":true},"ForAnyValue:StringLikeIfExists":{"a:b":"c"}}`),
		document(open) + strings.Repeat("\n ", CharsMax),
	} {
		if d := parse(t, text); d.String() != text || len(d.Statements()) != 1 {
			t.Errorf("%s: %v", text, d.Statements())
		}
	}
}

func TestMentioning(t *testing.T) {
	alias := `"arn:aws:iot:eu-central-1:123456789012:rolealias/TES"`
	d := parse(t, document(
		`"Effect":"Allow","Action":["iot:Connect","iot:assumerolewithcertificate"],"Resource":`+alias,
		`"Effect":"Allow","Action":"iot:Assume*","Resource":"*"`,
		`"Effect":"Deny","NotAction":"iot:Connect","Resource":"*"`,
		`"Effect":"Allow","Action":"greengrass:*","Resource":"*"`,
		`"Effect":"Allow","NotAction":"iot:*","Resource":"*"`,
	))
	var got []string
	for _, s := range d.Mentioning("iot:AssumeRoleWithCertificate") {
		got = append(got, fmt.Sprintf("%d %s %v", s.Index, s.Effect, s.Resources))
	}
	want := []string{"0 Allow [" + strings.Trim(alias, `"`) + "]", "1 Allow [*]", "2 Deny [*]"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
