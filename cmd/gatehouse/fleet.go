package main

import (
	"crypto/x509"
	"errors"
	"path/filepath"
	"strings"
	"time"

	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/credentials"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iotregistry"
	"github.com/gatehouse-edge/gatehouse/cloudsync/registrar"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// fleetDir holds the demo authority of devices that nobody has registered: ca.pem and key.pem.
func fleetDir(dir string) string { return filepath.Join(dir, "fleet-ca") }

// demoRegistration lets the fleet's sensors become devices like those that are there, by
// their certificates' common names.
var demoRegistration = registration.Config{Core: coreThing, Rules: []registration.Rule{{
	Name: "sensors of the demo fleet", Match: registration.Match{Subject: map[string][]string{"commonName": {"sensor-*"}}},
	Thing: registration.Thing{Name: "${subject.commonName}", ClientID: true}, Associate: true,
	Policy: registration.Policy{Name: "demo-sensor", Document: `{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Action": "iot:Connect", "Resource": "arn:aws:iot:*:*:client/${iot:Connection.Thing.ThingName}"},
		{"Effect": "Allow", "Action": ["iot:Publish", "iot:Receive"], "Resource": "arn:aws:iot:*:*:topic/sensors/${iot:Connection.Thing.ThingName}/*"},
		{"Effect": "Allow", "Action": "iot:Subscribe", "Resource": "arn:aws:iot:*:*:topicfilter/sensors/${iot:Connection.Thing.ThingName}/*"}]}`},
}}}

// openFleet makes the demo authority, unless it is there, and registers it with the emulated
// cloud, unless it is: what was changed there stays.
func openFleet(dir string, registry *awsemu.Registry) (*x509.Certificate, error) {
	folder := fleetDir(dir)
	authority, err := openAuthority(authorityAt{"Gatehouse demo fleet", filepath.Join(folder, "ca.pem"), filepath.Join(folder, "key.pem")})
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(authority.DER())
	if err != nil {
		return nil, err
	}
	_, err = registry.AddAuthority(c.Raw, time.Now(), awsemu.AuthorityOptions{Active: true, AutoRegister: true})
	if err != nil && !errors.Is(err, awsemu.ErrExists) {
		return nil, err
	}
	return c, nil
}

// registration says how the demo fleet's devices become known.
func (c *devCloud) registration() (daemon.Registration, error) {
	var (
		r    daemon.Registration
		err  error
		keys = c.emulator.AdminCredentials()
	)
	if r.Authorities, err = registration.NewAuthorities([]*x509.Certificate{c.fleet}); err != nil {
		return r, err
	}
	if r.Rules, err = registration.Compile(demoRegistration); err != nil {
		return r, err
	}
	r.Cloud, err = iotregistry.New(iotregistry.Config{Core: coreThing, Control: control.Config{
		Region: awsemu.Region, Endpoint: c.emulator.ControlURL(), Credentials: credentials.Static(keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken),
		Roots: c.client.Roots, Now: time.Now,
	}})
	r.Events = &registrar.FollowConfig{
		Endpoint: strings.TrimPrefix(c.emulator.URL(), "https://"), ServerName: awsemu.ServerName, Identity: c.client.Identity, Roots: c.client.Roots,
		ClientID: string(coreThing) + registrarSuffix,
	}
	return r, err
}
