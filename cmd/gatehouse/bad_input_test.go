package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/config"
)

// TestBadInputOverNATS: malformed requests get a clear error and change nothing.
func TestBadInputOverNATS(t *testing.T) {
	d := startDev(t, "")
	b := connectDemo(t, d)
	token := b.token(t, "sensor-1")
	before := d.must("{", "status", "--json")
	pem := b.pem(t, "sensor-1")
	deep := strings.Repeat(`{"credential":`, 2000) + "1" + strings.Repeat("}", 2000)
	for _, c := range []struct{ name, op, body, want string }{
		{"empty body", "verify", "", "InvalidArguments"},
		{"not JSON", "verify", "verify me", "InvalidArguments"},
		{"truncated JSON", "verify", `{"credential":{"clientDeviceCertificate":"x`, "InvalidArguments"},
		{"deep JSON", "verify", deep, "InvalidArguments"},
		{"duplicate keys", "authorize", `{"clientDeviceAuthToken":"a","clientDeviceAuthToken":"b","operation":"o:p","resource":"o:p:r"}`, "InvalidArguments"},
		{"invalid UTF-8", "authorize", "{\"clientDeviceAuthToken\":\"" + token + "\",\"operation\":\"mqtt:publish\",\"resource\":\"mqtt:topic:\xff\"}", "InvalidArguments"},
		{"wrong types", "authorize", `{"clientDeviceAuthToken":1,"operation":[],"resource":{}}`, "InvalidArguments"},
		{"oversized certificate", "verify", body(map[string]any{"credential": map[string]any{"clientDeviceCertificate": strings.Repeat("A", 20<<10)}}), "InvalidArguments"},
		{"two certificates", "verify", body(map[string]any{"credential": map[string]any{"clientDeviceCertificate": pem + pem}}), "InvalidArguments"},
		{"undecodable base64", "token", body(mqttCredential("sensor-1", "!")), "InvalidArguments"},
		{"client id of 129 bytes", "token", body(mqttCredential(strings.Repeat("a", 129), pem)), "InvalidCredential"},
		{"client id with a wildcard", "token", body(mqttCredential("sensor-#", pem)), "Service"},
		{"client id with NUL", "token", body(mqttCredential("sensor\x00", pem)), "Service"},
		{"empty token", "close", `{"clientDeviceAuthToken":""}`, "InvalidArguments"},
		{"token null", "authorize", `{"clientDeviceAuthToken":null,"operation":"mqtt:publish","resource":"mqtt:topic:x"}`, "InvalidArguments"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := b.conn.Request("gatehouse.v1.demo."+c.op, []byte(c.body), 5*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if got := m.Header.Get("Gatehouse-Error"); got != c.want {
				t.Errorf("error %q, want %q; body %.200s", got, c.want, m.Data)
			}
		})
	}
	for name, resource := range map[string]string{
		"wildcard": "mqtt:topic:sensors/+/t", "dollar": "mqtt:topic:$SYS/x", "NUL": "mqtt:topic:sensors/sensor-1/\x00",
		"variable": "mqtt:topic:sensors/${iot:Connection.Thing.ThingName}/x", "malformed": "mqtt-topic",
	} {
		if b.authorize(t, token, resource) {
			t.Errorf("%s: %q is authorized", name, resource)
		}
	}
	sameState(t, before, d.must("{", "status", "--json"))
	if !b.authorize(t, token, "mqtt:topic:sensors/sensor-1/t") {
		t.Error("the session suffered")
	}
}

func body(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // a test's own value
	}
	return string(text)
}

// sameState compares what bad input must not change.
func sameState(t *testing.T, before, after string) {
	t.Helper()
	var a, b map[string]any
	if err := json.Unmarshal([]byte(before), &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(after), &b); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"things", "certificates", "sessions", "policyRevision"} {
		if a[key] != b[key] {
			t.Errorf("%s was %v and is %v", key, a[key], b[key])
		}
	}
}

// TestBadInputOverMQTT: topics that no device may use are refused, also where a policy
// allows everything under a name.
func TestBadInputOverMQTT(t *testing.T) {
	need(t, "mosquitto_pub")
	d := startDev(t, "")
	for name, topic := range map[string]string{
		"system topic": "$SYS/broker/version", "parent": "sensors/sensor-1", "other device": "sensors/sensor-2/t",
		"look-alike": "sensors/sensor-10/t", "long": "sensors/sensor-1/" + strings.Repeat("x", 40_000),
	} {
		out, err := d.publish("sensor-1", "sensor-1", topic)
		if err == nil && !strings.Contains(out, "RC:135") && !strings.Contains(out, "RC:144") && !strings.Contains(out, "DISCONNECT (") {
			t.Errorf("%s: published\n%.400s", name, out)
		}
	}
	for _, id := range []string{"sensor-#", "sensor-+", "../sensor-1", "sensor 1", strings.Repeat("s", 300)} {
		if out, err := d.publish("sensor-1", id, "sensors/sensor-1/t"); err == nil {
			t.Errorf("client id %.20q: let in\n%.300s", id, out)
		}
	}
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil || !strings.Contains(out, "RC:0") {
		t.Errorf("the broker suffered: %v\n%s", err, out)
	}
}

