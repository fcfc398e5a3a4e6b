package main

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// rawFileBytes is the size of the preallocated file, the default of a journal file.
const rawFileBytes = 32 << 20

// A rawFile is the limit of what durable appends can do: writers hand bytes to one
// goroutine, which writes whatever waits with one pwrite and one fdatasync, into a file
// that is preallocated and filled with zeros, from its start again when it is full.
type rawFile struct {
	f      *os.File
	queue  chan rawWrite
	done   sync.WaitGroup
	offset int64
	writes int
	groups int
}

type rawWrite struct {
	bytes []byte
	done  chan<- error
}

func openRaw(dir string) (*rawFile, error) {
	f, err := os.OpenFile(filepath.Join(dir, "raw"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, rawFileBytes)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r := &rawFile{f: f, queue: make(chan rawWrite, inFlight)}
	r.done.Go(r.run)
	return r, nil
}

func (r *rawFile) run() {
	var buffer []byte
	var waiting []rawWrite
	for first := range r.queue {
		buffer, waiting = append(buffer[:0], first.bytes...), append(waiting[:0], first)
		for more := true; more; {
			select {
			case w, open := <-r.queue:
				if more = open; more {
					buffer, waiting = append(buffer, w.bytes...), append(waiting, w)
				}
			default:
				more = false
			}
		}
		err := r.put(buffer)
		r.groups++
		r.writes += len(waiting)
		for _, w := range waiting {
			w.done <- err
		}
	}
}

// put writes one group at the next sector.
func (r *rawFile) put(group []byte) error {
	if r.offset+int64(len(group)) > rawFileBytes {
		r.offset = 0
	}
	if _, err := r.f.WriteAt(group, r.offset); err != nil {
		return err
	}
	r.offset += (int64(len(group)) + 511) &^ 511
	return unix.Fdatasync(int(r.f.Fd()))
}

// append returns when b is durable.
func (r *rawFile) append(b []byte, done chan error) error {
	r.queue <- rawWrite{b, done}
	return <-done
}

// close must come after the last append.
func (r *rawFile) close() error {
	close(r.queue)
	r.done.Wait()
	return r.f.Close()
}
