package daemon

import (
	"context"
	"fmt"
	"math"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// LogDir is where a daemon's directory keeps its event log.
func LogDir(dir string) string { return filepath.Join(dir, "log") }

// replayBatch is how many records are folded at once on start.
const replayBatch = 1024

// openLog opens the event log and folds its history into views; anchor is where the
// trust clock goes on from.
func (d *Daemon) openLog(signer note.Signer, verifier note.Verifier) (anchor actors.Anchor, err error) {
	d.views = projections.New(d.cfg.Logger)
	log, err := eventlog.Open(LogDir(d.cfg.Dir), eventlog.Options{
		Applied:   d.views.Apply,
		KnownKind: messages.Known,
		Signer:    signer,
		Verifier:  verifier,
		Fatal:     d.fatal,
		Logger:    d.cfg.Logger,
		FreeSpace: d.cfg.freeSpace,
	})
	if err != nil {
		return anchor, fmt.Errorf("open event log: %w", err) // d.log stays nil: there is nothing to close
	}
	d.log = log
	d.onClose(d.logClose)
	anchor, err = Replay(context.Background(), d.log, d.views)
	if err != nil {
		return anchor, fmt.Errorf("replay event log: %w", err)
	}
	return anchor, nil
}

// Replay folds a log's history into views and finds where the trust clock stood.
func Replay(ctx context.Context, log eventlog.Log, views *projections.Views) (actors.Anchor, error) {
	var anchor actors.Anchor
	batch := make([]messages.Record, 0, replayBatch)
	for rec, err := range log.Scan(ctx, 1, math.MaxUint64) {
		if err != nil {
			return anchor, err
		}
		anchor.Fold(&rec)
		if batch = append(batch, rec); len(batch) == replayBatch {
			views.Apply(batch)
			batch = batch[:0]
		}
	}
	views.Apply(batch)
	return anchor, nil
}