// TestBadFiles: every file a person may hand in is answered with place and cause.
func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const good = "formatVersion: 2021-03-05\ndefinitions: {g: {selectionRule: 'thingName: a', policyName: p}}\npolicies: {p: {s: {operations: ['mqtt:publish'], resources: ['*']}}}\n"
	const cloud = "cloud: {endpoint: %s, thingName: c, certificate: c.pem, privateKey: k.pem, operations: {verifyClientDeviceIdentity: %s}}\n"
	for _, c := range []struct {
		name, command, text, want string
		code                      int
	}{
		{"good.yaml", "policy", good, "ok: ", 0},
		{"empty.yaml", "policy", "", "empty", 1},
		{"deny.yaml", "policy", strings.Replace(good, "operations", "effect: DENY, operations", 1), ":3:", 1},
		{"rule.yaml", "policy", strings.Replace(good, "thingName: a", "thingName: a*b", 1), ":2:", 1},
		{"nopolicy.yaml", "policy", strings.Replace(good, "policyName: p", "policyName: q", 1), "\"q\"", 1},
		{"variable.yaml", "policy", strings.Replace(good, "'*'", "'mqtt:topic:${iot:Connection.Thing.Type}'", 1), "${iot:Connection.Thing.Type}", 1},
		{"nul.yaml", "policy", "a\x00b", "", 1},
		{"bomb.yaml", "policy", "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "anchor", 1},
		{"gatehouse.yaml", "policy", "dir: /tmp/x\n", "warning: ", 0},
		{"huge.yaml", "policy", strings.Repeat("#", 600<<10), "", 1},
		{"latin1.yaml", "policy", "a: \xe9\n", "UTF-8", 1},
		{"section.json", "config", `{"security":{"clientDeviceTrustDurationMinutes":"60"}}`, "clientDeviceTrustDurationMinutes: 60", 0},
		{"typo.yaml", "config", "dir: /tmp/x\nmqtt: {lisen: '127.0.0.1:1'}\n", "listen", 1},
		{"notyaml.yaml", "config", "][", "", 1},
		{"aws.yaml", "config", fmt.Sprintf(cloud, "greengrass-ats.iot.eu-central-1.amazonaws.com", "/a"),
			"aws.yaml: cloud.operations: AWS does not publish this operation's path: VerifyClientDeviceIoTCertificateAssociation", 1},
		{"path.yaml", "config", fmt.Sprintf(cloud, "gateway.local", "/a//b"), "path.yaml: cloud.operations: route of VerifyClientDeviceIdentity: ", 1},
		{"iot.yaml", "config", "cloud: {verifier: iot, region: r, control: {credentials: default}, endpoint: gateway.local, thingName: c, certificate: c.pem, privateKey: k.pem, operations: {putCertificateAuthorities: '/{core}'}}\n",
			"iot.yaml: cloud.operations: route of PutCertificateAuthorities: ", 1},
		{"own.yaml", "config", fmt.Sprintf(cloud, "gateway.local", "/a"), `verifyClientDeviceIdentity: "/a"`, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, code := runProgram(t, c.command, "check", write(c.name, c.text))
			if code != c.code || !strings.Contains(out, c.want) || out == "" {
				t.Errorf("exit %d, want %d and %q in:\n%.600s", code, c.code, c.want, out)
			}
		})
	}
	for _, none := range []string{dir, filepath.Join(dir, "nothing")} {
		if out, code := runProgram(t, "log", "stat", none); code != 1 || !strings.Contains(out, "no event log in "+none) {
			t.Errorf("stat of %s: exit %d\n%s", none, code, out)
		}
	}
	if out, code := runProgram(t, "log", "verify", filepath.Join(dir, "nothing")); code != 1 || !strings.Contains(out, "no event log") {
		t.Errorf("verify of nothing: exit %d\n%s", code, out)
	}
	if out, code := runProgram(t, "device", "list", "--dir", dir); code != 1 || !strings.Contains(out, "no daemon is running") {
		t.Errorf("list of nothing: exit %d\n%s", code, out)
	}
	if out, code := runProgram(t, "policy", "test", "../../actors/policy/testdata/policy-eval.json", "../../actors/policy/testdata/selection-rules.json"); code != 0 || !strings.HasSuffix(out, " passed, 0 failed\n") {
		t.Errorf("policy test: exit %d\n%s", code, out)
	}
	if out, code := runProgram(t, "policy", "test", write("policy.yaml", good)); code != 1 || !strings.Contains(out, "want JSON in the shape of policy-eval.json") {
		t.Errorf("policy test of a policy: exit %d\n%s", code, out)
	}
	if out, code := runProgram(t, "serve", "-c", filepath.Join(dir, "nothing")); code != 1 || !strings.Contains(out, "with -c") {
		t.Errorf("serve of nothing: exit %d\n%s", code, out)
	}
	if out, code := runProgram(t, "frobnicate"); code == 0 || out == "" {
		t.Errorf("unknown command: exit %d\n%s", code, out)
	}
}

// TestPassphraseFile: a file without a passphrase refuses the start. The authority's key
// would lie unencrypted, and nothing would say so.
func TestPassphraseFile(t *testing.T) {
	for _, c := range []struct {
		name, text, want string
	}{
		{"a line", "correct horse\nthe rest is not read\n", "correct horse"},
		{"no newline", "correct horse", "correct horse"},
		{"empty", "", ""},
		{"a newline", "\n", ""},
		{"white space", " \t\r\n", ""},
		{"on the second line", "\ncorrect horse\n", ""},
	} {
		file := filepath.Join(t.TempDir(), "ca-pass")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		f := config.File{Keys: config.Keys{PassphraseFile: file}}
		cfg, err := serveConfig(f, slog.New(slog.DiscardHandler))
		if string(cfg.Passphrase) != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: passphrase %q, %v; want %q", c.name, cfg.Passphrase, err, c.want)
		}
		if c.want == "" && err != nil && !(strings.HasPrefix(err.Error(), "keys.passphraseFile: "+file) && strings.Contains(err.Error(), "write one")) {
			t.Errorf("%s: %v; want the key, the file, and what to do", c.name, err)
		}
	}
}
