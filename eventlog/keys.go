package eventlog

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// Keys in Badger. Records lie in blocks of up to blockEventsMax, so that an event
// costs Badger a fraction of a key; UserMeta of a block, of its hashes and of an index
// entry is the number of records in it less one, so that completeness can be checked
// from keys alone. Integers are big-endian.
//
//	e | first 8                      block: CRC32C 4 | entries
//	h | first 8                      what tlog stores for the block's records: CRC32C 4 | hashes of 32
//	s | length 1 | stream | last 8   records of the stream, by the version of the last (index.go)
//	k | size 8                       checkpoint of the first size records
//	m | head                         storedHead
//	p | key                          small snapshot (snapshot.go)
const (
	blockEventsMax = 256
	// A block is read whole for one record, checksummed by Badger and by us and copied three
	// times: with 32 KiB a stream of four events took twice as long to read as with 8 KiB, and
	// appending, replay and opening took the same.
	blockBytesGoal = 8 << 10
	prefixBlock    = 'e'
	prefixHashes   = 'h'
	prefixStream   = 's'
	prefixNote     = 'k'
	prefixSnapshot = 'p'
)

var keyHead = []byte("mhead")

func numberKey(prefix byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

func streamPrefix(stream messages.StreamID) []byte {
	b := make([]byte, 0, 2+len(stream)+8)
	b = append(b, prefixStream, byte(len(stream)))
	return append(b, stream...)
}

func streamIndexKey(stream messages.StreamID, last uint64) []byte {
	return binary.BigEndian.AppendUint64(streamPrefix(stream), last)
}

// parseStreamKey is the inverse of streamIndexKey.
func parseStreamKey(k []byte) (stream messages.StreamID, last uint64, err error) {
	name, last, err := cutStreamKey(k)
	return messages.StreamID(name), last, err
}

// cutStreamKey is parseStreamKey without a copy: the name is a part of k.
func cutStreamKey(k []byte) (name []byte, last uint64, err error) {
	if len(k) < 2+8 || k[0] != prefixStream || len(k) != 2+int(k[1])+8 {
		return nil, 0, fmt.Errorf("index key %x", k)
	}
	return k[2 : len(k)-8], binary.BigEndian.Uint64(k[len(k)-8:]), nil
}

// seal puts the checksum of body in front of it: b is 4 free bytes and the body.
func seal(b []byte) []byte {
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// unseal checks and removes what seal put in front.
func unseal(b []byte) ([]byte, error) {
	if len(b) < 4 || crc32.Checksum(b[4:], castagnoli) != binary.BigEndian.Uint32(b) {
		return nil, fmt.Errorf("checksum of %d bytes differs", len(b))
	}
	return b[4:], nil
}

// storedHead is the value of keyHead: how far Badger is, how far its index is, and which
// kinds it holds, so that a start need not read every record to find one it must refuse.
//
//	size 8 | root 32 | kinds 4 | for each: kind 2, schema 1, critical 1, records 8 | indexed 8
//
// In format 1 "indexed" is absent: every record is in the index.
type storedHead struct {
	head    Head
	kinds   map[kindKey]uint64 // how many records of each
	indexed uint64             // the index leads to records 1..indexed
}

type kindKey struct {
	kind     messages.Kind
	schema   uint8
	critical bool
}

const storedHeadFixed = 8 + tlog.HashSize + 4

func (s *storedHead) encode() []byte {
	b := make([]byte, 4, 4+storedHeadFixed+12*len(s.kinds)+8)
	b = binary.BigEndian.AppendUint64(b, s.head.Seq)
	b = append(b, s.head.Root[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.kinds)))
	for k, n := range s.kinds {
		b = binary.BigEndian.AppendUint16(b, uint16(k.kind))
		critical := byte(0)
		if k.critical {
			critical = 1
		}
		b = append(b, k.schema, critical)
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return seal(binary.BigEndian.AppendUint64(b, s.indexed))
}

func decodeStoredHead(b []byte) (storedHead, error) {
	b, err := unseal(b)
	if err != nil {
		return storedHead{}, fmt.Errorf("stored head: %w", err)
	}
	if len(b) < storedHeadFixed {
		return storedHead{}, fmt.Errorf("stored head of %d bytes", len(b))
	}
	s := storedHead{
		head:  Head{Seq: binary.BigEndian.Uint64(b), Root: tlog.Hash(b[8:40])},
		kinds: map[kindKey]uint64{},
	}
	s.indexed = s.head.Seq
	kinds, rest := 12*uint64(binary.BigEndian.Uint32(b[40:])), b[storedHeadFixed:]
	switch uint64(len(rest)) {
	case kinds: // format 1
	case kinds + 8:
		s.indexed = binary.BigEndian.Uint64(rest[kinds:])
	default:
		return storedHead{}, fmt.Errorf("stored head of %d bytes", len(b))
	}
	if s.indexed > s.head.Seq {
		return storedHead{}, fmt.Errorf("stored head: %d of %d records are in the index", s.indexed, s.head.Seq)
	}
	for b = rest[:kinds]; len(b) > 0; b = b[12:] {
		k := kindKey{messages.Kind(binary.BigEndian.Uint16(b)), b[2], b[3] == 1}
		s.kinds[k] = binary.BigEndian.Uint64(b[4:])
	}
	return s, nil
}

// decodeHashes reads a value under prefixHashes that belongs to count records from
// first on.
func decodeHashes(b []byte, first uint64, count int) ([]tlog.Hash, error) {
	b, err := unseal(b)
	if err != nil {
		return nil, err
	}
	want := storedCount(first+uint64(count)-1) - storedCount(first-1)
	if uint64(len(b)) != want*tlog.HashSize {
		return nil, fmt.Errorf("%d bytes of hashes for %d records from %d, want %d hashes", len(b), count, first, want)
	}
	out := make([]tlog.Hash, want)
	for i := range out {
		out[i] = tlog.Hash(b[i*tlog.HashSize:])
	}
	return out, nil
}

// blockEntries cuts a block's value into its entries, without their lengths.
func blockEntries(b []byte, count int) ([][]byte, error) {
	b, err := unseal(b)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, 0, count)
	for range count {
		var entry []byte
		if entry, b, err = nextEntry(b); err != nil {
			return nil, err
		}
		out = append(out, entry)
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%d bytes after the last of %d entries", len(b), count)
	}
	return out, nil
}

// parseEntry reads the record of an entry and checks that it is number seq.
func parseEntry(entry []byte, seq uint64) (messages.Record, error) {
	return parseEntryAfter(&messages.Record{}, entry, seq)
}

// parseEntryAfter is parseEntry where the record before is at hand: equal texts are shared.
func parseEntryAfter(before *messages.Record, entry []byte, seq uint64) (messages.Record, error) {
	rec, err := messages.ParseRecordAfter(before, entry[1:])
	if err != nil {
		return messages.Record{}, fmt.Errorf("record %d: %w", seq, err)
	}
	if rec.Seq != seq {
		return messages.Record{}, fmt.Errorf("record %d says it is %d", seq, rec.Seq)
	}
	return rec, nil
}
