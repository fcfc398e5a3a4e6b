package actorstest

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"

	"github.com/gatehouse-edge/gatehouse/eventlog"
	"github.com/gatehouse-edge/gatehouse/messages"
)

// Log is a log in memory that can be told to hold back, refuse or break. Reads go
// through. Safe for concurrent use.
type Log struct {
	*eventlog.Memory

	mu      sync.Mutex
	refuse  error // guarded by mu, as all below
	held    bool
	waiting []waiting
	panics  bool             // the next Append panics
	readErr error            // Read fails with it
	batches []eventlog.Batch // all that were appended or refused
	reading func(messages.StreamID)
}

// waiting is an append that is held back.
type waiting struct {
	batch eventlog.Batch
	done  func([]messages.Record, error)
}

// Hold lets appends wait until Commit or Release.
func (l *Log) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

// Commit lets what waits now go on to the log, and returns how many batches that were.
func (l *Log) Commit() int {
	l.mu.Lock()
	list := l.waiting
	l.waiting = nil
	l.mu.Unlock()
	for _, w := range list {
		l.Memory.Append(w.batch, w.done)
	}
	return len(list)
}

// Release holds nothing back any more.
func (l *Log) Release() {
	for {
		l.mu.Lock()
		done := len(l.waiting) == 0
		if done {
			l.held = false
		}
		l.mu.Unlock()
		if done {
			return
		}
		l.Commit()
	}
}

// NewLog makes an empty log; applied folds committed records into read models.
func NewLog(applied func([]messages.Record)) *Log {
	return WrapLog(eventlog.NewMemory(Options(applied)))
}

// Options are those of a log in memory whose failure does not end the test.
func Options(applied func([]messages.Record)) eventlog.Options {
	return eventlog.Options{Applied: applied, KnownKind: messages.Known, Fatal: func(error) {}}
}

// WrapLog puts a log under control that exists.
func WrapLog(m *eventlog.Memory) *Log { return &Log{Memory: m} }

// Refuse makes every append from now on fail with err, nothing of it in the log: ErrFull
// (which lets pass what restricts), ErrBusy, ErrConflict … nil: none.
func (l *Log) Refuse(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuse = err
}

// PanicOnce makes the next append panic.
func (l *Log) PanicOnce() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.panics = true
}

// RefuseReads makes every Read fail with err; nil: none.
func (l *Log) RefuseReads(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.readErr = err
}

// OnRead calls f before every Read.
func (l *Log) OnRead(f func(messages.StreamID)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reading = f
}

// Batches lists what was appended so far, refused or not.
func (l *Log) Batches() []eventlog.Batch {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]eventlog.Batch(nil), l.batches...)
}

// Holds says whether an append with an event of that kind is held back.
func (l *Log) Holds(kind messages.Kind) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.waiting, func(w waiting) bool {
		return slices.ContainsFunc(w.batch.Drafts, func(d eventlog.Draft) bool { return d.Kind == kind })
	})
}

// Append is eventlog.Log's, as far as it was not told otherwise.
func (l *Log) Append(b eventlog.Batch, done func([]messages.Record, error)) {
	l.mu.Lock()
	l.batches = append(l.batches, b)
	err, panics := l.refuse, l.panics
	l.panics = false
	if l.held && !panics && err == nil {
		l.waiting = append(l.waiting, waiting{b, done})
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	if panics {
		panic("actorstest: append panics as it was told")
	}
	if err != nil && !(errors.Is(err, eventlog.ErrFull) && b.Class == eventlog.Restricts) {
		done(nil, err)
		return
	}
	l.Memory.Append(b, done)
}

// Read is eventlog.Log's, as far as it was not told otherwise.
func (l *Log) Read(ctx context.Context, stream messages.StreamID, from uint64) iter.Seq2[messages.Record, error] {
	l.mu.Lock()
	err, reading := l.readErr, l.reading
	l.mu.Unlock()
	if reading != nil {
		reading(stream)
	}
	if err != nil {
		return func(yield func(messages.Record, error) bool) { yield(messages.Record{}, err) }
	}
	return l.Memory.Read(ctx, stream, from)
}

// Version implements actors.Log; it fails where Read does.
func (l *Log) Version(stream messages.StreamID) (uint64, error) {
	l.mu.Lock()
	err := l.readErr
	l.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return l.Memory.Version(stream)
}
