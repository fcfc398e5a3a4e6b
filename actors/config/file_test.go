package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

func readExample(t testing.TB, name string) []byte {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("testdata", "examples", name))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestEveryKeyIsRead(t *testing.T) {
	got, warnings, err := ParseFile(readExample(t, "full.yaml"), nil)
	if err != nil || len(warnings) != 0 {
		t.Fatalf("error %v, warnings %v", err, warnings)
	}
	want := File{
		Dir: "/var/lib/gatehouse",
		Keys: Keys{PassphraseFile: "/run/credentials/gatehouse.service/ca-pass", PKCS11: PKCS11{
			Helper: "/usr/bin/gatehouse-pkcs11", Module: "/usr/lib/softhsm/libsofthsm2.so", Token: "core", PINFile: "/run/credentials/gatehouse.service/pin",
		}},
		NATS: NATS{Listen: "0.0.0.0:4222", TLS: TLS{CA: "tls/brokers-ca.pem", Certificate: "tls/nats.pem", PrivateKey: "tls/nats-key.pem"}},
		MQTT: MQTT{Listen: ":8883", TLSMinVersion: "1.3", HostAddresses: []string{"core.local", "192.168.1.4", "FE80::1"}},
		Cloud: Cloud{Verifier: VerifierGreengrassData, Endpoint: "greengrass-ats.iot.eu-central-1.amazonaws.com:8443", IoTDataEndpoint: "a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com:443",
			CredentialEndpoint: "c1b2c3d4e5f6g7.credentials.iot.eu-central-1.amazonaws.com", RoleAlias: "gatehouse-core", Region: "eu-central-1", ThingName: "core-17",
			Certificate: "cloud/core.pem", PrivateKey: "cloud/core-key.pem", CA: "cloud/AmazonRootCA1.pem",
			ConnectTimeout: 5 * time.Second, RequestTimeout: 90 * time.Second, Recheck: 30 * time.Second, RefreshRate: 20,
			Operations: Operations{VerifyClientDeviceIdentity: "/greengrass/v2/verify",
				VerifyClientDeviceIoTCertificateAssociation: "/greengrass/v2/associated", PutCertificateAuthorities: "/greengrass/v2/authorities"},
			Control: Control{Credentials: CredentialsDefault, Profile: "core", Endpoint: "https://vpce-0123.greengrass.eu-central-1.vpce.amazonaws.com", CA: "cloud/AmazonRoots.pem"}},
		HTTP:  HTTP{Listen: "127.0.0.1:8480"},
		Trust: Trust{UnknownOffTime: OffTimeBudget},
		Log:   Log{Level: "debug", Format: "json"},
		TokenExchange: TokenExchange{
			Listen: "127.0.0.1:8421", Directory: "/run/gatehouse", RefreshBefore: 15 * time.Minute,
			CredentialRetryInSec: CredentialRetry{60, 30, 120},
			Consumers:            map[string]TokenConsumer{"uploader": {User: "uploader"}, "reports": {User: "1001", AnyUser: true}},
		},
		Registration: Registration{
			Authorities: []string{"fleet/ca.pem", "fleet/ca-2.pem"},
			Registrar: &Registrar{ClientID: "core-1#registrar", Config: registration.Config{PerHour: 20, OnDenied: "inactivate", Core: "core-17", Rules: []registration.Rule{
				{Name: "not the old ones", Effect: "deny", Match: registration.Match{Serial: []string{"0*"}, Key: []string{"RSA-2048"}}},
				{
					Name: "pumps", Effect: "allow", Associate: true,
					Match: registration.Match{
						Authority: []string{"*"}, Subject: map[string][]string{"commonName": {"pump-*", "old pump *"}, "organization": {"ACME"}}, Issuer: map[string][]string{"commonName": {"Fleet CA"}},
						DNS: []string{"*.local"}, Email: []string{"*@acme.example"}, URI: []string{"urn:*"}, IP: []string{"10.*"}, Certificate: []string{"*"}, ValidityMax: 365 * 24 * time.Hour,
					},
					Thing: registration.Thing{Name: "${subject.commonName}", ClientID: true, Type: "pump", Group: "hall", Attributes: map[string]string{"serial": "${certificate.serial}"}},
					Policy: registration.Policy{Name: "device-${thing.name}",
						Document: `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/${thing.name}"}]}` + "\n"},
				},
			}}},
			Offline: OfflineRegistration{Enabled: true, PerHour: 5, Max: 50, GroupName: "sensors"},
		},
	}
	want.ClientDeviceAuth = got.ClientDeviceAuth // its own tests
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	section := got.ClientDeviceAuth
	if section.Security.TrustDurationMs() != time.Hour.Milliseconds() || section.Certificates.ServerValidity() != 7*24*time.Hour ||
		section.Certificates.ClientValidity() != 7*24*time.Hour || section.Metrics.AggregatePeriod() != time.Hour ||
		!section.CertificateAuthority.Custom() || section.CertificateAuthority.HSM() || !strings.Contains(string(section.DeviceGroups), "thingName: sensor-*") {
		t.Errorf("section %+v is not the one written", section)
	}
}

