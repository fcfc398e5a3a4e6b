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
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

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
		names = append(names, tableName(id))
	}
	return names, nil
}

// checkTable verifies all checksums of a table: those of its index, which lists its
// blocks, and of every block. It returns the buffer that it read into.
//
//	table: blocks | index | length of index 4 | checksum | length of checksum 4
//	block: entries | offsets | number of offsets 4 | checksum | length of checksum 4
func checkTable(path string, buffer []byte) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return buffer, fmt.Errorf("table: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return buffer, fmt.Errorf("table: %w", err)
	}
	if fi.Size() > tableBytesMax {
		return buffer, fmt.Errorf("table %s: %d bytes, want at most %d", path, fi.Size(), tableBytesMax)
	}
	buffer = slices.Grow(buffer[:0], int(fi.Size()))[:fi.Size()]
	if _, err := io.ReadFull(f, buffer); err != nil {
		return buffer, fmt.Errorf("table: %w", err)
	}
	if err := checkTableBytes(buffer); err != nil {
		return buffer, fmt.Errorf("table %s: %w", filepath.Base(path), err)
	}
	return buffer, nil
}

// checkTables checks tables of dir, with all processors.
func checkTables(dir string, names []string) error {
	errs := make([]error, len(names))
	var next atomic.Int64
	var group sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(names)) {
		group.Go(func() {
			var buffer []byte // one for all tables: they may be many times the memory there is
			for i := next.Add(1) - 1; i < int64(len(names)); i = next.Add(1) - 1 {
				buffer, errs[i] = checkTable(filepath.Join(dir, names[i]), buffer)
			}
		})
	}
	group.Wait()
	for _, err := range errs { // the first alone: one is enough, and the same each time
		if err != nil {
			return err
		}
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
