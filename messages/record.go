package messages

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Kind numbers an event's type in the log. Numbers are never reused; 0 is no kind.
// The list is in kinds.go.
type Kind uint16

// EventID identifies an event: derived from the nonce of the input that caused it
// and its place in the decision, so that a repeated append of the same decision is
// recognised.
type EventID [16]byte

// Instant is a moment as the host stamped it on an input: by the trust clock, which
// never runs backwards, and by the wall clock. Both in milliseconds since the Unix
// epoch, UTC.
type Instant struct {
	TrustMs int64
	WallMs  int64
}

// Trust returns the trust time.
func (i Instant) Trust() time.Time { return time.UnixMilli(i.TrustMs).UTC() }

// Wall returns the wall time.
func (i Instant) Wall() time.Time { return time.UnixMilli(i.WallMs).UTC() }

// Cause says what led to an event: the request it answers and the broker that asked.
// Both may be empty (the core's own doing).
type Cause struct {
	Request string // at most 255 bytes
	Broker  BrokerID
}

// Record is one entry of the log: the envelope around an event's bytes. Seq and
// Version are the log's; everything else is the appender's. Records are values that
// nobody changes after they were appended; Body must not be written to.
type Record struct {
	Seq      uint64   // place in the log: gapless, from 1
	Stream   StreamID // at most 255 bytes
	Version  uint64   // place in the stream: gapless, from 1
	ID       EventID
	Kind     Kind
	Schema   uint8 // version of Kind's body format, from 1
	Critical bool  // a reader that does not know Kind must refuse the log
	At       Instant
	Cause    Cause
	Body     []byte // at most RecordBodyMaxBytes
}

// Limits of a record, in bytes. The body's bound leaves room for a policy document
// (512 KiB) inside one append group (1 MiB).
const (
	RecordBodyMaxBytes      = 768 << 10
	recordFixedBytes        = 1 + 8 + 8 + 16 + 2 + 1 + 1 + 8 + 8 + 1 + 1 + 1 + 4
	RecordMaxBytes          = recordFixedBytes + 3*255 + RecordBodyMaxBytes
	recordFormat1      byte = 1
	flagCritical       byte = 1
)

// ErrRecord is wrapped by every error of ParseRecord and AppendRecord.
var ErrRecord = errors.New("malformed record")

// AppendRecord appends r's canonical bytes to dst: the bytes that are stored, hashed
// and signed. Integers are big-endian:
//
//	format 1 | seq 8 | version 8 | event id 16 | kind 2 | schema 1 | flags 1 |
//	trust ms 8 | wall ms 8 | len stream 1 | len request 1 | len broker 1 | len body 4 |
//	stream | request | broker | body
//
// It fails if a part is longer than its bound.
func AppendRecord(dst []byte, r *Record) ([]byte, error) {
	if len(r.Stream) == 0 || len(r.Stream) > 255 || len(r.Cause.Request) > 255 || len(r.Cause.Broker) > 255 || len(r.Body) > RecordBodyMaxBytes {
		return dst, fmt.Errorf("%w: stream %d, request %d, broker %d, body %d bytes: over a bound", ErrRecord,
			len(r.Stream), len(r.Cause.Request), len(r.Cause.Broker), len(r.Body))
	}
	var flags byte
	if r.Critical {
		flags |= flagCritical
	}
	dst = append(dst, recordFormat1)
	dst = binary.BigEndian.AppendUint64(dst, r.Seq)
	dst = binary.BigEndian.AppendUint64(dst, r.Version)
	dst = append(dst, r.ID[:]...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(r.Kind))
	dst = append(dst, r.Schema, flags)
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.At.TrustMs))
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.At.WallMs))
	dst = append(dst, byte(len(r.Stream)), byte(len(r.Cause.Request)), byte(len(r.Cause.Broker)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(r.Body)))
	dst = append(dst, r.Stream...)
	dst = append(dst, r.Cause.Request...)
	dst = append(dst, r.Cause.Broker...)
	return append(dst, r.Body...), nil
}

// RecordSize returns how many bytes AppendRecord writes for r.
func RecordSize(r *Record) int {
	return recordFixedBytes + len(r.Stream) + len(r.Cause.Request) + len(r.Cause.Broker) + len(r.Body)
}

// ParseRecord reads one record that fills b exactly. The record's Body is a part of
// b; its texts are copies. Stream and broker names are taken as they are: the log
// keeps what it was given.
func ParseRecord(b []byte) (Record, error) { return ParseRecordAfter(&Record{}, b) }

// ParseRecordAfter is ParseRecord for one of many records: texts that are as in before are
// shared with it, not copied.
func ParseRecordAfter(before *Record, b []byte) (Record, error) {
	if len(b) < recordFixedBytes {
		return Record{}, fmt.Errorf("%w: %d bytes, want at least %d", ErrRecord, len(b), recordFixedBytes)
	}
	if b[0] != recordFormat1 {
		return Record{}, fmt.Errorf("%w: format %d, want %d", ErrRecord, b[0], recordFormat1)
	}
	r := Record{
		Seq:     binary.BigEndian.Uint64(b[1:]),
		Version: binary.BigEndian.Uint64(b[9:]),
		ID:      EventID(b[17:33]),
		Kind:    Kind(binary.BigEndian.Uint16(b[33:])),
		Schema:  b[35],
		At: Instant{
			TrustMs: int64(binary.BigEndian.Uint64(b[37:])),
			WallMs:  int64(binary.BigEndian.Uint64(b[45:])),
		},
	}
	flags := b[36]
	if flags&^flagCritical != 0 {
		return Record{}, fmt.Errorf("%w: unknown flags %#x", ErrRecord, flags)
	}
	r.Critical = flags&flagCritical != 0
	streamBytes, requestBytes, brokerBytes := int(b[53]), int(b[54]), int(b[55])
	bodyBytes := uint64(binary.BigEndian.Uint32(b[56:]))
	rest := b[recordFixedBytes:]
	if bodyBytes > RecordBodyMaxBytes || uint64(len(rest)) != uint64(streamBytes+requestBytes+brokerBytes)+bodyBytes {
		return Record{}, fmt.Errorf("%w: %d bytes follow the header, which announces %d", ErrRecord,
			len(rest), uint64(streamBytes+requestBytes+brokerBytes)+bodyBytes)
	}
	if streamBytes == 0 {
		return Record{}, fmt.Errorf("%w: empty stream name", ErrRecord)
	}
	r.Stream, rest = text(before.Stream, rest[:streamBytes]), rest[streamBytes:]
	r.Cause.Request, rest = text(before.Cause.Request, rest[:requestBytes]), rest[requestBytes:]
	r.Cause.Broker, rest = text(before.Cause.Broker, rest[:brokerBytes]), rest[brokerBytes:]
	r.Body = rest[:len(rest):len(rest)]
	return r, nil
}

// text is b, as before has it already or as a copy.
func text[T ~string](before T, b []byte) T {
	if string(before) == string(b) {
		return before
	}
	return T(b)
}

// DeriveEventID names the i-th event of the decision whose input carried nonce. The
// nonce stays secret: tokens are made of it.
func DeriveEventID(nonce [32]byte, i int) EventID {
	b := make([]byte, 0, len("gatehouse event")+len(nonce)+8)
	b = append(b, "gatehouse event"...)
	b = append(b, nonce[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(i))
	sum := sha256.Sum256(b)
	return EventID(sum[:16])
}
