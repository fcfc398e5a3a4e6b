package config

import (
	"encoding/json"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// vectors is testdata/config-validation.json, the reference's facts.
type vectors struct {
	Values []struct {
		Key       string
		Value     json.RawMessage
		Absent    bool
		Effective json.RawMessage
		Versions  string
	}
	CertificateAuthority []struct {
		CertificateAuthority json.RawMessage
		LegacyCaType         json.RawMessage `json:"legacy_ca_type"`
		Mode, CaType         string
		Provider, Error      string
	}
	DeviceGroups []struct {
		Name         string
		DeviceGroups json.RawMessage
		Valid        bool
		ErrorKind    string
	}
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	doc, err := os.ReadFile("testdata/config-validation.json")
	if err != nil {
		t.Fatal(err)
	}
	var v vectors
	if err := json.Unmarshal(doc, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// at returns the JSON text of the value of a dotted key in section's JSON form.
func at(t *testing.T, section Section, key string) string {
	t.Helper()
	text, err := json.Marshal(section)
	if err != nil {
		t.Fatal(err)
	}
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	for part := range strings.SplitSeq(key, ".") {
		value = value.(map[string]any)[part]
	}
	out, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// Client-device-auth spec 1.1: every key, its default, its bounds, its bad values.
func TestValuesInForce(t *testing.T) {
	ran, otherVersions := 0, 0
	for i, v := range readVectors(t).Values {
		if v.Versions != "" { // how an older release clamped; Gatehouse is 2.5
			otherVersions++
			continue
		}
		ran++
		t.Run(strconv.Itoa(i)+" "+v.Key+" "+string(v.Value), func(t *testing.T) {
			doc := "{}"
			if !v.Absent {
				section, key, _ := strings.Cut(v.Key, ".")
				doc = `{"` + section + `": {"` + key + `": ` + string(v.Value) + `}}`
			}
			previous := DefaultSection()
			previous.Performance.CloudRequestQueueSize, previous.Performance.MaxConcurrentCloudRequests = 77, 33
			want, wantAtStart := string(v.Effective), string(v.Effective)
			if text := string(v.Effective); strings.HasPrefix(text, `"previous value`) {
				_, first, _ := strings.Cut(text, "(")
				wantAtStart, _, _ = strings.Cut(first, " at start")
				want = map[string]string{"performance.cloudRequestQueueSize": "77", "performance.maxConcurrentCloudRequests": "33"}[v.Key]
			}
			for _, c := range []struct {
				name     string
				previous *Section
				want     string
			}{{"at start", nil, wantAtStart}, {"live", &previous, want}} {
				section, _, err := Parse([]byte(doc), c.previous)
				if err != nil {
					t.Fatalf("%s: Parse(%s): %v", c.name, doc, err)
				}
				if got := at(t, section, v.Key); got != c.want {
					t.Errorf("%s: %s in force = %s, want %s", c.name, doc, got, c.want)
				}
			}
		})
	}
	if ran != 58 || otherVersions != 1 {
		t.Errorf("ran %d vectors and left out %d of other versions; want 58 and 1: the file changed, look at it", ran, otherVersions)
	}
}

// Client-device-auth spec 1.1 and 6.5: how the authority's section is read. What
// happens when its files cannot be loaded is not this package's.
func TestCertificateAuthority(t *testing.T) {
	for i, v := range readVectors(t).CertificateAuthority {
		doc := `{"certificateAuthority": ` + string(v.CertificateAuthority) + `}`
		switch {
		case v.CertificateAuthority == nil:
			t.Fatalf("vector %d has no section", i)
		case v.LegacyCaType != nil:
			doc = `{"ca_type": ` + string(v.LegacyCaType) + `, "certificateAuthority": ` + string(v.CertificateAuthority) + `}`
		}
		section, _, err := Parse([]byte(doc), nil)
		if (err != nil) != (v.Error != "") {
			t.Errorf("%s: error %v, want %q", doc, err, v.Error)
		}
		if v.Error != "" {
			continue
		}
		authority := section.CertificateAuthority
		if authority.Custom() != (v.Mode == "custom") {
			t.Errorf("%s: custom = %t, want mode %s", doc, authority.Custom(), v.Mode)
		}
		if authority.HSM() != (v.Provider == "hsm") {
			t.Errorf("%s: HSM = %t, want provider %q", doc, authority.HSM(), v.Provider)
		}
		if v.CaType != "" && authority.CAType != v.CaType {
			t.Errorf("%s: type %s, want %s", doc, authority.CAType, v.CaType)
		}
	}
}

func TestNewCATypeWinsOverTheOldName(t *testing.T) {
	section, _, err := Parse([]byte(`{"ca_type": "ECDSA_P256", "certificateAuthority": {"caType": ["RSA_2048"]}}`), nil)
	if err != nil || section.CertificateAuthority.CAType != CATypeRSA2048 {
		t.Errorf("type %q, error %v, want RSA_2048", section.CertificateAuthority.CAType, err)
	}
}

// Client-device-auth spec 1: keys without regard to case, "_x" dropped; YAML and JSON
// say the same.
func TestKeysOfTheSection(t *testing.T) {
	const doc = `
PERFORMANCE:
  maxactiveauthtokens: 10
  _cloudRequestQueueSize: 5
_comment: free text
metrics:
sessions: {closeOnRevoke: no}
`
	section, warnings, err := Parse([]byte(doc), nil)
	if err != nil || len(warnings) != 0 {
		t.Fatalf("error %v, warnings %v, want none", err, warnings)
	}
	want := DefaultSection()
	want.Performance.MaxActiveAuthTokens = 10
	want.Sessions.CloseOnRevoke = false
	if got, want := at(t, section, "performance"), at(t, want, "performance"); got != want {
		t.Errorf("performance %s, want %s", got, want)
	}
	if section.Sessions.CloseOnRevoke {
		t.Error("closeOnRevoke: no is read as true")
	}
}

func TestWarningsNameThePlace(t *testing.T) {
	for _, c := range []struct{ doc, want string }{
		{"{\"certificates\": {\n  \"serverCertificateValiditySecond\": 5}}",
			"line 2, column 3: certificates.serverCertificateValiditySecond: unknown key, ignored; did you mean serverCertificateValiditySeconds?"},
		{"security:\n  clientDeviceTrustDurationMinutes: 1 hour\nperformance: {maxActiveAuthTokens: lots}",
			`line 3, column 36: performance.maxActiveAuthTokens: "lots" is used as 1; write the number that is meant`},
		{"metrics: {disableMetrics: \"TRUE\"}", `line 1, column 27: metrics.disableMetrics: "TRUE" is used as false; write true or false`},
		{"certificates: {serverCertificateValiditySeconds: 30}", `line 1, column 50: certificates.serverCertificateValiditySeconds: "30" is used as 60; write the number that is meant`},
		{"certificateAuthority: {caType: [ECDSA_P256, RSA_2048]}", "line 1, column 32: certificateAuthority.caType: more than one type: only the first is used; remove the others"},
		{"certificateAuthority: {certificateUri: 'file:///a'}",
			"line 1, column 23: certificateAuthority: only one of certificateUri and privateKeyUri is set: the managed authority stays in use; set both for an authority of your own"},
		{"nonsense: 1", "line 1, column 1: nonsense: unknown key, ignored; known here: " + strings.Join(sectionKeys, ", ")},
	} {
		_, warnings, err := Parse([]byte(c.doc), nil)
		if err != nil {
			t.Errorf("%q: %v", c.doc, err)
		}
		if len(warnings) == 0 || warnings[len(warnings)-1].Error() != c.want { // in the order of lines
			t.Errorf("%q:\n got %v\nwant %s", c.doc, warnings, c.want)
		}
	}
}

func TestSectionErrors(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"a list for a section", "certificates: [1]", "line 1, column 15: certificates: a list stands where keys are expected, want a mapping; indent the keys under this one, or remove it"},
		{"a mapping for a number", "performance: {maxActiveAuthTokens: {a: 1}}", "line 1, column 36: performance.maxActiveAuthTokens: a mapping stands where one value is expected, want a number"},
		{"one key in two spellings", "metrics: {disableMetrics: true, DISABLEMETRICS: false}",
			"line 1, column 33: metrics.DISABLEMETRICS: this key was given before, want each key once; remove one of the two; which one counts is not guessed"},
		{"an address without scheme", `{"certificateAuthority": {"certificateUri": "/etc/ca.pem", "privateKeyUri": "file:///k"}}`,
			`line 1, column 45: certificateAuthority.certificateUri: "/etc/ca.pem" is no URI with a scheme, want file: or pkcs11:; write file:///path/to/file for a file`},
		{"a scheme nobody reads", "certificateAuthority: {certificateChainUri: 'pkcs11:x'}", "line 1, column 45: certificateAuthority.certificateChainUri: scheme pkcs11: cannot be read, want file:; write file:///path/to/file for a file"},
		{"a type in lower case", "certificateAuthority: {caType: rsa_2048}", `line 1, column 32: certificateAuthority.caType: "rsa_2048" is no type of authority, want one of RSA_2048, ECDSA_P256 (exactly so); did you mean RSA_2048?`},
		{"text for everything", "hello", `line 1, column 1: "hello" stands where keys are expected, want a mapping; indent the keys under this one, or remove it`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := Parse([]byte(c.doc), nil)
			if err == nil || err.Error() != c.want {
				t.Fatalf("%q:\n got %v\nwant %s", c.doc, err, c.want)
			}
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Errorf("%v is no *Error", err)
			}
		})
	}
}

