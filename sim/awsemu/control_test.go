package awsemu_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// socketDir is short, unlike t.TempDir: a socket's path may have 90 bytes.
func socketDir(t *testing.T) string {
	t.Helper()
	dir := must[string](t)(os.MkdirTemp("", "awsemu"))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestControlSteersTheCloudAlsoWhileItIsOff(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(socketDir(t), "cloud.sock")
	control := must[*awsemu.Control](t)(w.emulator.ServeControl(path))
	defer control.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("socket mode %v, %v, want 0600", info, err)
	}
	if left := must[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(path))); len(left) != 1 {
		t.Errorf("beside the socket: %v", left)
	}
	orders := awsemu.NewControlClient(path)
	c := w.client(t, w.core)
	ctx := t.Context()

	if err := orders.SetOnline(ctx, false); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, quiet, quiet)
	info := must[*awsemu.ControlInfo](t)(orders.Status(ctx))
	if info.Online || info.Endpoint != w.emulator.URL() || info.Things != 3 || len(info.Certificates) != 3 || len(info.Faults) > 0 {
		t.Errorf("status while off: %+v", info)
	}
	if id, err := orders.Revoke(ctx, "pump-7"); err != nil || id != w.pump.ID {
		t.Fatalf("revoke while off: %v, %v", id, err)
	}
	if id, err := orders.Detach(ctx, "valve-1", string(w.valve.ID)); err != nil || id != w.valve.ID {
		t.Fatalf("detach while off: %v, %v", id, err)
	}
	if err := orders.SetOnline(ctx, true); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, denied, confirmed)
	wantVerdicts(t, c, "valve-1", w.valve, confirmed, denied)

	if _, err := orders.SetStatus(ctx, "pump-7", awsemu.StatusActive); err != nil {
		t.Fatal(err)
	}
	if _, err := orders.Attach(ctx, "valve-1", string(w.valve.ID)); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
	wantVerdicts(t, c, "valve-1", w.valve, confirmed, confirmed)

	if err := orders.SetFault(ctx, awsemu.Fault{Status: 500, ErrorType: "InternalServerException"}); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, quiet, quiet)
	if info := must[*awsemu.ControlInfo](t)(orders.Status(ctx)); len(info.Faults) != 1 || info.Faults[0].Fault.Status != 500 || info.Faults[0].Struck == 0 {
		t.Errorf("status does not show the fault: %+v", info)
	}
	if err := orders.SetFault(ctx, awsemu.Fault{}); err != nil {
		t.Fatal(err)
	}
	wantVerdicts(t, c, "pump-7", w.pump, confirmed, confirmed)
}

func TestResolveFindsCertificatesAsPeopleNameThem(t *testing.T) {
	w := newWorld(t)
	dir := socketDir(t)
	path := filepath.Join(dir, "cloud.sock")
	control := must[*awsemu.Control](t)(w.emulator.ServeControl(path))
	defer control.Close()
	if err := errors.Join(w.registry.AddThing("two"), w.registry.Attach("two", w.pump.ID), w.registry.Attach("two", w.valve.ID), w.registry.AddThing("none")); err != nil {
		t.Fatal(err)
	}
	file := func(name string, text []byte) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	orders := awsemu.NewControlClient(path)
	id := string(w.pump.ID)
	for given, want := range map[string]messages.CertificateID{
		id: w.pump.ID, strings.ToUpper(id): w.pump.ID, id[:8]: w.pump.ID, "pump-7": w.pump.ID,
		file("cert.pem", w.pump.CertificatePEM): w.pump.ID,
	} {
		if got, err := orders.Resolve(t.Context(), given); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", given, got, err, want)
		}
	}
	for given, want := range map[string]string{
		id[:7]:                                "not in the emulated registry",
		"":                                    "not in the emulated registry",
		"nobody":                              "not in the emulated registry",
		"none":                                "not in the emulated registry",
		string(w.stranger.ID):                 "not in the emulated registry",
		"two":                                 "means 2 certificates",
		filepath.Join(dir, "missing.pem"):     "no such file",
		file("key.pem", w.pump.KeyPEM):        "does not start with a PEM certificate",
		file("big.pem", make([]byte, 65<<10)): "more than 64 KiB",
		file("other.pem", w.stranger.CertificatePEM): "not in the emulated registry",
	} {
		if got, err := orders.Resolve(t.Context(), given); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: got %s, %v, want %q", given, got, err, want)
		}
	}
	if _, err := orders.Detach(t.Context(), "no such thing", id); !errors.Is(err, messages.ErrInvalidID) {
		t.Errorf("detach from a bad name: %v", err)
	}
	if _, err := orders.Detach(t.Context(), "nobody", id); !errors.Is(err, awsemu.ErrNotFound) {
		t.Errorf("detach from an unknown thing: %v", err)
	}
	if err := orders.SetFault(t.Context(), awsemu.Fault{Status: 1}); err == nil || !strings.Contains(err.Error(), "status 1") {
		t.Errorf("bad fault: %v", err)
	}
}

