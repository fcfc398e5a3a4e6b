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

	"golang.org/x/mod/sumdb/tlog"

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
	recs      []messages.Record // append-only: readers keep prefixes of it
	hashes    []tlog.Hash
	index     map[messages.StreamID][]uint64 // sequence numbers
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
// Verifier, Origin, Fatal and QueueMax.
func NewMemory(o Options) *Memory {
	o, err := o.withDefaults()
	if err != nil {
		panic(fmt.Sprintf("eventlog.NewMemory: %v", err))
	}
	m := &Memory{
		o: o, streams: newStreams(), index: map[messages.StreamID][]uint64{}, snapshots: map[string]Snapshot{},
	}
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
	m.recs = append(m.recs, g.recs...)
	m.hashes = append(m.hashes, g.hashes...)
	for i := range g.recs {
		r := &g.recs[i]
		m.index[r.Stream] = append(m.index[r.Stream], r.Seq)
		if !m.o.KnownKind(r.Kind, r.Schema) {
			m.unknown++
		}
	}
	m.streams.set(g.streams)
	m.head = Head{Seq: uint64(len(m.recs)), Root: m.seq.tree.root()}
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
	n := NewMemory(o)
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := range m.recs {
		if r := &m.recs[i]; r.Critical && !n.o.KnownKind(r.Kind, r.Schema) {
			return nil, fmt.Errorf("%w: record %d has critical kind %d, schema %d", ErrNewer, r.Seq, r.Kind, r.Schema)
		}
	}
	// What only grows is shared: who adds to it copies it first.
	n.recs, n.hashes = slices.Clip(m.recs), slices.Clip(m.hashes)
	for stream, seqs := range m.index {
		n.index[stream] = slices.Clip(seqs)
	}
	n.snapshots = maps.Clone(m.snapshots)
	n.streams.m, n.streams.seeds = maps.Clone(m.streams.m), m.streams.seeds
	if err := n.grow(m); err != nil {
		return nil, err
	}
	n.head = Head{Seq: uint64(len(n.recs)), Root: n.seq.tree.root()}
	return n, nil
}

// grow makes the tree over the records that were taken over from former.
func (m *Memory) grow(former *Memory) error {
	if former.seq.tree.size == uint64(len(m.recs)) {
		m.seq.tree = former.seq.tree.clone()
		return nil
	}
	for i := range m.recs { // the former was building on what did not land
		entry, err := messages.AppendRecord([]byte{leafPrefix}, &m.recs[i])
		if err != nil {
			return corrupt(m.recs[i].Seq, err, "record cannot be written")
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
		seqs, recs := m.index[stream], m.recs
		m.mu.Unlock()
		from := min(max(fromVersion, 1)-1, uint64(len(seqs)))
		for _, seq := range seqs[from:] {
			if err := ctx.Err(); err != nil {
				yield(messages.Record{}, fmt.Errorf("read %q: %w", stream, err))
				return
			}
			if !yield(recs[seq-1], nil) {
				return
			}
		}
	}
}

// Scan implements Log.
func (m *Memory) Scan(ctx context.Context, from, to uint64) iter.Seq2[messages.Record, error] {
	return func(yield func(messages.Record, error) bool) {
		m.mu.Lock()
		recs := m.recs
		m.mu.Unlock()
		for seq := max(from, 1); seq <= min(to, uint64(len(recs))); seq++ {
			if err := ctx.Err(); err != nil {
				yield(messages.Record{}, fmt.Errorf("scan from %d: %w", seq, err))
				return
			}
			if !yield(recs[seq-1], nil) {
				return
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
	var recs []messages.Record
	seqs := m.index[stream]
	for v := from; v < from+uint64(n) && v <= uint64(len(seqs)); v++ {
		recs = append(recs, m.recs[seqs[v-1]-1])
	}
	return recs, nil
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
	return uint64(len(m.index[stream])), nil
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
