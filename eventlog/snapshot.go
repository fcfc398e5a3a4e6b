package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dgraph-io/badger/v4"
)

// A small snapshot is a value in Badger. A large one is a file (snapshot_file.go): in Badger
// it would be written five times over, and each open would read it.
//
//	p | key   CRC32C 4 | version 4 | sequence number 8 | 0 5 | length 8 | CRC32C of data 4 | data
//
// Format 1 had the large ones in parts under "c", with their slot and number in place of
// the zeros: they count as not there.
const (
	snapshotHeadBytes   = 4 + 8 + 1 + 4 + 8 + 4
	snapshotInlineBytes = 128 << 10
)

func snapshotKey(key string) []byte { return append([]byte{prefixSnapshot}, key...) }

func encodeSnapshot(s *Snapshot) []byte {
	b := make([]byte, 4, 4+snapshotHeadBytes+len(s.Data))
	b = binary.BigEndian.AppendUint32(b, s.Version)
	b = binary.BigEndian.AppendUint64(b, s.Seq)
	b = append(b, 0, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(len(s.Data)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(s.Data, castagnoli))
	return seal(append(b, s.Data...))
}

func decodeSnapshot(b []byte) (Snapshot, error) {
	b, err := unseal(b)
	if err != nil {
		return Snapshot{}, err
	}
	if len(b) < snapshotHeadBytes {
		return Snapshot{}, fmt.Errorf("snapshot of %d bytes", len(b))
	}
	s := Snapshot{Version: binary.BigEndian.Uint32(b), Seq: binary.BigEndian.Uint64(b[4:]), Data: b[snapshotHeadBytes:]}
	parts, length, sum := binary.BigEndian.Uint32(b[13:]), binary.BigEndian.Uint64(b[17:]), binary.BigEndian.Uint32(b[25:])
	if parts != 0 {
		return Snapshot{}, fmt.Errorf("in %d parts, as an older version kept it", parts)
	}
	if uint64(len(s.Data)) != length || crc32.Checksum(s.Data, castagnoli) != sum {
		return Snapshot{}, fmt.Errorf("%d bytes, want %d with checksum %08x", len(s.Data), length, sum)
	}
	return s, nil
}

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
	if len(snap.Data) > snapshotInlineBytes {
		err = s.writeSnapshot(key, snap)
	} else if err = s.lsm.commit([]*badger.Entry{badger.NewEntry(snapshotKey(key), encodeSnapshot(&snap))}, s.roomForSnapshot); err == nil {
		err = s.removeSnapshot(key)
	}
	if err != nil {
		return fmt.Errorf("snapshot %q: %w", key, err)
	}
	return nil
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
		err = s.Stands(snap)
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
	if errors.Is(errSmall, badger.ErrKeyNotFound) {
		return large, err
	}
	var small Snapshot
	if errSmall == nil {
		small, errSmall = decodeSnapshot(value)
	}
	if err == nil && (errSmall != nil || large.Seq >= small.Seq) {
		return large, nil
	}
	return small, errSmall
}
