package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// openLog makes a log as the daemon has it: on disk, checkpoints signed. A failed append
// ends up in every later answer, so the run fails by itself.
func openLog(dir string, applied func([]messages.Record), logger *slog.Logger) (*eventlog.Store, error) {
	secret, public, err := note.GenerateKey(rand.Reader, "bench.gatehouse.local/log")
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(secret)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(public)
	if err != nil {
		return nil, err
	}
	return eventlog.Open(filepath.Join(dir, "log"), eventlog.Options{
		Applied: applied, KnownKind: messages.Known, Signer: signer, Verifier: verifier, Logger: logger,
		Fatal: func(err error) { logger.Error("event log failed", "error", err) },
	})
}

// heldBack is how many of the last records the log may keep for the next transaction with
// Badger: it gathers up to 512 KiB (of some 270 bytes each) for a while, and waiting for
// that would measure a timer.
const heldBack = 2048

// drained waits until what is durable in the journal is in Badger as well, all but what
// the log holds back. There is no event to wait for: the feeder's progress is the log's
// own business, and Stat shows it.
func drained(ctx context.Context, log eventlog.Log) error {
	deadline := time.Now().Add(patience)
	for {
		st := log.Stat()
		switch {
		case st.Failed != nil:
			return st.Failed
		case st.Stored+heldBack >= st.Head.Seq:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("after %s, %d of %d records are in Badger", patience, st.Stored, st.Head.Seq)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
