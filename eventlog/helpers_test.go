package eventlog_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// small are options for tests: everything as in production, but smaller.
func small(o eventlog.Options) eventlog.Options {
	if o.JournalBytes == 0 {
		o.JournalBytes = 4 << 20
	}
	if o.BallastBytes == 0 {
		o.BallastBytes = 64 << 10
	}
	if o.UnindexedMax == 0 {
		o.UnindexedMax = 100
	}
	o.MemTableBytes = 6 << 20
	return o
}

// tiny makes the journal wrap after some dozens of events.
var tiny = eventlog.Options{JournalBytes: 64 << 10}

// memoryDir is a temporary directory in memory where the system has such: for tests that
// open hundreds of logs and for which a sync need not be one.
func memoryDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "gatehouse-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func open(t testing.TB, dir string, o eventlog.Options) *eventlog.Store {
	t.Helper()
	l, err := eventlog.Open(dir, small(o))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func closeLog(t testing.TB, l eventlog.Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// fill appends n events to a few streams, one by one, and returns them.
func fill(t testing.TB, l eventlog.Log, n int) []messages.Record {
	t.Helper()
	var recs []messages.Record
	for i := range n {
		stream := eventlogtest.Device(i % 9)
		v, err := l.Version(stream)
		if err != nil {
			t.Fatal(err)
		}
		recs = append(recs, eventlogtest.MustAppend(t, l, stream, v, 1)...)
	}
	return recs
}

// mustHold checks that l has exactly these records, by scan, by stream and by proof
// of its whole content.
func mustHold(t testing.TB, l eventlog.Log, want []messages.Record) {
	t.Helper()
	if err := holds(l, want); err != nil {
		t.Fatal(err)
	}
}

func holds(l eventlog.Log, want []messages.Record) error {
	var got []messages.Record
	byStream := map[messages.StreamID][]messages.Record{}
	for rec, err := range l.Scan(bg, 1, math.MaxUint64) {
		if err != nil {
			return err
		}
		got = append(got, rec)
	}
	if !slices.EqualFunc(got, want, eventlogtest.Equal) {
		return fmt.Errorf("the log has %d records, want the %d that were acknowledged", len(got), len(want))
	}
	for _, r := range want {
		byStream[r.Stream] = append(byStream[r.Stream], r)
	}
	for stream, recs := range byStream {
		var got []messages.Record
		for rec, err := range l.Read(bg, stream, 1) {
			if err != nil {
				return err
			}
			got = append(got, rec)
		}
		if !slices.EqualFunc(got, recs, eventlogtest.Equal) {
			return fmt.Errorf("stream %s has %d records, want %d", stream, len(got), len(recs))
		}
	}
	if _, err := l.Verify(bg, nil); err != nil {
		return err
	}
	return nil
}

// copyDir copies a directory, which may be in use: the image that a crash leaves.
func copyDir(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyFile copies a file and leaves its holes.
func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	fi, err := in.Stat()
	if err != nil {
		return err
	}
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	for hole := int64(0); ; {
		data, err := unix.Seek(int(in.Fd()), hole, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // nothing but a hole is left
			return out.Truncate(fi.Size())
		}
		if err == nil {
			hole, err = unix.Seek(int(in.Fd()), data, unix.SEEK_HOLE)
		}
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(out, data), io.NewSectionReader(in, data, hole-data)); err != nil {
			return err
		}
	}
}

// digest sums up a directory: names and contents.
func digest(t testing.TB, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(h, "%s %x\n", path, sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}
