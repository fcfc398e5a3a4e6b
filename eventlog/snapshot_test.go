package eventlog

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/messages"
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

// TestSnapshotThatIsNotWholeIsIgnored (reliability spec, A9), a large and a small one:
// damaged, cut short, of another key, of another log or another signer, ahead of the log: it
// is as if it were not there. One of an earlier record is there.
func TestSnapshotThatIsNotWholeIsIgnored(t *testing.T) {
	t.Run("large", func(t *testing.T) {
		testSpoiltSnapshots(t, large(1), func(s *Store, key string) ([]byte, error) { return os.ReadFile(snapshotPath(s.dir, key)) },
			func(s *Store, key string, b []byte) error {
				if err := os.MkdirAll(filepath.Join(s.dir, snapshotsName), directoryMode); err != nil {
					return err
				}
				return os.WriteFile(snapshotPath(s.dir, key), b, fileMode)
			})
	})
	t.Run("small", func(t *testing.T) {
		testSpoiltSnapshots(t, bytes.Repeat([]byte{1}, 9999), func(s *Store, key string) ([]byte, error) { return s.lsm.get(snapshotKey(key)) },
			func(s *Store, key string, b []byte) error {
				return s.lsm.commit([]*badger.Entry{badger.NewEntry(snapshotKey(key), b)}, func() error { return nil })
			})
	})
}

func testSpoiltSnapshots(t *testing.T, data []byte, get func(*Store, string) ([]byte, error), set func(*Store, string, []byte) error) {
	dir, o := filepath.Join(t.TempDir(), "log"), signed(t, Options{})
	early := Snapshot{Version: 7, Seq: 12, Data: data}
	open := func(name string, stream messages.StreamID, records int, o Options) *Store {
		t.Helper()
		s := openTest(t, filepath.Join(t.TempDir(), name), o)
		t.Cleanup(func() { closeTest(t, s) })
		appendTo(t, s, stream, records)
		return s
	}
	kept := func(s *Store, key string) []byte {
		t.Helper()
		if err := s.PutSnapshot(key, early); err != nil {
			t.Fatal(err)
		}
		b, err := get(s, key)
		if err != nil {
			t.Fatal(err)
		}
		return bytes.Clone(b)
	}
	put := func(s *Store, b []byte) {
		t.Helper()
		if err := set(s, "views", b); err != nil {
			t.Fatal(err)
		}
	}
	found := func(s *Store) bool {
		t.Helper()
		got, ok, err := s.Snapshot("views")
		if err != nil {
			t.Fatal(err)
		}
		if ok && (got.Version != 7 || got.Seq != 12 || !bytes.Equal(got.Data, early.Data)) {
			t.Fatalf("got version %d of record %d, %d bytes", got.Version, got.Seq, len(got.Data))
		}
		return ok
	}
	s := openTest(t, dir, o)
	appendTo(t, s, "device/a", 20)
	good := kept(s, "views")
	if !found(s) {
		t.Fatal("a whole snapshot is ignored")
	}
	spoilt := map[string][]byte{"empty": nil, "cut short": good[:len(good)-1], "longer": append(bytes.Clone(good), 0)}
	for _, at := range []int{0, 9, 12, 17, 20, 60, 100, 200, 300, 400, 5000, len(good) * 2 / 3, len(good) - 1} {
		b := bytes.Clone(good)
		b[at] ^= 4
		spoilt[fmt.Sprintf("byte %d", at)] = b
	}
	for name, o := range map[string]Options{"forged": signed(t, Options{}), "unsigned": {}} {
		l := open(name, "device/a", 20, o)
		if l.Head() != s.Head() {
			t.Fatal("the logs differ")
		}
		spoilt[name] = kept(l, "views")
	}
	spoilt["another log's"] = kept(open("other", "device/b", 20, o), "views") // signed with the same key
	spoilt["another key's"] = kept(s, "views/2")
	for name, b := range spoilt {
		put(s, b)
		if found(s) {
			t.Errorf("%s: it is taken", name)
		}
	}
	put(s, good)
	young := open("young", "device/a", 11, o)
	put(young, good)
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

// TestSnapshotsDoNotWaitForWhoWaitsForThem: closing, and opening anew when there is space,
// wait for who reads, and let no second reader in meanwhile; whoever keeps or takes up a
// snapshot must not be one.
func TestSnapshotsDoNotWaitForWhoWaitsForThem(t *testing.T) {
	s := openTest(t, t.TempDir(), Options{})
	defer closeTest(t, s)
	appendTo(t, s, "device/a", 20)
	release, err := s.reading()
	if err != nil {
		t.Fatal(err)
	}
	closing := make(chan struct{})
	go func() {
		defer close(closing)
		s.readers.Lock() // as a close does
		defer s.readers.Unlock()
	}()
	for s.readers.TryRLock() { // until the other waits
		s.readers.RUnlock()
		runtime.Gosched()
	}
	snap := Snapshot{Version: 1, Seq: 12, Data: large(1)}
	head, err := s.sealSnapshot("k", snap)
	if err == nil {
		snap, err = parseSnapshot(append(head, snap.Data...), "k", nil)
	}
	if err == nil {
		err = s.stands(snap)
	}
	if err != nil {
		t.Error(err)
	}
	release()
	<-closing
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
