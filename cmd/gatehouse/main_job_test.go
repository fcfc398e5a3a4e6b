package main

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMainJob is the first demand: with Debian's mosquitto clients, sensor-1
// publishes and receives under its own name; everybody and everything else is refused,
// and explain says why.
func TestMainJob(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto_sub", "stdbuf", "openssl")
	d := startDev(t, "")

	sub := d.subscribe("sensor-1", "sensors/sensor-1/#")
	if out, err := d.publish("sensor-2", "sensor-2", "sensors/sensor-2/t"); err != nil {
		t.Fatalf("sensor-2 cannot publish under its own name: %v\n%s", err, out)
	}
	// A second connection of sensor-1 would take the first one over; it publishes on the
	// subscriber's behalf from another session of the same client id only afterwards.
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-2/x"); err == nil && !strings.Contains(out, "Not authorized") {
		t.Errorf("publish of sensor-1 under sensor-2: want a reason code, have:\n%s", out)
	}
	_ = sub.cmd.Process.Kill()
	t.Run("denied publish is explained", func(t *testing.T) {
		e := d.explain("sensor-1")
		if e.Allowed || e.Policy == nil || !strings.Contains(e.Policy.Text, "no statement there allows") {
			t.Errorf("explanation: %+v", e)
		}
		if len(e.Events) == 0 || e.Events[len(e.Events)-1].Kind != "AccessDenied" {
			t.Errorf("events: %+v, want AccessDenied last", e.Events)
		}
	})
	t.Run("receives what it publishes", func(t *testing.T) { roundTrip(t, d) })
	t.Run("allowed publish is explained", func(t *testing.T) {
		e := d.explain("sensor-1", "mqtt:publish", "mqtt:topic:sensors/sensor-1/t")
		if !e.Allowed || e.Policy == nil || len(e.Policy.Matches) == 0 || e.Policy.Matches[0].Group != "sensors" || e.Policy.Matches[0].Statement != "publish" {
			t.Errorf("explanation: %+v", e)
		}
	})
	t.Run("strangers", func(t *testing.T) { strangers(t, d) })
}

// roundTrip subscribes and publishes in one client: mosquitto_rr does both.
func roundTrip(t *testing.T, d *dev) {
	need(t, "mosquitto_rr")
	args := append(d.tls("sensor-1", "sensor-1"), "-V", "5", "-q", "1", "-W", "10",
		"-t", "sensors/sensor-1/echo", "-e", "sensors/sensor-1/echo", "-m", "21.5")
	out, err := exec.Command("mosquitto_rr", args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "21.5") {
		t.Fatalf("sensor-1 does not receive what it publishes: %v\n%s", err, out)
	}
}

// strangers are refused, each for its own reason.
func strangers(t *testing.T, d *dev) {
	selfMade := filepath.Join(d.dir, "devices", "self-made")
	makeSelfSigned(t, selfMade)
	for _, c := range []struct{ name, thing, id, reason string }{
		{"self-made certificate", "self-made", "self-made", "does not vouch for the certificate"},
		{"certificate of another thing", "sensor-2", "sensor-1", "does not belong to the thing"},
		{"wrong client id", "sensor-1", "nobody-1", "does not belong to the thing"},
		{"no certificate", "", "no-cert-1", "presented no certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := d.publish(c.thing, c.id, "sensors/"+c.id+"/t")
			if err == nil {
				t.Fatalf("let in:\n%s", out)
			}
			e := d.explain(c.id)
			if e.Allowed || !strings.Contains(e.Answer, c.reason) || e.Advice == "" {
				t.Errorf("explanation: %+v, want %q and advice", e, c.reason)
			}
		})
	}
}

func makeSelfSigned(t *testing.T, folder string) {
	t.Helper()
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
		"-subj", "/CN=self-made", "-days", "30",
		"-keyout", filepath.Join(folder, "key.pem"), "-out", filepath.Join(folder, "cert.pem")).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
}

