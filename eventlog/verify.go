package eventlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

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
	v := s.look()
	release, err := s.reading()
	if err != nil {
		return nil, err
	}
	defer release()
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
	release, err := s.reading()
	if err != nil {
		return Report{}, err
	}
	defer release()
	v := s.look() // before Badger is read: what Badger does not have is in the view
	if progress == nil {
		progress = func(uint64, uint64) {}
	}
	txn := s.lsm.db.NewTransaction(false)
	defer txn.Discard()
	c := checker{s: s, txn: txn, total: v.head.Seq, progress: progress, versions: map[streamKey]uint64{}}
	if err := c.blocks(ctx); err != nil {
		return c.report, fmt.Errorf("verify: %w", err)
	}
	if err := c.notes(ctx); err != nil {
		return c.report, fmt.Errorf("verify: %w", err)
	}
	if err := c.recent(v); err != nil {
		return c.report, fmt.Errorf("verify: %w", err)
	}
	c.report.Streams = uint64(len(c.versions))
	return c.report, nil
}

// checker recomputes everything from the records' bytes.
type checker struct {
	s        *Store
	txn      *badger.Txn
	total    uint64
	progress func(done, total uint64)
	tree     tree
	versions map[streamKey]uint64
	indexed  uint64
	report   Report
}

// blocks checks what Badger has: every record's bytes, the tree over them, and that
// the index leads to each of them and to nothing else.
func (c *checker) blocks(ctx context.Context) error {
	err := iterate(c.txn, []byte{prefixBlock}, []byte{prefixBlock}, func(item *badger.Item) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if c.s.isClosing() {
			return false, ErrClosed
		}
		first := binary.BigEndian.Uint64(item.Key()[1:])
		if first != c.tree.size+1 {
			return false, corrupt(c.tree.size+1, nil, "the next block begins at %d", first)
		}
		b, err := readBlock(first, item)
		if err != nil {
			return false, err
		}
		before := c.tree.size / progressEvery
		if err := c.block(b); err != nil {
			return false, err
		}
		if c.tree.size/progressEvery != before {
			c.progress(min(c.tree.size, c.total), c.total)
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	value, err := get(c.txn, keyHead)
	if err == badger.ErrKeyNotFound && c.tree.size == 0 {
		return nil
	}
	if err != nil {
		return corrupt(c.tree.size, err, "stored head")
	}
	stored, err := decodeStoredHead(value)
	if err != nil {
		return corrupt(c.tree.size, err, "stored head")
	}
	if got := (Head{Seq: c.tree.size, Root: c.tree.root()}); got != stored.head {
		return corrupt(min(got.Seq, stored.head.Seq), nil, "%d records with root %v, the stored head says %d with %v", got.Seq, got.Root, stored.head.Seq, stored.head.Root)
	}
	return c.index(stored.head.Seq)
}

func get(txn *badger.Txn, key []byte) ([]byte, error) {
	item, err := txn.Get(key)
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

func (c *checker) block(b block) error {
	index := map[messages.StreamID]*indexEntry{}
	var hashes []tlog.Hash
	for i, entry := range b.entries {
		seq := b.first + uint64(i)
		rec, err := parseEntry(entry, seq)
		if err != nil {
			return corrupt(seq, err, "stored record")
		}
		if err := c.record(&rec); err != nil {
			return err
		}
		hashes = c.tree.add(leafHash(entry), hashes)
		e := index[rec.Stream]
		if e == nil {
			e = &indexEntry{stream: rec.Stream}
			index[rec.Stream] = e
		}
		e.last, e.positions = rec.Version, append(e.positions, byte(i))
	}
	value, err := get(c.txn, numberKey(prefixHashes, b.first))
	if err != nil {
		return corrupt(b.first, err, "hashes")
	}
	stored, err := decodeHashes(value, b.first, len(b.entries))
	if err != nil {
		return corrupt(b.first, err, "hashes")
	}
	for i := range stored {
		if stored[i] != hashes[i] {
			seq := recordOf(int64(storedCount(b.first-1)) + int64(i))
			return corrupt(seq, nil, "its hash is %v, the tree has %v", hashes[i], stored[i])
		}
	}
	for _, e := range index {
		value, err := get(c.txn, streamIndexKey(e.stream, e.last))
		if err != nil || !bytes.Equal(value, e.value(b.first)) {
			return corrupt(b.first, err, "index of %q up to version %d", e.stream, e.last)
		}
		c.indexed += uint64(len(e.positions))
	}
	return nil
}

// record checks a record's place in its stream.
func (c *checker) record(rec *messages.Record) error {
	k := c.s.streams.key(rec.Stream)
	if rec.Version != c.versions[k]+1 {
		return corrupt(rec.Seq, nil, "version %d of %q follows version %d", rec.Version, rec.Stream, c.versions[k])
	}
	c.versions[k] = rec.Version
	if !c.s.o.KnownKind(rec.Kind, rec.Schema) {
		c.report.Unknown++
	}
	return nil
}

// index checks that there are no more index entries than the records account for.
func (c *checker) index(size uint64) error {
	entries := uint64(0)
	err := iterate(c.txn, []byte{prefixStream}, []byte{prefixStream}, func(item *badger.Item) (bool, error) {
		entries += uint64(item.UserMeta()) + 1
		return true, nil
	})
	if err != nil {
		return err
	}
	if entries != size || c.indexed != size {
		return corrupt(0, nil, "the index leads to %d records, %d are stored", entries, size)
	}
	return nil
}

// notes checks every stored checkpoint.
func (c *checker) notes(ctx context.Context) error {
	return iterate(c.txn, []byte{prefixNote}, []byte{prefixNote}, func(item *badger.Item) (bool, error) {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		size := binary.BigEndian.Uint64(item.Key()[1:])
		text, err := item.ValueCopy(nil)
		if err != nil {
			return false, corrupt(size, err, "checkpoint")
		}
		h, err := openCheckpoint(text, c.s.o.originWanted(), c.s.o.Verifier)
		if err != nil || h.Seq != size || size > c.tree.size {
			return false, corrupt(size, err, "checkpoint of %d records", h.Seq)
		}
		if err := checkRoot(size, h.Root, hashReader{c.txn}); err != nil {
			return false, err
		}
		c.report.Checkpoints++
		return true, nil
	})
}

// recent checks what only the journal has, as it is in memory.
func (c *checker) recent(v view) error {
	for _, g := range v.recent {
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
