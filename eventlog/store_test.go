package eventlog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/eventlog/eventlogtest"
	"github.com/gatehouse-edge/gatehouse/messages"
)

var bg = context.Background()

func TestStorePassesTheSuite(t *testing.T) {
	eventlogtest.Run(t, func(t *testing.T, o eventlog.Options) eventlog.Log { return open(t, t.TempDir(), o) })
}

func TestReopenedLogGoesOnWhereItEnded(t *testing.T) {
	dir := t.TempDir()
	var want []messages.Record
	for range 4 {
		l := open(t, dir, tiny)
		mustHold(t, l, want)
		want = append(want, fill(t, l, 100)...)
		mustHold(t, l, want)
		closeLog(t, l)
	}
	l := open(t, dir, tiny)
	defer closeLog(t, l)
	mustHold(t, l, want)
	if got := l.Stat().Repaired; got != 0 {
		t.Errorf("%d records were repaired after a clean end, want none", got)
	}
}

func TestCrashImageHoldsEverythingAcknowledged(t *testing.T) {
	t.Parallel()
	for _, o := range []eventlog.Options{{}, tiny} {
		dir := t.TempDir()
		l := open(t, dir, o)
		var want []messages.Record
		for range 3 {
			want = append(want, fill(t, l, 150)...)
			image := filepath.Join(t.TempDir(), "image")
			copyDir(t, dir, image)
			crashed := open(t, image, o)
			mustHold(t, crashed, want)
			more := append(want[:len(want):len(want)], fill(t, crashed, 20)...)
			mustHold(t, crashed, more)
			closeLog(t, crashed)
			again := open(t, image, o)
			mustHold(t, again, more)
			closeLog(t, again)
		}
		closeLog(t, l)
	}
}

func TestInspectionChangesNoByte(t *testing.T) {
	dir := t.TempDir()
	l := open(t, dir, tiny)
	want := fill(t, l, 200)
	image := filepath.Join(t.TempDir(), "image")
	copyDir(t, dir, image)
	closeLog(t, l)
	for _, d := range []string{dir, image} {
		before := digest(t, d)
		r := open(t, d, eventlog.Options{ReadOnly: true})
		mustHold(t, r, want)
		if _, err := eventlogtest.Append(r, eventlog.Batch{Stream: eventlogtest.Device(1), Drafts: []eventlog.Draft{eventlogtest.Event(1, 1)}}); !errors.Is(err, eventlog.ErrReadOnly) {
			t.Errorf("append: got %v, want ErrReadOnly", err)
		}
		closeLog(t, r)
		if digest(t, d) != before {
			t.Error("inspection changed the directory")
		}
		if files, _ := filepath.Glob(filepath.Join(filepath.Dir(d), ".gatehouse-inspect-*")); len(files) > 0 {
			t.Errorf("inspection left %v", files)
		}
	}
}

func TestInspectionOfNothingSaysSo(t *testing.T) {
	dir := t.TempDir()
	if _, err := eventlog.Open(dir, eventlog.Options{ReadOnly: true}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that it does not exist", err)
	}
	if files, _ := os.ReadDir(dir); len(files) > 0 {
		t.Errorf("inspection left %v", files)
	}
}