// Client-device-auth spec 1.3: which policies are taken, inside the whole section, and
// that the error stands where the policy stands.
func TestDeviceGroups(t *testing.T) {
	seen := 0
	for _, v := range readVectors(t).DeviceGroups {
		seen++
		t.Run(v.Name, func(t *testing.T) {
			doc := "{\n\"metrics\": {},\n\"deviceGroups\": " + string(v.DeviceGroups) + "}"
			section, _, err := Parse([]byte(doc), nil)
			if (err == nil) != v.Valid {
				t.Fatalf("error %v, want valid %t", err, v.Valid)
			}
			if v.Valid {
				if section.Policy == nil || section.DeviceGroups == nil {
					t.Error("the policy is not in the section")
				}
				return
			}
			problems := policy.ErrorsOf(err)
			if len(problems) != 1 || string(problems[0].Kind) != v.ErrorKind {
				t.Fatalf("problems %v, want one of kind %s", problems, v.ErrorKind)
			}
			if e := problems[0]; e.Line < 3 || !strings.HasPrefix(e.Path, "deviceGroups.") {
				t.Errorf("line %d, path %s, want the place in the file", e.Line, e.Path)
			}
		})
	}
	if seen != 33 {
		t.Errorf("%d vectors, want 33: the file changed, look at it", seen)
	}
}

