package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/metrics"
)

// answer runs the program with --json and reads what it prints.
func answer[A any](d *dev, args ...string) A {
	d.t.Helper()
	var a A
	out := d.must("", append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		d.t.Fatalf("gatehouse %s: %v in\n%s", strings.Join(args, " "), err, out)
	}
	return a
}

// TestDeviceShowPredicts: what `device show` says of the next connect is what happens,
// of a running daemon and of a stopped one's directory.
func TestDeviceShowPredicts(t *testing.T) {
	need(t, "mosquitto_pub")
	d := startDev(t, "", "--trust", "1h")
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil {
		t.Fatalf("sensor-1 cannot publish: %v\n%s", err, out)
	}
	d.must("next connect: online: the cloud decides; offline: allowed until ", "device", "show", "sensor-1")
	shown := answer[daemon.DeviceDetail](d, "device", "show", "sensor-1")
	next := shown.Attachments[0].Next
	if shown.Next == nil || !next.Online.Allowed || !next.Offline.Allowed || next.Offline.Until == nil || !next.Offline.Until.Equal(*shown.TrustedUntil) {
		t.Errorf("predicted %+v", shown)
	}
	d.must("the cloud is away", "sim", "cloud", "off")
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil {
		t.Errorf("offline sensor-1 is refused: %v\n%s", err, out)
	}
	d.must("quarantined", "device", "quarantine", "sensor-1", "--reason", "stolen")
	const refused = "next connect: online: refused: the device is quarantined: stolen; offline: refused: the device is quarantined: stolen"
	d.must(refused, "device", "show", "sensor-1")
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err == nil {
		t.Errorf("in quarantine sensor-1 may publish:\n%s", out)
	}
	d.end(os.Interrupt)
	d.must(refused, "device", "show", "sensor-1")
	if list := answer[[]daemon.DeviceLine](d, "device", "list"); len(list) != 1 || list[0].Next == nil || list[0].Next.Offline.Allowed || list[0].TrustAgeSeconds == nil {
		t.Errorf("stopped: %+v", list)
	}
}

// TestTrustDue: whose trust lapses next, soonest first, of a running daemon and of a
// stopped one's directory.
func TestTrustDue(t *testing.T) {
	need(t, "mosquitto_pub")
	d := startDev(t, "", "--trust", "1h")
	d.must("0 of 0 devices are trusted without the cloud", "trust", "due")
	for _, thing := range []string{"sensor-2", "sensor-1"} {
		if out, err := d.publish(thing, thing, "sensors/"+thing+"/t"); err != nil {
			t.Fatalf("%s cannot publish: %v\n%s", thing, err, out)
		}
	}
	check := func() {
		t.Helper()
		due := answer[daemon.TrustDue](d, "trust", "due")
		if due.Things != 2 || due.Trusted != 2 || due.Lapse.Hour != 2 || due.More || len(due.Due) != 2 || due.Due[0].Thing != "sensor-2" {
			t.Errorf("due %+v", due)
		}
		if first := due.Due[0]; first.LeftSeconds > 3600 || first.LeftSeconds < 3500 || first.AgeSeconds > 100 {
			t.Errorf("first %+v", first)
		}
		if one := answer[daemon.TrustDue](d, "trust", "due", "--limit", "1"); !one.More || len(one.Due) != 1 {
			t.Errorf("one line: %+v", one)
		}
		if none := answer[daemon.TrustDue](d, "trust", "due", "--within", "1s"); len(none.Due) != 0 || none.Trusted != 2 {
			t.Errorf("within a second: %+v", none)
		}
	}
	check()
	d.must("refresh: none", "trust", "refresh")
	d.must("refresh: none", "status")
	d.end(os.Interrupt)
	d.must("lapse within 1h: 2, 24h: 2, 7d: 2", "trust", "due") // --trust is the daemon's: the stored minute counts here
	d.must("refresh: none", "trust", "refresh")
}

// TestMetrics: what a device does is counted, under the reference's names and for
// Prometheus.
func TestMetrics(t *testing.T) {
	need(t, "mosquitto_pub")
	d := startDev(t, "")
	if out, err := d.publish("sensor-1", "sensor-1", "sensors/sensor-1/t"); err != nil {
		t.Fatalf("sensor-1 cannot publish: %v\n%s", err, out)
	}
	if out, err := d.publish("sensor-1", "sensor-2", "sensors/sensor-2/t"); err == nil {
		t.Fatalf("sensor-1 is sensor-2:\n%s", out)
	}
	r := answer[metrics.Report](d, "metrics")
	if r.Total["VerifyClientDeviceIdentity.Success"] != 1 || r.Total["GetClientDeviceAuthToken.Success"] != 1 || r.Total["GetClientDeviceAuthToken.Failure"] == 0 || r.Emitted == nil {
		t.Errorf("report %+v", r)
	}
	d.must("GetClientDeviceAuthToken.Success: 1 since the start", "metrics")
	response, err := http.Get("http://" + d.http + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"gatehouse_trusted_devices 1", "gatehouse_cloud_reachable 1", `gatehouse_denials_total{class="not-attached"} `, "gatehouse_get_client_device_auth_token_success_total 1"} {
		if !strings.Contains(string(text), want) || strings.Contains(string(text), want+"0\n") {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
