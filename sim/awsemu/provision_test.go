package awsemu_test

import (
	"crypto/x509"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// fleetTemplate provisions a device by its certificate: a thing in a group, and a policy by
// which it may connect.
const fleetTemplate = `{
  "Parameters": {
    "AWS::IoT::Certificate::CommonName": {"Type": "String"},
    "AWS::IoT::Certificate::SerialNumber": {"Type": "String"},
    "AWS::IoT::Certificate::Id": {"Type": "String"}
  },
  "Resources": {
    "thing": {
      "Type": "AWS::IoT::Thing",
      "Properties": {
        "ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"},
        "AttributePayload": {"serial": {"Ref": "AWS::IoT::Certificate::SerialNumber"}},
        "ThingGroups": ["fleet"]
      },
      "OverrideSettings": {"AttributePayload": "MERGE"}
    },
    "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}}},
    "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "Fleet", "PolicyDocument": "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"iot:Connect\",\"Resource\":\"*\"}]}"}}
  }
}`

const provisioningRole = "arn:aws:iam::123456789012:role/Provisioning"

func quote(t testing.TB, text string) string {
	t.Helper()
	return string(must[[]byte](t)(json.Marshal(text)))
}

// provisioned configures ca to have devices provisioned.
func (w *world) provisioned(t testing.TB, ca *awsemutest.Authority, config string) {
	t.Helper()
	wantReply(t, "configure", w.api(t, w.admin(), "PUT", "/cacertificate/"+string(ca.ID()), `{"registrationConfig":`+config+`}`), 200, "{}")
}

func (w *world) group(t testing.TB, name string) {
	t.Helper()
	wantReply(t, "group", w.api(t, w.admin(), "POST", "/thing-groups/"+name, "{}"), 200, "thingGroupArn")
}

func withSerial(serial string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.Subject.SerialNumber = serial }
}

// A device of a CA with a template is registered, provisioned and active after its first
// CONNECT, which ends like every first one; the next is answered.
func TestProvisioningOnConnect(t *testing.T) {
	w := newWorld(t)
	ca := w.factory(t, registering)
	w.group(t, "fleet")
	w.provisioned(t, ca, `{"roleArn":"`+provisioningRole+`","templateBody":`+quote(t, fleetTemplate)+`}`)
	heard, pump := w.listener(t), ca.Issue(t, "pump-9", noon, withSerial("17"))
	w.wantClosed(t, "first connection", pump, awsemu.ServerName)
	w.wantStatus(t, pump, awsemu.StatusActive)
	w.wantConnected(t, "second connection", pump, awsemu.ServerName)
	heard.wantSilence(t, w) // whom AWS provisions needs no registrar
	wantReply(t, "thing", w.api(t, w.admin(), "GET", "/things/pump-9", ""), 200, `"attributes":{"serial":"17"}`)
	wantReply(t, "groups", w.api(t, w.admin(), "GET", "/things/pump-9/thing-groups", ""), 200, `"groupName":"fleet"`)
	if !w.registry.Attached("pump-9", pump.ID) || !slices.Equal(w.registry.Policies(awsemu.CertificateARN(pump.ID)), []string{"Fleet"}) {
		t.Errorf("attached: %v, policies %v", w.registry.Attached("pump-9", pump.ID), w.registry.Policies(awsemu.CertificateARN(pump.ID)))
	}
	described := w.api(t, w.admin(), "GET", "/cacertificate/"+string(ca.ID()), "")
	if config, _ := described.body["registrationConfig"].(map[string]any); config["templateBody"] != fleetTemplate || config["roleArn"] != provisioningRole {
		t.Errorf("described as %s", described.text)
	}

	// Its successor, with the same name: the thing gets both, as the template merges.
	next := ca.Issue(t, "pump-9", noon, withSerial("18"))
	w.wantClosed(t, "the successor's first connection", next, awsemu.ServerName)
	w.wantConnected(t, "the successor", next, awsemu.ServerName)
	wantReply(t, "thing", w.api(t, w.admin(), "GET", "/things/pump-9", ""), 200, `"attributes":{"serial":"18"}`)

	// Back to mere registration takes a removal first (cloud spec 4.5).
	wantReply(t, "remove", w.api(t, w.admin(), "PUT", "/cacertificate/"+string(ca.ID()), `{"removeAutoRegistration":true}`), 200, "{}")
	other := ca.Issue(t, "pump-10", noon, withSerial("19"))
	w.wantClosed(t, "no registration", other, awsemu.ServerName)
	w.wantStatus(t, other, "")
	wantReply(t, "enable", w.api(t, w.admin(), "PUT", "/cacertificate/"+string(ca.ID())+"?newAutoRegistrationStatus=ENABLE", ""), 200, "{}")
	w.wantClosed(t, "registered", other, awsemu.ServerName)
	heard.wantRegistered(t, ca, other)
}

