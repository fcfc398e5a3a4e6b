package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/dgraph-io/badger/v4"
)

// A snapshot is a head and, when it is large, parts. Parts are written first, into the
// slot (0 or 1) that the present head does not use, so that the present snapshot stays
// whole until the head moves. Nothing is deleted: a larger former snapshot leaves parts
// behind, which the next of its size overwrites.
//
//	head: CRC32C 4 | version 4 | sequence number 8 | slot 1 | parts 4 | length 8 | CRC32C of data 4 | data, if parts is 0
//	part: CRC32C 4 | data
const (
	snapshotHeadBytes   = 4 + 8 + 1 + 4 + 8 + 4
	snapshotInlineBytes = 128 << 10
	snapshotPartBytes   = 512 << 10
)

type snapshotHead struct {
	snapshot Snapshot // Data only when inline
	slot     byte
	parts    uint32
	length   uint64
	sum      uint32
}

func snapshotKey(key string) []byte { return append([]byte{prefixSnapshot}, key...) }

// partKey cannot clash between snapshots: a key's length is fixed before the number.
func partKey(key string, slot byte, part uint32) []byte {
	b := append([]byte{prefixChunk, slot}, key...)
	return binary.BigEndian.AppendUint32(append(b, 0), part)
}

func (h *snapshotHead) encode() []byte {
	b := make([]byte, 4, 4+snapshotHeadBytes+len(h.snapshot.Data))
	b = binary.BigEndian.AppendUint32(b, h.snapshot.Version)
	b = binary.BigEndian.AppendUint64(b, h.snapshot.Seq)
	b = append(b, h.slot)
	b = binary.BigEndian.AppendUint32(b, h.parts)
	b = binary.BigEndian.AppendUint64(b, h.length)
	b = binary.BigEndian.AppendUint32(b, h.sum)
	if h.parts == 0 {
		b = append(b, h.snapshot.Data...)
	}
	return seal(b)
}

func decodeSnapshotHead(b []byte) (snapshotHead, error) {
	b, err := unseal(b)
	if err != nil {
		return snapshotHead{}, err
	}
	if len(b) < snapshotHeadBytes {
		return snapshotHead{}, fmt.Errorf("snapshot head of %d bytes", len(b))
	}
	h := snapshotHead{
		snapshot: Snapshot{Version: binary.BigEndian.Uint32(b), Seq: binary.BigEndian.Uint64(b[4:]), Data: b[snapshotHeadBytes:]},
		slot:     b[12], parts: binary.BigEndian.Uint32(b[13:]), length: binary.BigEndian.Uint64(b[17:]), sum: binary.BigEndian.Uint32(b[25:]),
	}
	if h.length > SnapshotBytesMax || uint64(h.parts) > SnapshotBytesMax/snapshotPartBytes+1 || h.slot > 1 {
		return snapshotHead{}, fmt.Errorf("snapshot of %d bytes in %d parts", h.length, h.parts)
	}
	return h, nil
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
	if err := s.lsm.putSnapshot(key, snap, s.roomForSnapshot); err != nil {
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

func (l *lsm) putSnapshot(key string, snap Snapshot, before func() error) error {
	h := snapshotHead{snapshot: snap, length: uint64(len(snap.Data)), sum: crc32.Checksum(snap.Data, castagnoli)}
	if len(snap.Data) > snapshotInlineBytes {
		if old, ok := l.snapshotHead(key); ok {
			h.slot = 1 - old.slot
		}
		for rest := snap.Data; len(rest) > 0; h.parts++ {
			n := min(len(rest), snapshotPartBytes)
			part := seal(append(make([]byte, 4, 4+n), rest[:n]...))
			if err := l.commit([]*badger.Entry{badger.NewEntry(partKey(key, h.slot, h.parts), part)}, before); err != nil {
				return err
			}
			rest = rest[n:]
		}
	} else if old, ok := l.snapshotHead(key); ok {
		h.slot = old.slot
	}
	return l.commit([]*badger.Entry{badger.NewEntry(snapshotKey(key), h.encode())}, before)
}

// snapshotHead reads the present head, if there is a good one.
func (l *lsm) snapshotHead(key string) (snapshotHead, bool) {
	value, err := l.get(snapshotKey(key))
	if err != nil {
		return snapshotHead{}, false
	}
	h, err := decodeSnapshotHead(value)
	return h, err == nil
}

func (l *lsm) get(key []byte) ([]byte, error) {
	txn := l.db.NewTransaction(false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if err != nil {
		return nil, err
	}
	return item.ValueCopy(nil)
}

// Snapshot implements Log.
func (s *Store) Snapshot(key string) (Snapshot, bool, error) {
	release, err := s.reading()
	if err != nil {
		return Snapshot{}, false, fmt.Errorf("snapshot %q: %w", key, err)
	}
	defer release()
	snap, err := s.lsm.snapshot(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return Snapshot{}, false, nil
	}
	if err == nil && snap.Seq > s.Head().Seq {
		err = fmt.Errorf("it is of record %d, the log has %d", snap.Seq, s.Head().Seq)
	}
	if err != nil { // replaying is slower, and right
		s.log.Warn("ignored a snapshot", "key", key, "error", err)
		return Snapshot{}, false, nil
	}
	return snap, true, nil
}

func (l *lsm) snapshot(key string) (Snapshot, error) {
	value, err := l.get(snapshotKey(key))
	if err != nil {
		return Snapshot{}, err
	}
	h, err := decodeSnapshotHead(value)
	if err != nil {
		return Snapshot{}, err
	}
	snap := h.snapshot
	if h.parts > 0 {
		snap.Data = make([]byte, 0, h.length)
		for part := range h.parts {
			value, err := l.get(partKey(key, h.slot, part))
			if err != nil {
				return Snapshot{}, fmt.Errorf("part %d: %w", part, errors.Join(errors.New("missing"), err))
			}
			data, err := unseal(value)
			if err != nil {
				return Snapshot{}, fmt.Errorf("part %d: %w", part, err)
			}
			snap.Data = append(snap.Data, data...)
		}
	}
	if uint64(len(snap.Data)) != h.length || crc32.Checksum(snap.Data, castagnoli) != h.sum {
		return Snapshot{}, fmt.Errorf("%d bytes, want %d with checksum %08x", len(snap.Data), h.length, h.sum)
	}
	return snap, nil
}
