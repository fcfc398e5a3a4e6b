package eventlog_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// unpack puts the content of an archive in testdata into dir.
func unpack(t *testing.T, name, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, h.Name)
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(path, 0o700)
		} else {
			var b []byte
			if b, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, b, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFormat1IsReadAndGoesOn: what version 0.1.0 left when it was killed, with an index
// entry for each stream in each block, opens, is whole, grows, and is whole again after
// further opens.
func TestFormat1IsReadAndGoesOn(t *testing.T) {
	const records = 790 // of fill, the last 90 in the journal and Badger's write-ahead log
	dir := filepath.Join(memoryDir(t), "log")
	unpack(t, "format1.tar.gz", dir)
	before := digest(t, dir)
	l, err := eventlog.Open(dir, eventlog.Options{ReadOnly: true, ScratchDir: memoryDir(t), MemTableBytes: 6 << 20})
	if err != nil {
		t.Fatal(err)
	}
	var want []messages.Record
	for rec, err := range l.Scan(bg, 1, records) {
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, rec)
	}
	mustHold(t, l, want)
	closeLog(t, l)
	if len(want) != records || digest(t, dir) != before {
		t.Fatalf("%d records, want %d; the directory must be as it was", len(want), records)
	}
	for range 3 {
		l := open(t, dir, eventlog.Options{})
		mustHold(t, l, want)
		want = append(want, fill(t, l, 300)...)
		mustHold(t, l, want)
		closeLog(t, l)
	}
}
