package provisioning

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"maps"
	"math/big"
	"reflect"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// fleet is AWS's example for just-in-time provisioning, a little longer.
const fleet = `{
  "Parameters": {
    "AWS::IoT::Certificate::CommonName": {"Type": "String"},
    "AWS::IoT::Certificate::SerialNumber": {"Type": "String"},
    "AWS::IoT::Certificate::Country": {"Type": "String", "Default": "US"},
    "AWS::IoT::Certificate::Id": {"Type": "String"}
  },
  "Resources": {
    "thing": {
      "Type": "AWS::IoT::Thing",
      "Properties": {
        "ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"},
        "AttributePayload": {"version": "v1", "serialNumber": {"Ref": "AWS::IoT::Certificate::SerialNumber"}},
        "ThingTypeName": "lightBulb-versionA",
        "ThingGroups": ["v1-lightbulbs", {"Ref": "AWS::IoT::Certificate::Country"}]
      },
      "OverrideSettings": {"AttributePayload": "MERGE", "ThingTypeName": "REPLACE", "ThingGroups": "DO_NOTHING"}
    },
    "certificate": {
      "Type": "AWS::IoT::Certificate",
      "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"},
      "OverrideSettings": {"Status": "DO_NOTHING"}
    },
    "policy": {
      "Type": "AWS::IoT::Policy",
      "Properties": {"PolicyDocument": "{ \"Version\": \"2012-10-17\" }"}
    },
    "other": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "Fleet"}}
  }
}`

func TestResolve(t *testing.T) {
	template, err := Parse(fleet)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{"AWS::IoT::Certificate::CommonName": "pump-9", "AWS::IoT::Certificate::SerialNumber": "17", "AWS::IoT::Certificate::Id": "id", "other": "x"}
	got, err := template.Resolve(values)
	if err != nil {
		t.Fatal(err)
	}
	typeName, document := "lightBulb-versionA", `{ "Version": "2012-10-17" }`
	sum := sha256.Sum256([]byte(document))
	want := Plan{
		Thing: &Thing{
			Logical: "thing", Name: "pump-9", Type: &typeName, Attributes: map[string]string{"version": "v1", "serialNumber": "17"}, Groups: []string{"v1-lightbulbs", "US"},
			OnType: Replace, OnAttributes: Merge, OnGroups: DoNothing,
		},
		Certificate: &Certificate{Logical: "certificate", ID: "id", Status: "ACTIVE", OnStatus: DoNothing},
		Policies:    []Policy{{"policy", hex.EncodeToString(sum[:]), document}, {"other", "Fleet", ""}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	delete(values, "AWS::IoT::Certificate::SerialNumber")
	if _, err := template.Resolve(values); err == nil || !strings.Contains(err.Error(), "SerialNumber has no value") {
		t.Errorf("without a declared parameter: %v", err)
	}
}

// Each text is one that is almost right: what is wrong is told with its place.
func TestParseRefuses(t *testing.T) {
	const thing = `"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a"}}`
	for body, want := range map[string]string{
		``:                       "JSON object",
		`[]`:                     "JSON object",
		`{"Resources":{` + thing: "",
		`{}`:                     "Resources: there are none",
		`{"Resources":{}}`:       "there are none",
		`{"Resources":{` + thing + `},"Mappings":{}}`:                                                                                "Mappings: not known",
		`{"Resources":{` + thing + `},"Parameters":{"a":{"Type":"Number"}}}`:                                                         "Parameters.a.Type",
		`{"Resources":{` + thing + `},"Parameters":{"a":{}}}`:                                                                        "Parameters.a.Type",
		`{"Resources":{` + thing + `},"Parameters":{"a":{"Type":"String"},"a":{"Type":"String"}}}`:                                   "Parameters.a: the name is there already",
		`{"Resources":{` + thing + `},"Parameters":{"a b":{"Type":"String"}}}`:                                                       "Parameters.a b",
		`{"Resources":{` + thing + `,` + thing + `}}`:                                                                                "already",
		`{"Resources":{` + thing + `,` + strings.Replace(thing, `"thing"`, `"b"`, 1) + `}}`:                                          "at most one AWS::IoT::Thing",
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing"}}}`:                                                                             "Resources.a: want Type and Properties",
		`{"Resources":{"a":{"Type":"AWS::S3::Bucket","Properties":{}}}}`:                                                             "AWS::S3::Bucket",
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{}}}}`:                                                             "a thing needs a name",
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":1}}}}`:                                                "Resources.a.Properties.ThingName: a string",
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"b"}}}}}`:                                      `no parameter "b" is declared`,
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Fn::Join":["a"]}}}}}`:                               "Fn::Join: not known",
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{}}}}}`:                                               `{"Ref": "Parameter"}`,
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a","BillingGroup":"b"}}}}`:                           "BillingGroup: not known",
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a","ThingGroups":"b"}}}}`:                            "a list of at most",
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a"},"OverrideSettings":{"X":"FAIL"}}}}`:              "OverrideSettings.X: not known",
		`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a"},"OverrideSettings":{"ThingTypeName":"MERGE"}}}}`: `"MERGE": want one of`,
		`{"Resources":{"a":{"Type":"AWS::IoT::Certificate","Properties":{}}}}`:                                                       "want one of CertificateId",
		`{"Resources":{"a":{"Type":"AWS::IoT::Certificate","Properties":{"CertificateId":"a","CertificatePem":"b"}}}}`:               "want one of CertificateId",
		`{"Resources":{"a":{"Type":"AWS::IoT::Policy","Properties":{"PolicyName":"a"}}}}`:                                            "attached to a certificate",
		`{"Resources":{` + thing + `,"p":{"Type":"AWS::IoT::Policy","Properties":{}}}}`:                                              "want PolicyName, PolicyDocument or both",
		`{"Resources":{` + thing + `},"Parameters":{"a":{"Type":"String","Default":"` + strings.Repeat("a", BodyBytesMax) + `"}}}`:   "bytes",
	} {
		_, err := Parse(body)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.150s: %v, want an error with %q", body, err, want)
		}
	}
	_, err := Parse("{\n  \"Resources\": {\"a\": {\"Type\": 1,\n    \"Properties\": {}}}}")
	var problems policy.Errors
	if !errors.As(err, &problems) || problems[0].Line != 2 || problems[0].Path != "Resources.a.Type" {
		t.Errorf("place: %v", err)
	}
}

