package eventlog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// lsm is Badger as the log uses it: records in blocks, index, hashes, checkpoints and
// snapshots. Records only ever get in through put, in order.
type lsm struct {
	dir    string
	db     *badger.DB
	logger *badgerLogger
	write  sync.Mutex // one write transaction at a time, so that the space check before it holds

	frozen bool // opened without compactions for lack of space: must not be fed

	// Owned by the feeder.
	state storedHead
	tree  tree // frontier of state.head

	unindexed *unindexed
	blocks    *blockStarts
}

// badgerOptions are asserted in one place. What each is for:
//
//   - SyncWrites: transactions become durable one after the other, so what a power cut
//     leaves is a prefix, which the journal completes. Without it a memtable that
//     waits for its flush may lose its tail while the next one keeps its head. Feeding
//     in large transactions makes it cheap: a sync per hundreds of kilobytes.
//   - ValueThreshold above every value: no value log. Badger only logs a failed sync
//     of its value log, and its garbage collection has brought deleted keys back.
//   - DetectConflicts off: there is one writer.
//   - Eight tables at level 0 and tables of 8 MiB: with Badger's own 2 MiB a busy log
//     spent a fifth of its processor time on syncing new tables. What one compaction
//     writes stays below what the free-space guard keeps for it (compactionMax).
//   - No compression, no caches: blocks are read from the page cache, and an edge box
//     keeps its memory.
//   - Checksums on every block read, beside ours; but not where all tables were checked to
//     the last byte the moment before, and the copy is closed in the next.
func badgerOptions(dir string, memTableBytes int64, compactors int, checked bool, log *slog.Logger) badger.Options {
	verification := options.OnBlockRead
	if checked {
		verification = options.NoVerification
	}
	return badger.DefaultOptions(dir).
		WithSyncWrites(true).
		WithValueThreshold(min(1<<20, memTableBytes*15/100)).
		WithMemTableSize(memTableBytes).
		WithNumMemtables(2).
		WithNumLevelZeroTables(8).
		WithNumLevelZeroTablesStall(24).
		WithBaseTableSize(8 << 20).
		WithBaseLevelSize(64 << 20).
		WithNumCompactors(compactors).
		WithCompactL0OnClose(false).
		WithValueLogFileSize(1 << 20).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1).
		WithCompression(options.None).
		WithBlockSize(16 << 10).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithChecksumVerificationMode(verification).
		WithMetricsEnabled(false).
		WithBypassLockGuard(true). // our own lock is taken before any file is touched
		WithLogger(&badgerLogger{log: log})
}

// openLSM opens Badger in dir. Badger answers some damage with a panic; in this
// goroutine it becomes an error. (checkTables runs before, for the panics in others.)
func openLSM(dir string, memTableBytes int64, compactors int, checked bool, log *slog.Logger) (l *lsm, err error) {
	defer func() {
		if r := recover(); r != nil {
			l, err = nil, fmt.Errorf("open Badger in %s: it panics: %v", dir, r)
		}
	}()
	logger := &badgerLogger{log: log, broken: make(chan struct{})}
	db, err := badger.Open(badgerOptions(dir, memTableBytes, compactors, checked, log).WithLogger(logger))
	if err != nil {
		return nil, fmt.Errorf("open Badger: %w", err)
	}
	return &lsm{dir: dir, db: db, logger: logger, blocks: &blockStarts{}}, nil
}

// close waits for Badger to flush. What goes wrong then Badger tries again without end: it
// is left alone with that, since the process ends.
func (l *lsm) close() error {
	closed := make(chan error, 1)
	go func() { closed <- l.db.Close() }()
	var err error
	select {
	case err = <-closed:
	case <-l.logger.broken:
	}
	if broken := l.logger.first.Load(); broken != nil { // also if a second try went well
		err = *broken
	}
	if err != nil {
		return fmt.Errorf("close Badger: %w", err)
	}
	return nil
}

