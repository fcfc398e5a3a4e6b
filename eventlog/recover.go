package eventlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// recovery finds out what the log is, from HEAD (size H, root, a clean end or not),
// the journal (records F..N, each frame with the root after it) and Badger (records
// 1..B). It only reads, and writes only a working copy of Badger. The answers:
//
//	HEAD lost, both copies bad                          corrupt
//	one copy of HEAD bad                                the other is used
//	current generation's head lost                      corrupt (HEAD names it)
//	last frame torn: some sectors never written         not acknowledged, dropped
//	frame damaged, its records in Badger                repaired from Badger
//	frame damaged, its records not in Badger            corrupt at the first of them
//	last frame damaged beyond telling what it held      corrupt, unless the end was clean
//	Badger gone or damaged, F = 1                       rebuilt from the journal
//	B < F-1                                             corrupt at B+1
//	F-1 <= B < N                                        repaired: B+1..N from the journal
//	B = N                                               whole
//	B > N                                               corrupt at N+1: the journal went back
//	N < H, or clean and N != H                          corrupt at N+1: records are missing
//	a root differs (HEAD's, a frame's, a journal        corrupt at that record
//	  head's) from the tree over what was found
//	Badger with a gap, or index or hashes incomplete    as if Badger ended before its logs,
//	                                                    then as if it were gone
//	critical record of an unknown kind                  newer
//
// What is acknowledged is in a whole frame, and stays in one until Badger has it
// durably; so under the assumptions of doc.go no crash leads to "corrupt".
type recovery struct {
	s    *Store
	head headState

	current  journalHead
	previous *journalHead // the generation before, if its file is intact
	frames   []frameRef
	gaps     []gap
	last     uint64 // N
	next     int    // sector of the current generation after its last whole frame

	candidate string // directory of the working copy that is used
	tree      tree   // of records 1..N
	roots     map[uint64]tlog.Hash
}

// frameRef is where a whole frame lies.
type frameRef struct {
	file, sector int
	gen          uint64
	first, last  uint64
	root         tlog.Hash
}

func (r *recovery) run() error {
	if err := r.readHeads(); err != nil {
		return err
	}
	if err := r.readFrames(); err != nil {
		return err
	}
	if err := r.findEnd(); err != nil {
		return err
	}
	if err := r.checkHeadNote(); err != nil {
		return err
	}
	return r.openBadger()
}

// readHeads finds the current generation and the one before.
func (r *recovery) readHeads() error {
	var heads [2]*journalHead
	var errs [2]error
	for i, f := range r.s.journal.files {
		slot, intact, err := readSlots(f, magicJournal)
		if errors.Is(err, ErrNewer) {
			return fmt.Errorf("journal %d: %w", i, err)
		}
		var h journalHead
		if err == nil {
			h, err = decodeJournalHead(slot.payload)
		}
		if err == nil && h.generation%2 != uint64(i) {
			err = fmt.Errorf("generation %d is in the wrong file", h.generation)
		}
		if errs[i] = err; err != nil {
			continue
		}
		if intact < 2 {
			r.s.log.Warn("one copy of a journal's head is damaged, the other is used", "journal", i)
		}
		heads[i] = &h
	}
	i := r.head.generation % 2
	if heads[i] == nil {
		return corrupt(r.head.head.Seq+1, errs[i], "journal %d, which HEAD says is current", i)
	}
	newest, other := heads[i], heads[1-i]
	if other != nil && other.generation > newest.generation { // begun, but HEAD not rewritten yet
		newest, other = other, newest
	}
	if g := newest.generation; g < r.head.generation || g > r.head.generation+1 {
		return corrupt(r.head.head.Seq+1, nil, "the journal is of generation %d, HEAD says %d", g, r.head.generation)
	}
	r.current = *newest
	if other != nil && other.generation+1 == newest.generation {
		r.previous = other
	}
	return nil
}

// readFrames reads both generations, the older one first.
func (r *recovery) readFrames() error {
	if r.previous != nil {
		end, err := r.scan(*r.previous)
		if err != nil {
			return err
		}
		switch {
		case end > r.current.first:
			return corrupt(r.current.first, nil, "generation %d ends at %d, the next begins at %d", r.previous.generation, end-1, r.current.first)
		case end < r.current.first:
			r.gaps = append(r.gaps, gap{end, r.current.first - 1, fmt.Sprintf("the end of generation %d", r.previous.generation)})
		}
		for i := range r.gaps { // what came after is known
			if r.gaps[i].to == 0 {
				r.gaps[i].to = r.current.first - 1
			}
		}
	}
	_, err := r.scan(r.current)
	return err
}

// scan reads one generation and returns the number of the record after its last.
func (r *recovery) scan(h journalHead) (end uint64, err error) {
	file := int(h.generation % 2)
	sc := scan{f: r.s.journal.files[file], gen: h.generation, sectors: r.s.journal.sectors}
	sc.visit = func(f frame, sector int) error {
		r.frames = append(r.frames, frameRef{file, sector, h.generation, f.first, f.last(), f.root})
		r.next = sector + frameSectors(len(f.entries))
		return nil
	}
	r.next = 0
	if err := sc.run(h.first); err != nil {
		return 0, err
	}
	if sc.torn {
		r.s.log.Info("the journal's last frame was torn by the crash; nobody was told of it", "generation", h.generation, "seq", sc.expect)
	}
	r.gaps = append(r.gaps, sc.gaps...)
	return sc.expect, nil
}

