package mochi

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
)

// A link ties a connection to its session at Gatehouse. It outlives the connection where
// the MQTT session does: messages are queued by it.
type link struct {
	b       *Broker
	cl      *mqtt.Client
	conn    *conn
	session *client.Session
	since   time.Time

	will         mqtt.Will     // as the CONNECT had it; mochi forgets it when it is not to be sent, and at times when it is
	willDelay    time.Duration // of will
	turn         bool          // the connection's goroutine holds the client id's turn
	established  atomic.Bool   // mochi knows the client and has answered its CONNECT
	disconnected atomic.Bool   // mochi has said goodbye
	kicked       atomic.Bool   // Gatehouse ended the session: nothing of it may stay
	offline      atomic.Bool   // the MQTT session goes on without a connection

	window  *window
	view    atomic.Pointer[view]
	blind   atomic.Int64                        // until then nobody waits for permissions, in nanoseconds since 1970
	pending atomic.Pointer[map[string]struct{}] // authorised filters of the SUBSCRIBE in progress

	mu      sync.Mutex
	filters map[string]struct{} // authorised subscriptions, as the client wrote them
	changes uint64              // how often filters were judged again
}

func newLink(b *Broker, cl *mqtt.Client, c *conn, s *client.Session) *link {
	l := &link{b: b, cl: cl, conn: c, session: s, since: b.cfg.Now(), filters: make(map[string]struct{})}
	l.window = newWindow(cl.Properties.Props.ReceiveMaximum, b.cfg.Limits.Queued)
	l.view.Store(newView(0, nil))
	return l
}

// linkOf returns the link of cl, or nil if its CONNECT was not accepted.
func linkOf(cl *mqtt.Client) *link {
	if c, ok := cl.Net.Conn.(*conn); ok {
		return c.link.Load()
	}
	return nil
}

// delivers reports whether a message on topic may go to the client. It is asked for each
// subscriber of each message.
func (l *link) delivers(topic string) bool {
	switch v := l.view.Load(); {
	case l.kicked.Load():
		return false
	case l.offline.Load():
		// Into the queue only. All of it is judged when the client comes back, before it
		// gets anything.
		return v.covers(topic)
	case l.session.Current(v.version):
		return v.covers(topic)
	case !v.covers(topic):
		return false // judging again never adds filters
	}
	// Where waiting was of no use a moment ago, the next messages do not wait: one that
	// cannot be judged must not hold up its publisher again and again.
	now := l.b.cfg.Now().UnixNano()
	if now < l.blind.Load() {
		return false
	}
	if !l.revalidate() {
		l.blind.Store(now + int64(2*l.b.cfg.Limits.DeliveryWait))
		return false
	}
	return l.view.Load().covers(topic)
}

// revalidate judges the client's subscriptions again if they have not been under the
// permissions now in force. It waits for those a little, and reports whether all is well.
func (l *link) revalidate() bool {
	ctx, cancel := context.WithTimeout(context.Background(), l.b.cfg.Limits.DeliveryWait)
	defer cancel()
	for ctx.Err() == nil {
		version, err := l.session.Await(ctx)
		if err != nil {
			return false
		}
		if judged, current := l.judge(version); !judged || current {
			return judged
		}
	}
	return false
}

// judge judges the subscriptions under the permissions of version. It reports whether all
// could be, and whether those permissions are still in force.
func (l *link) judge(version uint64) (judged, current bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.view.Load().version == version {
		return true, true
	}
	l.changes++
	var refused []string
	for f := range l.filters {
		switch l.session.Subscribe(f) {
		case client.Allowed:
		case client.Denied:
			refused = append(refused, f)
		default:
			return false, false // nothing is known, so nothing is taken away
		}
	}
	if !l.session.Current(version) {
		return true, false
	}
	for _, f := range refused {
		l.remove(f)
	}
	v := newView(version, l.filters)
	l.view.Store(v)
	if len(refused) > 0 {
		l.b.purge(l.cl, v)
		l.b.cfg.Logger.Info("subscriptions ended by a change of policy", "client", l.cl.ID, "filters", refused)
	}
	return true, true
}

