package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The three ways in which a request fails. Each error of this package wraps exactly one
// of them; a broker that knows no better treats all as "no".
var (
	// ErrDenied says that Gatehouse refused: the certificate, the client id or the
	// policy. Asking again gives the same answer. MQTT 5: 0x87.
	ErrDenied = errors.New("denied")
	// ErrBusy says that Gatehouse, or this client, has too much to do; see RetryAfter.
	// MQTT 5: 0x97 or 0x89.
	ErrBusy = errors.New("busy")
	// ErrUnavailable says that there is no answer. MQTT 5: 0x88.
	ErrUnavailable = errors.New("unavailable")

	// ErrPending says that the device is being registered with the cloud: it is to come again,
	// see RetryAfter. It comes with ErrUnavailable.
	ErrPending = errors.New("being registered")

	// ErrSessionClosed says that a session has ended. It comes with ErrDenied.
	ErrSessionClosed = errors.New("no such session")
)

// RetryAfter returns how long the busy or pending answer in err asks to wait, or 0.
func RetryAfter(err error) time.Duration {
	if refusal, ok := errors.AsType[*messages.Refusal](err); ok {
		return refusal.RetryAfter
	}
	return 0
}

// refused wraps the refusal of a request so that callers can tell its kind.
func refused(op string, refusal *messages.Refusal) error {
	switch refusal.Code {
	case messages.RefusedInvalidCredential, messages.RefusedInvalidArguments:
		return fmt.Errorf("%s: %w: %w", op, ErrDenied, refusal)
	case messages.RefusedInvalidToken:
		return fmt.Errorf("%s: %w: %w: %w", op, ErrDenied, ErrSessionClosed, refusal)
	case messages.RefusedBusy:
		return fmt.Errorf("%s: %w: %w", op, ErrBusy, refusal)
	case messages.RefusedPending:
		return fmt.Errorf("%s: %w: %w: %w", op, ErrUnavailable, ErrPending, refusal)
	case messages.RefusedUnauthorized:
		return fmt.Errorf("%s: %w: Gatehouse does not let this broker ask that, see `gatehouse broker add --help`: %w", op, ErrUnavailable, refusal)
	default:
		return fmt.Errorf("%s: %w: %w", op, ErrUnavailable, refusal)
	}
}

// unanswered wraps the error of a request that got no answer.
func unanswered(op string, err error) error {
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%s: %w: the daemon is not there: %w", op, ErrUnavailable, err)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return fmt.Errorf("%s: %w: no answer in time: %w", op, ErrUnavailable, err)
	default:
		return fmt.Errorf("%s: %w: %w", op, ErrUnavailable, err)
	}
}

func isDenied(err error) bool { return errors.Is(err, ErrDenied) }
