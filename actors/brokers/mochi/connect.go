package mochi

import (
	"context"
	"errors"
	"fmt"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
)

// OnConnect judges a CONNECT. mochi has a hook that only authenticates, but that one
// cannot say which reason code the client gets.
func (h *hook) OnConnect(cl *mqtt.Client, pk packets.Packet) error {
	c, ok := cl.Net.Conn.(*conn)
	if !ok {
		return packets.ErrNotAuthorized // not from our listener
	}
	ctx, cancel := context.WithTimeout(context.Background(), h.b.cfg.Limits.ConnectTimeout)
	defer cancel()
	l, code, err := h.b.admit(ctx, cl, c, pk)
	if code != packets.CodeSuccess {
		h.b.refused.tell(h.b.cfg.Logger, h.b.cfg.Now(), "client", shorten(cl.ID), "remote", cl.Net.Remote, "code", fmt.Sprintf("%#02x", code.Code), "err", err)
		answer := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: code.Code}
		if cl.Properties.ProtocolVersion < 5 {
			answer.ReasonCode = connackV3(code)
		} else if code.Code != packets.ErrNotAuthorized.Code {
			answer.Properties.ReasonString = code.Reason
		}
		_ = cl.WritePacket(answer) // the connection is closed either way
		return code
	}
	c.admitted()
	h.b.cfg.Logger.Debug("connected", "client", cl.ID, "remote", cl.Net.Remote, "decision", l.session.DecisionID())
	return nil
}

// connackV3 returns the return code of MQTT 3.1.1 (3.2.2.3) that comes closest to code.
func connackV3(code packets.Code) byte {
	switch code.Code {
	case packets.ErrClientIdentifierNotValid.Code:
		return packets.Err3ClientIdentifierNotValid.Code
	case packets.ErrServerUnavailable.Code, packets.ErrServerBusy.Code:
		return packets.Err3ServerUnavailable.Code
	default:
		return packets.Err3NotAuthorized.Code
	}
}

// admit opens the session of a CONNECT, or says with which reason code to refuse it.
func (b *Broker) admit(ctx context.Context, cl *mqtt.Client, c *conn, pk packets.Packet) (*link, packets.Code, error) {
	switch {
	case pk.Connect.ClientIdentifier == "":
		// A client id of our making (MQTT 5, 3.1.3.1) is nobody's.
		return nil, packets.ErrClientIdentifierNotValid, errors.New("no client id")
	case pk.Properties.AuthenticationMethod != "":
		return nil, packets.ErrBadAuthenticationMethod, errors.New("extended authentication is not supported")
	}
	if b.connected.Add(1) > int64(b.cfg.Limits.Clients) {
		b.connected.Add(-1)
		return nil, packets.ErrServerBusy, fmt.Errorf("%d clients are connected", b.cfg.Limits.Clients)
	}
	l, code, err := b.open(ctx, cl, c, pk)
	if code != packets.CodeSuccess {
		b.connected.Add(-1)
	}
	return l, code, err
}

func (b *Broker) open(ctx context.Context, cl *mqtt.Client, c *conn, pk packets.Packet) (*link, packets.Code, error) {
	session, err := b.cfg.Client.Authenticate(ctx, cl.ID, c.leaf)
	switch {
	case errors.Is(err, client.ErrBusy):
		return nil, packets.ErrServerBusy, err
	case errors.Is(err, client.ErrPending): // 3.1.1 clients are told "unavailable", too: not a no for good
		return nil, packets.Code{
			Code:   packets.ErrServerUnavailable.Code,
			Reason: fmt.Sprintf("the device is being registered: come again in %s", client.RetryAfter(err).Round(time.Second)),
		}, err
	case errors.Is(err, client.ErrDenied):
		return nil, packets.ErrNotAuthorized, err
	case err != nil:
		return nil, packets.ErrServerUnavailable, err
	}
	if len(c.leaf) == 0 { // it was asked for the record of the refusal only
		session.Close()
		return nil, packets.ErrNotAuthorized, errors.New("no certificate, whatever Gatehouse says")
	}
	l := newLink(b, cl, c, session)
	code := b.judgeWill(l, pk)
	if code == packets.CodeSuccess {
		if err = b.turns.take(ctx, cl.ID); err != nil {
			code = packets.ErrServerBusy
		} else {
			l.turn = true
			code = b.inherit(l, pk.Connect.Clean)
		}
	}
	if _, over := session.Ended(); over {
		code = packets.ErrNotAuthorized
	}
	if code != packets.CodeSuccess {
		l.endTurn()
		session.Close()
		return nil, code, err
	}
	b.prepare(cl)
	b.mu.Lock()
	b.links[l] = struct{}{}
	b.mu.Unlock()
	c.link.Store(l)
	session.OnChanged(l.permissionsChanged)
	session.OnClosed(func(e client.Ending) { b.sessionEnded(l, e) })
	return l, packets.CodeSuccess, nil
}

// prepare sets what mochi took from the CONNECT to what the broker is ready to do.
func (b *Broker) prepare(cl *mqtt.Client) {
	// With outgoing aliases the topic of a packet could not be told when it leaves.
	cl.Properties.Props.TopicAliasMaximum = 0
	cl.State.Inflight.ResetSendQuota(0) // the link's window holds back messages
	longest := uint16(b.cfg.Limits.KeepAlive / time.Second)
	switch asked := cl.State.Keepalive; {
	case asked != 0 && asked <= longest:
	case cl.Properties.ProtocolVersion >= 5:
		cl.State.Keepalive, cl.State.ServerKeepalive = longest, true // MQTT 5, 3.2.2.3.14
	default:
		cl.State.Keepalive = 0 // 3.1.1 clients cannot be told: TCP's own keep alive remains
	}
}

