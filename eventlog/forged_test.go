package eventlog

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/dgraph-io/badger/v4"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// TestSyncThatFailsFailsTheAppend: what the disk does not say is durable is not. A device
// that takes all that is written, and can be told to sync nothing, is there on every system.
func TestSyncThatFailsFailsTheAppend(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if datasync(null) == nil {
		t.Fatalf("%s says that it syncs", os.DevNull)
	}
	j := journal{files: [2]*os.File{null, null}, sectors: 100, step: func(Step, []messages.Record) {}}
	if err := j.append(testGroup(newTestSequencer(), 1, 20)); err == nil || j.next != 0 {
		t.Errorf("a group counts as durable that was not synced: %v", err)
	}
}

// TestForgedFrameIsRefused: a record of the journal that is another, with checksums that fit,
// does not fit the root.
func TestForgedFrameIsRefused(t *testing.T) {
	live, dir := t.TempDir(), filepath.Join(t.TempDir(), "log")
	o := Options{JournalBytes: journalBytesMin}
	s := openTest(t, live, o)
	defer s.Close()
	for range 5 {
		appendTo(t, s, "device/pump-1", 1)
	}
	if err := os.CopyFS(dir, os.DirFS(live)); err != nil { // as after a crash
		t.Fatal(err)
	}
	path := filepath.Join(dir, filepath.Base(journalPath(dir, int(s.journal.head.generation%2))))
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var last frame
	at := -1
	sc := scan{gen: s.journal.head.generation, sectors: journalSectors(int64(len(image)))}
	sc.visit = func(f frame, sector int) error { last, at = f, sector; return nil }
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	sc.f = file
	if err := sc.run(1); err != nil || at < 0 || last.last() != 5 {
		t.Fatalf("the journal ends at %d: %v", last.last(), err)
	}
	g := &group{first: last.first, recs: make([]messages.Record, last.count), entries: append([]byte{}, last.entries...), root: last.root}
	g.entries[len(g.entries)-1] ^= 1
	_, err = file.WriteAt(appendFrame(nil, g, sc.gen, at), journalDataStart+int64(at)*sectorBytes)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
	refusedTest(t, dir, o)
}

// TestForgedBlockIsRefused: neither does one of Badger that the journal does not have any more.
func TestForgedBlockIsRefused(t *testing.T) {
	dir := t.TempDir()
	o := Options{JournalBytes: journalBytesMin}
	for range 4 { // the journal wraps: it cannot repair what is damaged
		s := openTest(t, dir, o)
		for range 150 {
			appendTo(t, s, "device/pump-1", 20)
		}
		closeTest(t, s)
	}
	inBadger(t, dir, func(txn *badger.Txn) error {
		return floor(txn, prefixBlock, 4*150*20, func(_ uint64, item *badger.Item) error {
			sealed, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			sealed[len(sealed)-1] ^= 1
			return txn.SetEntry(badger.NewEntry(item.KeyCopy(nil), seal(sealed)).WithMeta(item.UserMeta()))
		})
	})
	refusedTest(t, dir, o)
}

func refusedTest(t *testing.T, dir string, o Options) {
	t.Helper()
	o.BallastBytes, o.MemTableBytes = -1, memTableBytesMin
	s, err := Open(dir, o)
	if err == nil {
		err = errors.Join(errors.New("it opened"), s.Close())
	}
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("a log with a forged record: %v", err)
	}
}
