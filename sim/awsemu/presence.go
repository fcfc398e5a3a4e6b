package awsemu

import (
	"errors"
	"net"
	"os"
	"strings"
	"sync/atomic"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Lifecycle events: who connects, subscribes and goes, as AWS IoT publishes it (developer
// guide, "Lifecycle events"). Faults do not strike them, so that a script counts what was
// asked for.

// lifecycle is what all of them say.
type lifecycle struct {
	ClientID    string                 `json:"clientId"`
	TimestampMs int64                  `json:"timestamp"`
	Event       string                 `json:"eventType"`
	Session     string                 `json:"sessionIdentifier"`
	Principal   messages.CertificateID `json:"principalIdentifier"`
	*presence
	Topics []string `json:"topics,omitempty"` // of subscriptions
}

// presence is what those on connections say, too.
type presence struct {
	Address string `json:"ipAddress"`
	Version int64  `json:"versionNumber"` // grows from one connection to the next
	*departure
}

// departure is what the end of a connection says, too.
type departure struct {
	ByClient bool   `json:"clientInitiatedDisconnect"`
	Reason   string `json:"disconnectReason"`
}

// presenceState is a connection's part in its events.
type presenceState struct {
	session string
	version int64
	dropped atomic.Bool  // by the service
	said    atomic.Int32 // the code of the DISCONNECT that it was sent, which mochi may forget
}

// tell publishes an event. AWS tells of no client whose id would make the topic a filter.
func (h *iotHook) tell(cl *mqtt.Client, topic string, event lifecycle) {
	c, ok := cl.Net.Conn.(*mqttConn)
	if !ok || strings.ContainsAny(cl.ID, "+#/") {
		return
	}
	event.ClientID, event.TimestampMs, event.Session, event.Principal = cl.ID, h.i.e.now().UnixMilli(), c.presence.session, c.certificate
	h.i.say("$aws/events/"+topic+"/"+event.Event+"/"+cl.ID, encodeJSON(event))
}

func (h *iotHook) tellConnected(cl *mqtt.Client, c *mqttConn) {
	c.presence.session, c.presence.version = requestID(), h.i.connections.Add(1)
	h.tell(cl, "presence", lifecycle{Event: "connected", presence: c.about(nil)})
}

func (h *iotHook) tellDisconnected(cl *mqtt.Client, c *mqttConn, err error) {
	if c.presence.session == "" {
		return // it never was connected
	}
	reason := reasonOf(cl, c, err)
	h.tell(cl, "presence", lifecycle{Event: "disconnected", presence: c.about(&departure{reason == byClient, reason})})
}

func (c *mqttConn) about(end *departure) *presence {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return &presence{host, c.presence.version, end}
}

func (h *iotHook) tellSubscriptions(cl *mqtt.Client, event string, filters packets.Subscriptions) {
	var topics []string
	for _, f := range filters {
		if f.Filter != refused {
			topics = append(topics, f.Filter)
		}
	}
	if len(topics) > 0 {
		h.tell(cl, "subscriptions", lifecycle{Event: event, Topics: topics})
	}
}

const byClient = "CLIENT_INITIATED_DISCONNECT"

// reasonOf is why a connection ended, in AWS's words.
func reasonOf(cl *mqtt.Client, c *mqttConn, err error) string {
	code := byte(c.presence.said.Load())
	if cause, ok := cl.StopCause().(packets.Code); ok && code == 0 {
		if cause.Code == packets.CodeDisconnect.Code {
			return byClient
		}
		code = cause.Code
	}
	switch {
	case c.presence.dropped.Load() || code == packets.ErrAdministrativeAction.Code || code == packets.ErrServerShuttingDown.Code:
		return "SERVER_INITIATED_DISCONNECT"
	case code == packets.ErrSessionTakenOver.Code:
		return "DUPLICATE_CLIENTID"
	case code == packets.ErrNotAuthorized.Code:
		return "AUTH_ERROR"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "MQTT_KEEP_ALIVE_TIMEOUT"
	case code >= packets.ErrUnspecifiedError.Code:
		return "CLIENT_ERROR"
	}
	return "CONNECTION_LOST"
}

// OnUnsubscribed tells of what a client asked for, not of what ends with its session.
func (h *iotHook) OnUnsubscribed(cl *mqtt.Client, pk packets.Packet) {
	if !cl.Net.Inline && !cl.Closed() {
		h.tellSubscriptions(cl, "unsubscribed", pk.Filters)
	}
}
