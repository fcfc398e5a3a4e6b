package eventlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"

	"github.com/dgraph-io/badger/v4"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Checkpoint implements Log.
func (s *Store) Checkpoint(ctx context.Context) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.stopped(); err != nil {
		return nil, err
	}
	return signCheckpoint(s.o.Origin, s.Head(), s.o.Signer)
}

// Proof implements Log.
func (s *Store) Proof(seq, size uint64) (tlog.RecordProof, error) {
	return proveRecord(seq, size, s.Head().Seq, tlog.HashReaderFunc(s.readHashes))
}

// ConsistencyProof implements Log.
func (s *Store) ConsistencyProof(old, size uint64) (tlog.TreeProof, error) {
	return proveTree(old, size, s.Head().Seq, tlog.HashReaderFunc(s.readHashes))
}

// readHashes is a tlog.HashReader over Badger and memory.
func (s *Store) readHashes(indexes []int64) ([]tlog.Hash, error) {
	release, err := s.reading()
	if err != nil {
		return nil, err
	}
	defer release()
	return s.hashes(indexes)
}

// hashes is readHashes while Badger is kept open: who waits to close it lets no second
// reader in.
func (s *Store) hashes(indexes []int64) ([]tlog.Hash, error) {
	v := s.look()
	txn := s.lsm.db.NewTransaction(false)
	defer txn.Discard()
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		rec := recordOf(x)
		if rec <= v.stored.Seq {
			h, err := hashReader{txn}.ReadHashes(indexes[i : i+1])
			if err != nil {
				return nil, err
			}
			out[i] = h[0]
			continue
		}
		g := v.group(rec)
		if g == nil {
			return nil, fmt.Errorf("hash %d of record %d: %w", x, rec, ErrRange)
		}
		out[i] = g.hashes[uint64(x)-storedCount(g.first-1)]
	}
	return out, nil
}

// Verify implements Log.
func (s *Store) Verify(ctx context.Context, progress func(done, total uint64)) (Report, error) {
	return s.verify(ctx, progress, func(c *chunk) (*chunk, error) { return c, nil })
}

// Replay implements Log. One goroutine reads and hashes while the caller's own folds what
// came before.
func (s *Store) Replay(ctx context.Context, visit func([]messages.Record) error) (Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	const underWay = 6
	full, free := make(chan *chunk, underWay), make(chan *chunk, underWay)
	for range underWay - 1 {
		free <- &chunk{}
	}
	var report Report
	var err error
	go func() {
		defer close(full)
		report, err = s.verify(ctx, nil, func(c *chunk) (*chunk, error) {
			full <- c // there is room for all
			select {
			case c = <-free:
				return c, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		})
	}()
	var refused error
	for c := range full {
		if refused == nil {
			if refused = visit(c.records); refused != nil {
				cancel()
			}
		}
		free <- c
	}
	if refused != nil {
		return Report{}, fmt.Errorf("replay: %w", refused)
	}
	return report, err
}

// chunk is some blocks' worth of checked records. It is used again, and with it the bytes
// that their bodies are in.
type chunk struct {
	records []messages.Record
	values  [chunkBlocks][]byte
}

const chunkBlocks = 8

// verify reads everything in order and passes what it has checked to emit, which returns
// the next chunk to fill. What it holds of Badger it lets go between chunks: neither a
// compaction nor Close waits for it.
func (s *Store) verify(ctx context.Context, progress func(done, total uint64), emit func(*chunk) (*chunk, error)) (Report, error) {
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	v := s.look() // before Badger is read: what Badger does not have is in the view
	c := checker{s: s, ctx: ctx, total: v.head.Seq, progress: progress, seed: maphash.MakeSeed(), tail: map[messages.StreamID]*streamRecords{}}
	for _, check := range []func() error{
		c.begin,
		func() error { return c.blocks(emit) },
		func() error { return c.recent(&v, emit) },
		c.index,
	} {
		if err := check(); err != nil {
			return c.report, fmt.Errorf("verify: %w", err)
		}
	}
	return c.report, nil
}

// checker recomputes everything from the records' bytes.
type checker struct {
	s        *Store
	ctx      context.Context // of this verification alone
	total    uint64
	progress func(done, total uint64)
	stored   storedHead
	tree     tree
	hashes   []tlog.Hash
	notes    []Head          // checkpoints that the tree has not come to yet
	last     messages.Record // shares its texts with the next
	report   Report

	// What the index must lead to: a sum over all indexed records of a hash under a seed
	// of this verification, so that damage cannot cancel out; it needs no memory for each
	// record. tail has those that are not in the index.
	seed maphash.Seed
	sum  uint64
	tail map[messages.StreamID]*streamRecords
}

// reading looks into Badger for a while.
func (c *checker) reading(look func(*badger.Txn) error) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	if c.s.isClosing() {
		return ErrClosed
	}
	release, err := c.s.reading()
	if err != nil {
		return err
	}
	defer release()
	txn := c.s.lsm.db.NewTransaction(false)
	defer txn.Discard()
	return look(txn)
}

