package eventlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sys/unix"

	"github.com/gatehouse-edge/gatehouse/messages"
)

// journal is the pair of preallocated files that a group is durable in. Generation g
// is written to file g mod 2; it may begin only when Badger has every record of
// generation g-2. Owned by the writer.
type journal struct {
	files   [2]*os.File
	sectors int // of one file, heads excluded
	head    journalHead
	next    int // sector that the next frame begins at
	buf     []byte
	step    func(Step, []messages.Record)
}

// journalHead is the head of a journal file: a slot pair at its start.
type journalHead struct {
	generation uint64
	first      uint64    // sequence number of the generation's first record
	before     tlog.Hash // root of the tree of first-1 records
	stored     Head      // what Badger had, durably, when the generation began
}

const journalHeadBytes = 8 + 8 + tlog.HashSize + 8 + tlog.HashSize

func (h *journalHead) encode() []byte {
	b := make([]byte, 0, journalHeadBytes)
	b = binary.BigEndian.AppendUint64(b, h.generation)
	b = binary.BigEndian.AppendUint64(b, h.first)
	b = append(b, h.before[:]...)
	b = binary.BigEndian.AppendUint64(b, h.stored.Seq)
	return append(b, h.stored.Root[:]...)
}

func decodeJournalHead(b []byte) (journalHead, error) {
	if len(b) != journalHeadBytes {
		return journalHead{}, fmt.Errorf("journal head of %d bytes, want %d", len(b), journalHeadBytes)
	}
	h := journalHead{
		generation: binary.BigEndian.Uint64(b),
		first:      binary.BigEndian.Uint64(b[8:]),
		before:     tlog.Hash(b[16:48]),
		stored:     Head{Seq: binary.BigEndian.Uint64(b[48:]), Root: tlog.Hash(b[56:88])},
	}
	if h.first == 0 || h.stored.Seq >= h.first {
		return journalHead{}, fmt.Errorf("journal head: generation %d begins at %d with %d records stored", h.generation, h.first, h.stored.Seq)
	}
	return h, nil
}

func journalPath(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("journal.%d", i))
}

// journalSectors is how many sectors for frames a file of size bytes has.
func journalSectors(size int64) int { return int((size - journalDataStart) / sectorBytes) }

// createJournal makes one zero-filled file. Zeros are written, not only allocated:
// later writes then change no metadata, and fdatasync has nothing but data to flush.
func createJournal(dir string, i int, size int64, head journalHead) error {
	path := journalPath(dir, i)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_RDWR|os.O_TRUNC, fileMode)
	if err != nil {
		return fmt.Errorf("create journal: %w", err)
	}
	defer f.Close()
	if err := fillZero(f, size); err != nil {
		return err
	}
	if err := writeSlots(f, magicJournal, head.generation, head.encode()); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("create journal: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("create journal: %w", err)
	}
	return syncDir(dir)
}

// fillZero gives f size bytes of zeros on disk.
func fillZero(f *os.File, size int64) error {
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("allocate %d bytes for %s: %w", size, f.Name(), err)
	}
	zeros := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(zeros)) {
		if _, err := f.WriteAt(zeros[:min(int64(len(zeros)), size-off)], off); err != nil {
			return fmt.Errorf("write zeros: %w", err)
		}
	}
	return nil
}

// start begins generation h.generation and makes its head durable.
func (j *journal) start(h journalHead) error {
	if err := writeSlots(j.files[h.generation%2], magicJournal, h.generation, h.encode()); err != nil {
		return fmt.Errorf("start journal generation %d: %w", h.generation, err)
	}
	j.head, j.next = h, 0
	return nil
}

// append makes g durable: one write, one fdatasync. The caller knows that it fits.
func (j *journal) append(g *group) error {
	parts := frameSectors(len(g.entries))
	if j.next+parts > j.sectors {
		panic(fmt.Sprintf("eventlog: frame of %d sectors at %d of %d", parts, j.next, j.sectors))
	}
	j.buf = appendFrame(j.buf[:0], g, j.head.generation, j.next)
	f := j.files[j.head.generation%2]
	if _, err := f.WriteAt(j.buf, journalDataStart+int64(j.next)*sectorBytes); err != nil {
		return fmt.Errorf("write records %d to %d: %w", g.first, g.last(), err)
	}
	j.step(StepWritten, g.recs)
	if err := datasync(f); err != nil {
		return fmt.Errorf("records %d to %d: %w", g.first, g.last(), err)
	}
	j.step(StepSynced, g.recs)
	j.next += parts
	return nil
}

// erase removes what is left of a torn frame behind the last whole one.
func (j *journal) erase() error {
	f := j.files[j.head.generation%2]
	sc := scan{f: f, gen: j.head.generation, sectors: j.sectors}
	zero := make([]byte, sectorBytes)
	for i := j.next; i < j.sectors; i++ {
		sec, _, err := sc.at(i)
		if err != nil {
			return err
		}
		if sec.state != sectorCurrent {
			continue
		}
		if _, err := f.WriteAt(zero, journalDataStart+int64(i)*sectorBytes); err != nil {
			return fmt.Errorf("erase torn sector %d: %w", i, err)
		}
	}
	return datasync(f)
}

func (j *journal) close() error {
	var errs []error
	for _, f := range j.files {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
