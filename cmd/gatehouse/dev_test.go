package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// TestEnrollAgain: whatever of the emulated cloud's registry is lost, the core and the
// devices whose files are there are in it after the next start, and nobody else. What it
// knows stays as it was left.
func TestEnrollAgain(t *testing.T) {
	dir := t.TempDir()
	restart := func() *awsemu.Registry {
		t.Helper()
		cloud, err := startCloud(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		cloud.Close()
		registry, err := awsemu.OpenRegistry(filepath.Join(dir, "cloud", "registry.json"))
		if err != nil {
			t.Fatal(err)
		}
		return registry
	}
	restart()
	authority, err := readAuthority(cloudAuthorityFiles(dir))
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := awsemu.NewAuthority("stranger", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for thing, signer := range map[string]*awsemu.Authority{"sensor-4": authority, "self-made": stranger} { // as `device add` does
		identity, err := signer.IssueDevice(thing, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := writeIdentity(deviceDir(dir, thing), identity); err != nil {
			t.Fatal(err)
		}
	}
	id := func(folder string) messages.CertificateID {
		t.Helper()
		certificate, err := readCertificate(filepath.Join(folder, "cert.pem"))
		if err != nil {
			t.Fatal(err)
		}
		return messages.CertificateIDOf(certificate.Raw)
	}
	if err := os.Remove(filepath.Join(dir, "cloud", "registry.json")); err != nil {
		t.Fatal(err)
	}
	r := restart()
	for _, thing := range []messages.ThingName{"sensor-1", "sensor-2", "sensor-3", "sensor-4"} {
		if !r.Attached(thing, id(deviceDir(dir, string(thing)))) {
			t.Errorf("%s is unknown", thing)
		}
	}
	if active, core := r.Caller(id(filepath.Join(dir, "cloud", "core"))); !active || !core {
		t.Errorf("the core: active %v, core %v", active, core)
	}
	if _, ok := r.Certificate(id(deviceDir(dir, "self-made"))); ok {
		t.Error("a certificate that another authority signed is known")
	}

	one, two := id(deviceDir(dir, "sensor-1")), id(deviceDir(dir, "sensor-2"))
	if err := r.Revoke(one); err != nil {
		t.Fatal(err)
	}
	if err := r.Detach("sensor-2", two); err != nil {
		t.Fatal(err)
	}
	r = restart()
	if info, _ := r.Certificate(one); info.Status != awsemu.StatusRevoked || r.Attached("sensor-2", two) {
		t.Errorf("after a restart sensor-1 is %s, sensor-2 attached: %v", info.Status, r.Attached("sensor-2", two))
	}
}

// TestAssociationsOfDev: the devices of dev are client devices of its core, those of a
// registry from before there were associations too, until somebody says otherwise.
func TestAssociationsOfDev(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "cloud", "registry.json")
	restart := func() (*awsemu.Registry, int) {
		t.Helper()
		cloud, err := startCloud(dir, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		cloud.Close()
		registry, err := awsemu.OpenRegistry(file)
		if err != nil {
			t.Fatal(err)
		}
		return registry, len(registry.Associated(coreThing))
	}
	r, n := restart()
	if n != 3 {
		t.Fatalf("%d devices at first", n)
	}
	text, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	var seed map[string]any
	if err := json.Unmarshal(text, &seed); err != nil {
		t.Fatal(err)
	}
	for _, thing := range seed["things"].([]any) {
		delete(thing.(map[string]any), "associatedClientDevices")
	}
	if text, err = json.Marshal(seed); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, n = restart(); n != 3 {
		t.Errorf("%d devices of an older registry", n)
	}
	if err := r.Disassociate(coreThing, demoThings...); err != nil {
		t.Fatal(err)
	}
	if _, n = restart(); n != 0 {
		t.Errorf("%d devices came back", n)
	}
}
