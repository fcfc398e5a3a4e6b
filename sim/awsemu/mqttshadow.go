package awsemu

import (
	"strings"

	"github.com/gatehouse-edge/gatehouse/cloudsync"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/fault"
	"github.com/gatehouse-edge/gatehouse/sim/awsemu/shadow"
)

// shadowOperation says what a message to topic asks of which shadow; ok is false if it is
// for none.
func shadowOperation(topic string) (op cloudsync.Operation, id ShadowID, ok bool) {
	below, found := strings.CutPrefix(topic, "$aws/things/")
	thing, rest, cut := strings.Cut(below, "/shadow/")
	if !found || !cut {
		return fault.Publish, ShadowID{}, false
	}
	id.Thing = thing
	if named, ok := strings.CutPrefix(rest, "name/"); ok {
		if id.Name, rest, ok = strings.Cut(named, "/"); !ok || id.Name == "" {
			return fault.Publish, ShadowID{}, false
		}
	}
	if op, ok = map[string]cloudsync.Operation{"get": fault.GetShadow, "update": fault.UpdateShadow, "delete": fault.DeleteShadow}[rest]; !ok || id.check() != nil {
		return fault.Publish, ShadowID{}, false
	}
	return op, id, true
}

// answerShadow answers one request for a shadow, by MQTT.
func (i *iotEndpoint) answerShadow(op cloudsync.Operation, id ShadowID, payload []byte, f *Fault) {
	word := map[cloudsync.Operation]string{fault.GetShadow: "get", fault.UpdateShadow: "update", fault.DeleteShadow: "delete"}[op]
	at := i.e.now()
	var (
		answer  []byte
		refused *shadow.Error
	)
	switch {
	case f != nil && f.Status != 0:
		refused = shadow.Refuse(payload, f.Status, "injected fault")
	case op == fault.GetShadow:
		answer, refused = i.e.registry.GetShadow(id, payload, at)
	case op == fault.UpdateShadow:
		_, refused = i.e.registry.UpdateShadow(id, payload, at) // which publishes
	default:
		_, refused = i.e.registry.DeleteShadow(id, payload, at)
	}
	topic := id.topic(word + "/accepted")
	if refused != nil {
		answer, topic = refused.Payload(at), id.topic(word+"/rejected")
	}
	if answer == nil {
		return
	}
	if f != nil {
		answer = spoil(answer, f)
	}
	i.publish(topic, answer)
}
