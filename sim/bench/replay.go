package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"math"
	"path/filepath"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
	"github.com/gatehouse-edge/gatehouse/projections"
)

// replay measures how long history takes to become read models again.
func replay(ctx context.Context, b *bench) ([]Row, error) {
	dir, err := b.folder("replay")
	if err != nil {
		return nil, err
	}
	history, err := writeHistory(ctx, dir, b.records)
	if err != nil {
		return nil, err
	}
	if err := copyToBadger(filepath.Join(dir, "plain"), history); err != nil {
		return nil, err
	}
	got, err := b.turns(ctx,
		side{name: "verify and fold", run: func(ctx context.Context, _ time.Duration) (sample, error) {
			return refold(ctx, dir, len(history), true)
		}},
		side{name: "Badger", run: func(context.Context, time.Duration) (sample, error) {
			return iterate(filepath.Join(dir, "plain"), len(history))
		}},
		side{name: "fold", run: func(ctx context.Context, _ time.Duration) (sample, error) {
			return refold(ctx, dir, len(history), false)
		}})
	if err != nil {
		return nil, err
	}
	start := throughput("replay/start", got[2], got[1], nil, nil)
	start.Note += "; checksums and structure, no hashing"
	return []Row{throughput("replay", got[0], got[1], atLeast(0.40), atLeast(0.9)), start}, nil
}

// writeHistory fills a log with the life of devices: each is verified and attached, then
// opens and closes sessions. It returns the records and closes the log.
func writeHistory(ctx context.Context, dir string, n int) ([]messages.Record, error) {
	log, err := openLog(dir, nil, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return nil, err
	}
	records := make([]messages.Record, 0, n)
	err = appendHistory(ctx, log, n)
	for rec, scanned := range log.Scan(ctx, 1, math.MaxUint64) {
		err = errors.Join(err, scanned)
		records = append(records, rec)
	}
	if err = errors.Join(err, log.Close()); err != nil {
		return nil, err
	}
	if len(records) != n {
		return nil, fmt.Errorf("the log has %d records, want %d", len(records), n)
	}
	return records, nil
}

// historyPerDevice is how many records a device has: its certificate, its attachment, and
// sessions.
const historyPerDevice = 20

func appendHistory(ctx context.Context, log *eventlog.Store, n int) error {
	return appendAll(ctx, log, func(yield func(eventlog.Batch) bool) {
		for at := 0; at < n; {
			for _, batch := range life(at/historyPerDevice, min(historyPerDevice, n-at)) {
				at += len(batch.Drafts)
				if !yield(batch) {
					return
				}
			}
		}
	})
}

// appendAll appends batches, as many at a time as fit in a group.
func appendAll(ctx context.Context, log *eventlog.Store, batches iter.Seq[eventlog.Batch]) error {
	answers := make(chan error, eventlog.GroupEventsMax)
	underWay := 0
	var err error
	for batch := range batches {
		log.Append(batch, func(_ []messages.Record, err error) { answers <- err })
		if underWay++; underWay == cap(answers) {
			underWay--
			err = <-answers
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			break
		}
	}
	for ; underWay > 0; underWay-- {
		err = errors.Join(err, <-answers)
	}
	return err
}

// lastsUntilMs is when the devices' certificates end: at the end of the year 2099.
const lastsUntilMs = 4_102_444_799_000

// life is the first n events of a device, in one batch a stream.
func life(device, n int) []eventlog.Batch {
	stream, _ := opened(device, 0)
	thing, _ := stream.Device()
	id := messages.CertificateIDOf([]byte(thing))
	verified := []messages.Event{&messages.CertificateVerified{
		Source: messages.Source_SOURCE_CLOUD, NotAfterMs: lastsUntilMs, Der: make([]byte, 500), Subject: "CN=" + string(thing),
	}}
	events := []messages.Event{&messages.AttachmentVerified{CertificateId: string(id), Source: messages.Source_SOURCE_CLOUD}}
	for i := 0; len(events) < n-1; i++ {
		_, open := opened(device, i)
		closed := &messages.SessionClosed{Session: open.(*messages.SessionOpened).Session, Reason: messages.CloseReason_CLOSE_BY_BROKER, Detail: "closed by broker bench"}
		events = append(events, open, closed)
	}
	batches := []eventlog.Batch{batchOf(messages.CertificateStream(id), verified)}
	if n > 1 {
		batches = append(batches, batchOf(stream, events[:n-1]))
	}
	return batches
}

