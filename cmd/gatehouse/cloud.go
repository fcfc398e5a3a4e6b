package main

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/associations"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/credentials"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iotverifier"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// cloudConfig says whom the daemon asks about devices, of a file's section. now is the time
// by which servers' certificates are judged.
func cloudConfig(c config.Cloud, now func() time.Time) (*cloudsync.Config, error) {
	cfg := &cloudsync.Config{Queue: cloudsync.QueueConfig{RefreshRate: c.RefreshRate}}
	if c.Verifier != config.VerifierIoT {
		data, err := dataPlane(c, now)
		cfg.DataPlane = data
		return cfg, err
	}
	plane, err := controlPlane(c, now)
	if err != nil {
		return nil, err
	}
	core, err := readCertificate(c.Certificate)
	if err != nil {
		return nil, fmt.Errorf("cloud.certificate: %w", err)
	}
	plane.Timeout = min(c.RequestTimeout, deviceBudget)
	cfg.Verifier, err = iotverifier.New(iotverifier.Config{Control: plane, Core: messages.CertificateIDOf(core.Raw)})
	return cfg, err
}

// controlPlane says how AWS' control planes are reached.
func controlPlane(c config.Cloud, now func() time.Time) (control.Config, error) {
	cfg := control.Config{Region: c.Region, Endpoint: c.Control.Endpoint, Now: now}
	var err error
	if cfg.Credentials, err = credentials.Default(context.Background(), credentials.Options{Region: c.Region, Profile: c.Control.Profile}); err != nil {
		return cfg, fmt.Errorf("cloud.control: %w", err)
	}
	ca, key := c.Control.CA, "cloud.control.ca"
	if ca == "" {
		ca, key = c.CA, "cloud.ca"
	}
	if cfg.Roots, err = rootsOf(ca); err != nil {
		return cfg, fmt.Errorf("%s: %w", key, err)
	}
	return cfg, nil
}

// associationsOf makes who lists the things associated with the core; nil if the control
// planes are not asked.
func associationsOf(c config.Cloud, now func() time.Time) (actors.Associations, error) {
	if c.Control.Credentials == "" {
		return nil, nil
	}
	plane, err := controlPlane(c, now)
	if err != nil {
		return nil, err
	}
	return associations.New(associations.Config{Control: plane, Core: messages.ThingName(c.ThingName)})
}
