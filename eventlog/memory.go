package eventlog

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Memory is a Log that keeps everything in memory, for tests and the simulator. On
// one goroutine it is deterministic: Append commits, and calls done, before it
// returns, unless Hold was called. Close, Crash and Reopen play a process that ends.
type Memory struct {
	o       Options
	streams *streams
	pulse   pulse

	mu        sync.Mutex // guards what follows
	seq       sequencer
	kept      shelf
	snapshots map[string]Snapshot
	head      Head
	queue     []pending
	draining  bool // somebody is committing
	held      bool
	full      bool  // what does not restrict is refused
	fail      error // what the next commit fails with
	landed    bool  // whether that commit's events are in the log all the same
	failed    error
	closed    bool
	groups    uint64
	unknown   uint64
}

var _ Log = (*Memory)(nil)

// NewMemory returns an empty log. It uses Options.Applied, KnownKind, Signer,
// Verifier, Origin, Fatal, QueueMax and Far.
func NewMemory(o Options) *Memory {
	o, err := o.withDefaults()
	if err != nil {
		panic(fmt.Sprintf("eventlog.NewMemory: %v", err))
	}
	m := newMemory(o, newStreams(), newOnHeap())
	if o.Far != nil {
		if m.kept, err = newFar(o.Far, m.streams); err != nil {
			panic(fmt.Sprintf("eventlog.NewMemory: %v", err))
		}
	}
	return m
}

func newMemory(o Options, names *streams, kept shelf) *Memory {
	m := &Memory{o: o, streams: names, kept: kept, snapshots: map[string]Snapshot{}}
	m.seq = sequencer{streams: m.streams, earlier: m.earlier}
	m.head = Head{Root: m.seq.tree.root()}
	return m
}

// Append implements Log.
func (m *Memory) Append(b Batch, done func([]messages.Record, error)) {
	size, err := checkBatch(&b)
	m.mu.Lock()
	switch {
	case m.failed != nil:
		err = m.failed
	case m.closed:
		err = ErrClosed
	case err == nil && len(m.queue) >= m.o.QueueMax:
		err = ErrBusy
	}
	if err != nil {
		m.mu.Unlock()
		done(nil, err)
		return
	}
	m.queue = append(m.queue, pending{batch: b, done: done, bytes: size})
	held := m.held
	m.mu.Unlock()
	if !held {
		m.Commit()
	}
}

// Hold lets appends wait until Commit.
func (m *Memory) Hold() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.held = true
}

// Commit commits what waits and returns how many batches that were.
func (m *Memory) Commit() int { return m.drain(math.MaxInt) }

// CommitFirst commits the first n batches that wait, in one write if they fit in one, and
// returns how many they were.
func (m *Memory) CommitFirst(n int) int { return m.drain(n) }

// Waiting counts the batches that wait for Commit.
func (m *Memory) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.queue)
}

// SetFull says whether the disk is nearly full: then what does not restrict is refused with
// ErrFull.
func (m *Memory) SetFull(full bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.full = full
}

// Fail makes the next commit fail with err, as a disk would. landed says whether its
// events will be found by Reopen all the same: a failed append has an unknown outcome.
func (m *Memory) Fail(err error, landed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail, m.landed = err, landed
}

// drain commits groups until the queue is empty, or max batches are committed. Only one
// caller does it at a time; the batches of others, and those that callbacks append, are
// committed by that one.
func (m *Memory) drain(max int) int {
	n := 0
	for {
		m.mu.Lock()
		if m.draining || len(m.queue) == 0 || m.failed != nil || n >= max {
			m.mu.Unlock()
			return n
		}
		m.draining = true
		g, took := m.group(max - n)
		n += took
		failure := m.commit(g)
		m.mu.Unlock()

		m.pulse.wake()
		if failure != nil {
			m.o.Fatal(failure)
			g.answerAll(failure)
			m.abandon(failure)
			return n
		}
		if len(g.recs) > 0 {
			m.o.Applied(g.recs)
		}
		g.answerAll(nil)
		m.mu.Lock()
		m.draining = false
		m.mu.Unlock()
	}
}

