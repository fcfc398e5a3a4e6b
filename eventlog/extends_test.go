package eventlog_test

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
)

// TestOldCopyOfTheWholeShowsToWhoKeptACheckpoint: nothing in the directory does.
func TestOldCopyOfTheWholeShowsToWhoKeptACheckpoint(t *testing.T) {
	live, old := filepath.Join(memoryDir(t), "live"), filepath.Join(memoryDir(t), "old")
	l := open(t, live, eventlog.Options{})
	none, err := l.Checkpoint(bg)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, l, 20)
	early, err := l.Checkpoint(bg)
	if err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	copyDir(t, live, old)
	l = open(t, live, eventlog.Options{})
	defer func() { closeLog(t, l) }()
	fill(t, l, 20)
	late, err := l.Checkpoint(bg)
	if err != nil {
		t.Fatal(err)
	}
	for name, note := range map[string][]byte{"empty": none, "early": early, "late": late} {
		if _, err := eventlog.Extends(l, note, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	back := open(t, old, eventlog.Options{})
	defer closeLog(t, back)
	if head, err := eventlog.Extends(back, late, nil); !errors.Is(err, eventlog.ErrCorrupt) || head.Seq != 40 {
		t.Errorf("an old copy: %v, checkpoint of %d", err, head.Seq)
	}
	for range 30 { // it goes on, and is longer than the checkpoint, and another log
		v, err := back.Version(eventlogtest.Device(500))
		if err != nil {
			t.Fatal(err)
		}
		eventlogtest.MustAppend(t, back, eventlogtest.Device(500), v, 1)
	}
	if _, err := eventlog.Extends(back, late, nil); !errors.Is(err, eventlog.ErrCorrupt) {
		t.Errorf("an old copy that went on: %v", err)
	}
	if _, err := eventlog.Extends(back, early, nil); err != nil {
		t.Errorf("a checkpoint from before they parted: %v", err)
	}
	if _, err := eventlog.Extends(l, []byte("nonsense\n"), nil); err == nil {
		t.Error("nonsense is a checkpoint")
	}
}

// FuzzExtends: only what the log's key signed of this very log is extended by it.
func FuzzExtends(f *testing.F) {
	signer, verifier := keys(f, "core-1.example/log")
	stranger, _ := keys(f, "core-1.example/log")
	l := eventlog.NewMemory(eventlog.Options{Signer: signer})
	genuine := map[string]bool{}
	add := func(text []byte, err error) {
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		n, err := note.Open(text, note.VerifierList(verifier))
		if err == nil {
			genuine[n.Text] = true
		}
	}
	for i := range 3 {
		add(l.Checkpoint(bg))
		eventlogtest.MustAppend(f, l, eventlogtest.Device(i), 0, 2)
	}
	add(l.Checkpoint(bg))
	other := eventlog.NewMemory(eventlog.Options{Signer: stranger})
	eventlogtest.MustAppend(f, other, eventlogtest.Device(9), 0, 2)
	add(other.Checkpoint(bg))
	f.Fuzz(func(t *testing.T, text []byte) {
		if head, err := eventlog.Extends(l, text, nil); err == nil && head.Seq > l.Head().Seq {
			t.Errorf("%q is extended by a log of %d", text, l.Head().Seq)
		}
		if _, err := eventlog.Extends(l, text, verifier); err != nil {
			return
		}
		if n, err := note.Open(text, note.VerifierList(verifier)); err != nil || !genuine[n.Text] {
			t.Errorf("%q is extended, and was never signed: %v", text, err)
		}
	})
}