// What cannot be provisioned whole is not provisioned at all: the certificate stays pending,
// and the next connection tries again.
func TestProvisioningFailsWhole(t *testing.T) {
	w := newWorld(t)
	ca := w.factory(t, registering)
	w.provisioned(t, ca, `{"roleArn":"`+provisioningRole+`","templateBody":`+quote(t, fleetTemplate)+`}`)
	nameless := ca.Issue(t, "pump-8", noon)
	w.wantClosed(t, "without a serial number", nameless, awsemu.ServerName)
	w.wantStatus(t, nameless, awsemu.StatusPendingActivation)

	pump := ca.Issue(t, "pump-9", noon, withSerial("17"))
	w.wantClosed(t, "without its group", pump, awsemu.ServerName)
	w.wantStatus(t, pump, awsemu.StatusPendingActivation)
	wantReply(t, "thing", w.api(t, w.admin(), "GET", "/things/pump-9", ""), 404, "ResourceNotFoundException")
	wantReply(t, "policy", w.api(t, w.admin(), "GET", "/policies/Fleet", ""), 404, "ResourceNotFoundException")
	w.wantClosed(t, "still", pump, awsemu.ServerName)
	w.group(t, "fleet")
	w.wantClosed(t, "provisioned now", pump, awsemu.ServerName)
	w.wantConnected(t, "after that", pump, awsemu.ServerName)

	// A template that means another certificate than the device's.
	w.provisioned(t, ca, `{"roleArn":"`+provisioningRole+`","templateBody":`+quote(t, strings.Replace(fleetTemplate, `{"Ref": "AWS::IoT::Certificate::Id"}`, `"`+string(w.valve.ID)+`"`, 1))+`}`)
	thief := ca.Issue(t, "pump-10", noon, withSerial("18"))
	w.wantClosed(t, "another's certificate", thief, awsemu.ServerName)
	w.wantStatus(t, thief, awsemu.StatusPendingActivation)
	if w.registry.Attached("pump-10", w.valve.ID) {
		t.Error("another's certificate was attached")
	}
}

