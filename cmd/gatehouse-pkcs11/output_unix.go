//go:build unix

package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// ownOutput returns standard output, and has what else is written to it go to standard error:
// a token's library that prints would answer in this program's place.
func ownOutput() (*os.File, error) {
	fd, err := unix.Dup(1)
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	unix.CloseOnExec(fd)
	if err := unix.Dup2(2, 1); err != nil {
		return nil, os.NewSyscallError("dup2", err)
	}
	return os.NewFile(uintptr(fd), "answers"), nil
}
