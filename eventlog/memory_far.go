package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Far is room outside of memory, such as a file that has no name any more: for logs of many
// millions of records, whose process ends with them.
type Far interface {
	io.ReaderAt
	io.WriterAt
}

// far keeps records as their stored bytes in Far; in memory are 4 bytes a record, and 36 a
// stream. A stream's records are chained, the last one first.
type far struct {
	records tape
	hashes  tape
	ends    column               // of each record: where it begins, in words
	last    map[streamKey]uint32 // of each stream: its last record
	names   *streams             // gives keys
}

// The bytes around a record on its tape: the number of the one before it in its stream, then
// its entry, then what fills the word.
const (
	farHeadBytes = 4
	farWordBytes = 4
	farGuess     = 512 // what is read at once, in the hope that it is the whole record
)

func newFar(make func() (Far, error), names *streams) (*far, error) {
	f := &far{last: map[streamKey]uint32{}, names: names}
	for _, t := range []*tape{&f.records, &f.hashes} {
		room, err := make()
		if err != nil {
			return nil, fmt.Errorf("room for the log: %w", err)
		}
		t.room = room
	}
	return f, nil
}

func (f *far) add(g *group) error {
	var head [farHeadBytes]byte
	for i := range g.recs {
		k := f.names.key(g.recs[i].Stream)
		binary.BigEndian.PutUint32(head[:], f.last[k])
		entry := g.entry(i)
		fill := -(farHeadBytes + len(entry)) & (farWordBytes - 1)
		at := f.records.size / farWordBytes
		if at > 1<<32-1 || f.ends.n == 1<<32-1 {
			return errors.New("the log is too large for memory")
		}
		if err := errors.Join(f.records.write(head[:]), f.records.write(entry), f.records.write(make([]byte, fill))); err != nil {
			return err
		}
		f.ends.add(uint32(at))
		f.last[k] = uint32(f.ends.n)
	}
	for i := range g.hashes {
		if err := f.hashes.write(g.hashes[i][:]); err != nil {
			return err
		}
	}
	return nil
}

func (f *far) size() uint64 { return uint64(f.ends.n) }
func (f *far) streams() int { return len(f.last) }

// one reads a record, and the number of the one before it in its stream.
func (f *far) one(seq uint64, like *messages.Record) (messages.Record, uint32, error) {
	at := int64(f.ends.get(int(seq-1))) * farWordBytes
	b := make([]byte, min(farGuess, f.records.size-at))
	if err := f.records.read(b, at); err != nil {
		return messages.Record{}, 0, err
	}
	before := binary.BigEndian.Uint32(b)
	size := int(binary.BigEndian.Uint32(b[farHeadBytes:])) + 4 // entryHeadBytes: the length does not count itself
	if farHeadBytes+size > len(b) {
		b = make([]byte, farHeadBytes+size)
		if err := f.records.read(b, at); err != nil {
			return messages.Record{}, 0, err
		}
	}
	rec, err := messages.ParseRecordAfter(like, b[farHeadBytes+entryHeadBytes:farHeadBytes+size])
	if err == nil && rec.Seq != seq {
		err = fmt.Errorf("record %d is where %d should be", rec.Seq, seq)
	}
	return rec, before, err
}

func (f *far) read(seqs []uint64) ([]messages.Record, error) {
	recs := make([]messages.Record, len(seqs))
	like := &messages.Record{}
	for i, seq := range seqs {
		rec, _, err := f.one(seq, like)
		if err != nil {
			return nil, err
		}
		recs[i] = rec
		like = &recs[i]
	}
	return recs, nil
}

func (f *far) of(stream messages.StreamID, fromVersion uint64) ([]uint64, error) {
	var seqs []uint64
	like := &messages.Record{Stream: stream}
	for at := f.last[f.names.key(stream)]; at != 0; {
		rec, before, err := f.one(uint64(at), like)
		if err != nil {
			return nil, err
		}
		if rec.Version < fromVersion {
			break
		}
		seqs = append(seqs, uint64(at))
		at = before
	}
	slices.Reverse(seqs)
	return seqs, nil
}

func (f *far) version(stream messages.StreamID) uint64 { return f.names.get(f.names.key(stream)) }

func (f *far) hash(index int64) (h tlog.Hash, err error) {
	if index >= f.hashes.size/tlog.HashSize {
		return h, fmt.Errorf("hash %d: %w", index, ErrRange)
	}
	return h, f.hashes.read(h[:], index*tlog.HashSize)
}

// next is the same one: there is no need for two.
func (f *far) next(names *streams) shelf {
	f.names = names
	return f
}

// tape is bytes that are only added, the last ones in memory.
type tape struct {
	room Far
	size int64
	tail []byte // from size-len(tail) on
}

// tapeTailBytes are written at once.
const tapeTailBytes = 1 << 20

func (t *tape) write(b []byte) error {
	t.tail = append(t.tail, b...)
	t.size += int64(len(b))
	if len(t.tail) < tapeTailBytes {
		return nil
	}
	if _, err := t.room.WriteAt(t.tail, t.size-int64(len(t.tail))); err != nil {
		return fmt.Errorf("room for the log: %w", err)
	}
	t.tail = t.tail[:0]
	return nil
}

// read fills b from at on, which must be there.
func (t *tape) read(b []byte, at int64) error {
	kept := t.size - int64(len(t.tail)) // where the tail begins
	if at < kept {
		n := min(int64(len(b)), kept-at)
		if _, err := t.room.ReadAt(b[:n], at); err != nil {
			return fmt.Errorf("read back the log: %w", err)
		}
		b, at = b[n:], at+n
	}
	if len(b) > 0 {
		copy(b, t.tail[at-kept:])
	}
	return nil
}

// column is numbers that are only added, without a time at which there are two copies.
type column struct {
	chunks []*[columnChunk]uint32
	n      int
}

const columnChunk = 1 << 16

func (c *column) add(v uint32) {
	if c.n%columnChunk == 0 {
		c.chunks = append(c.chunks, new([columnChunk]uint32))
	}
	c.chunks[c.n/columnChunk][c.n%columnChunk] = v
	c.n++
}

func (c *column) get(i int) uint32 { return c.chunks[i/columnChunk][i%columnChunk] }
