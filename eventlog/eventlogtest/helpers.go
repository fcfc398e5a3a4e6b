package eventlogtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Event makes a draft whose id and body are derived from n.
func Event(n uint64, bodyBytes int) eventlog.Draft {
	d := eventlog.Draft{Kind: messages.Kind(1 + n%7), Schema: 1, Body: make([]byte, bodyBytes)}
	binary.BigEndian.PutUint64(d.ID[:], n+1)
	for i := range d.Body {
		d.Body[i] = byte(n*31 + uint64(i)*7)
	}
	return d
}

// Device names the i-th stream of a test.
func Device(i int) messages.StreamID {
	return messages.DeviceStream(messages.ThingName(fmt.Sprintf("pump-%d", i)))
}

// Append appends and waits for the answer.
func Append(l eventlog.Log, b eventlog.Batch) ([]messages.Record, error) {
	type answer struct {
		recs []messages.Record
		err  error
	}
	ch := make(chan answer, 1)
	l.Append(b, func(recs []messages.Record, err error) { ch <- answer{recs, err} })
	a := <-ch
	return a.recs, a.err
}

// MustAppend appends n events to stream after version expected.
func MustAppend(t testing.TB, l eventlog.Log, stream messages.StreamID, expected uint64, n int) []messages.Record {
	t.Helper()
	b := eventlog.Batch{
		Stream: stream, Expected: expected, At: messages.Instant{TrustMs: 1000, WallMs: 2000},
		Cause: messages.Cause{Request: "r-1", Broker: "demo"},
	}
	for i := range n {
		b.Drafts = append(b.Drafts, Event(expected+uint64(i)+uint64(len(stream))<<32, 40))
	}
	recs, err := Append(l, b)
	if err != nil {
		t.Fatalf("append %d events to %q after %d: %v", n, stream, expected, err)
	}
	return recs
}

// Collect gathers a sequence of records.
func Collect(t testing.TB, seq func(func(messages.Record, error) bool)) []messages.Record {
	t.Helper()
	var out []messages.Record
	for rec, err := range seq {
		if err != nil {
			t.Fatalf("after %d records: %v", len(out), err)
		}
		out = append(out, rec)
	}
	return out
}

// Equal compares records byte for byte.
func Equal(a, b messages.Record) bool {
	x, errX := messages.AppendRecord(nil, &a)
	y, errY := messages.AppendRecord(nil, &b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