// judgeWill decides about the Will of a CONNECT; it is judged again when it fires.
func (b *Broker) judgeWill(l *link, pk packets.Packet) packets.Code {
	if !pk.Connect.WillFlag {
		return packets.CodeSuccess
	}
	if code := b.cfg.Limits.checkTopic(pk.Connect.WillTopic); code != packets.CodeSuccess {
		return code
	}
	return connackFor(l.session.Publish(pk.Connect.WillTopic))
}

// inherit judges the subscriptions of the session that the client is about to take over,
// if it asks for that, and drops those refused with what is queued for them.
func (b *Broker) inherit(l *link, clean bool) packets.Code {
	existing, ok := b.server.Clients.Get(l.cl.ID)
	if ok {
		if old := linkOf(existing); old != nil {
			if old.kicked.Load() && old.offline.Load() {
				b.cleanUp(old, true) // we have the turn, and sessionEnded still waits for it
				return packets.CodeSuccess
			}
			old.conn.socket.hurry(farewell) // it is about to be disconnected, while we wait
		}
	}
	if !ok || clean || (existing.Properties.Clean && existing.Properties.ProtocolVersion < 5) {
		return packets.CodeSuccess
	}
	var refused []string
	for f := range existing.State.Subscriptions.GetAll() {
		switch d := l.session.Subscribe(f); d {
		case client.Allowed:
			l.filters[f] = struct{}{} // l is not shared yet
		case client.Denied:
			refused = append(refused, f)
		default: // undecided: the session is kept for when it can be judged
			return connackFor(d)
		}
	}
	for _, f := range refused {
		b.unsubscribe(existing, f)
	}
	l.view.Store(newView(0, l.filters))
	if old := linkOf(existing); old != nil {
		old.restrict(l.filters)
	}
	b.purge(existing, l.view.Load())
	return packets.CodeSuccess
}

func connackFor(d client.Decision) packets.Code {
	switch d {
	case client.Allowed:
		return packets.CodeSuccess
	case client.Unavailable:
		return packets.ErrServerUnavailable
	default:
		return packets.ErrNotAuthorized
	}
}

// OnConnectAuthenticate lets through what OnConnect admitted.
func (h *hook) OnConnectAuthenticate(cl *mqtt.Client, _ packets.Packet) bool {
	return linkOf(cl) != nil
}

// OnSessionEstablish looks again at the queue of the session that is about to be taken
// over: something may have been added since.
func (h *hook) OnSessionEstablish(cl *mqtt.Client, pk packets.Packet) {
	l := linkOf(cl)
	if existing, ok := h.b.server.Clients.Get(cl.ID); ok && l != nil && !pk.Connect.Clean {
		h.b.purge(existing, l.view.Load())
	}
}

// OnSessionEstablished settles a Will that still waits from an earlier connection: it is
// not sent if the session goes on, and sent now if that has just ended (MQTT 5, 3.1.3.2.2).
func (h *hook) OnSessionEstablished(cl *mqtt.Client, pk packets.Packet) {
	if l := linkOf(cl); l != nil { // before the goroutine that reads from the client goes on
		l.will, l.willDelay = cl.Properties.Will, time.Duration(cl.Properties.Will.WillDelayInterval)*time.Second
	}
	h.b.wills.settle(cl.ID, pk.Connect.Clean)
}

// OnDisconnect ends a connection's part in its MQTT session.
func (h *hook) OnDisconnect(cl *mqtt.Client, err error, expire bool) {
	l := linkOf(cl)
	if l == nil {
		return
	}
	// mochi drops the Will when it finds the connection closed between two packets, also
	// when it was not the client who said goodbye (MQTT 5, 3.1.2.5).
	if err == nil && !errors.Is(cl.StopCause(), packets.CodeDisconnect) {
		h.b.wills.due(l)
	}
	// A connection that is taking over has the turn: when it ends, mochi knows that this
	// one has been taken over, and does not clean up after it. The turn is kept until
	// mochi is through.
	if !l.turn && h.b.turns.take(context.Background(), cl.ID) == nil {
		l.turn = true
	}
	l.disconnected.Store(true)
	l.offline.Store(!expire) // before the look at kicked: sessionEnded does it the other way round
	h.b.cleanUp(l, l.kicked.Load())
}

// cleanUp ends the MQTT session of l, if drop says so and it is still l's. The caller has
// the client id's turn.
func (b *Broker) cleanUp(l *link, drop bool) {
	if present, ok := b.server.Clients.Get(l.cl.ID); !drop || !ok || present != l.cl {
		return
	}
	b.server.UnsubscribeClient(l.cl)
	l.cl.ClearInflights()
	b.server.Clients.Delete(l.cl.ID)
}

// sessionEnded disconnects a client whose session Gatehouse ended.
func (b *Broker) sessionEnded(l *link, e client.Ending) {
	if e.Cause != client.ByGatehouse {
		return
	}
	l.kicked.Store(true)
	b.wills.cancel(l)
	b.retained.drop(l.cl.ID)
	b.cfg.Logger.Info("client disconnected by Gatehouse", "client", l.cl.ID, "reason", e.Reason)
	b.disconnect(l, packets.ErrAdministrativeAction)
	if l.offline.Load() {
		b.forget(l)
	}
}

// forget ends the MQTT session of a client that has no connection any more whose end
// would. It does not wait for the turn: pushes are behind the caller.
func (b *Broker) forget(l *link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.serving.Go(func() {
		if b.turns.take(context.Background(), l.cl.ID) == nil {
			b.cleanUp(l, true)
			b.turns.end(l.cl.ID)
		}
	})
}

// shorten bounds what a stranger can put into a log line.
func shorten(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