// The parameters are the subject's first attributes, and the certificate's id.
func TestCertificateParameters(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(4711), Subject: pkix.Name{
		Country: []string{"DE"}, Organization: []string{"Fleet", "Other"}, OrganizationalUnit: []string{"Pumps"}, Province: []string{"Hessen"}, Locality: []string{"Fulda"},
		SerialNumber: "17", CommonName: "pump-9",
		ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier{2, 5, 4, 46}, Value: "q"}},
	}}, &x509.Certificate{SerialNumber: big.NewInt(1)}, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Country": "DE", "Organization": "Fleet", "OrganizationalUnit": "Pumps", "StateName": "Hessen", "SerialNumber": "17", "CommonName": "pump-9",
		"DistinguishedNameQualifier": "q", "Id": string(messages.CertificateIDOf(der)),
	}
	got := map[string]string{}
	for name, value := range CertificateParameters(leaf) {
		got[strings.TrimPrefix(name, "AWS::IoT::Certificate::")] = value
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// FuzzParse: what is read can be resolved with its own parameters, and only with all of
// them; a value is text wherever it goes.
func FuzzParse(f *testing.F) {
	f.Add(fleet, "pump-9")
	f.Add(`{"Resources":{"a":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"a"}}}}`, `{"Ref":"x"}`)
	f.Add(`{"Parameters":{"p":{"Type":"String"}},"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificatePem":{"Ref":"p"}}}}}`, "")
	f.Fuzz(func(t *testing.T, body, value string) {
		template, err := Parse(body)
		if err != nil {
			return
		}
		if len(body) > BodyBytesMax {
			t.Errorf("a body of %d bytes was read", len(body))
		}
		values := map[string]string{}
		for name, p := range template.parameters {
			if !p.optional {
				if _, err := template.Resolve(values); err == nil {
					t.Errorf("resolved without %q", name)
				}
			}
			values[name] = value
		}
		plan, err := template.Resolve(values)
		if err != nil {
			if c := template.certificate; c == nil || c.status == nil {
				t.Errorf("not resolved: %v", err)
			}
			return
		}
		if thing := template.thing; thing != nil && thing.name.ref != "" && plan.Thing.Name != value {
			t.Errorf("the thing is named %q, want %q", plan.Thing.Name, value)
		}
	})
}
