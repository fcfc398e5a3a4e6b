package awsemu

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Messages over HTTPS (AWS IoT's Publish, and what is retained).

// Bounds of topics and messages, which are AWS IoT's.
const (
	topicBytesMax   = 256
	topicSlashesMax = 7 // the levels of basic ingest's own prefix do not count
	messageBytesMax = 128 << 10
	ingestPrefix    = "$aws/rules/"
	sharePrefix     = "$share/"
)

// isBasicIngest says whether a topic hands a message to a rule and to nobody else.
func isBasicIngest(topic string) bool {
	rule, _, found := strings.Cut(strings.TrimPrefix(topic, ingestPrefix), "/")
	return strings.HasPrefix(topic, ingestPrefix) && found && rule != ""
}

// checkTopic says what is wrong with a topic to publish to; empty: nothing.
func checkTopic(topic string) string {
	switch {
	case topic == "":
		return "Topic must not be empty"
	case strings.ContainsAny(topic, "+#\x00"):
		return "Topic must not contain wildcard characters"
	}
	return checkLevels(topic)
}

// checkLevels holds a topic or a filter to AWS IoT's bounds.
func checkLevels(topic string) string {
	if isBasicIngest(topic) {
		_, topic, _ = strings.Cut(strings.TrimPrefix(topic, ingestPrefix), "/")
	}
	if group, filter, ok := strings.Cut(strings.TrimPrefix(topic, sharePrefix), "/"); ok && strings.HasPrefix(topic, sharePrefix) && group != "" {
		topic = filter
	}
	switch {
	case len(topic) > topicBytesMax:
		return "Topic must not have more than 256 bytes"
	case strings.Count(topic, "/") > topicSlashesMax:
		return "Topic must not have more than 7 forward slashes"
	}
	return ""
}

// published is the answer to Publish.
type published struct {
	Message string `json:"message"`
	TraceID string `json:"traceId"`
}

func (e *Emulator) publishOverHTTP(c *call) (any, *apiError) {
	topic := c.parameters[0]
	retain, refused := c.flag("retain")
	if refused != nil {
		return nil, refused
	}
	qos, _, refused := c.integer("qos")
	switch problem := checkTopic(topic); {
	case refused != nil:
		return nil, refused
	case problem != "":
		return nil, badRequest(problem)
	case qos != 0 && qos != 1:
		return nil, badRequest("qos must be 0 or 1")
	case len(c.body) > messageBytesMax:
		return nil, iotError(413, "RequestEntityTooLargeException", "The payload exceeds the maximum size allowed")
	}
	if strings.HasPrefix(topic, "$") {
		if refused := e.serveOwnTopic(topic, c.body); refused != nil {
			return nil, refused
		}
		return published{"OK", c.traceID}, nil
	}
	properties, problem := messageProperties(c)
	if problem != "" {
		return nil, badRequest(problem)
	}
	if retain && !c.may(e, "iot:RetainPublish", topicARNOf(c.parameters)) {
		return nil, c.forbidden()
	}
	if err := e.mqtt.inject(packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: byte(qos), Retain: retain}, TopicName: topic, Payload: c.body, Properties: properties,
		PacketID: uint16(qos), // of which nothing comes, but it is checked
	}); err != nil {
		return nil, iotFailed(err)
	}
	return published{"OK", c.traceID}, nil
}

const messageExpiryMax = 604_800 // seconds: 7 days

