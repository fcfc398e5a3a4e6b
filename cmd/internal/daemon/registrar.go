package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/cloudsync/registrar"
	"github.com/gatehouse-edge/gatehouse/cmd/internal/metrics"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
)

// registrationsFile is what the registrar keeps in the daemon's directory.
const registrationsFile = "registrations.json"

// startRegistrar registers devices in the cloud, if one is configured for that, and has the
// enroller bring it those that come to the edge.
func (d *Daemon) startRegistrar() error {
	c := &d.cfg.Registration
	if c.Cloud == nil {
		return nil
	}
	path := filepath.Join(d.cfg.Dir, registrationsFile)
	cfg := registrar.Config{
		Cloud: c.Cloud, Rules: c.Rules, Authorities: c.Authorities, Now: d.trustNow, Settled: d.settledRegistration, Log: d.logger.With("part", "registrar"),
		Load: func() ([]byte, error) {
			text, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			return text, err
		},
		Save: func(text []byte) error { return WriteFile(path, text, 0o600) },
	}
	r, err := registrar.New(cfg)
	if errors.Is(err, registrar.ErrDamaged) {
		// What was given up is forgotten, and what was half done is found by a listing: better
		// than no start. What this registrar had registered itself stays INACTIVE.
		d.logger.Error("the list of registrations is set aside, and begun anew", "file", path, "kept_as", path+".damaged", "error", err)
		if err := os.Rename(path, path+".damaged"); err != nil {
			return err
		}
		r, err = registrar.New(cfg)
	}
	if err != nil {
		return err
	}
	d.registrar, c.Registrar = r, r
	if client, ok := c.Cloud.(interface{ Close() }); ok {
		d.onClose(client.Close)
	}
	d.onClose(r.Close)
	cloud, reached := d.cloud.(*cloudsync.Cloud)
	if reached {
		cloud.OnNetworkChange(r.NetworkChanged)
	}
	if c.Events == nil {
		return nil
	}
	events := *c.Events
	events.Registrar, events.Authorities, events.Now, events.Log = r, c.Authorities.IDs(), d.tlsTime, cfg.Log
	if d.registrations, err = registrar.Follow(events); err != nil {
		return err
	}
	d.onClose(d.registrations.Close)
	if reached {
		cloud.OnNetworkChange(d.registrations.NetworkChanged)
	}
	return nil
}

// trustNow is the trust clock's time.
func (d *Daemon) trustNow() time.Time { return time.UnixMilli(d.trust.NowMs()) }

// settledRegistration puts an outcome on record: in the device's stream if the rules allow it,
// so that a no, too, is known while the cloud is away; and a no as denials are. Of whom the
// rules deny there is no more: strangers must not fill the log.
func (d *Daemon) settledRegistration(ctx context.Context, c registration.Candidate, o registration.Outcome) error {
	if o.Status != registration.Accepted {
		d.denials.Note(actors.Denial{
			Thing: string(c.Thing), Certificate: c.Certificate, Operation: "verify", Reason: "registration is denied: " + o.Reason,
		}, messages.Cause{})
		if o.Thing == "" {
			return nil
		}
	}
	_, err := d.sys.Do(ctx, messages.SettleRegistration{
		Thing: o.Thing, Certificate: c.Certificate, Authority: c.Authority, Accepted: o.Status == registration.Accepted, Source: messages.Source_SOURCE_CLOUD, Rule: o.Rule, Reason: o.Reason,
	}, messages.Cause{})
	return err
}

// The operations on registrations.
const (
	OpRegistrations       = "registrations"        // → Registrations
	OpRegistrationRetry   = "registration-retry"   // RegistrationRequest → Done
	OpRegistrationDismiss = "registration-dismiss" // RegistrationRequest → Done
)

// RegistrationRequest names a certificate; with All those that were given up.
type RegistrationRequest struct {
	Certificate messages.CertificateID `json:"certificateId,omitempty"`
	All         bool                   `json:"all,omitempty"`
}

