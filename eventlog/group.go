package eventlog

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// entryHeadBytes precede a record's canonical bytes wherever they are stored:
// length 4 (of what follows) | leafPrefix 1.
const entryHeadBytes = 4 + 1

// group is a combined commit: batches of different callers that become durable with
// one write. The sequencer fills it, the writer makes it durable, and after that
// nobody changes it; readers share it until Badger has its records.
type group struct {
	first    uint64               // sequence number of recs[0]
	recs     []messages.Record    // gapless from first
	entries  []byte               // their stored bytes, one after the other
	ends     []int                // where each entry ends in entries
	hashes   []tlog.Hash          // what tlog stores for them
	after    tree                 // the frontier after them; owned by the writer once handed over
	root     tlog.Hash            // its root, set by the writer
	streams  map[streamKey]uint64 // versions after it
	answers  []answer
	bytesMax int  // of entries: what the journal file has left
	begins   bool // a journal generation begins with it
}

// answer is what one caller gets when the group is settled.
type answer struct {
	lo, hi int               // its records in the group, if recs and err are nil
	recs   []messages.Record // an earlier append that this one repeats
	err    error
	done   func([]messages.Record, error)
}

func (g *group) last() uint64 { return g.first + uint64(len(g.recs)) - 1 }

// entry returns the stored bytes of record i, which begin with its length.
func (g *group) entry(i int) []byte {
	start := 0
	if i > 0 {
		start = g.ends[i-1]
	}
	return g.entries[start:g.ends[i]]
}

// answerAll calls every done of g. failure, if not nil, is everybody's answer.
func (g *group) answerAll(failure error) {
	for i := range g.answers {
		a := &g.answers[i]
		switch {
		case a.done == nil:
		case failure != nil:
			a.done(nil, failure)
		case a.err != nil:
			a.done(nil, a.err)
		case a.recs != nil:
			a.done(a.recs, nil)
		default:
			a.done(g.recs[a.lo:a.hi:a.hi], nil)
		}
	}
}

// pending is a batch in the queue.
type pending struct {
	batch Batch
	done  func([]messages.Record, error)
	bytes int // an upper bound of what its entries take
}

// checkBatch refuses at the door what could not be written.
func checkBatch(b *Batch) (bytes int, err error) {
	if len(b.Drafts) == 0 || len(b.Drafts) > BatchDraftsMax {
		return 0, fmt.Errorf("append to %.80q: %w: %d events, want 1 to %d", b.Stream, ErrBatch, len(b.Drafts), BatchDraftsMax)
	}
	if b.Class > Restricts {
		return 0, fmt.Errorf("append to %.80q: %w: class %d", b.Stream, ErrBatch, b.Class)
	}
	if len(b.Stream) == 0 || len(b.Stream) > 255 || len(b.Cause.Request) > 255 || len(b.Cause.Broker) > 255 {
		return 0, fmt.Errorf("append to %.80q: %w: stream %d, request %d, broker %d bytes, want at most 255", b.Stream, ErrBatch,
			len(b.Stream), len(b.Cause.Request), len(b.Cause.Broker))
	}
	for i := range b.Drafts {
		d := &b.Drafts[i]
		if len(d.Body) > messages.RecordBodyMaxBytes || d.Kind == 0 {
			return 0, fmt.Errorf("append to %.80q: %w: event %d of kind %d has %d bytes, want at most %d", b.Stream, ErrBatch,
				i, d.Kind, len(d.Body), messages.RecordBodyMaxBytes)
		}
		r := b.record(i, 0)
		bytes += entryHeadBytes + messages.RecordSize(&r)
	}
	if bytes > GroupBytesMax {
		return 0, fmt.Errorf("append to %.80q: %w: %d bytes, want at most %d", b.Stream, ErrBatch, bytes, GroupBytesMax)
	}
	return bytes, nil
}

// record is draft i with sequence number seq.
func (b *Batch) record(i int, seq uint64) messages.Record {
	d := &b.Drafts[i]
	return messages.Record{
		Seq: seq, Stream: b.Stream, Version: b.Expected + 1 + uint64(i),
		ID: d.ID, Kind: d.Kind, Schema: d.Schema, Critical: d.Critical,
		At: b.At, Cause: b.Cause, Body: d.Body,
	}
}

// streamKey stands for a stream's name: 128 bits under two seeds of this process, so
// that nobody can choose names that collide.
type streamKey [2]uint64

// streams knows the durable version of every stream, instead of a look-up in Badger on the
// path of every append (30 to 38 MB for a million streams).
type streams struct {
	seeds [2]maphash.Seed
	mu    sync.RWMutex
	m     *versions // guarded by mu
}

func newStreams() *streams {
	return &streams{seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, m: &versions{}}
}

func (s *streams) key(name messages.StreamID) streamKey {
	return streamKey{maphash.String(s.seeds[0], string(name)), maphash.String(s.seeds[1], string(name))}
}

// keyOf is key of a name that is no text yet.
func (s *streams) keyOf(name []byte) streamKey {
	return streamKey{maphash.Bytes(s.seeds[0], name), maphash.Bytes(s.seeds[1], name)}
}