func TestEmptyFileHasDefaults(t *testing.T) {
	got, warnings, err := ParseFile(readExample(t, "empty.yaml"), nil)
	if err != nil || len(warnings) != 0 {
		t.Fatalf("error %v, warnings %v", err, warnings)
	}
	want := defaultFile()
	want.NATS.Listen = DefaultNATSListen
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// What "config check --json" prints can be pasted back and means the same.
func TestFileRoundTrip(t *testing.T) {
	for _, name := range []string{"full.yaml", "iot.yaml", "policy-file.yaml", "pasted.json", "empty.yaml"} {
		first, _, err := ParseFile(readExample(t, name), nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		printed, err := json.Marshal(first)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		second, _, err := ParseFile(printed, nil)
		if err != nil {
			t.Fatalf("%s: reading %s: %v", name, printed, err)
		}
		if again, err := json.Marshal(second); err != nil || !bytes.Equal(again, printed) {
			t.Errorf("%s: got %s (%v), want %s", name, again, err, printed)
		}
	}
}

const badServers = "the value cannot be used (it is not shown: it may hold a password), want a URL starting with nats:// or tls://, " +
	"without user and password, or several of one cluster separated by commas; what authenticates belongs in the file that creds names"

// A password in the wrong place is refused, and no error, which would reach the log, has it.
func TestErrorsKeepSecrets(t *testing.T) {
	for _, doc := range []string{
		"nats: {url: 'nats://u:sesame@h'}", "nats: {url: 'nats://u:sesame'}", "nats: {url: 'nats://g,nats://u:sesame@h'}",
		"nats: {url: 'nats://g:1,h:2,tls://sesame@h'}", "nats: {url: 'nats://u:sesame,nats://h'}", "nats: {url: 'sesame@h'}",
		"nats: {url: 'nats://u:1/sesame@h'}", "nats: {url: ['nats://u:sesame@h']}", "nats: 'nats://u:sesame@h'", "nats: {listen: 'u:sesame@h:4222'}",
		"cloud: {control: {credentials: default, endpoint: 'https://u:sesame@h'}, region: r, thingName: c}", "cloud: {endpoint: 'https://u:sesame@h'}",
	} {
		_, _, err := ParseFile([]byte(doc), nil)
		if err == nil || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", doc, err)
		}
	}
	for _, urls := range []string{"nats://a", "tls://a:4222,tls://b:4222", "nats://a:1, b:2", "tls://[::1]:4222"} {
		if f, _, err := ParseFile([]byte("nats: {url: '"+urls+"'}"), nil); err != nil || f.NATS.URL != urls {
			t.Errorf("%s: read as %q, %v", urls, f.NATS.URL, err)
		}
	}
}

func TestFileErrors(t *testing.T) {
	for _, c := range []struct{ name, doc, want string }{
		{"a misspelt key", "mqtt:\n  lisetn: :8883", "line 2, column 3: mqtt.lisetn: unknown key; did you mean listen?"},
		{"a key in another case", "Dir: a", "line 1, column 1: Dir: unknown key; did you mean dir?"},
		{"a key nobody knows", "http: {gopher: true}", "line 1, column 8: http.gopher: unknown key; known here: listen"},
		{"a section of the component at the top", "deviceGroups: {}", "line 1, column 1: deviceGroups: unknown key; indent it under clientDeviceAuth"},
		{"a key twice", "dir: a\ndir: b", "line 2, column 1: dir: this key was given before, want each key once; remove one of the two; which one counts is not guessed"},
		{"an address without port", "mqtt: {listen: localhost}", `line 1, column 16: mqtt.listen: "localhost" cannot be used, want host:port, such as 127.0.0.1:8883`},
		{"a port out of range", "mqtt: {listen: ':70000'}", `line 1, column 16: mqtt.listen: ":70000" cannot be used, want host:port, such as 127.0.0.1:8883`},
		{"IPv6 without brackets", "mqtt: {listen: '::1:8883'}", `line 1, column 16: mqtt.listen: "::1:8883" cannot be used, want host:port, such as 127.0.0.1:8883`},
		{"a URL for a host", "cloud: {endpoint: 'https://x'}",
			`line 1, column 19: cloud.endpoint: "https://x" cannot be used, want a host name without scheme and path, such as greengrass-ats.iot.eu-central-1.amazonaws.com`},
		{"two NATS servers", "nats: {url: 'nats://a', listen: '127.0.0.1:1'}",
			"line 1, column 7: nats: listen and url are both given, want listen for the embedded server, or url for an external one; remove one"},
		{"credentials in a URL", "nats: {url: 'nats://a:b@c'}", "line 1, column 13: nats.url: " + badServers},
		{"NATS in the clear beyond this machine", "nats: {listen: '0.0.0.0:4222'}",
			"line 1, column 16: nats.listen: an address beyond this machine without tls, want tls.certificate and tls.privateKey, or 127.0.0.1; device tokens would cross the network in the clear"},
		{"half a key pair", "nats: {tls: {certificate: a}}", "line 1, column 27: nats.tls.privateKey: missing, want a value, since certificate is set"},
		{"a number for a duration", "cloud: {requestTimeout: 5}", `line 1, column 25: cloud.requestTimeout: "5" cannot be used, want a duration with its unit, such as 5s, up to 5m0s; did you mean 5s?`},
		{"a cloud without identity", "cloud: {endpoint: x, certificate: c, privateKey: k}",
			"line 1, column 8: cloud.thingName: missing, want a value, since cloud.endpoint is set; the core speaks to the cloud with its own certificate"},
		{"another verifier", "cloud: {verifier: iott}", `line 1, column 19: cloud.verifier: "iott" is not known, want one of greengrass-data, iot; did you mean iot?`},
		{"AWS IoT without credentials", "cloud: {verifier: iot, region: r, thingName: c, certificate: c, privateKey: k}",
			"line 1, column 8: cloud.control.credentials: missing, want a value, since cloud.verifier is iot; AWS IoT knows the core by a role"},
		{"AWS IoT without the core's certificate", "cloud: {verifier: iot, region: r, thingName: c, control: {credentials: default}}",
			"line 1, column 8: cloud.certificate: missing, want a value, since cloud.verifier is iot; AWS IoT is asked about the core's own certificate first, to be sure of region and account\n" +
				"line 1, column 8: cloud.privateKey: missing, want a value, since cloud.verifier is iot; AWS IoT is asked about the core's own certificate first, to be sure of region and account"},
		{"a control plane without region", "cloud: {thingName: c, control: {credentials: default}}",
			"line 1, column 8: cloud.region: missing, want a value, since cloud.control.credentials is set; requests are for one core, and signed for one region"},
		{"a profile without credentials", "cloud: {control: {profile: core}}",
			"line 1, column 28: cloud.control.profile: profile without credentials, want credentials: default; the control plane is asked with a role's credentials or not at all"},
		{"addresses from nowhere", "cloud: {iotDataEndpoint: x, thingName: c, certificate: d, privateKey: e}",
			"line 1, column 8: cloud.endpoint: missing, want a value, since cloud.iotDataEndpoint is set; it tells that the core's addresses have changed, which are then asked for"},
		{"a URL of MQTT", "cloud: {endpoint: x, iotDataEndpoint: 'mqtts://x', thingName: c, certificate: d, privateKey: e}",
			`line 1, column 39: cloud.iotDataEndpoint: "mqtts://x" cannot be used, want a host name without scheme and path, such as a1b2c3d4e5f6g7-ats.iot.eu-central-1.amazonaws.com`},
		{"a role alias from nowhere", "cloud: {roleAlias: a, region: r, thingName: c, certificate: d, privateKey: e}",
			"line 1, column 20: cloud.credentialEndpoint: missing, want a value, since roleAlias is set"},
		{"a role alias without a core", "cloud: {roleAlias: a, credentialEndpoint: x, region: r, thingName: c}",
			"line 1, column 8: cloud.certificate: missing, want a value, since cloud.roleAlias is set; the core gets the role's credentials by its own certificate, and programs are told the region\n" +
				"line 1, column 8: cloud.privateKey: missing, want a value, since cloud.roleAlias is set; the core gets the role's credentials by its own certificate, and programs are told the region"},
		{"token exchange for oneself without a role", "cloud: {control: {credentials: tokenExchange}, region: r, thingName: c}",
			"line 1, column 8: cloud.roleAlias: missing, want a value, since cloud.control.credentials is tokenExchange; it names the role whose credentials they are"},
		{"a profile of token exchange", "cloud: {roleAlias: a, credentialEndpoint: x, region: r, thingName: c, certificate: d, privateKey: e, control: {credentials: tokenExchange, profile: p}}",
			"line 1, column 149: cloud.control.profile: profile with credentials: tokenExchange, want credentials: default; a profile is of the shared files"},
		{"consumers of nothing", "tokenExchange: {consumers: {app: }}",
			"line 1, column 28: tokenExchange.consumers: consumers without credentials, want cloud.roleAlias and cloud.credentialEndpoint; they say where the credentials come from"},
		{"credentials for the network", "tokenExchange: {listen: '0.0.0.0:80'}",
			`line 1, column 25: tokenExchange.listen: "0.0.0.0:80" cannot be used, want 127.0.0.1 with a port, such as 127.0.0.1:0 for a free one`},
		{"credentials by a name", "tokenExchange: {listen: 'localhost:80'}",
			`line 1, column 25: tokenExchange.listen: "localhost:80" cannot be used, want 127.0.0.1 with a port, such as 127.0.0.1:0 for a free one`},
		{"a consumer with a path", "tokenExchange: {consumers: {../x: {}}}",
			`line 1, column 29: tokenExchange.consumers["../x"]: "../x" cannot be a consumer's name, want 1 to 63 of a-z 0-9 _ . - that begin with a letter or digit`},
		{"a consumer with our name", "tokenExchange: {consumers: {gatehouse: {}}}", "line 1, column 29: tokenExchange.consumers.gatehouse: this name is Gatehouse's own, want another"},
		{"a word for a truth", "cloud: {roleAlias: a, credentialEndpoint: x, region: r, thingName: c, certificate: d, privateKey: e}\ntokenExchange: {consumers: {a: {anyUser: yes}}}",
			`line 2, column 42: tokenExchange.consumers.a.anyUser: "yes" is not known, want one of true, false`},
		{"pending devices of nobody", "registration: {offline: {enabled: true}}",
			"line 1, column 15: registration.authorities: missing, want a value, since registration.offline.enabled is true; it names whose devices are admitted"},
		{"pending for ever", "registration: {authorities: [a.pem], offline: {enabled: true}}",
			"line 1, column 57: registration.offline.enabled: true, and nobody could register the devices later, want cloud.control.credentials; or remove the key"},
		{"pending by no rule", "cloud: {region: r, thingName: c, control: {credentials: default}}\nregistration: {authorities: [a.pem], offline: {enabled: true}}",
			"line 2, column 15: registration.registrar: missing, want a value, since registration.offline.enabled is true; its rules say which devices are admitted, and as what"},
		{"no pending device at all", "registration: {offline: {max: 0}}", `line 1, column 31: registration.offline.max: "0" cannot be used, want a whole number from 1 to 1000`},
		{"pending devices without end", "registration: {offline: {perHour: 1001}}", `line 1, column 35: registration.offline.perHour: "1001" cannot be used, want a whole number from 1 to 1000`},
		{"a registrar of nobody", "cloud: {thingName: c, region: r, control: {credentials: default}}\nregistration: {registrar: {rules: [{name: a, thing: {name: '${subject.commonName}'}}]}}",
			"line 2, column 15: registration.authorities: missing, want a value, since registration.registrar is set; it names whose devices are registered"},
		{"a registrar without rights", "registration: {authorities: [a.pem], registrar: {rules: [{name: a, thing: {name: '${subject.commonName}'}}]}}",
			"line 1, column 49: registration.registrar: the registrar has no credentials, want cloud.control.credentials; or remove the key"},
		{"a rule's variable", "cloud: {thingName: c, region: r, control: {credentials: default}}\nregistration: {authorities: [a.pem], registrar: {rules: [{name: a, thing: {name: '${subject.commonName'}}]}}",
			"line 2, column 82: registration.registrar.rules[0].thing.name: at byte 0: ${ without its }"},
		{"a rule's pattern", "cloud: {thingName: c, region: r, control: {credentials: default}}\nregistration: {authorities: [a.pem], registrar: {rules: [{name: a, match: {subject: {organization: [x, '']}}, thing: {name: '${subject.commonName}'}}]}}",
			`line 2, column 104: registration.registrar.rules[0].match.subject.organization[1]: an empty pattern`},
		{"a rule's attribute", "cloud: {thingName: c, region: r, control: {credentials: default}}\nregistration: {authorities: [a.pem], registrar: {rules: [{name: a, match: {subject: {cn: x}}}]}}", "line 2, column 86: registration.registrar.rules[0].match.subject.cn: unknown key; known here: commonName, country, dnQualifier, locality, organization, organizationalUnit, serialNumber, state"},
		{"rules that are none", "cloud: {thingName: c, region: r, control: {credentials: default}}\nregistration: {authorities: [a.pem], registrar: {rules: [a]}}", `line 2, column 58: registration.registrar.rules[0]: "a" stands where a rule is expected, want a mapping`},
		{"no time", "tokenExchange: {refreshBefore: 30s}", `line 1, column 32: tokenExchange.refreshBefore: "30s" cannot be used, want a duration with its unit, from 1m0s to 1h0m0s`},
		{"a short while", "tokenExchange: {credentialRetryInSec: {clientError: 9}}",
			`line 1, column 53: tokenExchange.credentialRetryInSec.clientError: "9" cannot be used, want a whole number from 10 to 42900`},
		{"a control plane in the clear", "cloud: {region: r, thingName: c, control: {credentials: default, endpoint: 'http://x'}}",
			`line 1, column 76: cloud.control.endpoint: "http://x" cannot be used, want a URL starting with https://`},
		{"no rate", "cloud: {refreshRate: 0}", `line 1, column 22: cloud.refreshRate: "0" cannot be used, want a whole number from 1 to 1000`},
		{"half a rate", "cloud: {refreshRate: 0.5}", `line 1, column 22: cloud.refreshRate: "0.5" cannot be used, want a whole number from 1 to 1000`},
		{"a thing with a dot", "cloud: {thingName: a.b}", `line 1, column 20: cloud.thingName: "a.b" cannot be used, want 1 to 128 of A-Z a-z 0-9 : _ -`},
		{"a relative operation path", "cloud: {operations: {putCertificateAuthorities: x}}", `line 1, column 49: cloud.operations.putCertificateAuthorities: "x" cannot be used, want a path starting with /`},
		{"an unknown level", "log: {level: warning}", `line 1, column 14: log.level: "warning" is not known, want one of debug, info, warn, error; did you mean warn?`},
		{"an unknown way to bridge an unknown off time", "trust: {unknownOffTime: bugdet}", `line 1, column 25: trust.unknownOffTime: "bugdet" is not known, want one of strict, budget; did you mean budget?`},
		{"a misspelt key of trust", "trust: {unknownOfTime: budget}", "line 1, column 9: trust.unknownOfTime: unknown key; did you mean unknownOffTime?"},
		{"groups twice", "policyFile: p.yaml\nclientDeviceAuth: {DeviceGroups: {}}",
			"line 1, column 13: policyFile: the device groups are given twice: here and in clientDeviceAuth.deviceGroups, want one of the two; remove policyFile, or move deviceGroups into that file"},
		{"an error in the section", "clientDeviceAuth:\n  certificateAuthority: {caType: EC}",
			`line 2, column 34: clientDeviceAuth.certificateAuthority.caType: "EC" is no type of authority, want one of RSA_2048, ECDSA_P256 (exactly so)`},
		{"an empty path", "dir: ''", `line 1, column 6: dir: "" is empty or holds control characters, want text; remove the key to use its default`},
		{"a blank in a name", "mqtt: {hostAddresses: [a, 'b c']}", `line 1, column 27: mqtt.hostAddresses[1]: "b c" is no name or address, want text without blanks`},
		{"too many names", "mqtt: {hostAddresses: [" + strings.Repeat("a, ", 32) + "a]}", "line 1, column 23: mqtt.hostAddresses: 33 values, want at most 32"},
		{"two errors, in order", "log: {level: x}\ndirr: a",
			"line 1, column 14: log.level: \"x\" is not known, want one of debug, info, warn, error\nline 2, column 1: dirr: unknown key; did you mean dir?"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := ParseFile([]byte(c.doc), nil)
			if err == nil || err.Error() != c.want {
				t.Errorf("%q:\n got %v\nwant %s", c.doc, err, c.want)
			}
		})
	}
}

