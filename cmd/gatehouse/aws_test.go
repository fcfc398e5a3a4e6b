package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// debianAWS is the awscli that Debian ships; another one may come first in the path.
const debianAWS = "/usr/bin/aws"

// TestStockToolsOfDev: with aws.env read, Debian's awscli sees the core's devices, and
// what it changes, Gatehouse's own commands show.
func TestStockToolsOfDev(t *testing.T) {
	need(t, "sh", debianAWS)
	d := startDev(t, filepath.Join(t.TempDir(), "it's here"))
	env := filepath.Join(d.dir, "aws.env")
	if info, err := os.Stat(env); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("aws.env: %v, %v", info, err)
	}
	aws := func(args string) string {
		t.Helper()
		cmd := exec.Command("sh", "-c", `. "$0"; exec `+debianAWS+` --endpoint-url "$AWS_ENDPOINT_URL" --output json `+args, env)
		cmd.Env = append(os.Environ(), "AWS_PROFILE=nobody", "AWS_SESSION_TOKEN=stale", "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("aws %s: %v\n%s", args, err, out)
		}
		return string(out)
	}
	list := func() (things []string) {
		t.Helper()
		var got struct {
			Devices []struct{ ThingName string } `json:"associatedClientDevices"`
		}
		out := aws("greengrassv2 list-client-devices-associated-with-core-device --core-device-thing-name " + string(coreThing))
		if err := json.Unmarshal([]byte(out), &got); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
		for _, device := range got.Devices {
			things = append(things, device.ThingName)
		}
		return things
	}
	if got := strings.Join(list(), " "); got != "sensor-1 sensor-2 sensor-3" {
		t.Errorf("the core's devices: %s", got)
	}
	aws("greengrassv2 batch-disassociate-client-device-from-core-device --core-device-thing-name " + string(coreThing) + " --entries thingName=sensor-2")
	d.must("2 client devices", "sim", "cloud", "associations")
	d.must("is a client device", "sim", "cloud", "associate", "sensor-2")
	d.must("no client device", "sim", "cloud", "disassociate", "sensor-1", "sensor-3")
	if got := strings.Join(list(), " "); got != "sensor-2" {
		t.Errorf("the core's devices: %s", got)
	}
	d.must("sensor-4", "device", "add", "sensor-4")
	d.must("2 client devices", "sim", "cloud", "associations")
	aws("iot describe-thing --thing-name sensor-4")

	d.must("misbehaves", "sim", "cloud", "fault", "--operation", "ListThings", "--status", "404", "--error", "ResourceNotFoundException", "--count", "1")
	d.must("struck 0 of 0", "sim", "cloud", "fault", "show")
	d.must("behaves", "sim", "cloud", "fault", "clear")
	d.must("the cloud behaves", "sim", "cloud", "fault", "show")

	// What was changed stays changed, and the keys are gone when the cloud is.
	d.end(os.Interrupt)
	if _, err := os.Stat(env); !os.IsNotExist(err) {
		t.Errorf("aws.env was left: %v", err)
	}
	startDev(t, d.dir)
	if got := strings.Join(list(), " "); got != "sensor-2 sensor-4" {
		t.Errorf("after a restart: %s", got)
	}
}
