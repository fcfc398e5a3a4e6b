package config

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

func parsed(t *testing.T, doc string) File {
	t.Helper()
	f, _, err := ParseFile([]byte(doc), nil)
	if err != nil {
		t.Fatalf("%q: %v", doc, err)
	}
	return f
}

func TestNeedRestart(t *testing.T) {
	const cloud = "cloud: {endpoint: a, thingName: c, certificate: d, privateKey: e"
	for _, c := range []struct {
		was, is string
		want    []string
	}{
		{"", "", nil},
		{"", "clientDeviceAuth: {security: {clientDeviceTrustDurationMinutes: 5}}", nil},
		{"", "nats: {listen: '127.0.0.1:4222'}\nlog: {level: info}\ndir: /var/lib/gatehouse", nil}, // the defaults, spelled out
		{"mqtt: {listen: ':8883'}", "mqtt: {listen: ':8884'}\ndir: x\nclientDeviceAuth: {metrics: {disableMetrics: true}}", []string{"dir", "mqtt.listen"}},
		{cloud + "}", cloud + ", recheck: 5s, requestTimeout: 3s}", []string{"cloud.recheck", "cloud.requestTimeout"}},
		{"policyFile: p.yaml", "clientDeviceAuth: {deviceGroups: {}}", []string{"policyFile"}},
		{"mqtt: {hostAddresses: [a, b]}", "mqtt: {hostAddresses: [b, a]}", []string{"mqtt.hostAddresses"}},
	} {
		for _, back := range []bool{false, true} {
			was, is := parsed(t, c.was), parsed(t, c.is)
			if back {
				was, is = is, was
			}
			if got := NeedRestart(was, is); !slices.Equal(got, c.want) {
				t.Errorf("%q to %q (back: %t): %v, want %v", c.was, c.is, back, got, c.want)
			}
		}
	}
}

// TestEveryKeyIsSeenToChange: no key of the fullest file escapes NeedRestart, also one
// that is added later.
func TestEveryKeyIsSeenToChange(t *testing.T) {
	full, empty := parsed(t, string(readExample(t, "full.yaml"))), File{}
	changed := NeedRestart(full, empty)
	for key := range leaves(full) {
		if string(leaves(full)[key]) != string(leaves(empty)[key]) && !slices.Contains(changed, key) {
			t.Errorf("%s changed unseen", key)
		}
	}
	for _, key := range []string{"dir", "keys.passphraseFile", "nats.listen", "nats.tls.ca", "mqtt.listen", "mqtt.tlsMinVersion", "cloud.endpoint", "cloud.recheck",
		"cloud.connectTimeout", "cloud.operations.verifyClientDeviceIdentity", "http.listen", "log.level", "log.format"} {
		if !slices.Contains(changed, key) {
			t.Errorf("%s changed unseen; seen: %v", key, changed)
		}
	}
	if slices.ContainsFunc(changed, func(key string) bool { return strings.HasPrefix(key, sectionKey) }) {
		t.Errorf("the section is live, yet: %v", changed)
	}
}

func TestInSection(t *testing.T) {
	for doc, want := range map[string]bool{
		"clientDeviceAuth: {certificates: [1]}":                                      true,
		"clientDeviceAuth: []":                                                       true,
		"clientDeviceAuth: {deviceGroups: {policies: {a.b: 5}}}":                     true,
		"clientDeviceAuth: {deviceGroups: {formatVersion: 1}}\nlog: 5":               false,
		"clientDeviceAuths: {}":                                                      false,
		"policyFile: p\nclientDeviceAuth: {deviceGroups: {}}":                        false,
		"clientDeviceAuth: {\"deviceGroups\": {\"definitions\": {\"a\": 1}}}\nmq: 1": false,
		"{": false,
	} {
		_, _, err := ParseFile([]byte(doc), nil)
		if got := InSection(policy.ErrorsOf(err)); err == nil || got != want {
			t.Errorf("%q: %t, want %t (%v)", doc, got, want, err)
		}
	}
}

// Client-device-auth spec 1.1, the section of the authority: which edits set it up anew.
func TestAuthorityChanges(t *testing.T) {
	raw, err := os.ReadFile("testdata/config-validation.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors struct {
		CAChanges []struct {
			From, To    map[string]json.RawMessage
			Reconfigure bool
		}
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	read := func(fields map[string]json.RawMessage) CertificateAuthority {
		doc := map[string]any{}
		authority := map[string]any{}
		for name, value := range fields {
			switch name {
			case "custom":
				authority["certificateUri"], authority["privateKeyUri"] = "file:///c", "file:///k"
			case "legacy_ca_type":
				doc["ca_type"] = value
			default:
				authority[name] = value
			}
		}
		doc["certificateAuthority"] = authority
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		section, _, err := Parse(text, nil)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return section.CertificateAuthority
	}
	for i, v := range vectors.CAChanges {
		if got := read(v.From).Reconfigures(read(v.To)); got != v.Reconfigure {
			t.Errorf("vector %d, %s to %s: %t, want %t", i, v.From, v.To, got, v.Reconfigure)
		}
	}
	if len(vectors.CAChanges) != 4 {
		t.Errorf("%d vectors, want 4: the file changed, look at it", len(vectors.CAChanges))
	}
}

// TestNoDeviceGetsTheRegistrarsClientID: also one that is not made of the core's name.
func TestNoDeviceGetsTheRegistrarsClientID(t *testing.T) {
	f := parsed(t, "cloud: {thingName: c, region: r, control: {credentials: default}}\nregistration: {authorities: [a.pem], registrar: {clientId: listener, rules: [{name: a, thing: {name: '${subject.commonName}'}}]}}")
	if r := f.Registration.Registrar; r == nil || r.ClientID != "listener" || r.Config.ClientID != "listener" {
		t.Errorf("%+v", r)
	}
}
