package eventlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Names in the log's directory, beside HEAD, journal.0, journal.1 and ballast.
const (
	lockName      = "LOCK"
	badgerName    = "badger"
	badgerNewName = "badger.new" // working copy of an open in progress
	badgerOldName = "badger.old" // what it replaced
)

// Open opens the log in dir and makes it there if there is none. It compares HEAD,
// both journal files and Badger (see recovery), repairs what the journal can repair,
// and refuses the rest with a CorruptError, ErrNewer, ErrInUse or ErrFull, having
// changed no byte of the log.
func Open(dir string, o Options) (_ *Store, err error) {
	if o, err = o.withDefaults(); err != nil {
		return nil, fmt.Errorf("open event log: %w", err)
	}
	s := &Store{
		dir: dir, o: o, log: o.Logger, streams: newStreams(),
		arrived: make(chan struct{}, 1), groups: make(chan *group), written: make(chan struct{}), work: make(chan struct{}, 1),
	}
	if err = s.open(); err != nil {
		s.release()
		return nil, fmt.Errorf("open event log in %s: %w", dir, err)
	}
	return s, nil
}

// release lets go of whatever a failed open had taken.
func (s *Store) release() {
	if s.lsm != nil {
		_ = s.lsm.close() // the error that is reported came before
	}
	if s.scratch != "" {
		_ = removeAll(s.scratch)
	}
	if s.journal != nil {
		_ = s.journal.close()
	}
	if s.head != nil {
		_ = s.head.close()
	}
	_ = unlock(s.lock)
}

// unlock releases locks also when a child process that is just being started still holds
// a copy of the descriptors.
func unlock(locks []*os.File) error {
	var errs []error
	for _, f := range locks {
		errs = append(errs, unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
	}
	return errors.Join(errs...)
}

func (s *Store) open() error {
	if !s.o.ReadOnly {
		if err := os.MkdirAll(s.dir, directoryMode); err != nil {
			return err
		}
	}
	if err := s.acquire(); err != nil {
		return err
	}
	if !s.o.ReadOnly {
		if err := create(s.dir, s.o); err != nil {
			return err
		}
	}
	flag := os.O_RDWR
	if s.o.ReadOnly {
		flag = os.O_RDONLY
	}
	head, intact, err := openHead(s.dir, flag)
	if errors.Is(err, errNoSlot) {
		return corrupt(0, err, "HEAD")
	}
	if errors.Is(err, fs.ErrNotExist) { // read-only: else create has looked, and made one
		err = errors.Join(noTrace(s.dir), err)
	}
	if err != nil {
		return err
	}
	s.head = head
	if intact < 2 {
		s.log.Warn("one copy of HEAD is damaged, the other is used", "dir", s.dir)
	}
	if err := s.openJournals(flag); err != nil {
		return err
	}
	r := recovery{s: s, head: head.state}
	if err := r.run(); err != nil {
		return err
	}
	if s.o.ReadOnly {
		close(s.written)
		return nil
	}
	return s.start(&r)
}

// acquire takes the locks before any other file is touched: on LOCK, and on the directory
// itself, since a LOCK that was put back from a copy, or removed, is another file and would
// let a second process in beside the first. The kernel releases them when the process ends,
// however it ends.
func (s *Store) acquire() error {
	flag, how := os.O_RDWR|os.O_CREATE, unix.LOCK_EX
	if s.o.ReadOnly {
		flag, how = os.O_RDONLY, unix.LOCK_SH
	}
	for _, path := range []string{filepath.Join(s.dir, lockName), s.dir} {
		if path == s.dir {
			flag = os.O_RDONLY
		}
		f, err := os.OpenFile(path, flag, fileMode)
		if err != nil {
			return fmt.Errorf("lock: %w", err)
		}
		s.lock = append(s.lock, f)
		if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
			if errors.Is(err, unix.EWOULDBLOCK) {
				return ErrInUse
			}
			return fmt.Errorf("lock %s: %w", path, err)
		}
	}
	return nil
}

