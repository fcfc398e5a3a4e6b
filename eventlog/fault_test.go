package eventlog

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Tests that reach inside, to break things where only the log can reach.

func testOptions(o Options) Options {
	o.JournalBytes, o.MemTableBytes = 256<<10, memTableBytesMin
	if o.BallastBytes == 0 {
		o.BallastBytes = 64 << 10
	}
	return o
}

func mustOpen(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, testOptions(o))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func appendOne(s *Store, stream string, expected uint64, class Class, critical bool) error {
	ch := make(chan error, 1)
	d := Draft{ID: messages.EventID{byte(expected), byte(len(stream))}, Kind: 5, Schema: 1, Critical: critical, Body: make([]byte, 100)}
	s.Append(Batch{Stream: messages.StreamID(stream), Expected: expected, Class: class, Drafts: []Draft{d}},
		func(_ []messages.Record, err error) { ch <- err })
	return <-ch
}

func TestFailedAppendStopsTheLogForGood(t *testing.T) {
	dir := t.TempDir()
	var fatal atomic.Pointer[error]
	s := mustOpen(t, dir, Options{Fatal: func(err error) { fatal.Store(&err) }})
	for i := range uint64(20) {
		if err := appendOne(s, "device/a", i, Records, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range s.journal.files { // the disk is gone
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := appendOne(s, "device/a", 20, Restricts, false); !errors.Is(err, ErrFailed) {
		t.Errorf("append: got %v, want ErrFailed", err)
	}
	if p := fatal.Load(); p == nil || !errors.Is(*p, ErrFailed) || !errors.Is(*p, os.ErrClosed) {
		t.Errorf("Fatal got %v, want ErrFailed and its cause", p)
	}
	if err := appendOne(s, "device/b", 0, Restricts, false); !errors.Is(err, ErrFailed) {
		t.Errorf("append after the failure: got %v, want ErrFailed", err)
	}
	var last error
	for _, err := range s.Follow(t.Context(), 1) {
		last = err
	}
	if !errors.Is(last, ErrFailed) || s.Stat().Failed == nil {
		t.Errorf("Follow ended with %v, want ErrFailed", last)
	}
	_ = s.Close() // says that the files are closed already
	s = mustOpen(t, dir, Options{})
	if got := s.Head().Seq; got != 20 {
		t.Errorf("reopened with %d records, want 20", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestUnknownCriticalKindRefusesTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := Options{KnownKind: func(k messages.Kind, _ uint8) bool { return k != 5 }}
	for _, clean := range []bool{false, true} {
		s := mustOpen(t, dir, Options{})
		v, _ := s.Version("device/a")
		if err := appendOne(s, "device/a", v, Records, false); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, o) // unknown and not critical: kept, hashed, counted
		if rep, err := s.Verify(t.Context(), nil); err != nil || rep.Unknown != v+1 {
			t.Errorf("verify: %+v, %v, want %d unknown", rep, err, v+1)
		}
		if !clean {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := appendOne(s, "device/b", 0, Records, true); err != nil {
			t.Fatal(err)
		}
		image := filepath.Join(t.TempDir(), "image") // the critical record is in the journal only, or stored
		if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{image, dir} {
			if _, err := Open(d, testOptions(o)); !errors.Is(err, ErrNewer) {
				t.Errorf("open: got %v, want ErrNewer", err)
			}
			s := mustOpen(t, d, Options{})
			if got := s.Head().Seq; got != 3 {
				t.Errorf("%d records after the refusal, want 3", got)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestLostHeadIsNotANewLog(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	if err := appendOne(s, "device/a", 0, Restricts, false); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(t.TempDir(), "image")
	if err := os.CopyFS(image, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i, d := range []string{dir, image} {
		if err := os.Remove(filepath.Join(d, headName)); err != nil {
			t.Fatal(err)
		}
		if i == 1 { // not even Badger is left
			if err := os.RemoveAll(filepath.Join(d, badgerName)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(d, testOptions(Options{})); !errors.Is(err, ErrCorrupt) {
			t.Errorf("open without HEAD: got %v, want ErrCorrupt", err)
		}
	}
}

func TestInterruptedCreationIsBegunAgain(t *testing.T) {
	t.Parallel()
	whole := t.TempDir()
	if err := mustOpen(t, whole, Options{}).Close(); err != nil {
		t.Fatal(err)
	}
	for _, left := range [][]string{{lockName}, {lockName, "journal.0.new"}, {lockName, "journal.0", "journal.1.new"}, {lockName, "journal.0", "journal.1", ballastName, "HEAD.new"}} {
		dir := t.TempDir()
		if err := create(dir, mustDefaults(t, testOptions(Options{}))); err != nil {
			t.Fatal(err)
		}
		keep := map[string]bool{}
		for _, name := range left {
			keep[name] = true
			if base, isNew := name[:max(0, len(name)-4)], filepath.Ext(name) == ".new"; isNew {
				if err := os.Rename(filepath.Join(dir, base), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if !keep[f.Name()] {
				if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
		s := mustOpen(t, dir, Options{})
		if err := appendOne(s, "device/a", 0, Records, false); err != nil {
			t.Errorf("after a creation that left %v: %v", left, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func mustDefaults(t *testing.T, o Options) Options {
	t.Helper()
	o, err := o.withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The two renames of an install, and the removal after them, may be cut short.
func TestInterruptedInstallIsFinishedOrUndone(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	for i := range uint64(30) {
		if err := appendOne(s, "device/a", i, Records, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	live, old, fresh := filepath.Join(dir, badgerName), filepath.Join(dir, badgerOldName), filepath.Join(dir, badgerNewName)
	for step, leave := range []func() error{
		func() error { return os.CopyFS(fresh, os.DirFS(live)) },                                    // copied, nothing renamed
		func() error { return errors.Join(os.CopyFS(fresh, os.DirFS(live)), os.Rename(live, old)) }, // one renamed
		func() error {
			return errors.Join(os.CopyFS(old, os.DirFS(live)), os.Remove(filepath.Join(old, manifestName)))
		},
	} {
		if err := leave(); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, dir, Options{})
		n := 0
		for _, err := range s.Scan(t.Context(), 1, math.MaxUint64) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		if n != 30 {
			t.Errorf("step %d: %d records, want 30", step, n)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{old, fresh} {
			if _, err := os.Stat(d); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("step %d left %s", step, d)
			}
		}
	}
}

func TestQueueIsBounded(t *testing.T) {
	block := make(chan struct{})
	s := mustOpen(t, t.TempDir(), Options{QueueMax: 10, Applied: func([]messages.Record) { <-block }})
	defer s.Close()
	answers := make(chan error, 100)
	for i := range 100 {
		s.Append(Batch{Stream: messages.StreamID(fmt.Sprint("device/", i)), Drafts: []Draft{{Kind: 1, Schema: 1}}},
			func(_ []messages.Record, err error) { answers <- err })
	}
	busy := 0
	for range 100 {
		select {
		case err := <-answers:
			if errors.Is(err, ErrBusy) {
				busy++
			} else if err != nil {
				t.Error(err)
			}
		default:
			continue
		}
	}
	close(block)
	if busy == 0 {
		t.Error("100 appends were accepted by a queue of 10")
	}
}
