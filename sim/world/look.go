package world

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/device"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// Registry is what the emulated cloud knows.
func (w *World) Registry() *awsemu.Registry { return w.cloud.registry }

// SetReachable takes the cloud away or brings it back: away, nothing listens there.
func (w *World) SetReachable(reachable bool) error { return w.cloud.emulator.Offline(!reachable) }

// SetCloudSkew sets the cloud's clock ahead by d.
func (w *World) SetCloudSkew(d time.Duration) { w.cloud.skew.Store(int64(d)) }

// CloudCalls counts the requests that have reached the cloud.
func (w *World) CloudCalls() int { return w.cloud.calls() }

// Trust is what is stored of a certificate.
func (w *World) Trust(id messages.CertificateID) messages.CertificateTrust {
	return w.core.views.CertificateTrust(id)
}

// Attachments is what is stored of things: the certificates of each, and when that was
// last confirmed (trust time, ms).
func (w *World) Attachments() map[messages.ThingName]map[messages.CertificateID]int64 {
	all := map[messages.ThingName]map[messages.CertificateID]int64{}
	for _, name := range w.core.views.Things() {
		d, _ := w.core.views.Device(name)
		all[name] = map[messages.CertificateID]int64{}
		for _, a := range d.Attachments {
			all[name][a.Certificate] = a.ConfirmedMs
		}
	}
	return all
}

// Sessions counts the live sessions by thing, or internal component.
func (w *World) Sessions() map[messages.ThingName]int {
	live := map[messages.ThingName]int{}
	for _, s := range w.core.views.SessionsOf(Broker) {
		live[cmp.Or(s.Thing, messages.ThingName(s.Component))]++
	}
	return live
}

// Ended lists the sessions that ended, in their order.
func (w *World) Ended() []Ended { return w.ended }

// Clock says how well the core knows the time.
func (w *World) Clock() actors.ClockState {
	return w.core.trust.Status(w.core.views.TrustDurationMs()).State
}

// Held lists the certificates whose bytes are held, by the log alone: what a core that
// started now would know.
func (w *World) Held() ([]messages.CertificateID, error) {
	entities := map[messages.CertificateID]device.Certificate{}
	err := w.eachEvent(func(rec *messages.Record, e messages.Event) {
		if id, ok := rec.Stream.Certificate(); ok {
			entities[id] = device.EvolveCertificate(entities[id], e, rec.At)
		}
	})
	maps.DeleteFunc(entities, func(_ messages.CertificateID, c device.Certificate) bool { return c.DER == nil })
	return slices.Sorted(maps.Keys(entities)), err
}

// LogCounts counts the events of the log by kind.
func (w *World) LogCounts() (map[string]int, error) {
	counts := map[string]int{}
	err := w.eachEvent(func(rec *messages.Record, _ messages.Event) { counts[rec.Kind.String()]++ })
	return counts, err
}

func (w *World) eachEvent(f func(*messages.Record, messages.Event)) error {
	for rec, err := range w.log.Scan(context.Background(), 1, math.MaxUint64) {
		if err != nil {
			return err
		}
		e, err := messages.DecodeEvent(&rec)
		if err != nil {
			return err
		}
		f(&rec, e)
	}
	return nil
}
