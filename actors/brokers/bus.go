package brokers

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
)

// Bus is what the desk needs of NATS; package natsmem has one in memory, for the simulator.
// Its methods are safe for concurrent use.
type Bus interface {
	Publisher
	PublishMsg(m *nats.Msg) error
	// Subscribe has hear called for each message to subject, one after the other, until
	// stop; of a group (if it is not "") one member hears it. Of more than room messages
	// that wait some may be lost; 0: as many as the connection sees fit.
	Subscribe(subject, group string, room int, hear nats.MsgHandler) (stop func() error, err error)
	// Flush returns when the server knows what was subscribed and has what was published,
	// at once while it is away.
	Flush(ctx context.Context, timeout time.Duration) error
}

// OnNATS is the Bus of a connection.
func OnNATS(nc *Conn) Bus { return natsBus{nc} }

// natsBus is a Bus over a NATS connection.
type natsBus struct{ *nats.Conn }

// pendingBytesMax bounds the bytes of messages that wait for one of the desk's callbacks.
const pendingBytesMax = 128 << 20

// Subscribe implements Bus.
func (b natsBus) Subscribe(subject, group string, room int, hear nats.MsgHandler) (stop func() error, err error) {
	sub, err := b.QueueSubscribe(subject, group, hear)
	if err != nil {
		return nil, err
	}
	if room > 0 {
		err = sub.SetPendingLimits(room, pendingBytesMax)
	}
	return sub.Unsubscribe, err
}

// Flush implements Bus. An external server that is down for now hears of everything when it
// is back.
func (b natsBus) Flush(ctx context.Context, timeout time.Duration) error {
	if !b.IsConnected() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := b.FlushWithContext(ctx); err != nil && b.IsConnected() {
		return err
	}
	return nil
}
