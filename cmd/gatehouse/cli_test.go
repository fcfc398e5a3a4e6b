package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/admin"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// leaves are the commands that do something.
func leaves(c *cobra.Command) []*cobra.Command {
	if !c.HasSubCommands() {
		return []*cobra.Command{c}
	}
	var all []*cobra.Command
	if c.Example != "" { // it has subcommands, and does something without them
		all = append(all, c)
	}
	for _, below := range c.Commands() {
		all = append(all, leaves(below)...)
	}
	return all
}

// cloudIsBack ends all faults of the emulated cloud and waits until it is found.
func cloudIsBack(d *dev) {
	d.t.Helper()
	d.must("", "sim", "cloud", "on")
	d.must("", "sim", "cloud", "fault", "clear")
	for end := time.Now().Add(20 * time.Second); !answer[daemon.Status](d, "status").CloudReachable; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			d.t.Fatal("the cloud is not found")
		}
	}
}

// TestHelpExamples runs every example that the help shows, as a person pastes it, and
// once more for its JSON.
func TestHelpExamples(t *testing.T) {
	need(t, "sh")
	d := startDev(t, "")
	here := exampleFolder(t, d)
	b := connectDemo(t, d)
	var stopped []string // of a daemon that is down
	for _, c := range leaves(newRoot(io.Discard, io.Discard)) {
		path := strings.TrimPrefix(c.CommandPath(), "gatehouse ")
		if c.Example == "" {
			t.Errorf("%s: the help has no example", path)
		}
		if path == "dev" || path == "serve" || path == "cert watch" || path == "sim cloud serve" { // they run until they are ended: startDev, site.serve, TestCertWatch and startServed do it
			continue
		}
		if path == "registration show" || path == "registration dismiss" { // somebody must wait: TestWhatCannotBeRegisteredWaitsForAnOperator
			continue
		}
		if path == "run" { // it becomes another program: TestCredentialsForLocalPrograms runs it
			continue
		}
		for _, line := range strings.Split(c.Example, "\n") {
			line = strings.TrimSpace(line)
			if path == "doctor" { // a test writes nothing there
				line = strings.ReplaceAll(line, "/etc/gatehouse/", "")
			}
			if strings.HasPrefix(path, "log ") && path != "log checkpoint" && !strings.Contains(line, "--live") {
				stopped = append(stopped, line)
				continue
			}
			if path == "device show" || path == "explain" { // there must be something to show
				b.authorize(t, b.token(t, "sensor-1"), "mqtt:topic:sensors/sensor-2/t")
				d.explain("--last")
			}
			if path == "trust refresh" { // the examples of `sim cloud` may have taken the cloud away
				cloudIsBack(d)
			}
			runExample(t, here, line, func() {
				if path == "ca announced" || path == "ca replace" { // no two authorities may wait to issue
					fresh := startDev(t, "")
					exampleOf(t, here, fresh)
					if path == "ca announced" { // there must be one to announce
						fresh.must("does not issue", "ca", "replace", "--yes")
					}
				}
				if path == "cert revoke" { // there must be one, of a name whose right the former order may have taken
					d.must("", "broker", "add", "bridge", "--certificates", "client")
					d.must("", "cert", "issue", "bridge", "--csr", filepath.Join(here, "bridge.csr"))
				}
				if path == "broker remove" {
					d.must("", "broker", "add", "mosquitto")
				}
				if strings.HasPrefix(path, "sim cloud ") { // what was detached is no longer found by its thing's name
					d.must("belongs to", "sim", "cloud", "attach", "sensor-1", filepath.Join(d.dir, "devices", "sensor-1", "cert.pem"))
				}
			})
			exampleOf(t, here, d)
		}
	}
	d.end(os.Interrupt)
	for _, line := range stopped {
		runExample(t, here, line, func() {})
	}
}

