package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

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
	s.Trust = trust.Trust(s.Views.TrustDurationMs(), s.Views.VoidedMs())
	return s, nil
}

// OpenReadOnly opens a log for inspection. dir is the daemon's directory or the log's.
func OpenReadOnly(dir string) (eventlog.Log, error) {
	path := LogDir(dir)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		path = dir
		if _, err := os.Stat(filepath.Join(path, "LOCK")); err != nil {
			return nil, fmt.Errorf("no event log in %s: %w", dir, err)
		}
	}
	verifier, err := logVerifier(dir)
	if err != nil {
		return nil, err
	}
	options := eventlog.Options{ReadOnly: true, KnownKind: messages.Known, Verifier: verifier}
	log, err := eventlog.Open(path, options)
	for until := time.Now().Add(exitTime); errors.Is(err, eventlog.ErrInUse) && time.Now().Before(until); {
		time.Sleep(exitTime / 20) // nobody tells when the lock is free
		log, err = eventlog.Open(path, options)
	}
	if err != nil {
		return nil, err
	}
	return log, nil
}

// exitTime is how long a daemon that was just killed may take to be gone: the kernel frees
// its memory before it frees its locks.
const exitTime = time.Second

// logVerifier reads the public half of the log's key, if dir is a daemon's directory:
// then the signatures of checkpoints are checked as well.
func logVerifier(dir string) (note.Verifier, error) {
	text, err := readLimited(filepath.Join(dir, "keys", "log.pub"), logKeyMaxBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the log's public key: %w", err)
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, fmt.Errorf("the log's public key: %w", err)
	}
	return verifier, nil
}

// logKeyMaxBytes bounds the log's public key.
const logKeyMaxBytes = 4 << 10
