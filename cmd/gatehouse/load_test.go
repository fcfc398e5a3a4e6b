package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/load"
)

// played runs sim load and returns its result; progress stands before it.
func (d *dev) played(code int, args ...string) load.Result {
	d.t.Helper()
	out, got := d.gatehouse(append([]string{"sim", "load", "--json"}, args...)...)
	var r load.Result
	_, doc, _ := strings.Cut(out, "\n{")
	if err := json.Unmarshal([]byte("{"+doc), &r); err != nil || got != code {
		d.t.Fatalf("sim load %q: exit %d, want %d; %v in:\n%s", args, got, code, err, out)
	}
	return r
}

// TestLoadAtDev: at a `gatehouse dev` it needs nothing, makes what is missing once, finds
// its own way back, and says by its exit code that an answer was wrong.
func TestLoadAtDev(t *testing.T) {
	d := startDev(t, "")
	report := filepath.Join(d.dir, "load.html")
	out := d.must("No answer was wrong", "sim", "load", "--for", "2s", "--rate", "100", "--devices", "30", "--brokers", "2", "--report", report)
	page, err := os.ReadFile(report)
	if err != nil || !strings.Contains(string(page), "No answer was wrong") || !strings.Contains(out, "30 devices at 2 brokers, NATS at nats://"+d.nats) {
		t.Errorf("%v, %d bytes of a page; %s", err, len(page), out)
	}
	r := d.played(0, "--mix", "revoke", "--for", "2s", "--devices", "40", "--brokers", "3")
	if r.Mix.Devices != 40 || r.Mix.Brokers != 3 || r.Wrong() != 0 || r.Decided < 200 {
		t.Errorf("%+v", r.Mix)
	}
	r = d.played(0, "--mqtt", "--mix", "steady-mqtt", "--for", "2s", "--rate", "40", "--devices", "20")
	if !strings.HasPrefix(r.Target, "MQTT at localhost:") || r.Wrong() != 0 || r.Decided < 30 {
		t.Errorf("%s: %d decisions, %d wrong", r.Target, r.Decided, r.Wrong())
	}
	if s := answer[daemon.Status](d, "status"); s.Sessions > 1 || s.Things < 40 {
		t.Errorf("afterwards %d sessions, %d things", s.Sessions, s.Things)
	}
	// Somebody gives away what no device may.
	policy := filepath.Join(d.dir, "policy.yaml")
	text, err := os.ReadFile(policy)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), `"mqtt:topic:sensors/${iot:Connection.Thing.ThingName}/*"`, `"mqtt:topic:*"`, 1))
	before := answer[daemon.Status](d, "status").PolicyRevision
	if err := os.WriteFile(policy, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); answer[daemon.Status](d, "status").PolicyRevision == before; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the policy is not in force")
		}
	}
	if r := d.played(1, "--for", "2s", "--rate", "100", "--devices", "20"); r.WrongAllows == 0 || r.WrongDenies != 0 {
		t.Errorf("%d wrong allows, %d wrong denies", r.WrongAllows, r.WrongDenies)
	}
}