// exampleFolder is a folder as the examples take it for granted: the dev directory is gh,
// and the files they name are there.
func exampleFolder(t *testing.T, d *dev) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	here := t.TempDir()
	links := map[string]string{"gh": d.dir, "gatehouse": path, "policy.yaml": filepath.Join(d.dir, "policy.yaml")}
	for _, vectors := range []string{"actors/policy/testdata", "sim/scenario/testdata"} {
		if links[vectors], err = filepath.Abs("../../" + vectors); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(here, vectors)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join(here, name)); err != nil {
			t.Fatal(err)
		}
	}
	signingRequest(t, here) // bridge.csr
	fleet, err := awsemu.NewAuthority("a fleet", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"gatehouse.yaml": "dir: data\npolicyFile: policy.yaml\nmqtt: {listen: ':8883', hostAddresses: [localhost]}\n" + coreOf(t, d),
		"faults.yaml":    "faults:\n  - {operation: ListThings, skip: 6, count: 1, page: missing}\n",
		"seed.yaml":      serveSeed,
		"fleet-ca.pem":   string(fleet.PEM()),
		"section.json":   `{"security":{"clientDeviceTrustDurationMinutes":"60"}}`,
		"jq":             "#!/bin/sh\nexec cat\n", // its own output is not the point
	} {
		if err := os.WriteFile(filepath.Join(here, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return here
}

// coreOf is the section cloud of d's core, which gets its credentials by its role.
func coreOf(t *testing.T, d *dev) string {
	t.Helper()
	env, err := readAWSEnv(filepath.Join(d.dir, "aws.env"))
	if err != nil {
		t.Fatal(err)
	}
	info, err := awsemu.NewControlClient(controlSocket(d.dir)).Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	local := strings.NewReplacer("127.0.0.1", "localhost")
	return fmt.Sprintf(`cloud:
  endpoint: %q
  credentialEndpoint: %q
  roleAlias: %s
  region: %s
  thingName: %s
  certificate: %q
  privateKey: %q
  ca: %q
  control: {credentials: tokenExchange, endpoint: %q}
`, local.Replace(strings.TrimPrefix(info.Endpoint, "https://")), local.Replace(strings.TrimPrefix(info.Credentials, "https://")), awsemu.TokenExchangeAlias, awsemu.Region, coreThing,
		filepath.Join(d.dir, "cloud", "core", "cert.pem"), filepath.Join(d.dir, "cloud", "core", "key.pem"), filepath.Join(d.dir, "cloud", "authority.pem"),
		local.Replace(env["AWS_ENDPOINT_URL"]))
}

// exampleOf has the examples in here be about d.
func exampleOf(t *testing.T, here string, d *dev) {
	t.Helper()
	link := filepath.Join(here, "gh")
	if err := errors.Join(os.Remove(link), os.Symlink(d.dir, link)); err != nil {
		t.Fatal(err)
	}
}

// runExample runs one example after prepare, as it is and with --json.
func runExample(t *testing.T, here, line string, prepare func()) {
	t.Helper()
	run := func(line string) (stdout, stderr string, err error) {
		prepare()
		var out, problems bytes.Buffer
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir, cmd.Env = here, append(os.Environ(), "PATH="+here+":"+os.Getenv("PATH"), dirVariable+"=")
		cmd.Stdout, cmd.Stderr = &out, &problems
		err = cmd.Run()
		return out.String(), problems.String(), err
	}
	stdout, stderr, err := run(line)
	if err != nil || stdout == "" && !strings.Contains(line, ">") {
		t.Errorf("%s: %v\n%s%s", line, err, stdout, stderr)
	}
	if strings.Contains(line, " --dot ") { // the picture in place of JSON
		return
	}
	command, _, _ := strings.Cut(line, " > ")
	command, _, _ = strings.Cut(command, " | ")
	command = strings.Replace(command, "add sensor-4", "add sensor-5", 1) + " --json" // what is there is not overwritten
	stdout, stderr, err = run(command)
	values := 0
	for in := json.NewDecoder(strings.NewReader(stdout)); ; values++ {
		var v any
		if wrong := in.Decode(&v); errors.Is(wrong, io.EOF) {
			break
		} else if wrong != nil {
			t.Errorf("%s: %v in\n%s", command, wrong, stdout)
			break
		}
	}
	if err != nil || values == 0 {
		t.Errorf("%s: %v, %d JSON values\n%s", command, err, values, stderr)
	}
}

// TestWrongCalls: a script that calls the program wrongly hears of it, and nothing is
// done. A missing letter must not look like a quarantine.
func TestWrongCalls(t *testing.T) {
	for _, c := range []struct {
		args, want string
		code       int
	}{
		{"device quarantne sensor-1", "did you mean quarantine", exitUsage},
		{"sim cloud of", "did you mean off", exitUsage},
		{"log", "Usage:", 0},
		{"frobnicate", "unknown command", exitUsage},
		{"sim cloud revoke", "accepts 1 arg", exitUsage},
		{"sim cloud fault cler", "did you mean clear", exitUsage},
		{"sim cloud fault --status 99", "want 200 to 599", exitUsage},
		{"sim cloud fault --drop --page end", "two outcomes", exitUsage},
		{"sim cloud fault --file x --drop", "stands alone", exitUsage},
		{"sim cloud fault --file x --count 0", "stands alone", exitUsage},
		{"sim cloud fault --seed 7", "does nothing", exitUsage},
		{"sim cloud fault --seed 0", "does nothing", exitUsage},
		{"sim cloud fault --count 2", "does nothing", exitUsage},
		{"sim cloud fault --operation probe --probability 0.5", "does nothing", exitUsage},
		{"sim cloud fault --drop=false", "does nothing", exitUsage},
		{"sim cloud fault --content-type text/html", "needs a body", exitUsage},
		{"sim cloud fault --file /nonexistent/faults.yaml", "no such file", exitFailed},
		{"sim cloud associate", "requires at least 1 arg", exitUsage},
		{"sim cloud connectivity set", "requires at least 1 arg", exitUsage},
		{"sim cloud connectivity set core.local:99999", "0 to 65535", exitUsage},
		{"sim cloud connectivity set a/b", "HOST:PORT", exitUsage},
		{"device show a b", "accepts 1 arg", exitUsage},
		{"device list extra", "unknown command", exitUsage},
		{"explain", "explain takes", exitUsage},
		{"policy check", "requires at least 1 arg", exitUsage},
		{"log cat --from x", "--from", exitUsage},
		{"status --nope", "unknown flag", exitUsage},
		{"dev --trust -1s", "negative", exitUsage},
		{"trust due --limit 0", "--limit", exitUsage},
		{"trust due --within -1h", "--within", exitUsage},
		{"status", "which daemon?", exitFailed},
		{"log verify", "which daemon?", exitFailed},
		{"serve -c /nonexistent/gatehouse.yaml", "no such file", exitFailed},
		{"config check /nonexistent/gatehouse.yaml", "no such file", exitFailed},
		{"completion bash", "__start_gatehouse", 0},
		{"__complete device qu", "quarantine", 0},
	} {
		if out, code := runProgram(t, strings.Fields(c.args)...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("gatehouse %s: exit %d, want %d and %q in:\n%.600s", c.args, code, c.code, c.want, out)
		}
	}
	if out, code := runProgram(t, "explain", ""); code != exitUsage || !strings.Contains(out, "THING is empty") {
		t.Errorf("explain without a name: exit %d\n%s", code, out)
	}
}

// TestAddressInUse: who starts it beside another server hears what to do.
func TestAddressInUse(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, flag := range []string{"--nats", "--mqtt", "--http"} {
		args := []string{"dev", "--nats", freeAddr(t), "--mqtt", freeAddr(t), "--http", freeAddr(t), flag, other.Addr().String()}
		if out, code := runProgram(t, args...); code != exitFailed || !strings.HasSuffix(out, "; stop what uses that address, or choose another by --nats, --mqtt or --http\n") {
			t.Errorf("%s: exit %d\n%s", flag, code, out)
		}
	}
}

// TestPlain: what strangers chose cannot steer the terminal of who asks about them.
func TestPlain(t *testing.T) {
	var out bytes.Buffer
	in := "topic \x1b[2J\u009b31m\x7f\r\u202eä\tb\n"
	if n, err := (plain{&out}).Write([]byte(in)); err != nil || n != len(in) {
		t.Errorf("%d, %v; want %d", n, err, len(in))
	}
	if got, want := out.String(), `topic \x1b[2J\u009b31m\x7f\r\u202e`+"ä\tb\n"; got != want {
		t.Errorf("have %q, want %q", got, want)
	}
}

// TestBrokerNames: the daemon judges a new broker's name itself, whatever the command
// line let pass: it names a file, and a user of the NATS server.
func TestBrokerNames(t *testing.T) {
	d := startDev(t, "")
	creds, err := os.ReadFile(filepath.Join(d.dir, "brokers", "admin.creds"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := admin.Dial("nats://"+d.nats, authapi.OperatorAdmin, creds, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, name := range []messages.BrokerID{"", "../x", "a.b", ">", "admin", "auditor", authapi.ServiceName, "push"} {
		var added daemon.BrokerAdded
		if err := c.Ask(t.Context(), daemon.OpBrokerAdd, daemon.BrokerRequest{Name: name}, &added); err == nil {
			t.Errorf("broker %q was added: %+v", name, added)
		}
	}
	if _, err := os.Stat(filepath.Join(d.dir, "x.creds")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file outside: %v", err)
	}
}
