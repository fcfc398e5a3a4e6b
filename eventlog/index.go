package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/dgraph-io/badger/v4"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// The index leads from a stream to its records. An entry for each stream in each block
// would be a key for nearly every record where thousands of devices are busy, and those
// keys would cost Badger more than the records. So the last stored records, the
// unindexed, are found in memory (at open: by reading them), and the entries of many of
// them are written at once: one for each of their streams.
//
//	s | length 1 | stream | version of the last 8   CRC32C 4 | form 1 | uvarints: sequence
//	                                                number of the first, steps to the next
//
// The user meta is the number of records less one. In format 1 there was an entry for
// each block: CRC32C 4 | first of the block 8 | positions in the block 1 each; the first
// of a block begins with a zero byte, where a form stands now.
const (
	indexForm       = 1
	indexEntryMax   = 256 // records of one entry: its user meta is a byte
	indexEntryCost  = 128 // of a transaction's bytes, beside the name; also its share of Badger's count
	indexRecordCost = 4   // of the same: a step
)

// unindexed is what of the stored records the index does not lead to yet. Only the
// feeder changes it; readers look at it before Badger, so that what moves from here to
// there is seen in one of them.
type unindexed struct {
	mu      sync.RWMutex
	refs    []streamVersion                      // of the records from indexed+1 on; the feeder's
	streams map[messages.StreamID]*streamRecords // guarded by mu
	cost    int                                  // of the transaction that indexes them; the feeder's
	most    int                                  // records
}

type streamVersion struct {
	stream  messages.StreamID
	version uint64
}

// streamRecords are records of one stream, by ascending versions without gap.
type streamRecords struct {
	before uint64   // the last version that is in the index, where a check asks
	first  uint64   // version
	seqs   []uint64 // only appended to
}

func newUnindexed(most int) *unindexed {
	return &unindexed{most: most, streams: map[messages.StreamID]*streamRecords{}}
}

// add takes in what was stored: the records from number first on.
func (u *unindexed) add(first uint64, refs []streamVersion) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.addLocked(first, refs)
}

func (u *unindexed) addLocked(first uint64, refs []streamVersion) {
	for i, ref := range refs {
		s := u.streams[ref.stream]
		if s == nil {
			s = &streamRecords{first: ref.version}
			u.streams[ref.stream] = s
		}
		if len(s.seqs)%indexEntryMax == 0 {
			u.cost += indexEntryCost + len(ref.stream)
		}
		s.seqs = append(s.seqs, first+uint64(i))
		u.cost += indexRecordCost
	}
	u.refs = append(u.refs, refs...)
}

// find returns what is here of stream from a version on: the version of the first, and
// the sequence numbers.
func (u *unindexed) find(stream messages.StreamID, from uint64) (first uint64, seqs []uint64) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	s := u.streams[stream]
	if s == nil {
		return 0, nil
	}
	skip := min(max(from, s.first)-s.first, uint64(len(s.seqs)))
	return s.first + skip, s.seqs[skip:len(s.seqs):len(s.seqs)]
}

// drop forgets the first n records, which are in the index now. first is the number of
// the first that stays.
func (u *unindexed) drop(n int, first uint64) {
	rest := slices.Clone(u.refs[n:])
	u.mu.Lock()
	defer u.mu.Unlock()
	u.refs, u.cost = u.refs[:0], 0
	u.streams = make(map[messages.StreamID]*streamRecords, len(u.streams)) // readers hold parts of the old one
	u.addLocked(first, rest)
}

// putIndex writes the index of as many of the unindexed records as fit in a transaction,
// from the first on.
func (l *lsm) putIndex(budget int, before func() error) error {
	u := l.unindexed
	streams, order, n := gather(u.refs, l.state.indexed+1, budget)
	var txn []*badger.Entry
	for _, name := range order {
		s := streams[name]
		for at := 0; at < len(s.seqs); at += indexEntryMax {
			seqs := s.seqs[at:min(at+indexEntryMax, len(s.seqs))]
			last := s.first + uint64(at+len(seqs)) - 1
			txn = append(txn, badger.NewEntry(streamIndexKey(name, last), indexValue(seqs)).WithMeta(byte(len(seqs)-1)))
		}
	}
	next := l.state
	next.indexed += uint64(n)
	txn = append(txn, badger.NewEntry(keyHead, next.encode()))
	if err := l.commit(txn, before); err != nil {
		return fmt.Errorf("index records %d to %d: %w", l.state.indexed+1, next.indexed, err)
	}
	l.state = next
	u.drop(n, next.indexed+1)
	return nil
}

