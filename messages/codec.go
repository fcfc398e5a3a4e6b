package messages

import (
	"errors"
	"fmt"
	"strconv"

	"google.golang.org/protobuf/proto"
)

// Event is one of the messages of events.proto.
type Event interface {
	proto.Message
	Kind() Kind
	MarshalVT() ([]byte, error)
	UnmarshalVT([]byte) error
	SizeVT() int
}

// ErrUnknownKind is returned by DecodeEvent for a kind, or a schema version of it,
// from a newer program. The log keeps such a record; FoldEvent passes it by unless it is
// critical.
var ErrUnknownKind = errors.New("unknown kind of event")

// ErrEvent is wrapped when an event's bytes cannot be read.
var ErrEvent = errors.New("malformed event")

// EncodeEvent returns e's body bytes and the schema version they are in.
func EncodeEvent(e Event) (body []byte, schema uint8, err error) {
	info, ok := kinds[e.Kind()]
	if !ok {
		return nil, 0, fmt.Errorf("encode event: %w: %d", ErrUnknownKind, e.Kind())
	}
	body, err = e.MarshalVT()
	if err != nil {
		return nil, 0, fmt.Errorf("encode event %s: %w", info.name, err)
	}
	if len(body) > RecordBodyMaxBytes {
		return nil, 0, fmt.Errorf("encode event %s: %w: %d bytes, at most %d", info.name, ErrEvent, len(body), RecordBodyMaxBytes)
	}
	return body, info.schema, nil
}

// FoldEvent is DecodeEvent for a fold: nil, without an error, is a record to pass by, of a
// kind from a newer program that is not critical.
func FoldEvent(r *Record) (Event, error) {
	e, err := DecodeEvent(r)
	if errors.Is(err, ErrUnknownKind) && !r.Critical {
		return nil, nil
	}
	return e, err
}

// DecodeEvent reads the event of a record, upcast to the newest schema version.
func DecodeEvent(r *Record) (Event, error) {
	info, ok := kinds[r.Kind]
	if !ok || r.Schema == 0 || r.Schema > info.schema {
		return nil, fmt.Errorf("decode record %d: %w: %d at schema %d", r.Seq, ErrUnknownKind, r.Kind, r.Schema)
	}
	body, err := upcast(r.Kind, r.Schema, info.schema, r.Body)
	if err != nil {
		return nil, fmt.Errorf("decode record %d: %w: upcast %s from schema %d: %w", r.Seq, ErrEvent, info.name, r.Schema, err)
	}
	e := info.fresh()
	if err := e.UnmarshalVT(body); err != nil {
		return nil, fmt.Errorf("decode record %d: %w: %s: %w", r.Seq, ErrEvent, info.name, err)
	}
	return e, nil
}

// An upcaster turns the body of one schema version into the next. It is pure: the
// same bytes always give the same bytes.
type upcaster func(body []byte) ([]byte, error)

// upcasters holds, for each kind, the step from version i+1 to i+2 at index i. It is
// empty while every kind is at version 1; TestUpcast drives the mechanism with a kind
// of its own.
var upcasters = map[Kind][]upcaster{}

func upcast(kind Kind, from, to uint8, body []byte) ([]byte, error) {
	for v := from; v < to; v++ {
		steps := upcasters[kind]
		if int(v) > len(steps) {
			return nil, fmt.Errorf("no step from version %d to %d", v, v+1)
		}
		var err error
		if body, err = steps[v-1](body); err != nil {
			return nil, fmt.Errorf("version %d to %d: %w", v, v+1, err)
		}
	}
	return body, nil
}

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }
