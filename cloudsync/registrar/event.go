package registrar

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/gatehouse-edge/gatehouse/messages"
)

const topicPrefix = "$aws/events/certificates/registered/"

// TopicOf is where AWS IoT tells of the certificates that register themselves by authority
// (cloud spec 4.4).
func TopicOf(authority messages.CertificateID) string { return topicPrefix + string(authority) }

// eventBytesMax bounds an event: AWS's have some 400 bytes.
const eventBytesMax = 8 << 10

// Event tells that a certificate has registered itself. It is a hint: who it is, and whether
// it is pending still, is asked of the cloud.
type Event struct {
	Certificate messages.CertificateID
	Authority   messages.CertificateID
}

// ParseEvent reads an event. Beside the two ids nothing in it counts, and may be absent, null,
// text or a number (cloud spec 4.4): AWS documents it in one way and sends it in another.
func ParseEvent(topic string, payload []byte) (Event, error) {
	var e Event
	id, ok := strings.CutPrefix(topic, topicPrefix)
	authority, err := messages.ParseCertificateID(id)
	if !ok || err != nil {
		return e, fmt.Errorf("topic %.120q tells of no registration", topic)
	}
	if len(payload) > eventBytesMax {
		return e, fmt.Errorf("registration event of %d bytes, at most %d", len(payload), eventBytesMax)
	}
	var body struct {
		CertificateID   json.RawMessage `json:"certificateId"`
		CACertificateID json.RawMessage `json:"caCertificateId"`
		Status          json.RawMessage `json:"certificateStatus"`
	}
	if err := json.Unmarshal(payload, &body); err != nil {
		return e, fmt.Errorf("registration event: no JSON object: %.60q", payload)
	}
	if e.Certificate, err = messages.ParseCertificateID(textOf(body.CertificateID)); err != nil {
		return Event{}, fmt.Errorf("registration event: certificateId: %w", err)
	}
	if given := textOf(body.CACertificateID); given != "" && given != string(authority) {
		return Event{}, fmt.Errorf("registration event: caCertificateId %.70q on the topic of %.12s…", given, authority)
	}
	if status := textOf(body.Status); status != "" && status != StatusPending {
		return Event{}, fmt.Errorf("registration event: status %.40q, want %s", status, StatusPending)
	}
	e.Authority = authority
	return e, nil
}

// textOf is a JSON text in lower case if it is hexadecimal; "" if it is none.
func textOf(value json.RawMessage) string {
	var text string
	if json.Unmarshal(value, &text) != nil {
		return ""
	}
	if len(text) == 64 {
		return strings.ToLower(text)
	}
	return text
}
