package keys

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const (
	dirMode      fs.FileMode = 0o700
	fileMode     fs.FileMode = 0o400
	fileBytesMax             = 64 << 10
	tempPrefix               = ".new-"
)

// checkDir says whether dir is a directory that only this user reaches.
func checkDir(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("open key store: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("open key store: %w: %s is no directory (a link to one is not followed)", ErrUnsafe, dir)
	}
	return checkInfo(dir, info, "0700")
}

// checkInfo refuses what others may touch (reliability spec 4.4).
func checkInfo(name string, info fs.FileInfo, want string) error {
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o, want %s; run: chmod %s %s", ErrUnsafe, name, mode, want, want, name)
	}
	owner, err := ownerOf(info)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrUnsafe, name, err)
	}
	if euid := os.Geteuid(); owner != euid {
		return fmt.Errorf("%w: %s belongs to user %d and this process runs as user %d", ErrUnsafe, name, owner, euid)
	}
	return nil
}

// readFile reads a file of the store. The checks are made on the opened file, so that
// it cannot be exchanged between check and use; links are not followed.
func readFile(path string) (data []byte, err error) {
	f, err := openNoFollow(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrMissing, path)
	} else if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsafe, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > fileBytesMax {
		return nil, fmt.Errorf("%w: %s is no regular file of at most %d bytes", ErrUnsafe, path, fileBytesMax)
	}
	if err := checkInfo(path, info, "0400"); err != nil {
		return nil, err
	}
	data, err = io.ReadAll(io.LimitReader(f, fileBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if len(data) > fileBytesMax {
		return nil, fmt.Errorf("%w: %s grew beyond %d bytes", ErrDamaged, path, fileBytesMax)
	}
	return data, nil
}

// writeFile makes the file path, durably and in one step: on return it is there with
// all of data, after a crash it is there or not. A file of that name is not replaced.
func writeFile(path string, data []byte) (err error) {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	dir := filepath.Dir(path)
	temp := filepath.Join(dir, tempPrefix+hex.EncodeToString(random[:]))
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp) // a leftover is removed by the next Open
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write key: %s is there already, or cannot be looked at: %w", path, errors.Join(fs.ErrExist, err))
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes the names in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync key store: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync key store: %w", err)
	}
	return nil
}

// removeLeftovers removes what a crash in writeFile left: no name leads to it.
func removeLeftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("open key store: %w", err)
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), tempPrefix) {
			if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
				return fmt.Errorf("open key store: remove leftover: %w", err)
			}
		}
	}
	return nil
}
