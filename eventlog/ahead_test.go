package eventlog_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-edge/gatehouse/eventlog"
)

// TestJournalThatLostItsEndIsRefused: the last page of the journal reads as zeros after a
// crash, which alone looks like one that was never written. Badger has its records in its
// write-ahead log and knows better, also when it is tried without that (the crash campaign's
// A4 found it).
func TestJournalThatLostItsEndIsRefused(t *testing.T) {
	live, image := filepath.Join(memoryDir(t), "live"), filepath.Join(memoryDir(t), "image")
	l := open(t, live, eventlog.Options{JournalBytes: 256 << 10})
	fill(t, l, 100)
	closeLog(t, l)
	l = open(t, live, eventlog.Options{JournalBytes: 256 << 10}) // from here on they are in the write-ahead log
	fill(t, l, 60)
	for l.Stat().Stored < l.Head().Seq {
		time.Sleep(time.Millisecond) // fed in the background, and nobody tells
	}
	copyDir(t, live, image)
	closeLog(t, l)
	erased := 0
	for _, name := range []string{"journal.0", "journal.1"} {
		b, err := os.ReadFile(filepath.Join(image, name))
		if err != nil {
			t.Fatal(err)
		}
		last := bytes.LastIndexFunc(b, func(r rune) bool { return r != 0 })
		page := b[last/4096*4096:][:4096]
		if last < 8192 { // nothing but its head
			continue
		}
		again := filepath.Join(memoryDir(t), "again")
		copyDir(t, image, again)
		clear(page)
		if err := os.WriteFile(filepath.Join(again, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		erased++
		got, err := eventlog.Open(again, small(eventlog.Options{JournalBytes: 256 << 10}))
		if err == nil {
			if n := got.Head().Seq; n != 160 {
				t.Errorf("%s: it opens with %d of 160 records", name, n)
			}
			closeLog(t, got)
		} else if !errors.Is(err, eventlog.ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", name, err)
		}
	}
	if erased == 0 {
		t.Fatal("nothing was erased: the experiment is wrong")
	}
}
