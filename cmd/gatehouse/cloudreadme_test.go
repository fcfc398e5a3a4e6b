package main

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// codeBlock is a block of README.md: its language and its text.
var codeBlock = regexp.MustCompile("(?s)```(sh|python)\n(.*?)```")

// TestTheReadmeOfTheEmulator runs what sim/awsemu/README.md tells people to run, in its order.
func TestTheReadmeOfTheEmulator(t *testing.T) {
	need(t, "sh", "mosquitto_pub", "curl", debianAWS)
	python := os.Getenv("GATEHOUSE_MOTO_PYTHON") // .ci/run's, with boto3
	if python == "" {
		python = "python3"
	}
	if out, err := exec.Command(python, "-c", "import boto3").CombinedOutput(); err != nil {
		if os.Getenv("GATEHOUSE_E2E") == "1" {
			t.Fatalf("boto3 is missing: %v\n%s", err, out)
		}
		t.Skip("boto3 is missing; set GATEHOUSE_E2E=1 to make this a failure")
	}
	text, err := os.ReadFile("../../sim/awsemu/README.md")
	if err != nil {
		t.Fatal(err)
	}
	seed, err := filepath.Abs("../../sim/awsemu/seed.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	here := t.TempDir()
	s := startServed(t, filepath.Join(here, "cloud"), "--seed", seed)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ports := strings.NewReplacer(":8443", ":"+portOf(t, s.at.Data), ":8444", ":"+portOf(t, s.at.Credentials), "-p 8883", "-p "+portOf(t, "tls://"+s.at.MQTT))
	ran := 0
	for _, block := range codeBlock.FindAllStringSubmatch(string(text), -1) {
		if strings.HasPrefix(block[2], "gatehouse sim cloud serve") { // it runs
			continue
		}
		cmd := exec.Command("sh", "-e", "-c", ports.Replace(block[2]))
		if block[1] == "python" {
			cmd = exec.Command("sh", "-e", "-c", `. cloud/aws.env; exec "$0" -c "$1"`, python, block[2])
		}
		cmd.Dir = here
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(path)+":/usr/bin:/bin:"+os.Getenv("PATH"), "HOME="+here)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s\n%v\n%s", block[2], err, out)
		}
		for command, want := range map[string]string{
			"iot list-things": `"thingName": "pump-7"`, "associated-with-core-device": `"thingName": "pump-7"`, "|| echo closed": `"status": "PENDING_ACTIVATION"`,
			"/things/pump-7/shadow": `"firmware":"1.2"`, "/role-aliases/": `"accessKeyId"`, "import boto3": "'delta': {'rpm': 900}", "fault clear": "the cloud behaves",
		} {
			if strings.Contains(block[2], command) && !strings.Contains(string(out), want) {
				t.Errorf("%s\nprinted no %s:\n%s", block[2], want, out)
			}
		}
		ran++
	}
	if ran != 6 {
		t.Errorf("ran %d blocks", ran)
	}
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil || u.Port() == "" {
		t.Fatalf("%s: %v", address, err)
	}
	return u.Port()
}
