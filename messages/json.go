package messages

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
)

// recordJSON is a record as auditors read it.
type recordJSON struct {
	Seq     uint64          `json:"seq"`
	Stream  StreamID        `json:"stream"`
	Version uint64          `json:"version"`
	ID      string          `json:"id"`
	Kind    string          `json:"kind"`
	Class   string          `json:"class"`
	Schema  uint8           `json:"schema"`
	Time    time.Time       `json:"time"`    // wall clock
	TrustMs int64           `json:"trustMs"` // trust clock
	Request string          `json:"request,omitempty"`
	Broker  BrokerID        `json:"broker,omitempty"`
	Event   json.RawMessage `json:"event,omitempty"`
	Unknown string          `json:"unknown,omitempty"` // hex body of a kind this program does not know
}

// RecordJSON renders a record as one JSON object, for people and audit tools. Bytes are
// base64, as protobuf's JSON form has them. It is a view: what is hashed and signed are
// the record's own bytes.
func RecordJSON(r *Record) ([]byte, error) {
	j := recordJSON{
		Seq: r.Seq, Stream: r.Stream, Version: r.Version, ID: hex.EncodeToString(r.ID[:]),
		Kind: r.Kind.String(), Class: r.Kind.Class().String(), Schema: r.Schema,
		Time: r.At.Wall(), TrustMs: r.At.TrustMs, Request: r.Cause.Request, Broker: r.Cause.Broker,
	}
	e, err := DecodeEvent(r)
	switch {
	case errors.Is(err, ErrUnknownKind):
		j.Unknown = hex.EncodeToString(r.Body)
	case err != nil:
		return nil, err
	default:
		if j.Event, err = protojson.Marshal(e); err != nil {
			return nil, fmt.Errorf("record %d: %w", r.Seq, err)
		}
	}
	return json.Marshal(j)
}
