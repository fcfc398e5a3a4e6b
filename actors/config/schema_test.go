package config

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("gatehouse.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("gatehouse.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// instance reads doc as the schema's library wants it.
func instance(t *testing.T, doc []byte) any {
	t.Helper()
	n, err := readDocument(doc)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	appendJSON(&b, n)
	value, err := jsonschema.UnmarshalJSON(&b)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestSchemaAcceptsTheExamples(t *testing.T) {
	schema := compileSchema(t)
	entries, err := os.ReadDir("testdata/examples")
	if err != nil || len(entries) < 4 {
		t.Fatalf("%d examples, error %v", len(entries), err)
	}
	for _, entry := range entries {
		doc := readExample(t, entry.Name())
		if err := schema.Validate(instance(t, doc)); err != nil {
			t.Errorf("%s: %v", entry.Name(), err)
		}
		file, _, err := ParseFile(doc, nil)
		if err != nil {
			t.Fatalf("%s: %v", entry.Name(), err)
		}
		printed, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(instance(t, printed)); err != nil {
			t.Errorf("%s, as printed: %v", entry.Name(), err)
		}
	}
}

// What the schema refuses, ParseFile refuses.
func TestSchemaRefusesWhatTheReaderRefuses(t *testing.T) {
	schema := compileSchema(t)
	for _, doc := range []string{
		"mqtt: {lisetn: ':8883'}", "Dir: a", "dir: ''", "mqtt: {listen: localhost}", "nats: {url: 'nats://a', listen: '127.0.0.1:1'}",
		"nats: {creds: a}", "nats: {tls: {certificate: a}}", "cloud: {requestTimeout: 5}", "cloud: {endpoint: x}", "cloud: {verifier: x}", "cloud: {verifier: iot}",
		"cloud: {verifier: iot, region: r, thingName: c, certificate: c, privateKey: k}", "cloud: {thingName: c, control: {credentials: default}}",
		"cloud: {verifier: greengrass-data, endpoint: x}", "cloud: {control: {profile: x}}", "cloud: {refreshRate: 0}", "cloud: {refreshRate: 1001}", "cloud: {thingName: a.b}",
		"cloud: {iotDataEndpoint: x}", "cloud: {iotDataEndpoint: 'mqtts://x', endpoint: e, thingName: c, certificate: c, privateKey: k}",
		"cloud: {roleAlias: a}", "cloud: {credentialEndpoint: x}", "cloud: {roleAlias: a/b, credentialEndpoint: x, region: r, thingName: c, certificate: c, privateKey: k}",
		"cloud: {control: {credentials: tokenExchange}, region: r, thingName: c}", "tokenExchange: {consumers: {app: {}}}", "tokenExchange: {listen: 'localhost:0'}", "tokenExchange: {listen: '0.0.0.0:0'}",
		"tokenExchange: {consumers: {Gate: {}}}", "tokenExchange: {consumers: {gatehouse: {}}}", "tokenExchange: {credentialRetryInSec: {clientError: 9}}", "tokenExchange: {credentialRetryInSec: {unknownError: 42901}}",
		"tokenExchange: {refreshBefore: 5}", "registration: {authority: a}", "registration: {registrar: {perHour: 0}}", "registration: {registrar: {onDenied: drop}}", "registration: {registrar: {rules: [a]}}", "registration: {registrar: {rules: [{nam: a}]}}", "registration: {offline: {perHour: 0}}", "registration: {offline: {max: 1001}}", "registration: {offline: {enabled: maybe}}",
		"cloud: {operations: {putCertificateAuthorities: x}}", "log: {level: warning}", "trust: {unknownOffTime: rtc}", "policyFile: p\nclientDeviceAuth: {deviceGroups: {}}",
		"clientDeviceAuth: {certificateAuthority: {caType: rsa_2048}}", "clientDeviceAuth: {certificateAuthority: {certificateUri: /a}}",
		"clientDeviceAuth: {certificates: []}", "clientDeviceAuth: {security: {clientDeviceTrustDurationMinutes: []}}",
	} {
		if err := schema.Validate(instance(t, []byte(doc))); err == nil {
			t.Errorf("the schema accepts %q", doc)
		}
		if _, _, err := ParseFile([]byte(doc), nil); err == nil {
			t.Errorf("ParseFile accepts %q", doc)
		}
	}
}

// The schema names every key there is and no other.
func TestSchemaNamesEveryKey(t *testing.T) {
	var schema map[string]any
	if err := json.Unmarshal(Schema, &schema); err != nil {
		t.Fatal(err)
	}
	var described []string
	var walk func(schema map[string]any, path string)
	walk = func(schema map[string]any, path string) {
		properties, _ := schema["properties"].(map[string]any)
		for name, sub := range properties {
			if sub := sub.(map[string]any); sub["description"] == nil {
				t.Errorf("%s.%s has no description", path, name)
			}
			described = append(described, strings.TrimPrefix(path+"."+name, "."))
			if name != "deviceGroups" { // policy's own
				walk(sub.(map[string]any), path+"."+name)
			}
		}
	}
	walk(schema, "")

	// full.yaml holds every key but the two that cannot stand beside others.
	n, err := readDocument(readExample(t, "full.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	appendJSON(&b, n)
	var full map[string]any
	if err := json.Unmarshal(b.Bytes(), &full); err != nil {
		t.Fatal(err)
	}
	known := []string{"policyFile", "nats.url", "nats.creds", "clientDeviceAuth.ca_type"}
	var list func(value map[string]any, path string)
	list = func(value map[string]any, path string) {
		for name, sub := range value {
			known = append(known, strings.TrimPrefix(path+"."+name, "."))
			if sub, ok := sub.(map[string]any); ok && name != "deviceGroups" && name != "consumers" { // policy's own, and names of the writer's
				list(sub, path+"."+name)
			}
		}
	}
	list(full, "")
	slices.Sort(described)
	slices.Sort(known)
	if !slices.Equal(described, known) {
		t.Errorf("schema %v\nexamples %v", described, known)
	}
}