// TestLoadElsewhere: whom to ask, as whom, and with which devices can be said.
func TestLoadElsewhere(t *testing.T) {
	d := startDev(t, "", "--sessions", "5000")
	d.must("broker load-2:", "broker", "add", "load-1", "load-2")
	fleet := filepath.Join(t.TempDir(), "fleet.pem")
	d.must("12 devices, sensor-x-00001 to sensor-x-00012", "sim", "load", "fleet", "--devices", "12", "--prefix", "sensor-x-", "--out", fleet)
	d.must("12 devices", "sim", "load", "fleet", "--devices", "12", "--prefix", "sensor-x-", "--out", fleet) // all there
	for _, args := range [][]string{
		{"--nats", "nats://" + d.nats, "--credentials", daemon.CredsFile(d.dir, "load-1"), "--credentials", daemon.CredsFile(d.dir, "load-2"), "--fleet", fleet, "--devices", "12"},
		{"--nats", "nats://" + d.nats, "--credentials", daemon.CredsFile(d.dir, "load-1"), "--fleet", filepath.Join(d.dir, "devices"), "--devices", "3"},
		{"--mqtt", "--mix", "steady-mqtt", "--address", strings.Replace(d.mqtt, "127.0.0.1", "localhost", 1), "--ca", filepath.Join(d.dir, "ca.pem"), "--fleet", fleet, "--devices", "12"},
	} {
		out, code := runProgram(t, append([]string{"sim", "load", "--for", "1s", "--rate", "60"}, args...)...)
		if code != 0 || !strings.Contains(out, "No answer was wrong") {
			t.Errorf("sim load %q: exit %d\n%s", args, code, out)
		}
	}
	if s := answer[daemon.Status](d, "status"); s.Things < 12 {
		t.Errorf("%d things", s.Things)
	}
	if out := d.must("maxActiveAuthTokens", "config", "show"); !strings.Contains(out, "maxActiveAuthTokens: 5000") {
		t.Errorf("--sessions 5000 is not in force:\n%s", out)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--mix", "none"}, 2, "neither a file nor one of day, overload"},
		{[]string{"--show", "none"}, 2, "want one of day"},
		{[]string{"--for", "1ms"}, 2, "--for is 1s or more"},
		{[]string{"--devices", "2000000"}, 2, "want 1 to 1000000"},
		{[]string{"--schema", "x"}, 2, "want mix or result"},
		{nil, 1, "which devices? name their certificates with --fleet"},
		{[]string{"--fleet", fleet, "--devices", "5"}, 1, "or say whom to ask: --nats and --credentials"},
		{[]string{"--fleet", fleet, "--devices", "13", "--nats", "nats://" + d.nats, "--credentials", daemon.CredsFile(d.dir, "load-1")}, 1, "the fleet has 12 devices, the mix wants 13"},
		{[]string{"--fleet", fleet, "--devices", "5", "--nats", "nats://" + d.nats}, 1, "as which brokers?"},
		{[]string{"--mqtt", "--mix", "steady-mqtt", "--address", d.mqtt, "--fleet", fleet, "--devices", "5"}, 1, "name its authority with --ca"},
	} {
		out, code := runProgram(t, append([]string{"sim", "load"}, c.args...)...)
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("sim load %q: exit %d, want %d and %q in:\n%s", c.args, code, c.code, c.want, out)
		}
	}
	for _, what := range []string{"mix", "result"} {
		if out, code := runProgram(t, "sim", "load", "--schema", what); code != 0 || !json.Valid([]byte(out)) {
			t.Errorf("--schema %s: exit %d\n%s", what, code, out)
		}
	}
}

// TestEnrollAll: what is known stays as somebody has left it.
func TestEnrollAll(t *testing.T) {
	d := startDev(t, "")
	d.must("3 devices", "sim", "load", "fleet", "--devices", "3")
	d.must("is revoked", "sim", "cloud", "revoke", "sensor-load-00002")
	d.must("5 devices", "sim", "load", "fleet", "--devices", "5")
	client := awsemu.NewControlClient(controlSocket(d.dir))
	info, err := client.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	revoked, mine := 0, 0
	for _, c := range info.Certificates {
		if len(c.Things) == 1 && strings.HasPrefix(string(c.Things[0]), loadPrefix) {
			if mine++; c.Status == awsemu.StatusRevoked {
				revoked++
			}
		}
	}
	if mine != 5 || revoked != 1 || info.Associated[coreThing] != 3+5 {
		t.Errorf("%d certificates, %d revoked, %d client devices", mine, revoked, info.Associated[coreThing])
	}
	if out, code := d.gatehouse("sim", "load", "--for", "1s", "--devices", "3"); code != 1 || !strings.Contains(out, "sensor-load-00002 is denied: is it registered in the cloud") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}
