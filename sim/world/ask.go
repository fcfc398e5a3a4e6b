package world

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-edge/gatehouse/actors/brokers"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Broker is who asks in a world.
const Broker = messages.BrokerID("scenario")

var (
	caller = brokers.Caller{Broker: Broker, Request: "scenario"}
	cause  = messages.Cause{Broker: Broker, Request: "scenario"}
)

// ErrDown is wrapped when a core is asked that is not running.
var ErrDown = errors.New("the core is not running")

// Verify asks the core whether a certificate is good, and on whose word.
func (w *World) Verify(der []byte) (v messages.Verified, err error) {
	if w.core == nil {
		return v, ErrDown
	}
	var answered bool
	var refused error
	w.core.access.Verify(context.Background(), cause, der, func(r messages.Verified, e error) { v, refused, answered = r, e, true })
	if err := w.await(func() bool { return answered }); err != nil {
		return v, err
	}
	return v, refused
}

// Open asks the core for a session, as a broker does after Verify.
func (w *World) Open(clientID string, der []byte) (s brokers.Session, err error) {
	if w.core == nil {
		return s, ErrDown
	}
	var answered bool
	var refused error
	w.core.gate.OpenSession(caller, clientID, der, func(r brokers.Session, e error) { s, refused, answered = r, e, true })
	if err := w.await(func() bool { return answered }); err != nil {
		return s, err
	}
	return s, refused
}

// Authorize asks the core whether the holder of a token may do something.
func (w *World) Authorize(token messages.Token, operation, resource string) (bool, error) {
	if w.core == nil {
		return false, ErrDown
	}
	v, err := w.core.gate.Authorize(Broker, []byte(string(token)), []byte(operation), []byte(resource))
	return v.Allowed, errors.Join(err, w.settle())
}

// CloseSession tells the core that a client has gone away.
func (w *World) CloseSession(token messages.Token) error {
	if w.core == nil {
		return ErrDown
	}
	var answered bool
	var refused error
	w.core.gate.CloseSession(caller, []byte(string(token)), func(e error) { refused, answered = e, true })
	if err := w.await(func() bool { return answered }); err != nil {
		return err
	}
	return refused
}

// Issue makes a client's certificate, valid as said; it is in nobody's registry yet.
func (w *World) Issue(name string, from, to time.Time) ([]byte, error) {
	return w.cloud.issuer.device(name, from, to)
}
