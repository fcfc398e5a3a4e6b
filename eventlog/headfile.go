package eventlog

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// headState is the content of the file HEAD: a lower bound of the log that is kept
// apart from journal and Badger, so that a log shorter than it is noticed.
type headState struct {
	head         Head   // durable when this was written
	generation   uint64 // of the journal file in use then
	journalBytes uint64 // size of a journal file
	ballastBytes uint64 // size of the ballast when it is in place
	clean        bool   // written by Close: the log ends exactly at head
	checkpoint   []byte // of head, signed if there is a signer
}

const headFixedBytes = 8 + tlog.HashSize + 8 + 8 + 8 + 1 + 2

func (h *headState) encode() []byte {
	b := make([]byte, 0, headFixedBytes+len(h.checkpoint))
	b = binary.BigEndian.AppendUint64(b, h.head.Seq)
	b = append(b, h.head.Root[:]...)
	b = binary.BigEndian.AppendUint64(b, h.generation)
	b = binary.BigEndian.AppendUint64(b, h.journalBytes)
	b = binary.BigEndian.AppendUint64(b, h.ballastBytes)
	clean := byte(0)
	if h.clean {
		clean = 1
	}
	b = append(b, clean)
	b = binary.BigEndian.AppendUint16(b, uint16(len(h.checkpoint)))
	return append(b, h.checkpoint...)
}

func decodeHead(b []byte) (headState, error) {
	if len(b) < headFixedBytes {
		return headState{}, fmt.Errorf("HEAD of %d bytes, want at least %d", len(b), headFixedBytes)
	}
	h := headState{
		head:         Head{Seq: binary.BigEndian.Uint64(b), Root: tlog.Hash(b[8:40])},
		generation:   binary.BigEndian.Uint64(b[40:]),
		journalBytes: binary.BigEndian.Uint64(b[48:]),
		ballastBytes: binary.BigEndian.Uint64(b[56:]),
		clean:        b[64] == 1,
	}
	if n := int(binary.BigEndian.Uint16(b[65:])); n != len(b)-headFixedBytes || b[64] > 1 {
		return headState{}, fmt.Errorf("HEAD announces a checkpoint of %d bytes, %d follow; flag %d", n, len(b)-headFixedBytes, b[64])
	}
	h.checkpoint = b[headFixedBytes:]
	if h.journalBytes < journalBytesMin || h.journalBytes > journalBytesMax || h.journalBytes%sectorBytes != 0 {
		return headState{}, fmt.Errorf("HEAD announces journals of %d bytes", h.journalBytes)
	}
	return h, nil
}

// headFile is HEAD while the log is open. It is overwritten in place, so a full disk
// does not stop it.
type headFile struct {
	mu      sync.Mutex
	f       *os.File  // guarded by mu
	counter uint64    // guarded by mu
	format  uint32    // as it was opened
	state   headState // guarded by mu
}

const headName = "HEAD"

// createHead writes the first HEAD. Its appearance makes the directory a log.
func createHead(dir string, s headState) error {
	tmp := filepath.Join(dir, headName+".new")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_RDWR|os.O_TRUNC, fileMode)
	if err != nil {
		return fmt.Errorf("create HEAD: %w", err)
	}
	defer f.Close()
	if err := writeSlots(f, magicHead, 1, s.encode()); err != nil {
		return fmt.Errorf("create HEAD: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("create HEAD: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, headName)); err != nil {
		return fmt.Errorf("create HEAD: %w", err)
	}
	return syncDir(dir)
}

// openHead reads HEAD; flag is os.O_RDONLY or os.O_RDWR.
func openHead(dir string, flag int) (*headFile, int, error) {
	f, err := os.OpenFile(filepath.Join(dir, headName), flag, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("open HEAD: %w", err)
	}
	s, intact, err := readSlots(f, magicHead)
	if err == nil {
		var state headState
		if state, err = decodeHead(s.payload); err == nil {
			return &headFile{f: f, counter: s.counter, format: s.format, state: state}, intact, nil
		}
	}
	f.Close()
	return nil, 0, fmt.Errorf("read HEAD: %w", err)
}

// update changes HEAD with edit and makes the change durable.
func (h *headFile) update(edit func(*headState)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	edit(&h.state)
	h.counter++
	return writeSlots(h.f, magicHead, h.counter, h.state.encode())
}

func (h *headFile) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.f.Close()
}