func batchOf(stream messages.StreamID, events []messages.Event) eventlog.Batch {
	now := time.Now().UnixMilli()
	b := eventlog.Batch{Stream: stream, At: messages.Instant{TrustMs: now, WallMs: now}, Cause: messages.Cause{Request: "bench-1", Broker: brokerName}, Class: eventlog.Grants}
	for i, e := range events {
		body, schema, err := messages.EncodeEvent(e)
		if err != nil {
			panic(fmt.Sprintf("bench: %T cannot be encoded: %v", e, err)) // it was made a few lines above
		}
		nonce := messages.DigestOf([]byte(stream))
		b.Drafts = append(b.Drafts, eventlog.Draft{ID: messages.DeriveEventID(nonce, i), Kind: e.Kind(), Schema: schema, Critical: e.Kind().Critical(), Body: body})
	}
	return b
}

// refold opens the closed log and folds all of it; with verify every hash is computed
// again, as a start does that has no snapshot.
func refold(ctx context.Context, dir string, n int, verify bool) (s sample, err error) {
	start := time.Now()
	log, err := eventlog.Open(filepath.Join(dir, "log"), eventlog.Options{KnownKind: messages.Known})
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	views := projections.New(nil)
	if verify {
		_, err = log.Replay(ctx, func(records []messages.Record) error {
			views.Apply(records)
			return nil
		})
	} else {
		err = foldAll(ctx, log, views)
	}
	if err != nil {
		return s, err
	}
	s = sample{ops: n, took: time.Since(start)}
	if views.Seq() != uint64(n) || views.Counts().Things != (n+historyPerDevice-2)/historyPerDevice {
		return s, fmt.Errorf("read models after record %d of %d: %s", views.Seq(), n, views)
	}
	return s, nil
}

// foldAll folds what the log says without hashing it.
func foldAll(ctx context.Context, log eventlog.Log, views *projections.Views) error {
	const foldAtOnce = 1024
	batch := make([]messages.Record, 0, foldAtOnce)
	for rec, err := range log.Scan(ctx, 1, math.MaxUint64) {
		if err != nil {
			return err
		}
		if batch = append(batch, rec); len(batch) == foldAtOnce {
			views.Apply(batch)
			batch = batch[:0]
		}
	}
	views.Apply(batch)
	return nil
}

// copyToBadger puts the same records, one key each, into a Badger of its own.
func copyToBadger(dir string, history []messages.Record) error {
	db, err := plainBadger(dir)
	if err != nil {
		return err
	}
	batch := db.NewWriteBatch()
	defer batch.Cancel()
	for i := range history {
		bytes, err := messages.AppendRecord(nil, &history[i])
		if err == nil {
			err = batch.Set(sequenceKey(history[i].Seq), bytes)
		}
		if err != nil {
			return errors.Join(err, db.Close())
		}
	}
	return errors.Join(batch.Flush(), db.Close())
}

// iterate opens Badger and reads every value once.
func iterate(dir string, n int) (s sample, err error) {
	start := time.Now()
	db, err := plainBadger(dir)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	total := 0
	err = db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.DefaultIteratorOptions)
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			err := it.Item().Value(func(b []byte) error {
				if len(b) == 0 {
					return errors.New("empty value")
				}
				total++
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && total != n {
		err = fmt.Errorf("%d records, want %d", total, n)
	}
	return sample{ops: n, took: time.Since(start)}, err
}
