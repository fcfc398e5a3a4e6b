package brokers

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/messages/authapi"
)

// Publisher sends a message and does not wait for it to arrive; *nats.Conn is one.
type Publisher interface {
	Publish(subject string, data []byte) error
}

// PusherConfig is what a pusher needs to know; Conn, Epoch and Log are required.
type PusherConfig struct {
	Conn  Publisher
	Epoch string // names this run of the daemon: never used before
	Log   *slog.Logger
}

// Pusher tells brokers what has changed. The pushes to one broker are numbered without
// gaps and sent in the order of their numbers; a push that cannot be sent uses up its
// number, so that the broker sees that it missed one. Each broker has its own lock and
// its own numbers: nothing waits for another broker, and a push is handed to the
// connection before its method returns, so what restricts is behind nothing. Its methods
// may be called from several goroutines at once.
type Pusher struct {
	cfg     PusherConfig
	mu      sync.RWMutex
	brokers []*pushLine // by name, so that pushes to all leave in one order; guarded by mu
}

// pushLine is the pushes to one broker.
type pushLine struct {
	broker messages.BrokerID
	mu     sync.Mutex
	last   uint64 // guarded by mu: the number of the last push
}

// NewPusher returns a pusher that knows no broker yet.
func NewPusher(cfg PusherConfig) (*Pusher, error) {
	if cfg.Conn == nil || cfg.Epoch == "" || cfg.Log == nil {
		return nil, errors.New("pusher: Conn, Epoch and Log are required")
	}
	return &Pusher{cfg: cfg}, nil
}

// AddBroker gives broker heartbeats and policy changes from now on. Adding it twice
// changes nothing.
func (p *Pusher) AddBroker(broker messages.BrokerID) { p.line(broker) }

func (p *Pusher) line(broker messages.BrokerID) *pushLine {
	p.mu.RLock()
	i, found := p.find(broker)
	var l *pushLine
	if found {
		l = p.brokers[i]
	}
	p.mu.RUnlock()
	if found {
		return l
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, found = p.find(broker); !found {
		p.brokers = slices.Insert(slices.Clone(p.brokers), i, &pushLine{broker: broker})
	}
	return p.brokers[i]
}

// find returns the place of broker's line, or where it belongs. mu is held.
func (p *Pusher) find(broker messages.BrokerID) (i int, found bool) {
	return slices.BinarySearchFunc(p.brokers, broker, func(l *pushLine, b messages.BrokerID) int { return cmp.Compare(l.broker, b) })
}

func (p *Pusher) lines() []*pushLine {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.brokers // which is never changed, but replaced
}

// Closed is a session that has ended.
type Closed struct {
	Token         messages.TokenDigest
	Thing         messages.ThingName
	CertificateID messages.CertificateID
	Reason        string // for people
}

// SessionClosed tells broker that one of its sessions has ended.
func (p *Pusher) SessionClosed(broker messages.BrokerID, c Closed) {
	p.send(p.line(broker), authapi.PushSessionClosed, func(s authapi.Stamp) any {
		return authapi.SessionClosed{
			Stamp: s, TokenDigest: c.Token.String(), Thing: string(c.Thing), CertificateID: string(c.CertificateID), Reason: c.Reason,
		}
	})
}

// PolicyChanged tells all brokers that the policy of revision is in force.
func (p *Pusher) PolicyChanged(revision uint64) {
	for _, l := range p.lines() {
		p.send(l, authapi.PushPolicyChanged, func(s authapi.Stamp) any {
			return authapi.PolicyChanged{Stamp: s, PolicyRevision: revision}
		})
	}
}

// CertificateUpdated brings broker a certificate.
func (p *Pusher) CertificateUpdated(broker messages.BrokerID, update authapi.CertificateUpdate) {
	p.send(p.line(broker), authapi.PushCertificateUpdated, func(s authapi.Stamp) any {
		return authapi.CertificateUpdated{Stamp: s, CertificateUpdate: update}
	})
}

// RemoveBroker ends what broker is sent.
func (p *Pusher) RemoveBroker(broker messages.BrokerID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i, found := p.find(broker); found {
		p.brokers = slices.Delete(slices.Clone(p.brokers), i, i+1)
	}
}

// send numbers a push and sends it.
func (p *Pusher) send(l *pushLine, push authapi.Push, message func(authapi.Stamp) any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last++
	p.publish(l, push, message(authapi.Stamp{Epoch: p.cfg.Epoch, Seq: l.last}))
}

// Beat sends every broker one heartbeat.
func (p *Pusher) Beat() {
	for _, l := range p.lines() {
		l.mu.Lock()
		p.publish(l, authapi.PushHeartbeat, authapi.Heartbeat{Stamp: authapi.Stamp{Epoch: p.cfg.Epoch, Seq: l.last}})
		l.mu.Unlock()
	}
}

// publish runs with l.mu held, so that the order of sending is that of the numbers.
func (p *Pusher) publish(l *pushLine, push authapi.Push, message any) {
	body, err := authapi.Encode(message)
	if err == nil {
		err = p.cfg.Conn.Publish(authapi.PushSubject(l.broker, push), body)
	}
	if err != nil {
		p.cfg.Log.Warn("push not sent", "broker", l.broker, "push", push, "seq", l.last, "error", err)
	}
}

// Run sends heartbeats at every tick until ctx ends. The ticks should come every
// authapi.HeartbeatInterval.
func (p *Pusher) Run(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			p.Beat()
		}
	}
}
