package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iotregistry"
	"github.com/gatehouse-edge/gatehouse/cloudsync/registrar"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// registrationOf says which devices that nobody registered become known, of a file's settings;
// x may hand out the role's credentials.
// now is the time by which servers' certificates are judged.
func registrationOf(f config.File, x *tokenexchange.Exchange, now func() time.Time) (daemon.Registration, error) {
	r := daemon.Registration{
		Offline: actors.OfflineRegistration{Enabled: f.Registration.Offline.Enabled, PerHour: f.Registration.Offline.PerHour, Max: f.Registration.Offline.Max},
		Group:   f.Registration.Offline.GroupName,
	}
	var list []*x509.Certificate
	for _, file := range f.Registration.Authorities {
		c, err := readSigner(file)
		if err != nil {
			return r, fmt.Errorf("registration.authorities: %w", err)
		}
		list = append(list, c)
	}
	var err error
	if r.Authorities, err = registration.NewAuthorities(list); err != nil {
		return r, fmt.Errorf("registration.authorities: %w", err)
	}
	rules := f.Registration.Registrar
	if rules == nil {
		return r, nil
	}
	if r.Rules, err = registration.Compile(rules.Config); err != nil {
		return r, fmt.Errorf("registration.registrar: %w", err)
	}
	plane, err := controlPlane(f.Cloud, x, now)
	if err != nil {
		return r, err
	}
	if r.Cloud, err = iotregistry.New(iotregistry.Config{Control: plane, Core: messages.ThingName(f.Cloud.ThingName)}); err != nil {
		return r, err
	}
	if f.Cloud.IoTDataEndpoint == "" || f.Cloud.Certificate == "" {
		return r, nil
	}
	identity, err := tls.LoadX509KeyPair(f.Cloud.Certificate, f.Cloud.PrivateKey)
	if err != nil {
		return r, fmt.Errorf("cloud.certificate, cloud.privateKey: %w", err)
	}
	roots, err := rootsOf(f.Cloud.CA)
	if err != nil {
		return r, fmt.Errorf("cloud.ca: %w", err)
	}
	r.Events = &registrar.FollowConfig{Endpoint: f.Cloud.IoTDataEndpoint, Identity: identity, Roots: roots, ClientID: firstOf(rules.ClientID, f.Cloud.ThingName+registrarSuffix)}
	return r, nil
}

// registrarSuffix makes the registrar's MQTT client id of the core's thing name.
const registrarSuffix = "-registrar"

const authorityFileMax = 64 << 10

// readSigner reads a file with exactly one certificate in PEM.
func readSigner(file string) (*x509.Certificate, error) {
	text, err := readFile(file, authorityFileMax)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s: no PEM block CERTIFICATE in it", file)
	}
	if more, _ := pem.Decode(rest); more != nil {
		return nil, fmt.Errorf("%s: more than one PEM block: want the authority's own certificate, which signs devices' directly, and no other", file)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return c, nil
}