func (s *streams) get(k streamKey) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m.get(k)
}

// clone is a copy that gives the same keys.
func (s *streams) clone() *streams {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return &streams{seeds: s.seeds, m: &versions{slots: slices.Clone(s.m.slots), n: s.m.n}}
}

func (s *streams) count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m.n
}

func (s *streams) set(versions map[streamKey]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k, v := range versions {
		s.m.set(k, v)
	}
}

// sequencer turns batches into groups: it gives out sequence numbers and versions
// ahead of durability. That is safe because a group that fails takes the log with
// it: what was built on it is never written. Owned by the appender.
type sequencer struct {
	tree     tree
	streams  *streams // durable versions
	inflight *group   // handed to the writer, perhaps not durable yet; or nil
	// earlier reads n durable records of a stream, for repeated appends.
	earlier func(stream messages.StreamID, from uint64, n int) ([]messages.Record, error)
}

func (s *sequencer) newGroup() *group {
	g := &group{first: s.tree.size + 1, bytesMax: GroupBytesMax}
	events, bytes := 0, 0
	if p := s.inflight; p != nil { // the next group is most often like the last
		events, bytes = len(p.recs)*5/4, len(p.entries)*5/4
	}
	g.entries = make([]byte, 0, bytes)
	g.recs = make([]messages.Record, 0, events)
	g.ends = make([]int, 0, events)
	g.hashes = make([]tlog.Hash, 0, 2*events)
	g.answers = make([]answer, 0, events)
	g.streams = make(map[streamKey]uint64, events)
	return g
}

// version returns k's version as it will be after everything sequenced so far.
func (s *sequencer) version(g *group, k streamKey) uint64 {
	if v, ok := g.streams[k]; ok {
		return v
	}
	if s.inflight != nil {
		if v, ok := s.inflight.streams[k]; ok {
			return v
		}
	}
	return s.streams.get(k)
}

// add puts p into g: its records, or the answer that there is a conflict.
func (s *sequencer) add(g *group, p *pending) {
	k := s.streams.key(p.batch.Stream)
	if have := s.version(g, k); have != p.batch.Expected {
		g.answers = append(g.answers, s.conflict(g, p, have))
		return
	}
	lo := len(g.recs)
	for i := range p.batch.Drafts {
		rec := p.batch.record(i, s.tree.size+1)
		start := len(g.entries)
		g.entries = append(g.entries, 0, 0, 0, 0, leafPrefix)
		entries, err := messages.AppendRecord(g.entries, &rec)
		if err != nil { // checkBatch was at the door
			panic(fmt.Sprintf("eventlog: record %d that passed checkBatch: %v", rec.Seq, err))
		}
		g.entries = entries
		binary.BigEndian.PutUint32(g.entries[start:], uint32(len(g.entries)-start-4))
		g.hashes = s.tree.add(leafHash(g.entries[start+4:]), g.hashes)
		g.ends = append(g.ends, len(g.entries))
		g.recs = append(g.recs, rec)
	}
	g.streams[k] = p.batch.Expected + uint64(len(p.batch.Drafts))
	g.answers = append(g.answers, answer{lo: lo, hi: len(g.recs), done: p.done})
}

// conflict answers a batch whose stream has version have: with the records it
// repeats, if it repeats some, else with ErrConflict.
func (s *sequencer) conflict(g *group, p *pending, have uint64) answer {
	b := &p.batch
	if b.Expected+uint64(len(b.Drafts)) <= have {
		if recs := s.find(g, b); repeats(recs, b) {
			return answer{recs: recs, done: p.done}
		}
	}
	return answer{done: p.done, err: fmt.Errorf("append to %q: %w: expected %d, it has %d", b.Stream, ErrConflict, b.Expected, have)}
}

// find returns the records of b's stream in the place where b wants to be, from
// wherever they are: the group being built, the one in flight, or the durable log.
func (s *sequencer) find(g *group, b *Batch) []messages.Record {
	from, n := b.Expected+1, len(b.Drafts)
	recs, err := s.earlier(b.Stream, from, n)
	if err != nil { // the answer is a conflict then, which is true in any case
		return nil
	}
	for _, g := range []*group{s.inflight, g} {
		if g == nil {
			continue
		}
		for i := range g.recs {
			if r := &g.recs[i]; len(recs) < n && r.Stream == b.Stream && r.Version == from+uint64(len(recs)) {
				recs = append(recs, *r)
			}
		}
	}
	return recs
}

// repeats reports whether recs are b's events.
func repeats(recs []messages.Record, b *Batch) bool {
	if len(recs) != len(b.Drafts) {
		return false
	}
	for i := range recs {
		if recs[i].ID != b.Drafts[i].ID || recs[i].Kind != b.Drafts[i].Kind {
			return false
		}
	}
	return true
}

// fits reports whether p may join g.
func (g *group) fits(p *pending) bool {
	return len(g.recs)+len(p.batch.Drafts) <= GroupEventsMax && len(g.entries)+p.bytes <= g.bytesMax
}

// journalBytes is what the group takes in the journal.
func (g *group) journalBytes() int { return frameSectors(len(g.entries)) * sectorBytes }
