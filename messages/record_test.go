package messages

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"
)

// envelopes are the envelope's golden bytes, spelled part by part as AppendRecord's
// comment lays them out.
var envelopes = []struct {
	name   string
	record Record
	parts  []string
}{
	{
		name: "every part set",
		record: Record{
			Seq: 0x0102030405060708, Stream: "core/clock", Version: 0x1112131415161718,
			ID:   EventID{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf},
			Kind: 0x2122, Schema: 0x23, Critical: true,
			At:    Instant{TrustMs: 0x3132333435363738, WallMs: -2},
			Cause: Cause{Request: "req", Broker: "b1"}, Body: []byte{0xde, 0xad, 0xbe, 0xef},
		},
		parts: []string{
			"01",                               // format
			"0102030405060708",                 // seq
			"1112131415161718",                 // version
			"a0a1a2a3a4a5a6a7a8a9aaabacadaeaf", // event id
			"2122",                             // kind
			"23",                               // schema
			"01",                               // flags: critical
			"3132333435363738",                 // trust ms
			"fffffffffffffffe",                 // wall ms
			"0a", "03", "02",                   // lengths of stream, request, broker
			"00000004",             // length of the body
			"636f72652f636c6f636b", // stream
			"726571",               // request
			"6231",                 // broker
			"deadbeef",             // body
		},
	},
	{
		name:   "the shortest",
		record: Record{Stream: "s", Body: []byte{}},
		parts: []string{
			"01", "0000000000000000", "0000000000000000", "00000000000000000000000000000000", "0000", "00", "00",
			"0000000000000000", "0000000000000000", "01", "00", "00", "00000000", "73",
		},
	},
}

// TestRecordEnvelope holds the layout of the envelope against bytes written by hand.
func TestRecordEnvelope(t *testing.T) {
	for _, c := range envelopes {
		t.Run(c.name, func(t *testing.T) {
			want, err := hex.DecodeString(strings.Join(c.parts, ""))
			if err != nil {
				t.Fatal(err)
			}
			got, err := AppendRecord([]byte("before"), &c.record)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, append([]byte("before"), want...)) {
				t.Errorf("encoded\n got %x\nwant %x", got[len("before"):], want)
			}
			if n := RecordSize(&c.record); n != len(want) {
				t.Errorf("RecordSize says %d, the record has %d bytes", n, len(want))
			}
			back, err := ParseRecord(want)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back, c.record) {
				t.Errorf("parsed\n got %+v\nwant %+v", back, c.record)
			}
		})
	}
}

func TestAppendRecordRefusesWhatIsOverABound(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, r := range map[string]Record{
		"no stream":    {},
		"long stream":  {Stream: StreamID(long)},
		"long request": {Stream: "s", Cause: Cause{Request: long}},
		"long broker":  {Stream: "s", Cause: Cause{Broker: BrokerID(long)}},
		"long body":    {Stream: "s", Body: make([]byte, RecordBodyMaxBytes+1)},
	} {
		got, err := AppendRecord([]byte("kept"), &r)
		if !errors.Is(err, ErrRecord) || string(got) != "kept" {
			t.Errorf("%s: got %d bytes and error %v, want the buffer as it was and ErrRecord", name, len(got), err)
		}
	}
}

// TestRecordBounds: the largest record there may be has RecordMaxBytes and survives the
// round trip.
func TestRecordBounds(t *testing.T) {
	long := strings.Repeat("x", 255)
	r := Record{Stream: StreamID(long), Cause: Cause{Request: long, Broker: BrokerID(long)}, Body: bytes.Repeat([]byte{7}, RecordBodyMaxBytes)}
	b, err := AppendRecord(nil, &r)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) != RecordMaxBytes {
		t.Errorf("the largest record has %d bytes, RecordMaxBytes says %d", len(b), RecordMaxBytes)
	}
	back, err := ParseRecord(b)
	if err != nil || !reflect.DeepEqual(back, r) {
		t.Errorf("the largest record does not survive the round trip (error %v)", err)
	}
}

func TestParseRecordRefusesWhatIsMalformed(t *testing.T) {
	good, err := AppendRecord(nil, &envelopes[0].record)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(good)) }
	set := func(at int, v ...byte) []byte {
		return edit(func(b []byte) []byte { copy(b[at:], v); return b })
	}
	for name, b := range map[string][]byte{
		"empty":                     {},
		"cut in the header":         good[:recordFixedBytes-1],
		"cut in the body":           good[:len(good)-1],
		"a byte too many":           append(bytes.Clone(good), 0),
		"format 0":                  set(0, 0),
		"format 2":                  set(0, 2),
		"unknown flag":              set(36, 0x02),
		"no stream":                 set(53, 0, 13), // the request takes its bytes
		"a body of 4 GiB announced": set(56, 0xff, 0xff, 0xff, 0xff),
		"a body over the bound": append(set(56, 0x00, 0x0c, 0x00, 0x01),
			make([]byte, RecordBodyMaxBytes+1-4)...),
	} {
		if r, err := ParseRecord(b); !errors.Is(err, ErrRecord) {
			t.Errorf("%s: got %+v and error %v, want ErrRecord", name, r, err)
		} else if !reflect.DeepEqual(r, Record{}) {
			t.Errorf("%s: an error with half a record: %+v", name, r)
		}
	}
	for n := range len(good) {
		if _, err := ParseRecord(good[:n]); !errors.Is(err, ErrRecord) {
			t.Errorf("the first %d of %d bytes: error %v, want ErrRecord", n, len(good), err)
		}
	}
}

