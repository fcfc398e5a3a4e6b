package eventlog

import (
	"fmt"
	"os"
	"path/filepath"
)

// install closes the working copy, which makes it tables only, and puts it in the
// place of the original. The original is intact until the copy has its name; after a
// crash in between, openBadger finds one or the other.
func (r *recovery) install() error {
	s := r.s
	inspected := s.lsm
	if err := s.lsm.close(); err != nil {
		return err
	}
	s.lsm = nil
	if err := syncDir(r.candidate); err != nil {
		return err
	}
	live, old := filepath.Join(s.dir, badgerName), filepath.Join(s.dir, badgerOldName)
	if _, err := os.Stat(live); err == nil {
		if err := removeAll(old); err != nil {
			return err
		}
		if err := os.Rename(live, old); err != nil {
			return fmt.Errorf("install working copy: %w", err)
		}
	}
	s.o.Step(StepInstalling, nil)
	if err := os.Rename(r.candidate, live); err != nil {
		return fmt.Errorf("install working copy: %w", err)
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	// From here on compactions may run: they truncate tables that old shares.
	if err := removeAll(old); err != nil {
		return err
	}
	if err := s.openInstalled(inspected); err != nil {
		return err
	}
	if got := s.lsm.state.head; got != s.view.stored {
		return corrupt(got.Seq+1, nil, "the installed copy has %d records, it had %d", got.Seq, s.view.stored.Seq)
	}
	return nil
}

// openInstalled opens Badger for writing. Without space for what it may do by itself
// it is frozen: no compaction runs, and nothing is fed until thaw. was is the same content,
// opened before.
func (s *Store) openInstalled(was *lsm) error {
	live, running := filepath.Join(s.dir, badgerName), compactors
	err := s.space.check(tableBytes(live))
	if err != nil {
		s.log.Error("no space for Badger: it is frozen", "error", err)
		s.space.stalled.Store(true)
		running = 0
	}
	l, err := openLSM(live, s.o.MemTableBytes, running, false, s.log)
	if err != nil {
		return err
	}
	l.frozen, l.unindexed, l.blocks = running == 0, was.unindexed, was.blocks
	s.lsm = l
	fail := func(err error) { _ = s.fail(err) }
	l.logger.fail.Store(&fail)
	return l.load()
}

// thaw opens a frozen Badger again when there is space for all it may do.
func (s *Store) thaw() error {
	if err := s.space.check(s.lsm.bytes()); err != nil {
		return err
	}
	s.readers.Lock()
	defer s.readers.Unlock()
	if err := s.lsm.close(); err != nil {
		return err
	}
	return s.openInstalled(s.lsm)
}

// compactors is how many compactions may run at once; Badger wants two at least.
const compactors = 2
