package eventlog

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// freeSpace is the default of Options.FreeSpace: what an unprivileged process may
// still use on the file system of dir.
func freeSpace(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("free space of %s: %w", dir, err)
	}
	return st.Bavail * uint64(st.Bsize), nil
}
