package policy

import "testing"

const allowAllText = `
definitions:
  everyone: {selectionRule: "thingName: *", policyName: all}
policies:
  all:
    anything: {operations: ["*"], resources: ["*"]}
`

func parseText(t testing.TB, text string) *Document {
	t.Helper()
	doc, err := Parse([]byte(text), Options{})
	if err != nil {
		t.Fatalf("parse: %v\n%s", err, text)
	}
	return doc
}

func compileText(t testing.TB, text string) *Compiled {
	t.Helper()
	return Compile(parseText(t, text))
}