// Registrations says how registration goes.
type Registrations struct {
	Configured  bool                     `json:"configured"`
	Connected   bool                     `json:"connected"`         // registrations are heard of as they happen
	Problem     string                   `json:"problem,omitempty"` // why they are not
	Authorities []messages.CertificateID `json:"authorities,omitempty"`
	PerHour     int                      `json:"perHour,omitempty"`
	LastHour    int                      `json:"lastHour"` // devices begun
	Accepted    uint64                   `json:"accepted"` // since the start, as the next
	Denied      uint64                   `json:"denied"`
	List        []registrar.Line         `json:"list"`
}

func (d *Daemon) registrationsReport(context.Context, struct{}) (Registrations, error) {
	r := Registrations{List: []registrar.Line{}}
	if d.registrar == nil {
		return r, nil
	}
	stats := d.registrar.Stats()
	r.Configured, r.PerHour, r.LastHour, r.Accepted, r.Denied = true, d.cfg.Registration.Rules.PerHour(), stats.Recent, stats.Accepted, stats.Denied
	r.Authorities, r.List = d.cfg.Registration.Authorities.IDs(), d.registrar.Lines()
	if d.registrations == nil {
		r.Problem = "cloud.iotDataEndpoint is not set: devices that register themselves in the cloud are found by listings alone"
		return r, nil
	}
	var err error
	if r.Connected, err = d.registrations.Up(); err != nil {
		r.Problem = err.Error()
	}
	return r, nil
}

func (d *Daemon) registrationRetry(_ context.Context, q RegistrationRequest) (Done, error) {
	return d.registrationOrder(q, func(r *registrar.Registrar, id messages.CertificateID) error {
		known := d.enroller.Retry(id) // or it went on saying no from memory
		if err := r.Retry(id); !known || !errors.Is(err, registrar.ErrUnknown) {
			return err
		}
		return nil
	})
}

func (d *Daemon) registrationDismiss(_ context.Context, q RegistrationRequest) (Done, error) {
	return d.registrationOrder(q, (*registrar.Registrar).Dismiss)
}

func (d *Daemon) registrationOrder(q RegistrationRequest, do func(*registrar.Registrar, messages.CertificateID) error) (Done, error) {
	if d.registrar == nil {
		return Done{}, messages.Refuse(messages.RefusedNotReady, "nobody is registered here: set registration.registrar in gatehouse.yaml")
	}
	ids := []messages.CertificateID{q.Certificate}
	if q.All {
		ids = nil
		for _, line := range d.registrar.Lines() {
			if line.State == "given-up" {
				ids = append(ids, line.Certificate)
			}
		}
	}
	for _, id := range ids {
		if err := do(d.registrar, id); errors.Is(err, registrar.ErrUnknown) {
			return Done{}, messages.Refuse(messages.RefusedInvalidArguments, "certificate %.64s: %v", id, err)
		} else if err != nil {
			return Done{}, messages.Refuse(messages.RefusedNotReady, "certificate %.64s: %v", id, err)
		}
	}
	return Done{}, nil
}

// registrarWarnings says what the registrar cannot do.
func (d *Daemon) registrarWarnings() (list []string) {
	if d.registrar == nil {
		return nil
	}
	if n := d.registrar.Stats().GivenUp; n > 0 {
		list = append(list, fmt.Sprintf("%d devices are not registered, and no longer tried: see gatehouse registration list", n))
	}
	return list
}

// registrationMetrics is nil if nobody registers.
func (d *Daemon) registrationMetrics() *metrics.Registrations {
	if d.registrar == nil {
		return nil
	}
	s := d.registrar.Stats()
	return &metrics.Registrations{
		Outcomes: map[string]uint64{"accepted": s.Accepted, "denied": s.Denied, "failed": s.Failed, "overloaded": s.Overloaded},
		Waiting:  s.Waiting, GivenUp: s.GivenUp, LastHour: s.Recent,
	}
}
