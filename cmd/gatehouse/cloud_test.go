package main

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
)

// configured reads text as gatehouse.yaml in dir, and makes a daemon's configuration of it.
func configured(t *testing.T, dir, text string) (daemon.Config, error) {
	t.Helper()
	f, _, err := config.ParseFile([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return serveConfig(f.Resolve(dir), slog.New(slog.DiscardHandler))
}

// AWS publishes no paths for the data plane's operations: the daemon says what else to do.
func TestTheDataPlaneOfAWSIsRefusedWithAWayOut(t *testing.T) {
	s := newSite(t)
	cfg, err := configured(t, s.dir, `
cloud:
  endpoint: greengrass-ats.iot.eu-central-1.amazonaws.com
  thingName: core-1
  certificate: devices/core-1/cert.pem
  privateKey: devices/core-1/key.pem
  ca: roots.pem
  refreshRate: 3
`)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Cloud.Queue.RefreshRate != 3 {
		t.Errorf("refresh rate %d, want 3", cfg.Cloud.Queue.RefreshRate)
	}
	if _, err := cloudsync.New(*cfg.Cloud); err == nil || !strings.Contains(err.Error(), "cloud.verifier: iot") {
		t.Errorf("got %v", err)
	}
}

// What the core tells AWS of itself needs less than what it asks about devices: who has no
// path for the authority does without, whatever the verifier.
func TestWhatIsKnownOfTheCoreInAWS(t *testing.T) {
	s := newSite(t)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(s.dir, "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(s.dir, "none"))
	const core = "thingName: core-1, certificate: devices/core-1/cert.pem, privateKey: devices/core-1/key.pem, ca: roots.pem"
	const iot = "verifier: iot, region: eu-central-1, control: {credentials: default}, " + core
	const endpoint = ", endpoint: greengrass-ats.iot.eu-central-1.amazonaws.com"
	for _, c := range []struct {
		text               string
		publishes, follows bool
	}{
		{iot, false, false},
		{iot + endpoint, false, false},
		{iot + endpoint + ", operations: {putCertificateAuthorities: /told}", true, false},
		{core + endpoint + ", iotDataEndpoint: a-ats.iot.eu-central-1.amazonaws.com", false, true},
		{core + ", endpoint: 'localhost:1', iotDataEndpoint: 'localhost:2'", true, true},
	} {
		cfg, err := configured(t, s.dir, "cloud: {"+c.text+"}")
		if err != nil || (cfg.Authorities != nil) != c.publishes || (cfg.Addresses != nil) != c.follows {
			t.Errorf("%s: %v, %+v, %v", c.text, cfg.Authorities, cfg.Addresses, err)
		}
	}
}

func TestAFileThatTheControlPlaneNeedsIsNamed(t *testing.T) {
	s := newSite(t)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(s.dir, "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(s.dir, "none"))
	for want, text := range map[string]string{
		"cloud.certificate: ": "certificate: devices/core-1/key.pem, ca: roots.pem, control: {credentials: default}",
		"cloud.control: ":     "certificate: devices/core-1/cert.pem, ca: roots.pem, control: {credentials: default, profile: nobody}",
		"cloud.control.ca: ":  "certificate: devices/core-1/cert.pem, ca: roots.pem, control: {credentials: default, ca: none.pem}",
		"cloud.ca: ":          "certificate: devices/core-1/cert.pem, ca: none.pem, control: {credentials: default}",
	} {
		_, err := configured(t, s.dir, "cloud: {verifier: iot, region: eu-central-1, thingName: core-1, privateKey: devices/core-1/key.pem, "+text+"}")
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