// group takes up to max batches from the queue into a group. Called with mu held.
func (m *Memory) group(max int) (g *group, took int) {
	g = m.seq.newGroup()
	for took < min(len(m.queue), max) && g.fits(&m.queue[took]) {
		if p := &m.queue[took]; m.full && p.batch.Class != Restricts {
			g.answers = append(g.answers, answer{err: ErrFull, done: p.done})
		} else {
			m.seq.add(g, p)
		}
		took++
	}
	m.queue = slices.Clone(m.queue[took:])
	return g, took
}

// commit makes g part of the log, or fails it. Called with mu held.
func (m *Memory) commit(g *group) error {
	failure := m.fail
	if failure != nil {
		m.failed = fmt.Errorf("%w: %w", ErrFailed, failure)
		if !m.landed {
			return m.failed
		}
	}
	if err := m.kept.add(g); err != nil {
		m.failed = fmt.Errorf("%w: %w", ErrFailed, err)
		return m.failed
	}
	for i := range g.recs {
		r := &g.recs[i]
		if !m.o.KnownKind(r.Kind, r.Schema) {
			m.unknown++
		}
	}
	m.streams.set(g.streams)
	m.head = Head{Seq: m.kept.size(), Root: m.seq.tree.root()}
	m.groups++
	return m.failed
}

// abandon fails what still waits.
func (m *Memory) abandon(failure error) {
	m.mu.Lock()
	queue := m.queue
	m.queue, m.draining = nil, false
	m.mu.Unlock()
	for i := range queue {
		queue[i].done(nil, failure)
	}
}

// Crash ends the log as SIGKILL would: what waits is forgotten and its done is never
// called.
func (m *Memory) Crash() { m.CrashWriting(0) }

// CrashWriting is Crash in the middle of a write: the first n batches that wait are in the
// log all the same, and nobody is told.
func (m *Memory) CrashWriting(n int) {
	m.mu.Lock()
	if !m.closed && m.failed == nil && !m.draining && n > 0 && len(m.queue) > 0 {
		g, _ := m.group(n)
		_ = m.commit(g) // it fails if it was to, and then nobody is told, either
	}
	m.closed, m.queue = true, nil
	m.mu.Unlock()
	m.pulse.wake()
}

