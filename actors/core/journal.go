// Package core decides about the core's own streams: the documents in force (policy and
// configuration), and the journals of facts that need no judgement (clock, life cycle, strangers, brokers). It is pure.
package core

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Journal is the state of a journal entity: it has none, its events stand for
// themselves.
type Journal struct{}

// allowed lists which kinds each journal takes: nothing else ever enters it.
var allowed = map[messages.StreamID][]messages.Kind{
	messages.StreamClock:       {messages.KindClockMarked, messages.KindClockReanchored, messages.KindTrustVoided},
	messages.StreamCredentials: {messages.KindCredentialsServed},
	messages.StreamLifecycle:   {messages.KindStarted, messages.KindStopped},
	messages.StreamStrangers:   {messages.KindAccessDenied},
	messages.StreamBrokers:     {messages.KindBrokerPermitted, messages.KindBrokerRestricted},
}

// DecideJournal records a fact on the stream it belongs to.
func DecideJournal(stream messages.StreamID, _ Journal, in messages.Input) (messages.Decision, error) {
	var event messages.Event
	switch c := in.Command.(type) {
	case messages.Note:
		event = c.Event
	case messages.MarkClock:
		event = c.Mark
	case messages.RecordDenial:
		event = c.Denial
	case messages.ReanchorClock:
		return reanchor(stream, c)
	default:
		return messages.Decision{}, fmt.Errorf("%s: unexpected command %T", stream, c)
	}
	if event == nil {
		return messages.Decision{}, fmt.Errorf("%s: %T without an event", stream, in.Command)
	}
	for _, kind := range allowed[stream] {
		if kind == event.Kind() {
			return messages.Decision{Events: []messages.Event{event}, Reply: messages.Done{}}, nil
		}
	}
	return messages.Decision{}, fmt.Errorf("%s: %s does not belong here", stream, event.Kind())
}

// reanchor records that trust time goes back, what becomes void by it, and where the
// next start goes on from: all or none.
func reanchor(stream messages.StreamID, c messages.ReanchorClock) (messages.Decision, error) {
	if stream != messages.StreamClock {
		return messages.Decision{}, fmt.Errorf("%s: %T does not belong here", stream, c)
	}
	d := messages.Decision{Reply: messages.Done{}}
	if c.FormerMs <= c.AuthenticatedMs { // nothing to set back
		return d, nil
	}
	if c.Mark == nil || c.VoidAfterMs > c.AuthenticatedMs || c.LapsedMs > c.AuthenticatedMs {
		return messages.Decision{}, fmt.Errorf("%s: incomplete %+v", stream, c)
	}
	d.Events = []messages.Event{&messages.ClockReanchored{
		FormerTrustMs: c.FormerMs, AuthenticatedMs: c.AuthenticatedMs, Authority: c.Authority, VoidAfterMs: c.VoidAfterMs,
	}}
	if c.LapsedMs > 0 {
		d.Events = append(d.Events, &messages.TrustVoided{BeforeMs: c.LapsedMs, Reason: "lapsed before the clock was set back"})
	}
	d.Events = append(d.Events, c.Mark)
	return d, nil
}

// EvolveJournal folds one event.
func EvolveJournal(s Journal, _ messages.Event, _ messages.Instant) Journal { return s }
