package config

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/actors/policy"
)

// Registration says which devices that nobody registered become known, and how (cloud spec
// 4.3 to 4.5).
type Registration struct {
	// Authorities name the PEM files of the authorities that sign such devices' certificates,
	// one certificate each. None: nobody registers.
	Authorities []string `json:"authorities,omitempty"`
	// Registrar registers them in AWS IoT. Nil: nobody does, and no rule lets anybody in.
	Registrar *Registrar          `json:"registrar,omitempty"`
	Offline   OfflineRegistration `json:"offline"`
}

// OfflineRegistration says whether devices are admitted as pending while the cloud cannot be
// asked (design.md, section 10).
type OfflineRegistration struct {
	Enabled   bool   `json:"enabled"`
	PerHour   int    `json:"perHour"`   // admissions in any hour
	Max       int    `json:"max"`       // pending devices at once
	GroupName string `json:"groupName"` // the device group they are in, and no other
}

// Bounds and defaults of offline registration.
const (
	DefaultOfflinePerHour = 10
	DefaultOfflineMax     = 100
	DefaultPendingGroup   = "pending"
	offlineMax            = 1000
)

func defaultRegistration() Registration {
	return Registration{Offline: OfflineRegistration{PerHour: DefaultOfflinePerHour, Max: DefaultOfflineMax, GroupName: DefaultPendingGroup}}
}

func (r *reader) offline(o object, c *OfflineRegistration) {
	o.flag("enabled", &c.Enabled)
	o.within("perHour", &c.PerHour, 1, offlineMax)
	o.within("max", &c.Max, 1, offlineMax)
	o.string("groupName", &c.GroupName)
}

// checkOffline finds what is missing between offline registration, which registers, and what
// its devices may do.
func (r *reader) checkOffline(registration, offline object, f File) {
	if !f.Registration.Offline.Enabled {
		return
	}
	n, path := offline.get("enabled")
	switch {
	case len(f.Registration.Authorities) == 0:
		r.fail(policy.KindMissing, registration.node, join(registration.path, "authorities"), "missing", "a value, since "+path+" is true", "it names whose devices are admitted")
	case f.Cloud.Control.Credentials == "":
		r.fail(KindConflict, n, path, "true, and nobody could register the devices later", "cloud.control.credentials", "or remove the key")
	case f.Registration.Registrar == nil:
		r.fail(policy.KindMissing, registration.node, join(registration.path, "registrar"), "missing", "a value, since "+path+" is true", "its rules say which devices are admitted, and as what")
	case f.PolicyFile == "" && f.ClientDeviceAuth.Policy != nil && !policy.Compile(f.ClientDeviceAuth.Policy).HasGroup(f.Registration.Offline.GroupName):
		r.warn(KindConflict, n, path, fmt.Sprintf("there is no device group %q: nobody is admitted", f.Registration.Offline.GroupName),
			"define the group under clientDeviceAuth.deviceGroups, or name another with groupName")
	}
}
