package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gatehouse-edge/gatehouse/actors"
	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// Stored is what a daemon's directory says while no daemon runs.
type Stored struct {
	Log   eventlog.Log
	Views *projections.Views
	Trust messages.Trust
	NowMs int64
}

// OpenStored reads the log of a stopped daemon without changing a byte of it. dir is
// the daemon's directory or the log's own. Close the log.
func OpenStored(ctx context.Context, dir string) (*Stored, error) {
	log, err := OpenReadOnly(dir)
	if err != nil {
		return nil, err
	}
	s := &Stored{Log: log, Views: projections.New(nil)}
	anchor, err := Replay(ctx, log, s.Views)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	clock, err := actors.NewSystemClock()
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	trust := actors.NewTrustClock(clock, anchor)
	s.NowMs = trust.NowMs()
	s.Trust = messages.Trust{DurationMs: s.Views.TrustDurationMs(), SinceMs: max(s.Views.VoidedMs(), trust.SinceMs())}
	return s, nil
}

// OpenReadOnly opens a log for inspection. dir is the daemon's directory or the log's.
func OpenReadOnly(dir string) (eventlog.Log, error) {
	path := LogDir(dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		path = dir
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("no event log in %s: %w", dir, err)
	}
	return eventlog.Open(path, eventlog.Options{ReadOnly: true, KnownKind: messages.Known})
}