// begin reads how much Badger says it has, and the checkpoints of that.
func (c *checker) begin() error {
	return c.reading(func(txn *badger.Txn) error {
		value, err := get(txn, keyHead)
		if errors.Is(err, badger.ErrKeyNotFound) {
			c.stored.head.Root = c.tree.root()
			return c.empty(txn)
		}
		if err == nil {
			c.stored, err = decodeStoredHead(value)
		}
		if err != nil {
			return corrupt(0, err, "stored head")
		}
		return c.readNotes(txn)
	})
}

// empty makes sure that a Badger without a stored head has no records.
func (c *checker) empty(txn *badger.Txn) error {
	return iterate(txn, []byte{prefixBlock}, []byte{prefixBlock}, func(item *badger.Item) (bool, error) {
		return false, corrupt(0, nil, "there is a block %x and no stored head", item.Key())
	})
}

func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

// blocks checks what Badger has: every record's bytes, and the tree over them.
func (c *checker) blocks(emit func(*chunk) (*chunk, error)) error {
	ch := &chunk{}
	for c.tree.size < c.stored.head.Seq {
		before := c.tree.size
		if err := c.reading(func(txn *badger.Txn) error { return c.fill(txn, ch) }); err != nil {
			return err
		}
		if c.tree.size == before {
			return corrupt(before+1, nil, "it is stored and cannot be found")
		}
		if c.tree.size/progressEvery != before/progressEvery {
			c.progress(min(c.tree.size, c.total), c.total)
		}
		var err error
		if ch, err = emit(ch); err != nil {
			return err
		}
	}
	if got := (Head{Seq: c.tree.size, Root: c.tree.root()}); got != c.stored.head {
		return corrupt(min(got.Seq, c.stored.head.Seq), nil, "%d records with root %v, the stored head says %d with %v", got.Seq, got.Root, c.stored.head.Seq, c.stored.head.Root)
	}
	if len(c.notes) > 0 {
		return corrupt(c.notes[0].Seq, nil, "a checkpoint of %d records", c.notes[0].Seq)
	}
	return nil
}

// fill checks the next blocks.
func (c *checker) fill(txn *badger.Txn, ch *chunk) error {
	ch.records = ch.records[:0]
	n := 0
	return iterate(txn, []byte{prefixBlock}, numberKey(prefixBlock, c.tree.size+1), func(item *badger.Item) (bool, error) {
		first, count := binary.BigEndian.Uint64(item.Key()[1:]), int(item.UserMeta())+1
		if first != c.tree.size+1 {
			return false, corrupt(c.tree.size+1, nil, "the next block begins at %d", first)
		}
		value, err := item.ValueCopy(ch.values[n])
		if err != nil {
			return false, corrupt(first, err, "block of %d records", count)
		}
		ch.values[n] = value
		n++
		err = c.block(txn, ch, first, value, count)
		return n < chunkBlocks && c.tree.size < c.stored.head.Seq, err
	})
}

