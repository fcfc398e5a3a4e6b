// Package moto_test lets moto's own tests of AWS IoT judge the emulated cloud: those that
// it ships in its source distribution, many of them verified against AWS itself.
package moto_test

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// The interpreter with boto3, pytest and moto, and the folder of moto's source with its
// tests. .ci/run sets both.
const (
	pythonVariable = "GATEHOUSE_MOTO_PYTHON"
	sourceVariable = "GATEHOUSE_MOTO_SOURCE"
)

// need returns both, or fails, or skips where nobody asked for end-to-end tests.
func need(t *testing.T) (python, source string) {
	t.Helper()
	python, source = os.Getenv(pythonVariable), os.Getenv(sourceVariable)
	if _, err := os.Stat(filepath.Join(source, "tests", "test_iot")); python == "" || source == "" || err != nil {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatalf("moto is missing: set %s and %s, as .ci/run does (%v)", pythonVariable, sourceVariable, err)
		}
		t.Skipf("moto is missing; set %s and %s, and GATEHOUSE_E2E=1 to make this a failure", pythonVariable, sourceVariable)
	}
	return python, source
}

// regions are those that moto's tests use; ours is another.
var regions = regexp.MustCompile(`\b(ap-northeast-1|us-east-1|us-east-2|us-west-1|us-west-2|eu-west-1|cn-northwest-1)\b`)

// shared are the files about operations that both have. The others are about billing groups,
// jobs, topic rules, the fleet index, custom domains and CloudFormation.
var shared = []string{
	"__init__.py", "test_iot/__init__.py", "test_iotdata/__init__.py",
	"test_iot/test_iot.py", "test_iot/test_iot_ca_certificates.py", "test_iot/test_iot_certificates.py", "test_iot/test_iot_deprecate_thing_type.py",
	"test_iot/test_iot_policies.py", "test_iot/test_iot_rolealias.py", "test_iot/test_iot_thing_groups.py", "test_iot/test_iot_thing_types.py", "test_iot/test_iot_things.py",
	"test_iotdata/test_iotdata.py",
}

// documents stand in moto's tests for policies, of which it reads nothing; ours does.
var documents = strings.NewReplacer(
	`doc = "{}"`, "doc = "+document, `policyDocument="doc"`, "policyDocument="+document, `policyDocument="{}"`, "policyDocument="+document, `"iot: *"`, `"iot:*"`,
)

const document = `'{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}'`

// copyTests puts moto's tests into a folder, for our region.
func copyTests(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range shared {
		text, err := os.ReadFile(filepath.Join(source, "tests", name))
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, "tests", name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, []byte(documents.Replace(regions.ReplaceAllString(string(text), awsemu.Region))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stage is an emulated cloud that begins anew when moto's tests ask for it.
type stage struct {
	t     *testing.T
	mu    sync.Mutex
	cloud *awsemu.Emulator
}

// keys are those that moto's tests sign with.
var keys = awsemu.Credentials{AccessKeyID: "FOOBARKEY", SecretAccessKey: "FOOBARSECRET"}

func (s *stage) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cloud != nil {
		s.cloud.Close()
	}
	authority, err := awsemu.NewAuthority("servers", time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	server, err := authority.IssueServer(awsemu.ServerNames(), time.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	pair, err := server.TLS()
	if err != nil {
		s.t.Fatal(err)
	}
	if s.cloud, err = awsemu.Start(awsemu.Config{Certificate: pair, Registry: awsemu.NewRegistry(), Admin: keys, PlainControl: true, Now: time.Now}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cloud.Close()
}

// ServeHTTP hands requests on as they are signed: with the host's name.
func (s *stage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/moto-api/") {
		s.begin()
		return
	}
	s.mu.Lock()
	target, err := url.Parse(s.cloud.PlainControlURL())
	s.mu.Unlock()
	if err != nil {
		s.t.Error(err)
		return
	}
	(&httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(target)
		p.Out.Host = p.In.Host
	}}).ServeHTTP(w, r)
}

// outcome is one line of pytest -rA: PASSED tests/test_iot/test_iot.py::test_x.
var outcome = regexp.MustCompile(`^(PASSED|FAILED|ERROR|SKIPPED) tests/(\S+\.py::\S+)`)

// TestMotosExpectations: every test of moto's passes but those of exceptions.txt, each of
// which has its reason there.
func TestMotosExpectations(t *testing.T) {
	python, source := need(t)
	s := &stage{t: t}
	s.begin()
	defer s.close()
	server := httptest.NewServer(s)
	defer server.Close()
	cmd := exec.CommandContext(t.Context(), python, "-m", "pytest", "-p", "no:cacheprovider", "-q", "-rA", "--tb=short", "-W", "ignore", "tests")
	cmd.Dir = copyTests(t, source)
	environment := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	cmd.Env = append(environment, "TEST_SERVER_MODE=true", "TEST_SERVER_MODE_ENDPOINT="+server.URL, "AWS_ACCESS_KEY_ID="+keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+keys.SecretAccessKey,
		"AWS_DEFAULT_REGION="+awsemu.Region, "AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1", "PYTHONDONTWRITEBYTECODE=1")
	out, err := cmd.CombinedOutput()
	if _, exit := err.(*exec.ExitError); err != nil && !exit {
		t.Fatal(err)
	}
	excepted, seen, passed := exceptions(t), map[string]bool{}, 0
	for scan := bufio.NewScanner(bytes.NewReader(out)); scan.Scan(); {
		found := outcome.FindStringSubmatch(scan.Text())
		if found == nil {
			continue
		}
		name, ok := strings.TrimSuffix(found[2], ":"), found[1] == "PASSED"
		seen[name] = true
		_, known := excepted[name]
		switch {
		case ok && known:
			t.Errorf("%s passes: take it out of exceptions.txt", name)
		case ok:
			passed++
		case !known:
			t.Errorf("%s: %s", name, scan.Text())
		}
	}
	for name := range excepted {
		if !seen[name] {
			t.Errorf("exceptions.txt has %s, which moto does not", name)
		}
	}
	if passed == 0 || t.Failed() {
		t.Logf("%s", out)
	}
	t.Logf("%d of %d tests of moto's pass", passed, len(seen))
}

// exceptions reads the names of tests that do not pass, with the reasons.
func exceptions(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("testdata/exceptions.txt")
	if err != nil {
		t.Fatal(err)
	}
	reasons, reason := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		switch line = strings.TrimSpace(line); {
		case line == "":
		case strings.HasPrefix(line, "#"):
			reason = strings.TrimSpace(line[1:])
		case reason == "":
			t.Errorf("%s has no reason", line)
		default:
			reasons[line] = reason
		}
	}
	return reasons
}
