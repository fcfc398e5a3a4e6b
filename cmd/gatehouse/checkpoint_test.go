package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestCheckpointKeptElsewhere: an older copy of the whole directory verifies, and does not
// extend a checkpoint that was kept elsewhere.
func TestCheckpointKeptElsewhere(t *testing.T) {
	d := startDev(t, "")
	elsewhere := t.TempDir()
	keep := func(name, text string) string {
		t.Helper()
		file := filepath.Join(elsewhere, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	first := keep("first", d.must("gatehouse", "log", "checkpoint"))
	d.end(syscall.SIGTERM)
	before := filepath.Join(elsewhere, "before")
	if err := os.CopyFS(before, os.DirFS(d.dir)); err != nil {
		t.Fatal(err)
	}
	d = startDev(t, d.dir)
	text := d.must("gatehouse", "log", "checkpoint")
	second := keep("second", text)
	d.must("it extends the checkpoint", "log", "verify", "--live", "--checkpoint", first)
	d.must("it extends the checkpoint", "log", "verify", "--live", "--checkpoint", second)
	stranger := keep("stranger", startDev(t, "").must("gatehouse", "log", "checkpoint"))
	d.end(syscall.SIGTERM)
	d.must("it extends the checkpoint", "log", "verify", "--checkpoint", second)

	now := d.dir
	for _, c := range []struct {
		what, dir, file string
		code            int
		want            string
	}{
		{"an older copy, alone", before, "", 0, "ok: "},
		{"an older copy, and its own checkpoint", before, first, 0, "it extends"},
		{"an older copy", before, second, exitCorrupt, "an older copy was put back"},
		{"another daemon's", now, stranger, exitFailed, "not signed by this log's key"},
		{"a root that was changed", now, keep("changed", strings.Replace(text, "\n", "\n1", 1)), exitFailed, "invalid signature"},
		{"no checkpoint", now, keep("none", "hello\n"), exitFailed, "checkpoint"},
		{"an empty file", now, keep("empty", ""), exitFailed, "is empty"},
		{"a long file", now, keep("long", strings.Repeat("x", 1<<20)), exitFailed, "longer than"},
		{"no file", now, filepath.Join(elsewhere, "nothing"), exitFailed, "no such file"},
	} {
		args := []string{"log", "verify", c.dir}
		if c.file != "" {
			args = append(args, "--checkpoint", c.file)
		}
		if out, code := runProgram(t, args...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit %d, want %d and %q in:\n%s", c.what, code, c.code, c.want, out)
		}
	}
}
