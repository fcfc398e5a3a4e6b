package eventlog

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/dgraph-io/badger/v4"
)

// A small snapshot is a value in Badger, under p and its key. A large one is a file
// (snapshot_file.go): in Badger it would be written five times over, and each open would
// read it. Both have one form. What older versions kept in another counts as not there.
const snapshotInlineBytes = 128 << 10

func snapshotKey(key string) []byte { return append([]byte{prefixSnapshot}, key...) }

// PutSnapshot implements Log.
func (s *Store) PutSnapshot(key string, snap Snapshot) error {
	if s.o.ReadOnly {
		return fmt.Errorf("snapshot %q: %w", key, ErrReadOnly)
	}
	if err := checkSnapshot(key, snap, s.Head()); err != nil {
		return err
	}
	release, err := s.reading()
	if err != nil {
		return fmt.Errorf("snapshot %q: %w", key, err)
	}
	defer release()
	if err := s.failed(); err != nil {
		return err
	}
	s.snapshots.Lock()
	defer s.snapshots.Unlock()
	head, err := s.sealSnapshot(key, snap)
	if err == nil && len(snap.Data) > snapshotInlineBytes {
		err = s.writeSnapshot(key, head, snap.Data)
	} else if err == nil {
		err = s.commitSnapshot(key, append(head, snap.Data...))
	}
	if err != nil {
		return fmt.Errorf("snapshot %q: %w", key, err)
	}
	return nil
}

// commitSnapshot keeps a small snapshot, in the place of a large one too.
func (s *Store) commitSnapshot(key string, b []byte) error {
	if err := s.lsm.commit([]*badger.Entry{badger.NewEntry(snapshotKey(key), b)}, s.roomForSnapshot); err != nil {
		return err
	}
	return s.removeSnapshot(key)
}

// roomForSnapshot keeps what space is left for events.
func (s *Store) roomForSnapshot() error {
	s.o.Step(StepSnapshot, nil)
	if s.space.low.Load() {
		return ErrFull
	}
	return s.space.check(s.lsm.bytes())
}

func (l *lsm) get(key []byte) ([]byte, error) {
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	return get(txn, key)
}

// Snapshot implements Log.
func (s *Store) Snapshot(key string) (Snapshot, bool, error) {
	release, err := s.reading()
	if err != nil {
		return Snapshot{}, false, fmt.Errorf("snapshot %q: %w", key, err)
	}
	defer release()
	snap, err := s.newestSnapshot(key)
	if errors.Is(err, ErrNoSnapshot) {
		return Snapshot{}, false, nil
	}
	if err == nil {
		err = s.stands(snap)
	}
	if err != nil { // replaying is slower, and right
		s.log.Warn("ignored a snapshot", "key", key, "error", err)
		return Snapshot{}, false, nil
	}
	return snap, true, nil
}

// ErrNoSnapshot says that ReadSnapshot found none.
var ErrNoSnapshot = errors.New("there is no snapshot")

// newestSnapshot reads what is kept under key. It was small once and large at another
// time: the later one counts.
func (s *Store) newestSnapshot(key string) (Snapshot, error) {
	large, err := ReadSnapshot(s.dir, key, s.o.Verifier)
	if err != nil && !errors.Is(err, ErrNoSnapshot) {
		s.log.Warn("ignored a snapshot", "key", key, "error", err)
	}
	value, errSmall := s.lsm.get(snapshotKey(key))
	if errors.Is(errSmall, badger.ErrKeyNotFound) || errSmall == nil && !bytes.HasPrefix(value, []byte(magicSnapshot)) {
		return large, err
	}
	var small Snapshot
	if errSmall == nil {
		small, errSmall = parseSnapshot(value, key, s.o.Verifier)
	}
	if err == nil && (errSmall != nil || large.Seq >= small.Seq) {
		return large, nil
	}
	return small, errSmall
}