// findEnd decides how many records were acknowledged.
func (r *recovery) findEnd() error {
	r.last = r.current.first - 1
	if n := len(r.frames); n > 0 {
		r.last = max(r.last, r.frames[n-1].last)
	}
	clean := r.head.clean && (r.head.generation == r.current.generation || r.current.first == r.head.head.Seq+1 && r.last == r.head.head.Seq)
	for i := range r.gaps {
		g := &r.gaps[i]
		if g.to == 0 && clean && r.head.head.Seq >= g.from-1 {
			g.to = r.head.head.Seq
		}
		if g.to == 0 {
			return corrupt(g.from, nil, "journal %s is damaged, and what it held cannot be told", g.where)
		}
		r.last = max(r.last, g.to)
	}
	if r.last < r.head.head.Seq || clean && r.last != r.head.head.Seq {
		return corrupt(min(r.last, r.head.head.Seq)+1, nil, "the journal ends at %d, HEAD says %d records (clean end: %v)", r.last, r.head.head.Seq, clean)
	}
	r.roots = map[uint64]tlog.Hash{
		r.head.head.Seq: r.head.head.Root, r.current.first - 1: r.current.before, r.current.stored.Seq: r.current.stored.Root,
	}
	if p := r.previous; p != nil {
		r.roots[p.first-1], r.roots[p.stored.Seq] = p.before, p.stored.Root
	}
	return nil
}

// checkHeadNote checks the checkpoint that HEAD carries.
func (r *recovery) checkHeadNote() error {
	h, err := openCheckpoint(r.head.checkpoint, r.s.o.originWanted(), r.s.o.Verifier)
	if err != nil {
		return corrupt(r.head.head.Seq, err, "HEAD")
	}
	if h.Seq > r.head.head.Seq {
		return corrupt(h.Seq, nil, "HEAD says %d records, its checkpoint %d", r.head.head.Seq, h.Seq)
	}
	return nil
}

// openBadger makes a working copy that opens, is complete, and that the journal
// continues without gap. The first that does is used: all of Badger; without its
// write-ahead logs; nothing at all.
func (r *recovery) openBadger() error {
	s := r.s
	src := filepath.Join(s.dir, badgerName)
	if _, err := os.Stat(src); err != nil { // an install was interrupted between its two renames
		src = filepath.Join(s.dir, badgerOldName)
	}
	if _, err := os.Stat(src); err != nil {
		src = ""
	}
	if err := r.prepareScratch(src); err != nil {
		return err
	}
	var first error
	for _, try := range []struct {
		src     string
		withWAL bool
	}{{src, true}, {src, false}, {"", false}} {
		err := r.try(try.src, try.withWAL)
		if err == nil {
			if first != nil {
				s.log.Warn("Badger was damaged and is repaired from the journal", "damage", first)
			}
			return nil
		}
		if err := removeAll(r.candidate); err != nil {
			return err
		}
		if errors.Is(err, ErrNewer) || errors.Is(err, errWorkingCopy) || errors.Is(err, errAhead) {
			return err
		}
		if first == nil {
			first = err
		}
	}
	var c *CorruptError
	if !errors.As(first, &c) {
		first = corrupt(r.firstKept(), first, "Badger, and the journal begins at record %d", r.firstKept())
	}
	return first
}

// firstKept is the first record that the journal still has.
func (r *recovery) firstKept() uint64 {
	if len(r.frames) > 0 {
		return r.frames[0].first
	}
	return r.current.first
}

// prepareScratch finds a place for the working copy and room for it.
func (r *recovery) prepareScratch(src string) error {
	s := r.s
	need := uint64(1 << 20)
	if src != "" { // the write-ahead logs, the tables they become, and what Badger grows
		need += 2*walBytes(src) + uint64(s.o.MemTableBytes)/2
	}
	if !s.o.ReadOnly {
		r.candidate = filepath.Join(s.dir, badgerNewName)
		s.space = newGuard(s.dir, s.o, r.head.ballastBytes)
		if err := removeAll(r.candidate); err != nil {
			return err
		}
		return s.space.roomToOpen(need)
	}
	for _, parent := range []string{s.o.ScratchDir, filepath.Dir(filepath.Clean(s.dir)), os.TempDir()} {
		if free, err := s.o.FreeSpace(parent); parent == "" || err != nil || free < need {
			continue
		}
		dir, err := os.MkdirTemp(parent, ".gatehouse-inspect-")
		if err == nil {
			s.scratch, r.candidate = dir, filepath.Join(dir, badgerName)
			return nil
		}
	}
	return fmt.Errorf("%w: no place with %d bytes free: set the scratch directory", errWorkingCopy, need)
}

// try opens a working copy of src and judges it. s.lsm is set when it is good.
func (r *recovery) try(src string, withWAL bool) (err error) {
	s := r.s
	o := badgerOptions(r.candidate, s.o.MemTableBytes, 0, !s.o.ReadOnly, s.log)
	if src == "" {
		if err = os.Mkdir(r.candidate, directoryMode); err != nil {
			err = copyError(err)
		}
	} else {
		err = workingCopy(src, r.candidate, withWAL, o, s.log)
	}
	if err != nil {
		return err
	}
	l, err := openLSM(r.candidate, s.o.MemTableBytes, 0, !s.o.ReadOnly, s.log)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	if err := l.load(); err != nil {
		return err
	}
	in, err := l.inspect(s.streams, s.o.UnindexedMax)
	if err != nil {
		return err
	}
	if err := r.judge(l, in); err != nil {
		return err
	}
	s.lsm = l
	return nil
}

// known refuses critical kinds that this version cannot fold.
func (r *recovery) known(kind messages.Kind, schema uint8, critical bool) error {
	if !critical || r.s.o.KnownKind(kind, schema) {
		return nil
	}
	return fmt.Errorf("%w: it holds critical records of kind %d, schema %d", ErrNewer, kind, schema)
}
