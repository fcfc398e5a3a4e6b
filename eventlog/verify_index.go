package eventlog

import (
	"bytes"

	"github.com/dgraph-io/badger/v4"
)

// indexChunk is how many index entries are read before Badger is let go.
const indexChunk = 4096

// indexed is where the check of the index is: the last entry, and what it led to.
type indexed struct {
	key     []byte // of the last entry
	stream  []byte
	version uint64
	seq     uint64
	sum     uint64
}

// index checks that the index leads, stream by stream and in order, to each of the records
// that it must lead to, and to nothing else.
func (c *checker) index() error {
	x := indexed{key: []byte{prefixStream}}
	for more := true; more; {
		err := c.reading(func(txn *badger.Txn) error {
			more = false
			n := 0
			return iterate(txn, []byte{prefixStream}, x.key, func(item *badger.Item) (bool, error) {
				if bytes.Equal(item.Key(), x.key) { // where the chunk before ended
					return true, nil
				}
				if err := c.entry(&x, item); err != nil {
					return false, err
				}
				n++
				more = n == indexChunk
				return !more, nil
			})
		})
		if err != nil {
			return err
		}
	}
	if x.sum != c.sum {
		return c.wrongEntry()
	}
	return c.tailFollows()
}

// entry takes in the next entry of the index.
func (c *checker) entry(x *indexed, item *badger.Item) error {
	x.key = append(x.key[:0], item.Key()...)
	name, last, err := parseStreamKey(x.key)
	if err != nil {
		return corrupt(0, err, "index")
	}
	seqs, err := readIndex(nil, item)
	if err != nil {
		return err
	}
	if seqs[0] > c.stored.indexed { // written since
		return nil
	}
	if string(x.stream) != string(name) {
		x.stream, x.version, x.seq = append(x.stream[:0], name...), 0, 0
		c.report.Streams++
	}
	first := last - uint64(len(seqs)) + 1
	if first != x.version+1 || seqs[0] <= x.seq || seqs[len(seqs)-1] > c.stored.indexed {
		return corrupt(seqs[0], nil, "index of %q: versions %d to %d in records %d to %d follow version %d in record %d",
			name, first, last, seqs[0], seqs[len(seqs)-1], x.version, x.seq)
	}
	x.version, x.seq = last, seqs[len(seqs)-1]
	k := c.s.streams.key(name)
	for i, seq := range seqs {
		x.sum += c.place(k, first+uint64(i), seq)
	}
	if s := c.tail[name]; s != nil {
		s.before = last
	}
	return nil
}

// tailFollows checks that the records that are not in the index follow those that are.
func (c *checker) tailFollows() error {
	for name, s := range c.tail {
		if s.first != s.before+1 {
			return corrupt(s.seqs[0], nil, "version %d of %q follows version %d", s.first, name, s.before)
		}
		if s.before == 0 {
			c.report.Streams++
		}
	}
	return nil
}

// wrongEntry finds an entry of the index that does not lead where it says.
func (c *checker) wrongEntry() error {
	return c.reading(func(txn *badger.Txn) error {
		blocks := newBlockReader(txn, c.s.lsm.blocks)
		defer blocks.close()
		err := iterate(txn, []byte{prefixStream}, []byte{prefixStream}, func(item *badger.Item) (bool, error) {
			name, last, err := parseStreamKey(item.KeyCopy(nil))
			if err != nil {
				return false, corrupt(0, err, "index")
			}
			seqs, err := readIndex(nil, item)
			if err != nil {
				return false, err
			}
			r := streamReader{blocks: blocks, stream: name, next: last - uint64(len(seqs)) + 1}
			return true, r.take(seqs, r.next)
		})
		if err == nil {
			err = corrupt(0, nil, "the index does not lead to every record")
		}
		return err
	})
}
