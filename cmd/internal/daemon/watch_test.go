package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// heard collects what a watch tells.
type heard chan string

func (h heard) taken(doc []byte, err error) bool {
	if err != nil {
		h <- "error: " + err.Error()
		return true
	}
	h <- string(doc)
	return true
}

func (h heard) await(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-h:
		if !strings.Contains(got, want) {
			t.Fatalf("heard %q, want %q", got, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("heard nothing, want %q", want)
	}
}

func watching(t *testing.T, path string) heard {
	t.Helper()
	h := make(heard, 16)
	stop := watchFile(path, 100, slog.New(slog.DiscardHandler), h.taken)
	t.Cleanup(func() {
		stop()
		close(h)
		for left := range h { // nothing is told twice
			t.Errorf("also heard %q", left)
		}
	})
	return h
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWatch: however a file changes, the change is heard once.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	put(t, path, "one\n")
	h := watching(t, path)
	h.await(t, "one") // what was there before the watch began
	put(t, filepath.Join(dir, "beside"), "another file\n")
	put(t, path, "two\n")
	h.await(t, "two")
	put(t, path+".new", "three\n") // as editors do
	must(t, os.Rename(path+".new", path))
	h.await(t, "three")
	must(t, os.Remove(path))
	h.await(t, "no such file")
	put(t, path, "three\n") // it is back as it was: the trouble is over
	h.await(t, "three")
	put(t, path, strings.Repeat("x", 101))
	h.await(t, "more than 100 bytes")
	put(t, path, "four") // no end of line: perhaps not all of it
	h.await(t, "four")
	must(t, os.Truncate(path, 0))
	h.await(t, "the file is empty")
	put(t, path, "five\n")
	h.await(t, "five")
	must(t, os.Remove(path))
	must(t, os.Mkdir(path, 0o700))
	h.await(t, "not a regular file")
}

// TestWatchHalfWritten: what is written in two pieces is read once it is whole.
func TestWatchHalfWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	put(t, path, "definitions: {}\n")
	h := watching(t, path)
	h.await(t, "definitions")
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	_, err = f.WriteString("definitions:\n  sensors: {selectionRule: \"thin")
	must(t, err)
	time.Sleep(4 * settle) // a slow writer; there is no event to wait for: nothing is to happen
	_, err = f.WriteString("gName: s\", policyName: p}\n")
	must(t, err)
	h.await(t, "thingName: s")
}

// TestWatchLinks: the file stands behind links, as Kubernetes mounts a ConfigMap.
func TestWatchLinks(t *testing.T) {
	dir := t.TempDir()
	for _, version := range []string{"1", "2", "3"} {
		must(t, os.Mkdir(filepath.Join(dir, "v"+version), 0o700))
		put(t, filepath.Join(dir, "v"+version, "a.yaml"), "version "+version+"\n")
	}
	must(t, os.Symlink("v1", filepath.Join(dir, "..data")))
	must(t, os.Mkdir(filepath.Join(dir, "etc"), 0o700))
	path := filepath.Join(dir, "etc", "a.yaml")
	must(t, os.Symlink(filepath.Join("..", "..data", "a.yaml"), path))
	h := watching(t, path)
	h.await(t, "version 1")
	for _, version := range []string{"2", "3"} {
		must(t, os.Symlink("v"+version, filepath.Join(dir, "..tmp")))
		must(t, os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
		h.await(t, "version "+version)
		must(t, os.RemoveAll(filepath.Join(dir, fmt.Sprint("v", version[0]-'0'-1))))
	}
	put(t, filepath.Join(dir, "v3", "a.yaml"), "in place\n")
	h.await(t, "in place")
	must(t, os.Remove(path)) // the link becomes a file
	put(t, path, "a file\n")
	h.await(t, "a file")
}

// TestWatchFolderReplaced: no event tells that the folder is another one.
func TestWatchFolderReplaced(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "etc")
	path := filepath.Join(folder, "a.yaml")
	must(t, os.Mkdir(folder, 0o700))
	put(t, path, "one\n")
	h := watching(t, path)
	h.await(t, "one")
	must(t, os.Rename(folder, filepath.Join(dir, "old")))
	h.await(t, "no such file")
	must(t, os.Mkdir(folder, 0o700))
	put(t, path, "two\n")
	h.await(t, "two")
	put(t, path, "three\n")
	h.await(t, "three")
}

func TestWaypoints(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Symlink("b", filepath.Join(dir, "a")))
	must(t, os.Symlink("a", filepath.Join(dir, "b")))
	if got := waypoints(filepath.Join(dir, "a", "x")); len(got) < 3 || len(got) > 100 {
		t.Errorf("a circle of links: %d entries", len(got))
	}
	if got := waypoints(filepath.Join(dir, "none", "x")); len(got) != 1 {
		t.Errorf("nothing there: %v", got)
	}
}

// TestWatchTellsAgain: what could not be taken, since the disk was full, is told again.
func TestWatchTellsAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	put(t, path, "a: b\n")
	told := make(chan string, 16)
	refusals := 1
	stop := watchFile(path, 100, slog.New(slog.DiscardHandler), func(doc []byte, _ error) bool {
		told <- string(doc)
		refusals--
		return refusals < 0
	})
	for range 2 {
		select {
		case got := <-told:
			if got != "a: b\n" {
				t.Errorf("heard %q", got)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("heard nothing")
		}
	}
	stop()
	if len(told) != 0 {
		t.Error("heard a third time")
	}
}
