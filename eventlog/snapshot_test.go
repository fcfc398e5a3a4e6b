package eventlog

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// signed are options with a new key of a log of that name.
func signed(t *testing.T, o Options) Options {
	t.Helper()
	secret, public, err := note.GenerateKey(rand.Reader, "core.example/log")
	if err != nil {
		t.Fatal(err)
	}
	if o.Signer, err = note.NewSigner(secret); err != nil {
		t.Fatal(err)
	}
	if o.Verifier, err = note.NewVerifier(public); err != nil {
		t.Fatal(err)
	}
	return o
}

func large(n byte) []byte { return bytes.Repeat([]byte{n}, 3<<20+9) }

// TestLargeSnapshotThatIsNotWholeIsIgnored (reliability spec, A9): damaged, cut short, of
// another key, of another log or another signer, ahead of the log: it is as if it were
// not there. One of an earlier record is there.
func TestLargeSnapshotThatIsNotWholeIsIgnored(t *testing.T) {
	dir, o := filepath.Join(t.TempDir(), "log"), signed(t, Options{})
	s := openTest(t, dir, o)
	appendTo(t, s, "device/a", 20)
	early := Snapshot{Version: 7, Seq: 12, Data: large(1)}
	if err := s.PutSnapshot("views", early); err != nil {
		t.Fatal(err)
	}
	path := snapshotPath(dir, "views")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := func(l *Store) bool {
		t.Helper()
		got, ok, err := l.Snapshot("views")
		if err != nil {
			t.Fatal(err)
		}
		if ok && (got.Version != 7 || got.Seq != 12 || !bytes.Equal(got.Data, early.Data)) {
			t.Fatalf("got version %d of record %d, %d bytes", got.Version, got.Seq, len(got.Data))
		}
		return ok
	}
	if !found(s) {
		t.Fatal("a whole snapshot is ignored")
	}
	spoilt := map[string][]byte{"empty": nil, "cut short": good[:len(good)-1], "longer": append(bytes.Clone(good), 0)}
	for _, at := range []int{0, 9, 12, 17, 20, 60, 100, 200, 300, 400, 5000, 2 << 20, len(good) - 1} {
		b := bytes.Clone(good)
		b[at] ^= 4
		spoilt[fmt.Sprintf("byte %d", at)] = b
	}
	other := openTest(t, filepath.Join(t.TempDir(), "other"), o) // signed with the same key
	defer closeTest(t, other)
	appendTo(t, other, "device/b", 20)
	if err := other.PutSnapshot("views", early); err != nil {
		t.Fatal(err)
	}
	forger := openTest(t, filepath.Join(t.TempDir(), "forger"), signed(t, Options{}))
	defer closeTest(t, forger)
	appendTo(t, forger, "device/a", 20)
	unsigned := openTest(t, filepath.Join(t.TempDir(), "unsigned"), Options{})
	defer closeTest(t, unsigned)
	appendTo(t, unsigned, "device/a", 20)
	for name, l := range map[string]*Store{"forged": forger, "unsigned": unsigned} {
		if err := l.PutSnapshot("views", early); err != nil {
			t.Fatal(err)
		}
		if l.Head() != s.Head() {
			t.Fatal("the logs differ")
		}
		if spoilt[name], err = os.ReadFile(snapshotPath(l.dir, "views")); err != nil {
			t.Fatal(err)
		}
	}
	if spoilt["another log's"], err = os.ReadFile(snapshotPath(other.dir, "views")); err != nil {
		t.Fatal(err)
	}
	if err := s.PutSnapshot("views/2", early); err != nil {
		t.Fatal(err)
	}
	if spoilt["another key's"], err = os.ReadFile(snapshotPath(dir, "views/2")); err != nil {
		t.Fatal(err)
	}
	for name, b := range spoilt {
		if err := os.WriteFile(path, b, fileMode); err != nil {
			t.Fatal(err)
		}
		if found(s) {
			t.Errorf("%s: it is taken", name)
		}
	}
	if err := os.WriteFile(path, good, fileMode); err != nil {
		t.Fatal(err)
	}
	young := openTest(t, filepath.Join(t.TempDir(), "young"), o)
	defer closeTest(t, young)
	appendTo(t, young, "device/a", 11)
	if err := os.CopyFS(filepath.Join(young.dir, snapshotsName), os.DirFS(filepath.Join(dir, snapshotsName))); err != nil {
		t.Fatal(err)
	}
	if found(young) {
		t.Error("one ahead of the log is taken")
	}
	closeTest(t, s)
	s = openTest(t, dir, o)
	defer closeTest(t, s)
	if !found(s) {
		t.Error("after another open it is not there")
	}
}

// TestSnapshotChangesItsSize: of a large and a small one of the same key the later counts.
func TestSnapshotChangesItsSize(t *testing.T) {
	s := openTest(t, t.TempDir(), Options{})
	defer closeTest(t, s)
	appendTo(t, s, "device/a", 20)
	for i, data := range [][]byte{large(1), []byte("small"), large(2), large(3), []byte("small again"), nil} {
		if err := s.PutSnapshot("k", Snapshot{Version: 1, Seq: uint64(i), Data: data}); err != nil {
			t.Fatal(err)
		}
		got, ok, err := s.Snapshot("k")
		if err != nil || !ok || got.Seq != uint64(i) || !bytes.Equal(got.Data, data) {
			t.Fatalf("%d: %v, %v, record %d with %d bytes", i, ok, err, got.Seq, len(got.Data))
		}
	}
	free := uint64(1 << 40)
	s.space.free = func(string) (uint64, error) { return free, nil }
	free = s.space.need + s.space.memTable + 1<<20
	if err := s.PutSnapshot("k", Snapshot{Seq: 7, Data: large(4)}); err == nil {
		t.Error("a snapshot took the space that is kept for events")
	}
	if _, ok, err := s.Snapshot("k"); !ok || err != nil {
		t.Errorf("the former one: %v, %v", ok, err)
	}
}
