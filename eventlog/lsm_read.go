package eventlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// iterate visits the keys from seek on that begin with prefix, keys only.
func iterate(txn *badger.Txn, prefix, seek []byte, visit func(*badger.Item) (more bool, err error)) error {
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Prefix = prefix
	it := txn.NewIterator(o)
	defer it.Close()
	for it.Seek(seek); it.Valid(); it.Next() {
		more, err := visit(it.Item())
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// floor visits the last key with a one-byte prefix that is not after number n.
func floor(txn *badger.Txn, prefix byte, n uint64, visit func(first uint64, item *badger.Item) error) error {
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	o.Reverse = true
	o.Prefix = []byte{prefix}
	it := txn.NewIterator(o)
	defer it.Close()
	it.Seek(numberKey(prefix, n))
	if !it.Valid() {
		return corrupt(n, nil, "nothing under %q up to it", prefix)
	}
	item := it.Item()
	return visit(binary.BigEndian.Uint64(item.Key()[1:]), item)
}

// block is one stored block, its value copied.
type block struct {
	first   uint64
	entries [][]byte
}

func readBlock(first uint64, item *badger.Item) (block, error) {
	count := int(item.UserMeta()) + 1
	value, err := item.ValueCopy(nil)
	if err == nil {
		var entries [][]byte
		if entries, err = blockEntries(value, count); err == nil {
			return block{first, entries}, nil
		}
	}
	return block{}, corrupt(first, err, "block of %d records", count)
}

// scan returns stored records from..to, as many as a few blocks hold.
func (l *lsm) scan(from, to uint64) ([]messages.Record, error) {
	const bytesMax = 256 << 10
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	start, ok := l.blocks.of(from)
	if !ok {
		return nil, corrupt(from, nil, "no block holds it")
	}
	var recs []messages.Record
	bytes := 0
	err := iterate(txn, []byte{prefixBlock}, numberKey(prefixBlock, start), func(item *badger.Item) (bool, error) {
		first := binary.BigEndian.Uint64(item.Key()[1:])
		b, err := readBlock(first, item)
		if err != nil {
			return false, err
		}
		for i, entry := range b.entries {
			seq := first + uint64(i)
			if seq < from {
				continue
			}
			if seq > to {
				return false, nil
			}
			if seq != from+uint64(len(recs)) {
				return false, corrupt(from+uint64(len(recs)), nil, "the next block begins at %d", first)
			}
			rec, err := parseEntry(entry, seq)
			if err != nil {
				return false, corrupt(seq, err, "stored record")
			}
			recs = append(recs, rec)
			bytes += len(entry)
		}
		return bytes < bytesMax, nil
	})
	return recs, err
}

// read returns stored records of stream from a version on, as many as a few index
// entries lead to; none when they are not stored (yet).
func (l *lsm) read(stream messages.StreamID, from uint64, most int) ([]messages.Record, error) {
	version, unindexed := l.unindexed.find(stream, from) // before Badger is looked at
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	r := streamReader{blocks: newBlockReader(txn, l.blocks), stream: stream, next: from}
	defer r.blocks.close()
	err := iterate(txn, streamPrefix(stream), streamIndexKey(stream, from), func(item *badger.Item) (bool, error) {
		name, last, err := parseStreamKey(item.Key())
		if err != nil || name != stream { // a longer name cannot share the prefix: its length differs
			return false, err
		}
		seqs, err := readIndex(nil, item)
		if err != nil {
			return false, err
		}
		err = r.take(seqs, last-uint64(len(seqs))+1)
		return len(r.recs) < most, err
	})
	if err == nil && len(r.recs) < most && version <= r.next {
		err = r.take(unindexed, version)
	}
	return r.recs, err
}

// streamReader gathers records of one stream.
type streamReader struct {
	blocks *blockReader
	stream messages.StreamID
	next   uint64 // version
	recs   []messages.Record
}

// take gathers the records seqs, whose versions are first and so on, but those it has.
func (r *streamReader) take(seqs []uint64, first uint64) error {
	for i, seq := range seqs {
		version := first + uint64(i)
		if version < r.next {
			continue
		}
		rec, err := r.blocks.record(seq)
		if err != nil || rec.Stream != r.stream || rec.Version != version || version != r.next {
			return corrupt(seq, err, "index of %q version %d leads to %q version %d, want version %d", r.stream, version, rec.Stream, rec.Version, r.next)
		}
		r.recs = append(r.recs, rec)
		r.next++
	}
	return nil
}

// readIndex reads an index entry's value into seqs.
func readIndex(seqs []uint64, item *badger.Item) ([]uint64, error) {
	err := item.Value(func(value []byte) (err error) {
		seqs, err = decodeIndex(seqs, value, int(item.UserMeta())+1)
		return err
	})
	if err != nil {
		return nil, corrupt(0, err, "index entry %q", item.Key())
	}
	return seqs, nil
}

// blockStarts are the sequence numbers that stored blocks begin at, ascending, the first 1:
// eight bytes a block, so that a record's block is one key. Looked up in Badger as the last
// key that is not after the record's, each of its levels would read a block, check it, and
// read the next. Only the feeder adds.
type blockStarts struct{ list atomic.Pointer[[]uint64] }

func (b *blockStarts) add(firsts []uint64) {
	var list []uint64
	if old := b.list.Load(); old != nil {
		list = *old // readers do not look beyond its end
	}
	list = append(list, firsts...)
	b.list.Store(&list)
}

// of returns where the block begins that holds record seq, if it is stored.
func (b *blockStarts) of(seq uint64) (first uint64, ok bool) {
	list := b.list.Load()
	if list == nil {
		return 0, false
	}
	n, found := slices.BinarySearch(*list, seq)
	if found {
		return seq, true
	}
	if n == 0 {
		return 0, false
	}
	return (*list)[n-1], true
}

// blockReader finds records by their numbers, and keeps the last block at hand.
type blockReader struct {
	txn    *badger.Txn
	starts *blockStarts
	value  *[]byte // of the block, from values
	first  uint64
	count  int
	rest   []byte // of value: the entries from number next on
	next   uint64
}

// values are what blocks are read into: an entity's recovery needs one record of each.
var values = sync.Pool{New: func() any { return new([]byte) }}

func newBlockReader(txn *badger.Txn, starts *blockStarts) *blockReader {
	return &blockReader{txn: txn, starts: starts, value: values.Get().(*[]byte)}
}

func (r *blockReader) close() {
	values.Put(r.value)
	r.value, r.rest = nil, nil
}

// record returns record seq, which is stored. It shares nothing with the block.
func (r *blockReader) record(seq uint64) (messages.Record, error) {
	if seq < r.next || seq-r.first >= uint64(r.count) {
		if err := r.seek(seq); err != nil {
			return messages.Record{}, err
		}
	}
	for {
		entry, rest, err := nextEntry(r.rest)
		if err != nil {
			return messages.Record{}, corrupt(r.first, err, "block of %d records", r.count)
		}
		at := r.next
		r.rest = rest
		r.next++
		if at == seq {
			return parseEntry(bytes.Clone(entry), seq)
		}
	}
}

// seek reads the block that holds record seq, all of which is under its checksum.
func (r *blockReader) seek(seq uint64) error {
	r.count = 0
	first, ok := r.starts.of(seq)
	if !ok {
		return corrupt(seq, nil, "no block holds it")
	}
	o := badger.DefaultIteratorOptions
	o.PrefetchValues = false
	it := r.txn.NewKeyIterator(numberKey(prefixBlock, first), o) // Get would copy the value once more
	defer it.Close()
	if it.Rewind(); !it.Valid() {
		return corrupt(first, nil, "the block is missing")
	}
	item := it.Item()
	count := int(item.UserMeta()) + 1
	value, err := item.ValueCopy(*r.value)
	if err == nil {
		*r.value = value
		value, err = unseal(value)
	}
	if err != nil {
		return corrupt(first, err, "block of %d records", count)
	}
	if seq-first >= uint64(count) {
		return corrupt(seq, nil, "no block holds it")
	}
	r.first, r.count, r.rest, r.next = first, count, value, first
	return nil
}

// hashReader reads stored hashes in a transaction.
type hashReader struct{ txn *badger.Txn }

// ReadHashes implements tlog.HashReader.
func (r hashReader) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		rec := recordOf(x)
		err := floor(r.txn, prefixHashes, rec, func(first uint64, item *badger.Item) error {
			value, err := item.ValueCopy(nil)
			if err != nil {
				return corrupt(first, err, "hashes")
			}
			hashes, err := decodeHashes(value, first, int(item.UserMeta())+1)
			if err != nil {
				return corrupt(first, err, "hashes")
			}
			at := uint64(x) - storedCount(first-1)
			if at >= uint64(len(hashes)) {
				return corrupt(rec, nil, "hash %d is not stored", x)
			}
			out[i] = hashes[at]
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("hash %d: %w", x, err)
		}
	}
	return out, nil
}

// inspection is what the keys alone tell about Badger's content.
type inspection struct {
	streams *versions
}

// inspect checks that Badger is complete: blocks without gap from 1 to the stored
// head, hashes for each, and an index that leads to as many records as it must, stream by
// stream without gap. It reads keys only, whose bytes are under Badger's checksums, and
// the records that are not in the index.
func (l *lsm) inspect(s *streams, unindexedMax int) (inspection, error) {
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	size := l.state.head.Seq
	var firsts []uint64
	for _, prefix := range []byte{prefixBlock, prefixHashes} {
		next := uint64(1)
		err := iterate(txn, []byte{prefix}, []byte{prefix}, func(item *badger.Item) (bool, error) {
			if first := binary.BigEndian.Uint64(item.Key()[1:]); first != next {
				return false, corrupt(next, nil, "keys under %q go on at %d", prefix, first)
			}
			if prefix == prefixBlock {
				firsts = append(firsts, next)
			}
			next += uint64(item.UserMeta()) + 1
			return true, nil
		})
		if err != nil {
			return inspection{}, err
		}
		if next != size+1 {
			return inspection{}, corrupt(min(next, size+1), nil, "keys under %q end before %d, the stored head is %d", prefix, next, size)
		}
	}
	l.blocks.add(firsts)
	in, indexed, err := inspectIndex(txn, s)
	if err != nil {
		return inspection{}, err
	}
	if indexed != l.state.indexed {
		return inspection{}, corrupt(0, nil, "the index leads to %d records, the stored head says %d", indexed, l.state.indexed)
	}
	return in, l.readUnindexed(s, in.streams, unindexedMax)
}

// inspectIndex reads the index's keys: the streams' versions, and how many records they
// lead to. The entries of a stream are neighbours.
func inspectIndex(txn *badger.Txn, s *streams) (in inspection, indexed uint64, err error) {
	in.streams = &versions{}
	var stream []byte
	version := uint64(0)
	note := func() {
		if version > 0 {
			in.streams.set(s.keyOf(stream), version)
		}
	}
	err = iterate(txn, []byte{prefixStream}, []byte{prefixStream}, func(item *badger.Item) (bool, error) {
		name, last, err := cutStreamKey(item.Key())
		if err != nil {
			return false, corrupt(0, err, "index")
		}
		if !bytes.Equal(name, stream) {
			note()
			stream, version = append(stream[:0], name...), 0
		}
		n := uint64(item.UserMeta()) + 1
		if last-n != version {
			return false, corrupt(0, nil, "index of %q: versions %d to %d follow version %d", name, last-n+1, last, version)
		}
		version = last
		indexed += n
		return true, nil
	})
	note()
	return in, indexed, err
}
