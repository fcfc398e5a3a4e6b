package mochi

import (
	"slices"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// A hook is what mochi calls at each step. Its methods run on the goroutine of the
// connection concerned, but for OnACLCheck with write false and OnPacketEncode, which
// run on that of whoever publishes.
type hook struct {
	mqtt.HookBase
	b *Broker
}

var provided = []byte{
	mqtt.OnConnect, mqtt.OnConnectAuthenticate, mqtt.OnSessionEstablish, mqtt.OnSessionEstablished, mqtt.OnDisconnect,
	mqtt.OnACLCheck, mqtt.OnPacketRead, mqtt.OnPacketEncode, mqtt.OnPublish, mqtt.OnAuthPacket,
	mqtt.OnSubscribe, mqtt.OnSubscribed, mqtt.OnUnsubscribed, mqtt.OnWill,
	mqtt.OnQosComplete, mqtt.OnQosDropped,
	mqtt.OnRetainMessage, mqtt.OnRetainedExpired, mqtt.OnClientExpired,
}

// ID names the hook.
func (h *hook) ID() string { return "gatehouse" }

// Provides tells mochi which methods to call.
func (h *hook) Provides(b byte) bool { return slices.Contains(provided, b) }

// refusal is a topic or filter that stands for a refusal with a reason code: mochi has no
// other way to carry one from the place where a packet is judged to the place where it is
// answered. No client can send it: NUL is malformed (MQTT 5, 1.5.4).
func refusal(code packets.Code) string { return string([]byte{0, code.Code}) }

// refusalIn returns the reason code that refusal put into s.
func refusalIn(s string) (code byte, ok bool) {
	if len(s) == 2 && s[0] == 0 {
		return s[1], true
	}
	return 0, false
}

// OnACLCheck decides about deliveries. Publishes are decided in OnPublish, which can
// answer with a reason and knows the QoS; subscribes in OnSubscribe. For those, mochi
// asks here again and learns what was decided.
func (h *hook) OnACLCheck(cl *mqtt.Client, topic string, write bool) bool {
	l := linkOf(cl)
	if l == nil {
		return false
	}
	if write {
		return true
	}
	if _, refused := refusalIn(topic); refused {
		return false
	}
	if pending := l.pending.Load(); pending != nil {
		if _, ok := (*pending)[topic]; ok {
			return true
		}
	}
	return l.delivers(topic)
}

// OnPacketEncode has the last look at each packet that leaves.
func (h *hook) OnPacketEncode(cl *mqtt.Client, pk packets.Packet) packets.Packet {
	switch pk.FixedHeader.Type {
	case packets.Publish:
		l := linkOf(cl)
		switch {
		case l == nil || !l.delivers(pk.TopicName):
			return unsent()
		case pk.FixedHeader.Qos == 0:
		case !fits(cl, pk):
			h.b.discard(cl, pk.PacketID)
			return unsent()
		case !l.window.enter(pk.PacketID, pk.FixedHeader.Dup):
			return unsent() // until it is its turn
		}
	case packets.Disconnect:
		if cl.Properties.ProtocolVersion < 5 { // only clients send it (3.1.1, 3.14)
			return unsent()
		}
	case packets.Connack:
		if pk.ReasonCode != packets.CodeSuccess.Code {
			return pk
		}
		pk.Properties.MaximumPacketSize = uint32(h.b.cfg.Limits.PacketBytes)
		cl.State.Inflight.ResetSendQuota(0) // again: they may be an earlier connection's
		if l := linkOf(cl); l != nil {      // mochi has the client in its map by now
			l.established.Store(true)
			l.endTurn()
		}
	}
	return pk
}

// OnAuthPacket refuses re-authentication: CONNECT with a method was refused already.
func (h *hook) OnAuthPacket(_ *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	return pk, packets.ErrBadAuthenticationMethod
}

// OnClientExpired removes the subscriptions of a session that ended while its client was
// away; mochi forgets them, and they would swallow messages of shared subscriptions.
func (h *hook) OnClientExpired(cl *mqtt.Client) {
	h.b.server.UnsubscribeClient(cl)
	cl.ClearInflights()
}