// Templates by name, from their making to their end, and what a CA's configuration takes.
func TestTemplates(t *testing.T) {
	w := newWorld(t)
	ca := w.factory(t, registering)
	w.group(t, "fleet")
	do := func(method, target, body string) *reply { t.Helper(); return w.api(t, w.admin(), method, target, body) }
	create := func(name, more string) *reply {
		t.Helper()
		return do("POST", "/provisioning-templates", `{"templateName":"`+name+`","provisioningRoleArn":"`+provisioningRole+`"`+more+`}`)
	}
	body := `,"templateBody":` + quote(t, fleetTemplate)
	wantReply(t, "of another type", create("fleet", body), 400, "type JITP")
	wantReply(t, "a bad name", create("a b", body+`,"type":"JITP"`), 400, "templateName")
	wantReply(t, "a bad body", create("fleet", `,"type":"JITP","templateBody":"{}"`), 400, "Resources: there are none")
	wantReply(t, "create", create("fleet", body+`,"type":"JITP"`), 200, `"templateArn":"arn:aws:iot:eu-central-1:123456789012:provisioningtemplate/fleet"`)
	wantReply(t, "again", create("fleet", body+`,"type":"JITP"`), 409, "ResourceAlreadyExistsException")
	wantReply(t, "describe", do("GET", "/provisioning-templates/fleet", ""), 200, `"enabled":false,"type":"JITP"`)
	wantReply(t, "list", do("GET", "/provisioning-templates", ""), 200, `"templateName":"fleet"`)

	authority := "/cacertificate/" + string(ca.ID())
	for what, config := range map[string]string{
		"both": `{"templateName":"fleet"` + body + `}`, "neither": `{"roleArn":"` + provisioningRole + `"}`, "no role": `{` + body[1:] + `}`,
		"a bad template": `{"roleArn":"` + provisioningRole + `","templateBody":"{}"}`,
	} {
		wantReply(t, what, do("PUT", authority, `{"registrationConfig":`+config+`}`), 400, "InvalidRequestException")
	}
	wantReply(t, "no template", do("PUT", authority, `{"registrationConfig":{"templateName":"none"}}`), 404, "ResourceNotFoundException")
	w.provisioned(t, ca, `{"templateName":"fleet"}`)
	wantReply(t, "by template", do("GET", "/cacertificates?templateName=fleet", ""), 200, string(ca.ID()))
	wantReply(t, "by another", do("GET", "/cacertificates?templateName=none", ""), 200, `"certificates":[]`)

	pump := ca.Issue(t, "pump-9", noon, withSerial("17"))
	w.wantClosed(t, "before it is enabled", pump, awsemu.ServerName)
	w.wantStatus(t, pump, awsemu.StatusPendingActivation)
	wantReply(t, "enable", do("PATCH", "/provisioning-templates/fleet", `{"enabled":true}`), 200, "{}")
	w.wantClosed(t, "enabled", pump, awsemu.ServerName)
	w.wantConnected(t, "provisioned", pump, awsemu.ServerName)
	wantReply(t, "delete while in use", do("DELETE", "/provisioning-templates/fleet", ""), 409, "DeleteConflictException")

	again := must[*awsemu.Registry](t)(awsemu.ReadRegistry(strings.NewReader(string(must[[]byte](t)(w.registry.Encode())))))
	if was, is := must[[]byte](t)(w.registry.Encode()), must[[]byte](t)(again.Encode()); string(was) != string(is) {
		t.Errorf("came back as %s, was %s", is, was)
	}
	wantReply(t, "put away", do("PUT", authority, `{"removeAutoRegistration":true}`), 200, "{}")
	wantReply(t, "delete", do("DELETE", "/provisioning-templates/fleet", ""), 200, "{}")
	wantReply(t, "deleted", do("GET", "/provisioning-templates/fleet", ""), 404, "ResourceNotFoundException")
}

