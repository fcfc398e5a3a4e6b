package awsemu

import (
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	mqtt "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// MQTT connections over HTTPS (AWS IoT's GetConnection, DeleteConnection and
// ListSubscriptions).

// clientOf finds the client that the path names, connected or with a session.
func (e *Emulator) clientOf(c *call) (*mqtt.Client, *apiError) {
	id := c.parameters[0]
	if strings.HasPrefix(id, "$") || len(id) > clientIDBytesMax {
		return nil, badRequest("Invalid client ID")
	}
	cl, ok := e.mqtt.server.Clients.Get(id)
	if !ok || cl.Net.Inline {
		return nil, noResource("Client not found")
	}
	return cl, nil
}

type connection struct {
	ClientID     string `json:"clientId"`
	Connected    bool   `json:"connected"`
	Clean        bool   `json:"cleanSession"`
	KeepAlive    uint16 `json:"keepAliveDuration"`
	Expiry       int64  `json:"sessionExpiry,omitempty"`
	Since        int64  `json:"connectedSince,omitempty"`    // milliseconds
	Disconnected int64  `json:"disconnectedSince,omitempty"` // milliseconds
	Reason       string `json:"disconnectReason,omitempty"`
	Thing        string `json:"thingName,omitempty"`
	SourceIP     string `json:"sourceIp,omitempty"`
	SourcePort   int    `json:"sourcePort,omitempty"`
	TargetIP     string `json:"targetIp,omitempty"`
	TargetPort   int    `json:"targetPort,omitempty"`
}

func (e *Emulator) getConnection(c *call) (any, *apiError) {
	sockets, refused := c.flag("includeSocketInformation")
	if refused != nil {
		return nil, refused
	}
	cl, refused := e.clientOf(c)
	if refused != nil {
		return nil, refused
	}
	answer := connection{ClientID: cl.ID, Connected: !cl.Closed(), Clean: cl.Properties.Clean, KeepAlive: cl.State.Keepalive}
	if !answer.Clean {
		answer.Expiry = mqttSessionSeconds
	}
	conn, ok := cl.Net.Conn.(*mqttConn)
	if !ok {
		return answer, nil
	}
	if name := messages.ThingName(cl.ID); e.registry.Attached(name, conn.certificate) {
		answer.Thing = cl.ID
	}
	if !answer.Connected {
		answer.Disconnected, answer.Reason = milliseconds(time.Unix(cl.StopTime(), 0)), "CONNECTION_LOST"
		return answer, nil
	}
	answer.Since = milliseconds(conn.since)
	if sockets {
		answer.SourceIP, answer.SourcePort = hostAndPort(conn.RemoteAddr())
		answer.TargetIP, answer.TargetPort = hostAndPort(conn.LocalAddr())
	}
	return answer, nil
}

func hostAndPort(addr net.Addr) (string, int) {
	host, text, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "", 0
	}
	port, _ := strconv.Atoi(text) // the system wrote it
	return host, port
}

func (e *Emulator) deleteConnection(c *call) (any, *apiError) {
	var clean, quiet bool
	if refused := c.flags(map[string]*bool{"cleanSession": &clean, "preventWillMessage": &quiet}); refused != nil {
		return nil, refused
	}
	cl, refused := e.clientOf(c)
	if refused != nil {
		return nil, refused
	}
	conn, ok := cl.Net.Conn.(*mqttConn)
	if !ok || cl.Closed() {
		return nil, noResource("Client not found")
	}
	if quiet {
		atomic.StoreUint32(&cl.Properties.Will.Flag, 0)
	}
	_ = e.mqtt.server.DisconnectClient(cl, packets.ErrAdministrativeAction) // the error is the code
	select {
	case <-conn.ended:
	case <-c.gone:
		return nil, iotError(http.StatusServiceUnavailable, "ServiceUnavailableException", "the connection has not ended")
	}
	if clean {
		e.mqtt.forget(cl)
	}
	return none{}, nil
}

// forget ends a session that nobody has taken over.
func (i *iotEndpoint) forget(cl *mqtt.Client) {
	if now, ok := i.server.Clients.Get(cl.ID); !ok || now != cl {
		return
	}
	cl.ClearInflights()
	i.server.UnsubscribeClient(cl)
	i.server.Clients.Delete(cl.ID)
}

const (
	clientIDBytesMax     = 128
	subscriptionsPage    = 20
	subscriptionsPageMax = 200
)

type subscription struct {
	Filter string `json:"topicFilter"`
	QoS    byte   `json:"qos"`
}

func (e *Emulator) listSubscriptions(c *call) (any, *apiError) {
	cl, refused := e.clientOf(c)
	if refused != nil {
		return nil, refused
	}
	p, refused := e.pageOf(c, subscriptionsPage, subscriptionsPageMax)
	if refused != nil {
		return nil, refused
	}
	all := cl.State.Subscriptions.GetAll()
	filters, more := behind(sortedKeys(all), p.after, p.limit)
	filters, next := turn(e, p, filters, more, func(filter string) string { return filter })
	answer := struct {
		Subscriptions []subscription `json:"subscriptions"`
		NextToken     string         `json:"nextToken,omitempty"`
	}{make([]subscription, len(filters)), next}
	for i, filter := range filters {
		answer.Subscriptions[i] = subscription{filter, min(all[filter].Qos, 1)}
	}
	return answer, nil
}
