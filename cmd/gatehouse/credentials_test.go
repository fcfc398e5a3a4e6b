package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/greengrassv2"

	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// roleProvider plays the IoT credentials provider: sets that the emulated control plane knows,
// of a lifetime, and after some time, as the test says.
type roleProvider struct {
	t        *testing.T
	emulator *awsemu.Emulator
	hung     chan struct{} // a question that is held up

	mu       sync.Mutex
	lifetime time.Duration // guarded by mu, as all below
	hold     chan struct{} // nil: answers at once
	secrets  []string      // all that it gave out
}

func (p *roleProvider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	hold, lifetime := p.hold, p.lifetime
	p.mu.Unlock()
	if hold != nil {
		select {
		case p.hung <- struct{}{}:
		default:
		}
		select {
		case <-hold:
		case <-r.Context().Done():
			return
		}
	}
	if r.URL.Path != "/role-aliases/gateway/credentials" || r.Header.Get("X-Amzn-Iot-Thingname") != "core-1" || len(r.TLS.PeerCertificates) == 0 {
		p.t.Errorf("asked %s with %v", r.URL, r.Header)
	}
	keys, err := p.emulator.IssueCredentials(awsemu.TokenExchangeRole, time.Hour)
	if err != nil {
		p.t.Error(err)
		return
	}
	p.mu.Lock()
	p.secrets = append(p.secrets, keys.SecretAccessKey, keys.SessionToken)
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"credentials": map[string]string{
		"accessKeyId": keys.AccessKeyID, "secretAccessKey": keys.SecretAccessKey, "sessionToken": keys.SessionToken,
		"expiration": time.Now().Add(lifetime).UTC().Format(time.RFC3339),
	}})
}

func (p *roleProvider) set(lifetime time.Duration, hold chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lifetime, p.hold = lifetime, hold
}

// needles are what must be found nowhere but at a consumer.
func (p *roleProvider) needles() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.secrets...)
}

