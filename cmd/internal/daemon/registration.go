package daemon

import (
	"cmp"
	"fmt"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/cloudsync/registrar"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Registration says which devices that nobody registered become known, and how. The zero
// value: none.
type Registration struct {
	Authorities registration.Authorities // that sign their certificates
	Rules       registration.Rules
	// Registrar tells the cloud of them; nil: nobody does, unless there is a Cloud.
	Registrar actors.Registrar
	// Cloud is where they are registered, by a registrar of the daemon's own. Events says how
	// it hears of those that register themselves there, but for its Registrar, Authorities, Now
	// and Log; nil: by listings alone.
	Cloud   registrar.Cloud
	Events  *registrar.FollowConfig
	Offline actors.OfflineRegistration
	Group   string // the policy's group of pending devices; empty: "pending"
}

// startEnroller brings devices that nobody registered to the registrar. Where there is none
// it withdraws what a former configuration admitted.
func (d *Daemon) startEnroller() {
	r := d.cfg.Registration
	d.enroller = actors.NewEnroller(actors.EnrollerConfig{
		System: d.sys, Views: d.views, Clock: d.clock, Registrar: r.Registrar,
		Authorities: r.Authorities, Rules: r.Rules, Offline: r.Offline, Logger: d.logger,
	})
	d.enroller.Start()
	d.onClose(d.enroller.Close)
}

// PendingDetail says how a device was admitted that nobody registered.
type PendingDetail struct {
	Certificate messages.CertificateID `json:"certificateId"`
	Subject     string                 `json:"subject,omitempty"`
	Authority   messages.CertificateID `json:"authorityId"` // that signed the certificate
	Rule        string                 `json:"rule"`
	AdmittedAt  *time.Time             `json:"admittedAt,omitempty"` // absent: by a clock that was wrong
	Until       *time.Time             `json:"until,omitempty"`      // unless it is settled before; absent: it is not let in now
	Group       string                 `json:"group"`                // whose rights it has, alone
	Record      uint64                 `json:"record"`
	Accepted    bool                   `json:"accepted"` // its registration was; the cloud's own word is outstanding
	Next        NextConnect            `json:"nextConnect"`
}

// pendingDetail is nil if the device is not pending.
func pendingDetail(v *projections.Views, device projections.Device, c projections.Circumstances) *PendingDetail {
	p := device.Pending
	if p == nil {
		return nil
	}
	c.PendingAllowed, _ = v.PendingConnectAllowed(p.Thing)
	c.CertificateKnown = v.CertificateKnown(p.Certificate)
	outlook := projections.PredictPending(*p, c)
	d := &PendingDetail{
		Certificate: p.Certificate, Subject: p.Subject, Authority: p.Authority, Rule: p.Rule,
		Group: v.PendingGroup(), Record: p.Seq, Accepted: p.Accepted, Next: *nextConnect(outlook),
	}
	if p.AdmittedMs != messages.VoidMs {
		at := moment(p.AdmittedMs)
		d.AdmittedAt = &at
	}
	d.Until = d.Next.Offline.Until
	return d
}

// unsettledAfter is how long the cloud may take to decide about pending devices before
// people are told.
const unsettledAfter = 5 * time.Minute

// registrationWarnings says what is wrong about devices that nobody registered.
func registrationWarnings(r Registration, v *projections.Views, up bool, nowMs int64) (list []string) {
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if r.Offline.Enabled && !v.Policy().HasGroup(v.PendingGroup()) {
		warn("no device is admitted as pending: the policy defines no group %q (registration.offline.groupName)", v.PendingGroup())
	}
	pending := v.PendingDevices()
	if r.Offline.Enabled && len(pending) >= r.Offline.Max {
		warn("%d devices are pending, as many as registration.offline.max says: others are told to come again", len(pending))
	}
	if up && len(pending) > 0 {
		first := pending[0]
		if since := time.Duration(nowMs-first.AdmittedMs) * time.Millisecond; first.AdmittedMs != messages.VoidMs && since > unsettledAfter {
			warn("%d devices are pending, %s since %s, although the cloud is reached: see the log of the daemon for why the registrar cannot decide", len(pending), first.Thing, stamp(moment(first.AdmittedMs)))
		}
	}
	return list
}

func (r Registration) group() string { return cmp.Or(r.Group, projections.DefaultPendingGroup) }
