package eventlog

import "errors"

// Close implements Log.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.closing = true
		s.mu.Unlock()
		signal(s.arrived)
		s.running.Wait()
		s.closeErr = s.shut()
	})
	return s.closeErr
}

// shut releases everything after the goroutines have ended.
func (s *Store) shut() error {
	s.closed.Store(true)
	s.pulse.wake()
	var errs []error
	stored := s.look().stored
	flushed := false
	s.readers.Lock() // readers in the middle of Badger finish first
	if s.o.ReadOnly {
		errs = append(errs, s.lsm.close(), removeAll(s.scratch))
	} else if err := s.space.roomToClose(); err != nil {
		s.log.Warn("closed without flushing Badger: its log has it on disk", "error", err)
	} else {
		err := s.lsm.close()
		errs, flushed = append(errs, err), err == nil
	}
	s.readers.Unlock()
	if !s.o.ReadOnly && flushed && s.failed() == nil {
		errs = append(errs, s.markClean(stored))
	}
	if s.journal != nil {
		errs = append(errs, s.journal.close())
	}
	if s.head != nil {
		errs = append(errs, s.head.close())
	}
	errs = append(errs, unlock(s.lock))
	return errors.Join(errs...)
}

// markClean notes in HEAD that the log ends exactly here.
func (s *Store) markClean(stored Head) error {
	head := s.Head()
	if stored != head { // the feeder could not finish for lack of space
		return nil
	}
	s.o.Step(StepClosing, nil)
	note, err := signCheckpoint(s.o.Origin, head, s.o.Signer)
	if err != nil {
		return err
	}
	return s.head.update(func(h *headState) { h.head, h.clean, h.checkpoint = head, true, note })
}

func (s *Store) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}
