package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// recorder is a disk that keeps every write and every flush in order, so that what a power
// cut would have left at any moment can be made afterwards: all that was flushed, and any
// part of what was not. It is a FUSE file system with one file, which a loop device makes a
// disk of (there is no device mapper everywhere, whose log-writes target does the same).
type recorder struct {
	dir string // where the file "disk" is

	mu      sync.Mutex
	content []byte   // guarded by mu, as what follows
	first   []byte   // as it was in the beginning
	writes  []writes // in order
	stopped bool     // nothing is kept any more
	deaf    bool     // flushes are passed by: planted
}

// writes is one write, or a flush, which has no data.
type writes struct {
	at   int64
	data []byte
}

const sectorBytes = 512

// record serves an image as a disk.
func (c *campaign) record(image string) (*recorder, error) {
	b, err := os.ReadFile(image)
	if err != nil {
		return nil, err
	}
	dir, err := c.temp("fuse")
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/fuse: %w", err)
	}
	if err := unix.Mount("crash", dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mount FUSE: %w", err)
	}
	r := &recorder{dir: dir, content: b, first: append([]byte{}, b...), deaf: c.bug == bugDeaf}
	served := make(chan struct{})
	go func() { defer close(served); r.serve(fd) }()
	c.onEnd(func() error {
		err := unmount(dir)
		<-served
		return errors.Join(err, unix.Close(fd))
	})
	return r, nil
}

func (r *recorder) file() string { return filepath.Join(r.dir, "disk") }

// now is how many writes and flushes there were.
func (r *recorder) now() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.writes)
}

// flushes counts them.
func (r *recorder) flushes() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.writes {
		if w.data == nil {
			n++
		}
	}
	return n
}

// stop keeps no more: unmounting writes, too.
func (r *recorder) stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}

// after is what a power cut after n writes leaves: everything up to the last flush before
// it, and of the writes since then some whole, some in part, some not at all, by sectors.
func (r *recorder) after(n int, rng *rand.Rand) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	flushed := 0
	for i, w := range r.writes[:n] {
		if w.data == nil && !r.deaf {
			flushed = i
		}
	}
	b := append([]byte{}, r.first...)
	for i, w := range r.writes[:n] {
		if i < flushed {
			copy(b[w.at:], w.data)
			continue
		}
		how := rng.IntN(3) // all, none, or some of its sectors
		for k := 0; k < len(w.data); k += sectorBytes {
			if how == 0 || how == 2 && rng.IntN(2) == 0 {
				copy(b[w.at+int64(k):], w.data[k:min(k+sectorBytes, len(w.data))])
			}
		}
	}
	return b
}

// --- FUSE, protocol 7 (linux/include/uapi/linux/fuse.h), as much as a loop device asks for.

const (
	fuseLookup, fuseForget, fuseGetattr, fuseSetattr       = 1, 2, 3, 4
	fuseOpen, fuseRead, fuseWrite, fuseStatfs, fuseRelease = 14, 15, 16, 17, 18
	fuseFsync, fuseFlush, fuseInit, fuseOpendir            = 20, 25, 26, 27
	fuseReleasedir, fuseInterrupt, fuseBatchForget         = 29, 36, 42

	fuseInBytes  = 40
	fuseMaxWrite = 128 << 10
	diskNode     = 2
)

func (r *recorder) serve(fd int) {
	request := make([]byte, fuseMaxWrite+4096)
	for {
		n, err := unix.Read(fd, request)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT): // interrupted; the request was taken back
			continue
		case err != nil || n < fuseInBytes: // unmounted
			return
		}
		opcode, unique, node := binary.NativeEndian.Uint32(request[4:]), binary.NativeEndian.Uint64(request[8:]), binary.NativeEndian.Uint64(request[16:])
		if opcode == fuseForget || opcode == fuseBatchForget || opcode == fuseInterrupt { // have no answer
			continue
		}
		body, errno := r.answer(opcode, node, request[fuseInBytes:n])
		out := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		out = binary.NativeEndian.AppendUint32(out, uint32(-int32(errno)))
		out = binary.NativeEndian.AppendUint64(out, unique)
		if _, err := unix.Write(fd, append(out, body...)); err != nil && !errors.Is(err, unix.ENOENT) {
			return
		}
	}
}

func (r *recorder) answer(opcode uint32, node uint64, in []byte) ([]byte, syscall.Errno) {
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	put32, put64 := binary.NativeEndian.AppendUint32, binary.NativeEndian.AppendUint64
	switch opcode {
	case fuseInit:
		const bigWrites, maxPages = 1 << 5, 1 << 22
		out := put32(put32(nil, 7), 31)
		out = put32(put32(out, u32(in[8:])), bigWrites|maxPages)
		out = put32(put32(out, 16|12<<16), fuseMaxWrite) // max_background, congestion_threshold
		out = put32(put32(out, 1), fuseMaxWrite/4096)    // time_gran; max_pages
		return append(out, make([]byte, 64-len(out))...), 0
	case fuseLookup:
		if string(in) != "disk\x00" {
			return nil, syscall.ENOENT
		}
		out := put64(put64(nil, diskNode), 0)
		out = put64(put64(out, 3600), 3600) // valid for an hour
		return append(append(out, make([]byte, 8)...), r.attributes(diskNode)...), 0
	case fuseGetattr, fuseSetattr:
		return append(append(put64(nil, 3600), make([]byte, 8)...), r.attributes(node)...), 0
	case fuseOpen, fuseOpendir:
		return make([]byte, 16), 0
	case fuseRead:
		return r.read(int64(u64(in[8:])), int(u32(in[16:]))), 0
	case fuseWrite:
		r.write(int64(u64(in[8:])), in[40:40+u32(in[16:])])
		return put32(put32(nil, u32(in[16:])), 0), 0
	case fuseFsync:
		r.write(0, nil)
		return nil, 0
	case fuseFlush, fuseRelease, fuseReleasedir:
		return nil, 0
	case fuseStatfs:
		return make([]byte, 80), 0
	}
	return nil, syscall.ENOSYS
}

func (r *recorder) attributes(node uint64) []byte {
	size, mode := uint64(len(r.first)), uint32(syscall.S_IFREG|0o600)
	if node != diskNode {
		size, mode = 0, syscall.S_IFDIR|0o700
	}
	out := binary.NativeEndian.AppendUint64(nil, node)
	out = binary.NativeEndian.AppendUint64(out, size)
	out = binary.NativeEndian.AppendUint64(out, size/512)
	out = append(out, make([]byte, 3*8+3*4)...) // times
	out = binary.NativeEndian.AppendUint32(out, mode)
	out = binary.NativeEndian.AppendUint32(out, 1) // links
	out = append(out, make([]byte, 3*4)...)        // uid, gid, rdev
	out = binary.NativeEndian.AppendUint32(out, 4096)
	return append(out, make([]byte, 4)...)
}

func (r *recorder) read(at int64, n int) []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at >= int64(len(r.content)) {
		return nil
	}
	return append([]byte{}, r.content[at:min(at+int64(n), int64(len(r.content)))]...)
}

// write keeps a write; without data it is a flush.
func (r *recorder) write(at int64, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at+int64(len(data)) > int64(len(r.content)) {
		return
	}
	copy(r.content[at:], data)
	if !r.stopped {
		w := writes{at: at}
		if data != nil {
			w.data = append([]byte{}, data...)
		}
		r.writes = append(r.writes, w)
	}
}
