package eventlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4/pb"
	"google.golang.org/protobuf/proto"
)

// filled is a closed log of n records, all of them in tables, with a journal that has
// forgotten the first.
func filled(t *testing.T, n uint64) (dir string, tables []string) {
	t.Helper()
	dir = t.TempDir()
	for part := range uint64(3) {
		s := mustOpen(t, dir, Options{})
		for i := range n / 3 {
			if err := appendOne(s, "device/a", part*(n/3)+i, Records, false); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	tables, err := listedTables(filepath.Join(dir, badgerName), badgerOptions(dir, memTableBytesMin, 0, false, mustDefaults(t, testOptions(Options{})).Logger))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	return dir, tables
}

// change appends a change to MANIFEST, as Badger does before it syncs.
func change(t *testing.T, dir string, list ...*pb.ManifestChange) {
	t.Helper()
	body, err := proto.Marshal(&pb.ManifestChangeSet{Changes: list})
	if err != nil {
		t.Fatal(err)
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	b = append(binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli)), body...)
	f, err := os.OpenFile(filepath.Join(dir, badgerName, manifestName), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(b)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func records(t *testing.T, dir string) (n int) {
	t.Helper()
	s := mustOpen(t, dir, Options{})
	for _, err := range s.Scan(t.Context(), 1, math.MaxUint64) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	return n
}

// TestChangesThatDidNotComeAbout: a sync of MANIFEST failed (the crash campaign's A6 found it), so that Badger took away the tables that a
// flush, or a compaction, had made, and the change stays in the file.
func TestChangesThatDidNotComeAbout(t *testing.T) {
	t.Parallel()
	const n = 1200
	create := func(id uint64) *pb.ManifestChange { return &pb.ManifestChange{Id: id, Op: pb.ManifestChange_CREATE} }
	for name, make := range map[string]func(t *testing.T, dir string, id uint64){
		"flush": func(t *testing.T, dir string, _ uint64) { change(t, dir, create(900)) },
		"compaction": func(t *testing.T, dir string, id uint64) {
			change(t, dir, create(900), create(901), &pb.ManifestChange{Id: id, Op: pb.ManifestChange_DELETE})
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, tables := filled(t, n)
			var id uint64
			for _, c := range strings.TrimSuffix(tables[0], tableSuffix) {
				id = id*10 + uint64(c-'0')
			}
			make(t, dir, id)
			if got := records(t, dir); got != n {
				t.Errorf("%d records, want %d", got, n)
			}
			if got := records(t, dir); got != n { // and it stays so
				t.Errorf("then %d records, want %d", got, n)
			}
		})
	}
	t.Run("a table that was finished is gone", func(t *testing.T) { // left out, too, and found to be missing
		dir, tables := filled(t, n)
		for _, name := range tables {
			if err := os.Remove(filepath.Join(dir, badgerName, name)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(dir, testOptions(Options{})); !errors.Is(err, ErrCorrupt) {
			t.Errorf("open: %v, want ErrCorrupt", err)
		}
	})
}

// TestBadgersFailuresAreTheLogs: what Badger cannot flush it tries again without end; the
// log stops at once.
func TestBadgersFailuresAreTheLogs(t *testing.T) {
	failed := make(chan error, 1)
	s := mustOpen(t, t.TempDir(), Options{Fatal: func(err error) { failed <- err }})
	s.lsm.logger.Warningf("Block cache might be too small. Metrics: %s\n", "?")
	if err := s.failed(); err != nil {
		t.Fatalf("failed by a warning: %v", err)
	}
	s.lsm.logger.Errorf("error flushing memtable to disk: %v, retrying", os.ErrInvalid)
	if err := <-failed; !errors.Is(err, ErrFailed) || !strings.Contains(err.Error(), "flushing") {
		t.Errorf("Fatal got %v", err)
	}
	if err := appendOne(s, "device/a", 0, Restricts, false); !errors.Is(err, ErrFailed) {
		t.Errorf("append: %v, want ErrFailed", err)
	}
	if err := s.Close(); err == nil {
		t.Error("closed without an error")
	}
}

func FuzzManifestChanges(f *testing.F) {
	body, err := proto.Marshal(&pb.ManifestChangeSet{Changes: []*pb.ManifestChange{{Id: 1}}})
	if err != nil {
		f.Fatal(err)
	}
	b := append([]byte("Bdgr\x00\x00\x00\x08"), 0, 0, 0, byte(len(body)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(body, castagnoli))
	f.Add(append(b, body...))
	f.Add([]byte("Bdgr"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := manifestChanges(b)
		if err != nil && list != nil {
			t.Error("changes and an error")
		}
	})
}
