package world

import (
	"context"
	"crypto/sha256"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/keys"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// componentValidity is how long a component's certificate is valid: the longest there is.
const componentValidity = 10 * 24 * time.Hour

// StartAuthority starts the core's own authority, which is there from then on. A world
// that needs none goes without: its certificates are renewed every few days, and a
// scenario may last years.
func (w *World) StartAuthority() error {
	if w.keys == nil {
		w.keys = keys.NewSeeded(sha256.Sum256([]byte("world")))
	}
	return w.turns.beside(func() (err error) {
		w.core.authority, err = actors.StartAuthority(context.Background(), actors.AuthorityConfig{
			System: w.core.sys, Keys: w.keys, Clock: w.core.clock, Settings: w.core.authoritySettings,
		})
		if err != nil {
			return err
		}
		w.core.broker, err = w.core.authority.Hold(context.Background(), "gatehouse-mqtt", ca.Server)
		return err
	})
}

func (c *core) authoritySettings() actors.AuthoritySettings {
	s := c.views.Section().Certificates
	return actors.AuthoritySettings{
		Type: ca.TypeECDSAP256, ServerValidity: s.ServerValidity(), ClientValidity: s.ClientValidity(), RotationDisabled: s.DisableCertificateRotation,
	}
}

// IssueComponent makes a client certificate of the core's own authority for an internal
// component; a server certificate, which is nobody's, if serves.
func (w *World) IssueComponent(name messages.ComponentName, serves bool) (der []byte, err error) {
	if w.core.authority == nil {
		if err := w.StartAuthority(); err != nil {
			return nil, err
		}
	}
	if serves {
		return w.core.broker.Leaf().Raw, nil
	}
	err = w.turns.beside(func() error {
		issued, err := w.core.authority.IssueComponent(context.Background(), name, w.cloud.issuer.key.Public(), componentValidity, ca.ReasonFirst)
		der = issued.Certificate
		return err
	})
	return der, err
}