func TestConnectivityByTheControlSocket(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(socketDir(t), "cloud.sock")
	control := must[*awsemu.Control](t)(w.emulator.ServeControl(path))
	defer control.Close()
	orders := awsemu.NewControlClient(path)
	if info := must[*awsemu.CoreInfo](t)(orders.Connectivity(t.Context(), "")); info.Core != "core-1" || len(info.Addresses) > 0 || len(info.Authorities) > 0 || info.Version != "" {
		t.Errorf("never told: %+v", info)
	}
	want := awsemu.Connectivity{ID: "a", Host: "core.local", Port: 8883, Metadata: "m"}
	if err := errors.Join(orders.SetConnectivity(t.Context(), "", want), w.registry.PutAuthorities("core-1", 2, w.devices.PEM())); err != nil {
		t.Fatal(err)
	}
	info := must[*awsemu.CoreInfo](t)(orders.Connectivity(t.Context(), "core-1"))
	if len(info.Addresses) != 1 || info.Addresses[0] != want || len(info.Authorities) != 1 || info.Version != w.shadowVersion(t) {
		t.Errorf("told: %+v", info)
	}
	if err := orders.SetConnectivity(t.Context(), "core-1"); err != nil {
		t.Fatal(err)
	}
	if got := w.registry.Connectivity("core-1"); got == nil || len(got) > 0 {
		t.Errorf("cleared: %#v", got)
	}
	if err := orders.SetConnectivity(t.Context(), "core-1", awsemu.Connectivity{Port: -1}); err == nil {
		t.Error("a port below zero was taken")
	}
	if _, err := orders.Connectivity(t.Context(), "pump-7"); !errors.Is(err, awsemu.ErrNotFound) {
		t.Errorf("of a device: %v", err)
	}
	if status := must[*awsemu.ControlInfo](t)(orders.Status(t.Context())); status.MQTT != w.emulator.MQTTAddr() {
		t.Errorf("status names %q", status.MQTT)
	}
}

func TestControlSocketIsTakenOnlyIfFree(t *testing.T) {
	w := newWorld(t)
	dir := socketDir(t)
	path := filepath.Join(dir, "cloud.sock")
	orders := awsemu.NewControlClient(path)
	if _, err := orders.Status(t.Context()); err == nil || !strings.Contains(err.Error(), "gatehouse dev") {
		t.Errorf("without a server: %v", err)
	}

	// A socket that a killed process left behind is replaced.
	dead := must[*net.UnixListener](t)(net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}))
	dead.SetUnlinkOnClose(false)
	_ = dead.Close()
	control := must[*awsemu.Control](t)(w.emulator.ServeControl(path))
	if _, err := orders.Status(t.Context()); err != nil {
		t.Error(err)
	}
	if other, err := w.emulator.ServeControl(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket in use: got %v, %v", other, err)
	}
	control.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket was left: %v", err)
	}

	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.emulator.ServeControl(path); err == nil {
		t.Error("a file that is no socket was overwritten")
	}
	if _, err := w.emulator.ServeControl(filepath.Join(dir, strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Errorf("a path too long for a socket: %v", err)
	}
}
