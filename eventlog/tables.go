package eventlog

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/badger/v4/y"
	"google.golang.org/protobuf/proto"
)

// This file looks at Badger's files before Badger does. Badger v4.9.6 meets damage in
// a table with a panic in a goroutine of its own, or by going on without the table; in
// its write-ahead log by cutting off everything after it, on disk; in MANIFEST by
// deleting the tables that are not listed any more. So it only ever gets a working
// copy, made of files that were checked here.

// Badger's file names.
const (
	manifestName  = badger.ManifestFilename
	tableSuffix   = ".sst"
	walSuffix     = ".mem"
	walHeadBytes  = 20
	tableBytesMax = 1 << 30
	walValueMax   = 2 << 20
)

// listedTables returns the file names of the tables that MANIFEST lists.
func listedTables(dir string, o badger.Options) (names []string, err error) {
	defer func() {
		if r := recover(); r != nil {
			names, err = nil, fmt.Errorf("read Badger's MANIFEST: it panics: %v", r)
		}
	}()
	f, err := os.Open(filepath.Join(dir, manifestName))
	if err != nil {
		return nil, fmt.Errorf("read Badger's MANIFEST: %w", err)
	}
	defer f.Close()
	m, _, err := badger.ReplayManifestFile(f, 0, o) // what follows a torn change is judged by completeness, later
	if err != nil {
		return nil, fmt.Errorf("read Badger's MANIFEST: %w", err)
	}
	for id := range m.Tables {
		names = append(names, fmt.Sprintf("%06d", id)+tableSuffix)
	}
	return names, nil
}

// checkTable verifies all checksums of a table: those of its index, which lists its
// blocks, and of every block.
//
//	table: blocks | index | length of index 4 | checksum | length of checksum 4
//	block: entries | offsets | number of offsets 4 | checksum | length of checksum 4
func checkTable(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("table: %w", err)
	}
	if fi.Size() > tableBytesMax {
		return fmt.Errorf("table %s: %d bytes, want at most %d", path, fi.Size(), tableBytesMax)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("table: %w", err)
	}
	if err := checkTableBytes(b); err != nil {
		return fmt.Errorf("table %s: %w", filepath.Base(path), err)
	}
	return nil
}

func checkTableBytes(b []byte) (err error) {
	rest, sum, err := cutChecksum(b)
	if err != nil {
		return err
	}
	if len(rest) < 4 {
		return errors.New("no index")
	}
	rest, n := rest[:len(rest)-4], uint64(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	if n == 0 || n > uint64(len(rest)) {
		return fmt.Errorf("index of %d bytes, %d left", n, len(rest))
	}
	rest, index := rest[:uint64(len(rest))-n], rest[uint64(len(rest))-n:]
	if err := y.VerifyChecksum(index, sum); err != nil {
		return fmt.Errorf("index: %w", err)
	}
	defer func() { // the index is what Badger wrote; this is for a defect in that
		if r := recover(); r != nil {
			err = fmt.Errorf("index: reading it panics: %v", r)
		}
	}()
	t := fb.GetRootAsTableIndex(index, 0)
	end := uint64(0)
	for i := range t.OffsetsLength() {
		var o fb.BlockOffset
		if !t.Offsets(&o, i) {
			return fmt.Errorf("index: block %d is missing", i)
		}
		from, to := uint64(o.Offset()), uint64(o.Offset())+uint64(o.Len())
		if from != end || to > uint64(len(rest)) {
			return fmt.Errorf("block %d at %d to %d, want it at %d and before %d", i, from, to, end, len(rest))
		}
		data, sum, err := cutChecksum(rest[from:to])
		if err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		if err := y.VerifyChecksum(data, sum); err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
		end = to
	}
	if end != uint64(len(rest)) {
		return fmt.Errorf("%d bytes between the last block and the index", uint64(len(rest))-end)
	}
	return nil
}

// cutChecksum takes a checksum and its length off the end of b.
func cutChecksum(b []byte) (rest []byte, sum *pb.Checksum, err error) {
	if len(b) < 4 {
		return nil, nil, errors.New("cut short")
	}
	rest, n := b[:len(b)-4], uint64(binary.BigEndian.Uint32(b[len(b)-4:]))
	if n > uint64(len(rest)) || n > 64 {
		return nil, nil, fmt.Errorf("checksum of %d bytes, %d left", n, len(rest))
	}
	rest, raw := rest[:uint64(len(rest))-n], rest[uint64(len(rest))-n:]
	sum = new(pb.Checksum)
	if err := proto.Unmarshal(raw, sum); err != nil {
		return nil, nil, fmt.Errorf("checksum: %w", err)
	}
	if sum.Algo != pb.Checksum_CRC32C && sum.Algo != pb.Checksum_XXHash64 {
		return nil, nil, fmt.Errorf("checksum of unknown kind %d", sum.Algo)
	}
	return rest, sum, nil
}

// goodWAL passes on the head and the whole, checked entries of a write-ahead log, up to
// the first that is neither. It returns how many entries that were.
//
//	head 20 | entry: meta 1 | user meta 1 | uvarints: key length, value length, expiry |
//	key | value | CRC32C of all before 4
func goodWAL(r io.Reader, w io.Writer) (entries int, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	b := make([]byte, walHeadBytes)
	if _, err := io.ReadFull(in, b); err != nil || binary.BigEndian.Uint64(b) != 0 { // empty, or encrypted, which ours never is
		return 0, nil
	}
	for {
		if _, err := w.Write(b); err != nil {
			return entries, copyError(err)
		}
		n := walEntryBytes(in)
		if n == 0 {
			return entries, nil
		}
		b = slices.Grow(b[:0], n)[:n]
		if _, err := io.ReadFull(in, b); err != nil || crc32.Checksum(b[:n-4], castagnoli) != binary.BigEndian.Uint32(b[n-4:]) {
			return entries, nil
		}
		entries++
	}
}

// walEntryBytes is the length of the entry that comes next, 0 if none can.
func walEntryBytes(in *bufio.Reader) int {
	const headMax = 2 + 3*binary.MaxVarintLen64
	head, _ := in.Peek(headMax) // less at the end, which may be enough
	at := 2
	var lengths [3]uint64
	for i := range lengths {
		v, n := binary.Uvarint(head[min(at, len(head)):])
		if n <= 0 {
			return 0
		}
		lengths[i] = v
		at += n
	}
	if lengths[0] == 0 || lengths[0] > 1<<16 || lengths[1] > walValueMax {
		return 0
	}
	return at + int(lengths[0]) + int(lengths[1]) + 4
}

// errWorkingCopy marks that a working copy could not be written: that says nothing
// about the log.
var errWorkingCopy = errors.New("write the working copy of Badger")

func copyError(err error) error { return fmt.Errorf("%w: %w", errWorkingCopy, err) }

// copyWAL writes the good part of a write-ahead log to dst, if there is any.
func copyWAL(src, dst string) error {
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy write-ahead log: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return copyError(err)
	}
	defer out.Close()
	w := bufio.NewWriterSize(out, 64<<10)
	entries, err := goodWAL(in, w)
	if err != nil {
		return err
	}
	if entries == 0 {
		return os.Remove(dst)
	}
	if err := w.Flush(); err != nil {
		return copyError(err)
	}
	if err := out.Sync(); err != nil {
		return copyError(err)
	}
	return nil
}

