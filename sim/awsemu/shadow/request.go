package shadow

import (
	"bytes"
	"encoding/json"
	"io"
	"time"
)

// Error is why a request is refused: what is published at its rejected topic.
type Error struct {
	Code    int // as in HTTP
	Message string
	token   string
}

// Payload is the message.
func (e *Error) Payload(now time.Time) []byte {
	return encode(struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Time    int64  `json:"timestamp"`
		Token   string `json:"clientToken,omitempty"`
	}{e.Code, e.Message, now.Unix(), e.token})
}

// TokenOf is the client token of a request, if it has one.
func TokenOf(payload []byte) string {
	r, _ := parseBare(payload)
	return r.token
}

// Refuse is a refusal of the request in payload for a reason of the caller's.
func Refuse(payload []byte, code int, message string) *Error {
	return &Error{Code: code, Message: message, token: TokenOf(payload)}
}

// request is one request for a shadow.
type request struct {
	token             string
	version           *int64
	state             map[string]any // as it was sent; nil: null, which empties the shadow
	desired, reported edit
}

func (r request) refuse(code int, message string) *Error {
	return &Error{Code: code, Message: message, token: r.token}
}

// parseBare reads a request that needs no body: none, or an object with a client token.
func parseBare(payload []byte) (request, *Error) {
	if len(bytes.TrimSpace(payload)) == 0 {
		return request{}, nil
	}
	r, _, refused := parse(payload)
	return r, refused
}

func parseUpdate(payload []byte) (request, *Error) {
	r, fields, refused := parse(payload)
	if refused != nil {
		return r, refused
	}
	if version, given := fields["version"]; given && version != nil {
		number, ok := version.(json.Number)
		n, err := number.Int64()
		if !ok || err != nil || n < 0 {
			return r, r.refuse(400, "Invalid version")
		}
		r.version = &n
	}
	state, given := fields["state"]
	if !given {
		return r, r.refuse(400, "Missing required node: state")
	}
	if state == nil {
		r.desired.clear, r.reported.clear = true, true
		return r, nil
	}
	var ok bool
	if r.state, ok = state.(map[string]any); !ok {
		return r, r.refuse(400, "State node must be an object")
	}
	for name, value := range r.state {
		var into *edit
		switch name {
		case "desired":
			into = &r.desired
		case "reported":
			into = &r.reported
		default:
			return r, r.refuse(400, "State contains an invalid node: '"+clip(name)+"'")
		}
		if into.patch, ok = value.(map[string]any); !ok && value != nil {
			return r, r.refuse(400, map[string]string{"desired": "Desired", "reported": "Reported"}[name]+" node must be an object")
		}
		into.clear = value == nil
	}
	if deep(r.state, depthMax+1) {
		return r, r.refuse(400, "JSON contains too many levels of nesting; maximum is 8")
	}
	return r, nil
}

// parse reads an object and its client token.
func parse(payload []byte) (r request, fields map[string]any, refused *Error) {
	if len(payload) > PayloadBytesMax {
		return r, nil, r.refuse(413, "The payload exceeds the maximum size allowed")
	}
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.UseNumber()
	if err := decoder.Decode(&fields); err != nil || fields == nil {
		return r, nil, r.refuse(400, "Payload contains invalid json")
	}
	if _, err := decoder.Token(); err != io.EOF {
		return r, nil, r.refuse(400, "Payload contains invalid json")
	}
	if token, given := fields["clientToken"]; given && token != nil {
		text, ok := token.(string)
		if !ok || len(text) > tokenBytesMax {
			return r, nil, r.refuse(400, "Invalid clientToken")
		}
		r.token = text
	}
	return r, fields, nil
}

// deep says whether a tree has more than levels of objects and lists.
func deep(value any, levels int) bool {
	var below []any
	switch v := value.(type) {
	case map[string]any:
		for _, inner := range v {
			below = append(below, inner)
		}
	case []any:
		below = v
	default:
		return false
	}
	if levels == 0 {
		return true
	}
	for _, inner := range below {
		if deep(inner, levels-1) {
			return true
		}
	}
	return false
}

func clip(s string) string {
	const most = 40
	if len(s) > most {
		return s[:most]
	}
	return s
}