// TestOffline: without the cloud a device that is known comes back within the trust
// duration and not after it; a device that was never seen does not.
func TestOffline(t *testing.T) {
	need(t, "mosquitto_pub")
	const trust = 8 * time.Second
	d := startDev(t, "", "--trust", trust.String(), "--recheck", "1h")
	start := time.Now()
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil {
		t.Fatalf("online: %v\n%s", err, out)
	}
	d.must("away", "sim", "cloud", "off")
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil && time.Since(start) < trust {
		t.Fatalf("offline within trust: %v\n%s", err, out)
	}
	if out, err := d.publish("sensor-2", "sensor-2", "sensors/sensor-2/t"); err == nil {
		t.Fatalf("offline and never seen: let in\n%s", out)
	}
	if e := d.explain("sensor-2"); !strings.Contains(e.Answer, "never verified") {
		t.Errorf("explanation: %+v", e)
	}
	// The trust duration is real time: there is nothing to await but its end.
	<-time.After(time.Until(start.Add(trust + time.Second)))
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err == nil {
		t.Fatalf("offline after trust: let in\n%s", out)
	}
	if e := d.explain("sensor-1"); !strings.Contains(e.Answer, "lapsed") {
		t.Errorf("explanation: %+v", e)
	}
	d.must("back", "sim", "cloud", "on")
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil {
		t.Fatalf("online again: %v\n%s", err, out)
	}
}

// TestRevoke: a connected device whose certificate is revoked is disconnected within a
// second, and cannot return.
func TestRevoke(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto_sub", "stdbuf")
	d := startDev(t, "")
	for _, c := range []struct {
		thing string
		order []string
	}{
		{"sensor-1", []string{"sim", "cloud", "revoke", "sensor-1"}},
		{"sensor-2", []string{"sim", "cloud", "detach", "sensor-2", "sensor-2"}},
		{"sensor-3", []string{"device", "quarantine", "sensor-3", "--reason", "stolen"}},
	} {
		t.Run(strings.Join(c.order[:3], " "), func(t *testing.T) {
			sub := d.subscribe(c.thing, "sensors/"+c.thing+"/#")
			if out, code := d.gatehouse(c.order...); code != 0 {
				t.Fatalf("exit %d\n%s", code, out)
			}
			start := time.Now()
			sub.out.await(t, "DISCONNECT", 10*time.Second)
			if took := time.Since(start); took > time.Second {
				t.Errorf("disconnected after %v, want within a second", took)
			}
			_ = sub.cmd.Process.Kill()
			if e := d.explain(c.thing); e.Allowed || !strings.Contains(e.Answer, "ended: ") || e.Advice == "" {
				t.Errorf("explanation: %+v", e)
			}
			if out, err := d.publish(c.thing, c.thing, "sensors/"+c.thing+"/t"); err == nil {
				t.Errorf("it came back:\n%s", out)
			}
		})
	}
}

