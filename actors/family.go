package actors

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/actors/ca"
	"github.com/gatehouse-edge/gatehouse/actors/core"
	"github.com/gatehouse-edge/gatehouse/actors/device"
	"github.com/gatehouse-edge/gatehouse/actors/refresh"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// family is a kind of entity: how its fresh state, its decisions and its fold are made.
// The state is the decider's own type behind any: the host never looks inside.
type family struct {
	fresh  func() any
	decide func(stream messages.StreamID, state any, f device.Facts, in messages.Input) (messages.Decision, error)
	evolve func(state any, e messages.Event, at messages.Instant) any
	// stateless: the events stand for themselves, and only their number is needed.
	stateless bool
	// encode and decode are the form of its snapshots; nil: it keeps none.
	encode func(version uint64, state any) ([]byte, error)
	decode func([]byte) (version uint64, state any, err error)
}

// pure makes a family of a decider and its fold.
func pure[S any](
	decide func(messages.StreamID, S, device.Facts, messages.Input) (messages.Decision, error),
	evolve func(S, messages.Event, messages.Instant) S,
) family {
	encode, decode := snapshots[S]()
	return family{
		encode: encode, decode: decode,
		fresh: func() any { var s S; return s },
		decide: func(stream messages.StreamID, state any, f device.Facts, in messages.Input) (messages.Decision, error) {
			return decide(stream, state.(S), f, in)
		},
		evolve: func(state any, e messages.Event, at messages.Instant) any { return evolve(state.(S), e, at) },
	}
}

var (
	certificates = pure(func(stream messages.StreamID, s device.Certificate, f device.Facts, in messages.Input) (messages.Decision, error) {
		id, _ := stream.Certificate()
		return device.DecideCertificate(id, s, f, in)
	}, device.EvolveCertificate)

	devices = pure(func(stream messages.StreamID, s device.Device, f device.Facts, in messages.Input) (messages.Decision, error) {
		thing, _ := stream.Device()
		return device.DecideDevice(thing, s, f, in)
	}, device.EvolveDevice)

	components = pure(func(stream messages.StreamID, s device.Device, _ device.Facts, in messages.Input) (messages.Decision, error) {
		name, _ := stream.Component()
		return device.DecideComponent(name, s, in)
	}, device.EvolveDevice)

	documents = pure(func(stream messages.StreamID, s core.Document, _ device.Facts, in messages.Input) (messages.Decision, error) {
		return core.DecideDocument(stream, s, in)
	}, core.EvolveDocument)

	syncs = pure(func(_ messages.StreamID, s refresh.State, f device.Facts, in messages.Input) (messages.Decision, error) {
		return refresh.Decide(s, refresh.Facts{NetworkUp: f.NetworkUp, InHandMs: f.RefreshMs, Trust: f.Trust}, in)
	}, refresh.Evolve)

	authorities = pure(func(_ messages.StreamID, b ca.Book, _ device.Facts, in messages.Input) (messages.Decision, error) {
		return ca.Decide(b, in)
	}, ca.Evolve)

	journals = stateless(pure(func(stream messages.StreamID, s core.Journal, _ device.Facts, in messages.Input) (messages.Decision, error) {
		return core.DecideJournal(stream, s, in)
	}, core.EvolveJournal))
)

// stateless makes a family whose events are counted, not folded.
func stateless(f family) family {
	f.stateless, f.encode, f.decode = true, nil, nil
	return f
}

// familyOf finds the family of a stream. A stream that is none's has no entity.
func (s *System) familyOf(stream messages.StreamID) (family, error) {
	if s.override != nil {
		if f, ok := s.override(stream); ok {
			return f, nil
		}
	}
	if _, err := messages.ParseStreamID(string(stream)); err != nil {
		return family{}, err
	}
	if _, ok := stream.Certificate(); ok {
		return certificates, nil
	}
	if _, ok := stream.Device(); ok {
		return devices, nil
	}
	if _, ok := stream.Component(); ok {
		return components, nil
	}
	switch stream {
	case messages.StreamPolicy, messages.StreamConfig:
		return documents, nil
	case messages.StreamSync:
		return syncs, nil
	case messages.StreamCA:
		return authorities, nil
	case messages.StreamClock, messages.StreamCredentials,
		messages.StreamLifecycle, messages.StreamStrangers, messages.StreamBrokers:
		return journals, nil
	}
	return family{}, fmt.Errorf("stream %q belongs to no family", stream)
}

// asksAbout is the certificate whose confirmation the decider of c judges by.
func asksAbout(c messages.Command) (messages.CertificateID, bool) {
	switch c := c.(type) {
	case messages.VerifyCertificate:
		return c.Certificate, true
	case messages.RecheckCertificate:
		return c.Certificate, true
	case messages.DropCertificate:
		return c.Certificate, true
	case messages.OpenSession:
		return c.Certificate, true
	case messages.RecheckAttachment:
		return c.Certificate, true
	case messages.AdmitPending:
		return c.Certificate, true
	case messages.ConfirmPending:
		return c.Certificate, true
	}
	return "", false
}

// facts gathers what the decider of c, which is for the entity of stream, may know beyond
// that stream.
func (s *System) facts(stream messages.StreamID, c messages.Command, trust messages.Trust) device.Facts {
	f := device.Facts{
		NetworkUp:     s.network.Load(),
		Trust:         trust,
		CloseOnRevoke: s.views.CloseOnRevoke(),
	}
	answered, isAnswer := c.(messages.CloudAnswered)
	if isAnswer {
		c = answered.Then
	}
	if id, ok := asksAbout(c); ok {
		f.Voided = s.views.Voided(stream, id)
	}
	switch c := c.(type) {
	case messages.VerifyCertificate:
		if isAnswer { // only a refusal needs them, and the cloud alone makes one
			f.Holders = s.views.Holders(c.Certificate)
		}
	case messages.RecheckCertificate:
		f.Holders = s.views.Holders(c.Certificate)
	case messages.DropCertificate:
		f.Holders = s.views.Holders(c.Certificate)
	case messages.RunRefresh:
		if r := s.refresher.Load(); r != nil {
			f.RefreshMs = r.inHandMs.Load()
		}
	case messages.OpenSession:
		f.Certificate = s.views.CertificateTrust(c.Certificate)
		if c.Connect {
			f.ConnectAllowed, f.PolicyRevision = s.views.ConnectAllowed(c.Thing)
		}
	case messages.AdmitPending:
		f.Certificate, f.CertificateKnown = s.views.CertificateTrust(c.Certificate), s.views.CertificateKnown(c.Certificate)
		f.ConnectAllowed, f.PolicyRevision = s.views.PendingConnectAllowed(c.Thing)
	case messages.ConfirmPending:
		f.Certificate = s.views.CertificateTrust(c.Certificate)
	}
	return f
}