// RegisterThing, and what becomes of what is there already.
func TestRegisterThing(t *testing.T) {
	w := newWorld(t)
	ca := w.factory(t, registering)
	for _, group := range []string{"fleet", "old"} {
		w.group(t, group)
	}
	for _, name := range []string{"pump", "valve"} {
		wantReply(t, "type", w.api(t, w.admin(), "POST", "/thing-types/"+name, ""), 200, "thingTypeArn")
	}
	device := ca.Issue(t, "pump-9", noon)
	register := func(overrides, status string) *reply {
		t.Helper()
		template := `{"Parameters":{"PEM":{"Type":"String"},"Site":{"Type":"String","Default":"north"}},"Resources":{
			"t":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":"pump-9","ThingTypeName":"pump","AttributePayload":{"site":{"Ref":"Site"}},"ThingGroups":["fleet"]},"OverrideSettings":` + overrides + `},
			"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificatePem":{"Ref":"PEM"},"Status":"INACTIVE"},"OverrideSettings":{"Status":"` + status + `"}}}}`
		return w.api(t, w.admin(), "POST", "/things", `{"templateBody":`+quote(t, template)+`,"parameters":{"PEM":`+quote(t, string(device.CertificatePEM))+`}}`)
	}
	made := register("{}", "FAIL")
	wantReply(t, "register", made, 200, `"resourceArns":{"c":"arn:aws:iot:eu-central-1:123456789012:cert/`+string(device.ID)+`","t":"arn:aws:iot:eu-central-1:123456789012:thing/pump-9"}`)
	if made.body["certificatePem"] != string(device.CertificatePEM) {
		t.Errorf("certificate: %s", made.text)
	}
	w.wantStatus(t, device, awsemu.StatusInactive)
	wantReply(t, "the same again", register("{}", "FAIL"), 200, "resourceArns")

	change := func() {
		t.Helper()
		if err := w.registry.SetStatus(device.ID, awsemu.StatusActive); err != nil {
			t.Fatal(err)
		}
		for target, body := range map[string]string{
			"PATCH /things/pump-9":                        `{"thingTypeName":"valve","attributePayload":{"attributes":{"site":"south","line":"4"}}}`,
			"PUT /thing-groups/removeThingFromThingGroup": `{"thingName":"pump-9","thingGroupName":"fleet"}`,
			"PUT /thing-groups/addThingToThingGroup":      `{"thingName":"pump-9","thingGroupName":"old"}`,
		} {
			method, path, _ := strings.Cut(target, " ")
			wantReply(t, target, w.api(t, w.admin(), method, path, body), 200, "{}")
		}
	}
	for _, c := range []struct{ overrides, status, failure, thing, groups, settled string }{
		{`{}`, "REPLACE", "ThingTypeName is there already", "", "old", "ACTIVE"},
		{`{"ThingTypeName":"REPLACE"}`, "REPLACE", "AttributePayload is there already", "", "old", "ACTIVE"},
		{`{"ThingTypeName":"REPLACE","AttributePayload":"REPLACE","ThingGroups":"FAIL"}`, "REPLACE", "ThingGroups is there already", "", "old", "ACTIVE"},
		{`{"ThingTypeName":"REPLACE","AttributePayload":"REPLACE"}`, "FAIL", "Status is there already", "", "old", "ACTIVE"},
		{`{"ThingTypeName":"REPLACE","AttributePayload":"REPLACE","ThingGroups":"REPLACE"}`, "REPLACE", "", `"attributes":{"site":"north"}`, "fleet", "INACTIVE"},
		{`{"ThingTypeName":"DO_NOTHING","AttributePayload":"MERGE"}`, "DO_NOTHING", "", `"attributes":{"line":"4","site":"north"}`, "fleet old", "ACTIVE"},
		{`{"ThingTypeName":"DO_NOTHING","AttributePayload":"DO_NOTHING","ThingGroups":"DO_NOTHING"}`, "DO_NOTHING", "", `"attributes":{"line":"4","site":"south"}`, "old", "ACTIVE"},
	} {
		change()
		before := w.api(t, w.admin(), "GET", "/things/pump-9", "").text
		got := register(c.overrides, c.status)
		if c.failure != "" {
			wantReply(t, c.overrides, got, 400, c.failure)
			wantReply(t, c.overrides, got, 400, "ResourceRegistrationFailureException")
			wantReply(t, c.overrides, w.api(t, w.admin(), "GET", "/things/pump-9", ""), 200, before)
		} else {
			wantReply(t, c.overrides, got, http.StatusOK, "resourceArns")
			wantReply(t, c.overrides, w.api(t, w.admin(), "GET", "/things/pump-9", ""), 200, c.thing)
		}
		w.wantStatus(t, device, awsemu.Status(c.settled))
		var groups []string
		for _, g := range w.api(t, w.admin(), "GET", "/things/pump-9/thing-groups", "").body["thingGroups"].([]any) {
			groups = append(groups, g.(map[string]any)["groupName"].(string))
		}
		if strings.Join(groups, " ") != c.groups {
			t.Errorf("%s: groups %v, want %s", c.overrides, groups, c.groups)
		}
	}
	rogue := awsemutest.NewAuthority(t, "factory", noon, nil).Issue(t, "pump-10", noon)
	body := `{"Parameters":{"PEM":{"Type":"String"}},"Resources":{"c":{"Type":"AWS::IoT::Certificate","Properties":{"CertificatePem":{"Ref":"PEM"}}}}}`
	wantReply(t, "of another CA", w.api(t, w.admin(), "POST", "/things", `{"templateBody":`+quote(t, body)+`,"parameters":{"PEM":`+quote(t, string(rogue.CertificatePEM))+`}}`), 400, "CertificateValidationException")
	wantReply(t, "without a parameter", w.api(t, w.admin(), "POST", "/things", `{"templateBody":`+quote(t, body)+`}`), 400, "PEM has no value")
	w.wantStatus(t, rogue, "")
	if _, known := w.registry.Certificate(messages.CertificateIDOf(rogue.DER)); known {
		t.Error("a rogue certificate is registered")
	}
}
