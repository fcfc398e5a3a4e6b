package messages

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// TestKindsMatchTheProtoFile: every message of events.proto has exactly one kind of its
// own name, and every kind a message; the class that the table gives is the one that
// the message's comment tells people.
func TestKindsMatchTheProtoFile(t *testing.T) {
	byName := map[protoreflect.Name][]Kind{}
	for k, info := range kinds {
		e := info.fresh()
		name := e.ProtoReflect().Descriptor().Name()
		byName[name] = append(byName[name], k)
		if string(name) != info.name || k.String() != info.name {
			t.Errorf("kind %d is called %q and makes a %s", k, info.name, name)
		}
		if e.Kind() != k {
			t.Errorf("%s says that its kind is %d, the table says %d", name, e.Kind(), k)
		}
		if k == 0 {
			t.Errorf("%s has number 0, which is no kind", name)
		}
	}
	classes := classesInProto(t)
	list := File_events_proto.Messages()
	for i := range list.Len() {
		name := list.Get(i).Name()
		if n := len(byName[name]); n != 1 {
			t.Errorf("message %s has %d kinds, want one", name, n)
			continue
		}
		if got, want := kinds[byName[name][0]].class.String(), classes[string(name)]; got != want {
			t.Errorf("message %s is said to be one that %q in events.proto, and one that %q in kinds.go", name, want, got)
		}
		delete(byName, name)
	}
	for name, list := range byName {
		t.Errorf("kinds %v have message %s, which is not in events.proto", list, name)
	}
}

// classesInProto reads from the comment above each message whether it restricts, grants
// or records: the first of the capitalised words.
func classesInProto(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("events.proto")
	if err != nil {
		t.Fatal(err)
	}
	class := regexp.MustCompile(`\b(Restricts|Grants|Records)\b`)
	message := regexp.MustCompile(`^message (\w+) \{`)
	classes, comment := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "//"); ok {
			comment += rest
			continue
		}
		if m := message.FindStringSubmatch(line); m != nil {
			if !strings.HasPrefix(strings.TrimSpace(comment), m[1]+":") {
				t.Errorf("the comment of message %s does not begin with its name", m[1])
			}
			classes[m[1]] = strings.ToLower(class.FindString(comment))
		}
		comment = ""
	}
	return classes
}

// TestUnknownKinds walks all 65,536 numbers: what is not in the table is unknown,
// critical and taken as restricting, at every schema version; what is in it is known
// from version 1 to its newest.
func TestUnknownKinds(t *testing.T) {
	inTable := 0
	for n := range 1 << 16 {
		k := Kind(n)
		info, listed := kinds[k]
		if listed {
			inTable++
		}
		for _, schema := range []uint8{0, 1, 2, 3, 127, 255} {
			want := listed && schema >= 1 && schema <= info.schema
			if got := Known(k, schema); got != want {
				t.Fatalf("Known(%d, %d) = %t, want %t", k, schema, got, want)
			}
			if want {
				continue
			}
			if _, err := DecodeEvent(&Record{Kind: k, Schema: schema}); !errors.Is(err, ErrUnknownKind) {
				t.Fatalf("kind %d at schema %d decodes with error %v, want ErrUnknownKind", k, schema, err)
			}
		}
		if !listed && (!k.Critical() || k.Class() != Restricts || !strings.HasPrefix(k.String(), "kind ")) {
			t.Fatalf("unknown kind %d: critical %t, %s, %q", k, k.Critical(), k.Class(), k)
		}
	}
	if inTable != len(kinds) || len(AllKinds()) != len(kinds) {
		t.Errorf("%d kinds were met, %d listed, %d are in the table", inTable, len(AllKinds()), len(kinds))
	}
}

// TestCriticalKinds: what restricts is critical, and so are the documents that may take
// something away; the list is spelled out, since a kind that stops being critical makes
// an old program allow what a new one forbade.
func TestCriticalKinds(t *testing.T) {
	want := map[Kind]bool{
		KindCertificateRefused: true, KindAttachmentWithdrawn: true, KindDeviceForgotten: true, KindSessionClosed: true,
		KindDeviceQuarantined: true, KindPolicyReplaced: true, KindConfigReplaced: true, KindAuthorityRetired: true, KindTrustVoided: true,
		KindBrokerRestricted: true, KindComponentWithdrawn: true, KindPendingWithdrawn: true,
	}
	for _, k := range AllKinds() {
		if k.Critical() != want[k] {
			t.Errorf("%s: critical %t, want %t", k, k.Critical(), want[k])
		}
		if k.Class() == Restricts && !k.Critical() {
			t.Errorf("%s restricts and is not critical", k)
		}
	}
}

func TestClassNames(t *testing.T) {
	for class, want := range map[Class]string{Records: "records", Grants: "grants", Restricts: "restricts", 9: "records"} {
		if class.String() != want {
			t.Errorf("class %d is called %q, want %q", class, class, want)
		}
	}
}
