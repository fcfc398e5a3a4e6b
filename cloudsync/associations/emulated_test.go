package associations

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
)

// Against the emulated cloud, which checks signatures, permissions and tokens.
func TestTheEmulatedCloudIsListed(t *testing.T) {
	const devices = 1234
	c := awsemutest.Start(t, devices, time.Now)
	key, secret, session := c.Credentials()
	cfg := Config{
		Core: awsemutest.Core, AfterFunc: func(_ time.Duration, f func()) func() bool { f(); return func() bool { return false } },
		Control: control.Config{
			Region: awsemu.Region, Endpoint: c.ControlURL(), Roots: c.Servers.Pool(), Now: time.Now,
			Credentials: credentials.NewStaticCredentialsProvider(key, secret, session),
		},
	}
	l, err := newLister(cfg, impatient())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const list = awsemu.OpListClientDevices
	for _, test := range []struct {
		name   string
		faults []fault.Fault
		things int // -1: the listing is not complete
		class  messages.CloudFailure
		says   string
	}{
		{"as it should be", nil, devices, 0, "1234 things"},
		{"an empty page", []fault.Fault{{Operation: list, Skip: 6, Count: 1, Page: fault.PageEmpty}}, devices, 0, ""},
		{"things twice", []fault.Fault{{Operation: list, Page: fault.PageDuplicate}}, devices, 0, ""},
		{"the token again", []fault.Fault{{Operation: list, Skip: 6, Count: 1, Page: fault.PageRepeat}}, -1, messages.FailureNotService, "page 7: its token was given before"},
		{"back to the first page", []fault.Fault{{Operation: list, Skip: 6, Every: 7, Page: fault.PageLoop}}, -1, messages.FailureNotService, "page "},
		{"always empty", []fault.Fault{{Operation: list, Page: fault.PageEmpty}}, -1, messages.FailureNotService, "nothing new"},
		{"throttled five times", []fault.Fault{{Operation: list, Skip: 3, Count: 5, Status: 429, ErrorType: "ThrottlingException", RetryAfter: 2 * time.Second}}, devices, 0, ""},
		{"throttled for good", []fault.Fault{{Operation: list, Skip: 3, Status: 429, ErrorType: "ThrottlingException"}}, -1, messages.FailureThrottled, "page 4: given up after 3 tries"},
		{"gone in the middle", []fault.Fault{{Operation: list, Skip: 9, Drop: true}}, -1, messages.FailureUnreachable, "page 10: "},
		{"half a page", []fault.Fault{{Operation: list, Skip: 9, Truncate: true}}, -1, messages.FailureNotService, "page 10: "},
		{"half a page, once", []fault.Fault{{Operation: list, Skip: 9, Count: 1, Truncate: true}}, devices, 0, ""},
		{"HTML", []fault.Fault{{Operation: list, Skip: 2, Mangle: fault.MangleHTML}}, -1, messages.FailureNotService, "captive portal"},
		{"a bomb", []fault.Fault{{Operation: list, Skip: 2, Mangle: fault.MangleGzipBomb}}, -1, messages.FailureNotService, "encoding"},
		{"garbage", []fault.Fault{{Operation: list, Skip: 2, Mangle: fault.MangleGarbage}}, -1, messages.FailureNotService, "malformed"},
		{"too much", []fault.Fault{{Operation: list, Skip: 2, Mangle: fault.MangleOversized}}, -1, messages.FailureNotService, "1 MiB"},
		{"an expired server", []fault.Fault{{Operation: fault.ControlPlane, TLS: fault.TLSExpired}}, -1, messages.FailureUnreachable, "expired"},
		{"another host", []fault.Fault{{Operation: fault.ControlPlane, TLS: fault.TLSWrongHost}}, -1, messages.FailureUnreachable, "another name"},
		{"a portal", []fault.Fault{{Operation: fault.ControlPlane, TLS: fault.TLSCaptivePortal}}, -1, messages.FailureUnreachable, ""},
		{"and again as it should be", nil, devices, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l.Close() // faults of TLS strike new connections
			if err := c.SetFaults(fault.Script{Faults: test.faults}); err != nil {
				t.Fatal(err)
			}
			got := l.List(t.Context(), nil)
			if got.Complete != (test.things >= 0) || got.Failure != test.class || !strings.Contains(got.Detail, test.says) {
				t.Fatalf("complete %v, failure %d (%s), want failure %d with %q", got.Complete, got.Failure, got.Detail, test.class, test.says)
			}
			if got.Complete && (len(got.Things) != test.things || got.Date.IsZero()) || !got.Complete && got.Things != nil {
				t.Errorf("%d things, dated %v, want %d", len(got.Things), got.Date, test.things)
			}
		})
	}

	unable, err := c.IssueCredentials(awsemu.Role{Name: "nobody"}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*Config)
		says   string
	}{
		"not allowed":  {func(c *Config) { c.Control.Credentials = keys(unable) }, "allow " + action + " in the policy of the token exchange role"},
		"expired":      {func(cfg *Config) { cfg.Control.Credentials = keys(c.Expired(t)) }, "expired"},
		"wrong region": {func(c *Config) { c.Control.Region = "us-east-1" }, "cloud.region"},
		"no such core": {func(c *Config) { c.Core = "core-2" }, "no core device core-2"},
	} {
		other := cfg
		test.change(&other)
		l, err := newLister(other, impatient())
		if err != nil {
			t.Fatal(err)
		}
		if got := l.List(t.Context(), nil); got.Complete || !strings.Contains(got.Detail, test.says) {
			t.Errorf("%s: got %+v, want %q", name, got, test.says)
		}
		l.Close()
	}
}

func keys(c awsemu.Credentials) credentials.StaticCredentialsProvider {
	return credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)
}
