package daemon

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// LogDir is where a daemon's directory keeps its event log.
func LogDir(dir string) string { return filepath.Join(dir, "log") }

// replayBatch is how many records are folded at once behind a snapshot.
const replayBatch = 1024

// folded is what the daemon folds of the log: the read models, and where the trust clock
// stood.
type folded struct {
	mu     sync.Mutex // held while records are folded, and while a snapshot is taken down
	views  *projections.Views
	anchor actors.Anchor // guarded by mu
	seq    uint64        // guarded by mu
}

func (f *folded) apply(records []messages.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range records {
		if records[i].Seq > f.seq {
			f.anchor.Fold(&records[i])
			f.seq = records[i].Seq
		}
	}
	f.views.Apply(records)
}

// openLog opens the event log and folds its history: what a snapshot says and the records
// behind it, or else all of them.
func (d *Daemon) openLog(signer note.Signer, verifier note.Verifier) error {
	dir := LogDir(d.cfg.Dir)
	snapshot := make(chan loaded, 1)
	go func() { snapshot <- loadSnapshot(dir, verifier, d.cfg.Logger) }() // beside the open, which takes as long
	log, err := eventlog.Open(dir, eventlog.Options{
		Applied:   func(records []messages.Record) { d.fold.apply(records) }, // which is whole before anything is appended
		KnownKind: messages.Known,
		Signer:    signer,
		Verifier:  verifier,
		Fatal:     d.fatal,
		Logger:    d.cfg.Logger,
		FreeSpace: d.cfg.freeSpace,
	})
	s := <-snapshot
	if err != nil {
		return fmt.Errorf("open event log: %w", err) // d.log stays nil: there is nothing to close
	}
	d.log = log
	d.onClose(d.logClose)
	if errors.Is(s.err, eventlog.ErrNoSnapshot) {
		s.small(log, d.cfg.Logger)
	} else if s.err == nil {
		s.err = log.Stands(s.snapshot)
	}
	if s.err == nil {
		d.fold = s.folded
		d.kept.Store(s.folded.seq)
		err = d.fold.rest(log)
	} else {
		s.explain(d.cfg.Logger)
		d.fold = &folded{views: projections.New(d.cfg.Logger)}
		err = d.fold.replay(context.Background(), log)
	}
	if err != nil {
		return fmt.Errorf("replay event log: %w", err)
	}
	d.views = d.fold.views
	d.onClose(d.keepAtEnd)
	return nil
}

// replay folds the whole log, which is verified on the way.
func (f *folded) replay(ctx context.Context, log eventlog.Log) error {
	_, err := log.Replay(ctx, func(records []messages.Record) error {
		f.apply(records)
		return nil
	})
	return err
}

// Replay folds a log's history into views and finds where the trust clock stood. It
// verifies the log on the way.
func Replay(ctx context.Context, log eventlog.Log, views *projections.Views) (actors.Anchor, error) {
	f := folded{views: views}
	err := f.replay(ctx, log)
	return f.anchor, err
}
