package awsemu

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

var seedTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const seedText = `formatVersion: gatehouse/awsemu-1
things:
  - thingName: core-1
    core: true
    associatedClientDevices:
      - thingName: pump-7
      - {thingName: pump-8, since: 2026-01-02T03:04:05Z}
    connectivityInfo:
      - {Id: lan, HostAddress: 10.0.0.1, PortNumber: 8883}
  - thingName: pump-7
  - {thingName: pump-8, thingTypeName: pump, attributes: {site: north}}
certificates:
  - make: pump-7
    things: [pump-7]
  - make: pump-8
    status: INACTIVE
    things: [pump-8]
  - make: pump-9
    signedBy: factory
  - make: pump-10
    signedBy: factory
    unregistered: true
thingTypes:
  - thingTypeName: pump
iotPolicies:
  - policyName: pumps
    policyDocument:
      Version: "2012-10-17"
      Statement: {Effect: Allow, Action: "iot:*", Resource: "*"}
roles:
  - roleName: core
    roleId: AROASREQKDXYK2UYHPEN
    assumeRolePolicyDocument: {Version: "2012-10-17", Statement: [{Effect: Allow, Principal: {Service: credentials.iot.amazonaws.com}, Action: "sts:AssumeRole"}]}
roleAliases:
  - {roleAlias: CoreAlias, roleArn: "arn:aws:iam::123456789012:role/core"}
caCertificates:
  - make: factory
shadows:
  - thingName: pump-8
    shadowName: config
    state: {desired: {led: on}}
  - thingName: pump-7
    shadow: {version: 3, desired: {state: {on: true}, metadata: {on: {timestamp: 1700000000}}}}
`

// makers make certificates as the command does: the same one for the same name.
func makers(t testing.TB) SeedOptions {
	t.Helper()
	authority, err := NewAuthority("seeds", seedTime)
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]*Identity{}
	return SeedOptions{Now: seedTime, MakeAuthority: func(string) ([]byte, error) { return authority.certificate.Raw, nil }, Make: func(name, _ string) ([]byte, error) {
		if name == "refused" {
			return nil, errors.New("no room")
		}
		if made[name] == nil {
			identity, err := authority.IssueDevice(name, seedTime)
			if err != nil {
				return nil, err
			}
			made[name] = identity
		}
		return made[name].DER, nil
	}}
}

func TestASeedInYAMLAndInJSONMakesTheSameRegistry(t *testing.T) {
	o := makers(t)
	var tree any
	if err := yaml.Unmarshal([]byte(seedText), &tree); err != nil {
		t.Fatal(err)
	}
	var encoded [][]byte
	for _, doc := range [][]byte{[]byte(seedText), encodeJSON(tree)} {
		r := NewRegistry()
		if err := r.Seed(doc, o); err != nil {
			t.Fatal(err)
		}
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		encoded = append(encoded, text)
	}
	if !bytes.Equal(encoded[0], encoded[1]) {
		t.Errorf("as YAML:\n%s\nas JSON:\n%s", encoded[0], encoded[1])
	}
	// A date that YAML takes for one is the text that it is.
	if err := NewRegistry().Seed([]byte(strings.ReplaceAll(seedText, `"2012-10-17"`, "2012-10-17")), o); err != nil {
		t.Error(err)
	}
	r := NewRegistry()
	if err := r.Seed(encoded[0], SeedOptions{}); err != nil {
		t.Fatalf("what is exported is no seed: %v", err)
	}
	der, err := o.Make("pump-8", "")
	if err != nil {
		t.Fatal(err)
	}
	info, ok := r.Certificate(messages.CertificateIDOf(der))
	if !ok || info.Status != StatusInactive || !reflect.DeepEqual(info.Things, []messages.ThingName{"pump-8"}) {
		t.Errorf("pump-8's certificate: %+v", info)
	}
	want := []Association{{"pump-7", seedTime}, {"pump-8", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}}
	if got := r.Associated("core-1"); !reflect.DeepEqual(got, want) {
		t.Errorf("client devices %v, want %v", got, want)
	}
	der, err = o.Make("pump-9", "")
	if err != nil {
		t.Fatal(err)
	}
	ca, err := o.MakeAuthority("")
	if err != nil {
		t.Fatal(err)
	}
	if c := r.certificates[messages.CertificateIDOf(der)]; c == nil || c.authority != messages.CertificateIDOf(ca) || len(r.signers) != 1 {
		t.Errorf("pump-9's certificate: %+v", c)
	}
	if got, refused := r.GetShadow(ShadowID{"pump-8", "config"}, nil, seedTime); refused != nil || !strings.Contains(string(got), `"delta":{"led":`) {
		t.Errorf("named shadow %s, %v", got, refused)
	}
	if n := len(r.Certificates()); n != 3 {
		t.Errorf("%d certificates", n)
	}
	if got, refused := r.GetShadow(ShadowID{Thing: "pump-7"}, nil, seedTime); refused != nil || !strings.Contains(string(got), `"on":true`) {
		t.Errorf("shadow %s, %v", got, refused)
	}
}

