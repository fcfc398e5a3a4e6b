package eventlog

import (
	"encoding/binary"
	"fmt"

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
	start := from
	err := floor(txn, prefixBlock, from, func(first uint64, item *badger.Item) error {
		if first+uint64(item.UserMeta()) < from {
			return corrupt(from, nil, "no block holds it")
		}
		start = first
		return nil
	})
	if err != nil {
		return nil, err
	}
	var recs []messages.Record
	bytes := 0
	err = iterate(txn, []byte{prefixBlock}, numberKey(prefixBlock, start), func(item *badger.Item) (bool, error) {
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
func (l *lsm) read(stream messages.StreamID, from uint64, max int) ([]messages.Record, error) {
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	var recs []messages.Record
	err := iterate(txn, streamPrefix(stream), streamIndexKey(stream, from), func(item *badger.Item) (bool, error) {
		name, last, err := parseStreamKey(item.Key())
		if err != nil || name != stream { // a longer name cannot share the prefix: its length differs
			return false, err
		}
		first, positions, err := readIndex(item)
		if err != nil {
			return false, err
		}
		b, err := l.getBlock(txn, first)
		if err != nil {
			return false, err
		}
		for i, at := range positions {
			version := last - uint64(len(positions)-1-i)
			if version < from {
				continue
			}
			if int(at) >= len(b.entries) || version != from+uint64(len(recs)) {
				return false, corrupt(first+uint64(at), nil, "index of %q: version %d at %d of block %d, want version %d", stream, version, at, first, from+uint64(len(recs)))
			}
			rec, err := parseEntry(b.entries[at], first+uint64(at))
			if err != nil || rec.Stream != stream || rec.Version != version {
				return false, corrupt(first+uint64(at), err, "index of %q version %d leads to %q version %d", stream, version, rec.Stream, rec.Version)
			}
			recs = append(recs, rec)
		}
		return len(recs) < max, nil
	})
	return recs, err
}

// readIndex reads an index entry's value.
func readIndex(item *badger.Item) (first uint64, positions []byte, err error) {
	value, err := item.ValueCopy(nil)
	if err == nil {
		value, err = unseal(value)
	}
	if err != nil || len(value) != 8+int(item.UserMeta())+1 {
		return 0, nil, corrupt(0, err, "index entry %q", item.Key())
	}
	return binary.BigEndian.Uint64(value), value[8:], nil
}

func (l *lsm) getBlock(txn *badger.Txn, first uint64) (block, error) {
	item, err := txn.Get(numberKey(prefixBlock, first))
	if err != nil {
		return block{}, corrupt(first, err, "block")
	}
	return readBlock(first, item)
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
	streams map[streamKey]uint64
}

// inspect checks that Badger is complete: blocks without gap from 1 to the stored
// head, hashes for each, and an index that leads to as many records, stream by stream
// without gap. It reads keys only; their bytes are under Badger's checksums.
func (l *lsm) inspect(s *streams) (inspection, error) {
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	size := l.state.head.Seq
	for _, prefix := range []byte{prefixBlock, prefixHashes} {
		next := uint64(1)
		err := iterate(txn, []byte{prefix}, []byte{prefix}, func(item *badger.Item) (bool, error) {
			if first := binary.BigEndian.Uint64(item.Key()[1:]); first != next {
				return false, corrupt(next, nil, "keys under %q go on at %d", prefix, first)
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
	in := inspection{streams: map[streamKey]uint64{}}
	indexed := uint64(0)
	err := iterate(txn, []byte{prefixStream}, []byte{prefixStream}, func(item *badger.Item) (bool, error) {
		name, last, err := parseStreamKey(item.Key())
		if err != nil {
			return false, corrupt(0, err, "index")
		}
		n := uint64(item.UserMeta()) + 1
		k := s.key(name)
		if last-n != in.streams[k] {
			return false, corrupt(0, nil, "index of %q: versions %d to %d follow version %d", name, last-n+1, last, in.streams[k])
		}
		in.streams[k] = last
		indexed += n
		return true, nil
	})
	if err != nil {
		return inspection{}, err
	}
	if indexed != size {
		return inspection{}, corrupt(0, nil, "the index leads to %d records, %d are stored", indexed, size)
	}
	return in, nil
}
