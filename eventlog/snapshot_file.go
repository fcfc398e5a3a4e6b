package eventlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A large snapshot is a file in the folder "snapshots", whose name is made of the
// snapshot's key. It is written beside the former one, made durable, and renamed. Each
// snapshot, large or small, is
//
//	magic 8 | format 4 | bytes of the note 4 | CRC32C of the note 4 | note | data
//
// The note says what the data is, in lines: "gatehouse snapshot", the key in quotes,
// version, sequence number, root of the tree of as many records, bytes of data, digest of
// data (the last three but one in base64). It is signed as checkpoints are: who
// cannot sign for the log cannot put words into its mouth. The digest is SHA-256 over the
// SHA-256 of each MiB, so that several processors can work it out.
const (
	magicSnapshot       = "GH-SNAP\n"
	snapshotFormat      = 1
	snapshotFixedBytes  = 8 + 4 + 4 + 4
	snapshotNoteMax     = 4096
	snapshotDigestBytes = 1 << 20
	snapshotsName       = "snapshots"
	snapshotTitle       = "gatehouse snapshot"
)

func snapshotPath(dir, key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(dir, snapshotsName, hex.EncodeToString(sum[:16]))
}

// digestOf is the digest of a snapshot's data.
func digestOf(data []byte) [sha256.Size]byte {
	parts := (len(data) + snapshotDigestBytes - 1) / snapshotDigestBytes
	sums := make([]byte, parts*sha256.Size)
	workers := min(parts, runtime.GOMAXPROCS(0))
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := w; i < parts; i += workers {
				sum := sha256.Sum256(data[i*snapshotDigestBytes : min((i+1)*snapshotDigestBytes, len(data))])
				copy(sums[i*sha256.Size:], sum[:])
			}
		})
	}
	group.Wait()
	return sha256.Sum256(sums)
}

// snapshotNote is the text of a snapshot's note.
func snapshotNote(key string, s *Snapshot) string {
	digest := digestOf(s.Data)
	return fmt.Sprintf("%s\n%s\n%d\n%d\n%s\n%d\n%s\n", snapshotTitle, strconv.Quote(key), s.Version, s.Seq,
		base64.StdEncoding.EncodeToString(s.Root[:]), len(s.Data), base64.StdEncoding.EncodeToString(digest[:]))
}

// sealSnapshot returns what stands before the data of a snapshot. Badger is kept open.
func (s *Store) sealSnapshot(key string, snap Snapshot) ([]byte, error) {
	t, err := treeAt(snap.Seq, tlog.HashReaderFunc(s.hashes))
	if err != nil {
		return nil, err
	}
	snap.Root = t.root()
	text := []byte(snapshotNote(key, &snap))
	if s.o.Signer != nil {
		if text, err = note.Sign(&note.Note{Text: string(text)}, s.o.Signer); err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
	}
	if len(text) > snapshotNoteMax {
		return nil, fmt.Errorf("note of %d bytes, want at most %d", len(text), snapshotNoteMax)
	}
	head := make([]byte, 0, snapshotFixedBytes+len(text))
	head = append(head, magicSnapshot...)
	head = binary.BigEndian.AppendUint32(head, snapshotFormat)
	head = binary.BigEndian.AppendUint32(head, uint32(len(text)))
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(text, castagnoli))
	return append(head, text...), nil
}

// writeSnapshot keeps a large snapshot in the place of the former one.
func (s *Store) writeSnapshot(key string, head, data []byte) error {
	if err := s.roomForSnapshot(); err != nil {
		return err
	}
	if err := s.space.roomBeside(uint64(len(data))); err != nil {
		return err
	}
	return replaceFile(snapshotPath(s.dir, key), func() { s.o.Step(StepSnapshot, nil) }, head, data)
}

// replaceFile puts a file with the content of parts in the place of path. It calls step when
// the new one is durable, and does not have its name yet.
func replaceFile(path string, step func(), parts ...[]byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), directoryMode); err != nil {
		return err
	}
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	for _, b := range parts {
		if err == nil {
			_, err = f.Write(b)
		}
	}
	if err == nil {
		err = datasync(f)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	step()
	return os.Rename(path+".new", path)
}

