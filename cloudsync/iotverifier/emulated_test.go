package iotverifier

import (
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/awsemutest"
)

// Against the emulated cloud, which checks signatures and permissions.
func TestTheEmulatedCloudIsAsked(t *testing.T) {
	c := awsemutest.Start(t, 2, time.Now)
	core, err := c.Servers.IssueDevice(awsemutest.Core, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := c.Servers.IssueDevice("stranger", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	der := func(i *awsemu.Identity) []byte {
		block, _ := pem.Decode(i.CertificatePEM)
		return block.Bytes
	}
	key, secret, session := c.Credentials()
	v, err := New(Config{Core: core.ID, Control: control.Config{
		Region: awsemu.Region, Endpoint: c.ControlURL(), Roots: c.Servers.Pool(), Now: time.Now, Timeout: 5 * time.Second,
		Credentials: credentials.NewStaticCredentialsProvider(key, secret, session),
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if _, err := v.Probe(t.Context()); err != nil {
		t.Errorf("probe: %v", err)
	}
	want := func(when string, i *awsemu.Identity, thing string, verdict messages.CloudVerdict, why messages.CloudFailure) {
		t.Helper()
		q := messages.CloudQuestion{Certificate: i.ID, Thing: messages.ThingName(thing)}
		if thing == "" {
			q.DER = der(i)
		}
		if got := v.Ask(t.Context(), q); got.Verdict != verdict || got.Failure != why || got.Date.IsZero() && got.Verdict != none {
			t.Errorf("%s, thing %q: got %+v, want %s and failure %d", when, thing, got, verdict, why)
		}
	}
	first := awsemutest.Thing(0)
	want("registered", c.Device, "", yes, 0)
	want("attached", c.Device, first, yes, 0)
	want("before the core is known", stranger, "", none, messages.FailureRefused)
	want("before the core is known", c.Device, awsemutest.Thing(1), none, messages.FailureRefused)

	err = c.Registry.Update(func(b *awsemu.Batch) error {
		_, err := b.AddCertificate(der(core), awsemu.StatusActive)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want("a stranger", stranger, "", no, 0)
	want("a stranger", stranger, first, no, 0)
	want("another thing", c.Device, awsemutest.Thing(1), no, 0)
	want("no thing", c.Device, "nobody", no, 0)
	revoke := func(b *awsemu.Batch) error { return b.SetStatus(c.Device.ID, awsemu.StatusRevoked) }
	if err := errors.Join(c.Registry.Update(revoke), c.Registry.Detach(messages.ThingName(first), c.Device.ID)); err != nil {
		t.Fatal(err)
	}
	want("revoked", c.Device, "", no, 0)
	want("detached", c.Device, first, no, 0)

	c.Close()
	want("away", c.Device, "", none, messages.FailureUnreachable)
}
