package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// core is a daemon in this process, with a gatehouse.yaml that tests edit.
type core struct {
	*Daemon
	t    *testing.T
	dir  string
	file string
	seen uint64 // the last record that was awaited
	said *output
}

const groups = `
  deviceGroups:
    formatVersion: 2021-03-05
    definitions: {pumps: {selectionRule: "thingName: pump-*", policyName: p}}
    policies: {p: {s: {operations: ["mqtt:connect"], resources: ["mqtt:clientId:pump-7"]}}}
`

func newCore(t *testing.T, doc string) *core {
	t.Helper()
	c := &core{t: t, dir: t.TempDir()}
	c.file = filepath.Join(c.dir, "gatehouse.yaml")
	put(t, c.file, doc)
	if err := c.start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// start starts the daemon as `gatehouse serve` does.
func (c *core) start() error {
	c.t.Helper()
	doc, err := os.ReadFile(c.file)
	must(c.t, err)
	cfg := Config{Dir: filepath.Join(c.dir, "data"), Mode: "serve", File: c.file, Document: doc, HTTPListen: "127.0.0.1:0"}
	c.said = &output{}
	cfg.Logger = slog.New(slog.NewTextHandler(c.said, nil))
	f, _, err := config.ParseFile(doc, nil)
	if err != nil {
		cfg.Problems = strings.Split(err.Error(), "\n")
	}
	cfg.Settings = f
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	d, err := Start(ctx, cfg)
	if err != nil {
		return err
	}
	c.Daemon, c.seen = d, d.log.Head().Seq
	c.t.Cleanup(d.Close)
	return nil
}

// edit writes the file and waits for the records that follow of it.
func (c *core) edit(doc string, kinds ...messages.Kind) {
	c.t.Helper()
	put(c.t, c.file, doc)
	c.await(kinds...)
	c.documents.taking.Lock() // what follows the last record is done as well
	defer c.documents.taking.Unlock()
}

func (c *core) await(kinds ...messages.Kind) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	for rec, err := range c.log.Follow(ctx, c.seen+1) {
		if err != nil {
			c.t.Fatalf("waiting for %v: %v\n%s", kinds, err, c.said)
		}
		c.seen = rec.Seq
		if i := slices.Index(kinds, rec.Kind); i >= 0 {
			if kinds = slices.Delete(kinds, i, i+1); len(kinds) == 0 {
				return
			}
		}
	}
}

const (
	replaced = messages.KindConfigReplaced
	rejected = messages.KindConfigRejected
	allowed  = messages.KindPolicyReplaced
)

// TestSectionIsLive: each key of client-device-auth spec 1.1 is in force as soon as the
// file says so.
func TestSectionIsLive(t *testing.T) {
	c := newCore(t, "")
	if s := c.views.Section(); s.Security.ClientDeviceTrustDurationMinutes != 1 {
		t.Fatalf("the defaults: %+v", s)
	}
	c.edit(`clientDeviceAuth:
  certificates: {serverCertificateValiditySeconds: 3600, clientCertificateValiditySeconds: 59, disableCertificateRotation: on}
  performance: {maxActiveAuthTokens: 7, cloudRequestQueueSize: 5, maxConcurrentCloudRequests: 3}
  security: {clientDeviceTrustDurationMinutes: "90"}
  metrics: {disableMetrics: yes, aggregatePeriodSeconds: 60}
  sessions: {closeOnRevoke: false}
  refresh: {massRemovalGuard: false}
  certificateAuthority: {caType: [ECDSA_P256]}`+groups, replaced, allowed)
	want := config.Section{
		Certificates:         config.Certificates{ServerCertificateValiditySeconds: 3600, ClientCertificateValiditySeconds: 60, DisableCertificateRotation: true},
		Performance:          config.Performance{MaxActiveAuthTokens: 7, CloudRequestQueueSize: 5, MaxConcurrentCloudRequests: 3},
		CertificateAuthority: config.CertificateAuthority{CAType: config.CATypeECDSAP256},
		Security:             config.Security{ClientDeviceTrustDurationMinutes: 90},
		Metrics:              config.Metrics{DisableMetrics: true, AggregatePeriodSeconds: 60},
	}
	s := c.views.Section()
	if s.DeviceGroups, s.Policy = nil, nil; fmt.Sprintf("%+v", s) != fmt.Sprintf("%+v", want) {
		t.Errorf("in force %+v\nwant     %+v", s, want)
	}
	if c.sys.Trust().DurationMs != 90*60_000 || c.views.CloseOnRevoke() {
		t.Error("trust is judged by the former section")
	}
	if ok, _ := c.views.ConnectAllowed("pump-7"); !ok {
		t.Error("pump-7 may not connect")
	}
	// Two keys keep what is in force when what is written is no good (spec 1.1).
	c.edit("clientDeviceAuth: {performance: {cloudRequestQueueSize: 0, maxConcurrentCloudRequests: -1}}\n", replaced, allowed)
	if p := c.views.Section().Performance; p.CloudRequestQueueSize != 5 || p.MaxConcurrentCloudRequests != 3 || p.MaxActiveAuthTokens != 2500 {
		t.Errorf("performance %+v", p)
	}
	// No groups any more: everything is denied (spec 1.3; UAT T24).
	if ok, _ := c.views.ConnectAllowed("pump-7"); ok {
		t.Error("pump-7 may connect by groups that are gone")
	}
}

