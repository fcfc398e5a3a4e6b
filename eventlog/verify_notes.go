package eventlog

import (
	"encoding/binary"

	"github.com/dgraph-io/badger/v4"
)

// readNotes reads the stored checkpoints, whose roots the tree is held against as it grows.
func (c *checker) readNotes(txn *badger.Txn) error {
	return iterate(txn, []byte{prefixNote}, []byte{prefixNote}, func(item *badger.Item) (bool, error) {
		size := binary.BigEndian.Uint64(item.Key()[1:])
		text, err := item.ValueCopy(nil)
		if err != nil {
			return false, corrupt(size, err, "checkpoint")
		}
		h, err := openCheckpoint(text, c.s.o.originWanted(), c.s.o.Verifier)
		if err != nil || h.Seq != size || size > c.stored.head.Seq {
			return false, corrupt(size, err, "checkpoint of %d records", h.Seq)
		}
		c.notes = append(c.notes, h)
		return true, c.ctx.Err()
	})
}

// noted holds the tree against the next checkpoint, if it is of as many records.
func (c *checker) noted() error {
	for len(c.notes) > 0 && c.notes[0].Seq == c.tree.size {
		if got := c.tree.root(); got != c.notes[0].Root {
			return corrupt(c.tree.size, nil, "the root over %d records is %v, a checkpoint says %v", c.tree.size, got, c.notes[0].Root)
		}
		c.notes = c.notes[1:]
		c.report.Checkpoints++
	}
	return nil
}