// Reopen ends the log, if that did not happen before, and returns one with the same
// records, as a new process would find it. It refuses, like Open, critical records
// that o does not know.
func (m *Memory) Reopen(o Options) (*Memory, error) {
	m.Crash()
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	for rec, err := range m.locked(1, m.Head().Seq) {
		if err != nil {
			return nil, err
		}
		if rec.Critical && !o.KnownKind(rec.Kind, rec.Schema) {
			return nil, fmt.Errorf("%w: record %d has critical kind %d, schema %d", ErrNewer, rec.Seq, rec.Kind, rec.Schema)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	names := m.streams.clone()
	n := newMemory(o, names, m.kept.next(names))
	n.snapshots = maps.Clone(m.snapshots)
	if err := n.grow(m); err != nil {
		return nil, err
	}
	n.head = Head{Seq: n.kept.size(), Root: n.seq.tree.root()}
	return n, nil
}

// grow makes the tree over the records that were taken over from former.
func (m *Memory) grow(former *Memory) error {
	if former.seq.tree.size == m.kept.size() {
		m.seq.tree = former.seq.tree.clone()
		return nil
	}
	for rec, err := range m.locked(1, m.kept.size()) { // the former was building on what did not land
		if err != nil {
			return err
		}
		entry, err := messages.AppendRecord([]byte{leafPrefix}, &rec)
		if err != nil {
			return corrupt(rec.Seq, err, "record cannot be written")
		}
		m.seq.tree.add(leafHash(entry), nil)
	}
	return nil
}

// Close implements Log.
func (m *Memory) Close() error {
	m.Commit()
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.pulse.wake()
	return nil
}

// Read implements Log.
func (m *Memory) Read(ctx context.Context, stream messages.StreamID, fromVersion uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		m.mu.Lock()
		seqs, err := m.kept.of(stream, fromVersion)
		var recs []messages.Record
		if err == nil {
			recs, err = m.kept.read(seqs)
		}
		m.mu.Unlock()
		if err != nil {
			yield(messages.Record{}, fmt.Errorf("read %q: %w", stream, err))
			return
		}
		for i := range recs {
			if err := ctx.Err(); err != nil {
				yield(messages.Record{}, fmt.Errorf("read %q: %w", stream, err))
				return
			}
			if !yield(recs[i], nil) {
				return
			}
		}
	}
}

// Scan implements Log.
func (m *Memory) Scan(ctx context.Context, from, to uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		for rec, err := range m.locked(from, min(to, m.Head().Seq)) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(messages.Record{}, fmt.Errorf("scan from %d: %w", from, err))
				return
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// scanChunk is how many records are read at once.
const scanChunk = 256

// locked yields the records from one to another, and takes the lock for some at a time.
func (m *Memory) locked(from, to uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		var seqs [scanChunk]uint64
		for at := max(from, 1); at <= to; at += scanChunk {
			n := min(to-at+1, scanChunk)
			for i := range n {
				seqs[i] = at + i
			}
			m.mu.Lock()
			recs, err := m.kept.read(seqs[:n])
			m.mu.Unlock()
			if err != nil {
				yield(messages.Record{}, err)
				return
			}
			for i := range recs {
				if !yield(recs[i], nil) {
					return
				}
			}
		}
	}
}

// Follow implements Log.
func (m *Memory) Follow(ctx context.Context, from uint64) iter.Seq2[messages.Record, error] {
	return follow(ctx, m, from)
}

func (m *Memory) grown() <-chan struct{} { return m.pulse.next() }

func (m *Memory) stopped() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed == nil && m.closed {
		return ErrClosed
	}
	return m.failed
}

// earlier is called by the sequencer, which runs with mu held.
func (m *Memory) earlier(stream messages.StreamID, from uint64, n int) ([]messages.Record, error) {
	seqs, err := m.kept.of(stream, from)
	if err != nil {
		return nil, err
	}
	return m.kept.read(seqs[:min(n, len(seqs))])
}

// Head implements Log.
func (m *Memory) Head() Head {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head
}

// Version implements Log.
func (m *Memory) Version(stream messages.StreamID) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept.version(stream), nil
}

// PutSnapshot implements Log.
func (m *Memory) PutSnapshot(key string, s Snapshot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return fmt.Errorf("snapshot %q: %w", key, ErrClosed)
	}
	if err := checkSnapshot(key, s, m.head); err != nil {
		return err
	}
	s.Data = bytes.Clone(s.Data)
	m.snapshots[key] = s
	return nil
}

// Snapshot implements Log.
func (m *Memory) Snapshot(key string) (Snapshot, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.snapshots[key]
	if !ok || s.Seq > m.head.Seq {
		return Snapshot{}, false, nil
	}
	s.Data = bytes.Clone(s.Data)
	return s, true, nil
}

// checkSnapshot refuses a snapshot that could not be used.
func checkSnapshot(key string, s Snapshot, h Head) error {
	if key == "" || len(key) > SnapshotKeyBytesMax || len(s.Data) > SnapshotBytesMax {
		return fmt.Errorf("snapshot %.80q: %w: key of %d, data of %d bytes, want at most %d and %d", key, ErrRange,
			len(key), len(s.Data), SnapshotKeyBytesMax, SnapshotBytesMax)
	}
	if s.Seq > h.Seq {
		return fmt.Errorf("snapshot %q: %w: of record %d, the log has %d", key, ErrRange, s.Seq, h.Seq)
	}
	return nil
}
