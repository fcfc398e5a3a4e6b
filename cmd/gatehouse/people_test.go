package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
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
