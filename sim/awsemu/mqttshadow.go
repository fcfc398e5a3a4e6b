package awsemu

import (
	"strings"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/shadow"
)

// shadowOperation says what a message to topic asks of which thing's classic shadow; name
// is empty if it is for no shadow.
func shadowOperation(topic string) (op cloudsync.Operation, name string) {
	name, rest, found := strings.Cut(strings.TrimPrefix(topic, "$aws/things/"), "/shadow/")
	if !found || !strings.HasPrefix(topic, "$aws/things/") {
		return fault.Publish, ""
	}
	if _, err := messages.ParseThingName(name); err != nil {
		return fault.Publish, ""
	}
	switch rest {
	case "get":
		return fault.GetShadow, name
	case "update":
		return fault.UpdateShadow, name
	case "delete":
		return fault.DeleteShadow, name
	}
	return fault.Publish, ""
}

// serveShadow answers one request for a shadow.
func (i *iotEndpoint) serveShadow(op cloudsync.Operation, name string, pk packets.Packet, f *Fault) {
	word := map[cloudsync.Operation]string{fault.GetShadow: "get", fault.UpdateShadow: "update", fault.DeleteShadow: "delete"}[op]
	at := i.e.now()
	var (
		answer  []byte
		refused *shadow.Error
	)
	switch {
	case f != nil && f.Status != 0:
		refused = shadow.Refuse(pk.Payload, f.Status, "injected fault")
	case op == fault.GetShadow:
		answer, refused = i.e.registry.GetShadow(name, pk.Payload, at)
	case op == fault.UpdateShadow:
		refused = i.e.registry.UpdateShadow(name, pk.Payload, at) // which publishes
	default:
		refused = i.e.registry.DeleteShadow(name, pk.Payload, at)
	}
	topic := shadowTopic(name, word+"/accepted")
	if refused != nil {
		answer, topic = refused.Payload(at), shadowTopic(name, word+"/rejected")
	}
	if answer == nil {
		return
	}
	if f != nil {
		answer = spoil(answer, f)
	}
	i.publish(topic, answer)
}
