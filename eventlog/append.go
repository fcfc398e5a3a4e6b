package eventlog

import (
	"fmt"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Append implements Log.
func (s *Store) Append(b Batch, done func([]messages.Record, error)) {
	bytes, err := checkBatch(&b)
	switch {
	case s.o.ReadOnly:
		err = ErrReadOnly
	case s.failed() != nil:
		err = s.failed()
	case s.closed.Load():
		err = ErrClosed
	case err == nil && frameSectors(bytes) > s.journal.sectors:
		err = fmt.Errorf("append to %.80q: %w: %d bytes do not fit in a journal of %d", b.Stream, ErrBatch, bytes, s.journal.sectors*sectorBytes)
	}
	if err == nil {
		err = s.enqueue(pending{batch: b, done: done, bytes: bytes})
	}
	if err != nil {
		done(nil, err)
	}
}

func (s *Store) enqueue(p pending) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing:
		return ErrClosed
	case s.queued >= s.o.QueueMax:
		return ErrBusy
	}
	s.queue = append(s.queue, p)
	s.queued++
	signal(s.arrived)
	return nil
}

// dequeue takes everything that waits and says whether nothing more will come.
func (s *Store) dequeue(spare []pending) (batches []pending, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	batches, s.queue = s.queue, spare[:0]
	return batches, s.closing
}

func (s *Store) dequeued(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queued -= n
}

// appender is the sequencer's side of an append: it builds the next group while the
// writer makes the last one durable, so that encoding and hashing add no latency.
// Everything in it is owned by its goroutine.
type appender struct {
	s   *Store
	seq sequencer

	// The journal as it will be after everything sequenced. The sequencer decides
	// when a generation begins, because it can still refuse; the writer begins it.
	first uint64 // of the generation
	next  int    // sector

	todo []pending // taken from the queue; those before at are sequenced
	at   int
}

// run builds groups until the log closes and the queue is empty.
func (a *appender) run() {
	s := a.s
	defer close(s.groups)
	g, closing := a.newGroup(), false
	for {
		full := a.fill(g)
		if !full { // everything taken is sequenced: is there more?
			clear(a.todo)
			a.todo, closing = s.dequeue(a.todo)
			if a.at = 0; len(a.todo) > 0 {
				continue
			}
		}
		switch {
		case full:
			g = a.hand(g, nil)
		case len(g.answers) > 0:
			g = a.hand(g, s.arrived)
		case closing:
			return
		default:
			<-s.arrived
		}
	}
}

// hand gives g to the writer and returns the next group. If more arrives before the
// writer is free, it returns g itself: the group grows while it waits.
func (a *appender) hand(g *group, more <-chan struct{}) *group {
	a.seq.tree.copyTo(&g.after) // each time anew, in the same memory: it may grow for long
	select {
	case <-more:
		return g
	case a.s.groups <- g:
	}
	if len(g.recs) > 0 {
		a.next += frameSectors(len(g.entries))
	}
	a.seq.inflight = g
	return a.newGroup()
}

func (a *appender) newGroup() *group {
	a.s.space.poll()
	g := a.seq.newGroup()
	g.bytesMax = min(GroupBytesMax, frameEntriesMax(a.s.journal.sectors-a.next))
	return g
}

// fill sequences batches into g. It reports whether g must go before the next batch
// can be taken.
func (a *appender) fill(g *group) (full bool) {
	took := 0
	defer func() { a.s.dequeued(took) }()
	for a.at < len(a.todo) {
		p := &a.todo[a.at]
		ready, err := a.admit(g, p)
		switch {
		case err != nil:
			g.answers = append(g.answers, answer{err: err, done: p.done})
		case !ready:
			return true
		default:
			a.seq.add(g, p)
		}
		a.at++
		took++
	}
	return false
}

// admit judges whether p can join g: yes, not before g is gone, or never.
func (a *appender) admit(g *group, p *pending) (ready bool, err error) {
	for {
		progress := a.s.fed.next() // before the state it is about
		wait, err := a.obstacle(g, p)
		if err != nil {
			return false, err
		}
		if !wait {
			break
		}
		if len(g.answers) > 0 {
			return false, nil
		}
		a.s.hurry.Store(true)
		signal(a.s.work)
		<-progress
	}
	if len(g.recs) == 0 && p.bytes > g.bytesMax { // the rest of the file is too short
		g.begins, a.first, a.next = true, g.first, 0
		g.bytesMax = min(GroupBytesMax, frameEntriesMax(a.s.journal.sectors))
	}
	return g.fits(p), nil
}