// gather sorts the first refs, whose numbers are first and so on, by their streams, as
// many as cost no more than budget. order is that of their first records.
func gather(refs []streamVersion, first uint64, budget int) (streams map[messages.StreamID]*streamRecords, order []messages.StreamID, n int) {
	streams = map[messages.StreamID]*streamRecords{}
	cost := 0
	for i, ref := range refs {
		s := streams[ref.stream]
		if s == nil || len(s.seqs)%indexEntryMax == 0 {
			cost += indexEntryCost + len(ref.stream)
		}
		if cost += indexRecordCost; cost > budget && i > 0 {
			break
		}
		if s == nil {
			s = &streamRecords{first: ref.version}
			streams[ref.stream] = s
			order = append(order, ref.stream)
		}
		s.seqs = append(s.seqs, first+uint64(i))
		n++
	}
	return streams, order, n
}

// indexValue is what an index entry's key leads to.
func indexValue(seqs []uint64) []byte {
	v := make([]byte, 4, 4+1+binary.MaxVarintLen64+2*len(seqs))
	v = append(v, indexForm)
	last := uint64(0)
	for _, seq := range seqs {
		v = binary.AppendUvarint(v, seq-last)
		last = seq
	}
	return seal(v)
}

// decodeIndex reads the value of an index entry for count records into seqs.
func decodeIndex(seqs []uint64, value []byte, count int) ([]uint64, error) {
	b, err := unseal(value)
	if err != nil {
		return nil, err
	}
	if len(b) == 8+count && b[0] == 0 { // format 1
		first, last := binary.BigEndian.Uint64(b), -1
		for _, at := range b[8:] {
			if int(at) <= last {
				return nil, fmt.Errorf("position %d after %d", at, last)
			}
			last = int(at)
			seqs = append(seqs, first+uint64(at))
		}
		return seqs, nil
	}
	if len(b) == 0 || b[0] != indexForm {
		return nil, errors.New("unknown form")
	}
	b = b[1:]
	last := uint64(0)
	for range count {
		step, n := binary.Uvarint(b)
		if n <= 0 || step == 0 || last+step < last {
			return nil, fmt.Errorf("%d bytes left after record %d do not lead on", len(b), last)
		}
		last += step
		seqs, b = append(seqs, last), b[n:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes after the last of %d records", len(b), count)
	}
	return seqs, nil
}

// readUnindexed finds the stored records that the index does not lead to, and checks that
// their streams go on without gap from what was found of them in the index.
func (l *lsm) readUnindexed(s *streams, found *versions, most int) error {
	l.unindexed = newUnindexed(most)
	for next := l.state.indexed + 1; next <= l.state.head.Seq; {
		recs, err := l.scan(next, l.state.head.Seq)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			return corrupt(next, nil, "it is stored and cannot be found")
		}
		refs := make([]streamVersion, len(recs))
		for i := range recs {
			r := &recs[i]
			k := s.key(r.Stream)
			if r.Version != found.get(k)+1 {
				return corrupt(r.Seq, nil, "version %d of %q follows version %d", r.Version, r.Stream, found.get(k))
			}
			found.set(k, r.Version)
			refs[i] = streamVersion{r.Stream, r.Version}
		}
		l.unindexed.add(next, refs)
		next += uint64(len(recs))
	}
	return nil
}

// cloned returns a copy of s that shares nothing.
func (s *storedHead) cloned() storedHead {
	return storedHead{head: s.head, kinds: maps.Clone(s.kinds), indexed: s.indexed}
}
