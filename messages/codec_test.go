package messages

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
)

// privateKind is a kind of the tests alone: no program writes it.
const privateKind Kind = 65_000

// privateEvent is a Started under another kind.
type privateEvent struct{ Started }

func (*privateEvent) Kind() Kind { return privateKind }

// withPrivateKind teaches the codec the private kind at a schema version.
func withPrivateKind(t *testing.T, schema uint8, steps ...upcaster) {
	t.Helper()
	if _, taken := kinds[privateKind]; taken {
		t.Fatalf("kind %d is in use", privateKind)
	}
	kinds[privateKind] = kindInfo{"Private", Records, schema, func() Event { return new(privateEvent) }}
	upcasters[privateKind] = steps
	t.Cleanup(func() { delete(kinds, privateKind); delete(upcasters, privateKind) })
}

// TestUpcast: an event written at an older schema version reads as the newest one, each
// step taken once and in order.
func TestUpcast(t *testing.T) {
	// Version 1 was the bare version text; 2 put a "v" before it; 3 is the message.
	withPrivateKind(t, 3,
		func(body []byte) ([]byte, error) {
			if len(body) == 0 {
				return nil, errors.New("no version text")
			}
			return append([]byte("v"), body...), nil
		},
		func(body []byte) ([]byte, error) { return (&Started{Version: string(body)}).MarshalVT() },
	)
	newest, err := (&Started{Version: "v1.0"}).MarshalVT()
	if err != nil {
		t.Fatal(err)
	}
	for schema, body := range map[uint8][]byte{1: []byte("1.0"), 2: []byte("v1.0"), 3: newest} {
		before := bytes.Clone(body)
		e, err := DecodeEvent(&Record{Seq: 7, Kind: privateKind, Schema: schema, Body: body})
		if err != nil {
			t.Errorf("schema %d: %v", schema, err)
			continue
		}
		if got := e.(*privateEvent).GetVersion(); got != "v1.0" {
			t.Errorf("schema %d reads as %q, want v1.0", schema, got)
		}
		if !bytes.Equal(body, before) {
			t.Errorf("schema %d: reading changed the record's body", schema)
		}
	}
	// Writing is always at the newest.
	if _, schema, err := EncodeEvent(new(privateEvent)); err != nil || schema != 3 {
		t.Errorf("written at schema %d (error %v), want 3", schema, err)
	}
	// A step that cannot take the bytes is named, and is a malformed event.
	_, err = DecodeEvent(&Record{Seq: 7, Kind: privateKind, Schema: 1})
	if !errors.Is(err, ErrEvent) || !strings.Contains(fmt.Sprint(err), "version 1 to 2: no version text") {
		t.Errorf("a failing step gives %v", err)
	}
	// Versions that never were, or are not yet.
	for _, schema := range []uint8{0, 4, 255} {
		if _, err := DecodeEvent(&Record{Kind: privateKind, Schema: schema}); !errors.Is(err, ErrUnknownKind) {
			t.Errorf("schema %d gives %v, want ErrUnknownKind", schema, err)
		}
	}
}

// TestUpcastStepMissing: a schema version raised without its step is an error, not a
// wrong reading.
func TestUpcastStepMissing(t *testing.T) {
	withPrivateKind(t, 2)
	_, err := DecodeEvent(&Record{Kind: privateKind, Schema: 1, Body: []byte("1.0")})
	if !errors.Is(err, ErrEvent) {
		t.Errorf("got %v, want ErrEvent", err)
	}
}

// TestEveryOlderSchemaHasItsStep holds the two tables together.
func TestEveryOlderSchemaHasItsStep(t *testing.T) {
	for k, info := range kinds {
		if info.schema == 0 || len(upcasters[k]) != int(info.schema)-1 {
			t.Errorf("%s is at schema %d and has %d upcasters, want one less than its version", k, info.schema, len(upcasters[k]))
		}
	}
	for k := range upcasters {
		if _, ok := kinds[k]; !ok {
			t.Errorf("upcasters for kind %d, which is not in the table", k)
		}
	}
}

