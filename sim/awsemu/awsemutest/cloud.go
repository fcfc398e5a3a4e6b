// Package awsemutest starts an emulated cloud for tests of its clients.
package awsemutest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// Core is the core of a Cloud.
const Core = "core-1"

// Cloud is an emulated cloud with one core and client devices named device-0000 and so
// on. They are associated with the core; the first one has a certificate.
type Cloud struct {
	*awsemu.Emulator
	Registry *awsemu.Registry
	Servers  *awsemu.Authority // signs the server's certificate
	Identity *awsemu.Identity  // of Core
	Device   *awsemu.Identity  // device-0000
	now      func() time.Time
}

// Start starts one that goes by now. change shapes it first. It ends with the test.
func Start(t testing.TB, devices int, now func() time.Time, change ...func(*awsemu.Config)) *Cloud {
	t.Helper()
	c := &Cloud{now: now, Registry: awsemu.NewRegistry()}
	var server *awsemu.Identity
	var pair tls.Certificate
	for _, step := range []func() error{
		func() (err error) { c.Servers, err = awsemu.NewAuthority("servers", now()); return err },
		func() (err error) { server, err = c.Servers.IssueServer(awsemu.ServerNames(), now()); return err },
		func() (err error) { pair, err = server.TLS(); return err },
		func() (err error) { c.Identity, err = c.Servers.IssueDevice(Core, now()); return err },
		func() (err error) { c.Device, err = c.Servers.IssueDevice(Thing(0), now()); return err },
		func() error { return c.Registry.Update(func(b *awsemu.Batch) error { return c.populate(b, devices) }) },
		func() (err error) {
			cfg := awsemu.Config{Certificate: pair, Authority: c.Servers, Registry: c.Registry, Now: now}
			for _, f := range change {
				f(&cfg)
			}
			c.Emulator, err = awsemu.Start(cfg)
			return err
		},
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(c.Close)
	return c
}

func (c *Cloud) populate(b *awsemu.Batch, devices int) error {
	if err := errors.Join(b.Enroll(Core, c.Identity, true), b.AddTokenExchange(c.now(), c.Identity.ID), b.Enroll(messages.ThingName(Thing(0)), c.Device, false)); err != nil {
		return err
	}
	for i := range devices {
		name := messages.ThingName(Thing(i))
		if err := errors.Join(b.AddThing(name), b.Associate(Core, c.now(), name)); err != nil {
			return err
		}
	}
	return nil
}

// Thing is the name of device i.
func Thing(i int) string { return fmt.Sprintf("device-%04d", i) }

// CAFile writes the authority of the server's certificate to a file.
func (c *Cloud) CAFile(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, c.Servers.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// HTTPClient trusts the server, and judges its certificate by the emulated cloud's time.
func (c *Cloud) HTTPClient(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.Servers.Pool(), Time: c.now}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// CoreTLS is how the core connects: with its certificate, and judging the server's by the
// emulated cloud's time.
func (c *Cloud) CoreTLS(t testing.TB) *tls.Config {
	t.Helper()
	pair, err := c.Identity.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: c.Servers.Pool(), ServerName: awsemu.ServerName, Time: c.now}
}

// CoreClient speaks to the data plane as the core.
func (c *Cloud) CoreClient(t testing.TB) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: c.CoreTLS(t)}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Expired are keys that were good until a second ago.
func (c *Cloud) Expired(t testing.TB) awsemu.Credentials {
	t.Helper()
	keys, err := c.IssueCredentials(awsemu.TokenExchangeRole, -time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