func TestParseAnyTakesABareSection(t *testing.T) {
	for _, c := range []struct {
		doc   string
		token int
	}{
		{`{"performance": {"maxActiveAuthTokens": 3}}`, 3},
		{"clientDeviceAuth: {performance: {maxActiveAuthTokens: 4}}", 4},
	} {
		file, _, err := ParseAny([]byte(c.doc), nil)
		if err != nil || file.ClientDeviceAuth.Performance.MaxActiveAuthTokens != c.token {
			t.Errorf("%s: %d tokens, error %v, want %d", c.doc, file.ClientDeviceAuth.Performance.MaxActiveAuthTokens, err, c.token)
		}
	}
	if _, _, err := ParseAny([]byte("performance: {}\nmqtt: {}"), nil); err == nil {
		t.Error("a mixture of the two is accepted")
	}
}

func TestResolveMakesPathsAbsolute(t *testing.T) {
	file, _, err := ParseFile(readExample(t, "policy-file.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := file.Resolve("/etc/gatehouse")
	if got.Dir != "/etc/gatehouse/data" || got.PolicyFile != "/etc/gatehouse/policy.yaml" || got.NATS.Creds != "/etc/gatehouse/gatehouse.creds" || got.Cloud.CA != "" {
		t.Errorf("resolved to %+v", got)
	}
	if file.Dir != "data" {
		t.Error("Resolve changed its receiver")
	}
	full := parsed(t, string(readExample(t, "full.yaml")))
	if got := full.Resolve("/etc/gatehouse").Registration.Authorities; got[1] != "/etc/gatehouse/fleet/ca-2.pem" || full.Registration.Authorities[1] != "fleet/ca-2.pem" {
		t.Errorf("authorities resolved to %v, of %v", got, full.Registration.Authorities)
	}
}

// TestPendingDevicesOfNoGroup: without their group none is admitted, and that is said.
func TestPendingDevicesOfNoGroup(t *testing.T) {
	doc := strings.Replace(string(readExample(t, "full.yaml")), "groupName: sensors", "groupName: pending", 1)
	_, warnings, err := ParseFile([]byte(doc), nil)
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0].Error(), `there is no device group "pending": nobody is admitted`) {
		t.Errorf("%v, warnings %v", err, warnings)
	}
}