// create makes a new log in dir unless there is one. HEAD comes last: until it is
// there, what is found is an unfinished creation, which is begun again.
func create(dir string, o Options) error {
	if _, err := os.Lstat(filepath.Join(dir, headName)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := noTrace(dir); err != nil {
		return err
	}
	size := o.JournalBytes / sectorBytes * sectorBytes
	free, err := o.FreeSpace(dir)
	if err != nil {
		return err
	}
	ballast := max(0, min(o.BallastBytes, int64(free/4)))
	need := uint64(2*size+ballast) + 3*uint64(o.MemTableBytes)
	if free < need {
		return fmt.Errorf("create: %w: %d bytes free, %d needed", ErrFull, free, need)
	}
	empty := Head{Root: (&tree{}).root()}
	for i := range 2 {
		h := journalHead{generation: uint64(i), first: 1, before: empty.Root, stored: empty}
		if err := createJournal(dir, i, size, h); err != nil {
			return err
		}
	}
	if ballast > 0 {
		if err := createBallast(dir, ballast); err != nil {
			return err
		}
	}
	note, err := signCheckpoint(o.Origin, empty, o.Signer)
	if err != nil {
		return err
	}
	return createHead(dir, headState{
		head: empty, generation: 1, journalBytes: uint64(size), ballastBytes: uint64(ballast), clean: true, checkpoint: note,
	})
}

// noTrace makes sure that a directory without HEAD never was a log: then HEAD was
// lost, and starting afresh would forget every revocation.
func noTrace(dir string) error {
	for _, name := range []string{badgerName, badgerOldName, snapshotsName} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return corrupt(0, nil, "HEAD is missing beside %s", name)
		}
	}
	for i := range 2 {
		f, err := os.Open(journalPath(dir, i))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		slot, _, err := readSlots(f, magicJournal)
		sector := make([]byte, sectorBytes)
		_, errRead := f.ReadAt(sector, journalDataStart)
		f.Close()
		// createJournal renames a file only when it is whole: anything but an empty
		// first generation was in use.
		if err != nil || errRead != nil || slot.counter > 1 || readSector(sector, slot.counter, 0).state != sectorZero {
			return corrupt(0, errors.Join(err, errRead), "HEAD is missing beside a journal that was in use")
		}
	}
	return nil
}

// openJournals opens the two files; recovery reads them.
func (s *Store) openJournals(flag int) error {
	size := int64(s.head.state.journalBytes)
	s.journal = &journal{sectors: journalSectors(size), step: s.o.Step}
	for i := range 2 {
		f, err := os.OpenFile(journalPath(s.dir, i), flag, 0)
		if err != nil {
			return corrupt(0, err, "journal %d", i)
		}
		s.journal.files[i] = f
		fi, err := f.Stat()
		if err != nil {
			return fmt.Errorf("journal %d: %w", i, err)
		}
		if fi.Size() != size {
			return corrupt(0, nil, "journal %d has %d bytes, want %d", i, fi.Size(), size)
		}
	}
	return nil
}

// start puts the recovered Badger in place, stores what the journal has beyond it, and
// begins a new journal generation and the goroutines.
func (s *Store) start(r *recovery) error {
	if err := r.install(); err != nil {
		return err
	}
	// After SIGKILL the last frame may be whole in the page cache and not on disk.
	for _, f := range s.journal.files {
		if err := datasync(f); err != nil {
			return err
		}
	}
	if s.head.format < formatNow { // before Badger has what an older version would take for damage
		if err := s.head.update(func(*headState) {}); err != nil {
			return err
		}
	}
	f := feeder{s: s}
	err := s.lsm.put(s.view.recent, func() error { return s.space.check(s.lsm.bytes()) }, f.note)
	if err != nil && !errors.Is(err, ErrFull) {
		return fmt.Errorf("store the journal's tail: %w", err)
	}
	s.space.stalled.Store(err != nil)
	s.advance(s.lsm.state.head)
	if err := s.settle(); err != nil {
		return err
	}
	if err := s.resume(r); err != nil {
		return err
	}
	v, h := s.look(), s.journal.head
	note, err := signCheckpoint(s.o.Origin, v.head, s.o.Signer)
	if err != nil {
		return err
	}
	err = s.head.update(func(hs *headState) {
		hs.head, hs.generation, hs.clean, hs.checkpoint = v.head, h.generation, false, note
	})
	if err != nil {
		return err
	}
	s.stats.generation.Store(h.generation)
	s.space.poll()
	a := appender{
		s: s, first: h.first, next: s.journal.next,
		seq: sequencer{tree: r.tree, streams: s.streams, earlier: s.earlier},
	}
	s.running.Go(a.run)
	s.running.Go(s.write)
	s.running.Go(f.run)
	return nil
}

// settle makes durable what a commit of Badger's does not: directory entries of its
// new files.
func (s *Store) settle() error { return syncDir(filepath.Join(s.dir, badgerName)) }

// resume makes the journal ready for the next group. A new generation takes the file
// of the one before the current, if Badger has all of that; else, for want of space,
// the current one goes on after its last whole frame, where the sectors of a torn one
// are erased first.
func (s *Store) resume(r *recovery) error {
	v := s.look()
	if v.stored.Seq >= r.current.first-1 {
		return s.journal.start(journalHead{generation: r.current.generation + 1, first: v.head.Seq + 1, before: v.head.Root, stored: v.stored})
	}
	if len(r.gaps) > 0 {
		return fmt.Errorf("%w: the journal is damaged, and Badger has no space to take what is left of it: free %d bytes on the disk of %s",
			ErrFull, s.space.wanted(), s.dir)
	}
	s.journal.head, s.journal.next = r.current, r.next
	return s.journal.erase()
}
