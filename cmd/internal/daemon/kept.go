package daemon

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// The daemon keeps snapshots of what it folds, so that a start need not fold a year. None
// is ever needed: one that is missing, damaged, of another version, of another log or
// ahead of this one is passed by, and the whole log is folded. What is behind one that was
// used is verified in the background.
//
//	length of JSON 4 | JSON of the trust clock's anchor | projections' snapshot
const (
	keptKey     = "folded"
	keptVersion = 1<<16 | projections.SnapshotVersion
	keptEvery   = time.Minute           // between looks at whether one is due
	keptTries   = 50                    // at a moment at which the read models are not ahead of the log
	keptRetry   = 20 * time.Millisecond // between those
)

// keptDue is behind how many records a snapshot is written, of a state of size pieces: to
// fold them takes about as long as to read it. At the end there is time.
func keptDue(size uint64, atEnd bool) uint64 {
	if atEnd {
		return max(10_000, size/10)
	}
	return max(100_000, size)
}

// loaded is a snapshot, as far as it could be read without the log.
type loaded struct {
	snapshot eventlog.Snapshot
	folded   *folded
	err      error
}

// explain says why a snapshot that is there is not used.
func (l *loaded) explain(log *slog.Logger) {
	if !errors.Is(l.err, eventlog.ErrNoSnapshot) {
		log.Warn("the snapshot cannot be used: the whole log is folded", "error", l.err)
	}
}

func loadSnapshot(dir string, verifier note.Verifier, log *slog.Logger) (l loaded) {
	l.snapshot, l.err = eventlog.ReadSnapshot(dir, keptKey, verifier)
	if l.err == nil {
		l.folded, l.err = decodeKept(&l.snapshot, log)
		l.snapshot.Data = nil
	}
	return l
}

// small looks for the snapshot where the log keeps one of few devices: in its midst.
func (l *loaded) small(log eventlog.Log, logger *slog.Logger) {
	snapshot, found, err := log.Snapshot(keptKey)
	if err == nil && found {
		l.folded, l.err = decodeKept(&snapshot, logger)
	}
}

func decodeKept(s *eventlog.Snapshot, log *slog.Logger) (*folded, error) {
	if s.Version != keptVersion {
		return nil, fmt.Errorf("snapshot of version %#x, want %#x", s.Version, keptVersion)
	}
	if len(s.Data) < 4 || uint64(binary.BigEndian.Uint32(s.Data)) > uint64(len(s.Data)-4) {
		return nil, fmt.Errorf("snapshot of %d bytes", len(s.Data))
	}
	n := 4 + int(binary.BigEndian.Uint32(s.Data))
	f := &folded{seq: s.Seq}
	if err := json.Unmarshal(s.Data[4:n], &f.anchor); err != nil {
		return nil, fmt.Errorf("snapshot: trust clock: %w", err)
	}
	var err error
	if f.views, err = projections.Restore(s.Data[n:], log); err != nil {
		return nil, err
	}
	if f.views.Seq() != s.Seq {
		return nil, fmt.Errorf("snapshot of record %d holds read models of %d", s.Seq, f.views.Seq())
	}
	return f, nil
}

// rest folds what is behind the snapshot.
func (f *folded) rest(log eventlog.Log) error {
	batch := make([]messages.Record, 0, replayBatch)
	for rec, err := range log.Scan(context.Background(), f.seq+1, math.MaxUint64) {
		if err != nil {
			return err
		}
		if batch = append(batch, rec); len(batch) == replayBatch {
			f.apply(batch)
			batch = batch[:0]
		}
	}
	f.apply(batch)
	return nil
}

// capture takes down what is folded at this moment.
func (f *folded) capture() (*projections.Captured, actors.Anchor, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c, err := f.views.Capture()
	return c, f.anchor, err
}

// keep writes a snapshot, trying for a while if somebody is just being restricted.
func (d *Daemon) keep(ctx context.Context) error {
	began := time.Now()
	captured, anchor, err := d.fold.capture()
	for try := 1; try < keptTries && errors.Is(err, projections.ErrUnsettled); try++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(keptRetry):
		}
		captured, anchor, err = d.fold.capture()
	}
	if err != nil {
		return err
	}
	held := time.Since(began)
	head, err := json.Marshal(anchor)
	if err != nil {
		return err
	}
	body, err := captured.Encode()
	if err != nil {
		return err
	}
	data := make([]byte, 0, 4+len(head)+len(body))
	data = binary.BigEndian.AppendUint32(data, uint32(len(head)))
	data = append(append(data, head...), body...)
	if err := d.log.PutSnapshot(keptKey, eventlog.Snapshot{Version: keptVersion, Seq: captured.Seq, Data: data}); err != nil {
		return err
	}
	d.kept.Store(captured.Seq)
	d.logger.Debug("snapshot", "seq", captured.Seq, "bytes", len(data), "capture", held, "took", time.Since(began))
	return nil
}

// keepIfDue writes a snapshot if there is enough behind the last one.
func (d *Daemon) keepIfDue(ctx context.Context, atEnd bool) {
	n := d.views.Counts()
	if d.failed.Load() || d.views.Seq()-d.kept.Load() < keptDue(uint64(n.Certificates+n.Things+n.Sessions), atEnd) {
		return
	}
	if err := d.keep(ctx); err != nil && ctx.Err() == nil {
		d.logger.Info("no snapshot was written: the next start may take longer", "error", err)
	}
}

// keepAtEnd writes the last snapshot, when nothing is appended any more.
func (d *Daemon) keepAtEnd() { d.keepIfDue(context.Background(), true) }

// lookBack verifies, beside the daemon's work, what the snapshot spared the start, and
// keeps further snapshots. Damage found late ends the daemon as it would have ended the
// start.
func (d *Daemon) lookBack(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	d.onClose(func() {
		cancel()
		<-ended
	})
	go func() {
		defer close(ended)
		if d.kept.Load() > 0 {
			d.verifyBehind(ctx)
		}
		if ctx.Err() == nil { // what the start took and nobody needs: else it stays until as much again is in use
			debug.FreeOSMemory()
		}
		ticker := time.NewTicker(keptEvery)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
				d.keepIfDue(ctx, false)
			}
		}
	}()
	return nil
}

// verifyBehind verifies the log with half of a processor's time at most.
func (d *Daemon) verifyBehind(ctx context.Context) {
	last := time.Now()
	_, err := d.log.Verify(ctx, func(uint64, uint64) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Since(last)):
		}
		last = time.Now()
	})
	if errors.Is(err, eventlog.ErrCorrupt) {
		d.logger.Error("the event log is corrupt: nothing is answered any more", "error", err)
		d.fatal(err)
	} else if err != nil && ctx.Err() == nil {
		d.logger.Warn("the event log could not be verified", "error", err)
	}
}
