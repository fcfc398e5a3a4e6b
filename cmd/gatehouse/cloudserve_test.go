package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// served is a running `gatehouse sim cloud serve`.
type served struct {
	t    *testing.T
	dir  string
	at   cloudEndpoints
	cmd  *exec.Cmd
	log  *buffer
	done chan error
}

// startServed starts the emulated cloud in dir, at free ports, and waits until it is ready.
func startServed(t *testing.T, dir string, flags ...string) *served {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, dir: dir, log: newBuffer(), done: make(chan error, 1)}
	args := []string{"sim", "cloud", "serve", "--json", "--dir", dir, "--control-port", "0", "--data-port", "0", "--credential-port", "0", "--mqtt-port", "0"}
	s.cmd = exec.Command(path, append(args, flags...)...)
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.done
	})
	err = json.NewDecoder(out).Decode(&s.at)
	go func() {
		s.done <- s.cmd.Wait()
		close(s.done)
	}()
	if err != nil || !s.at.Ready {
		t.Fatalf("not ready: %v\n%s", err, s.log)
	}
	return s
}

// stop ends it as a system does, and returns when it has ended cleanly.
func (s *served) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.done:
		if err != nil {
			s.t.Fatalf("ended with %v\n%s", err, s.log)
		}
	case <-time.After(20 * time.Second):
		s.t.Fatalf("does not end\n%s", s.log)
	}
}

// cloud runs a command of `sim cloud` on it.
func (s *served) cloud(args ...string) (string, error) {
	path, err := binary()
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := exec.Command(path, append(append([]string{"sim", "cloud"}, args...), "--dir", s.dir)...).CombinedOutput()
	return string(out), err
}

const serveSeed = `formatVersion: gatehouse/awsemu-1
things:
  - thingName: core-1
    core: true
    associatedClientDevices: [{thingName: pump-7}]
  - thingName: pump-7
certificates:
  - make: pump-7
    things: [pump-7]
`

