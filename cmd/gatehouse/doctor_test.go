package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/cloudsync/trace"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/doctor"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// TestTraceAndDoctorOfDev: with nothing but --dir both see that all is well with a dev and its
// emulated cloud, then which link an operator broke, and still work when it is stopped.
func TestTraceAndDoctorOfDev(t *testing.T) {
	d := startDev(t, "")
	d.must("ok: every link holds", "aws", "trace")
	d.must("sensor-1 is associated with this core", "aws", "trace", "sensor-1")
	d.must("the certificate is attached to it", "aws", "trace", filepath.Join(d.dir, "devices", "sensor-1", "cert.pem"))
	report := func(wantCode int) (r doctor.Report) {
		t.Helper()
		out, code := d.gatehouse("doctor", "--json")
		if err := json.Unmarshal([]byte(out), &r); err != nil || code != wantCode {
			t.Fatalf("exit %d, want %d: %v\n%s", code, wantCode, err, out)
		}
		return r
	}
	// The clock of the machine that runs this may be nobody's care.
	for _, one := range report(0).Results {
		if one.State == doctor.Failed || one.State == doctor.Warning && one.Check != "clock.synchronised" {
			t.Errorf("a false alarm: %+v", one)
		}
		if one.State == doctor.Unknown && one.Check != "mosquitto" && one.Check != "registration" {
			t.Errorf("not looked at: %+v", one)
		}
	}

	core := filepath.Join(d.dir, "cloud", "core", "cert.pem")
	d.must("", "sim", "cloud", "detach", string(coreThing), core)
	out, code := d.gatehouse("aws", "trace")
	if code != 1 || !strings.Contains(out, "broken: "+string(trace.ThingNotAttached)) || !strings.Contains(out, "aws iot attach-thing-principal --thing-name "+string(coreThing)) {
		t.Errorf("exit %d:\n%s", code, out)
	}
	found := false
	for _, one := range report(1).Results {
		found = found || one.Fault == string(trace.ThingNotAttached) && one.State == doctor.Failed
	}
	if !found {
		t.Error("doctor does not name it")
	}
	out, code = d.gatehouse("aws", "trace", "--json")
	var r trace.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 1 || r.Format != trace.Format || r.State != trace.Broken {
		t.Errorf("exit %d: %v\n%s", code, err, out)
	}

	d.end(os.Interrupt)
	d.must("events, root", "doctor")
	if out, code := d.gatehouse("aws", "trace"); code != 1 || !strings.Contains(out, "start it with `gatehouse dev") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// TestTheFixesMendWhatIsBroken: pasted into a shell, what a trace says to do has AWS's own
// command line mend what that broke.
func TestTheFixesMendWhatIsBroken(t *testing.T) {
	need(t, "sh", debianAWS)
	d := startDev(t, "")
	shell := func(command string) {
		t.Helper()
		cmd := exec.Command("sh", "-c", `. "$0"; aws() { `+debianAWS+` --endpoint-url "$AWS_ENDPOINT_URL" "$@"; }; `+command, filepath.Join(d.dir, "aws.env"))
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
	certificate, err := readCertificate(filepath.Join(d.dir, "cloud", "core", "cert.pem"))
	if err != nil {
		t.Fatal(err)
	}
	id := string(messages.CertificateIDOf(certificate.Raw))
	arn := "arn:aws:iot:" + awsemu.Region + ":" + awsemu.AccountID + ":cert/" + id
	policy, alias := "GreengrassTESCertificatePolicy"+awsemu.TokenExchangeAlias, awsemu.TokenExchangeAlias
	for _, test := range []struct {
		broken string
		fault  trace.Fault
		all    bool // every line is to be done, else the first
	}{
		{"aws iot update-certificate --certificate-id " + id + " --new-status INACTIVE", trace.CertificateInactive, true},
		{"aws iot detach-policy --policy-name " + policy + " --target " + arn, trace.PolicyDetached, true},
		{"aws iot detach-policy --policy-name " + policy + " --target " + arn + "; aws iot delete-policy --policy-name " + policy, trace.PolicyLacksAssume, true},
		{"aws iam update-assume-role-policy --role-name " + awsemu.TokenExchangeRole.Name + ` --policy-document '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}'`, trace.TrustPolicyWrong, true},
		{"aws iot update-role-alias --role-alias " + alias + " --credential-duration-seconds 43200", trace.DurationTooLong, false},
		{"aws iot detach-thing-principal --thing-name " + string(coreThing) + " --principal " + arn, trace.ThingNotAttached, true},
		{"aws greengrassv2 disassociate-service-role-from-account", trace.ServiceRoleMissing, false},
	} {
		shell(test.broken)
		out, _ := d.gatehouse("aws", "trace", "--json")
		var r trace.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Findings) == 0 || r.Findings[0].Fault != test.fault {
			t.Fatalf("want %s: %v\n%s", test.fault, err, out)
		}
		fix := r.Findings[0].Fix
		if !test.all {
			fix = fix[:1]
		}
		for _, command := range fix {
			shell(command)
		}
		d.must("ok: every link holds", "aws", "trace")
	}
}

// Graphviz takes the picture, whatever things are called.
func TestGraphvizDrawsATrace(t *testing.T) {
	need(t, "dot")
	d := startDev(t, "")
	out, code := d.gatehouse("aws", "trace", "--dot")
	if code != 0 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	draw := exec.Command("dot", "-Tsvg")
	draw.Stdin = strings.NewReader(out)
	svg, err := draw.CombinedOutput()
	if err != nil || !strings.Contains(string(svg), "role alias") || strings.Contains(string(svg), "Error") {
		t.Errorf("%v\n%s", err, svg)
	}
}

func TestTraceAndDoctorSayWhatTheyNeed(t *testing.T) {
	for _, test := range []struct{ args, want string }{
		{"aws trace", "which thing?"},
		{"doctor", "which host?"},
		{"aws trace --dot --json x", "one of them"},
	} {
		if out, code := runProgram(t, strings.Fields(test.args)...); code != 2 || !strings.Contains(out, test.want) {
			t.Errorf("%s: exit %d\n%s", test.args, code, out)
		}
	}
}

// TestDoctorOfServe: a configuration file says where all is, and the environment who asks.
func TestDoctorOfServe(t *testing.T) {
	s := newSite(t)
	keys := s.emulator.AdminCredentials()
	t.Setenv("AWS_ACCESS_KEY_ID", keys.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", keys.SecretAccessKey)
	t.Setenv("AWS_SESSION_TOKEN", "")
	s.cloud = "  region: eu-central-1\n  iotDataEndpoint: " + strings.Replace(strings.TrimPrefix(s.emulator.URL(), "https://"), "127.0.0.1", "localhost", 1) +
		"\n  control: {credentials: default, endpoint: \"" + s.emulator.ControlURL() + "\"}\n"
	d := s.serve(t, "{listen: \""+freeAddr(t)+"\"}")
	file := filepath.Join(s.dir, "gatehouse.yaml")
	out, code := runProgram(t, "doctor", "-c", file)
	if code != 1 || !strings.Contains(out, string(trace.NoAssociations)) && !strings.Contains(out, "no client device is associated") {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	if failed := strings.Count(out, "FAILED"); failed != 1 {
		t.Errorf("%d failed, want the missing association alone:\n%s", failed, out)
	}
	for _, want := range []string{"ok       files.core-key", "ok       endpoint.greengrass", "ok       endpoint.data", "ok       live.verify", "ok       nats.reach", "ok       mqtt.certificate", "ok       credentials"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, keys.SecretAccessKey) || strings.Contains(out, keys.AccessKeyID) {
		t.Error("it prints keys")
	}
	if err := os.WriteFile(file, []byte("dir: 7\ncloud: nothing\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := runProgram(t, "doctor", "-c", file, "--dir", d.dir); code != 1 || !strings.Contains(out, "FAILED   files.config") {
		t.Errorf("exit %d:\n%s", code, out)
	}
}

// TestTraceAsksAsTheOperatorElseAsTheCore: an operator's own keys count; who has none asks as
// the daemon does, by the core's role, and is told so.
func TestTraceAsksAsTheOperatorElseAsTheCore(t *testing.T) {
	d := startDev(t, "")
	file := filepath.Join(t.TempDir(), "gatehouse.yaml")
	if err := os.WriteFile(file, []byte("dir: "+d.dir+"\npolicyFile: policy.yaml\nmqtt: {listen: ':8883', hostAddresses: [localhost]}\n"+coreOf(t, d)), 0o600); err != nil {
		t.Fatal(err)
	}
	env, err := readAWSEnv(filepath.Join(d.dir, "aws.env"))
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	asked := func(args ...string) string {
		t.Helper()
		out, _ := runProgram(t, append([]string{"aws", "trace", "-c", file, "--json"}, args...)...)
		var r trace.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return r.AskedAs
	}
	if got := asked(); !strings.Contains(got, "the core, by role alias "+awsemu.TokenExchangeAlias) {
		t.Errorf("without keys: asked as %q", got)
	}
	if out, _ := runProgram(t, "doctor", "-c", file); !strings.Contains(out, "asked as the core, by role alias") {
		t.Errorf("doctor does not say who asked:\n%s", out)
	}
	if got := asked("--role-alias", "no-such-alias"); got != "" {
		t.Errorf("when the role gives none: asked as %q", got)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", env["AWS_ACCESS_KEY_ID"])
	t.Setenv("AWS_SECRET_ACCESS_KEY", env["AWS_SECRET_ACCESS_KEY"])
	if got := asked(); !strings.HasPrefix(got, "you, by Env") {
		t.Errorf("with keys: asked as %q", got)
	}
	out, _ := runProgram(t, "aws", "trace", "-c", file)
	if !strings.Contains(out, "AWS was asked as you") || strings.Contains(out, env["AWS_SECRET_ACCESS_KEY"]) {
		t.Errorf("for people:\n%s", out)
	}
}

func TestASubjectIsAThingOrACertificate(t *testing.T) {
	id := strings.Repeat("0a", 32)
	file := filepath.Join(t.TempDir(), "no-such.pem")
	for subject, want := range map[string]trace.Config{
		"pump-7": {Thing: "pump-7"}, id: {Certificate: messages.CertificateID(id)}, strings.ToUpper(id): {Certificate: messages.CertificateID(id)},
		"arn:aws:iot:eu-central-1:123456789012:cert/" + id: {Certificate: messages.CertificateID(id)},
	} {
		var got trace.Config
		if err := takeSubject(&got, subject); err != nil || got.Thing != want.Thing || got.Certificate != want.Certificate {
			t.Errorf("%s: %q, %q, %v", subject, got.Thing, got.Certificate, err)
		}
	}
	for _, bad := range []string{file, "no such thing!", "a/b"} {
		if err := takeSubject(&trace.Config{}, bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