// load reads the stored head and the frontier of its tree.
func (l *lsm) load() error {
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	l.state = storedHead{kinds: map[kindKey]uint64{}}
	item, err := txn.Get(keyHead)
	switch {
	case errors.Is(err, badger.ErrKeyNotFound):
		l.state.head.Root = l.tree.root()
		return nil
	case err != nil:
		return fmt.Errorf("stored head: %w", err)
	}
	err = item.Value(func(b []byte) error {
		l.state, err = decodeStoredHead(b)
		return err
	})
	if err != nil {
		return fmt.Errorf("read Badger: %w", err)
	}
	l.tree, err = treeAt(l.state.head.Seq, hashReader{txn})
	if err != nil {
		return fmt.Errorf("read Badger: %w", err)
	}
	if got := l.tree.root(); got != l.state.head.Root {
		return fmt.Errorf("root of the stored hashes is %v, the stored head says %v", got, l.state.head.Root)
	}
	return nil
}

// bytes is how much disk Badger's tables take.
func (l *lsm) bytes() int64 {
	total := int64(0)
	for _, level := range l.db.Levels() {
		total += level.Size
	}
	return total
}

// put stores the records of gs that are not stored yet, in transactions that each
// move the stored head: l.state tells how far it came, also after an error. before is
// asked before each transaction, and note may add a checkpoint to it.
func (l *lsm) put(gs []*group, before func() error, note func(Head) (*badger.Entry, error)) error {
	p := packer{l: l, before: before, note: note, budget: int(l.db.MaxBatchSize()) * 8 / 10}
	for _, g := range gs {
		if g.last() <= l.state.head.Seq {
			continue
		}
		hashAt := 0
		for i := range g.recs {
			rec := &g.recs[i]
			n := int(storedCount(rec.Seq) - storedCount(rec.Seq-1))
			hashes := g.hashes[hashAt : hashAt+n]
			hashAt += n
			if rec.Seq <= l.state.head.Seq { // stored before, also by this put
				continue
			}
			if err := p.add(rec, g.entry(i), hashes); err != nil {
				return err
			}
		}
	}
	return p.commit()
}

// packer gathers records into blocks and blocks into one transaction.
type packer struct {
	l      *lsm
	before func() error
	note   func(Head) (*badger.Entry, error)
	budget int // bytes of a transaction

	first   uint64 // of the block
	count   int
	entries []byte
	hashes  []byte

	txn   []*badger.Entry
	bytes int      // of txn and of the block, as Badger counts them
	begin []uint64 // the first records of txn's blocks
	tree  tree
	kinds map[kindKey]uint64
	refs  []streamVersion // of txn's records
}

// entryOverhead is at least what Badger adds to a key and its value in its accounts.
const entryOverhead = 32

func (p *packer) add(rec *messages.Record, entry []byte, hashes []tlog.Hash) error {
	cost := len(entry) + len(hashes)*tlog.HashSize + len(rec.Stream) + 2*entryOverhead
	if p.count > 0 && (p.count == blockEventsMax || len(p.entries)+len(entry) > blockBytesGoal) {
		p.closeBlock()
	}
	if p.bytes > 0 && p.bytes+cost > p.budget {
		if err := p.commit(); err != nil {
			return err
		}
	}
	if p.kinds == nil {
		p.tree = p.l.tree.clone()
		p.kinds = map[kindKey]uint64{}
	}
	if p.count == 0 {
		p.first = rec.Seq
		p.entries = make([]byte, 4, blockBytesGoal+512)
		p.hashes = make([]byte, 4, blockBytesGoal/2)
		p.bytes += 4 * entryOverhead
	}
	p.entries = append(p.entries, entry...)
	for i := range hashes {
		p.hashes = append(p.hashes, hashes[i][:]...)
	}
	p.tree.take(hashes)
	p.kinds[kindKey{rec.Kind, rec.Schema, rec.Critical}]++
	p.refs = append(p.refs, streamVersion{rec.Stream, rec.Version})
	p.count++
	p.bytes += cost
	return nil
}

// take adds a record whose stored hashes are known: no hashing.
func (t *tree) take(hashes []tlog.Hash) {
	t.peaks = append(t.peaks[:len(t.peaks)-(len(hashes)-1)], hashes[len(hashes)-1])
	t.size++
}

func (p *packer) closeBlock() {
	if p.count == 0 {
		return
	}
	meta := byte(p.count - 1)
	p.txn = append(p.txn,
		badger.NewEntry(numberKey(prefixBlock, p.first), seal(p.entries)).WithMeta(meta),
		badger.NewEntry(numberKey(prefixHashes, p.first), seal(p.hashes)).WithMeta(meta))
	p.begin = append(p.begin, p.first)
	p.count, p.entries = 0, nil
}