func TestEncodeEventRefuses(t *testing.T) {
	if _, _, err := EncodeEvent(new(privateEvent)); !errors.Is(err, ErrUnknownKind) {
		t.Errorf("an event without a kind in the table gives %v, want ErrUnknownKind", err)
	}
	large := &PolicyReplaced{Document: make([]byte, RecordBodyMaxBytes)}
	if _, _, err := EncodeEvent(large); !errors.Is(err, ErrEvent) {
		t.Errorf("a body over the bound gives %v, want ErrEvent", err)
	}
}

func TestDecodeEventRefusesGarbage(t *testing.T) {
	for _, k := range sortedKinds() {
		whole := goldenRecord(t, k).Body
		for _, body := range [][]byte{{0xff}, {0x0a}, {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, whole[:len(whole)-1], {0x07}} {
			_, err := DecodeEvent(&Record{Seq: 3, Kind: k, Schema: 1, Body: body})
			if !errors.Is(err, ErrEvent) {
				t.Errorf("%s from %x gives %v, want ErrEvent", k, body, err)
			}
		}
	}
}

// TestDecodeKeepsFieldsOfNewerPrograms: a field that a newer program added survives a
// reader that does not know it.
func TestDecodeKeepsFieldsOfNewerPrograms(t *testing.T) {
	for _, k := range sortedKinds() {
		body := append(bytes.Clone(goldenRecord(t, k).Body), 0xfa, 0x3f, 0x03, 'n', 'e', 'w') // field 1023
		e, err := DecodeEvent(&Record{Kind: k, Schema: 1, Body: body})
		if err != nil {
			t.Errorf("%s: %v", k, err)
			continue
		}
		again, _, err := EncodeEvent(e)
		if err != nil || !bytes.Equal(again, body) {
			t.Errorf("%s is written back as %x (error %v), want %x", k, again, err, body)
		}
	}
}

// TestDecodedEventOwnsItsBytes: buffers of records are reused, events live on.
func TestDecodedEventOwnsItsBytes(t *testing.T) {
	for _, k := range sortedKinds() {
		r := goldenRecord(t, k)
		e, err := DecodeEvent(&r)
		if err != nil {
			t.Fatal(err)
		}
		clear(r.Body)
		if !proto.Equal(e, fullEvent(k)) {
			t.Errorf("%s changed with the buffer it was read from", k)
		}
	}
}

// FuzzDecodeEvent: no bytes make a fold panic, and what was read is written and read
// again as the same event, of a size that the bytes account for.
func FuzzDecodeEvent(f *testing.F) {
	for _, k := range sortedKinds() {
		r := goldenRecord(f, k)
		f.Add(uint16(k), r.Schema, r.Body)
	}
	f.Add(uint16(0), uint8(0), []byte{})
	f.Add(uint16(KindConfigRejected), uint8(1), bytes.Repeat([]byte{0x22, 0x00}, 100)) // many empty errors
	f.Add(uint16(KindSessionClosed), uint8(1), []byte{0x10, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, kind uint16, schema uint8, body []byte) {
		r := Record{Seq: 1, Kind: Kind(kind), Schema: schema, Body: body}
		e, err := DecodeEvent(&r)
		if known := Known(r.Kind, schema); known == errors.Is(err, ErrUnknownKind) {
			t.Fatalf("Known says %t, DecodeEvent says %v", known, err)
		}
		if err != nil {
			if !errors.Is(err, ErrUnknownKind) && !errors.Is(err, ErrEvent) {
				t.Fatalf("error %v is neither ErrUnknownKind nor ErrEvent", err)
			}
			return
		}
		// An enum's number that wraps below zero takes ten bytes instead of five: twice.
		if n := e.SizeVT(); n > 2*len(body) {
			t.Fatalf("%d bytes were read as an event of %d", len(body), n)
		}
		again, newest, err := EncodeEvent(e)
		if err != nil {
			t.Fatalf("read, but cannot be written: %v", err)
		}
		back, err := DecodeEvent(&Record{Seq: 1, Kind: e.Kind(), Schema: newest, Body: again})
		if err != nil {
			t.Fatalf("written, but cannot be read: %v", err)
		}
		if e.Kind() != r.Kind || !proto.Equal(e, back) {
			t.Fatalf("%v came back as %v", e, back)
		}
	})
}
