package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// known makes n devices known, as quarantined.
func known(t *testing.T, d *Daemon, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		name := messages.ThingName(fmt.Sprintf("pump-%03d-%s", i, strings.Repeat("x", 80)))
		if _, err := d.quarantine(t.Context(), DeviceRequest{Thing: name, Reason: strings.Repeat("of a fault ", 20)}); err != nil {
			t.Fatal(err)
		}
	}
}

// state is what f holds, as a snapshot writes it.
func state(t *testing.T, f *folded) []byte {
	t.Helper()
	captured, _, err := f.capture()
	if err != nil {
		t.Fatal(err)
	}
	b, err := captured.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameAsWhole checks that the snapshot in dir and what is behind it is what the whole log
// says.
func sameAsWhole(t *testing.T, dir string) {
	t.Helper()
	log, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	logger := slog.New(slog.DiscardHandler)
	whole := folded{views: projections.New(nil)}
	if err := whole.replay(t.Context(), log); err != nil {
		t.Fatal(err)
	}
	s := loadSnapshot(LogDir(dir), nil, logger)
	if errors.Is(s.err, eventlog.ErrNoSnapshot) {
		s.small(log, logger)
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	if s.folded.seq == whole.seq {
		t.Fatal("nothing is behind the snapshot")
	}
	if err := s.folded.rest(log); err != nil {
		t.Fatal(err)
	}
	if s.folded.anchor != whole.anchor || s.folded.seq != whole.seq || !bytes.Equal(state(t, s.folded), state(t, &whole)) {
		t.Errorf("the snapshot and what is behind it differ from the whole log:\n%s\n%s", s.folded.views, whole.views)
	}
}

// TestStartFromASnapshot: small or large, a start takes it and folds what is behind it,
// and comes to the same as without; one that is spoilt is passed by.
func TestStartFromASnapshot(t *testing.T) {
	for _, c := range []struct {
		name    string
		devices int
		large   bool
	}{{"small", 5, false}, {"large", 600, true}} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			d := startDaemon(t, dir, Config{})
			if d.kept.Load() != 0 {
				t.Fatal("a new log has a snapshot")
			}
			known(t, d, 0, c.devices)
			if err := d.keep(t.Context()); err != nil {
				t.Fatal(err)
			}
			kept := d.kept.Load()
			known(t, d, c.devices, c.devices+3)
			d.Close()
			files, err := filepath.Glob(filepath.Join(LogDir(dir), "snapshots", "*"))
			if err != nil || (len(files) == 1) != c.large {
				t.Fatalf("snapshots: %v, %v", files, err)
			}

			d = startDaemon(t, dir, Config{})
			if d.kept.Load() != kept || len(d.views.Things()) != c.devices+3 {
				t.Fatalf("the start took the snapshot of record %d, want %d; %d things", d.kept.Load(), kept, len(d.views.Things()))
			}
			d.Close()
			sameAsWhole(t, dir)
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				b[len(b)/2] ^= 1
				if err := os.WriteFile(file, b, 0o600); err != nil {
					t.Fatal(err)
				}
				if d = startDaemon(t, dir, Config{}); d.kept.Load() != 0 || len(d.views.Things()) != c.devices+3 {
					t.Errorf("a spoilt snapshot of record %d was taken; %d things", d.kept.Load(), len(d.views.Things()))
				}
			}
		})
	}
}

// spoilt is a log that finds out late.
type spoilt struct {
	eventlog.Log
	err error
}

func (l spoilt) Verify(_ context.Context, progress func(done, total uint64)) (eventlog.Report, error) {
	progress(1, 2)
	return eventlog.Report{}, l.err
}

// TestDamageBehindASnapshotEndsTheDaemon, and nothing else does.
func TestDamageBehindASnapshotEndsTheDaemon(t *testing.T) {
	for err, want := range map[error]bool{
		&eventlog.CorruptError{Seq: 7, Detail: "planted"}: true, eventlog.ErrClosed: false, nil: false,
	} {
		var heard error
		d := &Daemon{log: spoilt{err: err}, logger: slog.New(slog.DiscardHandler), cfg: Config{Fatal: func(err error) { heard = err }}}
		d.verifyBehind(t.Context())
		if (heard != nil) != want || d.failed.Load() != want || want && !errors.Is(heard, eventlog.ErrCorrupt) {
			t.Errorf("%v: the daemon heard %v", err, heard)
		}
	}
}

// TestSnapshotsAreWrittenWhenThereIsEnough for them, sooner at the end.
func TestSnapshotsAreWrittenWhenThereIsEnough(t *testing.T) {
	for _, c := range []struct {
		size, running, atEnd uint64
	}{{0, 100_000, 10_000}, {7500, 100_000, 10_000}, {3_000_000, 3_000_000, 300_000}} {
		if got, end := keptDue(c.size, false), keptDue(c.size, true); got != c.running || end != c.atEnd {
			t.Errorf("of %d pieces: behind %d records, %d at the end; want %d, %d", c.size, got, end, c.running, c.atEnd)
		}
	}
}
