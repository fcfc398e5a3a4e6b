package client

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Link is what a Client needs of NATS. A Client makes its own; package natsmem has one in
// memory, for tests and the simulator.
type Link interface {
	// Request sends body to subject and waits for the answer. An error that wraps
	// nats.ErrNoResponders says that nobody listens there, one that wraps
	// context.DeadlineExceeded that no answer came within timeout or before ctx's own.
	Request(ctx context.Context, subject string, body []byte, timeout time.Duration) (*nats.Msg, error)
	// Subscribe has hear called for each message to subject, one after the other, until
	// stop; of a group (if it is not "") one member hears it. Of more than room messages
	// that wait some may be lost; 0: as many as the connection sees fit.
	Subscribe(subject, group string, room int, hear nats.MsgHandler) (stop func() error, err error)
	// Flush returns when the server knows what was subscribed, at once while it is away. An
	// error that wraps nats.ErrPermissionViolation says that it forbids that.
	Flush(ctx context.Context, timeout time.Duration) error
	Connected() bool
	// OnConnect has f called each time the connection was made, also anew, until stop, which
	// returns when f does not run any more.
	OnConnect(f func()) (stop func())
}

// natsLink is a Link over a NATS connection.
type natsLink struct {
	nc *nats.Conn

	mu       sync.Mutex
	subjects []string // subscribed; guarded by mu
}

func (l *natsLink) Request(ctx context.Context, subject string, body []byte, timeout time.Duration) (*nats.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return l.nc.RequestWithContext(ctx, subject, body)
}

func (l *natsLink) Subscribe(subject, group string, room int, hear nats.MsgHandler) (stop func() error, err error) {
	sub, err := l.nc.QueueSubscribe(subject, group, hear)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.subjects = append(l.subjects, subject)
	l.mu.Unlock()
	if room > 0 {
		err = sub.SetPendingLimits(room, -1)
	}
	return sub.Unsubscribe, err
}

func (l *natsLink) Flush(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if !l.nc.IsConnected() {
		return nil // on connecting subscriptions are made before anything else is sent
	}
	if err := l.nc.FlushWithContext(ctx); err != nil {
		return err
	}
	// The server's refusal of a subscription comes before its answer to the flush.
	err := l.nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, subject := range l.subjects {
		if strings.Contains(err.Error(), subject) {
			return err
		}
	}
	return nil
}

func (l *natsLink) Connected() bool { return l.nc.IsConnected() }

func (l *natsLink) OnConnect(f func()) (stop func()) {
	status := l.nc.StatusChanged(nats.CONNECTED)
	var hearing sync.WaitGroup
	hearing.Go(func() {
		for range status {
			f()
		}
	})
	return func() {
		l.nc.RemoveStatusListener(status)
		hearing.Wait()
	}
}
