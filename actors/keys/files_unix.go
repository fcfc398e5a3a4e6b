//go:build unix

package keys

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ownerOf returns the user a file belongs to.
func ownerOf(info fs.FileInfo) (int, error) {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, errors.New("its owner cannot be told")
	}
	return int(stat.Uid), nil
}

// openNoFollow opens a file for reading, and no link; it does not wait for the other
// end of a pipe.
func openNoFollow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
}

// openFollow is openNoFollow, but for links.
func openFollow(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
}