// badSeeds are wrong documents, with what is said of them.
var badSeeds = map[string]string{
	"things: []":                                                                              "line 1, column 1: formatVersion: is missing",
	"formatVersion: other":                                                                    `line 1, column 16: formatVersion: "other", want "gatehouse/awsemu-1"`,
	head + "thing: []":                                                                        "line 2, column 1: thing: unknown key; known here: ",
	head + "things: {}":                                                                       "line 2, column 9: things: a list is wanted here",
	head + "things:\n- core: true":                                                            "line 3, column 3: things[0].thingName: is missing",
	head + "things:\n- thingName: 12":                                                         "line 3, column 14: things[0].thingName: a text is wanted here; put it in quotes",
	head + "things:\n- thingName: a b":                                                        "line 3, column 3: things[0]: ",
	head + "things: []\nthings: []":                                                           "line 3, column 1: things: this key was given before",
	head + "certificates:\n- make: a/b":                                                       `line 3, column 9: certificates[0].make: "a/b": want 1 to 128`,
	head + "certificates: [{make: refused}]":                                                  "line 2, column 23: certificates[0].make: no room",
	head + "certificates: [{make: a, things: [nobody]}]":                                      `line 2, column 16: certificates[0]: thing "nobody": `,
	head + "certificates: [{make: a, certificatePem: b}]":                                     "line 2, column 23: certificates[0].make: certificatePem is given, too",
	head + "certificates: [{make: a, signedBy: b}]":                                           `line 2, column 36: certificates[0].signedBy: "b" is the make of none`,
	head + "certificates: [{make: a, unregistered: true}]":                                    "certificates[0].unregistered: it goes with",
	head + "shadows: [{thingName: a, state: {wanted: {}}}]":                                   "line 2, column 33: shadows[0].state: State contains an invalid node",
	head + "iotPolicies: [{policyName: a, policyDocument: {}}]":                               "iotPolicies[0]",
	head + "roleAliases: [{roleAlias: a}]":                                                    "line 2, column 15: roleAliases[0].roleArn: is missing",
	head + "things: [{thingName: a, core: yes please}]":                                       "line 2, column 31: things[0].core: true or false is wanted here",
	head + "things: [{thingName: a, core: true, connectivityInfo: [{PortNumber: 8883.5}]}]":   "a whole number is wanted here",
	head + "things: [{thingName: a, core: true, connectivityInfo: [{PortNumber: 70000}]}]":    "port 70000, want 0 to 65535",
	head + "shadows: [{thingName: a, shadow: {version: 0}}]":                                  "line 2, column 34: shadows[0].shadow: a shadow's version is 1 to",
	head + "things: [{thingName: a, associatedClientDevices: [{thingName: b, since: then}]}]": "things[0].associatedClientDevices[0].since: parsing time",
}

const head = "formatVersion: gatehouse/awsemu-1\n"

func TestABadSeedChangesNothingAndSaysWhere(t *testing.T) {
	for doc, want := range badSeeds {
		r := NewRegistry()
		err := r.Seed([]byte(doc), makers(t))
		if err == nil || !strings.Contains(err.Error(), want) || len(policy.ErrorsOf(err)) == 0 {
			t.Errorf("%q:\ngot  %v\nwant %s", doc, err, want)
		}
		if r.Things() > 0 || len(r.Certificates()) > 0 {
			t.Errorf("%q left something behind", doc)
		}
	}
	if err := NewRegistry().Seed([]byte(head+"certificates: [{make: a}]"), SeedOptions{}); err == nil || !strings.Contains(err.Error(), "nobody makes certificates here") {
		t.Errorf("got %v", err)
	}
}

// What the schema takes the reader takes, but for what no schema can say.
func TestTheSchemaOfSeedsAgreesWithTheReader(t *testing.T) {
	compiler := jsonschema.NewCompiler()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(SeedSchema()))
	if err != nil {
		t.Fatal(err)
	}
	if err := compiler.AddResource("seed.schema.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("seed.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	judge := func(text string) error {
		var tree any
		if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
			return err
		}
		plain, err := jsonschema.UnmarshalJSON(bytes.NewReader(encodeJSON(tree)))
		if err != nil {
			return err
		}
		return schema.Validate(plain)
	}
	if err := judge(seedText); err != nil {
		t.Errorf("refuses a good one: %v", err)
	}
	for text, want := range badSeeds {
		shape := strings.Contains(want, "wanted here") || strings.Contains(want, "is missing") || strings.Contains(want, "unknown key")
		if err := judge(text); shape && err == nil {
			t.Errorf("takes %q", text)
		}
	}
}

func FuzzWrittenSeed(f *testing.F) {
	f.Add([]byte(seedText))
	for doc := range badSeeds {
		f.Add([]byte(doc))
	}
	o := makers(f)
	o.Make = func(name, _ string) ([]byte, error) { return nil, fmt.Errorf("not made: %s", name) }
	f.Fuzz(func(t *testing.T, doc []byte) {
		r := NewRegistry()
		if err := r.Seed(doc, o); err != nil {
			if len(policy.ErrorsOf(err)) == 0 {
				t.Errorf("%T tells no places: %v", err, err)
			}
			return
		}
		text, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(text) {
			t.Fatalf("%s", text)
		}
		if err := NewRegistry().Seed(text, SeedOptions{}); err != nil {
			t.Errorf("what was read is written as what is not: %v\n%s", err, text)
		}
	})
}
