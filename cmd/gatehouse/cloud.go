package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/associations"
	"github.com/gatehouse-edge/gatehouse/cloudsync/connectivity"
	"github.com/gatehouse-edge/gatehouse/cloudsync/control"
	"github.com/gatehouse-edge/gatehouse/cloudsync/credentials"
	"github.com/gatehouse-edge/gatehouse/cloudsync/iotverifier"
	"github.com/gatehouse-edge/gatehouse/cloudsync/shadow"
	"github.com/gatehouse-edge/gatehouse/cloudsync/tokenexchange"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/daemon"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// cloudConfig says whom the daemon asks about devices, of a file's section. now is the time
// by which servers' certificates are judged.
func cloudConfig(c config.Cloud, x *tokenexchange.Exchange, now func() time.Time) (*cloudsync.Config, error) {
	cfg := &cloudsync.Config{Queue: cloudsync.QueueConfig{RefreshRate: c.RefreshRate}}
	if c.Verifier != config.VerifierIoT {
		data, err := dataPlane(c, now)
		cfg.DataPlane = data
		return cfg, err
	}
	plane, err := controlPlane(c, x, now)
	if err != nil {
		return nil, err
	}
	core, err := readCertificate(c.Certificate)
	if err != nil {
		return nil, fmt.Errorf("cloud.certificate: %w", err)
	}
	plane.Timeout = min(plane.Timeout, deviceBudget)
	cfg.Verifier, err = iotverifier.New(iotverifier.Config{Control: plane, Core: messages.CertificateIDOf(core.Raw)})
	return cfg, err
}

// controlPlane says how AWS' control planes are reached. x is only needed where their
// credentials come from it.
func controlPlane(c config.Cloud, x *tokenexchange.Exchange, now func() time.Time) (control.Config, error) {
	cfg := control.Config{Region: c.Region, Endpoint: c.Control.Endpoint, Timeout: c.RequestTimeout, ConnectTimeout: c.ConnectTimeout, Now: now}
	var err error
	if c.Control.Credentials == config.CredentialsTokenExchange {
		cfg.Credentials = credentials.Exchanged(x)
	} else if cfg.Credentials, err = credentials.Default(context.Background(), credentials.Options{Region: c.Region, Profile: c.Control.Profile}); err != nil {
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
func associationsOf(c config.Cloud, x *tokenexchange.Exchange, now func() time.Time) (actors.Associations, error) {
	if c.Control.Credentials == "" {
		return nil, nil
	}
	plane, err := controlPlane(c, x, now)
	if err != nil {
		return nil, err
	}
	return associations.New(associations.Config{Control: plane, Core: messages.ThingName(c.ThingName)})
}

// aboutTheCore adds to cfg what the core tells and asks the Greengrass data plane about
// itself: which authorities devices must trust, and at which addresses they reach it.
func aboutTheCore(c config.Cloud, now func() time.Time, cfg *daemon.Config) error {
	if c.Endpoint == "" {
		return nil
	}
	data, err := dataPlane(c, now)
	if err != nil {
		return err
	}
	data.Timeout = c.RequestTimeout // no device waits
	core := messages.ThingName(c.ThingName)
	cfg.Authorities, err = cloudsync.NewAuthorities(data, core)
	if errors.Is(err, cloudsync.ErrUnpublishedPath) {
		cfg.Logger.Warn("devices cannot discover the authority in the cloud", "reason", err)
	} else if err != nil {
		return err
	}
	if c.IoTDataEndpoint == "" {
		return nil
	}
	source, err := connectivity.New(data, core)
	if err != nil {
		return err
	}
	cfg.Addresses = &shadow.Config{Core: core, Endpoint: c.IoTDataEndpoint, Identity: data.Identity, Roots: data.Roots, Source: source, Timeout: c.RequestTimeout}
	return nil
}
