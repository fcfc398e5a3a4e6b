package main

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// openssl runs OpenSSL in dir.
func openssl(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// madeBy makes a device's files with the demo fleet's authority, as its owner would.
func (d *dev) madeBy(t *testing.T, authority, key, name string) {
	t.Helper()
	folder := filepath.Join(d.dir, "devices", name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	openssl(t, folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
	openssl(t, folder, "req", "-new", "-key", "key.pem", "-subj", "/CN="+name, "-out", "csr.pem")
	openssl(t, folder, "x509", "-req", "-in", "csr.pem", "-CA", authority, "-CAkey", key, "-set_serial", "0x"+strings.Repeat("7", 16), "-days", "30", "-out", "cert.pem")
}

// The edge half of must-see 2 of issue 5: a device that nobody registered is told to come
// again, is registered meanwhile, and is let in; repeated connects change nothing. A rogue
// authority's device, and one whose name is another's, are refused.
func TestADeviceOfTheFleetRegistersAtTheEdge(t *testing.T) {
	need(t, "mosquitto_pub", "openssl")
	d := startDev(t, t.TempDir())
	fleet := fleetDir(d.dir)
	d.madeBy(t, filepath.Join(fleet, "ca.pem"), filepath.Join(fleet, "key.pem"), "sensor-9")
	if out, err := d.publish("sensor-9", "sensor-9", "sensors/sensor-9/t"); err == nil || !strings.Contains(out, "(136)") && !strings.Contains(out, "unavailable") {
		t.Fatalf("the first connection: %v\n%s", err, out)
	}
	d.log.await(t, "a device is registered", 30*time.Second)
	if out, err := d.publish("sensor-9", "sensor-9", "sensors/sensor-9/t"); err != nil {
		t.Fatalf("the second connection: %v\n%s", err, out)
	}
	d.must("sensor-9", "device", "show", "sensor-9")
	d.must("4 client devices", "sim", "cloud", "associations")
	d.must("1 registered, 0 denied", "registration", "list")
	if out := d.must("DeviceRegistered", "log", "cat", "--live", "--stream", "device/sensor-9"); strings.Count(out, "DeviceRegistered") != 1 {
		t.Errorf("recorded more than once:\n%s", out)
	}

	rogue := t.TempDir()
	openssl(t, rogue, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out", "ca.pem", "-days", "3", "-subj", subjectOf(t, filepath.Join(fleet, "ca.pem")))
	d.madeBy(t, filepath.Join(rogue, "ca.pem"), filepath.Join(rogue, "key.pem"), "sensor-8")
	d.madeBy(t, filepath.Join(fleet, "ca.pem"), filepath.Join(fleet, "key.pem"), "pump-1") // no rule
	for range 2 {
		for _, name := range []string{"sensor-8", "pump-1"} {
			if out, err := d.publish(name, name, "sensors/"+name+"/t"); err == nil {
				t.Errorf("%s was let in:\n%s", name, out)
			}
		}
		if out, err := d.publish("sensor-9", "sensor-1", "sensors/sensor-1/t"); err == nil {
			t.Errorf("under another's name:\n%s", out)
		}
	}
	d.must("1 registered", "registration", "list")
	d.must("4 client devices", "sim", "cloud", "associations")
}

// A device that nobody registered, while the cloud is off: pending, with the rights of that
// group alone, also after a crash; settled when the cloud is back, and then like others.
func TestADeviceOfTheFleetIsPendingWhileTheCloudIsOff(t *testing.T) {
	need(t, "mosquitto_pub", "openssl")
	dir := t.TempDir()
	flags := []string{"--pending", "--trust", "10m"}
	d := startDev(t, dir, flags...)
	fleet := fleetDir(d.dir)
	d.madeBy(t, filepath.Join(fleet, "ca.pem"), filepath.Join(fleet, "key.pem"), "sensor-9")
	d.madeBy(t, filepath.Join(fleet, "ca.pem"), filepath.Join(fleet, "key.pem"), "pump-1") // no rule
	d.must("away", "sim", "cloud", "off")
	for end := time.Now().Add(30 * time.Second); answer[daemon.Status](d, "status").CloudReachable; {
		if time.Now().After(end) {
			t.Fatal("the core does not notice that the cloud is away")
		}
		<-time.After(50 * time.Millisecond) // of the monitor's next probe nobody hears
	}
	if out, err := d.publish("sensor-9", "sensor-9", "sensors/sensor-9/hello"); err != nil {
		t.Fatalf("not admitted as pending: %v\n%s", err, out)
	}
	if out, err := d.publish("sensor-9", "sensor-9", "sensors/sensor-9/t"); err == nil && !strings.Contains(out, "Not authorized") {
		t.Errorf("pending, it publishes as others do:\n%s", out)
	}
	if out, err := d.publish("sensor-9", "sensor-1", "sensors/sensor-1/hello"); err == nil {
		t.Errorf("pending, under another's name:\n%s", out)
	}
	if out, err := d.publish("pump-1", "pump-1", "sensors/pump-1/hello"); err == nil {
		t.Errorf("the rules deny it, and it is admitted as pending:\n%s", out)
	}
	d.must("pending until", "device", "list")
	d.must(`rule "sensors of the demo fleet" admitted it`, "device", "show", "sensor-9")
	d.must("it is pending: the cloud could not be asked", "explain", "sensor-9", "mqtt:publish", "mqtt:topic:sensors/sensor-9/t")
	if out := d.must(`in group "pending" alone`, "explain", "sensor-9", "mqtt:publish", "mqtt:topic:sensors/sensor-9/temperature"); strings.Contains(out, "does not pick") || !strings.Contains(out, "once registered") {
		t.Errorf("why it may not what others may:\n%s", out)
	}
	d.must("1 more are pending", "trust", "due")

	d.kill()
	d = startDev(t, dir, flags...)
	d.log.await(t, "pending device is registered", 60*time.Second) // with a restart of dev its cloud is on again
	if out, err := d.publish("sensor-9", "sensor-9", "sensors/sensor-9/t"); err != nil {
		t.Fatalf("registered, and refused: %v\n%s", err, out)
	}
	if out := d.must("stored trust", "device", "show", "sensor-9", "--json"); strings.Contains(out, `"pending":`) {
		t.Errorf("still pending:\n%s", out)
	}
	out := d.must("DevicePending", "log", "cat", "--live", "--stream", "device/sensor-9")
	for kind, n := range map[string]int{"DevicePending": 1, "DeviceRegistered": 1, "PendingWithdrawn": 0} {
		if got := strings.Count(out, kind); got != n {
			t.Errorf("%s: %d on record, want %d:\n%s", kind, got, n, out)
		}
	}
}

// The cloud half: a device that connects to AWS IoT first is cut off, heard of and registered
// by the core, and then at home in both places.
func TestADeviceOfTheFleetRegistersInTheCloud(t *testing.T) {
	need(t, "mosquitto_pub", "openssl", "sh", debianAWS)
	d := startDev(t, t.TempDir())
	fleet := fleetDir(d.dir)
	d.madeBy(t, filepath.Join(fleet, "ca.pem"), filepath.Join(fleet, "key.pem"), "sensor-7")
	out, err := exec.Command("sh", "-c", `. "$0"; exec `+debianAWS+` --endpoint-url "$AWS_ENDPOINT_URL" --output text iot describe-endpoint --endpoint-type iot:Data-ATS`, filepath.Join(d.dir, "aws.env")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	host, port, _ := strings.Cut(strings.TrimSpace(string(out)), ":")
	folder := filepath.Join(d.dir, "devices", "sensor-7")
	publish := func() (string, error) {
		out, err := exec.CommandContext(t.Context(), "mosquitto_pub", "-h", host, "-p", port, "--tls-alpn", "x-amzn-mqtt-ca", "--cafile", filepath.Join(d.dir, "cloud", "authority.pem"),
			"--cert", filepath.Join(folder, "cert.pem"), "--key", filepath.Join(folder, "key.pem"), "-i", "sensor-7", "-q", "1", "-t", "sensors/sensor-7/t", "-m", "1").CombinedOutput()
		return string(out), err
	}
	if out, err := publish(); err == nil {
		t.Fatalf("the first connection was let in:\n%s", out)
	}
	d.log.await(t, "a device is registered", 90*time.Second) // by the listing, if the event came before its listener
	if out, err := publish(); err != nil {
		t.Fatalf("the second connection: %v\n%s", err, out)
	}
	d.must("DeviceRegistered", "log", "cat", "--live", "--stream", "device/sensor-7")
	if out, err := d.publish("sensor-7", "sensor-7", "sensors/sensor-7/t"); err != nil {
		t.Fatalf("at the edge: %v\n%s", err, out)
	}
}

// subjectOf is a certificate's common name as OpenSSL takes it.
func subjectOf(t *testing.T, file string) string {
	t.Helper()
	c, err := readSigner(file)
	if err != nil {
		t.Fatal(err)
	}
	return "/CN=" + c.Subject.CommonName
}

// What the cloud refuses for good is given up, told, and taken up again when an operator says
// so; a restart forgets none of it.
func TestWhatCannotBeRegisteredWaitsForAnOperator(t *testing.T) {
	need(t, "mosquitto_pub", "openssl")
	d := startDev(t, t.TempDir())
	fleet := fleetDir(d.dir)
	d.madeBy(t, filepath.Join(fleet, "ca.pem"), filepath.Join(fleet, "key.pem"), "sensor-9")
	d.must("", "sim", "cloud", "fault", "--operation", "CreateThing", "--status", "400", "--error", "InvalidRequestException")
	if out, err := d.publish("sensor-9", "sensor-9", "sensors/sensor-9/t"); err == nil {
		t.Fatalf("let in:\n%s", out)
	}
	d.log.await(t, "no longer tried", 60*time.Second)
	d.must("given-up", "registration", "list")
	d.must("no longer tried", "status")
	var list daemon.Registrations
	if err := json.Unmarshal([]byte(d.must("", "registration", "list", "--json")), &list); err != nil || len(list.List) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	id := string(list.List[0].Certificate)
	d.must("create thing sensor-9: iot:CreateThing: HTTP 400 InvalidRequestException", "registration", "show", id[:8])
	d.must("dismissed", "registration", "dismiss", id[:8])
	d.must("dismissed", "registration", "list")
	d.end(os.Interrupt)
	d = startDev(t, d.dir)
	d.must("dismissed", "registration", "list")
	if out, code := d.gatehouse("registration", "retry", strings.Repeat("0", 64)); code == 0 {
		t.Errorf("an unknown certificate is tried again:\n%s", out)
	}
	d.must("tried again", "registration", "retry", id)
	d.log.await(t, "a device is registered", 30*time.Second)
	d.must("nobody waits", "registration", "list")
	if out, err := d.publish("sensor-9", "sensor-9", "sensors/sensor-9/t"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// Killed in the middle, the daemon brings the registration to its end by itself; a list that
// is damaged is set aside.
func TestARegistrationOutlivesAKill(t *testing.T) {
	need(t, "mosquitto_pub", "openssl")
	d := startDev(t, t.TempDir())
	fleet := fleetDir(d.dir)
	d.madeBy(t, filepath.Join(fleet, "ca.pem"), filepath.Join(fleet, "key.pem"), "sensor-9")
	d.must("", "sim", "cloud", "fault", "--operation", "AttachThingPrincipal", "--status", "503")
	if out, err := d.publish("sensor-9", "sensor-9", "sensors/sensor-9/t"); err == nil {
		t.Fatalf("let in:\n%s", out)
	}
	d.log.await(t, "attach to thing sensor-9", 30*time.Second)
	d.kill()
	d = startDev(t, d.dir) // without the fault
	d.log.await(t, "a device is registered", 30*time.Second)
	if out, err := d.publish("sensor-9", "sensor-9", "sensors/sensor-9/t"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.end(os.Interrupt)
	file := filepath.Join(d.dir, "registrations.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	d = startDev(t, d.dir)
	d.log.await(t, "set aside", 10*time.Second)
	if kept, err := os.ReadFile(file + ".damaged"); err != nil || string(kept) != "{" {
		t.Errorf("%q, %v", kept, err)
	}
	d.must("nobody waits", "registration", "list")
}

// What an operator sees of each way to register an authority.
func TestCARegister(t *testing.T) {
	need(t, "openssl")
	d := startDev(t, t.TempDir())
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	openssl(t, dir, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "300", "-subj", "/CN=Fresh")
	openssl(t, dir, "pkcs8", "-topk8", "-v2", "aes-256-cbc", "-v2prf", "hmacWithSHA256", "-in", "ca.key", "-passout", "pass:secret", "-out", "locked.key")
	openssl(t, dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "leaf.key", "-out", "leaf.pem", "-days", "3", "-subj", "/CN=leaf", "-addext", "basicConstraints=critical,CA:FALSE")
	openssl(t, dir, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "shared.key", "-out", "shared.pem", "-days", "3", "-subj", "/CN=shared")
	if err := os.WriteFile(at("pass"), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.key", "locked.key", "leaf.key"} {
		if err := os.Chmod(at(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	fails := func(want string, args ...string) {
		t.Helper()
		out, code := d.gatehouse(append([]string{"ca", "register"}, args...)...)
		if code == 0 || !strings.Contains(out, want) || strings.Contains(out, "secret\n") || strings.Contains(out, "BEGIN") {
			t.Errorf("ca register %s: exit %d, want an error with %q in:\n%s", strings.Join(args, " "), code, want, out)
		}
	}
	d.must("is not registered", "ca", "register", at("ca.pem"), "--status")
	fails("--key is missing", at("ca.pem"))
	fails("no such file", at("nothing.pem"))
	fails("CA:TRUE", at("leaf.pem"), "--key", at("leaf.key"))
	fails("not the key of this certificate", at("ca.pem"), "--key", at("leaf.key"))
	fails("encrypted", at("ca.pem"), "--key", at("locked.key"))
	fails("CERTIFICATE", at("ca.key"), "--key", at("ca.key"))
	d.must("is not registered", "ca", "register", at("ca.pem"), "--status")

	d.must("mode DEFAULT, devices do not register themselves", "ca", "register", at("ca.pem"), "--key", at("locked.key"), "--passphrase-file", at("pass"), "--no-auto-registration")
	d.must("nothing was changed", "ca", "register", at("ca.pem"), "--no-auto-registration")
	d.must("changed: devices register themselves", "ca", "register", at("ca.pem"))
	fails("cannot be changed", at("ca.pem"), "--sni-only")
	fails("not the key of this certificate", at("ca.pem"), "--key", at("leaf.key"))
	d.must("mode SNI_ONLY", "ca", "register", at("shared.pem"), "--sni-only")
	out := d.must("", "ca", "register", at("ca.pem"), "--key", at("ca.key"), "--json")
	var told registeredAuthority
	text, err := os.ReadFile(at("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || !told.Registered || !told.Active || !told.AutoRegistration || len(told.Changed) != 0 || told.Certificate != messages.CertificateIDOf(c.Raw) {
		t.Errorf("%+v, %v of %s", told, err, out)
	}
	d.must("", "sim", "cloud", "off")
	fails("", at("ca.pem"), "--status")
}
