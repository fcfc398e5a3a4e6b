package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Judging is done on the last records again with every byte of theirs.
const (
	tailRecords = 4096
	tailFrames  = 64
)

// errAhead marks that Badger has records beyond the journal's end. They were acknowledged, so
// the journal has lost its end: a Badger without its write-ahead logs, which may know nothing
// of them, must not be tried after that.
var errAhead = errors.New("the journal has lost its end")

// judge compares a complete Badger with the journal and HEAD, and on success sets the
// store's view: Badger's records and, in memory, those that only the journal has.
func (r *recovery) judge(l *lsm, in inspection) error {
	stored := l.state.head
	if stored.Seq > r.last {
		return corrupt(r.last+1, errAhead, "Badger has %d records, the journal ends at %d", stored.Seq, r.last)
	}
	for k := range l.state.kinds {
		if err := r.known(k.kind, k.schema, k.critical); err != nil {
			return err
		}
	}
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	reader := hashReader{txn}
	for size, want := range r.roots {
		if size > stored.Seq {
			continue
		}
		if err := checkRoot(size, want, reader); err != nil {
			return err
		}
	}
	if err := r.judgeFrames(stored.Seq, reader); err != nil {
		return err
	}
	if err := checkLeaves(l, stored.Seq, reader); err != nil {
		return err
	}
	return r.replay(l, in)
}

func checkRoot(size uint64, want tlog.Hash, reader tlog.HashReader) error {
	t, err := treeAt(size, reader)
	if err != nil {
		return err
	}
	if got := t.root(); got != want {
		return corrupt(size, nil, "the root over %d records is %v, want %v", size, got, want)
	}
	return nil
}

// judgeFrames checks the roots of the last frames whose records Badger has.
func (r *recovery) judgeFrames(stored uint64, reader tlog.HashReader) error {
	n := 0
	for i := len(r.frames) - 1; i >= 0 && n < tailFrames; i-- {
		if f := &r.frames[i]; f.last <= stored {
			n++
			if err := checkRoot(f.last, f.root, reader); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkLeaves hashes the last stored records and compares the hashes with the tree.
func checkLeaves(l *lsm, stored uint64, reader tlog.HashReader) error {
	from := uint64(1)
	if stored > tailRecords {
		from = stored - tailRecords + 1
	}
	t, err := treeAt(from-1, reader)
	if err != nil {
		return err
	}
	for next := from; next <= stored; {
		recs, err := l.scan(next, stored)
		if err != nil {
			return err
		}
		for i := range recs {
			entry, err := messages.AppendRecord([]byte{leafPrefix}, &recs[i])
			if err != nil {
				return corrupt(recs[i].Seq, err, "stored record")
			}
			t.add(leafHash(entry), nil)
		}
		if len(recs) == 0 {
			return corrupt(next, nil, "it is stored and cannot be found")
		}
		next += uint64(len(recs))
	}
	if got := t.root(); got != l.state.head.Root {
		return corrupt(from, nil, "the root over the last %d records is %v, the stored head says %v", stored-from+1, got, l.state.head.Root)
	}
	return nil
}

// replay takes from the journal what Badger lacks, and checks the tree as it grows.
func (r *recovery) replay(l *lsm, in inspection) error {
	s, t := r.s, l.tree.clone()
	v := view{stored: l.state.head}
	seq := sequencer{tree: t, streams: &streams{seeds: s.streams.seeds, m: in.streams}}
	for i := range r.frames {
		ref := &r.frames[i]
		if ref.last <= seq.tree.size {
			continue
		}
		if ref.first > seq.tree.size+1 {
			return corrupt(seq.tree.size+1, r.gapError(), "Badger ends before it, and the journal goes on at %d", ref.first)
		}
		g, err := r.restore(&seq, ref)
		if err != nil {
			return err
		}
		v.recent = append(v.recent, g)
		v.bytes += g.journalBytes()
	}
	if seq.tree.size != r.last {
		return corrupt(seq.tree.size+1, r.gapError(), "Badger and the journal end before it; there were %d records", r.last)
	}
	v.head = Head{Seq: seq.tree.size, Root: seq.tree.root()}
	s.view, r.tree = v, seq.tree
	s.streams.m = in.streams
	s.stats.repaired.Store(v.head.Seq - v.stored.Seq)
	return nil
}

func (r *recovery) gapError() error {
	if len(r.gaps) == 0 {
		return nil
	}
	return fmt.Errorf("journal %s is damaged", r.gaps[0].where)
}

// restore reads a frame again and makes of it the group that it was, without the
// records that Badger has.
func (r *recovery) restore(seq *sequencer, ref *frameRef) (*group, error) {
	sc := scan{f: r.s.journal.files[ref.file], gen: ref.gen, sectors: r.s.journal.sectors, expect: ref.first}
	f, parts, err := sc.frame(ref.sector)
	if err != nil || parts == 0 || f.first != ref.first || f.root != ref.root {
		return nil, corrupt(ref.first, err, "a frame changed while the log was opened")
	}
	g := seq.newGroup()
	rest := f.entries
	for n := f.first; n <= f.last(); n++ {
		var entry []byte
		if entry, rest, err = nextEntry(rest); err != nil {
			return nil, corrupt(n, err, "journal sector %d of generation %d", ref.sector, ref.gen)
		}
		if n < g.first {
			continue
		}
		if err := r.restoreEntry(seq, g, entry, n); err != nil {
			return nil, err
		}
	}
	g.root = seq.tree.root()
	if len(rest) != 0 || g.root != f.root {
		return nil, corrupt(f.last(), nil, "the root over %d records is %v, the journal says %v", f.last(), g.root, f.root)
	}
	for k, version := range g.streams {
		seq.streams.m.set(k, version)
	}
	return g, nil
}

func (r *recovery) restoreEntry(seq *sequencer, g *group, entry []byte, n uint64) error {
	rec, err := parseEntry(entry, n)
	if err != nil {
		return corrupt(n, err, "journal")
	}
	if err := r.known(rec.Kind, rec.Schema, rec.Critical); err != nil {
		return err
	}
	k := seq.streams.key(rec.Stream)
	if have := seq.version(g, k); rec.Version != have+1 {
		return corrupt(n, nil, "version %d of %q follows version %d", rec.Version, rec.Stream, have)
	}
	g.entries = append(g.entries, 0, 0, 0, 0)
	binary.BigEndian.PutUint32(g.entries[len(g.entries)-4:], uint32(len(entry)))
	g.entries = append(g.entries, entry...)
	g.ends = append(g.ends, len(g.entries))
	g.hashes = seq.tree.add(leafHash(entry), g.hashes)
	g.recs = append(g.recs, rec)
	g.streams[k] = rec.Version
	if want, ok := r.roots[n]; ok && seq.tree.root() != want {
		return corrupt(n, nil, "the root over %d records is %v, want %v", n, seq.tree.root(), want)
	}
	return nil
}
