package shadow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/gatehouse-edge/gatehouse/cloudsync/iotmqtt"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Topics are where a core and AWS IoT talk about the core's address shadow.
type Topics struct{ Get, Accepted, Rejected, Delta, Update string }

// TopicsOf returns the topics of core.
func TopicsOf(core messages.ThingName) Topics {
	shadow := "$aws/things/" + string(core) + "-gci/shadow/"
	return Topics{
		Get: shadow + "get", Accepted: shadow + "get/accepted", Rejected: shadow + "get/rejected",
		Delta: shadow + "update/delta", Update: shadow + "update",
	}
}

// Notice is what one message says about the shadow.
type Notice struct {
	// ShadowVersion is the shadow's own, which every change raises, reports included.
	ShadowVersion int64
	// Version is the connectivity information's, an opaque JSON value as it was sent, but for
	// blanks; "" if there is none.
	Version string
	// State is the desired state, or the part of it that the message is about; nil: none.
	State json.RawMessage
}

const payloadBytesMax = iotmqtt.PayloadBytesMax

// ParseAccepted reads the answer to a get.
func ParseAccepted(payload []byte) (Notice, error) {
	n, state, err := parse(payload)
	if err != nil {
		return Notice{}, err
	}
	desired, err := member(state, "desired")
	if err != nil {
		return Notice{}, err
	}
	return n.with(desired)
}

// ParseDelta reads a message that says what is desired and not reported.
func ParseDelta(payload []byte) (Notice, error) {
	n, state, err := parse(payload)
	if err != nil {
		return Notice{}, err
	}
	return n.with(state)
}

// parse reads a message as far as both kinds are the same.
func parse(payload []byte) (n Notice, state json.RawMessage, err error) {
	if len(payload) > payloadBytesMax {
		return n, nil, fmt.Errorf("shadow message of %d bytes, at most %d", len(payload), payloadBytesMax)
	}
	version, err := member(payload, "version")
	if err != nil {
		return n, nil, err
	}
	if n.ShadowVersion, err = strconv.ParseInt(string(version), 10, 64); err != nil || n.ShadowVersion < 0 {
		return n, nil, fmt.Errorf("shadow message without a version that is a number: %.40q", version)
	}
	state, err = member(payload, "state")
	return n, state, err
}

// with adds the state.
func (n Notice) with(state json.RawMessage) (Notice, error) {
	version, err := member(state, "version")
	if err != nil || state == nil {
		return n, err
	}
	n.Version, n.State = string(version), compact(state)
	return n, nil
}

// member returns a member of an object; nil if it is not there or null, or the object is.
func member(object json.RawMessage, name string) (json.RawMessage, error) {
	if object == nil {
		return nil, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(object, &members); err != nil {
		return nil, fmt.Errorf("shadow message: %.40q is not a JSON object", object)
	}
	value, given := members[name]
	if text := compact(value); given && string(text) != "null" {
		return text, nil
	}
	return nil, nil
}

func compact(value json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return value // cannot happen: it was parsed
	}
	return b.Bytes()
}

// rejection is why a get was refused.
type rejection struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func parseRejected(payload []byte) (rejection, error) {
	var r rejection
	if len(payload) > payloadBytesMax || json.Unmarshal(payload, &r) != nil || r.Code == 0 {
		return r, errors.New("a rejection that gives no code")
	}
	return r, nil
}

// temporary: the service may think otherwise in a while.
func (r rejection) temporary() bool { return r.Code == 429 || r.Code >= 500 }

// Accepts says whether next is news, after last was dealt with and while tail waits; nil is
// none. Messages come twice, late, and because of the core's own reports (vectors,
// cis-shadow).
func Accepts(last, tail *Notice, next Notice) bool {
	for _, known := range []*Notice{last, tail} {
		if known != nil && (next.ShadowVersion <= known.ShadowVersion || next.Version == known.Version) {
			return false
		}
	}
	return true
}

// report is the update that says that a state was dealt with.
func report(state json.RawMessage) []byte {
	text, err := json.Marshal(map[string]any{"state": map[string]any{"reported": state}})
	if err != nil {
		panic("shadow: a report that is no JSON: " + err.Error()) // state was parsed
	}
	return text
}
