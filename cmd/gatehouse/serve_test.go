package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// site is a core's surroundings for `gatehouse serve`: an emulated cloud with one core
// and one device in it, and the files a configuration names.
type site struct {
	dir      string
	emulator *awsemu.Emulator
	registry *awsemu.Registry
	cloud    string // more of the section cloud, a key a line
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{dir: t.TempDir()}
	authority, err := awsemu.NewAuthority("test cloud", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	registry := awsemu.NewRegistry()
	s.registry = registry
	for thing, core := range map[messages.ThingName]bool{"core-1": true, "pump-7": false} {
		identity, err := authority.IssueDevice(string(thing), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		if err := registry.Enroll(thing, identity, core); err != nil {
			t.Fatal(err)
		}
		if err := writeIdentity(filepath.Join(s.dir, "devices", string(thing)), identity); err != nil {
			t.Fatal(err)
		}
	}
	identity, err := authority.IssueServer(awsemu.ServerNames(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := identity.TLS()
	if err != nil {
		t.Fatal(err)
	}
	s.emulator, err = awsemu.Start(awsemu.Config{Certificate: certificate, Registry: registry, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.emulator.Close)
	if err := os.WriteFile(filepath.Join(s.dir, "roots.pem"), authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// serve runs the program with a configuration, and returns where it listens for MQTT.
func (s *site) serve(t *testing.T, natsSection string) *dev {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	d := &dev{t: t, dir: filepath.Join(s.dir, "data"), mqtt: freeAddr(t), log: newBuffer(), done: make(chan error, 1)}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(s.emulator.URL(), "https://"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, "gatehouse.yaml")
	text := fmt.Sprintf(`dir: data
nats: %s
mqtt: {listen: %q, hostAddresses: [localhost]}
cloud:
  endpoint: localhost:%s
  thingName: core-1
  certificate: devices/core-1/cert.pem
  privateKey: devices/core-1/key.pem
  ca: roots.pem
%sclientDeviceAuth:
  security: {clientDeviceTrustDurationMinutes: "60"}
  deviceGroups:
    formatVersion: 2021-03-05
    definitions: {pumps: {selectionRule: "thingName: pump-*", policyName: p}}
    policies:
      p:
        all: {operations: ["mqtt:connect", "mqtt:publish"], resources: ["mqtt:clientId:pump-7", "mqtt:topic:pumps/*"]}
`, natsSection, d.mqtt, port, s.cloud)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.run(exec.Command(path, "serve", "-c", file))
	// The helpers look for devices below the daemon's directory.
	if err := os.Symlink(filepath.Join(s.dir, "devices"), filepath.Join(d.dir, "devices")); err != nil && !os.IsExist(err) {
		t.Fatal(err)
	}
	return d
}

func pumpWorks(t *testing.T, d *dev) {
	t.Helper()
	if out, err := d.publish("pump-7", "pump-7", "pumps/7/level"); err != nil || !strings.Contains(out, "RC:0") {
		t.Fatalf("pump-7 cannot publish: %v\n%s\n%s", err, out, d.log)
	}
	if out, err := d.publish("pump-7", "pump-7", "valves/1"); err == nil && !strings.Contains(out, "RC:135") {
		t.Errorf("published where it may not:\n%s", out)
	}
	d.must("pump-7", "device", "list")
	d.must(`"trustDuration": "1h0m0s"`, "status", "--json")
}

// TestServe: the daemon as gatehouse.yaml says, with the embedded NATS server.
func TestServe(t *testing.T) {
	need(t, "mosquitto_pub")
	s := newSite(t)
	s.cloud = "  iotDataEndpoint: " + strings.Replace(strings.TrimPrefix(s.emulator.URL(), "https://"), "127.0.0.1", "localhost", 1) + "\n"
	d := s.serve(t, fmt.Sprintf("{listen: %q}", freeAddr(t)))
	pumpWorks(t, d)
	serveFollows(t, s, d)
	sectionIsLive(t, s, d)
	d.end(os.Interrupt)
	d.must("clientDeviceAuth: in force since", "config", "show")
	if out, code := d.gatehouse("log", "verify"); code != 0 {
		t.Errorf("verify: exit %d\n%s", code, out)
	}
}

// sectionIsLive edits gatehouse.yaml under a running daemon: a bad edit changes nothing
// and is explained, a good one is in force.
func sectionIsLive(t *testing.T, s *site, d *dev) {
	t.Helper()
	file := filepath.Join(s.dir, "gatehouse.yaml")
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string) {
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	bad := strings.Replace(string(good), `"60"`, "[60]", 1)
	write(bad)
	d.log.await(t, "document rejected", 10*time.Second)
	d.must("gatehouse.yaml:12:48: clientDeviceAuth.security.clientDeviceTrustDurationMinutes: a list", "config", "show")
	d.must("the file was rejected, record", "status")
	write(strings.Replace(string(good), `"60"`, "7", 1) + "log: {level: debug}\n")
	d.log.await(t, "keys=log.level", 10*time.Second)
	for deadline := time.Now().Add(10 * time.Second); ; {
		out := d.must("restart Gatehouse to use: log.level", "config", "show")
		if strings.Contains(out, "clientDeviceTrustDurationMinutes: 7") && !strings.Contains(out, "rejected") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the edit is not in force:\n%s", out)
		}
	}
	d.must(`"trustDuration": "7m0s"`, "status", "--json")
}

// With cloud.verifier: iot AWS IoT is asked, signed with the credentials that AWS's own tools
// would find, and the data plane is not.
func TestServeAsksAWSIoT(t *testing.T) {
	need(t, "mosquitto_pub")
	s := newSite(t)
	s.cloud = strings.Join([]string{"  verifier: iot", "  region: " + awsemu.Region, "  control: {credentials: default, endpoint: " + s.emulator.ControlURL() + "}", ""}, "\n")
	key, secret, session := s.emulator.Credentials()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, "AWS_SESSION_TOKEN": session} {
		t.Setenv(name, value)
	}
	d := s.serve(t, fmt.Sprintf("{listen: %q}", freeAddr(t)))
	pumpWorks(t, d)
	if n := s.emulator.Calls(awsemu.OpDescribeCertificate) + s.emulator.Calls(awsemu.OpListThingPrincipals); n < 2 {
		t.Errorf("AWS IoT was asked %d times", n)
	}
	if n := s.emulator.Calls(cloudsync.OpVerifyIdentity) + s.emulator.Calls(cloudsync.OpVerifyAssociation); n != 0 {
		t.Errorf("the data plane was asked %d times", n)
	}
	d.end(os.Interrupt)
}

// TestServeExternalNATS: the same with a NATS server that is not ours, and that starts
// after the daemon does.
func TestServeExternalNATS(t *testing.T) {
	need(t, "mosquitto_pub")
	s := newSite(t)
	data := filepath.Join(s.dir, "data")
	conf, code := runProgram(t, "broker", "server-config", "demo", "--dir", data)
	if code != 0 {
		t.Fatalf("server-config: exit %d\n%s", code, conf)
	}
	addr := freeAddr(t)
	file := filepath.Join(s.dir, "nats-server.conf")
	if err := os.WriteFile(file, []byte("listen: "+addr+"\n"+conf), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.NoLog, opts.NoSigs = true, true
	d := s.serve(t, fmt.Sprintf("{url: %q, creds: data/brokers/gatehouse.creds}", "nats://"+addr))
	if out, err := d.publish("pump-7", "pump-7", "pumps/7/level"); err == nil || !strings.Contains(out, "(136)") {
		t.Errorf("without NATS: %v, want CONNACK 136 in\n%s", err, out)
	}
	external, err := server.NewServer(opts)
	if err != nil {
		t.Fatal(err)
	}
	external.Start()
	t.Cleanup(func() { external.Shutdown(); external.WaitForShutdown() })
	if !external.ReadyForConnections(10 * time.Second) {
		t.Fatal("the NATS server is not ready")
	}
	d.log.await(t, "connected to NATS", 15*time.Second)
	d.log.await(t, "Gatehouse is heard", 15*time.Second) // so says the embedded broker
	pumpWorks(t, d)
	d.nats = addr
	demo := connectSeed(t, d)
	if !demo.authorize(t, demo.token(t, "pump-7"), "mqtt:topic:pumps/7/level") {
		t.Error("broker demo: not authorized")
	}
}