type tuned struct {
	noCloud
	size, workers int
}

func (c *tuned) Tune(size, workers int) { c.size, c.workers = size, workers }

func TestTuneReachesTheQueue(t *testing.T) {
	cloud := &tuned{}
	s := config.DefaultSection()
	s.Performance.CloudRequestQueueSize, s.Performance.MaxConcurrentCloudRequests = 9, 4
	(&Daemon{cloud: cloud}).tune(s)
	if cloud.size != 9 || cloud.workers != 4 {
		t.Errorf("tuned to %d, %d", cloud.size, cloud.workers)
	}
}

// TestBadFileKeepsTheFormer: whatever is wrong with the file, what was in force stays, and
// the operator sees what, where and why, until it is mended.
func TestBadFileKeepsTheFormer(t *testing.T) {
	good := "clientDeviceAuth:\n  security: {clientDeviceTrustDurationMinutes: 5}" + groups
	c := newCore(t, good)
	before, _ := c.configReport(t.Context(), struct{}{})
	if len(before.Documents) != 2 || before.Documents[0].Record == 0 || before.Documents[0].Problem != nil || before.Documents[1].Origin != "gatehouse.yaml" {
		t.Fatalf("at the start: %+v", before)
	}
	for _, bad := range []struct{ doc, want string }{
		{strings.Replace(good, "policyName: p}", "policyName: q}", 1), "gatehouse.yaml:5:75: clientDeviceAuth.deviceGroups.definitions.pumps.policyName: "},
		{"clientDeviceAuth:\n  security: [1]\n", "gatehouse.yaml:2:13: clientDeviceAuth.security: "},
		{"clientDeviceAuth: {security: {\n", "gatehouse.yaml:"},
		{"clientDeviceAuth: {}\nmqqt: {listen: ':1'}\n", "gatehouse.yaml:2:1: mqqt: unknown key; did you mean mqtt?"},
		{"clientDeviceAuth: {certificateAuthority: {certificateUri: 'file:///c', privateKeyUri: 'pkcs11:object=k?pin-value=1234'}}\n", "gatehouse.yaml:1:87: clientDeviceAuth.certificateAuthority.privateKeyUri: it holds the PIN"},
	} {
		c.edit(bad.doc, rejected)
		now, _ := c.configReport(t.Context(), struct{}{})
		p := now.Documents[0].Problem
		if p == nil || p.Record != c.seen || !strings.HasPrefix(p.Errors[0], bad.want) {
			t.Errorf("%q: problem %+v, want record %d and %s", bad.doc, p, c.seen, bad.want)
		}
		if fmt.Sprintf("%+v", now.Section) != fmt.Sprintf("%+v", before.Section) || now.Documents[0].Record != before.Documents[0].Record {
			t.Errorf("%q is in force: %+v", bad.doc, now)
		}
		if ok, _ := c.views.ConnectAllowed("pump-7"); !ok {
			t.Errorf("%q: pump-7 may not connect", bad.doc)
		}
	}
	// The same good one again makes no record, and ends the matter.
	put(t, c.file, good)
	deadline := time.After(20 * time.Second)
	for now, _ := c.configReport(t.Context(), struct{}{}); now.Documents[0].Problem != nil; now, _ = c.configReport(t.Context(), struct{}{}) {
		select {
		case <-deadline:
			t.Fatalf("the problem stays: %+v", now.Documents[0].Problem)
		case <-time.After(settle):
		}
	}
	if head := c.log.Head().Seq; head != c.seen {
		t.Errorf("%d records more", head-c.seen)
	}
	c.documents.taking.Lock() // it is said after it is noted
	defer c.documents.taking.Unlock()
	if said := c.said.String(); strings.Count(said, "document good again") != 1 {
		t.Errorf("the operator hears nothing of the end, or too often:\n%s", said)
	}
}

