package world

import (
	"context"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/registration"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu"
)

// Answer is what becomes of the devices that ask to be registered.
type Answer int32

// The answers.
const (
	Accepts Answer = iota // the device is in the cloud then, and associated with the core
	Denies
	Fails // nothing can be said
)

// registrar is a world's: it enters into the emulated cloud's registry what it accepts, as
// far as the cloud is reached.
type registrar struct {
	w      *World
	answer atomic.Int32
	calls  atomic.Int64
}

// Register implements actors.Registrar.
func (r *registrar) Register(_ context.Context, c registration.Candidate) (registration.Outcome, error) {
	r.calls.Add(1)
	switch Answer(r.answer.Load()) {
	case Denies:
		return registration.Outcome{Reason: "scenario"}, nil
	case Fails:
		return registration.Outcome{}, errors.New("scenario")
	}
	registry := r.w.cloud.registry
	if _, err := registry.AddCertificate(c.DER, awsemu.StatusActive); err != nil && !errors.Is(err, awsemu.ErrExists) {
		return registration.Outcome{}, err
	}
	err := registry.AddThing(c.Thing)
	if err == nil {
		err = registry.Attach(c.Thing, c.Certificate)
	}
	if err == nil {
		err = registry.Associate(coreThing, r.w.Machine.Now(), c.Thing)
	}
	return registration.Outcome{Status: registration.Accepted, Thing: c.Thing, Rule: "fleet"}, err
}

// SetRegistration says from now on which devices that nobody registered become known: those
// of the fleet's authority, under their certificate's common name.
func (w *World) SetRegistration(offline actors.OfflineRegistration) error {
	w.offline = &offline
	return w.startEnroller()
}

// SetRegistrar says what becomes of those who ask.
func (w *World) SetRegistrar(a Answer) { w.registrar.answer.Store(int32(a)) }

// Registrations counts how often the registrar was asked.
func (w *World) Registrations() int { return int(w.registrar.calls.Load()) }

func (w *World) startEnroller() error {
	if w.core == nil || w.offline == nil {
		return nil
	}
	authorities, err := registration.NewAuthorities([]*x509.Certificate{w.fleet.certificate})
	if err != nil {
		return err
	}
	rules, err := registration.Compile(registration.Config{Rules: []registration.Rule{
		{Name: "fleet", Thing: registration.Thing{Name: "${subject.commonName}"}},
	}})
	if err != nil {
		return err
	}
	if err := w.endEnroller(); err != nil {
		return err
	}
	w.core.enroller = actors.NewEnroller(actors.EnrollerConfig{
		System: w.core.sys, Views: w.core.views, Clock: w.core.clock, Registrar: w.registrar,
		Authorities: authorities, Rules: rules, Offline: *w.offline,
	})
	w.core.enroller.Step()
	return w.settle()
}

func (w *World) endEnroller() error {
	e := w.core.enroller
	if e == nil {
		return nil
	}
	return w.turns.beside(func() error {
		e.Close()
		return nil
	})
}

// Fleet makes a certificate of the fleet's authority, or of one that only has its name.
func (w *World) Fleet(name string, rogue bool, from, to time.Time) ([]byte, error) {
	if rogue {
		return w.rogue.device(name, from, to)
	}
	return w.fleet.device(name, from, to)
}

// Authenticate asks the core to let a client in, as brokers do who decide by themselves.
func (w *World) Authenticate(clientID string, der []byte) (g brokers.Grant, err error) {
	if w.core == nil {
		return g, ErrDown
	}
	var answered bool
	var refused error
	w.core.gate.Authenticate(caller, clientID, der, func(r brokers.Grant, e error) { g, refused, answered = r, e, true })
	if err := w.await(func() bool { return answered }); err != nil {
		return g, err
	}
	return g, refused
}

// Pending lists the things that are pending, and by which certificate.
func (w *World) Pending() map[messages.ThingName]messages.CertificateID {
	all := map[messages.ThingName]messages.CertificateID{}
	for _, p := range w.core.views.PendingDevices() {
		all[p.Thing] = p.Certificate
	}
	return all
}
