package eventlog

import (
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// When records go from the journal to Badger: many at a time, for Badger pays by the
// transaction, and soon, for until then they take memory.
const (
	feedBytesMin  = 512 << 10
	feedDelay     = 200 * time.Millisecond
	stallDelay    = 500 * time.Millisecond // between looks at a full disk
	noteEventsMax = 1024                   // a checkpoint is signed after so many events ...
	noteDelay     = 60 * time.Second       // ... or so much time
	headDelay     = time.Second            // HEAD is rewritten at most so often
)

// feeder moves groups into Badger and signs checkpoints. Owned by its goroutine.
type feeder struct {
	s         *Store
	noted     uint64    // size of the last stored checkpoint
	notedAt   time.Time // when it was signed
	headAt    time.Time // when HEAD was last written
	headStale bool
}

// run feeds until the writer has ended and everything is stored, or the log failed.
func (f *feeder) run() {
	s := f.s
	f.notedAt, f.headAt = s.o.Now(), s.o.Now()
	for ended := false; !ended && s.failed() == nil; {
		ended = f.wait()
		if err := f.step(ended); err != nil {
			s.fail(fmt.Errorf("feed Badger: %w", err))
		}
	}
	s.fed.wake()
}

// wait returns when there is something worth doing; ended says the writer is gone.
func (f *feeder) wait() (ended bool) {
	s := f.s
	if f.due() {
		return false
	}
	var feed, later <-chan time.Time // feed: records wait in memory
	switch v := s.look(); {
	case s.space.stalled.Load():
		later = after(stallDelay)
	case len(v.recent) > 0:
		feed = after(feedDelay)
	case f.headStale:
		later = after(headDelay)
	case v.stored.Seq > f.noted:
		later = after(noteDelay)
	}
	for {
		select {
		case <-s.written:
			return true
		case <-feed:
			return false
		case <-later:
			return false
		case <-s.work:
			if f.due() {
				return false
			}
			if feed == nil {
				feed = after(feedDelay)
			}
		}
	}
}

// due reports whether there is enough to feed now.
func (f *feeder) due() bool {
	s := f.s
	if s.space.stalled.Load() {
		return false
	}
	return s.hurry.Swap(false) || s.look().bytes >= feedBytesMin
}

// step stores what there is. Only an error that leaves Badger's state unknown is
// returned; a lack of space is noted, and the journal keeps what Badger cannot take.
func (f *feeder) step(last bool) error {
	s := f.s
	if s.lsm.frozen {
		if err := s.thaw(); errors.Is(err, ErrFull) || s.lsm.frozen {
			s.space.stalled.Store(true)
			s.fed.wake()
			return nil
		} else if err != nil {
			return err
		}
	}
	v := s.look()
	err := s.lsm.put(v.recent, f.beforeCommit, f.note)
	s.o.Step(StepFed, nil)
	s.advance(s.lsm.state.head)
	if errors.Is(err, ErrFull) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.refreshHead(last)
}

// beforeCommit asks for space. The feeder's own state of it is what appends see.
func (f *feeder) beforeCommit() error {
	f.s.o.Step(StepFeeding, nil)
	err := f.s.space.check(f.s.lsm.bytes())
	stalled := err != nil
	if f.s.space.stalled.Swap(stalled) != stalled {
		f.s.fed.wake()
		if stalled {
			f.s.log.Error("no space for Badger: only what restricts is accepted, until the journal is full", "error", err)
		} else {
			f.s.log.Info("Badger has space again")
		}
	}
	return err
}

// note returns a checkpoint of h to be stored with the records up to it, if one is due.
func (f *feeder) note(h Head) (*badger.Entry, error) {
	now := f.s.o.Now()
	if h.Seq-f.noted < noteEventsMax && now.Sub(f.notedAt) < noteDelay {
		return nil, nil
	}
	text, err := signCheckpoint(f.s.o.Origin, h, f.s.o.Signer)
	if err != nil {
		return nil, err
	}
	f.noted, f.notedAt = h.Seq, now
	f.headStale = true
	return badger.NewEntry(numberKey(prefixNote, h.Seq), text), nil
}

// refreshHead stores a checkpoint if time alone made one due, and rewrites HEAD.
func (f *feeder) refreshHead(last bool) error {
	s := f.s
	stored := s.lsm.state.head
	if stored.Seq > f.noted {
		entry, err := f.note(stored)
		if err != nil {
			return err
		}
		if entry != nil {
			if err := s.lsm.commit([]*badger.Entry{entry}, f.beforeCommit); err != nil && !errors.Is(err, ErrFull) {
				return err
			}
		}
	}
	now := s.o.Now()
	if last || !f.headStale || now.Sub(f.headAt) < headDelay { // Close writes the last one
		return nil
	}
	text, err := signCheckpoint(s.o.Origin, stored, s.o.Signer)
	if err != nil {
		return err
	}
	f.headAt, f.headStale = now, false
	return s.head.update(func(h *headState) { h.head, h.checkpoint = stored, text })
}

// advance drops from memory what Badger has.
func (s *Store) advance(stored Head) {
	s.viewMu.Lock()
	n := 0
	for n < len(s.view.recent) && s.view.recent[n].last() <= stored.Seq {
		s.view.bytes -= s.view.recent[n].journalBytes()
		n++
	}
	// A new array: readers may hold the old one, and it would keep what was dropped.
	s.view.recent = append([]*group(nil), s.view.recent[n:]...)
	s.view.stored = stored
	s.viewMu.Unlock()
	s.fed.wake()
}