// TestKeysThatNeedARestart: they are named, and the section is in force all the same.
func TestKeysThatNeedARestart(t *testing.T) {
	c := newCore(t, "http: {listen: '127.0.0.1:1'}\n")
	c.edit("http: {listen: '127.0.0.1:2'}\nmqtt: {listen: ':1'}\nclientDeviceAuth: {security: {clientDeviceTrustDurationMinutes: 5}}\n", replaced)
	s, err := c.status(t.Context(), struct{}{})
	if want := []string{"http.listen", "mqtt.listen"}; err != nil || !slices.Equal(s.RestartFor, want) || s.TrustDuration != "5m0s" {
		t.Errorf("restart for %v, want %v; trust %s, %v", s.RestartFor, want, s.TrustDuration, err)
	}
	c.edit("http: {listen: '127.0.0.1:1'}\n", replaced)
	if s, _ := c.status(t.Context(), struct{}{}); len(s.RestartFor) != 0 {
		t.Errorf("as at the start, yet a restart is needed for %v", s.RestartFor)
	}
	c.Close()
	if said := c.said.String(); !strings.Contains(said, `keys="http.listen mqtt.listen"`) {
		t.Errorf("the log does not name the keys:\n%s", said)
	}
}

// TestStartWithABadSection: the first start is refused; a later one goes on with the
// section in the log, and says so.
func TestStartWithABadSection(t *testing.T) {
	bad := "clientDeviceAuth:\n  security: [1]\n"
	c := &core{t: t, dir: t.TempDir()}
	c.file = filepath.Join(c.dir, "gatehouse.yaml")
	put(t, c.file, bad)
	if err := c.start(); err == nil || !strings.Contains(err.Error(), "clientDeviceAuth.security") {
		t.Fatalf("the first start: %v", err)
	}
	put(t, c.file, "clientDeviceAuth:\n  security: {clientDeviceTrustDurationMinutes: 5}"+groups)
	must(t, c.start())
	c.Close()
	put(t, c.file, bad)
	must(t, c.start())
	r, _ := c.configReport(t.Context(), struct{}{})
	ok, _ := c.views.ConnectAllowed("pump-7")
	if r.Section.Security.ClientDeviceTrustDurationMinutes != 5 || r.Documents[0].Problem == nil || !ok {
		t.Errorf("after a start with a bad section: %+v, problem %+v, pump-7 %t", r.Section.Security, r.Documents[0].Problem, ok)
	}
	c.Close()
	stored, err := OpenStored(t.Context(), filepath.Join(c.dir, "data"))
	must(t, err)
	defer stored.Log.Close()
	if p := StoredConfig(stored).Documents[0].Problem; p == nil || p.Record == 0 {
		t.Errorf("stopped: problem %+v", p)
	}
}

// output collects what several goroutines write.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
