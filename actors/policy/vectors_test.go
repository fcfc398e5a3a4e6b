package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The counts are those of the files as they came: a vector that goes missing, or that
// RunVectors stops looking at, fails the test.
func TestVectors(t *testing.T) {
	for name, count := range map[string]int{
		"selection-rules.json":   89,
		"policy-eval.json":       187,
		"config-validation.json": 33, // its deviceGroups
	} {
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(filepath.Join("testdata", name))
			if err != nil {
				t.Fatal(err)
			}
			passed, failed, failures, err := RunVectors(name, data)
			if err != nil {
				t.Fatal(err)
			}
			if failed > 0 {
				t.Errorf("%d failed:\n%s", failed, strings.Join(failures, "\n"))
			}
			if passed+failed < count {
				t.Errorf("ran %d vectors, want %d", passed+failed, count)
			}
		})
	}
}

// A runner that finds nothing wrong is worth nothing unless it would.
func TestRunVectorsReportsFailures(t *testing.T) {
	allowAll := `{"definitions":{"g":{"selectionRule":"thingName: *","policyName":"p"}},"policies":{"p":{"s":{"operations":["*"],"resources":["*"]}}}}`
	tests := []struct{ name, data, want string }{
		{"wrong match", `{"vectors":[{"rule":"thingName: a","thingName":"b","match":true}]}`, "match false, want true"},
		{"missing error", `{"vectors":[{"rule":"thingName: a","error":"lexical"}]}`, `error "" (<nil>), want "lexical"`},
		{"wrong error", `{"vectors":[{"rule":"a b","error":"lexical"}]}`, `error "syntax"`},
		{"unwanted error", `{"vectors":[{"rule":"a b","thingName":"a","match":false}]}`, `want ""`},
		{"no expectation", `{"vectors":[{"rule":"thingName: a","thingName":"a"}]}`, "says what is wanted"},
		{"wrongly denied", `{"configs":{"c":{}},"vectors":[{"config":"c","thingName":"a","operation":"a:b","resource":"a:b:c","allowed":true}]}`, "denied, want allowed"},
		{"wrongly allowed", `{"vectors":[{"config":` + allowAll + `,"thingName":"a","operation":"a:b","resource":"a:b:c","allowed":false}]}`, "allowed, want denied"},
		{"error is not a deny", `{"vectors":[{"config":` + allowAll + `,"thingName":"a","operation":"a:b","resource":"x:b:c","allowed":false}]}`, "service-error, want denied"},
		{"deny is not an error", `{"vectors":[{"config":{},"thingName":"a","operation":"a:b","resource":"a:b:c","error":"service-error"}]}`, "denied, want service-error"},
		{"unknown config", `{"vectors":[{"config":"c","thingName":"a","operation":"a:b","resource":"a:b:c","allowed":false}]}`, `no config "c"`},
		{"bad config", `{"vectors":[{"config":[],"thingName":"a","operation":"a:b","resource":"a:b:c","allowed":false}]}`, "an object is expected"},
		{"unknown token is not allowed", `{"vectors":[{"config":` + allowAll + `,"session":"token:ALLOW_ALL","operation":"a:b","resource":"a:b:c","allowed":true}]}`, "invalid-auth-token, want allowed"},
		{"empty vector", `{"vectors":[{}]}`, "neither"},
		{"wrongly refused", `{"deviceGroups":[{"name":"n","deviceGroups":{"formatVersion":"1"},"valid":true}]}`, "refused, want accepted"},
		{"wrongly accepted", `{"deviceGroups":[{"name":"n","deviceGroups":{},"valid":false}]}`, "accepted, want refused"},
		{"refused for another reason", `{"deviceGroups":[{"name":"n","deviceGroups":{"formatVersion":"1"},"valid":false,"errorKind":"type"}]}`, `want a problem of kind "type"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			passed, failed, failures, err := RunVectors("f.json", []byte(tt.data))
			if err != nil || passed != 0 || failed != 1 || len(failures) != 1 || !strings.Contains(failures[0], tt.want) {
				t.Errorf("%d passed, %d failed, %q, %v; want one failure with %q", passed, failed, failures, err, tt.want)
			}
		})
	}
	for _, data := range []string{"", "[]", "{}", `{"vectors":[]}`, `{"vectors":1}`} {
		if _, _, _, err := RunVectors("f.json", []byte(data)); err == nil {
			t.Errorf("%q is accepted as a file of vectors", data)
		}
	}
}

// Vector "token:ALLOW_ALL" of policy-eval.json: the reference lets this token do
// anything; here it is refused like any unknown one (vectors/README.md).
func TestNoMagicToken(t *testing.T) {
	operation, resource := "mqtt:publish", "mqtt:topic:foo"
	v := vector{Session: "token:ALLOW_ALL", Operation: &operation, Resource: &resource}
	if got := v.outcome(compileText(t, allowAllText)); got != outcomeInvalidToken {
		t.Errorf("outcome %q, want %q", got, outcomeInvalidToken)
	}
}
