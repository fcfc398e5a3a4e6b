package awsemu

import (
	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// Bounds of AWS IoT's message broker (its quotas; the device SDKs check the same). Who goes
// beyond them is disconnected.
const (
	filtersMax       = 8  // of a SUBSCRIBE
	subscriptionsMax = 50 // of a connection
	keepAliveMin     = 30 // seconds
	keepAliveMax     = 1200
)

// keepAlive has AWS IoT's bounds in place of what a client asked for. MQTT 5 tells it.
func keepAlive(cl *mqtt.Client) {
	switch asked := cl.State.Keepalive; {
	case asked == 0 || asked > keepAliveMax:
		cl.State.Keepalive = keepAliveMax
	case asked < keepAliveMin:
		cl.State.Keepalive = keepAliveMin
	default:
		return
	}
	cl.State.ServerKeepalive = true
}

// OnPacketRead disconnects who publishes what it may not, or goes beyond what AWS IoT
// knows. Here, since mochi drops some of it without a word.
func (h *iotHook) OnPacketRead(cl *mqtt.Client, pk packets.Packet) (packets.Packet, error) {
	code := packets.CodeSuccess
	switch pk.FixedHeader.Type {
	case packets.Publish:
		code = judgePublish(cl, pk)
	case packets.Subscribe:
		code = judgeSubscribe(cl, pk)
	}
	if code == packets.CodeSuccess {
		return pk, nil
	}
	_ = h.i.server.DisconnectClient(cl, code)
	return pk, packets.ErrRejectPacket
}

func judgePublish(cl *mqtt.Client, pk packets.Packet) packets.Code {
	switch {
	case pk.FixedHeader.Qos > 1:
		return packets.ErrQosNotSupported
	case checkTopic(pk.TopicName) != "":
		return packets.ErrTopicNameInvalid
	case len(pk.Payload) > messageBytesMax:
		return packets.ErrPacketTooLarge
	case !rightsOf(cl).publish(pk.TopicName, pk.FixedHeader.Retain):
		return packets.ErrNotAuthorized
	}
	return packets.CodeSuccess
}

// judgeSubscribe: AWS IoT sends no SUBACK for QoS 2.
func judgeSubscribe(cl *mqtt.Client, pk packets.Packet) packets.Code {
	known := cl.State.Subscriptions.GetAll()
	for _, f := range pk.Filters {
		switch {
		case f.Qos > 1:
			return packets.ErrQosNotSupported
		case checkLevels(f.Filter) != "":
			return packets.ErrTopicFilterInvalid
		}
		known[f.Filter] = f
	}
	if len(pk.Filters) > filtersMax || len(known) > subscriptionsMax {
		return packets.ErrQuotaExceeded
	}
	return packets.CodeSuccess
}