// removeSnapshot takes away a large snapshot that a small one has replaced.
func (s *Store) removeSnapshot(key string) error {
	if err := os.Remove(snapshotPath(s.dir, key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ReadSnapshot reads the large snapshot under key of the log in dir, which need not be
// open: so that decoding it and opening the log can go side by side. It is used only if
// the log, once open, says that it Stands. verifier is Options.Verifier. The error is not
// nil also if there is none.
func ReadSnapshot(dir, key string, verifier note.Verifier) (Snapshot, error) {
	f, err := os.Open(snapshotPath(dir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", key, ErrNoSnapshot)
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q: %w", key, err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err == nil && fi.Size() > snapshotFixedBytes+snapshotNoteMax+SnapshotBytesMax {
		err = fmt.Errorf("file of %d bytes", fi.Size())
	}
	var b []byte
	if err == nil {
		b = make([]byte, fi.Size())
		_, err = io.ReadFull(f, b)
	}
	var s Snapshot
	if err == nil {
		s, err = parseSnapshot(b, key, verifier)
	}
	if err != nil {
		return Snapshot{}, fmt.Errorf("snapshot %q in %s: %w", key, f.Name(), err)
	}
	return s, nil
}

// parseSnapshot reads a snapshot. Its Data is a part of b.
func parseSnapshot(b []byte, key string, verifier note.Verifier) (Snapshot, error) {
	if len(b) < snapshotFixedBytes || !bytes.Equal(b[:8], []byte(magicSnapshot)) {
		return Snapshot{}, errors.New("not the right magic bytes")
	}
	if format := binary.BigEndian.Uint32(b[8:]); format != snapshotFormat {
		return Snapshot{}, fmt.Errorf("format %d, want %d", format, snapshotFormat)
	}
	n, rest := uint64(binary.BigEndian.Uint32(b[12:])), b[snapshotFixedBytes:]
	if n > snapshotNoteMax || n > uint64(len(rest)) {
		return Snapshot{}, fmt.Errorf("note of %d bytes, %d left", n, len(rest))
	}
	text := rest[:n]
	if crc32.Checksum(text, castagnoli) != binary.BigEndian.Uint32(b[16:]) {
		return Snapshot{}, errors.New("checksum of the note differs")
	}
	if verifier != nil {
		opened, err := note.Open(text, note.VerifierList(verifier))
		if err != nil {
			return Snapshot{}, err
		}
		text = []byte(opened.Text)
	} else if unsigned, _, signed := bytes.Cut(text, []byte("\n\n")); signed {
		text = append(bytes.Clone(unsigned), '\n')
	}
	return parseSnapshotNote(string(text), key, rest[n:])
}

func parseSnapshotNote(text, key string, data []byte) (Snapshot, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 8 {
		return Snapshot{}, fmt.Errorf("note of %d lines, want 7", len(lines)-1)
	}
	version, err := strconv.ParseUint(lines[2], 10, 32)
	if err != nil {
		return Snapshot{}, fmt.Errorf("version: %w", err)
	}
	seq, err := strconv.ParseUint(lines[3], 10, 63)
	if err != nil {
		return Snapshot{}, fmt.Errorf("sequence number: %w", err)
	}
	root, err := base64.StdEncoding.Strict().DecodeString(lines[4])
	if err != nil || len(root) != tlog.HashSize {
		return Snapshot{}, fmt.Errorf("root is %.80q", lines[4])
	}
	s := Snapshot{Version: uint32(version), Seq: seq, Data: data, Root: tlog.Hash(root)}
	if lines[5] != strconv.Itoa(len(data)) {
		return Snapshot{}, fmt.Errorf("%d bytes of data, the note says %.40s", len(data), lines[5])
	}
	if text != snapshotNote(key, &s) {
		return Snapshot{}, errors.New("the note is of another key or of other data")
	}
	return s, nil
}

// Stands reports why s, of ReadSnapshot, is none of this log's records: nil if it is.
func (s *Store) Stands(snap Snapshot) error {
	release, err := s.reading()
	if err != nil {
		return err
	}
	defer release()
	return s.stands(snap)
}

// stands is Stands while Badger is kept open.
func (s *Store) stands(snap Snapshot) error {
	if head := s.Head().Seq; snap.Seq > head {
		return fmt.Errorf("it is of record %d, the log has %d", snap.Seq, head)
	}
	t, err := treeAt(snap.Seq, tlog.HashReaderFunc(s.hashes))
	if err != nil {
		return err
	}
	if got := t.root(); got != snap.Root {
		return fmt.Errorf("it is of a log whose first %d records have root %v, here it is %v", snap.Seq, snap.Root, got)
	}
	return nil
}
