package daemon

import (
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/connectivity"
	"github.com/gatehouse-edge/gatehouse/cloudsync/shadow"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// published is a daemon's configuration for all that a core tells and asks c about itself.
func published(t *testing.T, c *awsemutest.Cloud) Config {
	t.Helper()
	identity, err := c.Identity.TLS()
	if err != nil {
		t.Fatal(err)
	}
	told := &CloudTime{}
	plane := cloudsync.DataPlaneConfig{Endpoint: c.URL(), ServerName: awsemu.ServerName, Identity: identity, Roots: c.Servers.Pool(), Now: told.Now}
	authorities, err := cloudsync.NewAuthorities(plane, awsemutest.Core)
	if err != nil {
		t.Fatal(err)
	}
	source, err := connectivity.New(plane, awsemutest.Core)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return Config{
		MQTTListen: "127.0.0.1:0", CloudTime: told, Authorities: authorities,
		Cloud: &cloudsync.Config{DataPlane: plane, Monitor: cloudsync.MonitorConfig{DownIntervalMax: time.Second}},
		Addresses: &shadow.Config{
			Core: awsemutest.Core, Endpoint: c.MQTTAddr(), ServerName: awsemu.ServerName, Identity: identity, Roots: plane.Roots,
			Source: source, RetryMax: 2 * time.Second,
		},
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

// TestTheCoreIsPublished: a core that starts without the cloud tells it of its authority
// when it comes, and takes its addresses into the embedded broker's certificate; they
// survive a start without the cloud, and go when the cloud says so.
func TestTheCoreIsPublished(t *testing.T) {
	c := awsemutest.Start(t, 0, time.Now)
	offline := func(away bool) {
		t.Helper()
		if err := c.Offline(away); err != nil {
			t.Fatal(err)
		}
	}
	set := func(hosts ...string) {
		t.Helper()
		var addresses []awsemu.Connectivity
		for _, host := range hosts {
			addresses = append(addresses, awsemu.Connectivity{Host: host})
		}
		if _, err := c.Registry.SetConnectivity(awsemutest.Core, time.Now(), addresses...); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	offline(true)
	d := startDaemon(t, dir, published(t, c))
	names := func() []string { return d.certificate.Leaf().DNSNames }
	if got := names(); !slices.Equal(got, []string{"localhost"}) {
		t.Errorf("names %v", got)
	}
	if s, err := d.status(t.Context(), struct{}{}); err != nil || s.Addresses == nil || s.Addresses.Connected || s.Addresses.Problem == "" {
		t.Errorf("offline: %+v, %v", s.Addresses, err)
	}
	set("core.local")
	offline(false)
	eventually(t, "the cloud has the authority", func() bool {
		return slices.Equal(c.Registry.Authorities(awsemutest.Core), []string{string(d.authority.Load().PEM())})
	})
	eventually(t, "that is on record", func() bool { return d.authority.Load().Describe().Authorities[0].Uploaded })
	eventually(t, "the certificate follows the addresses", func() bool { return slices.Equal(names(), []string{"localhost", "core.local"}) })
	if s, err := d.status(t.Context(), struct{}{}); err != nil || !s.Addresses.Connected || s.Addresses.Problem != "" {
		t.Errorf("online: %+v, %v", s.Addresses, err)
	}
	d.Close()

	offline(true)
	d = startDaemon(t, dir, published(t, c))
	if got := names(); !slices.Equal(got, []string{"localhost", "core.local"}) {
		t.Errorf("after a start without the cloud: names %v", got)
	}
	set() // an empty list, which is something else than none
	offline(false)
	eventually(t, "the addresses are cleared", func() bool { return slices.Equal(names(), []string{"localhost"}) })
}