// TestServeTheCloudAlone: one command, one seed, and a device connects.
func TestServeTheCloudAlone(t *testing.T) {
	need(t, "mosquitto_pub")
	dir := filepath.Join(t.TempDir(), "a cloud")
	seed := filepath.Join(t.TempDir(), "seed.yaml")
	if err := os.WriteFile(seed, []byte(serveSeed), 0o600); err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state.json")
	s := startServed(t, dir, "--seed", seed, "--state", state)
	port := s.at.MQTT[strings.LastIndex(s.at.MQTT, ":")+1:]
	device := filepath.Join(dir, "devices", "pump-7")
	publish := func() (string, error) {
		out, err := exec.Command("mosquitto_pub", "--cafile", s.at.RootCA, "--cert", filepath.Join(device, "cert.pem"), "--key", filepath.Join(device, "key.pem"),
			"-h", "localhost", "-p", port, "-i", "pump-7", "-q", "1", "-t", "pumps/7", "-m", "21").CombinedOutput()
		return string(out), err
	}
	if out, err := publish(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := s.cloud("revoke", "pump-7"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := publish(); err == nil {
		t.Fatalf("a revoked certificate publishes: %s", out)
	}
	exported, err := s.cloud("seed", "export")
	if err != nil || !strings.Contains(exported, `"REVOKED"`) {
		t.Fatalf("%v: %s", err, exported)
	}
	if strings.Contains(exported, "PRIVATE KEY") {
		t.Error("a key was exported")
	}

	// A second one is refused, and leaves the first alone.
	out, err := s.cloud("serve", "--control-port", "0", "--data-port", "0", "--credential-port", "0", "--mqtt-port", "0")
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != exitInUse || !strings.Contains(out, "another process serves it") {
		t.Errorf("a second one on the directory: %v, %s", err, out)
	}
	if out, err := s.cloud("status"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	s.stop()
	if _, err := os.Stat(s.at.Env); !os.IsNotExist(err) {
		t.Errorf("aws.env outlives its keys: %v", err)
	}

	// What was changed is still so, and the seed is not put over it.
	s = startServed(t, dir, "--seed", seed, "--state", state)
	if again, err := s.cloud("seed", "export"); err != nil || again != exported || !strings.Contains(s.at.Note, "was not read") {
		t.Errorf("after a restart: %v, note %q\n%s", err, s.at.Note, again)
	}
	s.stop()
	// What an export wrote is a seed, and a registry to keep.
	file := filepath.Join(t.TempDir(), "exported.json")
	if err := os.WriteFile(file, []byte(exported), 0o600); err != nil {
		t.Fatal(err)
	}
	s = startServed(t, filepath.Join(t.TempDir(), "other"), "--seed", file)
	again, err := s.cloud("seed", "export")
	if err != nil || whoIsKnown(t, again) != whoIsKnown(t, exported) {
		t.Errorf("from its own export: %v\n%s", err, again)
	}
}

// whoIsKnown is what a seed says of things and certificates.
func whoIsKnown(t *testing.T, seed string) string {
	t.Helper()
	var parts struct{ Things, Certificates json.RawMessage }
	if err := json.Unmarshal([]byte(seed), &parts); err != nil || len(parts.Certificates) == 0 {
		t.Fatalf("%v in %s", err, seed)
	}
	return string(parts.Things) + string(parts.Certificates)
}

// TestTheExampleOfASeed: what the emulator's README shows is served, with what it has made.
func TestTheExampleOfASeed(t *testing.T) {
	example, err := filepath.Abs("../../sim/awsemu/seed.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	s := startServed(t, filepath.Join(t.TempDir(), "d"), "--seed", example)
	for _, file := range []string{"devices/core-1/key.pem", "devices/pump-7/cert.pem", "devices/newcomer/cert.pem", "authorities/factory/ca.pem", "root-ca.pem", "aws.env"} {
		if _, err := os.Stat(filepath.Join(s.dir, file)); err != nil {
			t.Error(err)
		}
	}
	newcomer, err := readCertificate(filepath.Join(s.dir, "devices/newcomer/cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	factory, err := readCertificate(filepath.Join(s.dir, "authorities/factory/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := newcomer.CheckSignatureFrom(factory); err != nil {
		t.Error(err)
	}
	if out, err := s.cloud("seed", "export"); err != nil || strings.Count(whoIsKnown(t, out), "BEGIN CERTIFICATE") != 2 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestServeEveryAddress: who listens at all of them is told a name that the certificate has.
func TestServeEveryAddress(t *testing.T) {
	need(t, "curl")
	s := startServed(t, t.TempDir(), "--listen", "0.0.0.0", "--name", "127.0.0.2")
	if !strings.HasPrefix(s.at.Control, "https://127.0.0.2:") || !strings.HasPrefix(s.at.MQTT, "127.0.0.2:") {
		t.Errorf("%+v", s.at)
	}
	out, err := exec.Command("curl", "-s", "--cacert", s.at.RootCA, s.at.Control+"/things").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Missing Authentication Token") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestWhatServeRefuses: wrong flags and seeds end it before it listens.
func TestWhatServeRefuses(t *testing.T) {
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed.yaml")
	if err := os.WriteFile(seed, []byte("formatVersion: gatehouse/awsemu-1\nthings:\n  - name: pump-7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	taken := startServed(t, filepath.Join(dir, "taken"))
	port := taken.at.MQTT[strings.LastIndex(taken.at.MQTT, ":")+1:]
	for _, c := range []struct {
		want string
		code int
		args []string
	}{
		{"--listen", exitUsage, []string{"--listen", "localhost"}},
		{"--requests-per-second", exitUsage, []string{"--requests-per-second", "-1"}},
		{"--mqtt-port 70000", exitUsage, []string{"--mqtt-port", "70000"}},
		{"loopback", exitFailed, []string{"--listen", "0.0.0.0", "--plain-http", "--control-port", "0", "--data-port", "0", "--credential-port", "0", "--mqtt-port", "0"}},
		{seed + ":3:5: things[0].name: unknown key", exitFailed, []string{"--seed", seed}},
		{"choose others with", exitFailed, []string{"--control-port", "0", "--data-port", "0", "--credential-port", "0", "--mqtt-port", port}},
	} {
		path, err := binary()
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(path, append([]string{"sim", "cloud", "serve", "--dir", filepath.Join(dir, "d")}, c.args...)...).CombinedOutput()
		if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%v: %v, %s", c.args, err, out)
		}
	}
}
