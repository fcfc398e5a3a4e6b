package mochi

import (
	"strings"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/actors/brokers/client"
)

// OnPacketRead marks publishes to names the broker does not accept, so that they get an
// answer: mochi would drop those to $SYS without one. Names that are malformed are left
// to mochi, which ends the connection.
func (h *hook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if pk.FixedHeader.Type != packets.Publish || pk.TopicName == "" {
		return pk, nil
	}
	code := h.b.cfg.Limits.checkTopic(pk.TopicName)
	if code != packets.CodeSuccess && !containsWildcard(pk.TopicName) {
		pk.TopicName = refusal(code)
	}
	return pk, nil
}

func containsWildcard(topic string) bool {
	for i := range len(topic) {
		if topic[i] == '+' || topic[i] == '#' {
			return true
		}
	}
	return false
}

// OnPublish decides about a publish. It answers refused ones itself: for any other error
// than ErrRejectPacket mochi would answer MQTT 5 clients, with a PUBACK whatever the QoS,
// and publish the messages of 3.1.1 clients.
func (h *hook) OnPublish(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	if cl.Net.Inline { // a Will that was judged when it fired
		return pk, nil
	}
	l := linkOf(cl)
	if l == nil {
		return pk, packets.ErrRejectPacket
	}
	code := h.judge(l, pk)
	if code == packets.CodeSuccess {
		pk.TopicName = strings.Clone(pk.TopicName) // who keeps it must not keep the whole packet it points into
		return pk, nil
	}
	h.b.cfg.Logger.Debug("publish refused", "client", cl.ID, "topic", shorten(pk.TopicName), "code", code.Reason)
	h.b.refusePublish(l, pk, code)
	return pk, packets.ErrRejectPacket
}

// judge returns success or the reason code of a PUBACK with which to refuse pk.
func (h *hook) judge(l *link, pk packets.Packet) packets.Code {
	if code, refused := refusalIn(pk.TopicName); refused {
		return packets.Code{Code: code, Reason: packets.ErrTopicNameInvalid.Reason}
	}
	switch l.session.Publish(pk.TopicName) {
	case client.Allowed:
	case client.Unavailable:
		return packets.ErrImplementationSpecificError
	default:
		return packets.ErrNotAuthorized
	}
	if pk.FixedHeader.Retain && len(pk.Payload) > 0 && !h.b.retained.room(l.cl.ID, pk.TopicName, sizeOf(pk.TopicName, pk.Payload, &pk.Properties)) {
		return packets.ErrQuotaExceeded
	}
	return packets.CodeSuccess
}

// refusePublish answers a publish that goes nowhere.
func (b *Broker) refusePublish(l *link, pk packets.Packet, code packets.Code) {
	if pk.FixedHeader.Qos == 0 {
		return
	}
	if l.cl.Properties.ProtocolVersion < 5 {
		// "It MUST either make a positive acknowledgement, according to the normal QoS
		// rules, or close the Network Connection" (3.1.1, 3.3.5). One that could not be
		// decided must not be acknowledged: the client would forget it.
		if b.cfg.DisconnectDenied || code.Code == packets.ErrImplementationSpecificError.Code {
			b.disconnect(l, code)
			return
		}
		code = packets.CodeSuccess
	}
	answer := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Puback},
		PacketID:    pk.PacketID,
		ReasonCode:  code.Code,
	}
	if pk.FixedHeader.Qos == 2 {
		answer.FixedHeader.Type = packets.Pubrec // 0x80 and above end the exchange: MQTT 5, 4.3.3
	}
	if code.Code >= packets.ErrUnspecifiedError.Code {
		answer.Properties.ReasonString = code.Reason
	}
	_ = l.cl.WritePacket(answer) // fails if the client is gone, and then nobody waits
}
