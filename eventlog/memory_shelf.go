package eventlog

import (
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// shelf is where Memory keeps records, of which there are only ever more. Memory calls it
// with its lock held.
type shelf interface {
	// add takes the records of a group.
	add(g *group) error
	// size is how many records there are, streams how many streams.
	size() uint64
	streams() int
	// read returns records: those numbered seqs.
	read(seqs []uint64) ([]messages.Record, error)
	// of are the numbers of a stream's records from a version on; nobody changes the slice.
	of(stream messages.StreamID, fromVersion uint64) ([]uint64, error)
	version(stream messages.StreamID) uint64
	// hash is what tlog stores under an index.
	hash(index int64) (tlog.Hash, error)
	// next is the shelf of a log that goes on from here; its streams have the keys
	// that names gives, and this one is used no more.
	next(names *streams) shelf
}

// onHeap keeps records as Go values.
type onHeap struct {
	recs   []messages.Record
	hashes []tlog.Hash
	index  map[messages.StreamID][]uint64 // sequence numbers
}

func newOnHeap() *onHeap { return &onHeap{index: map[messages.StreamID][]uint64{}} }

func (h *onHeap) add(g *group) error {
	h.recs = append(h.recs, g.recs...)
	h.hashes = append(h.hashes, g.hashes...)
	for i := range g.recs {
		r := &g.recs[i]
		h.index[r.Stream] = append(h.index[r.Stream], r.Seq)
	}
	return nil
}

func (h *onHeap) size() uint64 { return uint64(len(h.recs)) }
func (h *onHeap) streams() int { return len(h.index) }

func (h *onHeap) read(seqs []uint64) ([]messages.Record, error) {
	if n := len(seqs); n > 0 && seqs[n-1]-seqs[0] == uint64(n-1) { // they stand together
		return h.recs[seqs[0]-1 : seqs[n-1] : seqs[n-1]], nil
	}
	recs := make([]messages.Record, len(seqs))
	for i, seq := range seqs {
		recs[i] = h.recs[seq-1]
	}
	return recs, nil
}

func (h *onHeap) of(stream messages.StreamID, fromVersion uint64) ([]uint64, error) {
	seqs := h.index[stream]
	return seqs[min(max(fromVersion, 1)-1, uint64(len(seqs))):], nil
}

func (h *onHeap) version(stream messages.StreamID) uint64 { return uint64(len(h.index[stream])) }

func (h *onHeap) hash(index int64) (tlog.Hash, error) {
	if index >= int64(len(h.hashes)) {
		return tlog.Hash{}, fmt.Errorf("hash %d: %w", index, ErrRange)
	}
	return h.hashes[index], nil
}

// next shares what only grows: who adds to it copies it first.
func (h *onHeap) next(*streams) shelf {
	n := &onHeap{recs: slices.Clip(h.recs), hashes: slices.Clip(h.hashes), index: make(map[messages.StreamID][]uint64, len(h.index))}
	for stream, seqs := range h.index {
		n.index[stream] = slices.Clip(seqs)
	}
	return n
}
