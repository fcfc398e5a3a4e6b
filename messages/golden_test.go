package messages

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

var update = flag.Bool("update", false, "rewrite the golden files; the diff is reviewed like code")

const goldenDir = "testdata/golden"

// goldenPath names the file of a kind. Number, name and schema version are part of the
// log's format, so a change of any of them is a missing and a stale file.
func goldenPath(k Kind) string {
	return filepath.Join(goldenDir, fmt.Sprintf("%03d-%s.v%d.hex", k, k, kinds[k].schema))
}

// fullEvent returns an event of kind k with every field set, each to a value of its
// own, so that swapped fields show.
func fullEvent(k Kind) Event {
	e := kinds[k].fresh()
	m := e.ProtoReflect()
	for i := range m.Descriptor().Fields().Len() {
		fd := m.Descriptor().Fields().Get(i)
		if fd.IsList() {
			list := m.Mutable(fd).List()
			list.Append(fieldValue(fd, 1))
			list.Append(fieldValue(fd, 2))
			continue
		}
		m.Set(fd, fieldValue(fd, 0))
	}
	return e
}

func fieldValue(fd protoreflect.FieldDescriptor, element int) protoreflect.Value {
	n := int64(fd.Number())
	text := string(fd.Name()) + " é"
	if element > 0 {
		text = fmt.Sprintf("%s %d", text, element)
	}
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(1_700_000_000_000 + n)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(1<<40 + uint64(n))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(fd.Enum().Values().Len() - 1))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(text)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(append([]byte{0x00, 0xff, byte(n)}, text...))
	default:
		panic(fmt.Sprintf("field %s is of kind %s, which no event has used yet: teach fieldValue", fd.FullName(), fd.Kind()))
	}
}

// goldenRecord is the record that carries the full event of k.
func goldenRecord(t testing.TB, k Kind) Record {
	t.Helper()
	body, schema, err := EncodeEvent(fullEvent(k))
	if err != nil {
		t.Fatal(err)
	}
	return Record{
		Seq: 1000 + uint64(k), Stream: "device/golden", Version: uint64(k),
		ID: EventID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, byte(k)}, Kind: k, Schema: schema, Critical: k.Critical(),
		At:    Instant{TrustMs: 1_795_300_000_000, WallMs: 1_795_300_000_123},
		Cause: Cause{Request: "request-1", Broker: "demo"}, Body: body,
	}
}

// TestGolden holds every kind's bytes: a log written by an older program must read the
// same, and the same event must give the same bytes (they are hashed and signed).
func TestGolden(t *testing.T) {
	wanted := map[string]bool{}
	for _, k := range sortedKinds() {
		wanted[filepath.Base(goldenPath(k))] = true
		t.Run(k.String(), func(t *testing.T) { checkGolden(t, k) })
	}
	entries, err := os.ReadDir(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if !wanted[entry.Name()] {
			t.Errorf("%s belongs to no kind at its present schema: kinds are never renamed, renumbered or removed", entry.Name())
		}
	}
}

func checkGolden(t *testing.T, k Kind) {
	want := goldenRecord(t, k)
	encoded, err := AppendRecord(nil, &want)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(goldenPath(k), hexLines(encoded), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	golden := readHex(t, goldenPath(k))
	if !bytes.Equal(encoded, golden) {
		t.Fatalf("%s encodes to other bytes than its golden file.\n got %x\nwant %x\nIf a field was added on purpose: go test ./messages -run TestGolden -update", k, encoded, golden)
	}
	r, err := ParseRecord(golden)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeEvent(&r)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, fullEvent(k)) {
		t.Errorf("golden decodes to\n %v\nwant\n %v", got, fullEvent(k))
	}
	// Auditors read with other protobuf libraries: the fast path must write what the
	// official encoder writes.
	official, err := proto.MarshalOptions{Deterministic: true}.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(official, r.Body) {
		t.Errorf("the official encoder writes\n %x\nthe fast path\n %x", official, r.Body)
	}
	r.Body = nil
	want.Body = nil
	if fmt.Sprint(r) != fmt.Sprint(want) {
		t.Errorf("golden envelope is\n %v\nwant\n %v", r, want)
	}
}

// TestFullEventSetsEveryField guards the goldens themselves: a field left empty would
// have no bytes in them.
func TestFullEventSetsEveryField(t *testing.T) {
	for _, k := range sortedKinds() {
		m := fullEvent(k).ProtoReflect()
		for i := range m.Descriptor().Fields().Len() {
			if fd := m.Descriptor().Fields().Get(i); !m.Has(fd) {
				t.Errorf("%s is empty in its golden", fd.FullName())
			}
		}
	}
}

func sortedKinds() []Kind {
	list := AllKinds()
	slices.Sort(list)
	return list
}

// hexLines spells b in lines of 32 bytes, so that a diff shows where it changed.
func hexLines(b []byte) []byte {
	var out bytes.Buffer
	for chunk := range slices.Chunk(b, 32) {
		fmt.Fprintf(&out, "%x\n", chunk)
	}
	return out.Bytes()
}

func readHex(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v\nA new kind needs its golden file: go test ./messages -run TestGolden -update", err)
	}
	b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return b
}
