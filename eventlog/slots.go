package eventlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// A slot pair holds one small value in two copies that are written one after the
// other, each made durable before the next: a crash tears at most one of them, and
// one flipped byte damages at most one. Layout of a copy, integers big-endian:
//
//	magic 8 | format 4 | counter 8 | length 2 | payload | zeros | CRC32C of all before 4
const (
	slotBytes        = 4096
	slotPairBytes    = 2 * slotBytes
	slotHeadBytes    = 8 + 4 + 8 + 2
	slotPayloadMax   = slotBytes - slotHeadBytes - 4
	formatNow        = 2 // 1: every record is in Badger's index (index.go)
	formatOldest     = 1
	magicHead        = "GH-HEAD\n"
	magicJournal     = "GH-JRNL\n"
	directoryMode    = 0o700
	fileMode         = 0o600
	sectorBytes      = 512
	journalDataStart = slotPairBytes
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errNoSlot says that neither copy can be trusted.
var errNoSlot = errors.New("both copies are damaged")

// slot is a copy that was read.
type slot struct {
	format  uint32
	counter uint64
	payload []byte
}

func encodeSlot(magic string, counter uint64, payload []byte) []byte {
	if len(magic) != 8 || len(payload) > slotPayloadMax {
		panic(fmt.Sprintf("eventlog: slot %q of %d bytes", magic, len(payload)))
	}
	b := make([]byte, slotBytes)
	copy(b, magic)
	binary.BigEndian.PutUint32(b[8:], formatNow)
	binary.BigEndian.PutUint64(b[12:], counter)
	binary.BigEndian.PutUint16(b[20:], uint16(len(payload)))
	copy(b[slotHeadBytes:], payload)
	binary.BigEndian.PutUint32(b[slotBytes-4:], crc32.Checksum(b[:slotBytes-4], castagnoli))
	return b
}

func decodeSlot(magic string, b []byte) (slot, error) {
	if len(b) != slotBytes || !bytes.Equal(b[:8], []byte(magic)) {
		return slot{}, errors.New("not the right magic bytes")
	}
	if crc32.Checksum(b[:slotBytes-4], castagnoli) != binary.BigEndian.Uint32(b[slotBytes-4:]) {
		return slot{}, errors.New("checksum differs")
	}
	format := binary.BigEndian.Uint32(b[8:])
	if format > formatNow {
		return slot{}, fmt.Errorf("%w: file format %d, this version knows %d", ErrNewer, format, formatNow)
	}
	if format < formatOldest {
		return slot{}, fmt.Errorf("file format %d, want %d at least", format, formatOldest)
	}
	n := int(binary.BigEndian.Uint16(b[20:]))
	if n > slotPayloadMax {
		return slot{}, fmt.Errorf("payload of %d bytes, want at most %d", n, slotPayloadMax)
	}
	return slot{format: format, counter: binary.BigEndian.Uint64(b[12:]), payload: b[slotHeadBytes : slotHeadBytes+n]}, nil
}

// readSlots returns the newer of the intact copies and how many are intact.
func readSlots(f io.ReaderAt, magic string) (best slot, intact int, err error) {
	var errs []error
	for i := range 2 {
		b := make([]byte, slotBytes)
		if _, err := f.ReadAt(b, int64(i*slotBytes)); err != nil {
			errs = append(errs, fmt.Errorf("copy %d: %w", i, err))
			continue
		}
		s, err := decodeSlot(magic, b)
		switch {
		case errors.Is(err, ErrNewer):
			return slot{}, 0, err
		case err != nil:
			errs = append(errs, fmt.Errorf("copy %d: %w", i, err))
			continue
		}
		if intact == 0 || s.counter > best.counter {
			best = s
		}
		intact++
	}
	if intact == 0 {
		return slot{}, 0, fmt.Errorf("%w: %w", errNoSlot, errors.Join(errs...))
	}
	return best, intact, nil
}

// writeSlots makes payload the pair's value; it is durable on return.
func writeSlots(f *os.File, magic string, counter uint64, payload []byte) error {
	b := encodeSlot(magic, counter, payload)
	for i := range 2 {
		if _, err := f.WriteAt(b, int64(i*slotBytes)); err != nil {
			return fmt.Errorf("write copy %d of the head of %s: %w", i, f.Name(), err)
		}
		if err := datasync(f); err != nil {
			return err
		}
	}
	return nil
}

// datasync makes f's content durable. Its error is final: the kernel may have
// dropped the dirty pages, and a second call would then say that all is well.
func datasync(f *os.File) error {
	for {
		err := unix.Fdatasync(int(f.Fd()))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("fdatasync %s: %w", f.Name(), err)
		}
		return nil
	}
}

// syncDir makes the directory entries of dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync directory %s: %w", dir, err)
	}
	return nil
}
