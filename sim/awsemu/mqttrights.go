package awsemu

import (
	"strings"
	"sync"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// mqttRights is what the bearer of a connection's certificate may do, asked anew each
// time: a change of policy ends no connection.
type mqttRights struct {
	*authorizer
	clientID string

	mu     sync.Mutex
	asking map[string]bool // filters of the SUBSCRIBE that is under way; guarded by mu
}

func (e *Emulator) mqttRights(c *mqttConn, clientID string) *mqttRights {
	return &mqttRights{
		authorizer: e.authorizer(Bearer{Certificate: c.certificate, ClientID: clientID, Address: c.RemoteAddr().String()}),
		clientID:   clientID,
	}
}

// rightsOf are those of a client that has sent its CONNECT; nil are none.
func rightsOf(cl *mqtt.Client) *mqttRights {
	if c, ok := cl.Net.Conn.(*mqttConn); ok {
		return c.rights
	}
	return nil
}

// unknown says that there is no policy at all: AWS does not even answer (cloud spec 4.4).
func (r *mqttRights) unknown() bool {
	policies, _, active := r.inForce()
	return !active || len(policies) == 0
}

func (r *mqttRights) connect(pk packets.Packet) bool {
	will := pk.Connect
	return r.may("iot:Connect", clientARN(r.clientID)) && (!will.WillFlag || r.publish(will.WillTopic, will.WillRetain))
}

// publish: topics that begin with $ belong to the service, which takes requests for
// shadows, and messages for rules.
func (r *mqttRights) publish(topic string, retain bool) bool {
	_, _, shadow := shadowOperation(topic)
	if r == nil || strings.HasPrefix(topic, "$") && !shadow && !isBasicIngest(topic) {
		return false
	}
	return r.may("iot:Publish", topicARN(topic)) && (!retain || r.may("iot:RetainPublish", topicARN(topic)))
}

func (r *mqttRights) subscribe(filter string) bool {
	if r == nil || strings.HasPrefix(filter, "$") && !strings.HasPrefix(filter, "$aws/") && !strings.HasPrefix(filter, "$share/") {
		return false
	}
	return r.may("iot:Subscribe", filterARN(filter))
}

func (r *mqttRights) receive(topic string) bool {
	return r != nil && r.may("iot:Receive", topicARN(topic))
}

// ask notes the filters that mochi is about to ask OnACLCheck for, which it asks for
// messages, too, and by the same words.
func (r *mqttRights) ask(filters packets.Subscriptions) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking = map[string]bool{}
	for _, f := range filters {
		r.asking[f.Filter] = true
	}
}

func (r *mqttRights) asked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking = nil
}

// hears says whether mochi may go on with a filter, or a message. A message whose topic is
// just being subscribed to is judged once more when it is sent.
func (r *mqttRights) hears(topicOrFilter string) bool {
	if r == nil {
		return false
	}
	r.mu.Lock()
	asking := r.asking[topicOrFilter]
	r.mu.Unlock()
	return asking || r.receive(topicOrFilter)
}

// refuse ends a CONNECT: by hanging up, as AWS does, or in words if it is told to.
func (h *iotHook) refuse(cl *mqtt.Client) error {
	if h.i.e.cfg.ConnackUnauthorized {
		answer := packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Connack}, ReasonCode: packets.ErrNotAuthorized.Code}
		if cl.Properties.ProtocolVersion < 5 {
			answer.ReasonCode = packets.Err3NotAuthorized.Code
		}
		_ = cl.WritePacket(answer)
	}
	return packets.ErrNotAuthorized
}

// OnWill keeps back a last will that may not be published any more.
func (h *iotHook) OnWill(cl *mqtt.Client, will mqtt.Will) (mqtt.Will, error) {
	if !rightsOf(cl).publish(will.TopicName, will.Retain) {
		will.TopicName, will.Retain = "$"+refused, false // nobody has subscribed to that
	}
	return will, nil
}
