package daemon

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/config"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
)

// CAFile is where a daemon's directory publishes what devices must trust.
func CAFile(dir string) string { return filepath.Join(dir, "ca.pem") }

// Names of the embedded broker's certificate and of the addresses in gatehouse.yaml.
const (
	mqttSubscriber = "gatehouse-mqtt"
	hostsOfFile    = "gatehouse.yaml"
)

// startAuthority starts the authority, publishes what devices must trust, and gets the
// embedded broker's certificate.
func (d *Daemon) startAuthority(ctx context.Context) error {
	if _, rejected := ca.ParseHosts(d.cfg.MQTTHosts); len(rejected) > 0 {
		return fmt.Errorf("host addresses: %w", rejected[0])
	}
	uploader, err := d.uploader()
	if err != nil {
		return err
	}
	custom := keys.NewCustom(keys.CustomOptions{Passphrase: d.cfg.Passphrase, PKCS11: d.cfg.PKCS11})
	d.onClose(custom.Close)
	authority, err := actors.StartAuthority(ctx, actors.AuthorityConfig{
		System: d.sys, Keys: d.keys, Clock: d.clock, Settings: d.authoritySettings, Custom: custom, Logger: d.logger,
		Uploader: uploader, Withdrawn: d.views.NoComponent,
		Publish: func(bundle []byte) error { return WriteFile(CAFile(d.cfg.Dir), bundle, 0o644) },
	})
	if err != nil {
		return err
	}
	d.authority.Store(authority)
	d.onClose(authority.Close)
	d.watchCustom(authority)
	if err := authority.Hosts(ctx, hostsOfFile, d.cfg.MQTTHosts); err != nil {
		return fmt.Errorf("host addresses: %w", err)
	}
	if d.cfg.MQTTListen == "" {
		return nil
	}
	d.certificate, err = authority.Hold(ctx, mqttSubscriber, ca.Server)
	return err
}

// authoritySettings is what the configuration in force says of certificates.
func (d *Daemon) authoritySettings() actors.AuthoritySettings {
	s := authoritySettings(d.views.Section())
	if d.cfg.CAType != "" {
		s.Type = d.cfg.CAType
	}
	return s
}

func authoritySettings(section config.Section) actors.AuthoritySettings {
	own := section.CertificateAuthority
	s := actors.AuthoritySettings{
		Type:           own.CAType,
		ServerValidity: section.Certificates.ServerValidity(), ClientValidity: section.Certificates.ClientValidity(),
		RotationDisabled: section.Certificates.DisableCertificateRotation,
	}
	if own.Custom() {
		s.Custom = keys.URIs{Certificate: own.CertificateURI, PrivateKey: own.PrivateKeyURI, Chain: own.CertificateChainURI}
	}
	return s
}

// customEvery is how often the files of an operator's authority are looked at. They must
// stay the same from one look to the next: certificate and key are written one after the
// other.
const customEvery = 2 * time.Second

// watchCustom wakes the authority when a file of the operator's has changed. Files are
// asked about, not watched: they may lie anywhere, be links, or come to be later.
func (d *Daemon) watchCustom(a *actors.Authority) {
	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(customEvery)
		defer tick.Stop()
		known := filesOf(d.authoritySettings().Custom)
		last := known
		for {
			select {
			case <-quit:
				return
			case <-tick.C:
			}
			now := filesOf(d.authoritySettings().Custom)
			if now == last && now != known {
				known = now
				a.Wake()
			}
			last = now
		}
	})
	d.onClose(func() {
		close(quit)
		wg.Wait()
	})
}

// filesOf tells the files that uris name from what was there before.
func filesOf(uris keys.URIs) string {
	var state strings.Builder
	for _, uri := range []string{uris.Certificate, uris.PrivateKey, uris.Chain} {
		u, err := url.Parse(uri)
		if err != nil || u.Scheme != "file" {
			continue
		}
		if info, err := os.Stat(u.Path); err == nil {
			fmt.Fprintf(&state, "%s %d %s %v\n", u.Path, info.Size(), info.ModTime(), info.Mode())
		}
	}
	return state.String()
}