// block checks the block of count records from first on.
func (c *checker) block(txn *badger.Txn, ch *chunk, first uint64, value []byte, count int) error {
	rest, err := unseal(value)
	if err != nil {
		return corrupt(first, err, "block of %d records", count)
	}
	c.hashes = c.hashes[:0]
	for seq := first; seq < first+uint64(count); seq++ {
		var entry []byte
		if entry, rest, err = nextEntry(rest); err != nil {
			return corrupt(seq, err, "block of %d records from %d", count, first)
		}
		if c.last, err = parseEntryAfter(&c.last, entry, seq); err != nil {
			return corrupt(seq, err, "stored record")
		}
		ch.records = append(ch.records, c.last)
		if err := c.record(&c.last); err != nil {
			return err
		}
		c.hashes = c.tree.add(leafHash(entry), c.hashes)
		if err := c.noted(); err != nil {
			return err
		}
	}
	if len(rest) != 0 {
		return corrupt(first, nil, "%d bytes after the last of %d entries", len(rest), count)
	}
	return c.compareHashes(txn, first, count)
}

// compareHashes holds the hashes of a block's records against those that are stored.
func (c *checker) compareHashes(txn *badger.Txn, first uint64, count int) error {
	value, err := get(txn, numberKey(prefixHashes, first))
	if err != nil {
		return corrupt(first, err, "hashes")
	}
	stored, err := decodeHashes(value, first, count)
	if err != nil {
		return corrupt(first, err, "hashes")
	}
	for i := range stored {
		if stored[i] != c.hashes[i] {
			seq := recordOf(int64(storedCount(first-1)) + int64(i))
			return corrupt(seq, nil, "its hash is %v, the tree has %v", c.hashes[i], stored[i])
		}
	}
	return nil
}

// record notes a record's place in its stream.
func (c *checker) record(rec *messages.Record) error {
	if !c.s.o.KnownKind(rec.Kind, rec.Schema) {
		c.report.Unknown++
	}
	if rec.Seq <= c.stored.indexed {
		c.sum += c.place(c.s.streams.key(rec.Stream), rec.Version, rec.Seq)
		return nil
	}
	s := c.tail[rec.Stream]
	if s == nil {
		s = &streamRecords{first: rec.Version}
		c.tail[rec.Stream] = s
	}
	if want := s.first + uint64(len(s.seqs)); rec.Version != want {
		return corrupt(rec.Seq, nil, "version %d of %q follows version %d", rec.Version, rec.Stream, want-1)
	}
	s.seqs = append(s.seqs, rec.Seq)
	return nil
}

// place is a record's share of sum.
func (c *checker) place(k streamKey, version, seq uint64) uint64 {
	return maphash.Comparable(c.seed, [4]uint64{k[0], k[1], version, seq})
}

// recent checks what only the journal has, as it is in memory.
func (c *checker) recent(v *view, emit func(*chunk) (*chunk, error)) error {
	for _, g := range v.recent {
		ch := &chunk{}
		for i := range g.recs {
			rec := &g.recs[i]
			if rec.Seq <= c.tree.size {
				continue
			}
			if rec.Seq != c.tree.size+1 {
				return corrupt(c.tree.size+1, nil, "the next record is %d", rec.Seq)
			}
			if err := c.record(rec); err != nil {
				return err
			}
			c.tree.add(leafHash(g.entry(i)[4:]), nil)
			ch.records = append(ch.records, *rec)
		}
		if _, err := emit(ch); err != nil {
			return err
		}
	}
	c.progress(c.total, c.total)
	c.report.Head = Head{Seq: c.tree.size, Root: c.tree.root()}
	if v.head.Seq == c.tree.size && v.head.Root != c.report.Head.Root {
		return corrupt(v.head.Seq, nil, "the root is %v, the log says %v", c.report.Head.Root, v.head.Root)
	}
	if c.tree.size < v.head.Seq {
		return corrupt(c.tree.size+1, nil, "the log has %d records", v.head.Seq)
	}
	return nil
}
