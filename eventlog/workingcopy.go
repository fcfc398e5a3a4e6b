package eventlog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/dgraph-io/badger/v4"
)

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
// MANIFEST copied, or mended (manifest.go), and with withWAL the good part of its write-ahead logs. Everything
// else Badger makes anew: value log and discard statistics are empty, and without
// encryption the key registry says nothing.
func workingCopy(src, dst string, withWAL bool, o badger.Options, log *slog.Logger) error {
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
	manifest, tables, mended, err := mendManifest(src, o)
	if err != nil {
		return err
	}
	if mended {
		log.Warn("Badger's MANIFEST lists tables that were never finished; they are left out, and what is there is judged", "dir", src)
	}
	if err := checkTables(src, tables); err != nil {
		return err
	}
	for _, name := range tables {
		if err := linkOrCopy(filepath.Join(src, name), filepath.Join(dst, name)); err != nil {
			return err
		}
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