// FuzzParseFile holds that any document is read or refused without a panic, that an
// accepted one has values in their bounds, and that it survives being printed.
func FuzzParseFile(f *testing.F) {
	for _, name := range []string{"full.yaml", "iot.yaml", "policy-file.yaml", "pasted.json", "empty.yaml"} {
		f.Add(readExample(f, name))
	}
	f.Add([]byte("performance: {maxActiveAuthTokens: -0x1}\ncertificateAuthority: {caType: [x]}"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		file, _, err := ParseAny(doc, nil)
		if err != nil {
			return
		}
		s := file.ClientDeviceAuth
		if v := s.Certificates.ServerCertificateValiditySeconds; v < validitySecondsMin || v > validitySecondsMax {
			t.Errorf("server validity %d", v)
		}
		if s.Performance.MaxActiveAuthTokens < 1 || s.Performance.CloudRequestQueueSize < 1 || s.Performance.MaxConcurrentCloudRequests < 1 ||
			s.Security.ClientDeviceTrustDurationMinutes < 1 || s.Metrics.AggregatePeriodSeconds < 1 {
			t.Errorf("out of bounds: %+v", s)
		}
		printed, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(printed) > DocumentBytesMax {
			return // JSON escapes are longer than what they stand for
		}
		second, _, err := ParseFile(printed, nil)
		if err != nil {
			t.Fatalf("%q printed as %s: %v", doc, printed, err)
		}
		if again, err := json.Marshal(second); err != nil || !bytes.Equal(again, printed) {
			t.Errorf("%q printed as %s is read as %s (%v)", doc, printed, again, err)
		}
	})
}
