package daemon

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
)

// CAFile is where a daemon's directory publishes what devices must trust.
func CAFile(dir string) string { return filepath.Join(dir, "ca.pem") }

// startAuthority makes the embedded broker's certificate and publishes its authority.
func (d *Daemon) startAuthority(ctx context.Context) error {
	hosts, rejected := ca.ParseHosts(d.cfg.MQTTHosts)
	if len(rejected) > 0 {
		return fmt.Errorf("host addresses: %w", rejected[0])
	}
	caType := d.cfg.CAType
	if caType == "" {
		caType = d.views.Section().CertificateAuthority.CAType
	}
	authority, err := actors.StartAuthority(ctx, actors.AuthorityConfig{
		System: d.sys, Log: d.log, Keys: d.keys, Clock: d.clock, Type: caType, Hosts: hosts, Name: "gatehouse-mqtt",
		Validity: func() time.Duration { return d.views.Section().Certificates.ServerValidity() },
		Rotate:   func() bool { return !d.views.Section().Certificates.DisableCertificateRotation },
		Logger:   d.logger,
	})
	if err != nil {
		return err
	}
	d.authority = authority
	d.onClose(authority.Close)
	return WriteFile(CAFile(d.cfg.Dir), authority.PEM(), 0o644)
}
