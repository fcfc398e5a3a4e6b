package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestReadLimited: what is no file of a bounded size is refused at once, whoever put it
// there.
func TestReadLimited(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		ok         bool
	}{
		{"as long as it may be", write("full", 100), true},
		{"empty", write("empty", 0), true},
		{"longer", write("long", 101), false},
		{"a pipe that nobody writes", pipe, false},
		{"a device without end", "/dev/zero", false},
		{"a folder", dir, false},
	} {
		if doc, err := readLimited(c.path, 100); (err == nil) != c.ok {
			t.Errorf("%s: %d bytes, %v; want success %v", c.name, len(doc), err, c.ok)
		}
	}
	if _, err := readLimited(filepath.Join(dir, "none"), 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v, want fs.ErrNotExist", err)
	}
}