func writeSynced(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return copyError(err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return copyError(err)
	}
	if err := f.Sync(); err != nil {
		return copyError(err)
	}
	return nil
}

// linkOrCopy makes dst another name for src, or a copy where that cannot be.
func linkOrCopy(src, dst string) error {
	if os.Link(src, dst) == nil {
		return nil
	}
	in, err := os.Open(src)
	if err != nil {
		return fmt.Errorf("copy table: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return copyError(err)
	}
	defer out.Close()
	if _, err := io.Copy(out, in); err != nil {
		return copyError(err)
	}
	if err := out.Sync(); err != nil {
		return copyError(err)
	}
	return nil
}

// workingCopy makes dst a Badger directory with the content of src: its tables by
// another name, since Badger never writes to them while no compaction runs, its
// MANIFEST copied, and with withWAL the good part of its write-ahead logs. Everything
// else Badger makes anew: value log and discard statistics are empty, and without
// encryption the key registry says nothing.
func workingCopy(src, dst string, withWAL bool, o badger.Options) error {
	if err := os.Mkdir(dst, directoryMode); err != nil {
		return copyError(err)
	}
	files, err := os.ReadDir(src)
	if err != nil {
		return fmt.Errorf("working copy of Badger: %w", err)
	}
	if len(files) == 0 {
		return nil
	}
	tables, err := listedTables(src, o)
	if err != nil {
		return err
	}
	for _, name := range tables {
		if err := checkTable(filepath.Join(src, name)); err != nil {
			return err
		}
		if err := linkOrCopy(filepath.Join(src, name), filepath.Join(dst, name)); err != nil {
			return err
		}
	}
	manifest, err := os.ReadFile(filepath.Join(src, manifestName))
	if err != nil {
		return fmt.Errorf("working copy of Badger: %w", err)
	}
	if err := writeSynced(filepath.Join(dst, manifestName), manifest); err != nil {
		return err
	}
	for _, f := range files {
		if !withWAL || !isWAL(f.Name()) {
			continue
		}
		if err := copyWAL(filepath.Join(src, f.Name()), filepath.Join(dst, f.Name())); err != nil {
			return err
		}
	}
	return syncDir(dst)
}

func isWAL(name string) bool {
	number, ok := strings.CutSuffix(name, walSuffix)
	if !ok {
		return false
	}
	_, err := strconv.ParseUint(number, 10, 32)
	return err == nil
}

// walBytes is how much disk a working copy of dir may need for its write-ahead logs.
func walBytes(dir string) uint64 {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	total := uint64(0)
	for _, f := range files {
		if fi, err := f.Info(); err == nil && isWAL(f.Name()) {
			total += diskBytes(fi)
		}
	}
	return total
}

// tableBytes is what the tables in dir take.
func tableBytes(dir string) int64 {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	total := int64(0)
	for _, f := range files {
		if fi, err := f.Info(); err == nil && strings.HasSuffix(f.Name(), tableSuffix) {
			total += fi.Size()
		}
	}
	return total
}