// TestParsedBodyCannotGrowIntoItsNeighbour: a body is a part of the buffer it was read
// from; appending to it must not write over the next record.
func TestParsedBodyCannotGrowIntoItsNeighbour(t *testing.T) {
	b, err := AppendRecord(nil, &envelopes[0].record)
	if err != nil {
		t.Fatal(err)
	}
	buffer := append(bytes.Clone(b), 0x55)
	r, err := ParseRecord(buffer[:len(b)])
	if err != nil {
		t.Fatal(err)
	}
	_ = append(r.Body, 0x66)
	if buffer[len(b)] != 0x55 {
		t.Error("appending to a parsed body wrote behind it")
	}
}

// TestTextsAreSharedWithTheRecordBefore: nothing of the record before shows in a record
// that is parsed after it, and equal texts cost nothing.
func TestTextsAreSharedWithTheRecordBefore(t *testing.T) {
	var before Record
	for _, c := range append(envelopes, envelopes...) {
		b, err := AppendRecord(nil, &c.record)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseRecordAfter(&before, b)
		if err != nil || !reflect.DeepEqual(got, c.record) {
			t.Errorf("%s after %s: %+v, %v; want %+v", c.name, before.Stream, got, err, c.record)
		}
		if n := testing.AllocsPerRun(10, func() { _, _ = ParseRecordAfter(&got, b) }); n != 0 {
			t.Errorf("%s after itself: %v allocations", c.name, n)
		}
		before = got
	}
}

// TestParseRecordAllocates: what a header announces is not allocated, and a body is not
// copied.
func TestParseRecordAllocates(t *testing.T) {
	large := Record{Stream: "device/a", Body: make([]byte, RecordBodyMaxBytes)}
	good, err := AppendRecord(nil, &large)
	if err != nil {
		t.Fatal(err)
	}
	hostile := bytes.Clone(good[:recordFixedBytes+8])
	copy(hostile[56:], []byte{0xff, 0xff, 0xff, 0xff})
	for name, b := range map[string][]byte{"a large record": good, "a large announcement": hostile} {
		const times, boundBytes = 100, 4 << 10
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range times {
			_, _ = ParseRecord(b)
		}
		runtime.ReadMemStats(&after)
		if each := (after.TotalAlloc - before.TotalAlloc) / times; each > boundBytes {
			t.Errorf("%s: parsing allocates %d bytes, want at most %d", name, each, boundBytes)
		}
	}
}

func TestInstant(t *testing.T) {
	i := Instant{TrustMs: 1_795_300_000_123, WallMs: -1}
	if got, want := i.Trust(), time.Date(2026, 11, 21, 22, 26, 40, 123_000_000, time.UTC); got != want {
		t.Errorf("trust time %v, want %v", got, want)
	}
	if got, want := i.Wall(), time.Date(1969, 12, 31, 23, 59, 59, 999_000_000, time.UTC); got != want {
		t.Errorf("wall time %v, want %v", got, want)
	}
}

// FuzzParseRecord: whatever parses is written back as the same bytes (records are hashed
// as they are stored), and nothing else gets in or panics.
func FuzzParseRecord(f *testing.F) {
	for _, c := range envelopes {
		b, err := AppendRecord(nil, &c.record)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, k := range sortedKinds() {
		f.Add(readHex(f, goldenPath(k)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRecord(b)
		if err != nil {
			if !errors.Is(err, ErrRecord) {
				t.Fatalf("error %v is no ErrRecord", err)
			}
			return
		}
		if cap(r.Body) != len(r.Body) || len(r.Body) > RecordBodyMaxBytes || len(b) > RecordMaxBytes {
			t.Fatalf("a record of %d bytes with a body of %d (capacity %d) got in", len(b), len(r.Body), cap(r.Body))
		}
		again, err := AppendRecord(nil, &r)
		if err != nil {
			t.Fatalf("parsed, but cannot be written: %v", err)
		}
		if !bytes.Equal(again, b) || RecordSize(&r) != len(b) {
			t.Fatalf("written back differently\n got %x\nwant %x", again, b)
		}
	})
}