// serveExchange runs the daemon with a provider that holds its first answer back, and a
// section tokenExchange.
func serveExchange(t *testing.T, section string) (*site, *dev, *roleProvider, chan struct{}) {
	t.Helper()
	s, hold := newSite(t), make(chan struct{})
	p := &roleProvider{t: t, emulator: s.emulator, hung: make(chan struct{}, 1), lifetime: time.Hour, hold: hold}
	authority, err := awsemu.NewAuthority("test provider", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	identity, err := authority.IssueServer([]string{"localhost"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := identity.TLS()
	if err != nil {
		t.Fatal(err)
	}
	listen := serveTLS(t, certificate, p)
	roots := filepath.Join(s.dir, "roots.pem")
	text, err := os.ReadFile(roots)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(roots, append(text, authority.PEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.registry.Associate("core-1", time.Now(), "pump-7"); err != nil {
		t.Fatal(err)
	}
	s.cloud = fmt.Sprintf(`  credentialEndpoint: %s
  roleAlias: gateway
  region: %s
  control: {credentials: tokenExchange, endpoint: %q}
tokenExchange: %s
http: {listen: %q}
`, listen, awsemu.Region, strings.Replace(s.emulator.ControlURL(), "127.0.0.1", "localhost", 1), section, freeAddr(t))
	began := time.Now()
	d := s.serve(t, fmt.Sprintf("{listen: %q}", freeAddr(t)))
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("a cloud that hangs delays the start: %v", took)
	}
	return s, d, p, hold
}

// consumed makes a command of a program that `gatehouse run` starts, in an environment with
// what would win over token exchange.
func (s *site) consumed(t *testing.T, d *dev, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".aws"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".aws", "credentials"), []byte("[default]\naws_access_key_id=AKIAWRONG\naws_secret_access_key=wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{"run", "--dir", d.dir, "--"}, args...)...)
	cmd.Env = append(os.Environ(), "HOME="+home, "AWS_ACCESS_KEY_ID=AKIAWRONG", "AWS_SECRET_ACCESS_KEY=wrong", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/wrong",
		"AWS_PROFILE=wrong", "AWS_CA_BUNDLE="+filepath.Join(s.dir, "roots.pem"), "AWS_PAGER=", "AWS_EC2_METADATA_DISABLED=true")
	return cmd
}

const boto3Lists = `
import boto3, sys
client = boto3.client("greengrassv2", endpoint_url=sys.argv[1])
print([d["thingName"] for d in client.list_client_devices_associated_with_core_device(coreDeviceThingName="core-1")["associatedClientDevices"]])
`

// TestCredentialsForLocalPrograms: Debian's awscli and boto3, and aws-sdk-go-v2's default
// chain, call the emulated control plane with nothing but the variables; no secret is found
// where it does not belong, another user gets none, and a slow cloud is felt by nobody.
func TestCredentialsForLocalPrograms(t *testing.T) {
	need(t, debianAWS, "/usr/bin/python3", "curl", "sh")
	if out, err := exec.Command("/usr/bin/python3", "-c", "import boto3").CombinedOutput(); err != nil {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatalf("python3-boto3 is missing: %s", out)
		}
		t.Skip("python3-boto3 is missing; set GATEHOUSE_E2E=1 to make this a failure")
	}
	s, d, p, hold := serveExchange(t, "{consumers: {app: {}}}")
	<-p.hung
	if r := answer[daemon.CredentialsReport](d, "credentials"); r.AccessKeyID != "" || len(r.Consumers) != 1 || r.Consumers[0].Consumer != "app" || r.URI == "" {
		t.Errorf("before there are any: %+v", r)
	}
	close(hold)
	p.set(time.Hour, nil)
	endpoint := strings.Replace(s.emulator.ControlURL(), "127.0.0.1", "localhost", 1)
	for name, args := range map[string][]string{
		"awscli": {debianAWS, "--endpoint-url", endpoint, "--output", "json", "greengrassv2", "list-client-devices-associated-with-core-device", "--core-device-thing-name", "core-1"},
		"boto3":  {"/usr/bin/python3", "-c", boto3Lists, endpoint},
	} {
		if out, err := s.consumed(t, d, args...).CombinedOutput(); err != nil || !strings.Contains(string(out), "pump-7") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	sdkLists(t, d, endpoint, filepath.Join(s.dir, "roots.pem"))
	d.must("refresh", "trust", "refresh", "--now") // by Gatehouse's own credentials

	programsAreRunAsTheyAre(t, s, d)
	environmentHoldsNoSecret(t, s, d, p)
	anotherUserGetsNone(t, d)
	r := answer[daemon.CredentialsReport](d, "credentials")
	if len(r.Consumers) != 2 || r.Consumers[0].HandOuts < 3 || r.Consumers[0].AccessKeyID == "" || r.Consumers[0].Until == nil || r.Consumers[1].Consumer != tokenexchange.Own || r.Consumers[1].HandOuts == 0 {
		t.Errorf("who got some: %+v", r)
	}
	d.must("CONSUMER", "credentials")
	noSecretIsFound(t, d, p)
	slowCloudIsFeltByNobody(t, s, d, p)
	noSecretIsFound(t, d, p)
	d.end(syscall.SIGTERM)
	if stored := answer[daemon.CredentialsReport](d, "credentials"); len(stored.Consumers) != 2 || stored.Consumers[0].AccessKeyID == "" {
		t.Errorf("by the log of the stopped daemon: %+v", stored)
	}
}

// TestCredentialsOfAStoppedDaemon: a log without a hand-out does not say how it is configured.
func TestCredentialsOfAStoppedDaemon(t *testing.T) {
	d := newSite(t).serve(t, fmt.Sprintf("{listen: %q}", freeAddr(t)))
	d.must("name a role", "credentials")
	d.end(syscall.SIGTERM)
	d.must("no daemon is running", "credentials")
}

const boto3Identity = `
import boto3, sys
print(boto3.client("sts", endpoint_url=sys.argv[1]).get_caller_identity()["Arn"])
`

// TestCredentialsOfDev: in dev the consumer demo has the credentials of the emulated role,
// which stock tools sign with, and keeps them while the cloud is away.
func TestCredentialsOfDev(t *testing.T) {
	need(t, debianAWS, "/usr/bin/python3")
	d := startDev(t, "")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	env, err := os.ReadFile(filepath.Join(d.dir, "aws.env"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(env), "AWS_ENDPOINT_URL='")
	endpoint, _, _ := strings.Cut(rest, "'")
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(path, append([]string{"run", "--dir", d.dir, "--consumer", demoConsumer, "--"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir(), "AWS_CA_BUNDLE="+filepath.Join(cloudDir(d.dir), "authority.pem"), "AWS_PAGER=")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	const role = ":assumed-role/GatehouseTokenExchangeRole/"
	if out := run(debianAWS, "--endpoint-url", endpoint, "sts", "get-caller-identity"); !strings.Contains(out, role) {
		t.Errorf("awscli: %s", out)
	}
	if out := run("/usr/bin/python3", "-c", boto3Identity, endpoint); !strings.Contains(out, role) {
		t.Errorf("boto3: %s", out)
	}
	d.must("", "trust", "refresh", "--now")
	d.must("away", "sim", "cloud", "off")
	if out := run("/usr/bin/python3", "-c", "import boto3; print(boto3.Session().get_credentials().get_frozen_credentials().access_key)"); !strings.HasPrefix(out, "ASIA") {
		t.Errorf("while the cloud is away: %s", out)
	}
	r := answer[daemon.CredentialsReport](d, "credentials")
	if r.RoleAlias != awsemu.TokenExchangeAlias || r.AccessKeyID == "" || len(r.Consumers) != 2 || r.Consumers[0].Consumer != demoConsumer || r.Consumers[0].HandOuts != 3 || r.Consumers[1].Consumer != tokenexchange.Own {
		t.Errorf("who got some: %+v", r)
	}
}

// sdkLists calls with aws-sdk-go-v2's default chain, which knows nothing but the variables.
func sdkLists(t *testing.T, d *dev, endpoint, bundle string) {
	t.Helper()
	variables, err := tokenexchange.ReadEnvironment(tokenexchange.ConsumerEnvironment(daemon.ConsumersDir(d.dir), "app"))
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	for _, v := range append(variables, "HOME="+home, "AWS_CA_BUNDLE="+bundle, "AWS_EC2_METADATA_DISABLED=true") {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	loaded, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		t.Fatal(err)
	}
	core := "core-1"
	list, err := greengrassv2.NewFromConfig(loaded, func(o *greengrassv2.Options) { o.BaseEndpoint = &endpoint }).
		ListClientDevicesAssociatedWithCoreDevice(ctx, &greengrassv2.ListClientDevicesAssociatedWithCoreDeviceInput{CoreDeviceThingName: &core})
	if err != nil || len(list.AssociatedClientDevices) != 1 || *list.AssociatedClientDevices[0].ThingName != "pump-7" {
		t.Errorf("aws-sdk-go-v2: %v, %v", list, err)
	}
}

// programsAreRunAsTheyAre: exit codes, signals and errors are the program's.
func programsAreRunAsTheyAre(t *testing.T, s *site, d *dev) {
	t.Helper()
	for want, args := range map[int][]string{7: {"sh", "-c", "exit 7"}, 127: {"no-such-program"}, 126: {d.dir + "/policy"}} {
		if want == 126 {
			if err := os.WriteFile(args[0], []byte("text"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.consumed(t, d, args...).Run(); exitCode(err) != want {
			t.Errorf("%v: %v, want exit code %d", args, err, want)
		}
	}
	cmd := s.consumed(t, d, "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	awaitProgram(t, cmd.Process.Pid, "sleep")
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if status, ok := cmd.Wait().(*exec.ExitError); !ok || status.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("a program that was told to end: %v", status)
	}
	out, code := runProgram(t, "run", "--directory", t.TempDir(), "true")
	if code != 1 || !strings.Contains(out, "0 consumers") {
		t.Errorf("without a consumer: exit %d\n%s", code, out)
	}
	out, code = runProgram(t, "run", "--consumer", "nobody", "--directory", t.TempDir(), "true")
	if code != 1 || !strings.Contains(out, "no consumer nobody") {
		t.Errorf("a consumer that there is not: exit %d\n%s", code, out)
	}
}

// awaitProgram waits until a process has become another program.
func awaitProgram(t *testing.T, pid int, name string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) { // the kernel tells nobody
		if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err == nil && strings.TrimSpace(string(comm)) == name {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("process %d does not become %s", pid, name)
		}
	}
}

// environmentHoldsNoSecret looks at the process as the kernel shows it.
func environmentHoldsNoSecret(t *testing.T, s *site, d *dev, p *roleProvider) {
	t.Helper()
	cmd := s.consumed(t, d, "sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	awaitProgram(t, cmd.Process.Pid, "sleep")
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	environ := "\x00" + string(text)
	for _, needle := range append(p.needles(), "AKIAWRONG", "wrong", "\x00AWS_ACCESS_KEY_ID=", "\x00AWS_SECRET_ACCESS_KEY=", "\x00AWS_SESSION_TOKEN=", "\x00AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=") {
		if strings.Contains(environ, needle) {
			t.Errorf("%q is in the environment", needle)
		}
	}
	for _, name := range []string{"FULL_URI=http://127.0.0.1:", "AUTHORIZATION_TOKEN=", "AUTHORIZATION_TOKEN_FILE="} {
		if !strings.Contains(environ, name) {
			t.Errorf("no %s in the environment", name)
		}
	}
	if !strings.Contains(environ, "\x00AWS_REGION="+awsemu.Region) || !strings.Contains(environ, "\x00AWS_DEFAULT_REGION="+awsemu.Region) {
		t.Error("no region in the environment")
	}
}

// anotherUserGetsNone: whoever has the token is not enough.
func anotherUserGetsNone(t *testing.T, d *dev) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Log("only root can be two users: see tokenexchange.TestAnotherUserIsRefused")
		return
	}
	variables, err := tokenexchange.ReadEnvironment(tokenexchange.ConsumerEnvironment(daemon.ConsumersDir(d.dir), "app"))
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) string {
		for _, v := range variables {
			if n, value, _ := strings.Cut(v, "="); n == name {
				return value
			}
		}
		t.Fatalf("no %s", name)
		return ""
	}
	cmd := exec.Command("curl", "-s", "-H", "Authorization: "+value(tokenexchange.VariableToken), value(tokenexchange.VariableURI))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "AccessDenied") || strings.Contains(string(out), "SecretAccessKey") {
		t.Errorf("nobody, with the token: %v\n%s", err, out)
	}
	e := d.explain("--last")
	if e.Allowed || !strings.Contains(e.Question, "consumer app") || !strings.Contains(e.Answer, "user 65534") || !strings.Contains(e.Advice, "gatehouse run") || e.Policy != nil {
		t.Errorf("explained: %+v", e)
	}
}

// TestConsumersOfAnotherUser: a daemon of root hands the credentials to programs of another
// user, who reads that consumer's token and no other's.
func TestConsumersOfAnotherUser(t *testing.T) {
	need(t, "curl", "sh")
	if os.Geteuid() != 0 {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatal("only root can be two users")
		}
		t.Skip("only root can be two users; set GATEHOUSE_E2E=1 to make this a failure")
	}
	base, err := os.MkdirTemp("", "gatehouse-consumers-") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(base, "gatehouse")
	if out, err := exec.Command("cp", path, program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	shared := filepath.Join(base, "consumers")
	_, d, _, hold := serveExchange(t, fmt.Sprintf("{directory: %q, consumers: {ours: {}, theirs: {user: nobody}}}", shared))
	close(hold)
	run := func(consumer string) (string, int) {
		const ask = `exec curl -s -H "Authorization: $AWS_CONTAINER_AUTHORIZATION_TOKEN" "$AWS_CONTAINER_CREDENTIALS_FULL_URI"`
		cmd := exec.Command(program, "run", "--consumer", consumer, "--directory", shared, "--", "sh", "-c", ask)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		return string(out), exitCode(err)
	}
	if out, code := run("theirs"); code != 0 || !strings.Contains(out, `"AccessKeyId":"ASIA`) {
		t.Errorf("its own: exit %d\n%s", code, out)
	}
	if out, code := run("ours"); code != 1 || !strings.Contains(out, "another user's") {
		t.Errorf("ours: exit %d\n%s", code, out)
	}
	r := answer[daemon.CredentialsReport](d, "credentials")
	if len(r.Consumers) != 2 || r.Consumers[0].HandOuts != 0 || r.Consumers[1].HandOuts != 1 || *r.Consumers[1].UID != 65534 {
		t.Errorf("who got some: %+v", r.Consumers)
	}
}

// slowCloudIsFeltByNobody: with a set that is to be renewed, and a provider that does not
// answer, programs get what is good still, at once.
func slowCloudIsFeltByNobody(t *testing.T, s *site, d *dev, p *roleProvider) {
	t.Helper()
	d.end(syscall.SIGTERM)
	p.set(310*time.Second, nil) // renewed 300 s before their end
	hold := make(chan struct{})
	defer close(hold)
	*d = *s.serve(t, fmt.Sprintf("{listen: %q}", freeAddr(t)))
	for end := time.Now().Add(20 * time.Second); answer[daemon.CredentialsReport](d, "credentials").AccessKeyID == ""; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no credentials")
		}
	}
	for len(p.hung) > 0 {
		<-p.hung
	}
	p.set(time.Hour, hold)
	select {
	case <-p.hung:
	case <-time.After(90 * time.Second):
		t.Fatal("they are not renewed")
	}
	variables, err := tokenexchange.ReadEnvironment(tokenexchange.ConsumerEnvironment(daemon.ConsumersDir(d.dir), "app"))
	if err != nil {
		t.Fatal(err)
	}
	_, uri, _ := strings.Cut(variables[0], "=")
	_, token, _ := strings.Cut(variables[1], "=")
	for range 20 {
		request, err := http.NewRequest("GET", uri, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", token)
		began := time.Now()
		reply, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(reply.Body)
		_ = reply.Body.Close()
		if took := time.Since(began); err != nil || reply.StatusCode != 200 && reply.StatusCode != 429 || took > time.Second { // awscli gives up after two
			t.Errorf("%d after %v: %s, %v", reply.StatusCode, took, body, err)
		}
	}
}

// noSecretIsFound looks into all that the daemon says and keeps.
func noSecretIsFound(t *testing.T, d *dev, p *roleProvider) {
	t.Helper()
	said := map[string]string{"log": d.log.String()}
	for _, args := range [][]string{{"log", "cat", "--live", "--json"}, {"status", "--json"}, {"credentials", "--json"}, {"metrics"}, {"config", "show"}} {
		said[strings.Join(args, " ")], _ = d.gatehouse(args...)
	}
	token, err := os.ReadFile(filepath.Join(daemon.ConsumersDir(d.dir), "app", "token"))
	if err != nil {
		t.Fatal(err)
	}
	needles := append(p.needles(), string(token))
	if len(needles) < 3 {
		t.Fatalf("%d needles", len(needles))
	}
	err = filepath.WalkDir(daemon.LogDir(d.dir), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			text, err := os.ReadFile(path)
			said[path] = string(text)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for where, text := range said {
		for _, needle := range needles {
			if strings.Contains(text, needle) {
				t.Errorf("a secret is in %s", where)
			}
		}
	}
	if !strings.Contains(said["log cat --live --json"], "CredentialsServed") || !strings.Contains(said["log cat --live --json"], "AccessDenied") && os.Geteuid() == 0 {
		t.Error("hand-outs or refusals are not on record")
	}
}

// serveTLS serves handler, which sees the certificates of callers, and returns where.
func serveTLS(t *testing.T, certificate tls.Certificate, handler http.Handler) string {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	server.TLS.Certificates = []tls.Certificate{certificate} // in place of httptest's own
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "localhost:" + port
}