// permissionsChanged follows up on new permissions: subscriptions and retained messages
// they do not cover any more.
func (l *link) permissionsChanged() {
	l.blind.Store(0)
	l.revalidate()
	l.b.retained.judge(l)
}

// authorize decides about filter and, if it is allowed, lets messages through it. The
// answer is a SUBACK reason code of MQTT 5; success stands for any granted QoS.
func (l *link) authorize(filter string) packets.Code {
	if code := l.b.cfg.Limits.checkFilter(filter); code != packets.CodeSuccess {
		return code
	}
	const attempts = 3
	for range attempts {
		l.mu.Lock()
		changes := l.changes
		l.mu.Unlock()
		switch l.session.Subscribe(filter) {
		case client.Allowed:
		case client.Unavailable:
			return packets.ErrImplementationSpecificError
		default:
			l.withdraw(filter)
			return packets.ErrNotAuthorized
		}
		l.mu.Lock()
		switch _, known := l.filters[filter]; {
		case l.changes != changes: // the permissions changed under the decision
			l.mu.Unlock()
			continue
		case !known && len(l.filters) >= l.b.cfg.Limits.Subscriptions:
			l.mu.Unlock()
			return packets.ErrQuotaExceeded
		}
		l.filters[filter] = struct{}{}
		l.view.Store(newView(l.view.Load().version, l.filters))
		l.mu.Unlock()
		return packets.CodeSuccess
	}
	return packets.ErrImplementationSpecificError
}

// withdraw ends the subscription filter, if there is one.
func (l *link) withdraw(filter string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.filters[filter]; !ok {
		return
	}
	l.remove(filter)
	v := newView(l.view.Load().version, l.filters)
	l.view.Store(v)
	l.b.purge(l.cl, v)
}

// remove takes filter away, here and from mochi's index. l.mu is held; the caller
// replaces the view.
func (l *link) remove(filter string) {
	delete(l.filters, filter)
	l.b.unsubscribe(l.cl, filter)
}

// has reports whether filter is authorised.
func (l *link) has(filter string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.filters[filter]
	return ok
}

// restrict lets messages through the filters given only.
func (l *link) restrict(filters map[string]struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.changes++
	l.filters = maps.Clone(filters)
	l.view.Store(newView(l.view.Load().version, l.filters))
}

func (l *link) info() ClientInfo {
	l.mu.Lock()
	filters := slices.Sorted(maps.Keys(l.filters))
	l.mu.Unlock()
	version := "5"
	if l.cl.Properties.ProtocolVersion < 5 {
		version = "3.1.1"
	}
	return ClientInfo{
		ClientID: l.session.ClientID(), Thing: l.session.Thing(), CertificateID: l.session.CertificateID(),
		DecisionID: l.session.DecisionID(), Remote: l.cl.Net.Remote, Version: version, Since: l.since, Subscriptions: filters,
	}
}

// endTurn ends the client id's turn if the connection has it.
func (l *link) endTurn() {
	if l.turn {
		l.turn = false
		l.b.turns.end(l.cl.ID)
	}
}

// unsubscribe removes a subscription from mochi's index, unless the client id is
// another connection's by now.
func (b *Broker) unsubscribe(cl *mqtt.Client, filter string) {
	if present, ok := b.server.Clients.Get(cl.ID); ok && present == cl {
		if _, existed := cl.State.Subscriptions.Get(filter); existed && b.server.Topics.Unsubscribe(filter, cl.ID) {
			atomic.AddInt64(&b.server.Info.Subscriptions, -1)
		}
	}
	cl.State.Subscriptions.Delete(filter)
}

// purge drops the messages queued for cl that v does not cover: mochi sends them later
// without asking (reliability spec 1.3, "revoked but still subscribed").
func (b *Broker) purge(cl *mqtt.Client, v *view) {
	for _, pk := range cl.State.Inflight.GetAll(false) {
		if pk.FixedHeader.Type != packets.Publish || v.covers(pk.TopicName) {
			continue
		}
		b.discard(cl, pk.PacketID)
		if l := linkOf(cl); l != nil {
			l.settled(pk.PacketID)
		}
	}
}
