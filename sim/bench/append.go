package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// appendDurably measures the log's appends beside a raw file and Badger's own commits.
func appendDurably(ctx context.Context, b *bench) (rows []Row, err error) {
	events, err := prepare()
	if err != nil {
		return nil, err
	}
	store, err := newStoreWriters(b, &events)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.close()) }()
	raw, err := newRawWriters(b, &events)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, raw.file.close()) }()
	db, err := newBadgerWriters(b, &events)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.db.Close()) }()

	got, err := b.turns(ctx, side{name: "event log", run: store.round}, side{name: "raw file", run: raw.round}, side{name: "Badger", run: db.round})
	if err != nil {
		return nil, err
	}
	file := throughput("append/raw-file", got[0], got[1], atLeast(0.40), atLeast(0.9))
	file.Note += fmt.Sprintf("; events a group: %.1f ours, %.1f raw", store.grouping(), float64(raw.file.writes)/float64(raw.file.groups))
	return []Row{
		file,
		throughput("append/badger", got[0], got[2], atLeast(8), nil),
		latency("append/p99", got[0], got[1], nil, nil),
	}, nil
}

// storeWriters append to the event log.
type storeWriters struct {
	log      *eventlog.Store
	events   *[inFlight][streamsPerWriter]prepared
	versions [inFlight][streamsPerWriter]uint64 // each row is one writer's own
	answers  [inFlight]chan error
	ids      atomic.Uint64
}

func newStoreWriters(b *bench, events *[inFlight][streamsPerWriter]prepared) (*storeWriters, error) {
	dir, err := b.folder("store")
	if err != nil {
		return nil, err
	}
	log, err := openLog(dir, nil, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		return nil, err
	}
	s := &storeWriters{log: log, events: events}
	for w := range s.answers {
		s.answers[w] = make(chan error, 1)
	}
	return s, nil
}

func (s *storeWriters) close() error { return s.log.Close() }

func (s *storeWriters) grouping() float64 {
	st := s.log.Stat()
	return float64(st.Events) / float64(st.Groups)
}

// put appends writer w's next event and returns when it is durable.
func (s *storeWriters) put(w, i int) error {
	k := i % streamsPerWriter
	version := s.versions[w][k]
	rec := s.events[w][k].record(s.ids.Add(1), version+1)
	done := s.answers[w]
	s.log.Append(eventlog.Batch{
		Stream: rec.Stream, Expected: version, At: rec.At, Cause: rec.Cause, Class: eventlog.Grants,
		Drafts: []eventlog.Draft{{ID: rec.ID, Kind: rec.Kind, Schema: rec.Schema, Critical: rec.Kind.Critical(), Body: rec.Body}},
	}, func(recs []messages.Record, err error) {
		if err == nil && (len(recs) != 1 || recs[0].Version != version+1) {
			err = fmt.Errorf("appended 1 event, the log says %d", len(recs))
		}
		done <- err
	})
	if err := <-done; err != nil {
		return err
	}
	s.versions[w][k]++
	return nil
}

// round appends for d and until Badger has everything.
func (s *storeWriters) round(ctx context.Context, d time.Duration) (sample, error) {
	before, start := s.log.Head().Seq, time.Now()
	got, err := write(ctx, d, s.put)
	if err != nil {
		return got, err
	}
	if err := drained(ctx, s.log); err != nil {
		return got, err
	}
	got.took = time.Since(start)
	if n := s.log.Head().Seq - before; n != uint64(got.ops) {
		return got, fmt.Errorf("%d appends were acknowledged, the log grew by %d", got.ops, n)
	}
	return got, nil
}

// rawWriters append the same records' bytes to a raw file.
type rawWriters struct {
	file    *rawFile
	events  *[inFlight][streamsPerWriter]prepared
	answers [inFlight]chan error
	ids     atomic.Uint64
}

func newRawWriters(b *bench, events *[inFlight][streamsPerWriter]prepared) (*rawWriters, error) {
	dir, err := b.folder("raw")
	if err != nil {
		return nil, err
	}
	file, err := openRaw(dir)
	if err != nil {
		return nil, err
	}
	r := &rawWriters{file: file, events: events}
	for w := range r.answers {
		r.answers[w] = make(chan error, 1)
	}
	return r, nil
}

func (r *rawWriters) round(ctx context.Context, d time.Duration) (sample, error) {
	var buffers [inFlight][]byte // one a writer: free again when its write is durable
	return write(ctx, d, func(w, i int) error {
		n := r.ids.Add(1)
		rec := r.events[w][i%streamsPerWriter].record(n, n)
		bytes, err := messages.AppendRecord(buffers[w][:0], &rec)
		if err != nil {
			return err
		}
		buffers[w] = bytes
		return r.file.append(bytes, r.answers[w])
	})
}

// badgerWriters commit the same records' bytes to Badger, each in a transaction.
type badgerWriters struct {
	db     *badger.DB
	events *[inFlight][streamsPerWriter]prepared
	ids    atomic.Uint64
}

// plainBadger opens Badger as somebody would who keeps a log in it: synced writes, values
// inline, no conflicts to detect, the memtable the event log gives its own.
func plainBadger(dir string) (*badger.DB, error) {
	return badger.Open(badger.DefaultOptions(dir).
		WithSyncWrites(true).
		WithMemTableSize(8 << 20).
		WithValueThreshold(1 << 20).
		WithDetectConflicts(false).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithMetricsEnabled(false).
		WithLogger(nil))
}

func newBadgerWriters(b *bench, events *[inFlight][streamsPerWriter]prepared) (*badgerWriters, error) {
	dir, err := b.folder("badger")
	if err != nil {
		return nil, err
	}
	db, err := plainBadger(filepath.Join(dir, "db"))
	if err != nil {
		return nil, err
	}
	return &badgerWriters{db: db, events: events}, nil
}

func (b *badgerWriters) round(ctx context.Context, d time.Duration) (sample, error) {
	return write(ctx, d, func(w, i int) error {
		n := b.ids.Add(1)
		rec := b.events[w][i%streamsPerWriter].record(n, n)
		bytes, err := messages.AppendRecord(nil, &rec)
		if err != nil {
			return err
		}
		return b.db.Update(func(txn *badger.Txn) error { return txn.Set(sequenceKey(n), bytes) })
	})
}

func sequenceKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