func TestErrorsNameTheirFile(t *testing.T) {
	_, _, err := ParseFile([]byte("clientDeviceAuth:\n  deviceGroups: {formatVersion: 1}\nlog: 5"), nil)
	problems := policy.ErrorsOf(err)
	InFile("gatehouse.yaml", problems)
	const want = "gatehouse.yaml:2:33: clientDeviceAuth.deviceGroups.formatVersion: "
	if len(problems) != 2 || !strings.HasPrefix(problems[0].Error(), want) || !strings.HasPrefix(problems[1].Error(), "gatehouse.yaml:3:6: log: ") {
		t.Errorf("got %v, want %s… and log", problems, want)
	}
}

// What is printed can be pasted back and means the same.
func TestSectionRoundTrip(t *testing.T) {
	const doc = `
deviceGroups:
  formatVersion: 2021-03-05
  definitions: {}
  policies: {"p&q": {s: {statementDescription: "<é😀>", operations: ["*"], resources: []}}}
certificates: {serverCertificateValiditySeconds: 3600, disableCertificateRotation: on}
performance: {maxActiveAuthTokens: 7}
certificateAuthority: {caType: ECDSA_P256, certificateUri: "file:///c", privateKeyUri: "pkcs11:object=k"}
sessions: {closeOnRevoke: false}
`
	first, _, err := Parse([]byte(doc), nil)
	if err != nil {
		t.Fatal(err)
	}
	const groups = `{"formatVersion":"2021-03-05","definitions":{},"policies":{"p&q":{"s":{"statementDescription":"<é😀>","effect":"ALLOW","operations":["*"],"resources":[]}}}}`
	if string(first.DeviceGroups) != groups || first.Policy == nil || len(first.Policy.Policies) != 1 {
		t.Errorf("groups %s, want %s", first.DeviceGroups, groups)
	}
	printed, err := json.Marshal(first)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := Parse(printed, nil)
	if err != nil {
		t.Fatalf("reading %s: %v", printed, err)
	}
	if again, _ := json.Marshal(second); string(again) != string(printed) {
		t.Errorf("got %s, want %s", again, printed)
	}
}
