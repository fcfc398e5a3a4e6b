package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// enrollAll makes the core's and the demo devices' identities, if they are not there, and
// registers them and what `device add` has put beside them.
func enrollAll(dir string, authority *awsemu.Authority, registry *awsemu.Registry) (tls.Certificate, error) {
	core := filepath.Join(cloudDir(dir), "core")
	if err := enroll(authority, registry, coreThing, core, true); err != nil {
		return tls.Certificate{}, err
	}
	unassociated := registry.Associated(coreThing) == nil // never had any: new, or from before there were associations
	for _, thing := range demoThings {
		if err := enroll(authority, registry, thing, deviceDir(dir, string(thing)), false); err != nil {
			return tls.Certificate{}, err
		}
	}
	if err := enrollAdded(dir, authority, registry); err != nil {
		return tls.Certificate{}, err
	}
	if unassociated {
		if err := associateAll(registry); err != nil {
			return tls.Certificate{}, err
		}
	}
	identity, err := tls.LoadX509KeyPair(filepath.Join(core, "cert.pem"), filepath.Join(core, "key.pem"))
	if err != nil {
		return tls.Certificate{}, err
	}
	return identity, registry.Update(func(b *awsemu.Batch) error {
		return b.AddTokenExchange(time.Now(), messages.CertificateIDOf(identity.Certificate[0]))
	})
}

// associateAll makes every device with a certificate a client device of the core.
func associateAll(registry *awsemu.Registry) error {
	var things []messages.ThingName
	for _, c := range registry.Certificates() {
		if !c.Core {
			things = append(things, c.Things...)
		}
	}
	return registry.Associate(coreThing, time.Now(), things...)
}

// enroll makes a thing's key and certificate in folder, unless they are there, and
// registers what is there. Files come before the registry: whatever a crash left, and if the
// registry was deleted, the next start goes on.
func enroll(authority *awsemu.Authority, registry *awsemu.Registry, thing messages.ThingName, folder string, core bool) error {
	certificate, err := makeIdentity(authority, string(thing), folder)
	if err != nil {
		return err
	}
	return register(registry, thing, certificate, core)
}

// register enrolls a thing whose certificate the registry does not know, a device as a
// client device of the core. One that it knows is as somebody has left it: revoked,
// detached or disassociated, perhaps.
func register(registry *awsemu.Registry, thing messages.ThingName, certificate *x509.Certificate, core bool) error {
	id := messages.CertificateIDOf(certificate.Raw)
	if _, known := registry.Certificate(id); known {
		return nil
	}
	return registry.Update(func(b *awsemu.Batch) error {
		if err := b.Enroll(thing, &awsemu.Identity{ID: id, DER: certificate.Raw}, core); err != nil || core {
			return err
		}
		return b.Associate(coreThing, time.Now(), thing)
	})
}

// enrollAdded registers the devices in DIR/devices whose certificates the authority has
// signed. Others were put there by somebody who wants to see them refused.
func enrollAdded(dir string, authority *awsemu.Authority, registry *awsemu.Registry) error {
	folders, err := os.ReadDir(deviceDir(dir, ""))
	if err != nil {
		return err
	}
	for _, folder := range folders {
		thing, err := messages.ParseThingName(folder.Name())
		if err != nil {
			continue
		}
		certificate, err := readCertificate(filepath.Join(deviceDir(dir, folder.Name()), "cert.pem"))
		if err != nil {
			continue // not finished, or not ours
		}
		signed := x509.VerifyOptions{Roots: authority.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		if _, err := certificate.Verify(signed); err != nil {
			continue
		}
		if err := register(registry, thing, certificate, false); err != nil {
			return err
		}
	}
	return nil
}

// readCertificate reads the first certificate of a PEM file.
func readCertificate(file string) (*x509.Certificate, error) {
	text, err := readFile(file, certificateMaxBytes)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s does not begin with a PEM certificate", file)
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return certificate, nil
}

// certificateMaxBytes bounds a certificate's file.
const certificateMaxBytes = 64 << 10