// messageProperties reads what MQTT 5 knows of a message.
func messageProperties(c *call) (p packets.Properties, problem string) {
	p.ContentType, p.ResponseTopic = c.query.Get("contentType"), c.query.Get("responseTopic")
	if p.ResponseTopic != "" && checkTopic(p.ResponseTopic) != "" {
		return p, "Invalid responseTopic"
	}
	expiry, _, refused := c.integer("messageExpiry")
	if refused != nil || expiry < 0 || expiry > math.MaxUint32 {
		return p, "Invalid messageExpiry"
	}
	p.MessageExpiryInterval = uint32(min(expiry, messageExpiryMax))
	switch c.header.Get("X-Amz-Mqtt5-Payload-Format-Indicator") {
	case "":
	case "UNSPECIFIED_BYTES":
		p.PayloadFormatFlag = true
	case "UTF8_DATA":
		p.PayloadFormatFlag, p.PayloadFormat = true, 1
	default:
		return p, "Invalid payloadFormatIndicator"
	}
	var err error
	if p.CorrelationData, err = base64.StdEncoding.DecodeString(c.header.Get("X-Amz-Mqtt5-Correlation-Data")); err != nil {
		return p, "correlationData is not base64"
	}
	p.User, err = userProperties(c.header.Get("X-Amz-Mqtt5-User-Properties"))
	if err != nil {
		return p, "userProperties is not a list of JSON objects in base64"
	}
	return p, ""
}

// userProperties reads [{"name":"value"},…] in base64.
func userProperties(header string) (all []packets.UserProperty, err error) {
	text, err := base64.StdEncoding.DecodeString(header)
	if err != nil || len(text) == 0 {
		return nil, err
	}
	var list []map[string]string
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	for _, object := range list {
		for _, name := range sortedKeys(object) {
			all = append(all, packets.UserProperty{Key: name, Val: object[name]})
		}
	}
	return all, nil
}

type retainedTopic struct {
	Topic    string `json:"topic"`
	Size     int    `json:"payloadSize"`
	QoS      byte   `json:"qos"`
	Modified int64  `json:"lastModifiedTime"` // milliseconds
}

func retainedAt(pk packets.Packet) int64 { return milliseconds(time.Unix(pk.Created, 0)) }

func (e *Emulator) getRetainedMessage(c *call) (any, *apiError) {
	topic := c.parameters[0]
	if problem := checkTopic(topic); problem != "" {
		return nil, badRequest(problem)
	}
	pk, ok := e.mqtt.server.Topics.Retained.Get(topic)
	if !ok || strings.HasPrefix(topic, "$") {
		return nil, noResource("No retained message exists for topic: '" + topic + "'")
	}
	answer := struct {
		Topic    string `json:"topic"`
		Payload  []byte `json:"payload"`
		QoS      byte   `json:"qos"`
		Modified int64  `json:"lastModifiedTime"`
		User     []byte `json:"userProperties,omitempty"`
	}{topic, pk.Payload, pk.FixedHeader.Qos, retainedAt(pk), nil}
	if user := pk.Properties.User; len(user) > 0 {
		list := make([]map[string]string, len(user))
		for i, u := range user {
			list[i] = map[string]string{u.Key: u.Val}
		}
		answer.User = encodeJSON(list)
	}
	return answer, nil
}

const retainedPageMax = 200

func (e *Emulator) listRetainedMessages(c *call) (any, *apiError) {
	p, refused := e.pageOf(c, retainedPageMax, retainedPageMax)
	if refused != nil {
		return nil, refused
	}
	all := e.mqtt.server.Topics.Retained.GetAll()
	maps.DeleteFunc(all, func(topic string, _ packets.Packet) bool { return strings.HasPrefix(topic, "$") }) // the broker's own; it is a copy
	topics, more := behind(sortedKeys(all), p.after, p.limit)
	topics, next := turn(e, p, slices.Clone(topics), more, func(topic string) string { return topic })
	answer := struct {
		Topics    []retainedTopic `json:"retainedTopics"`
		NextToken string          `json:"nextToken,omitempty"`
	}{make([]retainedTopic, len(topics)), next}
	for i, topic := range topics {
		pk := all[topic]
		answer.Topics[i] = retainedTopic{topic, len(pk.Payload), pk.FixedHeader.Qos, retainedAt(pk)}
	}
	return answer, nil
}
