package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// checked runs `config check --json` on text.
func checked(t *testing.T, text string) (r struct {
	OK       bool
	InForce  map[string]any
	Errors   []map[string]any
	Warnings []map[string]any
}) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := runProgram(t, "config", "check", "--json", file)
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	if (code == 0) != r.OK {
		t.Errorf("exit %d, ok %v", code, r.OK)
	}
	return r
}

// TestConfigCheckJSON: every value in force is told, as it may be written, and none of a
// file that cannot be used.
func TestConfigCheckJSON(t *testing.T) {
	first := checked(t, "dir: data\ncloud: {endpoint: gateway.local, thingName: c, certificate: c.pem, privateKey: k.pem, requestTimeout: 90s}\n"+
		"clientDeviceAuth: {security: {clientDeviceTrustDurationMinutes: '60'}}\n")
	for path, want := range map[string]any{
		"dir": "data", "nats.listen": "127.0.0.1:4222", "mqtt.tlsMinVersion": "1.2", "trust.unknownOffTime": "strict",
		"cloud.requestTimeout": "1m30s", "cloud.connectTimeout": "5s", "cloud.refreshRate": 10.0,
		"clientDeviceAuth.security.clientDeviceTrustDurationMinutes": 60.0, "clientDeviceAuth.performance.maxActiveAuthTokens": 2500.0,
	} {
		var got any = first.InForce
		for key := range strings.SplitSeq(path, ".") {
			got = got.(map[string]any)[key]
		}
		if got != want {
			t.Errorf("%s: %v, want %v", path, got, want)
		}
	}
	printed, err := json.Marshal(first.InForce)
	if err != nil {
		t.Fatal(err)
	}
	if again := checked(t, string(printed)); !again.OK || !reflect.DeepEqual(again.InForce, first.InForce) {
		t.Errorf("pasted back, %s is %+v", printed, again)
	}
	if bad := checked(t, "dir: data\nmqtt: {lisen: x}\n"); bad.OK || bad.InForce != nil || len(bad.Errors) != 1 || bad.Errors[0]["line"] != 2.0 || bad.Errors[0]["hint"] != "did you mean listen?" {
		t.Errorf("a bad file: %+v", bad)
	}
}

// TestConfigCheckWarns: an unknown key of the section is ignored, as Greengrass does, but
// not in silence; what was meant by it is not in force.
func TestConfigCheckWarns(t *testing.T) {
	const section = "security:\n  clientDeviceTrustDurationMinute: 60\n"
	for name, text := range map[string]string{"alone": section, "in gatehouse.yaml": "clientDeviceAuth:\n  " + strings.ReplaceAll(section, "\n ", "\n   ")} {
		r := checked(t, text)
		if !r.OK || len(r.Warnings) != 1 || r.Warnings[0]["hint"] != "did you mean clientDeviceTrustDurationMinutes?" {
			t.Errorf("%s: %+v", name, r)
		}
	}
	file := filepath.Join(t.TempDir(), "section.yaml")
	if err := os.WriteFile(file, []byte(section), 0o600); err != nil {
		t.Fatal(err)
	}
	out, code := runProgram(t, "config", "check", file)
	const want = ":2:3: security.clientDeviceTrustDurationMinute: unknown key, ignored; did you mean clientDeviceTrustDurationMinutes?\n"
	if code != 0 || !strings.Contains(out, "warning: "+file+want) || !strings.Contains(out, "clientDeviceAuth.security.clientDeviceTrustDurationMinutes: 1\n") {
		t.Errorf("exit %d\n%s", code, out)
	}
}