// TestPolicyReload: an edit takes effect on live connections within a second; a broken
// one keeps the former policy, names file, line and cause, and is in the log.
func TestPolicyReload(t *testing.T) {
	need(t, "mosquitto_pub", "mosquitto_sub", "stdbuf")
	d := startDev(t, "")
	file := filepath.Join(d.dir, "policy.yaml")
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sub := d.subscribe("sensor-1", "sensors/sensor-1/#")
	wider := strings.Replace(string(before), `resources: ["mqtt:topic:sensors/${iot:Connection.Thing.ThingName}/*"]`,
		`resources: ["mqtt:topic:sensors/*"]`, 1)
	if err := os.WriteFile(file, []byte(wider), 0o600); err != nil {
		t.Fatal(err)
	}
	d.log.await(t, "policy in force", time.Second)
	if out, err := d.publish("sensor-2", "sensor-2", "sensors/sensor-1/from-2"); err != nil {
		t.Fatalf("after the edit: %v\n%s", err, out)
	}
	sub.out.await(t, "21", 5*time.Second) // it arrives at the live connection

	if err := os.WriteFile(file, []byte(strings.Replace(wider, "thingName: sensor-*", "thingName = sensor-*", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	d.log.await(t, "policy.yaml:5", time.Second)
	if out, err := d.publish("sensor-2", "sensor-2", "sensors/sensor-1/from-2"); err != nil {
		t.Fatalf("after the broken edit: %v\n%s", err, out)
	}
	if out := d.must("ConfigRejected", "log", "cat", "--live", "--stream", "core/policy"); !strings.Contains(out, "policy.yaml:5") {
		t.Errorf("the log does not say where:\n%s", out)
	}

	// Taking the right to connect away ends the live connection.
	if err := os.WriteFile(file, []byte(strings.Replace(wider, "mqtt:clientId:", "mqtt:clientId:no-", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	sub.out.await(t, "DISCONNECT", 3*time.Second)
}

// TestKill: after kill -9 and a restart, sessions and trust are there, the log is whole,
// and the token from before is good.
func TestKill(t *testing.T) {
	need(t, "mosquitto_pub")
	d := startDev(t, "", "--trust", "1h", "--recheck", "1h")
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	demo := connectDemo(t, d)
	token := demo.token(t, "sensor-2")
	if !demo.authorize(t, token, "mqtt:topic:sensors/sensor-2/t") {
		t.Fatal("not authorized before the crash")
	}
	if out, code := d.gatehouse("log", "verify"); code != exitInUse {
		t.Errorf("verify of a log in use: exit %d, want %d\n%s", code, exitInUse, out)
	}
	_ = d.cmd.Process.Kill() // and no waiting for the end: README pastes the two lines at once
	if out, code := d.gatehouse("log", "verify"); code != 0 || !strings.HasPrefix(out, "ok: ") {
		t.Fatalf("verify after kill -9: exit %d\n%s", code, out)
	}
	d.kill()
	d.must("sensor-2", "device", "list")

	d = startDev(t, d.dir, "--trust", "1h", "--recheck", "1h")
	d.must("away", "sim", "cloud", "off")
	demo = connectDemo(t, d)
	if !demo.authorize(t, token, "mqtt:topic:sensors/sensor-2/t") {
		t.Error("the token from before the crash is not good")
	}
	if demo.authorize(t, token, "mqtt:topic:sensors/sensor-1/t") {
		t.Error("and allows what it must not")
	}
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil {
		t.Errorf("trust from before the crash: %v\n%s", err, out)
	}
	d.must("ok: ", "log", "verify", "--live")
	d.end(os.Interrupt)
	if out, code := d.gatehouse("log", "verify"); code != 0 || !strings.HasPrefix(out, "ok: ") {
		t.Fatalf("verify after an orderly end: exit %d\n%s", code, out)
	}
}

// TestDeviceAdd: a device that is added can connect at once.
func TestDeviceAdd(t *testing.T) {
	need(t, "mosquitto_pub")
	d := startDev(t, "")
	d.must("sensor-4", "device", "add", "sensor-4")
	if out, err := d.publish("sensor-4", "sensor-4", "sensors/sensor-4/t"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.must("certificate", "device", "show", "sensor-4")
	if out, code := d.gatehouse("device", "add", "not/a/thing"); code == 0 || !strings.Contains(out, "thing name") {
		t.Errorf("a bad name: exit %d\n%s", code, out)
	}
	d.must("demo2", "broker", "add", "demo2")
}

// TestServerCertificate: DIR/ca.pem verifies the broker, by name and by address.
func TestServerCertificate(t *testing.T) {
	d := startDev(t, "")
	text, err := os.ReadFile(filepath.Join(d.dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate in ca.pem")
	}
	device, err := tls.LoadX509KeyPair(filepath.Join(d.dir, "devices/sensor-1/cert.pem"), filepath.Join(d.dir, "devices/sensor-1/key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1"} {
		conn, err := tls.Dial("tcp", d.mqtt, &tls.Config{RootCAs: pool, ServerName: name, Certificates: []tls.Certificate{device}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = conn.Close()
	}
}