// obstacle reports what is in p's way: something that the feeder can clear, or the
// end of the disk.
func (a *appender) obstacle(g *group, p *pending) (wait bool, err error) {
	if err := a.s.failed(); err != nil {
		return false, err
	}
	restricts := p.batch.Class == Restricts
	if !restricts && a.s.space.low.Load() {
		return false, fmt.Errorf("append to %q: %w: free %d bytes on the disk of %s", p.batch.Stream, ErrFull, a.s.space.wanted(), a.s.dir)
	}
	v := a.s.look()
	backlog := !restricts && v.bytes >= a.s.backlogMax()
	needsFile := len(g.recs) == 0 && !g.begins && p.bytes > g.bytesMax
	if !backlog && (!needsFile || v.stored.Seq >= a.first-1) {
		return false, nil
	}
	if a.s.space.stalled.Load() {
		if restricts && a.s.space.desperate.CompareAndSwap(false, true) {
			a.s.space.stalled.Store(false) // let the feeder try without the ballast
			return true, nil
		}
		return false, fmt.Errorf("append to %q: %w: the journal is full and Badger has no space: free %d bytes on the disk of %s",
			p.batch.Stream, ErrFull, a.s.space.wanted(), a.s.dir)
	}
	return true, nil
}

// backlogMax bounds what is in the journal and not in Badger, except for what
// restricts: so half a journal is always left for that when Badger has no space.
func (s *Store) backlogMax() int {
	return min(16<<20, s.journal.sectors*sectorBytes/2)
}

// write makes groups durable, one at a time, and answers their callers.
func (s *Store) write() {
	defer close(s.written)
	for g := range s.groups {
		err := s.failed()
		if err == nil {
			if err = s.persist(g); err != nil {
				// The outcome is unknown. Fatal comes before any answer: in
				// production nobody is answered by a process that does not know.
				err = s.fail(fmt.Errorf("append: %w", err))
			}
		}
		if err != nil {
			g.answerAll(err)
			continue
		}
		if len(g.recs) > 0 {
			s.publish(g)
			s.o.Applied(g.recs)
		}
		g.answerAll(nil)
	}
}

// persist makes g durable in the journal.
func (s *Store) persist(g *group) error {
	if g.begins {
		if err := s.beginGeneration(g.first); err != nil {
			return err
		}
	}
	if len(g.recs) == 0 {
		return nil
	}
	g.root = g.after.root()
	if err := s.journal.append(g); err != nil {
		return err
	}
	s.stats.journalUsed.Store(uint64(s.journal.next) * sectorBytes)
	return nil
}

// beginGeneration turns to the other journal file, whose records Badger has. The
// order matters: what Badger has is made durable, then the file's head, then HEAD;
// only then is a frame written that may be acknowledged.
func (s *Store) beginGeneration(first uint64) error {
	v := s.look()
	if v.stored.Seq < s.journal.head.first-1 || v.head.Seq != first-1 {
		panic(fmt.Sprintf("eventlog: generation from %d with %d stored, the last one from %d", first, v.stored.Seq, s.journal.head.first))
	}
	if err := s.settle(); err != nil {
		return err
	}
	h := journalHead{generation: s.journal.head.generation + 1, first: first, before: v.head.Root, stored: v.stored}
	if err := s.journal.start(h); err != nil {
		return err
	}
	s.o.Step(StepBegun, nil)
	s.stats.generation.Store(h.generation)
	return s.head.update(func(hs *headState) { hs.generation = h.generation })
}

// publish lets readers see g.
func (s *Store) publish(g *group) {
	for i := range g.recs {
		if r := &g.recs[i]; !s.o.KnownKind(r.Kind, r.Schema) {
			s.stats.unknown.Add(1)
		}
	}
	s.viewMu.Lock()
	s.view.recent = append(s.view.recent, g)
	s.view.bytes += g.journalBytes()
	s.view.head = Head{Seq: g.last(), Root: g.root}
	feed := len(s.view.recent) == 1 || s.view.bytes >= feedBytesMin
	s.viewMu.Unlock()
	s.streams.set(g.streams)
	s.stats.groups.Add(1)
	s.stats.events.Add(uint64(len(g.recs)))
	s.pulse.wake()
	if feed {
		signal(s.work)
	}
}
