package eventlog

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

// A disk whose free space the test sets: what restricts outlives everything else, and
// all comes back when space does.
func TestSpaceGuardGivesUpGrantsFirst(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var free atomic.Uint64
	free.Store(1 << 30)
	o := Options{FreeSpace: func(string) (uint64, error) { return free.Load(), nil }}
	s := mustOpen(t, dir, o)
	if err := appendOne(s, "device/a", 0, Grants, false); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return s.Stat().Stored == 1 })
	free.Store(2*memTableBytesMin + 4<<20) // enough for Badger, not for everybody
	waitFor(t, func() bool { return errors.Is(appendOne(s, "device/b", 0, Grants, false), ErrFull) })
	if err := appendOne(s, "device/b", 0, Records, false); !errors.Is(err, ErrFull) {
		t.Errorf("record when space is low: got %v, want ErrFull", err)
	}
	if err := s.PutSnapshot("x", Snapshot{}); !errors.Is(err, ErrFull) {
		t.Errorf("snapshot when space is low: got %v, want ErrFull", err)
	}
	if err := appendOne(s, "device/a", 1, Restricts, false); err != nil {
		t.Errorf("revocation when space is low: %v", err)
	}
	free.Store(0)
	taken := uint64(0)
	var err error
	for err == nil { // journal only now
		if err = appendOne(s, "device/r", taken, Restricts, false); err == nil {
			taken++
		}
	}
	if !errors.Is(err, ErrFull) || taken < 256 { // half a journal of 512 sectors at least
		t.Errorf("%d revocations were taken with nothing free, then %v; want 256, then ErrFull", taken, err)
	}
	if st := s.Stat(); st.Ballast || !st.Low {
		t.Errorf("with a full journal: %+v, want the ballast released", st)
	}
	free.Store(1 << 30)
	waitFor(t, func() bool { return appendOne(s, "device/c", 0, Grants, false) == nil })
	waitFor(t, func() bool { st := s.Stat(); return st.Ballast && !st.Low && st.Stored == st.Head.Seq })
	if _, err := os.Stat(filepath.Join(dir, ballastName)); err != nil {
		t.Errorf("ballast: %v", err)
	}
	if v, _ := s.Version("device/r"); v != taken {
		t.Errorf("%d revocations are there, want %d", v, taken)
	}
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Closing and opening again on a disk without space, with a journal that Badger cannot
// take: the generation goes on, and Badger thaws when space returns.
func TestLogOpensWithoutSpaceAndThaws(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var free atomic.Uint64
	free.Store(1 << 30)
	o := Options{FreeSpace: func(string) (uint64, error) { return free.Load(), nil }}
	s := mustOpen(t, dir, o)
	for i := range uint64(600) { // more than one generation
		if err := appendOne(s, "device/a", i, Grants, false); err != nil {
			t.Fatal(err)
		}
	}
	free.Store(9 << 20) // enough to open, not enough for Badger to run
	n := uint64(0)
	for range 3 {
		for range 60 {
			if err := appendOne(s, "device/r", n, Restricts, false); err != nil {
				t.Fatalf("revocation %d: %v", n, err)
			}
			n++
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, dir, o)
		if v, _ := s.Version("device/r"); v != n {
			t.Fatalf("%d revocations are there, want %d", v, n)
		}
	}
	if !s.lsm.frozen {
		t.Error("Badger runs without the space it may need")
	}
	free.Store(1 << 30)
	waitFor(t, func() bool { st := s.Stat(); return st.Stored == st.Head.Seq })
	count := uint64(0)
	for _, err := range s.Scan(t.Context(), 1, math.MaxUint64) {
		if err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != 600+n {
		t.Errorf("%d records, want %d", count, 600+n)
	}
	if err := appendOne(s, "device/a", 600, Grants, false); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = mustOpen(t, dir, o)
	if _, err := s.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// waitFor polls for what happens in the background; it fails after ten seconds.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it did not happen in ten seconds")
		}
	}
}