// commit stores what was gathered and moves the stored head.
func (p *packer) commit() error {
	p.closeBlock()
	if len(p.txn) == 0 {
		return nil
	}
	if err := p.makeRoom(); err != nil {
		return err
	}
	next := p.l.state.cloned()
	next.head = Head{Seq: p.tree.size, Root: p.tree.root()}
	for k, n := range p.kinds {
		next.kinds[k] += n
	}
	note, err := p.note(next.head)
	if err != nil {
		return err
	}
	if note != nil {
		p.txn = append(p.txn, note)
	}
	p.txn = append(p.txn, badger.NewEntry(keyHead, next.encode()))
	if err := p.l.commit(p.txn, p.before); err != nil {
		return fmt.Errorf("store records %d to %d: %w", p.l.state.head.Seq+1, next.head.Seq, err)
	}
	p.l.blocks.add(p.begin) // before the index, which leads into them
	p.l.unindexed.add(p.l.state.head.Seq+1, p.refs)
	p.l.state, p.l.tree = next, p.tree
	p.txn, p.bytes, p.begin, p.kinds, p.refs = nil, 0, p.begin[:0], nil, p.refs[:0]
	return nil
}

// makeRoom writes the index of what is stored, so that it and what is about to be stored
// do not become too much for one transaction, nor for the next open to read.
func (p *packer) makeRoom() error {
	u := p.l.unindexed
	for len(u.refs) > 0 && (len(u.refs)+len(p.refs) > u.most || u.cost+len(p.refs)*(indexEntryCost+indexRecordCost) > p.budget) {
		if err := p.l.putIndex(p.budget, p.before); err != nil {
			return err
		}
	}
	return nil
}

// commit writes entries in one transaction, durable on return.
func (l *lsm) commit(entries []*badger.Entry, before func() error) error {
	l.write.Lock()
	defer l.write.Unlock()
	if l.frozen {
		return fmt.Errorf("%w: Badger is frozen", ErrFull)
	}
	if err := before(); err != nil {
		return err
	}
	txn := l.db.NewTransaction(true)
	defer txn.Discard()
	for _, e := range entries {
		if err := txn.SetEntry(e); err != nil {
			return fmt.Errorf("badger: %w", err)
		}
	}
	if err := txn.Commit(); err != nil {
		return fmt.Errorf("badger: %w", err)
	}
	return nil
}

// badgerLogger passes on what Badger says: its info is our debug. What Badger says in the
// background is the only word about a flush or a compaction that failed: it goes on and tries
// again, also a sync, which may then say that all is well when it is not (doc.go, 4). So
// such a word is a failure of the log.
type badgerLogger struct {
	log    *slog.Logger
	broken chan struct{}               // closed by the first failure
	first  atomic.Pointer[error]       // that failure
	fail   atomic.Pointer[func(error)] // is told of it
}

// failures are what Badger's warnings about failed compactions begin with. (Each of its
// errors is a failure.)
var failures = []string{"While running doCompact", "[Compactor: %d] LOG Compact FAILED", "While compacting level 0", "While running compact def"}

func (b *badgerLogger) say(level slog.Level, format string, args []any) {
	ctx := context.Background() // Badger has none to pass on
	if b.log.Enabled(ctx, level) {
		b.log.Log(ctx, level, "badger", "says", strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

func (b *badgerLogger) failed(format string, args []any) {
	err := fmt.Errorf("badger: %s", strings.TrimSpace(fmt.Sprintf(format, args...)))
	if b.broken != nil && b.first.CompareAndSwap(nil, &err) {
		close(b.broken)
	}
	if f := b.fail.Load(); f != nil {
		(*f)(err)
	}
}

// Errorf implements badger.Logger, as the others do.
func (b *badgerLogger) Errorf(format string, args ...any) {
	b.say(slog.LevelError, format, args)
	b.failed(format, args)
}

func (b *badgerLogger) Warningf(format string, args ...any) {
	b.say(slog.LevelWarn, format, args)
	if slices.ContainsFunc(failures, func(f string) bool { return strings.HasPrefix(format, f) }) {
		b.failed(format, args)
	}
}

func (b *badgerLogger) Infof(format string, args ...any) { b.say(slog.LevelDebug, format, args) }
func (b *badgerLogger) Debugf(string, ...any)            {}

// removeAll deletes a directory that nothing refers to any more.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove working copy: %w", err)
	}
	return nil
}
