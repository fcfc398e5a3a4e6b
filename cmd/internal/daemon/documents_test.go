package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
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

// TestProblemWith: a rejection is told with its record, and a file that cannot be read
// never is, whatever its error says.
func TestProblemWith(t *testing.T) {
	const stream = messages.StreamPolicy
	rejection := &projections.Rejection{Seq: 7, At: messages.Instant{WallMs: 1000, TrustMs: 1000}, Errors: []string{"p.yaml:1:2: no"}}
	for _, c := range []struct {
		name     string
		note     bool
		rejected bool
		errors   []string
		recorded *projections.Rejection
		want     uint64 // the record; 0: it cannot be read
		none     bool
	}{
		{"in force", false, false, nil, nil, 0, true},
		{"good again after a rejection", false, false, nil, rejection, 0, true},
		{"rejected", true, true, []string{"p.yaml:1:2: no"}, rejection, 7, false},
		{"rejected anew, which is not noted yet", true, true, []string{"p.yaml:1:2: former"}, rejection, 7, false},
		{"in force, which is not noted yet", true, true, []string{"p.yaml:1:2: no"}, nil, 0, true},
		{"not readable", true, false, []string{"open p.yaml: no such file or directory"}, rejection, 0, false},
		{"not readable, in the same words", true, false, []string{"p.yaml:1:2: no"}, rejection, 0, false},
	} {
		live := &documents{}
		if c.note && !live.note(stream, c.rejected, c.errors) {
			t.Errorf("%s: no news", c.name)
		}
		if live.note(stream, c.rejected, c.errors) {
			t.Errorf("%s: news twice", c.name)
		}
		p := problemWith(projections.Document{Rejected: c.recorded}, stream, live)
		switch {
		case (p == nil) != c.none:
			t.Errorf("%s: %+v", c.name, p)
		case p != nil && (p.Record != c.want || c.want != 0 && p.Errors[0] != rejection.Errors[0]):
			t.Errorf("%s: %+v, want record %d", c.name, p, c.want)
		}
	}
}
